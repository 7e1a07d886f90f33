"""From the files and folders on the command line to single jobs: one source, one output, one fate each."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import io
import os
import signal
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import click

from sealwax import batch, disk, files
from sealwax.cli import PARTLY_DONE, console, outcomes, places, status_of
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.work import STREAM, Work
from sealwax.context import ExpectedContext
from sealwax.envelope import inspect, read_full
from sealwax.errors import (
    AllKeysFailedError,
    FileError,
    HeaderError,
    KeyNotAllowedError,
    KmsError,
    NotAnEnvelopeError,
    SealwaxError,
    TamperedError,
    WrongKeyError,
    is_of_all,
)
from sealwax.format.armor import armor as to_text
from sealwax.format.header import MAGIC
from sealwax.format.payload import GROUP_BYTES
from sealwax.format.transfer import write_all
from sealwax.keyring import PROVIDER_AWS_KMS
from sealwax.stores import is_nowhere

if TYPE_CHECKING:
    from sealwax.sealer import Sealer
    from sealwax.stores.s3 import ObjectWriter

# True where what is done is passed over.
SAME_AGAIN: Final = "run the same command again for the rest"
# Below this a value costs less than a stream.
_SMALL_BYTES: Final = 64 << 10
# From this on a file is done by the main thread: it is work more than waiting, keeps two processors busy by itself, is
# worth a bar, and can be interrupted at any moment.
_LARGE_BYTES: Final = console.PROGRESS_FROM_BYTES


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    ``source`` and ``output`` are paths, or "-" for a stream; ``output`` is None where the verb has none, or works in
    place. ``relpath`` is the plaintext file's path below the folder that was named, with "/" between its parts; None
    for a stream. ``root`` is the folder that the source was found in, and ``into`` the one that the output goes below:
    from there on no link is followed. ``problem`` is why it cannot be begun. ``below`` says whether it was met in a
    folder or below a prefix, and not named. ``size`` is that of an object, where it was listed.
    """

    source: str
    output: str | None
    relpath: str | None
    root: str | None = None
    into: str | None = None
    problem: FileError | None = None
    below: bool = False
    size: int | None = None


def collect(work: Work, *, output_name: Callable[[str], str] | None) -> Iterator[Job]:
    """Yield a job for each source, and for each file below a folder. The first comes after every check.

    Args:
        output_name: from the source's name to the output's; None where nothing is written without -o.

    Raises:
        click.UsageError: the sources and the output do not go together.
    """
    sources, output = work.sources, work.output
    if not sources:
        if sys.stdin is None:
            raise click.UsageError("standard input is closed: name a file")
        if sys.stdin.isatty():
            raise click.UsageError("name a file, or - for standard input")
        sources = (STREAM,)
    if sources.count(STREAM) > 1 or (work.writes and STREAM in sources and len(sources) > 1):
        raise click.UsageError("standard input goes alone")
    folders = [source for source in sources if source != STREAM and (os.path.isdir(source) or places.is_s3(source))]
    header = () if work.detached is None or not work.of_envelopes else (work.detached,)
    for name in (*sources, *header):
        if name not in folders:
            console.claim(name)
    if not work.recursive:
        for source in folders:
            if not places.is_s3(source):
                raise click.UsageError(f"'{console.shown(source)}' is a folder; -r takes what is in it")
            places.refuse_prefix(source)
        folders = []
    into_folder = output not in (None, STREAM) and (
        bool(folders) or len(sources) > 1 or output.endswith("/") or places.is_prefix(output) or os.path.isdir(output)
    )
    if output == STREAM and (folders or len(sources) > 1):
        raise click.UsageError("several outputs do not go into one stream; name a folder with -o")
    if STREAM in sources and into_folder:
        raise click.UsageError("standard input has no name to be stored under; name a file with -o")
    named = {
        source: _named(work, source, into_folder, output_name)
        for source in sources
        if source != STREAM and source not in folders
    }
    roots = [places.real(source) for source in folders if not places.is_s3(source)]
    for source in sources:
        if source == STREAM:
            yield Job(STREAM, (output or STREAM) if work.writes else None, None)
        elif source in named:
            yield named[source]
        else:
            anything = meant = False
            for found in _walk_s3(work, source) if places.is_s3(source) else _walk(work, source, roots):
                anything = True
                if found is not None:
                    meant = True
                    path, below, size = found
                    if isinstance(below, FileError):
                        yield Job(path, None, None, problem=below, below=not is_nowhere(below))
                    else:
                        job = _job(work, path, below, source, into_folder, output_name)
                        yield replace(job, below=True, size=size)
            if not meant and (work.of_envelopes or (places.is_s3(source) and not anything)):
                yield Job(source, None, None, problem=_nothing_in(work, source, anything))


