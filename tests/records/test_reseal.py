"""Records of tables: sealed again while others write, counted by key, and opened; on three databases."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sealwax.errors import AccessDeniedError, FileError, TableError, ThrottledError
from sealwax.records import UNBOUND, MemoryKeys, Records
from sealwax.records.tables import ResealCounts, SealedColumn, read_fields, reseal, stale, verify
from tests.fakes import FakeKeyring
from tests.memory.conftest import ROOT

SCOPE = {"app": "shop"}
CARD = SealedColumn("users", "card", row={"id": int}, scope={"tenant": "tenant"})
NOTE = SealedColumn("users", "note", row={"tenant": str, "id": int}, scope={"tenant": "tenant"})


@pytest.mark.slow
@pytest.mark.parametrize(("database", "rows"), [("postgresql", 30_000), ("mariadb", 2000), ("sqlite", 500)])
def test_a_killed_reseal_beside_writers_loses_no_update(
    database: str, rows: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/app.db" if database == "sqlite" else request.getfixturevalue(database)
    command = [sys.executable, "-m", "tests.records.resealing", url, str(rows), "5", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] >= 3
    assert report["written"] > 20
    assert report["checked"] > rows * 0.5
    assert (report["stale"], report["unopened"]) == (0, 0)
    assert report["retirable"] == [["acme", 1], ["bolt", 1], ["core", 1]]


class App:
    """An application with a table, whose keys are in memory."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        self.table = sa.Table(
            "users",
            sa.MetaData(),
            sa.Column("region", sa.String(20), primary_key=True),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("tenant", sa.String(20)),
            sa.Column("card", sa.LargeBinary),
            sa.Column("note", sa.Text),
        )
        self.table.drop(self.engine, checkfirst=True)
        self.table.create(self.engine)
        self.keyring = FakeKeyring()
        self.store = MemoryKeys()
        self.records = self.another()

    def another(self, keyring: Any = None) -> Records:
        return Records(keyring or self.keyring, self.store, scope=SCOPE)

    def seal(self, number: int, value: str, tenant: str = "acme", records: Records | None = None) -> dict[str, object]:
        records = records or self.records
        return {
            "card": records.field("users.card", row=int, tenant=tenant).seal(value, row=number),
            "note": records.field("users.note", row=tuple, tenant=tenant).seal_text(value, row=(tenant, number)),
        }

    def add(self, number: int, value: str | None = None, tenant: str = "acme", **columns: object) -> None:
        sealed = self.seal(number, value or f"value {number}", tenant)
        row = {"region": f"r{number % 3}", "id": number, "tenant": tenant, **sealed, **columns}
        with self.engine.begin() as connection:
            connection.execute(self.table.insert().values(row))

    def set(self, number: int, **columns: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.update().where(self.table.c.id == number).values(columns))

    def get(self, number: int) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(self.table.select().where(self.table.c.id == number)).one()

    def opened(self, number: int, tenant: str = "acme") -> tuple[object, object]:
        row = self.get(number)
        card, note = (self.records.field(f"users.{name}", row=kind, tenant=tenant) for name, kind in
                      (("card", int), ("note", tuple)))  # fmt: skip
        return card.open(row.card, row=number), note.open(row.note, row=(tenant, number))

    def reseal(self, **options: Any) -> Any:
        return reseal(options.pop("records", self.records), self.engine, [CARD, NOTE], **{"settle": 0.0, **options})


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(database)
    yield app
    app.records.close()
    app.engine.dispose()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[App]:
    app = App(f"sqlite:///{tmp_path}/app.db")
    yield app
    app.records.close()
    app.engine.dispose()


