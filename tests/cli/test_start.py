"""How a program starts and ends: the garbage collector keeps out of the way of both."""

from __future__ import annotations

import subprocess
import sys

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
