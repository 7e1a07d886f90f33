"""``Sealed``, which makes a field whose values are sealed in the database, and otherwise those of another field."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from django.db import models

from sealwax.django._fields import SealedMixin, SealedOptions
from sealwax.django._moving import check_storage
from sealwax.records._rows import Unbound
from sealwax.records.moving import Moving

# A field takes no arguments when it runs.
_F = TypeVar("_F", bound="models.Field[Any, Any]")
_S = TypeVar("_S", bound="models.Field[Any, Any]")

# Of these, a record holds the values with their types.
_KINDS: Final = (
    models.CharField,
    models.TextField,
    models.IntegerField,
    models.BooleanField,
    models.DecimalField,
    models.FloatField,
    models.DateField,
    models.UUIDField,
    models.BinaryField,
    models.JSONField,
    models.GenericIPAddressField,
)
_NO_KINDS: Final = (models.AutoField, models.ForeignKey, models.FileField, models.FilePathField)


def Sealed(  # noqa: N802  it stands where a class of fields does
    field: _F,
    /,
    *,
    row: str | Sequence[str] | Unbound,
    scope: Mapping[str, str] | None = None,
    name: str = "",
    storage: _S | None = None,
    moving: Moving | None = None,
    moved_from: str = "",
) -> _F:
    """Seal the values of a model field.

    Forms, validators, the admin and migrations see the field as it was. The column holds records: it is selected
    and asked for NULL, and cannot be compared, sorted or computed by the database.

    Args:
        field: the field as it would be without sealing; of text, numbers, dates, UUIDs, bytes, JSON or booleans.
        row: the name of the field that tells one row from another and never changes, usually the primary key, or
            several names; ``UNBOUND`` for records that are bound to column and scope alone.
        scope: which fields of the model name the pairs of the scope, such as ``{"tenant": "tenant"}``; by default what
            the model has as ``sealed_scope``. Other pairs are those of ``records.scope``.
        name: the name of the field for ``Records``; by default that of the table and column, such as
            ``"clinic_patient.name"``. Give it before you rename either.
        storage: the type of the column: ``models.BinaryField()`` by default, or a field of text, such as
            ``models.TextField()``, which holds records in their text form.
        moving: while the column has values that are not records yet: how they were stored, and what is written now;
            docs/how-to/moving-in.md has the steps. Migrations do not see it.
        moved_from: the name of the field that has these values, if it is another one.

    Returns:
        A field of the class of ``field``.

    Raises:
        TypeError: it is of a kind whose values are not sealed.
        ValueError: it has an option that would need the database to see values, such as ``unique``; or ``moving`` and
            ``moved_from`` or ``storage`` do not fit each other.

    Example:
        >>> name = Sealed(models.CharField(max_length=50), row="id")
    """
    _refuse_kind(field)
    rows = () if isinstance(row, Unbound) else (row,) if isinstance(row, str) else tuple(row)
    if not rows and not isinstance(row, Unbound):
        raise ValueError("row names at least one field, or is UNBOUND")
    _, _, args, kwargs = field.deconstruct()
    _refuse_options(field, kwargs)
    kind: Any = type(field)
    sealed: Any = _class(kind)(*args, **kwargs)
    stored = check_storage(storage, moving, moved_from)
    sealed.sealing = SealedOptions(rows, dict(scope or {}), name, stored, moving, moved_from)
    sealed.creation_counter = field.creation_counter
    return sealed  # type: ignore[no-any-return]


def _refuse_kind(field: object) -> None:
    if not isinstance(field, models.Field):
        raise TypeError(f"Sealed() takes a model field, such as models.CharField(max_length=50), not {field!r}")
    if isinstance(field, (SealedMixin, *_NO_KINDS)) or not isinstance(field, _KINDS):
        raise TypeError(
            "Sealed() takes fields of text, numbers, dates, UUIDs, bytes, JSON and booleans, not "
            f"{type(field).__name__}"
        )


def _refuse_options(field: models.Field[Any, Any], kwargs: Mapping[str, object]) -> None:
    if field.primary_key:
        raise ValueError("a primary key is not sealed: it tells rows apart")
    for option in ("unique", "db_index", "unique_for_date", "unique_for_month", "unique_for_year", "db_collation"):
        if getattr(field, option, None):
            raise ValueError(
                f"a sealed field cannot have {option}: records of equal values differ. "
                + (
                    "Add IndexOf(..., bits=128, unique=True) beside it"
                    if option.startswith("unique")
                    else "Leave it out, for a SlugField with db_index=False, and add an IndexOf beside it"
                )
            )
    if "db_default" in kwargs:
        raise ValueError("a sealed field cannot have db_default: the database would write a value that is not sealed")


@functools.cache
def _class(kind: type[models.Field[Any, Any]]) -> Any:
    return type(f"Sealed{kind.__name__}", (SealedMixin, kind), {"__module__": __name__})
