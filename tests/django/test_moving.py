"""Values on their way to records: four versions of an application work on one table."""

from __future__ import annotations

import datetime
import io
import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from sealwax import errors

BORN = datetime.date(1815, 12, 10)
VALUES: dict[str, Any] = {"note": "Nguyễn ♥ ქართული", "mail": "ada@example.com", "token": -7, "birth": BORN}
STATES = ["WritesOld", "WritesRecords"]


@pytest.fixture
def letters(models: Any) -> Any:  # noqa: ARG001
    from tests.django.archive import models as letters

    return letters


def plain(letters: Any, **more: Any) -> Any:
    """A letter as the version before records writes it."""
    token = letters.FERNET.write(VALUES["token"], text=False)
    values = {"note": VALUES["note"], "mail": VALUES["mail"], "token": token, "born": BORN}
    return letters.Letter.objects.create(tenant="acme", **{**values, **more})


def held(instance: Any) -> dict[str, Any]:
    return {name: getattr(instance, name) for name in VALUES}


def raw(pk: Any, *columns: str) -> tuple[Any, ...]:
    from django.db import connection

    with connection.cursor() as cursor:
        value = pk.hex if not connection.features.has_native_uuid_field else str(pk)
        cursor.execute(f"SELECT {', '.join(columns)} FROM archive_letter WHERE id = %s", [value])
        return tuple(bytes(each) if isinstance(each, memoryview) else each for each in cursor.fetchone())


def forms(pk: Any) -> list[str]:
    """Which of note, mail, token and birth are records, plain or NULL."""
    found = []
    for value in raw(pk, "note", "mail", "token", "birth"):
        is_record = value is not None and value[:1] in ("s", b"\xc1") and value[:5] in ("swr1.", value[:5])
        found.append("null" if value is None else "record" if is_record else "old")
    return found


OLD, RECORDS = ["old", "old", "old", "null"], ["record"] * 4


@pytest.mark.parametrize("state", STATES)
def test_both_states_read_what_was_there(letters: Any, state: str) -> None:
    made = plain(letters)
    model = getattr(letters, state)
    read = model.objects.get(pk=made.pk)
    assert repr(read.__dict__["note"]) == repr(read.__dict__["birth"]) == "<sealed>"
    for each in (read, model.objects.only("note").get(), model.objects.defer("birth", "born").get()):
        assert held(each) == VALUES
        assert [type(value) for value in held(each).values()] == [str, str, int, datetime.date]
    assert forms(made.pk) == OLD


@pytest.mark.parametrize("how", ["save", "create", "bulk_create", "bulk_update", "update_or_create", "touch"])
@pytest.mark.parametrize("state", STATES)
def test_a_state_writes_its_form(letters: Any, state: str, how: str) -> None:
    model = getattr(letters, state)
    new = {"note": "n", "mail": "b@example.com", "token": 8, "birth": datetime.date(2000, 1, 1)}
    if how == "create":
        made = model.objects.create(tenant="acme", **new)
    elif how == "bulk_create":
        (made,) = model.objects.bulk_create([model(tenant="acme", **new)])
    else:
        made = model.objects.get(pk=plain(letters).pk)
        for name, value in new.items() if how != "touch" else ():
            setattr(made, name, value)
        if how == "bulk_update":
            model.objects.bulk_update([made], list(new))
        elif how == "update_or_create":
            made, _ = model.objects.update_or_create(pk=made.pk, defaults=new)
        else:
            made.save()
    expected = VALUES if how == "touch" else new
    writes_old = state == "WritesOld" or how == "touch"  # what nobody has looked at stays as it is
    assert forms(made.pk) == (OLD if writes_old else RECORDS)
    born = raw(made.pk, "born")[0]
    assert (None if born is None else str(born)) == (str(expected["birth"]) if writes_old else None)
    for each in (made, *(getattr(letters, name).objects.get(pk=made.pk) for name in STATES)):
        assert held(each) == expected
    if writes_old:
        before = letters.Letter.objects.get(pk=made.pk)
        token = letters.FERNET.read(bytes(before.token), int)
        assert (before.note, before.mail, token, before.born) == tuple(expected.values())
    else:
        assert held(letters.RecordsOnly.objects.get(pk=made.pk)) == expected
    if how != "touch":
        found = model.note_index.find("n", tenant="acme")
        assert [each.pk for each in found] == [made.pk]


def test_null_stays_null_in_every_state(letters: Any) -> None:
    for state in ("WritesOld", "WritesRecords", "RecordsOnly"):
        model = getattr(letters, state)
        made = model.objects.create(tenant="acme")
        assert forms(made.pk) == ["null"] * 4
        assert set(held(model.objects.get(pk=made.pk)).values()) == {None}
    made = letters.WritesRecords.objects.get(pk=plain(letters).pk)
    for name in VALUES:
        setattr(made, name, None)
    made.save()
    assert raw(made.pk, "note", "mail", "token", "birth", "born") == (None,) * 5


