"""A process to search that does not keep the promise: ``leaky.py memory|logs``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import sealwax
from sealwax.prove import helper

kept: list[bytes] = []


def keep(key: sealwax.DataKey) -> None:
    kept.append(bytes(key.buffer))


def log(key: sealwax.DataKey) -> None:
    # In a child, so that this process's own memory stays clean.
    if not os.fork():
        os.write(2, bytes(key.buffer).hex().encode())
        os._exit(0)
    os.wait()


class Leaky(sealwax.KmsKeyring):
    leak: Callable[[sealwax.DataKey], None]

    def generate(self, context: Mapping[str, str], use: Callable[..., Any], **how: Any) -> Any:
        def leak_and_use(key: sealwax.DataKey, wrapped_keys: Any) -> Any:
            type(self).leak(key)
            return use(key, wrapped_keys)

        return super().generate(context, leak_and_use, **how)


if __name__ == "__main__":
    Leaky.leak = staticmethod({"memory": keep, "logs": log}[sys.argv[1]])
    helper.main(Leaky)
