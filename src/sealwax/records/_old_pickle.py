"""Pickles of plain values, read without loading anything of a program.

A pickle is a program for a machine that imports and calls whatever it names. Here it can name a dozen stand-ins, which
make dates, decimals, UUIDs and time zones, and cannot be changed by what is loaded.
"""

from __future__ import annotations

import datetime
import decimal
import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, Final, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

from sealwax._text import printable
from sealwax.errors import OldFormError

# How many objects a pickle holds for each of its bytes; references to lists within lists would make any number.
_OBJECTS_PER_BYTE: Final = 16
_MOST_OBJECTS: Final = 1_000_000
_REFUSED: Final = frozenset(
    ("PERSID", "BINPERSID", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "NEWOBJ_EX")
)
_PLAIN: Final = (
    type(None), str, bytes, int, float, bool, decimal.Decimal, datetime.date, datetime.datetime, datetime.time,
    datetime.timedelta, UUID,
)  # fmt: skip


class _ForeignClassError(pickle.UnpicklingError):
    """A pickle names what it must not load."""


def loads(data: bytes) -> object:
    """Return the value of a pickle: one of a plain type, or dicts, lists and tuples of them.

    Raises:
        OldFormError: it is not a pickle, or holds something else; the message shows the name of a class at most.
    """
    why = "it does not hold a pickle of a plain value"
    try:
        _check_opcodes(data)
        return _restored(_Unpickler(io.BytesIO(data)).load(), [_OBJECTS_PER_BYTE * len(data)])
    except _ForeignClassError as error:
        why = f"it holds an object of {error}, and objects of programs are never loaded"
    except Exception:  # noqa: S110  whatever calls of a pickle raise
        pass
    del data
    raise OldFormError(why)


def dumps(value: object) -> bytes:
    """Return the pickle of a value that ``loads`` returns.

    Raises:
        OldFormError: it is of another type.
    """
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    try:
        return pickle.dumps(_restored(value, [_MOST_OBJECTS]), protocol=4)
    except (pickle.PicklingError, RecursionError, ValueError, TypeError):
        pass
    kind = type(value).__name__
    del value
    raise OldFormError(f"a value of type {kind} is not plain")


def _check_opcodes(data: bytes) -> None:
    """Refuse what would allocate without bounds, or loads what ``find_class`` does not see."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _REFUSED or (opcode.name.endswith("PUT") and int(argument or 0) > len(data)):
            raise pickle.UnpicklingError


def _restored(value: object, budget: list[int]) -> object:
    """Return a value in plain types alone."""
    budget[0] -= 1
    if budget[0] < 0:
        raise ValueError
    if type(value) in _PLAIN:
        return value
    if type(value) is dict:
        return {_restored(key, budget): _restored(item, budget) for key, item in value.items()}
    if type(value) is list:
        return [_restored(item, budget) for item in value]
    if type(value) is tuple:
        return tuple(_restored(item, budget) for item in value)
    if type(value) is _Uuid:
        return UUID(int=value.number)
    raise TypeError


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        found = _STAND_INS.get(f"{module_name}.{global_name}")
        if found is None:
            raise _ForeignClassError(printable(f"{module_name}.{global_name}"[:200]))
        return found


class _Uuid:
    """A UUID, which a pickle makes without its constructor and then gives a state."""

    __slots__ = ("number",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.number: int = state["int"]


class _Text(str):
    """Text of a subclass of str, of which it is not an instance."""

    __slots__ = ()

    def __new__(cls, text: str) -> Any:
        return str(text)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError


class _Call:
    """A function that a pickle may call, and may not give a state."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":  # how pickles of Python 2 hold bytes
        raise pickle.UnpicklingError
    return text.encode("latin1")


def _zone(key: str, *_: object) -> ZoneInfo:
    return ZoneInfo(key)


def _pytz_zone(_: str, seconds: int, *__: object) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(seconds=seconds))


def _attribute(owner: object, name: str) -> Any:
    if owner is _STAND_INS["zoneinfo.ZoneInfo"] and name == "_unpickle":
        return _STAND_INS["zoneinfo.ZoneInfo._unpickle"]
    raise pickle.UnpicklingError


_STAND_INS: Final[dict[str, Any]] = {
    "decimal.Decimal": _Call(decimal.Decimal),
    "datetime.date": _Call(datetime.date),
    "datetime.datetime": _Call(datetime.datetime),
    "datetime.time": _Call(datetime.time),
    "datetime.timedelta": _Call(datetime.timedelta),
    "datetime.timezone": _Call(datetime.timezone),
    "zoneinfo.ZoneInfo": _Call(_zone),
    "zoneinfo.ZoneInfo._unpickle": _Call(_zone),
    "_codecs.encode": _Call(_latin1),
    "builtins.getattr": _Call(_attribute),
    "__builtin__.getattr": _Call(_attribute),
    "pytz._UTC": _Call(lambda: datetime.UTC),
    "pytz._p": _Call(_pytz_zone),
    "uuid.UUID": _Uuid,
    "django.utils.safestring.SafeString": _Text,
}
