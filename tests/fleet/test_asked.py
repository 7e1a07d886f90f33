"""Each distinct wrapped key is asked about once, by however many threads; an error is not an answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from sealwax.errors import UnavailableError
from sealwax.fleet._asked import each_once

CONTEXT = {"tenant": "acme"}


def test_each_wrapped_key_and_context_once() -> None:
    asked: list[tuple[bytes, Mapping[str, str]]] = []

    def ask(blob: bytes, context: Mapping[str, str]) -> bool:
        asked.append((blob, context))
        return blob == b"its own"

    once = each_once(ask)
    for _ in range(3):
        assert once(b"its own", CONTEXT)
        assert not once(b"another", CONTEXT)
        assert once(b"its own", {"tenant": "other"})
    assert asked == [(b"its own", CONTEXT), (b"another", CONTEXT), (b"its own", {"tenant": "other"})]


def test_threads_wait_for_the_one_that_asks() -> None:
    asked: list[bytes] = []
    go = threading.Event()

    def ask(blob: bytes, _: Mapping[str, str]) -> bool:
        asked.append(blob)
        assert go.wait(60)
        return True

    once = each_once(ask)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(once, b"blob", CONTEXT) for _ in range(4)]
        go.set()
        assert [answer.result() for answer in answers] == [True] * 4
    assert asked == [b"blob"]


def test_an_error_is_not_kept() -> None:
    outcomes: list[bool | Exception] = [UnavailableError("down", retryable=True), True]

    def ask(_: bytes, __: Mapping[str, str]) -> bool:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    once = each_once(ask)
    with pytest.raises(UnavailableError, match="down"):
        once(b"blob", CONTEXT)
    assert once(b"blob", CONTEXT)
    assert once(b"blob", CONTEXT)
