"""The source of a job, and its output, which appears whole or not at all."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn, cast

import click

from sealwax._core import files
from sealwax._core.context import ExpectedContext
from sealwax._core.envelope import inspect, metadata_of, read_full
from sealwax._core.format.armor import armor as to_text
from sealwax._core.format.header import MAGIC
from sealwax._core.format.io import write_all
from sealwax._core.format.payload import GROUP_BYTES
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax.cli import console, locations, outcomes
from sealwax.cli.jobs import FileJob, folder_of, refuse_needed, refuse_output
from sealwax.cli.turns import finish_first, stop_if_given_up
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

# Below this size, encrypting in one piece costs less than a stream.
_SMALL_BYTES: Final = 64 << 10
# More than anybody reads on a terminal. It is held in memory, since all of it is checked before any of it is shown.
_MAX_SHOWN_BYTES: Final = 1 << 20
# All control characters except tabs and the ends of lines, those of Windows included.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


class Source:
    """The input of a job: an open file, and its size and times.

    Args:
        armor: whether it is an envelope in the text form; ``file`` then reads the envelope's bytes.

    Attributes:
        regular: whether it is a file or an object, as opposed to a stream.
        status: the file's; None for an object.
        times_ns: its access and modification times in nanoseconds.
    """

    def __init__(self, job: FileJob, *, armor: bool = False) -> None:
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
                self.file = io.BytesIO(locations.text_form(text))

    @property
    def binary(self) -> BinaryIO:
        return cast("BinaryIO", self.file)

    def readinto(self, buffer: memoryview) -> int | None:
        return self.file.readinto(buffer)

    def whole(self) -> bytes | None:
        """Return the content of a small file; None for others, which are not read."""
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


class ShownText:
    """Takes a plaintext for a terminal, and writes it once it is whole and known to be text.

    Anything else could control the terminal, even one that shows it as characters.
    """

    def __init__(self, sink: Any, name: str) -> None:
        self._sink = sink
        self._name = name
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        self._data += data
        if len(self._data) > _MAX_SHOWN_BYTES:
            self._refuse("has more than 1 MiB")
        return len(data)

    def show(self) -> None:
        """Write what was taken.

        Raises:
            FileError: it is not text.
        """
        try:
            control = _CONTROL.search(self._data.decode())
        except UnicodeDecodeError:
            self._refuse("is binary")
        if control is not None:
            self._refuse(f"contains a control character ({ascii(control[0])[1:-1]})")
        write_all(self._sink, self._data)

    def _refuse(self, why: str) -> NoReturn:
        raise FileError(
            f"the plaintext {why}, and {self._name} is a terminal; name a file with -o, or use --force to write it "
            "anyway"
        )


class Output:
    """The output of a job: a file that appears whole or not at all, or standard output.

    A terminal gets plaintext only if it is text, and envelopes only in the text form, unless ``force`` is given.

    Args:
        job: names the output; folders are created only below the one that -o names.
        source: gives a file its times, and its mode less the umask.
        force: whether an existing file may be overwritten.
        armor: whether the envelope is written in the text form.
        in_place: whether the output is the source, which gets a new modification time.
        plaintext: whether it is plaintext, as opposed to an envelope.
        whole: whether it is all of the plaintext; a part does not get the source's times, so it never counts as done.
        detached: the file for the envelope's header.
        in_base64: whether the text form is plain base64, as of a message of the AWS Encryption SDK.

    Attributes:
        header: the open file for the detached header, or None.
    """

    def __init__(
        self,
        job: FileJob,
        source: Source,
        *,
        force: bool,
        armor: bool = False,
        in_place: bool = False,
        plaintext: bool = False,
        whole: bool = True,
        detached: str | None = None,
        in_base64: bool = False,
    ) -> None:
        self._plaintext = plaintext
        self._to_text = (lambda data: base64.b64encode(data).decode("ascii")) if in_base64 else to_text
        self._whole = whole
        self._name = cast("str", job.output)
        self._places: list[files.WholeFile] = []
        self._objects: list[ObjectWriter] = []
        self._text_form = io.BytesIO() if armor else None
        self.sink: Any = self._open(job, source, force, armor, in_place)
        self.header: Any = None
        if detached is not None:
            try:
                refuse_output(job, detached, "header too")
                if force and (locations.is_s3(detached) or locations.is_s3(cast("str", job.output))):
                    # Either one without the other is lost data, and nothing replaces both at once.
                    raise FileError("S3 cannot replace a payload and its header together; write them under new names")
                self.header = self._open(FileJob(STREAM, detached, None), source, force, armor=False, in_place=False)
            except BaseException:
                self._finish(complete=False)
                raise

    def _open(self, job: FileJob, source: Source, force: bool, armor: bool, in_place: bool) -> Any:
        path = cast("str", job.output)
        if path == STREAM:
            output = console.StandardOutput()
            return self._for_terminal(output, output.fileno(), "standard output", force or armor)
        status = source.status
        same = status is None and path == source.name
        if status is not None and source.regular and os.path.exists(path):
            same = os.path.samestat(os.stat(path), status)
        if same and not in_place:
            raise FileError("the output would overwrite the input; name another file with -o")
        refuse_needed(path, plaintext=self._plaintext)
        if locations.is_s3(path):
            source_time = source.times_ns[1] if source.regular and self._whole else None
            with console.overwriting(path):
                self._objects.append(locations.writer(path, force=force, size=source.size, source_time=source_time))
            return self._objects[-1]
        of_file = status if source.regular else None
        with console.overwriting(path), contextlib.ExitStack() as stack:
            whole = files.WholeFile(
                path,
                overwrite=force,
                mode=None if of_file is None else of_file.st_mode,
                like=of_file if in_place else None,
                times_ns=source.times_ns if source.regular and self._whole and not in_place else None,
                folder=None if job.into is None else stack.enter_context(files.folder_of(path, job.into, make=True)),
            )
        self._places.append(whole)
        if whole.on_disk:
            return whole
        return self._for_terminal(whole, whole.file.fileno(), f"'{console.shown(path)}'", force or armor)

    def _for_terminal(self, sink: Any, descriptor: int, name: str, anything: bool) -> Any:
        """Return the sink to write to instead if it is a terminal that does not get ``anything``."""
        if anything or not os.isatty(descriptor):
            return sink
        if self._plaintext:
            return ShownText(sink, name)
        self._finish(complete=False)
        raise click.UsageError(
            f"the envelope is binary, and {name} is a terminal; name a file with -o, or use --force to write it anyway"
        )

    def __enter__(self) -> Any:
        return self.sink if self._text_form is None else self._text_form

    def __exit__(self, kind: object, *_: object) -> None:
        complete = False
        try:
            if kind is None and self._text_form is not None:
                write_all(self.sink, (self._to_text(self._text_form.getvalue()) + "\n").encode("ascii"))
            if kind is None and isinstance(self.sink, ShownText):
                self.sink.show()
            complete = kind is None
        finally:
            self._finish(complete)

    def _finish(self, complete: bool) -> None:
        try:
            if complete:
                for each in self._objects:
                    with console.overwriting(each.name):
                        each.prepare()
                finish_first()
                with console.overwriting(self._name):
                    files.commit_all(self._places)
                for each in self._objects:
                    with console.overwriting(each.name):
                        each.appear()
            else:
                for place in self._places:
                    place.discard()
        finally:
            for each in self._objects:
                each.close()  # abandons what has not appeared


@contextlib.contextmanager
def rewritten(work: Work, job: FileJob) -> Iterator[tuple[Source, Any]]:
    """Open a job's source, and its output, which is the source itself if -o was not given."""
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
    """Return the size and times of a source; None for a stream."""
    if not source.regular or source.size is None:
        return None
    changed = None if source.status is None else source.status.st_ctime_ns
    return outcomes.Origin(source.size, source.times_ns[1], changed)


