"""The public classes around KMS: what help() shows, and how the files behind them depend on each other."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwax
from sealwax import kms

ROOT = Path(sealwax.__file__).parent
CLASSES = [getattr(kms, name) for name in kms.__all__] + [sealwax.CachingKeyring]


def _public(kind: type) -> Iterator[tuple[str, object]]:
    yield "__init__", kind.__init__  # type: ignore[misc]
    yield from ((name, value) for name, value in vars(kind).items() if not name.startswith("_") and callable(value))


def test_the_front_is_whole() -> None:
    assert len(CLASSES) == 8
    assert all(kind.__doc__ for kind in CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_no_hook_of_a_test_is_in_a_public_signature(kind: type) -> None:
    for name, function in _public(kind):
        hidden = [one for one in inspect.signature(function).parameters if one.startswith("_")]  # type: ignore[arg-type]
        assert hidden in ([], ["_"]), f"{kind.__name__}.{name}"
        assert "wait" not in inspect.signature(function).parameters  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_help_reads_without_sphinx(kind: type) -> None:
    documents = [(kind.__name__, inspect.getdoc(kind))]
    documents += [(name, inspect.getdoc(value)) for name, value in _public(kind) if name != "__init__"]
    for name, text in documents:
        if kind is not kms.Session:
            assert text, f"{kind.__name__}.{name}"
        assert not re.search(r":(class|func|meth|mod|data):`", text or ""), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("kind", [kms.KmsKeyring, kms.MultiRegionKeyring, sealwax.CachingKeyring])
@pytest.mark.parametrize("name", ["generate", "unwrap", "rewrap"])
def test_a_keyrings_methods_say_what_they_take_return_and_raise(kind: type, name: str) -> None:
    text = inspect.getdoc(getattr(kind, name)) or ""
    assert [section for section in ("Args:", "Returns:", "Raises:") if f"\n{section}\n" not in text] == []


def test_the_price_of_a_request_stands_in_one_place() -> None:
    places = [path.name for path in ROOT.rglob("*.py") if re.search(r"\b0\.03\b", path.read_text("utf-8"))]
    assert places == ["events.py"]


@pytest.mark.parametrize("folder", ["_aws", "kms", "_core/cache"])
def test_no_files_import_each_other_in_a_circle(folder: str) -> None:
    """Imports for type checkers count too."""
    paths = {f"sealwax.{folder.replace('/', '.')}.{path.stem}": path for path in (ROOT / folder).glob("*.py")}
    below: dict[str, set[str]] = {}
    for name, path in paths.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        below[name] = found & paths.keys() - {name}
    assert sum(map(len, below.values())) >= 5
    while free := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in free}
    assert not below
