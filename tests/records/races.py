"""Processes that meet new scopes at one moment: ``races.py URL PROCESSES SCOPES``; prints the records of all.

30 % of the writes fail after they took effect, and 10 % of the reads show the store as it was before.
"""

from __future__ import annotations

import json
import os
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


def race(url: str, seed: int, scopes: int) -> None:
    Faulty.dice = random.Random(seed)
    with Records(FakeKeyring(), Faulty(url, table=TABLE), scope={"app": "shop"}) as records:
        for number in range(scopes):
            field = records.field("users.card", row=int, tenant=f"t{number}")
            for _ in range(50):
                try:
                    line = json.dumps([seed, number, field.seal_text(f"{seed}", row=seed)])
                    os.write(1, f"{line}\n".encode())  # whole, among those of other processes
                    break
                except KeyStoreError as error:
                    if not error.retryable:
                        raise
            else:
                raise AssertionError("it never succeeded")


def main() -> None:
    url, processes, scopes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    waiting, start = os.pipe()
    children = []
    for seed in range(processes):
        child = os.fork()
        if child == 0:
            os.close(start)
            os.read(waiting, 1)  # until the parent closes it, for all of them at once
            race(url, seed, scopes)
            os._exit(0)
        children.append(child)
    os.close(start)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes


if __name__ == "__main__":
    main()
