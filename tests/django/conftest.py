"""The project, set up once in a process: each test begins without rows, in a database of each kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.records.conftest import database, mariadb, postgresql

__all__ = ["database", "mariadb", "postgresql"]

_SERVERS = ("postgresql", "mariadb")
# Of Django's own, whose rows are made by `migrate`.
_KEPT = {"django_migrations", "django_content_type", "auth_permission"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts a server to `make test`; `make quick` has the tests with SQLite."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if item.path.parent == Path(__file__).parent and any(server in parameters for server in _SERVERS):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project, whose databases are files of SQLite there."""
    folder = tmp_path_factory.mktemp("clinic")
    os.environ.update(CLINIC_FOLDER=str(folder), DJANGO_SETTINGS_MODULE="tests.django.settings")
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    import django

    django.setup()
    setup_test_environment()
    for alias in ("default", "other"):
        call_command("migrate", database=alias, verbosity=0)
    return folder


@pytest.fixture(scope="session")
def migrated(project: Path) -> set[str]:  # noqa: ARG001
    """The servers whose tables are made."""
    return set()


@pytest.fixture(scope="session", params=["sqlite", *_SERVERS])
def server(request: pytest.FixtureRequest, project: Path, migrated: set[str]) -> Iterator[str]:  # noqa: ARG001
    """Each kind of database, as the project's default one."""
    from django.core.management import call_command

    from tests.django.databases import in_settings, settings_of, with_unicode

    if request.param == "sqlite":
        yield request.param
        return
    settings = settings_of(request.getfixturevalue(request.param))
    with in_settings("default", settings if request.param == "postgresql" else with_unicode(settings)):
        if request.param not in migrated:
            call_command("migrate", verbosity=0)
            migrated.add(request.param)
        yield request.param


@pytest.fixture
def models(server: str) -> Iterator[Any]:  # noqa: ARG001
    """The models of the project, without rows, and with data keys of their own."""
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
        _delete_rows(connections[alias])


def _delete_rows(connection: Any) -> None:
    """Delete all rows; `flush` would write them into files one table after another, which takes longer than a test."""
    from django.db import transaction

    connection.close()  # a test may have left it in a transaction
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - _KEPT
    with connection.constraint_checks_disabled(), transaction.atomic(using=connection.alias):
        for table in sorted(tables):
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
    connection.close()
