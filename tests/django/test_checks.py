"""What manage.py check finds."""

from __future__ import annotations

import ast
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.records import UNBOUND


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
    for field, normalize, found in (
        (d.DecimalField(max_digits=5, decimal_places=2), "exact/1", ["sealwax.E014"]),
        (d.DateTimeField(), "exact/1", ["sealwax.E014"]),
        (d.BooleanField(), "exact/1", ["sealwax.E014"]),
        (d.JSONField(), "exact/1", ["sealwax.E014"]),
        (d.IntegerField(), "digits/1", ["sealwax.E014"]),
        (d.DateField(), "exact/1", []),
        (d.IntegerField(), "exact/1", []),
        (d.EmailField(), "email/1", []),
    ):
        sealed: Any = Sealed(field, row="id")
        assert checked({**key, "x": sealed, "i": IndexOf("x", normalize=normalize, bits=8)}) == found


def test_a_key_that_the_database_makes_is_no_row(models: Any) -> None:
    from sealwax.django import SealedFieldError

    made = models.Everything(text="x", text_key=None)
    made.big = 1
    with pytest.raises(SealedFieldError, match="has no value yet"):
        made.save()


def test_what_a_database_would_make_of_values_is_found(models: Any) -> None:  # noqa: ARG001
    from django.db import models as d
    from django.db.models import F, Q
    from django.db.models.functions import Lower

    from sealwax.django import Sealed

    key: dict[str, Any] = {"id": d.UUIDField(primary_key=True, default=uuid.uuid4)}

    def fields() -> dict[str, Any]:
        return {**key, "x": Sealed(d.CharField(max_length=9), row="id"), "y": d.TextField(), "z": d.DateField()}

    wrong: list[dict[str, Any]] = [
        {"ordering": [F("x").desc()]},
        {"ordering": [Lower("x")]},
        {"get_latest_by": "x"},
        {"get_latest_by": ["-y", "-x"]},
        {"unique_together": [("x", "y")]},
        {"indexes": [d.Index(Lower("x"), name="i")]},
        {"indexes": [d.Index(fields=["y"], include=["x"], name="i")]},
        {"indexes": [d.Index(fields=["y"], condition=Q(x="a"), name="i")]},
        {"constraints": [d.UniqueConstraint(Lower("x"), name="u")]},
        {"constraints": [d.UniqueConstraint(fields=["y"], condition=~Q(x__startswith="a"), name="u")]},
        {"constraints": [d.CheckConstraint(condition=Q(x="a") | Q(y="b"), name="c")]},
        {"constraints": [d.CheckConstraint(condition=Q(y=F("x")), name="c")]},
    ]
    for meta in wrong:
        assert checked(fields(), **meta) == ["sealwax.E005"], meta
    right: list[dict[str, Any]] = [
        {"ordering": ["y"], "get_latest_by": "y", "unique_together": [("y", "z")]},
        {"constraints": [d.CheckConstraint(condition=Q(x__isnull=False) | Q(x=None, y="x"), name="c")]},
        {"indexes": [d.Index(fields=["y"], condition=Q(x__isnull=True), name="i")]},
    ]
    for meta in right:
        assert checked(fields(), **meta) == [], meta
    generated = d.GeneratedField(expression=Lower("x"), output_field=d.TextField(), db_persist=True)
    assert checked({**fields(), "g": generated}) == ["sealwax.E005"]
    assert checked({**fields(), "w": d.CharField(max_length=1, unique_for_date="x")}) == ["sealwax.E005"]


def test_what_on_delete_would_change_is_no_tenant(models: Any) -> None:
    from django.db import models as d

    from sealwax.django import UNBOUND, Sealed

    for on_delete, found in ((d.SET_NULL, ["sealwax.E009"]), (d.SET_DEFAULT, ["sealwax.E009"]), (d.PROTECT, [])):
        link: Any = d.ForeignKey(models.Clinic, on_delete=on_delete, null=True, default=None, related_name="+")
        text: Any = Sealed(d.TextField(), row=UNBOUND, scope={"clinic": "link"})
        assert checked({"link": link, "x": text}) == found


def test_a_text_row_of_mysql_has_one_spelling(models: Any, server: str) -> None:  # noqa: ARG001
    from django.db import models as d

    from sealwax.django import Sealed

    warned = ["sealwax.W001"] if server == "mariadb" else []

    def with_row(**options: Any) -> list[str]:
        code: Any = d.CharField(primary_key=True, max_length=9, **options)
        return checked({"code": code, "x": Sealed(d.TextField(), row="code")})

    assert with_row() == warned
    assert with_row(db_collation="utf8mb4_bin") == []


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_admins_are_checked(models: Any) -> None:
    import gc

    from django.contrib import admin
    from django.core.checks import run_checks

    from sealwax.django.admin import SealedAdmin
    from tests.django.hospital.models import Person, Visit

    def found(model: Any, base: Any, **options: Any) -> list[str]:
        site = admin.AdminSite("checked")
        site.register(model, type("Checked", (base,), options))
        messages = run_checks(tags=["admin"])
        del site  # they are all kept weakly
        gc.collect()
        return [str(each.id) for each in messages if str(each.obj).endswith("Checked'>")]

    assert found(Person, SealedAdmin, search_fields=["mail_index", "badge"], list_filter=["badge"]) == []
    assert found(Person, admin.ModelAdmin) == ["sealwax.W002"]
    assert found(models.Clinic, admin.ModelAdmin, search_fields=["title"]) == []
    assert found(models.Clinic, admin.ModelAdmin, search_fields=["patient__name"]) == ["sealwax.E010"]
    for option in ("search_fields", "list_filter", "ordering"):
        assert found(Person, SealedAdmin, **{option: ["name"]}) == ["sealwax.E010"]
        assert found(Visit, SealedAdmin, **{option: ["person__name"]}) == ["sealwax.E010"]
    assert found(Person, SealedAdmin, search_fields=["=name"]) == ["sealwax.E010"]


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_the_project_is_right(models: Any) -> None:  # noqa: ARG001
    from django.core.checks import run_checks

    assert [each for each in run_checks() if str(each.id).startswith("sealwax")] == []


def test_each_id_is_of_one_check() -> None:
    """Whoever silences one by SILENCED_SYSTEM_CHECKS silences no other."""
    made: dict[str, set[str]] = {}
    for path in (Path(sealwax.__file__).parent / "django").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Constant) and re.fullmatch(r"sealwax\.[EW]\d+", str(node.value)):
                        made.setdefault(str(node.value), set()).add(f"{path.name} {function.name}")
    assert len(made) == 17
    assert {name: functions for name, functions in made.items() if len(functions) > 1} == {}
