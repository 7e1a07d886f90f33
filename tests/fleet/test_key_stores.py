"""Key stores of records as locations of a fleet: what others do meanwhile, and what is refused.

tests/records/test_rotation.py moves them in databases.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import sealwax
from sealwax import errors, fleet
from sealwax.fleet import aws_lambda, spark
from sealwax.records import KeyKind, KeyRow, KeyState, MemoryKeys, SqlKeys
from sealwax.records._blob import make
from sealwax.stores import Entry, open_store
from sealwax.stores.key_rows import KeyRows
from tests.fleet.fleets import Keys
from tests.fleet.test_aws_lambda import SCHEDULED, Invocation

LOCATION = "my-keys://shop"
SCOPE = {"app": "shop", "tenant": "a/b & c=d#é"}
EVERY = fleet.Contexts(accept_stored=True)
PASSWORD = "hunter2"
WITH_PASSWORD = [
    f"sql+postgresql+psycopg://app:{PASSWORD}@db.example.com/shop",
    f"sql+postgresql+psycopg://db.example.com/shop?user=app&password={PASSWORD}",
    f"sql+postgresql+psycopg://db.example.com/shop?sslkey=k&sslpassword={PASSWORD}",
    f"sql+mysql+pymysql://app:{PASSWORD}@db.example.com/shop",
    f"sql+mysql+pymysql://db.example.com/shop?passwd={PASSWORD}",
    f"sql+postgresql+psycopg://app:p@ss{PASSWORD}@db.example.com/shop",
    f"sql+postgresql+psycopg://app:{PASSWORD}@db.example.com:port/shop",
    f"sql+postgresql+psycopg://db.example.com:{PASSWORD}/shop",
    f"sql+oracle://app:{PASSWORD}@db.example.com/shop",
    f"sql+nothing://app:{PASSWORD}@db.example.com/shop",
    f"sql+://app:{PASSWORD}@db.example.com/shop",
    f"postgresql+psycopg://app:{PASSWORD}@db.example.com/shop",
    f"mysql://app:{PASSWORD}@db.example.com/shop",
]


def new_row(keys: Keys, *arns: str, generation: int = 1, kind: KeyKind = KeyKind.DATA, **pairs: str) -> KeyRow:
    keyring = sealwax.KmsKeyring(list(arns or (keys.one,)), session=keys.lab.session())
    row, data_key = make(keyring, {**SCOPE, **pairs}, kind, generation)
    data_key.close()
    return row


def plan(keys: Keys, path: Path, store: Any, **more: Any) -> fleet.FleetReport:
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": EVERY, "session": keys.lab.session()}
    return fleet.plan(path, [LOCATION], open_location=lambda location: KeyRows(store, location), **options | more)


def run(keys: Keys, path: Path, store: Any) -> fleet.FleetReport:
    return fleet.run(path, open_location=lambda location: KeyRows(store, location), session=keys.lab.session())


def under(row: KeyRow) -> list[str]:
    return [key.key_arn for key in sealwax.inspect(row.blob).wrapped_keys]


class Meddled:
    """A key store in which something happens before the first ``replace``."""

    def __init__(self, inner: MemoryKeys, before: Callable[[KeyRow], object]) -> None:
        self._inner = inner
        self._before: Callable[[KeyRow], object] | None = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        before, self._before = self._before, None
        if before is not None:
            before(row)
        return self._inner.replace(row, blob)


# --- what others do meanwhile


def test_a_key_store_of_ones_own_is_a_location(keys: Keys, path: Path) -> None:
    store = MemoryKeys()
    rows = [new_row(keys), new_row(keys, kind=KeyKind.INDEX), new_row(keys, tenant="other")]
    for row in rows:
        store.create(row)
    planned = plan(keys, path, store, digests=None)
    assert (planned.stale, planned.locations) == (3, (LOCATION,))
    assert run(keys, path, store).rewrapped == 3
    assert {row.key_id: under(row) for row in store.list()} == {row.key_id: [keys.new] for row in rows}
    proven = fleet.verify(
        path, open_location=lambda location: KeyRows(store, location), decrypt=3, session=keys.lab.session()
    )
    assert proven.checked is not None
    assert (proven.done, proven.checked.digests, proven.checked.decrypted) == (True, 3, 3)


def test_a_row_under_keys_of_two_regions_keeps_both(keys: Keys, path: Path) -> None:
    store = MemoryKeys()
    store.create(new_row(keys, keys.one, keys.two))
    plan(keys, path, store, to=[keys.new])
    assert run(keys, path, store).rewrapped == 1
    assert [under(row) for row in store.list()] == [[keys.new]]


@pytest.mark.parametrize("what", ["roll", "retire", "shred", "rewrap", "remove"])
def test_what_others_do_to_a_row_is_no_failure(keys: Keys, path: Path, what: str) -> None:
    inner = MemoryKeys()
    row = inner.create(new_row(keys))
    theirs = new_row(keys, keys.new)
    if what == "retire":
        inner.create(new_row(keys, keys.new, generation=2))
    plan(keys, path, inner)
    doing: Mapping[str, Callable[[KeyRow], object]] = {
        "roll": lambda _: inner.create(new_row(keys, keys.new, generation=2)),
        "retire": lambda row: inner.retire(row),
        "shred": lambda row: inner.shred(row.scope),
        "rewrap": lambda row: inner.replace(row, replace(theirs, key_id=row.key_id).blob),
        "remove": lambda row: inner.remove(row),
    }
    done = run(keys, path, Meddled(inner, doing[what]))
    assert (done.failed, done.ended, done.kms_calls) == (0, "", 1)
    now = {each.key_id: each for each in inner.list()}
    if what in ("roll", "retire"):
        assert (done.rewrapped, under(now[row.key_id])) == (1, [keys.new])
        assert now[row.key_id].state is (KeyState.RETIRED if what == "retire" else KeyState.LIVE)
    elif what == "shred":
        assert (done.count("foreign"), done.formats, now[row.key_id].blob) == (1, {"shredded": 1}, b"")
    elif what == "rewrap":
        assert (done.stale, done.count("fresh"), now[row.key_id].blob) == (0, 1, theirs.blob)
    else:
        assert (done.count("left"), row.key_id in now) == (1, False)
    proven = fleet.verify(path, open_location=lambda location: KeyRows(inner, location))
    assert (proven.stale, proven.hidden, proven.failed) == (0, 0, 0)


def test_a_replacement_whose_answer_got_lost_is_one(keys: Keys, path: Path) -> None:
    inner = MemoryKeys()
    inner.create(new_row(keys))
    plan(keys, path, inner)
    lost: list[bytes] = []

    class Losing(Meddled):
        def replace(self, row: KeyRow, blob: bytes) -> bool:
            lost.append(blob)
            inner.replace(row, blob)
            return False

    done = run(keys, path, Losing(inner, lambda _: None))
    assert [row.blob for row in inner.list()] == lost
    assert (done.rewrapped, done.kms_calls, keys.calls()["ReEncrypt"]) == (1, 1, 1)


def test_a_database_that_is_away_for_a_moment_is_asked_again(keys: Keys, path: Path) -> None:
    inner = MemoryKeys()
    inner.create(new_row(keys))
    plan(keys, path, inner)

    def away(_: KeyRow) -> None:
        raise errors.KeyStoreError("the database is away", retryable=True)

    done = run(keys, path, Meddled(inner, away))
    assert (done.rewrapped, done.stale, keys.calls()["ReEncrypt"]) == (1, 0, 1)


def test_a_database_that_stays_away_ends_a_run(keys: Keys, path: Path) -> None:
    inner = MemoryKeys()
    for number in range(60):
        inner.create(new_row(keys, tenant=str(number)))
    plan(keys, path, inner)

    class Away(Meddled):
        def get_many(self, *_: object) -> list[KeyRow]:
            raise errors.KeyStoreError("the database is away", retryable=True)

    done = run(keys, path, Away(inner, lambda _: None))
    assert (done.rewrapped, done.stale, done.kms_calls) == (0, 60, 0)
    assert "objects failed" in done.ended
    assert run(keys, path, inner).rewrapped == 60


def test_a_row_that_would_become_too_large_is_refused(keys: Keys) -> None:
    store = MemoryKeys()
    row = store.create(new_row(keys))
    rows = KeyRows(store, LOCATION)
    (entry,) = rows.list()
    assert isinstance(entry, Entry)
    (wrapped,) = sealwax.inspect(row.blob).wrapped_keys
    large = tuple(replace(wrapped, key_arn=f"{wrapped.key_arn}{at}", ciphertext=bytes(2000)) for at in range(4))
    with pytest.raises(errors.KeyRowError, match=r"a row of a key store holds 8,192; use fewer KMS keys"):
        rows.rewrap(entry.name, lambda *_: large)
    assert list(store.list()) == [row]


# --- names


def test_a_name_leads_to_its_row_and_to_no_other_store(keys: Keys) -> None:
    store = MemoryKeys()
    row = store.create(new_row(keys))
    rows = KeyRows(store, LOCATION)
    (entry,) = rows.list()
    assert isinstance(entry, Entry)
    assert entry.name == f"{LOCATION}#app=shop&tenant=a%2Fb%20%26%20c%3Dd%23%C3%A9/data/1/{row.key_id.hex()}"
    assert (entry.size, entry.modified) == (len(row.blob), row.created)
    assert rows.open(entry.name).read() == row.blob
    assert rows.inspect(entry.name).context == {**row.scope, "sealwax-use": "records-data"}
    for name in ("", LOCATION, "other://" + entry.name, entry.name + "/", entry.name[:-1], LOCATION + "#a/b/c/d"):
        for use in (rows.open, rows.inspect):
            with pytest.raises(errors.FileError, match="is not in 'my-keys://shop'; it was left alone"):
                use(name)
    with pytest.raises(errors.FileError, match="is not in the key store any more"):
        rows.open(entry.name.replace("data/1", "index/1"))


def test_a_relative_path_is_stored_as_an_absolute_one(
    keys: Keys, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqlKeys("sqlite:///keys.db")
    store.create_table()
    store.create(new_row(keys))
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": EVERY}
    planned = fleet.plan(path, ["sql+sqlite:///keys.db"], session=keys.lab.session(), **options)
    assert planned.locations == (f"sql+sqlite:///{tmp_path}/keys.db",)
    monkeypatch.chdir("/")
    assert fleet.run(path, session=keys.lab.session()).rewrapped == 1


# --- what is refused


def test_a_row_is_never_re_encrypted(keys: Keys, path: Path, tmp_path: Path) -> None:
    SqlKeys(f"sqlite:///{tmp_path}/keys.db").create_table()
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": EVERY, "reencrypt": True}
    with pytest.raises(ValueError, match=r"reencrypt cannot be combined with a key store: .* use Records.roll\(\)"):
        fleet.plan(path, [f"sql+sqlite:///{tmp_path}/keys.db"], session=keys.lab.session(), **options)
    assert not path.exists()
    store = MemoryKeys()
    row = store.create(new_row(keys))
    plan(keys, path, store, reencrypt=True)
    done = run(keys, path, store)
    assert (done.reencrypted, done.failed) == (0, 1)
    assert list(store.list()) == [row]
    assert keys.calls()["Decrypt"] == 0


@pytest.mark.parametrize("location", WITH_PASSWORD)
def test_a_url_with_a_password_is_refused_and_not_repeated(keys: Keys, path: Path, location: str) -> None:
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": EVERY}
    for attempt in (
        lambda: open_store(location),
        lambda: fleet.plan(path, [location], session=keys.lab.session(), **options),
    ):
        with pytest.raises(ValueError, match=r"the URL of the key store|a key store is named with sql") as caught:
            attempt()
        error: BaseException | None = caught.value
        while error is not None:
            assert PASSWORD not in f"{error}{error!r}"
            error = error.__context__
    assert list(path.parent.glob("*.plan")) == []


@pytest.mark.parametrize(
    ("location", "where"),
    [
        (WITH_PASSWORD[0], "put it in ~/.pgpass, the file that PGPASSFILE names, or PGPASSWORD"),
        (WITH_PASSWORD[3], "below [client] in a file such as ~/.my.cnf, and add ?read_default_file=~/.my.cnf"),
    ],
)
def test_the_refusal_says_where_the_password_belongs(location: str, where: str) -> None:
    with pytest.raises(ValueError, match="has a password, which others on this machine could read") as caught:
        open_store(location)
    assert where in str(caught.value)


@pytest.mark.parametrize("query", ["passfile=/home/app/.pgpass", "service=shop", "sslmode=verify-full"])
def test_where_a_password_is_may_be_said(query: str) -> None:
    location = f"sql+postgresql+psycopg://app@db.example.com/shop?{query}"
    assert open_store(location).location == location


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(errors.KeyStoreError, match="does not exist; correct the URL"):
        open_store(f"sql+sqlite:///{tmp_path}/keys.db")
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_the_table_makes_no_plan(keys: Keys, path: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER)")
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": EVERY}
    with pytest.raises(errors.KeyStoreError, match="no such table: sealwax_keys"):
        fleet.plan(path, [f"sql+sqlite:///{tmp_path}/other.db"], session=keys.lab.session(), **options)
    assert not path.exists()


def test_a_driver_that_is_not_installed_is_named() -> None:
    with pytest.raises(errors.KeyStoreError, match=r"the driver .* is not installed.*sealwax\[postgresql\]"):
        open_store("sql+postgresql+nothing://db.example.com/shop")


def test_neither_spark_nor_the_lambda_function_works_on_key_stores(tmp_path: Path) -> None:
    location = "sql+postgresql+psycopg://db.example.com/shop"
    with pytest.raises(errors.EngineError, match="Spark does not work on key stores"):
        spark.Spark(cast("Any", None), ["data", location])
    environment = {
        "SEALWAX_LOCATIONS": f"s3://vault/ {location}",
        "SEALWAX_FROM": "alias/old",
        "SEALWAX_TO": "alias/new",
        "SEALWAX_ACCEPT_STORED_CONTEXT": "1",
    }
    with pytest.raises(errors.ConfigurationError, match="SEALWAX_LOCATIONS names a key store"):
        aws_lambda.rotate(SCHEDULED, Invocation(), environment, folder=tmp_path / "plan")
