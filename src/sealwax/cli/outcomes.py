"""What is already at an output's place: nothing, the finished output of an earlier run, or something to leave alone.

An output counts as done if its header, its size and the time of its source say so. KMS is called only if a header is
not enough:

- to learn the ARNs of the keys that the run writes under, if one is named by an alias or an id: once, by a call that
  the run makes anyway;
- to decrypt an envelope (kms:Decrypt) that is newer than its source, has local pairs, or has a detached header: only
  then is it known whether it holds this data, has these pairs, or belongs to this payload.
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

from sealwax._core import context as ctx
from sealwax._core import files
from sealwax._core.envelope import Inspection, inspect
from sealwax._core.foreign.inspections import MessageInspection
from sealwax._core.format.header import ATTACHED, DETACHED
from sealwax._core.inspection import inspect as inspect_any
from sealwax._core.keyring import PROVIDER_AWS_KMS, Keyring, WrappedKey, kept_by_rewrap
from sealwax._core.moved import equal
from sealwax._text import printable
from sealwax.cli import console, locations
from sealwax.cli.state import current
from sealwax.errors import (
    CommitmentError,
    ContextError,
    DamagedHeaderError,
    FileError,
    HeaderError,
    KmsError,
    PayloadError,
    is_of_credentials,
)

CHANGED: Final = "with a changed source"
OTHER_KEY: Final = "under another key"
OTHER_CONTEXT: Final = "bound to another context"
INCOMPLETE: Final = "incomplete"
IN_THE_WAY: Final = "with an existing output"
UNKNOWN: Final = "unknown"
LINK: Final = "a link"

_ELSEWHERE: Final = "or write elsewhere with -o"
_OVERWRITE: Final = f"use --force to overwrite it, {_ELSEWHERE}"


class LeftAloneError(FileError):
    """A file that a run over several files leaves as it is.

    Attributes:
        outcome: why, as the summary counts it.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class OutputState(enum.Enum):
    """What an output needs."""

    ABSENT = enum.auto()
    DONE = enum.auto()
    OUTDATED = enum.auto()  # it may be replaced


@dataclass(frozen=True, slots=True)
class Origin:
    """The file or object that an output is made from.

    Args:
        size: in bytes.
        time_ns: its modification time in nanoseconds.
        changed_ns: its change time, which nobody can set back; None for an object.
    """

    size: int
    time_ns: int
    changed_ns: int | None


@dataclass(frozen=True, slots=True)
class Existing:
    """What is at an output's place.

    Attributes:
        time_ns: its modification time, which is that of its source; None for an object that does not record it.
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
        """Whether the origin was modified after this was made from it."""
        return origin.time_ns > (self.changed_ns if self.time_ns is None else self.time_ns)

    def may_be_older(self, origin: Origin) -> bool:
        """Whether the origin changed after this did, perhaps to a version with an older modification time."""
        return not self.is_of(origin) and origin.changed_ns is not None and origin.changed_ns > self.changed_ns


@dataclass(frozen=True, slots=True)
class Intended:
    """The envelope that a run would write.

    Args:
        kms_context: in canonical form.
        local_pairs: how many pairs are local.
        under: returns the ARNs of the keys that it would be under.
        names: those keys as the caller named them.
        open: opens an envelope under these keys, with the whole context; None if the run cannot.
    """

    kms_context: bytes
    local_pairs: int
    under: Callable[[], frozenset[str]]
    names: Sequence[str]
    open: Callable[[BinaryIO], AbstractContextManager[BinaryIO]] | None


class Under:
    """The ARNs of the keys that a run writes under; KMS is asked once to resolve aliases and ids.

    Attributes:
        known: the ARNs; None before KMS was asked.
    """

    def __init__(self, names: Sequence[str]) -> None:
        from sealwax.kms._names import parse_arn

        self.known = frozenset(names) if all(parse_arn(name) for name in names) else None
        self._lock = threading.Lock()

    def arns(self, ask: Callable[[], Iterable[str]]) -> frozenset[str]:
        """Return the ARNs; ``ask`` generates or re-wraps a data key, and returns those in KMS's answers."""
        with self._lock:
            if self.known is None:
                self.known = frozenset(ask())
            return self.known

    def arns_of(self, keyring: Keyring, context: Mapping[str, str]) -> frozenset[str]:
        """Return the ARNs, by generating a data key for a context; see ``arns``."""

        def ask() -> list[str]:
            ctx.check_new_keys(context)
            return keyring.generate(context, lambda _, keys: [key.key_arn for key in keys], plaintext_bytes=None)

        return self.arns(ask)


