"""Columns that move from an old form to records and back: counted, resumable, and nothing lost; on three databases."""

from __future__ import annotations

import datetime
import json
import logging
import pickle
import subprocess
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet as Token
from sqlalchemy.exc import DBAPIError

from sealwax.errors import FileError, TableError
from sealwax.records import UNBOUND, MemoryKeys, Records
from sealwax.records.moving import AnyOf, Fernet, Moving, OldForm, Plaintext
from sealwax.records.tables import SealedColumn, reseal, stale, verify
from tests.fakes import FakeKeyring
from tests.memory.conftest import ROOT

SCOPE = {"app": "shop"}
KEY = Token.generate_key().decode()
OTHER_KEY = Token.generate_key().decode()
BY_ID: dict[str, Any] = {"row": {"id": int}, "scope": {"tenant": "tenant"}}
# Of one byte, of two, of three and of four; with quotes, a backslash, blanks at the ends, and nothing.
TEXTS = ["ascii", "Nguyễn Thị Hường", "ნინო ბერიძე", "𐌰𐌱 🔑", 'it\'s a \\ "test"', " blank ", "", "ascii", "SWR1.x"]
# msgpack of {"a": 1}; pickles of two protocols; a record's first byte that comes later; nothing.
BLOBS = [b"\x81\xa1a\x01", pickle.dumps({"a": 1}), pickle.dumps([1], 0), b"\x00\xc1" * 40, b"", "ნ".encode()] + [
    b"same"
] * 2


