"""Checks a request's members against the service model and words the problems as AWS does.

A wrong JSON type raises SerializationException at once, as AWS does; values out of bounds are collected and reported
together.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sealwax.lab._apierror import ApiError, validation
from sealwax.lab._model import Members

_MAX_PROBLEMS = 10
_YEAR_10000 = 253_402_300_800


class Shape:
    """The type of one member of a request."""

    def read(self, value: object, path: str, problems: list[str]) -> object:
        """The value, decoded; constraints that it breaks are added to ``problems``."""
        raise NotImplementedError


def _problem(path: str, constraint: str, shown: str | None) -> str:
    value = f"Value '{shown}'" if shown is not None else "Value"
    return f"{value} at '{path}' failed to satisfy constraint: Member must {constraint}"


def _check_range(
    size: int, least: int, most: int | None, path: str, shown: str | None, problems: list[str], what: str = "length"
) -> None:
    if size < least:
        problems.append(_problem(path, f"have {what} greater than or equal to {least}", shown))
    elif most is not None and size > most:
        problems.append(_problem(path, f"have {what} less than or equal to {most}", shown))


def _check_unicode(text: str, path: str) -> None:
    """JSON escapes can spell half a surrogate pair, which cannot be encoded."""
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

    def read(self, value: object, path: str, problems: list[str]) -> str:
        if not isinstance(value, str):
            raise _cannot_convert(value, "a String")
        _check_unicode(value, path)
        _check_range(len(value), self.least, self.most, path, value, problems)
        if self.enum and value not in self.enum:
            problems.append(_problem(path, f"satisfy enum value set: [{', '.join(self.enum)}]", value))
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            problems.append(_problem(path, f"satisfy regular expression pattern: {self.pattern}", value))
        return value


@dataclass(frozen=True)
class Number(Shape):
    least: int
    most: int | None

    def read(self, value: object, path: str, problems: list[str]) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _cannot_convert(value, "an Integer")
        _check_range(value, self.least, self.most, path, str(value), problems, "value")
        return value


@dataclass(frozen=True)
class Flag(Shape):
    def read(self, value: object, path: str, problems: list[str]) -> bool:  # noqa: ARG002 - as Shape has it
        if not isinstance(value, bool):
            raise _cannot_convert(value, "a Boolean")
        return value


@dataclass(frozen=True)
class Moment(Shape):
    def read(self, value: object, path: str, problems: list[str]) -> float:  # noqa: ARG002 - as Shape has it
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
            raise _cannot_convert(value, "a Timestamp")
        return float(value)


@dataclass(frozen=True)
class Blob(Shape):
    least: int
    most: int | None

    def read(self, value: object, path: str, problems: list[str]) -> bytes | bytearray:
        # A plaintext arrives already decoded, in a buffer that can be wiped.
        if isinstance(value, bytearray):
            content: bytes | bytearray = value
        else:
            if not isinstance(value, str):
                raise _cannot_convert(value, "a Blob")
            try:
                content = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ApiError("SerializationException", f"'{path}' is not valid base64") from error
        _check_range(len(content), self.least, self.most, path, None, problems)
        return content


@dataclass(frozen=True)
class Items(Shape):
    member: Shape
    least: int = 0
    most: int | None = None

    def read(self, value: object, path: str, problems: list[str]) -> list[object]:
        if not isinstance(value, list):
            raise _cannot_convert(value, "a List")
        _check_range(len(value), self.least, self.most, path, f"[{', '.join(map(str, value))}]", problems)
        return [self.member.read(item, f"{path}.{at}.member", problems) for at, item in enumerate(value, 1)]


@dataclass(frozen=True)
class Pairs(Shape):
    """A map of strings to strings."""

    def read(self, value: object, path: str, problems: list[str]) -> dict[str, str]:  # noqa: ARG002 - as Shape has it
        if not isinstance(value, dict):
            raise _cannot_convert(value, "a Map")
        for text in value.values():
            if not isinstance(text, str):
                raise _cannot_convert(text, "a String")
        for text in (*value, *value.values()):
            _check_unicode(text, path)
        return value


@dataclass(frozen=True)
class Structure(Shape):
    members: Mapping[str, Shape]
    required: frozenset[str] = field(default_factory=frozenset)

    def read(self, value: object, path: str, problems: list[str]) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _cannot_convert(value, "a Structure")
        members: dict[str, object] = {}
        for name, shape in self.members.items():
            here = f"{path}.{_camel(name)}" if path else _camel(name)
            given = value.get(name)
            if given is not None:
                members[name] = shape.read(given, here, problems)
            elif name in self.required:
                problems.append(f"Value null at '{here}' failed to satisfy constraint: Member must not be null")
        # Members that the model does not have are ignored, as by AWS: a client may be newer than the service.
        return members


def check(shape: Structure, document: object) -> Members:
    """The request's members, decoded.

    Raises:
        ApiError: SerializationException or ValidationException.
    """
    problems: list[str] = []
    members = shape.read(document, "", problems)
    if problems:
        raise validation(*problems[:_MAX_PROBLEMS])
    return members


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _cannot_convert(value: object, wanted: str) -> ApiError:
    kind = {
        bool: "TRUE_VALUE" if value is True else "FALSE_VALUE",
        str: "STRING_VALUE",
        int: "NUMBER_VALUE",
        float: "DECIMAL_VALUE",
        list: "LIST_VALUE",
        dict: "STRUCTURE_VALUE",
    }.get(type(value), "NULL_VALUE")
    return ApiError("SerializationException", f"{kind} can not be converted to {wanted}")
