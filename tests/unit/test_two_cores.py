"""A large file's next group is read, or its last one written, in a second thread: the same bytes, the same errors."""

from __future__ import annotations

import errno
import io
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax.format import beside, payload
from tests.fakes import FakeKeyring

MIB = 1 << 20
GROUP = payload.GROUP_BYTES
CONTEXT = {"purpose": "test"}
NOISE = random.Random(2).randbytes(9 * MIB + 5)
SIZES = [
    border + shift
    for border in (beside.AFTER_GROUPS * GROUP, (beside.AFTER_GROUPS + 1) * GROUP, 8 * GROUP)
    for shift in (-1, 0, 1)
]


def others() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sealwax-beside")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert others() == []
    yield
    assert others() == []


@pytest.fixture
def sealer() -> sealwax.Sealer:
    return sealwax.Sealer(FakeKeyring())


class Disk(io.BytesIO):
    """A file on a disk, as far as a stream can tell; ``fails_at`` is the write that finds the disk full."""

    on_disk = True

    def __init__(self, data: bytes = b"", fails_at: int = -1) -> None:
        super().__init__(data)
        self.threads: list[int] = []
        self._fails_at = fails_at

    def readinto(self, buffer: Any, /) -> int:
        self.threads.append(threading.get_ident())
        return super().readinto(buffer)

    def write(self, data: Any, /) -> int:
        if len(self.threads) == self._fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.threads.append(threading.get_ident())
        return super().write(data)


def say_cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many cores the machine says it has."""
    say_cores(monkeypatch, request.param)
    return int(request.param)


@pytest.mark.parametrize("size", [0, 5, *SIZES, len(NOISE)])
def test_the_second_thread_changes_nothing(size: int, cores: int, sealer: sealwax.Sealer) -> None:
    plaintext = NOISE[:size]
    sink = Disk()
    with sealer.open(sink, "wb", context=CONTEXT) as writer:
        for at in range(0, size, 3 * GROUP // 2):
            writer.write(plaintext[at : at + 3 * GROUP // 2])
    sealed = sink.getvalue()
    assert sealer.decrypt(sealed, context=CONTEXT) == plaintext

    for source in (Disk(sealed), io.BytesIO(sealed)):
        with sealer.read_once(source, context=CONTEXT) as reader:
            assert reader.readall() == plaintext
            assert reader.read(1) == b""
    source = Disk(sealed)
    with sealer.read_once(source, context=CONTEXT) as reader:
        assert reader.readall() == plaintext
    # One group is written, or read, for every group that is asked for; then the second thread is worth its start.
    for file, least in ((sink, beside.AFTER_GROUPS + 1), (source, beside.AFTER_GROUPS)):
        beside_it = set(file.threads) - {threading.get_ident()}
        assert len(beside_it) == (cores > 1 and size >= least * GROUP)


def test_files_of_a_path_are_worked_on_by_both_cores(
    tmp_path: Path, sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_cores(monkeypatch, 2)
    path = tmp_path / "large.swx"
    with sealer.open(path, "wb", context=CONTEXT) as writer:
        writer.write(NOISE)
        assert len(others()) == 1
    with sealer.read_once(path, context=CONTEXT) as reader:
        assert reader.read(6 * GROUP)
        assert reader.read(GROUP)
        while reader.tell() < 6 * GROUP:
            reader.read(GROUP)
        assert len(others()) == 1
    assert sealer.decrypt(path.read_bytes(), context=CONTEXT) == NOISE


def test_a_pipe_and_a_callers_file_stay_in_the_callers_thread(tmp_path: Path, sealer: sealwax.Sealer) -> None:
    sealed = io.BytesIO()
    with (tmp_path / "own").open("wb", buffering=0) as own:
        for sink in (own, sealed):
            with sealer.open(sink, "wb", context=CONTEXT) as writer:
                writer.write(NOISE)
                assert others() == []
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    feeder = threading.Thread(target=lambda: fifo.write_bytes(sealed.getvalue()))
    feeder.start()
    with sealer.read_once(fifo, context=CONTEXT) as reader:
        while reader.read(GROUP):
            assert others() == []
    feeder.join()


@pytest.mark.parametrize("fails_at", range(2, 12))
@pytest.mark.usefixtures("cores")
def test_a_disk_that_is_full_is_told(fails_at: int, sealer: sealwax.Sealer) -> None:
    """Header and head are writes 0 and 1; the groups follow, and the last chunk."""
    sink = Disk(fails_at=fails_at)
    writer = sealer.open(sink, "wb", context=CONTEXT)
    with pytest.raises(OSError, match="No space"), writer:
        writer.write(NOISE)
    assert writer.closed
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")
    with pytest.raises(sealwax.PayloadError):
        sealer.decrypt(sink.getvalue(), context=CONTEXT)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, cores: int) -> None:
    """The limit on a file's size is the whole process's, so it is set in one of its own."""
    old = tmp_path / "old"
    old.write_bytes(b"before")
    program = f"""
