"""What goes wrong with KMS, the disk and the caller while a fleet is re-wrapped, and what becomes of it then."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import sealwax
from sealwax import fleet
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._shard import Item
from sealwax.fleet._state import State
from sealwax.fleet._threads import Health, Threads
from sealwax.stores import open_store
from tests.fleet.fleets import ACME, IMPATIENT, REGION, Keys, full_disk, marks, plan, run, seal, seal_many


def test_permissions_lost_half_way(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 60)
    plan(keys, folder, path)
    allow = {"Effect": "Allow", "Action": ["kms:ReEncrypt*"], "Resource": "*"}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "kms:ReEncryptFrom", "Resource": "*"}
    keys.lab.add_principal("rotator", policy={"Version": "2012-10-17", "Statement": [allow]})
    policy = keys.lab.call("GetKeyPolicy", KeyId=keys.one)["Policy"]

    document = json.loads(policy)
    document["Statement"].append(deny)
    lost = False

    def lose(done: int, _total: int) -> None:
        nonlocal lost
        if done >= 16 and not lost:
            lost = True
            keys.lab.call("PutKeyPolicy", KeyId=keys.one, Policy=json.dumps(document))

    session = keys.lab.session(REGION, principal="rotator")
    done = run(keys, path, session=session, on_progress=lose, workers=2)
    assert done.rewrapped >= 16
    assert "of the last" in done.ended
    assert 0 < done.failed < 44
    assert done.stale == 60 - done.rewrapped
    failures = [reason for _, state, reason in done.problems if state == "failed"]
    assert failures
    assert "AccessDeniedException" in failures[0]
    keys.lab.call("PutKeyPolicy", KeyId=keys.one, Policy=policy)
    rest = run(keys, path, session=session)
    assert (rest.rewrapped, rest.stale) == (60 - done.rewrapped, 0)


def test_half_of_all_requests_are_throttled(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 30)
    plan(keys, folder, path)
    keys.lab.faults.add(REGION, "throttle", 0.5, operation="ReEncrypt", code=None, seed=7)
    done = run(keys, path, rate=50_000)
    assert (done.rewrapped, done.stale) == (30, 0)
    assert done.kms_calls > 30


def test_a_region_that_is_down_stops_the_run_and_costs_nothing(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 60)
    plan(keys, folder, path)
    written = marks(folder)
    keys.lab.faults.add(REGION, "down", 1, operation=None, code=None, seed=0)
    done = run(keys, path, retries=IMPATIENT, workers=2)
    assert "of the last" in done.ended
    assert (done.rewrapped, done.stale) == (0, 60)
    assert done.count("left") >= 20
    assert marks(folder) == written
    keys.lab.faults.clear(REGION, None)
    assert run(keys, path).rewrapped == 60


@pytest.mark.parametrize(("fault", "code"), [("down", None), ("error", "ExpiredTokenException")])
def test_no_wrapped_key_of_several_can_be_used_for_now(
    keys: Keys, folder: Path, path: Path, fault: str, code: str | None
) -> None:
    """As with one: nothing has failed for good, and where nobody is signed in, no other envelope is tried."""
    for at in range(6):
        seal(keys, folder / f"{at}.swx", b"value", keys.one, keys.two)
    plan(keys, folder, path)
    keys.lab.faults.add(REGION, fault, 1, operation="ReEncrypt", code=code, seed=0)
    if code:
        with pytest.raises(sealwax.CredentialsError, match=r"all 2 wrapped keys .*\n.*expired"):
            run(keys, path, workers=1)
        assert fleet.status(path).count("left") == 1
    else:
        assert run(keys, path, retries=IMPATIENT, workers=1).count("left") == 6
    assert fleet.status(path).failed == 0
    keys.lab.faults.clear(REGION, None)
    assert run(keys, path).rewrapped == 6


def test_nobody_is_signed_in(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 30)
    plan(keys, folder, path)
    keys.lab.faults.add(REGION, "error", 1, operation="ReEncrypt", code="ExpiredTokenException", seed=0)
    with pytest.raises(sealwax.CredentialsError, match="expired"):
        run(keys, path, workers=1)
    assert fleet.status(path).stale == 30
    assert keys.calls()["ReEncrypt"] <= 2


def test_a_refusal_that_cannot_heal_is_not_asked_for_again(keys: Keys, folder: Path, path: Path) -> None:
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    for at in range(12):
        (folder / f"{at}.swx").write_bytes(sealed)
    plan(keys, folder, path)
    keys.lab.call("DisableKey", KeyId=keys.one)
    done = run(keys, path)
    assert (done.failed, done.kms_calls) == (12, 1)
    keys.lab.call("EnableKey", KeyId=keys.one)
    assert run(keys, path).kms_calls == 1


def test_a_full_disk(keys: Keys, folder: Path, path: Path) -> None:
    """The limit on a file's size is met as a full disk is."""
    large = os.urandom(3_000_000)
    names = [seal(keys, folder / f"{at}.swx", large) for at in range(3)]
    seal(keys, folder / "small.swx")
    plan(keys, folder, path, digests=None)
    written = [one.read_bytes() for one in names]
    with full_disk(2_500_000):
        done = run(keys, path)
    assert (done.rewrapped, done.failed) == (1, 3)
    assert [one.read_bytes() for one in names] == written
    assert {one.name for one in folder.iterdir()} == {"0.swx", "1.swx", "2.swx", "small.swx"}
    assert run(keys, path).rewrapped == 3
    assert fleet.verify(path).done


def test_a_run_is_stopped_and_goes_on(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 60)
    plan(keys, folder, path)
    seen = 0

    def on_progress(done: int, _total: int) -> None:
        nonlocal seen
        seen = done

    stopped = run(keys, path, stop=lambda: seen >= 16, on_progress=on_progress, workers=1)
    assert stopped.ended == "it was stopped"
    assert 16 <= stopped.rewrapped < 60
    late = run(keys, path, max_duration=1e-9)
    assert (late.ended, late.rewrapped) == ("its time is up", 0)
    rest = run(keys, path)
    assert stopped.rewrapped + rest.rewrapped == 60
    assert keys.calls()["ReEncrypt"] == 60


def test_threads_share_a_call_without_a_plan_too(keys: Keys, folder: Path, path: Path) -> None:
    """As executors of Spark do, which have no plan: each distinct call is made once, and other threads wait for it."""
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    items = [Item(at, str(folder / f"{at:02}.swx")) for at in range(40)]
    for item in items:
        Path(item.name).write_bytes(sealed)
    settings = plan(keys, folder, path).settings
    keys.lab.faults.add(REGION, "latency", 100, operation="ReEncrypt", code=None, seed=0)
    rewrapper = Rewrapper(settings.sources, session=keys.lab.session())
    health = Health(0, None, lambda: False)
    results = Threads()._rewrap([(0, items)], [open_store(str(folder))], settings, rewrapper, health)
    assert [result.state for part in results for result in part] == [State.REWRAPPED] * 40
    assert (rewrapper.calls, keys.calls()["ReEncrypt"]) == (1, 1)
