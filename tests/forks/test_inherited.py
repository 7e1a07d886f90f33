"""What lives over a fork, one by one: the child has connections and locks of its own, or is told why it is stopped."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.forks.servers import program, serving

# What each case of the program has to tell; "status" is the child's.
WELL: Final = {"text": "a value", "status": 0}
ALONE: Final = WELL | {"shared": [], "own": 1, "parent": "a value", "kept": True, "descriptors": 2}
CASES: Final[dict[str, dict[str, Any]]] = {
    "client": ALONE,
    "proxy": ALONE,
    "adaptive": ALONE,
    "in C": ALONE,
    "cache in C": {"status": 0, "same": False, "parent": True},
    "met before": WELL | {"shared": []},
    "met in the child": WELL | {"shared": []},
    "caching session": WELL | {"shared": []},
    "foreign": {"status": 0, "parent": "a value", "raised": "ConfigurationError: KMS was not called"},
    "foreign session": {"status": 0, "raised": "ConfigurationError: KMS was not called"},
    "refreshing client": WELL | {"shared": [], "parent": "a value"},
    "refreshing session": WELL | {"shared": [], "parent": "a value"},
    "flight": WELL | {"parent": "a value"},
    "batch": WELL | {"parent": 200, "raised": "ValueError: a batch that was running when the process was forked"},
    "upload": WELL | {"refused": 2, "parent": True},
    "lab": WELL | {"parent": "a value"},
    "shared limit": WELL | {"open": 0, "parent": "a value"},
}


OVER_TLS: Final = ("client", "refreshing session")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each case has told, all of them in two programs."""
    found: dict[str, Any] = {}
    for tls in (False, True):
        folder = tmp_path_factory.mktemp("inherited")
        with serving(folder, s3=not tls, tls=tls) as environment:
            cases = [case for case in CASES if (case in OVER_TLS) is tls]
            done = program(["-m", "tests.forks.inherited", *cases], environment | {"FOLDER": str(folder)})
        assert done.returncode == 0, done.stderr
        found |= dict(json.loads(line) for line in done.stdout.splitlines())
    return found


@pytest.mark.parametrize("case", CASES)
def test_in_the_child_and_in_the_parent(told: dict[str, Any], case: str) -> None:
    found = dict(told[case])
    if "raised" in found:
        found["raised"] = found["raised"][: len(CASES[case].get("raised", "nothing is raised"))]
    assert found == CASES[case]
