"""What the repository promises beside the code: everything installed is pinned, and a release is what its tag says."""

from __future__ import annotations

import io
import re
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import extras, sbom
from tests.release import mistakes, strangers

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = {
    "run": 15,
    "test": 100,
    "lowest": 100,
    "bench": 2,
    "fuzz": 1,
    "awscli": 8,
    "s3ec": 10,
    "docs": 20,
    "release": 40,
}
CHANGELOG = "# Changelog\n\n## 0.2.0 (2027-01-31)\n\n- A change.\n"


def pins(name: str) -> dict[str, set[str]]:
    """Return the versions that a file of requirements pins, by package."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9-]+)(?:\[[a-z,-]+\])?==([^ ]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def asked(requirements: list[Any]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9_.-]+", one) for one in requirements if isinstance(one, str))
    return {name[0].lower().replace("_", "-") for name in names if name}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_requirements_has_exact_versions_with_hashes_and_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = [one for one in re.split(r"\n(?=[^ #])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)) if one]
    assert len(entries) >= FILES[name]
    for entry in entries:
        assert re.match(r"[a-z0-9-]+(\[[a-z,-]+\])?==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"^--|https?:|file:", text, re.MULTILINE)


def test_everything_that_is_asked_for_is_pinned() -> None:
    groups, own = PROJECT["dependency-groups"], asked(PROJECT["project"]["dependencies"])
    assert len(own) == 4
    assert own | asked(groups["build"]) <= set(pins("run"))
    assert own | asked(groups["test"]) | asked(groups["build"]) <= set(pins("test"))
    assert {name: versions for name, versions in pins("run").items() if pins("test")[name] != versions} == {}
    assert asked(groups["build"]) <= set(pins("release"))
    assert pins("release")["hatchling"] == pins("test")["hatchling"]
    for group in ("bench", "fuzz", "awscli", "s3ec", "docs", "release"):
        assert asked(groups[group]) <= set(pins(group)), group


def test_the_lowest_versions_are_those_of_the_project() -> None:
    lowest = dict(one.split(">=") for one in PROJECT["project"]["dependencies"])
    assert {name: pins("lowest")[name] for name in lowest} == {name: {version} for name, version in lowest.items()}


def test_actions_are_pinned_by_commit_and_the_same_everywhere() -> None:
    used = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                match = re.search(r"uses: ([\w./-]+)@([0-9a-f]{40}) # v[0-9]+\.[0-9]+\.[0-9]+$", line)
                assert match, line
                used.add(match.groups())
    assert len(used) == 6
    assert len({action for action, _ in used}) == 6


@pytest.mark.parametrize(
    ("tag", "built", "said"),
    [
        ("v0.2.0", "0.2.0", []),
        ("0.2.0", "0.2.0", ["is not 'v' and a version"]),
        ("v0.2.0", "0.1.0", ["set __version__ to what the tag says"]),
        ("v0.3.0", "0.3.0", ["no heading '## 0.3.0 (YYYY-MM-DD)'"]),
    ],
)
def test_a_release_is_what_its_tag_says(tag: str, built: str, said: list[str], tmp_path: Path) -> None:
    for name in (f"sealwax-{built}-py3-none-any.whl", f"sealwax-{built}.tar.gz"):
        (tmp_path / name).touch()
    found = mistakes(tag, tmp_path, CHANGELOG)
    assert len(found) == len(said), found
    assert all(part in one for one, part in zip(found, said, strict=True))


def test_what_is_published_was_built_twice_tested_and_attested() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))["jobs"]
    steps = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert steps == [
        'make dist && sha256sum dist/* > "$RUNNER_TEMP/SHA256SUMS"',
        "make wheel",
        "make extras",
        "make sbom",
        '.venv-release/bin/python -m tests.release dist "$GITHUB_REF_NAME"',
        'sha256sum --check "$RUNNER_TEMP/SHA256SUMS"',
    ]
    assert [(name, job.get("needs")) for name, job in jobs.items()] == [
        ("build", None), ("attest", "build"), ("publish", "attest"), ("github", "publish"),
    ]  # fmt: skip
    rights = {name: job["permissions"] for name, job in jobs.items()}
    assert rights == {
        "build": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
        "github": {"contents": "write"},
    }
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^(\w+): dist\b", makefile, re.MULTILINE)) == {"wheel", "extras", "sbom"}


def test_a_file_that_git_does_not_have_is_not_released(tmp_path: Path) -> None:
    archive = tmp_path / "sealwax-0.2.0.tar.gz"
    with tarfile.open(archive, "w:gz") as files:
        for name in ("PKG-INFO", "src/sealwax/__init__.py", "src/sealwax/notes.txt"):
            files.addfile(tarfile.TarInfo(f"sealwax-0.2.0/{name}"), io.BytesIO())
    (said,) = strangers(archive, {"src/sealwax/__init__.py"})
    assert "has src/sealwax/notes.txt, which git does not have" in said


def test_each_extra_is_installed_and_tried_before_a_release() -> None:
    named = PROJECT["project"]["optional-dependencies"]
    assert set(extras.PROBES) == {"none", *named}
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", extras.constraints(), re.MULTILINE))
    assert asked([one for needs in named.values() for one in needs]) <= set(pinned)
    assert "sha256" not in extras.constraints()


def test_the_bill_of_materials_names_the_release_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "sealwax-0.2.0-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "sealwax-0.2.0.tar.gz").write_bytes(b"")
    made = sbom.completed({"metadata": {"component": {"name": "sealwax"}}, "components": [1]}, tmp_path)
    component = made["metadata"]["component"]
    assert (made["components"], component["name"], component["version"]) == ([1], "sealwax", "0.2.0")
    assert component["purl"] == "pkg:pypi/sealwax@0.2.0"
    hashes = {file["url"].partition("#")[2]: file["hashes"][0]["content"] for file in component["externalReferences"]}
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hashes == {"sealwax-0.2.0-py3-none-any.whl": empty, "sealwax-0.2.0.tar.gz": empty}


def test_the_supported_pythons_are_those_that_are_tested_and_promised() -> None:
    project = PROJECT["project"]
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if re.search(r":: 3\.\d+$", one)]
    tested = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    (matrix,) = re.findall(r"^        python: \[(.*)\]$", tested, re.MULTILINE)
    assert re.findall(r'"([\d.]+)"', matrix) == named
    assert project["requires-python"] == f">={named[0]}"
    promised = (ROOT / "docs/reference/versions.md").read_text(encoding="utf-8")
    assert f"Python {', '.join(named[:-1])} and {named[-1]}" in promised
