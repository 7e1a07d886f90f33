"""``python -m benchmarks.bench_cached``: small values under a data key that is in the cache.

sealwax keeps one pair local, as a table's row id, so that each value is bound to a context of its own under one data
key. aws-encryption-sdk has its caching materials manager. Tink and bare Cobblestone have one key and no key service.

With many tenants, each has a context, and so a data key, of its own, and they take turns: a memory that is smaller than
the cache shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from tests.fakes import FakeKeyring

import sealwax
from benchmarks.measure import Row, against, machine, seconds, table
from benchmarks.peers import CONTEXT, AwsEncryptionSdk, Peer, caching_peers

T = TypeVar("T")

_UNSIGNED: Final = "aws-encryption-sdk caching, unsigned"
_AT_LEAST: Final = 8
_AIMS: Final = {_UNSIGNED: _AT_LEAST}
_MANY: Final = 10_000
_TENANTS: Final = 500


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
    peer = peers[_UNSIGNED]
    assert isinstance(peer, AwsEncryptionSdk)
    yield from _of_many_tenants(peer, value)


def _of_many_tenants(peer: AwsEncryptionSdk, value: bytes) -> Iterator[Row]:
    theirs = [{**CONTEXT, "tenant": str(number)} for number in range(_TENANTS)]
    ours = [{**context, "id": "123456"} for context in theirs]
    # Room for all: two data keys of each tenant, one to encrypt and one to decrypt.
    with sealwax.CachingKeyring(FakeKeyring(), max_age=3600, capacity=2 * _TENANTS) as cache:
        sealer = sealwax.Sealer(cache, local_context=("id",))
        sealed = []
        for context in ours:
            sealed.append((sealer.encrypt(value, context=context), context))
            sealer.encrypt(value, context=context)  # or the cache warns that no data key is used again
        sealed_by_peer = [peer.encrypt(value, context) for context in theirs]
        yield _one_of_each(
            "encrypt",
            lambda: _each(ours, lambda context: sealer.encrypt(value, context=context)),
            lambda: _each(theirs, lambda context: peer.encrypt(value, context)),
        )
        yield _one_of_each(
            "decrypt",
            lambda: _each(sealed, lambda pair: sealer.decrypt(pair[0], context=pair[1])),
            lambda: _each(sealed_by_peer, peer.decrypt),
        )
        assert cache.stats().calls == 2 * _TENANTS


def _each(items: Iterable[T], do: Callable[[T], object]) -> None:
    for item in items:
        do(item)


def _one_of_each(what: str, ours: Callable[[], None], theirs: Callable[[], None]) -> Row:
    found = seconds({"ours": ours, _UNSIGNED: theirs}, rounds=9)
    mine, its = found["ours"] / _TENANTS, found[_UNSIGNED] / _TENANTS
    label = f"{what}, 1 KiB value, {_TENANTS} keys cached"
    return Row(label, mine, _UNSIGNED, its, None, f">= {_AT_LEAST}", its / mine >= _AT_LEAST)


if __name__ == "__main__":
    print(machine())
    print(table(list(cached(caching_peers()))))
