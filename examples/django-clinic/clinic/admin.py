"""The admin: members of a clinic see its patients, and search them by their whole name."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from sealwax.django.admin import SealedAdmin

from clinic.models import Clinic, Member, Patient

admin.site.register([Clinic, Member])


@admin.register(Patient)
class PatientAdmin(SealedAdmin):
    list_display = ("name", "born")
    search_fields = ("name_index",)
    exclude = ("clinic",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return clinic_of(request) is not None and super().has_module_permission(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(clinic=clinic_of(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.clinic_id = clinic_of(request)
        super().save_model(request, obj, form, change)


def clinic_of(request: HttpRequest) -> str | None:
    clinic: str | None = request.clinic  # type: ignore[attr-defined]
    return clinic
