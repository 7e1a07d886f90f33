"""One S3 server for all tests of a worker, with an empty bucket for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3 import StrictS3


@pytest.fixture(scope="session")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


@pytest.fixture
def s3(server: StrictS3) -> StrictS3:
    server.bucket()
    return server
