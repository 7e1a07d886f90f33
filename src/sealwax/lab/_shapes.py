"""What a request's members may be, and AWS's sentences for those that are not.

The service model is a table (``sealwax.lab._api_model``); this file is the walker. Values that break the JSON type are
a SerializationException at once, as AWS reports them; values out of bounds are collected and reported together.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sealwax.lab._apierror import ApiError, validation

_MOST_PROBLEMS = 10
_YEAR_10000 = 253_402_300_800


class Shape:
    """One member of a request."""

    kind = ""

    def read(self, value: Any, path: str, problems: list[str]) -> Any:
        raise NotImplementedError


def _problem(path: str, constraint: str, shown: str | None) -> str:
    value = f"Value '{shown}'" if shown is not None else "Value"
    return f"{value} at '{path}' failed to satisfy constraint: Member must {constraint}"


def _size(size: int, least: int, most: int | None, path: str, shown: str | None, problems: list[str]) -> None:
    if size < least:
        problems.append(_problem(path, f"have length greater than or equal to {least}", shown))
    elif most is not None and size > most:
        problems.append(_problem(path, f"have length less than or equal to {most}", shown))


def _whole_characters(text: str, path: str) -> None:
    """JSON escapes can spell half a character, which no encoding takes: not the files', not the encryption's."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApiError("SerializationException", f"'{path}' is not valid Unicode text") from error


@dataclass(frozen=True)
class Text(Shape):
    least: int = 0
    most: int | None = None
    pattern: str | None = None
    enum: tuple[str, ...] = ()
    secret: bool = False
    kind = "string"

    def read(self, value: Any, path: str, problems: list[str]) -> str:
        if not isinstance(value, str):
            raise _cannot_convert(value, "a String")
        _whole_characters(value, path)
        shown = None if self.secret else value
        _size(len(value), self.least, self.most, path, shown, problems)
        if self.enum and value not in self.enum:
            problems.append(_problem(path, f"satisfy enum value set: [{', '.join(self.enum)}]", value))
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            problems.append(_problem(path, f"satisfy regular expression pattern: {self.pattern}", shown))
        return value


@dataclass(frozen=True)
class Number(Shape):
    least: int
    most: int
    kind = "integer"

    def read(self, value: Any, path: str, problems: list[str]) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _cannot_convert(value, "an Integer")
        if value < self.least:
            problems.append(_problem(path, f"have value greater than or equal to {self.least}", str(value)))
        elif value > self.most:
            problems.append(_problem(path, f"have value less than or equal to {self.most}", str(value)))
        return value


@dataclass(frozen=True)
class Flag(Shape):
    kind = "boolean"

    def read(self, value: Any, path: str, problems: list[str]) -> bool:  # noqa: ARG002 - the walker's signature
        if not isinstance(value, bool):
            raise _cannot_convert(value, "a Boolean")
        return value


@dataclass(frozen=True)
class Moment(Shape):
    kind = "timestamp"

    def read(self, value: Any, path: str, problems: list[str]) -> float:  # noqa: ARG002 - the walker's signature
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
            raise _cannot_convert(value, "a Timestamp")
        return float(value)


@dataclass(frozen=True)
class Blob(Shape):
    least: int
    most: int
    kind = "blob"

    def read(self, value: Any, path: str, problems: list[str]) -> bytes | bytearray:
        # A plaintext arrives decoded already, in a buffer that can be wiped.
        if isinstance(value, bytearray):
            content: bytes | bytearray = value
        else:
            if not isinstance(value, str):
                raise _cannot_convert(value, "a Blob")
            try:
                content = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ApiError("SerializationException", f"'{path}' is not valid base64") from error
        _size(len(content), self.least, self.most, path, None, problems)
        return content


@dataclass(frozen=True)
class Items(Shape):
    member: Shape
    least: int = 0
    most: int | None = None
    kind = "list"

    def read(self, value: Any, path: str, problems: list[str]) -> list[Any]:
        if not isinstance(value, list):
            raise _cannot_convert(value, "a List")
        _size(len(value), self.least, self.most, path, f"[{', '.join(map(str, value))}]", problems)
        return [self.member.read(item, f"{path}.{at}.member", problems) for at, item in enumerate(value, 1)]


@dataclass(frozen=True)
class Pairs(Shape):
    """A map of strings to strings."""

    kind = "map"

    def read(self, value: Any, path: str, problems: list[str]) -> dict[str, str]:  # noqa: ARG002
        if not isinstance(value, dict):
            raise _cannot_convert(value, "a Map")
        for text in value.values():
            if not isinstance(text, str):
                raise _cannot_convert(text, "a String")
        for text in (*value, *value.values()):
            _whole_characters(text, path)
        return value


@dataclass(frozen=True)
class Structure(Shape):
    members: Mapping[str, Shape]
    required: frozenset[str] = field(default_factory=frozenset)
    kind = "structure"

    def read(self, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _cannot_convert(value, "a Structure")
        taken: dict[str, Any] = {}
        for name, shape in self.members.items():
            here = f"{path}.{_camel(name)}" if path else _camel(name)
            given = value.get(name)
            if given is not None:
                taken[name] = shape.read(given, here, problems)
            elif name in self.required:
                problems.append(f"Value null at '{here}' failed to satisfy constraint: Member must not be null")
        # Members that the model does not know are ignored: AWS does so too, for clients newer than the service.
        return taken


def check(shape: Structure, document: Any) -> dict[str, Any]:
    """The request's members, decoded.

    Raises:
        ApiError: SerializationException or ValidationException.
    """
    problems: list[str] = []
    members = shape.read(document, "", problems)
    if problems:
        raise validation(*problems[:_MOST_PROBLEMS])
    return members


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _cannot_convert(value: Any, wanted: str) -> ApiError:
    held = {
        bool: "TRUE_VALUE" if value is True else "FALSE_VALUE",
        str: "STRING_VALUE",
        int: "NUMBER_VALUE",
        float: "DECIMAL_VALUE",
        list: "LIST_VALUE",
        dict: "STRUCTURE_VALUE",
    }.get(type(value), "NULL_VALUE")
    return ApiError("SerializationException", f"{held} can not be converted to {wanted}")
