from __future__ import annotations

import uuid

from django.db import models

from sealwax.django import UNBOUND, IndexOf, Sealed


class Clinic(models.Model):
    title = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.title


class Patient(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    clinic = models.ForeignKey(Clinic, on_delete=models.CASCADE)
    ward = models.CharField(max_length=20, blank=True)
    name = Sealed(models.CharField(max_length=50), row="id")
    name_index = IndexOf("name", normalize="casefold-nfc/1", bits=2)
    born = Sealed(models.DateField(null=True, blank=True), row="id")
    notes = Sealed(models.TextField(blank=True, default=""), row=UNBOUND)

    sealed_scope = {"clinic": "clinic"}  # noqa: RUF012

    def __str__(self) -> str:
        return str(self.name)


class Everything(models.Model):
    """A sealed field of each kind."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    text = Sealed(models.TextField(null=True), row="id")
    char = Sealed(models.CharField(max_length=9, null=True, choices=[("a", "A"), ("", "-")]), row="pk")
    mail = Sealed(models.EmailField(null=True), row=("id",))
    small = Sealed(models.PositiveSmallIntegerField(null=True), row="id")
    big = Sealed(models.BigIntegerField(null=True), row=("id", "text_key"))
    yes = Sealed(models.BooleanField(null=True), row="id")
    price = Sealed(models.DecimalField(max_digits=6, decimal_places=2, null=True), row="id")
    real = Sealed(models.FloatField(null=True), row="id")
    day = Sealed(models.DateField(null=True), row="id")
    moment = Sealed(models.DateTimeField(null=True), row="id")
    changed = Sealed(models.DateTimeField(auto_now=True), row="id")
    token = Sealed(models.UUIDField(null=True), row="id")
    data = Sealed(models.BinaryField(null=True), row="id")
    tree = Sealed(models.JSONField(null=True), row=UNBOUND)
    address = Sealed(models.GenericIPAddressField(null=True), row="id", name="everything.ip")
    text_key = models.CharField(max_length=10, default="k")
