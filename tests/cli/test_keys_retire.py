"""``sealwax keys retire``: a step each run, and none while an envelope needs the key."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import Slot
from sealwax.cli import run
from sealwax.fleet._usage import find_users
from sealwax.kms._lifecycle import KeyLife
from sealwax.lab import Lab
from tests.faults.unfinished import with_slots

CONTEXT = {"purpose": "backup"}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", str(tmp_path / "lab"))
    (tmp_path / "data").mkdir()
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="old")
        lab.create_key(alias="new")
        yield lab


def seal(lab: Lab, name: str, *keys: str) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring(list(keys), session=lab.session()))
    Path("data", name).write_bytes(sealer.encrypt(b"x", context=CONTEXT))


def state(lab: Lab) -> Any:
    return lab.session().client("kms").describe_key(KeyId="alias/old")["KeyMetadata"]["KeyState"]


def retire(*options: str) -> int:
    return run(["keys", "retire", "alias/old", "--scan", "data", *options])


def test_report_disable_schedule(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    seal(lab, "a.swx", "alias/new")
    Path("data", "notes.txt").write_text("no envelope")
    assert retire() == 0
    out, err = capfd.readouterr()
    assert "needed by 0 objects" in out
    assert "next: disable the key with --apply" in err
    assert state(lab) == "Enabled"
    assert retire("--apply") == 0
    assert "disabled; next: once you are sure" in capfd.readouterr().err
    # Repeated because nobody was sure that it worked, it goes no further.
    assert retire("--apply") == 2
    assert "--apply --delete-after 30" in capfd.readouterr().err
    assert state(lab) == "Disabled"
    assert retire("--apply", "--delete-after", "10", "--json") == 0
    done = json.loads(capfd.readouterr().out)
    assert (done["state"], done["done"], done["next"]) == ("PendingDeletion", "deletion scheduled", "wait")
    assert done["deletion"] is not None
    assert done["aliases"] == ["alias/old"]
    assert retire("--apply", "--delete-after", "10") == 0
    calls = [event.record["eventName"] for event in lab.trail.events()]
    assert calls.count("ScheduleKeyDeletion") == calls.count("DisableKey") == 1


@pytest.mark.parametrize("keys", [("alias/old",), ("alias/new", "alias/old")])
def test_nothing_is_changed_while_an_envelope_is_under_it(
    lab: Lab, keys: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    seal(lab, "a.swx", *keys)
    assert retire("--apply") == 3
    out, err = capfd.readouterr()
    assert "needed by 1 object\n" in out
    assert "a.swx" in out
    assert "next: move what is under the key" in err
    assert state(lab) == "Enabled"
    kms = lab.session().client("kms")
    arn = kms.describe_key(KeyId="alias/old")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=arn)
    assert retire("--apply", "--delete-after", "7") == 3
    assert "enable-key" in capfd.readouterr().err
    kms.schedule_key_deletion(KeyId=arn)
    assert retire() == 3
    assert "cancel-key-deletion" in capfd.readouterr().err


@pytest.mark.parametrize("newer_first", [False, True])
def test_both_slots_of_an_interrupted_rewrap_count(
    lab: Lab, newer_first: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """The older one may be the only one that still opens."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/old", session=lab.session()))
    value = sealer.encrypt(b"x", context=CONTEXT)
    newer = Slot(2, sealwax.inspect(sealer.rewrap(value, to="alias/new", context=CONTEXT)).wrapped_keys)
    slots = [Slot(1, sealwax.inspect(value).wrapped_keys), newer]
    unfinished = with_slots(value, *(reversed(slots) if newer_first else slots))
    assert not inspect_envelope(unfinished).header.finished
    for form in (unfinished, gzip.compress(unfinished)):
        Path("data", "a.swx").write_bytes(form)
        for alias in ("alias/old", "alias/new"):
            assert run(["keys", "retire", alias, "--scan", "data", "--apply"]) == 3
            assert "needed by 1 object\n" in capfd.readouterr().out
    # What a crash has torn is nobody's key, and the other slot is what is left.
    Path("data", "a.swx").write_bytes(with_slots(value, *((newer, None) if newer_first else (None, newer))))
    assert run(["keys", "retire", "alias/old", "--scan", "data"]) == 0
    assert run(["keys", "retire", "alias/new", "--scan", "data"]) == 3


