"""The programs on the pages about audits and policies use the public fronts only, and one of them asks a real server.

``tests/docs`` runs the pages. There the program of docs/how-to/audit.md gathers the facts of a lab.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from moto.server import ThreadedMotoServer

from sealwax import audit
from tests.docs.blocks import ROOT, Block, blocks_of, run

PAGES: Final = ("how-to/audit.md", "reference/misconfigurations.md", "how-to/policies.md", "reference/reports.md")


def program(page: str) -> Block:
    (block,) = (block for block in blocks_of(ROOT / "docs" / page) if block.language == "python")
    return replace(block, not_run="")


@pytest.mark.parametrize("page", PAGES)
def test_the_program_of_a_page_uses_the_public_fronts_only(page: str) -> None:
    tree = ast.parse(program(page).text)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = {
        f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in imported
        for alias in node.names
    }
    ours = {name for name in ours if name.startswith("sealwax")}
    assert ours
    assert ours <= {"sealwax.audit", "sealwax.policy", "sealwax.lab.Lab"}
    assert not [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]


def as_on_aws(block: Block) -> Block:
    """Change a program as its comments tell whoever has an account."""
    text = block.text
    for lab, aws in (
        ("from sealwax.lab import Lab", "import boto3"),
        ('Lab("./lab").session()', "boto3.Session()"),
        (", unavailable=absent", ""),
    ):
        assert text.count(lab) == 1, lab
        text = text.replace(lab, aws)
    return replace(block, text=text)


def test_the_program_that_gathers_runs_in_an_account(tmp_path: Path) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "A" * 20, "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        needs = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", **keys}
        shown = run([as_on_aws(program("how-to/audit.md"))], tmp_path / "reader", needs, terminal=False)
    finally:
        server.stop()
    assert " findings, " in shown
    facts = audit.read_facts(str(tmp_path / "reader/collected.json"))
    assert facts.regions == ("us-east-1",)
    assert facts.principals == ()
