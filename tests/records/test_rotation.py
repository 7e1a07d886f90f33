"""Key stores in three databases are moved to another KMS key by ``fleet`` while their records are in use."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import sealwax
from sealwax import fleet
from sealwax.lab import Lab
from sealwax.records import KeyKind, KeyRow, KeyState, Records, SqlKeys
from sealwax.records._blob import make
from sealwax.records._sql import keeping_connections
from sealwax.records._sql_tables import key_tables
from tests.memory.conftest import ROOT

SCOPE = {"app": "shop"}
CONTEXTS = fleet.Contexts({"app": "shop", "tenant": "*", "sealwax-use": "records-*"})
THREADS, TENANTS = 8, 5
_ROTATOR = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey", "kms:ListKeyRotations"],
            "Resource": "*",
        }
    ],
}
_APPLICATION = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"}],
}


@dataclass
class Shop:
    """A lab with two keys, an application and a rotator, and a key store with a data key for each tenant."""

    lab: Lab
    old: str
    new: str
    url: str
    keys: SqlKeys
    plan: Path

    @property
    def location(self) -> str:
        return f"sql+{self.url}"

    def keyring(self, *arns: str) -> sealwax.KmsKeyring:
        session = self.lab.session(principal="Application")
        return sealwax.KmsKeyring(arns[0], decrypt_with=arns, session=session)

    def records(self, *arns: str, **more: Any) -> Records:
        return Records(self.keyring(*arns), SqlKeys(self.url), scope=SCOPE, **more)

    def fill(self, scopes: int) -> None:
        keyring, keys = self.keyring(self.old), keeping_connections(sa.make_url(self.url))
        for number in range(scopes):
            row, data_key = make(keyring, {**SCOPE, "tenant": str(number)}, KeyKind.DATA, 1)
            data_key.close()
            keys.create(row)

    def planned(self, **more: Any) -> fleet.FleetReport:
        options = {"sources": [self.old], "to": [self.new], "contexts": CONTEXTS, "session": self.rotator} | more
        return fleet.plan(self.plan, [self.location], **options)

    @property
    def rotator(self) -> Any:
        return self.lab.session(principal="Rotator")

    def calls(self) -> Counter[tuple[str, str]]:
        """What was asked of KMS, and by whom."""
        events = (event.record for event in self.lab.trail.events())
        return Counter((event["userIdentity"]["arn"].rpartition("/")[2], event["eventName"]) for event in events)

    def moved_contexts(self) -> Counter[str]:
        """How often each context was re-wrapped."""
        events = (event.record for event in self.lab.trail.events() if event.record["eventName"] == "ReEncrypt")
        return Counter(str(event["requestParameters"]["destinationEncryptionContext"]) for event in events)


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Iterator[Shop]:
    with _shop(tmp_path, database) as shop:
        yield shop


@contextlib.contextmanager
def _shop(tmp_path: Path, database: str) -> Iterator[Shop]:
    keys = SqlKeys(database)
    keys.create_table()
    engine = sa.create_engine(database)
    with engine.begin() as connection:  # of the tests before
        connection.execute(sa.text("DELETE FROM sealwax_keys"))
        connection.execute(sa.text("DROP TABLE IF EXISTS cards"))
    engine.dispose()
    with Lab(tmp_path / "lab") as lab:
        old, new = (lab.create_key(alias=name)["Arn"] for name in ("old", "new"))
        lab.add_principal("Rotator", policy=_ROTATOR)
        lab.add_principal("Application", policy=_APPLICATION)
        yield Shop(lab, old, new, database, keys, tmp_path / "keys.plan")


class Cards:
    """A table of the application, with a sealed column."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        row = sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)
        self.table = sa.Table("cards", sa.MetaData(), row, sa.Column("sealed", sa.LargeBinary, nullable=False))
        self.table.create(self.engine)

    def add(self, sealed: list[bytes]) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.insert(), [{"id": at, "sealed": value} for at, value in enumerate(sealed)])

    def all(self) -> list[bytes]:
        with self.engine.connect() as connection:
            return list(map(bytes, connection.scalars(sa.select(self.table.c.sealed).order_by(self.table.c.id))))

    def digest(self) -> str:
        return hashlib.sha256(b"".join(self.all())).hexdigest()


def use(
    records: Records, cards: list[bytes], stop: threading.Event, failures: list[Exception], used: list[int]
) -> None:
    """Seal and open under some tenants until told to stop."""
    fields = [records.field("cards.sealed", row=int, tenant=str(number)) for number in range(TENANTS)]
    while not stop.is_set():
        number = random.randrange(TENANTS)
        try:
            assert fields[number].open(cards[number], row=number) == b"card %d" % number
            assert fields[number].open(fields[number].seal(b"more", row=9), row=9) == b"more"
        except Exception as error:
            failures.append(error)
            return
        used.append(number)
        time.sleep(0.01)


