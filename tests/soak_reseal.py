"""``python -m tests.soak_reseal [ROWS KILLS]``: records of tables sealed again, at length, on PostgreSQL.

1,000,000 rows without anybody else, with the processor time of the client; then 30,000 rows beside four writers, whose
run is killed 50 times.
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
from tests.records import resealing, servers

# Of one column in bytes: a minute for a million rows.
MICROSECONDS_A_ROW = 60.0


def whole(url: str, rows: int, told: Callable[[str], None]) -> None:
    resealing.fill(url, rows, resealing.void)
    resealing.roll(url, resealing.void)
    card = resealing.COLUMNS[:1]
    with Records(FakeKeyring(), resealing.keys(url), scope=resealing.SCOPE) as records:
        start, used = time.monotonic(), time.process_time()
        report = reseal(records, url, card, settle=0)
        took, used = time.monotonic() - start, time.process_time() - used
        assert (report.columns[0].resealed, report.stale) == (rows, 0)
        assert verify(records, url, card).columns[0].opened == rows
    print(f"soak: {rows} rows: {used:.1f} s of processor time, {took:.1f} s", flush=True)
    assert used / rows * 1e6 <= MICROSECONDS_A_ROW
    told("0")


def main(rows: int, kills: int) -> None:
    with servers.postgresql() as url, tempfile.TemporaryDirectory(prefix="sealwax-soak-") as folder:
        resealing.ended(*resealing.forked(lambda told: whole(url, rows, told)))
        start = time.monotonic()
        report = resealing.main(url, 30_000, kills, Path(folder))
        print(f"soak: {report}: {time.monotonic() - start:.0f} s", flush=True)
        assert report["stale"] == 0


if __name__ == "__main__":
    main(*([int(number) for number in sys.argv[1:]] or (1_000_000, 50)))
