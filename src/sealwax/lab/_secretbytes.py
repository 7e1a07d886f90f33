"""Plaintext in buffers that can be wiped: random bytes and base64 without leaving copies.

``bytes`` and ``str`` cannot be wiped, and their memory keeps its content after they are freed. In a process that runs
the lab inside itself, such copies would defeat the library's wiping of data keys.
"""

from __future__ import annotations

import os
import threading

from sealwax._core import fork_locks

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_PAD = ord("=")


class _Kernel:
    """The kernel's random device, kept open; os.urandom returns ``bytes``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)
        self._descriptor = -1

    def fill(self, buffer: bytearray) -> None:
        if self._descriptor < 0:
            with self._lock:
                if self._descriptor < 0:
                    self._descriptor = os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC)
        view = memoryview(buffer)
        while view:
            view = view[os.readv(self._descriptor, [view]) :]


_KERNEL = _Kernel()


def random_secret(size: int) -> bytearray:
    """A new buffer with random bytes from the kernel."""
    buffer = bytearray(size)
    _KERNEL.fill(buffer)
    return buffer


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer with zeros, in place."""
    buffer[:] = bytes(len(buffer))


def base64_size(secret: bytearray) -> int:
    """The length of a secret's base64 text."""
    return (len(secret) + 2) // 3 * 4


def put_base64(target: bytearray, at: int, secret: bytearray) -> None:
    """Write a secret as base64 into ``target`` at offset ``at``. The buffer must not grow, which could leave a copy."""
    whole = len(secret) - len(secret) % 3
    for start in range(0, whole, 3):
        group = secret[start] << 16 | secret[start + 1] << 8 | secret[start + 2]
        target[at] = _ALPHABET[group >> 18]
        target[at + 1] = _ALPHABET[group >> 12 & 63]
        target[at + 2] = _ALPHABET[group >> 6 & 63]
        target[at + 3] = _ALPHABET[group & 63]
        at += 4
    rest = len(secret) - whole
    if rest:
        group = secret[whole] << 16 | (secret[whole + 1] << 8 if rest == 2 else 0)
        target[at] = _ALPHABET[group >> 18]
        target[at + 1] = _ALPHABET[group >> 12 & 63]
        target[at + 2] = _ALPHABET[group >> 6 & 63] if rest == 2 else _PAD
        target[at + 3] = _PAD


def decode_base64(text: memoryview) -> bytearray | None:
    """Decode padded base64; None if the text is not base64."""
    size = len(text)
    if size % 4:
        return None
    padding = 0 if not size else (text[-1] == _PAD) + (text[-1] == _PAD and text[-2] == _PAD)
    secret = bytearray(size // 4 * 3 - padding)
    at = 0
    for start in range(0, size, 4):
        group = 0
        for place in range(start, start + 4):
            value = 0 if place >= size - padding else _VALUES.get(text[place])
            if value is None:
                wipe(secret)
                return None
            group = group << 6 | value
        for shift in (16, 8, 0):
            if at < len(secret):
                secret[at] = group >> shift & 255
                at += 1
    return secret
