"""Calls to AWS with sealwax's errors, and answers whose fields are checked as they are read.

botocore hardly checks an answer. If something in between changes it, or the endpoint only imitates AWS, fields can be
missing, text can be a number, and botocore itself can raise anything while parsing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sealwax import errors
from sealwax._aws import refusals

if TYPE_CHECKING:
    from botocore.client import BaseClient

T = TypeVar("T")

# Tokens are the longest texts read here; KMS's have up to 8192 characters.
_LONGEST_TEXT: Final = 16_384


class Answer(dict[str, Any]):
    """An answer, or a part of one.

    Args:
        fields: as parsed by botocore.
        doing: the operation, as the subject of a sentence: ``"describing the key"``.
        key: the KMS key as named in the request, or None.
    """

    def __init__(self, fields: object, doing: str, key: str | None) -> None:
        super().__init__(fields if isinstance(fields, Mapping) else {})
        self._doing = doing
        self._key = key

    def __repr__(self) -> str:
        # The fields may include a role's secret key.
        return f"<Answer to {self._doing}>"

    def need(self, name: str, kind: type[T]) -> T:
        """Return a required field.

        Raises:
            RequestRefusedError: it is missing, empty, or of another type.
        """
        value = self.optional(name, kind)
        if value is None or value in ("", b""):
            raise self.unreadable(f"the answer has no {name}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return a field, or None if it is missing.

        Raises:
            RequestRefusedError: it is of another type.
        """
        value = self.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, kind)
            or (isinstance(value, bool) and kind is not bool)
            # Only names, words and tokens are read: none may hold control characters for a terminal.
            or (isinstance(value, str) and not (value.isprintable() and len(value) <= _LONGEST_TEXT))
        ):
            raise self.unreadable(f"the answer's {name} is not valid")
        return value

    def part(self, name: str) -> Answer:
        """Return a required part.

        Raises:
            RequestRefusedError: it is missing, or of another type.
        """
        return Answer(self.need(name, dict), self._doing, self._key)

    def optional_part(self, name: str) -> Answer:
        """Return a part; without fields if it is missing.

        Raises:
            RequestRefusedError: it is of another type.
        """
        return Answer(self.optional(name, dict) or {}, self._doing, self._key)

    def parts(self, name: str) -> list[Answer]:
        """Return the parts of a required list.

        Raises:
            RequestRefusedError: it is missing, or of another type.
        """
        return [Answer(part, self._doing, self._key) for part in self.need(name, list)]

    def unreadable(self, why: str) -> errors.RequestRefusedError:
        """Return the error for an answer that AWS would not give."""
        return refusals.unreadable(self._doing, self._key, why)


def ask(call: Callable[[], object], doing: str, key: str | None) -> Answer:
    """Return the answer of a call through botocore.

    Args:
        call: makes the call.
        doing, key: as for ``Answer``.

    Raises:
        KmsError: AWS did not answer or refused, or its answer cannot be read.
        TypeError: the client is asynchronous.
    """
    answer = refusals.call_aws(call, doing, key)
    if inspect.iscoroutine(answer):
        answer.close()  # it will never be awaited
        raise TypeError(f"{doing} needs a boto3 client, and this client's methods are coroutines")
    return Answer(answer, doing, key)


def ask_all(
    client: BaseClient, operation: str, member: str, doing: str, key: str | None, **parameters: object
) -> list[Answer]:
    """Return the items listed under ``member`` on all pages of an answer.

    Args:
        client: a botocore client.
        operation: boto3's name for it.
        doing, key: as for ``Answer``.

    Raises:
        KmsError: as for ``ask``.
    """
    pages = refusals.call_aws(lambda: list(client.get_paginator(operation).paginate(**parameters)), doing, key)
    return [item for page in pages for item in Answer(page, doing, key).parts(member)]