def test_every_kind_of_value_becomes_what_it_should(app: App) -> None:
    for number in range(120):
        app.add(number, tenant="acme" if number % 2 else "bolt")
    app.set(3, card=None, note=None)
    app.set(5, card=b"plain", note="SWR1.not a record")
    app.set(7, card=app.get(9).card)  # of another row
    for tenant in ("acme", "bolt"):
        app.records.roll(tenant=tenant)
    app.add(200)
    before = app.get(5), app.get(7).card
    counted = stale(app.store, app.engine, [CARD, NOTE], scope=SCOPE)
    assert (counted.stale, counted.null, counted.not_records) == (118 + 118, 2, 2)
    assert sum(use.records for use in counted.uses if use.newest) == 2
    report = app.reseal()
    assert report.columns == (
        ResealCounts("users.card", 117, 0, 121, 1, 1, 1, 1),
        ResealCounts("users.note", 118, 0, 121, 1, 1, 1, 0),
    )
    assert (report.stale, report.passes) == (1, 1)
    assert [(each.key, each.column) for each in report.failures] == [(("r1", 7), "users.card")]
    assert [(row.scope["tenant"], row.generation) for row in report.retirable] == [("bolt", 1)]
    assert (app.get(5), app.get(7).card) == before
    for number in (0, 1, 119, 200):
        assert app.opened(number, "acme" if number % 2 or number == 200 else "bolt") == (f"value {number}",) * 2
    app.set(7, card=None)
    report = app.reseal()
    assert (report.stale, [row.generation for row in report.retirable]) == (0, [1, 1])
    checked = verify(app.records, app.engine, [CARD, NOTE])
    assert [(count.opened, count.unopened) for count in checked.columns] == [(118, 0), (119, 0)]


def test_what_changed_meanwhile_is_kept_and_resealed_by_the_next_pass(app: App) -> None:
    """Another process that has not seen the new key writes between the page and the update, and while it waits."""
    for number in range(60):
        app.add(number)
    slow = app.another()
    slow.ensure(tenant="acme")
    app.records.roll(tenant="acme")

    class Late(FakeKeyring):
        """Somebody writes while the first record of a page is being opened."""

        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            app.set(3, **app.seal(3, "meanwhile", records=slow))
            return super().unwrap(wrapped_keys, context, use)

    waits: list[float] = []

    def wait(seconds: float) -> None:
        if not waits:
            app.set(4, **app.seal(4, "later", records=slow))
        waits.append(seconds)

    with app.another(Late()) as records:
        report = app.reseal(records=records, on_wait=wait)
    slow.close()
    assert report.columns[0].changed == 1
    assert report.columns[0].resealed == 61
    assert (report.passes, report.stale, len(waits)) == (2, 0, 2)
    assert app.opened(3) == ("meanwhile",) * 2
    assert app.opened(4) == ("later",) * 2
    assert [row.generation for row in report.retirable] == [1]


def test_the_second_count_finds_what_was_sealed_after_the_first(local: App) -> None:
    local.add(1)
    slow = local.another()
    slow.ensure(tenant="acme")
    local.records.roll(tenant="acme")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        if not waits:
            local.set(1, **local.seal(1, "later", records=slow))
        waits.append(seconds)

    report = local.reseal(on_wait=wait)
    slow.close()
    assert (report.passes, report.stale, local.opened(1)) == (2, 0, ("later",) * 2)


def test_records_that_have_not_seen_the_new_key_look_first(local: App) -> None:
    local.add(1)
    with local.another() as other:
        other.roll(tenant="acme")
    assert local.reseal().stale == 0


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_where_it_was(local: App, tmp_path: Path) -> None:
    for number in range(200):
        local.add(number)
    local.records.roll(tenant="acme")
    journal, seen = tmp_path / "journal", []

    def progress(counts: Sequence[ResealCounts]) -> None:
        seen.append(counts[0].rows)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.reseal(journal=journal, on_progress=progress)
    assert b"value" not in journal.read_bytes()
    assert journal.stat().st_mode & 0o777 == 0o600
    report = local.reseal(journal=journal, on_progress=progress)
    assert seen[:2] == [50, 100]
    assert (report.columns[0].rows, report.columns[0].resealed) == (200, 200)
    assert not journal.exists()


@pytest.mark.filterwarnings("ignore:Query string")
@pytest.mark.parametrize("option", ["password", "sslpassword", "application"])
def test_a_journal_keeps_no_option_of_the_url(local: App, tmp_path: Path, option: str) -> None:
    local.add(1)
    journal = tmp_path / "journal"
    path = tmp_path / "app.db"
    engine = sa.create_engine(f"sqlite:///app.db?{option}=hunter2", creator=lambda: sqlite3.connect(path))

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reseal(local.records, engine, [CARD], journal=journal, settle=0.0, on_progress=stop)
    assert "hunter2" not in journal.read_text()
    assert reseal(local.records, engine, [CARD], journal=journal, settle=0.0).stale == 0
    engine.dispose()


