"""A table whose records are sealed again while others write to it: ``resealing.py URL ROWS KILLS FOLDER``.

Four processes update, insert and delete rows; each keeps in the row, unsealed, what it has sealed, so that a lost
update shows. The run that seals again is killed as often as it says, and then comes to its end. Everything is forked
from one process, which has imported all of it and touches no database: SQLite must not be in use while a process forks.
It prints what the last run did.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import sqlalchemy as sa

from sealwax.records import Records, SqlKeys
from sealwax.records.tables import ResealCounts, SealedColumn, reseal
from tests.fakes import FakeKeyring

SCOPE = {"app": "shop"}
TENANTS = ("acme", "bolt", "core")
WRITERS = 4
COLUMNS = [
    SealedColumn("resealed", "card", row={"id": int}, scope={"tenant": "tenant"}),
    SealedColumn("resealed", "note", row={"tenant": str, "id": int}, scope={"tenant": "tenant"}, field="users.note"),
]
# A new key is noticed so soon; the counts at the end are further apart.
RECHECK, SETTLE = 0.2, 1.0


def table() -> sa.Table:
    return sa.Table(
        "resealed",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(20), nullable=False),
        sa.Column("plain", sa.String(50)),
        sa.Column("card", sa.LargeBinary),
        sa.Column("note", sa.Text),
    )


def keys(url: str) -> SqlKeys:
    return SqlKeys(url, table="resealed_keys")  # other tests have keys of the same scopes


class Rows:
    """The application: it seals rows, each with what it has sealed beside it."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, connect_args={"timeout": 60} if url.startswith("sqlite") else {})
        self.table = table()
        self.records = Records(FakeKeyring(), keys(url), scope=SCOPE, recheck=RECHECK)
        self.cards = {name: self.records.field("resealed.card", row=int, tenant=name) for name in TENANTS}
        self.notes = {name: self.records.field("users.note", row=tuple, tenant=name) for name in TENANTS}

    def values(self, number: int, plain: str | None) -> dict[str, object]:
        tenant = TENANTS[number % len(TENANTS)]
        return {
            "plain": plain,
            "card": None if plain is None else self.cards[tenant].seal(plain, row=number),
            "note": None if plain is None else self.notes[tenant].seal_text(plain, row=(tenant, number)),
        }

    def row(self, number: int, plain: str | None) -> dict[str, object]:
        return {"id": number, "tenant": TENANTS[number % len(TENANTS)], **self.values(number, plain)}

    def close(self) -> None:
        self.records.close()
        self.engine.dispose()


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run ``work`` in a child; return its process id, and a pipe with what it tells."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        _in_child(work, readable, writable)
    os.close(writable)
    return child, readable


def _in_child(work: Callable[[Callable[[str], None]], None], readable: int, writable: int) -> NoReturn:
    status = 1
    try:
        os.close(readable)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(lambda text: void(os.write(writable, f"{text}\n".encode())))
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def void(_: object) -> None:
    pass


def fill(url: str, rows: int, told: Callable[[str], None]) -> None:
    store = keys(url)
    store.create_table()
    application = Rows(url)
    application.table.drop(application.engine, checkfirst=True)
    application.table.create(application.engine)
    for start in range(0, rows, 5000):
        made = [application.row(number, f"first {number}") for number in range(start, min(start + 5000, rows))]
        with application.engine.begin() as connection:
            connection.execute(application.table.insert(), made)
    application.close()
    told("0")


def write(url: str, rows: int, seed: int, pause: float, told: Callable[[str], None]) -> None:
    """Write until the pipe is closed: each writer has rows of its own, and so knows what they should hold."""
    application, dice = Rows(url), random.Random(seed)
    for name in TENANTS:
        application.records.ensure(tenant=name)
    told("ready")
    users, done, inserted = application.table, 0, rows + seed
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    while True:
        number, what = dice.randrange(rows), dice.random()
        with application.engine.begin() as connection:
            if what < 0.05:
                inserted += WRITERS
                connection.execute(users.insert().values(application.row(inserted, f"new {seed}")))
            elif what < 0.08:
                connection.execute(users.delete().where(users.c.id == number))
            else:
                plain = None if what < 0.12 else f"{seed} {done}"
                connection.execute(users.update().where(users.c.id == number).values(application.values(number, plain)))
        done += 1
        told(str(done))
        time.sleep(pause)


