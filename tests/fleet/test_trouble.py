"""What goes wrong while a fleet is re-wrapped, and what becomes of it then."""

from __future__ import annotations

import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax import Retries, fleet
from sealwax.envelope import Inspection
from sealwax.fleet.journal import Journal
from sealwax.fleet.shard import Result
from sealwax.rewrapping import Rewrap
from sealwax.stores import Change, Entry, Store, open_store
from tests.fleet.fleets import Keys, marks, plan

ACME = {"tenant": "acme", "set": "0"}
REGION = "us-east-1"


def seal(keys: Keys, path: Path, value: bytes = b"value", *arns: str, context: dict[str, str] = ACME) -> Path:
    path.write_bytes(keys.sealer(*(arns or (keys.one,))).encrypt(value, context=context))
    return path


def seal_many(keys: Keys, folder: Path, count: int) -> None:
    sealer = keys.sealer(keys.one)
    for at in range(count):
        (folder / f"{at:03}.swx").write_bytes(sealer.encrypt(b"value %d" % at, context=ACME))


def run(keys: Keys, path: Path, **more: Any) -> fleet.Report:
    return fleet.run(path, **{"session": keys.lab.session(), **more})


def impatient(keys: Keys, **more: Any) -> Callable[[fleet.Settings, Journal], fleet.Rewrapper]:
    return lambda settings, journal: fleet.Rewrapper(
        settings.sources, session=keys.lab.session(), retries=Retries(attempts=1), answers=journal, **more
    )


def arns(path: Path) -> list[str]:
    return [key.key_arn for key in sealwax.inspect(path).wrapped_keys]


def test_what_is_foreign_damaged_empty_or_oddly_named(keys: Keys, folder: Path, path: Path) -> None:
    odd: list[str | bytes] = ["grüße 🌍.swx", "a b\n.swx", "-.swx", "100%.swx", b"\xff.swx"]
    for name in odd:
        (folder / os.fsdecode(name)).write_bytes(keys.sealer(keys.one).encrypt(b"odd", context=ACME))
    (folder / "empty.swx").touch()
    (folder / "text.txt").write_text("no envelope")
    damaged = bytearray(seal(keys, folder / "damaged.swx").read_bytes())
    damaged[40] ^= 1
    (folder / "damaged.swx").write_bytes(damaged)
    (folder / "link.swx").symlink_to(folder / "-.swx")
    planned = plan(keys, folder, path)
    assert {state: count for state, (count, _) in planned.states.items()} == {"stale": 5, "foreign": 2, "damaged": 1}
    assert {(name, state) for name, state, _ in planned.problems} == {
        (f"{folder}/empty.swx", "foreign"),
        (f"{folder}/text.txt", "foreign"),
        (f"{folder}/damaged.swx", "damaged"),
    }
    done = run(keys, path)
    assert (done.rewrapped, done.stale, done.failed) == (5, 0, 0)
    assert (folder / "damaged.swx").read_bytes() == damaged
    assert fleet.verify(path, session=keys.lab.session(), decrypt=10).done


def test_a_folder_that_cannot_be_read_is_not_called_done(keys: Keys, folder: Path, path: Path) -> None:
    """As a store says it that meets one: root reads everything."""
    seal(keys, folder / "a.swx", b"value", keys.new)

    class Hiding(Wrapping):
        def list(self) -> Iterator[Entry | sealwax.SealwaxError]:
            yield from super().list()
            yield sealwax.FileError("reading the folder 'secret' failed: Permission denied")

    planned = plan(keys, folder, path, open_place=Hiding.around)
    assert (planned.stale, planned.hidden, planned.done) == (0, 1, False)
    assert ("", "unlisted", "reading the folder 'secret' failed: Permission denied") in planned.problems


