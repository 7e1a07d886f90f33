"""How far a run over several files is: one bar on a terminal, and a line a minute elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from sealwax.cli import console
from sealwax.cli.state import current
from sealwax.cli.tally import Tally, size_text, time_text
from sealwax.cli.turns import JobQueue

_LINE_SECONDS: Final = 60.0
# A run that is over sooner shows no bar.
_BAR_AFTER_SECONDS: Final = 0.5


class Meter:
    """Shows how far a run is.

    Args:
        tally: what is done.
        listing: what was found.
        clock: as ``time.monotonic``.
    """

    def __init__(self, tally: Tally, listing: JobQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._tally = tally
        self._listing = listing
        self._clock = clock
        self._began = self._line = clock()
        self._under_way = 0
        self._lock = threading.Lock()
        self._main = threading.current_thread()
        self._on_terminal = console.draws() and not current().verbose
        self._bar: console.Bar | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Take the progress inside files too; at the end, the bar disappears."""
        token = console.in_run.set(self._advance)
        try:
            yield
        finally:
            console.in_run.reset(token)
            if self._bar is not None:
                self._bar.close()

    def _advance(self, size: int) -> None:
        with self._lock:
            self._under_way += size
        if size > 0 and threading.current_thread() is self._main:
            self.show()

    def show(self) -> None:
        """Draw the bar, or print the line, if the last time was a while ago. For the main thread."""
        if current().quiet:
            return
        now = self._clock()
        if not self._on_terminal:
            if now - self._line >= _LINE_SECONDS:
                self._line = now
                with console.held(None):
                    console.info(self.text(", "))
            return
        if self._bar is None and now - self._began >= _BAR_AFTER_SECONDS:
            self._bar = console.Bar("", _columns)
        if self._bar is not None:
            fraction = self._fraction() if self._listing.ended else None
            self._bar.show(fraction or 0.0, None if fraction is None else 1.0, lambda: self.text("  "))

    def _files(self) -> int:
        return self._tally.done.total() + self._tally.not_done

    def _bytes(self) -> int:
        return self._tally.bytes + max(0, self._under_way)

    def _fraction(self) -> float:
        """Return how much is done, of files or of bytes, whichever is behind."""
        of_files = self._files() / self._listing.files if self._listing.files else 1.0
        of_bytes = self._bytes() / self._listing.bytes if self._listing.bytes and not self._tally.not_done else 1.0
        return min(of_files, of_bytes, 1.0)

    def text(self, between: str) -> str:
        """Return how far it is, as far as that is known."""
        seconds = max(self._clock() - self._began, 0.001)
        found = f"{self._listing.files:,}{'' if self._listing.ended else '+'}"
        parts = [f"{self._files():,} of {found} files", size_text(self._bytes())]
        parts.append(f"{size_text(self._bytes() / seconds)}/s")
        left = self._tally.left.total()
        parts += [f"{self._tally.failed:,} failed"] * bool(self._tally.failed) + [f"{left:,} left alone"] * bool(left)
        fraction = self._fraction()
        if self._listing.ended and 0 < fraction < 1:
            parts.append(f"{time_text(seconds / fraction - seconds)} left")
        return between.join(parts)


def _columns(bars: ModuleType) -> tuple[Any, ...]:
    return bars.BarColumn(bar_width=None), bars.TextColumn("{task.description}", markup=False)
