"""What a sealer does with a message of the AWS Encryption SDK.

All of a message is authentic before anything of it is released, except where it is read at any position: then each
frame is, and the size.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from sealwax._core import context as ctx
from sealwax._core import spooling
from sealwax._core.envelope import read_full
from sealwax._core.files import COPY_BYTES, WholeFile
from sealwax._core.foreign import passes
from sealwax._core.foreign.data_key import unwrap_foreign
from sealwax._core.foreign.esdk import random_access, whole, writing
from sealwax._core.foreign.esdk.header import PROVIDER_AWS_KMS, RESERVED, EsdkHeader, header_of, read_header
from sealwax._core.foreign.esdk.opening import OpenMessage
from sealwax._core.foreign.esdk.sizes import plaintext_bytes
from sealwax._core.foreign.inspections import MessageInspection
from sealwax._core.foreign.rules import ForeignRules
from sealwax._core.format.io import SeekableSource
from sealwax._core.format.stream import StreamReader, StreamWriter
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, Keyring, WrappedKey
from sealwax._core.sources import BytesLike
from sealwax._core.spooling import OnClose
from sealwax._foreign import Read, distinct
from sealwax._text import printable
from sealwax.errors import ContextError, KeyNotAllowedError

OF_MESSAGES: Final = ctx.Wording(
    "the message",
    "it was encrypted without it, or is bound to it without storing it, and then its name must be listed as unstored "
    "to read it",
    "unstored",
)

# Of a stream's body: enough for the claim of one that is not framed.
_KEPT_BYTES: Final = 64


def match(
    stored: Mapping[str, str], expected: ctx.ExpectedContext, unstored: frozenset[str] = frozenset()
) -> Mapping[str, str]:
    """Return the pairs that are bound and not stored, once the expected context fits that of a message.

    Raises:
        ContextError: it does not fit, or names a pair that is the format's own.
    """
    given = expected.given if isinstance(expected, ctx.AcceptStoredContext) else expected
    names = () if isinstance(given, ctx.NoContext) else given
    if not isinstance(given, ctx.NoContext):
        ctx.refuse_other_types(given)
    for name in (*names, *stored):
        if name.startswith(RESERVED):  # in exactly this case: in any other, it is the caller's
            raise ContextError(
                f"names of context pairs that begin with '{RESERVED}' are the AWS Encryption SDK's own, and "
                f"'{printable(name[:100])}' is one: pass the other pairs only"
            )
    return ctx.match(expected, stored, unstored, None, OF_MESSAGES)


def inspected(file: BinaryIO, start: int) -> MessageInspection:
    """Describe the message at ``start`` of a seekable file, which ends with the file.

    Raises:
        HeaderError: as for ``read_header``.
    """
    file.seek(start)
    header = read_header(lambda size: read_full(file, size))
    body = start + header.size

    def read(at: int, size: int) -> bytes:
        file.seek(body + at)
        return read_full(file, size)

    return _inspection(header, file.seek(0, os.SEEK_END) - body, read)


def inspected_stream(file: BinaryIO, first: bytes) -> MessageInspection:
    """Describe the message in a stream, which is read to its end.

    Args:
        first: the message's first bytes, which have been read already.
    """
    header = read_header(spooling.reading(file, first))
    head = read_full(file, _KEPT_BYTES)
    size = len(head)
    while part := file.read(COPY_BYTES):
        size += len(part)

    def read(at: int, wanted: int) -> bytes:
        # Nothing, rather than a part of it: where a signature begins is told by the end.
        return head[at : at + wanted] if at + wanted <= len(head) else b""

    return _inspection(header, size, read)


def _inspection(header: EsdkHeader, size: int, read: Read) -> MessageInspection:
    suite = header.suite
    return MessageInspection(
        format=f"esdk-v{suite.version}",
        suite=f"{suite.id:04x}",
        message_id=header.message_id,
        context=header.caller_context,
        wrapped_keys=header.wrapped_keys,
        others=distinct(key.provider for key in header.data_keys if key.provider != PROVIDER_AWS_KMS),
        signed=suite.signature is not None,
        frame_bytes=header.frame_length,
        allow_legacy=None if suite.committing else suite.name,
        payload_bytes=size,
        plaintext_bytes=plaintext_bytes(header, size, read),
        _all=tuple((key.provider, key.info, key.ciphertext) for key in header.data_keys),
    )


@dataclass(frozen=True, slots=True)
class MessageOpener:
    """Opens messages with the data keys of a keyring."""

    keyring: Keyring
    rules: ForeignRules

    def open(self, header: EsdkHeader, expected: ctx.ExpectedContext) -> OpenMessage:
        """Return the open message, once the expected context fits and KMS has unwrapped its data key.

        Raises:
            CommitmentError, ContextError, KmsError: as for ``Sealer.open``.
            UnsupportedEnvelopeError: it is in a suite that does not commit, and that the caller did not name.
        """
        suite = header.suite
        if not suite.committing:
            self.rules.check(suite.name, f"the message's suite, {suite.name},", "a message")
        unstored = match(header.caller_context, expected, self.rules.unstored)
        wrapped_keys = header.wrapped_keys
        if not wrapped_keys:
            others = ", ".join(sorted({f"'{printable(key.provider[:100])}'" for key in header.data_keys}))
            raise KeyNotAllowedError(f"no KMS key wrapped the message's data key, only {others}; KMS was not called")
        context = {**header.context, **unstored}
        if suite.key_bytes == DATA_KEY_BYTES:
            return self.keyring.unwrap(wrapped_keys, context, lambda key: OpenMessage(header, key, unstored))
        return unwrap_foreign(self.keyring, wrapped_keys, context, lambda key: OpenMessage(header, key, unstored))

    def decrypt(self, message: BytesLike, expected: ctx.ExpectedContext) -> bytes:
        with memoryview(message).cast("B") as view:
            header = header_of(view)
            opened = self.open(header, expected)
            try:
                return whole.decrypt_body(opened, view[header.size :])
            finally:
                opened.close()

    def stream(self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: OnClose, start: int) -> StreamReader:
        """Return a file of the plaintext of a seekable file, for one pass."""
        file.seek(start)
        header = read_header(lambda size: read_full(file, size))
        opened = self.open(header, expected)
        return passes.reader(cast("SeekableSource", file), start + header.size, opened, on_close, whole_first=True)

    def spooled(self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: OnClose, first: bytes) -> StreamReader:
        """Return a file of the plaintext of a message that can be read once only, for one pass.

        What is read is copied, still encrypted, to a temporary file without a name.

        Args:
            first: the message's first bytes, which have been read already.
        """
        header = read_header(spooling.reading(file, first))
        with contextlib.ExitStack() as undo:
            opened = self.open(header, expected)
            undo.callback(opened.close)
            spool = undo.enter_context(spooling.copied(file, "message"))
            close = spooling.closing(spool, on_close)
            reader = passes.reader(cast("SeekableSource", spool), 0, opened, close, whole_first=True)
            undo.pop_all()
            return reader

    def at_any_position(
        self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: OnClose, start: int
    ) -> io.RawIOBase:
        """Return a file of the plaintext of a seekable file: seekable too, if the message is framed and not signed."""
        file.seek(start)
        header = read_header(lambda size: read_full(file, size))
        opened = self.open(header, expected)
        source = cast("SeekableSource", file)
        if not opened.early:
            return passes.reader(source, start + header.size, opened, on_close)
        size = file.seek(0, os.SEEK_END) - start - header.size
        return random_access.FrameReader(source, start + header.size, size, opened, on_close)


@dataclass(frozen=True, slots=True)
class MessageSealer:
    """Writes messages in suite 0478, each under a new id, with the data keys of a keyring."""

    keyring: Keyring

    def encrypt(self, plaintext: BytesLike, *, context: Mapping[str, str] | ctx.NoContext) -> bytes:
        """Return a message.

        Raises:
            ContextError, KmsError: as for ``Sealer.encrypt``.
        """
        return writing.encrypt(self._begin(context, memoryview(plaintext).nbytes), plaintext)

    def open(self, sink: BinaryIO | WholeFile, *, context: Mapping[str, str] | ctx.NoContext) -> StreamWriter:
        """Return a file of plaintext that is written to ``sink`` as a message; ``sink`` is not closed.

        Raises:
            ContextError, KmsError: as for ``Sealer.open``.
        """
        encryptor = self._begin(context, None)
        return StreamWriter(sink, encryptor, lambda _: b"", room=encryptor.group_bytes)

    def _begin(self, context: Mapping[str, str] | ctx.NoContext, size: int | None) -> writing.MessageEncryptor:
        pairs = ctx.as_pairs(context)
        writing.encoded(pairs)  # what is refused needs no KMS call

        def use(key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> writing.MessageEncryptor:
            return writing.MessageEncryptor(key, pairs, wrapped_keys)

        return self.keyring.generate(pairs, use, plaintext_bytes=size)
