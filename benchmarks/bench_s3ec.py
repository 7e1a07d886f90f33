"""``python -m benchmarks.bench_s3ec``: objects of the S3 Encryption Client to another KMS key, in requests and bytes.

Ours re-wraps them in place; the peer is the real client, which gets each and puts it again. Requests are those that a
server of S3 counted, bytes those of their bodies in both directions, calls those of a KMS.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.foreign import objects
from tests.foreign.objects import CONTEXT, World

import sealwax
from benchmarks.measure import Row, table
from sealwax.stores.s3 import S3Store

_OBJECTS: Final = 100
_BYTES: Final = 1 << 20
_PEER: Final = "S3 client, get and put"
_BYTES_AIM: Final = 50
_CALLS_AIM: Final = 2


def rows(folder: Path) -> Iterator[Row]:
    with objects.opened(folder / "s3ec") as world, objects.peer(world) as peer:
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

        first, second = _counted(world, ours), _counted(world, theirs)
    what = f"S3EC, {_OBJECTS} x {_BYTES >> 20} MiB to another key"
    yield Row(f"{what}, S3 requests", first[0], _PEER, second[0], unit="n")
    for name, at, unit, aim in (("bytes moved", 1, "B", _BYTES_AIM), ("KMS calls", 2, "n", _CALLS_AIM)):
        met = second[at] >= aim * first[at]
        yield Row(f"{what}, {name}", first[at], _PEER, second[at], None, f">= {aim}", met, unit)


def _counted(world: World, work: Callable[[], None]) -> tuple[int, int, int]:
    """Return how many requests to S3, bytes of their bodies and KMS calls something takes."""
    world.server.forget()
    calls = len(world.calls())
    work()
    moved = world.server.received + world.server.sent
    return len(world.server.requests), moved, len(world.calls()) - calls


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = list(rows(Path(folder)))
    print(table(found))


if __name__ == "__main__":
    main()
