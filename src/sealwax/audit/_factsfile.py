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
from typing import Any, Final, TypeVar

from sealwax._core import trusted
from sealwax._core.context import printable
from sealwax.audit._facts import Facts
from sealwax.errors import FactsError

FORMAT: Final = "sealwax-facts-1"
_KIND: Final = trusted.Kind("the facts file", FactsError)
MAX_BYTES: Final = 512 << 20
MAX_ITEMS: Final = 2_000_000
MAX_TEXT: Final = 262_144  # an inline policy is at most 10,240 characters, a key policy 32 KiB

T = TypeVar("T")
_ARN_OF_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+\Z")
_ARN_OF_ALIAS: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:alias/[A-Za-z0-9:/_-]+\Z")


def dump(facts: Facts) -> bytes:
    """Return the facts as JSON."""
    return encode({"format": FORMAT} | asdict(facts))


def encode(value: Any) -> bytes:
    """Return facts, or parts of them, as JSON on one line."""
    return json.dumps(value, default=_plain, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else asdict(value)


def decode(kind: Any, value: Any, where: str) -> Any:
    """Turn decoded JSON into what a type annotation asks for.

    Args:
        kind: a dataclass, tuple, mapping of texts, time, text, number or truth value; or one of these, or None.
        where: what the value is called, in the error.

    Raises:
        FactsError: it is something else.
    """
    try:
        return _read(kind, value, where)
    except _WrongError as wrong:
        raise FactsError(str(wrong)) from None


def load(data: bytes, name: str) -> Facts:
    """Read facts.

    Args:
        name: the file's, for errors.

    Raises:
        FactsError: it is no facts file, or one that breaks a rule.
    """
    if len(data) > MAX_BYTES:
        raise FactsError(f"'{printable(name)}' is larger than {MAX_BYTES} bytes, so it is no facts file")
    try:
        raw = json.loads(data, object_pairs_hook=unique)
    except TwiceError as twice:
        raise FactsError(f"'{printable(name)}' is no facts file that can be used: {twice}") from None
    except (ValueError, RecursionError):
        raise FactsError(f"'{printable(name)}' is not JSON; 'sealwax audit --save-facts' writes a facts file") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise FactsError(f"'{printable(name)}' is no facts file of the format {FORMAT}")
    try:
        facts: Facts = _read(Facts, raw, "facts")
        _check(facts)
    except _WrongError as wrong:
        raise FactsError(f"'{printable(name)}' is no facts file that can be used: {wrong}") from None
    return facts


def read(path: str) -> Facts:
    """Read a facts file.

    Raises:
        FactsError: it is no facts file, or somebody else can have written it.
        OSError: it cannot be read.
    """
    with trusted.open_file(path, _KIND) as file:
        return load(file.read(MAX_BYTES + 1), path)


class TwiceError(ValueError):
    """A name stands twice in one object: which of the two is meant, nobody can tell."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, of which each name stands once: the hook for :func:`json.loads`.

    Raises:
        TwiceError: one stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        first = next(name for place, name in enumerate(names) if name in names[:place])
        raise TwiceError(f"it has '{printable(first[:80])}' twice in one object")
    return found


class _WrongError(Exception):
    pass


def _check(facts: Facts) -> None:
    if not re.fullmatch("[0-9]{12}", facts.account):
        raise _WrongError("facts.account is not twelve digits")
    for key in facts.keys:
        if not _ARN_OF_KEY.match(key.arn):
            raise _WrongError(f"'{printable(key.arn[:200])}' is not the ARN of a key")
        for grant in key.grants or ():
            if grant.grantee.startswith("arn:") and grant.grantee.count(":") < 5:
                raise _WrongError(f"'{printable(grant.grantee[:200])}' is no ARN")
    for alias in facts.aliases or ():
        if not _ARN_OF_ALIAS.match(alias.arn):
            raise _WrongError(f"'{printable(alias.arn[:200])}' is not the ARN of an alias")
    for name, expected in facts.expected_aliases.items():
        if expected.startswith("arn:") and not _ARN_OF_KEY.match(expected):
            raise _WrongError(f"'{printable(expected[:200])}', expected of '{printable(name[:200])}', is no key's ARN")
    for arn in facts.envelopes_under or ():
        if not _ARN_OF_KEY.match(arn):
            raise _WrongError(f"'{printable(arn[:200])}', with envelopes under it, is not the ARN of a key")
    if len({key.arn for key in facts.keys}) != len(facts.keys):
        raise _WrongError("a key is in it twice")
    known = {policy.id for policy in facts.policies or ()}
    for principal in facts.principals or ():
        missing = [one for one in principal.policies if one not in known]
        if missing:
            raise _WrongError(f"'{printable(principal.arn[:200])}' has a policy that is not in it")


@functools.cache
def _shape(cls: Any) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(cls)
    return {
        one.name: (hints[one.name], one.default is MISSING and one.default_factory is MISSING) for one in fields(cls)
    }


def _read(kind: Any, value: Any, where: str) -> Any:
    """Turn JSON into what a type annotation asks for."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        (inner,) = (one for one in typing.get_args(kind) if one is not types.NoneType)
        return None if value is None else _read(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise _WrongError(f"{where} is no list, or a too long one")
        inner = typing.get_args(kind)[0]
        return tuple(_read(inner, one, f"{where}[{index}]") for index, one in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _WrongError(f"{where} is no object")
        return {name: _read(str, one, f"{where}.{printable(name[:80])}") for name, one in value.items()}
    if is_dataclass(kind):
        return _record(typing.cast("type", kind), value, where)
    if kind is datetime:
        return _time(value, where)
    if type(value) is not kind:
        raise _WrongError(f"{where} is not {_NAMES[kind]}")
    if kind is str:
        if len(value) > MAX_TEXT:
            raise _WrongError(f"{where} is longer than {MAX_TEXT} characters")
        if any("\ud800" <= one <= "\udfff" for one in value):
            raise _WrongError(f"{where} holds half a character")
    return value


_NAMES: Final = {str: "a string", int: "a whole number", bool: "true or false"}


def _record(cls: type[T], value: Any, where: str) -> T:
    if not isinstance(value, dict):
        raise _WrongError(f"{where} is no object")
    shape = _shape(typing.cast("Any", cls))
    for name in value:
        if name not in shape:
            raise _WrongError(f"{where} has '{printable(name[:80])}', which this release does not know")
    for name, (_, required) in shape.items():
        if required and name not in value:
            raise _WrongError(f"{where} has no {name}")
    return cls(**{name: _read(shape[name][0], one, f"{where}.{name}") for name, one in value.items()})


def _time(value: Any, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _WrongError(f"{where} is no time of ISO 8601") from None
    if found.tzinfo is None:
        raise _WrongError(f"{where} has no time zone")
    if not 1970 <= found.year <= 2999:
        raise _WrongError(f"{where} is no time that a key can have seen")
    return found
