"""The checkpoint: answers of AWS, kept beside the facts file until it is complete, so that a run can resume.

Each line is an answer, written when it arrives, so that a killed process loses only the questions in flight. The file
holds the same data as a facts file and has mode 0600.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

from sealwax._core import disk, locking, trusted
from sealwax._text import printable
from sealwax.audit import _factsfile
from sealwax.errors import FactsError, FileError

FORMAT: Final = "sealwax-answers-1"
SUFFIX: Final = ".part"
_KIND: Final = trusted.Kind("the file of answers", FactsError)

T = TypeVar("T")
#: An action, the resource it is about, and the Region.
Question = tuple[str, str, str]


class Checkpoint:
    """The answers about one account. Many threads can use it, but only one process at a time.

    Args:
        facts: the path of the facts file.
        source: where the answers come from: AWS, another endpoint, or a lab.
        max_age: answers older than this are requested again.

    Attributes:
        path: the path of the checkpoint: that of the facts file and ``.part``.
        shown: the path as messages show it.
        kept: how many answers of earlier runs are recent enough.
        oldest: the time of the oldest of these.
        used: the time of the oldest answer that this run has used.
        incomplete: whether a question was throttled or unreachable, so that the checkpoint is worth keeping.

    Raises:
        FactsError: it is in use, from another source or damaged, or other users can write it.
        FileError: it cannot be opened.
    """

    def __init__(self, facts: str, source: str, max_age: timedelta) -> None:
        self.path = Path(f"{os.path.realpath(facts)}{SUFFIX}")
        self.shown = f"'{printable(f'{facts}{SUFFIX}')}'"
        self.used: datetime | None = None
        self.incomplete = False
        self._source = source
        self._account: str | None = None
        self._lock = threading.Lock()
        self._answers: dict[Question, tuple[datetime, object]] = {}
        try:
            # The previous holder of the lock may have removed the file that was opened here.
            descriptor = locking.lock(
                lambda: trusted.open_own(self.path, _KIND), lambda file: locking.is_at(self.path, file)
            )
        except BlockingIOError:
            raise FactsError(f"{self.shown} is in use by another audit that collects the same facts") from None
        except OSError as error:
            raise FileError(f"opening {self.shown} failed: {disk.reason(error)}") from error
        self._file = io.FileIO(descriptor, "r+b")
        try:
            self._load(max_age)
        except BaseException:
            self._file.close()
            raise
        self.kept = len(self._answers)
        self.oldest = min((at for at, _ in self._answers.values()), default=None)

    def _load(self, max_age: timedelta) -> None:
        data = self._file.read(_factsfile.MAX_BYTES + 1)
        if len(data) > _factsfile.MAX_BYTES:
            raise self._damaged()
        start = _factsfile.encode({"format": FORMAT})[:-1]
        if not data.startswith(start) and not start.startswith(data):
            raise self._damaged()  # it is not ours, so it stays as it is
        complete = data.rpartition(b"\n")[0]
        # A killed process may have written half of the last line.
        self._file.truncate(len(complete) + 1 if complete else 0)
        self._file.seek(0, os.SEEK_END)
        if not complete:
            return
        head, *lines = complete.split(b"\n")
        try:
            header = json.loads(head)
            if header.get("format") != FORMAT or not isinstance(header["account"], str):
                raise self._damaged()
            self._account, source = header["account"], header["place"]
            for line in lines:
                self._load_answer(json.loads(line), max_age)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, FactsError):
            raise self._damaged() from None
        if source != self._source:
            raise FactsError(
                f"{self.shown} has answers from {printable(str(source))}, not from {self._source}; remove it, or name "
                "another facts file"
            )

    def _load_answer(self, line: Mapping[str, object], max_age: timedelta) -> None:
        action, resource, region = _factsfile.decode(tuple[str, ...], line["question"], "question")
        at = _factsfile.decode(datetime, line["at"], "at")
        answer = line["answer"]
        now = datetime.now(UTC)
        # If the clock was set back, the age of an answer from the future is unknown.
        if now - max_age <= at <= now:
            self._answers[(action, resource, region)] = (at, answer)

    def _damaged(self) -> FactsError:
        return FactsError(f"{self.shown} is not a valid file of answers; remove it")

    def begin(self, account: str) -> None:
        """Set the account that the answers are about.

        Args:
            account: its 12 digits.

        Raises:
            FactsError: the kept answers are about another account.
        """
        if self._account is None:
            self._account = account
            self._write({"format": FORMAT, "account": account, "place": self._source})
        elif self._account != account:
            raise FactsError(
                f"{self.shown} has answers about account {printable(self._account)}, not {account}; remove it, or name "
                "another facts file"
            )

    def find(self, question: Question, kind: type[T]) -> tuple[T] | None:
        """Return the answer to a question, in a tuple; None if there is none.

        Args:
            kind: the type of the answer.

        Raises:
            FactsError: the answer has another type.
        """
        if question not in self._answers:
            return None
        at, answer = self._answers[question]
        try:
            value = _factsfile.decode(kind, answer, "answer")
        except FactsError:
            raise self._damaged() from None
        with self._lock:
            self.used = at if self.used is None else min(at, self.used)
        return (value,)

    def add(self, question: Question, answer: object) -> None:
        """Keep an answer.

        Args:
            question: the action, the resource and the Region.
            answer: what AWS answered.

        Raises:
            FileError: it cannot be written.
        """
        self._write({"question": question, "at": datetime.now(UTC), "answer": answer})

    def _write(self, line: Mapping[str, object]) -> None:
        data = memoryview(_factsfile.encode(line) + b"\n")
        with self._lock:
            end = self._file.tell()
            try:
                while data:
                    data = data[self._file.write(data) :]
            except OSError as error:
                # The next line must not continue half of this one.
                with contextlib.suppress(OSError):
                    self._file.truncate(end)
                    self._file.seek(end)
                raise FileError(f"writing {self.shown} failed: {disk.reason(error)}") from error

    @property
    def begun(self) -> bool:
        """Whether there is anything to resume from."""
        return self._account is not None

    def remove(self) -> None:
        """Remove the file, after the facts file was written."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.begun:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()
