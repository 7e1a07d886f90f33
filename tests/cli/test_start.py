"""How a program starts and ends: the garbage collector keeps out of the way of both."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import PURPOSE, K
from tests.cli.shell import ROOT, Shell

# Counts the collections of the whole process, its end included; freeze_count tells what the last one leaves alone.
COUNTED = """
import atexit, gc, sys
from sealwax.cli import main
collections = []
gc.callbacks.append(lambda phase, _: collections.append(phase))
atexit.register(lambda: print(len(collections) // 2, file=sys.stderr))
sys.argv[0] = "sealwax"
try:
    main()
finally:
    at_end = gc.get_freeze_count
    class Last:
        def __del__(self):
            print(at_end(), file=sys.__stderr__, flush=True)
    sys.modules["last"] = Last()
"""


@pytest.mark.parametrize("verb", ["encrypt", "inspect", "missing"])
def test_a_short_command_collects_no_garbage(verb: str, shell: Shell) -> None:
    shell.sealwax("encrypt", *K, *PURPOSE, "-o", "a.swx", "-", stdin=b"tiny").succeeded()
    arguments = {
        "encrypt": ["encrypt", "--quiet", *K, *PURPOSE, "--force", "-o", "b.swx", "a.swx"],
        "inspect": ["inspect", "--json", "a.swx"],
        "missing": ["inspect", "--quiet", "nothing.swx"],
    }[verb]
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *arguments],
        cwd=shell.folder,
        env=shell.environment | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (verb == "missing")
    *_, collections, frozen = done.stderr.splitlines()
    # By default there are more than a hundred for "encrypt", and the last one looks at everything.
    assert int(collections) <= 3
    assert int(frozen) > 10_000


def test_a_signal_while_the_program_is_imported_leaves_no_traceback(tmp_path: Path) -> None:
    # In place of the first module that the command line imports from elsewhere.
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "sealwax", "--version"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "sealwax: interrupted\n")


def test_the_script_starts_as_the_module_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"sealwax": "sealwax.__main__:main"}


@pytest.mark.parametrize(
    "line", ["doctor", "inspect x", "audit --all", "encrypt -k alias/demo --no-context /etc/hostname -o x", "keys list"]
)
def test_a_folder_that_was_deleted_is_told_of(line: str, bare_shell: Shell) -> None:
    done = bare_shell.bash(f"mkdir gone; cd gone; rmdir ../gone; SEALWAX_LAB=./lab sealwax {line}")
    done.failed(1, "No such file or directory; the current folder no longer exists: change to another")


def test_a_missing_file_is_not_a_missing_folder(bare_shell: Shell) -> None:
    done = bare_shell.sealwax("inspect", "x").failed(1, "opening 'x' failed: No such file or directory\n")
    assert "folder" not in done.err
    done = bare_shell.bash("mkdir gone; cd gone; rmdir ../gone; sealwax inspect /nonexistent/x")
    done.failed(1, "opening '/nonexistent/x' failed: No such file or directory\n")
