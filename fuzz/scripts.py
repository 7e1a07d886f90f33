"""Files of scripts under a fixed data key, ENVKMS01 and the one of the boto3 guide, against plain ``cryptography``.

Nobody guesses a tag, so the body of an input is also tried with the tag, or the HMAC, that it needs.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import io
import json
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core.foreign import passes
from sealwax._core.foreign.rules import BOTO3_FERNET, ENVKMS_MAGIC, LONGEST_BLOB
from sealwax._core.foreign.scripts import OpenScript, ScriptHeader, read_header
from sealwax._core.keyring import DataKey
from sealwax.errors import HeaderError, PayloadError

KEY: Final = bytes(range(32))
_MOST_BYTES: Final = len(ENVKMS_MAGIC) + 4 + LONGEST_BLOB + 4 + (1 << 16) + 12
_FERNET: Final = Fernet(base64.urlsafe_b64encode(KEY))


def check(data: bytes) -> None:
    header = _read(data)
    if header is None:
        return
    body = data[header.size :]
    if header.format == BOTO3_FERNET:
        _tokens(header, body)
        return
    aead = AESGCM(KEY)
    for sealed in (body, aead.encrypt(header.nonce, body, None)):
        try:
            expected: bytes | None = aead.decrypt(header.nonce, sealed, None)
        except (InvalidTag, ValueError):
            expected = None
        assert _opened(header, sealed) == expected


def _read(data: bytes) -> ScriptHeader | None:
    asked = 0
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        nonlocal asked
        asked += size
        return source.read(size)

    try:
        header = read_header(read)
    except HeaderError:
        return None
    finally:
        assert asked <= _MOST_BYTES, "more was asked for than the largest header has"
    assert asked == header.size, "a header is read to its end and no further"
    sized = len(header.wrapped_key).to_bytes(4, "big") + header.wrapped_key
    if header.format == BOTO3_FERNET:
        assert data[: header.size] == sized
        return header
    assert data.startswith(ENVKMS_MAGIC + sized)
    text = json.dumps(dict(header.context)).encode()
    again = ENVKMS_MAGIC + sized + len(text).to_bytes(4, "big") + text + header.nonce
    assert read_header(io.BytesIO(again).read).context == header.context
    return header


def _tokens(header: ScriptHeader, token: bytes) -> None:
    """What is read is what ``Fernet`` reads, which also takes what is not base64; a whole token is read by both."""
    for whole in (None, *_authentic(token)):
        try:
            expected: bytes | None = _FERNET.decrypt(token if whole is None else whole)
        except InvalidToken:
            expected = None
        found = _opened(header, token if whole is None else whole)
        assert found == expected or (whole is None and found is None)


def _authentic(token: bytes) -> Iterator[bytes]:
    """Yield a token with the HMAC that it needs, if it is one."""
    try:
        data = binascii.a2b_base64(token.translate(bytes.maketrans(b"-_", b"+/")), strict_mode=True)
    except binascii.Error:
        return
    if len(data) >= 25 + 32:
        yield base64.urlsafe_b64encode(data[:-32] + hmac.digest(KEY[:16], data[:-32], "sha256"))


def _opened(header: ScriptHeader, body: bytes) -> bytes | None:
    try:
        header.check_body(len(body))
        with DataKey(bytearray(KEY)) as data_key:
            opened = OpenScript(header, data_key)
        opened.size = len(body)
        with passes.reader(io.BytesIO(body), 0, opened) as reader:
            return reader.read()
    except PayloadError:
        return None
