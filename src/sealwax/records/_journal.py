"""How far a reseal has come: a small file, replaced after some pages, from which a run that was killed goes on.

It says only where the walk through each column stands. It is never ahead of the database, and whoever loses it loses
time and nothing else. It holds primary keys, and no value of a sealed column.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, cast

from sealwax._core import trusted
from sealwax._core.files import reading, whole
from sealwax._text import printable
from sealwax.errors import FileError, UnreadableValueError
from sealwax.records import _values

Key = tuple[object, ...]

_VERSION: Final = 1
_MAX_BYTES: Final = 4 << 20
_SECONDS: Final = 0.2
_KIND: Final = trusted.Kind("the journal", FileError)


@dataclass(slots=True)
class ResealCounts:
    """What became of the values of one column.

    Attributes:
        column: its name, as ``SealedColumn.named``.
        resealed: records that are under the newest key now, by all passes.
        changed: rows that somebody else changed meanwhile, in all passes; the next pass looks at them again.
        rows: rows that the last pass looked at.
        newest: records that were under the newest key already.
        null: rows without a value.
        not_records: values that do not have the form of a record; they are left alone.
        unopened: records that could not be opened; they are left alone.
        moved: values that are not in their old form any more, by all passes.
        unmoved: values that could not be moved; they are left alone.
    """

    column: str
    resealed: int = 0
    changed: int = 0
    rows: int = 0
    newest: int = 0
    null: int = 0
    not_records: int = 0
    unopened: int = 0
    moved: int = 0
    unmoved: int = 0

    def become(self, other: ResealCounts) -> None:
        """Take the numbers of other counts.

        Args:
            other: the counts of the same column.
        """
        for name in _COUNTS:
            setattr(self, name, getattr(other, name))


_COUNTS: Final = tuple(each.name for each in fields(ResealCounts))


@dataclass(slots=True)
class Position:
    """How far a pass has come in one column."""

    counts: ResealCounts
    after: Key | None = None
    done: bool = False


class ResealJournal:
    """The positions of a reseal, in a file or nowhere.

    Args:
        path: the file; None keeps nothing.
        database: the URL of the database, as messages show it.
        columns: the names of the columns, in their order.
        forms: what their values move from, or to; None if they do not move.

    Raises:
        FileError: the file cannot be read or written, or is the journal of something else.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        database: str,
        columns: Sequence[str],
        forms: Sequence[str | None],
    ) -> None:
        self._path = path
        self._about = {"version": _VERSION, "database": database, "columns": list(columns), "forms": list(forms)}
        self._written = 0.0
        self.passes = 1
        self.positions = [Position(ResealCounts(name)) for name in columns]
        if path is not None and Path(path).exists():
            self._read(path)

    def _read(self, path: str | os.PathLike[str]) -> None:
        with reading.reported("reading the journal", path), trusted.open_file(path, _KIND) as file:
            data = file.read(_MAX_BYTES + 1)
        shown = printable(os.fspath(path))
        try:
            kept = json.loads(data)
            same = {name: kept[name] for name in self._about} == self._about
            passes = _number(kept["passes"])
            positions = [
                _position(entry, column) for entry, column in zip(kept["positions"], kept["columns"], strict=True)
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UnreadableValueError):
            raise FileError(f"'{shown}' is not the journal of a reseal; name another file") from None
        if not same:
            raise FileError(
                f"the journal '{shown}' is of another database, or of other columns or forms; name another file, or "
                "delete this one to begin again"
            )
        self.passes, self.positions = passes, positions

    def next_pass(self) -> None:
        """Begin again at the first row of each column."""
        self.passes += 1
        for position in self.positions:
            position.after, position.done = None, False
            counts = position.counts
            counts.become(ResealCounts(counts.column, counts.resealed, counts.changed, moved=counts.moved))
        self.write(now=True)

    def write(self, *, now: bool = False) -> None:
        """Keep the positions, unless that was done a moment ago."""
        if self._path is None or not (now or time.monotonic() - self._written > _SECONDS):
            return
        positions = [
            {
                "counts": asdict(position.counts),
                "after": None if position.after is None else [_kept(part) for part in position.after],
                "done": position.done,
            }
            for position in self.positions
        ]
        text = json.dumps({**self._about, "passes": self.passes, "positions": positions}, indent=1)
        with whole.WholeFile(self._path, overwrite=True, mode=0o600) as file:
            file.write(text.encode())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: everything is done."""
        if self._path is not None:
            with reading.reported("deleting the journal", self._path), contextlib.suppress(FileNotFoundError):
                Path(self._path).unlink()


def _kept(part: object) -> str:
    try:
        return _values.encode(part).hex()
    except (TypeError, ValueError) as error:
        raise FileError(f"a journal cannot hold this table's primary key: {error}; run without one") from None


def _position(entry: Mapping[str, object], column: str) -> Position:
    after, kept = cast("list[str] | None", entry["after"]), cast("dict[str, object]", entry["counts"])
    if kept.pop("column") != column or type(entry["done"]) is not bool:
        raise ValueError
    counts = ResealCounts(column, **{name: _number(count) for name, count in kept.items()})
    key = None if after is None else tuple(_values.decode(bytes.fromhex(part)) for part in after)
    return Position(counts, key, entry["done"])


def _number(kept: object) -> int:
    if type(kept) is not int or kept < 0:
        raise ValueError
    return kept
