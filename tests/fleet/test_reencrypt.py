"""A fleet under new data keys: planned, done, and proven."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.cache import CachingKeyring
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import lay_out
from sealwax._core.keyring import WrappedKey
from sealwax.fleet import _shard
from sealwax.fleet._journal import Journal
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.stores import Change
from sealwax.stores._files import FileStore
from tests.fleet.fleets import ACME, Keys, envelope_ids, envelopes, fill, full_disk, marks, plan, run, seal

COUNT = 120


def plan_anew(keys: Keys, folder: Path, path: Path, **more: Any) -> fleet.FleetReport:
    return plan(keys, folder, path, reencrypt=True, **more)


def verify(keys: Keys, path: Path, **more: Any) -> fleet.FleetReport:
    return fleet.verify(path, session=keys.lab.session(), **more)


def value_of(keys: Keys, path: Path, *arns: str) -> bytes:
    return keys.sealer(*(arns or (keys.new,))).decrypt(path.read_bytes(), context=ACME)


def claim(path: Path, when: int) -> None:
    """Have an envelope say that it was wrapped at another time."""
    found = inspect_envelope(path)
    keys = tuple(WrappedKey(key.key_arn, key.ciphertext, key.key_material_id, when) for key in found.wrapped_keys)
    preamble = found.header.preamble
    header = lay_out(
        envelope_id=preamble.envelope_id,
        kms_context=preamble.kms_context,
        local_pairs=0,
        wrapped_keys=keys,
        slot_count=1,
    )
    path.write_bytes(header.to_bytes() + path.read_bytes()[preamble.payload_offset :])


def blobs(folder: Path) -> set[bytes]:
    return {key.ciphertext for path in envelopes(folder) for key in inspect_envelope(path).wrapped_keys}


def test_from_the_plan_to_the_proof(keys: Keys, folder: Path, path: Path) -> None:
    distinct = fill(folder, keys, COUNT)
    assert distinct < COUNT
    ids, wrapped, written, made = envelope_ids(folder), blobs(folder), marks(folder), keys.calls()
    size = sum(one.stat().st_size for one in envelopes(folder))

    planned = plan_anew(keys, folder, path)
    assert keys.calls() - made == {"DescribeKey": 1, "ListKeyRotations": 1}
    assert marks(folder) == written
    assert (planned.objects, planned.stale, planned.kms_calls, planned.to_move) == (COUNT, COUNT, 2 * COUNT, size)
    assert dict(planned.reasons) == {"data-key": COUNT, "keys": COUNT}
    text = str(planned)
    assert "for each envelope: kms:Decrypt on the old keys, kms:GenerateDataKey on the new ones" in text
    assert f"{size:,} bytes to read and to write" in text

    made = keys.calls()
    done = run(keys, path)
    # A data key of its own for each: those that shared one share none now.
    assert keys.calls() - made == {"Decrypt": COUNT, "GenerateDataKey": COUNT}
    assert (done.reencrypted, done.rewrapped, done.stale, done.failed, done.kms_calls) == (COUNT, 0, 0, 0, 2 * COUNT)
    assert done.after == planned.after == ((keys.new, planned.settings.wanted.keys[0].material_id.hex(), COUNT),)
    assert len(envelope_ids(folder)) == len(blobs(folder)) == COUNT
    assert envelope_ids(folder).isdisjoint(ids)
    assert blobs(folder).isdisjoint(wrapped)

    made, written = keys.calls(), marks(folder)
    again = run(keys, path)
    assert (again.reencrypted, again.kms_calls) == (0, 0)
    proven = verify(keys, path)
    assert keys.calls() - made == {"Decrypt": COUNT}
    assert marks(folder) == written
    assert proven.checked is not None
    assert (proven.done, proven.stale, proven.reencrypted) == (True, 0, COUNT)
    assert (proven.checked.digests, proven.checked.changed, proven.checked.replaced) == (COUNT, (), 0)
    assert f"{COUNT} unchanged, of {COUNT} digests in the plan" in str(proven)
    made = keys.calls()
    sample = verify(keys, path, digests=7)
    assert keys.calls() - made == {"Decrypt": 7}
    assert (sample.done, sample.checked and sample.checked.digests) == (True, 7)
    assert f"7 unchanged, of {COUNT} digests" in str(sample)
    assert fleet.verify(path, digests=0).done


def test_the_kms_key_may_stay(keys: Keys, folder: Path, path: Path) -> None:
    one = seal(keys, folder / "a.swx")
    ids = envelope_ids(folder)
    assert plan_anew(keys, folder, path, to=[keys.one]).stale == 1
    assert run(keys, path).reencrypted == 1
    assert envelope_ids(folder).isdisjoint(ids)
    assert value_of(keys, one, keys.one) == b"value"
    proven = verify(keys, path)
    assert (proven.done, proven.checked and proven.checked.digests) == (True, 1)


def test_several_new_keys(keys: Keys, folder: Path, path: Path) -> None:
    one = seal(keys, folder / "a.swx")
    far = keys.lab.create_key(region="eu-west-1")["Arn"]
    planned = plan_anew(keys, folder, path, to=[keys.new, far])
    assert (planned.kms_calls, planned.missing_regions) == (3, {})
    made = keys.calls()
    assert run(keys, path).kms_calls == 3
    assert keys.calls() - made == {"Decrypt": 1, "GenerateDataKey": 1, "Encrypt": 1}
    assert [value_of(keys, one, key) for key in (keys.new, far)] == [b"value"] * 2
    assert verify(keys, path).done


def test_what_is_old_is_told_after_the_run_too(keys: Keys, folder: Path, path: Path) -> None:
    """An old copy put back, a writer that kept its data key, and an old envelope under a new name or a new wrap."""
    writer = sealwax.Sealer(CachingKeyring(sealwax.KmsKeyring(keys.one, session=keys.lab.session()), max_age=3600))
    for at in range(3):
        (folder / f"{at}.swx").write_bytes(writer.encrypt(b"cached", context=ACME))
    copy = seal(keys, folder / "3.swx").read_bytes()
    later = plan_anew(keys, folder, path, to=[keys.one]).settings.wanted.wrapped_since + 3600
    assert run(keys, path).reencrypted == 4
    assert verify(keys, path).stale == 0

    (folder / "3.swx").write_bytes(copy)
    (folder / "late.swx").write_bytes(writer.encrypt(b"late", context=ACME))
    (folder / "renamed.swx").write_bytes(keys.sealer(keys.one).rewrap(copy, to=keys.one, context=ACME))
    # Whatever they say of the time: one is known by its wrapped key, one by its id.
    for name in ("late", "renamed"):
        claim(folder / f"{name}.swx", later)
    proven = fleet.verify(path, digests=0)
    assert (proven.done, proven.stale) == (False, 3)
    assert dict(proven.reasons) == {"data-key": 3}
    assert run(keys, path).reencrypted == 3
    proven = verify(keys, path)
    assert (proven.done, proven.checked and proven.checked.digests) == (True, 6)
    assert value_of(keys, folder / "late.swx", keys.one) == b"late"


def test_what_was_not_met_and_says_it_is_older_is_old(keys: Keys, folder: Path, path: Path) -> None:
    """As from a backup; and what is sealed after the plan was made is not."""
    backup = keys.sealer(keys.one).encrypt(b"backup", context=ACME)
    seal(keys, folder / "a.swx")
    planned = plan_anew(keys, folder, path, to=[keys.one])
    run(keys, path)
    (folder / "b.swx").write_bytes(backup)
    # As it would be an hour from now.
    claim(seal(keys, folder / "c.swx"), planned.settings.wanted.wrapped_since + 3600)
    proven = fleet.verify(path, digests=0)
    assert (proven.stale, proven.count("fresh"), proven.count("reencrypted")) == (1, 1, 1)
    fleet.refresh(path, session=keys.lab.session())
    assert run(keys, path).reencrypted == 1
    assert verify(keys, path).done


def test_what_is_not_meant_not_allowed_or_not_readable_here(keys: Keys, folder: Path, path: Path) -> None:
    seal(keys, folder / "mine.swx")
    seal(keys, folder / "other.swx", context={"tenant": "evil", "set": "0"})
    seal(keys, folder / "theirs.swx", b"theirs", keys.foreign)
    keyring = sealwax.KmsKeyring(keys.one, session=keys.lab.session())
    local = sealwax.Sealer(keyring, local_context=("id",))
    (folder / "local.swx").write_bytes(local.encrypt(b"x", context=ACME | {"id": "7"}))
    header, _ = local.encrypt_detached(b"x", context=ACME)
    (folder / "detached.swx").write_bytes(header)
    (folder / "text").write_text("no envelope")
    before = marks(folder)
    planned = plan_anew(keys, folder, path)
    assert (planned.stale, planned.failed, planned.kms_calls, planned.count("skipped")) == (4, 3, 2, 1)
    made = keys.calls()
    done = run(keys, path)
    assert keys.calls() - made == {"Decrypt": 1, "GenerateDataKey": 1}
    assert (done.reencrypted, done.stale, done.failed) == (1, 3, 3)
    assert {name for name, mark in marks(folder).items() if mark != before[name]} == {str(folder / "mine.swx")}
    reasons = {Path(name).name: reason for name, _, reason in done.problems}
    assert "not under a source key of the plan" in reasons["theirs.swx"]
    assert "local context" in reasons["local.swx"]
    assert "stored elsewhere" in reasons["detached.swx"]
    assert not verify(keys, path).done


def test_a_payload_that_is_damaged_is_left_as_it_is(keys: Keys, folder: Path, path: Path) -> None:
    large = folder / "large.swx"
    with keys.sealer(keys.one).open(large, "wb", context=ACME) as file:
        file.write(bytes(3 << 20))
    damaged = bytearray(large.read_bytes())
    damaged[-1] ^= 1
    large.write_bytes(damaged)
    plan_anew(keys, folder, path)
    done = run(keys, path)
    assert (done.failed, done.stale) == (1, 1)
    assert "does not authenticate" in done.problems[0][2]
    assert large.read_bytes() == damaged
    assert os.listdir(folder) == ["large.swx"]


def test_what_somebody_replaces_meanwhile_is_judged_as_it_is_then(keys: Keys, folder: Path, path: Path) -> None:
    names = [seal(keys, folder / f"{at}.swx") for at in range(4)]
    plan_anew(keys, folder, path)
    raced: set[str] = set()

    class Racing(FileStore):
        def replace(self, name: str, change: Change) -> None:
            def late(source: Any, sink: Any) -> None:
                change(source, sink)
                if name not in raced:
                    raced.add(name)
                    seal(keys, path.with_name("new"), b"newer").rename(name)

            super().replace(name, late)

    done = run(keys, path, open_location=Racing)
    assert len(raced) == 4
    assert (done.reencrypted, done.stale) == (4, 0)
    assert [value_of(keys, name) for name in names] == [b"newer"] * 4
    proven = verify(keys, path)
    assert (proven.done, proven.checked and proven.checked.digests) == (True, 4)


def test_a_plaintext_that_is_not_what_was_read_is_told(keys: Keys, folder: Path, path: Path) -> None:
    """A run that writes other bytes than it reads; and one whose object somebody replaces after it."""
    names = [seal(keys, folder / f"{at}.swx") for at in range(3)]
    plan_anew(keys, folder, path)
    run(keys, path)
    connection = sqlite3.connect(path)
    with connection:
        # As if it had read something else.
        connection.execute(
            "UPDATE items SET digest = CAST(substr(digest, 1, 16) || zeroblob(32) AS BLOB) WHERE number = 1"
        )
    connection.close()
    seal(keys, names[2], b"newer", keys.new)
    proven = verify(keys, path)
    assert proven.checked is not None
    assert (proven.checked.digests, proven.checked.replaced) == (1, 1)
    assert proven.checked.changed == (str(names[0]),)
    assert not proven.done


def test_the_plan_tells_nothing_of_a_plaintext(keys: Keys, folder: Path, path: Path) -> None:
    """Two envelopes of one plaintext have nothing in common in it, and no plain digest of theirs stands there."""
    import hashlib
    import hmac

    names = [seal(keys, folder / f"{at}.swx", b"yes") for at in range(2)]
    plan_anew(keys, folder, path)
    run(keys, path)
    with Journal(path) as journal:
        witnesses = {item.name: witness for _, item, witness in journal.digested(None)}
    assert {len(one) for one in witnesses.values()} == {48}
    assert len({one[16:] for one in witnesses.values()}) == 2
    raw = path.read_bytes()
    for name in map(str, names):
        preamble = inspect_envelope(name).header.preamble
        assert witnesses[name][:16] == preamble.envelope_id
        public = (b"", preamble.envelope_id, preamble.kms_context, preamble.envelope_id + preamble.kms_context)
        for key in public:
            assert hmac.digest(key, b"yes", "sha256") not in raw
            assert hashlib.sha256(key + b"yes").digest() not in raw


def test_the_plan_and_the_run_refuse_what_does_not_go_together(keys: Keys, folder: Path, path: Path) -> None:
    impossible: tuple[dict[str, Any], ...] = ({"digests": None}, {"older_than": 5}, {"add_regions": True})
    for more in impossible:
        with pytest.raises(ValueError, match="cannot be combined with"):
            plan_anew(keys, folder, path, **more)
    seal(keys, folder / "a.swx")
    plan_anew(keys, folder, path)

    class Elsewhere:
        """An engine that only re-wraps."""

        def _scan(self, *_: Any) -> Any: ...

        def _rewrap(self, *_: Any) -> Any: ...

    with pytest.raises(sealwax.EngineError, match="Spark does not re-encrypt"):
        run(keys, path, engine=Elsewhere())
    # To re-wrap by a step of nothing would leave an envelope without a wrapped key.
    settings = fleet.status(path).settings
    made = Rewrapper(settings.sources, session=keys.lab.session())
    with pytest.raises(ValueError, match="a re-wrap keeps the data key"):
        next(_shard.rewrap([_shard.Item(1, str(folder / "a.swx"))], settings, FileStore(folder), made))


def test_a_full_disk(keys: Keys, folder: Path, path: Path) -> None:
    """The limit on a file's size is met as a full disk is."""
    large = seal(keys, folder / "large.swx", os.urandom(3_000_000))
    seal(keys, folder / "small.swx")
    plan_anew(keys, folder, path)
    before = large.read_bytes()
    with full_disk(2_500_000):
        done = run(keys, path)
    assert (done.reencrypted, done.failed, done.stale) == (1, 1, 1)
    assert "File too large" in done.problems[0][2]
    assert large.read_bytes() == before
    assert sorted(os.listdir(folder)) == ["large.swx", "small.swx"]
    assert run(keys, path).reencrypted == 1
    assert verify(keys, path).done


def test_without_the_permission_nothing_is_lost(keys: Keys, folder: Path, path: Path) -> None:
    names = [seal(keys, folder / f"{at:02}.swx") for at in range(30)]
    plan_anew(keys, folder, path)
    allow = {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": "*"}
    keys.lab.add_principal("reader", policy={"Version": "2012-10-17", "Statement": [allow]})
    before = [name.read_bytes() for name in names]
    done = fleet.run(path, session=keys.lab.session("us-east-1", principal="reader"))
    assert (done.reencrypted, done.stale) == (0, 30)
    assert "of the last" in done.ended
    assert "AccessDeniedException" in done.problems[0][2]
    assert [name.read_bytes() for name in names] == before
    assert len(os.listdir(folder)) == 30
    assert run(keys, path).reencrypted == 30
