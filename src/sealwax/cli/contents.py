"""What a job reads and writes: its source, and an output that appears whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from sealwax._core import files
from sealwax._core.context import ExpectedContext
from sealwax._core.envelope import inspect, read_full
from sealwax._core.format.armor import armor as to_text
from sealwax._core.format.header import MAGIC
from sealwax._core.format.io import write_all
from sealwax._core.format.payload import GROUP_BYTES
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax.cli import console, locations, outcomes
from sealwax.cli.jobs import Job, folder_of, refuse_output
from sealwax.cli.running import stop_if_given_up
from sealwax.cli.work import STREAM, Work
from sealwax.errors import (
    AllKeysFailedError,
    FileError,
    HeaderError,
    KeyNotAllowedError,
    TamperedError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from sealwax._core.sealer import Sealer
    from sealwax.stores.s3 import ObjectWriter

# Below this a value costs less than a stream.
_SMALL_BYTES: Final = 64 << 10


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
        place = locations.opened(path)
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
                if force and (locations.is_s3(detached) or locations.is_s3(cast("str", job.output))):
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
        if locations.is_s3(path):
            made_of = source.times_ns[1] if source.regular and self._whole else None
            self._objects.append(locations.writer(path, force=force, size=source.size, source_time=made_of))
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
        locations.refuse_text_in_place(job.source)
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
    with memoryview(buffer) as view:
        while size := read(view):
            write(view[:size])
            moved(done, view[:size])


def moved(done: Callable[[int], None], part: memoryview) -> None:
    """Tell a bar of a part that was moved, and end the job here if the run was interrupted."""
    done(len(part))
    stop_if_given_up()
