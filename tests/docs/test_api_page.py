"""docs/reference/api.md lists every public name, as the program has it."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import sealwax
from tests.docs.blocks import ROOT

PAGE: Final = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def maker() -> Any:
    path = ROOT / "docs/make_api_reference.py"
    module = ModuleType("make_api_reference")
    module.__dict__["__file__"] = str(path)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


def test_the_page_is_what_the_program_says(maker: Any) -> None:
    assert maker.page() == PAGE, "run: .venv/bin/python docs/make_api_reference.py"


def test_the_page_has_every_public_name(maker: Any) -> None:
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert tuple(sections) == maker.FRONTS
    for front, text in sections.items():
        entries = re.findall(r"^- `(\w+)", text, re.MULTILINE)
        for again in re.findall(r"^- as in .*: (.*)$", text, re.MULTILINE):
            entries += re.findall(r"`(\w+)`", again)
        assert sorted(entries) == sorted(importlib.import_module(front).__all__), front
    assert "`encrypt(plaintext: " in sections["sealwax"]
    assert "_clocks" not in PAGE


def test_every_module_that_is_not_private_is_on_the_page(maker: Any) -> None:
    package = Path(sealwax.__file__).parent
    paths = [path.relative_to(package.parent).with_suffix("").parts for path in package.rglob("*.py")]
    modules = {
        ".".join(parts).removesuffix(".__init__")
        for parts in paths
        if parts[1] != "cli"
        and not any(part.startswith("_") and part != "__init__" for part in parts)
        and not {"apps", "management", "migrations"} & set(parts)  # Django names and finds these
    }
    assert modules == set(maker.FRONTS)


def test_a_module_without_a_list_of_its_public_names_is_named(maker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("front")
    monkeypatch.setitem(sys.modules, "front", module)
    with pytest.raises(SystemExit, match=r"front has no __all__: a public module lists"):
        maker.public_names("front")
    module.__dict__["__all__"] = ["missing"]
    with pytest.raises(SystemExit, match=r"front does not have missing, which its __all__ names"):
        maker.public_names("front")
