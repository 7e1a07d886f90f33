"""Files of other formats in a fleet: what a scan says of one, and where its envelope goes.

A message of the AWS Encryption SDK and a file of a script cannot be re-wrapped, only opened and sealed again. A plan
that moves does so with objects of the S3 Encryption Client too. The originals stay.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from sealwax._core import context as ctx
from sealwax._core import files, moved, moving
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.foreign.rules import FAMILIES, LEGACY, ForeignRules
from sealwax._core.format.header import ENVELOPE_ID_BYTES
from sealwax._core.moving import Movable
from sealwax._core.recognize.s3ec import INSTRUCTIONS
from sealwax._text import printable
from sealwax.errors import ContextError, FileError, HeaderError, SealwaxError
from sealwax.fleet import _client_objects
from sealwax.fleet._settings import Move, Settings
from sealwax.fleet._state import ForeignDecision, State
from sealwax.stores._files import FileStore
from sealwax.stores._store import S3_SCHEME, MakesObjects, Store, is_gone, relative

NOT_MOVED: Final = "it cannot be re-wrapped, only moved into an envelope, and the plan does not move"


def is_asked_for(format_name: str, settings: Settings) -> bool:
    """Whether files of a format are moved by a plan, or counted as what could be."""
    asked = (name for name in settings.also if settings.move or name != _client_objects.NAME)
    return format_name.startswith(tuple(asked))


def is_family(word: str) -> bool:
    """Whether a word says what an object is, and not why an envelope is stale."""
    return word.startswith(FAMILIES)


def may_be_asked_for(format_name: str, settings: Settings) -> bool:
    """Whether to look closer at a file that is recognized as this format, or as none ("")."""
    if not format_name:
        return any(is_asked_for(name, settings) for name in FAMILIES)
    return is_asked_for(format_name, settings)


def is_refused(format_name: str, settings: Settings) -> bool:
    """Whether a plan counts files of a format, and does not move them."""
    return settings.move is None and belongs(format_name) and is_asked_for(format_name, settings)


def belongs(format_name: str) -> bool:
    """Whether a file of a format stands for itself: an instruction file belongs to another object."""
    return format_name not in ("", INSTRUCTIONS)


def notes_on(format_name: str) -> list[str]:
    """Return what files of a format have and their envelopes have not, and what they lack."""
    signed = any(suite.name == format_name and suite.signature is not None for suite in SUITES.values())
    notes = ["signed: the signature is verified, and the envelope has none"] if signed else []
    return notes + ["does not commit to its data key"] * (format_name in LEGACY)


def rules_of(settings: Settings) -> ForeignRules:
    """Return what a plan allows of other formats."""
    return ForeignRules() if settings.move is None else settings.move._rules


def decide(movable: Movable, settings: Settings, relpath: str) -> ForeignDecision:
    """Return what to do with a file, as far as it says itself. Pure."""
    try:
        context = ctx.encode(movable.context)
    except ContextError as error:
        return ForeignDecision(State.REFUSED, f"it cannot become an envelope: {error}")
    refused = settings.contexts.refusal(movable.context, relpath)
    if refused is not None:
        return ForeignDecision(State.SKIPPED, refused, context)
    if settings.move is None:
        return ForeignDecision(State.REFUSED, NOT_MOVED, context)
    reason = _refusal(movable, settings.move)
    if reason:
        return ForeignDecision(State.REFUSED, reason, context)
    try:
        ctx.check_new_keys(movable.context, {})
    except ContextError as error:
        return ForeignDecision(State.REFUSED, f"it cannot become an envelope: {error}", context)
    return ForeignDecision(State.STALE, "", context)


def _refusal(movable: Movable, move: Move) -> str:
    """Return all that keeps a plan from moving a file that could be moved; "" if nothing does."""
    reasons = []
    refusal = moving.refusal(movable, move._rules, drop_signature=move.drop_signature)
    if refusal is not None and refusal.signature:
        reasons.append(f"{refusal.why}; the plan drops no signatures")
        refusal = moving.refusal(movable, move._rules, drop_signature=True)
    if refusal is not None:
        reasons.append(f"{refusal.why}; the plan does not allow that format by name")
    return "; and ".join(reasons)


def id_of_mark(mark: str) -> bytes:
    """Return what a file can be told by, in place of an envelope's id."""
    return hashlib.sha256(mark.encode()).digest()[:ENVELOPE_ID_BYTES]


class Targets:
    """Where the envelopes of a plan go.

    Args:
        settings: the plan's; it moves.
        open_location: opens the store at a location.
    """

    def __init__(self, settings: Settings, open_location: Callable[[str], Store]) -> None:
        assert settings.move is not None
        self._into = settings.move.into
        self._suffix = settings.contexts.suffix
        self._open = functools.cache(open_location)

    def name_of(self, store: Store, name: str) -> str:
        """Return the name of the envelope of a file in a store."""
        if self._into is None:
            return name + self._suffix
        location = store.location
        if location.startswith(S3_SCHEME) and name.startswith(location):
            location = location[: location.rindex("/") + 1]  # a prefix may end within a name
        return f"{self._into.rstrip('/')}/{relative(name, location)}{self._suffix}"

    def envelope_id(self, store: Store, target: str) -> bytes | None:
        """Return the id of the envelope at a target's place; b"" if something else is there, None for nothing.

        Raises:
            SealwaxError: it cannot be read.
        """
        try:
            return self._store(store).inspect(target).header.preamble.envelope_id
        except HeaderError:
            return b""
        except SealwaxError as error:
            if is_gone(error):
                return None
            raise

    def open(self, store: Store, target: str) -> BinaryIO:
        """Open an envelope."""
        return self._store(store).open(target)

    def create(self, store: Store, target: str, source: BinaryIO, size: int) -> BinaryIO | files.WholeFile:
        """Return a file that appears whole at a target's place, at the end of its ``with`` block.

        Args:
            source: the open file that it is made of, which gives it its mode.
            size: about how many bytes it will have.

        Raises:
            FileError: something is there already, or it cannot be written.
        """
        if self._into is not None and not self._into.startswith(S3_SCHEME):
            with files.folder_of(target, self._into, make=True):
                pass  # a store can only be opened of a folder that exists
        place = self._store(store)
        if not isinstance(place, MakesObjects):
            raise FileError(f"'{printable(place.location)}' holds no envelopes as files")
        mode = None if isinstance(source, moved.StoredObject) else os.fstat(source.fileno()).st_mode
        return place.create(target, size=size, mode=mode)

    def _store(self, store: Store) -> Store:
        if self._into is not None:
            return self._open(self._into if not self._into.startswith(S3_SCHEME) else self._into.rstrip("/") + "/")
        if isinstance(store, FileStore) and not Path(store.location).is_dir():
            # A single file: its envelope is next to it.
            return self._open(str(Path(store.location).parent))
        return store
