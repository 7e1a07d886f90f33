"""The project, set up once in a process: its tables are in a folder of the run, and each test begins without rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clinic")
    os.environ.update(CLINIC_FOLDER=str(folder), DJANGO_SETTINGS_MODULE="tests.django.settings")
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    import django

    django.setup()
    setup_test_environment()
    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)
    return Path(folder)


@pytest.fixture
def models(project: Path) -> Iterator[Any]:  # noqa: ARG001
    """The models of the project, without rows, and with data keys of their own."""
    from django.core.management import call_command
    from django.db import connections

    from sealwax.django import get_records
    from sealwax.records import MemoryKeys, Records
    from sealwax.records.testing import override_records
    from tests.django.clinic import models
    from tests.fakes import FakeKeyring

    other = Records(FakeKeyring(), MemoryKeys(), scope={"app": "clinic"})
    with override_records(get_records(), other):
        yield models
    for alias in ("default", "other"):
        call_command("flush", database=alias, interactive=False, verbosity=0)
    connections.close_all()
