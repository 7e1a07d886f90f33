"""2 GiB: memory stays small both ways, and a range costs one call and little reading."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import IO

from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import ROOT, Shell

SIZE = 2 << 30

# Runs the program and then writes down what it took: its peak memory, and how much it read by system calls.
MEASURED = """
import json, os, resource, sys
from sealwax import cli
status = cli.run(sys.argv[2:])
sys.stdout.flush()
if sys.platform == "linux":
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    with open("/proc/self/io") as file:
        read = next(int(line.split()[1]) for line in file if line.startswith("rchar"))
else:
    peak, read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
with open(sys.argv[1], "w") as file:
    json.dump({"peak": peak, "read": read}, file)
sys.exit(status)
"""


def measured(
    shell: Shell, report: str, *arguments: str, stdin: int | IO[bytes], stdout: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", MEASURED, report, *arguments],
        cwd=shell.folder,
        env=shell.environment | {"PYTHONPATH": str(ROOT / "src")},
        stdin=stdin,
        stdout=stdout,
    )


def report(shell: Shell, name: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(shell.read(name))
    return found


def test_two_gibibytes(shell: Shell, keys: Keys) -> None:
    zeros = bytes(1 << 20)
    with (
        subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source,
        measured(
            shell, "encrypt", "encrypt", *K, *PURPOSE, "-", stdin=source.stdout or 0, stdout=subprocess.PIPE
        ) as encrypt,
        subprocess.Popen(["tee", "large.swx"], cwd=shell.folder, stdin=encrypt.stdout, stdout=subprocess.PIPE) as tee,
        measured(
            shell, "decrypt", "decrypt", *K, *PURPOSE, "-", stdin=tee.stdout or 0, stdout=subprocess.PIPE
        ) as decrypt,
    ):
        for process in (source, encrypt, tee):
            assert process.stdout is not None
            process.stdout.close()  # it is the next one's
        assert decrypt.stdout is not None
        total = 0
        while part := decrypt.stdout.read(len(zeros)):
            assert part == zeros[: len(part)]
            total += len(part)
        assert total == SIZE
        assert [process.wait() for process in (source, encrypt, tee, decrypt)] == [0, 0, 0, 0]
    for name in ("encrypt", "decrypt"):
        assert report(shell, name)["peak"] < 120_000_000, name

    # What starting the program and one call take is known from a range of a small envelope.
    shell.sealwax("encrypt", *K, *PURPOSE, "-o", "small.swx", "-", stdin=b"x").succeeded()
    reads = {}
    for name, bounds in (("small", "0:1"), ("large", f"{SIZE - 1_000_000}:{SIZE - 1_000_000 + 65536}")):
        before = keys.calls()
        with measured(
            shell, f"{name}.json", "decrypt", *K, *PURPOSE, "--range", bounds, "-o", f"{name}.out", f"{name}.swx",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.wait() == 0
        assert keys.calls()[len(before) :] == ["Decrypt"]
        reads[name] = report(shell, f"{name}.json")["read"]
    assert shell.read("large.out") == bytes(65536)
    assert reads["large"] - reads["small"] < 1 << 20
    (shell.folder / "large.swx").unlink()


def test_files_that_fail_leave_nothing_in_memory(shell: Shell, keys: Keys) -> None:
    sealed = keys.sealer(keys.demo).encrypt(bytes(2 << 20), context={"purpose": "backup"})
    (shell.folder / "damaged.swx").write_bytes(sealed[:-1] + b"!")
    peaks = {}
    for count in (1, 40):
        folder = shell.folder / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.swx").hardlink_to(shell.folder / "damaged.swx")
        with measured(
            shell, f"{count}.json", "verify", "--quiet", "--workers", "1", *K, *PURPOSE, "-r", folder.name,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.wait() == 5
        peaks[count] = report(shell, f"{count}.json")["peak"]
    # What was open of each of them is 2 MiB and more.
    assert peaks[40] - peaks[1] < 20_000_000
