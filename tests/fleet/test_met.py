"""What a fleet meets that is no envelope of its own, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import sealwax
from sealwax import fleet
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax.stores import Entry
from tests.fleet.fleets import ACME, Keys, Wrapping, arns, plan, run, seal


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
    proven = fleet.verify(path, session=keys.lab.session(), decrypt=10)
    assert (proven.done, proven.hidden) == (False, 1), "nobody can tell what the damaged one is under"
    (folder / "damaged.swx").unlink()
    assert fleet.verify(path, session=keys.lab.session(), decrypt=10).done


def test_a_folder_that_cannot_be_read_is_not_called_done(keys: Keys, folder: Path, path: Path) -> None:
    """As a store says it that meets one: root reads everything."""
    seal(keys, folder / "a.swx", b"value", keys.new)

    class Hiding(Wrapping):
        def list(self) -> Iterator[Entry | sealwax.SealwaxError]:
            yield from super().list()
            yield sealwax.FileError("reading the folder 'secret' failed: Permission denied")

    planned = plan(keys, folder, path, open_location=Hiding.around)
    assert (planned.stale, planned.hidden, planned.done) == (0, 1, False)
    assert ("", "unlisted", "reading the folder 'secret' failed: Permission denied") in planned.problems


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
    assert "not under a source key of the plan" in reasons["forged.swx"]
    assert reasons["other.swx"] == "its stored context has a different value of 'tenant'"
    assert reasons["more.swx"] == "its stored context has an extra name 'x'"
    assert reasons["less.swx"] == "its stored context lacks 'set'"


def test_an_envelope_that_only_claims_the_wanted_key_is_not_taken_at_its_word(
    keys: Keys, folder: Path, path: Path
) -> None:
    """To drop the key that opens it for the claim of one that may not would be to lose it."""
    both = seal(keys, folder / "a.swx", b"value", keys.one, keys.new)
    header = inspect_envelope(both).header
    junk = sealwax.WrappedKey(keys.new, b"junk", b"", 1)
    from sealwax._core.format.header import lay_out

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


def test_a_forged_envelope_does_not_answer_for_another(keys: Keys, folder: Path, path: Path) -> None:
    """It has the other's wrapped key, which KMS refuses just now, and behind it one for a data key of its own."""
    from sealwax._core.format.header import lay_out

    mine = seal(keys, folder / "b.swx", b"mine")
    own = seal(keys, folder / "a.swx", b"own", keys.two)
    header = inspect_envelope(own).header
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
    assert "the plan does not add Regions" in planned.problems[0][2]
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
