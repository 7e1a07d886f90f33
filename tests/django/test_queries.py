"""Queries over sealed fields: what works, and what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.django.made import patient


def refused() -> dict[str, Any]:
    from django.db.models import Case, Count, Exists, F, Max, Min, OuterRef, Q, QuerySet, Subquery, Value, When, Window
    from django.db.models.functions import Cast, Coalesce, Concat, Length, Lower, RowNumber

    def outer(m: Any) -> Any:
        return m.model.objects.filter(ward=OuterRef("name"))

    return {
        "exact": lambda m: m.filter(name="Ada"),
        "get": lambda m: m.get(name="Ada"),
        "get or create": lambda m: m.get_or_create(name="Ada"),
        "delete": lambda m: m.filter(name="Ada").delete(),
        "contains": lambda m: m.filter(Q(ward="x") | Q(name__icontains="a")),
        "not": lambda m: m.filter(~Q(name="Ada")),
        "in": lambda m: m.exclude(name__in=["Ada"]),
        "gt": lambda m: m.filter(born__gt=datetime.date(2000, 1, 1)),
        "year": lambda m: m.filter(born__year=2000),
        "transform": lambda m: m.filter(born__year__gt=2000),
        "dates": lambda m: m.dates("born", "year"),
        "order": lambda m: m.order_by("-name"),
        "order by F": lambda m: m.order_by(F("name").desc(nulls_last=True)),
        "order by function": lambda m: m.order_by(Lower("name")),
        "order through": lambda m: m.order_by("clinic__patient__name"),
        "order of a union": lambda m: m.union(m.all()).order_by("name"),
        "reverse": lambda m: m.order_by("name").reverse(),
        "latest": lambda m: m.latest("name"),
        "F": lambda m: m.annotate(x=F("name")),
        "alias": lambda m: m.alias(x=F("name")).filter(x="Ada"),
        "other F": lambda m: m.filter(ward=F("name")),
        "lower": lambda m: m.annotate(x=Lower("name")),
        "lower filter": lambda m: m.filter(ward=Lower("name")),
        "lower on the left": lambda m: m.annotate(x=Lower("name")).filter(x="ada"),
        "length": lambda m: m.annotate(x=Length("name")),
        "cast": lambda m: m.annotate(x=Cast("name", m.model._meta.get_field("ward"))),
        "coalesce": lambda m: m.annotate(x=Coalesce("name", Value(""))),
        "concat": lambda m: m.annotate(x=Concat("ward", Value(" "), "name")),
        "when": lambda m: m.annotate(x=Case(When(name="Ada", then=Value(1)), default=Value(0))),
        "then": lambda m: m.annotate(x=Case(When(ward="x", then=F("name")), default=Value(""))),
        "max": lambda m: m.aggregate(Max("name")),
        "min through": lambda m: m.model.clinic.field.related_model.objects.annotate(x=Min("patient__name")),
        "count": lambda m: m.aggregate(Count("name", distinct=True)),
        "count of some": lambda m: m.aggregate(x=Count("pk", filter=Q(name="Ada"))),
        "window": lambda m: m.annotate(x=Window(RowNumber(), partition_by=F("name"))),
        "group": lambda m: list(m.values("notes").annotate(n=Count("id"))),
        "distinct": lambda m: m.values("notes").distinct(),
        "distinct on": lambda m: m.distinct("name"),
        "values": lambda m: m.values("name"),
        "values through": lambda m: m.values("clinic__patient__name"),
        "subquery": lambda m: m.filter(ward__in=m.values("name")),
        "subquery of one": lambda m: m.annotate(x=Subquery(m.values("name")[:1])),
        "subquery of no row": lambda m: m.filter(ward__in=m.values("notes")),
        "subquery that is written": lambda m: m.update(ward=Subquery(m.values("notes")[:1])),
        "outer": lambda m: m.filter(Exists(outer(m))),
        "related": lambda m: m.filter(clinic__patient__name="Ada"),
        "update from F": lambda m: m.update(ward=F("name")),
        "update to a value": lambda m: m.update(name=Value("Ada")),
        "update of a plain queryset": lambda m: QuerySet(m.model).update(name=Lower(Value("ADA"))),
        "update to F": lambda m: m.update(name=F("ward")),
        "update of bytes": lambda m: m.update(name=b"\xc1" + bytes(80)),
    }


# Of these, an index is no way out.
OF_ROWS = {"values", "values through", "subquery", "subquery of one"}


def test_a_database_cannot_compute_with_records(models: Any) -> None:
    from django.db import transaction

    from sealwax.django import SealedFieldError

    patient(models, notes="n")
    for name, query in refused().items():
        with pytest.raises(SealedFieldError) as caught, transaction.atomic():  # noqa: PT012
            result = query(models.Patient.objects.all())
            list(result if hasattr(result, "__iter__") else ())
            pytest.fail(f"{name}: {result}")
        assert "sealed" in str(caught.value), name
        assert "Ada" not in str(caught.value), name
        if "'name'" in str(caught.value) and "update" not in name and name not in OF_ROWS:
            assert "name_index.find(value)" in str(caught.value), name
    assert models.Patient.objects.get().name == "Ada"


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


def test_values_opens_what_is_bound_to_no_row(models: Any) -> None:
    from sealwax.django import SealedFieldError, get_records

    made = patient(models, notes="hello")
    with pytest.raises(SealedFieldError, match=r"records.scope\(clinic="):
        list(models.Patient.objects.values_list("notes"))
    with get_records().scope(clinic=str(made.clinic_id)):
        assert list(models.Patient.objects.values_list("notes", "ward")) == [("hello", "")]
        assert models.Patient.objects.values("notes").get() == {"notes": "hello"}
    for query in (models.Patient.objects.values("name"), models.Patient.objects.values_list("ward", "name")):
        with pytest.raises(SealedFieldError, match="bound to its row"):
            list(query)
