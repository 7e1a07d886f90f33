"""``python -m tests.cli.transcripts --write [FOLDER] [VERB]...``: run the scenes, and write what they show."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import pkgutil
import pty
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn

import boto3

from sealwax import KmsKeyring, cli  # noqa: F401  what commands import late
from tests import models
from tests.cli import warm
from tests.cli.shell import USUAL
from tests.cli.transcripts import screen, world
from tests.cli.transcripts.scenes import SCENES

GOLDEN: Final = Path(__file__).with_name("golden")
_WIDE, _NARROW = 120, 80
_LONGEST_SECONDS: Final = 60.0
# The name of the folder in the texts is as long as its own.
_PREFIX, _STANDS_FOR = "tra", "/tmp/transcripts"


def main() -> None:
    _, option, *rest = sys.argv if len(sys.argv) > 1 else ("", "")
    if option != "--write":
        sys.exit("usage: python -m tests.cli.transcripts --write [FOLDER] [VERB]...")
    verbs = [each for each in rest if each in SCENES] or played()
    folder = Path(next((each for each in rest if each not in SCENES), GOLDEN))
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir="/tmp") as place, models.open_stream():
        _warm_up()
        base = Path(place)
        (base / "world").mkdir()
        names = world.make(base / "world") | {place: _STANDS_FOR}
        gc.collect()
        gc.freeze()
        (folder / "releases").write_text(releases())
        for verb in verbs:
            shown = {width: _play(base, verb, width, names) for width in (_WIDE, _NARROW)}
            (folder / f"{verb}.txt").write_text(_page(SCENES[verb], shown), encoding="utf-8")


def played() -> list[str]:
    """Return the verbs with scenes that the program has."""
    return [verb for verb in SCENES if verb == "sealwax" or verb in cli.VERBS]


def _warm_up() -> None:
    for module in pkgutil.walk_packages(cli.__path__, "sealwax.cli."):
        importlib.import_module(module.name)
    for service in ("kms", "s3", "sts"):
        boto3.Session("any", "any", region_name="us-east-1").client(service)


def _lines(scene: str) -> list[str]:
    return [line.strip() for line in scene.strip().splitlines()]


def _play(base: Path, verb: str, width: int, names: Mapping[str, str]) -> list[str]:
    """Run a verb's commands on a terminal of this width; return what each shows, with its status."""
    folder = base / "work"
    shutil.copytree(base / "world", folder)
    environment = {**USUAL, "HOME": str(folder), "TERM": "xterm-256color", "SEALWAX_LAB": "./lab"}
    shown = []
    try:
        for line in _lines(SCENES[verb]):
            if line.startswith("% "):
                subprocess.run(["sh", "-c", line[2:]], cwd=folder, env=environment, check=True)
                continue
            words = shlex.split(line[2:])
            settings = []
            while "=" in words[0]:
                settings.append(words.pop(0).partition("="))
            assert words[0] == "sealwax", line
            added = {name: value for name, _, value in settings}
            status, text = _run(words[1:], folder, environment | added, width)
            shown.append(f"{screen.stable(screen.settled(text), names)}\n[{status}]\n".lstrip("\n"))
    finally:
        shutil.rmtree(folder)
    return shown


def _run(arguments: list[str], folder: Path, environment: dict[str, str], width: int) -> tuple[int, str]:
    child, controller = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        _become(arguments, folder, environment)
    shown = bytearray()
    until = time.monotonic() + _LONGEST_SECONDS
    while True:
        if not select.select([controller], [], [], max(0, until - time.monotonic()))[0]:
            os.kill(child, signal.SIGKILL)
        try:
            data = os.read(controller, 1 << 16)
        except OSError:  # EIO: nothing has the terminal open any more
            break
        if not data:
            break
        shown += data
    os.close(controller)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, shown.decode(errors="replace").replace("\r\n", "\n")


def _become(arguments: list[str], folder: Path, environment: dict[str, str]) -> NoReturn:
    """Be the program, in a fork; its end must not be that of what is around it here."""
    status: object = 99
    try:
        warm._become(warm._Request(arguments, str(folder), environment))
        cli.main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status if isinstance(status, int) else 99)


def _page(scene: str, shown: Mapping[int, list[str]]) -> str:
    """Return the text of a verb's file: each command with what it shows, twice where the width matters."""
    parts = []
    for command, wide, narrow in zip(commands(scene), shown[_WIDE], shown[_NARROW], strict=True):
        parts.append(f"$ {command}\n{wide}")
        if narrow != wide:
            parts.append(f"$ {command}    # at {_NARROW} columns\n{narrow}")
    return "\n".join(parts)


def commands(scene: str) -> list[str]:
    """Return the commands of a scene that are shown."""
    return [line[2:] for line in _lines(scene) if line.startswith("$ ")]


def releases() -> str:
    """Return the releases that lay out usage errors, help and tables."""
    return "".join(f"{name} {version(name)}\n" for name in ("click", "rich"))


if __name__ == "__main__":
    main()
