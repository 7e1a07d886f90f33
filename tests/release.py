"""``python -m tests.release TAG DIST``: hold a tag, the changelog and what was built against each other."""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


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


if __name__ == "__main__":
    sys.exit("\n".join(mistakes(sys.argv[1], Path(sys.argv[2]), CHANGELOG.read_text(encoding="utf-8"))) or None)
