"""``python -m benchmarks.bench_cached``: small values under a data key that is in the cache.

sealwax keeps one pair local, as a table's row id, so that each value is bound to a context of its own under one data
key. aws-encryption-sdk has its caching materials manager. Tink and bare Cobblestone have one key and no key service.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tests.fakes import FakeKeyring

import sealwax
from benchmarks.measure import Row, against, machine, seconds, table
from benchmarks.peers import Peer, caching_peers

_AIMS = {
    "Cobblestone": 0.5,
    "aws-encryption-sdk caching, unsigned": 8,
    "aws-encryption-sdk caching, default": 60,
}
_MANY = 10_000


def cached(peers: dict[str, Peer]) -> Iterator[Row]:
    value = os.urandom(1024)
    context = {"purpose": "bench", "id": "123456"}
    with sealwax.CachingKeyring(FakeKeyring(), max_age=3600) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        sealed = {name: peer.encrypt(value) for name, peer in peers.items()}
        ours = sealer.encrypt(value, context=context)
        yield from against(
            "encrypt, 1 KiB value, key cached",
            lambda: sealer.encrypt(value, context=context),
            {name: (lambda peer=peer: peer.encrypt(value)) for name, peer in peers.items()},
            rounds=9,
            at_least=_AIMS,
        )
        yield from against(
            "decrypt, 1 KiB value, key cached",
            lambda: sealer.decrypt(ours, context=context),
            {name: (lambda peer=peer, name=name: peer.decrypt(sealed[name])) for name, peer in peers.items()},
            rounds=9,
            at_least=_AIMS,
        )
        contexts = [{"purpose": "bench", "id": str(number)} for number in range(_MANY)]

        def many() -> None:
            assert sum(1 for _ in sealer.encrypt_many((value, one) for one in contexts)) == _MANY

        def loop() -> None:
            for one in contexts:
                sealer.encrypt(value, context=one)

        found = seconds({"many": many, "loop": loop})
        rate = f"{_MANY / found['many']:,.0f} a second"
        yield Row(f"encrypt_many, 1 KiB each, {rate}", found["many"] / _MANY, "encrypt", found["loop"] / _MANY)
        assert cache.stats().calls == 2


if __name__ == "__main__":
    print(machine())
    print(table(list(cached(caching_peers()))))
