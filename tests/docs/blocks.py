"""The code blocks of the documents that are meant to be run: ``python run``, ``sh run``, ``python file=NAME``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_FENCE: Final = re.compile(r"^```(\w+)(?: (run|file=\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. ``action`` is "run", "file=NAME", or "" for one that is only to be read."""

    language: str
    action: str
    text: str


def blocks_of(page: Path) -> Iterator[Block]:
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        yield Block(match[1], match[2] or "", match[3])


def bare_environment(**more: str) -> dict[str, str]:
    """Return an environment that knows nothing of AWS or of a lab, with the program on its path."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    return {
        "PATH": path,
        "HOME": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "LANG": "C.UTF-8",
        # Whatever the folder, it is the installed package that is imported.
        "PYTHONSAFEPATH": "1",
        **more,
    }


def run(block: Block, folder: Path, environment: Mapping[str, str]) -> None:
    """Run a block in a folder, or write the file that it is."""
    if block.action.startswith("file="):
        (folder / block.action.removeprefix("file=")).write_text(block.text, encoding="utf-8")
        return
    command = {"python": [sys.executable, "-W", "error", "-c"], "sh": ["sh", "-eu", "-c"]}[block.language]
    done = subprocess.run(
        [*command, block.text],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
