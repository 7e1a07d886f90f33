"""How many bytes of plaintext a message has, as far as its size tells. Nothing here is authenticated."""

from __future__ import annotations

import struct
from typing import Final

from sealwax._core.foreign.esdk.header import EsdkHeader
from sealwax._core.foreign.esdk.opening import END_MARK, FINAL_OVERHEAD, FRAME_OVERHEAD, U32
from sealwax._core.foreign.esdk.signature import MOST_DER_BYTES
from sealwax._core.foreign.gcm import NONCE_BYTES, TAG_BYTES
from sealwax._foreign import Read

_LENGTH: Final = struct.Struct(">H")
_SINGLE: Final = struct.Struct(f">{NONCE_BYTES}sQ")


def plaintext_bytes(header: EsdkHeader, size: int, read: Read) -> int | None:
    """Return how many bytes of plaintext a body claims to have; None if no body has that size.

    Args:
        size: the size of all that follows the header, in bytes.
        read: reads what follows the header, at any offset.
    """
    if not header.frame_length:
        return _of_single(header, size, read)
    if header.suite.signature is None:
        found = _of_frames(size, header.frame_length)
        return None if found is None else found[0]
    tail = read(max(0, size - MOST_DER_BYTES - _LENGTH.size), MOST_DER_BYTES + _LENGTH.size)
    # The footer's length is in front of it, so it is looked for. The final frame's mark then has to be where it says.
    for footer in range(_LENGTH.size + 1, len(tail) + 1):
        if _LENGTH.unpack_from(tail, len(tail) - footer)[0] != footer - _LENGTH.size:
            continue
        found = _of_frames(size - footer, header.frame_length)
        if found is not None and read(found[1], U32.size) == U32.pack(END_MARK):
            return found[0]
    return None


def _of_frames(size: int, length: int) -> tuple[int, int] | None:
    """Return the size of the plaintext, and where the final frame begins."""
    whole, rest = divmod(size - FINAL_OVERHEAD, length + FRAME_OVERHEAD)
    if whole < 0 or rest > length:
        return None
    return whole * length + rest, whole * (length + FRAME_OVERHEAD)


def _of_single(header: EsdkHeader, size: int, read: Read) -> int | None:
    start = read(0, _SINGLE.size)
    if len(start) < _SINGLE.size:
        return None
    claimed: int = _SINGLE.unpack(start)[1]
    rest = size - _SINGLE.size - TAG_BYTES - claimed
    most = 0 if header.suite.signature is None else _LENGTH.size + MOST_DER_BYTES
    return claimed if 0 <= rest <= most else None
