"""``IndexOf``: the blind index of a sealed field, in a column beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, overload
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from sealwax._core.validate import whole
from sealwax.django._binding import (
    LOADING,
    RECORDS,
    Pairs,
    Stored,
    attname_of,
    check_scope,
    given,
    pairs_of_instance,
)
from sealwax.django._errors import SealedFieldError, without_frames
from sealwax.django._fields import SealedMixin
from sealwax.django._settings import current_pairs, get_records
from sealwax.errors import SealwaxError
from sealwax.records import Index, Records
from sealwax.records._index import MAX_BITS, UNIQUE_BITS
from sealwax.records._normalize import normalizer


class IndexFieldAttribute(DeferredAttribute):
    """The index of an instance; of a model, what searches."""

    field: Any

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        if instance is not None and given() in (RECORDS, LOADING):
            return self.field.of_instance(instance)
        return super().__get__(instance, cls)

    def __set__(self, instance: models.Model, value: Any) -> None:
        # With it, an attribute is asked for here each time, and not in the instance first.
        instance.__dict__[self.field.attname] = value

    def find(self, value: object, queryset: Any = None, /, **pairs: str | int | UUID) -> list[Any]:
        """Return the objects whose sealed field has a value: the index finds them, and each is opened and compared.

        Args:
            value: the value; the normalizer says which others are the same.
            queryset: where to look; all objects by default.
            **pairs: the scope to look in, beside that of ``records.scope``; keys as the model has them, or as text.

        Returns:
            The objects, in the order of the queryset.

        Raises:
            SealedFieldError: a pair of the scope is missing, in which the index would find nothing.
        """
        field = self.field
        source = field.source
        try:
            wanted = {**current_pairs(get_records()), **_as_text(field, pairs)}
            field.check_scope_of_search(wanted)
            index = field.index(wanted)
            prepared = source.to_seal(value)
        finally:
            del value  # what keeps an error keeps the variables of its frames
        objects = field.model._default_manager.all() if queryset is None else queryset
        try:
            candidates = objects.filter(**{field.name: index.of(prepared)})
        except (SealwaxError, TypeError, ValueError) as error:
            del prepared
            raise without_frames(error)  # noqa: B904  the same
        same = _same_as(index, prepared)
        del prepared
        return [
            each
            for each in candidates
            if _is_of(each, source.sealing.scope, wanted) and same(getattr(each, source.attname))
        ]

    async def afind(self, value: object, queryset: Any = None, /, **pairs: str | int | UUID) -> list[Any]:
        """Return what ``find`` does, in a thread; the fields of the objects are open.

        Args:
            value: see ``find``.
            queryset: see ``find``.
            **pairs: see ``find``.

        Returns:
            The objects.
        """
        try:
            found: list[Any] = await sync_to_async(self.find)(value, queryset, **pairs)
            return found
        finally:
            del value


def _same_as(index: Index, prepared: Any) -> Callable[[Any], bool]:
    """Return what compares with a value, which is then in no variable of the caller."""
    return lambda opened: index.same(opened, prepared)


class IndexOf(models.BinaryField):  # type: ignore[type-arg]
    """A column with the blind index of a sealed field of the same model; it is written with it.

    ``Patient.name_index.find("Ada")`` returns the patients of this name. docs/how-to/blind-indexes.md says what an
    index tells.

    Args:
        field: the name of the sealed field.
        bits: the length of an index; `sealwax records index-bits` suggests one.
        normalize: which values are the same.
        shared: one index for all scopes.
        unique: whether the database refuses a second row with the same value; needs 128 bits.

    Raises:
        TypeError: ``bits`` is not an int.
        ValueError: ``bits`` is out of range, there is no such normalizer, or ``unique`` is asked of fewer bits.

    Example:
        >>> name_index = IndexOf("name", normalize="casefold-nfc/1", bits=16)
    """

    descriptor_class = IndexFieldAttribute

    if TYPE_CHECKING:

        @overload  # type: ignore[override]
        def __get__(self, instance: None, owner: Any) -> IndexFieldAttribute: ...
        @overload
        def __get__(self, instance: models.Model, owner: Any) -> bytes | None: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...

    def __init__(
        self, field: str, *, bits: int, normalize: str = "exact/1", shared: bool = False, **options: Any
    ) -> None:
        normalizer(normalize)
        whole("bits", bits, 1, MAX_BITS)
        if options.get("unique") and bits < UNIQUE_BITS:
            raise ValueError(
                f"unique=True needs bits={UNIQUE_BITS}, not {bits}: different values may have the same index, and "
                "the second one could not be saved"
            )
        self.index_of, self.bits, self.normalize, self.shared = field, bits, normalize, shared
        options = {"null": True, "editable": False, "db_index": not options.get("unique"), **options}
        super().__init__(**options)
        self.serialize = False

    def deconstruct(self) -> Any:
        name, _, _, kwargs = super().deconstruct()
        for option, usual in (("null", True), ("editable", False), ("db_index", not self.unique)):
            if kwargs.pop(option, getattr(self, option)) != usual:
                kwargs[option] = getattr(self, option)
        kwargs.pop("serialize", None)
        about = {"bits": self.bits, "normalize": self.normalize, **({"shared": True} if self.shared else {})}
        return name, "sealwax.django.IndexOf", [self.index_of], {**about, **kwargs}

    def db_type(self, connection: Any) -> str | None:
        # MySQL has no index on a BLOB.
        return f"varbinary({-(-self.bits // 8)})" if connection.vendor == "mysql" else super().db_type(connection)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        messages = super().check(**kwargs)
        try:
            source: Any = self.model._meta.get_field(self.index_of)
        except FieldDoesNotExist as error:
            return [*messages, checks.Error(str(error), obj=self, id="sealwax.E007")]
        if not isinstance(source, SealedMixin):
            return [*messages, checks.Error(f"'{self.index_of}' is not sealed", obj=self, id="sealwax.E008")]
        if not self._takes(source):
            kinds = "text, bytes, integers, dates and UUIDs" if self.normalize == "exact/1" else "text"
            problem = f"'{self.index_of}' cannot have this index: the normalizer {self.normalize} takes {kinds}"
            return [*messages, checks.Error(problem, obj=self, id="sealwax.E014")]
        return messages

    def _takes(self, source: Any) -> bool:
        """Whether the normalizer takes the values of a field."""
        if isinstance(source, models.CharField | models.TextField):
            return True
        # Equal values of the others may be written differently. A DateTimeField is a DateField.
        exact = (models.BinaryField, models.DateField, models.IntegerField, models.UUIDField)
        return (
            self.normalize == "exact/1" and isinstance(source, exact) and not isinstance(source, models.DateTimeField)
        )

    @property
    def source(self) -> Any:
        """The sealed field."""
        return self.model._meta.get_field(self.index_of)

    def check_scope_of_search(self, pairs: Mapping[str, str]) -> None:
        """Refuse to search in another scope than those that rows are in.

        Args:
            pairs: the pairs that are given.

        Raises:
            SealedFieldError: one is missing.
        """
        missing = [name for name in self.source.sealing.scope if name not in pairs]
        if missing and not self.shared:
            raise SealedFieldError(
                f"'{self.name}' of {self.model.__name__} is an index of each {missing[0]}, and find() does not know "
                f"which; call it with {missing[0]}=..., or set it with records.scope({missing[0]}=...)"
            )

    def index(self, pairs: dict[str, str]) -> Index:
        """Return the index of a scope.

        Args:
            pairs: the pairs of the scope, beside those that all fields share.
        """
        scope = () if self.shared else tuple(sorted(pairs.items()))
        return _index(get_records(), self.source.field_name, self.bits, self.normalize, self.shared, scope)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:  # noqa: ARG002
        # No name for what the instance has: what keeps an error keeps the variables of its frames.
        if self.source.attname in model_instance.__dict__ or self.attname not in model_instance.__dict__:
            model_instance.__dict__[self.attname] = self.of_instance(model_instance)
        return model_instance.__dict__[self.attname]  # a field that was deferred is not changed

    def of_instance(self, instance: models.Model) -> bytes | None:
        """Return the index of what an instance has; None for NULL.

        Args:
            instance: an object of the model.
        """
        source = self.source
        value = instance.__dict__.get(source.attname)
        if value is None and source.attname not in instance.__dict__:
            value = getattr(instance, source.attname)
        if isinstance(value, Stored):
            value = source.open(instance, value)
        if value is None:
            return None
        try:
            pairs = pairs_of_instance(instance, source.sealing.scope)
            check_scope(instance, source.sealing.scope, pairs)
            return self.index(dict(pairs)).of(source.to_seal(value))
        except (SealwaxError, TypeError, ValueError) as error:
            del value
            raise without_frames(error)  # noqa: B904  the same

    def taken(self, instance: Any, value: Any) -> bool:
        """Whether another object has the index of a value; forms ask it of one that is unique.

        Args:
            instance: the object that is validated.
            value: what its field would hold.

        Returns:
            False if the scope of the object is not known yet.
        """
        if instance is None or value in self.source.empty_values:
            return False
        if any(
            getattr(instance, attname_of(instance, column)) is None for column in self.source.sealing.scope.values()
        ):
            return False
        try:
            pairs = pairs_of_instance(instance, self.source.sealing.scope)
            same = self.index(dict(pairs)).of(self.source.to_seal(value))
        except (SealwaxError, TypeError, ValueError) as error:
            raise without_frames(error)  # noqa: B904  the same
        finally:
            del value
        others = type(instance)._default_manager.using(instance._state.db).filter(**{self.name: same})
        return bool(others.exclude(pk=instance.pk).exists())

    def get_lookup(self, lookup_name: str) -> Any:  # noqa: RET503
        if lookup_name in ("exact", "in", "isnull"):
            return super().get_lookup(lookup_name)
        self._refuse(f"cannot be searched by {lookup_name}")

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, str):
            del value
            self._refuse("is not compared with a value")
        return super().get_prep_value(value)

    def _refuse(self, what: str) -> NoReturn:
        raise SealedFieldError(
            f"'{self.name}' of {self.model.__name__} is a blind index and {what}; "
            f"{self.model.__name__}.{self.name}.find(value) opens and compares what it finds"
        )


def _as_text(field: IndexOf, pairs: Mapping[str, object]) -> dict[str, str]:
    for name, value in pairs.items():
        if not isinstance(value, str | int | UUID):
            raise TypeError(
                f"find() of '{field.name}' takes {name} as its rows have it, a str, an int or a UUID, and not a "
                f"{type(value).__name__}"
            )
    return {name: str(value) for name, value in pairs.items()}


def _is_of(instance: models.Model, columns: Mapping[str, str], pairs: Mapping[str, str]) -> bool:
    """Whether an object is of a scope; a short index of another scope may be the same."""
    return all(
        str(getattr(instance, attname_of(instance, column))) == pairs[name]
        for name, column in columns.items()
        if name in pairs
    )


@functools.lru_cache(maxsize=4096)
def _index(records: Records, name: str, bits: int, normalize: str, shared: bool, pairs: Pairs) -> Index:
    return records.index(name, bits=bits, normalize=normalize, shared=shared, **dict(pairs))
