"""Whoever may read a file can lock it for as long as he likes: nothing waits for that without end."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sealwax
from sealwax._core import files
from sealwax.stores._files import FileStore
from tests.fakes import ALPHA, BETA, FakeKeyring

CONTEXT = {"purpose": "waits"}
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def sealer() -> sealwax.Sealer:
    return sealwax.Sealer(FakeKeyring(ALPHA, allowed=[ALPHA, BETA]))


@pytest.fixture(params=[100, 1 << 20], ids=["one slot", "two slots"])
def path(request: pytest.FixtureRequest, tmp_path: Path, sealer: sealwax.Sealer) -> Path:
    path = tmp_path / "file.swx"
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(bytes(request.param))
    return path


class Clock:
    """Goes on by what is slept, and at once.

    Attributes:
        seconds: since it was last set to 0.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.clock_gettime", lambda _: clock.seconds)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


@pytest.fixture(params=[fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["exclusive", "shared"])
def held(request: pytest.FixtureRequest, path: Path) -> Iterator[int]:
    """A lock of somebody who may only read."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, request.param)
    yield descriptor
    os.close(descriptor)


WAYS: dict[str, tuple[Callable[[sealwax.Sealer, Path], object], float]] = {
    "rewrap": (lambda sealer, path: sealer.rewrap(path, to=BETA, context=CONTEXT), 10),
    "reencrypt": (lambda sealer, path: sealer.reencrypt(path, context=CONTEXT), 10),
    "rewrap in a store": (
        lambda sealer, path: FileStore(path.parent).rewrap(str(path), sealer.rewrapper(to=BETA, context=CONTEXT)),
        1,
    ),
    "replace in a store": (
        lambda sealer, path: FileStore(path).replace(str(path), sealer.reencryptor(lambda _: CONTEXT)),
        1,
    ),
}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("way", WAYS)
def test_a_lock_that_is_held_is_not_waited_for_without_end(
    way: str, path: Path, sealer: sealwax.Sealer, clock: Clock
) -> None:
    act, seconds = WAYS[way]
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(
        sealwax.FileError, match=rf"has held it for {seconds} seconds; wait .* or end it \('fuser"
    ) as got:
        act(sealer, path)
    assert isinstance(got.value.__cause__, BlockingIOError)
    assert str(path) in str(got.value)
    assert seconds <= clock.seconds < seconds + 1
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert os.listdir(path.parent) == ["file.swx"]
    assert sealer.verify(path, context=CONTEXT) > 0


def test_a_lock_that_is_given_back_in_time(
    path: Path, held: int, sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            fcntl.flock(held, fcntl.LOCK_UN)

    monkeypatch.setattr("time.sleep", sleep)
    sealer.rewrap(path, to=BETA, context=CONTEXT)
    assert len(pauses) == 3
    assert [key.key_arn for key in sealwax.inspect(path).wrapped_keys] == [BETA]


def test_a_file_that_is_replaced_each_time_is_not_followed_without_end(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody puts another one in its place whenever it is about to be locked."""
    real, rounds = fcntl.flock, 0

    def flock(descriptor: int, how: int) -> None:
        nonlocal rounds
        rounds += 1
        clock.sleep(0.5)
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").replace(path)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(sealwax.FileError, match="locking"):
        files.LockedFile(path)
    assert rounds == 20


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_locked(what: str, tmp_path: Path, sealer: sealwax.Sealer) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/null"), "folder": tmp_path}[what]
    if what == "pipe":
        os.mkfifo(path)
    for act, _ in WAYS.values():
        with pytest.raises(sealwax.FileError):
            act(sealer, path)


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "rb") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_program_and_many_threads(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    """As it is: a program that may only read, and eight threads that all want the file."""
    path = tmp_path / "file.swx"
    path.write_bytes(sealer.encrypt(b"value", context=CONTEXT))
    failures: list[BaseException] = []

    def rewrap() -> None:
        try:
            FileStore(tmp_path).rewrap(str(path), sealer.rewrapper(to=BETA, context=CONTEXT))
        except sealwax.FileError as error:
            failures.append(error)

    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        threads = [threading.Thread(target=rewrap) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failures) == 8
        holder.communicate()
    rewrap()
    assert len(failures) == 8
