"""What a run over several files counts, and how it says so: kinds of failures, the summary, and what to do next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sealwax._text import of_many
from sealwax.cli import console
from sealwax.cli.console import counted
from sealwax.cli.jobs import FileJob
from sealwax.cli.kms import Keys
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.turns import Fields, JobQueue, Turn
from sealwax.cli.work import Work
from sealwax.errors import DamagedHeaderError, PayloadError

_EXAMPLES: Final = 3
# Beyond so many kinds, errors of one class are one kind.
_MOST_KINDS: Final = 200
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size: float) -> str:
    """Return a size as people read it."""
    power = 0
    while size >= 1024 and power < len(_UNITS) - 1:
        size /= 1024
        power += 1
    return counted(int(size), "byte") if power == 0 else f"{size:,.1f} {_UNITS[power]}"


def time_text(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(slots=True)
class _Kind:
    """Failures, or notes, that differ only in the file that they are about.

    Attributes:
        text: of all of them, without the names of files; numbers are left out once they differ.
    """

    text: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Kinds:
    """Counts messages about files by their kind."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, ...], _Kind] = {}

    def add(self, job: FileJob | None, what: tuple[object, ...], message: str) -> bool:
        """Count a message. Return whether it is the first of its kind.

        Args:
            what: what else its kind depends on.
        """
        text = _without(job, message, numbers=False)
        bare = _without(job, message, numbers=True)
        key = (*what, bare)
        if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            key, text = what, "there are too many kinds to tell them apart"
        kind = self._kinds.setdefault(key, _Kind(text))
        kind.count += 1
        if kind.text != text and len(key) > len(what):
            kind.text = bare
        if len(kind.examples) < _EXAMPLES and job is not None:
            kind.examples.append(console.shown(job.source))
        return kind.count == 1

    def told(self, *, listed: bool) -> Iterator[str]:
        """Yield a text for each kind with several files, large ones first.

        Args:
            listed: whether each is in the JSON.
        """
        for kind in sorted(self._kinds.values(), key=lambda kind: -kind.count):
            if kind.count > 1:
                rest = kind.count - len(kind.examples)
                hint = "" if listed else "; use -v or --json to list them"
                more = [f"and {rest:,} more{hint}"] if rest else []
                lines = [f"{counted(kind.count, 'file')}: {kind.text}", *kind.examples, *more]
                yield "\n  ".join(lines)


def _without(job: FileJob | None, message: str, *, numbers: bool) -> str:
    """Return a message without what is of one file or request only; without numbers, if asked."""
    names = {console.shown(name) for name in (job and job.source, job and job.output) if name}
    return of_many(message, names, numbers=not numbers)


class Tally:
    """Counts what becomes of the files of a run.

    Attributes:
        done: how many by outcome, such as "encrypted".
        skipped: how many by reason; they are no part of what was asked.
        left: how many were left alone, by reason.
        failed: how many failed.
        damaged: how many of those are damaged envelopes.
        bytes: the sizes of those that are done, as far as known.
    """

    def __init__(self, work: Work, listing: JobQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._listing = listing
        self._clock = clock
        self._began = clock()
        self.done: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self.failed = 0
        self.damaged = 0
        self.bytes = 0
        self._unknown_sizes = False

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    @property
    def not_done(self) -> int:
        """How many were tried and are not done."""
        return self.failed + self.left.total()

    @property
    def not_tried(self) -> int:
        """How many that were found have not come to an end."""
        return max(0, self._listing.files - self.done.total() - self.not_done)

    def add_done(self, turn: Turn, outcome: str) -> None:
        self.done[outcome.partition(",")[0]] += 1
        self.bytes += turn.size or 0
        self._unknown_sizes = self._unknown_sizes or turn.size is None

    def add_failure(self, error: Exception) -> None:
        if isinstance(error, LeftAloneError):
            self.left[error.outcome] += 1
        else:
            self.failed += 1
            self.damaged += isinstance(error, DamagedHeaderError | PayloadError)

    def as_dict(self, status: int | None) -> Fields:
        """Return the counts for --json.

        Args:
            status: the exit status; None if it is that of an interruption.
        """
        counts: Fields = {
            "done": dict(self.done),
            "skipped": dict(self.skipped),
            "left_alone": dict(self.left),
            "failed": self.failed,
            "not_tried": self.not_tried,
            "all_found": self._listing.ended,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            **({"dry_run": True} if self._work.dry_run else {}),
            **({} if status is None else {"status": status}),
        }
        if self._work.keys is not None:
            stats = self._work.keys.stats()
            counts |= {"kms_calls": stats.calls, "kms_failures": stats.failures, "cost_usd": round(stats.cost_usd, 6)}
        return counts

    def text(self) -> str:
        """Return the summary: one sentence that says how it stands."""
        parts = [self._verdict()]
        if self.skipped:
            parts.append(f"{self.skipped.total():,} skipped ({_listed(self.skipped)})")
        size = f"{'at least ' * self._unknown_sizes}{size_text(self.bytes)} in " if self.bytes else ""
        parts.append(f"{size}{time_text(self.seconds)}")
        if self._work.keys is not None:
            parts.append(_kms_text(self._work.keys))
        if self._work.dry_run:
            parts[0] = f"dry run, nothing was written: {parts[0].removeprefix('done: ')}"
        return "; ".join(parts)

    def _verdict(self) -> str:
        done, failed, left, not_tried = self.done.total(), self.failed, self.left, self.not_tried
        if not self.not_done + not_tried:
            return f"done: {_listed(self.done)}" if done else "nothing to do"
        least = "" if self._listing.ended else "at least "
        total = f"{least}{done + failed + left.total() + not_tried:,}"
        after = f"; {_listed(self.done)}" if done else ""
        if not left and not not_tried:
            return f"{failed:,} of {total} failed{after}"
        counts = [f"{failed:,} failed"] * bool(failed) + [_listed(left)] * bool(left)
        counts += [f"{least}{not_tried:,} not tried"] * bool(not_tried)
        return f"{failed + left.total() + not_tried:,} of {total} not done: {', '.join(counts)}{after}"

    def next_step(self, again: str) -> str:
        """Return what to do about what is not done; "" if nothing is known.

        Args:
            again: how to do the rest, once the causes of failures are fixed.
        """
        if self.failed or self.not_tried:
            again = "run it again" if again and self._work.dry_run else again
            several = self.done.total() + self.not_done + self.not_tried > 1
            steps = ["restore what is damaged from a good copy"] * bool(self.damaged)
            if self.failed > self.damaged or self.not_tried:
                steps.append(f"fix the {'other ' * bool(self.damaged)}causes")
            return f"next: {', '.join(steps)}, then {again}" if again and several else ""
        return "next: follow the advice above for each"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(_of_kind(count, what) for what, count in sorted(counts.items()))


def _of_kind(count: int, what: str) -> str:
    """Return a count and what is counted, in which "a link" may stand for several."""
    article, _, name = what.partition(" ")
    if article not in ("a", "an"):
        return f"{count:,} {what}"
    noun, space, rest = name.partition(" ")
    return f"{counted(count, noun)}{space}{rest}"


def _kms_text(keys: Keys) -> str:
    stats = keys.stats()
    if not stats.calls:
        return "no KMS calls"
    failed = f" ({stats.failures:,} failed)" if stats.failures else ""
    return f"{counted(stats.calls, 'KMS call')}{failed}, {stats.cost_usd:.6f} USD{' on AWS' * bool(keys.aws.lab)}"
