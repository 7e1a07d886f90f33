"""Sealed fields of Django: types, rows, scopes, forms, the admin, fixtures, migrations, and what is refused."""

from __future__ import annotations

import copy
import datetime
import decimal
import io
import json
import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest

from sealwax import errors
from sealwax.records import UNBOUND

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


# --- values


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


# --- rows and scopes


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
    with pytest.raises(SealedFieldError, match="add it to update_fields"):
        made.save(update_fields=["clinic"])
    deferred = models.Patient.objects.defer("name").get()
    deferred.ward = "W"
    deferred.save()
    deferred.clinic = south
    with pytest.raises(SealedFieldError, match="only"):
        deferred.save()
    with pytest.raises(SealedFieldError, match="assign it to the objects"):
        models.Patient.objects.update(clinic=south)
    with pytest.raises(SealedFieldError, match="assign it to the objects"):
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


# --- many rows


def test_bulk_create_and_bulk_update_seal_each_row(models: Any) -> None:
    from django.db import connection

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
    upsert = models.Patient(pk=rows[0].pk, clinic=clinic, name="again")
    if connection.features.supports_update_conflicts_with_target:
        models.Patient.objects.bulk_create(
            [upsert], update_conflicts=True, update_fields=["name"], unique_fields=["id"]
        )
        assert models.Patient.objects.get(pk=rows[0].pk).name == "again"
    with pytest.raises(SealedFieldError, match="there before"):
        models.Patient.objects.bulk_create(
            [upsert], update_conflicts=True, update_fields=["name"], unique_fields=["ward"]
        )
    with pytest.raises(SealedFieldError, match="there before"):  # as for MySQL, which takes any unique key
        models.Patient.objects.bulk_create([upsert], update_conflicts=True, update_fields=["name"])


def test_a_plain_queryset_refuses_what_it_cannot_seal(models: Any) -> None:
    from django.db.models import QuerySet

    from sealwax.django import SealedFieldError

    made = patient(models)
    with pytest.raises(SealedFieldError, match="SealedManager"):
        QuerySet(models.Patient).bulk_update([made], ["name"])


def test_values_opens_what_is_bound_to_no_row(models: Any) -> None:
    from sealwax.django import SealedFieldError, get_records

    made = patient(models, notes="hello")
    with get_records().scope(clinic=str(made.clinic_id)):
        assert list(models.Patient.objects.values_list("notes", "ward")) == [("hello", "")]
        assert models.Patient.objects.values("notes").get() == {"notes": "hello"}
    for query in (models.Patient.objects.values("name"), models.Patient.objects.values_list("ward", "name")):
        with pytest.raises(SealedFieldError, match="bound to its row"):
            list(query)


# --- refused


def refused() -> dict[str, Any]:
    from django.db.models import Count, F, Max, Q, QuerySet, Value
    from django.db.models.functions import Concat, Lower

    return {
        "exact": lambda m: m.filter(name="Ada"),
        "contains": lambda m: m.filter(Q(ward="x") | Q(name__icontains="a")),
        "in": lambda m: m.exclude(name__in=["Ada"]),
        "gt": lambda m: m.filter(born__gt=datetime.date(2000, 1, 1)),
        "year": lambda m: m.filter(born__year=2000),
        "transform": lambda m: m.filter(born__year__gt=2000),
        "order": lambda m: m.order_by("-name"),
        "order by F": lambda m: m.order_by(F("name").desc(nulls_last=True)),
        "order by function": lambda m: m.order_by(Lower("name")),
        "order through": lambda m: m.order_by("clinic__patient__name"),
        "F": lambda m: m.annotate(x=F("name")),
        "other F": lambda m: m.filter(ward=F("name")),
        "lower": lambda m: m.annotate(x=Lower("name")),
        "lower filter": lambda m: m.filter(ward=Lower("name")),
        "concat": lambda m: m.annotate(x=Concat("ward", Value(" "), "name")),
        "max": lambda m: m.aggregate(Max("name")),
        "count": lambda m: m.aggregate(Count("name", distinct=True)),
        "group": lambda m: list(m.values("notes").annotate(n=Count("id"))),
        "distinct": lambda m: m.values("notes").distinct(),
        "distinct on": lambda m: m.distinct("name"),
        "values": lambda m: m.values("name"),
        "subquery": lambda m: m.filter(ward__in=m.values("name")),
        "update from F": lambda m: m.update(ward=F("name")),
        "update to a value": lambda m: m.update(name=Value("Ada")),
        "update of a plain queryset": lambda m: QuerySet(m.model).update(name=Lower(Value("ADA"))),
        "update to F": lambda m: m.update(name=F("ward")),
        "latest": lambda m: m.latest("born"),
        "related": lambda m: m.filter(clinic__patient__name="Ada"),
    }


