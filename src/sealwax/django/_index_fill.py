"""Fills index columns of rows that were there before them, and of values that a version without indexes wrote."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final

from django.apps import apps
from django.db import OperationalError, connections, models, transaction

from sealwax._text import printable
from sealwax.django._binding import InOldField, LoadedOld
from sealwax.django._index import IndexOf
from sealwax.errors import SealwaxError
from sealwax.records._walk import Pace, is_passing
from sealwax.records.tables import IndexCounts, RowFailure

_PAGE: Final = 200
_ATTEMPTS: Final = 8
_PAUSE_SECONDS: Final = 0.05
_MOST_FAILURES: Final = 1000


def index_fields(*given: type[models.Model]) -> list[IndexOf]:
    """Return the index columns of models; of all models of the project, if none is given."""
    return [
        each
        for model in given or apps.get_models()
        if not model._meta.proxy
        for each in model._meta.local_concrete_fields
        if isinstance(each, IndexOf)
    ]


def missing(index: IndexOf, using: str) -> int:
    """Count the rows that have a value and no index, with one query."""
    connection = connections[using]
    quote = connection.ops.quote_name
    columns = [index.source.column]
    if index.source.mover is not None and index.source.mover.old is not None:
        columns.append(index.source.mover.old.column)
    has_value = " OR ".join(f"{quote(column)} IS NOT NULL" for column in columns)
    query = f"SELECT COUNT(*) FROM {quote(index.model._meta.db_table)} WHERE {quote(str(index.column))} IS NULL"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(f"{query} AND ({has_value})")
        return int(cursor.fetchone()[0])


def fill(index: IndexOf, using: str, pace: Pace, told: Callable[[int], None]) -> IndexCounts:
    """Fill one index column, page by page, while the application goes on.

    Args:
        index: the index column.
        using: the alias of the database.
        pace: how fast.
        told: called with the number of rows that were looked at, after each page.

    Raises:
        KmsError, KeyStoreError: a data key cannot be loaded for now.
    """
    counts = IndexCounts(printable(f"{index.model._meta.db_table}.{index.column}"))
    after: Any = None
    looked_at = 0
    while page := _page(index, using, after):
        values = {each.pk: value for each in page if (value := _value(index, each, counts)) is not None}
        done = _attempt(lambda page=page, values=values: _write(index, using, page, values))  # type: ignore[misc]
        counts.filled += done
        counts.changed += len(values) - done
        after = page[-1].pk
        looked_at += len(page)
        told(looked_at)
        pace.wait(len(page))
    counts.left = missing(index, using)
    return counts


def _rows(index: IndexOf, using: str) -> Any:
    source = index.source
    scope = [index.model._meta.get_field(name) for name in source.sealing.scope.values()]
    old = [source.mover.old] if source.mover is not None and source.mover.old is not None else []
    names = {each.name for each in (index.model._meta.pk, index, source, *source.row_fields(), *scope, *old)}
    # Not the model's manager, which may leave rows out.
    rows: Any = models.QuerySet(index.model, using=using)
    if source.mover is None:
        rows = rows.filter(**{f"{index.name}__isnull": True})
    return rows.only(*names).order_by("pk")


def _page(index: IndexOf, using: str, after: Any) -> list[Any]:
    rows = _rows(index, using)
    return list((rows if after is None else rows.filter(pk__gt=after))[:_PAGE])


def _value(index: IndexOf, instance: Any, counts: IndexCounts) -> bytes | None:
    """Return the index that an instance lacks; None if it lacks none, and if there can be none, which is noted."""
    seen = _seen(index, instance)
    has = instance.__dict__[index.attname]
    if has is not None and not isinstance(instance.__dict__[index.source.attname], LoadedOld | InOldField):
        return None  # a record was written with its index
    try:
        value = index.of_instance(instance)
        return None if has is not None and value == bytes(has) else value
    except (SealwaxError, ValueError) as error:
        if isinstance(error, SealwaxError) and is_passing(error):
            raise
        reason = str(error)
    finally:
        instance.sealwax_seen = seen
    counts.failed += 1
    if len(counts.failures) < _MOST_FAILURES:
        counts.failures.append(RowFailure(counts.column, (instance.pk,), reason))
    return None


def _seen(index: IndexOf, instance: Any) -> tuple[object, ...]:
    """Return what the database has, to be compared when the row is locked."""
    source = index.source
    held = instance.__dict__[source.attname]
    old = source.mover.old if source.mover is not None else None
    scope = [instance._meta.get_field(name).attname for name in source.sealing.scope.values()]
    others = [instance.__dict__[name] for name in ([old.attname] if old is not None else []) + scope]
    return (getattr(held, "record", None), getattr(held, "stored", None), *others)


def _write(index: IndexOf, using: str, page: list[Any], values: dict[Any, bytes]) -> int:
    if not values:
        return 0
    seen = {each.pk: each.sealwax_seen for each in page}
    with transaction.atomic(using=using):
        rows = _rows(index, using).filter(pk__in=list(values))
        if connections[using].features.has_select_for_update:
            of = ("self",) if connections[using].features.has_select_for_update_of else ()
            rows = rows.select_for_update(of=of)
        same = [each for each in rows if _seen(index, each) == seen[each.pk]]
        for each in same:
            each.__dict__[index.attname] = values[each.pk]
        if same:
            models.QuerySet(index.model, using=using).bulk_update(same, [index.name])
    return len(same)


def _attempt(work: Callable[[], int]) -> int:
    for attempt in range(1, _ATTEMPTS):
        try:
            return work()
        except OperationalError:  # a deadlock, or a writer of SQLite
            time.sleep(_PAUSE_SECONDS * attempt * random.random())  # noqa: S311  not for a secret
    return work()
