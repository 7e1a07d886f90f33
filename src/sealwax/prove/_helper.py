"""A process whose memory and logs are searched for keys: ``python -m sealwax.prove._helper``.

It reads a line of JSON, encrypts and decrypts a sample as any program does, with all logs at DEBUG on standard error,
writes a line of JSON, and waits until standard input ends.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable

from sealwax import events
from sealwax._core.context import NO_CONTEXT
from sealwax._core.keyring import Keyring
from sealwax._core.sealer import Sealer
from sealwax.errors import SealwaxError
from sealwax.kms import KmsKeyring


def main(keyring: Callable[..., Keyring] = KmsKeyring) -> None:
    """Run it with a keyring that ``keyring`` creates, like ``KmsKeyring``."""
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    task = json.loads(sys.stdin.readline())
    # The search must find this mark, or it shows nothing.
    mark = bytearray.fromhex(task["mark"])
    calls: list[dict[str, str | None]] = []

    def watch(event: events.Event) -> None:
        if isinstance(event, events.KmsCall):
            calls.append(
                {
                    "operation": event.operation,
                    "region": event.region,
                    "error": event.error,
                    "request_id": event.request_id,
                }
            )

    context = task["context"] or NO_CONTEXT
    answer: dict[str, object] = {"calls": calls}
    try:
        sealer = Sealer(keyring(task["key"], on_event=watch))
        sealed = sealer.encrypt(task["sample"].encode(), context=context)
        sealer.decrypt(sealed, context=context)
        answer["sealed"] = sealed.hex()
    except SealwaxError as error:
        answer["error"] = str(error)
    print(json.dumps(answer), flush=True)  # noqa: T201  the answer
    sys.stdin.read()
    del mark


if __name__ == "__main__":
    main()
