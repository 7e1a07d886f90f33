"""The commands and the JSON of a fix can be pasted out of every format, as they are."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from sealwax.audit import _factsfile
from sealwax.audit import run as audit
from sealwax.audit._account import Account
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Block
from sealwax.audit._report import to_json
from sealwax.audit._reports import render
from sealwax.audit._rules import run_rules
from sealwax.cli import run
from tests.audit import accounts
from tests.audit.cases import CASES

# A name that no format takes as it is, with what ends blocks and tags.
SID: Final = "Öpen </pre> ``` 'quoted'"


def wrong() -> Facts:
    return accounts.with_policy(accounts.use(Sid=SID, Principal="*", Action="kms:Encrypt"))


def fenced(text: str) -> list[str]:
    return re.findall(r"^```(?:sh|json|hcl)\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def _csv(text: str) -> list[str]:
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    return fenced(row["fix"])


def _html(text: str) -> list[str]:
    return [html.unescape(one) for one in re.findall(r'<div class="copyable"><pre>(.*?)</pre>', text, re.DOTALL)]


def _junit(text: str) -> list[str]:
    (failure,) = ET.fromstring(text).iter("failure")
    return fenced(failure.text or "")


def _ocsf(text: str) -> list[str]:
    (event,) = json.loads(text)
    return fenced(event["remediation"]["desc"])


def _sarif(text: str) -> list[str]:
    (result,) = json.loads(text)["runs"][0]["results"]
    blocks: list[dict[str, Any]] = result["properties"]["blocks"]
    assert [one["text"] for one in blocks] == fenced(result["properties"]["fix"])
    return [one["text"] for one in blocks]


READ: Final[dict[str, Callable[[str], list[str]]]] = {
    "csv": _csv,
    "html": _html,
    "junit": _junit,
    "ocsf": _ocsf,
    "sarif": _sarif,
}


def expected() -> list[Block]:
    (finding,) = run_rules(Account(wrong()))
    blocks = list(finding.fix.blocks)
    assert [one.kind for one in blocks] == ["file", "command", "cloudformation", "terraform"]
    assert json.loads(blocks[0].text)["Statement"][-1]["Sid"] == SID
    return blocks


@pytest.mark.parametrize("form", READ)
def test_blocks_are_whole_in_a_report(form: str) -> None:
    assert READ[form](render(audit(wrong()), form)) == [one.text for one in expected()]


def test_blocks_are_whole_in_json() -> None:
    (finding,) = to_json(audit(wrong()))["findings"]
    assert [one["text"] for one in finding["blocks"]] == [one.text for one in expected()]
    assert fenced(finding["fix"]) == [one.text for one in expected()]


def test_blocks_are_whole_in_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = tmp_path / "facts.json"
    facts.write_bytes(_factsfile.dump(wrong()))
    assert run(["audit", "--facts", str(facts), "-v"]) == 3
    text = capsys.readouterr().out
    for block in expected():
        # Nothing stands before a line of it, and nothing in between.
        assert f"\n\n{block.text}\n\n" in text


def test_no_fix_has_a_prompt_or_a_gap_to_fill_in() -> None:
    """What a button copies is pasted without being read."""
    blocks = [
        block
        for breaks, _ in CASES.values()
        for make in breaks
        for finding in run_rules(Account(make()))
        for block in finding.fix.blocks
    ]
    assert len(blocks) > 200
    for block in blocks:
        assert not re.search(r"^\s*[$#%>] |\u2026|\.\.\.", block.text, re.MULTILINE), block.text
        if block.kind == "command":
            assert all(shlex.split(line)[0] in ("aws", "sealwax") for line in block.text.splitlines()), block.text
