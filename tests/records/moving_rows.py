"""A table that moves to records while old and new versions write to it: ``moving_rows.py URL ROWS KILLS FOLDER``.

Half of the rows hold plaintext and half hold Fernet tokens, in a column of text, one of bytes, and a date that moves to
a column of its own. Processes of the old version (state 1: they write the old form) and of the new one (state 2: they
write records) update, insert and delete rows, and read what is there. Each says what it is about to write and that it
is committed, so that a lost or misread value shows. The run that moves is killed as often as it says; then the old
version ends, and the last run leaves records only.
"""

from __future__ import annotations

import datetime
import json
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from cryptography.fernet import Fernet as Token

from sealwax.records import Records, SqlKeys
from sealwax.records.moving import AnyOf, Fernet, Moving, Plaintext
from sealwax.records.tables import ResealCounts, SealedColumn, reseal, verify
from tests.fakes import FakeKeyring
from tests.records.resealing import drained, ended, forked, killed, void

SCOPE = {"app": "shop"}
TENANTS = ("acme", "bolt", "core")
WRITERS = 4
KEY = "TluxwB3fV_GWuLkR1_BzGs1Zk90TYAuhNMZP_0q4WyM="
TEXT, BYTES = AnyOf(Fernet(KEY), Plaintext()), AnyOf(Fernet(KEY), Plaintext())
_BY: dict[str, Any] = {"row": {"id": int}, "scope": {"tenant": "tenant"}}
COLUMNS = [
    SealedColumn("moving", "note", **_BY, moves_from=TEXT),
    SealedColumn("moving", "data", **_BY, moves_from=BYTES, kind=bytes),
    SealedColumn("moving", "born_sealed", **_BY, moves_from=Plaintext(), moved_from="born"),
]
NAMES = ("Nguyễn Thị Hường", "ნინო ბერიძე", "it's \\ \"quoted\"", "plain")


def table() -> sa.Table:
    return sa.Table(
        "moving",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("data", sa.LargeBinary),
        sa.Column("born", sa.Date),
        sa.Column("born_sealed", sa.LargeBinary),
        mysql_charset="utf8mb4",
    )


def keys(url: str) -> SqlKeys:
    return SqlKeys(url, table="moving_keys")


def what(number: int, version: int) -> tuple[str, bytes, datetime.date] | None:
    """What version ``version`` of a row holds; None for NULLs."""
    if version % 17 == 5:
        return None
    text = f"{NAMES[number % len(NAMES)]} {number}.{version}"
    # msgpack of a map with one string, and pickle.
    packed = b"\x81\xa1n\xd9" + bytes([len(text.encode())]) + text.encode()
    data = packed if number % 2 else pickle.dumps({"n": text}, protocol=number % 5)
    return text, data, datetime.date.fromordinal(700_000 + (number * 31 + version) % 30_000)


class Rows:
    """A process of the application, in one of the states."""

    def __init__(self, url: str, writes: Literal["old", "records"]) -> None:
        self.engine = sa.create_engine(url, connect_args={"timeout": 60} if url.startswith("sqlite") else {})
        self.table = table()
        self.records = Records(FakeKeyring(), keys(url), scope=SCOPE)
        self.notes, self.datas = Moving(TEXT, writes=writes), Moving(BYTES, writes=writes)
        self.writes = writes
        self.fields = {
            (name, tenant): self.records.field(f"moving.{name}", row=int, tenant=tenant)
            for name in ("note", "data", "born_sealed")
            for tenant in TENANTS
        }

    def values(self, number: int, version: int, *, fernet: bool | None = None) -> dict[str, Any]:
        tenant = TENANTS[number % len(TENANTS)]
        value = what(number, version)
        row: dict[str, Any] = {"version": version, "note": None, "data": None, "born": None, "born_sealed": None}
        if value is None:
            return row
        text, data, born = value
        if self.writes == "records":
            seal = {name: self.fields[name, tenant] for name in ("note", "data", "born_sealed")}
            row["note"] = seal["note"].seal_text(text, row=number)
            row["data"] = seal["data"].seal(data, row=number)
            row["born_sealed"] = seal["born_sealed"].seal(born, row=number)
            return row
        if fernet if fernet is not None else number % 2:
            row["note"] = self.notes.write(self.records, "moving.note", text, text=True)
            row["data"] = self.datas.write(self.records, "moving.data", data, text=False)
        else:
            row["note"], row["data"] = text, data
        row["born"] = born
        return row

    def row(self, number: int, version: int) -> dict[str, Any]:
        return {"id": number, "tenant": TENANTS[number % len(TENANTS)], **self.values(number, version)}

    def check(self, row: Any) -> None:
        """Read a row as both versions of the application do, and hold it against what its version says."""
        value = what(row.id, row.version)
        note = self._read(self.notes, "note", row.note, row, str)
        data = self._read(self.datas, "data", row.data, row, bytes)
        born = row.born if row.born_sealed is None else self._open("born_sealed", row.born_sealed, row)
        assert row.born is None or row.born_sealed is None, f"{row.id} has two dates"
        assert ((note, data, born) if value else None) == value, f"{row.id}.{row.version} is lost or misread"
        assert value is not None or (note, data, born) == (None, None, None), row.id

    def _read(self, moving: Moving, name: str, stored: Any, row: Any, kind: type) -> object:
        if stored is None:
            return None
        if moving.is_old(stored):
            return moving.read(self.records, f"moving.{name}", stored, kind)
        return self._open(name, stored, row)

    def _open(self, name: str, stored: Any, row: Any) -> object:
        return self.fields[name, row.tenant].open(stored, row=row.id)

    def close(self) -> None:
        self.records.close()
        self.engine.dispose()


