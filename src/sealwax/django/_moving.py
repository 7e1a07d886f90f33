"""Sealed fields while their values move from an old form to records, in their column or from another field."""

from __future__ import annotations

import datetime
import decimal
import enum
import warnings
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from sealwax.django._binding import InOldField, LoadedOld, Stored
from sealwax.django._errors import SealedFieldError
from sealwax.django._settings import get_records
from sealwax.errors import ModelError, OldFormError
from sealwax.records._form import MIN_BYTES, to_text
from sealwax.records.moving import Moving

_TEXT: Final = (models.CharField, models.TextField)
# The types that values have in the old form, the first that fits.
_KINDS: Final[tuple[tuple[Any, tuple[type, ...]], ...]] = (
    (models.BooleanField, (bool,)),
    (models.IntegerField, (int,)),
    (models.FloatField, (float,)),
    (models.DecimalField, (decimal.Decimal,)),
    (models.DateTimeField, (datetime.datetime,)),
    (models.DateField, (datetime.date,)),
    (models.UUIDField, (UUID,)),
    (models.BinaryField, (bytes,)),
    (models.JSONField, (dict, list)),
    (models.Field, (str,)),
)
# Numbers, dates and the like take less.
_USUAL_BYTES: Final = 64


class Mover:
    """Reads and writes the values of one sealed field that are not records.

    Args:
        field: the sealed field.
        moving: the state of its column.
        old: the field that its values move from; None if they move within the column.
    """

    def __init__(self, field: Any, moving: Moving, old: models.Field[Any, Any] | None) -> None:
        self.field = field
        self.moving = moving
        self.old = old
        self.writes_old = moving.writes == "old"
        self.kinds = kinds_of(field)

    def is_old(self, stored: str | bytes) -> bool:
        """Whether a value in the column of the records is in the old form."""
        return self.old is None and self.moving.is_old(stored)

    def read(self, stored: Any) -> Any:
        """Return a value in the old form.

        Raises:
            OldFormError: it cannot be read.
        """
        if isinstance(stored, memoryview):
            stored = bytes(stored)
        for kind in self.kinds[:-1]:
            try:
                return self.field.opened(self.moving.read(get_records(), self.field.field_name, stored, kind))
            except OldFormError:
                pass
        return self.field.opened(self.moving.read(get_records(), self.field.field_name, stored, self.kinds[-1]))

    def read_stored(self, instance: models.Model, stored: Stored) -> Any:
        """Return the value of an instance that is in the old form, wherever it is."""
        return self.read(stored.stored) if isinstance(stored, LoadedOld) else self.read_old_field(instance)

    def read_old_field(self, instance: models.Model) -> Any:
        """Return the value that an instance has in the field that values move from."""
        assert self.old is not None
        stored = getattr(instance, self.old.attname)
        return None if stored is None else self.read(stored)

    def written(self, value: Any) -> LoadedOld:
        """Return a value as it goes into the column while the old form is written.

        Raises:
            OldFormError: the form cannot hold it, or it would be taken for a record.
        """
        if self.old is not None:
            raise SealedFieldError(
                f"'{self.field.name}' of {self.field.model.__name__} is still written to '{self.old.name}', which "
                "needs save(), or the bulk_create() and bulk_update() of a SealedManager"
            )
        return LoadedOld(self._written(value, text=self.field.text))

    def _written(self, value: Any, *, text: bool) -> str | bytes:
        value = value.value if isinstance(value, enum.Enum) else value  # choices
        return self.moving.write(get_records(), self.field.field_name, value, text=text)

    def look_in_old_field(self, data: dict[str, Any]) -> None:
        """Note in an instance without a record that its value may be in the field that values move from."""
        if self.old is not None and data.get(self.old.attname, self) is not None:
            data[self.field.attname] = InOldField()

    def settle(self, instance: models.Model, update_fields: Collection[str] | None) -> None:
        """Give a value that was assigned to the one of two fields that is written, and NULL to the other."""
        data = instance.__dict__
        value = data.get(self.field.attname, self)
        if self.old is None or value is self or isinstance(value, Stored) or hasattr(value, "resolve_expression"):
            return
        if update_fields:
            written = {self.field.name, self.old.name} & set(update_fields)
            if len(written) == 1:
                raise SealedFieldError(
                    f"save() writes one of '{self.field.name}' and '{self.old.name}' of "
                    f"{self.field.model.__name__}, and a value moves from one to the other; add both to update_fields, "
                    "and load what only() or defer() left out"
                )
            if not written:
                return
        if self.writes_old and value is not None:
            data[self.old.attname] = self._for_old_field(self.field.to_seal(value))
            data[self.field.attname] = InOldField()
        else:
            data[self.old.attname] = None

    def _for_old_field(self, value: Any) -> Any:
        if isinstance(self.old, (*_TEXT, models.BinaryField)):
            return self._written(value, text=is_text(self.old))
        get_records().note_old_value(self.field.field_name, self.moving.old.name, read=False)
        return value


