"""What sealed fields hold is in no error, log, query or frame of ours, whatever fails."""

from __future__ import annotations

import asyncio
import logging
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sealwax import errors
from tests.django.made import raw_update
from tests.fakes import FakeKeyring

SECRET = "5105105105105100"


class FailingKeyring(FakeKeyring):
    """KMS is away."""

    def generate(self, *_: Any, **__: Any) -> Any:
        raise errors.UnavailableError("KMS is away")


def shown(error: BaseException | None) -> Iterator[str]:
    """What a report of an error may have: texts, and the variables of our frames.

    Of an object, that is what its model says in __str__, which is the program's.
    """
    from sealwax.django._binding import hidden

    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield "".join(traceback.format_exception_only(error))
        yield repr((error.args, getattr(error, "messages", None)))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals.get("__name__", "").startswith("sealwax"):
                for name, value in frame.f_locals.items():
                    with hidden():
                        text = repr(value)
                    yield f"{frame.f_code.co_qualname}: {name} = {text}"
        error = error.__cause__ or error.__context__


@pytest.fixture
def people(models: Any, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:  # noqa: ARG001
    """Someone is there, and everything is logged."""
    from django.db import connection

    from tests.django.hospital.models import Person

    caplog.set_level(logging.DEBUG)
    connection.force_debug_cursor = True
    made = Person.objects.create(badge="there", name=SECRET, note=SECRET, mail=f"{SECRET}@x.org")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield made
    queries = repr(connection.queries)
    connection.force_debug_cursor = False
    assert "hospital_" in queries
    for text in (caplog.text, queries, repr([str(each.message) for each in warned]), repr(made.__dict__["_state"])):
        assert SECRET not in text


def wrong_values(person: Any) -> dict[str, Callable[[], Any]]:
    from tests.django.clinic.models import Everything
    from tests.django.hospital.models import Person, Visit

    people = Person.objects

    def bulk() -> None:
        person.level = SECRET + "x"
        people.bulk_update([person], ["level"])

    return {
        "int": lambda: people.create(badge="a", level=f"{SECRET}x"),
        "many": lambda: people.bulk_create([Person(badge="a", level=f"{SECRET}x")]),
        "update": bulk,
        "date": lambda: Everything.objects.create(day=SECRET),
        "moment": lambda: Everything.objects.create(moment=f"{SECRET} o'clock"),
        "digits": lambda: Everything.objects.create(price=SECRET),
        "number": lambda: Everything.objects.create(price=f"{SECRET}x"),
        "uuid": lambda: Everything.objects.create(token=SECRET),
        "float": lambda: Everything.objects.create(real=f"{SECRET}x"),
        "bool": lambda: Everything.objects.create(yes=SECRET),
        "json": lambda: Visit.objects.create(person=person, day="1", finding={"a": {SECRET}}),
        "large": lambda: Everything.objects.create(text=SECRET * 100_000),
        "surrogate": lambda: Everything.objects.create(text=f"{SECRET}\ud800"),
        "index": lambda: people.create(badge="a", mail=f"{SECRET}\U0003fffe@x.org"),
        "one value": lambda: people.update(name=SECRET),
        "find": lambda: Person.mail_index.find(f"{SECRET}\U0003fffe@x.org"),
    }


def test_a_wrong_value_is_not_shown(people: Any) -> None:
    from django.db import transaction

    for name, write in wrong_values(people).items():
        with pytest.raises(Exception) as caught, transaction.atomic():  # noqa: PT011
            write()
        for text in shown(caught.value):
            assert SECRET not in text, f"{name}: {text}"


def mistakes_in_scope_or_search(models: Any) -> dict[str, Callable[[], Any]]:
    from sealwax.django import get_records

    clinic = models.Clinic.objects.create(title="north")
    wards = models.Patient.objects

    def elsewhere(write: Callable[[], Any]) -> Any:
        with get_records().scope(clinic="another"):
            return write()

    def moved() -> None:
        made = wards.create(clinic=clinic, name=SECRET)
        made.clinic_id = None
        wards.bulk_update([made], ["name", "clinic"])

    def awaited() -> Any:
        return asyncio.run(models.Patient.name_index.afind(SECRET))

    return {
        "no tenant": lambda: models.Patient(name=SECRET).save(),
        "many without a tenant": lambda: wards.bulk_create([models.Patient(name=SECRET)]),
        "another tenant": lambda: elsewhere(lambda: wards.create(clinic=clinic, name=SECRET)),
        "many of another tenant": lambda: elsewhere(
            lambda: wards.bulk_create([models.Patient(clinic=clinic, name=SECRET)])
        ),
        "a moved one": moved,
        "find without a tenant": lambda: models.Patient.name_index.find(SECRET),
        "afind without a tenant": awaited,
        "find with a wrong tenant": lambda: models.Patient.name_index.find(SECRET, clinic=1.5),
        "an index that is compared": lambda: list(wards.filter(name_index=SECRET)),
        "an index in a list": lambda: list(wards.filter(name_index__in=[SECRET])),
        "bytes": lambda: models.Everything.objects.create(data=SECRET),
        "bytes of a list": lambda: models.Everything.objects.create(data=[SECRET]),
    }


def test_a_mistake_in_the_scope_or_a_search_shows_no_value(models: Any) -> None:
    from django.db import transaction

    mistakes = mistakes_in_scope_or_search(models)
    for name, make in mistakes.items():
        with pytest.raises(Exception) as caught, transaction.atomic():  # noqa: PT011
            make()
        for text in shown(caught.value):
            assert SECRET not in text, f"{name}: {text}"
    assert len(mistakes) == 12


def test_a_failing_database_or_kms_shows_no_value(people: Any) -> None:
    from django.db import IntegrityError, transaction

    from sealwax.django import get_records
    from sealwax.records import MemoryKeys, Records
    from sealwax.records.testing import override_records
    from tests.django.hospital.models import Person, Ticket

    def check(error: BaseException) -> None:
        for text in shown(error):
            assert SECRET not in text, text

    refused: list[Callable[[], Any]] = [
        lambda: Person.objects.create(badge="there", name=SECRET),
        lambda: Person.objects.bulk_create([Person(badge="there", name=SECRET)]),
        lambda: Person.objects.create(badge="other", mail=f"{SECRET}@x.org"),
    ]
    for write in refused:
        with pytest.raises(IntegrityError) as failed, transaction.atomic():
            write()
        check(failed.value)
    with (
        Records(FailingKeyring(), MemoryKeys(), scope={"app": "clinic"}) as away,
        override_records(get_records(), away),
    ):
        failing: list[Callable[[], Any]] = [
            lambda: Person.objects.create(badge="b", name=SECRET),
            lambda: Ticket.objects.create(tenant="acme", text=SECRET),
            lambda: Person.objects.bulk_update([people], ["name"]),
            lambda: Person.mail_index.find(f"{SECRET}@x.org"),
        ]
        for write in failing:
            with pytest.raises(errors.UnavailableError) as unavailable, transaction.atomic():
                write()
            check(unavailable.value)


def test_a_record_that_does_not_open_shows_no_value(people: Any) -> None:
    from sealwax.django import SealedFieldError, get_records
    from tests.django.hospital.models import Person

    field = get_records().field("hospital_person.level", row=uuid.UUID)
    record = field.seal(f"{SECRET}x", row=people.pk)  # as if the field had been one of text
    Person.objects.update(note=None)
    with pytest.raises(SealedFieldError, match="'level' of Person cannot hold this str") as caught:
        _ = _with_record(people, "level", record).level
    damaged = bytearray(field.seal(7, row=people.pk))
    damaged[-1] ^= 1
    read = _with_record(people, "level", bytes(damaged))
    for look in (lambda: read.level, read.refresh_from_db, lambda: str(read), lambda: str(Person.objects.all())):
        with pytest.raises(errors.RecordTamperedError) as tampered:
            look()
        for text in (*shown(caught.value), *shown(tampered.value)):
            assert SECRET not in text, text


def test_what_is_no_record_is_not_shown(people: Any) -> None:
    """Such as plaintext, in a field that was to hold records only."""
    read = _with_record(people, "name", SECRET.encode())
    with pytest.raises(errors.NotARecordError) as refused:
        _ = read.name
    for text in shown(refused.value):
        assert SECRET not in text, text


def test_a_search_that_finds_a_damaged_record_shows_no_value(people: Any) -> None:
    from tests.django.hospital.models import Person

    _with_record(people, "mail", b"\0")
    with pytest.raises(errors.NotARecordError) as refused:
        Person.mail_index.find(f"{SECRET}@x.org")
    for text in shown(refused.value):
        assert SECRET not in text, text


def _with_record(person: Any, column: str, record: bytes) -> Any:
    literal = {"postgresql": "'\\x{}'::bytea"}.get(_vendor(), "x'{}'").format(record.hex())
    raw_update(person, f"{column} = {literal}")
    return type(person).objects.get(pk=person.pk)


def _vendor() -> str:
    from django.db import connection

    return str(connection.vendor)


def test_the_page_of_an_error_hides_the_key_of_the_setting(project: Any) -> None:  # noqa: ARG001
    """Django's report of an error lists the settings."""
    from django.test import override_settings
    from django.views.debug import SafeExceptionReporterFilter

    with override_settings(SEALWAX={"KMS_KEY": "alias/shop", "SCOPE": {"app": "shop"}}):
        listed = SafeExceptionReporterFilter().get_safe_settings()["SEALWAX"]
    assert "alias/shop" not in repr(listed)
