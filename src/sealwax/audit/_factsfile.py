"""The facts file: JSON, read strictly and within bounds."""

from __future__ import annotations

import functools
import json
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar, cast

from sealwax._core import trusted
from sealwax._core.files import WholeFile, reported
from sealwax._text import printable
from sealwax.audit._facts import Facts
from sealwax.errors import FactsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT: Final = "sealwax-facts-1"
_KIND: Final = trusted.Kind("the facts file", FactsError)
MAX_BYTES: Final = 512 << 20
MAX_ITEMS: Final = 2_000_000
MAX_TEXT: Final = 262_144  # an inline policy has at most 10,240 characters, a key policy 32 KiB

T = TypeVar("T")
_ARN_OF_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+\Z")
_ARN_OF_ALIAS: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:alias/[A-Za-z0-9:/_-]+\Z")
_TYPE_NAMES: Final[Mapping[object, str]] = {str: "a string", int: "an integer", bool: "true or false"}


def dump(facts: Facts) -> bytes:
    """Return the facts as JSON."""
    return encode({"format": FORMAT} | asdict(facts))


def encode(value: object) -> bytes:
    """Return facts, or parts of them, as JSON on one line."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def _plain(value: object) -> object:
    return (
        value.astimezone(UTC).isoformat() if isinstance(value, datetime) else asdict(cast("DataclassInstance", value))
    )


def decode(kind: type[T], value: object, name: str) -> T:
    """Turn decoded JSON into a type.

    Args:
        kind: a dataclass, ``tuple[X, ...]``, ``dict[str, str]``, datetime, str, int, bool, or a union of one with None.
        name: the name of the value in errors.

    Raises:
        FactsError: the value has another type.
    """
    try:
        return cast("T", _decode(kind, value, name))
    except _InvalidError as error:
        raise FactsError(str(error)) from None


def load(data: bytes, name: str) -> Facts:
    """Parse facts.

    Args:
        name: the name of the file in errors.

    Raises:
        FactsError: the data is not a valid facts file.
    """
    shown = f"'{printable(name)}'"
    if len(data) > MAX_BYTES:
        raise FactsError(f"{shown} is larger than {MAX_BYTES} bytes, so it is not a facts file")
    try:
        raw = json.loads(data, object_pairs_hook=unique_members)
    except DuplicateError as error:
        raise FactsError(f"{shown} is not a valid facts file: {error}") from None
    except (ValueError, RecursionError):
        raise FactsError(f"{shown} is not JSON, so it is not a facts file") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise FactsError(f"{shown} is not a facts file of the format {FORMAT}")
    try:
        facts = cast("Facts", _decode(Facts, raw, "facts"))
        _check(facts)
    except _InvalidError as error:
        raise FactsError(f"{shown} is not a valid facts file: {error}") from None
    return facts


def read_facts(path: str) -> Facts:
    """Read a facts file.

    Args:
        path: the path of the file.

    Returns:
        The facts, for ``run``.

    Raises:
        FactsError: it is not a valid facts file, or other users can write it.
        FileError: it cannot be read.
    """
    with reported(f"reading {_KIND.name}", path), trusted.open_file(path, _KIND) as file:
        return load(file.read(MAX_BYTES + 1), path)


def write_facts(facts: Facts, path: str, *, overwrite: bool = False) -> None:
    """Write a facts file, as a whole or not at all. It holds policies, names and tags; protect it like those.

    Args:
        facts: the facts.
        path: the path of the file.
        overwrite: whether to replace an existing file.

    Raises:
        FileError: the file exists, or cannot be written.
    """
    # Whatever the umask is: read_facts refuses files that others can write.
    with WholeFile(path, overwrite=overwrite, mode=0o644) as file:
        data = memoryview(dump(facts))
        while data:
            data = data[file.write(data) :]


class DuplicateError(ValueError):
    """A JSON object has two members of one name, so its meaning is ambiguous."""


def unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a JSON object whose names are unique, as the ``object_pairs_hook`` of ``json.loads``.

    Raises:
        DuplicateError: two members have the same name.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        first = next(name for place, name in enumerate(names) if name in names[:place])
        raise DuplicateError(f"it has '{printable(first[:80])}' twice in one object")
    return members


class _InvalidError(Exception):
    pass


def _check(facts: Facts) -> None:
    """Check what types cannot express."""
    if not re.fullmatch("[0-9]{12}", facts.account):
        raise _InvalidError("facts.account is not twelve digits")
    for key in facts.keys:
        if not _ARN_OF_KEY.match(key.arn):
            raise _InvalidError(f"'{printable(key.arn[:200])}' is not the ARN of a key")
        for grant in key.grants or ():
            if grant.grantee.startswith("arn:") and grant.grantee.count(":") < 5:
                raise _InvalidError(f"'{printable(grant.grantee[:200])}' is not an ARN")
    for alias in facts.aliases or ():
        if not _ARN_OF_ALIAS.match(alias.arn):
            raise _InvalidError(f"'{printable(alias.arn[:200])}' is not the ARN of an alias")
    for name, expected in facts.expected_aliases.items():
        if expected.startswith("arn:") and not _ARN_OF_KEY.match(expected):
            shown = f"'{printable(name[:200])}'"
            raise _InvalidError(f"'{printable(expected[:200])}', expected for {shown}, is not the ARN of a key")
    for arn in facts.envelopes_under or ():
        if not _ARN_OF_KEY.match(arn):
            raise _InvalidError(f"'{printable(arn[:200])}' in facts.envelopes_under is not the ARN of a key")
    if len({key.arn for key in facts.keys}) != len(facts.keys):
        raise _InvalidError("it has a key twice")
    known = {policy.id for policy in facts.policies or ()}
    for principal in facts.principals or ():
        if not known.issuperset(principal.policies):
            raise _InvalidError(f"'{printable(principal.arn[:200])}' has a policy that is not in facts.policies")


@functools.cache
def _members_of(cls: type[DataclassInstance]) -> dict[str, tuple[object, bool]]:
    """Return the type of each member of a dataclass, and whether it is required."""
    hints = typing.get_type_hints(cls)
    return {
        member.name: (hints[member.name], member.default is MISSING and member.default_factory is MISSING)
        for member in fields(cls)
    }


def _decode(kind: object, value: object, name: str) -> object:
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        (inner,) = (member for member in typing.get_args(kind) if member is not types.NoneType)
        return None if value is None else _decode(inner, value, name)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise _InvalidError(f"{name} is not a list, or is too long")
        inner = typing.get_args(kind)[0]
        return tuple(_decode(inner, item, f"{name}[{index}]") for index, item in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise _InvalidError(f"{name} is not an object")
        return {member: _decode(str, item, f"{name}.{printable(member[:80])}") for member, item in value.items()}
    if is_dataclass(kind) and isinstance(kind, type):
        return _decode_record(kind, value, name)
    if kind is datetime:
        return _decode_time(value, name)
    if type(value) is not kind:
        raise _InvalidError(f"{name} is not {_TYPE_NAMES[kind]}")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise _InvalidError(f"{name} is longer than {MAX_TEXT} characters")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise _InvalidError(f"{name} has half of a surrogate pair")
    return value


def _decode_record(cls: type[DataclassInstance], value: object, name: str) -> object:
    if not isinstance(value, dict):
        raise _InvalidError(f"{name} is not an object")
    members = _members_of(cls)
    for member in value:
        if member not in members:
            raise _InvalidError(f"{name} has '{printable(member[:80])}', which this version of sealwax does not know")
    for member, (_, required) in members.items():
        if required and member not in value:
            raise _InvalidError(f"{name} has no {member}")
    return cls(**{member: _decode(members[member][0], item, f"{name}.{member}") for member, item in value.items()})


def _decode_time(value: object, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(cast("str", value))
    except (TypeError, ValueError):
        raise _InvalidError(f"{name} is not an ISO 8601 time") from None
    if time.tzinfo is None:
        raise _InvalidError(f"{name} has no time zone")
    if not 1970 <= time.year <= 2999:
        raise _InvalidError(f"{name} is not between the years 1970 and 2999")
    return time