def test_a_fleet_of_two_states_works_on_one_row(letters: Any) -> None:
    first, second = letters.WritesOld, letters.WritesRecords
    pk = plain(letters).pk
    for number, model in enumerate([first, second, first, second, second, first]):
        each = model.objects.get(pk=pk)
        each.note, each.birth = f"{number}", datetime.date(2000, 1, 1 + number)
        each.save()
        for reader in (first, second):
            read = reader.objects.get(pk=pk)
            assert (read.note, read.birth) == (f"{number}", datetime.date(2000, 1, 1 + number))
            assert [found.pk for found in reader.note_index.find(f"{number}", tenant="acme")] == [pk]


def test_the_last_state_takes_nothing_else_for_a_record(letters: Any) -> None:
    read = letters.RecordsOnly.objects.get(pk=plain(letters).pk)
    for name in ("note", "mail", "token"):
        with pytest.raises(errors.NotARecordError) as caught:
            getattr(read, name)
        assert "Nguy" not in str(caught.value)


@pytest.mark.parametrize("state", STATES)
def test_a_damaged_record_is_never_plaintext(letters: Any, state: str) -> None:
    model = getattr(letters, state)
    made = plain(letters, note="swr1.cut off", token=b"\xc1 cut off")
    read = model.objects.get(pk=made.pk)
    for name in ("note", "token"):
        with pytest.raises(errors.NotARecordError):
            getattr(read, name)


def test_what_looks_like_a_record_is_not_written(letters: Any) -> None:
    made = letters.WritesOld(tenant="acme", note="swr1.typed by somebody, a secret")
    with pytest.raises(errors.OldFormError) as caught:
        made.save()
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    letters.WritesRecords(pk=made.pk, tenant="acme", note=made.note).save()
    assert letters.RecordsOnly.objects.get().note == made.note


def test_old_values_are_counted(letters: Any) -> None:
    from sealwax.django import get_records

    before = get_records().stats()
    read = letters.WritesOld.objects.get(pk=plain(letters).pk)
    assert (read.note, read.birth, read.birth) == (VALUES["note"], BORN, BORN)
    read.birth = BORN
    read.save()
    after = get_records().stats()

    def more(name: str, field: str) -> int:
        return int(getattr(after, name)[field] - getattr(before, name).get(field, 0))

    assert more("old_values_read", "archive_letter.note") == 1
    assert more("old_values_read", "archive_letter.birth") == 2
    assert more("old_values_written", "archive_letter.note") == 1
    assert more("old_values_written", "archive_letter.birth") == 1


def test_a_value_of_another_key_is_an_error_without_it(letters: Any) -> None:
    read = letters.WritesOld.objects.get(pk=plain(letters, token=b"no token, a secret").pk)
    with pytest.raises(errors.OldFormError) as caught:
        _ = read.token
    assert "archive_letter.token" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_two_fields_are_written_together(letters: Any) -> None:
    from django.db.models import QuerySet

    from sealwax.django import SealedFieldError

    made = letters.WritesRecords.objects.get(pk=plain(letters).pk)
    made.birth = datetime.date(2000, 1, 1)
    with pytest.raises(SealedFieldError, match="add both to update_fields"):
        made.save(update_fields=["birth"])
    made.save(update_fields=["birth", "born"])
    assert letters.RecordsOnly.objects.only("birth").get().birth == datetime.date(2000, 1, 1)
    with pytest.raises(SealedFieldError, match="SealedManager"):
        QuerySet(letters.WritesOld).bulk_create([letters.WritesOld(tenant="acme", birth=BORN)])
    for query in ({"birth": None}, {"birth__isnull": False}):
        with pytest.raises(SealedFieldError, match="'born'"):
            letters.WritesOld.objects.filter(**query).exists()
    assert letters.RecordsOnly.objects.filter(birth__isnull=False).exists()


@pytest.mark.parametrize("state", [*STATES, "RecordsOnly"])
def test_forms_and_the_admin_work_in_every_state(letters: Any, state: str) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    User.objects.create_superuser("root", password="x")
    client = Client()
    client.login(username="root", password="x")
    page, model = f"/admin/archive/{state.lower()}/", getattr(letters, state)
    pk = "00000000-0000-0000-0000-000000000007"
    fields = {"id": pk, "tenant": "acme", "note": "first", "mail": "a@example.com", "token": "3", "birth": "1815-12-10"}
    assert client.post(f"{page}add/", fields).status_code == 302
    assert held(model.objects.get()) == {"note": "first", "mail": "a@example.com", "token": 3, "birth": BORN}
    assert client.post(f"{page}{pk}/change/", {**fields, "note": "changed"}).status_code == 302
    assert client.post(f"{page}{pk}/change/", {**fields, "mail": "none"}).status_code == 200  # a validator says so
    assert b"changed" in client.get(page).content
    assert b"1815" in client.get(f"{page}{pk}/change/").content
    assert model.objects.get().note == "changed"


