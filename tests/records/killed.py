"""Processes that are killed while they make a key: ``killed.py URL``; prints what was sealed before, by tenant.

Each tenant is named after what was being done, and when the kill came: before the store had the key, or after.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from sealwax.records import KeyRow, Records, SqlKeys
from tests.fakes import FakeKeyring

TABLE = "killed"
TENANTS = ("ensure-before", "ensure-after", "roll-before", "roll-after")


class Deadly(SqlKeys):
    moment = ""

    def create(self, row: KeyRow) -> KeyRow:
        if self.moment == "after":
            super().create(row)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


def main() -> None:
    url = sys.argv[1]
    sealed: dict[str, str] = {}
    for tenant in TENANTS:
        doing, Deadly.moment = tenant.split("-")
        if doing == "roll":
            with Records(FakeKeyring(), SqlKeys(url, table=TABLE), scope={"app": "shop"}) as records:
                sealed[tenant] = records.field("f", row=int, tenant=tenant).seal_text("old", row=1)
        child = os.fork()
        if child == 0:
            dying = Records(FakeKeyring(), Deadly(url, table=TABLE), scope={"app": "shop"})
            getattr(dying, doing)(tenant=tenant)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(json.dumps(sealed))


if __name__ == "__main__":
    main()
