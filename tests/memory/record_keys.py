"""A program that uses records, and then waits while its memory is read: ``record_keys.py SCENARIO DIR``.

It writes down the records whose keys must be gone, and an index: no secrets. Their prefixes say which record keys there
were, and the index tells the index key from those of other scopes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sealwax
from sealwax._core.format import payload
from sealwax.records import Field, Index, KeyKind, MemoryKeys, Records
from tests.memory.program import take_out_registers, take_out_wipe

SCOPE = {"app": "scan", "tenant": "acme"}
FIELD = "users.card"
BITS = 64
INDEXED = "what is indexed"
_TEXT = b"plaintext is not what is looked for"
_SOON = {"recheck": 0.2}

# What is over, and still there.
held: list[Any] = []


def used(folder: Path, **bounds: Any) -> Records:
    """Seal and open under three record keys of a first tenant."""
    store = MemoryKeys()
    records = Records(sealwax.KmsKeyring("alias/one"), store, scope={"app": "scan"}, **bounds)
    fields: list[Field] = [records.field(FIELD, row=int, tenant="acme") for _ in range(3)]
    sealed = [field.seal(_TEXT, row=7) for field in fields] + fields[0].seal_many([_TEXT] * 20, rows=[7] * 20)
    for field in fields:
        assert field.open_many(sealed, rows=[7] * len(sealed)) == [_TEXT] * len(sealed)
        assert [field.open(record, row=7) for record in sealed] == [_TEXT] * len(sealed)
        fail(lambda field=field: field.open(sealed[0], row=8))  # type: ignore[misc]
        fail(lambda field=field: field.open(field.seal_text(_TEXT, row=7), row=8))  # type: ignore[misc]
        fail(lambda field=field: field.open_many(sealed, rows=[8] * len(sealed)))  # type: ignore[misc]
        fail(lambda field=field: field.seal(None, row=8))  # type: ignore[misc]
        fail(lambda field=field: field.seal_many([None], rows=[8]))  # type: ignore[misc]
    (folder / "records").write_text("".join(f"{record.hex()}\n" for record in sealed))
    indexes: list[Index] = [records.index(FIELD, bits=BITS, tenant="acme") for _ in range(3)]
    for index in indexes:
        assert index.of_many([INDEXED] * 20) == [index.of(INDEXED)] * 20
        fail(lambda index=index: index.of(None))  # type: ignore[misc]
        fail(lambda index=index: index.of_many([INDEXED, None]))  # type: ignore[misc]
    (row,) = [row for row in store.list() if row.kind is KeyKind.INDEX]
    (folder / "index").write_text(row.key_id.hex())
    held[:0] = [records, fields, indexes]
    return records


def fail(act: Callable[[], object]) -> None:
    """Keep the error: it keeps its traceback's frames, and what their variables hold."""
    try:
        act()
    except (sealwax.SealwaxError, TypeError, ValueError) as error:
        held.append(error)
    else:
        raise AssertionError("no error")


def fail_after_the_end(folder: Path) -> None:
    sealed = [bytes.fromhex(line) for line in (folder / "records").read_text().split()]
    for field in held[1]:
        fail(lambda field=field: field.seal(_TEXT, row=7))  # type: ignore[misc]
        fail(lambda field=field: field.open(sealed[0], row=7))  # type: ignore[misc]
        fail(lambda field=field: field.open_many(sealed, rows=[7] * len(sealed)))  # type: ignore[misc]
        fail(lambda field=field: field.seal_many([_TEXT], rows=[7]))  # type: ignore[misc]
    for index in held[2]:
        fail(lambda index=index: index.of(INDEXED))  # type: ignore[misc]


def closed(folder: Path) -> None:
    used(folder).close()
    fail_after_the_end(folder)


def go_on() -> None:
    """Do what a thread that goes on does sooner or later: the thread beside can overwrite no registers but its own."""
    payload.leave_no_registers()


def expired(folder: Path) -> None:
    records = used(folder, max_age=0.5, **_SOON)
    while records.stats().data_keys:
        time.sleep(0.1)
    go_on()


def shredded(folder: Path) -> None:
    used(folder).shred(tenant="acme")
    fail_after_the_end(folder)


def evicted(folder: Path) -> None:
    records = used(folder, capacity=1, **_SOON)
    held.append(records.field(FIELD, row=int, tenant="other").seal(_TEXT, row=7))
    held.append(records.index(FIELD, bits=BITS, tenant="other").of(INDEXED))
    while records.stats().data_keys > 1:
        time.sleep(0.1)
    go_on()


def forked(folder: Path) -> None:
    used(folder)
    child = os.fork()
    if child:
        os._exit(os.waitpid(child, 0)[1])


SCENARIOS: dict[str, Callable[[Path], None]] = {
    "closed": closed,
    "expired": expired,
    "shredded": shredded,
    "evicted": evicted,
    "forked": forked,
}


def in_use(folder: Path) -> None:
    used(folder)


def main() -> None:
    scenario, folder, *broken = sys.argv[1:]
    for name in broken:
        {"wipe": take_out_all_wipes, "registers": take_out_registers}[name]()
    (SCENARIOS | {"in_use": in_use})[scenario](Path(folder))
    print("done", os.getpid(), flush=True)
    sys.stdin.readline()


def take_out_all_wipes() -> None:
    from sealwax.records import _keys

    take_out_wipe()
    _keys.wipe = held.append  # type: ignore[assignment, attr-defined]


if __name__ == "__main__":
    main()
