"""Folders within folders, more than Python can call functions within functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sealwax.stores._files import FileStore
from tests.cli.conftest import PURPOSE, K, Run

# Linux takes paths of 4,095 bytes.
DEPTH: Final = 1010
BELOW: Final = "/".join("d" * DEPTH)
LEFT: Final = ".sealwax-0123456789abcdef.part"


@pytest.fixture
def deep(here: Path) -> Iterator[Path]:
    """A file, a link and what a killed process left, in the last of many folders, and a file beside the first."""
    assert sys.getrecursionlimit() < DEPTH
    root = here / "in"
    root.mkdir()
    (root / "z.bin").write_bytes(b"first")
    _make(root)
    last = f"{root}/{BELOW}"
    for name in ("a.bin", LEFT):
        Path(last, name).write_bytes(b"last")
    yield root
    # What removes the folders of tests calls itself for each.
    for name in os.listdir(here):
        _remove(here / name)


def _make(root: Path) -> None:
    place = str(root)
    for _ in range(DEPTH):
        place += "/d"
        os.mkdir(place)


def _remove(root: Path) -> None:
    for depth in range(DEPTH, 0, -1):
        place = str(root) + "/d" * depth
        if os.path.isdir(place):
            for name in os.listdir(place):
                os.unlink(f"{place}/{name}")
            os.rmdir(place)


def test_a_deep_tree_is_encrypted(run: Run, deep: Path) -> None:
    os.unlink(f"{deep}/{BELOW}/{LEFT}")
    assert run("encrypt", "-r", *K, *PURPOSE, "-o", "out", "in") == 0
    assert Path(f"out/{BELOW}/a.bin.swx").exists()
    assert Path("out/z.bin.swx").exists()


def test_a_link_deep_below_is_told_and_not_followed(run: Run, deep: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.unlink(f"{deep}/{BELOW}/{LEFT}")
    os.symlink(deep.parent, f"{deep}/{BELOW}/link")
    assert run("encrypt", "-r", *K, *PURPOSE, "-o", "out", "in") == 8
    assert "it is a link to a folder" in capfd.readouterr().err


def test_a_store_finds_what_is_deep_below(deep: Path) -> None:
    os.symlink("nowhere", f"{deep}/{BELOW}/link")
    store = FileStore(deep)
    assert [entry.name for entry in store.leftovers(-60)] == [f"{deep}/{BELOW}/{LEFT}"]
    assert list(store.links()) == [f"{deep}/{BELOW}/link"]


def test_an_output_in_many_new_folders_is_made(run: Run, here: Path, deep: Path) -> None:
    assert deep.is_dir()
    (here / "a.bin").write_bytes(b"one")
    (here / "b.bin").write_bytes(b"two")
    assert run("encrypt", *K, *PURPOSE, "-o", f"new/{BELOW}", "a.bin", "b.bin") == 0
    assert sorted(os.listdir(f"new/{BELOW}")) == ["a.bin.swx", "b.bin.swx"]


def test_a_lab_deep_below(here: Path, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert run("lab", "create-key", "--lab", f"{here}/lab/{BELOW}") == 1
        assert "its path is longer than the 512 bytes that SQLite takes" in capfd.readouterr().err
    finally:
        _remove(here / "lab")
