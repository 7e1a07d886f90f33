"""100 objects of the S3 Encryption Client re-wrapped, against getting and putting each with the real client."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from tests.foreign import objects
from tests.foreign.objects import CONTEXT

import sealwax
from sealwax.stores.s3 import S3Store

_OBJECTS: Final = 100
_BYTES: Final = 1 << 20


def main() -> None:
    """Print the requests to S3, the bytes of their bodies, and the KMS calls, of both ways."""
    with (
        tempfile.TemporaryDirectory() as folder,
        objects.opened(Path(folder)) as world,
        objects.peer(world) as peer,
    ):
        world.begin()
        names = [f"o/{at}" for at in range(_OBJECTS)]
        data = os.urandom(_BYTES)
        for name in names:
            world.put(name, data)
        sealer = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session()))
        store = S3Store("s3://bucket/", session=world.server.session())

        def ours() -> None:
            for name in names:
                store.rewrap(f"s3://bucket/{name}", sealer.rewrapper(to=[world.new], context=CONTEXT))

        def theirs() -> None:
            for name in names:
                plain = peer.get(name, world.new)
                assert isinstance(plain, bytes), plain
                peer.put(name, plain, 3, world.old)

        print(f"{_OBJECTS} objects of {_BYTES >> 20} MiB to another key | S3 requests | bytes moved | KMS calls")
        for what, work in (("sealwax rewrap", ours), ("get and put by the client", theirs)):
            world.server.forget()
            calls = len(world.calls())
            work()
            moved = world.server.received + world.server.sent
            print(f"{what} | {len(world.server.requests):,} | {moved:,} | {len(world.calls()) - calls:,}")


if __name__ == "__main__":
    main()
