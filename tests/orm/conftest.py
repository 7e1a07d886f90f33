"""A Records for the models, and the databases of the tests of records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sealwax import Records
from sealwax.records import MemoryKeys
from sealwax.sqlalchemy import use_records
from tests.fakes import FakeKeyring
from tests.orm.models import Base
from tests.records.conftest import database as database
from tests.records.conftest import mariadb as mariadb
from tests.records.conftest import postgresql as postgresql


@pytest.fixture
def records() -> Iterator[Records]:
    with Records(FakeKeyring(), MemoryKeys(), scope={"app": "shop"}) as made:
        use_records(Base.metadata, made)
        yield made


@pytest.fixture
def engine(database: str, records: Records) -> Iterator[sa.Engine]:  # noqa: ARG001
    made = sa.create_engine(database)
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    try:
        yield made
    finally:
        made.dispose()
