"""The password of a key store is in no message, repr, chain of exceptions, log or pickle, whatever fails."""

from __future__ import annotations

import copy
import logging
import pickle
import sqlite3
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from sealwax.errors import KeyStoreError
from sealwax.records import KeyKind, SqlKeys
from sealwax.records.testing import KeyStoreTests, row
from tests.records.servers import WITH_PASSWORD

SECRET = "hunter2=p@ss/w:rd'\"x"
QUOTED = quote(SECRET, safe="")
PARTS = ("hunter2", "p@ss", "w:rd", QUOTED)
AWAY = "localhost:1/shop?connect_timeout=1"


def everything_of(error: BaseException) -> str:
    """Return what a log, or a tool that collects errors, may show of an error and of what it is linked to."""
    seen: list[str] = []
    linked: list[BaseException | None] = [error]
    while linked:
        one = linked.pop()
        if one is None:
            continue
        linked += [one.__cause__, one.__context__]
        seen += [str(one), repr(one), repr(one.args), repr(vars(one))]
        if isinstance(one, KeyStoreError):  # what a constructor was given, the caller's frames show too
            frames = traceback.StackSummary.extract(traceback.walk_tb(one.__traceback__), capture_locals=True)
            seen += [repr(frame.locals) for frame in frames if "/tests/" not in frame.filename]
    return "\n".join(seen) + "".join(traceback.format_exception(error))


def refused_by(make: Callable[[], SqlKeys], caplog: pytest.LogCaptureFixture) -> str:
    """Use a store that cannot work; return its message."""

    def use() -> None:
        store = make()
        assert all(part not in repr(store) + store.url for part in PARTS)
        store.newest({"app": "shop"}, KeyKind.DATA)

    with caplog.at_level(logging.DEBUG), pytest.raises((KeyStoreError, ValueError)) as refused:
        use()
    shown = everything_of(refused.value) + caplog.text
    for part in PARTS:
        assert part not in shown, shown
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql+psycopg://app:{QUOTED}@{AWAY}", "postgresql+psycopg://app:***@localhost:1/shop failed"),
        (f"postgresql+psycopg://app@{AWAY}&password={QUOTED}", "//app@localhost:1/shop failed"),
        (f"postgresql+psycopg://app@{AWAY}&sslpassword={QUOTED}", "connection failed"),
        (f"postgresql+psycopg://app@{AWAY}&nonsense={QUOTED}", "shop failed while reading it: ProgrammingError"),
        (f"postgresql+psycopg://app:{QUOTED}@localhost/shop?port={QUOTED}&host=x", "unusable value"),
        (f"mysql+pymysql://app:{QUOTED}@{AWAY}", "mysql+pymysql://app:***@localhost:1/shop failed"),
        (f"mysql+pymysql://app@localhost/shop?connect_timeout={QUOTED}", "unusable value"),
        (f"mysql+pymysql://app@{AWAY}&password={QUOTED}", "mysql+pymysql://app@localhost:1/shop failed"),
        (f"mysql+pymysql://app@{AWAY}&nonsense={QUOTED}", "cannot be reached: its engine raised TypeError"),
        # Written as nobody should, and as everybody does once.
        (f"postgresql+psycopg://app:{SECRET}@localhost:1/shop", "is not understood"),
        ("postgresql+psycopg://app:hunter2", "is not understood"),
        ("postgresql+psycopg://app:hunter2/x@localhost@host/db", "is not understood"),
        ("postgresql+psycopg:/app:hunter2@localhost/shop", "is not understood"),
        ("app:hunter2@localhost/shop", "is not understood"),
        ("hunter2://app@localhost/shop", None),
    ],
)
def test_a_url_that_does_not_work(url: str, said: str | None, caplog: pytest.LogCaptureFixture) -> None:
    if said is None:  # the name of a database is shown, and is no password
        with pytest.raises(ValueError, match="not with hunter2"):
            SqlKeys(url)
        return
    assert said in refused_by(lambda: SqlKeys(url), caplog)


def _raises(error: BaseException) -> Callable[[], Any]:
    def creator() -> Any:
        raise error

    return creator


@pytest.mark.parametrize("use", [sa.create_engine, create_async_engine])
def test_an_engine_that_does_not_work(use: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    url = f"postgresql+psycopg://app:{QUOTED}@localhost:1/shop"
    said = refused_by(lambda: SqlKeys(use(url, connect_args={"connect_timeout": 1}, echo="debug")), caplog)
    assert "failed while reading it: connection failed" in said


@pytest.mark.parametrize("error", [RuntimeError(SECRET), OSError(SECRET), sqlite3.OperationalError(f"pwd={SECRET}")])
def test_a_creator_that_fails(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    engine = sa.create_engine("sqlite:////tmp/keys.db", creator=_raises(error))
    refused_by(lambda: SqlKeys(engine), caplog)


def test_a_conninfo_that_is_not_understood(caplog: pytest.LogCaptureFixture) -> None:
    import psycopg

    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(f"host=localhost {SECRET.partition('=')[0]}")
    )
    assert "ProgrammingError" in refused_by(lambda: SqlKeys(engine), caplog)


def test_a_token_of_an_event(caplog: pytest.LogCaptureFixture) -> None:
    engine = sa.create_engine("postgresql+psycopg://app@localhost:1/shop")

    @event.listens_for(engine, "do_connect")
    def give_a_token(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
        parameters.update(password=SECRET, connect_timeout=1)

    assert "connection failed" in refused_by(lambda: SqlKeys(engine), caplog)


def test_a_driver_that_quotes_the_password(caplog: pytest.LogCaptureFixture) -> None:
    import psycopg

    quoting = _raises(psycopg.OperationalError(f"I was given {SECRET}, by 'app:{SECRET}@localhost'"))
    engine = sa.create_engine(f"postgresql+psycopg://app:{QUOTED}@localhost/shop", creator=quoting)
    assert "I was given ***, by" in refused_by(lambda: SqlKeys(engine), caplog)


def test_a_password_that_the_server_refuses(postgresql: str, caplog: pytest.LogCaptureFixture) -> None:
    with sa.create_engine(postgresql, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD 'right'")
    url = postgresql.replace("app@", f"{WITH_PASSWORD}:{QUOTED}@")
    assert "password authentication failed" in refused_by(lambda: SqlKeys(url), caplog)
    right = SqlKeys(postgresql.replace("app@", f"{WITH_PASSWORD}:right@"))
    assert ":***@" in repr(right)


def test_an_error_of_a_change(postgresql: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its statement and its values are not shown either."""
    store = SqlKeys(postgresql.replace("app@", f"app:{QUOTED}@"), table="never_made")
    made = row(KeyStoreTests.scope())
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyStoreError, match="create_table") as refused:
        store.create(made)
    shown = everything_of(refused.value)
    assert all(part not in shown + caplog.text for part in PARTS)
    assert refused.value.__context__ is None
    assert "SELECT" not in str(refused.value)


def test_it_is_neither_pickled_nor_copied() -> None:
    store = SqlKeys(f"postgresql+psycopg://app:{QUOTED}@localhost:1/shop")
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="would hold the password") as refused:
            take(store)
        assert all(part not in everything_of(refused.value) for part in PARTS)
