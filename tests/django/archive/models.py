"""One table as four versions of an application declare it, while its values move to records."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from django.db import models

from sealwax.django import UNBOUND, IndexOf, Sealed
from sealwax.records.moving import Fernet, Moving, OldForm, Plaintext

KEY = "c2VhbHdheCB0ZXN0cywgYW5kIG5vdGhpbmcgZWxzZSE="
FERNET = Fernet(KEY)
PLAINTEXT = Plaintext()


class Letter(models.Model):
    """The version before records; its token is one of Fernet."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.CharField(max_length=20)
    note = models.TextField(null=True)
    mail = models.CharField(max_length=400, null=True)
    token = models.BinaryField(null=True)
    born = models.DateField(null=True)

    class Meta:
        db_table = "archive_letter"
        managed = False


class Common(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.CharField(max_length=20)
    note_index = IndexOf("note", bits=32)

    sealed_scope = {"tenant": "tenant"}  # noqa: RUF012

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.pk)


def moving(old: OldForm, writes: Literal["old", "records"] | None) -> Any:
    return {} if writes is None else {"moving": Moving(old, writes=writes)}


def note(writes: Literal["old", "records"] | None) -> Any:
    return Sealed(models.TextField(null=True), row="id", storage=models.TextField(), **moving(PLAINTEXT, writes))


def mail(writes: Literal["old", "records"] | None) -> Any:
    inner = models.EmailField(max_length=60, null=True)
    return Sealed(inner, row="id", storage=models.CharField(max_length=420), **moving(PLAINTEXT, writes))


def token(writes: Literal["old", "records"] | None) -> Any:
    inner = models.IntegerField(null=True)
    return Sealed(inner, row="id", storage=models.BinaryField(), **moving(FERNET, writes))


def birth(writes: Literal["old", "records"] | None) -> Any:
    more: Any = {} if writes is None else {"moved_from": "born"}
    return Sealed(models.DateField(null=True), row="id", **moving(PLAINTEXT, writes), **more)


class WritesOld(Common):
    """The first state."""

    note = note("old")
    mail = mail("old")
    token = token("old")
    born = models.DateField(null=True, editable=False)
    birth = birth("old")

    class Meta:
        db_table = "archive_letter"


class WritesRecords(Common):
    """The second state."""

    note = note("records")
    mail = mail("records")
    token = token("records")
    born = models.DateField(null=True, editable=False)
    birth = birth("records")

    class Meta:
        db_table = "archive_letter"
        managed = False


class RecordsOnly(Common):
    """The third state; the column that values have moved from is still there."""

    note = note(None)
    mail = mail(None)
    token = token(None)
    birth = birth(None)

    class Meta:
        db_table = "archive_letter"
        managed = False


class Remark(models.Model):
    """What is bound to no row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.CharField(max_length=20)
    text = Sealed(models.TextField(), row=UNBOUND, storage=models.TextField(), moving=Moving(PLAINTEXT, writes="old"))

    sealed_scope = {"tenant": "tenant"}  # noqa: RUF012


class Visit(models.Model):
    """Of a tenant that is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    tenant = models.UUIDField()
    text = Sealed(models.TextField(), row="id")

    sealed_scope = {"tenant": "tenant"}  # noqa: RUF012
