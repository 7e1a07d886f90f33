"""Values of sealed fields: every type comes back, through every way in which Django makes an object."""

from __future__ import annotations

import copy
import datetime
import decimal
import pickle
from typing import Any

import pytest

from sealwax import errors
from tests.django.made import VALUES, patient, raw
from tests.fakes import FakeKeyring


def test_every_type_comes_back(models: Any) -> None:
    made = models.Everything.objects.create(**VALUES)
    read = models.Everything.objects.get(pk=made.pk)
    for name, value in VALUES.items():
        got = getattr(read, name)
        got = bytes(got) if isinstance(got, memoryview) else got
        assert (type(got), got) == (type(value), value), name
        record = bytes(raw(made, name))
        assert record[:1] == b"\xc1"
    assert read.changed.tzinfo is datetime.UTC
    none = models.Everything.objects.create()
    for name in VALUES:
        assert getattr(models.Everything.objects.get(pk=none.pk), name) is None
        assert raw(none, name) is None
    assert models.Everything.objects.filter(text__isnull=True).get() == none
    assert models.Everything.objects.exclude(text=None).get() == made


def test_a_field_of_bytes_takes_bytes_only(models: Any) -> None:
    for data in (b"", b"abcd", bytearray(b"abcd"), memoryview(b"abcd")):
        made = models.Everything.objects.create(data=data)
        assert bytes(models.Everything.objects.get(pk=made.pk).data) == bytes(data)
    for wrong in ("abcd", "x", 5, [1, 2], {"a": 1}):
        with pytest.raises(errors.SealwaxError, match=r"cannot hold this \w+: it takes what BinaryField does"):
            models.Everything.objects.create(data=wrong)
    assert models.Everything.objects.count() == 4


def test_a_decimal_has_the_places_of_its_column(models: Any) -> None:
    made = models.Everything.objects.create(price=decimal.Decimal("1.5"))
    assert str(models.Everything.objects.get(pk=made.pk).price) == "1.50"


def test_a_record_is_opened_when_it_is_looked_at(models: Any) -> None:
    made = patient(models)
    read = models.Patient.objects.get(pk=made.pk)
    assert repr(read.__dict__["name"]) == "<sealed>"
    before = raw(made, "name")
    read.ward = "A"
    read.save()
    assert raw(made, "name") == before  # it was not opened, and is still bound to the same
    assert read.name == "Ada"


def test_instances_are_refreshed_deferred_copied_and_pickled(models: Any) -> None:
    from django.db import transaction

    made = patient(models, born=datetime.date(1815, 12, 10))
    for read in (
        models.Patient.objects.only("ward").get(),
        models.Patient.objects.defer("name").get(),
        models.Patient.objects.only("name").get(),
        copy.deepcopy(models.Patient.objects.get()),
        pickle.loads(pickle.dumps(models.Patient.objects.get())),
        models.Patient.objects.select_related("clinic").get(),
        models.Clinic.objects.prefetch_related("patient_set").get().patient_set.all()[0],
        next(models.Patient.objects.iterator()),
        models.Patient.objects.raw("SELECT * FROM clinic_patient")[0],
        models.Patient.objects.union(models.Patient.objects.all()).get(),
    ):
        assert (read.name, read.born) == ("Ada", datetime.date(1815, 12, 10))
    with transaction.atomic():
        assert models.Patient.objects.select_for_update().get().name == "Ada"
    models.Patient.objects.get(pk=made.pk).delete()
    made.name = "Bob"
    made.save(force_insert=True)
    made.name = "unsaved"
    made.refresh_from_db()
    assert made.name == "Bob"


def test_choices_and_defaults_are_those_of_the_field(models: Any) -> None:  # noqa: ARG001
    from tests.django.hospital.models import Level, Person, Role

    Person.objects.create(badge="a")
    made = Person(badge="b", name="Ada", role=Role.DOCTOR, level=Level.HIGH, site="https://a.example/", note="")
    made.full_clean()
    made.save()
    read, usual = Person.objects.get(badge="b"), Person.objects.get(badge="a")
    assert (read.role, read.get_role_display(), read.level, read.get_level_display()) == ("d", "Doctor", 2, "High")
    assert read.role == Role.DOCTOR
    assert (read.name, read.site, read.note, read.mail) == ("Ada", "https://a.example/", "", None)
    assert (usual.name, usual.role, usual.level, usual.note) == ("nobody", "n", 1, None)


