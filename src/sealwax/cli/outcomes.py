"""What stands at an output's place: absent, done by an earlier run, changed since, or something that is left alone.

Done is told by what the output is: its header, its size, and the time of the source it was made of. No call is made for
that but where a header alone cannot say it:

- under which keys the run writes, where one is named by an alias or an id: the first time that this matters, by one of
  the calls that the run makes anyway;
- whether an envelope that is newer than its source, as after a re-wrap, holds the source's data, whether it has the
  local context that was given, and whether a header and a payload apart belong together: it is opened (kms:Decrypt).
"""

from __future__ import annotations

import contextlib
import enum
import functools
import io
import os
import shlex
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, cast

from sealwax._core import files
from sealwax._core.context import printable
from sealwax._core.envelope import Inspection, inspect, read_full
from sealwax._core.format.armor import PREFIX, dearmor
from sealwax._core.format.header import ATTACHED, DETACHED, MAGIC
from sealwax._core.keyring import PROVIDER_AWS_KMS, Keyring, WrappedKey
from sealwax.cli import console, locations
from sealwax.errors import (
    CommitmentError,
    ContextError,
    DamagedHeaderError,
    FileError,
    HeaderError,
    KmsError,
    NotAnEnvelopeError,
    PayloadError,
    is_of_credentials,
)

# The text form is for environment variables and settings, and is held in memory whole.
MAX_TEXT_BYTES: Final = 64 << 20

CHANGED: Final = "changed since"
OTHER_KEY: Final = "under another key"
OTHER_CONTEXT: Final = "bound to another context"
IN_PART: Final = "done in part"
IN_THE_WAY: Final = "in the way"
NOT_TOLD: Final = "cannot be told"
LINK: Final = "a link"

_ELSEWHERE: Final = "or name another place with -o"


class LeftAloneError(FileError):
    """Something that a run over several files has met and has left as it is.

    Attributes:
        outcome: what it is, as it is counted.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class State(enum.Enum):
    """What is to be done for an output."""

    ABSENT = enum.auto()
    DONE = enum.auto()
    OUTDATED = enum.auto()  # it may be replaced


@dataclass(frozen=True, slots=True)
class Origin:
    """The file or object that an output is made of.

    Args:
        size: its bytes.
        time_ns: its modification time in nanoseconds.
        changed_ns: when anything of it last changed, which nobody can set back; None for an object.
    """

    size: int
    time_ns: int
    changed_ns: int | None


@dataclass(frozen=True, slots=True)
class There:
    """What stands at an output's place.

    Attributes:
        time_ns: the modification time of what it says it was made of; None for an object that says nothing.
        changed_ns: when it last changed.
        open: opens it for reading.
    """

    name: str
    size: int
    time_ns: int | None
    changed_ns: int
    open: Callable[[], AbstractContextManager[BinaryIO]]

    def is_of(self, origin: Origin) -> bool:
        return self.time_ns == origin.time_ns

    def is_older(self, origin: Origin) -> bool:
        """Whether the origin was modified after this was made of it."""
        return origin.time_ns > (self.changed_ns if self.time_ns is None else self.time_ns)

    def may_be_older(self, origin: Origin) -> bool:
        """Whether anything of the origin has changed after this was last changed: it may have got an older time."""
        return not self.is_of(origin) and origin.changed_ns is not None and origin.changed_ns > self.changed_ns


@dataclass(frozen=True, slots=True)
class Wanted:
    """The envelope that a run would write.

    Args:
        kms_context: in canonical form.
        local_pairs: how many pairs are local.
        under: returns the ARNs of the keys it would be under.
        names: those keys as the caller named them.
        open: opens an envelope under these keys, with the whole context; None where the run cannot.
    """

    kms_context: bytes
    local_pairs: int
    under: Callable[[], frozenset[str]]
    names: Sequence[str]
    open: Callable[[BinaryIO], AbstractContextManager[BinaryIO]] | None


class Under:
    """The ARNs of the keys that a run writes under. What an alias or an id means is asked once.

    Attributes:
        known: the ARNs; None before KMS was asked.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from sealwax.kms._names import parse_arn

        self.known = frozenset(names) if all(parse_arn(name) for name in names) else None
        self._lock = threading.Lock()

    def arns(self, ask: Callable[[], Iterable[str]]) -> frozenset[str]:
        """Return them.

        Args:
            ask: makes a data key or re-wraps one, and returns the ARNs that KMS has answered with.

        Raises:
            KmsError: KMS does not say.
        """
        with self._lock:
            if self.known is None:
                self.known = frozenset(ask())
            return self.known

    def arns_of(self, keyring: Keyring, context: Mapping[str, str]) -> frozenset[str]:
        """Return them, from the data key that a keyring makes for a context; see :meth:`arns`."""

        def ask() -> list[str]:
            return keyring.generate(context, lambda _, keys: [key.key_arn for key in keys], plaintext_bytes=None)

        return self.arns(ask)


