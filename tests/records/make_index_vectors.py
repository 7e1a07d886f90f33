"""Writes tests/vectors/indexes.json, frozen blind indexes: ``python -m tests.records.make_index_vectors``.

It was run once. What it wrote stands in users' databases, so no later release may make other indexes.
"""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sealwax import KmsKeyring, Records
from sealwax.lab import Lab
from sealwax.records import KeyKind, MemoryKeys
from tests.kept.make import MADE
from tests.records.make_vectors import FIELDS, KEYS, SCOPE, row_written, written

VECTORS: Final = Path(__file__).parents[1] / "vectors" / "indexes.json"

# The other pairs of each scope, which of them are local, and whether the index is shared.
SCOPES: Final[tuple[tuple[dict[str, str], tuple[str, ...], bool], ...]] = (
    ({}, (), False),
    ({"tenant": "acme"}, (), False),
    ({"tenant": "Größe"}, (), False),
    ({"tenant": "acme"}, ("tenant",), False),
    ({"tenant": "acme"}, ("tenant",), True),
)
BITS: Final = (1, 7, 8, 9, 16, 31, 32, 33, 64, 128, 255, 256)
TEXTS: Final = (
    "", "Anna", "anna", "ANNA", "Strasse", "Straße", "ΣΊΣΥΦΟΣ", "Σίσυφος", "é", "e\u0301", "É", "\u1fb3", "\u0345",
    "K", "\u212a", "\u017f", "İ", "i\u0307", "\u0131", "\u212a\u0301@x", "\u037e", "\u1fef", "\U0001f600", "\ufb01",
    "한", "\u1112\u1161\u11ab", "4111 1111-1111.1111", "٤٢", "४२", "²", "+49 (0)30 90 18 20", "n/a",
    " Anna.B+x@Example.COM\t", "anna.b+x@example.com", "Ünï@EXAMPLE.com", "ünï@example.com", "\u00a0x", "swr1.",
    "x" * 1000,
)  # fmt: skip
EXACT: Final[tuple[Any, ...]] = (
    b"", b"\0", b"4111", bytes(range(256)), 0, 1, 127, 128, -1, -129, 2**300, uuid.UUID(int=1),
    datetime.date(2026, 2, 28),
)  # fmt: skip
NORMALIZERS: Final = ("exact/1", "casefold-nfc/1", "digits/1", "email/1")


def indexes(records: Records, pairs: dict[str, str], *, shared: bool, offset: int) -> Iterator[dict[str, Any]]:
    """Index each value with each normalizer that takes it; fields and bits take turns."""
    number = offset
    for normalizer in NORMALIZERS:
        for value in TEXTS + (EXACT if normalizer == "exact/1" else ()):
            field, bits = FIELDS[number % len(FIELDS)], BITS[number % len(BITS)]
            number += 1
            index = records.index(field, normalize=normalizer, bits=bits, shared=shared, **({} if shared else pairs))
            about = {"field": field, "normalizer": normalizer, "bits": bits, "value": written(value)}
            yield {**about, "index": index.of(value).hex()}


def make(lab: Lab) -> dict[str, Any]:
    keyring = KmsKeyring([KEYS["old"], KEYS["new"]], session=lab.session())
    store = MemoryKeys()
    groups = []
    for number, (pairs, local, shared) in enumerate(SCOPES):
        with Records(keyring, store, scope=SCOPE, local_scope=local) as records:
            mine = list(indexes(records, pairs, shared=shared, offset=number * 5))
        kms_scope = {**SCOPE, **{name: value for name, value in pairs.items() if name not in local}}
        local_scope = {} if shared else {name: pairs[name] for name in local}
        groups.append(
            {"scope": kms_scope, "local_scope": local_scope, "local_names": local, "shared": shared, "indexes": mine}
        )
    assert {row.kind for row in store.list()} == {KeyKind.INDEX}
    return {"keys": KEYS, "key_rows": [row_written(row) for row in store.list()], "groups": groups}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MADE / "lab", f"{folder}/lab")
        with Lab(f"{folder}/lab") as lab:
            VECTORS.write_text(json.dumps(make(lab), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
