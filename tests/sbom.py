"""``python -m tests.sbom DIST OUT``: what a release brings along, as a CycloneDX document.

The wheel is installed alone, with the versions that it was tested with, and cyclonedx-py lists what is there. To the
document are added the version, the package URL and the hashes of the release, which pyproject.toml does not have.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.extras import ROOT, bare


def completed(document: dict[str, Any], dist: Path) -> dict[str, Any]:
    """Return the document with what pyproject.toml does not say: the version, and the files of the release."""
    (wheel,) = dist.glob("*.whl")
    name, version = wheel.name.split("-")[:2]
    files = [
        {
            "type": "distribution",
            "url": f"https://pypi.org/project/{name}/{version}/#{file.name}",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}],
        }
        for file in sorted(dist.iterdir())
    ]
    own = {"version": version, "purl": f"pkg:pypi/{name}@{version}", "externalReferences": files}
    metadata = document["metadata"]
    return document | {"metadata": metadata | {"component": metadata["component"] | own}}


def write(dist: Path, out: Path) -> Path:
    (wheel,) = dist.resolve().glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    path = out / "sealwax.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        python = bare(Path(folder) / "venv", wheel)
        subprocess.run(
            [
                Path(sys.executable).with_name("cyclonedx-py"), "environment", "--output-reproducible",
                "--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-file", path, python,
            ],
            check=True,
        )  # fmt: skip
    document = completed(json.loads(path.read_text(encoding="utf-8")), dist)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), Path(sys.argv[2])))
