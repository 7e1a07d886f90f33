"""A fleet whose files somebody has locked who may only read them, and one whose KMS does not answer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax import fleet
from tests.cli.conftest import Keys
from tests.cli.shell import Shell

# More than a test may take, and far less than what is waited for here where nothing ends it.
PATIENCE = 300


@pytest.fixture
def files(shell: Shell, keys: Keys) -> list[Path]:
    """Eight envelopes, and the plan to re-wrap them."""
    sealer = keys.sealer(keys.demo)
    contexts = fleet.Contexts((("purpose", "fleet"),))
    made = [shell.write(f"data/{at:02}.swx", sealer.encrypt(b"value", context={"purpose": "fleet"})) for at in range(8)]
    fleet.plan(
        shell.folder / "p",
        [str(shell.folder / "data")],
        sources=[keys.demo],
        to=[keys.demo2],
        contexts=contexts,
        session=keys.lab.session(),
    )
    return made


@contextlib.contextmanager
def locked(files: list[Path]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the status and the errors of a process that ends by itself."""
    try:
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, err.decode()


def test_what_is_locked_is_left_and_done_later(shell: Shell, keys: Keys, files: list[Path]) -> None:
    with locked(files[:2]):
        done = fleet.run(shell.folder / "p", session=keys.lab.session())
    assert (done.rewrapped, done.count("left"), done.failed, done.ended) == (6, 2, 0, "")
    reasons = [reason for _, state, reason in fleet.problems(shell.folder / "p") if state == "left"]
    assert len(reasons) == 2
    assert all("another program has held it for 1 seconds" in reason for reason in reasons)
    done = fleet.run(shell.folder / "p", session=keys.lab.session())
    assert (done.rewrapped, done.stale) == (2, 0)


@pytest.mark.parametrize("how", ["--max-duration", "a signal"])
def test_a_run_that_waits_for_locks_ends_when_it_is_to(how: str, shell: Shell, files: list[Path]) -> None:
    more = ("--max-duration", "1s") if how == "--max-duration" else ()
    with (
        locked(files),
        shell.start("fleet", "run", "p", "--apply", "--workers", "1", *more, stdout=subprocess.DEVNULL) as process,
    ):
        if how == "a signal":
            while not (shell.folder / "p.lock").exists():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        status, err = ended(process)
    assert status == 8, err
    assert ("its time is up" if how == "--max-duration" else "it was stopped") in err


def test_a_second_signal_does_not_wait_for_kms(shell: Shell, keys: Keys, files: list[Path]) -> None:
    keys.lab.faults.add("us-east-1", "latency", 2 * PATIENCE * 1000, operation="ReEncrypt", code=None, seed=0)
    try:
        with shell.start("fleet", "run", "p", "--apply", stdout=subprocess.DEVNULL) as process:
            descriptor = os.open(files[0], os.O_RDONLY)
            with contextlib.suppress(BlockingIOError):  # a run has it locked while it asks KMS
                while process.poll() is None:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                    time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            while b"press Ctrl-C again to stop at once" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            status, err = ended(process)
            os.close(descriptor)
    finally:
        keys.lab.faults.clear("us-east-1", None)
    assert (status, err) == (130, "")
    assert fleet.run(shell.folder / "p", session=keys.lab.session()).rewrapped == 8
