"""Output appears whole or not at all, whatever stops it; what stood there before is never harmed."""

from __future__ import annotations

import errno
import gc
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import payload
from tests.fakes import FakeKeyring

REPOSITORY = Path(__file__).parents[2]
CONTEXT = {"purpose": "writing"}
LARGE = b"0123456789abcdef" * 200_000
SIZES = [0, 1, 16383, 16384, 16385, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]


@pytest.fixture
def old(tmp_path: Path, sealer: sealwax.Sealer) -> Path:
    """An envelope that stands where the new one is to go."""
    path = tmp_path / "file.swx"
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(b"what was there before")
    return path


def _is_untouched(path: Path, sealer: sealwax.Sealer) -> bool:
    with sealer.open(path, context=CONTEXT) as file:
        same = file.read() == b"what was there before"
    return same and os.listdir(path.parent) == [path.name]


class Interrupt(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [Interrupt, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_inside_with(size: int, kind: type[BaseException], old: Path, sealer: sealwax.Sealer) -> None:
    for path in (old, old.parent / "new.swx"):
        with pytest.raises(kind), sealer.open(path, "wb", context=CONTEXT) as file:  # noqa: PT012
            file.write(LARGE[:size])
            raise kind
        assert file.closed
    assert _is_untouched(old, sealer)
    with pytest.raises(kind), sealer.open(old.parent / "new.swx", "xb", context=CONTEXT) as file:  # noqa: PT012
        file.write(LARGE[:size])
        raise kind
    assert _is_untouched(old, sealer)


@pytest.mark.parametrize("size", SIZES)
def test_an_exception_while_writing_to_a_file_object(size: int, sealer: sealwax.Sealer) -> None:
    out = io.BytesIO()
    with pytest.raises(Interrupt), sealer.open(out, "wb", context=CONTEXT) as file:  # noqa: PT012
        file.write(LARGE[:size])
        raise Interrupt
    assert not out.closed
    with pytest.raises((sealwax.HeaderError, sealwax.PayloadError)):
        sealer.verify(out.getvalue(), context=CONTEXT)
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_nobody_closed(size: int, old: Path, sealer: sealwax.Sealer) -> None:
    out = io.BytesIO()
    for target in (old, out):
        file = sealer.open(target, "wb", context=CONTEXT)
        file.write(LARGE[:size])
        with pytest.warns(ResourceWarning, match="never closed"):
            del file
        gc.collect()
    assert _is_untouched(old, sealer)
    with pytest.raises((sealwax.HeaderError, sealwax.PayloadError)):
        sealer.verify(out.getvalue(), context=CONTEXT)


def test_a_failed_write_is_not_tried_again(sealer: sealwax.Sealer) -> None:
    """A salt never serves two byte sequences, so after an error the file takes nothing more."""

    class Full(io.BytesIO):
        full = True

        def write(self, data: object, /) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "full")
            return super().write(data)  # type: ignore[arg-type]

    out = Full()
    file = sealer.open(out, "wb", context=CONTEXT)
    with pytest.raises(OSError, match="full"):
        file.write(LARGE)
    out.full = False
    with pytest.raises(ValueError, match="closed"):
        file.write(LARGE)
    file.close()
    assert out.getvalue() == b""


@pytest.mark.parametrize("size", [100, len(LARGE)])
def test_a_full_disk(size: int, old: Path, sealer: sealwax.Sealer) -> None:
    """The limit on a file's size is met as a full disk is: a write takes less than it was given, the next one fails."""
    pid_and_status = _with_file_limit(50, lambda: _write(sealer, old, LARGE[:size]))
    assert pid_and_status == "FileError"
    assert _is_untouched(old, sealer)


def _write(sealer: sealwax.Sealer, path: Path, plaintext: bytes) -> None:
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(plaintext)


def _with_file_limit(limit: int, act: Callable[[], None]) -> str:
    """Return the name of the error that ``act`` ends with, when no file may grow beyond ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        act()
    except Exception as error:
        return type(error).__name__
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    return "none"


def test_a_full_disk_while_rewrapping_by_replacement(old: Path, sealer: sealwax.Sealer, keyring: FakeKeyring) -> None:
    before = old.read_bytes()
    keyring.calls.clear()
    assert _with_file_limit(50, lambda: sealer.rewrap(old, to=keyring.keys[0], context=CONTEXT)) == "FileError"
    assert keyring.calls == ["ReEncrypt"]
    assert old.read_bytes() == before
    assert _is_untouched(old, sealer)


def test_dev_full(sealer: sealwax.Sealer) -> None:
    # Where there is no such device, opening it says so, as a FileError too; the size limit above works everywhere.
    with pytest.raises(sealwax.FileError), sealer.open("/dev/full", "wb", context=CONTEXT) as file:
        file.write(LARGE)


def test_dev_null(sealer: sealwax.Sealer) -> None:
    before = os.stat("/dev/null")
    with sealer.open("/dev/null", "wb", context=CONTEXT) as file:
        file.write(LARGE)
    after = os.stat("/dev/null")
    assert stat.S_ISCHR(after.st_mode)
    assert after.st_ino == before.st_ino
    with pytest.raises(sealwax.NotAnEnvelopeError):
        sealer.open("/dev/null", context=CONTEXT)


def test_a_named_pipe(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found: list[bytes] = []

    def read() -> None:
        with sealer.open(path, context=CONTEXT) as file:
            found.append(file.read())

    thread = threading.Thread(target=read)
    thread.start()
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(LARGE)
    thread.join()
    assert found == [LARGE]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_truncated_pipe_is_told(sealer: sealwax.Sealer) -> None:
    sealed = sealer.encrypt(LARGE, context=CONTEXT)
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(sealed[:-1])

    thread = threading.Thread(target=write)
    thread.start()
    released = bytearray()
    with (  # noqa: PT012
        open(reading, "rb", buffering=0) as pipe,
        pytest.raises(sealwax.TamperedError),
        sealer.open(pipe, context=CONTEXT) as file,
    ):
        while part := file.read(1000):
            released += part
    thread.join()
    assert LARGE.startswith(released)
    assert len(released) < len(LARGE)


UNWRITABLE = """
import os, sys
import sealwax
from tests.fakes import FakeKeyring
keyring = FakeKeyring()
sealer = sealwax.Sealer(keyring)  # imported while the interpreter is still readable
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    sealer.open(sys.argv[1], "wb", context={"a": "b"})
except sealwax.FileError as error:
    print(type(error).__name__, len(keyring.calls), error)
"""


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    for folder in (room, *room.parents):
        if folder == Path("/tmp"):
            break
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o755)
    room.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE, room / "file.swx"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # KMS was not asked: the place is looked at first.
    assert done.stdout.startswith("FileError 0 writing")
    assert "Permission denied" in done.stdout
    room.chmod(0o755)
    assert os.listdir(room) == []


@pytest.mark.parametrize("name", ["file.swx/below.swx", "missing/file.swx", "", "x" * 300, "folder"])
def test_places_that_cannot_be(name: str, old: Path, sealer: sealwax.Sealer, keyring: FakeKeyring) -> None:
    (old.parent / "folder").mkdir()
    keyring.calls.clear()
    with pytest.raises(sealwax.FileError):
        sealer.open(old.parent / name, "wb", context=CONTEXT)
    assert keyring.calls == []
    (old.parent / "folder").rmdir()
    assert _is_untouched(old, sealer)


def test_xb_never_replaces(old: Path, sealer: sealwax.Sealer, keyring: FakeKeyring) -> None:
    keyring.calls.clear()
    with pytest.raises(sealwax.FileError, match="exists"):
        sealer.open(old, "xb", context=CONTEXT)
    assert keyring.calls == []
    # One that appears while the envelope is written is not replaced either.
    late = old.parent / "late.swx"
    file = sealer.open(late, "xb", context=CONTEXT)
    file.write(LARGE)
    late.write_bytes(b"somebody else's")
    with pytest.raises(sealwax.FileError, match="exists"):
        file.close()
    assert late.read_bytes() == b"somebody else's"
    late.unlink()
    assert _is_untouched(old, sealer)


def test_a_symbolic_link_is_followed(old: Path, sealer: sealwax.Sealer) -> None:
    link = old.parent / "link"
    link.symlink_to(old.name)
    with sealer.open(link, "wb", context=CONTEXT) as file:
        file.write(b"new")
    assert link.is_symlink()
    with sealer.open(old, context=CONTEXT) as reader:
        assert reader.read() == b"new"
    dangling = old.parent / "dangling"
    dangling.symlink_to("target.swx")
    with sealer.open(dangling, "wb", context=CONTEXT) as file:
        file.write(b"new")
    assert dangling.is_symlink()
    assert sealer.verify(old.parent / "target.swx", context=CONTEXT) == 3


def test_a_failed_keyring_leaves_nothing(old: Path, sealer: sealwax.Sealer) -> None:
    class Down(FakeKeyring):
        def generate(self, *_: Any, **__: Any) -> NoReturn:
            raise sealwax.UnavailableError("down")

    for path in (old, old.parent / "new.swx"):
        with pytest.raises(sealwax.UnavailableError):
            sealwax.Sealer(Down()).open(path, "wb", context=CONTEXT)
    for context in ({}, {"a": "b", "A": "c"}, {"": "x"}):
        with pytest.raises(sealwax.ContextError):
            sealer.open(old, "wb", context=context)
    assert _is_untouched(old, sealer)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_and_layouts(size: int, tmp_path: Path, sealer: sealwax.Sealer) -> None:
    path = tmp_path / "file.swx"
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(LARGE[:size])
    found = inspect_envelope(path)
    assert found.plaintext_bytes == size
    assert found.payload_bytes == payload.payload_size(size)
    assert found.header.preamble.slot_count == (1 if size < 1 << 20 else 2)
    assert sealer.verify(path, context=CONTEXT) == size
    with sealer.open(path, context=CONTEXT) as reader:
        assert reader.read() == LARGE[:size]


def test_a_sparse_file(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    source, path = tmp_path / "sparse", tmp_path / "file.swx"
    with source.open("wb") as file:
        file.seek((8 << 20) + 5)
        file.write(b"end")
    with source.open("rb") as file, sealer.open(path, "wb", context=CONTEXT) as sealed:
        while data := file.read(100_001):
            sealed.write(data)
    with sealer.open(path, context=CONTEXT) as opened, source.open("rb") as file:
        assert opened.read() == file.read()


@pytest.mark.parametrize("what", ["missing", "folder", "loop"])
def test_input_that_cannot_be_read(what: str, tmp_path: Path, sealer: sealwax.Sealer, keyring: FakeKeyring) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to("loop")
    for act in (
        lambda: sealer.open(path, context=CONTEXT),
        lambda: sealer.open_stream(path, context=CONTEXT),
        lambda: sealer.verify(path, context=CONTEXT),
        lambda: sealer.rewrap(path, to=keyring.keys[0], context=CONTEXT),
        lambda: inspect_envelope(path),
    ):
        with pytest.raises(sealwax.FileError, match="opening"):
            act()
    assert keyring.calls == []


def test_a_closed_pipe_stays_what_it_is(sealer: sealwax.Sealer) -> None:
    """A program in a pipeline wants to know that its reader went, so this one error is not renamed."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe:
        file = sealer.open(pipe, "wb", context=CONTEXT)
        with pytest.raises(BrokenPipeError):
            file.write(LARGE)


def test_a_detached_pair_is_on_the_disk_before_either_appears(
    old: Path, sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = old.with_name("old.header")
    header.write_bytes(b"the old header")
    before = old.read_bytes()
    synced: list[int] = []

    def second_fails(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sealwax._core.files.whole.sync", second_fails)
    with (
        pytest.raises(sealwax.FileError, match="No space"),
        sealer.open(old, "wb", context={"purpose": "backup"}, header=header) as file,
    ):
        file.write(b"new")
    assert len(synced) == 2
    assert (old.read_bytes(), header.read_bytes()) == (before, b"the old header")
    assert {path.name for path in old.parent.iterdir()} == {old.name, header.name}


def test_a_detached_header_does_not_go_where_the_payload_goes(old: Path, sealer: sealwax.Sealer) -> None:
    before = old.read_bytes()
    with pytest.raises(ValueError, match="two files"):
        sealer.open(old, "wb", context={"purpose": "backup"}, header=str(old))
    assert old.read_bytes() == before