def move(shop: Shop, scopes: int, sealed: int) -> None:
    """Move all scopes to the new key while threads seal and open, and hold what must hold of it."""
    shop.fill(scopes)
    cards = Cards(shop.url)
    with shop.records(shop.old) as records:
        fields = [records.field("cards.sealed", row=int, tenant=str(number)) for number in range(sealed)]
        cards.add([field.seal(b"card %d" % number, row=number) for number, field in enumerate(fields)])
    before, values = cards.digest(), cards.all()
    planned = shop.planned()
    assert (planned.stale, planned.objects, planned.kms_calls) == (scopes, scopes, scopes)

    stop, failures, used = threading.Event(), list[Exception](), list[int]()
    # So short that rows are unwrapped again while they are moved.
    with shop.records(shop.old, shop.new, max_age=0.5) as records:
        arguments = records, values, stop, failures, used
        threads = [threading.Thread(target=use, args=arguments) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            done = fleet.run(shop.plan, session=shop.rotator)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert failures == []
    assert len(used) > THREADS
    assert (done.rewrapped, done.stale, done.failed, done.kms_calls) == (scopes, 0, 0, scopes)
    calls = shop.calls()
    assert calls["Rotator", "ReEncrypt"] == scopes
    assert calls["Rotator", "Decrypt"] == 0
    contexts = shop.moved_contexts()
    assert (len(contexts), set(contexts.values())) == (scopes, {1})
    assert cards.digest() == before
    proven = fleet.verify(shop.plan)
    assert (proven.stale, proven.fresh, proven.done) == (0, scopes, True)
    assert {arn for arn, _, _ in proven.after} == {shop.new}
    with shop.records(shop.new) as records:
        for number, value in enumerate(values):
            field = records.field("cards.sealed", row=int, tenant=str(number))
            assert field.open(value, row=number) == b"card %d" % number
    cards.engine.dispose()


@pytest.mark.slow
def test_a_key_store_is_moved_while_it_is_in_use(shop: Shop) -> None:
    move(shop, 1000 if shop.url.startswith("postgresql") else 100, 20)


@pytest.mark.soak
def test_ten_thousand_scopes_are_moved_while_they_are_in_use(shop: Shop) -> None:
    move(shop, 10_000, 1000)


@pytest.mark.slow
def test_a_killed_run_is_resumed(shop: Shop) -> None:
    scopes = 40
    shop.fill(scopes)
    shop.planned(digests=None)
    before = {row.key_id: row for row in shop.keys.list()}
    command = [sys.executable, "-m", "tests.records.rotating", str(shop.plan), str(shop.lab.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    left = fleet.status(shop.plan).stale
    assert 0 < left < scopes
    assert all(_under(row) in ({shop.old}, {shop.new}) for row in shop.keys.list())
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.stale, done.failed) == (0, 0)
    # One call more at most for each row that the killed run was working on.
    asked = sum(shop.moved_contexts().values())
    assert scopes <= asked <= scopes + 2
    proven = fleet.verify(shop.plan)
    assert proven.checked is not None
    assert (proven.done, proven.checked.digests) == (True, scopes)
    for row in shop.keys.list():
        was = before.pop(row.key_id)
        assert (row.scope, row.generation, row.state, row.claim) == (was.scope, was.generation, was.state, was.claim)
        assert _under(row) == {shop.new}
    assert before == {}


def _under(row: KeyRow) -> set[str]:
    return {key.key_arn for key in sealwax.inspect(row.blob).wrapped_keys}


def test_a_rotator_needs_no_right_to_insert(tmp_path: Path, postgresql: str) -> None:
    with _shop(tmp_path, postgresql) as shop:
        shop.fill(2)
        engine = sa.create_engine(shop.url)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE ROLE rotator LOGIN")
            connection.exec_driver_sql("GRANT SELECT, UPDATE ON sealwax_keys, sealwax_keys_epoch TO rotator")
        engine.dispose()
        shop.url = postgresql.replace("app@", "rotator@")
        shop.planned()
        assert fleet.run(shop.plan, session=shop.rotator).rewrapped == 2
        assert fleet.verify(shop.plan).done


def test_a_plan_knows_what_became_of_the_rows_meanwhile(shop: Shop) -> None:
    """One scope is rolled, and the row of another is removed."""
    shop.fill(3)
    shop.planned()
    with shop.records(shop.old) as records:
        records.roll(tenant="0")
    assert shop.keys.remove(next(row for row in shop.keys.list() if row.scope["tenant"] == "1"))
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.rewrapped, done.count("left"), done.done) == (2, 1, False)
    proven = fleet.verify(shop.plan)
    assert (proven.stale, proven.fresh, proven.done) == (1, 2, False)


def test_new_key_material_alone_is_stale(shop: Shop) -> None:
    shop.fill(3)
    settings = {"sources": [shop.old], "to": [shop.old]}
    assert (shop.planned(**settings).stale, fleet.verify(shop.plan).done) == (0, True)
    shop.lab.call("RotateKeyOnDemand", KeyId=shop.old)
    assert fleet.refresh(shop.plan, session=shop.rotator) == ()
    report = fleet.status(shop.plan)
    assert (report.stale, report.reasons) == (3, {"material": 3})
    assert fleet.run(shop.plan, session=shop.rotator).rewrapped == 3
    assert fleet.verify(shop.plan).done


def test_a_shredded_scope_has_no_envelopes(shop: Shop) -> None:
    shop.fill(2)
    shop.planned()
    shop.keys.shred({**SCOPE, "tenant": "1"})
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.rewrapped, done.count("foreign"), done.formats) == (1, 1, {"shredded": 1})
    proven = fleet.verify(shop.plan)
    # The data key, and the marks of both kinds.
    assert (proven.done, proven.fresh, proven.formats) == (True, 1, {"shredded": 3})


