"""Rules over an account that the lab really holds: its keys, policies, grants and events, collected and audited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealwax.audit._account import Account
from sealwax.audit._collect.keys import gather
from sealwax.audit._rules import run_rules
from sealwax.lab import Lab
from tests.audit.accounts import FOREIGN, OWN, REGION, plus, role, root, text, use

ABSENT = dict.fromkeys(("iam", "events", "logs", "cloudwatch"), "the lab has none")
#: Root keeps the key, and may use it with the context, so that the test can.
OWNER = {"Principal": {"AWS": root()}, "Action": "kms:*"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as opened:
        for name in ("Admin", "App", "More"):
            opened.add_principal(name, role=True)
        yield opened


def kms(lab: Lab) -> Any:
    return lab.session(REGION, account=OWN).client("kms")


def broken(lab: Lab) -> set[str]:
    """Return the rules that are broken, but for those about what the lab has not."""
    account = Account(gather(lab.session(REGION, account=OWN), (REGION,), unavailable=ABSENT))
    assert account.facts.keys
    return {one.rule for one in run_rules(account) if not one.rule.startswith(("trail-", "key-end-"))}


def made(client: Any, policy: str, *, rotates: bool = True) -> str:
    key: str = client.create_key(Policy=policy, BypassPolicyLockoutSafetyCheck=True)["KeyMetadata"]["Arn"]
    if rotates:
        client.enable_key_rotation(KeyId=key)
    return key


GOOD = plus(OWNER)


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        (use(), None),
        (use(Principal="*"), "key-policy-public"),
        (use(Principal={"AWS": root(FOREIGN)}), "key-policy-foreign-account"),
        ({"NotPrincipal": {"AWS": role("More")}, "Action": "kms:Decrypt"}, "key-policy-not-principal"),
        (use(Condition={}), "key-policy-no-context"),
        (use(Condition={"StringLike": {"kms:EncryptionContext:purpose": "*"}}), "key-policy-wildcard-context"),
        (use(Principal={"AWS": role("Admin")}), "key-policy-admin-can-use"),
    ],
)
def test_a_key_policy_in_the_lab(lab: Lab, statement: dict[str, Any], rule: str | None) -> None:
    made(kms(lab), plus(OWNER, statement))
    found = broken(lab)
    assert rule in found if rule else found == set()


def test_grants_in_the_lab(lab: Lab) -> None:
    client = kms(lab)
    key = made(client, GOOD)
    constraint = {"EncryptionContextSubset": {"purpose": "backup"}}
    client.create_grant(KeyId=key, GranteePrincipal=role("App"), Operations=["Decrypt"], Constraints=constraint)
    assert broken(lab) == set()
    client.create_grant(KeyId=key, GranteePrincipal=role("App"), Operations=["Decrypt", "CreateGrant"])
    assert broken(lab) == {"grant-unconstrained", "grant-creates-grants"}


def test_rotation_and_deletion_in_the_lab(lab: Lab) -> None:
    client = kms(lab)
    key = made(client, GOOD, rotates=False)
    assert broken(lab) == {"rotation-off"}
    client.enable_key_rotation(KeyId=key, RotationPeriodInDays=400)
    assert broken(lab) == {"rotation-period-long"}
    client.enable_key_rotation(KeyId=key, RotationPeriodInDays=365)
    client.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert broken(lab) == {"key-pending-deletion"}


def test_events_in_the_lab(lab: Lab) -> None:
    client = kms(lab)
    key = made(client, text(OWNER))
    sealed = client.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"purpose": "backup"})["CiphertextBlob"]
    client.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionContext={"purpose": "backup"})
    assert broken(lab) == set()
    sealed = client.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    client.decrypt(KeyId=key, CiphertextBlob=sealed)
    assert broken(lab) == {"decrypt-without-context"}
    client.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"mail": "a.b@example.com"})
    assert broken(lab) == {"decrypt-without-context", "context-telling"}


def test_denials_in_the_lab(lab: Lab) -> None:
    key = made(kms(lab), GOOD)
    other = lab.session(REGION, principal="More").client("kms")
    for _ in range(10):
        with pytest.raises(other.exceptions.ClientError, match="AccessDenied"):
            other.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext={"purpose": "backup"})
    assert broken(lab) == {"denial-burst"}
