"""The main features on a real file, with the embedded lab. Every command runs as it is shown."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

BOLD, DIM, GREEN, END = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


def heading(text: str) -> None:
    print(f"\n{BOLD}{text}{END}")


def note(text: str) -> None:
    print(f"{GREEN}  {text}{END}", flush=True)


def run(command: str, expected: int = 0) -> None:
    """Show a command, run it, and stop the demo if it does not end with the expected status."""
    print(f"{DIM}  $ {command}{END}", flush=True)
    words = shlex.split(command)
    started = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - started
    lines = [line for line in done.stdout.splitlines() if "using the lab" not in line]
    for line in lines:
        print(f"    {line}")
    status = "" if expected == 0 else f"exit status {done.returncode}, "
    print(f"{DIM}    ({status}{seconds:.2f} s){END}", flush=True)
    if done.returncode != expected:
        sys.exit(f"demo: that command should have ended with status {expected}, not {done.returncode}")


def run_on_terminal(command: str) -> None:
    """Like :func:`run`, on a terminal, with output as it comes."""
    print(f"{DIM}  $ {command}{END}", flush=True)
    width = min(shutil.get_terminal_size().columns, 120) - len("    ")
    settings = {**os.environ, "COLUMNS": str(width)} | ({} if sys.stdout.isatty() else {"NO_COLOR": "1"})
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=settings
    )
    os.close(theirs)
    # When the other end is closed, Linux reports an error and macOS the end of the file.
    with open(ours, encoding="utf-8", errors="replace") as terminal, contextlib.suppress(OSError):
        for line in terminal:
            if "using the lab" not in line:
                print(f"    {line.rstrip()}", flush=True)
    if process.wait():
        sys.exit(f"demo: that command should have ended with status 0, not {process.returncode}")


def digest(path: str, offset: int = 0) -> str:
    with open(path, "rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()


def payload_of(path: str) -> int:
    import sealwax

    return sealwax.inspect(path).header.preamble.payload_offset


def make_file(name: str) -> None:
    """Pack the installed packages: a large file that every machine has."""
    with tarfile.open(name, "w") as archive:
        archive.add(sysconfig.get_path("purelib"), "site-packages")


def main() -> None:
    folder = tempfile.mkdtemp(prefix="sealwax-demo-")
    os.chdir(folder)
    os.environ["SEALWAX_LAB"] = "lab"
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    try:
        heading("1. Two KMS keys in an embedded KMS, without an AWS account")
        run("sealwax lab create-key --alias demo")
        run("sealwax lab create-key --alias demo2")

        heading("2. Encrypt a file under a data key that only KMS can unwrap")
        make_file("site-packages.tar")
        print(f"  site-packages.tar has {os.path.getsize('site-packages.tar'):,} bytes")
        run("sealwax encrypt -k alias/demo -c purpose=backup site-packages.tar")
        run("sealwax inspect site-packages.tar.swx")

        heading("3. Decrypt it and compare")
        run("sealwax decrypt -k alias/demo -c purpose=backup -o back.tar site-packages.tar.swx")
        run("cmp site-packages.tar back.tar")
        note("the same bytes")

        heading("4. Refused: another context, a flipped bit, another key")
        run("sealwax decrypt -k alias/demo -c purpose=other -o wrong.tar site-packages.tar.swx", expected=6)
        shutil.copy("site-packages.tar.swx", "flipped.swx")
        with open("flipped.swx", "r+b") as file:
            middle = os.path.getsize("flipped.swx") // 2
            file.seek(middle)
            byte = file.read(1)[0]
            file.seek(middle)
            file.write(bytes([byte ^ 1]))
        run("sealwax decrypt -k alias/demo -c purpose=backup -o wrong.tar flipped.swx", expected=5)
        run("sealwax decrypt -k alias/demo2 -c purpose=backup -o wrong.tar site-packages.tar.swx", expected=7)
        if Path("wrong.tar").exists():
            sys.exit("demo: a refused command left a file")
        note("nothing was written")

        heading("5. Re-wrap it under the second key: only the wrapped key changes")
        before = digest("site-packages.tar.swx", payload_of("site-packages.tar.swx"))
        run("sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup site-packages.tar.swx")
        after = digest("site-packages.tar.swx", payload_of("site-packages.tar.swx"))
        print(f"  SHA-256 of the payload before  {before}")
        print(f"  SHA-256 of the payload after   {after}")
        if before != after:
            sys.exit("demo: the payload changed")
        note("no payload byte changed")
        run("sealwax decrypt -k alias/demo -c purpose=backup -o old.tar site-packages.tar.swx", expected=7)
        run("sealwax verify -k alias/demo2 -c purpose=backup site-packages.tar.swx")
        note("only the second key decrypts it now")

        heading("6. Test the second key: what must work, and what must be refused")
        run_on_terminal("sealwax prove -k alias/demo2 -c purpose=backup --to alias/demo")
        note("done")
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