def look(name: str) -> There | None:
    """Return what stands at a place; None for nothing. No link is followed.

    Raises:
        LeftAloneError: it is a link, a folder or another thing that is not written over.
        FileError: it cannot be looked at.
    """
    shown = console.shown(name)
    if locations.is_s3(name):
        found = locations.there(name)
        if found is None:
            return None
        return There(name, *found, functools.partial(_object, name))
    with files.reported("looking at", name):
        try:
            status = os.lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
    if stat.S_ISLNK(status.st_mode):
        raise LeftAloneError(
            LINK, f"its output '{shown}' is a link, which is not followed: remove the link, {_ELSEWHERE}"
        )
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise LeftAloneError(IN_THE_WAY, f"its output '{shown}' is {what}: move that away, {_ELSEWHERE}")
    return There(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, functools.partial(_file, name))


@contextlib.contextmanager
def _file(name: str) -> Iterator[BinaryIO]:
    with files.reported("opening", name):
        folder = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with files.InputFile(name, folder) as file:
            yield cast("BinaryIO", file)
    finally:
        os.close(folder)


def _object(name: str) -> AbstractContextManager[BinaryIO]:
    return cast("BinaryIO", locations.opened(name))


def of_plaintext(output: str, origin: Origin, size: int, *, update: bool) -> State:
    """Say what is to be done for the plaintext of an envelope.

    Args:
        origin: the envelope's file.
        size: how many bytes the plaintext has, as the envelope says.
        update: whether what the envelope has changed since is replaced.

    Raises:
        LeftAloneError: something else is there.
    """
    there = look(output)
    if there is None:
        return State.ABSENT
    name = f"'{console.shown(output)}'"
    if there.is_of(origin):
        if there.size == size:
            return State.DONE
    elif there.is_older(origin):
        return _outdated(f"it has changed since {name} was made of it", update, has_update=True)
    if there.size < size:
        raise LeftAloneError(
            IN_PART,
            f"{name} has {there.size} of its {size} bytes: --force writes it whole, {_ELSEWHERE}",
        )
    if there.size > size:
        why = f"is something else: it has {there.size} bytes, and the plaintext {size}"
    else:
        why = "is newer than the envelope, and may have been changed here"
    raise LeftAloneError(IN_THE_WAY, f"{name} {why}: --force replaces it, {_ELSEWHERE}")


def of_range(output: str) -> State:
    """Say what is to be done for a part of a plaintext, which nothing tells from another part.

    Raises:
        LeftAloneError: something is there.
    """
    if look(output) is None:
        return State.ABSENT
    raise LeftAloneError(
        IN_THE_WAY, f"'{console.shown(output)}' is there, and may be another range: --force replaces it, {_ELSEWHERE}"
    )


