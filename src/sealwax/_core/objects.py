"""What a sealer does with an object of the S3 Encryption Client.

Nothing of such an object is authentic before its end, so nothing is released before that: it is read twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast, runtime_checkable

from sealwax._core import context as ctx
from sealwax._core.envelope import metadata_of
from sealwax._core.foreign import passes
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.foreign.s3ec.fields import RESERVED, ObjectFields, object_fields
from sealwax._core.foreign.s3ec.opening import OpenObject
from sealwax._core.format.io import SeekableSource
from sealwax._core.format.stream import StreamReader
from sealwax._core.keyring import Keyring, UnnamedKey
from sealwax._text import printable
from sealwax.errors import ContextError, UnsupportedEnvelopeError


@runtime_checkable
class HasInstructions(Protocol):
    """A file of a store that keeps an object's instruction file beside it."""

    def instructions(self) -> bytes | None:
        """Return the content of the instruction file; None if there is none."""


def fields_of(file: object) -> ObjectFields:
    """Return how an object that is open as a file was encrypted, by its metadata and its instruction file.

    Raises:
        HeaderError: as for ``object_fields``.
    """
    instructions = file.instructions() if isinstance(file, HasInstructions) else None
    return object_fields(metadata_of(file), instructions)


def match(fields: ObjectFields, expected: ctx.ExpectedContext, unstored: frozenset[str] = frozenset()) -> None:
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
    ctx.match(expected, fields.caller_context, unstored, None)


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
        name = fields.legacy_name
        if name is not None and name not in self.rules.legacy:
            raise UnsupportedEnvelopeError(
                "the object does not commit to its data key: someone who can choose the data key can make an object "
                f"that opens differently for two readers; to read it, allow {name} by name"
            )
        OpenObject.check(fields, size)  # needs no KMS call
        match(fields, expected)
        wrapped = UnnamedKey("", fields.wrapped_key)
        context: Mapping[str, str] = fields.context
        return self.keyring.unwrap((wrapped,), context, lambda key: OpenObject(fields, key, size))

    def stream(
        self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: Callable[[], None] | None, start: int
    ) -> StreamReader:
        """Return a file of the plaintext of an object that is open as a file, for one pass."""
        size = file.seek(0, os.SEEK_END) - start
        opened = self.open(fields_of(file), size, expected)
        return passes.reader(cast("SeekableSource", file), start, opened, on_close)
