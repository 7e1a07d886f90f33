"""The manager of models with sealed fields: what works on many rows writes a record for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from django.db import models

from sealwax.django._binding import as_records
from sealwax.django._errors import SealedFieldError
from sealwax.django._fields import sealed_fields
from sealwax.django._index import IndexOf
from sealwax.django._moving import settle


class SealedQuerySet(models.QuerySet):  # type: ignore[type-arg]
    """A queryset that seals in ``bulk_update``, and refuses what would leave records that do not open."""

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None) -> int:
        names = list(fields)
        changed = set(names)
        names += [field.name for field in self.model._meta.concrete_fields if _follows(field, changed)]
        names += self._moved_from(changed)
        objects = list(objs)
        for each in objects:
            settle(each)
        with as_records():
            return super().bulk_update(objects, names, batch_size)

    def update(self, **kwargs: Any) -> int:
        for field in sealed_fields(self.model):
            bound = field.bound_to()
            if bound & kwargs.keys() and field.name not in kwargs:
                raise SealedFieldError(
                    f"update() of {min(bound & kwargs.keys())} would leave '{field.name}' of {self.model.__name__} "
                    "bound to what it was; assign it to the objects and save them"
                )
        return super().update(**kwargs)

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        if update_conflicts:
            self._check_upsert(set(update_fields or ()), set(unique_fields or ()))
            update_fields = [*(update_fields or ()), *self._moved_from(set(update_fields or ()))]
        objs = list(objs)
        for each in objs:
            settle(each)
        return super().bulk_create(objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)

    def _moved_from(self, changed: set[str]) -> list[str]:
        """Return the names of the fields that values of changed fields move from."""
        movers = [field.mover for field in sealed_fields(self.model) if field.name in changed]
        names = [mover.old.name for mover in movers if mover is not None and mover.old is not None]
        return [name for name in names if name not in changed]

    def _check_upsert(self, updated: set[str], target: set[str]) -> None:
        for field in sealed_fields(self.model):
            row = {each.name for each in field.row_fields()}
            if "pk" in target and self.model._meta.pk is not None:
                target = target | {self.model._meta.pk.name}
            if field.name in updated and row and not (row and target and target <= row):
                names = ", ".join(sorted(row))
                raise SealedFieldError(
                    f"bulk_create() would give a record of '{field.name}' to a row that was there before, and it "
                    f"is bound to the {names} of the new one; use unique_fields=[{names}], or look for the row first"
                )


def _follows(field: Any, changed: set[str]) -> bool:
    return isinstance(field, IndexOf) and field.index_of in changed and field.name not in changed


if TYPE_CHECKING:
    _Manager = models.Manager[Any]
else:
    _Manager = models.Manager.from_queryset(SealedQuerySet)


class SealedManager(_Manager):
    """The manager of models with sealed fields; its querysets are ``SealedQuerySet``."""


def give_manager(sender: Any, **_: object) -> None:
    """Give a model that has no manager of its own one that seals."""
    opts = sender._meta
    if not sealed_fields(sender) or opts.abstract or not getattr(opts.managers[0], "auto_created", False):
        return
    manager = SealedManager()
    manager.auto_created = True
    opts.local_managers = [each for each in opts.local_managers if each.name != "objects"]
    sender.add_to_class("objects", manager)
    opts._expire_cache()
