"""Whatever type stands in a public signature can be imported from a public front."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import sealwax
from tests.unit.fronts import FRONTS, front, names_of

# Programs get these, and make none: what makes them may stay private.
ONLY_RETURNED = ("AsyncFile", "Faults", "Field", "Index", "StreamReader", "StreamWriter", "Trail")


def _public() -> dict[int, str]:
    things = {}
    for name in FRONTS:
        for public in names_of(name):
            things[id(getattr(front(name), public))] = f"{name}.{public}"
    return things


def _members(thing: type) -> Iterator[tuple[str, object]]:
    """Yield what a class says in public: its constructor, properties and methods, inherited ones of ours too."""
    for base in thing.__mro__:
        if base.__module__.split(".")[0] == "sealwax":
            for name, member in vars(base).items():
                if name == "__init__" or not name.startswith("_"):
                    yield name, member.fget if isinstance(member, property) else member


def _namespace(thing: object) -> dict[str, Any]:
    """Return what the annotations of a module may name, what it imports for type checkers included."""
    module = import_module(getattr(thing, "__module__", "builtins"))
    names = dict(vars(typing) | vars(collections.abc) | vars(module))
    source = inspect.getsource(module)
    _, _, block = source.partition("\nif TYPE_CHECKING:\n")
    lines = [line for line in block.splitlines() if line.startswith("    ") or not line]
    cut = next((number for number, line in enumerate(block.splitlines()) if line and line[0] != " "), len(lines))
    code = "\n".join(line[4:] for line in block.splitlines()[:cut])
    for statement in code.split("\nfrom ") if code else ():
        text = statement if statement.startswith(("from ", "import ")) else f"from {statement}"
        if "_typeshed" not in text:
            exec(text, names)
    # What exists for type checkers alone, or refers to itself.
    return names | dict.fromkeys(("ReadableBuffer", "WriteableBuffer", "ModelLike", "Json"), object)


def _types_in(annotation: object) -> Iterator[object]:
    """Yield an annotation and its parts."""
    yield annotation
    if isinstance(annotation, list | tuple):
        for part in annotation:
            yield from _types_in(part)
    for part in typing.get_args(annotation):
        yield from _types_in(part)


def _hints(function: object) -> dict[str, object]:
    return typing.get_type_hints(function, globalns=_namespace(function))


def _unexported(name: str, thing: object, public: dict[int, str]) -> Iterator[str]:
    """Yield the types of ours in a public thing's signatures that are on no front."""
    members: list[tuple[str, object]] = []
    if isinstance(thing, type):
        only_returned = thing.__name__ in ONLY_RETURNED
        members = [member for member in _members(thing) if not (only_returned and member[0] == "__init__")]
        if dataclasses.is_dataclass(thing):
            members.append(("the fields", thing))
    elif inspect.isfunction(thing):
        members = [("", thing)]
    for member, function in members:
        if isinstance(function, staticmethod | classmethod):
            function = function.__func__
        if not (inspect.isfunction(function) or (member == "the fields" and isinstance(function, type))):
            continue
        for parameter, hint in _hints(function).items():
            if parameter.startswith("_"):
                continue
            for part in _types_in(hint):
                module = getattr(part, "__module__", "") or ""
                ours = isinstance(part, type) and module.split(".")[0] == "sealwax"
                if ours and not isinstance(part, types.GenericAlias) and id(part) not in public:
                    yield f"{name}.{member}: {parameter} is {module}.{getattr(part, '__name__', part)}"


@pytest.mark.parametrize("name", FRONTS)
def test_types_in_signatures_are_exported(name: str) -> None:
    public = _public()
    missing = [
        line for each in names_of(name) for line in _unexported(f"{name}.{each}", getattr(front(name), each), public)
    ]
    assert not missing, "\n".join(missing)


def test_the_walk_finds_them() -> None:
    public = _public()
    for hidden in (sealwax.Header, sealwax.ForeignFormat, sealwax.StreamReader, sealwax.NoContext):
        without = {number: where for number, where in public.items() if number != id(hidden)}
        found = [line for each in sealwax.__all__ for line in _unexported(each, getattr(sealwax, each), without)]
        assert any(hidden.__name__ in line for line in found), hidden
