"""The life of a scope's data keys: rows that are altered, deleted and restored, outages, bounds, forks and the end."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import errors
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.keyring import asked_at, now
from sealwax.lab import Lab
from sealwax.records import Changes, Explanation, KeyKind, KeyRow, KeyState, MemoryKeys, Records, SqlKeys
from sealwax.records._ring import Ring
from sealwax.records._store import scope_hash
from tests.fakes import FakeKeyring
from tests.records.test_records import ACME, SCOPE, Away, Clock, again, timed


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.db"


@pytest.fixture
def sql(path: Path) -> SqlKeys:
    store = SqlKeys(f"sqlite:///{path}")
    store.create_table()
    return store


class Shop:
    """A process that has sealed one record under generation 1 and one under 2."""

    def __init__(self, store: Any, **settings: Any) -> None:
        self.clock = Clock()
        self.keyring = Away()
        self.store = store
        self.records = timed(self.clock, self.keyring, store, **settings)
        self.field = self.records.field("f", row=int, tenant="acme")
        self.old = self.field.seal(b"old", row=1)
        self.records.roll(tenant="acme")
        self.new = self.field.seal(b"new", row=1)

    def look(self) -> None:
        """Let the time come at which the process looks at the store, beside the callers."""
        self.clock.now += 61
        self.records.wipe_old()

    def outcome(self, act: Callable[[], object]) -> object:
        """Return what came of it: the value, the generation that sealed, or the class of the error."""
        try:
            result = act()
        except errors.SealwaxError as error:
            return type(error)
        if result in (b"old", b"new"):
            return "opens"
        return {self.old[1:17]: 1, self.new[1:17]: 2}.get(bytes(result)[1:17], "another")  # type: ignore[call-overload]

    def outcomes(self, field: Any) -> tuple[object, object, object]:
        """Return what comes of sealing, of opening the old record, and of opening the new one."""
        return (
            self.outcome(lambda: field.seal(b"x", row=1)),
            self.outcome(lambda: field.open(self.old, row=1)),
            self.outcome(lambda: field.open(self.new, row=1)),
        )

    def outcomes_elsewhere(self) -> tuple[object, object, object]:
        """Return what a fresh process can do."""
        with again(self.store) as fresh:
            return self.outcomes(fresh.field("f", row=int, tenant="acme"))


# --- the table is altered by hand

_SUITE_AT = 10
_GONE, _LOST, _BAD, _UNKNOWN = errors.ShreddedError, errors.KeyStoreError, errors.KeyRowError, errors.UnknownKeyError
# The statement, what a warm process does after its next look, and what a fresh one does: seal, open old, open new.
BY_HAND: dict[str, tuple[tuple[object, object, object], tuple[object, object, object]]] = {
    "UPDATE sealwax_keys SET generation = 3, claim = 3 WHERE generation = 2": (
        (2, "opens", "opens"),
        (_BAD, "opens", _BAD),
    ),
    "UPDATE sealwax_keys SET generation = 3 WHERE generation = 2": ((2, "opens", "opens"), (_BAD, "opens", _BAD)),
    "UPDATE sealwax_keys SET claim = 9 WHERE generation = 1": ((2, "opens", "opens"), (_BAD, _BAD, "opens")),
    # Who may write to the table brings an older generation back, for who has not seen the newer one.
    "UPDATE sealwax_keys SET claim = NULL WHERE generation = 2": ((_LOST, "opens", "opens"), (1, "opens", "opens")),
    "UPDATE sealwax_keys SET kind = 2 WHERE generation = 2": ((_LOST, "opens", "opens"), (1, "opens", _UNKNOWN)),
    "UPDATE sealwax_keys SET key_id = randomblob(16) WHERE generation = 2": (
        (_LOST, "opens", "opens"),
        (_BAD, "opens", _UNKNOWN),
    ),
    "UPDATE sealwax_keys SET state = 'retired' WHERE generation = 2": (
        (_LOST, "opens", "opens"),
        (_LOST, "opens", "opens"),
    ),
    "UPDATE sealwax_keys SET state = 'retired' WHERE generation = 1": ((2, "opens", "opens"), (2, "opens", "opens")),
    "UPDATE sealwax_keys SET state = 'shredded' WHERE generation = 2": (
        (_GONE, "opens", _GONE),
        (_GONE, "opens", _GONE),
    ),
    "UPDATE sealwax_keys SET state = 'odd' WHERE generation = 2": ((_LOST, "opens", "opens"), (_LOST, "opens", _LOST)),
    "UPDATE sealwax_keys SET scope = '{}' WHERE generation = 2": ((2, "opens", "opens"), (_LOST, "opens", _LOST)),
    "UPDATE sealwax_keys SET blob = x'' WHERE generation = 2": ((2, "opens", "opens"), (_BAD, "opens", _BAD)),
    # The suite of the envelope that the blob is.
    "UPDATE sealwax_keys SET blob = with_suite_2(blob) WHERE generation = 2": (
        (2, "opens", "opens"),
        (_BAD, "opens", _BAD),
    ),
    "UPDATE sealwax_keys SET blob = (SELECT blob FROM sealwax_keys WHERE generation = 1)": (
        (2, "opens", "opens"),
        (_BAD, "opens", _BAD),
    ),
    "DELETE FROM sealwax_keys WHERE generation = 2": ((_LOST, "opens", "opens"), (1, "opens", _UNKNOWN)),
    "DELETE FROM sealwax_keys WHERE generation = 1": ((2, "opens", "opens"), (2, _UNKNOWN, "opens")),
    "DELETE FROM sealwax_keys": ((_LOST, "opens", "opens"), ("another", _UNKNOWN, _UNKNOWN)),
}


def _with_suite_2(blob: bytes) -> bytes:
    header = inspect_envelope(blob).header
    assert (blob[_SUITE_AT], header.preamble.suite) == (1, 1)
    return blob[:_SUITE_AT] + b"\x02" + blob[_SUITE_AT + 1 :]


@pytest.mark.parametrize("statement", BY_HAND)
def test_a_change_by_hand_has_its_outcome(sql: SqlKeys, path: Path, statement: str) -> None:
    shop = Shop(sql)
    with shop.records:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.create_function("with_suite_2", 1, _with_suite_2)
            assert connection.execute(statement).rowcount > 0
        shop.look()
        warm, fresh = BY_HAND[statement]
        assert shop.outcomes(shop.field) == warm
        assert shop.outcomes_elsewhere() == fresh
        # It stays so after the next look.
        shop.look()
        if fresh[0] != "another":
            assert shop.outcomes(shop.field) == warm


def test_every_change_is_tried() -> None:
    assert len(BY_HAND) == 17


def test_a_shredded_row_is_not_revived_by_hand(sql: SqlKeys, path: Path) -> None:
    shop = Shop(sql)
    with shop.records, contextlib.closing(sqlite3.connect(path)) as connection, connection:
        shop.records.shred(tenant="acme")
        connection.execute("UPDATE sealwax_keys SET state = 'live'")
        connection.commit()
        assert shop.outcomes_elsewhere() == (_BAD, _BAD, _BAD)


# --- the store is restored from a dump


def test_a_restored_dump_and_its_repair(sql: SqlKeys, path: Path, tmp_path: Path) -> None:
    shop = Shop(sql)
    with shop.records:
        shutil.copy(path, tmp_path / "dump")
        shop.records.roll(tenant="acme")
        newest = shop.field.seal(b"new", row=1)
        shutil.copy(tmp_path / "dump", path)
        shop.look()
        assert shop.outcomes(shop.field) == (_LOST, "opens", "opens")
        with pytest.raises(errors.KeyStoreError, match=r"lost generation 3 .*repair\(\).*accept\(\)"):
            shop.field.seal(b"x", row=1)
        with pytest.raises(errors.KeyStoreError, match="lost generation 3"):
            shop.records.roll(tenant="acme")
        assert [row.generation for row in shop.records.repair(tenant="acme")] == [3]
        assert shop.records.repair(tenant="acme") == []
        assert shop.field.seal(b"x", row=1)[1:17] == newest[1:17]
        with again(sql) as fresh:
            field = fresh.field("f", row=int, tenant="acme")
            assert field.open(newest, row=1) == b"new"
            assert field.seal(b"x", row=1)[1:17] == newest[1:17]


def test_a_dump_is_accepted_by_name(sql: SqlKeys, path: Path, tmp_path: Path) -> None:
    shop = Shop(sql)
    with shop.records:
        shutil.copy(path, tmp_path / "dump")
        shop.records.roll(tenant="acme")
        shutil.copy(tmp_path / "dump", path)
        shop.look()
        asyncio.run(shop.records.accept_async(tenant="acme"))
        assert shop.outcomes(shop.field) == (2, "opens", "opens")


@pytest.mark.parametrize("generation", [1, 2])
def test_the_row_is_kept_longer_than_its_key(store: MemoryKeys, generation: int) -> None:
    shop = Shop(store)
    with shop.records:
        row = store._rows.pop(generation - 1)
        assert row.generation == generation
        shop.look()
        shop.clock.now += 3601
        shop.records.wipe_old()
        assert shop.records.stats().data_keys == 0
        with pytest.raises(errors.UnknownKeyError, match=r"has lost the data key .*repair\(\)"):
            shop.field.open(shop.new if generation == 2 else shop.old, row=1)
        assert shop.records.repair(tenant="acme") == [row]
        assert shop.outcomes(shop.field) == (2, "opens", "opens")


def test_a_lost_key_opens_for_its_age_and_no_longer(store: MemoryKeys) -> None:
    """Not for ``serve_stale_for``, which is for a store that is away."""
    shop = Shop(store, max_age=1000, serve_stale_for=5000)
    with shop.records:
        store._rows.pop()
        shop.look()
        shop.clock.now += 800
        assert shop.field.open(shop.new, row=1) == b"new"
        shop.clock.now += 400
        with pytest.raises(errors.UnknownKeyError):
            shop.field.open(shop.new, row=1)


def test_what_is_gone_everywhere_is_not_repaired(store: MemoryKeys) -> None:
    shop = Shop(store)
    with shop.records:
        shop.clock.now += 3601
        shop.records.wipe_old()
        store._rows.pop()
        for act in (lambda: shop.field.seal(b"x", row=1), lambda: shop.records.repair(tenant="acme")):
            with pytest.raises(errors.KeyStoreError):
                act()
        with pytest.raises(errors.KeyStoreError, match="newer copy"):
            shop.records.repair(tenant="acme")
        shop.records.accept(tenant="acme")
        assert shop.outcomes(shop.field) == (1, "opens", _UNKNOWN)


def test_a_repair_does_not_undo_a_shred(store: MemoryKeys) -> None:
    """The store lost generation 2, and then the scope was shredded elsewhere."""
    shop = Shop(store)
    with shop.records:
        store._rows.pop()
        shop.look()
        with again(store) as other:
            other.shred(tenant="acme")
        assert shop.records.repair(tenant="acme") == []
        assert shop.outcomes(shop.field) == (_GONE, _GONE, _UNKNOWN)
        assert all(row.blob == b"" for row in store.get_many(ACME))


@pytest.mark.parametrize("reopened", [False, True])
def test_a_shred_reaches_a_key_that_the_store_had_lost(store: MemoryKeys, reopened: bool) -> None:
    shop = Shop(store)
    with shop.records:
        store._rows.pop()
        shop.look()
        with again(store) as other:
            other.shred(tenant="acme")
            if reopened:
                other.reopen(tenant="acme")
        shop.look()
        assert shop.outcomes(shop.field)[1:] == (_GONE, _UNKNOWN)
        assert shop.records.repair(tenant="acme") == []


def test_a_repair_beside_another_new_generation(store: MemoryKeys) -> None:
    """After the restore, another process has rolled: both generations open, and its key seals."""
    shop = Shop(store)
    with shop.records:
        store._rows.pop()
        with again(store) as other:
            other.roll(tenant="acme")
            theirs = other.field("f", row=int, tenant="acme").seal(b"x", row=1)
        shop.look()
        assert shop.outcomes(shop.field) == (_LOST, "opens", "opens")
        (row,) = shop.records.repair(tenant="acme")
        assert row.generation == 2
        assert shop.field.seal(b"x", row=1)[1:17] == theirs[1:17]
        assert shop.outcomes_elsewhere() == ("another", "opens", "opens")


def test_the_newest_is_not_retired_nor_a_mark_removed(store: MemoryKeys) -> None:
    shop = Shop(store)
    with shop.records:
        with pytest.raises(errors.KeyStoreError, match="generation 2 cannot be retired"):
            shop.records.retire(2, tenant="acme")
        assert shop.records.retire(1, tenant="acme").state is KeyState.RETIRED
        assert shop.outcomes_elsewhere() == (2, "opens", "opens")
        shop.records.shred(tenant="acme")
        for row in shop.records.rows(tenant="acme"):
            with pytest.raises(ValueError, match="shredded"):
                shop.records.remove(row)


# --- shredding, and what brings it back

_CHILD = """
import sys, time
from sealwax import errors
from sealwax.records import Records, SqlKeys
from tests.fakes import FakeKeyring

