"""The public names, pinned: adding one is a decision, and removing one breaks somebody's program.

After such a decision, run ``.venv/bin/python -m tests.unit.test_public_names``, which writes them to public_names.txt.
"""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import pydoc
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwax
from tests.unit.fronts import FRONTS, front, names_of

ROOT = Path(sealwax.__file__).parent
PINNED = Path(__file__).with_name("public_names.txt")


def _table() -> Iterator[str]:
    for name in FRONTS:
        yield f"{name}\n"
        # Constants, then classes, then functions.
        names = sorted(names_of(name), key=lambda public: (not public.isupper(), not public[0].isupper(), public))
        yield from (f"    {public}\n" for public in names)


def test_the_names_are_the_pinned_ones() -> None:
    assert list(_table()) == PINNED.read_text().splitlines(keepends=True)


@pytest.mark.parametrize("name", FRONTS)
def test_each_front_has_its_names_and_no_other(name: str) -> None:
    names = names_of(name)
    assert names, "a front has __all__"
    assert len(set(names)) == len(names)
    for public in names:
        assert not public.startswith("_")
        assert hasattr(front(name), public)
    told: dict[str, object] = {}
    exec(f"from {name} import *", told)
    assert set(told) - {"__builtins__"} == set(names)


def test_every_module_without_an_underscore_is_a_front() -> None:
    """But the command line, which is no library, and the program's entry."""
    public = set()
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if (
            not any(part.startswith("_") and part != "__init__" for part in parts)
            and parts[1:2] != ("cli",)
            and not (
                parts[1:2] == ("django",)
                and {"apps", "management", "migrations"} & set(parts)  # Django names and finds these
            )
        ):
            public.add(".".join(part for part in parts if part != "__init__"))
    assert public == set(FRONTS)


def test_one_name_is_one_thing() -> None:
    """No two public classes have the same name. Verbs may be the same: ``fleet.run`` and ``audit.run``."""
    things: dict[str, object] = {}
    for name in FRONTS:
        for public in names_of(name):
            thing = getattr(front(name), public)
            if (name, public) == ("sealwax.sqlalchemy", "IndexOf"):
                continue  # as that of Django, on purpose: no program has both
            if inspect.isclass(thing):
                assert things.setdefault(public, thing) is thing, f"{public} of {name} is another one elsewhere"


def test_each_says_what_it_is() -> None:
    for name in sealwax.__all__:
        thing = getattr(sealwax, name)
        assert name in dir(sealwax)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__


# --- the front is loaded lazily, from one table


def test_type_checkers_see_the_table() -> None:
    """Three lists of the same names stand in the front: for type checkers, for ``import *``, and for the imports.

    The errors are imported at once, since they cost nothing.
    """
    seen: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(Path(sealwax.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module not in ("importlib", "typing", "sealwax"):
            assert node.module is not None
            seen[node.module] = {alias.name for alias in node.names}
    assert seen.pop("sealwax.errors") == {"*"}
    assert seen == {module: set(names) for module, names in sealwax._NAMES.items()}
    assert set(sealwax.__all__) == set(sealwax.errors.__all__).union(*seen.values())


def test_modules_are_there_without_being_imported() -> None:
    assert sealwax.errors.SealwaxError is sealwax.SealwaxError
    assert sealwax.events.KmsStats().calls == 0
    assert sealwax.kms.KmsKeyring is sealwax.KmsKeyring
    assert sealwax.lab.Lab.__name__ == "Lab"


def test_what_is_not_there_is_an_attribute_error() -> None:
    for module in (sealwax, sealwax.lab):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
            module.nothing  # noqa: B018
        assert not hasattr(module, "nothing")


def test_classes_can_be_pickled_by_name() -> None:
    for name in sealwax.__all__:
        thing = getattr(sealwax, name)
        if isinstance(thing, type):
            assert pickle.loads(pickle.dumps(thing)) is thing


def test_help_shows_the_names() -> None:
    text = pydoc.plain(pydoc.render_doc(sealwax))
    for name in ("class Sealer", "class KmsKeyring", "inspect(source", "NO_CONTEXT", "BytesLike"):
        assert name in text, name


def test_the_sealers_methods() -> None:
    public = {name for name in dir(sealwax.Sealer) if not name.startswith("_")}
    assert public == {
        "decrypt",
        "decrypt_async",
        "decrypt_many",
        "encrypt",
        "encrypt_async",
        "encrypt_detached",
        "encrypt_many",
        "open",
        "open_async",
        "open_stream",
        "reencrypt",
        "reencryptor",
        "rewrap",
        "rewrapper",
        "stats",
        "verify",
        "witness",
    }


if __name__ == "__main__":
    temporary = PINNED.with_suffix(".new")
    temporary.write_text("".join(_table()))
    os.replace(temporary, PINNED)
