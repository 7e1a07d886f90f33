"""What the suite needs beyond Python: found, or installed if nobody has to be asked, or named with the command to type.

``python tests/system.py java chromium vim`` is what the Makefile runs before there is a virtual environment. Tests call
:func:`find`. On Debian and its kin, root installs with apt-get. Everybody else reads which command it is.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Spark 4 wants Java 17 or newer; Hadoop's libraries below it fail from Java 24 on.
_JAVA = range(17, 24)
_NODE = 18


@dataclass(frozen=True)
class Need:
    """A program.

    Args:
        candidates: where it may be, best first.
        fits: whether a file that is there is the program, and new enough.
        debian: its package in Debian, or several with spaces between; alternatives in order.
        brew: what follows ``brew install`` on macOS.
    """

    what: str
    candidates: Callable[[Mapping[str, str]], Iterator[Path]]
    fits: Callable[[Path], bool]
    debian: tuple[str, ...]
    brew: str


def _java_candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    if home := environment.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    yield from _on_path(environment, "java")
    for pattern in (
        "usr/lib/jvm/*/bin/java",
        "Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java",
        "opt/homebrew/opt/openjdk*/bin/java",
        "usr/local/opt/openjdk*/bin/java",
    ):
        yield from sorted(Path("/").glob(pattern))


def _chromium_candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    yield from _on_path(environment, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    yield from (Path(f"/Applications/{name}.app/Contents/MacOS/{name}") for name in ("Chromium", "Google Chrome"))


def _postgresql_candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    # Debian keeps the servers off the path, one folder a version.
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    yield from reversed(versions)
    yield from _on_path(environment, "postgres")
    yield from sorted(Path("/opt/homebrew/opt").glob("postgresql*/bin/postgres"))


def _mariadb_candidates(environment: Mapping[str, str]) -> Iterator[Path]:
    yield from _on_path(environment, "mariadbd")
    yield Path("/usr/sbin/mariadbd")


def _mariadb_fits(_: Path) -> bool:
    # The server and its clients are two packages.
    return all(shutil.which(name) is not None for name in ("mariadb", "mariadb-install-db"))


def _node_fits(node: Path) -> bool:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    version = re.match(r"v(\d+)\.", done.stdout)
    return version is not None and int(version[1]) >= _NODE and shutil.which("npm") is not None


def _on_path(environment: Mapping[str, str], *names: str) -> Iterator[Path]:
    for name in names:
        if found := shutil.which(name, path=environment.get("PATH", "")):
            yield Path(found)


def _java_fits(java: Path) -> bool:
    # macOS has a /usr/bin/java that only says where to get one, and fails.
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr)
    return done.returncode == 0 and version is not None and int(version[1]) in _JAVA


NEEDS = {
    "java": Need(
        f"Java {_JAVA.start} to {_JAVA.stop - 1}",
        _java_candidates,
        _java_fits,
        ("openjdk-17-jre-headless", "openjdk-21-jre-headless"),
        "openjdk@17",
    ),
    "chromium": Need("Chromium", _chromium_candidates, lambda _: True, ("chromium",), "google-chrome"),
    "postgresql": Need("PostgreSQL's server", _postgresql_candidates, lambda _: True, ("postgresql",), "postgresql"),
    "mariadb": Need(
        "MariaDB's server and client",
        _mariadb_candidates,
        _mariadb_fits,
        ("mariadb-server-core mariadb-client-core",),
        "mariadb",
    ),
    "node": Need(
        f"Node.js {_NODE} or newer, and npm",
        lambda environment: _on_path(environment, "node"),
        _node_fits,
        ("nodejs npm",),
        "node",
    ),
    "vim": Need("Vim", lambda environment: _on_path(environment, "vim"), lambda _: True, ("vim",), "vim"),
}


def find(name: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return where the program is, or None."""
    need = NEEDS[name]
    return next((path for path in need.candidates(environment) if os.access(path, os.X_OK) and need.fits(path)), None)


def command_to_install(
    names: Sequence[str], system: str, has: Callable[[str], bool], in_apt: Callable[[str], bool]
) -> list[str] | None:
    """Return the command that installs them, as root where it is apt-get's; None where no package manager is known.

    Args:
        system: as ``platform.system()`` says.
        has: whether there is a program of that name.
        in_apt: whether apt knows a package.
    """
    if system == "Darwin":
        return ["brew", "install", *(word for name in names for word in NEEDS[name].brew.split())]
    if has("apt-get"):
        packages = [
            word for name in names for word in next(filter(in_apt, NEEDS[name].debian), NEEDS[name].debian[0]).split()
        ]
        return ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    return None


def _in_apt(package: str) -> bool:
    # What has a candidate to install says so; a package that is only mentioned by others has none.
    done = subprocess.run(["apt-cache", "policy", *package.split()], capture_output=True, text=True, check=False)
    return "Candidate:" in done.stdout and "Candidate: (none)" not in done.stdout


def main(names: Sequence[str]) -> int:
    """Find or install; return the exit status."""
    missing = [name for name in names if find(name) is None]
    if not missing:
        return 0
    words = " and ".join(NEEDS[name].what for name in missing)
    as_root = os.geteuid() == 0 and shutil.which("apt-get") is not None
    if as_root:
        print(f"installing {words} with apt-get, for the tests", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=False)
    command = command_to_install(missing, platform.system(), lambda name: shutil.which(name) is not None, _in_apt)
    if as_root and command is not None:
        subprocess.run(command, check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        missing = [name for name in missing if find(name) is None]
        if not missing:
            return 0
    if command is None:
        print(f"the tests need {words}: install it with your system's package manager, then repeat", file=sys.stderr)
    else:
        line = " ".join(command if command[0] == "brew" else ["sudo", *command])
        print(f"the tests need {words}. Type this, then repeat:\n\n    {line}\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