url, sealed = sys.argv[1], bytes.fromhex(sys.argv[2])
with Records(FakeKeyring(), SqlKeys(url), scope={"app": "shop", "env": "prod"}, recheck=0.2) as records:
    field = records.field("f", row=int, tenant="acme")
    kept = records.field("f", row=int, tenant="other")
    other = kept.seal(b"y", row=1)
    assert field.open(sealed, row=1) == b"x"
    print("warm", flush=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            assert field.open(sealed, row=1) == b"x"
            time.sleep(0.01)
        except errors.ShreddedError:
            break
    for act in (lambda: field.open(sealed, row=1), lambda: field.seal(b"x", row=1)):
        try:
            act()
            sys.exit("still alive")
        except errors.ShreddedError:
            pass
    assert kept.open(other, row=1) == b"y"
"""


@pytest.mark.slow
def test_after_the_next_look_no_process_opens_what_was_shredded(sql: SqlKeys, path: Path, tmp_path: Path) -> None:
    with again(sql) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        shutil.copy(path, tmp_path / "dump")
        children = [
            subprocess.Popen(
                [sys.executable, "-c", _CHILD, f"sqlite:///{path}", sealed.hex()], stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "warm\n"
        records.shred(tenant="acme")
        assert [child.wait(120) for child in children] == [0] * 4
        for child in children:
            assert child.stdout is not None
            child.stdout.close()
    # A restored dump brings it back: shredding is as good as the store's backups.
    shutil.copy(tmp_path / "dump", path)
    with again(sql) as records:
        assert records.field("f", row=int, tenant="acme").open(sealed, row=1) == b"x"


def test_a_deny_holds_against_a_restored_dump(tmp_path: Path) -> None:
    """The statement that the documents name: kms:Decrypt for this context."""
    with Lab(tmp_path / "lab") as lab:
        arn = lab.create_key()["Arn"]
        store = MemoryKeys()
        keyring = sealwax.KmsKeyring(arn, session=lab.session())
        with Records(keyring, store, scope=SCOPE) as records:
            sealed = records.field("f", row=int, tenant="acme").seal(b"x", row=1)
            other = records.field("f", row=int, tenant="other").seal(b"y", row=1)
            dump = list(store._rows)
            records.shred(tenant="acme")
        store._rows = dump

        def opened() -> tuple[object, object]:
            with Records(keyring, store, scope=SCOPE) as fresh:
                fields = [fresh.field("f", row=int, tenant=tenant) for tenant in ("acme", "other")]
                kept = fields[1].open(other, row=1)
                return fields[0].open(sealed, row=1), kept

        assert opened() == (b"x", b"y")
        kms = lab.session().client("kms")
        policy = kms.get_key_policy(KeyId=arn)["Policy"]
        deny = """{"Sid": "Shredded", "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:app": "shop", "kms:EncryptionContext:env": "prod",
            "kms:EncryptionContext:tenant": "acme"}}}"""
        begin = policy.index("[", policy.index('"Statement"')) + 1
        kms.put_key_policy(KeyId=arn, Policy=policy[:begin] + deny + "," + policy[begin:])
        with pytest.raises(errors.AccessDeniedError):
            opened()
        with Records(keyring, store, scope=SCOPE) as fresh:
            assert fresh.field("f", row=int, tenant="other").open(other, row=1) == b"y"


# --- KMS or the store is away


class Broken(MemoryKeys):
    """A store that fails for a while, with any error."""

    failure: Exception | None = None
    looks = 0
    checks = False  # whether it answers all the same which keys there are

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def newest(self, scope: Any, kind: KeyKind) -> KeyRow | None:
        self._fail()
        return super().newest(scope, kind)

    def get_many(self, scope: Any, key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        self._fail()
        return super().get_many(scope, key_ids)

    def check(self, key_ids: Sequence[bytes]) -> Any:
        self.looks += 1
        if not self.checks:
            self._fail()
        return super().check(key_ids)


class Counted(Away):
    """KMS, which counts the calls that it does not answer."""

    tries = 0
    seconds = 0.0

    def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
        self.tries += 1
        time.sleep(self.seconds)
        return super().unwrap(wrapped_keys, context, use)


def test_while_the_store_is_away_keys_go_on() -> None:
    away = Broken()
    shop = Shop(away, max_age=1000, serve_stale_for=500)
    with shop.records:
        away.failure = errors.KeyStoreError("the key store is away", retryable=True)
        for _ in range(15):
            shop.look()
            assert shop.outcomes(shop.field) == (2, "opens", "opens")
        shop.clock.now += 700
        assert shop.outcomes(shop.field) == (_LOST, _LOST, _LOST)
        away.failure = None
        assert shop.outcomes(shop.field) == (2, "opens", "opens")


def test_a_refusal_is_no_outage() -> None:
    away = Broken()
    shop = Shop(away, max_age=1000, serve_stale_for=500)
    with shop.records:
        away.failure = errors.KeyStoreError("no rights")
        shop.clock.now += 1001
        assert shop.outcomes(shop.field) == (_LOST, _LOST, _LOST)


def test_max_age_holds_whatever_may_be_served_stale(store: MemoryKeys) -> None:
    """A short ``max_age``: KMS is asked at its end, though old keys could be served for long."""
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=10, serve_stale_for=10_000) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        for number in range(1, 6):
            clock.now += 11
            assert field.open(field.seal(b"x", row=1), row=1) == field.open(sealed, row=1) == b"x"
            assert keyring.tries == number


def test_an_outage_is_not_waited_for_by_every_record(store: MemoryKeys) -> None:
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        fields = [records.field("f", row=int, tenant=str(number)) for number in range(20)]
        sealed = [field.seal(b"x", row=1) for field in fields]
        keyring.away = True
        clock.now += 1001
        for _ in range(3):
            assert [field.open(record, row=1) for field, record in zip(fields, sealed, strict=True)] == [b"x"] * 20
            assert [len(field.seal(b"y", row=1)) for field in fields] == [59] * 20
        assert keyring.tries == 1
        clock.now += 11
        assert fields[0].open(sealed[0], row=1) == b"x"
        assert keyring.tries == 2
        keyring.away = False
        clock.now += 11
        assert fields[0].open(sealed[0], row=1) == b"x"
        assert records.outage_at is None


def test_an_event_loop_is_served_stale_keys(store: MemoryKeys) -> None:
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)

        async def open_it() -> object:
            return field.open(sealed, row=1)

        clock.now += 700
        assert field.open(sealed, row=1) == b"x"
        keyring.away = True
        clock.now += 199
        records.wipe_old()  # tries to fetch the key again, in vain
        assert keyring.tries == 1
        clock.now += 200
        assert asyncio.run(open_it()) == b"x"
        assert keyring.tries == 1
        clock.now += 500
        with pytest.raises(errors.KeyNotLoadedError):
            asyncio.run(open_it())


@pytest.mark.parametrize("answer", ["a look", "a load", "none"])
def test_an_outage_of_the_store_ends_with_its_answer(answer: str) -> None:
    """No key has to be unwrapped for that: in an event loop, ``max_age`` holds again."""
    away = Broken()
    clock = Clock()
    with timed(clock, FakeKeyring(), away, max_age=1000, serve_stale_for=500) as records:
        field, other = (records.field("f", row=int, tenant=tenant) for tenant in ("acme", "other"))
        sealed = field.seal(b"x", row=1)
        away.failure = errors.KeyStoreError("away", retryable=True)
        with pytest.raises(errors.KeyStoreError):
            other.seal(b"x", row=1)
        away.failure = None
        clock.now += 61
        if answer == "a look":
            records.wipe_old()
        elif answer == "a load":
            with pytest.raises(errors.UnknownKeyError):
                other.open(sealed, row=1)
        clock.now += 1000

        async def open_it() -> object:
            return field.open(sealed, row=1)

        if answer == "none":
            assert asyncio.run(open_it()) == b"x"
        else:
            with pytest.raises(errors.KeyNotLoadedError):
                asyncio.run(open_it())


def test_an_answer_of_the_store_ends_no_outage_of_kms(store: MemoryKeys) -> None:
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        keyring.away = True
        clock.now += 1001
        assert field.open(sealed, row=1) == b"x"
        records.wipe_old()

        async def open_it() -> object:
            return field.open(sealed, row=1)

        assert asyncio.run(open_it()) == b"x"


@pytest.mark.parametrize("stale", [False, True])
def test_threads_share_one_failure(store: MemoryKeys, stale: bool) -> None:
    """They have all asked before it failed, so none of them tries again: it fails for all, or all use the old key."""
    with again(store) as records:
        records.ensure(tenant="acme")
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        field, start, failures = records.field("f", row=int, tenant="acme"), threading.Barrier(9), list[Exception]()
        if stale:
            field.seal(b"x", row=1)
            clock.now += 1001
            keyring.tries = 0
        keyring.away, keyring.seconds = True, 0.2

        def work() -> None:
            asked_at.set(now())
            start.wait(60)
            try:
                field.seal(b"x", row=1)
            except errors.UnavailableError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        start.wait(60)
        for thread in threads:
            thread.join()
        assert len(failures) == len(set(map(id, failures))) == (0 if stale else 8)
        assert keyring.tries == 1


# --- the thread beside the callers


@pytest.mark.parametrize(
    "failure",
    [errors.KeyStoreError("away", retryable=True), RuntimeError("secret password"), errors.UnavailableError("hangs")],
)
def test_the_thread_survives_any_failure(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken()
    with Records(FakeKeyring(), store, scope=SCOPE, recheck=0.05) as records, again(store) as other:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)
        store.failure, store.looks = failure, 0
        _until(lambda: store.looks > 2)
        store.failure = None
        other.shred(tenant="acme")
        _until(lambda: records.stats().data_keys == 0)
        with pytest.raises(errors.ShreddedError):
            field.open(sealed, row=1)
    said = f": {failure}" if isinstance(failure, errors.SealwaxError) else " with RuntimeError"
    assert f"looking after the data keys of records failed{said}" in caplog.text
    assert "password" not in caplog.text


def _until(condition: Callable[[], bool]) -> None:
    """Wait for another thread; a minute is for a machine that is busy."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("checks", [False, True])
