"""What `make mutants` breaks: each kind of change, once, at places that stay chosen."""

from __future__ import annotations

from collections import Counter

import pytest

from tests import mutants
from tests.mutations import Finder, Mutant, mutated, probed

HEAD = "def function(x, y=1):\n    "


def find(text: str) -> list[Mutant]:
    return Finder("format", "module.py", text, Counter()).mutants


@pytest.mark.parametrize(
    ("line", "kind", "old", "new"),
    [
        ("x = y < 2", "compare", "y < 2", "(y <= 2)"),
        ("x = y >= z", "compare", "y >= z", "(y > z)"),
        ("x = y is z", "compare", "y is z", "(y is not z)"),
        ("x = y and z", "and-or", "y and z", "(y or z)"),
        ("x = not y", "not", "not y", "(y)"),
        ("x = y if z else w", "negate", "z", "(not z)"),
        ("x = y - z", "arithmetic", "y - z", "(y + z)"),
        ("x = 7", "constant", "7", "(8)"),
        ("x = True", "constant", "True", "(False)"),
        ("x = é(y, z, k=w)", "swap", "é(y, z, k=w)", "(é(z, y, k=w))"),
        ("return x", "return", "return x", "return None"),
        ("raise E(x)", "drop", "raise E(x)", "pass"),
        ("x.y(z)", "drop", "x.y(z)", "pass"),
        ("x.y = z", "drop", "x.y = z", "pass"),
        ("x: int = 7", "constant", "7", "(8)"),
    ],
)
def test_a_change(line: str, kind: str, old: str, new: str) -> None:
    found = {mutant.name: mutant for mutant in find(HEAD + line)}
    mutant = found[f"format:function {kind} 1"]
    assert (mutant.old, mutant.new) == (old, new)
    assert mutated((HEAD + line).encode(), mutant).decode() == HEAD + line.replace(old, new)


@pytest.mark.parametrize(
    "text", ["x = 7", "class A:\n    x = 7", "def f(x=7): ...", HEAD + "x = f'{7}'", HEAD + "'words'"]
)
def test_what_runs_at_import_and_what_is_only_text_stay(text: str) -> None:
    assert find(text) == []


def test_a_name_stays_when_a_function_moves() -> None:
    first, second = HEAD + "x = 7\n", "class A:\n    def method(self):\n        return 7\n"
    names = {mutant.name for mutant in find(first + second)}
    assert names == {"format:function constant 1", "format:A.method return 1", "format:A.method constant 1"}
    assert {mutant.name for mutant in find(second + first)} == names


@pytest.mark.slow  # and needs src, which an installed wheel has not
def test_the_chosen_ones() -> None:
    chosen = mutants.mutants()
    assert len({mutant.name for mutant in chosen}) == len(chosen) == 200
    assert [sum(mutant.name.startswith(f"{package}:") for mutant in chosen) for package in mutants.PACKAGES] == [50] * 4


def test_a_probe_goes_before_the_statement_that_a_mutant_changes() -> None:
    text = HEAD + "if x == 'é':\n        x = 7\n    elif x == z:\n        return None\n    return x + 7\n"
    source = probed(text.encode(), dict(enumerate(find(text)))).decode()
    compile(source, "module.py", "exec")
    lines = [line.strip().replace("__import__('_mutants_probe').", "") for line in source.splitlines()]
    assert lines == [
        "def function(x, y=1):",
        "hit(0, 2)",
        "if x == 'é':",
        "hit(1)",
        "x = 7",
        "elif x == z:",
        "return None",
        "hit(3, 4, 5)",
        "return x + 7",
    ]
