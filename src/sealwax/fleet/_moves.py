"""What a plan remembers of its moves, for its own runs, plans that replace it, and ``sealwax migrate``."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sealwax._core.moved import Moved
from sealwax._text import printable
from sealwax.errors import FileError, PlanError
from sealwax.fleet._journal import Journal
from sealwax.fleet._planfile import is_plan
from sealwax.stores._store import real_name


class JournalMoves:
    """The moves in an open plan: a ``MoveMemory``.

    Args:
        journal: the plan's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def find(self, source: str, target: str) -> Moved | None:
        return self._journal.find_move(real_name(source), real_name(target))

    def add(self, moved: Moved) -> None:
        self._journal.note_move(moved)


def keep_memory(former: Path, journal: Journal) -> None:
    """Take over what a plan that is about to be replaced remembers: whose envelopes these are, and old wrapped keys.

    Raises:
        FileError: it is not a plan, and may be what the plan is about.
        PlanError: it cannot be read: another build made it, it is damaged, or it is not to be trusted.
    """
    if not is_plan(str(former)):
        if former.is_file() and former.stat().st_size:
            raise FileError(
                f"writing the plan '{printable(str(former))}' failed: the file of this name is not a plan, or "
                "cannot be read, and only a plan is replaced; choose another name"
            )
        return
    try:
        old = Journal(former)
    except PlanError as error:
        raise PlanError(
            f"{error}. It is not replaced, since only it has what its runs have noted: move it away, or choose another "
            "name for the new plan"
        ) from error
    with old, journal.writing():
        for page in old.moves():
            for moved in page:
                journal.note_move(moved)
        journal.keep_blobs(old)


class PlanMoves:
    """The moves of a plan file, a ``MoveMemory`` for a program that goes on from them: it holds the plan as a run does.

    Args:
        path: the plan file.
        writes: whether they are written; else the plan is not held.

    Raises:
        PlanError: it is not a plan, is damaged, or is in use.
    """

    def __init__(self, path: str, *, writes: bool) -> None:
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(Journal(path))
            if writes:
                stack.enter_context(journal.alone())
                journal.sync_each_commit()
            self._moves = JournalMoves(journal)
            self._opened = stack.pop_all()

    def find(self, source: str, target: str) -> Moved | None:
        """Return what is known of a file that was moved to a target."""
        return self._moves.find(source, target)

    def add(self, moved: Moved) -> None:
        """Note a file; what was known of it before is forgotten."""
        self._moves.add(moved)

    def close(self) -> None:
        """Close the plan."""
        self._opened.close()