def test_a_failed_look_is_made_again(checks: bool) -> None:
    """The newer key is found by the look after the one that failed, though the epoch has not changed since."""
    broken = Broken()
    broken.checks = checks
    shop = Shop(broken)
    with shop.records, again(broken) as other:
        shop.look()
        row = other.roll(tenant="acme")
        broken.failure = errors.KeyStoreError("away", retryable=True)
        shop.look()
        broken.failure = None
        shop.look()
        assert shop.field.seal(b"x", row=1)[1:17] == row.key_id


class Asked(MemoryKeys):
    """A store that counts how often it is asked for a newest key, and may not tell it in ``check``."""

    asked = 0
    tells = True

    def newest(self, scope: Any, kind: KeyKind) -> KeyRow | None:
        self.asked += 1
        return super().newest(scope, kind)

    def check(self, key_ids: Sequence[bytes]) -> Any:
        changes = super().check(key_ids)
        return changes if self.tells else Changes(changes.epoch, changes.states)


@pytest.mark.parametrize("tells", [True, False])
def test_a_change_asks_only_for_the_scope_that_changed(tells: bool) -> None:
    asked, clock = Asked(), Clock()
    asked.tells = tells
    with timed(clock, FakeKeyring(), asked) as records, again(asked) as other:
        fields = [records.field("f", row=int, tenant=str(number)) for number in range(20)]
        for field in fields:
            field.seal(b"x", row=1)
        row = other.roll(tenant="7")
        clock.now += 61
        asked.asked = 0
        records.wipe_old()
        assert asked.asked == (1 if tells else 20)
        assert [field.seal(b"x", row=1)[1:17] == row.key_id for field in fields].index(True) == 7
        clock.now += 61
        asked.asked = 0
        records.wipe_old()
        assert asked.asked == 0