def test_a_journal_of_something_else_is_refused(local: App, tmp_path: Path) -> None:
    local.add(1)
    journal = tmp_path / "journal"
    journal.write_text("{}")
    with pytest.raises(FileError, match="is not the journal of a reseal"):
        local.reseal(journal=journal)
    assert journal.read_text() == "{}"
    journal.unlink()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.reseal(journal=journal, on_progress=stop)
    with pytest.raises(FileError, match="of other columns or forms"):
        reseal(local.records, local.engine, [NOTE], journal=journal)


@pytest.mark.parametrize(
    "changed",
    [
        {"passes": "1"},
        {"positions": []},
        {"positions": [{"counts": {"column": "users.card", "rows": "1"}, "after": None, "done": False}] * 2},
        {"positions": [{"counts": {"column": "users.note"}, "after": None, "done": False}] * 2},
        {"positions": [{"counts": {"column": "users.card"}, "after": ["ff"], "done": False}] * 2},
        {"positions": [{"counts": {"column": "users.card"}, "after": None, "done": 1}] * 2},
    ],
)
def test_a_journal_that_was_changed_is_refused(local: App, tmp_path: Path, changed: dict[str, object]) -> None:
    local.add(1)
    journal = tmp_path / "journal"

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.reseal(journal=journal, on_progress=stop)
    journal.write_text(json.dumps(json.loads(journal.read_text()) | changed))
    with pytest.raises(FileError, match="is not the journal of a reseal"):
        local.reseal(journal=journal)


def test_a_run_that_was_cut_off_before_the_second_count_goes_on(local: App, tmp_path: Path) -> None:
    """Another process seals under the older key while nobody counts."""
    local.add(1)
    slow = local.another()
    slow.ensure(tenant="acme")
    local.records.roll(tenant="acme")
    journal = tmp_path / "journal"

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.reseal(journal=journal, on_wait=stop)
    local.set(1, **local.seal(1, "later", records=slow))
    slow.close()
    report = local.reseal(journal=journal)
    assert (report.passes, report.stale, local.opened(1)) == (2, 0, ("later",) * 2)


def test_keys_of_other_tables_are_not_called_unused(local: App) -> None:
    local.add(1)
    for _ in range(2):
        local.records.roll(tenant="acme", region="eu")
        local.records.roll()
        local.records.roll(tenant="acme")
    assert [(row.scope["tenant"], row.generation) for row in local.reseal().retirable] == [("acme", 1), ("acme", 2)]


def test_a_scope_that_is_shredded_meanwhile_stops_no_other(local: App) -> None:
    for number in range(120):
        local.add(number, tenant="acme" if number % 2 else "bolt")
    for tenant in ("acme", "bolt"):
        local.records.roll(tenant=tenant)
    shredded: list[object] = []

    def shred(_: object) -> None:
        if not shredded:
            shredded.append(local.records.shred(tenant="bolt"))

    report = local.reseal(on_progress=shred)
    assert [(count.resealed, count.unopened) for count in report.columns] == [(85, 60), (60, 60)]
    assert all("were shredded" in each.reason for each in report.failures)


def test_a_record_in_the_form_that_its_column_is_not_for_is_named(local: App) -> None:
    local.add(1)
    local.add(2)
    local.set(1, card=local.get(1).note.encode())
    with local.engine.begin() as connection:
        connection.execute(sa.text("UPDATE users SET note = card WHERE id = 2"))
    local.records.roll(tenant="acme")
    report = local.reseal()
    assert [(count.resealed, count.unopened, count.not_records) for count in report.columns] == [(1, 1, 0), (1, 1, 0)]
    assert [each.reason for each in report.failures] == [
        "it is a record in text, and the column is of bytes",
        "it is a record in bytes, and the column is of text",
    ]
    assert report.retirable == ()


def test_records_are_found_whatever_the_character_set(mariadb: str) -> None:
    app = App(mariadb)
    with app.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE users MODIFY note TEXT CHARACTER SET utf16 COLLATE utf16_general_ci")
    app.add(1)
    app.records.roll(tenant="acme")
    assert stale(app.store, app.engine, [NOTE], scope=SCOPE).stale == 1
    report = app.reseal()
    assert (report.columns[1].resealed, report.columns[1].changed, report.stale) == (1, 0, 0)
    app.records.close()
    app.engine.dispose()