def kinds_of(field: models.Field[Any, Any]) -> tuple[type, ...]:
    """Return the types that the values of a model field may have."""
    return next(kinds for each, kinds in _KINDS if isinstance(field, each))


def is_text(field: models.Field[Any, Any] | None) -> bool:
    return isinstance(field, _TEXT)


def mover_of(field: Any) -> Mover | None:
    """Return what moves the values of a sealed field; None if they do not move.

    A model of a migration does not say so: there, the field of the application's own model does.
    """
    own, opts = field, field.model._meta
    if opts.apps is not apps:
        try:
            own = apps.get_model(opts.app_label, opts.model_name)._meta.get_field(field.name)
        except (LookupError, FieldDoesNotExist):
            return None
    sealing = getattr(own, "sealing", None)
    if sealing is None or sealing.moving is None:
        return None
    try:
        old = opts.get_field(sealing.moved_from) if sealing.moved_from else None
    except FieldDoesNotExist:
        return None  # of a migration before it, or said by a check
    return Mover(field, sealing.moving, old)


def settle(instance: models.Model, update_fields: Collection[str] | None = None) -> None:
    """Prepare an instance for being written, whose values may move from one field to another.

    Raises:
        SealedFieldError: only one of two such fields would be written.
    """
    for field in instance._meta.concrete_fields:
        mover = getattr(field, "mover", None)
        if isinstance(mover, Mover):
            mover.settle(instance, update_fields)


# --- definitions


def check_storage(
    storage: models.Field[Any, Any] | None, moving: Moving | None, moved_from: str
) -> models.Field[Any, Any]:
    """Return the type of a column, from what ``Sealed`` was given.

    Raises:
        TypeError: there can be no records in it.
        ValueError: the arguments do not fit each other.
    """
    if storage is not None and not isinstance(storage, (*_TEXT, models.BinaryField)):
        raise TypeError("storage is a model field of text or bytes, such as models.TextField()")
    if moving is not None and not isinstance(moving, Moving):
        raise TypeError('moving is a Moving, such as Moving(Plaintext(), writes="old")')
    if moved_from and moving is None:
        raise ValueError("moved_from names where values move from, so moving= says how they were stored")
    if moving is not None and storage is None and not moved_from:
        raise ValueError(
            "values that move within their column need its type, which does not change: add storage=models.TextField() "
            "or storage=models.BinaryField(), as the column is, or moved_from= with the name of the field they are in"
        )
    return models.BinaryField() if storage is None else storage


def check_moving(field: Any) -> list[checks.CheckMessage]:
    """Return what `manage.py check` says about the column of a sealed field."""
    return [*_check_length(field), *_check_old_field(field), *_check_until(field)]


def _check_length(field: Any) -> list[checks.CheckMessage]:
    most = getattr(field.sealing.storage, "max_length", None)
    if most is None:
        return []
    needed = needed_length(field)
    if needed is not None and needed <= most:
        return []
    what = "of any length" if needed is None else f"of up to {needed} {'characters' if field.text else 'bytes'}"
    return [
        checks.Error(
            f"storage has room for {most}, and the records of '{field.name}' are {what}",
            hint="Use storage=models.TextField()" + (f" or max_length={needed}." if needed else "."),
            obj=field,
            id="sealwax.E012",
        )
    ]


def needed_length(field: Any) -> int | None:
    """Return how long the record of the longest value is, in characters or bytes; None if that is not known."""
    if isinstance(field, models.TextField | models.JSONField | models.BinaryField):
        return None
    size = MIN_BYTES + 4 * (getattr(field, "max_length", None) or _USUAL_BYTES // 4) + 1
    return len(to_text(bytes(size))) if field.text else size


def _check_old_field(field: Any) -> list[checks.CheckMessage]:
    name = field.sealing.moved_from
    if not name:
        return []
    try:
        old = field.model._meta.get_field(name)
    except FieldDoesNotExist as error:
        return [checks.Error(f"moved_from: {error}", obj=field, id="sealwax.E011")]
    if hasattr(old, "sealing") or not old.null or not field.null:
        return [
            checks.Error(
                f"moved_from: '{name}' and '{field.name}' are NULL in turn, and '{name}' is not sealed",
                hint="Give both null=True.",
                obj=field,
                id="sealwax.E011",
            )
        ]
    return []


def _check_until(field: Any) -> list[checks.CheckMessage]:
    if field.sealing.moving is None:
        return []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            field.sealing.moving.check(field.field_name)
        except ModelError as error:
            return [checks.Error(str(error), obj=field, id="sealwax.E013")]
    return [checks.Warning(str(each.message), obj=field, id="sealwax.W003") for each in caught]
