"""The evaluator contradicts no finding on the same facts, and AWS's own policies get the findings they deserve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax.audit._account import Account
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Severity
from sealwax.audit._rules import run_rules
from tests.audit import accounts, documented, examples
from tests.audit.cases import CASES
from tests.audit.oracle import contradiction


def contradictions(facts: Facts) -> Iterator[str]:
    account = Account(facts)
    for finding in run_rules(account):
        why = contradiction(account, finding)
        if why is not None:
            yield f"{finding.severity.name} {finding.title}: {why}"


@pytest.mark.parametrize("rule", CASES)
def test_no_finding_of_a_rule_is_contradicted(rule: str) -> None:
    assert [one for make in (*CASES[rule][0], *CASES[rule][1]) for one in contradictions(make())] == []


@pytest.mark.parametrize("rows", [examples.KEY_POLICIES, examples.IAM_POLICIES], ids=["key", "identity"])
def test_no_finding_about_an_example_is_contradicted(rows: list[examples.Row]) -> None:
    count = 0
    for _, _, statements, _ in rows:
        if rows is examples.KEY_POLICIES:
            facts = accounts.clean(accounts.key(policy=accounts.text(*statements)), events=())
        else:
            facts = accounts.with_iam(*statements, policy=accounts.text(examples.ROOT))
        assert list(contradictions(facts)) == []
        count += 1
    assert count == 40


def test_there_are_forty_documented_policies() -> None:
    assert len(documented.DOCUMENTED) == 40
    assert len({page for page, _, _ in documented.DOCUMENTED}) == 40
    assert sum(bool(rules) for _, _, rules in documented.DOCUMENTED) == 8


@pytest.mark.parametrize("row", documented.DOCUMENTED, ids=lambda row: row[0])
def test_a_documented_policy_is_judged_as_it_is(row: documented.Row) -> None:
    _, statements, expected = row
    facts = accounts.clean(accounts.key(policy=accounts.text(*statements)), events=())
    account = Account(facts)
    assert account.gaps == ()
    found = run_rules(account)
    assert {one.rule for one in found} == expected
    assert [contradiction(account, one) for one in found] == [None] * len(found)
    assert all(one.severity is not Severity.CRITICAL for one in found)


_OWN_ARN = f"arn:aws:iam::{accounts.OWN}:role/App"
_CLAUSES: list[tuple[str, str, list[str]]] = [
    ("StringEquals", "aws:PrincipalOrgID", ["o-a1b2c3d4e5"]),
    ("StringNotEquals", "aws:PrincipalOrgID", ["o-a1b2c3d4e5"]),
    ("StringNotEqualsIfExists", "aws:PrincipalOrgID", ["o-a1b2c3d4e5"]),
    ("StringEqualsIfExists", "aws:PrincipalOrgID", ["o-a1b2c3d4e5"]),
    ("StringEquals", "kms:CallerAccount", [accounts.OWN]),
    ("StringNotEquals", "kms:CallerAccount", [accounts.OWN]),
    ("StringEquals", "aws:PrincipalAccount", [accounts.OWN, accounts.FOREIGN]),
    ("StringNotEquals", "aws:PrincipalAccount", [accounts.OWN, accounts.FOREIGN]),
    ("StringNotEquals", "aws:PrincipalAccount", ["${aws:ResourceAccount}"]),
    ("ArnLike", "aws:PrincipalArn", [_OWN_ARN]),
    ("ArnNotLike", "aws:PrincipalArn", [_OWN_ARN, f"arn:aws:iam::{accounts.FOREIGN}:role/*"]),
    ("StringLike", "aws:PrincipalArn", ["arn:aws:iam::*:role/App"]),
    ("StringEquals", "aws:SourceVpce", ["vpce-1a2b3c4d"]),
    ("StringNotEquals", "aws:SourceVpce", ["vpce-1a2b3c4d"]),
    ("IpAddress", "aws:SourceIp", ["192.0.2.0/24"]),
    ("NotIpAddress", "aws:SourceIp", ["192.0.2.0/24"]),
    ("NotIpAddressIfExists", "aws:SourceIp", ["192.0.2.0/24"]),
    ("Bool", "aws:PrincipalIsAWSService", ["false"]),
    ("Bool", "aws:PrincipalIsAWSService", ["true"]),
    ("BoolIfExists", "aws:ViaAWSService", ["false"]),
    ("Null", "aws:PrincipalOrgID", ["true"]),
    ("Null", "aws:PrincipalArn", ["false"]),
    ("Null", "kms:EncryptionContext:purpose", ["true"]),
    ("StringEquals", "kms:EncryptionContext:purpose", ["backup"]),
    ("StringNotEquals", "kms:EncryptionContext:purpose", ["backup"]),
    ("StringEquals", "kms:ViaService", ["s3.eu-west-1.amazonaws.com"]),
    ("StringEquals", "aws:ResourceAccount", [accounts.FOREIGN]),
    ("StringEquals", "kms:KeySpec", ["RSA_2048"]),
    ("DateLessThan", "aws:CurrentTime", ["2020-01-01T00:00:00Z"]),
    ("ForAnyValue:StringLike", "aws:PrincipalOrgPaths", ["o-a1b2c3d4e5/*"]),
    ("ForAllValues:StringLike", "aws:PrincipalOrgPaths", ["o-a1b2c3d4e5/*"]),
    ("ForAnyValue:StringNotLike", "aws:PrincipalOrgPaths", ["o-a1b2c3d4e5/*"]),
    ("ForAllValues:StringNotLike", "aws:PrincipalOrgPaths", ["o-a1b2c3d4e5/*"]),
    ("StringEquals", "aws:SourceAccount", [accounts.OWN]),
    ("StringNotEquals", "aws:SourceAccount", [accounts.OWN]),
    ("StringEquals", "aws:PrincipalTag/team", ["a"]),
]


def _condition(chosen: list[tuple[str, str, list[str]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for operator, name, values in chosen:
        found.setdefault(operator, {})[name] = values
    return found


_FOREIGN_ROOT = accounts.root(accounts.FOREIGN)
_STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Allow", "Deny"]),
        "Principal": st.sampled_from(
            [
                "*",
                {"AWS": accounts.APP},
                {"AWS": accounts.root()},
                {"AWS": _FOREIGN_ROOT},
                {"AWS": accounts.role("X", accounts.FOREIGN)},
                {"Service": "s3.amazonaws.com"},
                {"Federated": "accounts.google.com"},
            ]
        ),
        "Action": st.sampled_from(["kms:*", "kms:Decrypt", ["kms:ReEncrypt*", "kms:Encrypt"], "kms:PutKeyPolicy"]),
        "Resource": st.just("*"),
    }
)
# Each key in one part of one statement: two that ask opposite things of one key are not weighed against each other.
_SPREAD = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(_CLAUSES)), max_size=5, unique_by=lambda one: one[1][1].lower()
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(_STATEMENTS, min_size=1, max_size=3), _SPREAD, st.booleans())
def test_no_finding_about_any_policy_is_contradicted(
    plain: list[dict[str, Any]], spread: list[tuple[int, tuple[str, str, list[str]]]], delegates: bool
) -> None:
    statements = [
        one | {"Condition": _condition([clause for place, clause in spread if place % len(plain) == index])}
        for index, one in enumerate(plain)
    ]
    granted = accounts.grant(grantee=accounts.role("X", accounts.FOREIGN), subset=None, operations=("Decrypt",))
    policy = accounts.text(*statements, *([accounts.DELEGATES] if delegates else []))
    facts = accounts.with_iam(
        {"Action": "kms:*", "Resource": "*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}},
        policy=policy,
    )
    key = accounts.key(policy=policy, grants=(granted,))
    events = (accounts.event(principal=accounts.ADMIN), accounts.event(2, principal=_FOREIGN_ROOT))
    assert list(contradictions(replace(facts, keys=(key,), events=events))) == []