def test_a_text_that_only_a_collation_takes_for_a_record_is_none(postgresql: str) -> None:
    app = App(postgresql)
    with app.engine.begin() as connection:
        for statement in (
            "CREATE COLLATION no_case (provider=icu, locale='und-u-ks-level2', deterministic=false)",
            "ALTER TABLE users ALTER note TYPE text COLLATE no_case",
        ):
            connection.exec_driver_sql(statement)
    app.add(1, note="SWR1." + "A" * 80)
    app.add(2)
    app.records.roll(tenant="acme")
    report = app.reseal()
    assert (report.columns[1].resealed, report.columns[1].not_records, report.stale) == (1, 1, 0)
    app.records.close()
    app.engine.dispose()


def test_rows_that_the_database_hides_are_an_error(postgresql: str) -> None:
    app = App(postgresql)
    with app.engine.begin() as connection:
        for statement in (
            "CREATE ROLE hidden LOGIN",
            "GRANT ALL ON users TO hidden",
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY one ON users USING (tenant = 'acme')",
        ):
            connection.exec_driver_sql(statement)
    with pytest.raises(TableError, match="row-level security hides rows of the table 'users'"):
        stale(app.store, postgresql.replace("app@", "hidden@"), [CARD], scope=SCOPE)
    assert app.reseal().stale == 0
    app.records.close()
    app.engine.dispose()


def test_a_row_that_the_application_has_locked_is_left_to_the_next_pass(postgresql: str) -> None:
    app = App(postgresql)
    for number in range(5):
        app.add(number)
    app.records.roll(tenant="acme")
    held = app.engine.connect()
    held.execute(app.table.select().where(app.table.c.id == 2).with_for_update())

    def wait(_: float) -> None:
        held.rollback()

    report = app.reseal(on_wait=wait)
    held.close()
    assert [(count.resealed, count.changed) for count in report.columns] == [(5, 1), (5, 1)]
    assert (report.passes, report.stale) == (2, 0)
    app.records.close()
    app.engine.dispose()


@pytest.mark.parametrize("walk", [reseal, verify])
def test_a_primary_key_that_leads_nowhere_is_refused(postgresql: str, local: App, walk: Callable[..., object]) -> None:
    floats, nulls, mixed = (SealedColumn(name, "card", row=UNBOUND) for name in ("floats", "nulls", "mixed"))
    engine = sa.create_engine(postgresql)
    for database, statements in (
        (engine, ["DROP TABLE IF EXISTS floats", "CREATE TABLE floats (id real PRIMARY KEY, card bytea)"]),
        (engine, ["INSERT INTO floats SELECT n / 7.0, 'plain' FROM generate_series(1, 60) AS n"]),
        (local.engine, ["CREATE TABLE nulls (id TEXT PRIMARY KEY, card BLOB)", "INSERT INTO nulls VALUES (NULL, 'x')"]),
        (local.engine, ["CREATE TABLE mixed (id DATE PRIMARY KEY, card BLOB)", "INSERT INTO mixed VALUES (7, 'x')"]),
    ):
        with database.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
    for database, column, message in (
        (engine, floats, "does not compare its values"),
        (local.engine, nulls, "NULL in the primary key"),
        (local.engine, mixed, "not of the type of its column"),
    ):
        with pytest.raises(TableError, match=message):
            walk(local.records, database, [column])
    engine.dispose()


def test_a_scope_without_a_usable_key_is_left_alone_and_gets_none(local: App) -> None:
    for number, tenant in enumerate(("acme", "gone", "acme", "bolt")):
        local.add(number, tenant=tenant)
    local.set(2, tenant=None)
    local.set(3, tenant="nobody")
    local.records.shred(tenant="gone")
    local.records.roll(tenant="acme")
    report = local.reseal()
    cards = [each for each in report.failures if each.column == "users.card"]
    assert {each.key[1]: each.reason.split("{")[0] for each in cards} == {
        1: "the data keys of its scope ",
        2: "a column of its scope is NULL",
        3: "the key store has no data key for its scope ",
    }
    assert [count.resealed for count in report.columns] == [1, 1]
    assert local.records.rows(tenant="nobody") == []
    assert [each.unopened for each in verify(local.records, local.engine, [CARD, NOTE]).columns] == [3, 3]


