"""The databases, started once for each worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.records import servers

_SERVERS = ("postgresql", "mariadb")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts a server to `make test`; `make quick` has the tests with SQLite."""
    for item in items:
        if item.path.parent != Path(__file__).parent:
            continue
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(server in item.fixturenames or server in parameters for server in _SERVERS):  # type: ignore[attr-defined]
            item.add_marker("slow")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/keys.db"
    url: str = request.getfixturevalue(request.param)
    return url
