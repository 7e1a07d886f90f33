"""The code blocks of the pages, and how they run.

The ``sh`` and ``python`` blocks of a page run in their order, in one shell that starts in an empty folder and knows
nothing but what the page says. The word after three backticks is the language; two marks may follow it::

    sh not run: REASON       for people to read, since REASON
    python file=NAME         the file NAME of the folder
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROGRAMS: Final = Path(sys.executable).parent
_LANGUAGES: Final = frozenset({"", "hexdump", "ini", "json", "python", "sh", "yaml"})
_FENCE: Final = re.compile(r"^( *)```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
_MARKS: Final = re.compile(r"(\w*)(?: not run: (\S.*)| file=(\S+))?")
# A block that looks like this needs its language, or nothing would run it.
_COMMAND: Final = re.compile(r"^(?:\$ )?(?:aws|cp|export|make|mkdir|pip|python|sealwax) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    not_run: str = ""
    file: str = ""

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.not_run and not self.file


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page.

    Raises:
        ValueError: the page has a block with no such language or mark.
    """
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        place = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        marks = _MARKS.fullmatch(match[2])
        if match[1] or marks is None or marks[1] not in _LANGUAGES:
            raise ValueError(
                f"{place}: a block begins with ```LANGUAGE, ```LANGUAGE not run: REASON or ```LANGUAGE file=NAME"
            )
        if not marks[1] and _COMMAND.search(match[3]):
            raise ValueError(f"{place}: a block of commands begins with ```sh")
        yield Block(marks[1], match[3], marks[2] or "", marks[3] or "")


def script(blocks: Sequence[Block], scratch: Path) -> str:
    """Return the shell script that runs blocks as one session. What Python runs is written to ``scratch``."""
    lines = ["set -eu"]
    runnable = [block for block in blocks if block.runs or block.file]
    for number, (language, group) in enumerate(groupby(runnable, lambda block: block.file or block.language)):
        text = "\n".join(block.text for block in group)
        if language == "sh":
            lines.append(text)
            continue
        written = scratch / f"{number}.py"
        written.write_text(text, encoding="utf-8")
        lines.append(f"python -W error {written}" if language == "python" else f"cp {written} {language}")
    return "\n".join(lines) + "\n"


def bare_environment(home: Path, needs: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a new shell, with the program on its path and what the page says that it needs."""
    return {
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ},
        **needs,
    }


def run(blocks: Sequence[Block], folder: Path, needs: Mapping[str, str], *, terminal: bool) -> str:
    """Run the blocks of a page in a folder, and return what they print."""
    scratch, home = folder.with_name(f"{folder.name}-scratch"), folder.with_name(f"{folder.name}-home")
    for each in (folder, scratch, home):
        each.mkdir()
    command = ["sh", "-c", script(blocks, scratch)]
    environment = bare_environment(home, needs)
    if terminal:
        status, shown = _on_terminal(command, folder, environment | {"TERM": "xterm-256color"})
    else:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
        status, shown = done.returncode, done.stdout + done.stderr
    assert status == 0, f"{command[2]}\n{shown}"
    return shown


def _on_terminal(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as process:
        os.close(terminal)
        shown = bytearray()
        while True:
            if not select.select([controller], [], [], 120)[0]:
                process.kill()
                raise AssertionError(f"nothing for two minutes after: {shown[-500:]!r}")
            try:
                data = os.read(controller, 1 << 16)
            except OSError:  # EIO: Linux says so when the last process has closed the terminal
                break
            if not data:
                break
            shown += data
        os.close(controller)
        return process.wait(), shown.decode(errors="replace")