@pytest.mark.parametrize("column", ["state", "scope"])
def test_a_damaged_row_does_not_hide_other_scopes(sql: SqlKeys, path: Path, column: str) -> None:
    clock = Clock()
    with timed(clock, FakeKeyring(), sql) as records, again(sql) as other:
        damaged, gone, rolled = (records.field("f", row=int, tenant=tenant) for tenant in ("a", "b", "c"))
        for field in (damaged, gone, rolled):
            field.seal(b"x", row=1)
        records.roll(tenant="a")
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            of_a = "scope LIKE '%\"a\"%' AND generation"
            connection.execute(f"UPDATE sealwax_keys SET {column} = 'odd' WHERE {of_a} = 1")
            connection.execute(f"DELETE FROM sealwax_keys WHERE {of_a} = 2")
        other.shred(tenant="b")
        row = other.roll(tenant="c")
        clock.now += 61
        records.wipe_old()
        assert rolled.seal(b"x", row=1)[1:17] == row.key_id
        for field, error in ((gone, errors.ShreddedError), (damaged, errors.KeyStoreError)):
            with pytest.raises(error):
                field.seal(b"x", row=1)


@pytest.mark.parametrize(
    ("column", "value"), [("scope", "odd"), ("scope", '{"a": "b"}'), ("kind", 7), ("state", "odd")]
)
def test_a_damaged_row_stops_its_scope_alone_and_is_named(sql: SqlKeys, path: Path, column: str, value: object) -> None:
    with again(sql) as records:
        for tenant in ("a", "b"):
            records.ensure(tenant=tenant)
        (row,), others = records.rows(tenant="a"), records.rows(tenant="b")
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE sealwax_keys SET {column} = ? WHERE key_id = ?", (value, row.key_id))
        assert records.rows(tenant="b") == others
        assert records.roll(tenant="b").generation == 2
        named = f"scope_hash {scope_hash(row.scope).hex()}, key_id {row.key_id.hex()}.*DELETE it by this key_id"
        with again(sql) as fresh:
            for read, pairs in ((fresh.rows, {}), (fresh.rows, {"tenant": "a"}), (fresh.roll, {"tenant": "a"})):
                with pytest.raises(errors.KeyStoreError, match=named):
                    read(**pairs)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"DELETE FROM sealwax_keys WHERE key_id = X'{row.key_id.hex()}'")
        assert len(records.rows()) == 2
    with again(sql) as fresh:
        assert fresh.roll(tenant="a").generation == 1


