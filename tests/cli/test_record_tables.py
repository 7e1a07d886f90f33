"""`sealwax records reseal`, `stale` and `verify`, as they are typed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import sealwax
from sealwax.records import SqlKeys
from tests.cli.conftest import Keys, Run

AT = ("--store", "sqlite:///keys.db", "--fields", "fields.toml", "--data", "sqlite:///app.db")
SCOPE = ("-k", "alias/demo", "-c", "app=shop")
RESEAL = ("records", "reseal", *AT, *SCOPE, "--settle", "1s")
VERIFY = ("records", "verify", *AT, *SCOPE)
Change = Callable[..., None]


@pytest.fixture
def change(here: Path, keys: Keys) -> Change:
    """Ten records of two tenants under the first generation, with acme's key rolled since; change rows by SQL."""
    assert here.is_dir()

    def change(*statement: object) -> None:
        with contextlib.closing(sqlite3.connect("app.db")) as database, database:
            database.execute(str(statement[0]), statement[1:])

    store = SqlKeys("sqlite:///keys.db")
    store.create_table()
    change("CREATE TABLE users (id INTEGER PRIMARY KEY, tenant TEXT, card BLOB)")
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    with sealwax.Records(keyring, store, scope={"app": "shop"}) as records:
        for number in range(10):
            tenant = ("acme", "bolt")[number % 2]
            record = records.field("users.card", row=int, tenant=tenant).seal(b"4111", row=number)
            change("INSERT INTO users VALUES (?, ?, ?)", number, tenant, record)
        records.roll(tenant="acme")
    Path("fields.toml").write_text(
        '[[fields]]\ntable = "users"\ncolumn = "card"\nrow = { column = "id", type = "int" }\nscope.tenant = "tenant"\n'
    )
    return change


def test_stale_reseal_verify(run: Run, change: Change, capfd: pytest.CaptureFixture[str], keys: Keys) -> None:
    assert callable(change)
    before = keys.calls()
    assert run("records", "stale", *AT) == 3
    out, _ = capfd.readouterr()
    assert out.splitlines()[0] == "5 records under the newest keys, 5 under others, 0 NULL, 0 values not sealed"
    assert "app=shop,tenant=acme  1" in out
    assert keys.calls() == before
    assert run(*RESEAL) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == "users.card: 5 records resealed, 5 under the newest key already, 0 NULL"
    assert "app=shop,tenant=acme: generation 1" in out.splitlines()[2]
    assert "not" not in err.replace("not AWS", "")
    assert run("records", "stale", *AT, "--json") == 0
    assert json.loads(capfd.readouterr().out)["stale"] == 0
    assert run("records", "retire", "1", "--store", "sqlite:///keys.db", "-c", "app=shop", "-c", "tenant=acme") == 0
    assert run(*VERIFY, "-q") == 0
    assert run(*RESEAL, "--json") == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (report["columns"][0]["newest"], report["stale"], report["retirable"]) == (10, 0, [])