def look(name: str) -> Existing | None:
    """Return what is at a place; None for nothing. Links are not followed."""
    if locations.is_s3(name):
        facts = locations.there(name)
        return None if facts is None else Existing(name, *facts, functools.partial(_object, name))
    with files.reported("looking at", name):
        try:
            status = os.lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
    output, elsewhere = f"the output {_quoted(name)}", f"or write elsewhere with {current().elsewhere}"
    if stat.S_ISLNK(status.st_mode):
        raise LeftAloneError(LINK, f"{output} is a link, and links are not followed; remove it, {elsewhere}")
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise LeftAloneError(IN_THE_WAY, f"{output} is {kind}; move it away, {elsewhere}")
    return Existing(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, functools.partial(_file, name))


def _quoted(name: str) -> str:
    return f"'{console.shown(name)}'"


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


def of_plaintext(output: str, origin: Origin, size: int, *, update: bool) -> OutputState:
    """Return what the plaintext of an envelope needs; it has ``size`` bytes, according to the envelope."""
    existing = look(output)
    if existing is None:
        return OutputState.ABSENT
    name = _quoted(output)
    if existing.is_of(origin):
        if existing.size == size:
            return OutputState.DONE
    elif existing.is_older(origin):
        return _outdated(name, update)
    if existing.size < size:
        raise LeftAloneError(INCOMPLETE, f"{name} has {existing.size} of its {size} bytes; {_OVERWRITE}")
    if existing.size > size:
        why = f"is a different file: it has {existing.size} bytes, and the plaintext {size}"
    else:
        why = "is newer than the envelope, and may have been edited"
    raise LeftAloneError(IN_THE_WAY, f"{name} {why}; {_OVERWRITE}")


def of_range(output: str) -> OutputState:
    """Return what a part of a plaintext needs; two parts cannot be told apart."""
    if look(output) is None:
        return OutputState.ABSENT
    raise LeftAloneError(IN_THE_WAY, f"{_quoted(output)} already exists, and may be another range; {_OVERWRITE}")


def of_envelope(
    output: str,
    origin: Origin,
    intended: Intended,
    source: BinaryIO,
    size: int,
    *,
    armor: bool = False,
    detached: str | None = None,
    update: bool | None = None,
) -> OutputState:
    """Return what the envelope of a file needs.

    Args:
        source: the origin, open; it is read if an envelope has to be compared with it.
        size: how many bytes of plaintext the envelope is to hold.
        detached: where its header is; None if it is in ``output``.
        update: whether an envelope is replaced if its source has changed since; None if the verb has no --update.
    """
    existing = look(output)
    header = None if detached is None else look(detached)
    if existing is None and header is None:
        return OutputState.ABSENT
    name, again = _quoted(output), f"use --force to encrypt it again, {_ELSEWHERE}"
    if existing is None or (detached is not None and header is None):
        raise LeftAloneError(INCOMPLETE, f"only one of {name} and {_quoted(detached or '')} exists; {again}")
    with existing.open() as file:
        if header is None:
            inspection, envelope = _inspected(existing, file, ATTACHED, armor, again)
        else:
            with header.open() as header_file:
                inspection, envelope = _inspected(header, header_file, DETACHED, False, again)[0], file
            inspection = replace(inspection, payload_bytes=existing.size)
        preamble = inspection.header.preamble
        if (preamble.kms_context, preamble.local_pairs) != (intended.kms_context, intended.local_pairs):
            raise _other_context(name, again)
        if _is_outdated(existing, origin, inspection.plaintext_bytes, size, again):
            return _outdated(name, update)
        keys = intended.under()
        _check_keys(output, inspection, (), keys, intended.names, again, can_rewrap=header is None, armor=armor)
        # Neither a payload nor its detached header says that they belong together.
        if intended.local_pairs or detached is not None or not existing.is_of(origin):
            return _opened(existing, origin, intended, source, envelope, again, detached, update)
    return OutputState.DONE