def test_a_damaged_mark_of_a_shredded_scope_may_be_of_any(sql: SqlKeys, path: Path) -> None:
    """Nothing tells its scope, so no list is complete without it."""
    with again(sql) as records:
        records.ensure(tenant="b")
        records.shred(tenant="a")
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE sealwax_keys SET scope = 'odd' WHERE state = 'shredded'")
        with pytest.raises(errors.KeyStoreError, match="scope or kind is damaged"):
            records.rows(tenant="b")
        assert records.roll(tenant="b").generation == 2


def test_a_look_comes_at_recheck_at_the_latest() -> None:
    broken = Broken()
    clock = Clock()
    pauses = set()
    with timed(clock, FakeKeyring(), broken, recheck=60, max_age=400) as records:
        records.ensure(tenant="acme")
        for number in range(1, 30):
            looked = clock.now
            for _ in range(100):
                records.ensure(tenant="acme")
                pause = records.wipe_old()
                assert pause is not None
                assert pause <= 40
                if broken.looks == number:
                    break
                clock.now += pause
            pauses.add(round(clock.now - looked, 3))
            assert 50 < clock.now - looked < 60.1
    assert len(pauses) > 10  # processes that began together do not all look together


def test_refreshing_is_no_storm(store: MemoryKeys) -> None:
    """While KMS is away, one key is tried for each ``recheck``, and not each of a thousand."""
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000, serve_stale_for=500) as records:
        fields = [records.field("f", row=int, tenant=str(number)) for number in range(50)]
        for field in fields:
            field.seal(b"x", row=1)
        clock.now += 700
        for field in fields:
            field.seal(b"x", row=1)
        keyring.away = True
        clock.now += 150
        for number in range(1, 4):
            records.wipe_old()
            records.wipe_old()
            assert keyring.tries == number
            clock.now += 61
        keyring.away = False
        records.wipe_old()
        assert keyring.tries == 3 + 50


