"""Messages of the AWS Encryption SDK as text in base64, a usual form in settings, databases and mail."""

from __future__ import annotations

import base64
import contextlib
from typing import Final

from sealwax._core.foreign.rules import begins_message

# Such texts are meant for environment variables and settings, and are held in memory whole.
MAX_TEXT_BYTES: Final = 64 << 20
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def message_in_base64(text: bytes) -> bytes | None:
    """Return the message that a text is in base64, of either alphabet, padded or not; None if it is something else."""
    try:
        # Lines as tools and mail break them; anything else that is not of the alphabet is refused.
        letters = b"".join(text.split()).translate(_STANDARD)
        data = base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except ValueError:
        return None
    return data if begins_message(data) else None


def begins_in_base64(text: bytes) -> bool:
    """Whether a text begins as a message does in base64, of either alphabet; its first 8 characters tell."""
    with contextlib.suppress(ValueError):
        return begins_message(base64.b64decode(text[:8].translate(_STANDARD), validate=True))
    return False