class Wrapping:
    """A store around a store."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @classmethod
    def around(cls, where: str) -> Store:
        return cls(open_store(where))

    @property
    def location(self) -> str:
        return self.inner.location

    def list(self) -> Iterator[Entry | sealwax.SealwaxError]:
        return self.inner.list()

    def inspect(self, name: str) -> Inspection:
        return self.inner.inspect(name)

    def open(self, name: str) -> BinaryIO:
        return self.inner.open(name)

    def rewrap(self, name: str, rewrap: Rewrap) -> None:
        self.inner.rewrap(name, rewrap)

    def replace(self, name: str, change: Change) -> None:
        self.inner.replace(name, change)


def test_forged_and_foreign_envelopes_never_reach_kms(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "mine.swx")
    forged = seal(keys, folder / "forged.swx", b"value", keys.foreign)
    # Somebody else's envelope, under a key that is allowed, in the place of one's own.
    other = seal(keys, folder / "other.swx", context={"tenant": "evil", "set": "0"})
    more = seal(keys, folder / "more.swx", context=ACME | {"x": "y"})
    less = seal(keys, folder / "less.swx", context={"tenant": "acme"})
    written = {one: one.read_bytes() for one in (forged, other, more, less)}
    planned = plan(keys, folder, path)
    assert (planned.stale, planned.failed, planned.count("skipped"), planned.kms_calls) == (2, 1, 3, 1)
    assert planned.reasons == {"keys": 2}
    made = keys.calls()
    done = run(keys, path)
    assert keys.calls() - made == {"ReEncrypt": 1}
    assert (done.rewrapped, done.failed, done.stale, done.count("skipped")) == (1, 1, 1, 3)
    assert {one: one.read_bytes() for one in written} == written
    reasons = {Path(name).name: reason for name, _, reason in done.problems}
    assert "none of the keys named with --from" in reasons["forged.swx"]
    assert reasons["other.swx"] == "its stored context has another 'tenant'"
    assert reasons["more.swx"] == "its stored context has 'x', which was not given"
    assert reasons["less.swx"] == "its stored context lacks 'set'"


def test_an_envelope_that_only_claims_the_wanted_key_is_not_taken_at_its_word(
    keys: Keys, folder: Path, path: Path
) -> None:
    """To drop the key that opens it for the claim of one that may not would be to lose it."""
    both = seal(keys, folder / "a.swx", b"value", keys.one, keys.new)
    header = sealwax.inspect(both).header
    junk = sealwax.WrappedKey(keys.new, b"junk", b"", 1)
    from sealwax.format.header import lay_out

    preamble = header.preamble
    forged = lay_out(
        envelope_id=preamble.envelope_id,
        kms_context=preamble.kms_context,
        local_pairs=0,
        wrapped_keys=(header.slot.wrapped_keys[0], junk),
        slot_count=1,
    )
    both.write_bytes(forged.to_bytes() + both.read_bytes()[preamble.payload_offset :])
    assert plan(keys, folder, path).kms_calls == 1
    assert run(keys, path).rewrapped == 1
    assert keys.sealer(keys.new).decrypt(both.read_bytes(), context=ACME) == b"value"


def test_two_runs_of_one_plan_are_refused(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "a.swx")
    plan(keys, folder, path)
    with Journal(path) as journal, journal.alone():
        for attempt in (fleet.run, fleet.verify, fleet.refresh):
            with pytest.raises(sealwax.PlanError, match="another run works on the plan"):
                attempt(path, session=keys.lab.session())
    assert run(keys, path).rewrapped == 1
    assert not path.with_name("rotation.plan.lock").exists()


def test_two_plans_of_one_fleet_run_at_once(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 80)
    paths = [path, path.with_name("other.plan")]
    for one in paths:
        plan(keys, folder, one)
    reports: dict[Path, fleet.Report] = {}
    threads = [threading.Thread(target=lambda one=one: reports.update({one: run(keys, one)})) for one in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each envelope was re-wrapped by one of them: the other found it fresh.
    assert sum(report.rewrapped for report in reports.values()) == 80
    assert [report.stale for report in reports.values()] == [0, 0]
    assert keys.calls()["ReEncrypt"] == 80


def test_what_a_writer_replaces_meanwhile_is_left_for_the_next_pass(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 10)

    raced: set[str] = set()

    class Racing(Wrapping):
        """Where a writer puts a new envelope in an object's place once, after its header was read."""

        def rewrap(self, name: str, rewrap: Rewrap) -> None:
            def late(header: Any, head: Any) -> Any:
                made = rewrap(header, head)
                if name not in raced:
                    raced.add(name)
                    seal(keys, path.with_name(f"new-{Path(name).name}"), f"newer {Path(name).name}".encode()).rename(
                        name
                    )
                return made

            self.inner.rewrap(name, late)

    plan(keys, folder, path, digests=None)
    done = run(keys, path, open_place=Racing.around)
    assert len(raced) == 10
    assert (done.rewrapped, done.stale) == (10, 0)
    for at in range(10):
        value = keys.sealer(keys.new).decrypt((folder / f"{at:03}.swx").read_bytes(), context=ACME)
        assert value == f"newer {at:03}.swx".encode()
    proven = fleet.verify(path)
    assert proven.checked is not None
    assert (proven.done, proven.checked.replaced, proven.checked.digests) == (True, 10, 0)


