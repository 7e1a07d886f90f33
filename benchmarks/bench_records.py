"""``python -m benchmarks.bench_records``: fields of a database, in processor time.

"bare AESGCM" is one kept ``AESGCM`` of pyca/cryptography with ``os.urandom(12)`` and the same additional data: no key
service, no type, no end of a key. To open, it is given nonce, ciphertext and encoded row apart, as no column holds
them; "slices and AESGCM" takes them out of one value, as everything that opens a column has to. Tink and Fernet have
one key, and no key service.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.fakes import FakeKeyring

from benchmarks.measure import Row, against, machine, table
from benchmarks.peers import Tink
from sealwax.records import Field, MemoryKeys, Records

_SIZES: Final = {"32 B": 32, "256 B": 256, "1 KiB": 1024}
_BARE, _SLICES, _TINK, _FERNET = "bare AESGCM", "slices and AESGCM", "Tink", "Fernet"
# How often as fast as the peer: a share of 1 is as fast.
_SEAL: Final = {_BARE: 1 / 1.6, _TINK: 1, _FERNET: 1}
_OPEN: Final = {_BARE: 1 / 2.0, _TINK: 1, _FERNET: 1}
_SEAL_TEXT, _OPEN_TEXT = {_BARE: 1 / 3.5}, {_BARE: 1 / 9}
_MANY: Final = {_BARE: 1 / 1.2}
_COLD: Final = {_BARE: 1 / 6}
_ROW: Final = 123_456_789
_COUNT: Final = 2_000
_ROUNDS: Final = 15


class _Counting(MemoryKeys):
    """Counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def newest(self, scope: Any, kind: Any) -> Any:
        self.calls += 1
        return super().newest(scope, kind)

    def get_many(self, *arguments: Any) -> Any:
        self.calls += 1
        return super().get_many(*arguments)


def rows() -> Iterator[Row]:
    keyring, store = FakeKeyring(), _Counting()
    # No look at the store beside, or it would be counted.
    with Records(keyring, store, scope={"app": "shop"}, recheck=86_400) as records:
        field = records.field("users.card", row=int, tenant="acme")
        field.open(field.seal(b"", row=_ROW), row=_ROW)
        before = len(keyring.calls), store.calls
        for label, size in _SIZES.items():
            yield from _single(field, label, os.urandom(size))
            yield from _many(field, label, [os.urandom(size) for _ in range(_COUNT)])
        yield from _cold(records, os.urandom(256))
        assert (len(keyring.calls), store.calls) == before, "warm records asked KMS or the key store"


def _bound(row: int) -> bytes:
    return b"\1\0\0\0\4" + row.to_bytes(4, "big")


def _measured(
    what: str, ours: Callable[[], object], peers: Mapping[str, Callable[[], object]], aims: Mapping[str, float]
) -> list[Row]:
    return against(what, ours, peers, at_least=aims, rounds=_ROUNDS, clock=time.process_time)


def _single(field: Field, label: str, value: bytes) -> Iterator[Row]:
    cipher, tink, fernet = AESGCM(os.urandom(32)), Tink(), Fernet(Fernet.generate_key())
    bound, nonce = _bound(_ROW), os.urandom(12)
    bare = cipher.encrypt(nonce, value, bound)
    joined, by_tink, by_fernet = nonce + bare, tink.encrypt(value), fernet.encrypt(value)
    sealed, text = field.seal(value, row=_ROW), field.seal_text(value, row=_ROW)
    assert field.open(sealed, row=_ROW) == field.open(text, row=_ROW) == value

    def encrypt() -> bytes:
        return cipher.encrypt(os.urandom(12), value, bound)

    def decrypt() -> bytes:
        return cipher.decrypt(nonce, bare, bound)

    yield from _measured(
        f"records: seal, {label}",
        lambda: field.seal(value, row=_ROW),
        {_BARE: encrypt, _TINK: lambda: tink.encrypt(value), _FERNET: lambda: fernet.encrypt(value)},
        _SEAL,
    )
    yield from _measured(
        f"records: open, {label}",
        lambda: field.open(sealed, row=_ROW),
        {
            _BARE: decrypt,
            _SLICES: lambda: cipher.decrypt(joined[:12], joined[12:], bound),
            _TINK: lambda: tink.decrypt(by_tink),
            _FERNET: lambda: fernet.decrypt(by_fernet),
        },
        _OPEN,
    )
    seal_text, open_text = (lambda: field.seal_text(value, row=_ROW)), (lambda: field.open(text, row=_ROW))
    yield from _measured(f"records: seal in text, {label}", seal_text, {_BARE: encrypt}, _SEAL_TEXT)
    yield from _measured(f"records: open text, {label}", open_text, {_BARE: decrypt}, _OPEN_TEXT)


def _many(field: Field, label: str, values: list[bytes]) -> Iterator[Row]:
    cipher = AESGCM(os.urandom(32))
    ids = range(_ROW, _ROW + len(values))
    bounds = [_bound(row) for row in ids]
    nonces = [os.urandom(12) for _ in values]
    bare = [cipher.encrypt(*parts) for parts in zip(nonces, values, bounds, strict=True)]
    joined = [nonce + data for nonce, data in zip(nonces, bare, strict=True)]
    sealed = field.seal_many(values, rows=ids)
    assert field.open_many(sealed, rows=ids) == values

    def encrypt() -> object:
        return [cipher.encrypt(os.urandom(12), value, bound) for value, bound in zip(values, bounds, strict=True)]

    def decrypt() -> object:
        return [cipher.decrypt(*parts) for parts in zip(nonces, bare, bounds, strict=True)]

    def slice_and_decrypt() -> object:
        return [cipher.decrypt(each[:12], each[12:], bound) for each, bound in zip(joined, bounds, strict=True)]

    count = f"{len(values):,}"
    seal, open_ = (lambda: field.seal_many(values, rows=ids)), (lambda: field.open_many(sealed, rows=ids))
    yield from _measured(f"records: seal {count}, {label}", seal, {_BARE: encrypt}, _MANY)
    peers = {_BARE: decrypt, _SLICES: slice_and_decrypt}
    yield from _measured(f"records: open {count}, {label}", open_, peers, _MANY)


def _cold(records: Records, value: bytes) -> Iterator[Row]:
    """One record a prefix: as when each was made by another process."""
    cipher, bound, nonce = AESGCM(os.urandom(32)), _bound(_ROW), os.urandom(12)
    bare = cipher.encrypt(nonce, value, bound)
    fields = [records.field("users.card", row=int, tenant="acme") for _ in range(_COUNT + 1)]
    field = fields.pop()
    sealed = [maker.seal(value, row=_ROW) for maker in fields]

    def seal() -> None:
        for _ in sealed:
            field.forget(None)
            field.seal(value, row=_ROW)

    def open_() -> None:
        for each in sealed:
            field.drop(each[:29])
            field.open(each, row=_ROW)

    def encrypt() -> None:
        for _ in sealed:
            cipher.encrypt(os.urandom(12), value, bound)

    def decrypt() -> None:
        for _ in sealed:
            cipher.decrypt(nonce, bare, bound)

    yield from _measured(f"records: seal {_COUNT:,}, a prefix each, 256 B", seal, {_BARE: encrypt}, _COLD)
    yield from _measured(f"records: open {_COUNT:,}, a prefix each, 256 B", open_, {_BARE: decrypt}, _COLD)


if __name__ == "__main__":
    print(machine())
    print(table(list(rows())))
