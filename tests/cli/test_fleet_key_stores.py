"""``sealwax fleet`` over a key store of records, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sealwax
from sealwax.records import Records, SqlKeys
from tests.cli.conftest import Keys
from tests.cli.shell import Shell

PLACE = "sql+sqlite:///keys.db"
PLAN = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", "-c", "app=shop", "-c", "sealwax-use=records-*")
PASSWORD = "hunter2"


def fill(shell: Shell, keys: Keys) -> Path:
    """Make a key store with two live keys, and a shredded one."""
    path = shell.folder / "keys.db"
    store = SqlKeys(f"sqlite:///{path}")
    store.create_table()
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    with Records(keyring, store, scope={"app": "shop"}) as records:
        for tenant in ("acme", "globex", "gone"):
            records.ensure(tenant=tenant)
        records.shred(tenant="gone")
    return path


def test_a_key_store_is_rotated(shell: Shell, keys: Keys) -> None:
    path = fill(shell, keys)
    tenants = ("-c", "tenant=*")
    planned = json.loads(shell.sealwax(*PLAN, *tenants, "-o", "p", "--json", PLACE).succeeded().out)
    # The shredded scope: its key, and the marks of both kinds.
    assert [planned[name] for name in ("stale", "foreign", "formats", "kms_calls")] == [2, 3, {"shredded": 3}, 2]
    assert planned["locations"] == [f"sql+sqlite:///{path}"]
    made = shell.sealwax("fleet", "run", "p", "--apply", "--report", "run.html", "--report", "run.json").succeeded()
    assert b"All 2 envelopes are under alias/demo2." in made.out
    assert "shredded" in (shell.folder / "run.html").read_text()
    assert json.loads((shell.folder / "run.json").read_text())["rewrapped"] == 2
    verified = shell.sealwax("fleet", "verify", "p", "--decrypt", "2").succeeded()
    assert b"All 2 envelopes are under alias/demo2 (2 decrypted)." in verified.out
    retired = shell.sealwax("keys", "retire", "alias/demo", "--scan", "p").succeeded()
    assert b"formats   3 shredded\n" in retired.out
    listed = shell.sealwax("fleet", "status", "p", "--list").succeeded()
    assert f"foreign: sql+sqlite:///{path}#app=shop&tenant=gone/data/1/".encode() in listed.out


def test_a_context_without_the_use_of_the_key_matches_nothing(shell: Shell, keys: Keys) -> None:
    fill(shell, keys)
    done = shell.sealwax(*PLAN[:-2], "-c", "tenant=*", "-o", "p", PLACE)
    assert done.status == 6
    assert "its stored context has an extra name 'sealwax-use'" in done.err


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (f"sql+postgresql+psycopg://app:{PASSWORD}@db.example.com/shop", "PGPASSFILE names, or PGPASSWORD"),
        (f"sql+postgresql+psycopg://db.example.com/shop?password={PASSWORD}", "PGPASSFILE names, or PGPASSWORD"),
        (f"sql+mysql+pymysql://app:{PASSWORD}@db.example.com/shop", "?read_default_file=~/.my.cnf"),
        (f"postgresql://app:{PASSWORD}@db.example.com/shop", "sql+ before the URL of its database"),
    ],
)
@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_password_is_refused_and_shown_nowhere(shell: Shell, place: str, where: str, debug: tuple[str, ...]) -> None:
    for command in ((*PLAN, "-o", "p", place), ("keys", "retire", "alias/demo", "--scan", place)):
        done = shell.sealwax(*command, *debug)
        assert done.status == 2
        assert where in done.last_line
        assert PASSWORD not in done.err
        assert PASSWORD.encode() not in done.out
    assert all(PASSWORD.encode() not in path.read_bytes() for path in shell.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("options", "place", "status", "says"),
    [
        (("--reencrypt",), PLACE, 2, "--reencrypt does not work on a key store: re-encrypting a row of it would"),
        ((), "sql+sqlite:///typo.db", 1, "typo.db' does not exist; correct the URL"),
        ((), "sql+sqlite://", 2, "names a SQLite database in memory"),
        ((), "sql+oracle://db.example.com/shop", 2, "names no PostgreSQL, MySQL, MariaDB or SQLite database"),
        (
            (),
            "sql+postgresql+asyncpg://db.example.com/shop",
            1,
            "the driver that the URL of the key store names is not",
        ),
        ((), "sql+://db.example.com/shop", 2, "is not a database URL such as"),
    ],
)
def test_what_cannot_be_a_place_is_refused(
    shell: Shell, keys: Keys, options: tuple[str, ...], place: str, status: int, says: str
) -> None:
    fill(shell, keys)
    before = sorted(path.name for path in shell.folder.iterdir())
    done = shell.sealwax(*PLAN, *options, "-o", "p", place)
    assert done.status == status
    assert says in done.last_line
    assert sorted(path.name for path in shell.folder.iterdir()) == before


def test_an_altered_row_is_refused_and_named(shell: Shell, keys: Keys) -> None:
    path = fill(shell, keys)
    store = SqlKeys(f"sqlite:///{path}")
    rows = {row.scope["tenant"]: row for row in store.list() if row.blob}
    assert store.replace(rows["acme"], rows["globex"].blob)
    done = shell.sealwax(*PLAN, "-c", "tenant=*", "-o", "p", PLACE)
    assert done.status == 8
    assert "1 envelope cannot be re-wrapped; the first: sql+sqlite:///" in done.err
    assert "tenant=acme/data/1/" in done.err
    assert "made for something else than its scope and kind" in done.err
