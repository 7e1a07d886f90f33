"""Runs the jobs of a command, one or several at a time; prints their outcomes in order, and returns the exit status."""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import stat
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, cast

import click
from click.globals import pop_context, push_context

from sealwax._core import batch, files
from sealwax.cli import PARTLY_DONE, console, locations, outcomes, status_of
from sealwax.cli.jobs import FileJob
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.work import STREAM, Work
from sealwax.errors import FileError, KmsError, NotAnEnvelopeError, SealwaxError, is_of_all

# For commands that skip what is done.
SAME_AGAIN: Final = "run the same command again to resume"
# The main thread does larger files: they are more work than waiting, keep two processors busy by themselves, deserve a
# progress bar, and can be interrupted at any moment there.
_LARGE_BYTES: Final = console.PROGRESS_FROM_BYTES

Fields = dict[str, object]
Result = str | Fields


@dataclass(slots=True)
class _Turn:
    """A job of a run, with its result or error; with neither if it was not started, or abandoned.

    Attributes:
        job: None for messages between jobs, and for an error that ended the search for more.
        messages: those held back while earlier jobs were not done; None if they are printed at once.
        touched: the canonical names of what it reads and writes.
        over: set once it is done.
        reported: whether its outcome was printed.
    """

    job: FileJob | None
    messages: list[str] | None
    result: Result | None = None
    error: Exception | None = None
    touched: frozenset[str] = frozenset()
    over: threading.Event = field(default_factory=threading.Event)
    reported: bool = False


class _GivenUpError(Exception):
    """The run was interrupted while a thread did a job."""


