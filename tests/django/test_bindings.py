"""Rows and scopes: a new tenant or key seals again, or is refused; no row is left that does not open."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sealwax import errors
from tests.django.made import patient, raw, raw_update


def test_a_record_opens_in_its_row_alone(models: Any) -> None:
    from django.db import connection

    first, second = patient(models), patient(models, "Bob", clinic=models.Clinic.objects.first())
    with connection.cursor() as cursor:
        query = "UPDATE clinic_patient SET name = %s WHERE id = %s"
        cursor.execute(query, [raw(first, "name"), second.pk.hex])
    with pytest.raises(errors.RecordTamperedError):
        _ = models.Patient.objects.get(pk=second.pk).name


def test_a_new_tenant_or_key_seals_again(models: Any) -> None:
    made = patient(models, notes="n")
    south = models.Clinic.objects.create(title="south")
    read = models.Patient.objects.get()
    read.clinic = south
    read.save()
    assert models.Patient.objects.get().name == "Ada"
    assert models.Patient.objects.get().notes == "n"
    read = models.Patient.objects.get()
    read.pk = uuid.uuid4()
    read.save()
    assert [each.name for each in models.Patient.objects.all()] == ["Ada", "Ada"]
    assert models.Patient.objects.filter(pk=made.pk).exists()


def test_what_records_are_bound_to_is_not_written_without_them(models: Any) -> None:
    from sealwax.django import SealedFieldError

    made = patient(models)
    south = models.Clinic.objects.create(title="south")
    made.clinic = south
    with pytest.raises(SealedFieldError, match="write it too"):
        made.save(update_fields=["clinic"])
    deferred = models.Patient.objects.defer("name").get()
    deferred.ward = "W"
    deferred.save()
    deferred.clinic = south
    with pytest.raises(SealedFieldError, match="only"):
        deferred.save()
    with pytest.raises(SealedFieldError, match="assign it to the objects"):
        models.Patient.objects.update(clinic=south)
    with pytest.raises(SealedFieldError, match="write it too"):
        models.Patient.objects.bulk_update([made], ["clinic"])
    assert models.Patient.objects.get().name == "Ada"
    made.save(update_fields=["clinic", "name", "name_index", "born", "notes"])
    assert models.Patient.objects.get().name == "Ada"


def test_another_tenant_than_that_of_the_request_is_refused(models: Any) -> None:
    from sealwax.django import SealedFieldError, get_records

    made = patient(models)
    with get_records().scope(clinic="other"), pytest.raises(SealedFieldError, match="another clinic"):
        made.save()
    with get_records().scope(clinic=str(made.clinic_id)):
        made.save()
        assert models.Patient.objects.get().name == "Ada"
    with get_records().scope(clinic="other"):
        read = models.Patient.objects.get()  # what is not sealed can be looked at
        assert read.ward == ""
        with pytest.raises(SealedFieldError, match="another clinic"):
            _ = read.name
        with pytest.raises(SealedFieldError, match="another clinic"):
            read.save()


def test_bulk_create_and_bulk_update_seal_each_row(models: Any) -> None:
    from sealwax.django import SealedFieldError

    clinic = models.Clinic.objects.create(title="north")
    models.Patient.objects.bulk_create([models.Patient(clinic=clinic, name=f"n{n}") for n in range(5)])
    rows = list(models.Patient.objects.all())
    assert sorted(each.name for each in rows) == [f"n{n}" for n in range(5)]
    for each in rows:
        each.name = each.name.upper()
    assert models.Patient.objects.bulk_update(rows, ["name"]) == 5
    assert sorted(each.name for each in models.Patient.objects.all()) == [f"N{n}" for n in range(5)]
    assert [each.name for each in models.Patient.name_index.find("n3", clinic=str(clinic.pk))] == ["N3"]
    with pytest.raises(SealedFieldError, match="update"):
        models.Patient.objects.update(name="x")
    assert models.Patient.objects.update(ward="W") == 5


def test_a_plain_queryset_refuses_what_it_cannot_seal(models: Any) -> None:
    from django.db.models import QuerySet

    from sealwax.django import SealedFieldError

    made = patient(models)
    with pytest.raises(SealedFieldError, match="SealedManager"):
        QuerySet(models.Patient).bulk_update([made], ["name"])


def test_an_upsert_writes_what_a_record_is_bound_to(models: Any) -> None:
    """Of a row that is there, what is neither the target nor updated may have another tenant."""
    from django.db import connection

    from sealwax.django import SealedFieldError

    made = patient(models, notes="n")
    other = models.Clinic.objects.create(title="south")
    row = models.Patient(pk=made.pk, clinic=other, name="again")
    by_key: dict[str, Any] = {"unique_fields": ["id"]}
    whole = ["clinic", "name", "born", "notes"]
    wrong: list[tuple[list[str], dict[str, Any]]] = [
        (["name"], by_key),
        (["name", "clinic"], by_key),
        (["clinic"], by_key),
        (whole, {"unique_fields": ["ward"]}),
        (whole, {}),  # as for MySQL, which takes any unique key
    ]
    for names, target in wrong:
        with pytest.raises(SealedFieldError, match="there before"):
            models.Patient.objects.bulk_create([row], update_conflicts=True, update_fields=names, **target)
    assert models.Patient.objects.get().name == "Ada"
    if connection.features.supports_update_conflicts_with_target:
        models.Patient.objects.bulk_create([row], update_conflicts=True, update_fields=whole, unique_fields=["pk"])
        read = models.Patient.objects.get()
        assert (read.name, read.notes, read.clinic) == ("again", "", other)
        assert models.Patient.name_index.find("again", clinic=str(other.pk)) == [made]


def test_a_record_and_what_it_is_bound_to_are_written_together(models: Any) -> None:  # noqa: ARG001
    """Whatever an object says, the row in the database may have another tenant."""
    from django.db import transaction

    from sealwax.django import SealedFieldError
    from tests.django.hospital.models import Ticket

    made = Ticket.objects.create(tenant="acme", text="a")

    def texts() -> list[str]:
        return [each.text for each in Ticket.objects.all()]

    by_hand = Ticket(pk=made.pk, tenant="other", text="b")
    assigned = Ticket.objects.get()
    assigned.tenant, assigned.text = "other", "b"
    partly = Ticket.objects.only("text").get()
    partly.tenant, partly.text = "other", "b"
    for each in (by_hand, assigned, partly):
        with pytest.raises(SealedFieldError, match="write 'tenant' too"):
            each.save(update_fields=["text", "text_index"])
        with pytest.raises(SealedFieldError, match="write 'tenant' too"):
            Ticket.objects.bulk_update([each], ["text"])
        with pytest.raises(SealedFieldError, match="write it too"):
            each.save(update_fields=["tenant"])
    assert texts() == ["a"]
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        assigned.due = None
        assigned.save()
        _ = 1 / 0
    with pytest.raises(SealedFieldError, match="write 'tenant' too"):  # what was saved is rolled back
        assigned.save(update_fields=["text", "text_index"])
    Ticket.objects.bulk_update([assigned], ["tenant", "text", "due"])
    assert [(each.tenant, each.text) for each in Ticket.objects.all()] == [("other", "b")]
    assert Ticket.text_index.find("b", tenant="other") == [made]
    read = Ticket.objects.only("text", "text_index").get()
    read.text = "c"
    read.save()
    assert texts() == ["c"]
    same = Ticket(pk=made.pk, tenant="other", text="d")
    same.save(update_fields=["text", "text_index"])
    assert texts() == ["d"]


def test_related_objects_are_not_moved_without_their_records(models: Any) -> None:  # noqa: ARG001
    """Adding to a related manager updates what records may be bound to, past the managers of the model."""
    from sealwax.django import SealedFieldError
    from tests.django.hospital.models import Person, Visit

    first, second = (Person.objects.create(badge=badge) for badge in "ab")
    visit = Visit.objects.create(person=first, day="1", finding={"a": 1})
    with pytest.raises(SealedFieldError, match="person"):
        second.visits.add(visit)
    with pytest.raises(SealedFieldError, match="person"):
        second.visits.set([visit])
    with pytest.raises(SealedFieldError, match="day"):
        first.visits.update(day="2")
    assert Visit.objects.get().finding == {"a": 1}
    second.visits.add(visit, bulk=False)
    assert (Visit.objects.get().finding, Visit.objects.get().person) == ({"a": 1}, second)


@pytest.mark.parametrize("kind", ["Person", "Colleague", "Physician"])
def test_proxies_and_inherited_models_seal_again(models: Any, kind: str) -> None:  # noqa: ARG001
    from tests.django.hospital import models as hospital

    model: Any = getattr(hospital, kind)
    more = {"subject": "bones"} if kind == "Physician" else {}
    model.objects.create(badge="a", name="Ada", note="n", **more)
    read = model.objects.get()
    read.id = uuid.uuid4()
    read.pk, read.badge = read.id, "b"
    read.save(force_insert=True)
    for each in model.objects.all():
        assert (each.name, each.note) == ("Ada", "n")
        assert getattr(each, "subject", "bones") == "bones"
    each.name = "Bob"
    model.objects.bulk_update([each], ["name"])
    assert {each.name for each in hospital.Person.objects.all()} == {"Ada", "Bob"}


def test_an_index_is_written_with_its_field_alone(models: Any) -> None:  # noqa: ARG001
    from sealwax.django import SealedFieldError
    from tests.django.hospital.models import Person

    made = Person.objects.create(badge="a", mail="ada@example.com")
    with pytest.raises(SealedFieldError, match="never alone"):
        Person.objects.update(mail_index=b"x" * 16)
    made.mail_index = b"x" * 16
    made.save()
    assert Person.mail_index.find("ADA@EXAMPLE.COM") == [made]
    assert Person.objects.update(mail=None) == 1
    assert Person.objects.filter(mail_index=None).count() == 1
    made = Person.objects.get()
    made.mail = "ada@example.com"
    made.save()
    raw_update(made, "mail_index = NULL")  # as after a migration that adds the column
    assert Person.mail_index.find("ada@example.com") == []
    Person.objects.bulk_update(Person.objects.all(), ["mail_index"])
    assert Person.mail_index.find("ada@example.com") == [made]


def test_a_record_read_without_its_tenant_is_opened_with_that_of_its_row(models: Any) -> None:  # noqa: ARG001
    from tests.django.hospital.models import Ticket

    Ticket.objects.create(tenant="acme", text="a")
    read = Ticket.objects.only("text").get()
    read.tenant = "other"
    assert read.text == "a"
