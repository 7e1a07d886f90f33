from __future__ import annotations

from typing import Any

from django.contrib import admin

from sealwax.django.admin import SealedAdmin
from tests.django.hospital.models import Person, Visit


class VisitInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Visit
    extra = 0


@admin.register(Person)
class PersonAdmin(SealedAdmin):
    list_display = ("badge", "name", "label")
    search_fields = ("mail_index", "badge")
    inlines = (VisitInline,)
    exclude = ("site",)  # its form warns until Django 6

    @admin.display(ordering="name")
    def label(self, person: Any) -> str:
        return f"{person.badge}: {person.name}"
