"""Lets an editor change a plaintext in a private folder, of which nothing is left behind.

The folder is in memory, where the system has such a place, and only its owner may enter it. Editors replace files and
put copies beside them, so the whole folder is wiped, whatever became of the editor. Vim and Neovim are told to keep no
copies anywhere else; others find a place for temporary files and for their state in the folder.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import termios
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import BinaryIO, Final, cast

from sealwax._core import disk, files
from sealwax._core.envelope import read_full
from sealwax.cli import console
from sealwax.errors import FileError

# A file system in memory needs room for the plaintext, and for the editor's copies of it.
MAX_BYTES: Final = 64 << 20
_DEFAULT_EDITOR: Final = "vi"
_VIMS: Final = ("vim", "nvim", "gvim", "mvim")
_NO_COPIES: Final = ("-n", "-i", "NONE", "-c", "silent! set nobackup nowritebackup noundofile")
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  it gets a folder of its own in it
_MOUNTS: Final = "/proc/self/mountinfo"
_MOST_NAME_BYTES: Final = 200
# How long an editor that is asked to end may take.
_GRACE_SECONDS: Final = 3


class EditorError(FileError):
    """The editor did not start, failed, or left no file; nothing was written."""


def find_editor() -> list[str]:
    """Return the command of the editor that VISUAL or EDITOR names; vi if neither does.

    Raises:
        EditorError: it is not a command, or there is no such program.
    """
    name = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name, "").strip()), "")
    try:
        command = shlex.split(os.environ[name]) if name else [_DEFAULT_EDITOR]
    except ValueError:
        raise EditorError(f"{name} is not a command: it has an unclosed quote or ends with a backslash") from None
    program = shutil.which(command[0])
    if program is None:
        named = f"{name} names the editor '{console.shown(command[0])}'" if name else "neither VISUAL nor EDITOR is set"
        there = "which" if name else f"and the default, '{_DEFAULT_EDITOR}',"
        raise EditorError(f"{named}, {there} is not an installed program; set EDITOR to one")
    if os.path.basename(os.path.realpath(program)).startswith(_VIMS):
        command[1:1] = _NO_COPIES
    return command


class PrivateFile:
    """A plaintext in a private folder, which is wiped at the end of ``with``.

    Args:
        name: the file's name, by which editors know how to show it.
        data: its content.
        allow_disk: whether it may be on a disk if the system has no folder in memory.
        memory: where to look for one, beside XDG_RUNTIME_DIR.

    Attributes:
        path: where it is.

    Raises:
        FileError: there is no folder in memory, or it has too little room, or it cannot be wiped.
    """

    def __init__(self, name: str, data: bytes, *, allow_disk: bool, memory: Sequence[str] = (_SHARED_MEMORY,)) -> None:
        self._data = data
        self._parent = memory_backed((*memory, os.environ.get("XDG_RUNTIME_DIR", "")))
        if self._parent is None:
            if not allow_disk:
                raise FileError(
                    "there is no in-memory folder for the plaintext (/dev/shm or XDG_RUNTIME_DIR); use --allow-disk "
                    "to keep it on disk while you edit, but deleted data may be recoverable from a disk"
                )
            self._parent = tempfile.gettempdir()
        self._name = name if name and "\0" not in name and len(os.fsencode(name)) <= _MOST_NAME_BYTES else "plaintext"

    def __enter__(self) -> PrivateFile:
        with files.reported("creating a private folder in", cast("str", self._parent)):
            self._folder = tempfile.mkdtemp(prefix="sealwax-", dir=self._parent)
        try:
            self._place = os.path.join(self._folder, "file")
            self._scratch = os.path.join(self._folder, "tmp")
            self.path = os.path.join(self._place, self._name)
            with files.reported("writing the plaintext to", self.path):
                os.mkdir(self._place, 0o700)
                os.mkdir(self._scratch, 0o700)
                with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                    file.write(self._data)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with console.on_signals((signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP), lambda *_: None):
            _wipe(self._folder)

    def edit(self, command: Sequence[str]) -> None:
        """Run an editor until it ends.

        Raises:
            EditorError: it did not start, or failed.
            KeyboardInterrupt, SystemExit: it, or this program, was interrupted or terminated.
        """
        # Editors keep copies and histories there, which must not outlive the folder.
        environment = {**os.environ, "TMPDIR": self._scratch, "XDG_STATE_HOME": self._scratch}
        status = _run([*command, self.path], environment)
        if status == -signal.SIGINT:
            raise KeyboardInterrupt
        if status:
            name = console.shown(command[0])
            ended = f"exited with status {status}" if status > 0 else f"was killed ({signal.Signals(-status).name})"
            raise EditorError(f"the editor '{name}' {ended}; nothing was written")

    def read(self) -> bytes:
        """Return what the file holds now.

        Raises:
            EditorError: the editor deleted it, put something else in its place, or wrote too much.
        """
        try:
            folder = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                with files.InputFile(self.path, folder, regular=True) as file:
                    data = read_full(cast("BinaryIO", file), MAX_BYTES + 1)
            finally:
                os.close(folder)
        except (OSError, FileError) as error:
            if isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError):
                raise EditorError("the editor deleted the file; nothing was written") from None
            raise EditorError("the editor left something that is not a regular file; nothing was written") from None
        if len(data) > MAX_BYTES:
            raise EditorError(
                f"the file is now larger than {MAX_BYTES >> 20} MiB, which is too large; nothing was written"
            )
        return data


def memory_backed(candidates: Sequence[str]) -> str | None:
    """Return the first of some folders that is in memory and can be written to; None if none is."""
    return next((path for path in candidates if path and os.access(path, os.W_OK | os.X_OK) and _in_memory(path)), None)


def _in_memory(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for fields in map(str.split, mounts):
                if fields[2] == number:
                    return fields[fields.index("-") + 1] in ("tmpfs", "ramfs")
    return False


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a program on the terminal until it ends; return its status, or the negative number of a signal.

    Signals do not end this program before it is over: those of the keyboard reach the editor too, and it decides what
    they mean; the others end it first.
    """
    stopped: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def stop(number: int, _: FrameType | None) -> None:
        stopped.append(number)
        if process is not None:
            process.terminate()
            signal.alarm(_GRACE_SECONDS)

    def kill(_number: int, _: FrameType | None) -> None:
        if process is not None:
            process.kill()

    keyboard = (signal.SIGINT, signal.SIGQUIT) if os.isatty(0) else ()
    others = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP} - set(keyboard)
    with (
        console.on_signals(keyboard, lambda *_: None),
        console.on_signals(others, stop),
        console.on_signals((signal.SIGALRM,), kill),
        _terminal_restored(),
        _without_core_dumps(),
    ):
        process = _start(command, environment)
        if stopped:
            process.terminate()
            signal.alarm(_GRACE_SECONDS)
        status = process.wait()
        signal.alarm(0)
    if signal.SIGINT in stopped:
        raise KeyboardInterrupt
    if stopped:
        console.warn("terminated; what the editor had changed was discarded")
        raise SystemExit(128 + stopped[0])
    return status


