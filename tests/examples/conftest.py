"""The database of the examples."""

from tests.records.conftest import postgresql as postgresql
