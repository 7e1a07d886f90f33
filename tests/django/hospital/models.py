"""Models as projects have them: abstract, inherited, proxies, choices, numbered rows, and tenants of text."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from sealwax.django import UNBOUND, IndexOf, Sealed, SealedManager


class Role(models.TextChoices):
    NURSE = "n", "Nurse"
    DOCTOR = "d", "Doctor"


class Level(models.IntegerChoices):
    LOW = 1
    HIGH = 2


class Noted(models.Model):
    """Abstract: its field is sealed under the name of each table."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    note: Any = Sealed(models.TextField(null=True, blank=True), row="id")

    class Meta:
        abstract = True


class PersonManager(SealedManager):
    def get_by_natural_key(self, badge: str) -> Any:
        return self.get(badge=badge)


class Person(Noted):
    badge = models.CharField(max_length=20, unique=True)
    name: Any = Sealed(models.CharField(max_length=50, default="nobody"), row="id")
    role: Any = Sealed(models.CharField(max_length=1, choices=Role, default=Role.NURSE), row="id")
    level: Any = Sealed(models.IntegerField(choices=Level, default=Level.LOW), row="id")
    site: Any = Sealed(models.URLField(blank=True), row="id")
    mail: Any = Sealed(models.EmailField(null=True, blank=True), row="id")
    mail_index = IndexOf("mail", normalize="email/1", bits=128, unique=True)

    objects = PersonManager()

    def __str__(self) -> str:
        return f"{self.badge}, {self.name.upper()}, {self.level:02d}"

    def natural_key(self) -> tuple[str]:
        return (self.badge,)


class Physician(Person):
    """In a table of its own, whose key is that of the person."""

    subject: Any = Sealed(models.CharField(max_length=50), row="pk")


class Colleague(Person):
    """A proxy."""

    class Meta:
        proxy = True


class Ticket(models.Model):
    """Numbered by the database, so what is sealed is bound to the tenant alone."""

    tenant = models.CharField(max_length=20)
    number = models.IntegerField(default=0)
    text: Any = Sealed(models.TextField(blank=True), row=UNBOUND)
    due: Any = Sealed(models.DateField(null=True), row=UNBOUND)
    text_index = IndexOf("text", bits=8)

    sealed_scope = {"tenant": "tenant"}  # noqa: RUF012

    class Meta:
        unique_together = (("tenant", "number"),)


class Visit(Noted):
    """The row is a pair, and one of it another object."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="visits")
    day = models.CharField(max_length=10)
    finding: Any = Sealed(models.JSONField(default=dict, blank=True), row=("person", "day"))

    def __str__(self) -> str:
        return f"{self.day}: {self.note}"
