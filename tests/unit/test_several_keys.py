"""Several KMS keys on one keyring: who wraps, who opens, what is missing. The KMS is the lab."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import sealwax
from sealwax.kms._keyring import MAX_KEYS
from sealwax.lab import Lab

CONTEXT = {"purpose": "test"}
REGIONS = ["us-east-1", "eu-west-1", "us-east-1"]


class Setting:
    """A lab with three keys in two Regions, known by alias and by ARN, and the calls made to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.calls: list[str] = []
        self.session: boto3.Session = lab.session("us-east-1")
        self.session.events.register("before-call.kms", self._count)
        self.arns: list[str] = []
        for number, region in enumerate(REGIONS):
            client = self.session.client("kms", region_name=region)
            self.arns.append(client.create_key()["KeyMetadata"]["Arn"])
            client.create_alias(AliasName=f"alias/k{number}", TargetKeyId=self.arns[-1])
        self.aliases = [
            "alias/k0",
            self.arns[1].partition(":key/")[0] + ":alias/k1",
            "alias/k2",
        ]
        self.calls.clear()

    def _count(self, model: Any, **_: object) -> None:
        self.calls.append(model.name)

    def client(self, number: int) -> Any:
        return self.session.client("kms", region_name=REGIONS[number])

    def sealer(self, keys: list[str] | str, **settings: Any) -> sealwax.Sealer:
        return sealwax.Sealer(sealwax.KmsKeyring(keys, session=self.session, **settings))

    def allow_only(self, number: int, *actions: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {
                "AWS": self.arns[number].replace(":kms:" + REGIONS[number], ":iam:").partition(":key")[0] + ":root"
            },
            "Action": [*actions, "kms:PutKeyPolicy"],
            "Resource": "*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client(number).put_key_policy(KeyId=self.arns[number], Policy=policy, BypassPolicyLockoutSafetyCheck=True)
        self.calls.clear()


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with Lab(tmp_path / "lab") as lab:
        yield Setting(lab)


@pytest.fixture(params=["arns", "aliases"])
def keys(request: pytest.FixtureRequest, setting: Setting) -> list[str]:
    names: list[str] = getattr(setting, request.param)
    return names


def test_the_first_makes_it_and_the_others_wrap_it(setting: Setting, keys: list[str]) -> None:
    sealed = setting.sealer(keys).encrypt(b"text", context=CONTEXT)
    assert setting.calls == ["GenerateDataKey", "Encrypt", "Encrypt"]
    assert [key.key_arn for key in sealwax.inspect(sealed).wrapped_keys] == setting.arns


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_alone_opens(setting: Setting, keys: list[str], number: int) -> None:
    sealed = setting.sealer(keys).encrypt(b"text", context=CONTEXT)
    assert setting.sealer(keys[number]).decrypt(sealed, context=CONTEXT) == b"text"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_any_that_is_left_opens(setting: Setting, keys: list[str], number: int) -> None:
    sealed = setting.sealer(keys).encrypt(b"text", context=CONTEXT)
    for other in {0, 1, 2} - {number}:
        setting.client(other).disable_key(KeyId=setting.arns[other])
    assert setting.sealer(keys).decrypt(sealed, context=CONTEXT) == b"text"


def test_the_last_of_many_aliases_opens(setting: Setting) -> None:
    aliases = []
    for number in range(6):
        arn = setting.client(0).create_key()["KeyMetadata"]["Arn"]
        setting.client(0).create_alias(AliasName=f"alias/many{number}", TargetKeyId=arn)
        aliases.append(f"alias/many{number}")
    sealed = setting.sealer(aliases).encrypt(b"text", context=CONTEXT)
    for key in sealwax.inspect(sealed).wrapped_keys[:5]:
        setting.client(0).disable_key(KeyId=key.key_arn)
    assert setting.sealer(aliases).decrypt(sealed, context=CONTEXT) == b"text"


def test_one_that_is_not_allowed_is_not_tried(setting: Setting) -> None:
    sealed = setting.sealer(setting.arns).encrypt(b"text", context=CONTEXT)
    for number in range(3):
        others = [arn for arn in setting.arns if arn != setting.arns[number]]
        for other in {0, 1, 2} - {number}:
            setting.client(other).disable_key(KeyId=setting.arns[other])
        with pytest.raises(sealwax.AllKeysFailedError) as caught:
            setting.sealer(setting.arns[0], decrypt_with=others).decrypt(sealed, context=CONTEXT)
        assert [arn for arn, _ in caught.value.attempts] == others
        for other in {0, 1, 2} - {number}:
            setting.client(other).enable_key(KeyId=setting.arns[other])


def test_the_right_to_encrypt_is_enough(setting: Setting, keys: list[str]) -> None:
    setting.allow_only(0, "kms:GenerateDataKey")
    setting.allow_only(1, "kms:Encrypt")
    setting.allow_only(2, "kms:Encrypt")
    assert setting.sealer(keys).encrypt(b"text", context=CONTEXT)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_right_is_named(setting: Setting, keys: list[str], number: int) -> None:
    setting.allow_only(number, "kms:Decrypt")
    with pytest.raises(sealwax.AccessDeniedError) as caught:
        setting.sealer(keys).encrypt(b"text", context=CONTEXT)
    assert keys[number] in str(caught.value)
    assert caught.value.key == keys[number]


def test_two_names_of_one_key(setting: Setting) -> None:
    with pytest.raises(sealwax.ConfigurationError, match=r"'alias/k0' and '.*' are the same key"):
        setting.sealer(["alias/k0", setting.arns[0]]).encrypt(b"text", context=CONTEXT)
    with pytest.raises(sealwax.ConfigurationError, match="listed twice"):
        setting.sealer(["alias/k0", "alias/k1", "alias/k0"])
    sealer = setting.sealer(setting.arns)
    sealed = sealer.encrypt(b"text", context=CONTEXT)
    with pytest.raises(sealwax.ConfigurationError, match="are the same key"):
        sealer.rewrap(sealed, to=["alias/k0", setting.arns[0]], context=CONTEXT)


def test_one_to_sixteen() -> None:
    for keys in ([], [f"alias/{number}" for number in range(MAX_KEYS + 1)]):
        with pytest.raises(ValueError, match="1 to 16"):
            sealwax.KmsKeyring(keys)
    sealwax.KmsKeyring([f"alias/{number}" for number in range(MAX_KEYS)])


def test_rewrap_makes_the_whole_new_set(setting: Setting, keys: list[str]) -> None:
    sealer = setting.sealer(keys)
    sealed = sealer.encrypt(b"text", context=CONTEXT)
    setting.calls.clear()
    rewrapped = sealer.rewrap(sealed, to=[keys[2], keys[1]], context=CONTEXT)
    assert set(setting.calls) == {"ReEncrypt"}
    assert [key.key_arn for key in sealwax.inspect(rewrapped).wrapped_keys] == [setting.arns[2], setting.arns[1]]
    for key in (keys[1], keys[2]):
        assert setting.sealer(key).decrypt(rewrapped, context=CONTEXT) == b"text"
    with pytest.raises(sealwax.KmsError):
        setting.sealer(setting.arns[0]).decrypt(rewrapped, context=CONTEXT)


def test_rewrap_into_a_region_without_a_wrapped_key_calls_nobody(setting: Setting) -> None:
    sealer = setting.sealer([setting.arns[0], setting.arns[2]])
    sealed = sealer.encrypt(b"text", context=CONTEXT)
    setting.calls.clear()
    with pytest.raises(sealwax.ConfigurationError, match="within one Region"):
        sealer.rewrap(sealed, to=[setting.arns[2], setting.arns[1]], context=CONTEXT)
    assert setting.calls == []
