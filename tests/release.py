"""``python -m tests.release DIST [TAG]``: hold what was built against git, and against a tag and the changelog."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"


def strangers(archive: Path, tracked: Collection[str]) -> list[str]:
    """Return which files of a source archive the repository does not have, in sentences."""
    with tarfile.open(archive) as files:
        names = [member.name.partition("/")[2] for member in files if member.isfile()]
    return [
        f"{archive.name} has {name}, which git does not have: delete it, or add it to git"
        for name in sorted(names)
        if name != "PKG-INFO" and name not in tracked
    ]


def mistakes(tag: str, dist: Path, changelog: str) -> list[str]:
    """Return what is wrong with a release, in sentences."""
    version = tag.removeprefix("v")
    found = []
    if not re.fullmatch(r"v[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?", tag):
        found.append(f"the tag {tag!r} is not 'v' and a version, such as v0.1.0")
    built = sorted(path.name for path in dist.iterdir())
    wanted = [f"sealwax-{version}-py3-none-any.whl", f"sealwax-{version}.tar.gz"]
    if built != wanted:
        found.append(f"{dist} has {built} and should have {wanted}: set __version__ to what the tag says")
    if not re.search(rf"^## {re.escape(version)} \([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\)$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no heading '## {version} (YYYY-MM-DD)'")
    return found


def main(dist: Path, tag: str | None) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (archive,) = dist.glob("*.tar.gz")
    found = strangers(archive, set(listed.split("\0")))
    return found if tag is None else found + mistakes(tag, dist, CHANGELOG.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit("\n".join(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)) or None)
