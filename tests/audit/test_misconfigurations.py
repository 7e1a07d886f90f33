"""The page of misconfigurations has one row a rule, and says of each what the rule says."""

from __future__ import annotations

import re
from pathlib import Path

from sealwax.audit._findings import Standard
from sealwax.audit._rules import RULES, standards

PAGE = Path(__file__).parents[2] / "docs" / "misconfigurations.md"


def test_the_page_has_a_row_for_each_rule() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(id_, severity, title) for id_, severity, title, _, _ in rows] == [
        (rule.id, rule.severity.name, rule.title) for rule in RULES
    ]
    shown = {id_: re.findall(r"\[(.+?)\]\((\S+?)\)(?=, |$)", standards) for id_, _, _, _, standards in rows}
    assert shown == {rule.id: [(f"{one.name} {one.control}", one.source) for one in rule.standards] for rule in RULES}
    assert all(fix.strip() for _, _, _, fix, _ in rows)


def test_every_rule_names_standards_with_sources() -> None:
    without = [rule.id for rule in RULES if not rule.standards]
    assert without == ["key-policy-via-service"]
    assert all(one.source.startswith("https://") for rule in RULES for one in rule.standards)
    assert len({rule.id for rule in RULES}) == len(RULES)
    names = {one.name for rule in RULES for one in rule.standards}
    assert len(names) == 9
    assert {"PR.DS-01", "PR.DS-10"} <= {one.control for rule in RULES for one in rule.standards}


def test_no_control_is_listed_that_no_rule_names() -> None:
    listed = {one for one in vars(standards).values() if isinstance(one, Standard)}
    assert len(listed) == 29
    assert listed <= {one for rule in RULES for one in rule.standards}
