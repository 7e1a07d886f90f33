"""Does the jobs of a run, one or several at a time, and gives each its turn in the order in which they were found."""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import stat
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import click
from click.globals import pop_context, push_context

from sealwax._core import batch, files
from sealwax._core.recognize.s3ec import INSTRUCTIONS as INSTRUCTION_FILE
from sealwax.cli import console, locations, outcomes
from sealwax.cli.jobs import INSTRUCTIONS, FileJob, Skip
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.state import current
from sealwax.cli.work import STREAM, Work
from sealwax.errors import KmsError, NotAnEnvelopeError, SealwaxError, is_of_all

# The main thread does larger files: they are more work than waiting, keep two processors busy by themselves, deserve a
# progress bar, and can be interrupted at any moment there.
_LARGE_BYTES: Final = console.PROGRESS_FROM_BYTES
# So many jobs are found for each that begins, until so many wait: the total is known early, and memory is bounded.
_FOUND_AT_ONCE: Final = 16
_MOST_WAITING: Final = 10_000

Fields = dict[str, object]
Result = str | Fields | Skip


class JobQueue:
    """The jobs of a run, found ahead of the work.

    Attributes:
        files: how many were found that are not skipped.
        bytes: their sizes, as far as these are known.
        ended: whether all were found.
    """

    def __init__(self, found: Iterator[FileJob]) -> None:
        self._found = found
        self._waiting: deque[FileJob] = deque()
        self._error: Exception | None = None
        self.files = 0
        self.bytes = 0
        self.ended = False

    def next(self) -> FileJob | None:
        """Return the next job; None after the last.

        Raises:
            Exception: whatever ended the search, after the jobs that it had found.
        """
        for _ in range(_FOUND_AT_ONCE):
            if self._error is not None or self.ended or len(self._waiting) >= _MOST_WAITING:
                break
            self._find()
        if self._waiting:
            return self._waiting.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _find(self) -> None:
        try:
            job = next(self._found)
        except StopIteration:
            self.ended = True
        except Exception as error:  # raised again in its turn
            self._error = error
        else:
            self._waiting.append(job)
            if job.skipped is None:
                self.files += 1
                self.bytes += job.size or 0

    def rest(self) -> Iterator[FileJob]:
        """Yield the jobs that were found and have not begun."""
        while self._waiting:
            yield self._waiting.popleft()


@dataclass(slots=True)
class Turn:
    """A job of a run, with its result or error; with neither if it is skipped, was not started, or was abandoned.

    Attributes:
        job: None for messages between jobs, and for an error that ended the search for more.
        messages: those held back while earlier jobs were not done; None if they are printed at once.
        touched: the canonical names of what it reads and writes.
        size: that of its source; None if it is not known.
        over: set once it is done.
        reported: whether its outcome was printed.
    """

    job: FileJob | None
    messages: list[str] | None
    result: Result | None = None
    error: Exception | None = None
    touched: frozenset[str] = frozenset()
    size: int | None = None
    over: threading.Event = field(default_factory=threading.Event)
    reported: bool = False


def _goes_with_another(job: FileJob, error: Exception) -> bool:
    """Whether an object below a prefix is an instruction file of the S3 Encryption Client: it goes with its object."""
    foreign = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    return job.below and foreign is not None and foreign.format == INSTRUCTION_FILE


class _GivenUpError(Exception):
    """The run was interrupted while a thread did a job."""


class Interruption:
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


