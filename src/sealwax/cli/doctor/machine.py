"""The checks of this machine: versions and the terminal."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sealwax import __version__
from sealwax.cli.doctor.lines import Line, failed
from sealwax.cli.state import current

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9_-]+)>=([0-9.]+)")


def lines() -> Iterator[Line]:
    """Check what needs no AWS."""
    yield _versions()
    yield _terminal()
    yield _settings()


def _versions() -> Line:
    shown = [f"sealwax {__version__}", f"Python {platform.python_version()}"]
    old: list[str] = []
    for requirement in importlib.metadata.requires("sealwax") or ():
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:  # of an extra
            continue
        name, least = match.groups()
        version = importlib.metadata.version(name)
        shown.append(f"{name} {version}")
        if _numbers(version) < _numbers(least):
            old.append(requirement)
    if not old:
        return Line("ok", "versions", ", ".join(shown))
    fix = f"pip install --upgrade {' '.join(map(repr, old))}"
    return Line("needs fixing", "versions", f"{', '.join(shown)}: sealwax needs {', '.join(old)}", fix)


def _numbers(version: str) -> list[int]:
    match = re.match(r"[0-9]+(\.[0-9]+)*", version)
    return [int(part) for part in match[0].split(".")] if match else []


def _terminal() -> Line:
    stream = sys.stdout or sys.stderr
    encoding = stream.encoding.lower().replace("_", "-")
    if encoding not in ("utf-8", "utf8"):
        why = f"the locale's encoding is {encoding}, in which some names cannot be printed"
        return Line("needs fixing", "terminal", why, "export LC_ALL=C.UTF-8, or another UTF-8 locale")
    if not stream.isatty():
        return Line("ok", "terminal", "UTF-8; the output is not a terminal")
    term, columns = os.environ.get("TERM", ""), shutil.get_terminal_size().columns
    if term in ("", "dumb"):
        why = f"UTF-8, {columns} columns, but TERM is '{term}': no progress bars or colors"
        return Line("optional", "terminal", why, "export TERM=xterm-256color, if your terminal supports it")
    return Line("ok", "terminal", f"UTF-8, {columns} columns, TERM={term}")


def _settings() -> Line:
    refused, file = current().refused_settings, current().settings
    if refused is not None:
        line = failed("settings", refused)
        return line if line.fix else replace(line, fix="correct the file, or use --no-settings")
    if file is None:
        return Line("ok", "settings", "no settings file is used")
    brought = {
        "key": file.top.keys,
        "context": file.top.context,
        "rules": file.rules,
        "Region": file.region,
        "profile": file.profile,
    }
    names = ", ".join(name for name, value in brought.items() if value) or "nothing that applies here"
    return Line("ok", "settings", f"{file.path}: {names}")
