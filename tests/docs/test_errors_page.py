"""docs/reference/errors.md is the text of `sealwax help`, and has the words that the messages of each error have."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import sealwax
from sealwax import errors
from sealwax._aws.meanings import CODES
from sealwax.cli.troubles import ERRORS, OF_EXTRAS
from tests.docs.blocks import ROOT
from tests.unit.fronts import FRONTS, names_of

PAGE: Final = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
# Only the errors below these are raised.
FAMILIES: Final = {errors.SealwaxError, errors.HeaderError, errors.PayloadError, errors.KmsError, errors.RecordError}


def test_the_page_is_what_the_program_says() -> None:
    script = "import sys; sys.path.insert(0, 'docs'); import make_error_reference as m; sys.stdout.write(m.page())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == PAGE, "run: .venv/bin/python docs/make_error_reference.py"


def is_error(front: str, name: str) -> bool:
    value = getattr(importlib.import_module(front), name)
    return isinstance(value, type) and issubclass(value, errors.SealwaxError)


def test_each_error_has_a_heading_its_causes_and_the_codes_of_aws() -> None:
    entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert set(entries) == {kind.__name__ for kind in ERRORS} | set(OF_EXTRAS)
    assert set(errors.__all__) == {kind.__name__ for kind in ERRORS}
    assert {name for front in FRONTS for name in names_of(front) if is_error(front, name)} == set(entries)
    for kind, trouble in ERRORS.items():
        entry = entries[kind.__name__]
        assert entry.count("\n- **") == len(trouble.causes)
        assert all(f"“{message}”" in entry for message in trouble.messages)
        assert bool(trouble.messages) == (kind not in FAMILIES), "who is raised has words to search by"
    for code, meaning in CODES.items():
        assert f"`{code}`" in entries[meaning.error.__name__], code


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module that are not documentation, with {} for what is put into them."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.Expr | ast.JoinedStr):
                continue
            if isinstance(child, ast.Constant) and isinstance(child.value, str):
                yield child.value
            elif isinstance(child, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in child.values)


def test_the_words_of_the_messages_are_the_programs() -> None:
    package = Path(sealwax.__file__).parent
    said = [
        text
        for path in package.rglob("*.py")
        if path.name != "troubles.py"
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(said) > 5000
    for kind, trouble in (*ERRORS.items(), *OF_EXTRAS.items()):
        for message in trouble.messages:
            parts = message.split(" ... ")
            assert any(all(part in text for part in parts) for text in said), (kind, message)
