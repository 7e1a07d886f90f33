"""``sealwax keys rotate`` and ``rotations``: against the lab, for every kind of key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

import sealwax
from sealwax import errors
from sealwax.cli import run
from sealwax.kms._lifecycle import KeyLife
from sealwax.lab import Lab
from tests.cli.test_keys_list import answer


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lab(tmp_path: Path, clock: Clock) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", clock=clock) as lab:
        yield lab


@pytest.fixture
def kms(lab: Lab) -> Any:
    return lab.session().client("kms")


def names(lab: Lab) -> list[str]:
    return [event.record["eventName"] for event in lab.trail.events()]


def test_a_key_rotates_by_the_calendar(lab: Lab, clock: Clock) -> None:
    arn = lab.create_key(alias="one")["Arn"]
    life = KeyLife("alias/one", lab.session())
    life.rotate_every(90)
    before = life.rotations()
    assert (before.arn, before.enabled, before.period_days, len(before.materials)) == (arn, True, 90, 1)
    assert before.next_rotation is not None
    assert before.next_rotation.timestamp() == clock.now + 90 * 86400
    clock.now += 91 * 86400
    after = life.rotations()
    assert [(one.state, one.how) for one in after.materials] == [("NON_CURRENT", None), ("CURRENT", "AUTOMATIC")]
    assert after.materials[0].material_id == before.materials[0].material_id


def test_a_rotation_on_demand_changes_the_material_that_envelopes_name(lab: Lab) -> None:
    lab.create_key(alias="one")
    session = lab.session()
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/one", session=session))
    old = sealer.encrypt(b"x", context={"a": "b"})
    life = KeyLife("alias/one", session)
    life.rotate_now()
    new = sealer.encrypt(b"x", context={"a": "b"})
    first, second = life.rotations().materials
    assert [sealwax.inspect(one).wrapped_keys[0].key_material_id.hex() for one in (old, new)] == [
        first.material_id,
        second.material_id,
    ]
    assert (first.state, second.state, second.how) == ("NON_CURRENT", "CURRENT", "ON_DEMAND")
    assert sealer.decrypt(old, context={"a": "b"}) == b"x"


def test_all_pages_of_the_history_are_shown(lab: Lab) -> None:
    lab.create_key(alias="one")
    session = lab.session()
    asked = []
    session.events.register("before-call.kms.ListKeyRotations", lambda **_: asked.append(1))
    session.events.register("before-parameter-build.kms.ListKeyRotations", lambda params, **_: params.update(Limit=2))
    life = KeyLife("alias/one", session)
    for _ in range(4):
        life.rotate_now()
    assert len(life.rotations().materials) == 5
    assert len(asked) == 3


def test_a_rotation_that_is_under_way(lab: Lab, clock: Clock) -> None:
    arn = lab.create_key()["Arn"]
    session = lab.session()
    answer(
        session,
        "GetKeyRotationStatus",
        lambda _: {"KeyRotationEnabled": False, "OnDemandRotationStartDate": _moment(clock.now)},
    )
    found = KeyLife(arn, session).rotations()
    assert found.on_demand_since == _moment(clock.now)
    answer(session, "RotateKeyOnDemand", lambda _: {"Error": {"Code": "ConflictException", "Message": "no"}})
    with pytest.raises(errors.RequestRefusedError, match="another change of the key is in progress"):
        KeyLife(arn, session).rotate_now()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


# --- kinds of keys, each with its own sentence


def described(session: boto3.Session, arn: str, **facts: Any) -> boto3.Session:
    metadata = {
        "KeyId": arn.rpartition("/")[2],
        "Arn": arn,
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "MultiRegion": False,
    }
    answer(session, "DescribeKey", lambda _: {"KeyMetadata": {**metadata, **facts}})
    return session


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"KeyManager": "AWS"}, "AWS managed key: AWS rotates it every year"),
        ({"KeySpec": "RSA_2048"}, "not a symmetric encryption key"),
        ({"Origin": "AWS_CLOUDHSM"}, "custom key store"),
        ({"Origin": "EXTERNAL_KEY_STORE"}, "custom key store"),
        (
            {
                "MultiRegion": True,
                "MultiRegionConfiguration": {
                    "MultiRegionKeyType": "REPLICA",
                    "PrimaryKey": {"Arn": "arn:aws:kms:eu-west-1:111122223333:key/mrk-1", "Region": "eu-west-1"},
                },
            },
            "rotate 'arn:aws:kms:eu-west-1:111122223333:key/mrk-1'",
        ),
    ],
)
@pytest.mark.parametrize("now", [True, False])
def test_what_cannot_be_rotated(lab: Lab, facts: dict[str, Any], said: str, now: bool) -> None:
    session = described(lab.session(), lab.create_key()["Arn"], **facts)
    with pytest.raises(errors.ConfigurationError, match=said):
        _rotate(KeyLife("alias/one", session), now)
    assert not {"RotateKeyOnDemand", "EnableKeyRotation"} & set(names(lab))


def _rotate(life: KeyLife, now: bool) -> None:
    if now:
        life.rotate_now()
    else:
        life.rotate_every(365)


@pytest.mark.parametrize("now", [True, False])
def test_a_disabled_key_is_not_rotated(lab: Lab, kms: Any, now: bool) -> None:
    arn = lab.create_key()["Arn"]
    kms.disable_key(KeyId=arn)
    with pytest.raises(errors.KeyStateError, match="in state Disabled"):
        _rotate(KeyLife(arn, lab.session()), now)


def test_imported_material(lab: Lab, kms: Any) -> None:
    arn = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["Arn"]
    _import(kms, arn)
    life = KeyLife(arn, lab.session())
    with pytest.raises(errors.ConfigurationError, match="imported key material"):
        life.rotate_every(365)
    with pytest.raises(errors.KeyStateError, match="import new key material first"):
        life.rotate_now()
    _import(kms, arn, ImportType="NEW_KEY_MATERIAL")
    assert [one.state for one in life.rotations().materials] == ["CURRENT", "PENDING_ROTATION"]
    life.rotate_now()
    assert [one.state for one in life.rotations().materials] == ["NON_CURRENT", "CURRENT"]


def _import(kms: Any, arn: str, **more: str) -> None:
    given = kms.get_parameters_for_import(KeyId=arn, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    public = serialization.load_der_public_key(given["PublicKey"])
    assert isinstance(public, rsa.RSAPublicKey)
    kms.import_key_material(
        KeyId=arn,
        ImportToken=given["ImportToken"],
        EncryptedKeyMaterial=public.encrypt(os.urandom(32), padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)),
        ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
        **more,
    )


def test_the_26th_rotation_on_demand(lab: Lab) -> None:
    life = KeyLife(lab.create_key()["Arn"], lab.session())
    for _ in range(25):
        life.rotate_now()
    with pytest.raises(errors.RequestRefusedError, match="25 times, the most"):
        life.rotate_now()


# --- the commands


@pytest.fixture
def in_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALWAX_LAB", str(lab.path))


@pytest.mark.usefixtures("in_lab")
def test_rotate_and_rotations(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    arn = lab.create_key(alias="one")["Arn"]
    assert run(["keys", "rotate", "alias/one", "--every", "180", "--apply"]) == 0
    out, _ = capfd.readouterr()
    assert out.splitlines()[0] == f"key       {arn} (alias/one)"
    assert "rotation  every 180 days, next on 20" in out
    assert run(["keys", "rotate", "alias/one", "--now", "--json", "--apply"]) == 0
    out, err = capfd.readouterr()
    assert "rotation started" in err
    found = json.loads(out)
    assert found.pop("dry_run") is False
    assert [one["state"] for one in found["materials"]] == ["NON_CURRENT", "CURRENT"]
    assert run(["keys", "rotations", arn]) == 0
    out, _ = capfd.readouterr()
    lines = out.splitlines()
    assert "1 of 25 on-demand rotations used" in lines[1]
    assert lines[2].split() == ["SINCE", "HOW", "STATE", "MATERIAL"]
    assert [line.split()[-1] for line in lines[3:]] == [one["material_id"] for one in found["materials"]]
    assert run(["keys", "rotations", arn, "--json"]) == 0
    again, _ = capfd.readouterr()
    assert json.loads(again) == found


@pytest.mark.usefixtures("in_lab")
@pytest.mark.parametrize(("how", "says"), [(("--now",), "rotate now"), (("--every", "90"), "rotate every 90 days")])
def test_nothing_rotates_without_apply(
    lab: Lab, capfd: pytest.CaptureFixture[str], how: tuple[str, ...], says: str
) -> None:
    lab.create_key(alias="a_b")
    for as_json in ((), ("--json",)):
        command = ("keys", "rotate", "alias/a_b", *how, *as_json)
        assert run(command) == 0
        out, err = capfd.readouterr()
        assert f"dry run: the key would {says}; nothing was changed\n" in err
        assert err.endswith(f"next: sealwax {' '.join(command)} --apply\n")
        assert not as_json or json.loads(out)["dry_run"] is True
        assert not {"RotateKeyOnDemand", "EnableKeyRotation"} & set(names(lab))
    # What is printed is what to type.
    assert run([*err.rpartition("next: sealwax ")[2].split()]) == 0
    assert {"RotateKeyOnDemand", "EnableKeyRotation"} & set(names(lab))


@pytest.mark.usefixtures("in_lab")
def test_the_next_command_keeps_what_follows_the_options(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.create_key(alias="one")
    assert run(["keys", "rotate", "--now", "--lab", str(lab.path), "--", "alias/one"]) == 0
    assert capfd.readouterr().err.endswith("--apply -- alias/one\n")


@pytest.mark.usefixtures("in_lab")
@pytest.mark.parametrize("how", [("--now",), ("--every", "90")])
def test_a_dry_run_refuses_what_a_rotation_would(
    lab: Lab, kms: Any, capfd: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    arn = lab.create_key(alias="one")["Arn"]
    kms.disable_key(KeyId=arn)
    assert run(["keys", "rotate", "alias/one", *how]) == 7
    assert "only enabled keys can rotate" in capfd.readouterr().err


@pytest.mark.usefixtures("in_lab")
@pytest.mark.parametrize("options", [(), ("--every", "90", "--now"), ("--every", "89"), ("--every", "2561")])
def test_rotate_wants_one_way_and_a_possible_period(lab: Lab, options: tuple[str, ...]) -> None:
    lab.create_key(alias="one")
    assert run(["keys", "rotate", "alias/one", *options]) == 2
    assert "EnableKeyRotation" not in names(lab)


@pytest.mark.usefixtures("in_lab")
def test_a_key_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "rotate", "alias/none", "--now"]) == 7
    assert "there is no such key or alias" in capfd.readouterr().err
