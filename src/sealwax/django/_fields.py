"""What all sealed fields of models share: as an attribute, as a column, and what is sealed and opened."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core import checks
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Case, Value
from django.db.models.fields import NOT_PROVIDED
from django.db.models.functions import Cast
from django.db.models.query_utils import DeferredAttribute
from django.utils import timezone

from sealwax.django._binding import (
    HIDDEN,
    LOADING,
    MARKS,
    OPENING,
    InOldField,
    LoadedOld,
    LoadedRecord,
    RowBinding,
    Stored,
    check_scope,
    field_of,
    given,
    giving_nothing,
    pairs_of_instance,
    row_of,
    row_type,
)
from sealwax.django._checks import check_sealed
from sealwax.django._columns import RecordCol, RecordField
from sealwax.django._errors import SealedFieldError, without_frames
from sealwax.django._moving import Mover, check_moving, is_text, mover_of
from sealwax.django._settings import current_pairs, get_records
from sealwax.errors import SealwaxError
from sealwax.records import UNBOUND, is_record
from sealwax.records._form import from_text, to_text
from sealwax.records.moving import Moving


class SealedOptions(NamedTuple):
    """What the records of a field are bound to."""

    row: tuple[str, ...]
    """The names of the fields that the row is made of; none for UNBOUND."""
    scope: Mapping[str, str]
    """Which fields of the model have the pairs of the scope."""
    name: str
    """The name of the field of ``Records``; "" for that of table and column."""
    storage: models.Field[Any, Any]
    """The type of the column."""
    moving: Moving | None = None
    """The state of the column while it moves from an old form."""
    moved_from: str = ""
    """The name of the field that values move from, if it is another one."""


class SealedFieldAttribute(DeferredAttribute):
    """Opens a record when it is looked at."""

    field: Any

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is None:
            return self
        if (gives := given()) and gives != OPENING:
            return self.field.given(instance, gives)
        value = super().__get__(instance, cls)
        if isinstance(value, InOldField):
            return self.field.mover.read_old_field(instance)
        if isinstance(value, Stored):
            value = instance.__dict__[self.field.attname] = self.field.open(instance, value)
        return value

    def __set__(self, instance: models.Model, value: Any) -> None:
        # With it, an attribute is asked for here each time, and not in the instance first.
        instance.__dict__[self.field.attname] = value


class SealedMixin(models.Field):  # type: ignore[type-arg]
    """What sealed fields of all kinds have in common; ``Sealed`` makes them."""

    descriptor_class = SealedFieldAttribute
    sealing: SealedOptions

    # --- as a field of a model

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        kind = next(each for each in type(self).__mro__ if not issubclass(each, SealedMixin))
        row = self.sealing.row
        sealing: dict[str, Any] = {"row": UNBOUND if not row else row[0] if len(row) == 1 else row}
        if self.sealing.scope:
            sealing["scope"] = dict(self.sealing.scope)
        if self.sealing.name:
            sealing["name"] = self.sealing.name
        if not isinstance(self.sealing.storage, models.BinaryField):
            sealing["storage"] = self.sealing.storage
        return name, "sealwax.django.Sealed", [kind(*args, **kwargs)], sealing

    def clone(self) -> Any:
        _, _, args, kwargs = super().deconstruct()
        other = type(self)(*args, **kwargs)
        other.sealing = self.sealing
        return other

    def contribute_to_class(self, cls: Any, name: str, *args: Any, **kwargs: Any) -> None:
        super().contribute_to_class(cls, name, *args, **kwargs)
        for known in ("_row", "_row_type"):  # of an abstract class, which this is a copy from
            self.__dict__.pop(known, None)
        if not self.sealing.scope:
            self.sealing = self.sealing._replace(scope=dict(getattr(cls, "sealed_scope", {})))

    @functools.cached_property
    def mover(self) -> Mover | None:
        """What reads and writes the old form, while the column moves."""
        return mover_of(self)

    @property
    def text(self) -> bool:
        """Whether the column is of text."""
        return is_text(self.sealing.storage)

    @property
    def field_name(self) -> str:
        """The name of the field of ``Records``."""
        return self.sealing.name or f"{self.model._meta.db_table}.{self.column}"

    def row_fields(self) -> tuple[models.Field[Any, Any], ...]:
        """The fields that the row is made of."""
        return self._row

    @functools.cached_property
    def _row(self) -> tuple[models.Field[Any, Any], ...]:
        opts = self.model._meta
        return tuple(opts.pk if name == "pk" else opts.get_field(name) for name in self.sealing.row)  # type: ignore[misc]

    @functools.cached_property
    def _row_type(self) -> Any:
        return row_type(self._row)

    @property
    def like(self) -> object:
        """What it has in common with fields that are bound to the same."""
        return self.sealing.row, tuple(self.sealing.scope.items())

    @functools.cached_property
    def bound_fields(self) -> tuple[models.Field[Any, Any], ...]:
        """The fields that a record is bound to: those of the row, and those with pairs of the scope."""
        opts = self.model._meta
        return (*self.row_fields(), *(opts.get_field(name) for name in self.sealing.scope.values()))  # type: ignore[arg-type]

    def binding_if_known(self, instance: models.Model) -> RowBinding | None:
        """Return what a record of an instance is bound to; None if a part of it was not loaded, or has no value."""
        data = instance.__dict__
        if any(data.get(each.attname) is None for each in self.bound_fields):
            return None
        return self.binding(instance)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *check_sealed(self), *check_moving(self)]

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        for each in self.model._meta.concrete_fields:
            if getattr(each, "index_of", None) == self.name and each.unique and each.taken(model_instance, value):  # type: ignore[attr-defined]
                raise model_instance.unique_error_message(type(model_instance), (self.name,))

    # --- as a column

    @functools.cached_property
    def _record_field(self) -> RecordField:
        field = RecordField(null=self.null)
        field.sealed = self
        field.set_attributes_from_name(self.name)
        field.model = self.model
        return field

    def db_type(self, connection: Any) -> str:
        return self.sealing.storage.db_type(connection)  # type: ignore[return-value]

    rel_db_type = cast_db_type = db_type

    def db_check(self, connection: Any) -> None:  # noqa: ARG002
        return None

    def db_type_suffix(self, connection: Any) -> None:  # noqa: ARG002
        return None

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        return {"type": self.db_type(connection), "check": None, "collation": None}

    def get_col(self, alias: str, output_field: Any = None) -> Any:  # noqa: ARG002
        return RecordCol(alias, self, self._record_field)

    @property
    def cached_col(self) -> Any:
        return RecordCol(self.model._meta.db_table, self, self._record_field)

    def get_placeholder(self, value: Any, compiler: Any, connection: Any) -> Any:  # noqa: ARG002
        if hasattr(value, "as_sql") and not all(map(_is_record, _results(value))):
            raise self.one_value()
        return "%s" if self.text else connection.ops.binary_placeholder_sql(value)

    def get_lookup(self, lookup_name: str) -> Any:
        return self._record_field.get_lookup(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        return self._record_field.get_transform(lookup_name)

    def get_db_converters(self, connection: Any) -> list[Any]:  # noqa: ARG002
        return [self._loaded]

    def _loaded(self, value: Any, expression: Any, connection: Any) -> Any:  # noqa: ARG002
        if value is None:
            return None
        stored = value if isinstance(value, str) else bytes(value)
        is_old = self.mover is not None and self.mover.is_old(stored)
        return LoadedOld(stored) if is_old else LoadedRecord(stored)

    def opened_alone(self, value: Any, expression: Any, connection: Any) -> Any:  # noqa: ARG002
        """Open a record of no row, which values() has read, in the scope of the work under way."""
        if value is None:
            return None
        loaded = self._loaded(value, None, None)
        if isinstance(loaded, LoadedOld):
            return self.mover.read(loaded.stored)  # type: ignore[union-attr]
        records = get_records()
        current = current_pairs(records)
        if missing := [name for name in self.sealing.scope if name not in current]:
            raise SealedFieldError(
                f"'{self.name}' of {self.model.__name__} is sealed for a {missing[0]}, which values() does not see; "
                f"set it with records.scope({missing[0]}=...), or use the objects"
            )
        pairs = tuple(sorted(current.items()))
        return self.opened(field_of(records, self.field_name, UNBOUND, pairs).open(loaded.record, row=UNBOUND))

    # --- what is written

    def given(self, instance: models.Model, gives: str) -> Any:
        """Return what an attribute is while it does not give its value: the record, or a mark that hides it."""
        if gives != MARKS:
            return self.record_of(instance)
        return None if instance.__dict__.get(self.attname, "") is None else HIDDEN

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        if not isinstance(model_instance.__dict__.get(self.attname), Stored):
            super().pre_save(model_instance, add)  # auto_now
        return self.record_of(model_instance)

    def record_of(self, instance: models.Model) -> Any:
        """Return the record to write for an instance; None for NULL, and an expression as it is."""
        value = instance.__dict__.get(self.attname, NOT_PROVIDED)
        if value is NOT_PROVIDED:
            instance.refresh_from_db(fields=[self.attname])
            value = instance.__dict__[self.attname]
        if value is None:
            return None
        if given() == LOADING and isinstance(value, str) and is_record(value):  # XML has that of a JSONField as JSON
            value = LoadedRecord(from_text(value))
        if hasattr(value, "resolve_expression"):
            raise SealedFieldError(
                f"'{self.name}' of {self.model.__name__} is sealed, so the database cannot compute it; assign a value"
            )
        if isinstance(value, LoadedOld | InOldField):
            return value if isinstance(value, LoadedOld) else None
        try:
            if self.mover is not None and self.mover.writes_old and not isinstance(value, LoadedRecord):
                return self.mover.written(self.to_seal(value))
            return self.sealed(instance, value)
        except Exception:
            del value  # what keeps an error keeps the variables of its frames
            raise

    def sealed(self, instance: models.Model, value: Any) -> LoadedRecord:
        """Return a record of a value of an instance."""
        try:
            binding = self.binding(instance)
            check_scope(instance, self.sealing.scope, binding.pairs)
            if isinstance(value, LoadedRecord):
                if value.binding == binding and given() != LOADING:
                    return value
                record, value = value, self.open(instance, value)  # a fixture's may be of another key store
                if record.binding == binding:
                    return record
            return LoadedRecord(self._seal(binding, value), binding)
        except Exception:
            del value  # what keeps an error keeps the variables of its frames
            raise

    def _seal(self, binding: RowBinding, value: Any) -> bytes:
        try:
            record: bytes = self._field(binding).seal(self.to_seal(value), row=binding.row)
            return record
        except (SealwaxError, TypeError, ValueError) as error:
            del value
            raise without_frames(error)  # noqa: B904  the same

    def binding(self, instance: models.Model) -> RowBinding:
        """Return what a record of an instance is bound to now."""
        row = row_of(instance, self.row_fields())
        if row is None:
            raise SealedFieldError(
                f"'{self.name}' of {self.model.__name__} is bound to {', '.join(self.sealing.row)}, which has no value "
                "yet; set it before saving, as default=uuid4 does"
            )
        return RowBinding(row, pairs_of_instance(instance, self.sealing.scope))

    def open(self, instance: models.Model, loaded: Stored) -> Any:
        """Open a record of an instance, or read what is in the old form."""
        if not isinstance(loaded, LoadedRecord):
            assert self.mover is not None
            return self.mover.read_stored(instance, loaded)
        binding = loaded.binding or self._stored_binding(instance, loaded)
        check_scope(instance, self.sealing.scope, binding.pairs)
        return self.opened(self._field(binding).open(loaded.record, row=binding.row))

    def _stored_binding(self, instance: models.Model, loaded: LoadedRecord) -> RowBinding:
        """Ask the row for what only() or defer() left out: the instance may have been assigned another tenant."""
        rows = type(instance)._base_manager.using(instance._state.db).filter(pk=instance.pk)
        row = rows.only(*(each.name for each in self.bound_fields)).first()
        loaded.binding = (self.binding_if_known(row) if row is not None else None) or self.binding(instance)
        return loaded.binding

    def _field(self, binding: RowBinding) -> Any:
        return field_of(get_records(), self.field_name, self._row_type, binding.pairs)

    def to_seal(self, value: Any) -> Any:
        """Return a value as the field would give it to a database, with its type."""
        kind = type(value)
        try:
            return self._prepared(value)
        except (TypeError, ValueError, ArithmeticError, ValidationError):  # which may show the value
            del value
        raise self._wrong_value(kind)

    def _prepared(self, value: Any) -> Any:
        if isinstance(self, models.BinaryField):  # whose own refusal comes from the database
            return bytes(memoryview(value))
        if given() == LOADING:  # then to_python() takes text for a record, and this is what one held
            with giving_nothing():
                value = self.get_prep_value(value)
        else:
            value = self.get_prep_value(value)
        if isinstance(self, models.DateTimeField) and timezone.is_aware(value):
            return value.astimezone(datetime.UTC)
        if isinstance(self, models.DecimalField):
            return self._quantized(value)
        return value

    def _wrong_value(self, kind: type) -> SealedFieldError:
        source = next(each.__name__ for each in type(self).__mro__ if not issubclass(each, SealedMixin))
        return SealedFieldError(
            f"'{self.name}' of {self.model.__name__} cannot hold this {kind.__name__}: it takes what {source} does"
        )

    def _quantized(self, value: Any) -> Any:
        from django.db.backends.utils import format_number

        text = format_number(value, self.max_digits, self.decimal_places)  # type: ignore[attr-defined]
        return type(value)(text) if text is not None else value

    def opened(self, value: Any) -> Any:
        """Return a value of a record as the field has it."""
        if isinstance(self, models.JSONField) or (isinstance(self, models.BinaryField) and isinstance(value, bytes)):
            return value
        kind = type(value)
        if not isinstance(self, models.BinaryField):  # which would decode text
            with contextlib.suppress(TypeError, ValueError, ArithmeticError, ValidationError):  # they show the value
                return super().to_python(value)
        del value  # it was sealed when the field was of another kind
        raise self._wrong_value(kind)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Stored):
            stored = self._in_column(value)
            return stored if isinstance(stored, str) else connection.Database.Binary(stored)
        if hasattr(value, "as_sql"):
            return value
        del value
        raise self.one_value()

    def _in_column(self, value: Stored) -> str | bytes:
        if isinstance(value, LoadedOld):
            return value.stored
        record: str | bytes = value.record  # type: ignore[attr-defined]
        if isinstance(record, str) == self.text:
            return record
        return from_text(record) if isinstance(record, str) else to_text(record)

    def one_value(self) -> SealedFieldError:
        """Return the error for one value that is given to many rows."""
        return SealedFieldError(
            f"'{self.name}' of {self.model.__name__} is sealed: update(), expressions and defaults of migrations give "
            "one value to rows that each need a record of their own. Assign it to the objects and save them, or use "
            "bulk_update() of a SealedManager"
        )

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:  # noqa: ARG002
        return self.get_db_prep_save(value, connection)

    # --- fixtures

    def value_from_object(self, obj: models.Model) -> Any:
        return getattr(obj, self.attname)

    def value_to_string(self, obj: models.Model) -> str:
        value = getattr(obj, self.attname)
        if isinstance(value, LoadedOld):  # a fixture has no values in the clear unless it is asked for
            value = self.sealed(obj, self.open(obj, value))
        if isinstance(value, LoadedRecord):
            return value.record if isinstance(value.record, str) else to_text(value.record)
        if given() == OPENING and isinstance(value, str) and is_record(value):
            raise SealedFieldError(
                f"'{self.name}' of the {self.model.__name__} {obj.pk} holds text that begins as a record does, and "
                "loaddata would take it for one"
            )
        return super().value_to_string(obj)

    def to_python(self, value: Any) -> Any:
        if given() == LOADING and isinstance(value, str) and is_record(value):
            return LoadedRecord(from_text(value))
        if isinstance(value, Stored):
            return value
        if given() != LOADING or isinstance(self, models.BinaryField):
            return super().to_python(value)
        return self.opened(value)


def _results(expression: Any) -> list[Any]:
    """Return what an expression may give to a column, as bulk_update() makes one."""
    if isinstance(expression, Cast):
        return _results(expression.get_source_expressions()[0])
    if isinstance(expression, Case):
        return [part for case in expression.cases for part in _results(case.result)] + _results(expression.default)
    return [expression]


def _is_record(expression: Any) -> bool:
    return isinstance(expression, Value) and (expression.value is None or isinstance(expression.value, Stored))


def sealed_fields(model: type[models.Model]) -> list[SealedMixin]:
    return [field for field in model._meta.concrete_fields if isinstance(field, SealedMixin)]
