"""Spark on this machine, once for all tests of a worker, with a scratch folder that goes with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.spark.local import start


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    session = start(tmp_path_factory.mktemp("spark"), cores=2)
    yield session
    session.stop()
