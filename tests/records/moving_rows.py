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

from sealwax.records import Records, SqlKeys
from sealwax.records.moving import AnyOf, Fernet, Moving, Plaintext
from sealwax.records.tables import ResealCounts, SealedColumn, reseal, verify
from tests.fakes import FakeKeyring
from tests.records.resealing import drained, ended, forked, killed

SCOPE = {"app": "shop"}
TENANTS = ("acme", "bolt", "core")
WRITERS = 4
KEY = "TluxwB3fV_GWuLkR1_BzGs1Zk90TYAuhNMZP_0q4WyM="
TEXT, BYTES = AnyOf(Fernet(KEY), Plaintext()), AnyOf(Fernet(KEY), Plaintext())
_BY: dict[str, Any] = {"row": {"id": int}, "scope": {"tenant": "tenant"}}
DELETED = -1
_ENDED: set[int] = set()
COLUMNS = [
    SealedColumn("moving", "note", **_BY, moves_from=TEXT),
    SealedColumn("moving", "data", **_BY, moves_from=BYTES, kind=bytes),
    SealedColumn("moving", "born_sealed", **_BY, moves_from=Plaintext(), moved_from="born"),
]
NAMES = ("Nguyễn Thị Hường", "ნინო ბერიძე", 'it\'s \\ "quoted"', "plain")


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
    url: str, rows: int, seed: int, writes: Literal["old", "records"], log: Path, told: Callable[[str], None]
) -> None:
    """Write until killed: each writer has rows of its own, and says what each of them holds from now on."""
    application, dice = Rows(url, writes), random.Random(seed)
    for name in TENANTS:
        application.records.ensure(tenant=name)
    told("ready")
    witness = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    version, inserted = 0, rows + seed
    while True:
        number, kind = dice.randrange(rows // (2 * WRITERS)) * 2 * WRITERS + seed, dice.random()
        version += 1
        if kind < 0.05:
            inserted += 2 * WRITERS
            number = inserted
        holds = DELETED if 0.05 <= kind < 0.08 else version
        os.write(witness, f"intends {number} {holds}\n".encode())
        try:
            with application.engine.begin() as connection:
                done = _write_one(application, connection, number, holds, new=kind < 0.05)
        except sa.exc.OperationalError:  # an ALTER TABLE of MariaDB makes transactions begin again
            os.write(witness, f"gave up {number} {holds}\n".encode())
            continue
        os.write(witness, f"committed {number} {holds if done else DELETED}\n".encode())
        time.sleep(0.05)


def _write_one(application: Rows, connection: sa.Connection, number: int, holds: int, *, new: bool) -> bool:
    people = application.table
    if new:
        connection.execute(people.insert().values(application.row(number, holds)))
        return True
    if holds == DELETED:
        connection.execute(people.delete().where(people.c.id == number))
        return True
    row = connection.execute(people.select().where(people.c.id == number)).one_or_none()
    if row is None:
        return False
    application.check(row)
    connection.execute(people.update().where(people.c.id == number).values(application.values(number, holds)))
    return True


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


def witnessed(logs: Sequence[Path], rows: int) -> tuple[dict[int, set[int]], int]:
    """Return what each row may hold, by what the writers have said, and how often they have committed."""
    holds: dict[int, set[int]] = {number: {0} for number in range(rows)}
    commits = 0
    for log in logs:
        for line in log.read_text().splitlines():
            said, number, version = line.rsplit(maxsplit=2)
            if said == "gave up":
                holds[int(number)] -= {int(version)}
            elif said == "intends":
                holds.setdefault(int(number), {DELETED}).add(int(version))
            else:
                holds[int(number)] = {int(version)}
                commits += 1
    return holds, commits


def check(url: str, logs: Sequence[Path], rows: int) -> dict[str, int]:
    """Hold each row against what its writer said last, and what it holds against that."""
    application = Rows(url, "records")
    with application.engine.connect() as connection:
        found = {row.id: row for row in connection.execute(application.table.select())}
    holds, commits = witnessed(logs, rows)
    assert found.keys() <= holds.keys()
    for number, versions in holds.items():
        version = found[number].version if number in found else DELETED
        assert version in versions, f"row {number} is of version {version}, and was written as {versions}"
    for row in found.values():
        application.check(row)
        assert row.born is None
        assert row.note is None or row.note.startswith("swr1.")
        assert row.data is None or row.data[:1] == b"\xc1"
    application.close()
    with Records(FakeKeyring(), keys(url), scope=SCOPE) as records:
        report = verify(records, url, COLUMNS)
    assert not report.failures
    assert sum(count.old + count.not_records for count in report.columns) == 0
    return {"checked": len(found), "committed": commits}


def constrained(url: str, steps: dict[str, str], told: Callable[[str], None]) -> None:
    """Add the CHECKs while the new version writes; what an old version would write is refused then."""
    application = Rows(url, "old")
    for column in ("moving.note", "moving.data"):
        for statement in steps[column].split(";")[:-1]:
            with application.engine.begin() as connection:
                connection.execute(sa.text(statement))
    refused = 0
    for number in (-2, -1):  # plaintext and a token
        try:
            with application.engine.begin() as connection:
                connection.execute(application.table.insert().values(application.row(number, 0)))
        except sa.exc.DBAPIError:  # MariaDB has no class of its own for a CHECK
            refused += 1
    application.close()
    told(str(refused))


def main(url: str, rows: int, kills: int, folder: Path) -> dict[str, object]:
    ended(*forked(lambda told: fill(url, rows, told)))
    logs = [folder / f"writer-{seed}" for seed in range(2 * WRITERS)]
    versions: list[Literal["old", "records"]] = ["old", "records"]
    writers = [
        forked(lambda told, seed=seed: write(url, rows, seed, versions[seed % 2], logs[seed], told))  # type: ignore[misc]
        for seed in range(2 * WRITERS)
    ]
    journal, dice, deaths = folder / "journal", random.Random(kills), 0
    most = max(6, rows // 1000 * len(COLUMNS) // kills)
    try:
        for _, pipe in writers:
            assert os.read(pipe, 6) == b"ready\n"
        for _ in range(kills):
            deaths += killed(*forked(lambda told: run(url, journal, 0.5, told)), pages=dice.randrange(1, most))
        for _, pipe in writers:
            drained(pipe)  # none has ended by itself
        _end(writers[::2])
        start = time.monotonic()
        report = ended(*forked(lambda told: run(url, journal, 0.5, told)))
        took = time.monotonic() - start
        assert isinstance(report, dict)
        refused = 0
        if not url.startswith("sqlite"):
            refused = ended(*forked(lambda told: constrained(url, report["next_steps"], told)))  # type: ignore[assignment]
        time.sleep(0.3)
        for _, pipe in writers[1::2]:
            drained(pipe)
    finally:
        _end(writers[::2])
        _end(writers[1::2])
    assert not journal.exists()
    checked = ended(*forked(lambda told: told(json.dumps(check(url, logs, rows)))))
    assert isinstance(checked, dict)
    return {**report, **checked, "killed": deaths, "refused": refused, "last_run_seconds": round(took, 1)}


def _end(writers: Sequence[tuple[int, int]]) -> None:
    for child, _ in writers:
        if child not in _ENDED:
            _ENDED.add(child)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