def test_stale_of_one_tenant_counts_no_other(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("records", "stale", *AT, "-c", "tenant=bolt") == 0
    assert capfd.readouterr().out == "5 records under the newest keys, 0 under others, 0 NULL, 0 values not sealed\n"
    assert run("records", "stale", *AT, "-c", "tenant=acme") == 3
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == "0 records under the newest keys, 5 under others, 0 NULL, 0 values not sealed"
    assert "unknown" not in out
    assert "lost" not in err
    change("UPDATE users SET card = ? WHERE id = 1", b"\xc1" + bytes(70))
    assert run("records", "stale", *AT, "-c", "tenant=bolt") == 3, "it may be a record of any scope"
    assert "the key was lost" in capfd.readouterr().err


def test_rows_that_do_not_open_are_named(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    change("UPDATE users SET card = (SELECT card FROM users WHERE id = 2) WHERE id = 4")
    change("UPDATE users SET card = NULL WHERE id = 6")
    assert run(*RESEAL) == 8
    err = capfd.readouterr().err
    assert "sealwax: users.card, row 4: the record of 'users.card' does not authenticate" in err
    assert "1 record is still not under the newest key" in err
    assert run(*VERIFY) == 5
    assert "row 4: " in capfd.readouterr().err
    change("UPDATE users SET card = 'secret plaintext' WHERE id = 4")
    assert run(*VERIFY) == 3
    out, err = capfd.readouterr()
    assert "1 value not sealed" in out
    assert "secret plaintext" not in out + err
    assert run(*RESEAL) == 8
    out, err = capfd.readouterr()
    assert "users.card: 1 value is not sealed, and of no form that the column moves from: find out who wrote" in err
    assert "secret plaintext" not in out + err
    change("UPDATE users SET card = NULL WHERE id = 4")
    assert run(*RESEAL, "-q") == 0
    assert capfd.readouterr() == ("", "")


def test_what_never_opens_is_not_tried_again(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    assert callable(change)
    shred = ("records", "shred", "--store", "sqlite:///keys.db", "-c", "app=shop", "-c", "tenant=bolt")
    assert run(*shred, "--confirm", "app=shop,tenant=bolt") == 0
    assert run(*RESEAL) == 8
    err = capfd.readouterr().err
    assert "rows 1, 3, 5, 7, 9: the data keys of its scope {app=shop, tenant=bolt} were shredded" in err
    assert "5 records are still not under the newest key, because they do not open: " in err
    assert "values of a shredded scope never open again, and can be set to NULL" in err
    assert "run the command again, or" not in err


def test_a_key_that_is_not_allowed_is_said_once(
    run: Run, change: Change, capfd: pytest.CaptureFixture[str], keys: Keys
) -> None:
    for command in (VERIFY, RESEAL):
        wrong = [word.replace("alias/demo", "alias/demo2") for word in command]
        assert run(*wrong) == 7
        refusals = [line for line in capfd.readouterr().err.splitlines() if keys.demo in line]
        assert len(refusals) == 1
        rows = refusals[0].split(": ")[1].partition(", rows ")[2].split(", ")
        assert sorted(map(int, rows)) == list(range(10))
    change("UPDATE users SET tenant = NULL WHERE id = 4")
    assert run(*(word.replace("alias/demo", "alias/demo2") for word in VERIFY)) == 5


def test_tables_beside_the_key_store_are_reached_by_its_whole_url(
    run: Run, change: Change, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its options, which may say where the password is, and that TLS is needed."""
    assert callable(change)
    with contextlib.closing(sqlite3.connect("app.db")) as database, database:
        database.execute("ATTACH 'keys.db' AS keys")
        for name in ("sealwax_keys", "sealwax_keys_epoch"):
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM keys.{name}")
    before = sorted(Path().iterdir())
    assert run("records", "stale", "--store", "sqlite:///file:app.db?uri=true", "--fields", "fields.toml") == 3
    assert "5 under others" in capfd.readouterr().out
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("status", "more", "said"),
    [
        (1, ("--fields", "none.toml"), "none.toml"),
        (2, ("--fields", "app.db"), "is not valid TOML"),
        (2, ("--data", "postgresql+psycopg://u:hunter2@h/d"), "password"),
        (1, ("--data", "sqlite:///none.db"), "the database 'none.db' of --data does not exist"),
        (1, ("--data", "sqlite:///keys.db"), "there is no table 'users'"),
        (2, ("--data", "sqlite:///app.db?timeout=hunter2"), "--data has an option that the driver does not know"),
        (1, ("--data", "mysql+pymysql://localhost:1/d?option=hunter2"), "its driver raised TypeError"),
        (1, ("--data", "mysql+pymysql://localhost:1/d?charset=hunter2"), "its driver raised AttributeError"),
        (1, ("--data", "postgresql+psycopg://localhost:1/d?option=hunter2"), "failed at users.card: ProgrammingError"),
        (1, ("--data", "postgresql+psycopg://localhost:1/d"), "connection failed"),
        (2, ("--rate", "nan"), "is not a finite number"),
        (
            2,
            ("-c", "tenant=acme"),
            "the pair 'tenant' is in the scope that all records share and, in the map of fields, in a column of users",
        ),
        (2, ("--local-context", "region"), "no record of users.card can have its scope: the scope lacks 'region'"),
        (1, ("--throttle-lag", "5s"), "needs PostgreSQL"),
        (1, ("--journal", "fields.toml"), "is not the journal of a reseal"),
        (7, ("-k", "alias/none"), "alias/none"),
    ],
)
def test_what_is_refused(
    run: Run, change: Change, capfd: pytest.CaptureFixture[str], status: int, more: tuple[str, ...], said: str
) -> None:
    assert callable(change)
    command = [word for word in RESEAL if more[0] != "-k" or word not in ("-k", "alias/demo")]
    assert run(*command, *more) == status
    out, err = capfd.readouterr()
    assert said in err
    assert "hunter2" not in out + err
    assert not Path("none.db").exists()