def test_what_cannot_be_looked_at_may_be_under_it(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    seal(lab, "a.swx", "alias/old")
    damaged = bytearray(Path("data/a.swx").read_bytes())
    damaged[40] ^= 1
    Path("data/a.swx").write_bytes(damaged)
    assert retire("--apply") == 3
    assert "1 could not be read, and may be under it" in capfd.readouterr().out
    assert state(lab) == "Enabled"


def test_a_place_where_nothing_is_clears_no_key(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """It is mistyped, or not mounted; also where another place holds something."""
    seal(lab, "a.swx", "alias/new")
    Path("mnt", "vault").mkdir(parents=True)
    for options in ((), ("--scan", "data")):
        assert run(["keys", "retire", "alias/old", "--scan", "mnt", *options, "--apply"]) == 3
        assert "mnt: nothing is there; check its name, and that it is mounted" in capfd.readouterr().out
    assert state(lab) == "Enabled"
    Path("mnt", "vault", "notes.txt").write_text("no envelope")
    assert run(["keys", "retire", "alias/old", "--scan", "mnt", "--apply"]) == 0


def test_a_step_whose_answer_was_lost_is_done(lab: Lab) -> None:
    """boto3 repeats a request that was not answered, and KMS refuses the second one for what the first has done."""
    life = KeyLife("alias/old", lab.session())
    life.disable()
    life.disable()
    due = life.schedule_deletion(10)
    assert due is not None
    assert life.schedule_deletion(10) == due
    lab.session().client("kms").cancel_key_deletion(KeyId=life.arn)
    lab.faults.add("us-east-1", "error", 1.0, operation="ScheduleKeyDeletion", code="KMSInvalidStateException", seed=0)
    with pytest.raises(sealwax.KmsError, match="KMSInvalidStateException"):
        life.schedule_deletion(10)


@pytest.mark.parametrize(
    "options", [("--delete-after", "6"), ("--delete-after", "30"), ("--apply", "--delete-after", "30")]
)
def test_deletion_is_not_a_first_step(lab: Lab, options: tuple[str, ...]) -> None:
    seal(lab, "a.swx", "alias/new")
    assert retire(*options) == 2
    assert state(lab) == "Enabled"


def test_a_plan_stands_for_its_places(lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are read again; the plan file itself is no envelope, and a scan of it alone would clear every key."""
    options = ["--from", "alias/old", "--to", "alias/new", "-c", "purpose=backup", "-o", "rotation.plan"]
    seal(lab, "a.swx", "alias/new")
    assert run(["fleet", "plan", *options, "data"]) == 0
    seal(lab, "b.swx", "alias/old")
    capfd.readouterr()
    assert run(["keys", "retire", "alias/old", "--scan", "rotation.plan", "--apply", "--json"]) == 3
    found = json.loads(capfd.readouterr().out)
    assert (found["scanned"], found["objects"], found["under"]) == ([str(tmp_path / "data")], 2, 1)
    assert state(lab) == "Enabled"
    Path("data/b.swx").unlink()
    assert run(["keys", "retire", "alias/old", "--scan", "rotation.plan", "--apply"]) == 0
    assert state(lab) == "Disabled"


def test_places_that_overlap_count_once(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    seal(lab, "a.swx", "alias/old")
    assert retire("--scan", "data/a.swx", "--scan", "data", "--json") == 3
    found = json.loads(capfd.readouterr().out)
    assert (found["objects"], found["under"]) == (1, 1)


def test_a_place_is_needed(lab: Lab) -> None:
    assert run(["keys", "retire", "alias/old", "--apply"]) == 2
    assert state(lab) == "Enabled"


def test_the_primary_of_a_multi_region_key_serves_its_other_regions(lab: Lab) -> None:
    arn = lab.session().client("kms").create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    there = arn.replace("us-east-1", "eu-west-1")
    seal(lab, "a.swx", arn)
    assert [find_users(["data"], there, everywhere=everywhere).under for everywhere in (False, True)] == [0, 1]
    assert find_users(["data"], arn).under == 1


def test_the_primary_is_not_disabled_for_what_a_replica_opens(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    kms = lab.session().client("kms")
    primary = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    kms.replicate_key(KeyId=primary, ReplicaRegion="eu-west-1")
    replica = primary.replace("us-east-1", "eu-west-1")
    seal(lab, "a.swx", replica)
    assert run(["keys", "retire", primary, "--scan", "data", "--apply"]) == 3
    out = capfd.readouterr().out
    assert "needed by 1 object\n" in out
    assert "last use  never; KMS tracks this separately in each Region" in out
    assert f"replicas  {replica}; the key is deleted after them" in out
    assert kms.describe_key(KeyId=primary)["KeyMetadata"]["KeyState"] == "Enabled"
    # The other way round, the key stays in its primary's Region.
    Path("data/a.swx").unlink()
    seal(lab, "b.swx", primary)
    assert run(["keys", "retire", replica, "--scan", "data", "--apply"]) == 0
    out = capfd.readouterr().out
    assert "a replica; the key stays in its other Regions" in out
    assert "last use  " in out
    assert "GenerateDataKey" in out
    there = lab.session("eu-west-1").client("kms")
    assert there.describe_key(KeyId=replica)["KeyMetadata"]["KeyState"] == "Disabled"


def test_kms_is_asked_when_it_was_last_used(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    seal(lab, "a.swx", "alias/new")
    assert retire() == 0
    assert "last use  never\n" in capfd.readouterr().out
    seal(lab, "b.swx", "alias/old")
    assert retire("--json") == 3
    use = json.loads(capfd.readouterr().out)["last_use"]
    assert use["operation"] == "GenerateDataKey"
    assert use["time"] >= use["tracked_since"] == use["created"]
    # As for a key of another account, or without the permission: it is said, and the scan decides.
    lab.faults.add("us-east-1", "error", 1.0, operation="GetKeyLastUsage", code="AccessDeniedException", seed=0)
    Path("data/b.swx").unlink()
    assert retire("--apply") == 0
    out, err = capfd.readouterr()
    assert "last use  ?\n" in out
    assert "details are missing: kms:GetKeyLastUsage" in err
    assert state(lab) == "Disabled"


@pytest.mark.parametrize("how", ["binary", "base64"])
def test_a_rewrap_that_was_interrupted_may_still_need_its_old_key(
    lab: Lab, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The newer slot, under the new key, is what counts; the older one may be the only one that opens."""
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/old", session=lab.session()))
    with sealer.open("data/a.swx", "wb", context=CONTEXT) as file:
        file.write(bytes(1 << 20))
    before = inspect_envelope("data/a.swx").header
    assert run(["rewrap", "-k", "alias/old", "--to", "alias/new", "-c", "purpose=backup", "data/a.swx"]) == 0
    assert retire() == 0
    assert "needed by 0 objects" in capfd.readouterr().out
    preamble, data = before.preamble, bytearray(Path("data/a.swx").read_bytes())
    last = slice(preamble.slot_offset + preamble.slot_size, preamble.payload_offset)
    data[last] = before.to_bytes()[last]
    assert not inspect_envelope(bytes(data)).header.finished
    Path("data/a.swx").write_bytes(base64.b64encode(data[:90_000]) if how == "base64" else data)
    assert retire("--apply") == 3
    assert "needed by 1 object\n" in capfd.readouterr().out
    assert state(lab) == "Enabled"


def test_a_link_out_of_the_places_clears_no_key(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """No link is followed, so what it leads to was not looked at: a file, a folder, or nothing that is there now."""
    seal(lab, "a.swx", "alias/new")
    Path("data/old.swx").symlink_to("a.swx")
    Path("data/sub").mkdir()
    Path("data/sub/up").symlink_to("..")
    Path("data/null").symlink_to("/dev/null")
    assert retire() == 0
    seal(lab, "b.swx", "alias/old")
    Path("apart").mkdir()
    Path("data/b.swx").rename("apart/b.swx")
    places = {"file": "apart/b.swx", "folder": "apart", "nothing": "unmounted"}
    for name, there in places.items():
        link = Path("data/sub", name)
        link.symlink_to(Path(there).absolute())
        capfd.readouterr()
        assert retire("--apply") == 3
        out = capfd.readouterr().out
        assert "1 could not be read, and may be under it" in out
        assert f"it is a link to '{Path(there).absolute()}', which is not scanned; add that location" in out
        assert state(lab) == "Enabled"
        if name != "nothing":
            assert retire("--scan", there, "--json") == 3
            found = json.loads(capfd.readouterr().out)
            assert (found["under"], found["unknown"]) == (1, 0)
        link.unlink()
    assert retire("--apply") == 0
