"""`sealwax records reseal`, `stale` and `verify` of columns that move to records and out of them, as they are typed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

import sealwax
from sealwax.errors import TableError
from sealwax.records import SqlKeys, moving
from sealwax.records.moving import AnyOf
from sealwax.records.tables import read_fields
from tests.cli.conftest import Keys, Run

AT = ("--store", "sqlite:///keys.db", "--fields", "fields.toml", "--data", "sqlite:///app.db")
SCOPE = ("-k", "alias/demo", "-c", "app=shop")
STALE = ("records", "stale", *AT)
RESEAL = ("records", "reseal", *AT, *SCOPE, "--settle", "1s")
VERIFY = ("records", "verify", *AT, *SCOPE)
OUT = (*RESEAL, "--to", "plaintext")
KEY = Fernet.generate_key().decode()
FIELD = '[[fields]]\ntable = "users"\ncolumn = "{}"\nrow = {{ column = "id", type = "int" }}\nscope.tenant = "tenant"\n'
PLAIN = FIELD.format("email") + 'moves_from = "plaintext"\n'
Change = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def change(here: Path, keys: Keys) -> Change:
    """Ten addresses of two tenants, in plaintext; only acme has a data key. Change rows by SQL."""
    assert here.is_dir()

    def change(*statement: object) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect("app.db")) as database, database:
            return database.execute(str(statement[0]), statement[1:]).fetchall()

    store = SqlKeys("sqlite:///keys.db")
    store.create_table()
    change("CREATE TABLE users (id INTEGER PRIMARY KEY, tenant TEXT, email TEXT, born DATE, born_sealed BLOB)")
    for number in range(10):
        change(
            "INSERT INTO users VALUES (?, ?, ?, '1987-02-28', NULL)",
            number,
            ("acme", "bolt")[number % 2],
            f"{number}@x",
        )
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    with sealwax.Records(keyring, store, scope={"app": "shop"}) as records:
        records.ensure(tenant="acme")
    Path("fields.toml").write_text(PLAIN)
    return change


def test_a_column_moves_in_and_out(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    before = change("SELECT email FROM users")
    assert run(*STALE) == 3
    out, err = capfd.readouterr()
    assert out == "0 records under the newest keys, 0 under others, 0 NULL, 0 values not sealed, 10 of an old form\n"
    assert "10 values are still of the form that the column moves from; `sealwax records reseal` makes" in err
    assert run(*VERIFY) == 5, "a tenant has no data key yet"
    capfd.readouterr()
    assert run(*RESEAL) == 0
    out, err = capfd.readouterr()
    moved, why, check, then = out.splitlines()
    assert moved == (
        "users.email: 10 values moved from plaintext, 0 records resealed, 0 under the newest key already, 0 NULL"
    )
    assert why.endswith("SQLite takes a CHECK only when a table is made; when you make it again, add:")
    assert check == "  CHECK (email GLOB 'swr1.*')"
    assert then.startswith("then take `moving=` and `moved_from=` out of the model, and 'moves_from', ")
    assert all(str(value).startswith("swr1.") for (value,) in change("SELECT email FROM users"))
    assert run(*STALE) == 0
    assert run(*VERIFY) == 0
    capfd.readouterr()
    assert run(*OUT) == 0
    out, err = capfd.readouterr()
    assert out == "10 records would become plaintext; nothing was changed\n"
    assert "--apply" in err
    assert run(*STALE) == 0
    assert run(*OUT, "--json") == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == {"to": "plaintext", "records": 10, "dry_run": True}
    assert run(*OUT, "--apply") == 0
    out, err = capfd.readouterr()
    assert out == "users.email: 10 records moved to plaintext, 0 NULL, 0 values not sealed before\n"
    assert change("SELECT email FROM users") == before
    assert run(*VERIFY) == 3


def test_a_scope_that_nobody_uses_gets_no_key(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*(word.replace("app=shop", "app=shpo") for word in RESEAL)) == 8
    assert "if the pairs are right, make the first one with `sealwax records ensure`" in capfd.readouterr().err
    assert change("SELECT count(*) FROM users WHERE email LIKE 'swr1.%'") == [(0,)]


def test_values_that_cannot_be_moved_are_named(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    change("UPDATE users SET email = 'swr1.secret' WHERE id = 3")
    change("UPDATE users SET tenant = NULL WHERE id = 4")
    assert run(*RESEAL) == 8
    out, err = capfd.readouterr()
    assert "1 record not opened, 1 value not moved" in out
    assert "users.email, row 3: " in err
    assert "users.email, row 4: a column of its scope is NULL" in err
    assert "1 value is still of the old form, for the reasons above; fix them" in err
    assert "secret" not in out + err
    assert "CHECK" not in out
    assert run(*RESEAL, "--json") == 8
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (report["columns"][0]["unmoved"], report["left"], report["next_steps"]) == (1, 1, {})


def test_fernet_with_keys_from_a_file_and_from_the_environment(
    run: Run, change: Change, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change("UPDATE users SET email = ? WHERE id < 5", Fernet(KEY).encrypt("ნინო".encode()).decode())
    Path("old.keys").write_text(f"{Fernet.generate_key().decode()}\n{KEY}\n\n")
    fernet = '{ form = "fernet", keys_file = "old.keys" }'
    Path("fields.toml").write_text(FIELD.format("email") + f'moves_from = [{fernet}, "plaintext"]\n')
    assert run(*RESEAL) == 0
    assert "10 values moved from fernet or plaintext" in capfd.readouterr().out
    monkeypatch.setenv("OLD_KEYS", KEY)
    Path("fields.toml").write_text(FIELD.format("email") + 'moves_from = { form = "fernet", keys_env = "OLD_KEYS" }\n')
    assert run(*RESEAL, "--to", "fernet", "--apply") == 0
    assert [Fernet(KEY).decrypt(str(value)) for (value,) in change("SELECT email FROM users WHERE id < 5")] == [
        "ნინო".encode()
    ] * 5
    out, err = capfd.readouterr()
    assert "10 records moved to fernet" in out
    assert KEY not in out + err


def test_a_second_column(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    text = FIELD.format("born_sealed") + 'moves_from = "plaintext"\ntype = "date"\nmoved_from = "born"\nname = "born"\n'
    Path("fields.toml").write_text(text)
    assert run(*RESEAL) == 0
    out = capfd.readouterr().out
    assert "users.born_sealed: every value is a record. Once no program uses the old column:" in out
    assert "  ALTER TABLE users DROP COLUMN born;" in out
    assert change("SELECT count(*) FROM users WHERE born IS NULL AND born_sealed IS NOT NULL") == [(10,)]
    assert run(*OUT, "--apply", "-q") == 0
    assert change("SELECT count(*) FROM users WHERE born = '1987-02-28' AND born_sealed IS NULL") == [(10,)]


def test_what_kms_refuses(run: Run, change: Change, capfd: pytest.CaptureFixture[str]) -> None:
    assert change("DELETE FROM users WHERE tenant = 'bolt'") == []
    assert run(*(word.replace("alias/demo", "alias/demo2") for word in RESEAL)) == 7
    assert "old" not in capfd.readouterr().out.replace("older", "").replace("fold", "")
    assert change("SELECT email FROM users WHERE id = 0") == [("0@x",)]


REFUSED: list[tuple[str, tuple[str, ...], str]] = [
    (PLAIN, ("--apply",), "--apply goes with --to"),
    (PLAIN, ("--to", "fernet"), "the map of fields does not have this form for users.email"),
    (PLAIN, ("--to", "\x1b[1m"), "the map of fields does not have this form"),
    (FIELD.format("email") + 'type = "str"\n', (), "'type' and 'moved_from' are of a column that moves; add"),
    (FIELD.format("email") + 'moves_from = "rot13"\n', (), "the forms are plaintext, fernet"),
    (FIELD.format("email") + "moves_from = 7\n", (), "'moves_from' is"),
    (FIELD.format("email") + 'moves_from = "fernet"\n', (), "the form 'fernet' needs its keys"),
    (FIELD.format("email") + "moves_from = []\n", (), "at least one"),
    (FIELD.format("email") + 'moves_from = ["plaintext", "plaintext"]\n', (), "comes last"),
    (PLAIN.replace('"plaintext"', '{ form = "plaintext", keys_env = "X" }'), (), "plaintext takes no keys"),
    (
        PLAIN.replace('"plaintext"', '{ form = "plaintext", zone = "Mars" }'),
        (),
        "'zone' is the name of a time zone",
    ),
    (PLAIN.replace('"plaintext"', '{ form = "plaintext", mode = 1 }'), (), "unknown key 'mode'"),
    (PLAIN.replace('"plaintext"', '{ form = "fernet", keys_env = "NONE" }'), (), "there is no key in 'NONE'"),
    (
        PLAIN.replace('"plaintext"', '{ form = "fernet", keys_env = "BAD" }'),
        (),
        "a key of the form 'fernet' is not",
    ),
    (PLAIN + 'type = "text"\n', (), "'type' is one of str, bytes, int"),
    (PLAIN + 'moved_from = "id"\n', (), "cannot be bound to 'id', which moves"),
]


def test_what_is_refused(
    run: Run, change: Change, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD", "hunter2")
    for fields, more, said in REFUSED:
        Path("fields.toml").write_text(fields)
        assert run(*RESEAL, *more) == 2, said
        out, err = capfd.readouterr()
        assert said in err
        assert "hunter2" not in out + err
        assert "\x1b[1m" not in err
    assert change("SELECT count(*) FROM users WHERE email LIKE 'swr1.%'") == [(0,)]


def test_every_form_can_be_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that may be any text are not taken apart."""
    monkeypatch.setenv("ANY", "any, text")
    monkeypatch.setenv("KEYS", f"{KEY}, {Fernet.generate_key().decode()}")
    made = {
        "fernet": moving.Fernet(KEY),
        "fernet-engine": moving.FernetEngine("any, text"),
        "aes-engine": moving.AesEngine("any, text", "pkcs5"),
        "aes-gcm-engine": moving.AesGcmEngine("any, text"),
        "django-fernet-fields": moving.DjangoFernetFields(KEY),
        "django-fernet-encrypted-fields": moving.DjangoFernetEncryptedFields("any, text", salts="salt"),
        "django-cryptography": moving.DjangoCryptography("any, text"),
    }
    own = {"aes-engine": ', padding = "pkcs5"', "django-fernet-encrypted-fields": ', salt = "salt"'}
    for name, form in made.items():
        source = "KEYS" if name in ("fernet", "django-fernet-fields") else "ANY"
        text = PLAIN.replace('"plaintext"', f'{{ form = "{name}", keys_env = "{source}"{own.get(name, "")} }}')
        (here / "fields.toml").write_text(text)
        read = read_fields(here / "fields.toml")[0].moves_from
        assert read is not None
        assert read.name == form.name == name
        text_form = name != "django-cryptography"  # it is in columns of bytes
        assert read.read(form.write("ნინო", text=text_form), str) == "ნინო"
    names = {vars(form).get("name") for form in vars(moving).values() if isinstance(form, type)}
    assert {*made, "plaintext"} == {name for name in names if isinstance(name, str)}
    (here / "fields.toml").write_text(
        PLAIN.replace('"plaintext"', '{ form = "aes-engine", keys_env = "ANY", padding = 5 }')
    )
    with pytest.raises(TableError, match="'padding' is a text"):
        read_fields(here / "fields.toml")


def test_a_map_names_forms_and_keys(here: Path) -> None:
    keys = here / "old.keys"
    keys.write_text(KEY)
    fernet = '{ form = "fernet", keys_file = "old.keys", zone = "Asia/Tbilisi" }'
    (here / "fields.toml").write_text(
        PLAIN
        + FIELD.format("a") + f'moves_from = {fernet}\ntype = "datetime"\n'
        + FIELD.format("b") + f'moves_from = [{fernet}, "plaintext"]\nmoved_from = "born"\n'
    )  # fmt: skip
    plain, token, several = read_fields(here / "fields.toml")
    assert plain.moves_from is not None
    assert (plain.moves_from.name, plain.kind, plain.moved_from) == ("plaintext", None, None)
    assert token.moves_from is not None
    assert isinstance(several.moves_from, AnyOf)
    assert several.moves_from.forms == (token.moves_from, plain.moves_from)
    assert several.moved_from == "born"
    keys.chmod(0o666)
    with pytest.raises(TableError, match="somebody else could have written it"):
        read_fields(here / "fields.toml")
    keys.chmod(0o600)
    keys.write_bytes(b"\xff")
    with pytest.raises(TableError, match="is not text"):
        read_fields(here / "fields.toml")
