"""40 key policies and 40 IAM policies modeled on AWS's documentation, each with the expected findings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sealwax.audit._account import Account
from sealwax.audit._facts import Facts
from sealwax.audit._rules import run_rules
from tests.audit import accounts, examples


def rules_broken(facts: Facts) -> set[str]:
    account = Account(facts)
    assert account.gaps == ()
    return {one.rule for one in run_rules(account)}


def test_there_are_forty_of_each_and_each_is_another() -> None:
    for rows in (examples.KEY_POLICIES, examples.IAM_POLICIES):
        assert len(rows) == 40
        assert len({name for name, _, _, _ in rows}) == 40
    assert sum(bool(broken) for _, _, _, broken in examples.KEY_POLICIES) == 15
    assert sum(bool(broken) for _, _, _, broken in examples.IAM_POLICIES) == 22


@pytest.mark.parametrize("row", examples.KEY_POLICIES, ids=lambda row: row[0])
def test_a_key_policy_is_judged_as_expected(row: examples.Row) -> None:
    _, _, statements, expected = row
    assert rules_broken(accounts.clean(accounts.key(policy=accounts.text(*statements)), events=())) == expected


@pytest.mark.parametrize("row", examples.IAM_POLICIES, ids=lambda row: row[0])
def test_an_identity_policy_is_judged_as_expected(row: examples.Row) -> None:
    _, _, statements, expected = row
    facts = accounts.with_iam(*statements, policy=accounts.text(examples.ROOT))
    assert rules_broken(replace(facts, events=())) == expected
