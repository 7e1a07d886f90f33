"""The script that finds what the suite needs beyond Python, and says how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import system

SCRIPT = Path(system.__file__)


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def java(folder: Path, version: str) -> Path:
    return program(folder, "bin/java", f"""echo 'openjdk version "{version}" 2025-04-15' >&2""")


def test_java_home_wins_over_the_path(tmp_path: Path) -> None:
    home, path = java(tmp_path / "home", "17.0.15"), java(tmp_path / "path", "21.0.1")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert system.find("java", environment) == home


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.22", "24", "25.0.1"])
def test_a_java_that_spark_cannot_use_is_passed_over(tmp_path: Path, version: str) -> None:
    home, path = java(tmp_path / "home", version), java(tmp_path / "path", "21.0.1")
    environment = {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}
    assert system.find("java", environment) == path != home


def test_a_java_that_only_says_where_to_get_one(tmp_path: Path) -> None:
    program(tmp_path, "home/bin/java", "echo 'version \"17\"' >&2; exit 1")
    path = java(tmp_path / "path", "17")
    assert system.find("java", {"JAVA_HOME": str(tmp_path / "home"), "PATH": str(path.parent)}) == path


@pytest.mark.parametrize(
    ("names", "platform", "known", "expected"),
    [
        (["java", "chromium"], "Darwin", (), "brew install openjdk@17 google-chrome"),
        (
            ["java", "chromium"],
            "Linux",
            ("openjdk-17-jre-headless", "openjdk-21-jre-headless", "chromium"),
            "apt-get install -y --no-install-recommends openjdk-17-jre-headless chromium",
        ),
        (
            ["java"],
            "Linux",
            ("openjdk-21-jre-headless",),
            "apt-get install -y --no-install-recommends openjdk-21-jre-headless",
        ),
    ],
)
def test_the_command(names: list[str], platform: str, known: tuple[str, ...], expected: str) -> None:
    found = system.command_to_install(names, platform, lambda name: name == "apt-get", known.__contains__)
    assert found is not None
    assert " ".join(found) == expected


def test_without_a_package_manager_there_is_no_command() -> None:
    assert system.command_to_install(["java"], "Linux", lambda _: False, lambda _: True) is None


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    program(tmp_path, "chromium", "exit 0")
    program(tmp_path, "apt-get", f"touch {tmp_path}/asked")
    done = subprocess.run([sys.executable, SCRIPT, "chromium"], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "asked").exists()


def test_what_is_missing_is_installed_by_root_and_named_to_others(tmp_path: Path) -> None:
    # apt-get "installs" by writing the program; its package lists know it.
    chromium, copy = tmp_path / "chromium", shutil.which("cp")
    program(
        tmp_path,
        "apt-get",
        f'[ "$1" = install ] || exit 0; echo "$@" > {tmp_path}/asked; {copy} {tmp_path}/apt-get {chromium}',
    )
    program(tmp_path, "apt-cache", "echo '  Candidate: 1'")
    environment = {"PATH": f"{tmp_path}{os.pathsep}/bin"}
    if system.find("chromium", environment) is not None:
        environment["PATH"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, SCRIPT, "chromium"], env=environment, capture_output=True, text=True, check=False
    )
    if os.geteuid() == 0:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "asked").read_text() == "install -y --no-install-recommends chromium\n"
    elif sys.platform == "linux":
        assert done.returncode == 1
        assert "    sudo apt-get install -y --no-install-recommends chromium\n" in done.stderr
