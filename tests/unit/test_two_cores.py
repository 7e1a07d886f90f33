"""A large file's next group is read, or its last one written, in a second thread: the same bytes, the same errors."""

from __future__ import annotations

import errno
import gc
import io
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import sealwax
from sealwax._core.format import payload, readahead
from sealwax._core.format.stream import StreamReader
from tests.fakes import FakeKeyring

MIB = 1 << 20
GROUP = payload.GROUP_BYTES
CONTEXT = {"purpose": "test"}
NOISE = random.Random(2).randbytes(9 * MIB + 5)
SIZES = [
    border + shift
    for border in (readahead.AFTER_GROUPS * GROUP, (readahead.AFTER_GROUPS + 1) * GROUP, 8 * GROUP)
    for shift in (-1, 0, 1)
]


def others() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sealwax-background")]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(5000):
        if condition():
            return
        time.sleep(0.002)
    raise AssertionError("it never came to it")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert others() == []
    yield
    until(lambda: others() == [])


@pytest.fixture
def sealer() -> sealwax.Sealer:
    return sealwax.Sealer(FakeKeyring())


class Disk(io.BytesIO):
    """A file on a disk, as far as a stream can tell.

    Args:
        fails_at: the write that finds the disk full, or the read that fails; the one after it would not.
        slow: what the second thread waits for, half-way through, each time.
    """

    on_disk = True

    def __init__(self, data: bytes = b"", fails_at: int = -1, slow: threading.Event | None = None) -> None:
        super().__init__(data)
        self.threads: list[int] = []
        self._fails_at = fails_at
        self._slow = slow
        self._mine = threading.get_ident()

    def _take_part(self, number: int) -> None:
        self.threads.append(threading.get_ident())
        if len(self.threads) - 1 == self._fails_at:
            raise OSError(number, os.strerror(number))
        if self._slow is not None and threading.get_ident() != self._mine:
            assert self._slow.wait(60)

    def readinto(self, buffer: Any, /) -> int:
        self._take_part(errno.EIO)
        return super().readinto(buffer)

    def write(self, data: Any, /) -> int:
        self._take_part(errno.ENOSPC)
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
        with sealer.open_stream(source, context=CONTEXT) as reader:
            assert reader.readall() == plaintext
            assert reader.read(1) == b""
    source = Disk(sealed)
    with sealer.open_stream(source, context=CONTEXT) as reader:
        assert reader.readall() == plaintext
    # One group is written, or read, for every group that is asked for; then the second thread is worth its start.
    for file, least in ((sink, readahead.AFTER_GROUPS + 1), (source, readahead.AFTER_GROUPS)):
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
    with sealer.open_stream(path, context=CONTEXT) as reader:
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
    with sealer.open_stream(fifo, context=CONTEXT) as reader:
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
    assert done.stdout.startswith(f"writing '{old}' failed: File too large; ")
    assert old.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("group", range(9))