def of_envelope(
    output: str,
    origin: Origin,
    wanted: Wanted,
    source: BinaryIO,
    size: int,
    *,
    armor: bool = False,
    detached: str | None = None,
    update: bool | None = None,
) -> State:
    """Say what is to be done for the envelope of a file.

    Args:
        origin: the file it is made of.
        source: that file, open; it is read where an envelope has to be compared with it.
        size: how many bytes of plaintext the envelope is to hold.
        armor: whether it is text.
        detached: where its header is; None where it is in ``output``.
        update: whether what has changed since is replaced; None where the verb has no such option.

    Raises:
        LeftAloneError: something else is there.
        KmsError: KMS does not say which keys are meant.
    """
    there = look(output)
    apart = None if detached is None else look(detached)
    if there is None and apart is None:
        return State.ABSENT
    name = f"'{console.shown(output)}'"
    again = f"--force encrypts it again, {_ELSEWHERE}"
    if there is None or (detached is not None and apart is None):
        raise LeftAloneError(IN_PART, f"only one of {name} and '{console.shown(detached or '')}' is there: {again}")
    with there.open() as file:
        if detached is None:
            found, envelope = _inspected(there, file, ATTACHED, armor, again)
        else:
            assert apart is not None
            with apart.open() as header:
                found, envelope = _inspected(apart, header, DETACHED, False, again)[0], file
            found = replace(found, payload_bytes=there.size)
        preamble = found.header.preamble
        if (preamble.kms_context, preamble.local_pairs) != (wanted.kms_context, wanted.local_pairs):
            raise _other_context(name, again)
        held = found.plaintext_bytes

        def outdated() -> State:
            what = f"it has changed since {name} was made of it"
            return _outdated(what, bool(update), has_update=update is not None)

        if there.is_older(origin) or (held != size and there.may_be_older(origin)):
            return outdated()
        if held is None or held < size:
            raise LeftAloneError(
                IN_PART, f"{name} holds fewer than {size} bytes: it is cut off, or of a smaller file; {again}"
            )
        if held > size:
            raise LeftAloneError(
                IN_THE_WAY, f"{name} is of something else: it holds {held} bytes, and not {size}; {again}"
            )
        _check_keys(output, found, (), wanted.under(), wanted.names, again, can_rewrap=detached is None, armor=armor)
        # That a header and a payload apart belong together is in neither of them.
        if wanted.local_pairs or detached is not None or not there.is_of(origin):
            try:
                _check_opened(there, origin, wanted, source, envelope, again, detached)
            except LeftAloneError as error:
                if error.outcome in (IN_THE_WAY, NOT_TOLD) and there.may_be_older(origin):
                    source.seek(0)  # it has been read to be compared
                    return outdated()
                raise
    return State.DONE


def of_rewrapped(
    output: str,
    source: Inspection,
    under: Callable[[], frozenset[str]],
    names: Sequence[str],
    *,
    armor: bool,
) -> State:
    """Say what is to be done for a re-wrapped copy of an envelope, which has its id, its context and its payload.

    Args:
        source: the envelope that it is a copy of.
        under, names: as for :class:`Wanted`.
        armor: whether it is text.

    Raises:
        LeftAloneError: something else is there.
        KmsError: KMS does not say which keys are meant.
    """
    there = look(output)
    if there is None:
        return State.ABSENT
    name = f"'{console.shown(output)}'"
    again = f"--force writes it again, {_ELSEWHERE}"
    mine = source.header.preamble
    with there.open() as file:
        found, _ = _inspected(there, file, mine.kind, armor, again)
    theirs = found.header.preamble
    if (mine.envelope_id, mine.kms_context, mine.local_pairs) != (
        theirs.envelope_id,
        theirs.kms_context,
        theirs.local_pairs,
    ):
        raise LeftAloneError(IN_THE_WAY, f"{name} is another envelope: {again}")
    if found.payload_bytes != source.payload_bytes:
        raise LeftAloneError(IN_PART, f"{name} is cut off, or followed by other bytes: {again}")
    kept = [key for key in source.wrapped_keys if key.provider != PROVIDER_AWS_KMS]
    _check_keys(output, found, kept, under(), names, again, can_rewrap=True, armor=armor)
    return State.DONE


def _outdated(what: str, update: bool, *, has_update: bool) -> State:
    if update:
        return State.OUTDATED
    raise LeftAloneError(
        CHANGED, f"{what}: {'--update' if has_update else '--force'} brings it up to date, {_ELSEWHERE}"
    )


def _other_context(name: str, again: str) -> LeftAloneError:
    return LeftAloneError(
        OTHER_CONTEXT, f"{name} is bound to another context than the one given; `sealwax inspect` shows it. {again}"
    )


def _inspected(there: There, file: BinaryIO, kind: int, armor: bool, again: str) -> tuple[Inspection, BinaryIO]:
    """Return what an envelope says of itself, and its bytes."""
    name = f"'{console.shown(there.name)}'"
    try:
        if armor:
            file = io.BytesIO(text_form(file))
        found = inspect(file)
    except DamagedHeaderError as error:
        raise LeftAloneError(IN_PART, f"{name} is damaged or cut off: {error}. {again}") from None
    except HeaderError as error:
        why = f"{name} cannot be done already: {error}. Rename it, {_ELSEWHERE}; --force replaces it"
        raise LeftAloneError(IN_THE_WAY, why) from None
    if found.header.preamble.kind != kind:
        raise LeftAloneError(
            IN_THE_WAY, f"{name} is the other kind of envelope, with a header apart or without: {again}"
        )
    return found, file


