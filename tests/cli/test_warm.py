"""A command in a fork of the warm interpreter does what the program does that is started for it."""

from __future__ import annotations

import sys

from tests.cli.conftest import PURPOSE, K
from tests.cli.shell import Shell
from tests.cli.warm import Warm

COMMANDS = [
    (("--version",), None),
    (("inspect", "--json", "a.swx"), None),
    (("decrypt", *K, *PURPOSE, "-o", "-", "a.swx"), None),
    (("decrypt", *K, *PURPOSE, "-"), "sealed"),
    (("verify", *K, *PURPOSE, "-"), "nothing"),
    (("verify", *K, *PURPOSE, "a.bin", b"no\xffwhere"), None),
    (("encrypt", "--such"), None),
]


def test_warm_is_as_cold(shell: Shell, interpreter: Warm | None, sealed: bytes) -> None:
    assert (interpreter is not None) == (sys.platform == "linux")
    assert interpreter is None or interpreter.serves(shell.environment)
    cold = Shell(shell.folder, shell.folder, shell.environment)
    statuses = []
    for arguments, source in COMMANDS:
        stdin = None if source is None else sealed if source == "sealed" else b""
        done = shell.sealwax(*arguments, stdin=stdin)
        assert done == cold.sealwax(*arguments, stdin=stdin), arguments
        statuses.append(done.status)
    assert statuses == [0, 0, 0, 0, 4, 4, 2]


def test_what_an_interpreter_reads_at_its_start_is_left_to_a_new_one(shell: Shell, interpreter: Warm | None) -> None:
    for name, value in (("PYTHONUNBUFFERED", "1"), ("LC_ALL", "C"), ("LANG", "C"), ("TZ", "UTC")):
        assert interpreter is None or not interpreter.serves(shell.environment | {name: value}), name
