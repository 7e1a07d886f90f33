"""What only a terminal sees."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from sealwax.cli import contents
from sealwax.errors import FileError
from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import SEALWAX, Shell

LONG = 200 << 20


@pytest.fixture
def long_file(shell: Shell) -> None:
    with open(shell.folder / "long", "wb") as file:
        file.truncate(LONG)


@pytest.mark.usefixtures("sealed")
def test_binary_output_to_a_terminal_is_refused(shell: Shell) -> None:
    to = ("--to", "alias/demo2", "a.swx")
    for arguments in (("encrypt", "a.bin"), ("rewrap", *to), ("reencrypt", *to)):
        with shell.unchanged():
            done, shown = shell.on_terminal(*arguments, *K, *PURPOSE, "-o", "-", streams="stdout")
            done.failed(2, "the envelope is binary, and standard output is a terminal; name a file with -o")
            assert shown == ""
    done, _ = shell.on_terminal("encrypt", "a.bin", *K, *PURPOSE, "-o", "/dev/stdout", streams="stdout")
    done.failed(2, "the envelope is binary, and '/dev/stdout' is a terminal")
    done, shown = shell.on_terminal("encrypt", "--armor", *K, *PURPOSE, "-o", "-", "a.bin", streams="stdout")
    assert done.succeeded().err.count("\n") == 1
    assert shown.startswith("swx1:")
    done, _ = shell.on_terminal("encrypt", *K, *PURPOSE, streams="stdin stderr")
    done.failed(2, "name a file, or - for standard input")


def test_without_a_name_only_what_is_piped_is_read(shell: Shell) -> None:
    shell.transcript("""
        $ sealwax encrypt -k alias/demo -c purpose=backup < /dev/null
        [2] name a file, or - for standard input
        $ sealwax encrypt -q -k alias/demo -c purpose=backup - < /dev/null > empty && test -s empty
        $ echo hi | sealwax encrypt -q -k alias/demo -c purpose=backup > out
        $ sealwax decrypt -q -k alias/demo -c purpose=backup < out
        [0] hi
    """)


TEXTS = (b"", b"\n", b"caf\xc3\xa9\tau lait\n", b"\xef\xbb\xbfa\r\nb\r\n", b"no end", b"x" * (1 << 20))
NOT_TEXTS = (
    (b"\x1b]0;title\x07", "contains a control character (\\x1b)"),
    (b"a\x1b[2J", "contains a control character (\\x1b)"),
    (b"good\rbad\n", "contains a control character (\\r)"),
    (b"end\r", "contains a control character (\\r)"),
    (b"\x7f", "contains a control character (\\x7f)"),
    (b"nul\0", "contains a control character (\\x00)"),
    ("\x9b2J".encode(), "contains a control character (\\x9b)"),
    (b"\x9b2J", "is binary"),
    (b"cut off \xc3", "is binary"),
    (b"x" * ((1 << 20) + 1), "has more than 1 MiB"),
)


@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_text_is_shown(text: bytes) -> None:
    terminal = io.BytesIO()
    shown = contents.ShownText(terminal, "it")
    for at in range(0, len(text), 4096):
        shown.write(text[at : at + 4096])
    assert terminal.getvalue() == b""
    shown.show()
    assert terminal.getvalue() == text


@pytest.mark.parametrize(("data", "why"), NOT_TEXTS)
def test_nothing_but_text_is_shown(data: bytes, why: str) -> None:
    terminal = io.BytesIO()

    def show() -> None:
        shown = contents.ShownText(terminal, "it")
        shown.write(data)
        shown.show()

    with pytest.raises(FileError, match=re.escape(f"the plaintext {why}, and it is a terminal; name a file with -o, ")):
        show()
    assert terminal.getvalue() == b""


def test_a_plaintext_is_shown_on_a_terminal_if_it_is_text(shell: Shell, keys: Keys) -> None:
    sealer = keys.sealer(keys.demo)
    decrypt = ("decrypt", *K, *PURPOSE)
    text = "café\tau lait\r\nno end".encode()
    shell.write("text.swx", sealer.encrypt(text, context={"purpose": "backup"}))
    done, shown = shell.on_terminal(*decrypt, "-o", "-", "text.swx", streams="stdout")
    assert (done.status, shown) == (0, text.decode())
    sealed = sealer.encrypt(b"\x1b[mtext\n", context={"purpose": "backup"})
    shell.write("t.swx", sealed)
    done, shown = shell.on_terminal(*decrypt, "-o", "-", "t.swx", streams="stdout")
    done.failed(1, "t.swx: the plaintext contains a control character (\\x1b), and standard output is a terminal; ")
    assert shown == ""
    done, shown = shell.on_terminal(*decrypt, streams="stdout", stdin=sealed)
    done.failed(1, "standard input: the plaintext contains a control character")
    assert shown == ""
    done, shown = shell.on_terminal(*decrypt, "-o", "/dev/stdout", "t.swx", streams="stdout")
    done.failed(1, "'/dev/stdout' is a terminal")
    assert shown == ""
    done, shown = shell.on_terminal(*decrypt, "--range", "3:", "-o", "-", "t.swx", streams="stdout")
    assert (done.status, shown) == (0, "text\n")
    done, shown = shell.on_terminal(*decrypt, "--force", "-o", "-", "t.swx", streams="stdout")
    assert (done.status, shown) == (0, "\x1b[mtext\n")
    assert shell.sealwax(*decrypt, "-o", "-", "t.swx").succeeded().out == b"\x1b[mtext\n"


def test_nothing_of_a_damaged_text_is_shown(shell: Shell, keys: Keys) -> None:
    sealed = keys.sealer(keys.demo).encrypt(b"text\n" * 40_000, context={"purpose": "backup"})
    shell.write("t.swx", sealed[:-1] + bytes([sealed[-1] ^ 1]))
    done, shown = shell.on_terminal("decrypt", *K, *PURPOSE, "-o", "-", "t.swx", streams="stdout")
    assert (done.status, shown) == (5, "")


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
    for bounds, size in ((":9", 9), ("209715000:", LONG - 209715000)):
        done, shown = shell.on_terminal(
            "decrypt", *K, *PURPOSE, "--range", bounds, "-o", f"out{size}", "long.swx", streams="stderr"
        )
        done.succeeded()
        assert "MiB" not in shown
        assert len(shell.read(f"out{size}")) == size


@pytest.mark.usefixtures("long_file")
def test_progress_of_a_range_is_of_the_range(shell: Shell) -> None:
    shell.sealwax("encrypt", *K, *PURPOSE, "long").succeeded()
    for bounds, total in (("1048576:105906176", "100.0 MiB"), ("125829120:999999999", "80.0 MiB")):
        done, shown = shell.on_terminal(
            "decrypt", *K, *PURPOSE, "--range", bounds, "--force", "-o", "out", "long.swx", streams="stderr"
        )
        done.succeeded()
        assert re.search(rf"/{re.escape(total)}", shown)
        assert "200.0 MiB" not in shown


def test_a_short_stream_shows_no_progress(shell: Shell) -> None:
    done, shown = shell.on_terminal("encrypt", *K, *PURPOSE, "-o", "x", "-", streams="stderr", stdin=b"short")
    done.succeeded()
    assert "MiB" not in shown
    assert "\x1b" not in shown


def sparse(shell: Shell, name: str) -> None:
    """Write a file that is just large enough for a bar."""
    os.truncate(shell.write(name, b""), 64 << 20)


@pytest.mark.parametrize("name", ["[/x]{task} :smile: \\[b]x[/]", "[link=https://evil.example]x"])
def test_no_name_is_markup(shell: Shell, name: str) -> None:
    sparse(shell, name)
    done, shown = shell.on_terminal("encrypt", *K, *PURPOSE, "-o", "/dev/null", name, streams="stderr")
    done.succeeded()
    assert "MiB" in shown
    assert shown.count(name) > 2  # in the bar, and in what is told at the end
    assert "\x1b]8" not in shown


def test_no_name_in_a_message_controls_a_terminal(shell: Shell) -> None:
    """A shell puts names of files in the place of *."""
    link = "\x1b]8;;mailto:evil\x1b\\x"
    for arguments in ((link,), ("audit", "--facts", link)):
        done, shown = shell.on_terminal(*arguments, streams="stderr")
        assert done.status in (1, 2)
        assert "\\x1b]8;;" in shown
        assert "\x1b" not in shown


HEADS = ("[bold]HEAD", ":smile:")
ROW = ("[/x][link=https://evil.example]x", "\x1b]8;;https://evil.example\x1b\\:smile:")


def test_no_cell_of_a_table_is_markup() -> None:
    program = f"from sealwax.cli import console; console.print_table({HEADS!r}, [{ROW!r}])"
    controller, terminal = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=terminal, env={"TERM": "xterm"}) as process:
        os.close(terminal)
    shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert process.returncode == 0
    piped = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    for text in (shown, piped):
        assert "[/x][link=https://evil.example]x" in text
        assert "[bold]HEAD" in text
        assert text.count(":smile:") == 2
        assert "\x1b]8" not in text


BROKEN = {
    "at once": "raise RuntimeError('broken')",
    "drawing": """
        class Progress:
            def __init__(self, *_, **__): self.live = False
            def add_task(self, *_, **__): return 1
            def start(self): self.live = True
            def update(self, *_, **__): raise RuntimeError("broken")
            def stop(self): raise RuntimeError("broken")
        BarColumn = DownloadColumn = TransferSpeedColumn = TimeElapsedColumn = TimeRemainingColumn = dict
        def TextColumn(*_, **__): pass
        SpinnerColumn = dict
    """,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_bar_that_fails_ends_no_run(shell: Shell, broken: str) -> None:
    shell.write("lib/rich/__init__.py", b"")
    shell.write("lib/rich/console.py", b"def Console(*_, **__): pass\n")
    shell.write("lib/rich/progress.py", textwrap.dedent(broken).encode())
    library = str(shell.folder / "lib")
    sparse(shell, "big")
    done, shown = shell.on_terminal(
        "encrypt", *K, *PURPOSE, "-o", "/dev/null", "big", streams="stderr", PYTHONPATH=library
    )
    assert "big: encrypted" in done.succeeded().err
    assert "broken" not in shown
    shell.write("small", b"data")
    shell.sealwax("encrypt", *K, *PURPOSE, "small").succeeded()
    plan = ("fleet", "plan", "--from", "alias/demo", "--to", "alias/demo2", *PURPOSE, "-o", "p", ".")
    done, shown = shell.on_terminal(*plan, streams="stderr", PYTHONPATH=library)
    done.succeeded()
    assert "broken" not in shown


def test_a_terminal_that_goes_away_ends_no_run(shell: Shell) -> None:
    controller, terminal = pty.openpty()
    command = [SEALWAX, "encrypt", *K, *PURPOSE, "-o", "out", "-"]
    environment = shell.environment | {"TERM": "xterm"}
    with subprocess.Popen(
        command, cwd=shell.folder, env=environment, stdin=subprocess.PIPE, stderr=terminal, start_new_session=True
    ) as process:
        os.close(terminal)
        assert process.stdin is not None
        process.stdin.write(bytes(65 << 20))
        while b"MiB" not in os.read(controller, 1 << 16):
            pass
        os.close(controller)
        process.stdin.write(bytes(1 << 20))
        process.stdin.close()
        assert process.wait() == 0
    shell.sealwax("verify", *K, *PURPOSE, "out").succeeded()


def test_messages_that_nobody_can_read_end_no_run(shell: Shell) -> None:
    shell.write("a", b"data")
    shell.transcript("""
        $ sealwax encrypt -k alias/demo -c purpose=backup a 2> /dev/full
        $ sealwax verify -k alias/demo -c purpose=other a.swx 2> /dev/full
        [6]
        $ sealwax verify --nonsense 2> /dev/full
        [2]
    """)
