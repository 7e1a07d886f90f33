"""An account for the tests of a worker. Each of them leaves it as it was, or fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from sealwax import cli
from sealwax._aws.session import Session
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.plan import Names
from sealwax._rehearse.run import Told
from sealwax._rehearse.state import Folder, Run
from sealwax._rehearse.world import AccountReach, AwsReach, World
from tests.rehearse.account import ACCOUNT, REGIONS, Account, account, reset

REGION_OPTIONS = ("--region", REGIONS[0], "--region", REGIONS[1])
EMPTY: dict[str, list[str]] = {"keys": [], "aliases": [], "buckets": [], "roles": []}
QUIET = Told(lambda _: None, lambda _: None, lambda _: None, lambda _done, _of: None)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account(tmp_path_factory.mktemp("aws")) as it:
        reset(it.url)
        yield it


@pytest.fixture
def aws(served: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """The account, reached as the environment says, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    served.calls.clear()
    yield served
    served.before = lambda _call: None
    served.changes.clear()


def run(*words: str) -> int:
    return cli.run(("rehearse", *REGION_OPTIONS, *words))


@dataclass
class Reached:
    """The account, by sessions that call something after each answer."""

    after: Callable[[str, Any], None] = lambda _operation, _answer: None
    opened: dict[str, boto3.Session] = field(default_factory=dict)

    @property
    def reach(self) -> AccountReach:
        return AwsReach(self._open, self._watch)

    def _open(self, region: str) -> Session:
        if region not in self.opened:
            self.opened[region] = boto3.Session(region_name=region)
            self._watch(self.opened[region])
        return self.opened[region]

    def _watch(self, session: boto3.Session) -> None:
        def received(event_name: str, parsed_response: Any, **_: object) -> None:
            self.after(event_name.rpartition(".")[2], parsed_response)

        session.events.register("response-received", received)


@contextlib.contextmanager
def world(folder: Path, reached: Reached) -> Iterator[tuple[World, Folder]]:
    """Yield the world of a new run, of which nothing is made, and its folder."""
    with Folder(folder) as place:
        new = Run(Names.new().run, ACCOUNT, REGIONS)
        work = place.work(new)
        work.mkdir()
        place.save(new)
        yield World(new, reached.reach, Masks(), work), place