def test_one_denied_tenant_stops_nobody_and_is_not_asked_for_again(local: App) -> None:
    for number in range(60):
        local.add(number, tenant="acme" if number % 2 else "bolt")
    local.records.roll(tenant="acme")
    asked: list[str] = []

    class Denied(FakeKeyring):
        def unwrap(self, wrapped_keys: Any, context: Any, use: Any) -> Any:
            asked.append(context["tenant"])
            if context["tenant"] == "bolt":
                raise AccessDeniedError("denied by a policy")
            return super().unwrap(wrapped_keys, context, use)

    with local.another(Denied()) as records:
        report = verify(records, local.engine, [CARD])
    assert (report.columns[0].opened, report.columns[0].unopened) == (30, 30)
    assert {each.reason for each in report.failures} == {"denied by a policy"}
    assert asked.count("bolt") == 2  # for the whole page, then for its first record


def test_kms_away_ends_the_run(local: App) -> None:
    local.add(1)

    class Away(FakeKeyring):
        def unwrap(self, *_: Any) -> Any:
            raise ThrottledError("throttled", retryable=True)

    for work in (reseal, verify):
        with local.another(Away()) as records, pytest.raises(ThrottledError):
            work(records, local.engine, [CARD])


def test_rows_of_every_type(app: App) -> None:
    """A database may keep a UUID as one, as text or as bytes."""
    things = sa.Table(
        "things",
        sa.MetaData(),
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("code", sa.LargeBinary(20)),
        sa.Column("tenant", sa.Integer),
        sa.Column("a", sa.LargeBinary),
        sa.Column("b", sa.LargeBinary),
        sa.Column("c", sa.LargeBinary),
    )
    things.drop(app.engine, checkfirst=True)
    things.create(app.engine)
    columns = [
        SealedColumn("things", "a", row={"id": uuid.UUID}, scope={"tenant": "tenant"}),
        SealedColumn("things", "b", row={"code": bytes, "id": uuid.UUID}, scope={"tenant": "tenant"}),
        SealedColumn("things", "c", row=UNBOUND, scope={"tenant": "tenant"}, field="other"),
    ]
    fields = [app.records.field(each.field, row=each.row_type, tenant="7") for each in columns]
    with app.engine.begin() as connection:
        for number in range(3):
            key, code = uuid.uuid4(), bytes([number])
            sealed = [each.seal("v", row=row) for each, row in zip(fields, (key, (code, key), UNBOUND), strict=True)]  # type: ignore[arg-type]
            connection.execute(things.insert().values((key, code, 7, *sealed)))
    app.records.roll(tenant="7")
    report = reseal(app.records, app.engine, columns, settle=0)
    assert [each.resealed for each in report.columns] == [3, 3, 3]
    assert report.stale == 0
    assert [each.opened for each in verify(app.records, app.engine, columns).columns] == [3, 3, 3]


@pytest.mark.slow
def test_large_values_make_small_pages(app: App) -> None:
    """Also after small ones."""
    for number in range(150):
        app.add(number, region="r0")
    for number in range(150, 250):
        app.add(number, region="r0", card=app.seal(number, "x" * 60_000)["card"])
    pages: list[int] = []
    checked = verify(app.records, app.engine, [CARD], on_progress=lambda counts: pages.append(counts[0].rows))
    assert checked.columns[0].opened == 250
    assert pages == [50, 150, 219, 250]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (SealedColumn("nothing", "card", row=UNBOUND), "there is no table 'nothing'"),
        (SealedColumn("users", "cards", row=UNBOUND), "has no column 'cards'"),
        (SealedColumn("users", "card", row={"uid": int}), "has no column 'uid'"),
        (SealedColumn("users", "card", row=UNBOUND, scope={"tenant": "t"}), "has no column 't'"),
        (SealedColumn("users", "id", row=UNBOUND), "records are in columns of text or bytes"),
        (SealedColumn("keyless", "card", row=UNBOUND), "has no primary key"),
        (SealedColumn("users", "card", row={"tenant": int}), "not of the type that the map of fields gives it"),
        (SealedColumn("users", "card", row=UNBOUND, scope={"tenant": "card"}), "a pair of a scope is text"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(local: App, column: SealedColumn, message: str) -> None:
    local.add(1)
    with local.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE keyless (card BLOB)"))
    before = local.get(1)
    with pytest.raises(TableError, match=message):
        reseal(local.records, local.engine, [column])
    assert local.get(1) == before


def test_a_scope_that_no_record_can_have_is_refused_as_a_whole(local: App) -> None:
    local.add(1)
    with (
        Records(local.keyring, local.store, scope={"app": "shop"}, local_scope=["region"]) as lacking,
        Records(local.keyring, local.store, scope={"tenant": "acme"}) as twice,
    ):
        for records, message in (
            (lacking, "lacks 'region'"),
            (twice, "the pair 'tenant' is in the scope that all"),
        ):
            for work in (reseal, verify):
                with pytest.raises(ValueError, match=message):
                    work(records, local.engine, [CARD])


def test_replicas_are_watched_where_the_database_tells(app: App) -> None:
    app.add(1)
    if app.engine.dialect.name == "postgresql":
        assert app.reseal(throttle_lag=5.0).stale == 0
    else:
        with pytest.raises(TableError, match="needs PostgreSQL"):
            app.reseal(throttle_lag=5.0)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://app:hunter2@localhost:1/none?connect_timeout=1",
        "postgresql+psycopg://localhost:1/none?password=hunter2",
        "mysql+pymysql://localhost:1/none?password=hunter2",
        "mysql+pymysql://localhost:1/none?secret=hunter2",
        "postgresql+psycopg://localhost:1/none?port=hunter2",
        "postgresql+psycopg://localhost:hunter2/none",
        "mysql+pymysql://localhost:1/none?connect_timeout=hunter2",
        "postgresql+hunter2://localhost:1/none",
        "mysql+mysqldb://app:hunter2@localhost:1/none",
        "hunter2",
    ],
)
def test_no_password_and_no_value_is_shown(url: str) -> None:
    with Records(FakeKeyring(), MemoryKeys(), scope=SCOPE) as records, pytest.raises(TableError) as refused:
        verify(records, url, [CARD])
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


