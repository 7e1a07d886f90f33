"""Evaluators with one rule broken: the table notices each of them.

A mutant is a copy of the package with one piece of its source replaced; the product has no switch for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import sealwax.policy
from tests.policy.mutants import MUTANTS
from tests.policy.table import ROWS, decide

MODULES = [
    "values",
    "keys",
    "patterns",
    "operations",
    "model",
    "conditions",
    "documents",
    "grants",
    "evaluate",
    "explain",
    "parts",
    "records",
    "generate",
]
NAME = "policy_mutant"


@contextmanager
def mutant(module: str, old: str, new: str) -> Iterator[ModuleType]:
    """Load a copy of the package under another name, with one piece of source replaced."""
    folder = Path(sealwax.policy.__file__).parent
    package = ModuleType(NAME)
    package.__path__ = []
    loaded = {NAME: package}
    sys.modules[NAME] = package
    try:
        for name in [*MODULES, "__init__"]:
            file = name if name == "__init__" else f"_{name}"
            source = (folder / f"{file}.py").read_text()
            if name == module:
                assert source.count(old) == 1, f"the piece of source is there {source.count(old)} times: {old}"
                source = source.replace(old, new)
            full = NAME if name == "__init__" else f"{NAME}.{file}"
            target = loaded.setdefault(full, ModuleType(full))
            sys.modules[full] = target
            if target is not package:
                setattr(package, file, target)
            exec(compile(source.replace("sealwax.policy", NAME), full, "exec"), target.__dict__)
        yield package
    finally:
        for full in loaded:
            del sys.modules[full]


def test_an_unchanged_copy_decides_as_the_table_says() -> None:
    with mutant("evaluate", "Decide one request.", "Decide.") as policy:
        assert [row.name for row in ROWS if decide(row, policy) != row.expect] == []


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [pytest.param(module, old, new, id=broken) for module, found in MUTANTS.items() for broken, old, new in found],
)
def test_the_table_notices(module: str, old: str, new: str) -> None:
    with mutant(module, old, new) as policy:
        assert any(decide(row, policy) != row.expect for row in ROWS)


def test_there_are_as_many_mutants_as_promised() -> None:
    assert sum(map(len, MUTANTS.values())) >= 90