@pytest.mark.parametrize("max_age", [60, 300, 3600])
def test_a_busy_event_loop_always_has_its_keys(store: MemoryKeys, max_age: int) -> None:
    clock = Clock()

    async def live(field: Any, sealed: bytes) -> None:
        for _ in range(300):
            clock.now += max_age / 100
            field.seal(b"x", row=1)
            assert field.open(sealed, row=1) == b"x"
            records.wipe_old()

    with timed(clock, keyring := FakeKeyring(), store, max_age=max_age) as records:
        field = records.field("f", row=int, tenant="acme")
        asyncio.run(live(field, field.seal(b"x", row=1)))
    assert 3 <= keyring.calls.count("Decrypt") <= 5


def test_keys_that_nobody_uses_are_not_fetched_again(store: MemoryKeys) -> None:
    clock, keyring = Clock(), Counted()
    with timed(clock, keyring, store, max_age=1000) as records:
        records.field("f", row=int, tenant="acme").seal(b"x", row=1)
        clock.now += 850
        records.wipe_old()
        assert keyring.tries == 0


# --- bounds


class Quick(MemoryKeys):
    """A store that finds the rows of a scope at once."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, MemoryKeys] = {}

    def _part(self, scope: Any) -> MemoryKeys:
        return self.parts.setdefault(scope["tenant"], MemoryKeys())

    def newest(self, scope: Any, kind: KeyKind) -> KeyRow | None:
        return self._part(scope).newest(scope, kind)

    def get_many(self, scope: Any, key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        return self._part(scope).get_many(scope, key_ids)

    def create(self, row: KeyRow) -> KeyRow:
        return self._part(row.scope).create(row)


@pytest.mark.slow
def test_many_scopes_hold_bounded_memory() -> None:
    keyring = FakeKeyring()
    with Records(keyring, Quick(), scope=SCOPE, capacity=100) as records:
        sealed = []
        for number in range(2000):
            sealed.append(records.field("f", row=int, tenant=str(number)).seal(b"x", row=1))
            assert number % 100 or records.stats().data_keys <= 100
        assert keyring.calls == ["GenerateDataKey"] * 2000
        gc.collect()
        rings = [ring for ring in gc.get_objects() if type(ring) is Ring and ring._settings is records]
        assert len(rings) <= 101
        for number, record in enumerate(sealed):
            assert records.field("f", row=int, tenant=str(number)).open(record, row=1) == b"x"
            assert number % 100 or records.stats().data_keys <= 100
        assert keyring.calls.count("Decrypt") == 2000
        # Those that are used stay.
        for number in (1999, 1950):
            assert records.field("f", row=int, tenant=str(number)).open(sealed[number], row=1) == b"x"
        assert keyring.calls.count("Decrypt") == 2000


def test_a_scope_that_was_dropped_is_not_rolled_back(store: MemoryKeys) -> None:
    """What was seen outlives the keys and the field."""
    with Records(FakeKeyring(), store, scope=SCOPE, capacity=1) as records:
        records.field("f", row=int, tenant="acme").seal(b"x", row=1)
        before = list(store._rows)
        records.roll(tenant="acme")
        records.ensure(tenant="other")
        gc.collect()
        assert records.stats().scopes == 1
        store._rows = before
        with pytest.raises(errors.KeyStoreError, match="lost generation 2"):
            records.field("f", row=int, tenant="acme").seal(b"x", row=1)


def test_the_scopes_that_were_seen_are_bounded(store: MemoryKeys) -> None:
    class Few(Records):
        _scopes_seen = 10

    with Few(FakeKeyring(), store, scope=SCOPE, capacity=1) as records:
        for number in range(30):
            records.ensure(tenant=str(number))
            records.ensure(tenant="acme")
        assert len(records.highest) == 10
        store._rows = [row for row in store._rows if row.scope["tenant"] != "acme"]
        with pytest.raises(errors.KeyStoreError, match="lost generation 1"):
            records.roll(tenant="acme")


def test_what_is_used_is_kept(store: MemoryKeys) -> None:
    clock, keyring = Clock(), FakeKeyring()
    with timed(clock, keyring, store, capacity=3, max_age=1e6) as records:
        hot = records.field("f", row=int, tenant="hot")
        for number in range(20):
            clock.now += 301  # a field asks for its key again, and shows that it is used
            hot.seal(b"x", row=1)
            clock.now += 1
            records.field("f", row=int, tenant=str(number)).seal(b"x", row=1)
        assert keyring.calls == ["GenerateDataKey"] * 21


# --- looking


def test_explaining_a_record(store: MemoryKeys) -> None:
    shop = Shop(store)
    with shop.records:
        shop.records.retire(1, tenant="acme")
        first, second = store.get_many(ACME)
        with again(store, scope={**SCOPE, "env": "test"}) as other:
            assert other.explain(shop.old) == Explanation(False, 61, shop.old[1:17], first, False)
            assert asyncio.run(other.explain_async(shop.new)).row == second
            assert isinstance(other.keyring, FakeKeyring)
            assert other.keyring.calls == []
        text = shop.field.seal_text("é", row=1)
        assert shop.records.explain(text) == Explanation(True, 60, shop.new[1:17], second, True)
        with again(MemoryKeys()) as stranger:
            assert stranger.explain(shop.new) == Explanation(False, 61, shop.new[1:17], None, False)
        with pytest.raises(errors.NotARecordError):
            shop.records.explain(b"plain")


def test_every_method_that_waits_has_an_async_form(store: MemoryKeys) -> None:
    async def live() -> None:
        with again(store) as records:
            await records.ensure_async(tenant="acme")
            assert (await records.roll_async(tenant="acme")).generation == 2
            assert (await records.retire_async(1, tenant="acme")).state is KeyState.RETIRED
            rows = await records.rows_async(tenant="acme")
            assert [row.generation for row in rows] == [1, 2]
            assert await records.repair_async(tenant="acme") == []
            with pytest.raises(ValueError, match="works"):
                await records.remove_async(rows[0])
            assert [row.generation for row in await records.shred_async(tenant="acme")] == [1, 2]
            assert (await records.reopen_async(tenant="acme")).generation == 4
            await records.accept_async(tenant="acme")

    asyncio.run(live())


# --- forks and the end


def _in_child(work: Callable[[], bool]) -> bool:
    """Return what ``work`` says in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.slow
