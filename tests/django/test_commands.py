"""``manage.py sealwax_reseal`` and ``sealwax_check``, with what they print and their exit statuses."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealwax import errors
from tests.django.databases import in_settings
from tests.django.test_moving import VALUES, held, plain


def run(name: str, *arguments: str, **options: Any) -> tuple[int, str, str]:
    """Run a command; return its exit status, and what it has printed."""
    from django.core.management import CommandError, call_command

    out, err = io.StringIO(), io.StringIO()
    status = 0
    if name == "sealwax_reseal":
        options = {"settle": 0.0, **options}
    try:
        call_command(name, *arguments, stdout=out, stderr=err, **options)
    except CommandError as error:
        status = error.returncode
        err.write(str(error))
    except SystemExit as ended:
        status = int(str(ended.code))
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def records(models: Any) -> Any:  # noqa: ARG001
    from sealwax.django import get_records

    return get_records()


@pytest.fixture
def letters(models: Any) -> Any:  # noqa: ARG001
    from tests.django.archive import models as letters

    return letters


@pytest.fixture
def patients(models: Any) -> Any:
    """Two patients of one clinic and one of another."""
    north, south = (models.Clinic.objects.create(title=title) for title in ("north", "south"))
    for clinic, name in ((north, "Ada"), (north, "Bob"), (south, "Cyd")):
        models.Patient.objects.create(clinic=clinic, name=name, notes="n")
    return models.Patient


def names(patients: Any) -> list[str]:
    return sorted(each.name for each in patients.objects.all())


def set_raw(model: Any, **columns: Any) -> None:
    """Write columns as a program would that knows nothing of sealed fields."""
    from django.db import connection

    with connection.cursor() as cursor:
        assignments = ", ".join(f"{name} = %s" for name in columns)
        cursor.execute(f"UPDATE {model._meta.db_table} SET {assignments}", list(columns.values()))


@pytest.mark.parametrize(
    "wrong", [("--settle", "0.1s"), ("--rate", "0"), ("--rate", "many"), ("--database", "elsewhere"), ("nowhere",)]
)
@pytest.mark.usefixtures("models")
def test_wrong_usage_is_status_2(wrong: tuple[str, ...], capsys: Any) -> None:
    from sealwax.django.management.commands.sealwax_reseal import Command

    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "sealwax_reseal", *wrong])
    assert ended.value.code == 2
    assert wrong[-1] in capsys.readouterr().err


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_text(records: Any, patients: Any) -> None:
    """What Django puts around its streams colors progress as an error, and shows bytes by their repr."""
    from django.core.management import call_command

    records.roll(clinic=str(patients.objects.first().clinic_id))
    stream = Terminal(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        call_command("sealwax_reseal", "clinic.Patient", settle=0.01)
        call_command("sealwax_check", "clinic.Patient")
    stream.flush()
    shown = stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "sealwax: counting again" in shown
    assert "values opened" in shown
    assert "b'" not in shown
    assert "\x1b[31" not in shown


def test_records_are_sealed_again(records: Any, patients: Any) -> None:
    clinic = str(patients.objects.get(name_index__isnull=False, ward="", pk=patients.objects.first().pk).clinic_id)
    records.roll(clinic=clinic)
    rolled = patients.objects.filter(clinic_id=clinic).count()
    status, out, _ = run("sealwax_reseal", "clinic.Patient", dry_run=True)
    assert (status, f"{2 * rolled} under others" in out) == (3, True)
    assert run("sealwax_check", "clinic.Patient")[0] == 3
    status, out, err = run("sealwax_reseal", "clinic.Patient")
    assert status == 0, err
    assert f"clinic_patient.name: {rolled} record{'s' * (rolled > 1)} resealed" in out
    assert "can be retired" in " ".join(out.split()) or "retire them" in out
    assert names(patients) == ["Ada", "Bob", "Cyd"]
    status, out, _ = run("sealwax_reseal", "clinic.Patient", dry_run=True)
    assert (status, "0 under others" in out) == (0, True)
    status, out, err = run("sealwax_check", "clinic.Patient")
    assert (status, err) == (0, "")
    assert "6 values opened, nothing found" in out


def test_values_move_out_of_the_old_form(letters: Any) -> None:
    made = [plain(letters) for _ in range(3)]
    assert run("sealwax_reseal", "archive.WritesRecords", dry_run=True)[0] == 3
    status, out, err = run("sealwax_check", "archive.WritesRecords")
    assert status == 3
    assert "archive_letter.birth: 3 of its values are still in the old form" in err
    status, out, err = run("sealwax_reseal", "archive.WritesRecords")  # which makes the first data key
    assert status == 0, err
    assert "archive_letter.note: 3 values moved from plaintext" in out
    assert "archive_letter.token: 3 values moved from fernet" in out
    assert "archive_letter.note_index: 3 indexes filled" in out
    assert "archive_letter.note: every value is a record; once no program writes the old form, take moving= out" in out
    assert "swr1." in out
    assert "take moving= and moved_from= out of the model, and delete 'born'" in out
    for each in made:
        assert held(letters.RecordsOnly.objects.get(pk=each.pk)) == VALUES
    assert len(letters.RecordsOnly.note_index.find(VALUES["note"], tenant="acme")) == 3
    assert run("sealwax_reseal", "archive.RecordsOnly", dry_run=True)[0] == 0
    assert run("sealwax_check", "archive.RecordsOnly")[0] == 0


def test_what_older_versions_may_read_is_not_moved(letters: Any) -> None:
    made = plain(letters)
    status, out, err = run("sealwax_reseal", "archive.WritesOld")
    assert status == 8
    assert "archive_letter.note_index: 1 index filled" in out
    assert "archive_letter.birth: the old form is still written" in err
    before = letters.Letter.objects.get(pk=made.pk)
    assert (before.note, before.mail, before.born) == (VALUES["note"], VALUES["mail"], VALUES["birth"])


def test_an_index_that_is_new_is_filled(patients: Any) -> None:
    set_raw(patients, name_index=None)
    clinic = str(patients.objects.first().clinic_id)
    name = patients.objects.first().name
    assert patients.name_index.find(name, clinic=clinic) == []
    status, _, err = run("sealwax_check", "clinic.Patient")
    assert (status, "clinic_patient.name_index: 3 rows have a value and no index" in err) == (3, True)
    status, out, _ = run("sealwax_reseal", "clinic", dry_run=True)
    assert (status, "clinic_patient.name_index: 3 rows without an index" in out) == (3, True)
    status, out, _ = run("sealwax_reseal", "clinic")
    assert (status, "clinic_patient.name_index: 3 indexes filled" in out) == (0, True)
    assert [each.name for each in patients.name_index.find(name, clinic=clinic)] == [name]
    assert run("sealwax_check", "clinic.Patient")[0] == 0


def test_an_index_is_not_of_a_value_that_was_replaced(patients: Any) -> None:
    """While it is computed, an older version of the application writes the value, and no index."""
    from django.db import connection
    from django.db.models import QuerySet

    set_raw(patients, name_index=None)
    pages: list[str] = []

    def older(execute: Any, query: str, *more: Any) -> Any:
        result = execute(query, *more)
        if query.startswith("SELECT") and "name_index" in query and "COUNT" not in query and not pages:
            pages.append(query)  # this one was read
            older_rows: Any = QuerySet(patients).only("name", "clinic")
            for each in older_rows:
                each.name = f"{each.name} the second"
                each.save(update_fields=["name", "name_index"])
            set_raw(patients, name_index=None)
        return result

    with connection.execute_wrapper(older):
        status, out, err = run("sealwax_reseal", "clinic")
    assert status == 8, err
    assert "clinic_patient.name_index: 0 indexes filled, 3 rows changed meanwhile, 3 rows without one" in out
    assert run("sealwax_reseal", "clinic")[0] == 0
    assert run("sealwax_check", "clinic.Patient")[0] == 0


def test_an_index_follows_what_an_older_version_writes(letters: Any) -> None:
    """It replaces a value of the old form, and knows nothing of the index beside it."""
    made = letters.WritesOld.objects.create(tenant="acme", note="before", mail="a@example.com")
    same = letters.WritesOld.objects.create(tenant="acme", note="same")
    letters.Letter.objects.filter(pk=made.pk).update(note="after")
    status, out, err = run("sealwax_reseal", "archive.WritesRecords")
    assert status == 0, err
    assert "archive_letter.note_index: 1 index filled" in out
    assert [each.pk for each in letters.RecordsOnly.note_index.find("after", tenant="acme")] == [made.pk]
    assert [each.pk for each in letters.RecordsOnly.note_index.find("same", tenant="acme")] == [same.pk]
    assert run("sealwax_check", "archive.RecordsOnly", all=True)[0] == 0


def test_an_index_of_another_value_is_found(patients: Any) -> None:
    set_raw(patients, name_index=b"\xff")
    status, _, err = run("sealwax_check", "clinic.Patient")
    assert status == 3
    assert "clinic_patient.name_index" in err
    assert "the index is not that of the value" in err


def test_what_does_not_open_is_named(letters: Any) -> None:
    good = letters.RecordsOnly.objects.create(tenant="acme", note="fine")
    bad = letters.RecordsOnly.objects.create(tenant="acme", note="a secret")
    letters.Letter.objects.filter(pk=bad.pk).update(note=letters.Letter.objects.get(pk=good.pk).note)
    status, out, err = run("sealwax_check", "archive.RecordsOnly")
    assert status == 3
    assert f"archive_letter.note, row {bad.pk}" in err
    assert "1 value opened, 1 finding" in out
    letters.Letter.objects.filter(pk=bad.pk).update(note="in the clear, a secret")
    status, out, err = run("sealwax_check", "archive.RecordsOnly", json=True, all=True)
    assert status == 3
    found = json.loads(out)
    assert any("1 of its values are not records" in each for each in found["findings"])
    assert found["opened"]["archive_letter.note"] == 1
    assert "secret" not in out + err


def test_what_was_there_before_a_field_was_sealed_is_not_done(letters: Any) -> None:
    """Somebody has sealed a field with values, and left out moving=."""
    made = letters.RecordsOnly.objects.create(tenant="acme", note="fine")
    letters.Letter.objects.filter(pk=made.pk).update(note="a secret in the clear")
    assert run("sealwax_reseal", "archive.RecordsOnly", dry_run=True)[0] == 3
    status, out, err = run("sealwax_reseal", "archive.RecordsOnly")
    assert status == 8
    assert "archive_letter.note: 1 value is not sealed, and of no form that the column moves from" in err
    assert "name their form with moves_from or moving=" in err
    assert "secret" not in out + err


def test_values_that_cannot_be_read_are_left_alone(letters: Any) -> None:
    plain(letters)
    bad = plain(letters, token=b"no token, a secret")
    status, out, err = run("sealwax_reseal", "archive.WritesRecords")
    assert status == 8
    assert "archive_letter.token: 1 value moved from fernet" in out
    assert str(bad.pk) in err.replace("-", "").replace(bad.pk.hex, str(bad.pk))
    assert "secret" not in out + err
    assert bytes(letters.Letter.objects.get(pk=bad.pk).token) == b"no token, a secret"


def test_a_shredded_scope_is_a_finding(records: Any, patients: Any) -> None:
    clinic = str(patients.objects.get(name_index__isnull=False, pk=patients.objects.first().pk).clinic_id)
    gone = patients.objects.filter(clinic_id=clinic).count()
    records.shred(clinic=clinic)
    records.clear()
    status, _, err = run("sealwax_check", "clinic.Patient")
    assert status == 3
    assert "clinic_patient.name, row" in err
    status, out, err = run("sealwax_reseal", "clinic")
    assert status == 8
    assert f"clinic_patient.name: 0 records resealed, {3 - gone} under the newest key already" in out
    assert "shredded" in err


@pytest.fixture
def refusing(models: Any) -> Iterator[None]:  # noqa: ARG001
    """KMS refuses every data key that was made before."""
    from sealwax.django import get_records
    from sealwax.records import Records
    from sealwax.records.testing import override_records
    from tests.fakes import FakeKeyring

    class Refusing(FakeKeyring):
        def unwrap(self, *_: Any) -> Any:
            about = f"refused by a policy (request id {uuid.uuid4()})"
            raise errors.AccessDeniedError(about, code="AccessDeniedException", key="alias/shop")

    records = get_records()
    with override_records(records, Records(Refusing(), records.store, scope={"app": "clinic"})):
        yield


@pytest.mark.usefixtures("refusing_after_patients")
def test_what_kms_refuses_has_a_status_of_its_own() -> None:
    status, _, err = run("sealwax_check", "clinic.Patient")
    assert (status, "clinic_patient.name" in err) == (7, True)
    assert err.count("refused by a policy") == 2  # of each field once, whatever the request id
    assert run("sealwax_reseal", "clinic.Patient")[0] == 7


@pytest.fixture
def refusing_after_patients(patients: Any, request: pytest.FixtureRequest) -> Any:
    request.getfixturevalue("refusing")
    return patients


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["clinic.Nobody"], "Nobody"),
        (["auth"], "none of these models has sealed fields"),
        (["clinic.Clinic"], "none of these models has sealed fields"),
        (["clinic", "--database", "elsewhere"], "elsewhere"),
    ],
)
@pytest.mark.parametrize("name", ["sealwax_reseal", "sealwax_check"])
def test_mistakes_are_told(project: Path, name: str, arguments: list[str], says: str) -> None:  # noqa: ARG001
    status, out, err = run(name, *arguments)
    assert (status, out) == (2, "")
    assert says in err


def test_times_and_rates_are_read_as_on_the_command_line(project: Path, patients: Any) -> None:  # noqa: ARG001
    from django.core.management import CommandError, call_command

    for wrong in (["--settle", "soon"], ["--rate", "0"], ["--rate", "many"], ["--rate", "nan"]):
        with pytest.raises(CommandError, match=r"is not a (time|number)"):
            call_command("sealwax_reseal", "clinic", *wrong)


def test_it_is_quiet_if_it_is_asked_to(patients: Any, tmp_path: Path) -> None:  # noqa: ARG001
    journal = tmp_path / "journal"
    assert run("sealwax_reseal", "clinic", verbosity=0, journal=str(journal)) == (0, "", "")
    assert not journal.exists()
    assert run("sealwax_check", "clinic.Patient", verbosity=0) == (0, "", "")
    assert run("sealwax_reseal", "clinic", journal=str(tmp_path))[0] == 1


def test_json_is_one_object(patients: Any) -> None:  # noqa: ARG001
    for options in ({}, {"dry_run": True}):
        status, out, err = run("sealwax_reseal", "clinic", json=True, **options)
        assert (status, err) == (0, "")
        assert out.count("\n") == 1
        assert json.loads(out)
    assert json.loads(run("sealwax_reseal", "clinic", json=True)[1])["indexes"] == [
        {"column": "clinic_patient.name_index", "filled": 0, "changed": 0, "failed": 0, "left": 0}
    ]


@pytest.mark.parametrize("server", ["postgresql", "mariadb"], indirect=True)  # SQLite keeps to no length
def test_a_column_that_is_too_short_is_found(letters: Any) -> None:
    from django.db import connection

    letters.RecordsOnly.objects.create(tenant="acme", mail="a@example.com")
    alter = "MODIFY mail VARCHAR(200)" if connection.vendor == "mysql" else "ALTER COLUMN mail TYPE VARCHAR(200)"
    back = alter.replace("200", "420")
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE archive_letter {alter}")
        try:
            status, _, err = run("sealwax_check", "archive.RecordsOnly")
        finally:
            cursor.execute(f"ALTER TABLE archive_letter {back}")
    assert status == 3
    assert "archive_letter.mail: the column has room for 200, and a record of the longest value needs 403" in err


def test_models_are_maps_of_fields(letters: Any, models: Any) -> None:
    from sealwax.django import sealed_columns
    from sealwax.records import UNBOUND

    name, born, notes = sealed_columns(models.Patient)
    assert (name.table, name.column, name.field) == ("clinic_patient", "name", "clinic_patient.name")
    assert (name.row, name.scope) == ({"id": uuid.UUID}, {"clinic": "clinic_id"})
    assert (born.column, notes.row) == ("born", UNBOUND)
    by_column = {each.column: each for each in sealed_columns(models.Everything)}
    assert by_column["address"].field == "everything.ip"
    assert by_column["big"].row == {"id": uuid.UUID, "text_key": str}
    moving = {each.column: each for each in sealed_columns(letters.WritesOld)}
    assert (moving["birth"].moved_from, moving["token"].moves_from) == ("born", letters.FERNET)
    assert moving["token"].kind is int
    assert len(sealed_columns()) == len({(each.table, each.column) for each in sealed_columns()})
    assert sealed_columns(models.Clinic) == []


def test_tenants_may_be_uuids(letters: Any, records: Any) -> None:
    """Which some databases keep without hyphens."""
    visit = letters.Visit.objects.create(tenant=uuid.uuid4(), text="hello")
    records.roll(tenant=str(visit.tenant))
    status, out, err = run("sealwax_reseal", "archive.Visit")
    assert (status, err) == (0, "")
    assert "archive_visit.text: 1 record resealed" in out
    assert letters.Visit.objects.get().text == "hello"
    assert run("sealwax_check", "archive.Visit")[0] == 0


@pytest.mark.parametrize("name", ["sealwax_reseal", "sealwax_check"])
def test_a_database_that_is_away_is_one_sentence(project: Path, name: str) -> None:
    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(project / "no" / "where.db")}
    with in_settings("away", settings):
        status, out, err = run(name, "clinic.Patient", "--database", "away")
    assert (status, out) == (1, "")
    assert "unable to open database file" in err
    assert err.count("\n") == 0


def test_a_store_that_is_away_is_one_sentence(records: Any, patients: Any) -> None:  # noqa: ARG001
    from sealwax.records import MemoryKeys, Records
    from sealwax.records.testing import override_records
    from tests.fakes import FakeKeyring

    class Away(MemoryKeys):
        def list(self, scope: Any = None) -> Any:  # noqa: ARG002
            raise errors.KeyStoreError("the key store is away")

    with override_records(records, Records(FakeKeyring(), Away(), scope={"app": "clinic"})):
        assert run("sealwax_reseal", "clinic", dry_run=True) == (1, "", "the key store is away")
