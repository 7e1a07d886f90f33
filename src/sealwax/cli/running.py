"""Doing the jobs of a command, one at a time or several: what is said of each, in their order, and the exit status."""

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
from typing import Any, Final, cast

import click

from sealwax._core import batch, files
from sealwax.cli import PARTLY_DONE, console, locations, outcomes, status_of
from sealwax.cli.jobs import Job
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.work import STREAM, Work
from sealwax.errors import FileError, KmsError, NotAnEnvelopeError, SealwaxError, is_of_all

# True where what is done is passed over.
SAME_AGAIN: Final = "run the same command again for the rest"
# From this on a file is done by the main thread: it is work more than waiting, keeps two processors busy by itself, is
# worth a bar, and can be interrupted at any moment.
_LARGE_BYTES: Final = console.PROGRESS_FROM_BYTES

Result = str | dict[str, Any]


@dataclass(slots=True)
class _Turn:
    """One job of a run, and what became of it: a result, or an error; neither where it was not begun, or given up.

    Attributes:
        job: None for what is said between jobs, and for the error that ended the search for more.
        said: what was said of it while others were before it; None where it is said at once.
        touched: what it reads and writes, by their real names.
        over: set once it is done.
    """

    job: Job | None
    said: list[str] | None
    result: Result | None = None
    error: Exception | None = None
    touched: frozenset[str] = frozenset()
    over: threading.Event = field(default_factory=threading.Event)


class _GivenUpError(Exception):
    """The run was interrupted while a thread did a job; it is nobody's answer."""


# Set once what is under way is to be given up.
_given_up: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("sealwax_given_up", default=None)


def stop_if_given_up() -> None:
    """End this job if the run was interrupted while a thread did it; called between parts of a stream."""
    given_up = _given_up.get()
    if given_up is not None and given_up.is_set():
        raise _GivenUpError


def run(work: Work, found: Iterator[Job], do: Callable[[Job], Result], *, again: str = "") -> int:
    """Do each job and say what became of it; one that fails does not stop the others. Return the exit status.

    A place that is not there, or has no envelope, has the status of its error. What could not be read, listed
    or written of one that is there makes it partly done, even where there was nothing else. Missing AWS credentials or
    wrong settings end the run, since every other job would fail as well.

    Jobs are done one after the other, until they have waited more than worked: from then on by as many threads as
    ``work`` allows. What is said, the order it is said in, and the status are the same.

    Args:
        do: returns what was done ("encrypted"), or the fields for --json, of which "outcome" is told to a person.
        again: how the rest is done once the causes of failures are gone.
    """
    done = 0
    in_part = False
    failures: list[Exception] = []
    ended: SealwaxError | None = None
    ahead: dict[int, _Turn] = {}
    try:
        with contextlib.closing(_turns(work, found, do, ahead)) as turns:
            for turn in turns:
                for text in turn.said or ():
                    console.explain(text)
                job, error = turn.job, turn.error
                if error is None:
                    if turn.result is not None:
                        done += 1
                        _report_done(work, turn)
                    continue
                if ended is not None and is_of_all(error):
                    continue  # it was under way, and says the same
                failures.append(error)
                console.complain(error, about=None if job is None else job.source)
                if job is None or is_of_all(error):
                    ended = cast("SealwaxError", error)
                if job is not None:
                    spoilt = isinstance(error, FileError) and not isinstance(error, LeftAloneError)
                    in_part = in_part or (job.below and spoilt)
                    if work.as_json:
                        outcome = error.outcome if isinstance(error, LeftAloneError) else "failed"
                        fields = {"outcome": outcome, "error": type(error).__name__, "message": str(error)}
                        _report(job, fields | _foreign(error), as_json=True)
                # It is kept for its class alone, and not for the frames it came through: those hold the file's buffers.
                error.__traceback__ = error.__cause__ = error.__context__ = None
    except (KeyboardInterrupt, SystemExit):
        for turn in ahead.values():
            if turn.result is not None:  # a thread has ended it meanwhile
                _report_done(work, turn)
        raise
    if not failures:
        if not done:
            console.tell("there is nothing to do")
        return 0
    if ended is not None and (work.recursive or len(work.sources) > 1):
        console.say("this ends the run: it is the same for everything else")
    if len(failures) + done > 1:
        console.say(_summed_up(failures, done, again))
    if done or (in_part and ended is None):
        return PARTLY_DONE
    return status_of(ended or failures[0])


