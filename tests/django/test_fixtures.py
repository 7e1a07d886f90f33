"""Fixtures, migrations, databases and transactions."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from typing import Any

import pytest

from sealwax.records._form import to_text
from tests.django.made import VALUES, patient, raw


def test_dumpdata_writes_records_that_loaddata_takes(models: Any, tmp_path: Path) -> None:
    from django.core.management import call_command

    made = patient(models, born=datetime.date(1815, 12, 10), notes="n")
    whole = models.Everything.objects.create(**VALUES)
    out = io.StringIO()
    call_command("dumpdata", "clinic", stdout=out)
    assert '"Ada"' not in out.getvalue()
    assert "1815-12-10" not in out.getvalue()
    fields = next(each["fields"] for each in json.loads(out.getvalue()) if each["model"] == "clinic.patient")
    assert fields["name"].startswith("swr1.")
    (tmp_path / "dump.json").write_text(out.getvalue())
    models.Clinic.objects.all().delete()
    models.Everything.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    read = models.Patient.objects.get()
    assert (read.pk, read.name, read.born, read.notes) == (made.pk, "Ada", datetime.date(1815, 12, 10), "n")
    assert models.Patient.name_index.find("ada", clinic=str(made.clinic_id)) == [made]
    everything = models.Everything.objects.get()
    assert everything.pk == whole.pk
    assert everything.tree == VALUES["tree"]
    assert everything.price == VALUES["price"]


@pytest.mark.parametrize("form", ["json", "xml"])
def test_a_value_that_begins_as_a_record_does_is_loaded_as_it_is(form: str, models: Any, tmp_path: Path) -> None:
    from django.core.management import call_command

    whole = patient(models, notes="n")
    names = ["swr1.", "swr1.abc", to_text(bytes(raw(whole, "notes")))[:50]]
    assert names[2].startswith("swr1.")
    for name in names:
        patient(models, name=name, clinic=whole.clinic)
    file = tmp_path / f"dump.{form}"
    call_command("dumpdata", "clinic", output=str(file), format=form)
    models.Clinic.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    assert sorted(each.name for each in models.Patient.objects.all()) == sorted([whole.name, *names])
    for name in names:
        (found,) = models.Patient.name_index.find(name, clinic=str(whole.clinic_id))
        assert found.name == name


def test_dumpdata_opens_if_it_is_asked_to(models: Any, tmp_path: Path) -> None:
    from django.core.management import call_command

    patient(models, born=datetime.date(1815, 12, 10))
    out = io.StringIO()
    call_command("dumpdata", "clinic", "--open-sealed", stdout=out)
    assert '"Ada"' in out.getvalue()
    (tmp_path / "dump.json").write_text(out.getvalue())
    models.Clinic.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    read = models.Patient.objects.get()
    assert (read.name, read.born) == ("Ada", datetime.date(1815, 12, 10))
    assert bytes(raw(read, "name"))[:1] == b"\xc1"


def test_migrations_do_not_change(models: Any) -> None:  # noqa: ARG001
    from django.core.management import call_command

    out = io.StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=out)
    assert out.getvalue() == "No changes detected\n"


def test_models_of_migrations_open_and_seal(models: Any) -> None:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    made = patient(models)
    old = MigrationExecutor(connection).loader.project_state([("clinic", "0001_initial")]).apps
    historical = old.get_model("clinic", "Patient")
    assert historical is not models.Patient
    read = historical.objects.get()
    assert read.name == "Ada"
    read.name = "Bob"
    read.save()
    assert models.Patient.objects.get().name == "Bob"
    assert models.Patient.objects.get().pk == made.pk


def test_two_databases(models: Any) -> None:
    clinic = models.Clinic.objects.using("other").create(title="north")
    made = models.Patient(clinic=clinic, name="Ada")
    made.save(using="other")
    assert not models.Patient.objects.exists()
    assert models.Patient.objects.using("other").get().name == "Ada"


def test_a_savepoint_is_rolled_back(models: Any) -> None:
    from django.db import transaction

    clinic = models.Clinic.objects.create(title="north")
    with transaction.atomic():
        patient(models, "Ada", clinic=clinic)
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            patient(models, "Bob", clinic=clinic)
            _ = 1 / 0
    assert [each.name for each in models.Patient.objects.all()] == ["Ada"]


@pytest.mark.parametrize("form", ["json", "jsonl", "xml"])
@pytest.mark.parametrize("opened", [False, True], ids=["records", "values"])
def test_fixtures_of_each_form_are_loaded(models: Any, tmp_path: Path, form: str, opened: bool) -> None:  # noqa: ARG001
    from django.core.management import call_command

    from tests.django.hospital.models import Person, Physician, Visit

    person = Person.objects.create(badge="b1", name="Ada L.", level=2, mail="ada@example.com", note="swr1typed")
    Visit.objects.create(person=person, day="1", finding={"a": [1, None, "é"]})
    Physician.objects.create(badge="b2", name="Bob", subject="bones")
    file = tmp_path / f"dump.{form}"
    call_command("dumpdata", "hospital", format=form, open_sealed=opened, output=str(file), verbosity=0)
    assert ("Ada L." in file.read_text()) == opened
    for where in ("default", "other"):  # here, and in another database with the same data keys
        Person.objects.using(where).all().delete()
        call_command("loaddata", str(file), database=where, verbosity=0)
        read = Person.objects.using(where).get(badge="b1")
        assert (read.name, read.level, read.mail, read.note) == ("Ada L.", 2, "ada@example.com", "swr1typed")
        assert Visit.objects.using(where).get().finding == {"a": [1, None, "é"]}
        physician = Physician.objects.using(where).get()
        assert (physician.name, physician.subject) == ("Bob", "bones")
        assert Person.mail_index.find("ada@example.com", Person.objects.using(where)) == [person]


on_sqlite = pytest.mark.parametrize("server", ["sqlite"], indirect=True)


@on_sqlite
def test_records_are_dumped_with_the_keys_that_they_are_bound_to(models: Any, tmp_path: Path) -> None:  # noqa: ARG001
    from django.core.management import CommandError, call_command

    from tests.django.hospital.models import Person

    Person.objects.create(badge="b1", name="Ada")
    natural: dict[str, Any] = {"use_natural_primary_keys": True, "use_natural_foreign_keys": True, "verbosity": 0}
    with pytest.raises(CommandError, match=r"--natural-primary .* hospital\.Person"):
        call_command("dumpdata", "hospital", **natural)
    call_command("dumpdata", "clinic", **natural, output=str(tmp_path / "other.json"))
    file = tmp_path / "dump.json"
    call_command("dumpdata", "hospital", **natural, open_sealed=True, output=str(file))
    Person.objects.all().delete()
    call_command("loaddata", str(file), verbosity=0)
    assert Person.objects.get().name == "Ada"
    Person.objects.create(badge="b2", note="swr1.typed")
    with pytest.raises(CommandError, match=r"'note' of the Person .* begins as a record does"):
        call_command("dumpdata", "hospital", open_sealed=True, output=str(file), verbosity=0)


@on_sqlite
def test_a_fixture_that_cannot_be_loaded_is_told_of(models: Any, tmp_path: Path) -> None:
    from django.core.management import CommandError, call_command

    from sealwax.django import get_records
    from sealwax.records import MemoryKeys, Records
    from sealwax.records.testing import override_records
    from tests.django.hospital.models import Person
    from tests.fakes import FakeKeyring

    Person.objects.create(badge="b1", name="Ada", level=2)
    file = tmp_path / "dump.json"
    call_command("dumpdata", "hospital", output=str(file), verbosity=0)
    with (
        Records(FakeKeyring(), MemoryKeys(), scope={"app": "clinic"}) as others,
        override_records(get_records(), others),
        pytest.raises(CommandError, match=r"no data key of the scope .*--open-sealed"),
    ):
        call_command("loaddata", str(file), verbosity=0)
    rows = json.loads(file.read_text())
    rows[0]["fields"]["level"] = "0x4111"
    file.write_text(json.dumps(rows))
    with pytest.raises(CommandError, match="'level' of Person cannot hold this str") as caught:
        call_command("loaddata", str(file), verbosity=0)
    assert "4111" not in str(caught.value)
    assert models.Clinic.objects.count() == 0


@on_sqlite
def test_migrations_of_the_project_can_be_squashed(models: Any, tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ARG001
    """And a sealed field is renamed, altered and moved as another."""
    import importlib
    import sys

    from django.core.management import call_command
    from django.db.migrations.state import ProjectState
    from django.test import override_settings

    package = tmp_path / "moved"
    package.mkdir()
    (package / "__init__.py").touch()
    first = (Path(__file__).parent / "hospital/migrations/0001_initial.py").read_text()
    (package / "0001_initial.py").write_text(first)
    (package / "0002_more.py").write_text(MORE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with override_settings(MIGRATION_MODULES={"hospital": "moved"}):
        call_command("squashmigrations", "hospital", "0002", interactive=False, verbosity=0)
        (squashed,) = package.glob("0001_*squashed*.py")
        assert "extra" in squashed.read_text()
        importlib.invalidate_caches()
        migration = importlib.import_module(f"moved.{squashed.stem}").Migration(squashed.stem, "hospital")
        state = migration.mutate_state(ProjectState())
        field: Any = state.apps.get_model("hospital", "Ticket")._meta.get_field("extra")
        assert (field.null, field.max_length, field.sealing.scope) == (True, 9, {"tenant": "tenant"})
        for name in [each for each in sys.modules if each.startswith("moved")]:
            del sys.modules[name]


MORE = """
from django.db import migrations, models
import sealwax.django

