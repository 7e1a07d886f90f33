"""Writes the frozen vectors of records, tests/vectors/records.json: ``python -m tests.records.make_vectors``.

It was run once. What it wrote stands in users' databases, so no later release may read it otherwise. The data keys are
wrapped by the lab that tests/kept keeps.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sealwax import KmsKeyring, Records, Sealer
from sealwax.lab import Lab
from sealwax.records import UNBOUND, KeyKind, KeyRow, MemoryKeys, _blob
from tests.kept.make import MADE

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "records.json"
KEYS: Final = json.loads((MADE / "made.json").read_text())

SCOPE: Final = {"app": "shop", "env": "prod"}
# The other pairs of each scope, and which of them are local.
SCOPES: Final[tuple[tuple[dict[str, str], tuple[str, ...]], ...]] = (
    ({}, ()),
    ({"tenant": "acme"}, ()),
    ({"tenant": "Größe", "region": ""}, ()),
    ({"tenant": "acme"}, ("tenant",)),
    ({"tenant": "acme", "user": "7"}, ("tenant", "user")),
)
FIELDS: Final = ("users.card", "patients.Größe", "x" * 255)
ROWS: Final[tuple[Any, ...]] = (
    0, 7, 127, 128, -1, -129, 2**63, -(2**63), 2**200, "", "é", "7", "a" * 300, b"", b"\0", b"7",
    uuid.UUID(int=7), uuid.UUID(int=2**128 - 1), (7,), ("acme", 7), (b"x", uuid.UUID(int=1), "", -1), None,
)  # fmt: skip
BERLIN: Final = datetime.timezone(datetime.timedelta(hours=2))
VALUES: Final[tuple[Any, ...]] = (
    b"", b"4111 1111 1111 1111", bytes(range(256)), "", "é\U0001f600", "swr1.", 0, -1, 128, 2**300, True, False,
    decimal.Decimal("0.10"), decimal.Decimal("-1E+30"), decimal.Decimal("NaN"), datetime.date(1, 1, 1),
    datetime.date(2026, 2, 28), datetime.datetime(2026, 10, 25, 2, 30, 0, 1, BERLIN),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, datetime.UTC), uuid.UUID(int=1), 2.5, -0.0, 1e300, [],
    {}, {"b": [None, True, 1, "é"], "a": {"": 0.5}}, [[], {}, "\u2028"],
)  # fmt: skip


def written(value: object) -> list[Any]:
    """Return a row or value as JSON: its type and a text."""
    match value:
        case None | bool() | str() | dict() | float():
            return [type(value).__name__, value]
        case bytes():
            return ["bytes", value.hex()]
        case tuple():
            return ["tuple", [written(item) for item in value]]
        case list():
            return ["list", value]
        case datetime.date():
            return [type(value).__name__, value.isoformat()]
        case _:
            return [type(value).__name__, str(value)]


def read(typed: list[Any]) -> Any:
    """Return the row or value that ``written`` wrote."""
    kind, value = typed
    match kind:
        case "bytes":
            return bytes.fromhex(value)
        case "tuple":
            return tuple(read(item) for item in value)
        case "int" | "Decimal" | "UUID":
            return {"int": int, "Decimal": decimal.Decimal, "UUID": uuid.UUID}[kind](value)
        case "date" | "datetime":
            return getattr(datetime, kind).fromisoformat(value)
        case _:
            return value


def row_type(row: object) -> Any:
    return UNBOUND if row is None else type(row)


def row_written(row: KeyRow) -> dict[str, Any]:
    return {
        "scope": dict(row.scope),
        "kind": int(row.kind),
        "generation": row.generation,
        "key_id": row.key_id.hex(),
        "state": str(row.state),
        "blob": row.blob.hex(),
    }


def sealed(records: Records, pairs: Mapping[str, str], offset: int) -> Iterator[dict[str, Any]]:
    """Seal each value once, for fields and rows that take turns."""
    rows, fields = itertools.cycle(ROWS[offset:] + ROWS[:offset]), itertools.cycle(FIELDS)
    for value, row, name in zip(VALUES, rows, fields, strict=False):
        field = records.field(name, row=row_type(row), **pairs)
        bound = UNBOUND if row is None else row
        record = field.seal(value, row=bound).hex(), field.seal_text(value, row=bound)
        yield {"field": name, "row": written(row), "value": written(value), "binary": record[0], "text": record[1]}


def make(lab: Lab) -> dict[str, Any]:
    """Return the vectors: the rows of a key store, and the records of each scope."""
    keyring = KmsKeyring([KEYS["old"], KEYS["new"]], session=lab.session())
    store = MemoryKeys()
    groups = []
    for number, (pairs, local) in enumerate(SCOPES):
        with Records(keyring, store, scope=SCOPE, local_scope=local) as records:
            mine: list[dict[str, Any]] = []
            for generation in range(1, 4 if number == 1 else 2):
                if generation > 1:
                    records.roll(**pairs)
                mine += sealed(records, pairs, number * 5 + generation)
            kms_scope = {**SCOPE, **{name: value for name, value in pairs.items() if name not in local}}
            groups.append({"scope": kms_scope, "local_scope": {name: pairs[name] for name in local}, "records": mine})
            if number == 1:
                records.retire(1, **pairs)
    for generation in (1, 2):
        row, key = _blob.make(keyring, SCOPE, KeyKind.INDEX, generation)
        key.close()
        store.create(row)
    # One row is re-wrapped under one KMS key, as a rotation leaves it.
    row = next(row for row in store.list() if row.generation == 2 and row.kind is KeyKind.DATA)
    context = {**row.scope, "sealwax-use": row.kind.use}
    assert store.replace(row, Sealer(keyring).rewrap(row.blob, to=KEYS["new"], context=context))
    return {"keys": KEYS, "key_rows": [row_written(row) for row in store.list()], "groups": groups}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MADE / "lab", f"{folder}/lab")
        with Lab(f"{folder}/lab") as lab:
            VECTORS.write_text(json.dumps(make(lab), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
