"""Imports run downhill, the AWS SDK stays in the modules that need it, and ``import sealwax`` does without."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

import sealwax

T = TypeVar("T")
ROOT = Path(sealwax.__file__).parent

# Small rooms below all others, which import at most each other.
LEAVES = {"errors", "_foreign", "_core.sources", "_text"}
# What each room may import besides the leaves. ``_core`` and ``_aws`` stand for every room in them.
ROOMS: dict[str, set[str]] = {
    **{leaf: set() for leaf in sorted(LEAVES)},
    "events": set(),
    "_core.disk": set(),
    "_core.fork_locks": set(),
    "_core.keyring": set(),
    "_core.lru": set(),
    "_core.pool": set(),
    "_core.validate": set(),
    "_core.pickling": set(),
    "_core.context": set(),
    "_core.watch": {"events"},
    "_core.single_flight": set(),
    "_core.locking": {"_core.keyring"},
    "_core.format": {"_core.context", "_core.keyring"},
    "_core.trusted": {"_core.fork_locks"},
    "_core.files": {"_core.disk", "_core.validate", "_core.keyring", "_core.locking"},
    "_core.foreign": {"_core.context", "_core.keyring", "_core.format"},
    "_core.recognize": {"_core.keyring", "_core.format"},
    "_core.messages": {
        "_core.context",
        "_core.keyring",
        "_core.files",
        "_core.format",
        "_core.foreign",
        "_core.envelope",
        "_core.spooling",
    },
    "_core.objects": {
        "_core.context",
        "_core.envelope",
        "_core.foreign",
        "_core.format",
        "_core.keyring",
        "_core.recognize",
    },
    "_core.scripts": {
        "_core.context",
        "_core.envelope",
        "_core.foreign",
        "_core.format",
        "_core.keyring",
        "_core.spooling",
    },
    "_core.spooling": {"_core.envelope", "_core.files"},
    "_core.envelope": {
        "_core.context",
        "_core.validate",
        "_core.keyring",
        "_core.format",
        "_core.files",
        "_core.recognize",
    },
    "_core.moved": {"_core.envelope", "_core.files", "_core.format"},
    "_core.moving": {
        "_core.context",
        "_core.envelope",
        "_core.foreign",
        "_core.messages",
        "_core.moved",
        "_core.objects",
        "_core.operations",
        "_core.scripts",
        "_core.sealer",
    },
    "_core.inspection": {
        "_core.context",
        "_core.envelope",
        "_core.files",
        "_core.foreign",
        "_core.messages",
        "_core.objects",
        "_core.validate",
    },
    "_core.rewrap": {"_core.keyring", "_core.format", "_core.files", "_core.foreign", "_core.envelope"},
    "_core.small": {"_core.context", "_core.keyring", "_core.format", "_core.envelope"},
    "_core.staleness": {"_core.format", "_core.keyring"},
    "_core.aio": {"_core.fork_locks", "_core.keyring", "_core.format"},
    "_core.batch": {"_core.keyring", "_core.pool"},
    "_core.operations": {
        "_core.context",
        "_core.validate",
        "_core.keyring",
        "_core.format",
        "_core.files",
        "_core.foreign",
        "_core.envelope",
        "_core.messages",
        "_core.objects",
        "_core.rewrap",
        "_core.scripts",
    },
    "_core.sealer": {
        "events",
        "_core.aio",
        "_core.batch",
        "_core.context",
        "_core.envelope",
        "_core.files",
        "_core.format",
        "_core.foreign",
        "_core.keyring",
        "_core.operations",
        "_core.rewrap",
        "_core.small",
        "_core.validate",
        "_core.watch",
    },
    "_core.cache": {
        "events",
        "_core.context",
        "_core.foreign",
        "_core.validate",
        "_core.keyring",
        "_core.fork_locks",
        "_core.lru",
        "_core.pickling",
        "_core.single_flight",
        "_core.watch",
    },
    "_aws.partitions": set(),
    "_aws.calls": set(),
    "_aws.debuglog": set(),
    "_aws.origins": set(),
    "_aws.signin": {"_aws.origins"},
    "_aws.meanings": set(),
    "_aws.refusals": {"_aws.meanings", "_aws.origins"},
    "_aws.session": {
        "_core.fork_locks",
        "_core.pickling",
        "_aws.origins",
        "_aws.refusals",
        "_aws.signin",
    },
    "_aws.responses": {"_aws.refusals"},
    "_aws.checkup": {"_aws.origins", "_aws.refusals", "_aws.responses", "_aws.session"},
    "_aws.sts": {"_aws.session", "_aws.responses", "_aws.refusals"},
    "_report": set(),
    "otel": {"events", "_core.fork_locks"},
    "policy": set(),
    "kms": {"events", "_core", "_aws"},
    "records": {"events", "_core"},
    "sqlalchemy": {"_core.lru", "records"},
    "stores": {"_core", "_aws", "records"},
    "fleet": {"events", "_core", "_aws", "_report", "kms", "stores"},
    "django": {"_core", "kms", "records"},
    # Commands of manage.py print and end as those of the command line do.
    "django.management": {"cli", "django", "records"},
    "audit": {
        "_core.files",
        "_core.disk",
        "_core.locking",
        "_core.trusted",
        "_aws",
        "_report",
        "policy",
    },
    "prove": {"events", "_core", "_aws", "_report", "kms", "policy", "records"},
    # It uses the whole product, and compares the lab with AWS.
    "_rehearse": {
        "events",
        "_core",
        "_aws",
        "_report",
        "audit",
        "fleet",
        "kms",
        "lab",
        "policy",
        "prove",
        "records",
        "stores",
    },
    # Nothing of the library's keyrings, formats and sessions: the two meet over the API of KMS.
    "lab": {
        "_core.disk",
        "_core.fork_locks",
        "_core.lru",
        "_core.trusted",
        "_aws.partitions",
        "_aws.signin",
        "policy",
    },
    # Its fixtures hand a lab to the library's keyrings, as a program does.
    "lab.pytest_plugin": {"lab", "kms", "records"},
}
# The package's own front and the command line look at everything.
ANYWHERE = {"__init__", "__main__", "cli"}
SDK = {"boto3", "botocore"}
# prove puts outages between the library and KMS; a rehearsal makes what it needs.
SDK_ROOMS = {"_aws", "kms", "lab", "stores", "audit", "prove", "_rehearse"}


def _room(parts: Sequence[str]) -> str:
    inner = parts[0] in ("_core", "_aws") or tuple(parts[:2]) in (("lab", "pytest_plugin"), ("django", "management"))
    return ".".join(parts[:2]) if inner else parts[0]


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts not in (("_core", "__init__"), ("_aws", "__init__")):
            yield _room(parts), path


def _imports(path: Path, *, for_typing: bool = False) -> Iterator[str]:
    """Yield the full names that a module imports.

    Args:
        for_typing: whether those count that only type checkers see.
    """
    skipped: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not for_typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
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
                allowed = ROOMS[room] | LEAVES | {room}
                assert other in allowed or parts[1] in allowed, f"{path} imports {name}"


def _file_of(name: str) -> Path | None:
    """Return the file that an imported name is, or comes from."""
    if name.split(".")[0] != "sealwax":
        return None
    for dotted in (name, name.rpartition(".")[0]):
        place = ROOT.joinpath(*dotted.split(".")[1:])
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path
    raise AssertionError(f"nothing is at {name}")


def _circles(graph: Mapping[T, set[T]]) -> list[set[T]]:
    """Return the sets of nodes that reach each other."""
    reached: dict[T, set[T]] = {}
    for node in graph:
        reached[node] = set()
        waiting = list(graph[node])
        while waiting:
            other = waiting.pop()
            if other not in reached[node]:
                reached[node].add(other)
                waiting += graph[other]
    circles: list[set[T]] = []
    for node in graph:
        circle = {other for other in reached[node] if node in reached[other]}
        if circle and circle not in circles:
            circles.append(circle)
    return circles


def _graph() -> dict[Path, set[Path]]:
    graph: dict[Path, set[Path]] = {}
    for path in ROOT.rglob("*.py"):
        files = {_file_of(name) for name in _imports(path, for_typing=True)} - {None, path}
        graph[path] = {file for file in files if file is not None}
    return graph


def test_circles_are_found() -> None:
    assert _circles({1: {2}, 2: {3}, 3: {1}, 4: {1}, 5: {6}, 6: {5}, 7: set()}) == [{1, 2, 3}, {5, 6}]


def test_no_files_import_each_other() -> None:
    """Nor do they for type checkers alone: what needs each other's names belongs together, or apart."""
    graph = _graph()
    assert len(graph) > 150
    circles = [sorted(str(path.relative_to(ROOT)) for path in circle) for circle in _circles(graph)]
    assert circles == []


