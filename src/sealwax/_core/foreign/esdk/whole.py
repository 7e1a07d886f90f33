"""A whole message in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.utils import Buffer

from sealwax._core.foreign.esdk.header import EsdkHeader
from sealwax._core.foreign.esdk.opening import OpenMessage
from sealwax._core.foreign.passes import Body
from sealwax._core.format.payload import tampered
from sealwax._core.keyring import KeyInBuffer, wipe


def decrypt(
    header: EsdkHeader, message: Buffer, data_key: KeyInBuffer, unstored: Mapping[str, str] | None = None
) -> bytes:
    """Return the plaintext of a message, once all of it is authentic.

    Args:
        header: the message's header.
        message: all of it, from its header to its end.
        data_key, unstored: as for ``OpenMessage``.

    Raises:
        CommitmentError, DataKeyError: as for ``OpenMessage``.
        TamperedError: a part is altered or missing, the signature is not valid, or bytes follow the end.
    """
    opened = OpenMessage(header, data_key, unstored)
    try:
        with memoryview(message).cast("B") as view:
            return decrypt_body(opened, view[header.size :])
    finally:
        opened.close()


def decrypt_body(opened: OpenMessage, body: memoryview) -> bytes:
    """Return the plaintext of a message, of which ``body`` is all that follows its header.

    Raises:
        TamperedError: as for ``decrypt``.
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


def _decrypt_into(opened: OpenMessage, opener: Body, body: memoryview, room: memoryview) -> None:
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
