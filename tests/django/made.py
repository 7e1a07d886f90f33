"""What the tests of models make, and what the database has of it."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

VALUES: dict[str, Any] = {
    "text": "Größe",
    "char": "",
    "mail": "ada@example.com",
    "small": 7,
    "big": -(2**62),
    "yes": False,
    "price": decimal.Decimal("1.50"),
    "real": 2.5,
    "day": datetime.date(1815, 12, 10),
    "moment": datetime.datetime(2026, 10, 25, 2, 30, tzinfo=datetime.UTC),
    "token": uuid.UUID(int=7),
    "data": b"\0\xff",
    "tree": {"a": [1, None, "é"]},
    "address": "192.0.2.1",
}


def raw(instance: Any, column: str) -> Any:
    from django.db import connection

    with connection.cursor() as cursor:
        table = instance._meta.db_table
        pk = instance._meta.pk.get_db_prep_value(instance.pk, connection)
        cursor.execute(f"SELECT {connection.ops.quote_name(column)} FROM {table} WHERE id = %s", [pk])
        return cursor.fetchone()[0]


def patient(models: Any, name: str = "Ada", **more: Any) -> Any:
    clinic = more.pop("clinic", None) or models.Clinic.objects.create(title="north")
    return models.Patient.objects.create(clinic=clinic, name=name, **more)


def raw_update(instance: Any, assignment: str) -> None:
    """Change the row of an object by SQL."""
    from django.db import connection

    with connection.cursor() as cursor:
        pk = instance._meta.pk.get_db_prep_value(instance.pk, connection)
        cursor.execute(f"UPDATE {instance._meta.db_table} SET {assignment} WHERE id = %s", [pk])