def _start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        # By its number: child processes do not inherit standard input otherwise.
        return subprocess.Popen(command, stdin=0, env=environment)  # noqa: S603  it is the user's own
    except (OSError, ValueError) as error:
        why = disk.reason(error) if isinstance(error, OSError) else str(error)
        raise EditorError(f"starting the editor '{console.shown(command[0])}' failed: {why}; set EDITOR") from None


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """Give the terminal back its settings, which an editor that is killed does not."""
    try:
        before = termios.tcgetattr(0)
    except (OSError, termios.error):
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _without_core_dumps() -> Iterator[None]:
    """Let neither this program nor the editor write its memory to a disk if it crashes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _wipe(folder: str) -> None:
    """Overwrite every file below a folder, and remove it.

    Raises:
        FileError: something is left.
    """
    for parent, folders, names in files.walk(folder):
        for path in (os.path.join(parent, name) for name in folders):
            with contextlib.suppress(OSError):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        for name in names:
            with contextlib.suppress(OSError):  # removing it is what counts
                _overwrite(os.path.join(parent, name))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise FileError(
            f"removing the private folder '{console.shown(folder)}' failed: {disk.reason(error)}; plaintext may be "
            "left in it, so remove it"
        ) from error


def _overwrite(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as file:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            sizes = (min(files.COPY_BYTES, status.st_size - at) for at in range(0, status.st_size, files.COPY_BYTES))
            file.writelines(map(bytes, sizes))
            os.fsync(descriptor)
