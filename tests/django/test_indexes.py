"""Blind indexes of Django models."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from tests.django.made import patient, raw


def test_an_index_finds_by_opened_values(models: Any) -> None:
    from sealwax.django import get_records

    north, south = (models.Clinic.objects.create(title=title) for title in ("north", "south"))
    for number in range(60):
        patient(models, f"Name {number}", clinic=north)
    patient(models, "name 7", clinic=south)
    with get_records().scope(clinic=str(north.pk)):
        found = models.Patient.name_index.find("NAME 7")
    assert [(each.name, each.clinic_id) for each in found] == [("Name 7", north.pk)]
    candidates = models.Patient.objects.filter(name_index=found[0].name_index)
    assert candidates.count() > 1  # of 2 bits
    assert models.Patient.name_index.find("nobody", clinic=str(north.pk)) == []
    none = models.Patient.objects.none()
    assert models.Patient.name_index.find("name 7", none, clinic=str(north.pk)) == []


def test_an_index_finds_what_is_of_the_scope_alone(models: Any) -> None:
    """A row of another tenant may have the same short index, and its own value."""
    from django.db import connection

    made = patient(models)
    other = patient(models, clinic=models.Clinic.objects.create(title="south"))
    with connection.cursor() as cursor:
        pk = made._meta.pk.get_db_prep_value(other.pk, connection)
        cursor.execute("UPDATE clinic_patient SET name_index = %s WHERE id = %s", [raw(made, "name_index"), pk])
    assert models.Patient.objects.filter(name_index=made.name_index).count() == 2
    assert models.Patient.name_index.find("ada", clinic=str(made.clinic_id)) == [made]


def test_a_search_that_could_find_nothing_is_refused(models: Any) -> None:
    """Without the pair of the tenant, or with a misspelt one, it would look under a key that no row has."""
    from django.contrib import admin
    from django.test import RequestFactory

    from sealwax.django import SealedFieldError, get_records
    from sealwax.django.admin import SealedAdmin

    made = patient(models)
    find = models.Patient.name_index.find
    keys = list(get_records().store.list({}))
    for pairs in ({}, {"clinik": str(made.clinic_id)}):
        with pytest.raises(SealedFieldError, match=r"call it with clinic=..., or set it with records.scope\(clinic="):
            find("ada", **pairs)
    assert len(list(get_records().store.list({}))) == len(keys)
    assert find("ada", clinic=made.clinic_id) == [made]
    with pytest.raises(TypeError, match="takes clinic as its rows have it, a str, an int or a UUID, and not a Clinic"):
        find("ada", clinic=made.clinic)

    class PatientAdmin(SealedAdmin):
        search_fields = ("name_index",)
        said: ClassVar[list[str]] = []

        def message_user(self, request: Any, message: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002
            self.said.append(message)

    each = PatientAdmin(models.Patient, admin.AdminSite())
    found, _ = each.get_search_results(RequestFactory().get("/"), models.Patient.objects.all(), "ada")
    assert list(found) == []
    assert "call it with clinic=..." in each.said[0]


def test_an_index_follows_its_field(models: Any) -> None:
    from sealwax.django import SealedFieldError

    made = patient(models)
    pairs = {"clinic": str(made.clinic_id)}
    made.name = "Bob"
    with pytest.raises(SealedFieldError, match="name_index"):
        made.save(update_fields=["name"])
    made.save()
    assert models.Patient.name_index.find("ada", **pairs) == []
    assert models.Patient.name_index.find("bob", **pairs) == [made]
    models.Patient.objects.update_or_create(pk=made.pk, defaults={"name": "Cyd"})
    assert [each.name for each in models.Patient.name_index.find("cyd", **pairs)] == ["Cyd"]


def test_an_index_is_not_compared_with_values(models: Any) -> None:
    from sealwax.django import IndexOf, SealedFieldError

    for lookup in ("name_index", "name_index__icontains", "name_index__gt"):
        with pytest.raises(SealedFieldError, match="find"):
            list(models.Patient.objects.filter(**{lookup: "Ada"}))
    with pytest.raises(ValueError, match="needs bits=128"):
        IndexOf("name", bits=32, unique=True)
    with pytest.raises(ValueError, match="normalizer"):
        IndexOf("name", bits=32, normalize="lower")
    for bits in (0, 257):
        with pytest.raises(ValueError, match="bits must be from 1 to 256"):
            IndexOf("name", bits=bits)
    with pytest.raises(TypeError, match="bits must be a whole number"):
        IndexOf("name", bits="32")  # type: ignore[arg-type]


def test_an_admin_finds_nothing_by_what_is_no_value_of_the_field(models: Any) -> None:  # noqa: ARG001
    from django.apps.registry import Apps
    from django.contrib import admin
    from django.db import models as d

    from sealwax.django import IndexOf, Sealed
    from sealwax.django.admin import SealedAdmin

    fields: dict[str, Any] = {"id": d.UUIDField(primary_key=True), "age": Sealed(d.IntegerField(), row="id")}
    inner = type("Meta", (), {"app_label": "clinic", "apps": Apps()})
    attributes = {**fields, "age_index": IndexOf("age", bits=8), "__module__": __name__, "Meta": inner}
    model: Any = type("Aged", (d.Model,), attributes)
    searched = type("AgedAdmin", (SealedAdmin,), {"search_fields": ("age_index",)})(model, admin.site)
    assert list(searched.get_search_results(None, model._default_manager.all(), "forty")[0]) == []
