"""The real program, run as its users run it: in an empty folder, with next to nothing in the environment."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pty
import re
import select
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.cli.warm import Warm

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = Path(sys.executable).parent
SEALWAX: Final = str(PROGRAMS / "sealwax")

USUAL: Final[Mapping[str, str]] = {
    "PATH": f"{PROGRAMS}{os.pathsep}/usr/bin{os.pathsep}/bin",
    "LANG": "C.UTF-8",
    "AWS_EC2_METADATA_DISABLED": "true",
    # `make coverage` counts what programs run.
    **{name: os.environ[name] for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ},
}

# What a shell gives a meaning to, but for quotes and spaces.
_SHELLS: Final = frozenset("|&;<>()$`\\*?[]#~{}!\n")

# Every status that the program may end with by itself.
STATUSES: Final = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 130})


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    status: int
    out: bytes
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.err, self.err
        assert "bug in sealwax" not in self.err, self.err

    @property
    def last_line(self) -> str:
        """The sentence that a failure ends with."""
        return self.err.rstrip("\n").rpartition("\n")[2]

    def succeeded(self) -> Done:
        assert self.status == 0, self
        return self

    def failed(self, status: int, *fragments: str) -> Done:
        """Hold the status and what is said against what is expected."""
        assert self.status == status, self
        for fragment in fragments:
            assert fragment in self.err, self
        return self


class Shell:
    """A folder to run commands in.

    Args:
        folder: the working folder.
        home: an empty home.
        environment: more variables.
        warm: runs single commands, where it can, instead of a new interpreter for each.
    """

    def __init__(self, folder: Path, home: Path, environment: Mapping[str, str], *, warm: Warm | None = None) -> None:
        self.folder = folder
        self.environment = {**USUAL, "HOME": str(home), **environment}
        self._warm = warm

    def start(
        self,
        *arguments: str | bytes,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        preexec: Callable[[], None] | None = None,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [SEALWAX, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=preexec,
        )

    def sealwax(
        self, *arguments: str | bytes, stdin: bytes | None = None, preexec: Callable[[], None] | None = None
    ) -> Done:
        if self._warm is not None and preexec is None and self._warm.serves(self.environment):
            status, out, err = self._warm.run(arguments, self.folder, self.environment, stdin)
            return Done(status, out, err.decode())
        source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        with self.start(*arguments, stdin=source, preexec=preexec) as process:
            out, err = process.communicate(stdin)
            return Done(process.returncode, out, err.decode())

    def bash(self, command: str) -> Done:
        """Run one line as typed."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def transcript(self, text: str) -> None:
        """Run the lines that begin with ``$``. The line after one may give its status and some of what it says.

        ``[6] a different value`` is such a line; without one the status is 0.
        """
        lines = [line.strip() for line in text.strip().splitlines()]
        while lines:
            command = lines.pop(0)
            assert command.startswith("$ "), command
            while command.endswith("\\"):
                command = command[:-1] + lines.pop(0)
            status, fragment = 0, ""
            if lines and (match := re.fullmatch(r"\[([0-9]+)\] ?(.*)", lines[0])):
                lines.pop(0)
                status, fragment = int(match[1]), match[2]
            done = self._typed(command[2:])
            assert done.status == status, (command, done)
            assert fragment in done.err + done.out.decode(errors="replace"), (command, done)

    def _typed(self, command: str) -> Done:
        """Run a command as a shell does; without one, where it has nothing to do but to split words."""
        if command.startswith("sealwax ") and not _SHELLS & set(command):
            return self.sealwax(*shlex.split(command)[1:])
        return self.bash(command)

    def on_terminal(self, *arguments: str, streams: str, stdin: bytes = b"", **environment: str) -> tuple[Done, str]:
        """Run with some of ``stdin``, ``stdout``, ``stderr`` on a terminal; return also what the terminal showed."""
        controller, terminal = pty.openpty()
        given = dict.fromkeys(streams.split(), terminal)
        process = subprocess.Popen(
            [SEALWAX, *arguments],
            cwd=self.folder,
            env=self.environment | {"TERM": "xterm-256color"} | environment,
            stdin=given.get("stdin", subprocess.PIPE),
            stdout=given.get("stdout", subprocess.PIPE),
            stderr=given.get("stderr", subprocess.PIPE),
            start_new_session=True,
        )
        os.close(terminal)
        shown = bytearray()
        with process:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(stdin)
                process.stdin.close()
                process.stdin = None
            _drain(controller, process, shown)
            out = b"" if process.stdout is None else process.stdout.read()
            err = b"" if process.stderr is None else process.stderr.read()
        os.close(controller)
        text = shown.decode().replace("\r\n", "\n")
        return Done(process.returncode, out, (err.decode() if "stderr" not in given else text)), text

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def snapshot(self) -> dict[bytes, tuple[int, int, str]]:
        """Return every path below the folder with its mode, modification time and content."""
        found = {}
        for parent, folders, names in os.walk(os.fsencode(self.folder)):
            for name in (*folders, *names):
                path = os.path.join(parent, name)
                status = os.lstat(path)
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
                    found[path] = (status.st_mode, status.st_mtime_ns, content)
                else:
                    found[path] = (status.st_mode, 0, os.readlink(path).decode() if os.path.islink(path) else "")
        return found

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Hold that no file is made, changed or removed."""
        before = self.snapshot()
        yield
        assert self.snapshot() == before


def _drain(controller: int, process: subprocess.Popen[bytes], shown: bytearray) -> None:
    while True:
        ready, _, _ = select.select([controller], [], [], 0.05)
        if ready:
            try:
                data = os.read(controller, 1 << 16)
            except OSError:  # EIO: Linux says so when the last process has closed the terminal
                return
            if not data:
                return
            shown += data
        elif process.poll() is not None:
            return


_PR_CAPBSET_DROP: Final = 24
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522


def without_privileges() -> None:
    """Make a child that will run as root bound by permission bits, as everybody is."""
    if os.geteuid() != 0 or sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            os._exit(99)


def payload_offset(envelope: bytes) -> int:
    """Return where the payload begins: read from the bytes, as the format says."""
    return int.from_bytes(envelope[12:14], "big") + envelope[11] * int.from_bytes(envelope[14:16], "big")


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Be bound by permission bits for a while in this very process, as everybody but root is."""
    if os.geteuid() != 0 or sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable; of the higher numbers the same
    assert libc.capget(head, sets) == 0
    before = sets[0]
    sets[0] &= ~(1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
    assert libc.capset(head, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(head, sets) == 0
