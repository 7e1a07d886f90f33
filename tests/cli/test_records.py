"""sealwax records: the life of a scope's data keys, and what is refused on the way."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax
from sealwax import policy
from sealwax.cli.record_changes import deny_statement
from sealwax.records import KeyKind, KeyRow, KeyState, Records, SqlKeys
from sealwax.records._blob import kms_context
from sealwax.records._url import has_password
from tests.cli.conftest import K, Keys, Run
from tests.cli.shell import SEALWAX, USUAL, Shell

URL: Final = "sqlite:///keys.db"
ACME: Final = {"app": "shop", "tenant": "acme"}
C: Final = ("-c", "app=shop", "-c", "tenant=acme")
CONFIRM: Final = ("--confirm", "app=shop,tenant=acme")
Said = Callable[..., dict[str, Any]]


@pytest.fixture
def store(run: Run, monkeypatch: pytest.MonkeyPatch) -> SqlKeys:
    """A key store with one data key of the scope ACME, which all commands use."""
    for name in ("SEALWAX_KEY", "SEALWAX_CONTEXT", "SEALWAX_SETTINGS", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEALWAX_STORE", URL)
    assert run("records", "create-table", "-q") == 0
    assert run("records", "ensure", "-q", *K, *C) == 0
    return SqlKeys(URL)


@pytest.fixture
def said(run: Run, capfd: pytest.CaptureFixture[str]) -> Said:
    """Run a verb with --json; return what it prints."""

    def said(*arguments: str, status: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert run("records", *arguments, "--json") == status, capfd.readouterr()
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    return said


def states(store: SqlKeys) -> list[tuple[str, str, int, str]]:
    rows = ((row.scope.get("tenant", ""), row.kind.name, row.generation, str(row.state)) for row in store.list())
    return sorted(rows)


def sealed(keys: Keys, tenant: str = "acme") -> bytes:
    with Records(
        sealwax.KmsKeyring(keys.demo, session=keys.lab.session()), SqlKeys(URL), scope={"app": "shop"}
    ) as all_:
        return all_.field("users.card", row=int, tenant=tenant).seal(b"4111", row=7)


def opens(keys: Keys, value: bytes, tenant: str = "acme") -> bool:
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    try:
        with Records(keyring, SqlKeys(URL), scope={"app": "shop"}) as all_:
            return all_.field("users.card", row=int, tenant=tenant).open(value, row=7) == b"4111"
    except sealwax.SealwaxError:
        return False


def changed(statement: str, path: str = "keys.db") -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


# --- the life of a scope


@pytest.mark.usefixtures("store")
def test_the_life_of_a_data_key(run: Run, said: Said, keys: Keys) -> None:
    before = len(keys.calls())
    assert said("ensure", *K, *C)["outcome"] == "exists, and KMS unwraps it"
    assert keys.calls()[before:] == ["Decrypt"]
    value = sealed(keys)
    rolled = said("roll", *K, *C)
    assert (rolled["outcome"], rolled["key"]["generation"], rolled["key"]["state"]) == ("made", 2, "live")
    before = len(keys.calls())
    assert said("retire", "1", *C)["outcome"] == "retired"
    assert said("retire", "1", *C)["outcome"] == "already retired"
    assert run("records", "retire", "2", *C) == 1
    listed = said("list")
    assert listed["store"] == URL
    assert [(row["generation"], row["state"], row["claim"]) for row in listed["keys"]] == [
        (1, "retired", 1),
        (2, "live", 2),
    ]
    assert listed["keys"][1] == rolled["key"]
    assert listed["keys"][0]["scope"] == ACME
    assert listed["keys"][0]["kms_keys"] == [keys.demo]
    assert said("explain", value.hex())["key"] == listed["keys"][0]
    assert keys.calls()[before:] == [], "KMS is asked for none of these"
    assert opens(keys, value)


@pytest.mark.usefixtures("store")
def test_a_list_is_of_the_pairs_that_are_given(run: Run, said: Said) -> None:
    for tenant in ("acme2", "other"):
        assert run("records", "ensure", *K, "-c", "app=shop", "-c", f"tenant={tenant}") == 0
    assert [row["scope"]["tenant"] for row in said("list", "-c", "app=shop")["keys"]] == ["acme", "acme2", "other"]
    assert [row["scope"]["tenant"] for row in said("list", "-c", "tenant=other")["keys"]] == ["other"]
    assert said("list", "-c", "tenant=oth")["keys"] == []


@pytest.mark.usefixtures("store")
def test_a_damaged_row_hides_no_other(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("records", "ensure", *K, "-c", "app=shop", "-c", "tenant=other") == 0
    changed("""UPDATE sealwax_keys SET scope = 'odd' WHERE scope LIKE '%acme%'""")
    for output in ([], ["--json"]):
        capfd.readouterr()
        assert run("records", "list", *output) == 1
        printed = capfd.readouterr()
        assert "other" in printed.out
        assert "damaged" in printed.err


@pytest.mark.usefixtures("store")
def test_other_sources_add_nothing_to_a_scope(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALWAX_CONTEXT", "purpose=backup")
    Path("sealwax.toml").write_text('context = { team = "files" }\n')
    made = said("ensure", *K, "-c", "app=shop", "-c", "tenant={{new}}")
    assert made["key"]["scope"] == {"app": "shop", "tenant": "{new}"}


def test_a_list_is_for_people_too(run: Run, store: SqlKeys, capfd: pytest.CaptureFixture[str], keys: Keys) -> None:
    (row,) = store.list()
    foreign = dataclasses.replace(row, key_id=b"\1" * 16, made_by="\x1b[31mred", created=10**17, blob=b"no envelope")
    store.put_back(foreign)
    assert run("records", "list") == 0
    head, first, second = capfd.readouterr().out.splitlines()
    assert head.split() == ["SCOPE", "KIND", "GENERATION", "STATE", "KEY", "ID", "CREATED", "MADE", "BY", "KMS", "KEY"]
    lines = sorted([first, second], key=lambda line: "opens only" in line)
    assert "app=shop,tenant=acme" in first
    assert f"live {' ':10}" in lines[0]
    assert lines[0].endswith(keys.demo)
    assert "live, opens only" in lines[1]
    assert "\\x1b[31mred" in lines[1]
    assert lines[1].endswith("unreadable")


@pytest.mark.parametrize("verb", [("roll", *K), ("reopen", *K), ("retire", "1"), ("shred", "--confirm", "app=shop")])
@pytest.mark.parametrize("pairs", [("app=shop",), ("app=shop", "tenant=acme", "more=1"), ("app=shop", "tenant=acm")])
def test_a_mistyped_scope_is_no_new_one(
    run: Run, store: SqlKeys, keys: Keys, verb: tuple[str, ...], pairs: tuple[str, ...]
) -> None:
    rows, calls = list(store.list()), len(keys.calls())
    assert run("records", *verb, *(word for pair in pairs for word in ("-c", pair))) == 1
    assert list(store.list()) == rows
    assert len(keys.calls()) == calls


@pytest.mark.parametrize("name", ["sealwax-use", "Sealwax-Use", "SEALWAX-USE"])
@pytest.mark.usefixtures("store")
def test_the_reserved_name_is_no_pair_of_a_scope(run: Run, keys: Keys, name: str) -> None:
    calls = len(keys.calls())
    assert run("records", "ensure", *K, *C, "-c", f"{name}=records-data") == 6
    assert len(keys.calls()) == calls


def test_tables_are_made_once(run: Run, store: SqlKeys) -> None:
    rows = list(store.list())
    assert run("records", "create-table") == 0
    assert list(store.list()) == rows


# --- which key store


WITH_PASSWORDS: Final = [
    "postgresql://shop:geheim@db.example.com/shop",
    "postgresql+psycopg://shop:geheim@db.example.com/shop",
    "sql+postgresql+psycopg://shop:geheim@db.example.com/shop",
    "postgresql+psycopg://shop:@db.example.com/geheim",
    "postgresql+psycopg://shop:gehe%40im@db.example.com/shop",
    "postgresql+psycopg://shop:geheim@rest@db.example.com/shop",
    "postgresql+psycopg://shop:gehe/im@db.example.com/shop",
    "postgresql+psycopg://db.example.com/shop?password=geheim",
    "postgresql+psycopg://db.example.com/shop?sslpassphrase=geheim",
    "postgresql+psycopg://db.example.com/shop?pass%77ord=geheim",
    "postgresql+psycopg://db.example.com/shop?sslmode=require&sslpassword=geheim",
    "mysql+pymysql://shop:geheim@db.example.com/shop",
    "postgresql+psycopg://db.example.com/shop?passphrase=geheim",
    "mysql+pymysql://db.example.com/shop?passwd=geheim",
    "mysql+pyodbc:///?odbc_connect=DRIVER%3Dmysql%3BPWD%3Dgeheim",
    "mariadb+pymysql://:geheim@db.example.com/shop",
    "sqlite://:geheim@/keys.db",
]
NO_STORES: Final = {
    "": "is not a database URL",
    "keys.db": "is not a database URL",
    "geheim:geheim": "is not a database URL",
    "postgresql://db.example.com:geheim": "is not a database URL",
    "oracle://db/geheim": "names no PostgreSQL, MySQL, MariaDB or SQLite database",
    "https://geheim/x": "names no PostgreSQL, MySQL, MariaDB or SQLite database",
    "sqlite+aiosqlite:///keys.db": "names an asynchronous driver; use sqlite://",
    "sqlite://": "in memory",
    "sqlite:///:memory:": "in memory",
    "sqlite:///file:geheim?mode=memory&uri=true": "in memory",
    "sqlite:///keys.db?timeout=geheim": "has an option that the driver does not know, or whose value it cannot use",
    "sqlite:///keys.db?geheim=1": "has an option that the driver does not know, or whose value it cannot use",
    "mysql+pymysql://db/x?connect_timeout=geheim": "whose value it cannot use",
}


@pytest.mark.parametrize("url", WITH_PASSWORDS)
@pytest.mark.usefixtures("here")
def test_a_password_is_refused_and_not_shown(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.delenv("SEALWAX_STORE", raising=False)
    wanted = (
        "read_default_file" if "mysql" in url or "mariadb" in url else "SQLite" if "sqlite" in url else "PGPASSFILE"
    )

    def refused(*arguments: str, says: str) -> None:
        assert run(*arguments) == 2
        out, err = capfd.readouterr()
        assert says in err
        assert "geheim" not in out + err
        assert "gehe" not in out + err

    refused("records", "list", "--store", url, says=wanted)
    refused("records", "repair", "--store", "sqlite:///keys.db", "--from", url, "--debug", says=wanted)
    monkeypatch.setenv("SEALWAX_STORE", url)
    refused("records", "list", "-v", says="SEALWAX_STORE has a password, which others on this machine could read; ")
    assert run("settings", "show") == 0
    assert "gehe" not in str(capfd.readouterr())
    monkeypatch.delenv("SEALWAX_STORE")
    Path("sealwax.toml").write_text(f'store = "{url}"\n')
    refused("records", "list", says="'store' has a password, which does not belong here")
    refused("settings", "show", says="'store' has a password, which does not belong here")


@pytest.mark.parametrize("url", NO_STORES)
@pytest.mark.usefixtures("here")
def test_what_is_no_key_store_is_refused(run: Run, capfd: pytest.CaptureFixture[str], url: str) -> None:
    assert run("records", "list", "--store", url) == 2
    err = capfd.readouterr().err
    assert NO_STORES[url] in err
    assert "geheim" not in err


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://db.example.com/x?passfile=/run/secrets/pgpass", "mysql+pymysql://db/token?charset=utf8"],
)
def test_a_file_of_passwords_is_none(url: str) -> None:
    assert not has_password(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql+geheim://db/x", "the driver that --store names is not installed"),
        ("mysql://db/x", "begin the URL with mysql+pymysql://"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_driver_that_is_not_installed(run: Run, capfd: pytest.CaptureFixture[str], url: str, says: str) -> None:
    assert run("records", "list", "--store", url) == 1, "as in `fleet plan`"
    err = capfd.readouterr().err
    assert says in err
    assert "geheim" not in err


@pytest.mark.parametrize("url", [URL, "postgresql+psycopg://db/x", "mysql+pymysql://db/x"])
@pytest.mark.usefixtures("here")
def test_without_sqlalchemy_it_is_said_what_to_install(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    plan = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", "-c", "app=shop", "-o", "p", f"sql+{url}")
    for command in (("records", "list", "--store", url), ("records", "list", "-q", "--store", url), plan):
        assert run(*command) == 1
        err = capfd.readouterr().err
        assert "needs SQLAlchemy" in err
        assert "pip install 'sealwax[" in err


@pytest.mark.usefixtures("here")
def test_a_driver_that_cannot_be_loaded_is_not_installed(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as psycopg without libpq."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("psycopg", "psycopg_binary")]:
        monkeypatch.delitem(sys.modules, name)
    Path("psycopg.py").write_text("raise ImportError('no pq wrapper available')\n")
    monkeypatch.syspath_prepend(Path.cwd())
    assert run("records", "list", "--store", "postgresql+psycopg://db/shop") == 1
    assert "pip install 'sealwax[postgresql]'" in capfd.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_key_store_has_to_be_named(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEALWAX_STORE", "")
        assert run("records", "list") == 2
    assert "name the key store with --store or in SEALWAX_STORE" in capfd.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_mistyped_file_is_not_created(run: Run) -> None:
    for verb in (("list",), ("ensure", *K, *C), ("explain", "c1"), ("shred", *C, *CONFIRM)):
        assert run("records", *verb, "--store", "sqlite:///key.db") == 1
    assert not Path("key.db").exists()


@pytest.mark.usefixtures("store")
def test_the_settings_name_a_key_store(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.delenv("SEALWAX_STORE")
    Path("sealwax.toml").write_text('store = "sqlite:///keys.db"\nkey = "alias/demo"\n')
    Path("below").mkdir()
    monkeypatch.chdir("below")
    capfd.readouterr()
    assert run("records", "list") == 0
    out, err = capfd.readouterr()
    assert "app=shop,tenant=acme" in out, "its path is relative to the settings file"
    assert err == f"sealwax: settings from {here}/sealwax.toml: store sqlite:///keys.db\n"
    assert run("records", "ensure", *C) == 0
    assert "key alias/demo; store sqlite:///keys.db" in capfd.readouterr().err
    capfd.readouterr()
    assert run("settings", "show") == 0
    assert ["store", URL, "sealwax.toml"] in map(str.split, capfd.readouterr().out.splitlines())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEALWAX_STORE", "sqlite:///other.db")
        assert run("settings", "show") == 0
        assert capfd.readouterr().out.split()[-5:-3] == ["sqlite:///other.db", "SEALWAX_STORE"]
        assert run("records", "list") == 1, "the variable counts before the file"
    assert run("records", "list", "--no-settings") == 2
    assert run("records", "list", "--store", "sqlite:///keys.db") == 1, "an option is relative to the current folder"


# --- shred


def test_a_scope_is_shredded_and_no_other(run: Run, said: Said, store: SqlKeys, keys: Keys) -> None:
    for more in (("-c", "region=eu"), ()):
        pairs = ("-c", "app=shop", "-c", "tenant=acme", *more) if more else ("-c", "app=shop")
        assert run("records", "ensure", *K, *pairs) == 0
    value = sealed(keys)
    others = [row for row in store.list() if row.scope != ACME]
    calls = len(keys.calls())
    done = said("shred", *C, *CONFIRM)
    assert [(row["generation"], row["scope"]) for row in done["shredded"]] == [(1, ACME)]
    assert len(keys.calls()) == calls
    assert not opens(keys, value)
    assert [row for row in store.list() if row.scope != ACME] == others
    assert all(row.state is KeyState.SHREDDED and not row.blob for row in store.list() if row.scope == ACME)
    rows = list(store.list())
    assert said("shred", *C)["shredded"] == [], "there is nothing left to confirm"
    assert list(store.list()) == rows
    assert said("reopen", *K, *C)["key"]["generation"] == 3
    assert not opens(keys, value)


@pytest.mark.parametrize(
    "typed", ["", "acme", "tenant=acme", "app=shop,tenant=acm", "app=shop,tenant=acme,more=1", "APP=shop,tenant=acme"]
)
def test_the_scope_is_typed_again(run: Run, store: SqlKeys, typed: str) -> None:
    rows = list(store.list())
    assert run("records", "shred", *C, "--confirm", typed) == 2
    assert run("records", "shred", *C) == 2, "nobody can type it here"
    assert run("records", "shred", *C, "--dry-run") == 0
    assert list(store.list()) == rows
    assert run("records", "shred", *C, "--confirm", " tenant=acme,app=shop\n") == 0, "in any order"


@pytest.mark.slow
def test_the_scope_is_typed_again_on_a_terminal(store: SqlKeys) -> None:
    rows = list(store.list())
    for typed, status in ((b"yes\n", 2), (b"\x04", 2), (b"\x03", 130)):
        assert _typed(typed) == status
        assert list(store.list()) == rows
    assert _typed(b"app=shop,tenant=acme\n") == 0
    assert {row.state for row in store.list()} == {KeyState.SHREDDED}


def _typed(typed: bytes) -> int:
    """Answer the question of ``shred``; return its status."""
    controller, terminal = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [SEALWAX, "records", "shred", *C],
        env={**USUAL, "SEALWAX_STORE": URL},
        stdin=terminal,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # it becomes the terminal of the session
    ) as process:
        while b"to go on: " not in shown:
            shown += os.read(controller, 1 << 12)
        os.write(controller, typed)
        status = process.wait()
    os.close(terminal)
    os.close(controller)
    assert b"1 data key will be destroyed" in shown
    assert b"Type the scope (app=shop,tenant=acme) to go on: " in shown
    return status


@pytest.mark.usefixtures("store")
def test_the_deny_holds_against_a_restored_backup(run: Run, said: Said, keys: Keys) -> None:
    """Only for this very scope: one pair more, or another value, is another scope."""
    near = {
        "more": (*C, "-c", "region=eu"),
        "less": ("-c", "app=shop"),
        "other": ("-c", "app=shop", "-c", "tenant=acme2"),
    }
    for pairs in near.values():
        assert run("records", "ensure", *K, *pairs) == 0
    shutil.copy("keys.db", "backup.db")
    deny = said("shred", *C, *CONFIRM)["deny"]
    assert run("records", "ensure", *K, *C) == 7
    shutil.copy("backup.db", "keys.db")
    assert run("records", "ensure", *K, *C) == 0, "the backup brings it back"
    policy = json.loads(keys.lab.call("GetKeyPolicy", KeyId=keys.demo)["Policy"])
    stricter = {**policy, "Statement": [*policy["Statement"], deny]}
    keys.lab.call("PutKeyPolicy", KeyId=keys.demo, Policy=json.dumps(stricter))
    try:
        assert run("records", "ensure", *K, *C) == 7
        assert run("records", "roll", *K, *C) == 7, "a key that nobody could unwrap later is not made"
        for pairs in near.values():
            assert run("records", "ensure", *K, *pairs) == 0
    finally:
        keys.lab.call("PutKeyPolicy", KeyId=keys.demo, Policy=json.dumps(policy))
    assert run("records", "ensure", *K, *C) == 0


def test_an_older_backup_is_under_an_older_kms_key(
    run: Run, store: SqlKeys, capfd: pytest.CaptureFixture[str], keys: Keys
) -> None:
    """The rows name the KMS key of today only."""
    del store
    assert run("records", "shred", *C, *CONFIRM) == 0
    assert f"to the key policy of {keys.demo}, and of every KMS key before it" in capfd.readouterr().err


def test_a_deny_holds_whatever_the_names_of_the_pairs() -> None:
    key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    allow = {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/app"}, "Resource": "*"}
    names = ("app", "App", "a${aws:username}", "a${*}", "a*", "a?", "app/b:c@d")
    for name, kind, action in itertools.product(names, KeyKind, ("Decrypt", "ReEncryptFrom", "GenerateDataKey")):
        scope = {"tenant": "acme", name: "shop"}
        statements = [{**allow, "Action": f"kms:{action}"}, deny_statement(scope)]
        document = policy.parse_key_policy({"Version": "2012-10-17", "Statement": statements})
        for context, allowed in ((kms_context(scope, kind), False), (kms_context({**scope, "x": "y"}, kind), True)):
            decision = policy.explain(
                policy.principal("arn:aws:iam::111122223333:user/app"),
                f"kms:{action}",
                policy.KeyDescription(key, document),
                identity_policies=[],
                time=datetime(2026, 11, 24, tzinfo=UTC),
                encryption_context=context,
            )
            assert decision.allowed is allowed, (action, context)


@pytest.mark.usefixtures("store")
def test_a_deny_takes_values_as_they_are(run: Run, said: Said) -> None:
    odd = ("-c", "app=${aws:username}*?", "-c", "tenant=acme")
    assert run("records", "ensure", *K, *odd) == 0
    deny = said("shred", *odd, "--dry-run")["deny"]
    equals = deny["Condition"]["StringEquals"]
    assert equals == {"kms:EncryptionContext:app": "${$}{aws:username}*?", "kms:EncryptionContext:tenant": "acme"}


# --- repair and remove


def test_lost_keys_are_put_back(run: Run, said: Said, store: SqlKeys, keys: Keys) -> None:
    assert run("records", "roll", *K, *C) == 0
    for tenant in ("gone", "other"):
        assert run("records", "ensure", *K, "-c", "app=shop", "-c", f"tenant={tenant}") == 0
    values = {tenant: sealed(keys, tenant) for tenant in ("acme", "gone", "other")}
    shutil.copy("keys.db", "backup.db")
    assert run("records", "shred", "-c", "app=shop", "-c", "tenant=gone", "--confirm", "app=shop,tenant=gone") == 0
    changed(
        "DELETE FROM sealwax_keys WHERE generation = 2 AND state = 'live' OR state = 'shredded' AND blob = x'' "
        "AND generation = 1 AND kind = 1"
    )
    changed("DELETE FROM sealwax_keys WHERE scope LIKE '%other%'")
    assert not opens(keys, values["acme"])
    calls, before = len(keys.calls()), states(store)
    from_backup = ("repair", "--from", "sqlite:///backup.db")
    wanted = said(*from_backup, "--dry-run")
    assert states(store) == before
    done = said(*from_backup)
    for found in (wanted, done):
        assert [(row["scope"]["tenant"], row["generation"]) for row in found["put_back"]] == [("acme", 2), ("other", 1)]
        assert [row["scope"]["tenant"] for row in found["left_out"]] == ["gone"], "it was shredded since"
    assert len(keys.calls()) == calls
    assert [opens(keys, values[tenant], tenant) for tenant in ("acme", "gone", "other")] == [True, False, True]
    assert said(*from_backup)["put_back"] == []
    assert said(*from_backup, "-c", "tenant=other")["left_out"] == []


def test_an_older_copy_of_a_shredded_scope_is_a_finding(run: Run, said: Said, store: SqlKeys) -> None:
    """It is shredded again first, so that the keys of a scope that was reopened can be put back."""
    shutil.copy("keys.db", "backup.db")
    assert run("records", "shred", *C, *CONFIRM) == 0
    assert run("records", "reopen", *K, *C) == 0
    assert run("records", "ensure", *K, "-c", "app=shop") == 0
    shutil.move("keys.db", "newer.db")
    shutil.move("backup.db", "keys.db")
    repair = ("repair", "--from", "sqlite:///newer.db")
    for more, tenants in ((("--dry-run",), [""]), ((), [""]), ((), [])):
        found = said(*repair, *more, status=3)
        assert found["shred_first"] == ["app=shop,tenant=acme"]
        assert [row["scope"].get("tenant", "") for row in found["put_back"]] == tenants
    assert run("records", "shred", *C, *CONFIRM) == 0
    found = said(*repair)
    assert found["shred_first"] == []
    assert [(row["generation"], row["state"]) for row in found["put_back"]] == [(3, "live")]
    assert states(store) == states(SqlKeys("sqlite:///newer.db"))
    assert run("records", "ensure", *K, *C) == 0


@pytest.mark.usefixtures("store")
def test_an_empty_source_repairs_nothing(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("records", "create-table", "--store", "sqlite:///empty.db") == 0
    assert run("records", "repair", "--from", "sqlite:///empty.db") == 1
    assert "has no data keys" in capfd.readouterr().err
    assert run("records", "repair", "--from", URL, "-c", "tenant=none") == 1


def _put(store: SqlKeys, **changes: Any) -> KeyRow:
    (row,) = (row for row in store.list() if row.claim == 1)
    broken = dataclasses.replace(row, key_id=b"\xab\xcd" * 8, **changes)
    assert store.put_back(broken)
    return broken


def test_a_row_that_does_not_unwrap_is_removed(said: Said, store: SqlKeys) -> None:
    rows = list(store.list())
    for changes in ({"blob": b"damaged"}, {"generation": 2}, {"kind": KeyKind.INDEX}, {"blob": rows[0].blob[:-1]}):
        _put(store, **changes)
        assert said("remove", *K, "ABCDabcd")["outcome"] == "removed"
        assert list(store.list()) == rows, changes


def test_a_row_is_kept_if_it_may_unwrap(
    run: Run, store: SqlKeys, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    (row,) = store.list()
    key_id = row.key_id.hex()
    assert run("records", "remove", *K, key_id) == 1
    assert "kept, because KMS unwraps it" in capfd.readouterr().err
    assert run("records", "remove", "-k", "alias/demo2", key_id) == 7, "that key says nothing about the row"
    keys.lab.call("DisableKey", KeyId=keys.demo)
    try:
        assert run("records", "remove", *K, key_id) == 7
    finally:
        keys.lab.call("EnableKey", KeyId=keys.demo)
    assert run("records", "remove", *K, "0" * 32) == 1
    assert run("records", "remove", *K, key_id[:7]) == 2
    assert run("records", "remove", *K, "not hexadecimal") == 2
    assert run("records", "remove", *K, key_id, "-c", "tenant=other") == 1
    assert list(store.list()) == [row]
    assert run("records", "shred", *C, *CONFIRM) == 0
    for shredded in list(store.list()):
        assert run("records", "remove", *K, shredded.key_id.hex()) == 1, "it marks what was shredded"
    assert len(list(store.list())) == 3


def test_a_beginning_of_two_key_ids_is_neither(run: Run, store: SqlKeys, capfd: pytest.CaptureFixture[str]) -> None:
    (row,) = store.list()
    store.put_back(dataclasses.replace(row, key_id=row.key_id[:4] + bytes(12), blob=b"damaged"))
    assert run("records", "remove", *K, row.key_id.hex()[:8]) == 2
    assert "is the beginning of 2 key ids" in capfd.readouterr().err
    assert len(list(store.list())) == 2


# --- explain


def test_a_record_is_explained_in_each_form(said: Said, store: SqlKeys, keys: Keys) -> None:
    binary = sealed(keys)
    with Records(sealwax.KmsKeyring(keys.demo, session=keys.lab.session()), store, scope={"app": "shop"}) as records:
        text = records.field("users.card", row=int, tenant="acme").seal_text(b"4111", row=7)
    digits = binary.hex()
    wrapped = base64.encodebytes(binary).decode()
    Path("value").write_bytes(binary)
    Path("digits").write_text(f"{digits[:40]}\n{digits[40:]}\n")
    Path("text").write_text(f"{text}\n")
    forms = [
        digits, digits.upper(), f"\\x{digits}", f"0x{digits}", f"X'{digits.upper()}'", wrapped,
        base64.b64encode(binary).decode(), base64.urlsafe_b64encode(binary).decode().rstrip("="),
        "@value", "@digits", text, "@text",
    ]  # fmt: skip
    for form in forms:
        found = said("explain", form)
        assert found["form"] == ("text" if form in (text, "@text") else "binary")
        assert (found["bytes"], found["value_bytes"], found["key"]["scope"]) == (len(binary), 4, ACME), form
        assert found["key_id"] == found["key"]["key_id"]


def test_a_record_is_explained_from_standard_input(shell: Shell, keys: Keys) -> None:
    shell.sealwax("records", "create-table", "--store", URL).succeeded()
    shell.sealwax("records", "ensure", "--store", URL, *K, *C).succeeded()
    with contextlib.chdir(shell.folder):
        binary = sealed(keys)
    for data in (binary, binary.hex().encode() + b"\n"):
        done = shell.sealwax("records", "explain", "-", "--store", URL, stdin=data).succeeded()
        assert b"scope     app=shop,tenant=acme\nkey       data key, generation 1, live\n" in done.out


@pytest.mark.usefixtures("store")
def test_an_unknown_key_is_told_after_what_is_known(said: Said) -> None:
    found = said("explain", "c1" + "00" * 60, status=6)
    assert found == {"form": "binary", "bytes": 61, "value_bytes": 3, "key_id": "00" * 16, "key": None}


@pytest.mark.parametrize("value", ["", "@", "plain text", "c1", "c1" * 20, "swr1.", "swr1.x.y", "zz", "é", "@none"])
@pytest.mark.usefixtures("store")
def test_what_is_no_record_is_said_so(run: Run, value: str) -> None:
    assert run("records", "explain", value) == {"@": 2, "@none": 1}.get(value, 4)
