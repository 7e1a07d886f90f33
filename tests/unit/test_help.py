"""``help()`` of what is public reads well in a terminal: plain text, with what a caller has to know."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import sealwax
from tests.unit.fronts import FRONTS, front, names_of

_ROLE = re.compile(r":(class|meth|func|mod|data|attr|exc|ref|doc):`")
_FROM_SQLALCHEMY = (
    r"\|  [^\n|]* inherited from sqlalchemy\..*?(?=\n *\|  -{9}|\n    \n)"
    r"|impl = <class 'sqlalchemy\..*?(?=\n *\|  -{9})"
)


def _methods(thing: type) -> Iterator[tuple[str, object]]:
    foreign = [vars(base) for base in thing.__mro__ if base.__module__.startswith(("django.", "sqlalchemy."))]
    for name, member in vars(thing).items():
        if any(name in names for names in foreign):
            continue  # as Django or SQLAlchemy has it
        # Tests are read, and not called.
        if not name.startswith(("_", "test_")) and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, member


def _lacking(function: object, *, strict: bool) -> list[str]:
    """Return the sections that a docstring should have and has not.

    Args:
        strict: whether an example is wanted too, and a section even where the first line says what is returned.
    """
    assert inspect.isfunction(function)
    doc = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    takes = [name for name in signature.parameters if name not in ("self", "cls")]
    gives = signature.return_annotation not in ("None", "NoReturn", None, inspect.Signature.empty)
    gives = gives and (strict or not doc.startswith(("Return", "Whether", "Yield")))
    wanted = [*["Args:"] * bool(takes), *["Returns:"] * gives, *["Example:"] * strict]
    return [section for section in wanted if f"\n{section}\n" not in doc]


def _help_of(name: str) -> str:
    if not name.startswith("sealwax.django"):
        return pydoc.plain(pydoc.render_doc(front(name)))
    # It looks at what Django translates, which takes the settings of a project, and a process has one.
    code = f"""
import django, pydoc
from django.conf import settings
settings.configure()
django.setup()
import {name}
print(pydoc.plain(pydoc.render_doc({name})))
"""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", FRONTS)
def test_no_roles_are_shown(name: str) -> None:
    text = _help_of(name)
    assert len(text) > 200
    # What a class inherits from SQLAlchemy is in SQLAlchemy's words.
    text = re.sub(_FROM_SQLALCHEMY, "", text, flags=re.DOTALL)
    shown = [line.strip() for line in text.splitlines() if _ROLE.search(line)]
    assert not shown, "\n".join(shown)


@pytest.mark.parametrize("name", FRONTS)
def test_functions_and_methods_have_their_sections(name: str) -> None:
    lacking: list[str] = []
    for public in names_of(name):
        thing = getattr(front(name), public)
        functions: list[tuple[str, object]] = []
        if inspect.isfunction(thing):
            functions = [(public, thing)]
        elif isinstance(thing, type) and not issubclass(thing, enum.Enum):
            functions = [(f"{public}.{method}", member) for method, member in _methods(thing)]
        for shown, function in functions:
            if isinstance(function, property):
                if not function.__doc__:
                    lacking.append(f"{shown}: a docstring")
            else:
                lacking += [f"{shown}: {section}" for section in _lacking(function, strict=thing is sealwax.Sealer)]
    assert not lacking, "\n".join(lacking)


@pytest.mark.parametrize("name", FRONTS)
def test_fields_are_told_of(name: str) -> None:
    for public in names_of(name):
        thing = getattr(front(name), public)
        if isinstance(thing, type) and dataclasses.is_dataclass(thing):
            doc = thing.__doc__ or ""
            for field in dataclasses.fields(thing):
                assert field.name.startswith("_") or re.search(rf"\b{field.name}\b", doc), f"{public}.{field.name}"


def test_what_is_lacking_is_found() -> None:
    def function(given: int) -> int:
        """Say something."""
        return given

    assert _lacking(function, strict=True) == ["Args:", "Returns:", "Example:"]


def test_an_inspection_shows_what_matters() -> None:
    """And not the bytes of the header, which would fill a screen."""
    from tests.fakes import ALPHA, FakeKeyring

    sealer = sealwax.Sealer(FakeKeyring(ALPHA))
    sealed = sealer.encrypt(b"hello", context={"table": "users"})
    assert repr(sealwax.inspect(sealed)) == (
        f"<Inspection: attached, context={{'table': 'users'}}, keys=['{ALPHA}'], plaintext_bytes=5, payload_bytes=77>"
    )
    header, _ = sealer.encrypt_detached(b"hello", context=sealwax.NO_CONTEXT)
    assert repr(sealwax.inspect(header)) == f"<Inspection: detached, context={{}}, keys=['{ALPHA}']>"
