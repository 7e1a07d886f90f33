"""What a sealer does with a file of a script that encrypts: ENVKMS01, and the one of the boto3 guide."""

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
from sealwax._core.foreign import passes
from sealwax._core.foreign.rules import BOTO3_FERNET, ENVKMS, ForeignRules
from sealwax._core.foreign.scripts import OpenScript, ScriptHeader, read_header
from sealwax._core.format.io import SeekableSource
from sealwax._core.format.stream import StreamReader
from sealwax._core.keyring import Keyring, UnnamedKey
from sealwax._core.sources import BytesLike
from sealwax._core.spooling import OnClose
from sealwax.errors import ContextError, NotAnEnvelopeError

_OF_FILES: Final = ctx.Wording("the file", "it was encrypted without it")


def is_script(error: NotAnEnvelopeError, rules: ForeignRules) -> bool:
    """Whether a file that is no envelope is one of a script's, by its bytes and against nothing else."""
    if error.foreign is None or error.foreign.inside:
        return False
    name = error.foreign.format
    return name == ENVKMS or (name == BOTO3_FERNET and BOTO3_FERNET in rules.legacy)


@dataclass(frozen=True, slots=True)
class ScriptOpener:
    """Opens files of scripts with the data keys of a keyring."""

    keyring: Keyring
    rules: ForeignRules

    def open(self, header: ScriptHeader, expected: ctx.ExpectedContext) -> OpenScript:
        """Return the open file, once the expected context fits and KMS has unwrapped its data key.

        Raises:
            ContextError, KmsError: as for ``Sealer.open``.
            UnsupportedEnvelopeError: the caller did not name its format.
        """
        self.rules.check(header.format, f"a file in the format {header.format}", "a file")
        given = expected.given if isinstance(expected, ctx.AcceptStoredContext) else expected
        if header.format == BOTO3_FERNET and isinstance(given, Mapping) and given:
            raise ContextError("a file of the boto3 guide is bound to no context: say so instead of giving one")
        ctx.match(expected, header.context, (), None, _OF_FILES)
        wrapped = UnnamedKey("", header.wrapped_key)
        return self.keyring.unwrap((wrapped,), header.context, lambda key: OpenScript(header, key))

    def decrypt(self, data: BytesLike, expected: ctx.ExpectedContext) -> bytes:
        with self.stream(io.BytesIO(data), expected, None, 0) as reader:
            return reader.read()

    def stream(self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: OnClose, start: int) -> StreamReader:
        """Return a file of the plaintext of a seekable file, for one pass."""
        file.seek(start)
        header = read_header(lambda size: read_full(file, size))
        size = file.seek(0, os.SEEK_END) - start - header.size
        header.check_body(size)
        opened = self.open(header, expected)
        opened.size = size
        return passes.reader(cast("SeekableSource", file), start + header.size, opened, on_close)

    def spooled(self, file: BinaryIO, expected: ctx.ExpectedContext, on_close: OnClose, first: bytes) -> StreamReader:
        """Return a file of the plaintext of what can be read once only, for one pass.

        What is read is copied, still encrypted, to a temporary file without a name.

        Args:
            first: its first bytes, which have been read already.
        """
        header = read_header(spooling.reading(file, first))
        with contextlib.ExitStack() as undo:
            opened = self.open(header, expected)
            undo.callback(opened.close)
            spool = undo.enter_context(spooling.copied(file, "file"))
            opened.size = spool.tell()
            close = spooling.closing(spool, on_close)
            reader = passes.reader(cast("SeekableSource", spool), 0, opened, close)
            undo.pop_all()
            return reader