def test_what_changed_since_the_plan_is_judged_as_it_is_now(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 4)
    plan(keys, folder, path)
    seal(keys, folder / "000.swx", b"fresh", keys.new)
    seal(keys, folder / "001.swx", b"theirs", keys.foreign)
    seal(keys, folder / "002.swx", context={"tenant": "evil", "set": "0"})
    (folder / "003.swx").write_bytes(b"no envelope")
    done = run(keys, path)
    assert {state: count for state, (count, _) in done.states.items()} == {
        "fresh": 1,
        "refused": 1,
        "skipped": 1,
        "foreign": 1,
    }
    assert keys.calls()["ReEncrypt"] == 0


def test_a_forged_envelope_does_not_answer_for_another(keys: Keys, folder: Path, path: Path) -> None:
    """It has the other's wrapped key, which KMS refuses just now, and behind it one for a data key of its own."""
    from sealwax.format.header import lay_out

    mine = seal(keys, folder / "b.swx", b"mine")
    own = seal(keys, folder / "a.swx", b"own", keys.two)
    header = sealwax.inspect(own).header
    forged = lay_out(
        envelope_id=header.preamble.envelope_id,
        kms_context=header.preamble.kms_context,
        local_pairs=0,
        wrapped_keys=(sealwax.inspect(mine).wrapped_keys[0], header.slot.wrapped_keys[0]),
        slot_count=1,
    )
    own.write_bytes(forged.to_bytes() + own.read_bytes()[header.preamble.payload_offset :])
    before = mine.read_bytes()
    plan(keys, folder, path)
    keys.lab.call("DisableKey", KeyId=keys.one)
    done = run(keys, path, workers=1)
    assert (done.rewrapped, done.failed) == (1, 1)
    assert mine.read_bytes() == before
    keys.lab.call("EnableKey", KeyId=keys.one)
    assert run(keys, path).stale == 0
    assert keys.sealer(keys.new).decrypt(mine.read_bytes(), context=ACME) == b"mine"


def test_a_plan_takes_nothing_of_a_killed_run_of_the_one_before(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 3)
    plan(keys, folder, path)
    beside = {}
    with Journal(path) as journal:
        # What SIGKILL would leave beside the plan now.
        journal.set_fact("where", ["/elsewhere"])
        journal.set_fact("older_than", "x" * 9000)
        for suffix in ("-wal", "-shm"):
            beside[suffix] = Path(f"{path}{suffix}").read_bytes()
    for suffix, content in beside.items():
        Path(f"{path}{suffix}").write_bytes(content)
    plan(keys, folder, path, overwrite=True)
    assert fleet.status(path).where == (str(folder),)
    assert run(keys, path).rewrapped == 3


def test_a_plan_that_a_run_works_on_is_not_replaced(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 1)
    plan(keys, folder, path)
    before = path.read_bytes()
    with Journal(path) as journal, journal.alone(), pytest.raises(sealwax.PlanError, match="another run"):
        plan(keys, folder, path, overwrite=True)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir() if "plan" in one.name or "part" in one.name] == [path.name]


def test_objects_that_have_gone_do_not_stop_a_run(keys: Keys, folder: Path, path: Path) -> None:
    """A plan that is a week old names many that have been removed since."""
    seal_many(keys, folder, 60)
    plan(keys, folder, path)
    for at in range(30):
        (folder / f"{at:03}.swx").unlink()
    done = run(keys, path)
    assert (done.rewrapped, done.count("left"), done.failed, done.ended) == (30, 30, 0, "")
    assert fleet.verify(path).done


def test_what_has_gone_is_left_and_a_new_scan_forgets_it(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 2)
    plan(keys, folder, path)
    (folder / "000.swx").unlink()
    done = run(keys, path)
    assert (done.rewrapped, done.count("left")) == (1, 1)
    proven = fleet.verify(path)
    assert (proven.objects, proven.checked and proven.checked.gone, proven.done) == (1, 1, True)


def test_a_place_that_is_empty_all_at_once_is_not_proven(keys: Keys, folder: Path, path: Path) -> None:
    # A volume that is not mounted looks so.
    seal_many(keys, folder, 2)
    plan(keys, folder, path)
    run(keys, path)
    for file in folder.iterdir():
        file.unlink()
    proven = fleet.verify(path)
    assert (proven.objects, proven.checked and proven.checked.gone, proven.done) == (0, 2, False)


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
    done = run(keys, path, rewrapper=impatient(keys), workers=2)
    assert "of the last" in done.ended
    assert (done.rewrapped, done.stale) == (0, 60)
    assert done.count("left") >= 20
    assert marks(folder) == written
    keys.lab.faults.clear(REGION, None)
    assert run(keys, path).rewrapped == 60


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
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))
    try:
        done = run(keys, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.rewrapped, done.failed) == (1, 3)
    assert [one.read_bytes() for one in names] == written
    assert {one.name for one in folder.iterdir()} == {"0.swx", "1.swx", "2.swx", "small.swx"}
    assert run(keys, path).rewrapped == 3
    assert fleet.verify(path).done


