"""A process to search that does not keep the promise, or cannot be read whole.

``leaky.py memory|logs|hole|hole-and-leak``
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import sealwax
from sealwax.prove import _helper

kept: list[bytes] = []


def keep(key: sealwax.DataKey) -> None:
    kept.append(bytes(key.buffer))


def log(key: sealwax.DataKey) -> None:
    # In a child, so that this process's own memory stays clean.
    if not os.fork():
        os.write(2, bytes(key.buffer).hex().encode())
        os._exit(0)
    os.wait()


def hold_a_hole() -> mmap.mmap:
    """Return three pages of a file of which two are gone."""
    with tempfile.TemporaryFile() as file:
        file.truncate(3 * mmap.PAGESIZE)
        pages = mmap.mmap(file.fileno(), 3 * mmap.PAGESIZE)
        file.truncate(mmap.PAGESIZE)
    return pages


class Leaky(sealwax.KmsKeyring):
    leak: Callable[[sealwax.DataKey], None]

    def generate(self, context: Mapping[str, str], use: Callable[..., Any], **how: Any) -> Any:
        def leak_and_use(key: sealwax.DataKey, wrapped_keys: Any) -> Any:
            type(self).leak(key)
            return use(key, wrapped_keys)

        return super().generate(context, leak_and_use, **how)


LEAKS: dict[str, Callable[[sealwax.DataKey], None]] = {
    "memory": keep,
    "logs": log,
    "hole": lambda _: None,
    "hole-and-leak": keep,
}

if __name__ == "__main__":
    Leaky.leak = staticmethod(LEAKS[sys.argv[1]])
    hole = hold_a_hole() if "hole" in sys.argv[1] else None
    _helper.main(Leaky)