@pytest.mark.parametrize("state", STATES)
def test_fixtures_hold_records_in_every_state(letters: Any, state: str, tmp_path: Path) -> None:
    from django.core.management import call_command

    pk = plain(letters).pk
    model = getattr(letters, state)
    call_command("dumpdata", f"archive.{state}", stdout=(out := io.StringIO()))
    fields = json.loads(out.getvalue())[0]["fields"]
    assert [fields[name][:5] for name in ("note", "mail", "token")] == ["swr1."] * 3
    assert (fields["birth"], fields["born"]) == (None, "1815-12-10")  # the old field is one of Django's
    (tmp_path / "dump.json").write_text(out.getvalue())
    model.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    assert held(model.objects.get(pk=pk)) == VALUES
    call_command("dumpdata", f"archive.{state}", "--open-sealed", stdout=(out := io.StringIO()))
    (tmp_path / "dump.json").write_text(out.getvalue())
    model.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    assert held(model.objects.get(pk=pk)) == VALUES


def test_values_of_no_row_are_read(letters: Any) -> None:  # noqa: ARG001
    from sealwax.django import get_records
    from tests.django.archive.models import Remark

    first = Remark.objects.create(tenant="acme", text="plain")
    with get_records().scope(tenant="acme"):
        assert list(Remark.objects.values_list("text", flat=True)) == ["plain"]
    first.delete()


def test_a_state_is_no_migration(letters: Any) -> None:
    """Nor are keys in one: the models of all states are the same to it."""
    from django.core.management import call_command
    from django.db.migrations.serializer import serializer_factory

    for name in VALUES:
        told = [getattr(letters, state)._meta.get_field(name).deconstruct() for state in (*STATES, "RecordsOnly")]
        written = [serializer_factory(each[2:]).serialize()[0] for each in told]
        assert len(set(written)) == 1
        assert letters.KEY not in written[0]
    assert "storage=models.TextField()" in serializer_factory(letters.WritesOld._meta.get_field("note")).serialize()[0]
    call_command("makemigrations", "--check", "--dry-run", stdout=(out := io.StringIO()))
    assert out.getvalue() == "No changes detected\n"


def test_models_of_migrations_are_in_the_state_of_the_application(letters: Any) -> None:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    old = MigrationExecutor(connection).loader.project_state([("archive", "0001_initial")]).apps
    for state in STATES:
        pk = plain(letters).pk
        read = old.get_model("archive", state).objects.get(pk=pk)
        assert held(read) == VALUES
        read.note, read.birth = state, datetime.date(2000, 1, 1)
        read.save()
        assert forms(pk)[0] == ("old" if state == "WritesOld" else "record")
        assert letters.WritesRecords.objects.get(pk=pk).birth == datetime.date(2000, 1, 1)


def test_definitions_are_refused(models: Any) -> None:  # noqa: ARG001
    from django.db import models as d

    from sealwax.django import Sealed
    from sealwax.records.moving import Moving, Plaintext

    moving = Moving(Plaintext(), writes="old")
    arguments: dict[str, Any]
    for arguments, error, says in (
        ({"moving": moving}, ValueError, "add storage="),
        ({"moved_from": "old"}, ValueError, "moving="),
        ({"storage": d.DateField()}, TypeError, "text or bytes"),
        ({"moving": "old"}, TypeError, "Moving"),
    ):
        with pytest.raises(error, match=says):
            Sealed(d.TextField(), row="id", **arguments)


def test_columns_and_days_are_checked(models: Any) -> None:  # noqa: ARG001
    from django.db import models as d

    from sealwax.django import UNBOUND, Sealed
    from sealwax.records.moving import Moving, Plaintext
    from tests.django.test_checks import checked

    def field(inner: Any, **arguments: Any) -> dict[str, Any]:
        return {"id": d.BigAutoField(primary_key=True), "x": Sealed(inner, row=UNBOUND, **arguments)}

    def until(days: int) -> Any:
        day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days)
        return {"moving": Moving(Plaintext(), writes="old", until=day), "storage": d.TextField()}

    assert checked(field(d.CharField(max_length=50), storage=d.CharField(max_length=200))) == ["sealwax.E012"]
    assert checked(field(d.CharField(max_length=50), storage=d.CharField(max_length=400))) == []
    assert checked(field(d.TextField(), storage=d.CharField(max_length=4000))) == ["sealwax.E012"]
    assert checked(field(d.DateField(), storage=d.BinaryField(max_length=100))) == ["sealwax.E012"]
    assert checked(field(d.DateField(), storage=d.CharField(max_length=200))) == []
    assert checked(field(d.TextField(), **until(-1))) == ["sealwax.E013"]
    assert checked(field(d.TextField(), **until(3))) == ["sealwax.W003"]
    assert checked(field(d.TextField(), **until(40))) == []
    from_old = {"moving": Moving(Plaintext(), writes="old"), "moved_from": "old"}
    assert checked(field(d.DateField(null=True), **from_old)) == ["sealwax.E011"]
    assert checked({**field(d.DateField(null=True), **from_old), "old": d.DateField()}) == ["sealwax.E011"]
    assert checked({**field(d.DateField(null=True), **from_old), "old": d.DateField(null=True)}) == []


def test_the_longest_value_fits_where_the_check_says_so(letters: Any) -> None:
    """Four bytes for each character, as the needed length is counted."""
    longest = "😀" * 60
    letters.RecordsOnly.objects.create(tenant="acme", mail=longest)
    assert letters.RecordsOnly.objects.get().mail == longest
