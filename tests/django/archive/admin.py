from django.contrib import admin

from sealwax.django.admin import SealedAdmin
from tests.django.archive.models import RecordsOnly, WritesOld, WritesRecords


@admin.register(WritesOld, WritesRecords, RecordsOnly)
class LetterAdmin(SealedAdmin):
    list_display = ("note", "birth")
    search_fields = ("note_index",)
