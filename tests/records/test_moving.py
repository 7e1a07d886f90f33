"""A column that moves from an old form to records: both are read, one is written, and everything old is counted."""

from __future__ import annotations

import datetime
import logging
import pickle
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet as Cryptographys

from sealwax import Records
from sealwax.errors import ModelError, OldFormError
from sealwax.records import UNBOUND, MemoryKeys, is_record
from sealwax.records.moving import Fernet, Moving, OldForm, Plaintext
from tests.fakes import FakeKeyring

KEY = Cryptographys.generate_key()
OLD = Moving(Plaintext(), writes="old")
NEW = Moving(Plaintext(), writes="records")


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as made:
        yield made


def test_values_of_the_old_form_are_read_counted_and_logged_once(
    records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    fernet = Moving(Fernet(KEY), writes="old")
    with caplog.at_level(logging.DEBUG, "sealwax"):
        assert OLD.read(records, "users.email", "ann@example.com", str) == "ann@example.com"
        assert NEW.read(records, "users.email", b"ann@example.com", str) == "ann@example.com"
        stored = fernet.write(records, "users.born", datetime.date(2026, 2, 28), text=True)
        assert fernet.read(records, "users.born", stored, datetime.date) == datetime.date(2026, 2, 28)
        assert OLD.write(records, "users.note", b"\0", text=False) == b"\0"
    assert [record.getMessage() for record in caplog.records] == [
        "'users.email' still has values as plaintext, which have not been moved to records",
        "'users.born' still has values as fernet, which have not been moved to records",
        "'users.note' still has values as plaintext, which have not been moved to records",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    stats = records.stats()
    assert stats.old_values_read == {"users.born": 1, "users.email": 2}
    assert stats.old_values_written == {"users.born": 1, "users.note": 1}


def test_failures_are_not_counted(records: Records) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: OLD.read(records, "users.age", "x", int),
        lambda: OLD.write(records, "users.age", {1}, text=True),
    )
    for call in calls:
        with pytest.raises(OldFormError, match=r"^'users\.age': a (stored )?value cannot be "):
            call()
    assert records.stats().old_values_read == records.stats().old_values_written == {}


def test_threads_lose_no_count(records: Records) -> None:
    def read() -> None:
        for _ in range(500):
            OLD.read(records, "users.email", "x", str)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.stats().old_values_read == {"users.email": 4000}


def test_what_begins_as_a_record_is_one(records: Records) -> None:
    field = records.field("users.email", row=UNBOUND)
    binary, text = field.seal("x", row=UNBOUND), field.seal_text("x", row=UNBOUND)
    # Whole, cut off, of nothing, and the text of one in a column of bytes.
    for stored in (binary, binary[:40], b"\xc1", memoryview(binary), text, text[:10], "swr1.", text.encode(), b"swr1."):
        assert not NEW.is_old(stored)
        with pytest.raises(OldFormError, match=r"^a stored value of 'users\.email' begins as a record does") as caught:
            NEW.read(records, "users.email", stored, bytes if isinstance(stored, bytes) else str)
        assert len(repr(stored)) < 20 or not _shown(caught.value, repr(stored))
    others: tuple[object, ...]
    others = ("", b"", "SWR1.x", "swr1", " swr1.", b"\xc2\xc1", "Á", 7, datetime.date(2026, 2, 28))
    for other in others:
        assert NEW.is_old(other)
        assert NEW.read(records, "users.email", other, type(other)) == other
    assert not NEW.is_old(None)
    assert is_record(binary)
    assert is_record(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [("swr1.", True), ("swr1.4111", True), ("swr1.4111", False), (b"\xc1", False), (b"\xc1" + b"4111" * 20, False)],
)
def test_what_would_begin_as_a_record_is_not_written(records: Records, value: Any, text: bool) -> None:
    with pytest.raises(
        OldFormError, match=r"^'users\.email': a value that begins with 'swr1\.' or the byte C1"
    ) as caught:
        OLD.write(records, "users.email", value, text=text)
    assert not _shown(caught.value, "4111")
    # In a token it is no matter.
    fernet = Moving(Fernet(KEY), writes="old")
    stored = fernet.write(records, "users.email", value, text=text)
    assert fernet.read(records, "users.email", stored, type(value)) == value
    assert records.stats().old_values_written == {"users.email": 1}


def _shown(failure: BaseException, secret: str) -> bool:
    """Whether a secret is in a message, or in the variables of the frames of the package."""
    assert failure.__context__ is None
    frames = [frame for frame, _ in traceback.walk_tb(failure.__traceback__) if "/sealwax/" in frame.f_code.co_filename]
    assert frames
    said = [str(failure), *(repr(value) for frame in frames for value in frame.f_locals.values())]
    return bool(secret) and any(secret in text for text in said)


def test_errors_show_no_value(records: Records) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: OLD.read(records, "users.age", "4111", dict),
        lambda: OLD.read(records, "users.age", b"\xff4111", str),
        lambda: OLD.write(records, "users.age", {"4111"}, text=True),
        lambda: OLD.write(records, "users.age", "4111\ud800", text=False),
        lambda: OLD.write(records, "users.age", "4111\ud800", text=True),
    )
    for call in calls:
        with pytest.raises(OldFormError) as caught:
            call()
        assert not _shown(caught.value, "4111")


