"""A range that leaves the plaintext: its start is an error, its end is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import PURPOSE, K, Keys, Run

SIZE = 40_000


@pytest.fixture
def data(here: Path, keys: Keys) -> bytes:
    """The content of a.swx; b.swx holds three bytes, and c.swx none."""
    data = os.urandom(SIZE)
    for name, content in (("a.swx", data), ("b.swx", b"abc"), ("c.swx", b"")):
        (here / name).write_bytes(keys.sealer(keys.demo).encrypt(content, context={"purpose": "backup"}))
    return data


@pytest.mark.parametrize(
    ("name", "bounds", "size"),
    [
        ("a.swx", "40001:", SIZE),
        ("a.swx", "99999:999999999999999999", SIZE),
        ("a.swx", "40001:40001", SIZE),
        ("b.swx", "4:5", 3),
        ("c.swx", "1:", 0),
    ],
)
@pytest.mark.usefixtures("data")
def test_a_start_beyond_the_end_is_an_error(
    run: Run, here: Path, capfd: pytest.CaptureFixture[str], name: str, bounds: str, size: int
) -> None:
    (here / "kept").write_bytes(b"as it was")
    before = set(os.listdir(here))
    for output in ("out", "-", "kept"):
        more = ("--force",) if output == "kept" else ()
        assert run("decrypt", *K, *PURPOSE, *more, "--range", bounds, "-o", output, name) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert f"byte {bounds.partition(':')[0]}," in err
        assert f"{size} byte" in err
    assert set(os.listdir(here)) == before
    assert (here / "kept").read_bytes() == b"as it was"


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ("39990:40001", True),
        (":50000", True),
        ("40000:40001", True),
        ("39990:40000", False),
        ("39990:", False),
        ("40000:", False),
        ("0:0", False),
    ],
)
def test_an_end_beyond_the_end_is_told(
    run: Run, here: Path, data: bytes, capfd: pytest.CaptureFixture[str], bounds: str, told: bool
) -> None:
    assert run("decrypt", *K, *PURPOSE, "--range", bounds, "-o", "out", "a.swx") == 0
    start, end = (int(bound) if bound else None for bound in bounds.split(":"))
    assert (here / "out").read_bytes() == data[start:end]
    err = capfd.readouterr().err
    assert ("has only 40000 bytes" in err) == told, err
    assert (f"byte {end}" in err) == told
    assert run("decrypt", "-q", *K, *PURPOSE, "--force", "--range", bounds, "-o", "out", "a.swx") == 0
    assert capfd.readouterr().err == ""


def test_one_that_is_too_short_does_not_stop_the_others(
    run: Run, here: Path, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("decrypt", *K, *PURPOSE, "--range", "4:9", "-o", "out/", "a.swx", "b.swx", "c.swx") == 8
    assert os.listdir(here / "out") == ["a"]
    assert (here / "out" / "a").read_bytes() == data[4:9]
    assert capfd.readouterr().err.count("the range starts") == 2
