"""What AWS has answered so far, kept beside the facts file until that is whole: a broken-off gathering goes on from it.

A line is an answer, written as soon as it is there, so that a killed process loses what it was asking for and no more.
The file holds what a facts file holds, and has mode 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from sealwax._core import disk, trusted
from sealwax._core.context import printable
from sealwax.audit import _factsfile
from sealwax.errors import FactsError, FileError

FORMAT: Final = "sealwax-answers-1"
SUFFIX: Final = ".part"
_KIND: Final = trusted.Kind("the file of answers", FactsError)

#: An action, the resource that it was asked about, and the Region.
Question = tuple[str, str, str]


class Answers:
    """The answers of one account. Safe to use from many threads, by one process at a time.

    Args:
        facts: the facts file that they are for.
        place: where they come from: AWS, another endpoint, a lab.
        max_age: older ones are asked for again.

    Attributes:
        kept: how many answers of former runs are young enough.
        oldest: when the oldest of these was given.
        used: when the oldest that this run has used was given.
        to_be_continued: whether something was throttled or out of reach, so that the file is worth to be kept.

    Raises:
        FactsError: it is in use, of another place, or damaged; or somebody else can have written it.
        FileError: it cannot be opened.
    """

    def __init__(self, facts: str, place: str, max_age: timedelta) -> None:
        self.path = Path(f"{os.path.realpath(facts)}{SUFFIX}")
        self.shown = f"'{printable(f'{facts}{SUFFIX}')}'"
        self.used: datetime | None = None
        self.to_be_continued = False
        self._place = place
        self._account: str | None = None
        self._lock = threading.Lock()
        self._answers: dict[Question, tuple[datetime, Any]] = {}
        try:
            self._file = self._opened()
        except BlockingIOError:
            raise FactsError(f"{self.shown} is in use: another audit gathers the same facts now") from None
        except OSError as error:
            raise FileError(f"opening {self.shown} failed: {disk.reason(error)}") from error
        try:
            self._load(max_age)
        except BaseException:
            self._file.close()
            raise
        self.kept = len(self._answers)
        self.oldest = min((at for at, _ in self._answers.values()), default=None)

    def _opened(self) -> io.FileIO:
        while True:
            descriptor = trusted.open_own(self.path, _KIND)
            file = io.FileIO(descriptor, "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who held the lock before may have removed the file that was opened here.
                if self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(descriptor)):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def _load(self, max_age: timedelta) -> None:
        now = datetime.now(UTC)
        data = self._file.read(_factsfile.MAX_BYTES + 1)
        if len(data) > _factsfile.MAX_BYTES:
            raise self._damaged()
        start = _factsfile.encode({"format": FORMAT})[:-1]
        if not data.startswith(start) and not start.startswith(data):
            raise self._damaged()  # and somebody else's: it stays as it is
        whole = data.rpartition(b"\n")[0]
        # A killed process may have left half a line.
        self._file.truncate(len(whole) + 1 if whole else 0)
        self._file.seek(0, os.SEEK_END)
        if not whole:
            return
        head, *lines = whole.split(b"\n")
        try:
            told = json.loads(head)
            if told.get("format") != FORMAT or not isinstance(told["account"], str):
                raise self._damaged()
            self._account, place = told["account"], told["place"]
            for line in lines:
                one = json.loads(line)
                action, resource, region = _factsfile.decode(tuple[str, ...], one["question"], "question")
                at = _factsfile.decode(datetime, one["at"], "at")
                # A clock that was put back says of an answer that it is of a time to come: how old it is, nobody knows.
                if now - max_age <= at <= now:
                    self._answers[(action, resource, region)] = (at, one["answer"])
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, FactsError):
            raise self._damaged() from None
        if place != self._place:
            raise FactsError(
                f"{self.shown} holds what {printable(str(place))} has answered, not {self._place}: remove it, or name "
                "another facts file"
            )

    def _damaged(self) -> FactsError:
        return FactsError(f"{self.shown} holds no answers that can be used: remove it")

    def begin(self, account: str) -> None:
        """Say whose answers these are.

        Raises:
            FactsError: those that are kept are of another account.
        """
        if self._account is None:
            self._account = account
            self._write({"format": FORMAT, "account": account, "place": self._place})
        elif self._account != account:
            raise FactsError(
                f"{self.shown} holds what was gathered of account {printable(self._account)}, not {account}: remove "
                "it, or name another facts file"
            )

    def find(self, question: Question, kind: Any) -> tuple[Any] | None:
        """Return the answer to a question, in a tuple; None where there is none.

        Args:
            kind: its type.

        Raises:
            FactsError: it is of another type.
        """
        found = self._answers.get(question)
        if found is None:
            return None
        at, answer = found
        try:
            value = _factsfile.decode(kind, answer, "answer")
        except FactsError:
            raise self._damaged() from None
        with self._lock:
            self.used = at if self.used is None else min(at, self.used)
        return (value,)

    def add(self, question: Question, answer: Any) -> None:
        """Keep an answer.

        Raises:
            FileError: it cannot be written.
        """
        self._write({"question": question, "at": datetime.now(UTC), "answer": answer})

    def _write(self, line: dict[str, Any]) -> None:
        data = memoryview(_factsfile.encode(line) + b"\n")
        with self._lock:
            end = self._file.tell()
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError as error:
                # The next line must not go on from half of this one.
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                    self._file.seek(end)
                raise FileError(f"writing {self.shown} failed: {disk.reason(error)}") from error

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return self._account is not None

    def remove(self) -> None:
        """Remove the file, when the facts are in their place."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.begun:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()
