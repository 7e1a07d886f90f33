"""The manager of models with sealed fields: what works on many rows writes a record for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.db import models
from django.db.models.options import Options
from django.utils.functional import cached_property

from sealwax.django._binding import RECORDS, as_records, given
from sealwax.django._columns import refuse
from sealwax.django._errors import SealedFieldError, without_frames
from sealwax.django._fields import sealed_fields
from sealwax.django._index import IndexOf
from sealwax.django._moving import settle
from sealwax.django._saving import check_written, forget, watch


class SealedQuerySet(models.QuerySet):  # type: ignore[type-arg]
    """A queryset that seals in ``bulk_update``, and refuses what would leave records that do not open."""

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None) -> int:
        objects, names = list(objs), _with_indexes(self.model, fields)
        names += self._moved_from(set(names))
        for each in objects:
            settle(each)
        check_written(objects, names, self.db)
        with as_records():
            return super().bulk_update(objects, names, batch_size)

    def update(self, **kwargs: Any) -> int:
        if given() != RECORDS:  # else bulk_update() has made them of the objects
            try:
                self._check_update(kwargs)
            except SealedFieldError as error:
                del kwargs  # what keeps an error keeps the variables of its frames
                raise without_frames(error)  # noqa: B904  the same
        return super().update(**kwargs)

    def _check_update(self, kwargs: dict[str, Any]) -> None:
        for field in sealed_fields(self.model):
            bound = {name for each in field.bound_fields for name in (each.name, each.attname)} & kwargs.keys()
            if bound and kwargs.get(field.name, field) is not None:
                raise SealedFieldError(
                    f"update() of {min(bound)} would leave '{field.name}' of {self.model.__name__} bound to what it "
                    "was; assign it to the objects and save them"
                )
            if field.name in kwargs and _is_value(kwargs[field.name]):
                raise field.one_value()
        for index in _indexes(self.model):
            if index.index_of in kwargs and kwargs[index.index_of] is None:
                kwargs.setdefault(index.name, None)
            elif index.name in kwargs and index.index_of not in kwargs:
                raise SealedFieldError(
                    f"'{index.name}' of {self.model.__name__} is written with '{index.index_of}', whose index it is, "
                    f"and never alone; bulk_update() of '{index.name}' computes it"
                )

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        objects = list(objs)
        if update_conflicts and update_fields:
            update_fields = _with_indexes(self.model, update_fields)
            self._check_upsert(set(update_fields), set(unique_fields or ()))
            update_fields = [*update_fields, *self._moved_from(set(update_fields))]
        for each in objects:
            settle(each)
        made = super().bulk_create(
            objects, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
        )
        for each in objects if ignore_conflicts or update_conflicts else ():
            forget(each)
        return made

    def _moved_from(self, changed: set[str]) -> list[str]:
        """Return the names of the fields that values of changed fields move from."""
        movers = [field.mover for field in sealed_fields(self.model) if field.name in changed]
        names = [mover.old.name for mover in movers if mover is not None and mover.old is not None]
        return [name for name in names if name not in changed]

    def _check_upsert(self, updated: set[str], target: set[str]) -> None:
        """Of a row that is there, what is neither the target nor updated may be other than that of the object."""
        if "pk" in target and self.model._meta.pk is not None:
            target = target | {self.model._meta.pk.name}
        for field in sealed_fields(self.model):
            bound = {each.name for each in field.bound_fields}
            if field.name in updated and not bound <= target | updated:
                names = ", ".join(sorted(bound - target - updated))
                raise SealedFieldError(
                    f"bulk_create() would give a record of '{field.name}' to a row that was there before, and it "
                    f"is bound to the {names} of the new one; name it in unique_fields or update_fields, or look for "
                    "the row first"
                )
            if field.name not in updated and bound & updated:
                raise SealedFieldError(
                    f"bulk_create() would change {min(bound & updated)} of a row that was there before, which "
                    f"'{field.name}' is bound to; add '{field.name}' to update_fields"
                )

    def dates(self, field_name: str, *args: Any, **kwargs: Any) -> Any:
        self._refuse_dates(field_name)
        return super().dates(field_name, *args, **kwargs)

    def datetimes(self, field_name: str, *args: Any, **kwargs: Any) -> Any:
        self._refuse_dates(field_name)
        return super().datetimes(field_name, *args, **kwargs)

    def _refuse_dates(self, field_name: str) -> None:
        for field in sealed_fields(self.model):
            if field.name == field_name:
                refuse(field, "cannot be computed by a database")


def _indexes(model: Any) -> list[IndexOf]:
    return [field for field in model._meta.concrete_fields if isinstance(field, IndexOf)]


def _with_indexes(model: Any, fields: Iterable[str]) -> list[str]:
    """Return the names of fields, each with its index and each index with its field: one is not written alone."""
    names = dict.fromkeys(fields)
    for each in _indexes(model):
        if {each.index_of, each.name} & names.keys():
            names |= dict.fromkeys((each.index_of, each.name))
    return list(names)


_Manager: Any = models.Manager.from_queryset(SealedQuerySet)


class SealedManager(_Manager):  # type: ignore[misc]
    """The manager of models with sealed fields; its querysets are ``SealedQuerySet``."""


class _SealedModelOptions(Options):  # type: ignore[type-arg]
    """``_meta`` of a model with sealed fields: related objects are added through its base manager, which checks too."""

    @cached_property
    def base_manager(self) -> Any:
        usual = super().base_manager
        if usual.name != "_base_manager":  # the model has chosen one
            return usual
        manager = SealedManager()
        manager.name, manager.model, manager.auto_created = usual.name, self.model, True
        return manager


def prepare(sender: Any, **_: object) -> None:
    """Let a model with sealed fields seal: its objects are watched, and its managers check what they write."""
    opts = sender._meta
    if opts.abstract or not sealed_fields(sender):
        return
    watch(sender)
    opts.__class__ = _SealedModelOptions
    if getattr(opts.managers[0], "auto_created", False):
        manager = SealedManager()
        manager.auto_created = True
        opts.local_managers = [each for each in opts.local_managers if each.name != "objects"]
        sender.add_to_class("objects", manager)
    opts._expire_cache()


def _is_value(given: Any) -> bool:
    """Whether update() got a value, and neither NULL nor an expression."""
    return given is not None and not hasattr(given, "as_sql") and not hasattr(given, "resolve_expression")