@pytest.mark.parametrize("altered", ["scope", "blob"])
def test_a_row_whose_scope_is_not_that_of_its_envelope_is_refused(shop: Shop, altered: str) -> None:
    shop.fill(3)
    rows = {row.scope["tenant"]: row for row in shop.keys.list()}
    table, _ = key_tables(sa.MetaData())
    columns = ("blob",) if altered == "blob" else ("scope_hash", "scope")
    engine = sa.create_engine(shop.url)
    with engine.begin() as connection:
        of = {tenant: table.c.key_id == row.key_id for tenant, row in rows.items()}
        taken = connection.execute(sa.select(*(table.c[name] for name in columns)).where(of["2"])).one()
        values = dict(zip(columns, taken, strict=True)) | {"claim": None}
        connection.execute(table.update().where(of["1"]).values(values))
    engine.dispose()
    planned = shop.planned()
    assert (planned.count("stale"), planned.count("refused")) == (2, 1)
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.rewrapped, done.count("refused"), done.kms_calls) == (2, 1, 2)
    ((name, state, reason),) = fleet.problems(shop.plan)
    assert (state, rows["1"].key_id.hex() in name) == ("refused", True)
    assert "made for something else than its scope and kind" in reason
    assert not fleet.verify(shop.plan).done
    kept = next(row for row in shop.keys.list() if row.key_id == rows["1"].key_id)
    assert _under(kept) == {shop.old}


def test_a_row_altered_after_the_plan_is_refused_before_kms(shop: Shop) -> None:
    shop.fill(2)
    shop.planned()
    rows = {row.scope["tenant"]: row for row in shop.keys.list()}
    assert shop.keys.replace(rows["1"], rows["0"].blob)
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.rewrapped, done.count("refused"), done.kms_calls) == (1, 1, 1)


def test_a_row_that_cannot_be_read_does_not_hide_the_others(shop: Shop) -> None:
    shop.fill(3)
    engine = sa.create_engine(shop.url)
    with engine.begin() as connection:
        bad = next(iter(shop.keys.list())).key_id
        connection.execute(sa.text("UPDATE sealwax_keys SET scope = '{}' WHERE key_id = :id"), {"id": bad})
    engine.dispose()
    planned = shop.planned()
    assert (planned.stale, planned.count("unlisted"), planned.hidden) == (2, 1, 1)
    done = fleet.run(shop.plan, session=shop.rotator)
    assert (done.rewrapped, done.done) == (2, False)


def test_retired_keys_are_moved_too(shop: Shop) -> None:
    shop.fill(1)
    with shop.records(shop.old) as records:
        records.roll(tenant="0")
    first = next(row for row in shop.keys.list() if row.generation == 1)
    assert shop.keys.retire(first)
    shop.planned()
    assert fleet.run(shop.plan, session=shop.rotator).rewrapped == 2
    assert {row.state: _under(row) for row in shop.keys.list()} == {
        KeyState.LIVE: {shop.new},
        KeyState.RETIRED: {shop.new},
    }
