"""What a record of a model is bound to, and records that were read and not opened."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import models

from sealwax.django._errors import SealedFieldError
from sealwax.django._settings import current_pairs, get_records
from sealwax.records import UNBOUND, Field, Records
from sealwax.records._rows import Row, RowType, Unbound

Pairs = tuple[tuple[str, str], ...]

# What attributes of sealed fields give instead of what they hold; "" for just that.
RECORDS: Final = "records"
MARKS: Final = "marks"
# Values, for a fixture.
OPENING: Final = "opening"
# Records as well, and what is assigned may be one in its text form.
LOADING: Final = "loading"
_GIVES: Final[ContextVar[str]] = ContextVar("sealwax_gives", default="")


# By these, Django tells expressions from values; __str__ may return what stands for a value as it is.
_OF_EXPRESSIONS: Final = ("resolve_expression", "as_sql")


class _Hidden(str):
    """Stands for a value, of whatever kind, in a text that is stored; what __str__ of a model does with it works."""

    __slots__ = ()

    def __getattr__(self, name: str) -> _Hidden:
        if name.startswith("__") or name in _OF_EXPRESSIONS:
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> _Hidden:
        return self

    def __format__(self, spec: str) -> str:
        return str(self)

    def _with(self, _other: object) -> _Hidden:
        return self

    def _never(self, _other: object) -> bool:
        return False

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __floordiv__ = __mod__ = _with
    __getitem__ = _with
    __lt__ = __le__ = __gt__ = __ge__ = _never


HIDDEN: Final = _Hidden("<sealed>")


class RowBinding(NamedTuple):
    """What one record is bound to beside its field."""

    row: Row | Unbound
    pairs: Pairs


class Stored:
    """What the database has, until somebody looks at the attribute."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<sealed>"


class LoadedRecord(Stored):
    """A record as the database has it; it is opened when somebody looks at its attribute.

    Args:
        record: the record.
        binding: what the instance that it was read with says that it is bound to; None if that is not known.
    """

    __slots__ = ("binding", "record")

    def __init__(self, record: bytes | str, binding: RowBinding | None = None) -> None:
        self.record = record
        self.binding = binding


class LoadedOld(Stored):
    """A value in the form that it had before records, as the database has it.

    Args:
        stored: the value.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: str | bytes) -> None:
        self.stored = stored


class InOldField(Stored):
    """In place of a value that is not in this field, and maybe in the one that it moves from."""

    __slots__ = ()


def as_records() -> contextlib.AbstractContextManager[None]:
    """Let attributes of sealed fields give records, for what writes them to a database or a file."""
    return _giving(RECORDS)


def opening() -> contextlib.AbstractContextManager[None]:
    """Let attributes give values for a fixture."""
    return _giving(OPENING)


def loading() -> contextlib.AbstractContextManager[None]:
    """Let sealed fields take the records that a fixture has."""
    return _giving(LOADING)


def giving_nothing() -> contextlib.AbstractContextManager[None]:
    """Let attributes and fields be as they are at other times."""
    return _giving("")


def hidden() -> contextlib.AbstractContextManager[None]:
    """Let attributes of sealed fields give "<sealed>", for what writes down the names of objects."""
    return _giving(MARKS)


@contextlib.contextmanager
def _giving(what: str) -> Iterator[None]:
    token = _GIVES.set(what)
    try:
        yield
    finally:
        _GIVES.reset(token)


given: Final = _GIVES.get


def row_type(fields: tuple[models.Field[Any, Any], ...]) -> RowType:
    """Return the type of the rows that these model fields make.

    Raises:
        TypeError: the values of one of them may come back otherwise.
    """
    if not fields:
        return UNBOUND
    kinds = [_kind(field) for field in fields]
    return kinds[0] if len(kinds) == 1 else tuple


def _kind(field: models.Field[Any, Any]) -> Any:
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    for kinds, kind in _KINDS:
        if isinstance(field, kinds):
            return kind
    raise TypeError(
        f"'{field.name}' is a {type(field).__name__}, and a row is of integers, text, UUIDs or bytes, "
        "which come back as they were"
    )


_KINDS: Final[tuple[tuple[Any, type], ...]] = (
    (models.IntegerField, int),
    (models.UUIDField, UUID),
    ((models.CharField, models.TextField), str),
    (models.BinaryField, bytes),
)


def row_of(instance: models.Model, fields: tuple[models.Field[Any, Any], ...]) -> Row | Unbound | None:
    """Return the row of an instance; None if a part of it is not known yet."""
    if not fields:
        return UNBOUND
    parts = []
    for field in fields:
        value = getattr(instance, field.attname)
        target = field
        while isinstance(target, models.ForeignKey):
            target = target.target_field
        value = None if value is None else target.to_python(value)
        if value is None:
            return None
        parts.append(bytes(value) if isinstance(value, memoryview) else value)
    return parts[0] if len(parts) == 1 else tuple(parts)


def pairs_of_instance(instance: models.Model, columns: Mapping[str, str]) -> Pairs:
    """Return the pairs of the scope: those in columns of the instance, and those of the work under way."""
    pairs = dict(current_pairs(get_records()))
    for name, column in columns.items():
        value = getattr(instance, attname_of(instance, column))
        if value is None:
            raise SealedFieldError(f"{_named(instance)} has no {column}, which names the {name} that it is sealed for")
        pairs[name] = str(value)
    return tuple(sorted(pairs.items()))


def check_scope(instance: models.Model, names: Iterable[str], pairs: Pairs) -> None:
    """Refuse to seal or open what is of another scope than the work under way.

    Args:
        instance: the object.
        names: the pairs that it has in columns.
        pairs: all pairs that a record of it is bound to.

    Raises:
        SealedFieldError: ``records.scope`` has set another value of one of them.
    """
    current = current_pairs(get_records())
    if not current:
        return
    bound = dict(pairs)
    for name in names:
        if current.get(name, bound[name]) != bound[name]:
            raise SealedFieldError(
                f"{_named(instance)} is of another {name} than the one that records.scope() has set; nothing was "
                "sealed or opened"
            )


def attname_of(instance: models.Model, name: str) -> str:
    """Return the attribute with the value of a field: ``clinic_id`` for ``clinic``."""
    field: Any = instance._meta.get_field(name)
    attname: str = field.attname
    return attname


def _named(instance: models.Model) -> str:
    return f"this {instance._meta.object_name}"


@functools.lru_cache(maxsize=4096)
def field_of(records: Records, name: str, kind: Any, pairs: Pairs) -> Field:
    """Return the field of a scope; it holds the keys that make it fast, so it is kept."""
    return records.field(name, row=kind, **dict(pairs))