def test_children_work_while_threads_seal(store: MemoryKeys) -> None:
    """Forks at any moment: in a thread, while others load keys and while the thread beside looks at the store."""
    with Records(FakeKeyring(), store, scope=SCOPE, recheck=0.05, capacity=2) as records:
        fields = [records.field("f", row=int, tenant=str(number)) for number in range(5)]
        sealed = [field.seal(b"x", row=1) for field in fields]
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                for field in fields:
                    field.seal(b"x", row=1)

        def child() -> bool:
            empty = records.stats().data_keys == 0
            opened = [field.open(record, row=1) for field, record in zip(fields, sealed, strict=True)] == [b"x"] * 5
            new = records.field("f", row=int, tenant="new")
            looked = records.wipe_old() is not None
            done = empty and opened and looked and new.open(new.seal(b"y", row=1), row=1) == b"y"
            records.close()
            return done

        results: list[bool] = []
        forker = threading.Thread(target=lambda: results.extend(_in_child(child) for _ in range(8)))
        workers = [threading.Thread(target=work) for _ in range(2)]
        for thread in (*workers, forker):
            thread.start()
        forker.join()
        over.set()
        for thread in workers:
            thread.join()
        assert results == [True] * 8


def test_a_child_uses_the_database(sql: SqlKeys) -> None:
    with again(sql) as records:
        field = records.field("f", row=int, tenant="acme")
        sealed = field.seal(b"x", row=1)

        def child() -> bool:
            records.roll(tenant="acme")
            return field.open(sealed, row=1) == b"x" and field.seal(b"y", row=1)[1:17] != sealed[1:17]

        assert _in_child(child)
        assert [row.generation for row in sorted(records.rows(), key=lambda row: row.generation)] == [1, 2]


@pytest.mark.slow
def test_children_use_the_database_while_threads_do(sql: SqlKeys) -> None:
    """SQLite's own locks, and what it knows of open files, would live on in a child as they were in its parent."""
    with again(sql) as records:
        records.ensure(tenant="acme")
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                sql.check([bytes(16)])

        def child() -> bool:
            signal.alarm(60)  # what waits for such a lock waits forever
            records.roll(tenant="acme")
            return True

        workers = [threading.Thread(target=work) for _ in range(3)]
        for thread in workers:
            thread.start()
        try:
            assert [_in_child(child) for _ in range(20)] == [True] * 20
        finally:
            over.set()
            for thread in workers:
                thread.join()
        assert len(records.rows()) == 21


