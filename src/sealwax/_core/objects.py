"""What a sealer does with an object of the S3 Encryption Client.

Nothing of such an object is authentic before its end, so nothing is released before that: it is read twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, cast, runtime_checkable

from sealwax._core import context as ctx
from sealwax._core.envelope import metadata_of
from sealwax._core.foreign import passes
from sealwax._core.foreign.data_key import rewrap_to, rewrapped_within
from sealwax._core.foreign.gcm import TAG_BYTES
from sealwax._core.foreign.inspections import ObjectInspection
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.foreign.s3ec.fields import CBC, KMS_KEY_ID, RESERVED, ObjectFields, object_fields
from sealwax._core.foreign.s3ec.opening import OpenObject
from sealwax._core.format.io import SeekableSource
from sealwax._core.format.stream import StreamReader
from sealwax._core.keyring import Keyring, UnnamedKey
from sealwax._core.recognize.s3ec import INSTRUCTIONS
from sealwax._text import printable
from sealwax.errors import (
    AllKeysFailedError,
    ConfigurationError,
    ContextError,
    KmsError,
    NotAnEnvelopeError,
    WrongKeyError,
)

_OF_OBJECTS: Final = ctx.Wording("the object", "it was encrypted without it")


@runtime_checkable
class HasInstructions(Protocol):
    """A file of a store that keeps an object's instruction file beside it."""

    def instructions(self) -> bytes | None:
        """Return the content of the instruction file; None if there is none."""


def claims_object(error: NotAnEnvelopeError) -> bool:
    """Whether what is no envelope is an object of this format by its metadata, and by nothing else another."""
    return (
        error.foreign is not None and error.foreign.format.startswith("s3ec") and error.foreign.format != INSTRUCTIONS
    )


def is_object(error: NotAnEnvelopeError, file: object) -> bool:
    """Whether a file that is no envelope is an object of this format, by its metadata or its instruction file."""
    if error.foreign is not None:
        return claims_object(error)
    # Version 2 may leave no mark on the object itself.
    return isinstance(file, HasInstructions) and file.instructions() is not None


def fields_of(file: object) -> ObjectFields:
    """Return how an object that is open as a file was encrypted, by its metadata and its instruction file.

    Raises:
        HeaderError: as for ``object_fields``.
    """
    instructions = file.instructions() if isinstance(file, HasInstructions) else None
    return object_fields(metadata_of(file), instructions)


def inspected(file: BinaryIO, size: int) -> ObjectInspection:
    """Describe an object that is open as a file.

    Args:
        size: the object's size in bytes.

    Raises:
        HeaderError: as for ``object_fields``.
    """
    fields = fields_of(file)
    plaintext = size - TAG_BYTES if fields.cipher != CBC and size >= TAG_BYTES else None
    return ObjectInspection(
        format=f"s3ec-v{fields.version}",
        cipher=fields.cipher,
        wrapping=fields.wrapping,
        context=fields.caller_context,
        wrapped_keys=(UnnamedKey(fields.context.get(KMS_KEY_ID, ""), fields.wrapped_key),),
        instruction_file=fields.in_instructions,
        allow_legacy=fields.legacy_name if fields.cipher != CBC else None,
        payload_bytes=size,
        plaintext_bytes=plaintext,
    )


def match(stored: Mapping[str, str], expected: ctx.ExpectedContext) -> None:
    """Compare the expected context with that of an object.

    Raises:
        ContextError: it does not fit, or names a pair that is the format's own.
    """
    given = expected.given if isinstance(expected, ctx.AcceptStoredContext) else expected
    for name in () if isinstance(given, ctx.NoContext) else given:
        if name in RESERVED:
            raise ContextError(
                f"the context pair '{printable(name)}' is the S3 Encryption Client's own: pass the other pairs only"
            )
    if isinstance(expected, ctx.ContextPatterns):
        expected = expected.matching(stored)
    ctx.match(expected, stored, (), None, _OF_OBJECTS)


def is_already_under(keyring: Keyring, fields: ObjectFields, key: str, *, current: bool) -> bool:
    """Return whether KMS says that an object's data key is under a key; False if it says nothing.

    Raises:
        WrongKeyError: with ``current``, it is under older material of that key.
    """
    try:
        new = rewrapped_within(keyring, fields.wrapped_key, fields.context, key)
    except KmsError as error:
        if error.retryable:
            raise
        return False
    if current and new not in (None, fields.wrapped_key):
        raise WrongKeyError(
            f"the data key is under older key material of '{printable(key)}', which is not among the allowed keys: to "
            "re-wrap it to the current material, allow that key too"
        )
    return new is not None


