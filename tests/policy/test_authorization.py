"""The authorization table: every row is decided as the AWS documentation says."""

from __future__ import annotations

import pytest

import sealwax.policy
from tests.policy.rows import Case
from tests.policy.table import ROWS, decide


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_decision_is_the_documented_one(row: Case) -> None:
    assert decide(row, sealwax.policy) == row.expect


def test_the_table_is_as_large_as_promised_and_names_its_rules() -> None:
    assert len(ROWS) >= 150
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all(row.rule.startswith("https://docs.aws.amazon.com/") for row in ROWS)
