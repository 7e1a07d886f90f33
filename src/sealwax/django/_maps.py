"""The sealed fields of models as columns of tables, for what works on tables: reseal, stale and verify."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import models

from sealwax.django._binding import row_type
from sealwax.django._errors import SealedFieldError
from sealwax.django._fields import sealed_fields
from sealwax.records import UNBOUND
from sealwax.records._rows import Unbound
from sealwax.records.moving import Plaintext
from sealwax.records.tables import SealedColumn

Model = type[models.Model]


def sealed_columns(*given: Model) -> list[SealedColumn]:
    """Return the sealed fields of models as the columns that ``sealwax.records.tables`` works on.

    Args:
        *given: the models; none means all models of the project.

    Returns:
        The columns, by model and field.

    Raises:
        SealedFieldError: the records of a field are bound to what is in another table.

    Example:
        >>> tables.stale(records.store, "postgresql+psycopg://db.example.com/shop", sealed_columns(Patient))
    """
    return [column_of(model, field) for model, field in fields_of(given)]


def fields_of(given: Iterable[Model]) -> list[tuple[Model, Any]]:
    """Return the sealed fields of models, of each column one; of all models of the project, if none is given."""
    fields: dict[tuple[str, str], tuple[Model, Any]] = {}
    for model in given or apps.get_models():
        for field in own_sealed_fields(model):
            fields.setdefault((model._meta.db_table, field.column), (model, field))
    return list(fields.values())


def own_sealed_fields(model: Model) -> list[Any]:
    """Return the sealed fields whose columns are in the table of a model, and of no parent."""
    if model._meta.proxy:
        return []
    own = set(model._meta.local_concrete_fields)
    return [field for field in sealed_fields(model) if field in own]


def column_of(model: Model, field: Any, *, moves: bool = True) -> SealedColumn:
    """Return the column of a sealed field.

    Args:
        model: the model in whose table it is.
        field: the field.
        moves: whether to say what its values move from.
    """
    pairs = {name: model._meta.get_field(other) for name, other in field.sealing.scope.items()}
    scope = {name: _column_of(model, field, other) for name, other in pairs.items()}
    return SealedColumn(
        model._meta.db_table,
        field.column,
        row=_row(model, field),
        scope=scope,
        scope_types=dict.fromkeys(_uuids(pairs), UUID),
        field=field.field_name,
        **(_moves(field) if moves else {}),
    )


def _row(model: Model, field: Any) -> Mapping[str, type] | Unbound:
    rows = field.row_fields()
    return {_column_of(model, field, each): _kind(each) for each in rows} or UNBOUND


def _kind(field: Any) -> type:
    kind = row_type((field,))
    assert isinstance(kind, type)
    return kind


def _column_of(model: Model, field: Any, other: Any) -> str:
    """Return the column of a field in the table of a model."""
    opts = model._meta
    if other in opts.local_concrete_fields:
        return str(other.column)
    if other.primary_key and opts.pk is not None:  # of a parent; the link to it has the same value
        return str(opts.pk.column)
    raise SealedFieldError(
        f"'{field.name}' of {model.__name__} is bound to '{other.name}', which is in the table of another model, so "
        "its records cannot be worked on table by table; save the objects instead"
    )


def _moves(field: Any) -> dict[str, Any]:
    mover = field.mover
    if mover is None:
        return {}
    old = mover.moving.old
    if mover.old is not None and isinstance(old, Plaintext) and mover.kinds == (datetime.datetime,):
        old = Plaintext(zone=old._zone or datetime.UTC)  # in which Django writes where a database has no zones
    moves: dict[str, Any] = {"moves_from": old, "kind": mover.kinds[0], "writes": mover.moving.writes}
    return {**moves, "moved_from": mover.old.column} if mover.old is not None else moves


def _uuids(pairs: Mapping[str, Any]) -> list[str]:
    """Return the pairs of a scope that are UUIDs, which a database may keep otherwise than they are written."""
    found = []
    for name, target in pairs.items():
        while isinstance(target, models.ForeignKey):
            target = target.target_field
        if isinstance(target, models.UUIDField):
            found.append(name)
    return found
