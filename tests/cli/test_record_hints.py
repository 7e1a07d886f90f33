"""What to do about a key store: the library names its methods and arguments, and the command line its commands."""

from __future__ import annotations

import ast
import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import sealwax.records
from sealwax.cli import console
from tests.cli.conftest import K, Run

_OF_THE_LIBRARY: Final = re.compile(r"\w+\(\)|\w+=(True|False|None)\b")
# No command gets there: none runs an event loop, and `records repair` copies rows from another database.
_UNREACHED: Final = (
    "would block the event loop",
    "cannot be put back",
    "this row holds a data key that works",
    "MemoryKeys() for tests",
    "such as Plaintext() or Fernet(key)",
)


def _texts() -> Iterator[str]:
    """Yield every text in the package that is no docstring, with its parts joined."""
    for path in Path(sealwax.records.__file__).parent.glob("_*.py"):
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
            id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
        }
        for node in ast.walk(tree):
            if id(node) in docs or id(node) in inside:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)


def test_no_method_is_named_on_the_command_line() -> None:
    named = [text for text in _texts() if _OF_THE_LIBRARY.search(text)]
    assert len(named) >= 8
    for text in named:
        left = _OF_THE_LIBRARY.search(console.in_commands(text))
        assert left is None or any(part in text for part in _UNREACHED), text


@pytest.mark.parametrize("verb", ["list", "retire 1 -c app=shop", "ensure -c app=shop"])
def test_missing_tables_are_made_by_a_command(
    run: Run, verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("VACUUM")  # a database, without tables
    name, *options = verb.split()
    key = K if name == "ensure" else ()
    assert run("records", name, *options, *key, "--store", f"sqlite:///{tmp_path}/empty.db") == 1
    said = capfd.readouterr().err
    assert said.endswith(
        "no such table: sealwax_keys. Create its tables with `sealwax records create-table` or a migration.\n"
    )


def test_a_shredded_scope_is_opened_again_by_a_command(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    on = ("--store", f"sqlite:///{tmp_path}/keys.db")
    scope = (*on, "-c", "app=shop")
    assert run("records", "create-table", *on) == 0
    assert run("records", "ensure", *K, *scope) == 0
    assert run("records", "shred", *scope, "--confirm", "app=shop") == 0
    capfd.readouterr()
    assert run("records", "roll", *K, *scope) == 7
    assert capfd.readouterr().err.endswith("is gone. `sealwax records reopen` makes a new key for new data.\n")