@pytest.mark.usefixtures("cores")
def test_what_is_tampered_with_is_told_when_it_is_reached(group: int, sealer: sealwax.Sealer) -> None:
    sealed = bytearray(sealer.encrypt(NOISE, context=CONTEXT))
    start = len(sealed) - payload.payload_size(len(NOISE)) + payload.HEAD_BYTES
    sealed[start + group * payload.SEALED_GROUP_BYTES + 100_000] ^= 1
    with sealer.open_stream(Disk(bytes(sealed)), context=CONTEXT) as reader:
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
        with sealer.open_stream(Disk(sealed), context=CONTEXT) as reader:
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
    with sealer.open_stream(Disk(sink.getvalue()), context=CONTEXT) as reader:
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
        except ValueError as error:
            print(error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    writer.close()
reader = sealer.open_stream(path, context=context)
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
    refused = "an envelope that was open when the process was forked continues only in the parent"
    assert done.stdout.splitlines() == [
        *[refused] * 4,
        "closed",
        str(9 << 20),
    ]


def refused_in_child(use: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(ValueError, match="only in the parent"):
                use()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("size", [0, 5, GROUP - 1, 2 * GROUP])
def test_a_forked_child_writes_nothing_into_its_parents_file(size: int, tmp_path: Path, sealer: sealwax.Sealer) -> None:
    """A header too many would do: what the child writes stands in the parent's file."""
    path, head = tmp_path / "small.swx", tmp_path / "head"
    for header in (None, head):
        writer = sealer.open(path, "wb", context=CONTEXT, header=header)
        writer.write(NOISE[:size])
        refused_in_child(writer.close)
        writer.close()
        assert sealer.decrypt(path.read_bytes(), context=CONTEXT, header=header) == NOISE[:size]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("how", ["open_stream", "open"])
def test_a_forked_child_moves_nothing_in_its_parents_file(how: str, tmp_path: Path, sealer: sealwax.Sealer) -> None:
    path, data = tmp_path / "small.swx", NOISE[: 3 * GROUP]
    path.write_bytes(sealer.encrypt(data, context=CONTEXT))
    with getattr(sealer, how)(path, context=CONTEXT) as reader:
        read = bytearray(reader.read(GROUP))
        refused_in_child(lambda: reader.read(GROUP))
        while part := reader.read(GROUP):
            read += part
    assert read == data


@pytest.mark.parametrize("fails_at", range(9))
@pytest.mark.usefixtures("cores")
def test_after_a_read_that_failed_nothing_is_read(fails_at: int, sealer: sealwax.Sealer) -> None:
    """How far the file was read is not known, and to go on would be to leave something out, or to cry tampering."""
    source = Disk(sealer.encrypt(NOISE, context=CONTEXT), fails_at)
    reader = sealer.open_stream(source, context=CONTEXT)
    for group in range(fails_at):
        assert reader.read(GROUP) == NOISE[group * GROUP : (group + 1) * GROUP]
    with pytest.raises(OSError, match="Input/output error"):
        reader.read(GROUP)
    assert others() == []
    with pytest.raises(ValueError, match="failed"):
        reader.read(1)
    reader.close()


@pytest.fixture
def interrupt() -> Iterator[Callable[[CodeType, Callable[[], bool]], threading.Thread]]:
    """Raise TimeoutError in this thread, as a signal's handler does, once it runs a function and something is so."""
    main, before = threading.get_ident(), signal.getsignal(signal.SIGALRM)
    ready: list[Callable[[], bool]] = []

    def handle(*_: object) -> None:
        until(ready[0])
        raise TimeoutError("the alarm")

    def runs(code: CodeType) -> bool:
        frame: FrameType | None = sys._current_frames()[main]
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        return frame is not None

    def in_thread(code: CodeType, first: Callable[[], bool]) -> threading.Thread:
        def send() -> None:
            until(lambda: runs(code))
            signal.pthread_kill(main, signal.SIGALRM)

        ready[:] = [first]
        sender = threading.Thread(target=send)
        sender.start()
        return sender

    signal.signal(signal.SIGALRM, handle)
    yield in_thread
    signal.signal(signal.SIGALRM, before)


def reading_ahead(sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch) -> tuple[StreamReader, threading.Event]:
    """Return a reader whose second thread reads the next group, and waits for what is returned with it."""
    say_cores(monkeypatch, 2)
    slow = threading.Event()
    reader = sealer.open_stream(Disk(sealer.encrypt(NOISE, context=CONTEXT), slow=slow), context=CONTEXT)
    for _ in range(readahead.AFTER_GROUPS):
        assert reader.read(GROUP)
    return reader, slow


def test_an_interrupted_read_leaves_no_group_out(
    sealer: sealwax.Sealer,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[CodeType, Callable[[], bool]], threading.Thread],
) -> None:
    reader, slow = reading_ahead(sealer, monkeypatch)
    work = reader._ahead._work  # type: ignore[union-attr]
    assert work is not None

    def group_is_there() -> bool:
        slow.set()
        return work.done()

    sender = interrupt(readahead.BackgroundTask.wait.__code__, group_is_there)
    with pytest.raises(TimeoutError, match="alarm"):
        reader.read(GROUP)
    sender.join()
    with pytest.raises(ValueError, match="failed"):
        reader.read(GROUP)
    reader.close()


def test_an_interrupted_end_waits_for_the_write_all_the_same(
    sealer: sealwax.Sealer,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[CodeType, Callable[[], bool]], threading.Thread],
) -> None:
    """A file that is closed while another thread writes may be another file by then."""
    say_cores(monkeypatch, 2)
    slow = threading.Event()
    sink = Disk(slow=slow)
    writer = sealer.open(sink, "wb", context=CONTEXT)
    writer.write(NOISE[: 5 * GROUP])
    assert len(others()) == 1
    before = len(sink.getvalue())
    released = threading.Timer(0.2, slow.set)

    def not_yet() -> bool:
        released.start()
        return True

    sender = interrupt(readahead.BackgroundTask.close.__code__, not_yet)
    with pytest.raises(TimeoutError, match="alarm"):
        writer.abandon()
    assert len(sink.getvalue()) == before + payload.SEALED_GROUP_BYTES
    assert writer.closed
    assert not any(writer._pending)
    sender.join()
    released.join()