def _check_keys(
    output: str,
    found: Inspection,
    kept: Sequence[WrappedKey],
    under: frozenset[str],
    names: Sequence[str],
    again: str,
    *,
    can_rewrap: bool,
    armor: bool,
) -> None:
    """Refuse an envelope that is not under exactly these KMS keys and wrapped by what else it was wrapped by."""
    arns = [key.key_arn for key in found.wrapped_keys if key.provider == PROVIDER_AWS_KMS]
    others = [key for key in found.wrapped_keys if key.provider != PROVIDER_AWS_KMS]
    if found.header.finished and set(arns) == under and others == list(kept):
        return
    there = ", ".join(f"'{printable(key.key_arn)}'" for key in found.wrapped_keys)
    wanted = ", ".join(f"'{printable(name)}'" for name in names)
    name = f"'{console.shown(output)}'"
    why = f"{name} is under {there}, and is to be under {wanted}"
    if not found.header.finished:
        why = f"a re-wrap of {name} to {there} was interrupted, and it is to be under {wanted}"
    if can_rewrap and arns and not (armor and locations.is_s3(output)):
        words = [*(word for arn in arns for word in ("-k", arn)), *(word for to in names for word in ("--to", to))]
        words += ["--accept-stored-context", *(["--armor"] if armor else []), "--", output]
        command = " ".join(shlex.quote(printable(word)) for word in ("sealwax", "rewrap", *words))
        # The keys are a claim of the file, and the command trusts them.
        again = f"if you trust what it is under, `{command}` moves it, {again}"
    raise LeftAloneError(OTHER_KEY, f"{why}: {again}")


def _check_opened(
    there: There,
    origin: Origin,
    wanted: Wanted,
    source: BinaryIO,
    envelope: BinaryIO,
    again: str,
    detached: str | None,
) -> None:
    """Refuse an envelope that has another local context or header, or holds other data than its source."""
    name = f"'{console.shown(there.name)}'"
    if wanted.open is None:
        raise LeftAloneError(NOT_TOLD, f"whether {name} was made of this cannot be told without opening it: {again}")
    envelope.seek(0)
    try:
        with wanted.open(envelope) as plaintext:
            same = there.is_of(origin) or _equal(plaintext, source)
    except (CommitmentError, ContextError) as error:
        if detached is not None and isinstance(error, CommitmentError):
            pair = f"{name} and the header '{console.shown(detached)}' do not belong together"
            if wanted.local_pairs:
                pair += ", or are bound to other local pairs"
            raise LeftAloneError(IN_PART, f"{pair}: {again}") from None
        raise _other_context(name, again) from None
    except PayloadError as error:
        raise LeftAloneError(IN_PART, f"{name} is damaged: {error}. {again}") from None
    except KmsError as error:
        if is_of_credentials(error):
            raise  # of every other one it cannot be told either
        raise LeftAloneError(
            NOT_TOLD, f"whether {name} was made of this can only be told by opening it, and: {error} {again}"
        ) from error
    if not same:
        raise LeftAloneError(IN_THE_WAY, f"{name} is newer than its source, and holds other data: {again}")


def _equal(one: BinaryIO, other: BinaryIO) -> bool:
    while data := read_full(one, files.COPY_BYTES):
        if data != read_full(other, files.COPY_BYTES):
            return False
    return not other.read(1)


def text_form(file: BinaryIO | io.RawIOBase) -> bytes:
    """Return the envelope that a text holds.

    Raises:
        NotAnEnvelopeError: it is no envelope's.
    """
    data = read_full(file, MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise NotAnEnvelopeError(f"it has more than {MAX_TEXT_BYTES} bytes, too many for the text form")
    try:
        return dearmor(data.decode("ascii").removesuffix("\n"))
    except UnicodeDecodeError:
        raise NotAnEnvelopeError("this is not an envelope in its text form: it is not text") from None


def begins_as_envelope(name: str) -> bool:
    """Whether what is at a place begins as an envelope does, in bytes or as text; a link is followed.

    Raises:
        FileError: it cannot be read.
    """
    opened = locations.opened(name)
    with files.InputFile(opened, regular=True) if isinstance(opened, str) else opened as file:
        beginning = read_full(file, len(MAGIC))
    return beginning == MAGIC or beginning.startswith(PREFIX.encode())
