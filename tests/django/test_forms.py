"""Forms and the admin: sealed fields are what the inner fields are."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.django.made import patient


def test_a_form_is_that_of_the_inner_field(models: Any) -> None:
    from django.forms import CharField, DateField, ModelForm, modelform_factory

    form: type[ModelForm[Any]] = modelform_factory(models.Patient, fields=["clinic", "name", "born", "notes"])
    assert isinstance(form.base_fields["name"], CharField)
    assert form.base_fields["name"].max_length == 50
    assert isinstance(form.base_fields["born"], DateField)
    made = patient(models)
    assert form(instance=made).initial["name"] == "Ada"
    bad = form({"clinic": made.clinic_id, "name": "x" * 51, "born": "no date"}, instance=made)
    assert set(bad.errors) == {"name", "born"}
    good = form({"clinic": made.clinic_id, "name": "swr1.typed", "born": "1815-12-10", "notes": ""}, instance=made)
    good.save()
    read = models.Patient.objects.get()
    assert (read.name, read.born, read.notes) == ("swr1.typed", datetime.date(1815, 12, 10), "")


def test_a_client_posts_a_form(models: Any) -> None:
    from django.test import Client

    clinic = models.Clinic.objects.create(title="north")
    answer = Client().post("/new/", {"clinic": clinic.pk, "name": "Ada", "born": "1815-12-10"})
    assert answer.status_code == 302
    assert models.Patient.objects.get().name == "Ada"


def test_the_admin_adds_changes_and_searches(models: Any) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    from sealwax.django import get_records

    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com", "x"))
    clinic = models.Clinic.objects.create(title="north")
    page = client.get("/admin/clinic/patient/add/").content.decode()
    assert 'maxlength="50"' in page
    assert "vDateField" in page  # the widget of the admin for dates
    data = {"clinic": clinic.pk, "name": "Ada", "born": "1815-12-10", "ward": "W"}
    assert client.post("/admin/clinic/patient/add/", data).status_code == 302
    made = models.Patient.objects.get()
    page = client.get(f"/admin/clinic/patient/{made.pk}/change/").content.decode()
    assert 'value="Ada"' in page
    answer = client.post(f"/admin/clinic/patient/{made.pk}/change/", {**data, "name": "Bob"})
    assert answer.status_code == 302
    patient(models, "Cyd", clinic=clinic, ward="Ward 9")
    with get_records().scope(clinic=str(clinic.pk)):
        for term, there, missing in (("bob", "Bob", "Cyd"), ("ward 9", "Cyd", "Bob"), ("nobody", "0 patients", "Bob")):
            page = client.get("/admin/clinic/patient/", {"q": term}).content.decode()
            assert there in page
            assert missing not in page


@pytest.fixture
def client(models: Any) -> Any:  # noqa: ARG001
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com", "x"))
    return client


INLINE = {"visits-TOTAL_FORMS": "1", "visits-INITIAL_FORMS": "0"}
PERSON = {"badge": "b1", "name": "Ada", "role": "d", "level": "2", "mail": "ada@example.com", "note": ""}
VISIT = {"visits-0-day": "1", "visits-0-note": "Cholera", "visits-0-finding": "{}"}


def test_the_log_of_the_admin_has_no_value(client: Any) -> None:
    """It stores what str() says of an object."""
    from django.contrib.admin.models import LogEntry

    from tests.django.hospital.models import Person

    assert client.post("/admin/hospital/person/add/", {**PERSON, **INLINE, **VISIT}).status_code == 302
    made = Person.objects.get()
    assert str(made) == "b1, ADA, 02"
    page = f"/admin/hospital/person/{made.pk}/"
    visit = {f"visits-0-{name}": str(getattr(made.visits.get(), name)) for name in ("id", "person_id")}
    changed = {**VISIT, **visit, "visits-0-person": str(made.pk), "visits-0-note": "Typhus"}
    changed |= {**PERSON, **INLINE, "visits-INITIAL_FORMS": "1", "name": "Bob"}
    answer = client.post(f"{page}change/", changed)
    assert answer.status_code == 302, answer.content.decode()
    assert Person.objects.get().name == "Bob"
    assert client.post(f"{page}delete/", {"post": "yes"}).status_code == 302
    selected = Person.objects.create(badge="b2", name="Cyd")
    doing = {"action": "delete_selected", "_selected_action": [str(selected.pk)], "post": "yes"}
    assert client.post("/admin/hospital/person/", doing).status_code == 302
    entries = LogEntry.objects.all()
    assert entries.count() == 4
    assert {each.object_repr for each in entries} == {"b1, <SEALED>, <sealed>", "b2, <SEALED>, <sealed>"}
    messages = " ".join(each.change_message for each in entries)
    assert "1: <sealed>" in messages
    for value in ("Ada", "ADA", "BOB", "CYD", "Cholera", "Typhus"):
        assert value not in messages


def test_the_admin_sorts_by_no_sealed_column(client: Any) -> None:
    from tests.django.hospital.models import Person

    Person.objects.create(badge="b1", name="Ada")
    page = client.get("/admin/hospital/person/").content.decode()
    assert "b1: Ada" in page
    assert page.count('class="sortoptions"') + page.count('href="?o=') >= 1  # by the badge
    assert 'href="?o=2"' not in page
    assert 'href="?o=3"' not in page
    page = client.get("/admin/hospital/person/", {"o": "2"}).content.decode()  # typed by hand
    assert "b1: Ada" in page


def test_the_admin_searches_by_an_index_and_by_others(client: Any) -> None:
    from tests.django.hospital.models import Person

    Person.objects.create(badge="b1", name="Ada", mail="ada@example.com")
    Person.objects.create(badge="b2", name="Bob")
    for term, there, missing in (("ADA@example.com", "b1: Ada", "b2: Bob"), ("b2", "b2: Bob", "b1: Ada")):
        page = client.get("/admin/hospital/person/", {"q": term}).content.decode()
        assert there in page
        assert missing not in page


def test_a_form_knows_that_a_value_is_taken(models: Any) -> None:  # noqa: ARG001
    """As it does for unique=True, by the index."""
    from django.forms import modelform_factory

    from tests.django.hospital.models import Person, Ticket

    made = Person.objects.create(badge="b1", mail="ada@example.com")
    form = modelform_factory(Person, fields=["badge", "mail"])
    taken = form({"badge": "b2", "mail": "ADA@Example.com"})
    assert taken.errors == {"mail": ["Person with this Mail already exists."]}
    assert form({"badge": "b2", "mail": ""}).is_valid()
    assert form({"badge": "b1", "mail": "Ada@example.com"}, instance=made).is_valid()
    assert modelform_factory(Ticket, fields=["text"])({"text": "of no tenant yet"}).is_valid()


def test_a_model_is_given_as_a_dict_and_cleaned(models: Any) -> None:
    from django.core.exceptions import ValidationError
    from django.forms import model_to_dict

    made = patient(models, born=datetime.date(1815, 12, 10))
    given = model_to_dict(models.Patient.objects.get())
    assert (given["name"], given["born"]) == ("Ada", datetime.date(1815, 12, 10))
    made.name = "x" * 51
    with pytest.raises(ValidationError, match="at most 50"):
        made.full_clean()


def test_the_log_of_the_admin_takes_an_object_that_is_named_by_its_sealed_field(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib import admin
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import User
    from django.test import RequestFactory

    from sealwax.django.admin import SealedAdmin

    monkeypatch.setattr(models.Patient, "__str__", lambda each: each.name)
    request = RequestFactory().get("/")
    request.user = User.objects.create(username="nina")
    made, patients = patient(models), SealedAdmin(models.Patient, admin.AdminSite())
    patients.log_addition(request, made, [])
    patients.log_change(request, made, [])
    patients.log_deletions(request, models.Patient.objects.all())
    assert [each.object_repr for each in LogEntry.objects.all()] == ["<sealed>"] * 3
