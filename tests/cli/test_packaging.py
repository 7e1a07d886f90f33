"""What is imported when, and what a wheel installs."""

from __future__ import annotations

import email
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from sealwax import __version__
from tests.cli.conftest import PURPOSE, K
from tests.cli.shell import ROOT, Shell


def imported(shell: Shell, code: str) -> set[str]:
    """Return the top-level packages that are there after ``code`` ran in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        cwd=shell.folder, env=shell.environment | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=True,
    )  # fmt: skip
    return {name.partition(".")[0] for name in done.stderr.decode().splitlines()[-1].split()}


@pytest.mark.usefixtures("sealed")
def test_aws_is_imported_when_it_is_needed(shell: Shell) -> None:
    run = "from sealwax.cli import run; assert run({!r}) == 0"
    aws = {"boto3", "botocore", "s3transfer", "urllib3"}
    assert not imported(shell, "import sealwax") & (aws | {"click", "rich"})
    assert not imported(shell, "import sealwax; sealwax.inspect('a.swx')") & aws
    assert not imported(shell, run.format(["inspect", "--json", "a.swx"])) & (aws | {"rich", "sqlite3"})
    assert not imported(shell, run.format(["--help"])) & (aws | {"rich"})
    assert {"boto3", "botocore"} <= imported(shell, run.format(["verify", *K, *PURPOSE, "a.swx"]))


def test_the_package_runs_as_a_module(shell: Shell) -> None:
    """``python -m sealwax`` is the program, under the program's own name, and with its statuses."""

    def module(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "sealwax", *arguments]
        return subprocess.run(program, cwd=shell.folder, env=shell.environment, capture_output=True, text=True)

    assert module("--version").stdout == f"sealwax {__version__}\n"
    wrong = module("inspect", "--such")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Usage: sealwax inspect "), wrong.stderr
    assert module("inspect", "nowhere.swx").returncode == 1


def build(root: Path, dist: Path, *targets: str, **environment: str) -> list[Path]:
    """Build as `make dist` does, outside of GitHub unless ``environment`` says so, and return the files by name."""
    github = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY")
    outside = {name: value for name, value in os.environ.items() if name not in github}
    chosen = [part for target in targets for part in ("-t", target)]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", dist, *chosen],
        cwd=root, env=outside | environment, check=True, capture_output=True,
    )  # fmt: skip
    return sorted(dist.iterdir())


@pytest.mark.slow
def test_two_builds_of_a_commit_are_the_same_bytes(tmp_path: Path) -> None:
    moment = 1_800_000_000
    epoch = {"SOURCE_DATE_EPOCH": str(moment)}
    first = build(ROOT, tmp_path / "first", "sdist", "wheel", **epoch)
    # Elsewhere, of files with other times and permissions, and where the hour, the language and the hashes are others.
    with tarfile.open(first[1]) as archive:
        assert {member.mtime for member in archive} == {moment}
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["tar", "-xzf", first[1], "-C", tmp_path / "elsewhere"], check=True)
    (root,) = (tmp_path / "elsewhere").iterdir()
    for path in root.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    (root / "PKG-INFO").unlink()
    others = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    second = build(root, tmp_path / "second", "sdist", "wheel", **epoch, **others)
    assert [file.name for file in first] == [file.name for file in second]
    assert [sha256(file.read_bytes()).hexdigest() for file in first] == [
        sha256(file.read_bytes()).hexdigest() for file in second
    ]
    steps = subprocess.run(["make", "-n", "dist"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) .venv-release/bin/python -m build" in steps


@pytest.mark.slow
def test_the_wheel_installs(tmp_path: Path) -> None:
    (wheel,) = build(ROOT, tmp_path / "dist", "wheel")
    assert wheel.name == f"sealwax-{__version__}-py3-none-any.whl"
    # What it depends on is lent: what pip would find of it today is not what is tested here.
    venv.create(tmp_path / "venv", with_pip=False)
    programs = tmp_path / "venv" / "bin"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True, capture_output=True)
    done = subprocess.run(
        [programs / "sealwax", "--version"],
        cwd=tmp_path, env={"PATH": os.defpath}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == f"sealwax {__version__}\n"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (installed,) = importlib.metadata.distributions(name="sealwax", path=[str(packages)])
    assert [one for one in installed.requires or () if "extra" not in one] == project["dependencies"]
    assert installed.metadata.get_all("Provides-Extra") == sorted(project["optional-dependencies"])
    assert {(point.group, point.name, point.value) for point in installed.entry_points} == {
        ("console_scripts", "sealwax", "sealwax.__main__:main"),
        ("pytest11", "sealwax", "sealwax.lab.pytest_plugin"),
    }
    own = {path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()}
    own = {path for path in own if path.suffix != ".pyc"}
    assert {path.relative_to(packages) for path in (packages / "sealwax").rglob("*") if path.suffix != ".pyc"} >= own
    assert {path.suffix for path in own} == {".py", ".typed", ".css", ".js"}
    # Where `man sealwax` finds them if the programs of the environment are on the PATH.
    share = tmp_path / "venv/share"
    pages = {page.name for page in (share / "man/man1").iterdir()}
    assert pages == {page.name for page in (ROOT / "docs/man").iterdir()}
    assert {"sealwax.1", "sealwax-encrypt.1"} <= pages
    data = {path.name: path.read_bytes() for path in (share / "sealwax").iterdir()}
    origins = ("docs/reference/audit.schema.json", "docs/reference/prove.schema.json", "deploy/rotation.yaml")
    assert data == {Path(name).name: (ROOT / name).read_bytes() for name in origins}


@pytest.mark.slow
@pytest.mark.parametrize("repository", [None, "somebody/sealwax"])
def test_the_readme_on_pypi_has_no_link_into_a_checkout(repository: str | None, tmp_path: Path) -> None:
    github = {} if repository is None else {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": repository}
    (wheel,) = build(ROOT, tmp_path, "wheel", **github)
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"sealwax-{__version__}.dist-info/METADATA").decode()
    head, _, shown = text.partition("\n\n")
    said = email.message_from_string(head)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", readme)) > 20
    assert said["Description-Content-Type"] == "text/markdown"
    if repository is None:
        assert shown.strip() == readme.strip()
        assert said.get_all("Project-URL") is None
        return
    assert all(link.startswith("https://") for link in links), links
    files = f"https://github.com/{repository}/blob/v{__version__}"
    assert f"{files}/docs/explanation/concepts.md" in links
    shown_pictures = [link for link in links if link.endswith((".svg", ".png"))]
    assert shown_pictures == [
        f"https://github.com/{repository}/raw/v{__version__}/docs/pictures/{name}"
        for name in ("envelope.svg", "audit.png")
    ]
    assert f"Changelog, {files}/CHANGELOG.md" in said.get_all("Project-URL", [])
