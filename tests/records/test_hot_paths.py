"""What sealing and opening take short cuts for: rows, clocks, blocks of many, text. A short cut skips no check."""

from __future__ import annotations

import itertools
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sealwax import errors
from sealwax.records import UNBOUND, Field, MemoryKeys, Records
from sealwax.records._form import from_text, to_text
from tests.fakes import FakeKeyring
from tests.records.test_records import SCOPE, Clock, timed

EDGES = [
    edge + step for bits in (0, 7, 8, 15, 16, 23, 31, 63, 255, 256, 2040) for edge in (1 << bits,) for step in (-1, 0)
]


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope=SCOPE) as records:
        yield records


@pytest.fixture
def field(records: Records) -> Field:
    return records.field("f", row=int, tenant="acme")


# --- rows


def test_one_and_many_bind_the_same_rows(field: Field) -> None:
    rows = [*EDGES, *(-edge for edge in EDGES)]
    many = field.seal_many([b"x"] * len(rows), rows=rows)
    for record, row in zip(many, rows, strict=True):
        assert field.open(record, row=row) == b"x"
        with pytest.raises(errors.RecordTamperedError):
            field.open(record, row=~row)
    ones = [field.seal(b"x", row=row) for row in rows]
    assert field.open_many(ones, rows=rows) == [b"x"] * len(rows)


@pytest.mark.parametrize("row", [True, False, 7.0, "7", None, UNBOUND, (7,)])
def test_a_row_of_another_type_is_refused_everywhere(field: Field, row: Any) -> None:
    sealed = field.seal(b"x", row=7)
    acts: list[Callable[[], object]] = [
        lambda: field.seal(b"x", row=row),
        lambda: field.open(sealed, row=row),
        lambda: field.seal_many([b"x"] * 2, rows=[7, row]),
        lambda: field.open_many([sealed] * 2, rows=[7, row]),
    ]
    for act in acts:
        with pytest.raises(TypeError):
            act()


def test_an_int_is_no_row_of_a_field_of_another_type(records: Records) -> None:
    for kind in (str, bytes, tuple, UNBOUND):
        field = records.field("f", row=kind, tenant="acme")
        acts: list[Callable[[], object]] = [
            lambda field=field: field.seal(b"x", row=7),  # type: ignore[misc]
            lambda field=field: field.seal_many([b"x"], rows=[7]),  # type: ignore[misc]
        ]
        for act in acts:
            with pytest.raises(TypeError):
                act()


# --- many


