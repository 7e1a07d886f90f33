"""The text form of an envelope: ``swx1:`` and unpadded base64url on one line. Each envelope has exactly one."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.utils import Buffer

from sealwax.errors import NotAnEnvelopeError

PREFIX: Final = "swx1:"


def armor(envelope: Buffer) -> str:
    """Convert an envelope to its text form, for JSON, databases and environment variables.

    Args:
        envelope: the envelope's bytes.

    Returns:
        One line: ``swx1:`` and unpadded base64url.

    Raises:
        TypeError: ``envelope`` is not bytes-like.

    Example:
        >>> armor(sealer.encrypt(b"secret", context={"id": "123"}))
        'swx1:ilNXWA0KGgoBAQEBAE...'
    """
    if not isinstance(envelope, bytes | bytearray | memoryview):
        raise TypeError(f"armor takes bytes, bytearray or memoryview, not {type(envelope).__name__}")
    if isinstance(envelope, memoryview) and not envelope.c_contiguous:
        raise TypeError("armor takes a memoryview only if it is contiguous: pass bytes(view)")
    return PREFIX + base64.urlsafe_b64encode(envelope).rstrip(b"=").decode("ascii")


def dearmor(text: str) -> bytes:
    """Convert the text form of an envelope back to its bytes.

    Args:
        text: exactly what ``armor`` returned: without white space, padding or other variants.

    Returns:
        The envelope's bytes.

    Raises:
        NotAnEnvelopeError: it is not the text form of any bytes.
        TypeError: ``text`` is not a str.

    Example:
        >>> sealer.decrypt(dearmor(text), context={"id": "123"})
        b'secret'
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
    # The decoder skips foreign characters and loose last bits; the comparison does not.
    if armor(envelope) != text:
        raise NotAnEnvelopeError(
            "this is not an envelope in its text form: it contains characters that do not belong there"
        )
    return envelope