def test_no_rooms_import_each_other() -> None:
    rooms: dict[str, set[str]] = {}
    for path, files in _graph().items():
        room = _room_of(path)
        rooms.setdefault(room, set()).update(_room_of(file) for file in files)
        rooms[room].discard(room)
    assert _circles(rooms) == []


# A model of SQLAlchemy and one of Django are declared in the same words, and no program has both.
SHARED_BY_FRONTS = {"IndexOf", "Sealed"}
FRONTS_OF_MODELS = {"sqlalchemy", "django"}


def _is_shared(name: str, paths: Sequence[str]) -> bool:
    """Whether two classes have one name on purpose: one of each front, and no other."""
    rooms = [path.partition("/")[0] for path in paths]
    return name in SHARED_BY_FRONTS and set(rooms) == FRONTS_OF_MODELS and len(rooms) == len(FRONTS_OF_MODELS)


def test_fronts_of_models_share_names() -> None:
    both = ["sqlalchemy/_index.py", "django/_index.py"]
    assert _is_shared("IndexOf", both)
    assert not _is_shared("Scope", both)
    assert not _is_shared("IndexOf", [*both, "sqlalchemy/_types.py"])
    assert not _is_shared("IndexOf", ["sqlalchemy/_index.py", "records/_index.py"])