def _nothing_in(work: Work, source: str, anything: bool) -> FileError:
    if places.is_s3(source) and not anything:
        return FileError("no object is below this prefix; see that it is the one that is meant")
    return FileError(
        f"no envelope was found: nothing in it has a name that ends with '{work.suffix}'; see that it is the place "
        "that is meant, or say with --suffix how their names end"
    )


def _named(work: Work, source: str, into_folder: bool, output_name: Callable[[str], str] | None) -> Job:
    if not places.is_s3(source):
        try:
            os.stat(source)
        except OSError as error:  # before its name is judged
            why = f"opening '{console.shown(source)}' failed: {disk.reason(error)}"
            return Job(source, None, None, problem=FileError(why))
    return _job(work, source, os.path.basename(source), None, into_folder, output_name)


def _job(
    work: Work,
    source: str,
    relpath: str,
    root: str | None,
    into_folder: bool,
    output_name: Callable[[str], str] | None,
) -> Job:
    if work.lab is not None and not places.is_s3(source) and _is_in(work.lab, source):
        problem = FileError("it is a file of the lab in use, whose keys would be sealed under themselves")
        return Job(source, None, None, problem=problem)
    parent, slash, name = relpath.rpartition("/")
    plain = parent + slash + work.plain_name(name)
    root = None if places.is_s3(source) else root
    into = None
    if work.output is None:
        into = root
        written = None if output_name is None else source[: len(source) - len(name)] + output_name(name)
    elif into_folder:
        into = work.output
        written = os.path.join(work.output, parent, (output_name or str)(name))
    else:
        written = work.output
    return Job(source, written, plain, root, into)


def _is_in(folder: str, file: str) -> bool:
    return os.path.dirname(places.real(file)) == places.real(folder)


Found = tuple[str, str | FileError, int | None] | None
"""A file, its path below the folder that was named or what is wrong with it, and the size of an object.

None for what is passed over.
"""


def _passed_over(path: str, reason: str) -> Found:
    console.tell(f"{console.shown(path)}: skipped, {reason}")
    return None


def _walk_s3(work: Work, prefix: str) -> Iterator[Found]:
    for found in places.walk(prefix):
        if isinstance(found, FileError):  # the rest, or all of it, could not be listed
            yield prefix, found, None
            continue
        name, relpath, size = found
        if name.endswith("/"):
            if size and not work.of_envelopes:
                yield (
                    name,
                    LeftAloneError(
                        outcomes.IN_THE_WAY,
                        "its name ends with '/', as a folder's, and it holds data: copy it to another name",
                    ),
                    None,
                )
            else:
                yield _passed_over(name, "it stands for a folder")
        elif (reason := work.not_meant(relpath.rpartition("/")[2])) is not None:
            yield _skipped(work, name, reason)
        elif "\0" in relpath or any(part in ("", ".", "..") for part in relpath.split("/")):
            yield name, LeftAloneError(outcomes.IN_THE_WAY, "it has no place in a folder; name it by itself"), None
        else:
            yield name, relpath, size


def _skipped(work: Work, path: str, reason: str) -> Found:
    """Pass over a file for its name, but no plaintext that is called an envelope."""
    if not work.of_envelopes:
        try:
            if not outcomes.begins_as_envelope(path):
                why = f"{reason}, but it is no envelope, and has not been encrypted: rename it"
                return path, LeftAloneError(outcomes.IN_THE_WAY, why), None
        except FileError as error:
            return path, error, None
    return _passed_over(path, reason)


