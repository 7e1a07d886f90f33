"""--models: the models of an application say which columns hold records."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import sealwax
from sealwax.records import SqlKeys
from tests.cli.conftest import Keys, Run

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
    "own_models": ("", "is not of the form MODULE:NAME, such as shop.models:Base"),
    "own_missing:Base": ("", "No module named 'own_missing'; run this in the folder that has it, or add that folder"),
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


SEARCHED = """
from sqlalchemy import Text
from sealwax.records.moving import Moving, Plaintext
from sealwax.sqlalchemy import IndexOf

class Searched(Base):
    __tablename__ = "searched"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    card: Mapped[str] = sealed(str, row="id", storage=Text, moving=Moving(Plaintext(), writes="records"))
    card_index: Mapped[bytes | None] = mapped_column(IndexOf("card", bits=16))
"""


def test_the_indexes_of_models_are_counted_and_filled(
    folder: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "own_searched.py").write_text(MODELS + SEARCHED)
    store, engine = SqlKeys("sqlite:///app.db"), sa.create_engine("sqlite:///app.db")
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    with sealwax.Records(keyring, store, scope={"app": "shop"}) as records:
        records.ensure()
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE searched (id INTEGER PRIMARY KEY, card TEXT, card_index BLOB)"))
        connection.execute(sa.text("INSERT INTO searched VALUES (1, '4111', NULL), (2, '4222', NULL)"))
    engine.dispose()
    models = ("--models", "own_searched:Base")
    assert run(*STALE, *models) == 3
    shown = capfd.readouterr().err
    assert "searched.card_index: 2 rows with a value and no index; `sealwax records reseal` fills them" in shown
    reseal = ("records", "reseal", *STALE[2:], *models, "-k", "alias/demo", "-c", "app=shop", "--settle", "1s")
    assert run(*reseal) == 0
    assert "searched.card_index: 2 indexes filled\n" in capfd.readouterr().out
    assert run(*STALE, *models) == 0
    capfd.readouterr()
    # Out again is refused as long as the models write records.
    for more in ((), ("--apply",)):
        assert run(*reseal, "--to", "plaintext", *more) == 2
        assert "while the models write records there" in " ".join(capfd.readouterr().err.split())
    (folder / "own_release.py").write_text((MODELS + SEARCHED).replace('"records"', '"old"'))
    assert run(*reseal, "--models", "own_release:Searched", "--to", "plaintext", "--apply") == 2  # users.card, too
    assert "users.card" in capfd.readouterr().err


def test_values_of_a_form_that_is_still_written_are_not_called_foreign(
    folder: Path, run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "own_waiting.py").write_text((MODELS + SEARCHED).replace('writes="records"', 'writes="old"'))
    engine = sa.create_engine("sqlite:///app.db")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE searched (id INTEGER PRIMARY KEY, card TEXT, card_index BLOB)"))
        connection.execute(sa.text("INSERT INTO searched VALUES (1, 'a secret', NULL)"))
    engine.dispose()
    given = ("--models", "own_waiting:Base", "-k", keys.demo, "-c", "app=shop", "--settle", "1s")
    assert run("records", "reseal", "--store", "sqlite:///app.db", *given) == 8
    out, err = capfd.readouterr()
    assert "1 value is still of the old form: a program writes it" in err
    assert "of no form" not in err
    assert "a secret" not in out + err
