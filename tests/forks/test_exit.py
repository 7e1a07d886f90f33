"""What is sealed while the interpreter ends is sealed: by handlers, threads, finalizers, tasks, in files and S3."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import boto3
import pytest

import sealwax
from sealwax.stores import s3
from tests.forks.servers import NEAR, SECRET, program, serving

CONTEXT: Final = {"purpose": "exit"}
LARGE: Final = b"a large file " * (1 << 20)
BEFORE: Final = b"before"
# What each situation seals; see the program.
SITUATIONS: Final[dict[str, bytes]] = {
    "memory handler": b"memory handler",
    "registered before": b"registered before",
    "registered after": b"registered after",
    "first use": b"first use",
    "uncached": b"uncached",
    "thread": b"thread",
    "executor": b"executor",
    "finalizer": b"finalizer",
    "asyncio": b"asyncio",
    "many": b"many",
    "many back": BEFORE,
    "independent keys": b"independent keys",
    "hedged": b"hedged",
    "file": LARGE,
    "file in a task": LARGE,
    "object": LARGE,
    "copied object": LARGE,
}


class Session:
    """A session as the program's, with its settings from here and not from the environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._session = boto3.Session("AKIDEXAMPLE", SECRET, region_name=NEAR)

    @property
    def region_name(self) -> str:
        return NEAR

    def client(self, service_name: Any, **settings: Any) -> Any:
        url = self._environment[f"AWS_ENDPOINT_URL_{service_name.upper()}"]
        return self._session.client(service_name, endpoint_url=url, **settings)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The plaintext of what each situation sealed, or its error."""
    folder = tmp_path_factory.mktemp("exit")
    with serving(folder, s3=True) as environment:
        done = program(["-m", "tests.forks.at_exit", str(folder / "told")], environment)
        assert (done.returncode, done.stderr) == (0, "")
        keys = ["alias/demo", environment["MULTI_REGION_KEY"], environment["INDEPENDENT_KEYS"].split()[0]]
        session = Session(environment)
        sealer = sealwax.Sealer(sealwax.KmsKeyring(keys, decrypt_with=keys, session=session))
        service = s3.Service(session)

        def open_object(name: str) -> bytes:
            with s3.ObjectReader(name, service=service) as place:
                return sealer.decrypt(place.read(), context=CONTEXT)

        def open_file(name: str) -> bytes:
            return sealer.decrypt(Path(name).read_bytes(), context=CONTEXT)

        by_name: dict[str, Callable[[str], bytes]] = {
            "file": open_file,
            "file in a task": open_file,
            "object": open_object,
            "copied object": open_object,
        }
        found: dict[str, Any] = {}
        for line in (folder / "told").read_text().splitlines():
            situation, outcome, *error = json.loads(line)
            if error:
                found[situation] = error[0]
            elif situation == "keys left":
                found[situation] = int(bytes.fromhex(outcome))
            elif situation in by_name:
                found[situation] = by_name[situation](bytes.fromhex(outcome).decode())
            else:
                found[situation] = sealer.decrypt(bytes.fromhex(outcome), context=CONTEXT)
        return found


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_sealed_at_exit_is_sealed(outcomes: dict[str, Any], situation: str) -> None:
    assert outcomes[situation] == SITUATIONS[situation]


def test_no_key_is_kept_at_exit_and_no_situation_is_forgotten(outcomes: dict[str, Any]) -> None:
    assert outcomes.pop("keys left") == 0
    assert outcomes.keys() == SITUATIONS.keys()


def test_what_seals_when_the_modules_are_taken_apart_does_not_hang() -> None:
    """Five times, since whether the thread that wipes holds the lock at that moment is a matter of chance: mostly."""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-m", "tests.forks.at_teardown"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