def test_a_reader_that_goes_out_of_scope_while_it_reads_ahead_is_wiped(
    sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one to hold it is its own second thread."""
    reader, slow = reading_ahead(sealer, monkeypatch)
    buffers = reader._plain, reader._spare
    assert any(buffers[0])
    assert buffers[1]
    del reader
    gc.collect()
    assert any(buffers[0])
    slow.set()
    until(lambda: others() == [])
    assert not any(buffers[0])
    assert not any(buffers[1])


def program(text: str, *arguments: object) -> list[str]:
    """Run a program of its own, which may hang where something is wrong; return its lines."""
    before = """
        import atexit, gc, io, os, sys, threading, time
        import sealwax
        from tests.fakes import FakeKeyring
        os.sched_getaffinity = lambda _: {0, 1}
        sealer = sealwax.Sealer(FakeKeyring())
        context = {"purpose": "test"}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(before) + textwrap.dedent(text), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("collected", ["in its own thread", "where threads cannot end"])
def test_a_writer_that_is_garbage_stops_nobody(collected: str, tmp_path: Path) -> None:
    """Garbage is collected in whatever thread makes the next object, whatever locks it holds."""
    text = """
        class Disk(io.BytesIO):
            on_disk = True
            def write(self, data):
                if threading.current_thread() is not threading.main_thread():
                    begun.set()
                    assert go.wait(60)
                    gc.collect()
                return super().write(data)

        begun, go = threading.Event(), threading.Event()
        gc.disable()
        sink = Disk()
        writer = sealer.open(sink, "wb", context=context)
        writer.write(bytes(5 << 20))
        begun.wait()
        if sys.argv[1] == "in its own thread":
            cycle = [writer]
            cycle.append(cycle)
            del writer, cycle
            go.set()
        else:
            go.set()
            with threading._active_limbo_lock:
                del writer
        while threading.active_count() > 1:
            time.sleep(0.002)
        try:
            sealer.decrypt(sink.getvalue(), context=context)
        except sealwax.PayloadError:
            print("no end")
    """
    assert program(text, collected) == ["no end"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["atexit", "thread"])
def test_while_the_interpreter_ends_one_thread_does(when: str, tmp_path: Path) -> None:
    text = """
        def backup():
            with sealer.open(sys.argv[2], "wb", context=context) as writer:
                writer.write(bytes(9 << 20))
            with sealer.open_stream(sys.argv[2], context=context) as reader:
                print(len(reader.readall()))

        def late():
            threading.main_thread().join()
            while not ended.is_set():
                time.sleep(0.002)
            backup()

        if sys.argv[1] == "atexit":
            atexit.register(backup)
        else:
            ended = threading.Event()
            threading._register_atexit(ended.set)
            threading.Thread(target=late).start()
    """
    assert program(text, when, tmp_path / "file.swx") == [str(9 * MIB)]
