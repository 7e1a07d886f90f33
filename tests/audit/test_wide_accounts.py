"""A pattern over account numbers or organizations names no account: the whole world may have one that fits."""

from __future__ import annotations

from typing import Any

import pytest

from sealwax.audit._account import Account
from sealwax.audit._rules import run_rules
from tests.audit.accounts import OWN, use, with_policy


def public(condition: dict[str, Any]) -> bool:
    found = run_rules(Account(with_policy(use(Principal="*", Condition=condition))))
    return "key-policy-public" in {one.rule for one in found}


@pytest.mark.parametrize(
    ("name", "wide", "narrow"),
    [
        ("kms:CallerAccount", "1???????????", OWN),
        ("aws:PrincipalAccount", "1*", OWN),
        ("aws:PrincipalOrgID", "o-*", "o-a1b2c3d4e5"),
        ("aws:PrincipalArn", "arn:aws:iam::1???????????:role/app", f"arn:aws:iam::{OWN}:role/*"),
    ],
)
def test_a_pattern_over_accounts_does_not_narrow(name: str, wide: str, narrow: str) -> None:
    assert public({"StringLike": {name: wide}})
    assert not public({"StringLike": {name: narrow}})