def test_a_closed_one_stays_closed(store: MemoryKeys) -> None:
    records = again(store)
    field = records.field("f", row=int, tenant="acme")
    sealed = field.seal(b"x", row=1)
    keeper = records._keeper
    records.close()
    records.close()
    with records:
        pass
    assert keeper is not None
    keeper.join(60)
    assert not keeper.is_alive()
    acts: list[Callable[[], object]] = [
        lambda: field.seal(b"x", row=1),
        lambda: field.seal_many([b"x"], rows=[1]),
        lambda: field.open(sealed, row=1),
        lambda: field.open_many([sealed], rows=[1]),
        lambda: records.field("f", row=int, tenant="acme"),
        lambda: asyncio.run(records.preload([sealed], tenant="acme")),
        *(
            (lambda name=name: getattr(records, name)(tenant="acme"))
            for name in ("ensure", "roll", "shred", "reopen", "repair", "accept")
        ),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="closed"):
            act()
    assert [row.state for row in store.list()] == [KeyState.LIVE]
    assert _in_child(lambda: records.closed)


def test_a_key_that_arrives_after_the_end_is_wiped(store: MemoryKeys) -> None:
    with again(store) as records:
        records.ensure(tenant="acme")

    class Slow(FakeKeyring):
        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            result = super().unwrap(wrapped_keys, context, use)
            late.close()
            return result

    late = Records(Slow(), store, scope=SCOPE)
    with pytest.raises(ValueError, match="closed"):
        late.ensure(tenant="acme")
    assert late.stats().data_keys == 0


def test_an_end_while_keys_are_fetched_is_no_failure(store: MemoryKeys, caplog: pytest.LogCaptureFixture) -> None:
    class Closing(FakeKeyring):
        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            records.close()
            return super().unwrap(wrapped_keys, context, use)

    clock = Clock()
    records = timed(clock, Closing(), store, max_age=100)
    field = records.field("f", row=int, tenant="acme")
    field.seal(b"x", row=1)
    clock.now += 70
    field.seal(b"x", row=1)
    clock.now += 20
    assert records.wipe_old() is None
    assert records.closed
    assert caplog.text == ""


def test_a_key_that_arrives_after_it_was_shredded_is_wiped(store: MemoryKeys) -> None:
    """A thread has read the row, and KMS unwraps it while the scope is shredded."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow(FakeKeyring):
        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            asked.set()
            assert go_on.wait(60)
            return super().unwrap(wrapped_keys, context, use)

    with again(store) as earlier:
        sealed = earlier.field("f", row=int, tenant="acme").seal(b"x", row=1)
    with Records(Slow(), store, scope=SCOPE) as records:
        field = records.field("f", row=int, tenant="acme")
        loader = threading.Thread(target=lambda: field.open(sealed, row=1))
        loader.start()
        assert asked.wait(60)
        shredder = threading.Thread(target=lambda: records.shred(tenant="acme"))
        shredder.start()
        _until(lambda: KeyState.LIVE not in {row.state for row in store.list()})
        shredder.join(0.2)
        go_on.set()
        loader.join()
        shredder.join()
        assert records.stats().data_keys == 0
        with pytest.raises(errors.ShreddedError):
            field.open(sealed, row=1)
        with pytest.raises(errors.ShreddedError):
            field.seal(b"y", row=1)


def test_what_nobody_holds_is_wiped(store: MemoryKeys) -> None:
    records = again(store)
    field = records.field("f", row=int, tenant="acme")
    field.seal(b"x", row=1)
    held = next(iter(records._rings.values()))._newest
    keeper, gone = records._keeper, weakref.ref(records)
    assert held is not None
    assert keeper is not None
    del records, field
    gc.collect()
    assert gone() is None
    keeper.join(60)
    assert not keeper.is_alive()


@pytest.mark.slow
def test_the_interpreter_ends() -> None:
    """Exit handlers that run after the keys were wiped still seal, and keep no key; no thread holds the end up."""
    program = """
        import atexit, sys
        records = field = None

        def late():
            sealed = field.seal(b"late", row=1)
            assert field.open(sealed, row=1) == field.open(sealed, row=1) == b"late"
            print(records.stats().data_keys, flush=True)

        atexit.register(late)
        from sealwax.records import MemoryKeys, Records
        from tests.fakes import FakeKeyring

        records = Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}, recheck=0.05)
        field = records.field("f", row=int)
        field.seal(b"x", row=1)
        print(records.stats().data_keys, flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n0\n", "")


def test_nothing_tells_or_copies_a_key(store: MemoryKeys) -> None:
    with again(store) as records:
        field = records.field("f", row=int, tenant="acme")
        field.seal(b"4111", row=1)
        ring = next(iter(records._rings.values()))
        held = ring._newest
        assert held is not None
        secret = bytes(held.key.buffer)
        for thing in (records, field, ring, held, records.stats(), *store.list()):
            shown = repr(thing) + str(thing)
            assert repr(secret)[2:-1] not in shown
            assert secret.hex() not in shown
        for thing in (records, field):
            for act in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError):
                    act(thing)


class CountedStore(MemoryKeys):
    """A key store that counts how often it is read."""

    asked = 0

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        self.asked += 1
        return super().newest(scope, kind)

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        self.asked += 1
        return super().get_many(scope, key_ids)


def test_ensure_asks_nobody_while_the_keys_are_loaded() -> None:
    store, keyring, clock = CountedStore(), FakeKeyring(), Clock()
    with timed(clock, keyring, store, max_age=600, recheck=10_000) as records:
        records.ensure(tenant="acme")
        records.roll(tenant="acme")
        records.ensure(tenant="acme")
        before = store.asked, len(keyring.calls)
        for _ in range(3):
            records.ensure(tenant="acme")
            asyncio.run(records.ensure_async(tenant="acme"))
        assert (store.asked, len(keyring.calls)) == before
        clock.now += 601
        records.ensure(tenant="acme")
        assert store.asked > before[0]
        assert len(keyring.calls) == before[1] + 2  # both generations
