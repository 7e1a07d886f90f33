"""Two runs in one process share nothing: neither options, nor sessions, nor what has been read."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.test_workers import slow
from tests.s3 import StrictS3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.bucket()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def regions(s3: StrictS3) -> set[str]:
    """The Regions that requests were signed for since the last call."""
    signed = {re.search(r"Credential=[^/]+/\d+/([^/]+)/", each.headers["authorization"]) for each in s3.requests}
    s3.forget()
    return {match[1] for match in signed if match}


def test_each_run_uses_its_own_region(run: Run, keys: Keys, s3: StrictS3, capfd: pytest.CaptureFixture[str]) -> None:
    s3.client().put_object(Bucket="bucket", Key="a.swx", Body=keys.sealer(keys.demo).encrypt(b"a", context={"a": "b"}))
    s3.forget()
    for region in ("eu-west-1", "us-west-2", "eu-west-1"):
        assert run("inspect", "--region", region, "s3://bucket/a.swx") == 0
        assert regions(s3) == {region}
    assert run("inspect", "s3://bucket/a.swx") == 0
    assert regions(s3) == {"us-east-1"}
    assert capfd.readouterr().err == ""


def test_quiet_ends_with_its_run(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a").write_bytes(b"data")
    assert run("encrypt", "-q", *K, *PURPOSE, "a") == 0
    assert capfd.readouterr().err == ""
    assert run("completion", "bash") == 0
    assert "to install it" in capfd.readouterr().err


def test_a_pipe_of_one_run_is_not_that_of_another(run: Run) -> None:
    os.mkfifo("pipe")
    for _ in range(2):
        writer = threading.Thread(target=Path("pipe").write_bytes, args=[b"data"])
        writer.start()
        assert run("encrypt", *K, *PURPOSE, "--force", "-o", "a.swx", "pipe") == 0
        writer.join()


def test_threads_belong_to_their_run(run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(12):
        Path(f"in/{number:02}").write_bytes(keys.sealer(keys.demo).encrypt(b"a", context={"a": "b"}))
    with slow(keys):
        for loud, count in (("-q",), 0), (("-v",), 12):
            assert run("encrypt", *loud, *K, *PURPOSE, "-r", "--force", "-o", "out", "in") == 0
            assert capfd.readouterr().err.count("already an envelope") == count
