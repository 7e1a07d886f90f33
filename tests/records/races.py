"""One of many processes that meet new scopes at one moment: ``races.py URL COUNT SEED``; prints its records.

30 % of the writes fail after they took effect, and 10 % of the reads show the store as it was before.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping

from sealwax.errors import KeyStoreError
from sealwax.records import KeyKind, KeyRow, Records, SqlKeys
from tests.fakes import FakeKeyring

TABLE = "raced"


class Faulty(SqlKeys):
    """A store whose answers get lost, and whose reads are stale."""

    dice = random.Random()

    def create(self, row: KeyRow) -> KeyRow:
        winner = super().create(row)
        if self.dice.random() < 0.3:
            raise KeyStoreError("the answer was lost", retryable=True)
        return winner

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        return None if self.dice.random() < 0.1 else super().newest(scope, kind)


def main() -> None:
    url, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    Faulty.dice = random.Random(seed)
    store = Faulty(url, table=TABLE)
    print("ready", flush=True)
    sys.stdin.readline()
    with Records(FakeKeyring(), store, scope={"app": "shop"}) as records:
        for number in range(count):
            field = records.field("users.card", row=int, tenant=f"t{number}")
            for _ in range(50):
                try:
                    print(json.dumps([number, field.seal_text(f"{seed}", row=seed)]), flush=True)
                    break
                except KeyStoreError as error:
                    if not error.retryable:
                        raise
            else:
                raise AssertionError("it never succeeded")


if __name__ == "__main__":
    main()