# --- the map of fields


def test_the_map_is_read(tmp_path: Path) -> None:
    path = tmp_path / "fields.toml"
    path.write_text(
        """
        [[fields]]
        table = "users"
        column = "card"
        row = { column = "id", type = "int" }
        scope = { tenant = "tenant_id" }

        [[fields]]
        table = "crm.notes"
        column = "text"
        name = "notes"
        row = [{ column = "tenant", type = "str" }, { column = "id", type = "uuid" }]

        [[fields]]
        table = "logs"
        column = "line"
        row = "unbound"
        """
    )
    assert read_fields(path) == (
        SealedColumn("users", "card", row={"id": int}, scope={"tenant": "tenant_id"}),
        SealedColumn("crm.notes", "text", row={"tenant": str, "id": uuid.UUID}, field="notes"),
        SealedColumn("logs", "line", row=UNBOUND),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no \[\[fields\]\]"),
        ("[[field]]", "unknown key 'field'"),
        ("x = [", "not valid TOML"),
        ('[[fields]]\ntable = "t"', "needs 'column'"),
        ('[[fields]]\ntable = "t"\ncolumn = 7', "needs 'column'"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"', "'row' is"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "id"', "'row' is"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = []', "'row' is empty"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = { column = "id", type = "float" }', "int, str, bytes, uuid"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"\nscope = "x"', "'scope' names a column"),
        *(
            (
                f'[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"\nscope."{name}" = "x"',
                f"'{name}' cannot be the name of a pair in the scope of t.c",
            )
            for name in ("", "row", "sealwax-use", "Sealwax-USE")
        ),
        (f'[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"\nname = "{"x" * 256}"', "has 1 to 255 bytes"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"\nbind = "x"', "unknown key 'bind'"),
        ('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"\n' * 2, "a column twice"),
    ],
)
def test_a_wrong_map_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "fields.toml"
    path.write_text(text)
    with pytest.raises(TableError, match=message):
        read_fields(path)


def test_a_map_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fields.toml"
    path.write_text('[[fields]]\ntable = "t"\ncolumn = "c"\nrow = "unbound"')
    path.chmod(0o666)
    with pytest.raises(TableError, match="somebody else could have written it"):
        read_fields(path)


def test_arguments_are_checked() -> None:
    calls: list[Callable[[], object]] = [
        lambda: SealedColumn("t", "c", row={}),
        lambda: reseal(None, "", [CARD], rate=0.0),  # type: ignore[arg-type]
        lambda: reseal(None, "", [CARD], settle=-1.0),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"row|above 0"):
            call()
    with pytest.raises(TypeError, match="float"):
        SealedColumn("t", "c", row={"id": float})
