"""Records that were sealed once and are frozen: this release opens them, and so does a reader that is not ours."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sealwax import KmsKeyring, Records, errors
from sealwax.lab import Lab
from sealwax.records import UNBOUND, KeyKind, KeyRow, KeyState, MemoryKeys, _blob
from tests.kept.make import MADE
from tests.records import reader
from tests.records.make_vectors import FIELDS, ROWS, VALUES, VECTORS, read, row_type

FROZEN: Final[dict[str, Any]] = json.loads(VECTORS.read_text("utf-8"))
KEY_ROWS, GROUPS = FROZEN["key_rows"], FROZEN["groups"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("kept") / "lab"
    shutil.copytree(MADE / "lab", folder)
    folder.chmod(0o700)
    for file in folder.iterdir():
        file.chmod(0o600)
    with Lab(folder) as lab:
        yield lab


def key_rows() -> Iterator[KeyRow]:
    for row in KEY_ROWS:
        key_id, blob = bytes.fromhex(row["key_id"]), bytes.fromhex(row["blob"])
        kind, generation, state = KeyKind(row["kind"]), row["generation"], KeyState(row["state"])
        yield KeyRow(row["scope"], kind, generation, key_id, state, 1_800_000_000, "", blob, generation)


@pytest.fixture
def store() -> MemoryKeys:
    store = MemoryKeys()
    for row in key_rows():
        assert store.create(row) is row
    return store


@pytest.fixture
def keyring(lab: Lab) -> KmsKeyring:
    return KmsKeyring(list(FROZEN["keys"].values()), session=lab.session())


def same(value: object, expected: object) -> bool:
    """Also for NaN, and told apart: 1, True and 1.0; 0.0 and -0.0; 1 and Decimal(1)."""
    return type(value) is type(expected) and repr(value) == repr(expected)


def test_the_frozen_ones_have_every_form() -> None:
    assert (len(KEY_ROWS), [len(group["records"]) for group in GROUPS]) == (7, [27, 81, 27, 27, 27])
    assert {(row["kind"], row["generation"], row["state"]) for row in KEY_ROWS} >= {
        (1, 1, "live"), (1, 1, "retired"), (1, 3, "live"), (2, 1, "live"), (2, 2, "live"),
    }  # fmt: skip
    records = [record for group in GROUPS for record in group["records"]]
    for what, all_of in (("row", ROWS), ("value", VALUES)):
        frozen = {repr(read(record[what])) for record in records}
        assert frozen == set(map(repr, all_of))
    assert {record["field"] for record in records} == set(FIELDS)
    assert {len(group["local_scope"]) for group in GROUPS} == {0, 1, 2}


def test_the_second_reader_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(reader.__file__).read_text("utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "hmac" in imported
    assert not [name for name in imported if name.partition(".")[0] in ("sealwax", "tests")]


def test_the_second_reader_opens_each(lab: Lab) -> None:
    kms, arns = lab.session().client("kms"), list(FROZEN["keys"].values())
    keys: dict[bytes, bytes] = {}
    for row in key_rows():
        data_key = reader.data_key_of(kms, arns, row.blob, row.scope, row.kind.use)
        assert reader.key_id(data_key, int(row.kind), row.generation, row.scope) == row.key_id
        keys[row.key_id] = data_key
    opened = 0
    for group in GROUPS:
        for frozen in group["records"]:
            record = bytes.fromhex(frozen["binary"])
            for form in (record, frozen["text"]):
                plaintext = reader.open_record(
                    keys[reader.binary(form)[1:17]],
                    form,
                    reader.row_bytes(read(frozen["row"])),
                    scope=group["scope"],
                    local=group["local_scope"],
                    field=frozen["field"],
                )
                assert same(reader.value_of(plaintext), read(frozen["value"]))
                opened += 1
    assert opened == 2 * 189


def test_this_release_opens_each(keyring: KmsKeyring, store: MemoryKeys) -> None:
    opened = 0
    for group in GROUPS:
        with Records(keyring, store, scope=group["scope"], local_scope=tuple(group["local_scope"])) as records:
            for frozen in group["records"]:
                row = read(frozen["row"])
                field = records.field(frozen["field"], row=row_type(row), **group["local_scope"])
                bound = UNBOUND if row is None else row
                for form in (bytes.fromhex(frozen["binary"]), frozen["text"]):
                    assert same(field.open(form, row=bound), read(frozen["value"]))
                    opened += 1
    assert opened == 2 * 189


def test_each_opens_nowhere_else(keyring: KmsKeyring, store: MemoryKeys) -> None:
    refused = 0
    for number, group in enumerate(GROUPS):
        with Records(keyring, store, scope=group["scope"], local_scope=tuple(group["local_scope"])) as records:
            for frozen in GROUPS[number - 1]["records"]:
                row = read(frozen["row"])
                field = records.field(frozen["field"], row=row_type(row), **group["local_scope"])
                with pytest.raises((errors.UnknownKeyError, errors.RecordTamperedError)):
                    field.open(frozen["text"], row=UNBOUND if row is None else row)
                refused += 1
    assert refused == 189


def test_the_key_rows_unwrap_as_what_they_are_and_nothing_else(keyring: KmsKeyring) -> None:
    for row in key_rows():
        _blob.unwrap(keyring, row).close()
        other_kind = KeyKind.INDEX if row.kind is KeyKind.DATA else KeyKind.DATA
        for change in (
            {"generation": row.generation + 1},
            {"kind": other_kind},
            {"scope": {**row.scope, "tenant": "other"}},
            {"key_id": bytes(16)},
        ):
            with pytest.raises(errors.KeyRowError):
                _blob.unwrap(keyring, dataclasses.replace(row, **change))
