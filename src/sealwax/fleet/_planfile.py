"""The plan file's name: one run at a time holds it, it appears complete, and no other file is taken for a plan."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sealwax._core import disk, locking, trusted
from sealwax.errors import FileError, PlanError

APPLICATION: Final = 0x53575846  # "SWXF"
KIND: Final = trusted.Kind("the plan", PlanError)
# SQLite's files beside a plan.
BESIDE: Final = ("-wal", "-shm", "-journal")
_LOCK: Final = trusted.Kind("the lock of a plan", PlanError)


@contextlib.contextmanager
def alone(plan: Path, shown: str) -> Iterator[None]:
    """Hold the lock of a plan file.

    Raises:
        PlanError: another run holds it, or another user may have created it.
        FileError: it cannot be created.
    """
    plan = Path(os.path.realpath(plan))  # the same lock for every link to it
    path = plan.with_name(f"{plan.name}.lock")
    try:
        descriptor = locking.lock(lambda: trusted.open_own(path, _LOCK), functools.partial(locking.is_at, path))
    except BlockingIOError:
        raise PlanError(f"another run is using the plan '{shown}'; wait for it, or stop it first") from None
    except OSError as error:
        raise FileError(f"locking the plan '{shown}' failed: {disk.reason(error)}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def put_in_place(temporary: Path, plan: Path) -> None:
    """Rename a closed plan file to its name, which the caller holds.

    Raises:
        OSError: it cannot be renamed.
    """
    # SQLite would read what a killed run has left of the former plan into this one.
    for suffix in BESIDE:
        Path(f"{plan}{suffix}").unlink(missing_ok=True)
    temporary.replace(plan)


def names_in(location: str, plans: Iterable[Path]) -> frozenset[str]:
    """Return the names of plan files below a folder, and of the files beside them, as a store lists them.

    A scan must not open them: closing one would drop SQLite's locks of this process.
    """
    root = os.path.realpath(location)
    names: set[str] = set()
    for plan in plans:
        path = Path(os.path.realpath(plan.parent), plan.name)
        if path.is_relative_to(root):
            listed = Path(location) / path.relative_to(root)
            names |= {f"{listed}{suffix}" for suffix in ("", *BESIDE, ".lock")}
    return frozenset(names)


def is_plan(path: str) -> bool:
    """Whether a file begins like a plan. Not for a plan that this process has open, which would lose its locks."""
    try:
        if not Path(path).is_file():  # opening a pipe would wait
            return False
        with Path(path).open("rb") as file:
            head = file.read(100)
    except (OSError, ValueError):
        return False
    whole = len(head) == 100  # as each database's header
    return whole and head.startswith(disk.SQLITE_MAGIC) and head[68:72] == APPLICATION.to_bytes(4, "big")