def test_no_class_name_occurs_twice() -> None:
    """A traceback, a log line or a search names a class without its module."""
    files: dict[str, list[str]] = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            # Django gives commands their names.
            if isinstance(node, ast.ClassDef) and path.parent.name != "commands":
                files.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(files) > 250
    twice = {name: paths for name, paths in files.items() if len(paths) > 1 and not _is_shared(name, paths)}
    assert twice == {}


def test_each_module_lists_its_public_names_once() -> None:
    twice, lists = [], 0
    for path in ROOT.rglob("*.py"):
        targets = [node.targets for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
        count = sum(ast.unparse(target) == "__all__" for each in targets for target in each)
        lists += count
        if count > 1:
            twice.append(str(path.relative_to(ROOT)))
    assert lists > 10
    assert twice == []


def _room_of(path: Path) -> str:
    return _room(path.relative_to(ROOT).with_suffix("").parts)


def test_the_sdk_stays_where_it_is_needed() -> None:
    for room, path in _modules():
        if room.partition(".")[0] not in SDK_ROOMS:
            used = {name for name in _imports(path) if name.split(".")[0] in SDK}
            assert not used, f"{path} imports {used}"


def test_only_the_command_line_imports_what_paints() -> None:
    for room, path in _modules():
        if room not in ("cli", "django.management"):
            assert not {name for name in _imports(path) if name.split(".")[0] in ("click", "rich")}, path


def test_the_pytest_plugin_imports_next_to_nothing() -> None:
    """It is loaded in every pytest run of every project that has sealwax installed."""
    program = """
import pytest, sys
before = set(sys.modules)
import sealwax.lab.pytest_plugin
print(sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['sealwax', 'sealwax.errors', 'sealwax.lab', 'sealwax.lab.pytest_plugin']"


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
