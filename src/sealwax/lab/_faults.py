"""Faults on purpose: what a network, a quota or a bad day at AWS does to a program, asked for by name.

They are kept in the folder, so that every process that uses it meets them. Chances are drawn from a seeded generator,
so that one process with one seed meets them at the same requests again.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from sealwax._core.context import printable
from sealwax.errors import LabError
from sealwax.lab._api_model import SURFACE
from sealwax.lab._apierror import ApiError
from sealwax.lab._database import Database
from sealwax.lab._names import check_region

THROTTLE, ERROR, LATENCY, DOWN, RESET = "throttle", "error", "latency", "down", "reset"
QUOTA, CONSISTENCY = "quota", "consistency"
_CHANCES = frozenset({THROTTLE, ERROR, RESET})
_THROTTLED = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."


class Dropped(Exception):  # noqa: N818 - it is an event, and answers no one
    """The request gets no answer: ``refused`` when no connection would have been made, else it was cut."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__("refused" if refused else "reset")
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a Region.

    Attributes:
        operation: the operation it is for; None for all.
        amount: a chance from 0 to 1, milliseconds of latency, requests a second of a quota, or seconds until grants
            and policies take effect.
    """

    number: int
    region: str
    operation: str | None
    kind: str
    code: str | None
    amount: float
    seed: int


class Faults:
    """The faults of a lab: set, cleared, and done to requests."""

    def __init__(self, database: Database, sleep: Callable[[float], None] = time.sleep) -> None:
        self._database = database
        self._sleep = sleep
        self._known: list[Fault] | None = None
        self._chances: dict[tuple[int, int], random.Random] = {}
        self._buckets: dict[tuple[int, str], tuple[float, float]] = {}
        database.on_change(self._forget)

    def _forget(self) -> None:
        self._known = None

    def all(self) -> list[Fault]:
        """Every fault, oldest first."""
        with self._database.reading() as connection:
            if self._known is None:
                rows = connection.execute(
                    "SELECT number, region, operation, kind, code, amount, seed FROM faults ORDER BY number"
                )
                self._known = [Fault(*row) for row in rows]
            return self._known

    def add(self, region: str, kind: str, amount: float, *, operation: str | None, code: str | None, seed: int) -> None:
        """Set a fault; one of the same kind for the same Region and operation is replaced.

        Raises:
            LabError: the amount cannot be one, or there is no such operation or Region.
        """
        check_region(region)
        if operation is not None and operation not in SURFACE:
            raise LabError(f"'{printable(operation)}' is no operation of the lab; one is GenerateDataKey")
        if not (0 <= amount <= 1 if kind in _CHANCES else 0 <= amount < math.inf):
            raise LabError(f"{amount} is no {'chance from 0 to 1' if kind in _CHANCES else 'amount'}")
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM faults WHERE region=? AND operation IS ? AND kind=? AND code IS ?",
                (region, operation, kind, code),
            )
            connection.execute(
                "INSERT INTO faults (region, operation, kind, code, amount, seed) VALUES (?, ?, ?, ?, ?, ?)",
                (region, operation, kind, code, amount, seed),
            )

    def clear(self, region: str, operation: str | None) -> None:
        """Remove the faults of a Region, or of one operation there."""
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM faults WHERE region=? AND (? IS NULL OR operation=?)", (region, operation, operation)
            )

    def meet(self, region: str, operation: str, account: str) -> None:
        """Let a request meet the faults that are set for it.

        Raises:
            ApiError: an error was asked for, or a quota is used up.
            Dropped: the request is to get no answer.
        """
        for fault in self.all():
            if fault.region != region or fault.operation not in (None, operation):
                continue
            if fault.kind == DOWN:
                raise Dropped(refused=True)
            if fault.kind == LATENCY:
                self._sleep(fault.amount / 1000)
            elif fault.kind == QUOTA:
                self._take(fault, account)
            elif fault.kind in _CHANCES and self._drawn(fault):
                if fault.kind == RESET:
                    raise Dropped(refused=False)
                if fault.kind == THROTTLE:
                    raise ApiError("ThrottlingException", _THROTTLED)
                raise ApiError(fault.code or "KMSInternalException", "This error was asked for as a fault of the lab.")

    def delay(self, region: str) -> float:
        """The seconds until a new grant or key policy takes effect in a Region."""
        return max((one.amount for one in self.all() if one.kind == CONSISTENCY and one.region == region), default=0.0)

    def _drawn(self, fault: Fault) -> bool:
        name = (fault.number, fault.seed)
        if name not in self._chances:
            self._chances[name] = random.Random(fault.seed)  # noqa: S311 - a repeatable draw is what is wanted
        return self._chances[name].random() < fault.amount

    def _take(self, fault: Fault, account: str) -> None:
        """A bucket that holds one second's worth, for each account."""
        name = (fault.number, account)
        now = time.monotonic()
        left, seen = self._buckets.get(name, (fault.amount, now))
        left = min(fault.amount, left + max(0.0, now - seen) * fault.amount)  # a test may set the clock back
        if left < 1:
            self._buckets[name] = (left, now)
            raise ApiError("ThrottlingException", _THROTTLED)
        self._buckets[name] = (left - 1, now)
