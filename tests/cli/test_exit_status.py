"""Every exit status, and the ways to be stopped from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import SEALWAX, STATUSES, Done, Shell, flipped, payload_offset


def test_each_status(shell: Shell, sealed: bytes) -> None:
    shell.write("damaged.swx", flipped(sealed, 20))
    shell.write("tampered.swx", flipped(sealed, payload_offset(sealed) + 5000))
    shell.write("partly/good", b"1")
    shell.write("partly/worse", b"2")
    shell.write("partly/worse.swx", b"in the way")
    shell.transcript("""
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b.bin a.swx
        [0] a.swx: decrypted -> b.bin
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b.bin a.swx
        [1] already exists
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b.bin missing.swx
        [1] No such file
        $ sealwax decrypt --wrong
        [2] no such option
        $ sealwax nothing
        [2] no such verb
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b2.bin damaged.swx
        [4] checksum
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b2.bin a.bin
        [4] not a sealwax envelope
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b2.bin tampered.swx
        [5] altered
        $ sealwax decrypt -k alias/demo -c purpose=other -o b2.bin a.swx
        [6] a different value of 'purpose'
        $ sealwax decrypt -k alias/nothing -c purpose=backup -o b2.bin a.swx
        [7] no such key or alias
        $ sealwax encrypt -r -k alias/demo -c purpose=backup partly
        [8] 2 of 3 not done: 2 with an existing output
        $ sealwax --version
        [0] sealwax
        $ sealwax --help
        [0] rewrap
    """)


@pytest.mark.usefixtures("sealed")
def test_a_usage_error_names_the_keys_of_the_envelope(shell: Shell, keys: Keys) -> None:
    shell.sealwax("decrypt", *PURPOSE, "a.swx").failed(2, f"a.swx says it is wrapped under '{keys.demo}'")
    shell.sealwax("encrypt", *PURPOSE, "a.bin").failed(2, "name a KMS key with -k or in SEALWAX_KEY")


def _await_part(folder: Path, size: int) -> None:
    """Wait until the half-written output has ``size`` bytes."""
    while not any(path.stat().st_size >= size for path in folder.glob(".sealwax-*.part")):
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_leaves_nothing_half_written(shell: Shell, sent: signal.Signals, status: int) -> None:
    for verb, data in (
        ("encrypt", b"x" * 3_000_000),
        ("decrypt", shell.sealwax("encrypt", *K, *PURPOSE, "-", stdin=b"x" * 3_000_000).succeeded().out),
    ):
        with (
            shell.unchanged(),
            shell.start(verb, *K, *PURPOSE, "-o", "out", "-", stdin=subprocess.PIPE) as process,
        ):
            assert process.stdin is not None
            assert process.stderr is not None
            # All but the end, so that it waits for more.
            process.stdin.write(data[:-1])
            process.stdin.flush()
            _await_part(shell.folder, 1_000_000)
            process.send_signal(sent)
            assert process.wait() == status
            Done(process.returncode, b"", process.stderr.read().decode())


def test_an_interrupt_is_told_in_one_word(shell: Shell) -> None:
    with shell.start("encrypt", *K, *PURPOSE, "-o", "out", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"x" * 3_000_000)
        process.stdin.flush()
        _await_part(shell.folder, 1_000_000)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert err.decode().splitlines()[-1] == "sealwax: interrupted"


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_a_hangup_that_is_ignored_stays_ignored(shell: Shell) -> None:
    with shell.start(
        "encrypt", *K, *PURPOSE, "-o", "out", "-",
        stdin=subprocess.PIPE, preexec=_ignore_hangups,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(b"x" * 3_000_000)
        process.stdin.flush()
        _await_part(shell.folder, 1_000_000)
        process.send_signal(signal.SIGHUP)
        process.communicate()
        assert process.returncode == 0


def test_a_reader_that_leaves_is_no_news(shell: Shell) -> None:
    shell.write("a.bin", os.urandom(3_000_000))
    shell.sealwax("encrypt", *K, *PURPOSE, "a.bin").succeeded()
    for line in (
        f"{SEALWAX} decrypt -q -k alias/demo -c purpose=backup -o - a.bin.swx",
        f"{SEALWAX} encrypt -q -k alias/demo -c purpose=backup -o - a.bin",
        # 3 MB of names do not fit into a pipe either
        f"for i in $(seq 3000); do echo a.bin.swx; done | xargs {SEALWAX} inspect",
    ):
        done = shell.bash(f"({line}; echo status $? >&2) | head -c 1")
        status = done.err.splitlines()[-1].removeprefix("status ")
        assert done.err == f"status {status}\n"
        assert status in {"1", "123"}  # the second is xargs's own
        assert len(done.out) == 1


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(shell: Shell, plain: bytes, closed: str) -> None:
    shell.bash(f"sealwax encrypt -k alias/demo -c purpose=backup -o new.swx a.bin {closed}").succeeded()
    assert shell.sealwax("verify", *K, *PURPOSE, "new.swx").status == 0
    shell.bash(f"sealwax decrypt -k alias/demo -c purpose=backup -o new.bin new.swx {closed}").succeeded()
    assert shell.read("new.bin") == plain
    with shell.unchanged():
        for line in ("encrypt -k alias/demo -c purpose=backup -o -", "decrypt -k alias/demo -c purpose=backup -o -"):
            source = "a.bin" if line.startswith("encrypt") else "a.swx"
            done = shell.bash(f"sealwax {line} {source} {closed}")
            assert done.status == (1 if ">&-" in closed.replace("2>&-", "") else 0)
            if done.status and "2>&-" not in closed:
                assert done.last_line == f"sealwax: {source}: standard output is closed"
        for line in ("inspect a.swx", "inspect --json a.swx", "verify --json -k alias/demo -c purpose=backup a.swx"):
            done = shell.bash(f"sealwax {line} {closed}")
            assert done.status == (1 if ">&-" in closed.replace("2>&-", "") else 0), (line, done)


@pytest.mark.parametrize("verb", ["encrypt", "decrypt", "verify", "rewrap --to alias/demo2"])
def test_closed_standard_input(shell: Shell, verb: str) -> None:
    with shell.unchanged():
        for source in ("-", ""):
            done = shell.bash(f"sealwax {verb} -k alias/demo -c purpose=backup {source} <&-")
            assert done.status in {1, 2}
            assert "standard input is closed" in done.last_line


@pytest.mark.usefixtures("sealed")
def test_a_full_standard_output(shell: Shell) -> None:
    for line in (
        "encrypt -k alias/demo -c purpose=backup -o - a.bin",
        "decrypt -k alias/demo -c purpose=backup -o - a.swx",
        "inspect a.swx",
        "inspect --json a.swx",
        "verify --json -k alias/demo -c purpose=backup a.swx",
        "--version",
        "--help",
        "encrypt --help",
        "lab --help",
        "help encrypt",
        "completion bash",
    ):
        done = shell.bash(f"sealwax {line} > /dev/full")
        done.failed(1, "writing standard output failed: No space left on device")
        assert "Exception ignored" not in done.err


@pytest.mark.usefixtures("sealed")
def test_every_failure_has_a_line_of_json(shell: Shell) -> None:
    shell.write("b.swx", b"no envelope")
    done = shell.sealwax("verify", *K, *PURPOSE, "--json", "a.swx", "b.swx", "c.swx")
    assert done.status == 8
    told = [json.loads(line) for line in done.out.splitlines()[:-1]]
    assert [(line["path"], line.get("error")) for line in told] == [
        ("a.swx", None),
        ("b.swx", "NotAnEnvelopeError"),
        ("c.swx", "FileError"),
    ]
    assert told[0]["plaintext_bytes"] == 40_000


def test_the_statuses_are_the_documented_ones() -> None:
    from sealwax import cli, errors

    assert {cli.status_of(kind("")) for kind in errors.SealwaxError.__subclasses__()} <= STATUSES
