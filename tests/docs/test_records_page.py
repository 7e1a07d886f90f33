"""The worked example of docs/explanation/records-format.md is what the library makes, and another reader opens it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Final

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax.records import _form, _rows
from tests.docs.blocks import ROOT
from tests.docs.test_format_page import load
from tests.records import reader
from tests.records.test_vectors import FROZEN

PAGE: Final = ROOT / "docs/explanation/records-format.md"
CONCEPTS: Final = ROOT / "docs/explanation/records.md"
SCOPE: Final = {"app": "shop", "env": "prod"}
LOCAL: Final = {"tenant": "acme"}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return load((ROOT / "docs/make_records_dump.py").read_text(encoding="utf-8"), "make_records_dump")


def dumped(dump: str) -> bytes:
    data = bytearray()
    for line in dump.splitlines():
        assert int(line[:4]) == len(data)
        data += bytes.fromhex(line[6:53])
    return bytes(data)


def shown() -> tuple[dict[str, bytes], bytes, str, bytes]:
    """Return the example as the page shows it: the facts, the record, its text, and the blob."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- worked example: begin -->")[2]
    facts, record, armored, blob = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:4]
    named = dict(re.findall(r"^(\w+(?: \w+)?) +([0-9a-f]+)$", facts, re.MULTILINE))
    return {name: bytes.fromhex(value) for name, value in named.items()}, dumped(record), armored.strip(), dumped(blob)


def test_the_dump_is_what_the_library_makes(maker: ModuleType) -> None:
    facts, record, _, blob = shown()
    assert (record, blob) == (maker.record(), maker.blob())
    assert facts["data key"] == maker.DATA_KEY
    assert maker.page() == PAGE.read_text(encoding="utf-8"), "run docs/make_records_dump.py"


class Kms:
    """Unwraps the one wrapped key of the example."""

    def decrypt(self, KeyId: str, CiphertextBlob: bytes, EncryptionContext: Mapping[str, str]) -> dict[str, bytes]:  # noqa: N803
        assert KeyId.startswith("arn:aws:kms:eu-west-1:")
        assert CiphertextBlob == b"what KMS calls CiphertextBlob"
        assert EncryptionContext == {**SCOPE, "sealwax-use": "records-data"}
        return {"Plaintext": bytes(range(32))}


def test_a_reader_that_is_not_ours_opens_the_dump(maker: ModuleType) -> None:
    facts, record, text, blob = shown()
    data_key = reader.data_key_of(Kms(), [maker.WRAPPED.key_arn], blob, SCOPE, "records-data")
    assert data_key == facts["data key"]
    assert facts["scope"] == reader.canonical(SCOPE)
    assert facts["local scope"] == reader.canonical(LOCAL)
    field = facts["field"].decode()
    assert facts["key id"] == reader.key_id(data_key, 1, 1, SCOPE) == record[1:17]
    assert facts["field key"] == reader.field_key(data_key, SCOPE, LOCAL, field)
    assert facts["row"] == reader.row_bytes(7)
    for form in (record, text):
        plaintext = reader.open_record(data_key, form, facts["row"], scope=SCOPE, local=LOCAL, field=field)
        assert plaintext == facts["plaintext"] == b"\1" + maker.VALUE
    cipher = AESGCM(facts["record key"])
    assert cipher.decrypt(record[29:41], record[41:], facts["row"]) == facts["plaintext"]
    for at in range(17, len(record)):
        broken = bytearray(record)
        broken[at] ^= 1
        with pytest.raises(InvalidTag):
            reader.open_record(data_key, bytes(broken), facts["row"], scope=SCOPE, local=LOCAL, field=field)


def test_the_numbers_of_the_page_are_the_codes() -> None:
    page = PAGE.read_text(encoding="utf-8") + CONCEPTS.read_text(encoding="utf-8")
    for words, number in {
        "58 bytes more than the value": _form.MIN_BYTES + 1,
        "n + 58 bytes": _form.MIN_BYTES + 1,
        "have at most 4,096 bytes": _rows.MAX_ROW_BYTES,
        "189 records and": sum(len(group["records"]) for group in FROZEN["groups"]),
        "and 7 key rows are frozen": len(FROZEN["key_rows"]),
    }.items():
        assert words in page
        assert str(number) in words.replace(",", ""), words
    assert _form.MAX_PLAINTEXT_BYTES == 1 << 20
    assert "The plaintext is at most 1 MiB." in page


def test_the_length_of_a_text_is_the_one_of_the_page() -> None:
    assert "28 + 4 x (n + 41) / 3 characters, rounded up" in CONCEPTS.read_text(encoding="utf-8")
    for size in range(10):
        record = bytes(_form.MIN_BYTES + 1 + size)
        assert len(_form.to_text(record)) == 28 + math.ceil(4 * (size + 41) / 3)
