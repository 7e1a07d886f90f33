from django.contrib import admin

from sealwax.django.admin import SealedAdmin
from tests.django.clinic.models import Patient


@admin.register(Patient)
class PatientAdmin(SealedAdmin):
    list_display = ("name", "born")
    search_fields = ("name_index", "ward")