def test_inherited_models_have_their_values(models: Any) -> None:  # noqa: ARG001
    from tests.django.hospital.models import Colleague, Person, Physician, Visit

    made = Physician.objects.create(badge="a", name="Ada", subject="bones", note="n")
    Visit.objects.create(person=made, day="1", finding={"a": [1, None]}, note="v")
    read = Physician.objects.get()
    assert (read.name, read.subject, read.note) == ("Ada", "bones", "n")
    read.subject, read.name = "skin", "Bob"
    read.save()
    assert Person.objects.get().physician.subject == "skin"
    assert Colleague.objects.get().name == "Bob"
    visit = Visit.objects.select_related("person").get()
    assert (visit.finding, visit.note, visit.person.name) == ({"a": [1, None]}, "v", "Bob")
    people = Person.objects.prefetch_related("visits")
    assert [each.note for person in people for each in person.visits.all()] == ["v"]
    made.delete()
    assert not Visit.objects.exists()


def test_objects_come_from_every_way_of_making_them(models: Any) -> None:  # noqa: ARG001
    from tests.django.hospital.models import Person

    assert Person.objects.get_or_create(badge="a", defaults={"name": "Ada"})[0].name == "Ada"
    assert Person.objects.get_or_create(badge="a", defaults={"name": "Bob"})[0].name == "Ada"
    assert Person.objects.update_or_create(badge="a", defaults={"name": "Bob"})[0].name == "Bob"
    for each in Person.objects.only("badge"):
        each.badge = "b"
        each.save()
        assert each.name == "Bob"
    assert Person.objects.in_bulk(["b"], field_name="badge")["b"].name == "Bob"
    whole = "SELECT id, badge, name AS other FROM hospital_person"
    assert [each.name for each in Person.objects.raw(whole, translations={"other": "name"})] == ["Bob"]
    queryset = pickle.loads(pickle.dumps(Person.objects.filter(badge="b")))
    assert [each.name for each in queryset] == ["Bob"]
    read = Person.objects.get()
    stale = Person.objects.get()
    read.name = "Cyd"
    read.save(update_fields=["name"])
    stale.refresh_from_db(fields=["name"])
    assert stale.name == "Cyd"


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_coroutines_make_and_read_objects(models: Any) -> None:  # noqa: ARG001
    import asyncio

    from tests.django.hospital.models import Person

    async def used() -> list[str]:
        made = await Person.objects.acreate(badge="a", name="Ada", mail="a@example.com")
        made.name = "Bob"
        await made.asave()
        names = [each.name async for each in Person.objects.filter(badge="a")]
        names += [(await Person.objects.aget()).name, (await Person.mail_index.afind("A@EXAMPLE.COM"))[0].name]
        await Person.objects.abulk_update([made], ["name"])
        await made.arefresh_from_db()
        return [*names, made.name]

    assert asyncio.run(used()) == ["Bob"] * 4


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_a_coroutine_loads_the_data_keys_before_it_looks(models: Any) -> None:  # noqa: ARG001
    """An attribute cannot wait, and KMS is not asked in a loop."""
    import asyncio

    from sealwax.django import get_records
    from sealwax.records import Records
    from sealwax.records.testing import override_records
    from tests.django.hospital.models import Ticket

    kept = get_records()
    Ticket.objects.create(tenant="acme", text="t")
    with Records(FakeKeyring(), kept.store, scope={"app": "clinic"}) as cold, override_records(kept, cold):

        async def looked() -> str:
            read = await Ticket.objects.aget()
            with pytest.raises(errors.KeyNotLoadedError, match="ensure_async"):
                _ = read.text
            await get_records().ensure_async(tenant="acme")
            return str(read.text)

        assert asyncio.run(looked()) == "t"