def of_message(
    output: str,
    origin: Origin,
    intended: Intended,
    source: BinaryIO,
    size: int,
    *,
    armor: bool = False,
    update: bool | None = None,
) -> OutputState:
    """Return what the message of the AWS Encryption SDK for a file needs; see ``of_envelope``."""
    existing = look(output)
    if existing is None:
        return OutputState.ABSENT
    name, again = _quoted(output), f"use --force to encrypt it again, {_ELSEWHERE}"
    with existing.open() as file:
        message = file
        try:
            if armor:
                message = io.BytesIO(locations.text_form(file))
            inspection = inspect_any(message)
        except DamagedHeaderError as error:
            raise LeftAloneError(INCOMPLETE, f"{name} is damaged or cut off: {error}; {again}") from None
        except HeaderError as error:
            raise _not_comparable(name, str(error)) from None
        if not isinstance(inspection, MessageInspection):
            raise _not_comparable(name, "it is not a message of the AWS Encryption SDK")
        if ctx.encode(inspection.context) != intended.kms_context:
            raise _other_context(name, again)
        if _is_outdated(existing, origin, inspection.plaintext_bytes, size, again):
            return _outdated(name, update)
        arns = {key.key_arn for key in inspection.wrapped_keys}
        if arns != intended.under() or inspection.others:
            now = _listed((*sorted(arns), *inspection.others))
            raise LeftAloneError(OTHER_KEY, f"{name} is under {now}, not under {_listed(intended.names)}; {again}")
        if not existing.is_of(origin):
            return _opened(existing, origin, intended, source, message, again, None, update)
    return OutputState.DONE


def _is_outdated(existing: Existing, origin: Origin, held: int | None, size: int, again: str) -> bool:
    """Whether the origin has changed since; ``held`` is how many bytes of plaintext there are now.

    Raises:
        LeftAloneError: it has not, and there is something else than it.
    """
    if existing.is_older(origin) or (held != size and existing.may_be_older(origin)):
        return True
    name = _quoted(existing.name)
    if held is None or held < size:
        why = f"{name} holds fewer than {size} bytes: it is cut off, or of a smaller file"
        raise LeftAloneError(INCOMPLETE, f"{why}; {again}")
    if held > size:
        why = f"{name} is of a different file: it holds {held} bytes, not {size}"
        raise LeftAloneError(IN_THE_WAY, f"{why}; {again}")
    return False


def _opened(
    existing: Existing,
    origin: Origin,
    intended: Intended,
    source: BinaryIO,
    sealed: BinaryIO,
    again: str,
    detached: str | None,
    update: bool | None,
) -> OutputState:
    """Return what is needed according to the plaintext, since nothing else tells."""
    try:
        _check_opened(existing, origin, intended, source, sealed, again, detached)
    except LeftAloneError as error:
        if error.outcome in (IN_THE_WAY, UNKNOWN) and existing.may_be_older(origin):
            source.seek(0)  # it was read to be compared
            return _outdated(_quoted(existing.name), update)
        raise
    return OutputState.DONE


def of_rewrapped(
    output: str,
    source: Inspection,
    under: Callable[[], frozenset[str]],
    names: Sequence[str],
    *,
    armor: bool,
) -> OutputState:
    """Return what a re-wrapped copy of ``source`` needs; it has the same id, context and payload."""
    existing = look(output)
    if existing is None:
        return OutputState.ABSENT
    name, again = _quoted(output), f"use --force to write it again, {_ELSEWHERE}"
    mine = source.header.preamble
    with existing.open() as file:
        inspection, _ = _inspected(existing, file, mine.kind, armor, again)
    theirs = inspection.header.preamble
    if (mine.envelope_id, mine.kms_context, mine.local_pairs) != (
        theirs.envelope_id,
        theirs.kms_context,
        theirs.local_pairs,
    ):
        raise LeftAloneError(IN_THE_WAY, f"{name} is a different envelope; {again}")
    if inspection.payload_bytes != source.payload_bytes:
        raise LeftAloneError(INCOMPLETE, f"{name} is cut off, or has extra bytes at its end; {again}")
    kept = kept_by_rewrap(source.wrapped_keys)
    _check_keys(output, inspection, kept, under(), names, again, can_rewrap=True, armor=armor)
    return OutputState.DONE


def _outdated(name: str, update: bool | None) -> OutputState:
    """Allow an output to be replaced if --update was given; ``update`` is None if the verb has no such option."""
    if update:
        return OutputState.OUTDATED
    option = "--force" if update is None else "--update"
    raise LeftAloneError(
        CHANGED, f"it has changed since {name} was made; use {option} to overwrite {name}, {_ELSEWHERE}"
    )