def run(url: str, journal: Path, settle: float, told: Callable[[str], None]) -> None:
    def progress(counts: Sequence[ResealCounts]) -> None:
        told(str(sum(count.rows for count in counts)))

    with Records(FakeKeyring(), keys(url), scope=SCOPE) as records:
        report = reseal(records, url, COLUMNS, journal=journal, settle=settle, on_progress=progress)
    told(
        json.dumps(
            {
                "resealed": sum(count.resealed for count in report.columns),
                "changed": sum(count.changed for count in report.columns),
                "unopened": sum(count.unopened for count in report.columns),
                "passes": report.passes,
                "stale": report.stale,
                "retirable": sorted((row.scope["tenant"], row.generation) for row in report.retirable),
            }
        )
    )


def killed(child: int, pipe: int, pages: int) -> bool:
    """Kill a run after some pages, wherever it is then; return whether that was before its end."""
    with os.fdopen(pipe, "rb") as told:
        for _ in range(pages):
            if not told.readline():
                break
        os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def ended(child: int, pipe: int) -> object:
    """Wait for a child to end well; return the last line that it told, from JSON."""
    with os.fdopen(pipe, "rb") as told:
        lines = told.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(lines[-1])


def drained(pipe: int) -> int:
    """Return how many lines a writer has told since the last time, without waiting."""
    lines = 0
    while select.select([pipe], [], [], 0)[0]:
        data = os.read(pipe, 1 << 16)
        assert data, "a writer ended by itself"
        lines += data.count(b"\n")
    return lines


def check(url: str) -> int:
    """Hold every record against what is beside it, and count those under the newest keys by SQL."""
    application = Rows(url)
    users, count = application.table, 0
    newest = []
    for name in TENANTS:
        key = max(application.records.rows(tenant=name), key=lambda key: key.generation)
        newest.append(b"\xc1" + key.key_id)
    with application.engine.connect() as connection:
        old = connection.execute(
            sa.select(sa.func.count()).where(
                users.c.card.is_not(None),
                sa.func.substr(users.c.card, 1, 17, type_=sa.LargeBinary).not_in(newest),
            )
        ).scalar_one()
        assert old == 0, f"{old} records are under an old key"
        for row in connection.execute(users.select()):
            assert (row.card is None) == (row.note is None) == (row.plain is None), row.id
            if row.plain is not None:
                assert application.cards[row.tenant].open(row.card, row=row.id) == row.plain, f"{row.id}: a lost update"
                assert application.notes[row.tenant].open(row.note, row=(row.tenant, row.id)) == row.plain
                count += 1
    application.close()
    return count


def roll(url: str, told: Callable[[str], None]) -> None:
    with Records(FakeKeyring(), keys(url), scope=SCOPE) as records:
        for name in TENANTS:
            records.roll(tenant=name)
    told("0")


def main(url: str, rows: int, kills: int, folder: Path) -> dict[str, object]:
    ended(*forked(lambda told: fill(url, rows, told)))
    pause = 0.02 if url.startswith("sqlite") else 0.002
    writers = [
        forked(lambda told, seed=seed: write(url, rows, seed, pause, told))  # type: ignore[misc]
        for seed in range(WRITERS)
    ]
    try:
        for _, pipe in writers:
            assert os.read(pipe, 6) == b"ready\n"
        # They hold the first generation now, and go on sealing under it for a while.
        ended(*forked(lambda told: roll(url, told)))
        report = _resealed(url, kills, folder / "journal", [pipe for _, pipe in writers])
    finally:
        for child, pipe in writers:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(pipe)
    assert not (folder / "journal").exists()
    return {**report, "checked": ended(*forked(lambda told: told(json.dumps(check(url)))))}


def _resealed(url: str, kills: int, journal: Path, writers: Sequence[int]) -> dict[str, object]:
    dice, deaths, written = random.Random(kills), 0, 0
    for _ in range(kills):
        deaths += killed(*forked(lambda told: run(url, journal, SETTLE, told)), pages=dice.randrange(1, 6))
        written += sum(map(drained, writers))
    report = ended(*forked(lambda told: run(url, journal, SETTLE, told)))
    written += sum(map(drained, writers))
    assert isinstance(report, dict)
    return {**report, "killed": deaths, "written": written}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
