"""Spark on this machine, once for all tests of a worker, with a scratch folder that goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from tests.spark.local import start

_LEFT_OPEN = r"ignore:unclosed <socket.socket .*raddr=\('127.0.0.1', \d+\)>:ResourceWarning"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    session = start(tmp_path_factory.mktemp("spark"), cores=2)
    yield session
    session.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let PySpark 3.5 leave the sockets to the JVM, which it collects through, to the garbage collector.

    It says so itself, in ``_load_from_socket``; PySpark 4 closes them.
    """
    if pyspark.__version__.startswith("3."):
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.filterwarnings(_LEFT_OPEN))
