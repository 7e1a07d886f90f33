"""Search in the admin by blind indexes."""

from __future__ import annotations

import copy
from typing import Any

from django.contrib import admin

from sealwax.django._index import IndexOf

__all__ = ["SealedAdmin"]


class SealedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A ``ModelAdmin`` whose ``search_fields`` may name an ``IndexOf``: it finds whole values, opened and compared.

    Example:
        >>> class PatientAdmin(SealedAdmin):
        ...     search_fields = ["name_index", "ward"]
    """

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> Any:
        names = self.get_search_fields(request)
        indexes = [name for name in names if self._index(name) is not None]
        if not indexes or not search_term:
            return super().get_search_results(request, queryset, search_term)
        found = {each.pk for name in indexes for each in self._find(name, search_term, queryset)}
        others = [name for name in names if name not in indexes]
        if not others:
            return queryset.filter(pk__in=found), False
        plain = copy.copy(self)
        plain.get_search_fields = lambda _request: others  # type: ignore[method-assign, assignment]
        matched, duplicates = admin.ModelAdmin.get_search_results(plain, request, queryset, search_term)
        return matched | queryset.filter(pk__in=found), duplicates

    def _index(self, name: str) -> IndexOf | None:
        field = next((each for each in self.opts.concrete_fields if each.name == name), None)
        return field if isinstance(field, IndexOf) else None

    def _find(self, name: str, term: str, queryset: Any) -> list[Any]:
        try:
            found: list[Any] = getattr(self.model, name).find(term, queryset)
        except (TypeError, ValueError):  # what was typed is no value of the field
            return []
        return found
