"""Decisions say why, requests are checked, and operations say what they need."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

import sealwax.policy
from sealwax.policy import Grant, On, Request, permissions, principal
from tests.policy.rows import (
    ALIAS,
    ALICE,
    BOB,
    CAROL,
    DELEGATED,
    KEY,
    MAY_DECRYPT,
    NOON,
    ROLE,
    ROOT,
    SERVICE,
    SESSION,
    TO_ALICE,
    allow,
    case,
    deny,
    grant,
)
from tests.policy.table import answer

PURPOSE = {"StringEquals": {"kms:EncryptionContext:purpose": "backup"}}
MANY = {"StringLike": {"kms:EncryptionContext:purpose": ["a", "b*", "c\n", "d", "e"]}}
PURPOSE_KEY = "kms:EncryptionContext:purpose"
ALMOST = "would allow it, but"
NOTHING = "no identity policy allows kms:Decrypt; no grant allows it"
ALMOST_IDENTITY = f"{NOTHING}; statement 1 of the identity policy {ALMOST}"
NEITHER = "the key policy neither allows kms:Decrypt to this principal nor delegates it to its account"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            case("-", "-", "allow", [allow("kms:*", ALICE, Sid="Use")]),
            "statement 'Use' of the key policy allows kms:Decrypt",
        ),
        (
            case("-", "-", "allow", DELEGATED, MAY_DECRYPT),
            "statement 1 of the key policy and statement 1 of the identity policy allow kms:Decrypt",
        ),
        (case("-", "-", "deny"), NOTHING),
        (case("-", "-", "deny", [allow("kms:*", BOB)]), f"{NEITHER}; no grant allows it"),
        (
            case("-", "-", "deny", [allow("kms:Decrypt", ALICE, Sid="X", Condition=PURPOSE)]),
            f"{NEITHER}; no grant allows it; statement 'X' of the key policy {ALMOST} {PURPOSE_KEY} is absent",
        ),
        (
            case("-", "-", "deny", identity=[allow("kms:Decrypt", Condition=PURPOSE)], pairs={"purpose": "secret"}),
            f"{ALMOST_IDENTITY} {PURPOSE_KEY} does not satisfy StringEquals 'backup'",
        ),
        (
            case("-", "-", "deny", identity=[allow("kms:Decrypt", Condition=MANY)], pairs={"purpose": "secret"}),
            f"{ALMOST_IDENTITY} {PURPOSE_KEY} does not satisfy StringLike 'a', 'b*', 'c\\n' and 2 more",
        ),
        (
            case("-", "-", "explicit deny", [*TO_ALICE, deny("kms:*", "*", Sid="No")]),
            "statement 'No' of the key policy denies kms:Decrypt",
        ),
        (case("-", "-", "allow", grants=[grant()]), "grant g1 allows kms:Decrypt"),
        (
            case("-", "-", "deny", grants=[grant(subset={"a": "b"})]),
            f"{NOTHING}; grant g1 {ALMOST} the encryption context does not satisfy its constraint",
        ),
        (
            case("-", "-", "deny", grants=[grant(grantee=ROOT)]),
            f"{NOTHING}; grant g1 leaves the decision to the identity policies of the account",
        ),
        (
            case("-", "-", "allow", None, action="kms:ListKeys", resource="*", who=ROOT),
            "the root user of the account needs no policy for kms:ListKeys",
        ),
        (
            case("-", "-", "deny", [allow("kms:*", CAROL)], action="kms:DisableKey", who=CAROL),
            "kms:DisableKey cannot be used on a KMS key of another account",
        ),
    ],
)
def test_a_decision_says_what_decided_or_what_was_missing(row: Any, reason: str) -> None:
    decision = answer(row, sealwax.policy)
    assert decision.reason == reason
    assert decision.allowed == (row.expect == "allow")
    assert decision.explicit_deny == (row.expect == "explicit deny")


def test_a_decision_names_its_statements_and_its_grant() -> None:
    both = answer(case("-", "-", "allow", DELEGATED, MAY_DECRYPT), sealwax.policy)
    assert [statement.policy for statement in both.statements] == ["key policy", "identity policy"]
    assert both.grant is None
    by_grant = answer(case("-", "-", "allow", grants=[grant()]), sealwax.policy)
    assert by_grant.grant.id == "g1"
    assert by_grant.statements == ()


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::111122223333:group/staff",
        "arn:aws:iam::1111:user/Alice",
        "arn:aws:sts::111122223333:root",
        "arn:aws:iam::111122223333:assumed-role/App/run",
        "arn:aws:sts::111122223333:assumed-role/App",
        "arn:aws:iam::111122223333:user/",
        "arn:aws:iam::111122223333:user/*",
        "Alice",
        "*",
    ],
)
def test_what_is_no_principal_is_a_callers_mistake(arn: str) -> None:
    with pytest.raises(ValueError, match=r"principal|role and a session"):
        principal(arn)


def test_a_principal_knows_its_names() -> None:
    alice = principal(ALICE)
    assert (alice.kind, alice.account, alice.username) == ("user", "111122223333", "Alice")
    session = principal(SESSION)
    assert (session.kind, session.role, session.username) == ("session", ROLE, None)
    assert session.chain == {SESSION, ROLE, ROOT}
    service = principal(SERVICE)
    assert (service.kind, service.account) == ("service", "")
    assert service.chain == {SERVICE}
    china = principal("arn:aws-cn:iam::111122223333:user/Alice")
    assert china.account_arn == "arn:aws-cn:iam::111122223333:root"


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "s3:GetObject"},
        {"action": "kms:*"},
        {"resource": "alias/payments"},
        {"time": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"context": {"kms:NoSuchKey": "x"}},
        {"context": {"aws:username": "Bob"}},
        {"context": {"kms:EncryptionContext:a": "b"}},
        {"context": {"aws:PrincipalTag/team": "red"}},
        {"context": {"kms:KeySpec": ["a", "b"]}},
    ],
)
def test_a_wrong_request_is_a_callers_mistake(wrong: dict[str, Any]) -> None:
    good = Request("kms:Decrypt", principal(ALICE), KEY, NOON)
    with pytest.raises(ValueError, match=r"KMS|time zone|follows|one value"):
        replace(good, **wrong)


def test_a_key_and_its_policy_belong_together() -> None:
    for row in (case("-", "-", "deny", None), case("-", "-", "deny", resource=ALIAS)):
        with pytest.raises(ValueError, match="a request on a KMS key needs its key policy"):
            answer(row, sealwax.policy)


def test_a_grant_permits_only_what_grants_can() -> None:
    with pytest.raises(ValueError, match="a grant cannot permit ReEncrypt, ScheduleKeyDeletion"):
        Grant("g", KEY, ALICE, frozenset({"Decrypt", "ReEncrypt", "ScheduleKeyDeletion"}))


def test_values_of_keys_become_the_texts_that_policies_hold() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    request = Request(
        "kms:CreateGrant",
        principal(ALICE, user_id="AIDA", tags={"Team": "red"}, org_id="o-1"),
        KEY,
        at,
        context={"kms:ValidTo": at, "kms:MultiRegion": False, "kms:RotationPeriodInDays": 90, "aws:TagKeys": []},
        encryption_context={"B": "2", "a": "1"},
    )
    values = request.values
    assert values["kms:validto"] == values["aws:currenttime"] == ("2026-01-02T03:04:05Z",)
    assert values["kms:multiregion"] == ("false",)
    assert values["kms:rotationperiodindays"] == ("90",)
    assert "aws:tagkeys" not in values
    assert values["aws:principaltag/team"] == ("red",)
    assert values["kms:encryptioncontext:b"] == ("2",)
    assert values["kms:encryptioncontextkeys"] == ("B", "a")
    assert values["aws:requestedregion"] == ("us-east-1",)


@pytest.mark.parametrize(
    ("operation", "needed"),
    [
        ("Decrypt", [("kms:Decrypt", On.KEY)]),
        ("GenerateDataKey", [("kms:GenerateDataKey", On.KEY)]),
        ("ReEncrypt", [("kms:ReEncryptFrom", On.SOURCE_KEY), ("kms:ReEncryptTo", On.DESTINATION_KEY)]),
        ("CreateAlias", [("kms:CreateAlias", On.ALIAS), ("kms:CreateAlias", On.KEY)]),
        (
            "UpdateAlias",
            [
                ("kms:UpdateAlias", On.ALIAS),
                ("kms:UpdateAlias", On.CURRENT_KEY),
                ("kms:UpdateAlias", On.NEW_KEY),
            ],
        ),
        ("ListKeys", [("kms:ListKeys", On.ACCOUNT)]),
        ("ReplicateKey", [("kms:ReplicateKey", On.KEY), ("kms:CreateKey", On.ACCOUNT)]),
    ],
)
def test_an_operation_says_what_it_needs(operation: str, needed: list[tuple[str, On]]) -> None:
    assert [(one.action, one.on) for one in permissions(operation)] == needed


def test_tags_for_a_new_key_need_a_permission_of_their_own() -> None:
    assert [one.action for one in permissions("CreateKey", with_tags=True)] == ["kms:CreateKey", "kms:TagResource"]
