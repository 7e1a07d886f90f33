"""Write docs/reference/api.md from the public fronts of the package: python docs/make_api_reference.py"""

from __future__ import annotations

import ast
import enum
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

PAGE = Path(__file__).with_name("reference") / "api.md"
FRONTS = (
    "sealwax",
    "sealwax.errors",
    "sealwax.events",
    "sealwax.otel",
    "sealwax.kms",
    "sealwax.stores",
    "sealwax.stores.key_rows",
    "sealwax.stores.s3",
    "sealwax.records",
    "sealwax.records.moving",
    "sealwax.records.tables",
    "sealwax.records.testing",
    "sealwax.sqlalchemy",
    "sealwax.django",
    "sealwax.django.admin",
    "sealwax.fleet",
    "sealwax.fleet.spark",
    "sealwax.fleet.aws_lambda",
    "sealwax.policy",
    "sealwax.audit",
    "sealwax.prove",
    "sealwax.lab",
    "sealwax.lab.pytest_plugin",
)
# The default is an object of no name, a path or very long.
_OF_A_MACHINE = re.compile(r"^<|'/|.{60}")
_FOREIGN = sys.stdlib_module_names | {"boto3", "botocore"}
HEAD = """# API

Every public name, with its signature and the first sentence of its documentation; `help(NAME)` in Python has all of it.
A name that is not here is private and may change.

Written by [make_api_reference.py](../make_api_reference.py) from the program; change the program, not this page.
"""


def public_names(front: str) -> list[str]:
    """Return the public names of a module.

    Raises:
        SystemExit: the module does not say which they are, or names one that it does not have.
    """
    module = importlib.import_module(front)
    names: list[str] | None = getattr(module, "__all__", None)
    if names is None:
        raise SystemExit(f"{front} has no __all__: a public module lists its public names there")
    if missing := [name for name in names if not hasattr(module, name)]:
        raise SystemExit(f"{front} does not have {', '.join(missing)}, which its __all__ names")
    return sorted(names, key=lambda name: (name.casefold(), name))