def sealed(length):
    field = models.CharField(max_length=length, null=True)
    return sealwax.django.Sealed(field, row=sealwax.django.UNBOUND, scope={"tenant": "tenant"}, name="tickets.extra")

class Migration(migrations.Migration):
    dependencies = [("hospital", "0001_initial")]
    operations = [
        migrations.AddField("ticket", "more", sealed(5)),
        migrations.AlterField("ticket", "more", sealed(9)),
        migrations.RenameField("ticket", "more", "extra"),
    ]
"""


def test_columns_are_added_altered_and_renamed(models: Any) -> None:
    """By the editor of the schema, as migrations do it: a record is what it was, and its name is given."""
    from django.db import connection
    from django.db import models as d
    from django.db.migrations.state import ModelState, ProjectState

    from sealwax.django import UNBOUND, Sealed
    from tests.django.hospital.models import Ticket

    made = Ticket.objects.create(tenant="acme", text="a")
    state = ProjectState()
    state.add_model(ModelState.from_model(Ticket))
    field: Any = Sealed(d.CharField(max_length=5, null=True), row=UNBOUND, name="tickets.extra")
    state.add_field("hospital", "ticket", "extra", field, preserve_default=True)
    historical = state.apps.get_model("hospital", "Ticket")
    new = historical._meta.get_field("extra")
    with connection.schema_editor() as editor:
        editor.add_field(historical, new)
    try:
        read = historical.objects.get()
        assert (read.text, read.extra) == ("a", None)
        read.extra = "e"
        read.save()
        assert [each.extra for each in historical.objects.all()] == ["e"]
        assert Ticket.objects.get(pk=made.pk).text == "a"
        with connection.schema_editor() as editor:
            wider: Any = Sealed(d.CharField(max_length=9, null=True), row=UNBOUND, name="tickets.extra")
            wider.set_attributes_from_name("extra")
            wider.model = historical
            editor.alter_field(historical, new, wider)
        assert [each.extra for each in historical.objects.all()] == ["e"]
    finally:
        with connection.schema_editor() as editor:
            editor.remove_field(historical, new)
    assert models.Clinic.objects.count() == 0


def test_a_router_tells_where_objects_are(models: Any) -> None:  # noqa: ARG001
    from django.test import override_settings

    from tests.django.hospital.models import Person

    with override_settings(DATABASE_ROUTERS=["tests.django.test_fixtures.Router"]):
        made = Person.objects.create(badge="b", name="Ada", mail="ada@example.com")
        assert made._state.db == "other"
        assert Person.mail_index.find("ada@example.com") == [made]
        made.name = "Bob"
        made.save(update_fields=["name"])
        Person.objects.bulk_update([made], ["name"])
    assert Person.objects.using("other").get().name == "Bob"
    assert not Person.objects.exists()
    made.save(using="default")
    assert Person.objects.get().name == "Bob"


class Router:
    def db_for_read(self, model: Any, **hints: Any) -> str:  # noqa: ARG002
        return "other"

    db_for_write = db_for_read
