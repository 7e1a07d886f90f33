"""The page of misconfigurations has one row for each rule, written from the rule."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from sealwax.audit import RULES, Standard
from sealwax.audit._rules import standards

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference/misconfigurations.md"


def test_the_tables_are_those_of_the_rules(tmp_path: Path) -> None:
    (tmp_path / "reference").mkdir()
    for path in (PAGE, DOCS / "make_rule_tables.py"):
        (tmp_path / path.relative_to(DOCS)).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "make_rule_tables.py"], check=True)
    assert (tmp_path / "reference" / PAGE.name).read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8"), (
        "run python docs/make_rule_tables.py"
    )


def test_each_rule_has_one_row_with_its_fix_and_standards() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert [row[:4] for row in rows] == [(rule.id, rule.severity.name, rule.title, rule.fix) for rule in RULES]
    shown = {row[0]: re.findall(r"\[(.+?)\]\((\S+?)\)(?=, |$)", row[4]) for row in rows}
    assert shown == {rule.id: [(f"{one.name} {one.control}", one.source) for one in rule.standards] for rule in RULES}


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