def first_sentence(doc: str | None) -> str:
    """Return the first sentence of a docstring as Markdown."""
    paragraph = " ".join(inspect.cleandoc(doc or "").partition("\n\n")[0].split())
    paragraph = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", paragraph).replace("``", "`")
    match = re.match(r".+?\.(?= |$)", paragraph)
    return match[0] if match else paragraph.rstrip(":")


def parameter(each: inspect.Parameter) -> str:
    """Return one parameter as its definition has it."""
    stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
    text = f"{stars}{each.name}"
    if each.annotation is not each.empty:
        text += f": {annotation(each.annotation)}"
    if each.default is not each.empty:
        shown = str(each.default) if isinstance(each.default, enum.Enum) else repr(each.default)
        text += f"{' = ' if ':' in text else '='}{'...' if _OF_A_MACHINE.search(shown) else shown}"
    return text


def annotation(value: object) -> str:
    """Return an annotation without the names that the package's files give to each other."""
    text = value if isinstance(value, str) else inspect.formatannotation(value)
    return re.sub(r"\b(\w+)\.(?=[A-Z])", lambda match: match[0] if match[1] in _FOREIGN else "", text)


def signature(function: object, *, bound: bool = False) -> str:
    """Return a signature without quotes around its annotations; ``bound`` leaves out ``self`` or ``cls``."""
    given = inspect.signature(function)  # type: ignore[arg-type]
    parts: list[str] = []
    kind = inspect.Parameter.POSITIONAL_ONLY
    for each in list(given.parameters.values())[int(bound) :]:
        if each.name.startswith("_"):
            continue
        if kind is each.POSITIONAL_ONLY and each.kind is not kind and parts:
            parts.append("/")
        if each.kind is each.KEYWORD_ONLY and kind not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            parts.append("*")
        kind = each.kind
        parts.append(parameter(each))
    returned = given.return_annotation
    return f"({', '.join(parts)})" + ("" if returned is given.empty else f" -> {annotation(returned)}")


def members(kind: type) -> Iterator[tuple[str, str | None]]:
    """Yield the public methods and properties of a class, as they are shown, with their docstrings."""
    seen: set[str] = set()
    bases = [base for base in kind.__mro__ if base.__module__.partition(".")[0] == "sealwax"]
    for base in bases:
        for name, value in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if isinstance(value, property):
                returned = inspect.signature(value.fget).return_annotation  # type: ignore[arg-type]
                yield f"{name}: {annotation(returned)}", value.__doc__
            elif isinstance(value, staticmethod):
                yield name + signature(value.__func__), value.__doc__
            elif isinstance(value, FunctionType | classmethod):
                function = value.__func__ if isinstance(value, classmethod) else value
                docs = (vars(base)[name].__doc__ for base in bases if name in vars(base))
                prefix = "async " if inspect.iscoroutinefunction(function) else ""
                yield prefix + name + signature(function, bound=True), next(filter(None, docs), None)


@functools.cache
def assignments(module: ModuleType) -> dict[str, tuple[str, str | None]]:
    """Return what a module assigns at its top: each name as it is shown, with the docstring that follows it."""
    found = {}
    body = ast.parse(inspect.getsource(module)).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            target, typed = node.target, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign):
            target, typed = node.targets[0], ""
        else:
            continue
        name, value = ast.unparse(target), ast.unparse(node.value) if node.value else ""
        typed = re.sub(r"^Final(\[(.*)\])?$", r"\2", typed)
        shown = (
            f"{name}: {typed}" if typed and typed != "TypeAlias" else f"{name} = {value}" if len(value) < 100 else name
        )
        doc = following.value if isinstance(following, ast.Expr) else None
        text = doc.value if isinstance(doc, ast.Constant) and isinstance(doc.value, str) else None
        found[name] = shown, text
    return found


def value_of(name: str, value: object) -> tuple[str, str | None]:
    """Return a constant or an alias as it is shown, with its docstring, from the module that assigns it."""
    for module in [each for key, each in sys.modules.items() if key.partition(".")[0] == "sealwax"]:
        if vars(module).get(name) is value and name in assignments(module):
            return assignments(module)[name]
    return name, None


def entry(name: str, value: object) -> Iterator[str]:
    """Yield the lines of one name."""
    inner: list[tuple[str, str | None]] = []
    if isinstance(value, type):
        doc, shown = value.__doc__, name
        inner = list(members(value))
        if issubclass(value, BaseException):
            shown = f"{name}({', '.join(base.__name__ for base in value.__bases__)})"
        elif issubclass(value, enum.Enum):
            inner = [(member.name, None) for member in value] + inner
        elif not getattr(value, "_is_protocol", False):
            shown = name + signature(value).removesuffix(" -> None")
    elif isinstance(value, FunctionType):
        doc, shown = value.__doc__, name + signature(value)
    elif inspect.isfunction(fixture := inspect.unwrap(value)):  # type: ignore[arg-type]
        returned = annotation(inspect.signature(fixture).return_annotation)
        doc, shown = fixture.__doc__, f"{name}: {returned.removeprefix('Iterator[').removesuffix(']')}"
    else:
        shown, doc = value_of(name, value)
    yield line("", shown, doc)
    for text, doc in inner:
        yield line("  ", text, doc)


def line(indent: str, shown: str, doc: str | None) -> str:
    sentence = first_sentence(doc)
    return f"{indent}- `{shown}`" + (f": {sentence}" if sentence else "")


def page() -> str:
    """Return docs/reference/api.md as it should be."""
    lines = [HEAD]
    shown: dict[tuple[str, int], str] = {}
    for front in FRONTS:
        module = importlib.import_module(front)
        lines += [f"## {front}", "", first_sentence(module.__doc__), ""]
        again: dict[str, list[str]] = {}
        for name in public_names(front):
            value = getattr(module, name)
            first = shown.setdefault((name, id(value)), front)
            if first != front:
                again.setdefault(first, []).append(f"`{name}`")
            else:
                lines += entry(name, value)
        for first, names in again.items():
            lines.append(f"- as in [{first}](#{first.replace('.', '')}): {', '.join(names)}")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