def _other_context(name: str, again: str) -> LeftAloneError:
    why = f"{name} is bound to a different context from the one given (`sealwax inspect` shows it); {again}"
    return LeftAloneError(OTHER_CONTEXT, why)


def _not_comparable(name: str, why: str) -> LeftAloneError:
    return LeftAloneError(IN_THE_WAY, f"{name} already exists, but cannot be compared: {why}; rename it, {_OVERWRITE}")


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(f"'{printable(key)}'" for key in keys)


def _inspected(existing: Existing, file: BinaryIO, kind: int, armor: bool, again: str) -> tuple[Inspection, BinaryIO]:
    """Return an envelope's header, and its bytes."""
    name = _quoted(existing.name)
    try:
        if armor:
            file = io.BytesIO(locations.text_form(file))
        inspection = inspect(file)
    except DamagedHeaderError as error:
        raise LeftAloneError(INCOMPLETE, f"{name} is damaged or cut off: {error}; {again}") from None
    except HeaderError as error:
        raise _not_comparable(name, str(error)) from None
    if inspection.header.preamble.kind != kind:
        header = "its header inside" if kind == DETACHED else "a detached header"
        raise LeftAloneError(IN_THE_WAY, f"{name} is an envelope with {header}; {again}")
    return inspection, file


def _check_keys(
    output: str,
    inspection: Inspection,
    kept: tuple[WrappedKey, ...],
    under: frozenset[str],
    names: Sequence[str],
    again: str,
    *,
    can_rewrap: bool,
    armor: bool,
) -> None:
    """Refuse an envelope that is not wrapped by exactly these KMS keys and the keys of other providers in ``kept``."""
    arns = [key.key_arn for key in inspection.wrapped_keys if key.provider == PROVIDER_AWS_KMS]
    if inspection.header.finished and set(arns) == under and kept_by_rewrap(inspection.wrapped_keys) == kept:
        return
    name = _quoted(output)
    now, wanted = _listed(key.key_arn for key in inspection.wrapped_keys), _listed(names)
    why = f"{name} is under {now}, not under {wanted}"
    if not inspection.header.finished:
        why = f"a re-wrap of {name} to {now} was interrupted, and this run is to {wanted}"
    if can_rewrap and arns and not (armor and locations.is_s3(output)):
        words = [*(word for arn in arns for word in ("-k", arn)), *(word for to in names for word in ("--to", to))]
        words += ["--accept-stored-context", *(["--armor"] if armor else []), "--", output]
        command = " ".join(shlex.quote(printable(word)) for word in ("sealwax", "rewrap", *words))
        # The command trusts the keys that the file names, which may be a lie.
        again = f"if you trust the keys it is under, move it with `{command}`; otherwise {again}"
    raise LeftAloneError(OTHER_KEY, f"{why}; {again}")


def _check_opened(
    existing: Existing,
    origin: Origin,
    intended: Intended,
    source: BinaryIO,
    envelope: BinaryIO,
    again: str,
    detached: str | None,
) -> None:
    """Refuse an envelope that has other local pairs or another header, or holds other data than its source."""
    name = _quoted(existing.name)
    unknown = f"whether {name} holds this data"
    if intended.open is None:
        raise LeftAloneError(UNKNOWN, f"{unknown} is unknown without decrypting it; {again}")
    envelope.seek(0)
    try:
        with intended.open(envelope) as plaintext:
            same = existing.is_of(origin) or equal(plaintext, source)
    except (CommitmentError, ContextError) as error:
        if detached is not None and isinstance(error, CommitmentError):
            why = f"{name} and the header {_quoted(detached)} do not belong together"
            if intended.local_pairs:
                why += ", or have other local pairs"
            raise LeftAloneError(INCOMPLETE, f"{why}; {again}") from None
        raise _other_context(name, again) from None
    except PayloadError as error:
        raise LeftAloneError(INCOMPLETE, f"{name} is damaged: {error}; {again}") from None
    except KmsError as error:
        if is_of_credentials(error):
            raise  # the same is true of every other file
        why = f"{unknown} is unknown without decrypting it; {again}. Decrypting it failed: {error}"
        raise LeftAloneError(UNKNOWN, why) from error
    if not same:
        raise LeftAloneError(IN_THE_WAY, f"{name} is newer than its source, and holds other data; {again}")