import os, resource, signal, sys
import sealwax
from tests.fakes import FakeKeyring
os.sched_getaffinity = lambda _: set(range({cores}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6_500_000, 6_500_000))
try:
    with sealwax.Sealer(FakeKeyring()).open(sys.argv[1], "wb", context={{"purpose": "test"}}) as writer:
        for _ in range(9):
            writer.write(bytes(1 << 20))
except sealwax.FileError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, str(old)], capture_output=True, text=True, check=True)
    assert done.stdout == f"writing '{old}' failed: File too large\n"
    assert old.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("group", range(9))
@pytest.mark.usefixtures("cores")
def test_what_is_tampered_with_is_told_when_it_is_reached(group: int, sealer: sealwax.Sealer) -> None:
    sealed = bytearray(sealer.encrypt(NOISE, context=CONTEXT))
    start = len(sealed) - payload.payload_size(len(NOISE)) + payload.HEAD_BYTES
    sealed[start + group * payload.SEALED_GROUP_BYTES + 100_000] ^= 1
    with sealer.read_once(Disk(bytes(sealed)), context=CONTEXT) as reader:
        for number in range(group):
            assert reader.read(GROUP) == NOISE[number * GROUP : (number + 1) * GROUP]
        with pytest.raises(sealwax.TamperedError, match=f"after byte {group * GROUP} of the plaintext"):
            reader.read(1)
        # Nothing is to be had by asking again.
        with pytest.raises(sealwax.TamperedError):
            reader.read(1)


@pytest.mark.usefixtures("cores")
def test_reading_may_end_early(sealer: sealwax.Sealer) -> None:
    sealed = sealer.encrypt(NOISE, context=CONTEXT)
    for groups in range(9):
        with sealer.read_once(Disk(sealed), context=CONTEXT) as reader:
            for _ in range(groups):
                assert reader.read(GROUP)


@pytest.mark.usefixtures("cores")
def test_writing_may_be_abandoned(sealer: sealwax.Sealer) -> None:
    for groups in range(9):
        sink = Disk()
        writer = sealer.open(sink, "wb", context=CONTEXT)
        writer.write(NOISE[: groups * GROUP])
        writer.abandon()
        assert others() == []
        with pytest.raises(sealwax.SealwaxError):
            sealer.decrypt(sink.getvalue(), context=CONTEXT)


def test_no_thread_is_to_be_had(sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    say_cores(monkeypatch, 2)

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    sink = Disk()
    with sealer.open(sink, "wb", context=CONTEXT) as writer:
        writer.write(NOISE)
    with sealer.read_once(Disk(sink.getvalue()), context=CONTEXT) as reader:
        assert reader.readall() == NOISE


def test_a_forked_child_neither_waits_nor_writes(tmp_path: Path) -> None:
    """Two texts under one nonce would be the end of both."""
    program = """
import os, sys
import sealwax
from tests.fakes import FakeKeyring
os.sched_getaffinity = lambda _: {0, 1}
sealer = sealwax.Sealer(FakeKeyring())
context = {"purpose": "test"}
path = sys.argv[1]
for begun, more in ((1 << 20, 1 << 20), (1 << 20, 0), (9 << 20, 9 << 20), (9 << 20, 0)):
    writer = sealer.open(path, "wb", context=context)
    writer.write(bytes(begun))
    pid = os.fork()
    if not pid:
        try:
            with writer:
                writer.write(bytes(more))
        except RuntimeError as error:
            print(error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    writer.close()
reader = sealer.read_once(path, context=context)
assert reader.read(1 << 20)
while reader.tell() < 6 << 20:
    reader.read(1 << 20)
pid = os.fork()
if not pid:
    reader.close()
    print("closed", flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(reader.tell() + len(reader.readall()))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(tmp_path / "file.swx")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    refused = "an envelope that was open when the process was forked goes on in the parent only"
    assert done.stdout.splitlines() == [
        *[refused] * 4,
        "closed",
        str(9 << 20),
    ]
