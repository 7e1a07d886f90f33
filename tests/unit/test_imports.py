"""Imports run downhill, the AWS SDK stays in the modules that need it, and ``import sealwax`` does without."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwax

ROOT = Path(sealwax.__file__).parent

# What each room may import of the others. errors <- context <- keyring <- format <- envelope <- sealer <- cli.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "context": {"errors"},
    "keyring": set(),
    "given": set(),
    "disk": set(),
    "partitions": set(),
    "forks": set(),
    "pool": set(),
    "travel": {"errors"},
    "format": {"errors", "context", "keyring"},
    "trusted": {"errors", "context", "forks"},
    "files": {"errors", "context", "disk", "given", "keyring"},
    "foreign": {"errors", "context", "keyring", "format"},
    "envelope": {"errors", "context", "given", "keyring", "format", "files", "foreign"},
    "rewrapping": {"errors", "context", "keyring", "format", "files", "envelope"},
    "small": {"errors", "context", "keyring", "format", "envelope"},
    "aio": {"forks", "keyring", "format"},
    "events": {"errors"},
    "batch": {"errors", "keyring", "pool"},
    "sealer": {
        "errors",
        "context",
        "given",
        "keyring",
        "format",
        "files",
        "envelope",
        "rewrapping",
        "small",
        "aio",
        "batch",
        "events",
    },
    "cache": {"errors", "context", "given", "keyring", "aws", "events", "forks", "travel"},
    "signin": {"errors", "context", "origins"},
    "origins": {"context"},
    "refusals": {"errors", "context", "origins"},
    "aws": {"errors", "context", "forks", "origins", "refusals", "signin", "travel"},
    "answers": {"errors", "refusals"},
    "sts": {"context", "aws", "answers", "refusals"},
    "otel": {"errors", "events", "forks"},
    "kms": {
        "errors",
        "context",
        "given",
        "keyring",
        "aws",
        "answers",
        "sts",
        "events",
        "forks",
        "pool",
        "travel",
        "trusted",
        "disk",
        "partitions",
    },
    "staleness": {"format", "keyring"},
    "stores": {
        "errors",
        "context",
        "keyring",
        "format",
        "files",
        "envelope",
        "rewrapping",
        "aws",
        "origins",
        "refusals",
        "forks",
        "pool",
        "travel",
    },
    "fleet": {
        "errors",
        "given",
        "context",
        "disk",
        "trusted",
        "keyring",
        "format",
        "files",
        "foreign",
        "envelope",
        "rewrapping",
        "sealer",
        "staleness",
        "stores",
        "batch",
        "events",
        "aws",
        "kms",
    },
    "policy": {"errors"},
    "audit": {"errors", "context", "disk", "partitions", "trusted", "aws", "answers", "policy", "refusals"},
    "prove": {
        "errors",
        "context",
        "keyring",
        "format",
        "files",
        "envelope",
        "rewrapping",
        "sealer",
        "cache",
        "events",
        "aws",
        "kms",
        "policy",
    },
    "lab": {"errors", "context", "disk", "partitions", "forks", "trusted", "policy", "signin"},
}
# The package's own front and the command line look at everything.
ANYWHERE = {"__init__", "__main__", "cli"}
SDK = {"boto3", "botocore"}
# prove puts bad weather between the library and KMS.
SDK_ROOMS = {"signin", "origins", "refusals", "aws", "sts", "kms", "lab", "stores", "audit", "prove"}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).parts[0].removesuffix(".py"), path


def _imports(path: Path) -> Iterator[str]:
    """Yield the full names that a module imports when it runs; what only type checkers see does not count."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(inner for child in node.body for inner in ast.walk(child))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_in_the_plan() -> None:
    assert {room for room, _ in _modules()} - ANYWHERE <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downhill(room: str) -> None:
    for own, path in _modules():
        if own != room:
            continue
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] == "sealwax" and parts[1] not in (room, "__version__"):
                assert parts[1] in ROOMS[room], f"{path} imports {name}"


def test_the_sdk_stays_where_it_is_needed() -> None:
    for room, path in _modules():
        if room not in SDK_ROOMS:
            used = {name for name in _imports(path) if name.split(".")[0] in SDK}
            assert not used, f"{path} imports {used}"


def test_only_the_command_line_imports_what_paints() -> None:
    for room, path in _modules():
        if room != "cli":
            assert not {name for name in _imports(path) if name.split(".")[0] in ("click", "rich")}, path


@pytest.mark.parametrize("more", ["", "sealwax.inspect(b'x')"])
def test_import_sealwax_leaves_the_sdk_alone(more: str) -> None:
    program = f"""
import sys, sealwax
try:
    {more or "pass"}
except sealwax.NotAnEnvelopeError:
    pass
print(sorted(name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore", "click", "rich", "urllib3")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