def done_before(work: Work, job: FileJob, state: Callable[[Source, outcomes.Origin], outcomes.OutputState]) -> bool:
    """Whether an earlier run has written a job's output."""
    if not work.checks_output(job.output):
        return False
    with Source(job, armor=work.armor) as source:
        source_facts = origin(source)
        return source_facts is not None and state(source, source_facts) is outcomes.OutputState.DONE


def once(job: FileJob, under: Callable[[], frozenset[str] | None], act: Callable[[], None], *, armor: bool) -> bool:
    """Change an envelope in place; return False if an earlier run has done it.

    Such an envelope is not under the old keys any more. It is skipped if its header names exactly the new ones.

    Args:
        under: returns the ARNs of the new keys; an empty set if the header's claim is not enough, None if not known.
    """
    try:
        act()
    except (KeyNotAllowedError, WrongKeyError, AllKeysFailedError) as error:
        causes = [cause for _, cause in error.attempts] if isinstance(error, AllKeysFailedError) else [error]
        if not all(isinstance(cause, KeyNotAllowedError | WrongKeyError) for cause in causes):
            raise
        arns = under()
        if arns is not None:
            if arns and _claims_to_be_under(job, arns, armor=armor):
                return False
            raise
        advice = f"{error} If an earlier run has already moved it, name the keys of --to by their ARNs to skip it."
        if isinstance(error, AllKeysFailedError):
            raise AllKeysFailedError(advice, error.attempts) from None
        raise type(error)(advice, code=error.code, request_id=error.request_id, key=error.key) from None
    return True


def _claims_to_be_under(job: FileJob, arns: frozenset[str], *, armor: bool) -> bool:
    """Whether an envelope claims to be wrapped under exactly these keys."""
    with Source(job, armor=armor) as source:
        inspection = inspect(source.binary)
    return inspection.header.finished and arns == {
        key.key_arn for key in inspection.wrapped_keys if key.provider == PROVIDER_AWS_KMS
    }


def encrypted_as(source: Source) -> str | None:
    """Return what a file is that is encrypted already, by its beginning.

    None for streams and objects, which are not read ahead.
    """
    if source.status is None or not source.regular:
        return None
    beginning = source.file.read(len(MAGIC))
    source.file.seek(0)
    if beginning == MAGIC:
        return "an envelope"
    return "an AWS Encryption SDK message" if locations.is_message(beginning) else None


def plaintext_of(sealer: Sealer, source: Source, expected: ExpectedContext) -> bytes | None:
    """Return the plaintext of a small envelope; None for others, which are not read.

    None for a damaged one too: reading it as a stream tells up to where it is intact.
    """
    sealed = source.whole()
    if sealed is None:
        return None
    if not sealed.startswith(MAGIC) or metadata_of(source.file):
        source.file.seek(0)  # as a file, it also has metadata that may say otherwise
        return None
    try:
        return sealer.decrypt(sealed, context=expected)
    except (HeaderError, TamperedError):
        source.file.seek(0)
        return None


def copy(
    read: Callable[[memoryview], int | None], write: Callable[[memoryview], object], done: Callable[[int], None]
) -> None:
    """Copy everything from ``read``, a readinto, to ``write``, 1 MiB at a time."""
    buffer = bytearray(GROUP_BYTES)
    with memoryview(buffer) as view:
        while size := read(view):
            write(view[:size])
            progressed(done, view[:size])


def progressed(done: Callable[[int], None], part: memoryview) -> None:
    """Advance the progress bar, and end the job here if the run was interrupted."""
    done(len(part))
    stop_if_given_up()