def test_no_room_for_the_plan(keys: Keys, folder: Path, path: Path) -> None:
    seal_many(keys, folder, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    target = path.parent / "no" / "such" / "folder.plan"
    with pytest.raises(sealwax.FileError, match=r"writing the plan '.*folder.plan' failed: No such file"):
        plan(keys, folder, target)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(sealwax.FileError, match="using the plan"):
            Journal.create(path, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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
    assert (late.ended, late.rewrapped) == ("its time was up", 0)
    rest = run(keys, path)
    assert stopped.rewrapped + rest.rewrapped == 60
    assert keys.calls()["ReEncrypt"] == 60


def test_a_scheduler_keeps_one_plan(keys: Keys, folder: Path, path: Path) -> None:
    """New objects, and new material of the wanted key, are found by a new scan; nothing to do costs nothing."""
    seal(keys, folder / "a.swx", b"value", keys.new)
    plan(keys, folder, path, sources=[keys.new])
    assert run(keys, path).rewrapped == 0
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    seal(keys, folder / "b.swx", b"value", keys.new)
    session = keys.lab.session()
    fleet.refresh(path, session=session)
    done = run(keys, path)
    assert (done.rewrapped, done.count("fresh"), done.kms_calls) == (1, 1, 1)
    assert dict(done.reasons) == {"material": 1}
    fleet.refresh(path, session=session)
    made, written = keys.calls(), marks(folder)
    assert run(keys, path).kms_calls == 0
    assert keys.calls() == made
    assert marks(folder) == written


def test_answers_of_before_a_rotation_are_not_used_after_it(keys: Keys, folder: Path, path: Path) -> None:
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    for at in range(20):
        (folder / f"{at:02}.swx").write_bytes(sealed)
    plan(keys, folder, path, sources=[keys.one, keys.new])
    asked = iter(range(1000))
    first = run(keys, path, stop=lambda: next(asked) >= 8, workers=1)
    assert 0 < first.rewrapped < 20
    # Run again, KMS is not asked again for what the envelopes share.
    asked = iter(range(1000))
    second = run(keys, path, stop=lambda: next(asked) >= 4, workers=1)
    assert (second.rewrapped > 0, second.kms_calls) == (True, 0)
    keys.lab.call("RotateKeyOnDemand", KeyId=keys.new)
    fleet.refresh(path, session=keys.lab.session())
    assert run(keys, path).stale == 0
    ((arn, material, objects),) = fleet.verify(path).after
    current = keys.lab.call("DescribeKey", KeyId=keys.new)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert (arn, material, objects) == (keys.new, current, 20)


def test_threads_share_a_call_without_a_plan_too(keys: Keys, folder: Path, path: Path) -> None:
    """As an engine does that has no journal: what is made once is remembered, and who comes meanwhile waits for it."""
    sealed = keys.sealer(keys.one).encrypt(b"shared", context=ACME)
    for at in range(40):
        (folder / f"{at:02}.swx").write_bytes(sealed)
    plan(keys, folder, path)
    keys.lab.faults.add(REGION, "latency", 100, operation="ReEncrypt", code=None, seed=0)
    done = run(keys, path, rewrapper=lambda settings, _: fleet.Rewrapper(settings.sources, session=keys.lab.session()))
    assert (done.rewrapped, done.kms_calls, keys.calls()["ReEncrypt"]) == (40, 1, 1)


def test_a_local_context_and_a_detached_header_are_not_decrypted(keys: Keys, folder: Path, path: Path) -> None:
    keyring = sealwax.KmsKeyring(keys.one, session=keys.lab.session())
    sealer = sealwax.Sealer(keyring, local_context=("id",))
    (folder / "local.swx").write_bytes(sealer.encrypt(b"x", context=ACME | {"id": "7"}))
    header, body = sealer.encrypt_detached(b"x", context=ACME)
    (folder / "header.swx").write_bytes(header)
    (folder / "body").write_bytes(body)
    planned = plan(keys, folder, path, digests=None)
    assert (planned.stale, planned.count("foreign"), planned.digests) == (2, 1, 2)
    assert run(keys, path).rewrapped == 2
    proven = fleet.verify(path, session=keys.lab.session(), decrypt=5)
    assert proven.checked is not None
    assert (proven.done, proven.checked.decrypted, proven.checked.elsewhere) == (True, 0, 2)


def test_a_wanted_region_that_is_missing(keys: Keys, folder: Path, path: Path) -> None:
    far = keys.lab.create_key(region="eu-west-1")["Arn"]
    one = seal(keys, folder / "a.swx")
    planned = plan(keys, folder, path, to=[keys.new, far])
    assert (dict(planned.missing_regions), planned.failed, planned.kms_calls) == ({"eu-west-1": 1}, 1, 0)
    assert "--add-region" in planned.problems[0][2]
    assert run(keys, path).stale == 1
    planned = plan(keys, folder, path, to=[keys.new, far], add_regions=True, overwrite=True)
    assert (planned.stale, planned.kms_calls) == (1, 3)
    made = keys.calls()
    assert run(keys, path).rewrapped == 1
    assert keys.calls() - made == {"ReEncrypt": 1, "Decrypt": 1, "Encrypt": 1}
    assert arns(one) == [keys.new, far]
    for key in (keys.new, far):
        assert keys.sealer(key).decrypt(one.read_bytes(), context=ACME) == b"value"
    assert fleet.verify(path).done


@pytest.mark.parametrize("content", [b"", b"no plan", b"no plan" * 1000, b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_plan(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    for attempt in (fleet.status, fleet.run, fleet.verify, fleet.refresh, fleet.problems):
        with pytest.raises(sealwax.PlanError, match="is no plan"):
            attempt(path)


def test_a_database_of_another_program_and_a_damaged_plan(keys: Keys, folder: Path, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE facts (a)")
    connection.close()
    with pytest.raises(sealwax.PlanError, match="another program"):
        fleet.status(path)
    path.unlink()
    seal_many(keys, folder, 20)
    plan(keys, folder, path)
    whole = path.read_bytes()
    refused = 0
    drawn = random.Random(1)
    for _ in range(200):
        at = drawn.randrange(16, len(whole))
        path.write_bytes(whole[:at] + drawn.randbytes(40) + whole[at + 40 :])
        try:
            fleet.status(path)
            fleet.problems(path)
        except (sealwax.PlanError, sealwax.FileError):
            refused += 1
    assert refused >= 10
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(sealwax.PlanError):
        fleet.status(path)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("where", 5),
        ("where", [5]),
        ("rate", "x"),
        ("rate", -1),
        ("older_than", []),
        ("digests", "x"),
        ("kms_calls", None),
    ],
)
def test_a_plan_from_elsewhere_says_anything(keys: Keys, folder: Path, path: Path, fact: str, value: Any) -> None:
    plan(keys, folder, path)
    with Journal(path) as journal:
        journal.set_fact(fact, value)
    said = f"damaged: it lacks its {fact}"
    if fact in ("rate", "kms_calls"):
        with pytest.raises(sealwax.PlanError, match=said):
            run(keys, path)
    else:
        with pytest.raises(sealwax.PlanError, match=said):
            fleet.refresh(path, session=keys.lab.session())


def test_a_second_look_at_a_plan_keeps_the_locks_of_the_first(keys: Keys, folder: Path, path: Path) -> None:
    """Else another process takes itself for the last one, and removes the log that this one goes on writing to."""
    plan(keys, folder, path)
    other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute(sys.argv[2]).fetchall()); c.close()"

    def elsewhere(query: str) -> str:
        command = [sys.executable, "-c", other, str(path), query]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    with Journal(path) as journal:
        journal.set_fact("kms_calls", 1)
        fleet.status(path)
        elsewhere("SELECT 1 FROM facts")
        journal.set_fact("kms_calls", 2)
        assert elsewhere("SELECT value FROM facts WHERE name = 'kms_calls'") == "[('2',)]\n"


def test_a_plan_of_a_newer_release(keys: Keys, folder: Path, path: Path) -> None:
    plan(keys, folder, path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=9")
    connection.close()
    with pytest.raises(sealwax.PlanError, match="version 9"):
        fleet.status(path)


def test_results_and_settings_can_be_sent_to_other_processes(keys: Keys, folder: Path, path: Path) -> None:
    import pickle

    seal(keys, folder / "a.swx")
    settings = plan(keys, folder, path).settings
    assert pickle.loads(pickle.dumps(settings)) == settings
    result = Result(1, "a", "rewrapped", keys=((keys.new, ""),))
    assert pickle.loads(pickle.dumps(result)) == result