def _turns(work: Work, found: Iterator[Job], do: Callable[[Job], Result], ahead: dict[int, _Turn]) -> Generator[_Turn]:
    """Do jobs, one at a time or several; yield each in its turn.

    Once credentials or settings have failed, none is begun. After an interruption, those under way are given up where
    they can be.

    Args:
        ahead: holds those that have not had their turn, by number.
    """
    workers = 1 if _writes_where_it_looks(work) else work.workers
    waiting = batch.Waiting()
    over, given_up = threading.Event(), threading.Event()
    written: set[str] = set()
    taken = 0

    def jobs() -> Iterator[_Turn]:
        nonlocal taken
        while not over.is_set():
            turn = _Turn(None, [] if ahead else None)
            with console.held(turn.said):
                try:
                    turn.job = next(found, None)
                except KmsError as error:  # while the next object was looked for
                    turn.error = error
                    over.set()
            if turn.job is not None and work.as_json and turn.job.output == STREAM:
                raise click.UsageError("--json and the output would both go to standard output; name a file with -o")
            ahead[taken] = turn
            taken += 1
            yield turn
            if turn.job is None:
                return

    def judge(turn: _Turn, act: Callable[[Job], Result | None]) -> None:
        assert turn.job is not None
        try:
            turn.result = act(turn.job)
        except (SealwaxError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            turn.error = error
            if is_of_all(error):
                over.set()

    def attempt(turn: _Turn) -> _Turn:
        try:
            if not over.is_set():
                with console.held(turn.said), contextlib.suppress(_GivenUpError):
                    judge(turn, do)
        finally:
            turn.over.set()
        return turn

    def here(turn: _Turn) -> _Turn | None:
        if turn.job is not None:
            judge(turn, lambda job: _refuse(job, written))
        if turn.job is None or turn.error is not None:
            turn.over.set()
            return turn
        if len(ahead) > 1 or waiting.dominates:
            _wait_for_those_before(turn, ahead)
        # The first one opens clients, which says nothing of the others.
        if workers == 1 or taken == 1 or _keeps_main_thread(turn.job):
            return attempt(turn)
        if not waiting.dominates:
            with waiting.measured():
                return attempt(turn)
        if locations.is_s3(turn.job.source) or locations.is_s3(turn.job.output or ""):
            # Signing in may ask a person for a code, and nobody can interrupt a thread. What fails, the job says.
            with contextlib.suppress(SealwaxError):
                locations.service()
        return None

    token = _given_up.set(given_up)
    try:
        with (
            _interruptions(given_up.set),
            contextlib.closing(batch.run(jobs(), here, attempt, threads=workers)) as outcomes,
        ):
            for number, turn in enumerate(outcomes):
                del ahead[number]
                yield turn
    finally:
        _given_up.reset(token)


def _wait_for_those_before(turn: _Turn, ahead: Mapping[int, _Turn]) -> None:
    """Wait for jobs that read or write what this one does."""
    assert turn.job is not None
    turn.touched = frozenset(locations.real(name) for name in (turn.job.source, turn.job.output) if name is not None)
    for other in ahead.values():
        if other is not turn and not other.touched.isdisjoint(turn.touched):
            other.over.wait()


def _refuse(job: Job, written: set[str]) -> None:
    """Refuse a job that cannot be begun, or whose output another one of this run has; note its output."""
    if job.problem is not None:
        raise job.problem
    if job.output is not None and job.output != STREAM:
        place = locations.real(job.output)
        if place in written:
            raise LeftAloneError(
                outcomes.IN_THE_WAY,
                f"'{console.shown(job.output)}' is another file's output already: name another place with -o",
            )
        written.add(place)


def _writes_where_it_looks(work: Work) -> bool:
    """Whether a run may list a folder while it writes there: what is half-written would be taken for one of its files.

    That the outputs lie beside the sources is no such case: a folder is listed before anything in it is begun.
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
    # An output's path below -o is its source's below the folder that was named.
    lands = [
        os.path.join(one, os.path.relpath(other, output))
        for one in folders
        for other in folders
        if inside(other, output)
    ]
    return any(inside(output, folder) for folder in folders) or any(map(os.path.isdir, lands))


def _keeps_main_thread(job: Job) -> bool:
    """Whether a job is done by the main thread: what is large (see there), and pipes, which wait for other programs."""
    if job.output == STREAM or job.source == STREAM:
        return True
    if job.output is not None and not locations.is_s3(job.output) and files.is_special(job.output):
        return True
    if locations.is_s3(job.source):
        return job.size is not None and job.size >= _LARGE_BYTES
    try:
        status = os.stat(job.source)
    except OSError:
        return False  # whoever opens it says so
    return not stat.S_ISREG(status.st_mode) or status.st_size >= _LARGE_BYTES


@contextlib.contextmanager
def _interruptions(give_up: Callable[[], None]) -> Iterator[None]:
    """Call ``give_up`` when a signal interrupts the run. A second one does not wait for what is under way."""
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, console.leave_at_once)
        give_up()
        before[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(handler := signal.getsignal(number)):
                before[int(number)] = handler
                signal.signal(number, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _summed_up(failures: list[Exception], done: int, again: str) -> str:
    left = Counter(failure.outcome for failure in failures if isinstance(failure, LeftAloneError))
    failed = len(failures) - left.total()
    total = len(failures) + done
    after = f"; when the causes are gone, {again}" if failed and again else ""
    if not left:
        return f"{failed} of {total} failed{after}"
    counts = [f"{failed} failed"] * bool(failed) + [f"{count} {outcome}" for outcome, count in sorted(left.items())]
    return f"{len(failures)} of {total} not done: {', '.join(counts)}{after}"


def _foreign(error: Exception) -> dict[str, Any]:
    """Return the fields for what is in another format than ours."""
    found = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    return {} if found is None else {"format": found.format, "keys": list(found.keys), "keys_told": found.complete}


def _report_done(work: Work, turn: _Turn) -> None:
    assert turn.job is not None
    assert turn.result is not None
    fields = {"outcome": turn.result} if isinstance(turn.result, str) else turn.result
    _report(turn.job, fields, as_json=work.as_json)


def _report(job: Job, fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output = {} if job.output is None else {"output": job.output}
        console.print_json({"path": job.source, **output, **fields})
    elif "outcome" not in fields or job.output == STREAM:
        return
    elif job.output is None:
        console.tell(f"{console.shown(job.source)}: {fields['outcome']}")
    else:
        console.tell(f"{console.shown(job.source)}: {fields['outcome']}, {console.shown(job.output)}")