def _walk(work: Work, folder: str, roots: list[str]) -> Iterator[Found]:
    """Look at what is below a folder, in order. No link is followed: what is behind one is in a folder of its own.

    Args:
        roots: all folders of this run, by their real names.
    """
    failed: list[tuple[str, FileError, None]] = []

    def fail(what: str, error: OSError) -> None:
        name = str(error.filename)
        failed.append((folder, FileError(f"{what} '{console.shown(name)}' failed: {disk.reason(error)}"), None))

    for parent, folders, names in files.walk(folder, functools.partial(fail, "reading the folder")):
        if work.lab is not None and _is_same(parent, work.lab):
            # Its keys would be sealed under themselves. And to close its database, once it has been read as a file,
            # would take away the locks that this process holds on it.
            yield _passed_over(parent, "it is the lab in use")
            folders.clear()
            continue
        folders.sort()
        for name in folders:
            if os.path.islink(path := os.path.join(parent, name)):
                yield _link(work, path, roots)
        for name in sorted(names):
            path = os.path.join(parent, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError as gone:  # meanwhile, or in a folder whose files are not to be looked at
                fail("reading", gone)
                continue
            reason = work.not_meant(name)
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                yield _passed_over(path, "it is no regular file")
            elif reason is not None and not (stat.S_ISLNK(mode) and not os.path.isfile(path)):
                yield _skipped(work, path, reason)
            elif stat.S_ISLNK(mode):
                yield _link(work, path, roots)
            else:
                relpath = os.path.relpath(path, folder)
                yield os.path.join(folder, relpath), relpath.replace(os.sep, "/"), None
    yield from failed


def _is_same(path: str, other: str) -> bool:
    # By what they are: to find the real name of each folder would look at all those above it, each time.
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _link(work: Work, path: str, roots: list[str]) -> Found:
    """Say of a link that it was not followed; or pass over it, where this run takes what it leads to anyway."""
    target = os.path.realpath(path)
    is_folder = os.path.isdir(target)
    if not os.path.exists(target):
        return path, LeftAloneError(outcomes.LINK, "it is a link that leads nowhere: remove it"), None
    inside = any(target == root or target.startswith(os.path.join(root, "")) for root in roots)
    in_lab = work.lab is not None and f"{target}/".startswith(f"{places.real(work.lab)}/")
    if (
        inside
        and not in_lab
        and (is_folder or (os.path.isfile(target) and not work.not_meant(os.path.basename(target))))
    ):
        return _passed_over(path, "it is a link to what this run takes by its own name")
    if is_folder:
        why = "it is a link to a folder, and -r follows none: name it by itself, with -r"
    else:
        why = "it is a link, and -r follows none: name it by itself"
    return path, LeftAloneError(outcomes.LINK, why), None


def refuse_output(job: Job, taken: str | None, what: str) -> None:
    """Refuse to write a job's output over another file that it needs.

    Raises:
        FileError: they are one file.
    """
    if taken is not None and job.output is not None and places.real(job.output) == places.real(taken):
        raise FileError(f"the output is the {what}; name another file with -o")


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
        if places.is_s3(turn.job.source) or places.is_s3(turn.job.output or ""):
            # Signing in may ask a person for a code, and nobody can interrupt a thread. What fails, the job says.
            with contextlib.suppress(SealwaxError):
                places.service()
        return None

    token = _given_up.set(given_up)
    try:
        with (
            _interruptions(given_up.set),
            contextlib.closing(batch.run(jobs(), here, attempt, threads=workers, stop_on_error=False)) as outcomes,
        ):
            for number, turn in enumerate(outcomes):
                assert isinstance(turn, _Turn)  # whose errors are in it
                del ahead[number]
                yield turn
    finally:
        _given_up.reset(token)


def _wait_for_those_before(turn: _Turn, ahead: Mapping[int, _Turn]) -> None:
    """Wait for jobs that read or write what this one does."""
    assert turn.job is not None
    turn.touched = frozenset(places.real(name) for name in (turn.job.source, turn.job.output) if name is not None)
    for other in ahead.values():
        if other is not turn and not other.touched.isdisjoint(turn.touched):
            other.over.wait()


def _refuse(job: Job, written: set[str]) -> None:
    """Refuse a job that cannot be begun, or whose output another one of this run has; note its output."""
    if job.problem is not None:
        raise job.problem
    if job.output is not None and job.output != STREAM:
        place = places.real(job.output)
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
    local = [source for source in work.sources if source != STREAM and not places.is_s3(source)]
    folders = [places.real(source) for source in local if os.path.isdir(source)] if work.recursive else []
    if not folders or not work.writes or (work.output is not None and places.is_s3(work.output)):
        return False

    def inside(place: str, folder: str) -> bool:
        return place == folder or place.startswith(os.path.join(folder, ""))

    if work.output is None:
        beside = [os.path.dirname(places.real(source)) for source in local if not os.path.isdir(source)]
        return any(
            inside(place, folder)
            for number, folder in enumerate(folders)
            for place in (*beside, *folders[:number], *folders[number + 1 :])
        )
    output = places.real(work.output)
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
    if job.output is not None and not places.is_s3(job.output) and files.is_special(job.output):
        return True
    if places.is_s3(job.source):
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
    return {} if found is None else {"format": found.format, "keys": list(found.keys), "keys_told": found.told}


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


@contextlib.contextmanager
def folder_of(job: Job) -> Iterator[int | None]:
    """Hold the folder of a job's source open, reached by no link below where it was found; None where it was named."""
    if job.root is None:
        yield None
    else:
        with files.folder_of(job.source, job.root) as folder:
            yield folder


class Source:
    """The input of a job: an open file, and what is known of it.

    Args:
        armor: whether it is an envelope in its text form; ``file`` is then the envelope's bytes.

    Attributes:
        regular: whether it is a file or an object, and not a stream.
        status: the file's; None for an object.
        times_ns: its access and modification times in nanoseconds.
    """

    def __init__(self, job: Job, *, armor: bool = False) -> None:
        path = job.source
        self.status: os.stat_result | None = None
        place = places.opened(path)
        if not isinstance(place, str):
            self.file: io.RawIOBase | io.BytesIO = place
            self.regular = True
            self.size: int | None = place.size
            self.times_ns = (place.modified_ns, place.modified_ns)
        else:
            with folder_of(job) as folder:
                file = console.StandardInput() if path == STREAM else files.InputFile(path, folder)
            self.file = file
            self.status = os.fstat(file.fileno())
            self.regular = stat.S_ISREG(self.status.st_mode)
            self.size = self.status.st_size if self.regular else None
            self.times_ns = self.status.st_atime_ns, self.status.st_mtime_ns
        self.name = path
        if armor:
            with self.file as text:
                self.file = io.BytesIO(outcomes.text_form(text))

    @property
    def binary(self) -> BinaryIO:
        return cast("BinaryIO", self.file)

    def readinto(self, buffer: memoryview) -> int | None:
        return self.file.readinto(buffer)

    def whole(self) -> bytes | None:
        """Return all of a small file, or None; it has not been read from then."""
        if not self.regular or self.size is None or self.size >= _SMALL_BYTES:
            return None
        data = read_full(self.binary, _SMALL_BYTES)
        if len(data) < _SMALL_BYTES:
            return data
        self.file.seek(0)  # it has grown
        return None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class Output:
    """The output of a job: a file that appears whole or not at all, or standard output.

    Args:
        job: says where to; folders are made only below the one that -o names.
        source: whose mode, less the umask, and times a file takes over.
        force: whether a file that is there may be replaced.
        armor: whether the envelope that is written goes out in its text form.
        in_place: whether the output is the source, which gets a new modification time.
        whole: whether it is all that the source holds; a part does not take over its times, and never counts as done.
        detached: where an envelope's header goes, as a file of its own.

    Attributes:
        header: the open file for the detached header; None where there is none.
    """

    def __init__(
        self,
        job: Job,
        source: Source,
        *,
        force: bool,
        armor: bool = False,
        in_place: bool = False,
        whole: bool = True,
        detached: str | None = None,
    ) -> None:
        self._whole = whole
        self._places: list[files.WholeFile] = []
        self._objects: list[ObjectWriter] = []
        self._text_form = io.BytesIO() if armor else None
        self.sink: Any = self._open(job, source, force, armor, in_place)
        self.header: Any = None
        if detached is not None:
            try:
                refuse_output(job, detached, "header too")
                if force and (places.is_s3(detached) or places.is_s3(cast("str", job.output))):
                    # The one without the other is lost data, and nothing replaces both at once.
                    raise FileError("S3 replaces a payload and its header one by one; write them under new names")
                self.header = self._open(Job(STREAM, detached, None), source, force, armor=False, in_place=False)
            except BaseException:
                self._finish(complete=False)
                raise

    def _open(self, job: Job, source: Source, force: bool, armor: bool, in_place: bool) -> Any:
        path = cast("str", job.output)
        if path == STREAM:
            if not armor:
                console.refuse_terminal()
            return console.StandardOutput()
        status = source.status
        same = status is None and path == source.name
        if status is not None and source.regular and os.path.exists(path):
            same = os.path.samestat(os.stat(path), status)
        if same and not in_place:
            raise FileError("the output is the input; name another file with -o")
        if places.is_s3(path):
            made_of = source.times_ns[1] if source.regular and self._whole else None
            self._objects.append(places.writer(path, force=force, size=source.size, source_time=made_of))
            return self._objects[-1]
        of_file = status if source.regular else None
        with contextlib.ExitStack() as stack:
            whole = files.WholeFile(
                path,
                overwrite=force,
                mode=None if of_file is None else of_file.st_mode,
                like=of_file if in_place else None,
                times_ns=source.times_ns if source.regular and self._whole and not in_place else None,
                folder=None if job.into is None else stack.enter_context(files.folder_of(path, job.into, make=True)),
            )
        self._places.append(whole)
        return whole

    def __enter__(self) -> Any:
        return self.sink if self._text_form is None else self._text_form

    def __exit__(self, kind: object, *_: object) -> None:
        complete = False
        try:
            if kind is None and self._text_form is not None:
                write_all(self.sink, (to_text(self._text_form.getvalue()) + "\n").encode("ascii"))
            complete = kind is None
        finally:
            self._finish(complete)

    def _finish(self, complete: bool) -> None:
        try:
            if complete:
                for each in self._objects:
                    each.prepare()
                files.commit_all(self._places)
                for each in self._objects:
                    each.appear()
            else:
                for place in self._places:
                    place.discard()
        finally:
            for each in self._objects:
                each.close()  # what has not appeared is given up


@contextlib.contextmanager
def rewritten(work: Work, job: Job) -> Iterator[tuple[Source, Any]]:
    """Open a job's source, and its output, which is the source itself where none is named."""
    in_place = job.output is None
    if in_place:
        places.refuse_text_in_place(job.source)
        job = replace(job, output=job.source, into=job.root)
    with (
        Source(job, armor=work.armor) as source,
        Output(job, source, force=work.force or in_place, armor=work.armor, in_place=in_place) as sink,
    ):
        yield source, sink


def origin(source: Source) -> outcomes.Origin | None:
    """Return what is known of a source that an output was made of; None for a stream, of which nothing is."""
    if not source.regular or source.size is None:
        return None
    changed = None if source.status is None else source.status.st_ctime_ns
    return outcomes.Origin(source.size, source.times_ns[1], changed)


def done_before(work: Work, job: Job, state: Callable[[Source, outcomes.Origin], outcomes.State]) -> bool:
    """Whether an earlier run has written a job's output.

    Raises:
        LeftAloneError: something else is there.
    """
    if not work.judges(job.output):
        return False
    with Source(job, armor=work.armor) as source:
        made_of = origin(source)
        return made_of is not None and state(source, made_of) is outcomes.State.DONE


def once(job: Job, under: Callable[[], frozenset[str] | None], act: Callable[[], None], *, armor: bool) -> bool:
    """Change an envelope in place; return whether that was done now.

    What an earlier run has done is under none of the old keys. It is passed over where it says itself that it is under
    the new ones.

    Args:
        under: returns the ARNs of the new keys; none where a claim is not enough, and None where they are not known.
    """
    try:
        act()
    except (KeyNotAllowedError, WrongKeyError, AllKeysFailedError) as error:
        causes = [cause for _, cause in error.attempts] if isinstance(error, AllKeysFailedError) else [error]
        if not all(isinstance(cause, KeyNotAllowedError | WrongKeyError) for cause in causes):
            raise
        arns = under()
        if arns is not None:
            if arns and _says_it_is_under(job, arns, armor=armor):
                return False
            raise
        advice = f"{error} If an earlier run has done it: name --to by key ARNs, and what is done is passed over."
        if isinstance(error, AllKeysFailedError):
            raise AllKeysFailedError(advice, error.attempts) from None
        raise type(error)(advice, code=error.code, request_id=error.request_id, key=error.key) from None
    return True


def _says_it_is_under(job: Job, arns: frozenset[str], *, armor: bool) -> bool:
    """Whether an envelope says that it is wrapped under these very keys, which is a claim and no proof."""
    with Source(job, armor=armor) as source:
        found = inspect(source.binary)
    return found.header.finished and arns == {
        key.key_arn for key in found.wrapped_keys if key.provider == PROVIDER_AWS_KMS
    }


def is_envelope(source: Source) -> bool:
    """Whether a file begins as an envelope does; of a stream or an object nothing is read ahead."""
    if source.status is None or not source.regular:
        return False
    beginning = source.file.read(len(MAGIC))
    source.file.seek(0)
    return beginning == MAGIC


def plaintext_of(sealer: Sealer, source: Source, expected: ExpectedContext) -> bytes | None:
    """Return the plaintext of a small envelope, or None; it has not been read from then.

    What is damaged is read as a stream all the same, which says how far it is whole.
    """
    sealed = source.whole()
    if sealed is None:
        return None
    try:
        return sealer.decrypt(sealed, context=expected)
    except (HeaderError, TamperedError):
        source.file.seek(0)
        return None


def pump(
    read: Callable[[memoryview], int | None], write: Callable[[memoryview], object], done: Callable[[int], None]
) -> None:
    """Move everything from ``read``, a readinto, to ``write``, 1 MiB at a time."""
    buffer = bytearray(GROUP_BYTES)
    given_up = _given_up.get()
    with memoryview(buffer) as view:
        while size := read(view):
            if given_up is not None and given_up.is_set():
                raise _GivenUpError
            write(view[:size])
            done(size)
