"""Runs the jobs of a command and reports them: each one if it is a single file, else what they come to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from sealwax.cli import PARTLY_DONE, console, status_of
from sealwax.cli.jobs import FileJob, Skip
from sealwax.cli.meter import Meter
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.state import current
from sealwax.cli.tally import Kinds, Tally
from sealwax.cli.turns import Fields, Interruption, JobQueue, Result, Turn, Turns
from sealwax.cli.work import STREAM, Work
from sealwax.errors import FileError, NotAnEnvelopeError, is_of_all

# For commands that skip what is done.
SAME_AGAIN: Final = "run the same command again to resume"


def run(work: Work, pending: Iterator[FileJob], do: Callable[[FileJob], Result], *, again: str = "") -> int:
    """Do each job and report it; one that fails does not stop the others. Return the exit status.

    A place that does not exist, or has no envelope, has the status of its error. If something in an existing place
    cannot be read, listed or written, the run is partly done, even if nothing else was. Missing AWS credentials or
    wrong settings end the run, since every other job would fail too.

    What is reported, its order, and the status do not depend on how many threads do the jobs.

    Args:
        do: returns what was done ("encrypted"), or the fields for --json, of which "outcome" is also printed as text.
            What precedes a comma in an outcome is counted. "note" is printed, and no part of the JSON. Or it returns
            why the file is skipped.
        again: how to do the rest, once the causes of failures are fixed.
    """
    listing = JobQueue(pending)
    report = _Report(work, listing)
    meter = Meter(report.tally, listing)
    interruption = Interruption()
    turns = Turns(work, listing, do, interruption)
    if work.several and work.keys is not None:
        work.keys.watch.begin()
    try:
        with meter.running() if work.several else contextlib.nullcontext(), contextlib.closing(turns.take()) as taken:
            for turn in taken:
                interruption.hold()
                report.add(turn)
                interruption.release()
                if work.several:
                    meter.show()
    except (KeyboardInterrupt, SystemExit):
        for turn in turns.ahead.values():
            if turn.result is not None and not turn.reported:  # finished meanwhile
                report.add(turn)
        report.end(again, interrupted=True)
        raise
    return report.end(again)


class _Report:
    """What is said about the jobs of a run."""

    def __init__(self, work: Work, listing: JobQueue) -> None:
        self._work = work
        self._listing = listing
        self._each = not work.several or work.dry_run or current().verbose
        self._failures, self._notes = Kinds(), Kinds()
        self._first: Exception | None = None
        self._ended: Exception | None = None
        self._in_part = False
        self.tally = Tally(work, listing)

    def add(self, turn: Turn) -> None:
        """Report a job in its turn."""
        turn.reported = True
        for text in turn.messages or ():
            console.stderr(text)
        if turn.job is not None and turn.job.skipped is not None:
            self._add_skipped(turn.job)
        elif turn.error is not None:
            self._add_failure(turn.job, turn.error)
        elif turn.job is not None and turn.result is not None:
            self._add_result(turn, turn.job, turn.result)

    def _add_result(self, turn: Turn, job: FileJob, result: Result) -> None:
        if isinstance(result, Skip):
            self._listing.files -= 1  # no part of what was asked, as it turns out
            self._add_skipped(replace(job, skipped=result))
        else:
            self._add_done(turn, job, {"outcome": result} if isinstance(result, str) else result)

    def _add_skipped(self, job: FileJob) -> None:
        assert job.skipped is not None
        self.tally.skipped[job.skipped.counted] += 1
        if self._work.as_json:
            console.print_json({"path": job.source, "outcome": "skipped", "message": job.skipped.reason})
        elif self._each:
            console.info(f"{console.shown(job.source)}: skipped, {job.skipped.reason}")

    def _add_done(self, turn: Turn, job: FileJob, fields: Fields) -> None:
        self.tally.add_done(turn, str(fields.get("outcome", "inspected")))
        note = fields.get("note")
        if note is not None and (self._notes.add(job, (), str(note)) or self._each):
            console.info(f"{console.shown(job.source)}: {note}")
        fields = {name: value for name, value in fields.items() if name != "note"}
        if self._work.as_json:
            output = {} if job.output is None else {"output": job.output}
            console.print_json({"path": job.source, **output, **fields})
        elif self._each and "outcome" in fields and job.output != STREAM:
            place = "" if job.output is None else f" -> {console.shown(job.output)}"
            console.info(f"{console.shown(job.source)}: {fields['outcome']}{place}")

    def _add_failure(self, job: FileJob | None, error: Exception) -> None:
        self.tally.add_failure(error)
        self._first = self._first or error
        if not (self._ended is not None and is_of_all(error)):  # else it was in progress, and failed alike
            kind = (type(error).__name__, getattr(error, "code", None), getattr(error, "outcome", None))
            if self._failures.add(job, kind, console.in_options(str(error))) or self._each:
                console.error(error, about=None if job is None else job.source)
        if job is None or is_of_all(error):
            self._ended = self._ended or error
        if job is not None:
            file_failed = isinstance(error, FileError) and not isinstance(error, LeftAloneError)
            self._in_part = self._in_part or (job.below and file_failed)
            if self._work.as_json:
                outcome = error.outcome if isinstance(error, LeftAloneError) else "failed"
                output = {} if job.output is None else {"output": job.output}
                fields = {"outcome": outcome, "error": type(error).__name__, "message": console.in_options(str(error))}
                console.print_json({"path": job.source, **output, **fields, **_foreign(error)})
        # Only its class is needed; its frames would keep the file's buffers alive.
        error.__traceback__ = error.__cause__ = error.__context__ = None

    def end(self, again: str, *, interrupted: bool = False) -> int:
        """Report the run as a whole; return its status."""
        status = self._status()
        if self._work.several:
            self._sum_up(again, None if interrupted else status, interrupted=interrupted)
        elif not interrupted and not self._first:
            if not self.tally.done:
                console.info("nothing to do")
            elif self._work.dry_run:
                console.info("dry run, nothing was written")
        return status

    def _sum_up(self, again: str, status: int | None, *, interrupted: bool) -> None:
        for job in self._listing.rest():
            if job.skipped is not None:
                self._add_skipped(job)
        if not self._each:
            for text in self._failures.told(listed=self._work.as_json):
                console.warn(text)
            for text in self._notes.told(listed=self._work.as_json):
                console.info(text)
        if self._ended is not None:
            console.warn("the run ends here, because everything else would fail the same way")
        whole = self._first is None and not self.tally.not_tried
        (console.info if whole or interrupted else console.warn)(self.tally.text())
        if self._work.as_json:
            console.print_json({"summary": self.tally.as_dict(status)})
        if not whole and not interrupted and (step := self.tally.next_step(again)):
            console.info(step)
        elif interrupted and again and self.tally.not_tried:
            console.info(f"next: {again}")
        elif whole and self._work.dry_run and any(what.startswith("would ") for what in self.tally.done):
            console.info("next: run it without --dry-run")

    def _status(self) -> int:
        if self._first is None:
            return 0
        if self.tally.done or (self._in_part and self._ended is None):
            return PARTLY_DONE
        return status_of(self._ended or self._first)


def _foreign(error: Exception) -> Fields:
    """Return the JSON fields for a file in another format than ours."""
    foreign = error.foreign if isinstance(error, NotAnEnvelopeError) else None
    if foreign is None:
        return {}
    return {"format": foreign.format, "keys": list(foreign.keys), "keys_complete": foreign.complete}
