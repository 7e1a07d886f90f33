"""Children that are forked while the parent's threads seal: nothing is lost, nobody hangs, over HTTP and over TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forks.servers import LATENCY_MILLISECONDS, run, serving

ROUNDS, CHILDREN = 3, 4


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_children_and_parent_lose_nothing(tmp_path: Path, tls: bool) -> None:
    with serving(tmp_path, tls=tls, s3=True, latency=LATENCY_MILLISECONDS) as environment:
        told = run(["-m", "tests.forks.children", str(ROUNDS), str(CHILDREN)], environment)
    assert told["statuses"] == [0] * ROUNDS * CHILDREN
    assert (told["errors"], told["lost"], told["threads"]) == ([], [], 0)
    # One child of each round has a child of its own.
    sealed_by_children = ROUNDS * (CHILDREN + 1)
    assert told["counts"]["object"] > sealed_by_children
    for kind in ("client", "the same client", "cache", "session", "refreshing", "Regions"):
        assert told["counts"][kind] > 2 * sealed_by_children, kind


def test_a_child_is_free_of_every_lock_that_a_thread_of_its_parent_holds(tmp_path: Path) -> None:
    with serving(tmp_path, s3=True) as environment:
        told = run(["-m", "tests.forks.every_lock"], environment)
    assert (told["status"], told["errors"], told["parent"]) == (0, [], [])
    # What is not reached is not used either: what OpenTelemetry shows before it has a provider, and old pools.
    still_held = {name for name in told["held"] if not name.startswith("opentelemetry.")}
    assert still_held <= {"urllib3._collections.RecentlyUsedContainer.lock"}
    assert told["locks"] > 90
    rooms = {name.partition(".")[0] for name in told["owners"]}
    assert rooms == {"botocore", "opentelemetry", "queue", "sealwax", "urllib3"}
    assert sum(name.startswith("sealwax.") for name in told["owners"]) >= 8
