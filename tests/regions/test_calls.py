"""One request to KMS: what is repeated, how long, at what rate, and who is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.events import Event, KmsCall
from sealwax.kms._calls import pause_after
from sealwax.lab import Lab

CONTEXT = {"purpose": "test"}
REGION = "us-east-1"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        yield lab


def keyring(lab: Lab, **settings: Any) -> tuple[sealwax.Sealer, list[KmsCall]]:
    calls: list[KmsCall] = []

    def watch(event: Event) -> None:
        assert isinstance(event, KmsCall)
        calls.append(event)

    made = sealwax.KmsKeyring("alias/demo", session=lab.session(), on_event=watch, **settings)
    return sealwax.Sealer(made), calls


def test_every_call_is_told(lab: Lab) -> None:
    sealer, calls = keyring(lab)
    sealer.decrypt(sealer.encrypt(b"x", context=CONTEXT), context=CONTEXT)
    assert [(call.operation, call.region, call.key, call.attempt, call.error) for call in calls] == [
        ("GenerateDataKey", REGION, "alias/demo", 1, None),
        ("Decrypt", REGION, "alias/demo", 1, None),
    ]
    assert all(call.request_id and call.seconds > 0 for call in calls)


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"]
)
def test_what_can_heal_is_repeated(lab: Lab, code: str) -> None:
    lab.faults.add(REGION, "error", 1.0, operation=None, code=code, seed=1)
    sealer, calls = keyring(lab, retries=sealwax.RetryPolicy(attempts=3))
    with pytest.raises(sealwax.KmsError) as caught:
        sealer.encrypt(b"x", context=CONTEXT)
    assert caught.value.code == code
    assert [call.attempt for call in calls] == [1, 2, 3]
    assert {call.error for call in calls} == {code}


@pytest.mark.parametrize(
    "code",
    [
        "DisabledException",
        "KMSInvalidStateException",
        "NotFoundException",
        "InvalidKeyUsageException",
        "InvalidGrantTokenException",
        "AccessDeniedException",
        "LimitExceededException",
    ],
)
def test_what_cannot_heal_is_not(lab: Lab, code: str) -> None:
    lab.faults.add(REGION, "error", 1.0, operation=None, code=code, seed=1)
    sealer, calls = keyring(lab)
    with pytest.raises(sealwax.KmsError):
        sealer.encrypt(b"x", context=CONTEXT)
    assert len(calls) == 1


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (7, 5.0), (999, 5.0)])
def test_pauses_are_drawn_from_the_whole_of_what_grows(attempt: int, longest: float) -> None:
    """So that callers who were turned away together do not come back together."""
    pauses = [pause_after(attempt) for _ in range(2000)]
    assert 0 <= min(pauses) < longest * 0.1
    assert longest * 0.9 < max(pauses) <= longest
    tenths = Counter(int(pause / longest * 10) for pause in pauses)
    assert all(tenths[tenth] > 100 for tenth in range(10))


def test_no_attempt_begins_after_the_deadline(lab: Lab) -> None:
    lab.faults.add(REGION, "throttle", 1.0, operation=None, code=None, seed=1)
    sealer, calls = keyring(lab, retries=sealwax.RetryPolicy(attempts=1000, deadline=0.5))
    with pytest.raises(sealwax.ThrottledError):
        sealer.encrypt(b"x", context=CONTEXT)
    assert 1 < len(calls) < 1000


def test_time_outs_fit_kms_and_nobody_else_repeats(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore waits 60 seconds for either, and repeats what cannot heal."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    monkeypatch.setenv("AWS_RETRY_MODE", "legacy")
    session = lab.session()
    clients: list[Any] = []
    sends: list[str] = []
    make = session.client

    class Watched:
        region_name = session.region_name

        def client(self, *arguments: Any, **settings: Any) -> Any:
            clients.append(make(*arguments, **settings))
            clients[-1].meta.events.register_first("before-send.kms", lambda **_: sends.append("sent"))
            return clients[-1]

    lab.faults.add(REGION, "error", 1.0, operation=None, code="KMSInternalException", seed=1)
    keyring = sealwax.KmsKeyring("alias/demo", session=Watched(), retries=sealwax.RetryPolicy(attempts=2))
    with pytest.raises(sealwax.KmsError):
        sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)
    assert [(client.meta.config.connect_timeout, client.meta.config.read_timeout) for client in clients] == [(3, 5)]
    assert len(sends) == 2


def test_a_watcher_that_fails_fails_nobody_else(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def watch(_: Event) -> None:
        raise LookupError("the watcher's own")

    made = sealwax.KmsKeyring("alias/demo", session=lab.session(), on_event=watch)
    assert sealwax.Sealer(made).encrypt(b"x", context=CONTEXT)
    assert "on_event" in caplog.text


def test_the_limit_slows_down_when_kms_throttles(lab: Lab) -> None:
    limit = sealwax.RateLimit(1000)
    lab.faults.add(REGION, "throttle", 1.0, operation=None, code=None, seed=1)
    sealer, _ = keyring(lab, limit=limit, retries=sealwax.RetryPolicy(attempts=3))
    with pytest.raises(sealwax.ThrottledError):
        sealer.encrypt(b"x", context=CONTEXT)
    assert limit.current_rate < 600


def test_a_limit_without_room_is_an_error_of_its_own(lab: Lab) -> None:
    limit = sealwax.RateLimit(0.01, burst=1)
    sealer, calls = keyring(lab, limit=limit, retries=sealwax.RetryPolicy(deadline=1))
    sealer.encrypt(b"x", context=CONTEXT)
    with pytest.raises(sealwax.ThrottledError, match="rate limit"):
        sealer.encrypt(b"x", context=CONTEXT)
    assert len(calls) == 1


def _take(path: Path, seconds: float, queue: Any) -> None:
    limit = sealwax.RateLimit(200, burst=1, shared=path)
    end = time.monotonic() + seconds
    taken = 0
    while limit.acquire(end):
        taken += 1
    queue.put(taken)


def test_processes_share_one_limit_where_asked(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    queue = spawning.Queue()
    processes = [spawning.Process(target=_take, args=(tmp_path / "limit", 1.0, queue)) for _ in range(2)]
    started = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    elapsed = time.monotonic() - started
    taken = [queue.get(timeout=10) for _ in processes]
    # Each alone would have taken as many as both together.
    assert sum(taken) <= 200 * elapsed + 2


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_positive(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        sealwax.RateLimit(rate)


def test_requests_that_were_throttled_together_halve_the_rate_once() -> None:
    limit = sealwax.RateLimit(1000)
    sent = time.monotonic()
    for _ in range(20):
        limit.throttled(sent)
    # Nor does one that was sent right after: KMS counts by the second.
    limit.throttled(time.monotonic())
    assert 500 <= limit.current_rate < 1000
    limit.throttled(time.monotonic() + 1)
    assert limit.current_rate < 500


def test_a_shared_limit_holds_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    limits = [sealwax.RateLimit(1000, shared=tmp_path / "limit") for _ in range(10)]
    assert all(limit.acquire(time.monotonic() + 10) for limit in limits)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize("tokens", [float("nan"), float("-inf"), float("inf")])
def test_a_state_that_can_be_nobodys_is_not_taken_over(tmp_path: Path, tokens: float) -> None:
    (tmp_path / "limit").write_bytes(struct.pack("<dddd", tokens, 5.0, time.monotonic() - 1, 0.0))
    limit = sealwax.RateLimit(10, shared=tmp_path / "limit")
    assert limit.acquire(time.monotonic() + 30)
    assert limit.current_rate == 10


def test_a_shared_limit_that_cannot_be_used_is_told_of_at_once(tmp_path: Path) -> None:
    with pytest.raises(sealwax.FileError, match="shared rate limit"):
        sealwax.RateLimit(1000, shared=tmp_path / "no folder" / "limit")


def test_a_forked_child_and_its_parent_exclude_each_other(tmp_path: Path) -> None:
    limit = sealwax.RateLimit(1000, shared=tmp_path / "limit")
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with limit._exclusive():
                os.write(ready[1], b"x")
                os.read(go[0], 1)
            status = 0
        finally:
            os._exit(status)
    os.read(ready[0], 1)
    waiting = threading.Thread(target=lambda: limit.current_rate)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()  # the child holds the lock
    os.write(go[1], b"x")
    waiting.join(30)
    assert not waiting.is_alive()
    assert os.waitpid(child, 0)[1] == 0
    for descriptor in (*ready, *go):
        os.close(descriptor)


def test_a_child_that_is_forked_while_a_lock_is_held_does_not_hang() -> None:
    limit = sealwax.RateLimit(1000)
    keyring = sealwax.MultiRegionKeyring(["arn:aws:kms:eu-west-1:111122223333:alias/a"])
    breaker = keyring._members[0].breaker
    with limit._lock, breaker._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends the child if it hangs
            status = 1
            try:
                assert limit.acquire(time.monotonic() + 10)
                assert breaker.may_call()
                status = 0
            finally:
                os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


NONSENSE = [
    (200, b""),
    (200, b"<html>"),
    (200, b"[]"),
    (200, b"null"),
    (200, b"{}"),
    (200, b"\xff{"),
    (200, b'{"Plaintext": 5, "CiphertextBlob": 5, "KeyId": 5, "SourceKeyId": 5}'),
    (200, b'{"CiphertextBlob": "a", "KeyId": 5}'),
    (200, b'{"KeyId": ["a"], "SourceKeyId": {}, "KeyMaterialId": 5, "DestinationKeyMaterialId": 5}'),
    (400, b"[]"),
    (400, b'{"__type": 5, "message": 5}'),
    (400, b'{"__type": "NotFoundException", "message": {"a": 1}}'),
    (500, b"\xff"),
]


@pytest.mark.parametrize(("status", "body"), NONSENSE)
def test_an_answer_that_makes_no_sense_is_an_error_of_ours(lab: Lab, status: int, body: bytes) -> None:
    whole = json.loads(body) if body.startswith(b'{"') and status == 200 else None
    sealed = keyring(lab)[0].encrypt(b"x", context=CONTEXT)
    session = lab.session()

    def answer(response_dict: dict[str, Any], **_: Any) -> None:
        response_dict["status_code"] = status
        # With what else belongs there, since the first thing that is missing would hide the rest.
        response_dict["body"] = json.dumps(json.loads(response_dict["body"]) | whole).encode() if whole else body

    session.events.register("before-parse.kms", answer)
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session, retries=sealwax.RetryPolicy(attempts=1)))
    asks: list[Callable[[], object]] = [
        lambda: sealer.encrypt(b"x", context=CONTEXT),
        lambda: sealer.decrypt(sealed, context=CONTEXT),
        lambda: sealer.rewrap(sealed, to="alias/demo", context=CONTEXT),
    ]
    for ask in asks:
        with pytest.raises(sealwax.SealwaxError) as caught:
            ask()
        assert caught.value.__context__ is None
