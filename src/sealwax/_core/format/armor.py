"""The text form of an envelope: ``swx1:`` and unpadded base64url, on one line, one text per envelope."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.utils import Buffer

from sealwax.errors import NotAnEnvelopeError

PREFIX: Final = "swx1:"


def armor(envelope: Buffer) -> str:
    """Return the text form of an envelope's bytes.

    Raises:
        TypeError: ``envelope`` is no bytes-like object.
    """
    if not isinstance(envelope, bytes | bytearray | memoryview):
        raise TypeError(f"armor takes bytes, bytearray or memoryview, not {type(envelope).__name__}")
    return PREFIX + base64.urlsafe_b64encode(envelope).rstrip(b"=").decode("ascii")


def dearmor(text: str) -> bytes:
    """Return the envelope's bytes. Only what :func:`armor` writes is taken: no white space, no padding, no variants.

    Raises:
        NotAnEnvelopeError: the text is not the text form of any bytes.
        TypeError: ``text`` is no str.
    """
    if not isinstance(text, str):
        raise TypeError(f"dearmor takes a str, not {type(text).__name__}")
    body = text.removeprefix(PREFIX)
    if len(body) == len(text):
        raise NotAnEnvelopeError(f"this is not an envelope in its text form: it does not begin with '{PREFIX}'")
    try:
        envelope = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        raise NotAnEnvelopeError("this is not an envelope in its text form: it is not base64url") from None
    # The decoder passes over foreign characters and loose last bits; comparing does not.
    if armor(envelope) != text:
        raise NotAnEnvelopeError("this is not an envelope in its text form: some characters do not belong there")
    return envelope
