"""One call for many threads, and maps of bounded size."""

from __future__ import annotations

import threading

import pytest

from sealwax._core.lru import LruMap
from sealwax._core.single_flight import Flights, wait_for
from sealwax.errors import KmsError, UnavailableError


def test_the_first_makes_the_call_and_the_others_get_its_result() -> None:
    flights: Flights[int] = Flights()
    flight, mine = flights.join("a")
    assert mine
    assert flights.join("a") == (flight, False)
    assert flights.join("b")[0] is not flight
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(wait_for(flight))) for _ in range(4)]
    for thread in threads:
        thread.start()
    flights.land("a", flight)
    flight.set_result(7)
    for thread in threads:
        thread.join(30)
    assert results == [7] * 4
    assert flights.join("a")[1]


def test_a_call_that_was_replaced_does_not_end_the_new_one() -> None:
    flights: Flights[int] = Flights()
    old, _ = flights.join("a")
    flights.clear()
    new, mine = flights.join("a")
    assert mine
    flights.land("a", old)
    assert flights.join("a") == (new, False)


def test_each_waiter_gets_an_error_of_its_own() -> None:
    flight, _ = Flights[int]().join("a")
    error = KmsError("refused", code="SomeException")
    flight.set_exception(error)
    caught = []
    for _ in range(2):
        with pytest.raises(KmsError, match="refused") as one:
            wait_for(flight)
        caught.append(one.value)
    assert caught[0] is not caught[1]
    assert error not in caught
    assert [each.code for each in caught] == ["SomeException"] * 2


def test_nobody_waits_for_ever() -> None:
    flight, _ = Flights[int]().join("a")
    with pytest.raises(UnavailableError, match=r"did not finish within 0\.01 s") as caught:
        wait_for(flight, 0.01)
    assert caught.value.retryable


def test_a_bounded_map_drops_what_was_used_least_recently() -> None:
    entries: LruMap[str, int] = LruMap(2)
    entries["a"] = 1
    entries["b"] = 2
    assert entries.get("a") == 1
    entries["c"] = 3
    assert [entries.get(name) for name in "abc"] == [1, None, 3]
    entries["a"] = 4
    entries["d"] = 5
    assert [entries.get(name) for name in "acd"] == [4, None, 5]
    entries.pop("a", None)
    entries.pop("a", None)
    assert entries.get("a") is None
