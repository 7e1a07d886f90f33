"""The programs on the pages about audits and policies run as typed, and use nothing but the public fronts."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Final

import pytest
from moto.server import ThreadedMotoServer

from sealwax import audit, policy
from tests.docs.blocks import ROOT, Block, bare_environment, blocks_of, run

PAGES: Final = ("audit.md", "misconfigurations.md", "reports.md", "policies.md")


def programs(page: str) -> list[Block]:
    return [block for block in blocks_of(ROOT / "docs" / page) if block.language == "python"]


def test_every_page_has_a_program_on_the_public_fronts() -> None:
    for page in PAGES:
        (block,) = programs(page)
        names = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
        assert {(node.module, alias.name) for node in names for alias in node.names if node.module == "sealwax"} <= {
            ("sealwax", "audit"),
            ("sealwax", "policy"),
        }
        assert not [alias.name for node in names for alias in node.names if alias.name.startswith("_")]


def test_the_fronts_have_what_they_name() -> None:
    for front in (audit, policy):
        assert len(set(front.__all__)) == len(front.__all__)
        assert all(hasattr(front, name) for name in front.__all__)
        members = [getattr(front, name) for name in front.__all__]
        documented = [member for member in members if inspect.isclass(member) or inspect.isroutine(member)]
        assert len(documented) >= 28
        assert [member for member in documented if not (inspect.getdoc(member) or "").strip()] == []


def test_help_reads_without_sphinx() -> None:
    for front in (audit, policy):
        assert ":class:" not in (front.__doc__ or "")
        for name in front.__all__:
            text = getattr(front, name).__doc__ or ""
            assert ":class:`" not in text
            assert ":func:`" not in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which a reader has followed docs/audit.md."""
    path = tmp_path_factory.mktemp("reader")
    (block,) = (block for block in blocks_of(ROOT / "docs" / "audit.md") if block.action == "run")
    run(block, path, bare_environment())
    return path


@pytest.mark.parametrize("page", ["misconfigurations.md", "reports.md", "policies.md"])
def test_the_program_of_a_page_runs_in_a_bare_shell(page: str, folder: Path) -> None:
    for block in programs(page):
        run(block, folder, bare_environment())


def test_the_program_that_gathers_runs_in_an_account(tmp_path: Path) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "A" * 20, "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-1"}
        environment = bare_environment(AWS_ENDPOINT_URL=f"http://{host}:{port}", **keys)
        for block in programs("audit.md"):
            run(block, tmp_path, environment)
    finally:
        server.stop()
    facts = audit.read_facts(str(tmp_path / "facts.json"))
    assert facts.regions == ("eu-west-1",)
    assert facts.principals == ()
