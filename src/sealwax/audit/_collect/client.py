"""How questions are asked: once each. Answers are kept, and failures become gaps, never guesses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeVar

import botocore.exceptions
from botocore.config import Config

from sealwax._aws import refusals
from sealwax._aws.session import Session
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.audit._report import Gap
from sealwax.errors import CredentialsError, KmsError, ThrottledError, UnavailableError, is_of_one_region

T = TypeVar("T")

#: A boto3 client, whose methods depend on its service, and a part of a response, which botocore does not check.
Client: TypeAlias = Any
Response: TypeAlias = Any

_CONFIG: Final = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard"}, user_agent_extra="sealwax")


def open_client(session: Session, service: str, region: str | None) -> Client:
    """Return a client.

    Raises:
        KmsError: the session cannot make one.
    """
    return refusals.open_client(
        lambda: session.client(service, region_name=region, config=_CONFIG), f"opening a client for {service}"
    )


def pages(client: Client, operation: str, member: str, **parameters: object) -> list[Response]:
    """Return what all pages of a response list."""
    return [item for page in client.get_paginator(operation).paginate(**parameters) for item in page[member]]


class _UnavailableError(Exception):
    """The service or action does not exist here."""


class UnreadableError(Exception):
    """A response cannot be read."""


@dataclass
class Collector:
    """Asks AWS, or takes the answer of an earlier run, and notes gaps.

    Attributes:
        unavailable: services and actions that must not be called, and why.
        checkpoint: the answers of earlier runs, and where new ones are kept.
        gaps: what was not answered.
    """

    session: Session
    unavailable: Mapping[str, str]
    checkpoint: Checkpoint | None
    gaps: list[Gap] = field(default_factory=list)
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, region: str | None) -> Client:
        """Return a client for use in an ``ask`` function."""
        if service in self.unavailable:
            raise _UnavailableError(self.unavailable[service])
        with self._opening:  # a session is not safe for use by several threads
            return open_client(self.session, service, region)

    def ask(
        self,
        action: str,
        resource: str,
        region: str,
        kind: type[T],
        ask: Callable[[], T],
        instead: str = "",
        unanswerable: Mapping[str, str] | None = None,
    ) -> T | None:
        """Return what ``ask`` returns, now or in an earlier run, or None with a gap if it fails.

        Args:
            kind: the type of the answer.
            instead: what is done if it fails, for the gap.
            unanswerable: codes of errors by which AWS says that there is no answer, such as in some states of a key,
                and why. These are known limits, not failures.
        """
        question = (action, resource, region)
        kept = None if self.checkpoint is None else self.checkpoint.find(question, kind)
        if kept is not None:
            return kept[0]
        try:
            if action in self.unavailable:
                raise _UnavailableError(self.unavailable[action])
            answer = ask()
        except _UnavailableError as error:
            self.note_gap(*question, str(error), refused=False)
            return None
        except Exception as error:
            self._note_failure(question, error, instead, unanswerable or {})
            return None
        if self.checkpoint is not None:
            self.checkpoint.add(question, answer)
        return answer

    def _note_failure(
        self, question: tuple[str, str, str], error: Exception, instead: str, unanswerable: Mapping[str, str]
    ) -> None:
        """Note why a question has no answer. Raises what every other question would fail with too."""
        failure, message = _explain(error)
        why = unanswerable.get(_code_of(error))
        if why is not None:
            self.note_gap(*question, why, refused=False)
            return
        if isinstance(failure, CredentialsError) and not is_of_one_region(failure):
            raise failure
        self.note_gap(*question, f"{message}{instead}")
        if self.checkpoint is not None and isinstance(failure, ThrottledError | UnavailableError | CredentialsError):
            self.checkpoint.incomplete = True

    def note_gap(self, action: str, resource: str, region: str, why: str, *, refused: bool = True) -> None:
        """Note something that is not checked."""
        self.gaps.append(Gap(action, resource, region, why, refused))


def _explain(error: Exception) -> tuple[Exception, str]:
    """Return an error of AWS or botocore as ours, with its message. Raises any other error again."""
    if isinstance(error, KmsError | UnreadableError):
        return error, str(error)
    # A missing field, or one of another type, is not an answer of AWS.
    unreadable = refusals.is_unreadable(error) or isinstance(error, LookupError | TypeError | AttributeError)
    if not refusals.is_foreign(error) and not unreadable:
        raise error
    failure = refusals.translate(error, "asking", None)
    if isinstance(failure, CredentialsError):
        return failure, str(failure)
    if unreadable:
        return UnreadableError(), f"the answer cannot be read ({type(error).__name__})"
    return failure, refusals.words_of(error)  # the service's own words, because our messages are about KMS keys


def _code_of(error: Exception) -> str:
    if not isinstance(error, botocore.exceptions.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))
