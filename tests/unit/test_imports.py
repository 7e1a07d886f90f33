"""Imports run downhill, the AWS SDK stays in the modules that need it, and ``import sealwax`` does without."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import sealwax

ROOT = Path(sealwax.__file__).parent

# What each room may import of the others. ``_core`` and ``_aws`` stand for every room in them.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "events": {"errors"},
    "_core.disk": set(),
    "_core.fork_locks": set(),
    "_core.keyring": set(),
    "_core.locking": {"_core.keyring"},
    "_core.pool": set(),
    "_core.validate": set(),
    "_core.pickling": {"errors"},
    "_core.context": {"errors"},
    "_core.format": {"errors", "_core.context", "_core.keyring"},
    "_core.trusted": {"errors", "_core.context", "_core.fork_locks"},
    "_core.files": {"errors", "_core.context", "_core.disk", "_core.validate", "_core.keyring"},
    "_core.recognize": {"errors", "_core.context", "_core.keyring", "_core.format"},
    "_core.envelope": {
        "errors",
        "_core.context",
        "_core.validate",
        "_core.keyring",
        "_core.format",
        "_core.files",
        "_core.recognize",
    },
    "_core.rewrap": {"errors", "_core.context", "_core.keyring", "_core.format", "_core.files", "_core.envelope"},
    "_core.small": {"errors", "_core.context", "_core.keyring", "_core.format", "_core.envelope"},
    "_core.staleness": {"_core.format", "_core.keyring"},
    "_core.aio": {"_core.fork_locks", "_core.keyring", "_core.format"},
    "_core.batch": {"errors", "_core.keyring", "_core.pool"},
    "_core.sealer": {
        "errors",
        "events",
        "_core.context",
        "_core.validate",
        "_core.keyring",
        "_core.format",
        "_core.files",
        "_core.envelope",
        "_core.rewrap",
        "_core.small",
        "_core.aio",
        "_core.batch",
    },
    "_core.cache": {
        "errors",
        "events",
        "_core.context",
        "_core.validate",
        "_core.keyring",
        "_core.fork_locks",
        "_core.pickling",
    },
    "_aws.partitions": set(),
    "_aws.origins": {"_core.context"},
    "_aws.signin": {"errors", "_core.context", "_aws.origins"},
    "_aws.refusals": {"errors", "_core.context", "_aws.origins"},
    "_aws.session": {
        "errors",
        "_core.context",
        "_core.fork_locks",
        "_core.pickling",
        "_aws.origins",
        "_aws.refusals",
        "_aws.signin",
    },
    "_aws.responses": {"errors", "_aws.refusals"},
    "_aws.sts": {"_core.context", "_aws.session", "_aws.responses", "_aws.refusals"},
    "otel": {"errors", "events", "_core.fork_locks"},
    "policy": {"errors"},
    "kms": {"errors", "events", "_core", "_aws"},
    "stores": {"errors", "_core", "_aws"},
    "fleet": {"errors", "_core", "_aws", "kms", "stores"},
    "audit": {
        "errors",
        "_core.context",
        "_core.disk",
        "_core.trusted",
        "_aws",
        "policy",
    },
    "prove": {"errors", "events", "_core", "_aws", "kms", "policy"},
    # Nothing of the library's keyrings, formats and sessions: the two meet over the API of KMS.
    "lab": {
        "errors",
        "_core.context",
        "_core.disk",
        "_core.fork_locks",
        "_core.trusted",
        "_aws.partitions",
        "_aws.signin",
        "policy",
    },
}
# The package's own front and the command line look at everything.
ANYWHERE = {"__init__", "__main__", "cli"}
SDK = {"boto3", "botocore"}
# prove puts outages between the library and KMS.
SDK_ROOMS = {"_aws", "kms", "lab", "stores", "audit", "prove"}


def _room(parts: Sequence[str]) -> str:
    return ".".join(parts[:2]) if parts[0] in ("_core", "_aws") else parts[0]


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts not in (("_core", "__init__"), ("_aws", "__init__")):
            yield _room(parts), path


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
            if parts[0] == "sealwax" and parts[1] != "__version__":
                other = _room(parts[1:])
                allowed = ROOMS[room] | {room}
                assert other in allowed or parts[1] in allowed, f"{path} imports {name}"


def test_the_sdk_stays_where_it_is_needed() -> None:
    for room, path in _modules():
        if room.partition(".")[0] not in SDK_ROOMS:
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