def fill(url: str, rows: int, told: Callable[[str], None]) -> None:
    store = keys(url)
    store.create_table()
    application = Rows(url, "old")
    application.records.ensure(tenant=TENANTS[0])  # the other tenants get theirs when they are needed
    application.table.drop(application.engine, checkfirst=True)
    application.table.create(application.engine)
    for start in range(0, rows, 5000):
        made = [application.row(number, 0) for number in range(start, min(start + 5000, rows))]
        with application.engine.begin() as connection:
            connection.execute(application.table.insert(), made)
    application.close()
    told("0")


def write(
    url: str, rows: int, seed: int, writes: Literal["old", "records"], pause: float, told: Callable[[str], None]
) -> None:
    """Write until killed: each writer has rows of its own, and says what each of them holds from now on."""
    application, dice = Rows(url, writes), random.Random(seed)
    for name in TENANTS:
        application.records.ensure(tenant=name)
    told("ready")
    people, version, inserted = application.table, 0, rows + seed
    while True:
        number, kind = dice.randrange(rows // (2 * WRITERS)) * 2 * WRITERS + seed, dice.random()
        version += 1
        with application.engine.begin() as connection:
            if kind < 0.05:
                inserted += 2 * WRITERS
                number = inserted
                told(f"intends {number} {version}")
                connection.execute(people.insert().values(application.row(number, version)))
            elif kind < 0.08:
                told(f"intends {number} -1")
                connection.execute(people.delete().where(people.c.id == number))
                version_now = -1
            else:
                row = connection.execute(people.select().where(people.c.id == number)).one_or_none()
                if row is None:
                    continue
                application.check(row)
                told(f"intends {number} {version}")
                connection.execute(
                    people.update().where(people.c.id == number).values(application.values(number, version))
                )
        version_now = -1 if 0.05 <= kind < 0.08 else version
        told(f"committed {number} {version_now}")
        time.sleep(pause)


def run(url: str, journal: Path, settle: float, told: Callable[[str], None]) -> None:
    def progress(counts: Sequence[ResealCounts]) -> None:
        told(str(sum(count.rows for count in counts)))

    with Records(FakeKeyring(), keys(url), scope=SCOPE) as records:
        report = reseal(records, url, COLUMNS, journal=journal, settle=settle, on_progress=progress)
    told(
        json.dumps(
            {
                "moved": sum(count.moved for count in report.columns),
                "changed": sum(count.changed for count in report.columns),
                "failed": sum(count.unopened + count.unmoved for count in report.columns),
                "reasons": [each.reason for each in report.failures[:3]],
                "passes": report.passes,
                "left": report.left,
                "next_steps": dict(report.next_steps),
            }
        )
    )


class Witness:
    """What the writers have said, from their pipes."""

    def __init__(self) -> None:
        self.rows: dict[int, set[int]] = {}
        self.committed = 0

    def hear(self, line: str) -> None:
        said, number, version = line.split()
        if said == "intends":
            self.rows.setdefault(int(number), set()).add(int(version))
        else:
            self.rows[int(number)] = {int(version)}
            self.committed += 1


def check(url: str, witness: Witness, rows: int) -> int:
    """Hold each row against what its writer said last, and all records against what the row says."""
    application = Rows(url, "records")
    with application.engine.connect() as connection:
        found = {row.id: row for row in connection.execute(application.table.select())}
    for number, versions in witness.rows.items():
        version = found[number].version if number in found else -1
        # A write that was on its way when its writer was killed may be there or not.
        assert version in versions or (len(versions) > 1) or 0 in versions, f"{number}: {version}, not {versions}"
    untouched = set(range(rows)) - witness.rows.keys()
    assert all(number in found and found[number].version == 0 for number in untouched)
    for row in found.values():
        application.check(row)
        assert row.born is None
        assert row.note is None or row.note.startswith("swr1.")
        assert row.data is None or row.data[:1] == b"\xc1"
    with Records(FakeKeyring(), keys(url), scope=SCOPE) as records:
        report = verify(records, url, COLUMNS)
    assert not report.failures
    assert all(count.old == count.not_records == 0 for count in report.columns)
    application.close()
    return len(found)
