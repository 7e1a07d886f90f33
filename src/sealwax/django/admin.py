"""The admin of models with sealed fields: it searches by blind indexes, and writes no value into its log."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db.models.constants import LOOKUP_SEP

from sealwax.django._binding import hidden
from sealwax.django._checks import mentioned
from sealwax.django._errors import SealedFieldError
from sealwax.django._fields import SealedMixin, sealed_fields
from sealwax.django._index import IndexOf

__all__ = ["SealedAdmin"]


class SealedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A ``ModelAdmin`` whose ``search_fields`` may name an ``IndexOf``: it finds whole values, opened and compared.

    Columns of sealed fields cannot be sorted, and the log of the admin names objects without what is sealed in them.

    Example:
        >>> class PatientAdmin(SealedAdmin):
        ...     search_fields = ["name_index", "ward"]
    """

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> Any:
        names = self.get_search_fields(request)
        indexes = [name for name in names if self._index(name) is not None]
        if not indexes or not search_term:
            return super().get_search_results(request, queryset, search_term)
        try:
            found = {each.pk for name in indexes for each in self._find(name, search_term, queryset)}
        except SealedFieldError as error:  # nobody has said in which scope to look
            self.message_user(request, str(error), messages.ERROR, fail_silently=True)
            found = set()
        others = [name for name in names if name not in indexes]
        if not others:
            return queryset.filter(pk__in=found), False
        plain = copy.copy(self)
        plain.get_search_fields = lambda _request: others  # type: ignore[method-assign, assignment]
        matched, duplicates = admin.ModelAdmin.get_search_results(plain, request, queryset, search_term)
        return matched | queryset.filter(pk__in=found), duplicates

    def get_sortable_by(self, request: Any) -> Any:
        return [name for name in super().get_sortable_by(request) if not _is_sealed(self.model, self._order_of(name))]

    def get_changelist(self, request: Any, **kwargs: Any) -> Any:
        usual: Any = super().get_changelist(request, **kwargs)

        class SealedChangeList(usual):  # type: ignore[misc]
            def get_ordering_field(self, field_name: Any) -> Any:
                order = super().get_ordering_field(field_name)
                return None if order is not None and _is_sealed(self.model, order) else order

        return SealedChangeList

    def _order_of(self, column: Any) -> Any:
        """What a column of the list is sorted by."""
        shown = column if callable(column) else getattr(self, column, getattr(self.model, column, None))
        return getattr(shown, "admin_order_field", None) or column

    def construct_change_message(self, request: Any, form: Any, formsets: Any, add: bool = False) -> Any:
        with hidden():
            return super().construct_change_message(request, form, formsets, add)

    def log_addition(self, request: Any, obj: Any, message: Any) -> Any:
        with hidden():
            return super().log_addition(request, obj, message)

    def log_change(self, request: Any, obj: Any, message: Any) -> Any:
        with hidden():
            return super().log_change(request, obj, message)

    def log_deletions(self, request: Any, queryset: Any) -> Any:
        with hidden():
            return super().log_deletions(request, queryset)

    def _index(self, name: str) -> IndexOf | None:
        field = next((each for each in self.opts.concrete_fields if each.name == name), None)
        return field if isinstance(field, IndexOf) else None

    def _find(self, name: str, term: str, queryset: Any) -> list[Any]:
        index: Any = self._index(name)
        try:
            index.source.to_seal(term)
        except SealedFieldError:  # what was typed is not a value of the field
            return []
        try:
            found: list[Any] = getattr(self.model, name).find(term, queryset)
        except (TypeError, ValueError):  # nor one of the normalizer
            return []
        return found


def check_admins(app_configs: Any = None, **_: object) -> list[checks.CheckMessage]:
    """Return what the admins of models do with sealed fields that a database cannot."""
    return [
        message
        for site in admin.sites.all_sites
        for model, each in site._registry.items()
        if app_configs is None or model._meta.app_config in app_configs
        for message in (*_plain(model, each), *_asked_for(model, each))
    ]


def _plain(model: Any, each: Any) -> Iterator[checks.CheckMessage]:
    if sealed_fields(model) and not isinstance(each, SealedAdmin):
        yield checks.Warning(
            f"{model.__name__} has sealed fields, and its admin writes str() of the objects into its log and sorts by "
            "any column",
            hint="Let it inherit from sealwax.django.admin.SealedAdmin.",
            obj=type(each),
            id="sealwax.W002",
        )


def _asked_for(model: Any, each: Any) -> Iterator[checks.CheckMessage]:
    for option in ("search_fields", "list_filter", "ordering", "date_hierarchy"):
        given = getattr(each, option, None) or ()
        for name in (given,) if isinstance(given, str) else given:
            path = name[0] if isinstance(name, tuple | list) else name
            if _is_sealed(model, path):
                yield checks.Error(
                    f"{option} names '{path}', which is sealed, and a database cannot do that",
                    hint="Name an IndexOf in search_fields of a SealedAdmin." if option == "search_fields" else None,
                    obj=type(each),
                    id="sealwax.E010",
                )


def _is_sealed(model: Any, order: Any) -> bool:
    paths = [order] if isinstance(order, str) else mentioned([order])
    return any(isinstance(_field(model, path), SealedMixin) for path in paths)


def _field(model: Any, path: str) -> Any:
    """Return the field that a path such as ``visits__person__name`` ends at; None if there is none."""
    field = None
    for name in path.lstrip("-^=@").split(LOOKUP_SEP):
        try:
            field = model._meta.get_field(name) if model is not None else None
        except FieldDoesNotExist:
            return field
        if field is None:
            return None
        model = field.related_model if field.is_relation else None
        if model is None:
            return field
    return field
