"""The models: what is sealed, and what each record is bound to."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from sealwax.django import IndexOf, Sealed


class Clinic(models.Model):
    slug = models.SlugField(primary_key=True, max_length=40)

    def __str__(self) -> str:
        return self.slug


class Member(models.Model):
    """Which clinic a user works for."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    clinic = models.ForeignKey(Clinic, on_delete=models.CASCADE)


class Patient(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    clinic = models.ForeignKey(Clinic, on_delete=models.PROTECT)
    name = Sealed(models.CharField(max_length=50), row="id")  # does not open in another row, column or clinic
    name_index = IndexOf("name", normalize="casefold-nfc/1", bits=12)
    born = Sealed(models.DateField(null=True, blank=True), row="id")
    notes = Sealed(models.TextField(blank=True), row="id")

    sealed_scope = {"clinic": "clinic"}  # each clinic has a data key of its own

    def __str__(self) -> str:
        return f"patient {self.pk}"  # the admin's log keeps this in the clear
