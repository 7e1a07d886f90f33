"""The place of a plan file: held by one run at a time, filled whole, and told from other files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sealwax._core import disk, trusted
from sealwax._core.context import printable
from sealwax.errors import FileError, PlanError

APPLICATION: Final = 0x53575846  # "SWXF"
KIND: Final = trusted.Kind("the plan", PlanError)
_LOCK: Final = trusted.Kind("the lock of a plan", PlanError)


@contextlib.contextmanager
def alone(plan: Path, shown: str) -> Iterator[None]:
    """Hold the place of a plan file.

    Raises:
        PlanError: a run holds it, or somebody else can have made its lock.
    """
    plan = Path(os.path.realpath(plan))  # by whichever link it is named
    path = plan.with_name(f"{plan.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            while True:
                descriptor = trusted.open_own(path, _LOCK)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who held the lock before may have removed the file that was opened here.
                if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                    break
        except BlockingIOError:
            raise PlanError(f"another run works on the plan '{shown}' now; wait for it, or stop it first") from None
        except OSError as error:
            raise FileError(f"locking the plan '{shown}' failed: {disk.reason(error)}") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def put_in_place(temporary: Path, plan: Path) -> None:
    """Put a plan file that is closed in its place.

    Raises:
        OSError, FileError, PlanError: it could not be, or a run works on the plan that stands there.
    """
    with alone(plan, printable(str(plan))):
        # What a killed run has left beside the former plan, SQLite would put into this one.
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{plan}{suffix}").unlink(missing_ok=True)
        temporary.replace(plan)


def names_in(location: str, plans: Iterable[Path]) -> frozenset[str]:
    """Return what SQLite and :func:`alone` keep of plan files below a folder, by the names that its store gives them.

    They are no objects, and a scan must not open them: with the file, SQLite's locks of this process would go.
    """
    root = os.path.realpath(location)
    found: set[str] = set()
    for plan in plans:
        path = Path(os.path.realpath(plan.parent), plan.name)
        if path.is_relative_to(root):
            here = Path(location) / path.relative_to(root)
            found |= {f"{here}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", ".lock")}
    return frozenset(found)


def is_plan(path: str) -> bool:
    """Whether a plan stands there, by how it begins. Not while this process has it open: it would lose its locks."""
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            return False
        with Path(path).open("rb") as file:
            head = file.read(100)
    except (OSError, ValueError):
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION.to_bytes(4, "big")
