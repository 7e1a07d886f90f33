"""Deliberate faults: a slow network, a used-up quota, an outage at AWS.

They are stored in the folder, so they apply to every process that uses it. Chances come from a seeded generator: a
process that repeats its requests with the same seed meets the same faults.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab import _api_model
from sealwax.lab._apierror import ApiError
from sealwax.lab._database import Database
from sealwax.lab._names import check_region

THROTTLE, ERROR, LATENCY, DOWN, RESET = "throttle", "error", "latency", "down", "reset"
QUOTA, CONSISTENCY = "quota", "consistency"
_CHANCES = frozenset({THROTTLE, ERROR, RESET})
_THROTTLED = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."


class Dropped(Exception):  # noqa: N818 - the server handles it as an event
    """The request gets no answer: its connection is ``refused``, or else reset."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__("refused" if refused else "reset")
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a Region.

    Attributes:
        number: increases with each fault.
        region: the Region.
        operation: the operation that it applies to; None for all.
        kind: ``"throttle"``, ``"error"``, ``"latency"``, ``"down"``, ``"reset"``, ``"quota"`` or ``"consistency"``.
        code: the error code of an ``"error"``.
        amount: a chance from 0 to 1, milliseconds of latency, a quota in requests per second, or seconds until new
            grants and key policies take effect.
        seed: what the chances are drawn from.
    """

    number: int
    region: str
    operation: str | None
    kind: str
    code: str | None
    amount: float
    seed: int


class Faults:
    """The faults of a lab.

    Example:
        ``lab.faults.add("us-east-1", "throttle", 0.2, operation="Decrypt")`` throttles a fifth of all Decrypt calls.
    """

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
        """Return every fault, oldest first."""
        with self._database.reading() as connection:
            if self._known is None:
                rows = connection.execute(
                    "SELECT number, region, operation, kind, code, amount, seed FROM faults ORDER BY number"
                )
                self._known = [Fault(*row) for row in rows]
            return self._known

    def add(
        self,
        region: str,
        kind: str,
        amount: float,
        *,
        operation: str | None = None,
        code: str | None = None,
        seed: int = 0,
    ) -> None:
        """Add a fault, or replace one of the same kind for the same Region and operation.

        Args:
            region: the Region that it applies to.
            kind: see ``Fault``.
            amount: see ``Fault``.
            operation: the operation that it applies to; None for all.
            code: the error code of an ``"error"``; None for KMSInternalException.
            seed: what the chances are drawn from.

        Raises:
            LabError: the Region, operation or amount is invalid.
        """
        check_region(region)
        if operation is not None and operation not in _api_model.operations():
            raise LabError(f"'{printable(operation)}' is not a KMS operation; use a name such as GenerateDataKey")
        if kind in _CHANCES and not 0 <= amount <= 1:
            raise LabError(f"{amount} is not a probability; use a number from 0 to 1")
        if not 0 <= amount < math.inf:
            raise LabError(f"{amount} is not an amount; use a number of 0 or more")
        with self._database.writing() as connection:
            connection.execute(
                "DELETE FROM faults WHERE region=? AND operation IS ? AND kind=? AND code IS ?",
                (region, operation, kind, code),
            )
            connection.execute(
                "INSERT INTO faults (region, operation, kind, code, amount, seed) VALUES (?, ?, ?, ?, ?, ?)",
                (region, operation, kind, code, amount, seed),
            )

    def clear(self, region: str, operation: str | None = None) -> int:
        """Remove the faults of a Region, or those of one operation there.

        Args:
            region: the AWS Region.
            operation: a KMS operation; all of them if None.

        Returns:
            The number of faults removed.

        Raises:
            LabError: the Region is invalid.
        """
        check_region(region)
        with self._database.writing() as connection:
            return connection.execute(
                "DELETE FROM faults WHERE region=? AND (? IS NULL OR operation=?)", (region, operation, operation)
            ).rowcount

    def _apply(self, region: str, operation: str, account: str) -> None:
        """Apply the faults that are set for a request.

        Raises:
            ApiError: the request fails.
            Dropped: the request gets no answer.
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
                raise ApiError(fault.code or "KMSInternalException", "A fault of the lab caused this error.")

    def _delay(self, region: str) -> float:
        """The seconds until a new grant or key policy takes effect in a Region."""
        delays = (fault.amount for fault in self.all() if fault.kind == CONSISTENCY and fault.region == region)
        return max(delays, default=0.0)

    def _drawn(self, fault: Fault) -> bool:
        name = (fault.number, fault.seed)
        if name not in self._chances:
            self._chances[name] = random.Random(fault.seed)  # noqa: S311 - draws must be repeatable
        return self._chances[name].random() < fault.amount

    def _take(self, fault: Fault, account: str) -> None:
        """Take a token from the account's bucket, which holds one second's worth."""
        name = (fault.number, account)
        now = time.monotonic()
        left, since = self._buckets.get(name, (fault.amount, now))
        left = min(fault.amount, left + max(0.0, now - since) * fault.amount)  # a test may set the clock back
        if left < 1:
            self._buckets[name] = (left, now)
            raise ApiError("ThrottlingException", _THROTTLED)
        self._buckets[name] = (left - 1, now)
