"""--models: the models of an application say which columns hold records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sealwax.records import SqlKeys
from tests.cli.conftest import Run

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sealwax.sqlalchemy import sealed

class Base(DeclarativeBase):
    pass

class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    card: Mapped[str] = sealed(str, row="id")
"""


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    engine = sa.create_engine("sqlite:///app.db")
    SqlKeys(engine).create_table()
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE users (id INTEGER PRIMARY KEY, card BLOB)"))
    engine.dispose()
    yield here
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


STALE = ("records", "stale", "--store", "sqlite:///app.db")


def test_the_command_line_takes_models(folder: Path, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "own_models.py").write_text(MODELS)
    for name in ("own_models:Base", "own_models:User", "own_models:Base.metadata"):
        assert run(*STALE, "--models", name) == 0
        assert "0 records under the newest keys" in capfd.readouterr().out


WRONG = {
    "own_models": ("", "is no MODULE:NAME, such as shop.models:Base"),
    "own_missing:Base": ("", "cannot be imported: ModuleNotFoundError: No module named 'own_missing'"),
    "own_nothing:Base": ("x = 1", "the module 'own_nothing' has no 'Base'"),
    "own_number:x": ("x = 1", "is neither the base class of models nor a MetaData"),
    "own_empty:m": ("import sqlalchemy\nm = sqlalchemy.MetaData()", "there is no sealed column in these tables"),
    "own_key:Base": ("import os\nos.environ['SHOP_URL']", "KeyError: 'SHOP_URL' "),
    "own_error:Base": ("\nraise ValueError('secret')", "cannot be imported: ValueError (own_error.py, line 2)"),
    "own_exit:Base": ("raise SystemExit('secret')", "cannot be imported: SystemExit (own_exit.py, line 1)"),
    "own_syntax:Base": ("x = = 1", "cannot be imported: SyntaxError: invalid syntax"),
}


@pytest.mark.parametrize("given", WRONG)
def test_models_that_cannot_be_imported_are_one_sentence(
    folder: Path, run: Run, capfd: pytest.CaptureFixture[str], given: str
) -> None:
    text, says = WRONG[given]
    if text:
        (folder / f"{given.partition(':')[0]}.py").write_text(text)
    assert run(*STALE, "--models", given) == 2
    error = " ".join(capfd.readouterr().err.split())
    assert says in error
    assert "Traceback" not in error
    assert "secret" not in error


@pytest.mark.usefixtures("folder")
def test_one_of_fields_and_models_is_needed(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    for more, says in (
        ((), "with --fields FILE.toml or --models MODULE:NAME"),
        (("--models", "a:b", "--fields", "x.toml"), "--fields and --models exclude each other"),
    ):
        assert run(*STALE, *more) == 2
        assert says in " ".join(capfd.readouterr().err.split())