NAMES = [
    "exact", "contains", "in", "gt", "year", "transform", "order", "order by F", "order by function", "order through",
    "F", "other F", "lower", "lower filter", "concat", "max", "count", "group", "distinct", "distinct on", "values",
    "subquery", "update from F", "update to F", "update to a value", "update of a plain queryset", "latest", "related",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_database_cannot_compute_with_records(models: Any, name: str) -> None:
    from sealwax.django import SealedFieldError

    assert set(refused()) == set(NAMES)
    patient(models)
    with pytest.raises(SealedFieldError) as caught:  # noqa: PT012
        result = refused()[name](models.Patient.objects.all())
        list(result if hasattr(result, "__iter__") else ())
    assert "sealed" in str(caught.value)
    assert "Ada" not in str(caught.value)
    if "name" in str(caught.value).split("'")[1] and "update" not in name:
        assert "name_index.find(value)" in str(caught.value)


def test_what_needs_no_value_works(models: Any) -> None:
    from django.db.models import Count, Exists, OuterRef

    made = patient(models)
    north = models.Clinic.objects.annotate(n=Count("patient")).get()
    assert north.n == 1
    patients = models.Patient.objects.annotate(n=Count("clinic"))
    assert [each.name for each in patients] == ["Ada"]
    assert models.Patient.objects.filter(name__isnull=False, clinic__title="north").distinct().count() == 1
    named = models.Patient.objects.filter(clinic=OuterRef("pk"), name__isnull=False)
    assert models.Clinic.objects.filter(Exists(named)).count() == 1
    assert models.Clinic.objects.filter(patient__name__isnull=False).get() == north
    assert models.Patient.objects.in_bulk([made.pk])[made.pk].name == "Ada"
    assert models.Patient.objects.exclude(born__isnull=False).exists()
    assert models.Patient.objects.filter(pk__in=models.Patient.objects.values("pk")).count() == 1


@pytest.mark.parametrize(
    "options",
    [{"unique": True}, {"db_index": True}, {"primary_key": True}, {"db_default": "x"}, {"unique_for_date": "d"}],
)
def test_options_that_need_values_are_refused(
    models: Any,  # noqa: ARG001
    options: dict[str, Any],
) -> None:
    from django.db import models as django_models

    from sealwax.django import Sealed

    with pytest.raises(ValueError, match="sealed"):
        Sealed(django_models.CharField(max_length=9, **options), row="id")


def test_fields_of_other_kinds_are_refused(models: Any) -> None:
    from django.db import models as django_models

    from sealwax.django import Sealed

    field: Any
    for field in (
        django_models.AutoField(primary_key=True),
        django_models.ForeignKey(models.Clinic, on_delete=django_models.CASCADE),
        django_models.FileField(),
        django_models.DurationField(),
        django_models.TimeField(),
        Sealed(django_models.TextField(), row="id"),
        "name",
    ):
        with pytest.raises(TypeError, match=r"Sealed\(\) takes"):
            Sealed(field, row="id")
    with pytest.raises(ValueError, match="UNBOUND"):
        Sealed(django_models.TextField(), row=())
    with pytest.raises(ValueError, match="db_index=False"):
        Sealed(django_models.SlugField(), row="id")


# --- indexes


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


# --- forms and the admin


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


# --- fixtures and migrations


def test_dumpdata_writes_records_that_loaddata_takes(models: Any, tmp_path: Path) -> None:
    from django.core.management import call_command

    made = patient(models, born=datetime.date(1815, 12, 10), notes="n")
    whole = models.Everything.objects.create(**VALUES)
    out = io.StringIO()
    call_command("dumpdata", "clinic", stdout=out)
    assert "Ada" not in out.getvalue()
    assert "1815" not in out.getvalue()
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


# --- checks


def checked(attributes: dict[str, Any], **meta: Any) -> list[str]:
    from django.apps.registry import Apps
    from django.db import models as django_models

    inner = type("Meta", (), {"app_label": "clinic", "apps": Apps(), **meta})
    model: Any = type("Checked", (django_models.Model,), {"__module__": __name__, "Meta": inner, **attributes})
    return [str(each.id) for each in model.check() if str(each.id).startswith("sealwax")]


def test_models_are_checked(models: Any) -> None:  # noqa: ARG001
    from django.db import models as d

    from sealwax.django import IndexOf, Sealed

    key: dict[str, Any] = {"id": d.UUIDField(primary_key=True, default=uuid.uuid4)}

    def text(row: Any = "id") -> Any:
        return Sealed(d.CharField(max_length=9), row=row)

    assert checked({**key, "x": text(), "i": IndexOf("x", bits=8)}) == []
    assert checked({**key, "x": text("other")}) == ["sealwax.E001"]
    assert checked({**key, "n": d.DecimalField(max_digits=3, decimal_places=1), "x": text("n")}) == ["sealwax.E002"]
    assert checked({"id": d.BigAutoField(primary_key=True), "x": text()}) == ["sealwax.E003"]
    assert checked({"id": d.BigAutoField(primary_key=True), "x": text(UNBOUND)}) == []
    assert checked({**key, "x": text(), "sealed_scope": {"tenant": "no"}}) == ["sealwax.E004"]
    unique = d.UniqueConstraint(fields=["x"], name="u")
    assert checked({**key, "x": text()}, constraints=[unique]) == ["sealwax.E005"]
    assert checked({**key, "x": text()}, ordering=["-x"]) == ["sealwax.E005"]
    assert checked({**key, "x": text()}, indexes=[d.Index(fields=["x"], name="i")]) == ["sealwax.E005"]
    assert checked({**key, "x": text(), "i": IndexOf("no", bits=8)}) == ["sealwax.E007"]
    assert checked({**key, "x": d.TextField(), "i": IndexOf("x", bits=8)}) == ["sealwax.E008"]


def test_a_key_that_the_database_makes_is_no_row(models: Any) -> None:
    from sealwax.django import SealedFieldError

    made = models.Everything(text="x", text_key=None)
    made.big = 1
    with pytest.raises(SealedFieldError, match="has no value yet"):
        made.save()
