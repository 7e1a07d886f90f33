"""What `manage.py check` finds wrong about sealed fields: rows, scopes, and what needs the database to see values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import F

from sealwax.django._binding import row_type

_UNCHANGED = (models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING)


def check_sealed(field: Any) -> list[checks.CheckMessage]:
    """Return what is wrong about a sealed field of a model."""
    wrong = [*_row(field), *_scope(field)]
    if not wrong:
        wrong += [*_foreign_keys(field), *_text_rows(field)]
    return [*wrong, *_uses(field), *_time_zone(field)]


def _row(field: Any) -> Iterator[checks.CheckMessage]:
    try:
        fields = field.row_fields()
        row_type(fields)
    except FieldDoesNotExist as error:
        yield checks.Error(f"row: {error}", obj=field, id="sealwax.E001")
        return
    except TypeError as error:
        yield checks.Error(f"row: {error}", obj=field, id="sealwax.E002")
        return
    for each in fields:
        if isinstance(each, models.AutoField) or each.has_db_default():
            yield checks.Error(
                f"row: the database makes '{each.name}' when the row is inserted, and a record is bound to it before",
                hint="Use id = models.UUIDField(primary_key=True, default=uuid.uuid4), or row=UNBOUND.",
                obj=field,
                id="sealwax.E003",
            )
            return


def _scope(field: Any) -> Iterator[checks.CheckMessage]:
    for name, column in field.sealing.scope.items():
        try:
            field.model._meta.get_field(column)
        except FieldDoesNotExist as error:
            yield checks.Error(f"scope, {name}: {error}", obj=field, id="sealwax.E004")
            return


def _foreign_keys(field: Any) -> Iterator[checks.CheckMessage]:
    for each in field.bound_fields:
        if isinstance(each, models.ForeignKey) and each.remote_field.on_delete not in _UNCHANGED:
            yield checks.Error(
                f"the records of '{field.name}' are bound to '{each.name}', which on_delete would change without them; "
                "they would not open any more",
                hint="Use on_delete=models.PROTECT or models.CASCADE.",
                obj=each,
                id="sealwax.E009",
            )


def _text_rows(field: Any) -> Iterator[checks.CheckMessage]:
    if not any(connection.vendor == "mysql" for connection in connections.all()):
        return
    for each in field.row_fields():
        text = isinstance(each, models.CharField | models.TextField)
        if text and not str(getattr(each, "db_collation", "") or "").endswith(("_bin", "_as_cs")):
            yield checks.Warning(
                f"row: '{each.name}' is text that MySQL compares without its case, so one row has several spellings, "
                f"and '{field.name}' opens by one of them",
                hint="Use db_collation='utf8mb4_bin', or a UUIDField.",
                obj=each,
                id="sealwax.W001",
            )


def _uses(field: Any) -> Iterator[checks.CheckMessage]:
    """What an index, a constraint, an ordering or a generated column makes of the field."""
    opts = field.model._meta
    used = {name for names in opts.unique_together for name in names}
    used |= mentioned(opts.ordering or ())
    latest = opts.get_latest_by or ()
    used |= mentioned((latest,) if isinstance(latest, str) else latest)
    for each in (*opts.constraints, *opts.indexes):
        used |= mentioned((*getattr(each, "fields", ()), *getattr(each, "include", ())))
        used |= mentioned((*getattr(each, "expressions", ()), getattr(each, "condition", None)))
    for each in opts.local_fields:
        used |= mentioned((getattr(each, "expression", None),))
        used |= {getattr(each, f"unique_for_{part}", None) for part in ("date", "month", "year")}
    if field.name in used:
        yield checks.Error(
            f"'{field.name}' is sealed, so no index, constraint, ordering or generated column can be of it",
            hint="Use an IndexOf beside it.",
            obj=field,
            id="sealwax.E005",
        )


def mentioned(things: Iterable[Any]) -> set[str]:
    """Return the fields whose values names, expressions and conditions need; whether one is NULL may be asked."""
    return {name for thing in things for name in _mentioned(thing)}


def _mentioned(thing: Any) -> Iterator[str]:
    if isinstance(thing, str):
        yield thing.lstrip("-+").partition(LOOKUP_SEP)[0]
    elif isinstance(thing, F):
        yield from _mentioned(thing.name)  # type: ignore[attr-defined]
    elif isinstance(thing, tuple | list) and len(thing) == 2 and isinstance(thing[0], str):  # of a Q
        name, value = thing
        if not (name.endswith(f"{LOOKUP_SEP}isnull") or value is None):
            yield from _mentioned(name)
        yield from () if isinstance(value, str) else _mentioned(value)
    elif isinstance(thing, models.Q):
        for child in thing.children:
            yield from _mentioned(child)
    elif hasattr(thing, "get_source_expressions"):
        for part in thing.get_source_expressions():
            yield from _mentioned(part)
    elif isinstance(thing, tuple | list):  # of an ExclusionConstraint
        for part in thing:
            yield from _mentioned(part)


def _time_zone(field: Any) -> Iterator[checks.CheckMessage]:
    if isinstance(field, models.DateTimeField) and not settings.USE_TZ:
        yield checks.Error("a sealed DateTimeField needs USE_TZ = True", obj=field, id="sealwax.E006")