class _Interruption:
    """Interrupts a run on a signal, but not between an output's appearance and its report.

    The first signal abandons the jobs in progress; a second one does not wait for them.
    """

    def __init__(self) -> None:
        self.given_up = threading.Event()
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._held = False
        self._pending: Callable[[], object] | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
            self._before = {int(number): handler for number, handler in handlers.items() if callable(handler)}
        with console.on_signals(self._before, self._stop):
            yield

    def _stop(self, number: int, frame: FrameType | None) -> None:
        for each in self._before:
            signal.signal(each, console.leave_at_once)
        self.given_up.set()
        if self._held:
            self._pending = lambda: self._before[number](number, frame)
        else:
            self._before[number](number, frame)

    def hold(self) -> None:
        """Let signals wait for ``release``. Only the main thread gets signals."""
        self._held = self._held or threading.current_thread() is threading.main_thread()

    def release(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._held = False
            pending, self._pending = self._pending, None
            if pending is not None:
                pending()


_interruption: contextvars.ContextVar[_Interruption | None] = contextvars.ContextVar(
    "sealwax_interruption", default=None
)


def stop_if_given_up() -> None:
    """End this job if the run was interrupted while a thread does it; called between parts of a stream."""
    interruption = _interruption.get()
    if interruption is not None and interruption.given_up.is_set():
        raise _GivenUpError


def finish_first() -> None:
    """Let signals wait until this job's result is known; called before its output appears."""
    interruption = _interruption.get()
    if interruption is not None:
        interruption.hold()


def run(work: Work, pending: Iterator[FileJob], do: Callable[[FileJob], Result], *, again: str = "") -> int:
    """Do each job and print its outcome; one that fails does not stop the others. Return the exit status.

    A place that does not exist, or has no envelope, has the status of its error. If something in an existing place
    cannot be read, listed or written, the run is partly done, even if nothing else was. Missing AWS credentials or
    wrong settings end the run, since every other job would fail too.

    Jobs are done one after the other until they have waited more than worked; from then on by as many threads as
    ``work`` allows. The messages, their order, and the status do not depend on it.

    Args:
        do: returns what was done ("encrypted"), or the fields for --json, of which "outcome" is also printed as text.
        again: how to do the rest, once the causes of failures are fixed.
    """
    done = 0
    in_part = False
    failures: list[Exception] = []
    ended: SealwaxError | None = None
    ahead: dict[int, _Turn] = {}
    interruption = _Interruption()
    try:
        with contextlib.closing(_turns(work, pending, do, ahead, interruption)) as turns:
            for turn in turns:
                for text in turn.messages or ():
                    console.stderr(text)
                job, error = turn.job, turn.error
                if error is None:
                    if turn.result is not None:
                        done += 1
                        interruption.hold()
                        _report_done(work, turn)
                        interruption.release()
                    continue
                if ended is not None and is_of_all(error):
                    continue  # it was in progress, and failed alike
                failures.append(error)
                console.error(error, about=None if job is None else job.source)
                if job is None or is_of_all(error):
                    ended = cast("SealwaxError", error)
                if job is not None:
                    file_failed = isinstance(error, FileError) and not isinstance(error, LeftAloneError)
                    in_part = in_part or (job.below and file_failed)
                    if work.as_json:
                        outcome = error.outcome if isinstance(error, LeftAloneError) else "failed"
                        fields = {"outcome": outcome, "error": type(error).__name__, "message": str(error)}
                        _report(job, fields | _foreign(error), as_json=True)
                # Only its class is needed; its frames would keep the file's buffers alive.
                error.__traceback__ = error.__cause__ = error.__context__ = None
    except (KeyboardInterrupt, SystemExit):
        for turn in ahead.values():
            if turn.result is not None and not turn.reported:  # finished meanwhile
                _report_done(work, turn)
        raise
    if not failures:
        if not done:
            console.info("nothing to do")
        return 0
    if ended is not None and (work.recursive or len(work.sources) > 1):
        console.warn("the run ends here, because everything else would fail the same way")
    if len(failures) + done > 1:
        console.warn(_summed_up(failures, done, again))
    if done or (in_part and ended is None):
        return PARTLY_DONE
    return status_of(ended or failures[0])


def _turns(
    work: Work,
    pending: Iterator[FileJob],
    do: Callable[[FileJob], Result],
    ahead: dict[int, _Turn],
    interruption: _Interruption,
) -> Generator[_Turn]:
    """Do jobs, one or several at a time; yield each in its turn.

    Once credentials or settings have failed, no more are started. After an interruption, those in progress are
    abandoned as soon as possible.

    Args:
        ahead: gets the jobs that have not had their turn, by number; the current one until the next is asked for.
    """
    workers = 1 if _writes_where_it_looks(work) else work.workers
    waiting, context = batch.Waiting(), click.get_current_context()
    over = threading.Event()
    written: set[str] = set()
    taken = 0

    def jobs() -> Iterator[_Turn]:
        nonlocal taken
        while not over.is_set():
            turn = _Turn(None, [] if ahead else None)
            with console.held(turn.messages):
                try:
                    turn.job = next(pending, None)
                except KmsError as error:  # in the search for the next object
                    turn.error = error
                    over.set()
            if turn.job is not None and work.as_json and turn.job.output == STREAM:
                raise click.UsageError("--json and the output cannot both go to standard output; name a file with -o")
            ahead[taken] = turn
            taken += 1
            yield turn
            if turn.job is None:
                return

    def record(turn: _Turn, act: Callable[[FileJob], Result | None]) -> None:
        assert turn.job is not None
        try:
            turn.result = act(turn.job)
        except (SealwaxError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            turn.error = error
            if is_of_all(error):
                over.set()
        finally:
            interruption.release()

    def attempt(turn: _Turn) -> _Turn:
        push_context(context)  # threads have none of their own
        try:
            if not over.is_set():
                with console.held(turn.messages), contextlib.suppress(_GivenUpError):
                    record(turn, do)
        finally:
            pop_context()
            turn.over.set()
        return turn

    def here(turn: _Turn) -> _Turn | None:
        if turn.job is not None:
            record(turn, lambda job: _refuse(job, written))
        if turn.job is None or turn.error is not None:
            turn.over.set()
            return turn
        if len(ahead) > 1 or waiting.dominates:
            _wait_for_those_before(turn, ahead)
        # The first one also opens clients, so its waiting says nothing about the others.
        if workers == 1 or taken == 1 or _keeps_main_thread(turn.job):
            return attempt(turn)
        if not waiting.dominates:
            with waiting.measured():
                return attempt(turn)
        if locations.is_s3(turn.job.source) or locations.is_s3(turn.job.output or ""):
            # Signing in may ask for an MFA code, and a thread cannot be interrupted. The job reports failures.
            with contextlib.suppress(SealwaxError):
                locations.service()
        return None

    token = _interruption.set(interruption)
    try:
        with (
            interruption.handled(),
            contextlib.closing(batch.run(jobs(), here, attempt, threads=workers)) as outcomes,
        ):
            for number, turn in enumerate(outcomes):
                assert isinstance(turn, _Turn)  # it holds its own errors
                yield turn
                del ahead[number]
    finally:
        _interruption.reset(token)


def _wait_for_those_before(turn: _Turn, ahead: Mapping[int, _Turn]) -> None:
    """Wait for jobs that read or write what this one does."""
    assert turn.job is not None
    turn.touched = frozenset(locations.real(name) for name in (turn.job.source, turn.job.output) if name is not None)
    for other in ahead.values():
        if other is not turn and not other.touched.isdisjoint(turn.touched):
            other.over.wait()


def _refuse(job: FileJob, written: set[str]) -> None:
    """Refuse a job that cannot start, or whose output is that of another job; note its output."""
    if job.problem is not None:
        raise job.problem
    if job.output is not None and job.output != STREAM:
        place = locations.real(job.output)
        if place in written:
            raise LeftAloneError(
                outcomes.IN_THE_WAY,
                f"'{console.shown(job.output)}' is already the output of another file; write elsewhere with -o",
            )
        written.add(place)


def _writes_where_it_looks(work: Work) -> bool:
    """Whether a run may list a folder while it writes there, and so take a half-written file for a source.

    Outputs next to their sources are safe: a folder is listed before any job in it starts.
    """
    local = [source for source in work.sources if source != STREAM and not locations.is_s3(source)]
    folders = [locations.real(source) for source in local if os.path.isdir(source)] if work.recursive else []
    if not folders or not work.writes or (work.output is not None and locations.is_s3(work.output)):
        return False

    def inside(place: str, folder: str) -> bool:
        return place == folder or place.startswith(os.path.join(folder, ""))

    if work.output is None:
        beside = [os.path.dirname(locations.real(source)) for source in local if not os.path.isdir(source)]
        return any(
            inside(place, folder)
            for number, folder in enumerate(folders)
            for place in (*beside, *folders[:number], *folders[number + 1 :])
        )
    output = locations.real(work.output)
    # An output has the same path below -o as its source below the folder that was named.
    lands = [
        os.path.join(folder, os.path.relpath(other, output))
        for folder in folders
        for other in folders
        if inside(other, output)
    ]
    return any(inside(output, folder) for folder in folders) or any(map(os.path.isdir, lands))


def _keeps_main_thread(job: FileJob) -> bool:
    """Whether the main thread does a job: large files, and pipes, which wait for other programs."""
    if job.output == STREAM or job.source == STREAM:
        return True
    if job.output is not None and not locations.is_s3(job.output) and files.is_special(job.output):
        return True
    if locations.is_s3(job.source):
        return job.size is not None and job.size >= _LARGE_BYTES
    try:
        status = os.stat(job.source)
    except OSError:
        return False  # opening it reports the error
    return not stat.S_ISREG(status.st_mode) or status.st_size >= _LARGE_BYTES


def _summed_up(failures: list[Exception], done: int, again: str) -> str:
    left = Counter(failure.outcome for failure in failures if isinstance(failure, LeftAloneError))
    failed = len(failures) - left.total()
    total = len(failures) + done
    after = f"; once the causes are fixed, {again}" if failed and again else ""
    if not left:
        return f"{failed} of {total} failed{after}"
    counts = [f"{failed} failed"] * bool(failed) + [f"{count} {outcome}" for outcome, count in sorted(left.items())]
    return f"{len(failures)} of {total} not done: {', '.join(counts)}{after}"


def _foreign(error: Exception) -> Fields:
    """Return the JSON fields for a file in another format than ours."""
    foreign = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    if foreign is None:
        return {}
    return {"format": foreign.format, "keys": list(foreign.keys), "keys_complete": foreign.complete}


def _report_done(work: Work, turn: _Turn) -> None:
    assert turn.job is not None
    assert turn.result is not None
    fields: Fields = {"outcome": turn.result} if isinstance(turn.result, str) else turn.result
    _report(turn.job, fields, as_json=work.as_json)
    turn.reported = True


def _report(job: FileJob, fields: Fields, *, as_json: bool) -> None:
    if as_json:
        output = {} if job.output is None else {"output": job.output}
        console.print_json({"path": job.source, **output, **fields})
    elif "outcome" not in fields or job.output == STREAM:
        return
    elif job.output is None:
        console.info(f"{console.shown(job.source)}: {fields['outcome']}")
    else:
        console.info(f"{console.shown(job.source)}: {fields['outcome']} -> {console.shown(job.output)}")