def test_records_are_written_by_the_field(records: Records) -> None:
    with pytest.raises(ValueError, match=r"'users\.email' writes records in this state"):
        NEW.write(records, "users.email", "x", text=True)


def test_until_warns_for_thirty_days_and_then_refuses() -> None:
    today = datetime.datetime.now(datetime.UTC).date()

    def said(days: int) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            until = today + datetime.timedelta(days=days)
            Moving(Plaintext(), writes="records", until=until).check("users.email")
        assert all(each.category is FutureWarning for each in caught)
        return [str(each.message) for each in caught]

    # The day may end while this runs.
    assert said(400) == said(32) == []
    assert len(said(29)) == len(said(2)) == 1
    assert " days left), then models that say so fail: reseal what is left, and leave out moving=" in said(29)[0]
    for days in (-2, -400):
        with pytest.raises(ModelError, match=r"^'users\.email' was to hold plaintext until \d{4}-.*, which has passed"):
            said(days)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OLD.check("users.email")


def test_reading_goes_on_after_the_day(records: Records) -> None:
    late = Moving(Plaintext(), writes="old", until=datetime.date(2020, 1, 1))
    assert late.read(records, "users.email", "x", str) == late.write(records, "users.email", "x", text=True) == "x"


class Shouted:
    """A form of a program of its own."""

    name = "shouted"

    def recognizes(self, stored: object) -> bool:
        return isinstance(stored, str) and stored.isupper()

    def read(self, stored: object, kind: type) -> object:  # noqa: ARG002
        return str(stored).lower()

    def write(self, value: object, *, text: bool) -> str | bytes:
        return str(value).upper() if text else str(value).upper().encode()


def test_a_form_may_be_of_the_program(records: Records) -> None:
    form: OldForm = Shouted()
    moving = Moving(form, writes="old")
    assert moving.read(records, "users.email", moving.write(records, "users.email", "ann", text=True), str) == "ann"
    with pytest.raises(OldFormError, match=r"swr1"):
        Moving(Lower(), writes="old").write(records, "users.email", "SWR1.X", text=True)


class Lower(Shouted):
    def write(self, value: object, *, text: bool) -> str | bytes:  # noqa: ARG002
        return str(value).lower()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((Plaintext,), {"writes": "old"}, TypeError, "takes an old form"),
        (("plaintext",), {"writes": "old"}, TypeError, "takes an old form"),
        ((Plaintext(),), {"writes": "new"}, ValueError, 'writes is "old" or "records"'),
        ((Plaintext(),), {"writes": "old", "until": "2026-01-01"}, TypeError, "until is a datetime.date, not str"),
        ((Plaintext(),), {"writes": "old", "until": datetime.datetime(2026, 1, 1)}, TypeError, "not datetime"),  # noqa: DTZ001
        ((Plaintext(), "old"), {}, TypeError, "positional"),
    ],
)
def test_states_that_cannot_be_are_refused(arguments: Any, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Moving(*arguments, **options)


def test_a_state_is_a_value() -> None:
    assert repr(Moving(Fernet(KEY), writes="old")) == "Moving(old=<Fernet>, writes='old', until=None)"
    with pytest.raises(AttributeError):
        OLD.writes = "records"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(OLD)).writes == "old"


def test_the_page_has_the_lengths_that_columns_need(records: Records) -> None:
    field = records.field("users.email", row=UNBOUND)
    for size in range(300):
        value = "x" * size
        assert len(field.seal(value, row=UNBOUND)) == size + 58
        assert len(field.seal_text(value, row=UNBOUND)) == 28 + -(-4 * (size + 41) // 3)
    longest = len(field.seal_text("\U0001f600" * 50, row=UNBOUND))
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "moving-in.md").read_text("utf-8")
    assert f"50 characters, up to 200 bytes, takes {longest} characters" in " ".join(page.split())
