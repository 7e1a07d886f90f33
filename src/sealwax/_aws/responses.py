"""What AWS answers: asked for, with its errors ours, and read field by field.

botocore checks next to nothing of an answer. Where something on the way changes it, or where the endpoint is a stand-in
for AWS, a field may be missing, text may be a number, and botocore itself may fail in any way while it reads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from sealwax import errors
from sealwax._aws import refusals

T = TypeVar("T")

# Of the texts that are read, tokens are the longest; KMS's have up to 8192 characters.
_LONGEST_TEXT: Final = 16_384


class Answer(dict[str, Any]):
    """An answer, or a part of one.

    Args:
        fields: what botocore made of it.
        doing: what was being done, as the subject of a sentence: ``"looking at the key"``.
        key: the KMS key as it was named in the request, or None.
    """

    def __init__(self, fields: object, doing: str, key: str | None) -> None:
        super().__init__(fields if isinstance(fields, Mapping) else {})
        self._doing = doing
        self._key = key

    def __repr__(self) -> str:
        # A role's secret key may be among the fields.
        return f"<Answer to {self._doing}>"

    def need(self, name: str, kind: type[T]) -> T:
        """Return a field of an answer that always has it.

        Raises:
            RequestRefusedError: it is missing, empty, or of another kind.
        """
        value = self.may(name, kind)
        if value is None or value in ("", b""):
            raise self.unreadable(f"the answer lacks {name}")
        return value

    def may(self, name: str, kind: type[T]) -> T | None:
        """Return a field, or None where there is none.

        Raises:
            RequestRefusedError: it is of another kind.
        """
        value = self.get(name)
        if value is None:
            return None
        if (
            not isinstance(value, kind)
            or (isinstance(value, bool) and kind is not bool)
            # Names, words and tokens are all the text that is read: none of them may paint a terminal.
            or (isinstance(value, str) and not (value.isprintable() and len(value) <= _LONGEST_TEXT))
        ):
            raise self.unreadable(f"the answer's {name} is not what it should be")
        return value

    def part(self, name: str) -> Answer:
        """Return a part that the answer always has.

        Raises:
            RequestRefusedError: it is missing, or of another kind.
        """
        return Answer(self.need(name, dict), self._doing, self._key)

    def may_part(self, name: str) -> Answer:
        """Return a part, which has no fields where the answer has no such part.

        Raises:
            RequestRefusedError: it is of another kind.
        """
        return Answer(self.may(name, dict) or {}, self._doing, self._key)

    def parts(self, name: str) -> list[Answer]:
        """Return the parts that the answer lists under a name.

        Raises:
            RequestRefusedError: there is no such list.
        """
        return [Answer(one, self._doing, self._key) for one in self.need(name, list)]

    def unreadable(self, why: str) -> errors.RequestRefusedError:
        """Return the error for an answer that is not KMS's."""
        return refusals.unreadable(self._doing, self._key, why)


def ask(call: Callable[[], object], doing: str, key: str | None) -> Answer:
    """Make a call through botocore and return its answer.

    Args:
        call: makes it.
        doing, key: as for :class:`Answer`.

    Raises:
        KmsError: AWS did not answer, refused, or its answer cannot be read.
        TypeError: the client is asynchronous.
    """
    found = refusals.asked(call, doing, key)
    if inspect.iscoroutine(found):
        found.close()  # nobody awaits it
        raise TypeError(f"{doing} needs a client of boto3; the methods of the one handed in are coroutines")
    return Answer(found, doing, key)


def ask_all(client: Any, operation: str, member: str, doing: str, key: str | None, **parameters: Any) -> list[Answer]:
    """Return what all pages of an answer list under ``member``.

    Args:
        client, operation: a botocore client, and boto3's name of what it is asked.
        doing, key: as for :class:`Answer`.

    Raises:
        KmsError: as for :func:`ask`.
    """
    pages = refusals.asked(lambda: list(client.get_paginator(operation).paginate(**parameters)), doing, key)
    return [one for page in pages for one in Answer(page, doing, key).parts(member)]
