"""Times of several things done in turn, and the table they end up in."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sealwax

ROUNDS = 5
# A round of something shorter is repeated until it takes this long.
_ROUND_SECONDS = 0.05


@dataclass(frozen=True)
class Row:
    """One line of the table. Times in seconds; ``size`` in bytes makes them a speed.

    ``unit``: "/s" shows how many times a second instead; "B" and "n" mean that the figures are bytes, or numbers, and
    no times.
    """

    what: str
    ours: float
    peer: str = ""
    theirs: float | None = None
    size: int | None = None
    aim: str = ""
    met: bool | None = None
    unit: str = ""


def cpu_of_programs() -> float:
    """The processor's seconds of all programs that were started and have ended: a clock for :func:`seconds`."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median time of each, after one run that does not count."""
    repeats = {}
    for name, do in contestants.items():
        took = _timed(do, 1, clock)
        if took < _ROUND_SECONDS:  # what is short was mostly warming up
            took = _timed(do, 1, clock)
        repeats[name] = max(1, int(_ROUND_SECONDS / max(took, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, do in contestants.items():
            times[name].append(_timed(do, repeats[name], clock))
    return {name: statistics.median(found) for name, found in times.items()}


def _timed(do: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        do()
    return (clock() - start) / repeats


def against(
    what: str,
    ours: Callable[[], object],
    peers: Mapping[str, Callable[[], object]],
    *,
    size: int | None = None,
    at_least: Mapping[str, float] | None = None,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Row]:
    """Return a row for each peer; ``at_least`` is the ratio aimed at."""
    found = seconds({"ours": ours, **peers}, rounds, clock)
    rows = []
    for peer in peers:
        aim = (at_least or {}).get(peer)
        ratio = found[peer] / found["ours"]
        rows.append(
            Row(
                what,
                found["ours"],
                peer,
                found[peer],
                size,
                "" if aim is None else f">= {aim:g}",
                None if aim is None else ratio >= aim,
            )
        )
    return rows


def line_of(row: Row) -> tuple[str, ...]:
    ratio = "" if row.theirs is None else f"{row.theirs / row.ours:.2f}"
    theirs = "" if row.theirs is None else _figure(row.theirs, row)
    verdict = {None: "", True: "met", False: "MISSED"}[row.met]
    return row.what, _figure(row.ours, row), row.peer, theirs, ratio, row.aim, verdict


def table(rows: Sequence[Row]) -> str:
    lines = [("what", "ours", "peer", "its", "ratio", "aim", ""), *map(line_of, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _figure(took: float, row: Row) -> str:
    if row.unit == "B":
        return f"{took / (1 << 20):.2f} MiB"
    if row.unit == "n":
        return f"{took:,.0f}"
    if row.unit == "/s":
        return f"{1 / took:,.0f}/s"
    if row.size is not None and row.size >= 1 << 20:
        return f"{row.size / took / 1e9:.2f} GB/s"
    if took < 1e-3:
        return f"{took * 1e6:.1f} us"
    return f"{took * 1e3:.1f} ms" if took < 1 else f"{took:.2f} s"


def machine() -> str:
    """Return the versions and the machine, in two lines."""
    packages = (
        "cryptography",
        "boto3",
        "aws-encryption-sdk",
        "tink",
        "pyrage",
        "sqlalchemy",
        "sqlalchemy-utils",
        "django",
        "django-fernet-encrypted-fields",
    )
    # What is installed to be edited keeps the version that it was installed with.
    versions = ", ".join(
        [f"sealwax {sealwax.__version__}", *(f"{name} {importlib.metadata.version(name)}" for name in packages)]
    )
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"Python {platform.python_version()}, {versions}\n{os.cpu_count()} x {model}, load before the run {load}"
