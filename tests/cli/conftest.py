"""A lab with three keys for all tests of a worker, and a shell in an empty folder for each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sealwax
from sealwax import cli
from sealwax.lab import Lab
from tests.cli.shell import SEALWAX, USUAL, Shell
from tests.cli.warm import Warm, warm

PURPOSE = ("-c", "purpose=backup")
K = ("-k", "alias/demo")
Run = Callable[..., int]


@dataclass(frozen=True)
class Keys:
    """The lab, and the ARNs of its keys alias/demo, alias/demo2 and alias/foreign."""

    lab: Lab
    demo: str
    demo2: str
    foreign: str

    def calls(self) -> list[str]:
        """The operations that the lab was asked for so far."""
        return [event.record["eventName"] for event in self.lab.trail.events()]

    def sealer(self, arn: str) -> sealwax.Sealer:
        return sealwax.Sealer(sealwax.KmsKeyring(arn, session=self.lab.session()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts programs to `make test`; `make quick` has the tests that run the program in their process."""
    for item in items:
        if {"shell", "bare_shell"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    with Lab(tmp_path_factory.mktemp("kms") / "lab") as lab:
        yield Keys(lab, *(lab.create_key(alias=alias)["Arn"] for alias in ("demo", "demo2", "foreign")))


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Warm | None]:
    with warm(USUAL) as interpreter:
        yield interpreter


@pytest.fixture
def shell(tmp_path: Path, keys: Keys, interpreter: Warm | None) -> Shell:
    return _shell(tmp_path, {"SEALWAX_LAB": str(keys.lab.path)}, interpreter)


@pytest.fixture
def bare_shell(tmp_path: Path, interpreter: Warm | None) -> Shell:
    """A shell without a lab."""
    return _shell(tmp_path, {}, interpreter)


def _shell(tmp_path: Path, environment: dict[str, str], interpreter: Warm | None) -> Shell:
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Shell(folder, home, environment, warm=interpreter)


@pytest.fixture
def served() -> Iterator[Callable[[Shell], str]]:
    """Start ``sealwax lab serve`` over the lab of a shell's folder; return its URL."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(shell: Shell) -> str:
        process = subprocess.Popen(
            [SEALWAX, "lab", "serve", "--lab", "./lab", "--port", "0"],
            cwd=shell.folder,
            env=shell.environment,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[-1].decode()

    yield serve
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def plain(shell: Shell) -> bytes:
    """The content of a.bin: a few chunks."""
    data = os.urandom(40_000)
    shell.write("a.bin", data)
    return data


@pytest.fixture
def sealed(shell: Shell, plain: bytes, keys: Keys) -> bytes:
    """The content of a.swx, which is a.bin under alias/demo, bound to purpose=backup."""
    data = keys.sealer(keys.demo).encrypt(plain, context={"purpose": "backup"})
    shell.write("a.swx", data)
    return data


@pytest.fixture
def here(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the lab in use."""
    (tmp_path / "home").mkdir()
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEALWAX_LAB", str(keys.lab.path))
    return place


@pytest.fixture
def run(here: Path) -> Run:
    """The program, in this process."""
    assert here.is_dir()

    def run(*arguments: str) -> int:
        return cli.run(arguments)

    return run