def _of_other_keys(error: KmsError) -> bool:
    """Whether KMS refused a wrapped key only because other keys than those tried wrapped it."""
    causes = [cause for _, cause in error.attempts] if isinstance(error, AllKeysFailedError) else [error]
    return all(isinstance(cause, WrongKeyError) for cause in causes)


@dataclass(frozen=True, slots=True)
class ObjectOpener:
    """Opens objects with the data keys of a keyring."""

    keyring: Keyring
    rules: ForeignRules

    def open(self, fields: ObjectFields, size: int, expected: ctx.ExpectedContext) -> OpenObject:
        """Return the open object, once the expected context fits and KMS has unwrapped its data key.

        Raises:
            CommitmentError, ContextError, KmsError: as for ``Sealer.open``.
            UnsupportedEnvelopeError: it does not commit to its data key and the caller did not name it, or it is
                encrypted with CBC.
        """
        # It needs no KMS call, and comes first: what nothing can open is not read by naming it either.
        OpenObject.check(fields, size)
        if fields.legacy_name is not None:
            self.rules.check(fields.legacy_name, "the object", "an object")
        match(fields.caller_context, expected)
        wrapped = UnnamedKey("", fields.wrapped_key)
        context: Mapping[str, str] = fields.context
        return self.keyring.unwrap((wrapped,), context, lambda key: OpenObject(fields, key, size))

    def fields_before_kms(
        self, fields: ObjectFields, expected: ctx.ExpectedContext, targets: Sequence[str]
    ) -> dict[str, str]:
        """Return the fields that a re-wrap changes as far as that is known now; the wrapped key stays.

        Raises:
            ConfigurationError, ContextError: as for ``rewrap``.
        """
        if len(targets) != 1:
            raise ConfigurationError("an object of the S3 Encryption Client has one wrapped key: name one new KMS key")
        match(fields.caller_context, expected)
        return fields.changed(fields.wrapped_key, fields.context_under(targets[0]))

    def rewrap(
        self,
        fields: ObjectFields,
        file: Callable[[], BinaryIO],
        expected: ctx.ExpectedContext,
        targets: Sequence[str],
        *,
        verify: bool,
        current: bool = False,
    ) -> dict[str, str]:
        """Return the fields of an object that change once its data key is under another KMS key.

        They are none if KMS says that it is under that key already; with ``current``, under its current material.

        Raises:
            ContextError, KmsError: as for ``Sealer.rewrap``.
            TamperedError, CommitmentError, UnsupportedEnvelopeError: with ``verify``, the object does not open.
            ConfigurationError: there is not exactly one target.
        """
        self.fields_before_kms(fields, expected, targets)
        if verify:
            self._verify(fields, file)
        context = fields.context_under(targets[0])
        wrapped = (UnnamedKey("", fields.wrapped_key),)
        try:
            (new,) = rewrap_to(self.keyring, wrapped, fields.context, targets, context)
        except KmsError as error:
            asks = not verify and _of_other_keys(error)
            if asks and is_already_under(self.keyring, fields, targets[0], current=current):
                return {}
            raise
        if new.ciphertext == fields.wrapped_key:
            return {}  # one of the allowed keys is the target
        return fields.changed(new.ciphertext, context)

    def _verify(self, fields: ObjectFields, file: Callable[[], BinaryIO]) -> None:
        with file() as source:
            size = source.seek(0, os.SEEK_END)
            OpenObject.check(fields, size)
            wrapped = (UnnamedKey("", fields.wrapped_key),)
            opened = self.keyring.unwrap(wrapped, fields.context, lambda key: OpenObject(fields, key, size))
            try:
                # Version 3 commits to its data key: the metadata is enough to tell that it is the object's own.
                if fields.version == 2:
                    source.seek(0)
                    passes.check(cast("SeekableSource", source), opened)
            finally:
                opened.close()

    def stream(
        self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: Callable[[], None] | None, start: int
    ) -> StreamReader:
        """Return a file of the plaintext of an object that is open as a file, for one pass."""
        size = file.seek(0, os.SEEK_END) - start
        opened = self.open(fields_of(file), size, expected)
        return passes.reader(cast("SeekableSource", file), start, opened, on_close)
