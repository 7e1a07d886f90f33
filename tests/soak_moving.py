"""``python -m tests.soak_moving [ROWS KILLS]``: a table that moves from plaintext and Fernet to records, on PostgreSQL.

300,000 rows, half of them tokens, with three columns that move: first alone, for its rows a second; then beside four
writers of the old version and four of the new one, with a run that is killed 20 times.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sealwax.records import Records
from sealwax.records.tables import reseal, verify
from tests.fakes import FakeKeyring
from tests.records import moving_rows, resealing, servers

# Of three columns of one row.
MICROSECONDS_A_ROW = 400.0


def whole(url: str, rows: int, told: Callable[[str], None]) -> None:
    moving_rows.fill(url, rows, resealing.void)
    with Records(FakeKeyring(), moving_rows.keys(url), scope=moving_rows.SCOPE) as records:
        start, used = time.monotonic(), time.process_time()
        report = reseal(records, url, moving_rows.COLUMNS, settle=0)
        took, used = time.monotonic() - start, time.process_time() - used
        assert [count.moved for count in report.columns] == [rows] * 3
        assert (report.left, report.failures) == (0, ())
        assert [count.opened for count in verify(records, url, moving_rows.COLUMNS).columns] == [rows] * 3
    print(f"soak: {rows} rows, three columns: {used:.1f} s of processor time, {took:.1f} s", flush=True)
    assert used / rows * 1e6 <= MICROSECONDS_A_ROW
    told("0")


def main(rows: int, kills: int) -> None:
    with servers.postgresql() as url, tempfile.TemporaryDirectory(prefix="sealwax-soak-") as folder:
        resealing.ended(*resealing.forked(lambda told: whole(url, rows, told)))
        start = time.monotonic()
        report = moving_rows.main(url, rows, kills, Path(folder))
        print(f"soak: {report}: {time.monotonic() - start:.0f} s", flush=True)
        assert (report["killed"], report["left"], report["failed"], report["refused"]) == (kills, 0, 0, 2)


if __name__ == "__main__":
    main(*([int(number) for number in sys.argv[1:]] or (300_000, 20)))