class App:
    """An application with a table that is not sealed yet."""

    def __init__(self, url: str, *columns: sa.Column[Any]) -> None:
        self.engine = sa.create_engine(url)
        self.table = sa.Table(
            "people",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("tenant", sa.String(20)),
            *columns,
            mysql_charset="utf8mb4",
        )
        self.table.drop(self.engine, checkfirst=True)
        self.table.create(self.engine)
        self.records = Records(FakeKeyring(), MemoryKeys(), scope=SCOPE)
        self.records.ensure(tenant="acme")

    def add(self, number: int, tenant: str | None = "acme", **columns: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.insert().values(id=number, tenant=tenant, **columns))

    def set(self, number: int, **columns: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.update().where(self.table.c.id == number).values(columns))

    def get(self, number: int) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(self.table.select().where(self.table.c.id == number)).one()

    def rows(self) -> dict[int, Any]:
        with self.engine.connect() as connection:
            return {row.id: row for row in connection.execute(self.table.select())}

    def sql(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def open(self, name: str, number: int, tenant: str = "acme") -> object:
        return self.records.field(f"people.{name}", row=int, tenant=tenant).open(
            getattr(self.get(number), name), row=number
        )

    def reseal(self, *columns: SealedColumn, **options: Any) -> Any:
        return reseal(self.records, self.engine, columns, **{"settle": 0.0, **options})

    def close(self) -> None:
        self.records.close()
        self.engine.dispose()


def sealed(name: str, moves_from: OldForm | None, **options: Any) -> SealedColumn:
    return SealedColumn("people", name, **{**BY_ID, **options}, moves_from=moves_from)


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(database, sa.Column("note", sa.Text), sa.Column("blob", sa.LargeBinary))
    yield app
    app.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[App]:
    app = App(f"sqlite:///{tmp_path}/app.db", sa.Column("note", sa.Text), sa.Column("blob", sa.LargeBinary))
    yield app
    app.close()


@pytest.mark.slow
@pytest.mark.parametrize(("database", "rows"), [("postgresql", 30_000), ("mariadb", 2000), ("sqlite", 500)])
def test_nothing_is_lost_while_old_and_new_versions_write(
    database: str, rows: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/app.db" if database == "sqlite" else request.getfixturevalue(database)
    command = [sys.executable, "-m", "tests.records.moving_rows", url, str(rows), "5", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= 3
    assert report["committed"] > 20
    assert report["checked"] > rows * 0.9
    assert (report["left"], report["failed"]) == (0, 0), report
    assert report["refused"] == (0 if database == "sqlite" else 2)


# --- in


def test_text_and_bytes_move_in_their_columns(app: App) -> None:
    """Equal values get records of their own, each for its row; what is a record already, and NULL, stay."""
    for number, text in enumerate(TEXTS):
        app.add(number, note=text, blob=BLOBS[number % len(BLOBS)])
    app.add(100)
    seal = app.records.field("people.note", row=int, tenant="acme").seal_text
    app.add(101, note=seal("sealed", row=101))
    before = app.get(101).note
    columns = sealed("note", Plaintext()), sealed("blob", Plaintext())
    counted = stale(app.records.store, app.engine, columns)
    assert (counted.old, counted.records, counted.not_records, counted.null) == (len(TEXTS) * 2, 1, 0, 3)
    checked = verify(app.records, app.engine, columns)
    assert [(count.old, count.opened, count.unmoved) for count in checked.columns] == [(9, 1, 0), (9, 0, 0)]
    report = app.reseal(*columns)
    assert [(count.moved, count.newest, count.null, count.unmoved) for count in report.columns] == [
        (9, 1, 1, 0),
        (9, 0, 2, 0),
    ]
    assert (report.left, report.stale, report.passes, report.failures) == (0, 0, 1, ())
    for number, text in enumerate(TEXTS):
        assert app.open("note", number) == text
        assert app.open("blob", number) == BLOBS[number % len(BLOBS)]
    assert app.get(101).note == before
    assert [count.opened for count in verify(app.records, app.engine, columns).columns] == [10, 9]
    assert app.reseal(*columns).columns[0].moved == 0


def test_the_check_that_is_printed_holds_records_only(app: App) -> None:
    app.add(1, note="old", blob=b"old")
    report = app.reseal(sealed("note", Plaintext()), sealed("blob", Plaintext()))
    assert set(report.next_steps) == {"people.note", "people.blob"}
    if app.engine.dialect.name == "sqlite":
        checks = ", ".join(report.next_steps.values())
        app.sql(f"CREATE TABLE new (id INTEGER PRIMARY KEY, tenant TEXT, note TEXT, blob BLOB, {checks})")
        app.sql("INSERT INTO new SELECT * FROM people")
        app.sql("DROP TABLE people")
        app.sql("ALTER TABLE new RENAME TO people")
    else:
        for statement in " ".join(report.next_steps.values()).split(";")[:-1]:
            app.sql(statement)
    record = app.get(1)
    app.add(2, note=record.note, blob=record.blob)
    app.add(3)
    for wrong in ({"note": "old"}, {"note": "SWR1." + record.note[5:]}, {"note": ""}, {"blob": b"old"}, {"blob": b""}):
        with pytest.raises(DBAPIError):
            app.add(4, **wrong)


def test_names_and_constraints_are_quoted(app: App) -> None:
    column = sa.Column('Odd "name" of % it', sa.Text)
    odd = sa.Table("Select", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, autoincrement=False), column)
    odd.drop(app.engine, checkfirst=True)
    odd.create(app.engine)
    with app.engine.begin() as connection:
        connection.execute(odd.insert().values((1, "old")))
    app.records.ensure()
    field = SealedColumn("Select", column.name, row={"id": int}, moves_from=Plaintext(), field="odd")
    report = app.reseal(field)
    assert report.columns[0].moved == 1
    with app.engine.begin() as connection:
        if app.engine.dialect.name != "sqlite":
            for statement in report.next_steps[field.named].split(";")[:-1]:
                connection.execute(sa.text(statement))


def test_fernet_and_plaintext_in_one_column(app: App) -> None:
    """A token whose key is not there is left alone: it is not taken for plaintext."""
    form = AnyOf(Fernet(KEY), Plaintext())
    lost = Token(OTHER_KEY).encrypt(b"lost").decode()
    for number, text in enumerate(TEXTS):
        app.add(number, note=Token(KEY).encrypt(text.encode()).decode() if number % 2 else text)
    app.add(50, note=lost)
    report = app.reseal(sealed("note", form))
    assert (report.columns[0].moved, report.columns[0].unmoved, report.left) == (9, 1, 1)
    assert (report.passes, report.next_steps) == (1, {})
    (failure,) = report.failures
    assert failure.key == (50,)
    assert "fernet" in failure.reason
    assert lost not in failure.reason
    assert app.get(50).note == lost
    assert [app.open("note", number) for number in range(len(TEXTS))] == TEXTS
    checked = verify(app.records, app.engine, [sealed("note", form)])
    assert (checked.columns[0].opened, checked.columns[0].old, checked.columns[0].unmoved) == (9, 0, 1)


def test_the_type_of_values_comes_back(app: App) -> None:
    moment = datetime.datetime(2026, 2, 28, 12, tzinfo=datetime.UTC)
    values: list[tuple[type, object]] = [
        (int, -7),
        (bool, True),
        (Decimal, Decimal("0.10")),
        (datetime.date, datetime.date(2026, 2, 28)),
        (datetime.datetime, moment),
        (uuid.UUID, uuid.uuid4()),
        (dict, {"name": "ნინო", "n": [1, None]}),
        (bytes, b"\x00\xff"),
    ]
    for number, (kind, value) in enumerate(values):
        token = Fernet(KEY).write(value, text=True)
        app.add(number, note=token, blob=token.encode() if isinstance(token, str) else token)
        columns = (sealed("note", Fernet(KEY), kind=kind), sealed("blob", Fernet(KEY), kind=kind))
        assert [count.moved for count in app.reseal(*columns).columns] == [1, 1]
        for name in ("note", "blob"):
            opened = app.open(name, number)
            assert (type(opened), opened) == (kind, value)


def test_values_move_from_a_column_of_another_type(database: str) -> None:
    moment = datetime.datetime.fromisoformat("2026-02-28T12:30:01.250000")  # as such columns have it
    zone = datetime.timezone(datetime.timedelta(hours=4))
    values: dict[str, tuple[sa.Column[Any], object, object, dict[str, Any]]] = {
        "day": (sa.Column("day", sa.Date), datetime.date(1987, 2, 28), datetime.date(1987, 2, 28), {}),
        "count": (sa.Column("count", sa.BigInteger), 2**40, 2**40, {}),
        "price": (sa.Column("price", sa.Numeric(12, 2)), Decimal("12.50"), Decimal("12.50"), {}),
        "moment": (
            sa.Column("moment", sa.DateTime().with_variant(sa.dialects.mysql.DATETIME(fsp=6), "mysql", "mariadb")),
            moment,
            moment.replace(tzinfo=zone),
            {},
        ),
        "flag": (sa.Column("flag", sa.Boolean), True, True, {"kind": bool}),
        "extra": (sa.Column("extra", sa.JSON), {"a": ["ნ", 1]}, {"a": ["ნ", 1]}, {"kind": dict}),
        "name": (sa.Column("name", sa.String(9)), "Hường", "Hường", {}),
    }
    sealed_columns = [sa.Column(f"{name}_sealed", sa.LargeBinary) for name in values]
    app = App(database, *(column for column, _, _, _ in values.values()), *sealed_columns)
    before: dict[str, Any] = {name: value for name, (_, value, _, _) in values.items()}
    app.add(1, **before)
    app.add(2)
    columns = [
        sealed(f"{name}_sealed", Plaintext(zone=zone), moved_from=name, **options)
        for name, (_, _, _, options) in values.items()
    ]
    counted = stale(app.records.store, app.engine, columns)
    assert (counted.old, counted.null, counted.not_records) == (7, 7, 0)
    report = app.reseal(*columns)
    assert [(count.moved, count.null) for count in report.columns] == [(1, 1)] * 7
    assert (report.left, report.failures) == (0, ())
    for name, (_, _, value, _) in values.items():
        assert (app.open(f"{name}_sealed", 1), getattr(app.get(1), name)) == (value, None), name
    assert report.next_steps["people.day_sealed"] == "ALTER TABLE people DROP COLUMN day;"
    assert stale(app.records.store, app.engine, columns).old == 0
    app.close()


def test_two_values_of_a_row_are_never_chosen_between(app: App) -> None:
    app.add(1, note="old")
    app.add(2, note="new", blob=app.records.field("people.blob", row=int, tenant="acme").seal("older", row=2))
    app.records.roll(tenant="acme")
    column = sealed("blob", Plaintext(), moved_from="note")
    report = app.reseal(column)
    assert (report.columns[0].moved, report.columns[0].unmoved, report.columns[0].resealed) == (1, 1, 1)
    assert [(each.key, each.reason) for each in report.failures] == [
        ((2,), "both columns have a value, and only one of them can be right")
    ]
    assert (report.left, report.stale, report.next_steps) == (1, 0, {})
    assert (app.get(2).note, app.open("blob", 2), app.open("blob", 1)) == ("new", "older", "old")


def test_a_record_that_comes_meanwhile_is_not_written_over(app: App) -> None:
    app.add(1, note="old")
    record = app.records.field("people.blob", row=int, tenant="acme").seal("newer", row=1)

    class Late(Plaintext):
        """Somebody writes the record, and leaves the old value, while it is being read."""

        def read(self, stored: object, kind: type) -> object:
            app.set(1, blob=record)
            return super().read(stored, kind)

    report = app.reseal(sealed("blob", Late(), moved_from="note"))
    assert (report.columns[0].moved, report.columns[0].changed, report.columns[0].unmoved) == (0, 1, 1)
    assert (app.get(1).note, app.open("blob", 1)) == ("old", "newer")


def test_what_is_written_meanwhile_is_kept(app: App) -> None:
    """Between the page and the statement: an old value, a record, NULL, a deleted row, and the same value elsewhere."""
    for number in range(60):
        app.add(number, note=f"value {number}", blob=b"same")
    field = app.records.field("people.note", row=int, tenant="acme")
    done: list[bool] = []

    class Late(Plaintext):
        """Somebody writes while the first value of a page is being read."""

        def read(self, stored: object, kind: type) -> object:
            if not done:
                done.append(True)
                app.set(3, note="meanwhile")
                app.set(4, note=field.seal_text("sealed meanwhile", row=4))
                app.set(5, note=None)
                app.set(6, note="value 7")
                app.sql("DELETE FROM people WHERE id = 8")
            return super().read(stored, kind)

    report = app.reseal(sealed("note", Late()), sealed("blob", Plaintext()))
    assert (report.columns[0].changed, report.columns[0].moved, report.passes) == (5, 57, 2)
    assert (app.open("note", 3), app.open("note", 4), app.get(5).note) == ("meanwhile", "sealed meanwhile", None)
    assert (app.open("note", 6), app.open("note", 7)) == ("value 7", "value 7")
    assert 8 not in app.rows()
    assert {app.open("blob", number) for number in app.rows()} == {b"same"}


def test_records_that_do_not_open_are_never_taken_for_plaintext(app: App) -> None:
    cut = app.records.field("people.note", row=int, tenant="acme").seal_text("x", row=7)[:40]
    damaged = {1: "swr1.typed by somebody", 2: cut, 3: "swr1."}
    blobs = {1: b"\xc1" + bytes(80), 2: b"\xc1 short", 3: b"swr1.in bytes"}
    for number, text in damaged.items():
        app.add(number, note=text, blob=blobs[number])
    columns = sealed("note", Plaintext()), sealed("blob", Plaintext())
    report = app.reseal(*columns)
    assert [(count.moved, count.unopened + count.unmoved) for count in report.columns] == [(0, 2), (0, 3)]
    assert report.columns[0].newest == 1  # under its key id, but cut off; ``verify`` opens every record
    assert [count.unopened + count.unmoved for count in verify(app.records, app.engine, columns).columns] == [3, 3]
    assert len(report.failures) == 5
    assert report.next_steps == {}
    assert not any("somebody" in each.reason or "short" in each.reason for each in report.failures)
    for number, text in damaged.items():
        assert (app.get(number).note, app.get(number).blob) == (text, blobs[number])
    assert stale(app.records.store, app.engine, columns).old == 0


def test_values_that_no_record_can_hold_are_named(local: App) -> None:
    local.add(1, note="x" * (2 << 20))
    local.add(2, note="fits")
    local.sql("INSERT INTO people (id, tenant, note) VALUES (3, 'acme', x'ff')")
    local.sql("INSERT INTO people (id, tenant, blob) VALUES (4, 'acme', 'text')")
    report = local.reseal(sealed("note", Plaintext()), sealed("blob", Plaintext()))
    assert [(count.moved, count.unmoved) for count in report.columns] == [(1, 2), (0, 1)]
    assert sorted(each.key for each in report.failures) == [(1,), (3,), (4,)]
    assert "xxx" not in "".join(each.reason for each in report.failures)


# --- scopes


def test_a_scope_gets_its_first_key_if_the_shared_pairs_have_one(local: App) -> None:
    for number, tenant in enumerate(("acme", "bolt", "core", None, "gone")):
        local.add(number, tenant=tenant, note="old")
    local.records.ensure(tenant="gone")
    local.records.shred(tenant="gone")
    report = local.reseal(sealed("note", Plaintext()))
    assert (report.columns[0].moved, report.columns[0].unmoved) == (3, 2)
    assert local.open("note", 1, "bolt") == "old"
    assert {each.key[0]: each.reason.split("{")[0] for each in report.failures} == {
        3: "a column of its scope is NULL",
        4: "the data keys of its scope ",
    }


def test_a_mistaken_scope_gets_no_key(local: App) -> None:
    for number in range(60):
        local.add(number, note="old")
    with Records(FakeKeyring(), local.records.store, scope={"app": "shpo"}) as mistaken:
        report = reseal(mistaken, local.engine, [sealed("note", Plaintext())], settle=0.0)
        assert mistaken.rows(tenant="acme") == []
    assert (report.columns[0].moved, report.columns[0].unmoved) == (0, 60)
    (reason,) = {each.reason for each in report.failures}
    assert reason.startswith(
        "the key store has no data key for its scope {app=shpo, tenant=acme}, and none for any with these"
    )
    assert local.get(1).note == "old"


@pytest.mark.parametrize(
    ("made", "scope"),
    [({"tenant": "acme"}, {}), ({}, {"tenant": "tenant"}), ({"tenant": "acme", "team": "red"}, {"tenant": "tenant"})],
)
def test_a_pair_too_few_or_too_many_gets_no_key(tmp_path: Path, made: dict[str, str], scope: dict[str, str]) -> None:
    """Such as a tenant that the map leaves out, or one that is local and not said to be."""
    app = App(f"sqlite:///{tmp_path}/app.db", sa.Column("note", sa.Text))
    app.add(1, note="old")
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as records:
        records.ensure(**made)
        report = reseal(records, app.engine, [sealed("note", Plaintext(), scope=scope)], settle=0.0)
        assert (report.columns[0].moved, report.columns[0].unmoved, report.left) == (0, 1, 1)
        assert [row.scope for row in records.store.list({})] == [{"app": "shop", **made}]
    assert app.get(1).note == "old"
    app.close()


@pytest.mark.parametrize("wrong", [{"field": "people.name"}, {"row": {"tenant": str}}, {"row": UNBOUND}, {"scope": {}}])
def test_a_map_that_programs_do_not_seal_by_moves_nothing(local: App, wrong: dict[str, Any]) -> None:
    local.records.ensure()
    field = local.records.field("people.note", row=int, tenant="acme")
    for number in range(60):
        local.add(number, note="old" if number < 50 else field.seal_text("new", row=number))
    with pytest.raises(TableError, match=r"none of the first records that people\.note has opens"):
        local.reseal(sealed("note", Plaintext(), **wrong))
    with Records(FakeKeyring(), local.records.store, scope={"app": "staging"}) as mistaken:
        mistaken.ensure(tenant="acme")
        with pytest.raises(TableError, match="none of the first records"):
            reseal(mistaken, local.engine, [sealed("note", Plaintext())], settle=0.0)
    assert local.get(1).note == "old"
    assert local.reseal(sealed("note", Plaintext())).columns[0].moved == 50


def test_verify_and_stale_make_no_key(local: App) -> None:
    local.add(1, tenant="bolt", note="old")
    checked = verify(local.records, local.engine, [sealed("note", Plaintext())])
    assert (checked.columns[0].old, checked.columns[0].unmoved) == (0, 1)
    assert local.records.rows(tenant="bolt") == []


# --- before anything is written


def test_a_column_that_is_too_short_is_found_before_anything_is_written(database: str) -> None:
    app = App(
        database, sa.Column("a", sa.String(120)), sa.Column("b", sa.LargeBinary(70)), sa.Column("c", sa.String(99))
    )
    app.add(1, a="a", b=b"b" * 12, c="short")
    app.add(2, a="ნ" * 10, b=b"b" * 13, c="x")
    columns = [sealed("a", Plaintext()), sealed("b", Plaintext()), sealed("c", AnyOf(Fernet(KEY), Plaintext()))]
    before = app.rows()
    if app.engine.dialect.name == "sqlite":  # it does not keep to lengths
        assert [count.moved for count in app.reseal(*columns).columns] == [2, 2, 2]
    else:
        message = (
            "the column people.a is too short: it holds 120 characters, and the record of its longest value needs 123; "
            "any value of 120 characters fits in 723. Nothing was changed: give it a longer type first"
        )
        with pytest.raises(TableError) as refused:
            app.reseal(*columns)
        assert str(refused.value) == message
        assert app.rows() == before
        if app.engine.dialect.name == "mariadb":
            with pytest.raises(TableError, match=r"people\.b is too short: it holds 70 bytes, and .* needs 71"):
                app.reseal(columns[1])
        app.set(2, a="short", b=b"")
        assert app.reseal(*columns[:2]).left == 0
    app.close()


def test_a_value_that_grows_meanwhile_is_left_alone(postgresql: str) -> None:
    app = App(postgresql, sa.Column("a", sa.String(120)))
    for number in range(60):
        app.add(number, a="short")
    calls: list[int] = []

    class Late(Plaintext):
        def recognizes(self, stored: object) -> bool:
            return super().recognizes(stored)

        def read(self, stored: object, kind: type) -> object:
            calls.append(1)
            if len(calls) == 1:
                app.set(55, a="x" * 120)
            return super().read(stored, kind)

    report = app.reseal(sealed("a", Late()))
    assert (report.columns[0].moved, report.columns[0].unmoved) == (59, 1)
    assert report.failures[0].reason == "its record needs 243 characters, and the column holds 120"
    assert app.get(55).a == "x" * 120
    app.close()


def test_what_cannot_come_to_its_end_is_refused(database: str) -> None:
    app = App(
        database,
        sa.Column("kept", sa.Date, nullable=False),
        sa.Column("fixed", sa.CHAR(200)),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("blob", sa.LargeBinary),
        sa.Column("size", sa.Float),
    )
    app.add(1, kept=datetime.date(2026, 1, 1), fixed="x", name="x", size=1.5)
    cases = [
        (sealed("blob", Plaintext(), moved_from="kept"), "the column people.kept is NOT NULL"),
        (sealed("name", Plaintext()), "is part of the primary key"),
        (sealed("blob", Fernet(KEY)), "does not tell of what type its values are"),
        (sealed("blob", Fernet(KEY), moved_from="kept"), "does not tell of what type"),
        (sealed("blob", Plaintext(), moved_from="nothing"), "has no column 'nothing'"),
    ]
    if app.engine.dialect.name != "sqlite":  # it does not fill values up
        cases.append((sealed("fixed", Plaintext()), "which fills values up"))
    before = app.rows()
    for column, message in cases:
        with pytest.raises(TableError, match=message):
            app.reseal(column)
    assert app.rows() == before
    app.close()


def test_arguments_that_do_not_go_together_are_refused() -> None:
    for options, message in (
        ({"kind": str}, "moves_from is needed too"),
        ({"moved_from": "born"}, "moves_from is needed too"),
        ({"moves_from": Plaintext(), "moved_from": "card"}, "leave out moved_from"),
        ({"moves_from": Plaintext(), "row": {"card": str}}, "cannot be bound to 'card', which moves"),
        ({"moves_from": Plaintext(), "moved_from": "born", "row": {"born": str}}, "cannot be bound to 'born'"),
        ({"moves_from": Plaintext(), "scope": {"tenant": "card"}}, "cannot be bound to 'card'"),
    ):
        with pytest.raises(ValueError, match=message):
            SealedColumn("t", "card", **{"row": UNBOUND, **options})  # type: ignore[arg-type]
    assert KEY not in repr(sealed("note", Fernet(KEY)))


# --- resuming


def test_a_move_that_was_cut_off_goes_on(local: App, tmp_path: Path) -> None:
    for number in range(200):
        local.add(number, note=f"value {number}")
    journal = tmp_path / "journal"
    column = sealed("note", Plaintext())

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.reseal(column, journal=journal, on_progress=stop)
    assert b"value" not in journal.read_bytes()
    for other, to in ((sealed("note", Fernet(KEY)), None), (column, Plaintext()), (sealed("note", None), None)):
        with pytest.raises(FileError, match="of other columns or forms"):
            local.reseal(other, journal=journal, to=to)
    report = local.reseal(column, journal=journal)
    assert (report.columns[0].moved, report.left) == (200, 0)
    assert not journal.exists()


# --- out


@pytest.mark.parametrize("form", [Plaintext(), Fernet(KEY)], ids=lambda form: form.name)
def test_records_move_out(app: App, form: OldForm, caplog: pytest.LogCaptureFixture) -> None:
    for number, text in enumerate(TEXTS):
        app.add(number, note=text, blob=BLOBS[number % len(BLOBS)])
    app.add(50)
    columns = sealed("note", form), sealed("blob", form, kind=bytes)
    before = app.rows()
    app.reseal(sealed("note", Plaintext()), sealed("blob", Plaintext()))
    with caplog.at_level(logging.WARNING, "sealwax"):
        report = app.reseal(*columns, to=form)
    assert f"moving the records of people.note, people.blob to {form.name}" in caplog.text
    assert [(count.moved, count.null) for count in report.columns] == [(9, 1), (9, 1)]
    assert (report.left, report.stale, report.failures, report.next_steps) == (0, 0, (), {})
    counted = stale(app.records.store, app.engine, columns)
    assert (counted.records, counted.old) == (0, 18)
    after = app.rows()
    if form.name == "plaintext":
        assert after == before
    for number, row in after.items():
        if number != 50:
            assert form.read(row.note, str) == TEXTS[number]
            assert form.read(row.blob, bytes) == BLOBS[number % len(BLOBS)]


def test_what_would_look_like_a_record_stays_one(app: App) -> None:
    note, blob = (app.records.field(f"people.{name}", row=int, tenant="acme") for name in ("note", "blob"))
    app.add(1, note=note.seal_text("swr1.typed", row=1), blob=blob.seal(b"\xc1", row=1))
    app.add(2, note=note.seal_text(b"bytes", row=2), blob=blob.seal(7, row=2))
    app.add(3, note=note.seal_text("text", row=4))
    before = app.rows()
    report = app.reseal(sealed("note", None), sealed("blob", None), to=Plaintext())
    assert [(count.moved, count.unmoved, count.unopened) for count in report.columns] == [(0, 2, 1), (1, 1, 0)]
    assert (report.left, report.passes) == (4, 1)
    after = app.rows()
    assert after[2].blob == b"7"
    for number in (1, 3):
        assert after[number] == before[number]
    assert not any("typed" in each.reason for each in report.failures)


def test_records_move_out_to_a_column_of_another_type(database: str) -> None:
    app = App(
        database, sa.Column("day", sa.Date), sa.Column("sealed", sa.LargeBinary), sa.Column("short", sa.String(3))
    )
    day = datetime.date(1987, 2, 28)
    app.add(1, day=day)
    column = sealed("sealed", Plaintext(), moved_from="day")
    app.reseal(column)
    field = app.records.field("people.sealed", row=int, tenant="acme")
    app.add(2, sealed=field.seal("no date", row=2))
    report = app.reseal(column, to=Plaintext())
    assert (report.columns[0].moved, report.columns[0].unmoved, report.left) == (1, 1, 1)
    assert (app.get(1).day, app.get(1).sealed, app.get(2).day) == (day, None, None)
    with pytest.raises(TableError, match="which cannot hold fernet"):
        app.reseal(column, to=Fernet(KEY))
    if app.engine.dialect.name != "sqlite":
        report = app.reseal(sealed("sealed", Plaintext(), moved_from="short"), to=Plaintext())
        assert report.failures[0].reason == "it needs 7 characters, and the column holds 3"
    app.close()


def test_the_way_out_and_the_way_in_meet_the_states_of_models(local: App) -> None:
    """What state 1 writes is what reseal moves, and the other way around."""
    form = Fernet(KEY)
    old = Moving(form, writes="old")
    stored = old.write(local.records, "people.note", "value", text=True)
    local.add(1, note=stored)
    column = sealed("note", form)
    assert local.reseal(column).columns[0].moved == 1
    assert not old.is_old(local.get(1).note)
    local.reseal(column, to=form)
    assert old.read(local.records, "people.note", local.get(1).note, str) == "value"


def test_a_pair_may_be_a_uuid_in_a_column_of_text() -> None:
    """tests/django/test_commands.py seals such columns again."""
    made = SealedColumn("t", "c", row={"id": int}, scope={"tenant": "tenant_id"}, scope_types={"tenant": uuid.UUID})
    assert made.scope_types == {"tenant": uuid.UUID}
    for types in ({"other": uuid.UUID}, {"tenant": int}):
        with pytest.raises(ValueError, match="scope_types"):
            SealedColumn("t", "c", row={"id": int}, scope={"tenant": "tenant_id"}, scope_types=types)
