"""Write the tables of docs/reference/misconfigurations.md from the rules: python docs/make_rule_tables.py"""

from __future__ import annotations

import re
from pathlib import Path

from sealwax.audit import RULES, Rule

PAGE = Path(__file__).with_name("reference") / "misconfigurations.md"
HEAD = "| rule | severity | finding | fix | standards |\n|---|---|---|---|---|\n"


def row(rule: Rule) -> str:
    """Return the row of a rule."""
    standards = ", ".join(f"[{one.name} {one.control}]({one.source})" for one in rule.standards) or "none"
    return f"| `{rule.id}` | {rule.severity.name} | {rule.title} | {rule.fix} | {standards} |\n"


def with_tables(page: str) -> str:
    """Return the page with each table renewed. A table keeps its rules; new ones join the last table."""
    rules = {rule.id: rule for rule in RULES}
    tables = list(re.finditer(re.escape(HEAD) + r"(?:\| `[a-z-]+` \|.*\n)*", page))
    listed = [re.findall(r"^\| `([a-z-]+)`", table[0], re.MULTILINE) for table in tables]
    listed[-1] += [id_ for id_ in rules if not any(id_ in ids for ids in listed)]
    for table, ids in reversed(list(zip(tables, listed, strict=True))):
        rows = "".join(row(rules[id_]) for id_ in rules if id_ in ids)
        page = f"{page[: table.start()]}{HEAD}{rows}{page[table.end() :]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