def test_many_of_all_lengths_and_makers(records: Records, field: Field) -> None:
    others = [records.field("f", row=int, tenant="acme") for _ in range(50)]
    values: list[Any] = [b"x" * (number % 60) for number in range(3000)] + ["é", 7, {"a": 1}]
    rows = range(len(values))
    makers = itertools.cycle([field, *others])
    sealed: list[Any] = [maker.seal(value, row=row) for maker, value, row in zip(makers, values, rows, strict=False)]
    sealed[5::7] = [to_text(record) for record in sealed[5::7]]
    sealed[6::7] = [bytearray(record) for record in sealed[6::7] if not isinstance(record, str)]
    assert field.open_many(sealed, rows=rows) == values


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 70_000])
def test_many_of_any_number(field: Field, count: int) -> None:
    values, rows = [bytes(4)] * count, range(count)
    sealed = field.seal_many(values, rows=rows)
    assert field.open_many(sealed, rows=rows) == values
    assert len({record[:41] for record in sealed}) == count
    assert len({record[:29] for record in sealed}) == -(-count // 65_536)


@pytest.mark.parametrize("at", [0, 1, 4999])
@pytest.mark.parametrize("even", [True, False])
def test_many_name_the_one_that_does_not_authenticate(field: Field, at: int, even: bool) -> None:
    values = [bytes(4 if even else number % 5) for number in range(5000)]
    sealed = field.seal_many(values, rows=range(5000))
    damaged = bytearray(sealed[at])
    damaged[-1] ^= 1
    with pytest.raises(errors.RecordTamperedError, match=f"at position {at} does"):
        field.open_many([*sealed[:at], bytes(damaged), *sealed[at + 1 :]], rows=range(5000))
    swapped = list(range(5000))
    swapped[at] = 77_777
    with pytest.raises(errors.RecordTamperedError, match=f"at position {at} does"):
        field.open_many(sealed, rows=swapped)


def test_an_error_among_many_keeps_no_record_key(records: Records, field: Field) -> None:
    sealed = field.seal(b"x", row=1)
    foreign = records.field("f", row=int, tenant="other").seal(b"x", row=1)
    for wrong, error in ((foreign, errors.UnknownKeyError), (sealed[:-1] + b"x", errors.RecordTamperedError)):
        with pytest.raises(error) as refused:
            field.open_many([sealed, wrong], rows=[1, 1])
        records.clear()
        frames = [frame for frame, _ in traceback.walk_tb(refused.tb) if frame.f_code.co_name == "_open_block"]
        assert frames
        assert "AESGCM" not in repr([frame.f_locals for frame in frames])


def test_an_error_among_many_keeps_no_value(field: Field) -> None:
    values, rows = [b"a secret value"] * 5000, [1] * 5000
    sealed = field.seal_many(values, rows=rows)
    for position in (4, 4999):  # in the first block, and in a later one
        altered = [*sealed[:position], sealed[position][:-1] + b"x", *sealed[position + 1 :]]
        with pytest.raises(errors.RecordTamperedError) as refused:
            field.open_many(altered, rows=rows)
        ours = [frame for frame, _ in traceback.walk_tb(refused.tb) if "/sealwax/" in frame.f_code.co_filename]
        assert len(ours) >= 2
        assert "a secret value" not in repr([frame.f_locals for frame in ours])


def test_what_is_no_record_is_in_no_variable(field: Field) -> None:
    """It may be plaintext, in a column that was to hold records only."""
    for wrong in (b"a secret value", "a secret value", "swr1.a secret value", bytearray(b"a secret value")):
        with pytest.raises(errors.NotARecordError) as refused:
            field.open(wrong, row=1)
        ours = [frame for frame, _ in traceback.walk_tb(refused.tb) if "/sealwax/" in frame.f_code.co_filename]
        assert "a secret value" not in repr([frame.f_locals for frame in ours])


def test_what_is_no_record_among_many(field: Field) -> None:
    sealed = field.seal_many([b"x"] * 3, rows=[1, 2, 3])
    for wrong in (b"", b"\xc1", sealed[0][:56], b"x" * 58, sealed[0][:30], "plain", bytes(2 << 20)):
        for among in ([*sealed[:2], wrong], [wrong] * 3):
            with pytest.raises(errors.NotARecordError):
                field.open_many(among, rows=[1, 2, 3])


def test_a_value_that_is_too_large_among_many_seals_none(field: Field) -> None:
    with pytest.raises(ValueError, match="at most"):
        field.seal_many([b"x", bytes(1 << 20)], rows=[1, 2])


# --- text


def test_text_has_no_second_form(field: Field) -> None:
    for size in range(6):
        text = field.seal_text(bytes(size), row=1)
        binary = from_text(text)
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for at in (26, len(text) - 1):  # the last digits of both parts
            for digit in digits.replace(text[at], ""):
                other = text[:at] + digit + text[at + 1 :]
                try:
                    assert from_text(other) != binary
                    assert to_text(from_text(other)) == other
                except errors.NotARecordError:
                    pass
        assert text[27] == "."
        with pytest.raises(errors.NotARecordError):
            from_text(f"{text[:27]}A{text[28:]}")
        spaces = [f"{text[:40]}{more}{text[40:]}" for more in (" ", "\n", "=", "é", "\0")]
        for other in [*spaces, text + "=", text + "==", text + "\n", text.replace("-", "+").replace("_", "/")]:
            if other != text:
                with pytest.raises(errors.NotARecordError):
                    from_text(other)


def test_broken_text_in_a_value_is_never_shown(field: Field) -> None:
    for act in (lambda: field.seal("secret\ud800", row=1), lambda: field.seal_many(["secret\ud800"], rows=[1])):
        with pytest.raises(ValueError, match="not valid Unicode") as refused:
            act()
        assert "secret" not in repr(refused.value)


# --- age


def test_the_thread_beside_ends_no_prefix(records: Records, field: Field) -> None:
    first = field.seal(b"x", row=1)
    records.wipe_old()
    assert field.seal(b"x", row=1)[:29] == first[:29]


class TwoClocks(Clock):
    """The time of day may go on alone, as while a machine sleeps, and be set."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = 1e9

    def __call__(self) -> tuple[float, float]:
        return self.now, self.wall


@pytest.mark.parametrize(("monotonic", "wall"), [(1001, 1001), (0, 1001), (1001, 0), (1001, -5000), (0, 1e6)])
def test_no_key_is_used_beyond_its_age_by_either_clock(monotonic: float, wall: float) -> None:
    clock, keyring = TwoClocks(), FakeKeyring()
    # The thread beside does not come to it meanwhile.
    with timed(clock, keyring, MemoryKeys(), max_age=1000, recheck=1e6) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal_many([b"x"] * 2, rows=[1, 2])
        acts: list[Callable[[], object]] = [
            lambda: field.open(sealed[0], row=1),
            lambda: field.open_many(sealed, rows=[1, 2]),
            lambda: field.seal(b"x", row=1),
            lambda: field.seal_many([b"x"], rows=[1]),
        ]
        for act in acts:
            act()
            before = len(keyring.calls)
            clock.now += monotonic
            clock.wall += wall
            act()
            assert len(keyring.calls) == before + 1, keyring.calls


def test_ages_are_bounded_under_threads() -> None:
    """16 threads seal and open while the clocks go on: no call begins with a key that is older than its age."""
    clock, keyring = TwoClocks(), FakeKeyring()
    max_age, unwrapped = 1000.0, []

    class Noting(FakeKeyring):
        def generate(self, *args: Any, **more: Any) -> Any:
            unwrapped.append(clock.now)
            return keyring.generate(*args, **more)

        def unwrap(self, *args: Any, **more: Any) -> Any:
            unwrapped.append(clock.now)
            return keyring.unwrap(*args, **more)

    with timed(clock, Noting(), MemoryKeys(), max_age=max_age) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        errors_seen: list[str] = []
        gate = threading.Barrier(17)

        def work(number: int) -> None:
            for _ in range(40):
                gate.wait()
                began = clock.now
                for _ in range(20):
                    if number % 2:
                        field.open(sealed, row=1)
                    else:
                        field.seal(b"x", row=1)
                if max(unwrapped) < began - max_age:
                    errors_seen.append(f"{max(unwrapped)} at {began}")
                gate.wait()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for step in range(40):
            clock.now += 137.0 if step % 4 else 1001.0
            clock.wall += 137.0 if step % 4 else 1001.0
            gate.wait()
            gate.wait()
        for thread in threads:
            thread.join()
    assert not errors_seen
    assert 10 <= len(unwrapped) <= 42
