"""How one question is asked: once, for what was answered is kept, and what was not is noted and never guessed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import botocore.exceptions as foreign

from sealwax._aws import refusals
from sealwax._aws.session import Session
from sealwax.audit._collect.checkpoint import Answers
from sealwax.audit._collect.explanation import open_client
from sealwax.audit._report import Gap
from sealwax.errors import CredentialsError, KmsError, ThrottledError, UnavailableError, is_of_one_region

T = TypeVar("T")


class _AbsentError(Exception):
    """There is no such service here."""


class UnreadableError(Exception):
    """An answer cannot be read."""


@dataclass
class Looking:
    """What answers, what has answered before, and what did not."""

    session: Session
    absent: Mapping[str, str]
    answers: Answers | None
    missed: list[Gap] = field(default_factory=list)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, region: str | None) -> Any:
        """Return a client, for an ``ask``."""
        if service in self.absent:
            raise _AbsentError(self.absent[service])
        with self._making:  # a session makes clients for one thread at a time
            return open_client(self.session, service, region)

    def at(
        self,
        action: str,
        resource: str,
        region: str,
        kind: Any,
        ask: Callable[[], T],
        instead: str = "",
        unanswerable: Mapping[str, str] | None = None,
    ) -> T | None:
        """Return what ``ask`` returns, now or in a former run; None where it was refused, which is noted.

        Args:
            kind: the type of what it returns.
            instead: what is done where it was refused, for the note.
            unanswerable: the codes of errors by which AWS says that there is nothing to tell, and why: what the state
                of a key makes unanswerable is no refusal.
        """
        question = (action, resource, region)
        kept = None if self.answers is None else self.answers.find(question, kind)
        if kept is not None:
            found: T = kept[0]
            return found
        failure: Exception
        try:
            if action in self.absent:
                raise _AbsentError(self.absent[action])
            found = ask()
        except _AbsentError as error:
            self.miss(*question, str(error), refused=False)
            return None
        except (KmsError, UnreadableError) as error:
            failure, said, code = error, str(error), ""
        except Exception as error:
            # A field that is not there, or of another kind: no answer of AWS.
            unreadable = refusals.is_unreadable(error) or isinstance(error, LookupError | TypeError | AttributeError)
            if not refusals.is_foreign(error) and not unreadable:
                raise
            failure = refusals.translate(error, "asking", None)
            if isinstance(failure, CredentialsError):
                said = str(failure)
            elif unreadable:
                failure, said = UnreadableError(), f"the answer cannot be read ({type(error).__name__})"
            else:
                said = refusals.words_of(error)  # the service's own words: the table of errors speaks of KMS keys
            code = _code_of(error)
        else:
            if self.answers is not None:
                self.answers.add(question, found)
            return found
        why = (unanswerable or {}).get(code)
        if why is not None:
            self.miss(*question, why, refused=False)
            return None
        if isinstance(failure, CredentialsError) and not is_of_one_region(failure):
            raise failure  # every other question would end so too
        self.miss(*question, f"{said}{instead}")
        if self.answers is not None and isinstance(failure, ThrottledError | UnavailableError | CredentialsError):
            self.answers.to_be_continued = True
        return None

    def miss(self, action: str, resource: str, region: str, why: str, *, refused: bool = True) -> None:
        """Note what was not looked at."""
        self.missed.append(Gap(action, resource, region, why, refused))


def _code_of(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, foreign.ClientError) else ""
