"""What only a terminal sees."""

from __future__ import annotations

import re

import pytest

from tests.cli.conftest import PURPOSE, K
from tests.cli.shell import Shell

LONG = 200 << 20


@pytest.fixture
def long_file(shell: Shell) -> None:
    with open(shell.folder / "long", "wb") as file:
        file.truncate(LONG)


@pytest.mark.usefixtures("sealed")
def test_binary_output_to_a_terminal_is_refused(shell: Shell) -> None:
    for arguments in (("encrypt", "a.bin"), ("decrypt", "a.swx"), ("rewrap", "--to", "alias/demo2", "a.swx")):
        with shell.unchanged():
            done, shown = shell.on_terminal(*arguments, *K, *PURPOSE, "-o", "-", streams="stdout")
            done.failed(2, "the output is binary, and standard output is a terminal")
            assert shown == ""
    done, shown = shell.on_terminal("encrypt", "--armor", *K, *PURPOSE, "-o", "-", "a.bin", streams="stdout")
    assert done.succeeded().err.count("\n") == 1
    assert shown.startswith("swx1:")
    done, _ = shell.on_terminal("encrypt", *K, *PURPOSE, streams="stdin stderr")
    done.failed(2, "name a file, or - for standard input")


@pytest.mark.usefixtures("long_file")
def test_progress_is_shown_on_a_terminal_for_long_work(shell: Shell) -> None:
    done, shown = shell.on_terminal("encrypt", *K, *PURPOSE, "long", streams="stderr")
    done.succeeded()
    assert "MiB" in shown
    assert "/s" in shown
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", shown)
    done, shown = shell.on_terminal("verify", *K, *PURPOSE, "long.swx", streams="stderr", NO_COLOR="1")
    done.succeeded()
    assert "MiB" in shown
    assert not re.search(r"\x1b\[[0-9;]*(3[0-9]|9[0-7])[;m]", shown)
    # Not asked for, not on a terminal, or over in a moment.
    _, shown = shell.on_terminal("verify", "-q", *K, *PURPOSE, "long.swx", streams="stderr")
    assert shown == ""
    assert "MiB" not in shell.sealwax("verify", *K, *PURPOSE, "long.swx").succeeded().err
    arguments = ("decrypt", *K, *PURPOSE, "--range", "5:", "-o", "out", "--force")
    _, shown = shell.on_terminal("decrypt", *K, *PURPOSE, "--range", ":9", "-o", "out", "long.swx", streams="stderr")
    assert "MiB" not in shown
    _, shown = shell.on_terminal(
        *arguments[:3], *PURPOSE[1:], "--range", "209715000:", "-o", "out2", "long.swx", streams="stderr"
    )
    assert "MiB" not in shown


def test_a_short_stream_shows_no_progress(shell: Shell) -> None:
    done, shown = shell.on_terminal("encrypt", *K, *PURPOSE, "-o", "x", "-", streams="stderr", stdin=b"short")
    done.succeeded()
    assert "MiB" not in shown
    assert "\x1b" not in shown
