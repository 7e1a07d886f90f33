"""The setting SEALWAX: what it makes, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

RIGHT = {"KMS_KEY": "alias/shop", "SCOPE": {"app": "shop"}}


def tenant() -> dict[str, str]:
    return {"tenant": "acme"}


def nothing() -> None:
    pass


def test_records_are_made_once(project: Path) -> None:  # noqa: ARG001
    from django.test import override_settings

    from sealwax.django import get_records

    with override_settings(SEALWAX={**RIGHT, "LOCAL_SCOPE": ("tenant",), "OPTIONS": {"max_age": 60.0}}):
        records = get_records()
        assert get_records() is records
        assert repr(records) == "<Records of app=shop>"
        assert repr(records.store) == "<DjangoKeys default>"
        assert records.max_age == 60.0
    assert get_records() is not records
    with pytest.raises(ValueError, match="closed"):
        records.field("x", row=int, tenant="acme")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (None, 'SEALWAX = {"KMS_KEY"'),
        ({}, 'lacks "KMS_KEY"'),
        ({"KMS_KEY": "alias/shop"}, 'lacks "SCOPE"'),
        ({**RIGHT, "SCOPES": {}}, "unknown key 'SCOPES'"),
        ({"RECORDS": "tests.django.missing.make"}, "missing"),
        ({"RECORDS": "tests.django.test_settings.nothing"}, "returned NoneType"),
    ],
)
def test_a_wrong_setting_is_named(project: Path, setting: Any, message: str) -> None:  # noqa: ARG001
    from django.core.exceptions import ImproperlyConfigured
    from django.test import override_settings

    from sealwax.django import get_records

    with override_settings(SEALWAX=setting), pytest.raises(ImproperlyConfigured) as caught:
        get_records()
    assert message in str(caught.value)


def test_a_function_gives_the_scope_of_the_request(models: Any) -> None:
    from django.conf import settings

    from sealwax.django import get_records
    from sealwax.django._settings import current_pairs

    made = models.Everything.objects.create(text="of none")
    setting = {**settings.SEALWAX, "CURRENT_SCOPE": "tests.django.test_settings.tenant"}
    records = get_records()
    settings.SEALWAX, before = setting, settings.SEALWAX  # not override_settings, which would end these Records
    try:
        assert current_pairs(records) == {"tenant": "acme"}
        with records.scope(tenant="other"):
            assert current_pairs(records) == {"tenant": "other"}
        of_acme = models.Everything.objects.create(text="of acme")
        assert models.Everything.objects.get(pk=of_acme.pk).text == "of acme"
    finally:
        settings.SEALWAX = before
    assert models.Everything.objects.get(pk=made.pk).text == "of none"
    with records.scope(tenant="acme"):
        assert models.Everything.objects.get(pk=of_acme.pk).text == "of acme"
