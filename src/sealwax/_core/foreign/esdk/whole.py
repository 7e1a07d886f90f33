"""A whole message in memory."""

from __future__ import annotations

import io

from cryptography.exceptions import InvalidTag

from sealwax._core.foreign.esdk.opening import FramedBody, OpenMessage, UnframedBody
from sealwax._core.format.payload import tampered
from sealwax._core.keyring import wipe


def decrypt_body(opened: OpenMessage, body: memoryview) -> bytes:
    """Return the plaintext of a message, once all of it is authentic.

    Args:
        opened: the open message; it is not closed.
        body: all that follows its header.

    Raises:
        TamperedError: a part is altered or missing, the signature is not valid, or bytes follow the end.
    """
    opener = opened.body()
    size = opener.plaintext_bytes(body)
    out = io.BytesIO()
    if size:
        out.seek(size - 1)
        out.write(b"\0")
    try:
        with out.getbuffer() as room:
            _decrypt_into(opened, opener, body, room)
    except InvalidTag:
        raise tampered(None) from None
    finally:
        opener.close()
    return out.getvalue()


def _decrypt_into(opened: OpenMessage, opener: FramedBody | UnframedBody, body: memoryview, room: memoryview) -> None:
    try:
        used, written = opener.open_into(body, room)
        if not opener.finished or written != len(room):
            raise InvalidTag
        signed = opened.signed()
        if signed is not None:
            signed.update(body[:used])
            signed.verify(body[used:])
        elif used != len(body):
            raise InvalidTag
    except BaseException:
        wipe(room)
        raise
