"""Around save(): what records are bound to is noted when a row is read, and never written without them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models
from django.db.models import signals

from sealwax.django._binding import LoadedRecord, RowBinding
from sealwax.django._errors import SealedFieldError
from sealwax.django._fields import SealedMixin, sealed_fields
from sealwax.django._moving import settle

_Known = dict[object, RowBinding | None]


def watch(model: type[models.Model]) -> None:
    """Look at each object of a model with sealed fields when it is made or saved."""
    signals.post_init.connect(_bind_loaded, sender=model, dispatch_uid=("sealwax", model))
    signals.pre_save.connect(_check_saved, sender=model, dispatch_uid=("sealwax", model))
    signals.post_save.connect(_note_saved, sender=model, dispatch_uid=("sealwax", model))


def forget(instance: models.Model) -> None:
    """Take nothing for granted about the row of an object: a statement may have written it, or not."""
    instance._state.sealwax_bound = {}  # type: ignore[attr-defined]


def check_written(instances: Iterable[Any], names: Iterable[str], using: str | None) -> None:
    """Refuse to write some fields of objects if a record would not open in its row any more.

    Args:
        instances: the objects, of one model.
        names: the fields that are written, and no others.
        using: the alias of the database.

    Raises:
        SealedFieldError: a record is bound to a field that is not written with it, and has another value in the
            database.
    """
    written = frozenset(names)
    objects = list(instances)
    for field in sealed_fields(type(objects[0])) if objects else ():
        alone = _alone(field, written)
        doubtful = [each for each in objects if alone and not _is_as_read(each, field)]
        if doubtful:
            _compare(field, alone, doubtful, using, written=field.name in written)


def _alone(field: SealedMixin, written: frozenset[str]) -> tuple[models.Field[Any, Any], ...]:
    """Return the fields that are written without the record that is bound to them, or the other way round."""
    with_record = field.name in written
    return tuple(
        each
        for each in field.bound_fields
        if not each.primary_key and (each.name in written or each.attname in written) != with_record
    )


def _is_as_read(instance: models.Model, field: SealedMixin) -> bool:
    before = getattr(instance._state, "sealwax_bound", {}).get(field.like)
    return not instance._state.adding and before is not None and before == field.binding_if_known(instance)


def _compare(field: SealedMixin, alone: Any, instances: list[Any], using: str | None, *, written: bool) -> None:
    model = type(instances[0])
    names = [each.attname for each in alone]
    rows = model._base_manager.using(using).filter(pk__in=[each.pk for each in instances])
    stored = {row[0]: row[1:] for row in rows.values_list("pk", *names)}
    for instance in instances:
        there = stored.get(instance.pk)
        if there is None:
            continue
        for each, value in zip(alone, there, strict=True):
            if (
                each.attname in instance.get_deferred_fields()
                or each.to_python(getattr(instance, each.attname)) == value
            ):
                continue
            if written:
                raise SealedFieldError(
                    f"'{field.name}' of {model.__name__} would be sealed for the {each.name} of the object, and its "
                    f"row has another; write '{each.name}' too"
                )
            raise SealedFieldError(
                f"this writes {each.name}, which '{field.name}' of {model.__name__} is bound to, and not "
                f"'{field.name}', which could not be opened any more; write it too, and load what only() or defer() "
                "left out"
            )


def _bind_loaded(instance: models.Model, **_: object) -> None:
    """Note what records that were just read are bound to, before anybody assigns another tenant or key."""
    data = instance.__dict__
    known: _Known = {}
    for field in sealed_fields(type(instance)):
        loaded = data.get(field.attname)
        like = field.like
        if like not in known:
            known[like] = field.binding_if_known(instance)
        if isinstance(loaded, LoadedRecord) and loaded.binding is None:
            loaded.binding = known[like]
        elif loaded is None and field.attname in data and field.mover is not None:
            field.mover.look_in_old_field(data)
    instance._state.sealwax_bound = known  # type: ignore[attr-defined]


def _check_saved(instance: models.Model, update_fields: Any, using: str | None = None, **_: object) -> None:
    """Refuse to write what records are bound to without the records, and a field without its index."""
    settle(instance, update_fields)
    instance._state.sealwax_new = instance._state.adding  # type: ignore[attr-defined]
    if not update_fields:
        return
    check_written([instance], update_fields, using)
    model = type(instance)
    for each in model._meta.concrete_fields:
        source: Any = getattr(each, "source", None)
        if source is None or (each.name in update_fields) == (source.name in update_fields):
            continue
        if source.attname in instance.__dict__:  # else it was deferred, and its index is as it was
            missing = {each.name, source.name}.difference(update_fields).pop()
            raise SealedFieldError(
                f"'{source.name}' of {model.__name__} and its index '{each.name}' are written together; add "
                f"'{missing}' to update_fields, or to only()"
            )


def _note_saved(instance: models.Model, created: bool, **_: object) -> None:
    """Forget what is known of the row, if it was changed: the transaction may be rolled back."""
    before: _Known = instance._state.sealwax_bound  # type: ignore[attr-defined]
    was_new = instance._state.sealwax_new  # type: ignore[attr-defined]
    for field in sealed_fields(type(instance)):
        now = field.binding_if_known(instance)
        if created:
            before[field.like] = now
        elif was_new or before.get(field.like) != now:
            before[field.like] = None
