"""Envelopes whose re-wrap was stopped between its two slots: a fleet finishes them, and only by what KMS says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealwax import fleet
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import Slot
from sealwax._core.keyring import WrappedKey
from tests.faults.unfinished import with_slots
from tests.fleet.fleets import ACME, Keys, marks, plan, run


def _half(keys: Keys, path: Path, newer: WrappedKey | None = None, context: dict[str, str] = ACME) -> Path:
    """Write an envelope whose older slot is under alias/one and whose newer one is under the wanted key."""
    sealer = keys.sealer(keys.one)
    value = sealer.encrypt(b"value", context=context)
    if newer is None:
        newer = inspect_envelope(sealer.rewrap(value, to=keys.new, context=context)).wrapped_keys[0]
    path.write_bytes(with_slots(value, Slot(2, (newer,)), Slot(1, inspect_envelope(value).wrapped_keys)))
    return path


def test_a_run_that_was_killed_between_the_slots_is_resumed(keys: Keys, folder: Path, path: Path) -> None:
    """The wanted key is not one of the old keys, so it is the older slot that KMS opens."""
    sealed = _half(keys, folder / "a.swx")
    planned = plan(keys, folder, path)
    assert (planned.stale, planned.kms_calls) == (1, 1)
    before = keys.calls()["ReEncrypt"]
    done = run(keys, path)
    assert (done.rewrapped, done.stale, keys.calls()["ReEncrypt"] - before) == (1, 0, 1)
    found = inspect_envelope(sealed)
    assert found.header.finished
    assert [key.key_arn for key in found.wrapped_keys] == [keys.new]
    assert keys.sealer(keys.new).verify(sealed, context=ACME) == 5
    assert fleet.verify(path).done


@pytest.mark.parametrize("newer", ["forged", "swapped"])
def test_a_slot_that_only_says_it_is_under_the_wanted_key_replaces_none(
    keys: Keys, folder: Path, path: Path, newer: str
) -> None:
    other = keys.sealer(keys.new).encrypt(b"another value", context=ACME)
    claims = {
        "forged": WrappedKey(keys.new, b"no wrapped key at all", b"", 0),
        "swapped": inspect_envelope(other).wrapped_keys[0],
    }
    sealed = _half(keys, folder / "a.swx", claims[newer])
    plan(keys, folder, path)
    assert run(keys, path).rewrapped == 1
    assert keys.sealer(keys.new).decrypt(sealed.read_bytes(), context=ACME) == b"value"


def test_what_a_run_refuses_it_does_not_finish(keys: Keys, folder: Path, path: Path) -> None:
    _half(keys, folder / "context.swx", context={"tenant": "evil", "set": "0"})
    _half(keys, folder / "later.swx")
    foreign = _half(keys, folder / "key.swx").read_bytes()
    plan(keys, folder, path)
    header = inspect_envelope(foreign).header
    theirs = inspect_envelope(keys.sealer(keys.foreign).encrypt(b"theirs", context=ACME)).wrapped_keys
    for name, slots in (
        ("key.swx", (Slot(2, theirs), Slot(1, theirs[:1]))),
        # What it says to be under may be so, and no key that is allowed can show it.
        ("later.swx", (header.slots[0], None)),
    ):
        (folder / name).write_bytes(with_slots(foreign, *slots))
    before, bytes_before = marks(folder), {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    done = run(keys, path)
    assert (done.rewrapped, done.count("refused")) == (0, 2)
    assert marks(folder) == before
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == bytes_before
    reasons = {Path(name).name: reason for name, state, reason in fleet.problems(path) if state == "refused"}
    assert "to finish its interrupted re-wrap, add that key to the sources" in reasons["later.swx"]
    plan(keys, folder, path, sources=[*keys.old, keys.new], overwrite=True)
    assert run(keys, path).rewrapped == 1
    assert inspect_envelope(folder / "later.swx").header.finished