_interruption: contextvars.ContextVar[Interruption | None] = contextvars.ContextVar(
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


class Turns:
    """The jobs of a run as they are done.

    Jobs are done one after the other until they have waited more than worked; from then on by as many threads as
    ``work`` allows. Once credentials or settings have failed, no more are started. After an interruption, those in
    progress are abandoned as soon as possible.

    Attributes:
        ahead: the jobs that have not had their turn, by number; the current one until the next is asked for.
    """

    def __init__(
        self, work: Work, listing: JobQueue, do: Callable[[FileJob], Result], interruption: Interruption
    ) -> None:
        self._work = work
        self._listing = listing
        self._do = do
        self._interruption = interruption
        self._workers = 1 if _writes_where_it_looks(work) else work.workers
        self._waiting = batch.Waiting()
        self._context = click.get_current_context()
        self._over = threading.Event()
        self._written: set[str] = set()
        self._begun = 0
        self.ahead: dict[int, Turn] = {}

    def take(self) -> Generator[Turn]:
        """Do the jobs; yield each in its turn."""
        token = _interruption.set(self._interruption)
        try:
            with (
                self._interruption.handled(),
                contextlib.closing(
                    batch.run(self._jobs(), self._here, self._attempt, threads=self._workers)
                ) as finished,
            ):
                for number, turn in enumerate(finished):
                    assert isinstance(turn, Turn)  # it holds its own errors
                    yield turn
                    del self.ahead[number]
        finally:
            _interruption.reset(token)

    def _jobs(self) -> Iterator[Turn]:
        number = 0
        while not self._over.is_set():
            turn = Turn(None, [] if self.ahead else None)
            with console.held(turn.messages):
                try:
                    turn.job = self._listing.next()
                except KmsError as error:  # in the search for the next object
                    turn.error = error
                    self._over.set()
            if turn.job is not None and self._work.as_json and turn.job.output == STREAM:
                raise click.UsageError("--json and the output cannot both go to standard output; name a file with -o")
            self.ahead[number] = turn
            number += 1
            yield turn
            if turn.job is None:
                return

    def _here(self, turn: Turn) -> Turn | None:
        """Do a job in the main thread; return None to leave it to another one."""
        job = turn.job
        if job is not None and job.skipped is None:
            self._record(turn, self._refuse)
        if job is None or job.skipped is not None or turn.error is not None:
            turn.over.set()
            return turn
        keeps = _look_at(turn, job)
        if len(self.ahead) > 1 or self._waiting.dominates:
            self._wait_for_those_before(turn, job)
        self._begun += 1
        # The first one also opens clients, so its waiting says nothing about the others.
        if self._workers == 1 or self._begun == 1 or keeps:
            return self._attempt(turn)
        if not self._waiting.dominates:
            with self._waiting.measured():
                return self._attempt(turn)
        if locations.is_s3(job.source) or locations.is_s3(job.output or ""):
            # Signing in may ask for an MFA code, and a thread cannot be interrupted. The job reports failures.
            with contextlib.suppress(SealwaxError):
                locations.service()
        return None

    def _attempt(self, turn: Turn) -> Turn:
        push_context(self._context)  # threads have none of their own
        try:
            if not self._over.is_set():
                with console.held(turn.messages), contextlib.suppress(_GivenUpError):
                    self._record(turn, self._do)
        finally:
            pop_context()
            turn.over.set()
        return turn

    def _record(self, turn: Turn, act: Callable[[FileJob], Result | None]) -> None:
        assert turn.job is not None
        try:
            turn.result = act(turn.job)
        except (SealwaxError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            if _goes_with_another(turn.job, error):
                turn.result = INSTRUCTIONS
                return
            turn.error = error
            if is_of_all(error):
                self._over.set()
        finally:
            self._interruption.release()

    def _refuse(self, job: FileJob) -> None:
        """Refuse a job that cannot start, or whose output is that of another job; note its output."""
        if job.problem is not None:
            raise job.problem
        if job.output is not None and job.output != STREAM:
            place = locations.real(job.output)
            if place in self._written:
                raise LeftAloneError(
                    outcomes.IN_THE_WAY,
                    f"'{console.shown(job.output)}' is already the output of another file; write elsewhere with "
                    f"{current().elsewhere}",
                )
            self._written.add(place)

    def _wait_for_those_before(self, turn: Turn, job: FileJob) -> None:
        """Wait for jobs that read or write what this one does."""
        turn.touched = frozenset(locations.real(name) for name in (job.source, job.output) if name is not None)
        for other in self.ahead.values():
            if other is not turn and not other.touched.isdisjoint(turn.touched):
                other.over.wait()


def _look_at(turn: Turn, job: FileJob) -> bool:
    """Note a source's size. Return whether the main thread does it: if it is large, or a pipe waits for a program."""
    turn.size = job.size
    if job.source == STREAM:
        return True
    if not locations.is_s3(job.source):
        try:
            status = os.stat(job.source)
        except OSError:
            return False  # opening it reports the error
        if not stat.S_ISREG(status.st_mode):
            turn.size = None
            return True
        turn.size = status.st_size
    special = job.output is not None and not locations.is_s3(job.output) and files.is_special(job.output)
    return job.output == STREAM or special or (turn.size or 0) >= _LARGE_BYTES


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
