"""Records as a whole: what is sealed opens in its place and nowhere else, and anything else ends in a typed error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fuzz import key_row, record
from sealwax import Records
from sealwax.errors import RecordTamperedError
from sealwax.records import MemoryKeys, is_record
from tests.fakes import FakeKeyring
from tests.records.test_construction import ROWS, VALUES


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        yield records


@given(VALUES, st.lists(ROWS, min_size=2, max_size=2))
def test_a_value_opens_in_its_row_alone(records: Records, value: Any, rows: list[Any]) -> None:
    row, other = rows
    field = records.field("users.card", row=type(row))
    sealed, text = field.seal(value, row=row), field.seal_text(value, row=row)
    assert is_record(sealed)
    assert is_record(text)
    for again in (field.open(sealed, row=row), field.open(text, row=row), *field.open_many([sealed], rows=[row])):
        assert type(again) is type(value)
        assert repr(again) == repr(value) or again == value
    if type(other) is type(row) and other != row:
        with pytest.raises(RecordTamperedError):
            field.open(sealed, row=other)
    elif type(other) is not type(row):
        with pytest.raises(RecordTamperedError):
            records.field("users.card", row=type(other)).open(sealed, row=other)
    with pytest.raises(RecordTamperedError):
        records.field("users.name", row=type(row)).open(text, row=row)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_a_typed_error(data: bytes) -> None:
    record.check(data)
    key_row.check(data)


@given(st.text(max_size=200))
def test_any_text_ends_in_a_typed_error(text: str) -> None:
    record.check(text.encode("utf-8", "surrogatepass"))
