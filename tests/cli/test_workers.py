"""Many files at once: whatever --workers is, what is done, what is said and the status are the same."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sealwax import cli
from sealwax._core import batch
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax.cli import contents, jobs
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import Done, Shell, flipped, payload_offset, unprivileged

CONTEXT: Final = {"purpose": "backup"}
REGION: Final = "us-east-1"
WORKERS: Final = 8


@contextlib.contextmanager
def slow(keys: Keys, milliseconds: float = 40) -> Iterator[None]:
    """Let the lab answer later, so that waiting dominates."""
    keys.lab.faults.add(REGION, "latency", milliseconds, operation=None, code=None, seed=0)
    try:
        yield
    finally:
        keys.lab.faults.clear(REGION, None)


@contextlib.contextmanager
def threads_seen() -> Iterator[set[str]]:
    """Note the names of the threads that work on files while the block runs."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            seen.update(thread.name for thread in threading.enumerate() if thread.name.startswith("sealwax-batch"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def files_in(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# --- the rule


def test_threads_start_once_waiting_dominates() -> None:
    waiting = batch.Waiting()
    assert not waiting.dominates
    waiting.add(10, 5)
    assert not waiting.dominates
    waiting.add(1, 0)
    assert waiting.dominates
    waiting.add(10, 10)
    assert not waiting.dominates
    assert batch.Waiting(known=True).dominates


def test_one_worker_is_no_thread_and_eight_are_eight(run: Run, keys: Keys) -> None:
    os.mkdir("in")
    for number in range(24):
        Path(f"in/{number}").write_bytes(b"x")
    with slow(keys):
        with threads_seen() as seen:
            assert run("encrypt", *K, *PURPOSE, "-r", "-o", "one", "--workers", "1", "in") == 0
        assert seen == set()
        with threads_seen() as seen:
            assert run("encrypt", *K, *PURPOSE, "-r", "-o", "many", "in") == 0
        assert len(seen) == WORKERS
    assert len(files_in("one")) == len(files_in("many")) == 24


# --- the same, whatever --workers is

Make = Callable[[Keys, str], None]
_Kinds = dict[str, Make]
SEALED: Final[_Kinds] = {}
PLAIN: Final[_Kinds] = {}


def kind(table: _Kinds) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        table[make.__name__] = make
        return make

    return add


def seal(keys: Keys, data: bytes = b"a plaintext", context: dict[str, str] = CONTEXT, arn: str = "") -> bytes:
    return keys.sealer(arn or keys.demo).encrypt(data, context=context)


@kind(SEALED)
def whole(keys: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(seal(keys))


@kind(SEALED)
def refused(keys: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(seal(keys, arn=keys.foreign))


@kind(SEALED)
def of_another_context(keys: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(seal(keys, context={"purpose": "other"}))


@kind(SEALED)
def damaged(keys: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(flipped(seal(keys), -1))


@kind(SEALED)
def of_a_damaged_header(keys: Keys, name: str) -> None:
    sealed = seal(keys)
    Path(f"in/{name}.swx").write_bytes(flipped(sealed, payload_offset(sealed) - 5))


@kind(SEALED)
def cut_off(keys: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(seal(keys)[:-30])


@kind(SEALED)
def no_envelope(_: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(b"Dear diary")


@kind(SEALED)
def passed_over(_: Keys, name: str) -> None:
    Path(f"in/{name}.txt").write_bytes(b"Dear diary")


@kind(SEALED)
@kind(PLAIN)
def unreadable(keys: Keys, name: str) -> None:
    whole(keys, name)
    os.chmod(f"in/{name}.swx", 0)


@kind(SEALED)
@kind(PLAIN)
def a_link(_: Keys, name: str) -> None:
    os.symlink("nowhere", f"in/{name}.swx")


@kind(SEALED)
def in_the_way(keys: Keys, name: str) -> None:
    whole(keys, name)
    Path(f"out/{name}").write_bytes(b"longer than what is to be there")


@kind(SEALED)
def done_before(keys: Keys, name: str) -> None:
    whole(keys, name)
    Path(f"out/{name}").write_bytes(b"a plaintext")
    shutil.copystat(f"in/{name}.swx", f"out/{name}")


@kind(PLAIN)
def value(_: Keys, name: str) -> None:
    Path(f"in/{name}").write_bytes(name.encode())


@kind(PLAIN)
def empty(_: Keys, name: str) -> None:
    Path(f"in/{name}").write_bytes(b"")


@kind(PLAIN)
def of_many_chunks(_: Keys, name: str) -> None:
    Path(f"in/{name}").write_bytes(bytes(70_000))


@kind(PLAIN)
def an_envelope_already(keys: Keys, name: str) -> None:
    Path(f"in/{name}").write_bytes(seal(keys))


@kind(PLAIN)
def called_an_envelope(_: Keys, name: str) -> None:
    Path(f"in/{name}.swx").write_bytes(b"Dear diary")


@kind(PLAIN)
def in_its_way(_: Keys, name: str) -> None:
    value(_, name)
    Path(f"out/{name}.swx").write_bytes(b"something else")


@kind(PLAIN)
def sealed_before(keys: Keys, name: str) -> None:
    value(keys, name)
    Path(f"out/{name}.swx").write_bytes(seal(keys, name.encode()))
    shutil.copystat(f"in/{name}", f"out/{name}.swx")


def test_the_tables_are_whole() -> None:
    assert (len(SEALED), len(PLAIN)) == (12, 9)


def _run(capfd: pytest.CaptureFixture[str], *arguments: str) -> Done:
    capfd.readouterr()
    with unprivileged():
        status = cli.run(arguments)
    out, err = capfd.readouterr()
    err = re.sub(r"^sealwax: (KMS|S3|STS) .*\n", "", err, flags=re.MULTILINE)  # each request has a time of its own
    for timed in (r"request id [0-9a-f-]+", r"[0-9.]+ s;", r'"seconds": [0-9.]+'):
        out, err = (re.sub(timed, "...", text) for text in (out, err))
    return Done(status, out.encode(), err)


def _same(keys: Keys, capfd: pytest.CaptureFixture[str], kinds: list[tuple[str, Make]], verb: str, json_: bool) -> None:
    """Hold that a run with one worker and one with eight do and say the same over files of these kinds."""
    for name in ("in", "out", "in.kept", "out.kept"):
        shutil.rmtree(name, ignore_errors=True)
    os.makedirs("in")
    os.makedirs("out")
    # A few that are done, so that the threads have begun when it gets difficult.
    first = value if verb == "encrypt" else whole
    for number, make in enumerate([*[first] * 8, *(make for _, make in kinds), first]):
        make(keys, f"{number:02}")
    for name in ("in", "out"):
        shutil.copytree(name, f"{name}.kept", symlinks=True)
    arguments = [verb, *K, *PURPOSE, "-r", *(["--json"] if json_ else []), *([] if json_ else ["-v"])]
    arguments += ["--to", keys.demo2] if verb in ("rewrap", "reencrypt") else []
    arguments += ["-o", "out"] if verb in ("encrypt", "decrypt") else []
    found = []
    with slow(keys):
        for workers in (1, WORKERS):
            for name in ("in", "out"):
                shutil.rmtree(name)
                shutil.copytree(f"{name}.kept", name, symlinks=True)
            with threads_seen() as seen:
                done = _run(capfd, *arguments, "--workers", str(workers), "in")
            assert (len(seen) > 1) is (workers > 1)
            found.append((done, set(files_in("in")), set(files_in("out")), files_in("out") if verb == "decrypt" else 0))
    assert found[0] == found[1]
    lines = found[0][0].out.decode().splitlines()
    assert len(lines) == (len(kinds) + 10 if json_ else 0)
    if json_:
        paths = [json.loads(line)["path"] for line in lines[:-1]]
        assert paths == sorted(paths)


@settings(
    max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(kinds=st.lists(st.sampled_from(sorted(SEALED.items())), min_size=8, max_size=20), json_=st.booleans())
@example(kinds=sorted(SEALED.items()), json_=False)
def test_decrypting_is_the_same_with_one_and_with_eight(
    here: Path, keys: Keys, capfd: pytest.CaptureFixture[str], kinds: list[tuple[str, Make]], json_: bool
) -> None:
    assert here.is_dir()
    _same(keys, capfd, kinds, "decrypt", json_)


@settings(
    max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(kinds=st.lists(st.sampled_from(sorted(PLAIN.items())), min_size=8, max_size=20), json_=st.booleans())
@example(kinds=sorted(PLAIN.items()), json_=False)
def test_encrypting_is_the_same_with_one_and_with_eight(
    here: Path, keys: Keys, capfd: pytest.CaptureFixture[str], kinds: list[tuple[str, Make]], json_: bool
) -> None:
    assert here.is_dir()
    _same(keys, capfd, kinds, "encrypt", json_)


@pytest.mark.parametrize("verb", ["verify", "rewrap", "reencrypt"])
def test_every_verb_is_the_same_with_one_and_with_eight(
    here: Path, keys: Keys, capfd: pytest.CaptureFixture[str], verb: str
) -> None:
    assert here.is_dir()
    _same(keys, capfd, sorted(SEALED.items()), verb, json_=verb == "verify")


# --- what depends on what is under way


def test_a_file_that_another_one_of_the_run_writes_waits_for_it(run: Run, keys: Keys) -> None:
    names = [f"{number}" for number in range(8)]
    for name in names:
        Path(name).write_bytes(b"x")
    Path("a").write_bytes(b"the new one")
    Path("a.swx").write_bytes(b"an old one")
    Path("b.swx").write_bytes(b"the old one")
    Path("b").write_bytes(b"a new one")
    with slow(keys), threads_seen() as seen:
        assert run("encrypt", *K, *PURPOSE, "--force", *names, "a", "a.swx", "b.swx", "b") == 0
    assert len(seen) > 1
    sealer = keys.sealer(keys.demo)
    once = Path("a.swx").read_bytes()
    assert sealer.decrypt(once, context=CONTEXT) == b"the new one"
    assert sealer.decrypt(Path("a.swx.swx").read_bytes(), context=CONTEXT) == once
    assert sealer.decrypt(Path("b.swx").read_bytes(), context=CONTEXT) == b"a new one"
    assert sealer.decrypt(Path("b.swx.swx").read_bytes(), context=CONTEXT) == b"the old one"


def test_a_file_that_is_named_twice_is_changed_once(run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    names = [f"{number}.swx" for number in range(8)]
    for name in (*names, "a.swx"):
        Path(name).write_bytes(seal(keys))
    with slow(keys), threads_seen() as seen:
        assert run("reencrypt", "-v", *K, *PURPOSE, "--to", keys.demo2, *names, "a.swx", "./a.swx") == 0
    assert len(seen) > 1
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("sealwax: KMS ")]
    assert lines[-3:-1] == [
        "sealwax: a.swx: re-encrypted",
        "sealwax: ./a.swx: already re-encrypted, according to its header",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-o", "in/z", "in"),
        ("in", "in/sub"),
        (*(f"in/sub/{number}" for number in range(8)), "in"),
        ("-o", ".", "mine", "in"),
    ],
)
def test_what_is_being_written_is_not_taken_for_a_file_of_the_folder(
    here: Path, keys: Keys, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    found = []
    for workers in ("1", "8"):
        for folder in here.iterdir():
            shutil.rmtree(folder)
        os.makedirs("in/sub")
        os.makedirs("in/z/sub")
        os.makedirs("mine/in/sub")
        for number in range(8):
            Path(f"in/sub/{number}").write_bytes(b"x")
            Path(f"mine/in/sub/more{number}").write_bytes(b"x")
        with slow(keys, 15):
            done = _run(capfd, "encrypt", "-v", *K, *PURPOSE, "--workers", workers, "-r", *arguments)
        found.append((done, sorted(str(path) for path in Path().rglob("*"))))
    assert found[0] == found[1]
    assert not [line for line in found[0][0].err.splitlines() if ".part" in line]


# --- credentials, and interruptions


def test_lost_credentials_are_told_once_and_what_has_not_begun_is_dropped(
    run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkdir("in")
    for number in range(120):
        Path(f"in/{number:03}").write_bytes(b"x")
    before = keys.calls().count("GenerateDataKey")

    def expire() -> None:
        while keys.calls().count("GenerateDataKey") < before + 30:
            time.sleep(0.01)
        keys.lab.faults.add(REGION, "error", 1.0, operation="GenerateDataKey", code="ExpiredTokenException", seed=0)

    expiring = threading.Thread(target=expire)
    with slow(keys, 400):  # so that a busy machine counts them in time, too
        expiring.start()
        status = run("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in")
        expiring.join()
    err = capfd.readouterr().err
    assert status == 8
    assert err.count("the AWS credentials have expired") == 1
    assert err.count("the run ends here") == 1
    done = len(files_in("out"))
    assert f"; {done} encrypted; " in err
    assert re.search(r"[0-9]+ of 120 not done: [1-8] failed, [0-9]+ not tried; ", err)
    asked = keys.calls().count("GenerateDataKey") - before
    assert 30 <= done <= asked <= done + WORKERS


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_files_and_says_which(
    shell: Shell, keys: Keys, number: signal.Signals, status: int
) -> None:
    for name in range(200):
        shell.write(f"in/{name}", b"x")
    with slow(keys, 100), shell.start("encrypt", "-v", *K, *PURPOSE, "-r", "-o", "out", "in") as process:
        while len(list(shell.folder.glob("out/*.swx"))) < 20:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate()
    assert process.returncode == status
    out = files_in(str(shell.folder / "out"))
    assert 20 <= len(out) < 200
    sealer = keys.sealer(keys.demo)
    assert {sealer.decrypt(data, context=CONTEXT) for data in out.values()} == {b"x"}  # and no part of a file
    told = re.findall(r"in/([0-9]+): encrypted -> out/", err.decode())
    assert sorted(f"{name}.swx" for name in told) == sorted(out)
    assert "sealwax: next: run the same command again to resume\n" in err.decode()
    if number == signal.SIGINT:
        assert err.decode().splitlines()[-1] == "sealwax: interrupted"


class Interrupting(io.StringIO):
    """Standard error that gets a signal while the third line about a file is printed."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def write(self, text: str) -> int:
        size = super().write(text)
        if "encrypted" in text:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
        return size


@pytest.mark.parametrize("wait", [0, 30], ids=["by the main thread", "by threads"])
def test_a_signal_waits_until_what_is_done_is_reported(
    run: Run, keys: Keys, monkeypatch: pytest.MonkeyPatch, wait: int
) -> None:
    Path("in").mkdir()
    for name in range(60):
        Path(f"in/{name}").write_bytes(b"x")
    errors = Interrupting()
    monkeypatch.setattr(sys, "stderr", errors)
    with slow(keys, wait):
        assert run("encrypt", "-v", *K, *PURPOSE, "-r", "-o", "out", "in") == 130
    reported = re.findall(r"in/([0-9]+): encrypted -> out/", errors.getvalue())
    assert 3 <= len(reported) < 60
    assert sorted(f"{name}.swx" for name in reported) == sorted(os.listdir("out"))


# --- killed


def kill_and_repeat(shell: Shell, keys: Keys, verb: str, *, files: int, kills: int) -> None:
    """Kill a run at random moments and repeat it: no file is lost, and none is done twice."""
    folder = str(shell.folder / "in")
    out = str(shell.folder / "out") if verb == "encrypt" else folder
    os.mkdir(folder)
    for number in range(files):
        data = b"value %d" % number
        shell.write(
            f"in/{number}" if verb == "encrypt" else f"in/{number}.swx", data if verb == "encrypt" else seal(keys, data)
        )
    arguments = [verb, *K, *PURPOSE, "-r", *(["-o", "out"] if verb == "encrypt" else ["--to", keys.demo2]), "in"]
    operation = "ReEncrypt" if verb == "rewrap" else "GenerateDataKey"

    def asked() -> int:
        """How often KMS has done it; what is under the new key already it refuses."""
        records = [event.record for event in keys.lab.trail.events()]
        return sum(record["eventName"] == operation and "errorCode" not in record for record in records)

    began = asked()

    def done() -> dict[str, bytes]:
        """The envelopes that are done, with what tells that they have not been done again."""
        found = {}
        for path in Path(out).glob("*.swx"):
            header = inspect_envelope(path).header
            if header.finished and (verb == "encrypt" or header.slot.wrapped_keys[0].key_arn == keys.demo2):
                found[str(path)] = path.read_bytes()
        return found

    midway = 0
    with slow(keys, 30):
        for _ in range(kills):
            before = done()
            with shell.start(*arguments) as process:
                wanted = len(before) + random.randrange(1, files // (2 * kills))
                while len(done()) < wanted and process.poll() is None:
                    time.sleep(0.005)
                time.sleep(random.uniform(0, 0.05))
                process.kill()
                process.communicate()
            after = done()
            assert before.items() <= after.items()  # the very bytes: none was done again
            midway += len(before) < len(after) < files
        assert midway >= kills // 2
        before = done()
        shell.sealwax(*arguments).succeeded()
    after = done()
    assert before.items() <= after.items()
    assert len(after) == files
    sealer = keys.sealer(keys.demo if verb == "encrypt" else keys.demo2)
    found = sorted(sealer.decrypt(data, context=CONTEXT) for data in after.values())
    assert found == sorted(b"value %d" % number for number in range(files))
    # KMS was asked again only for what a killed run had not put in its place.
    assert files <= asked() - began <= files + kills * WORKERS
    assert len(list(shell.folder.rglob(".*.part"))) <= kills * WORKERS


def test_killed_four_times_and_repeated(shell: Shell, keys: Keys) -> None:
    kill_and_repeat(shell, keys, "encrypt", files=120, kills=4)


@pytest.mark.soak
@pytest.mark.parametrize("verb", ["encrypt", "rewrap", "reencrypt"])
def test_killed_twenty_times_and_repeated(shell: Shell, keys: Keys, verb: str) -> None:
    kill_and_repeat(shell, keys, verb, files=800, kills=20)


# --- small files are sealed as values


@pytest.mark.parametrize("size", [65_535, 65_536])
def test_small_and_large_files_are_the_same_envelopes(here: Path, run: Run, keys: Keys, size: int) -> None:
    data = os.urandom(size)
    (here / "a").write_bytes(data)
    assert run("encrypt", *K, *PURPOSE, "a") == 0
    sealed = (here / "a.swx").read_bytes()
    assert keys.sealer(keys.demo).decrypt(sealed, context=CONTEXT) == data
    assert len(sealed) == len(seal(keys, data))
    assert run("verify", *K, *PURPOSE, "a.swx") == 0
    assert run("decrypt", *K, *PURPOSE, "-o", "b", "a.swx") == 0
    assert (here / "b").read_bytes() == data
    # What is damaged ends as ever, and asks KMS no more than once.
    (here / "a.swx").write_bytes(flipped(sealed, -1))
    before = keys.calls().count("Decrypt")
    for verb in (("verify",), ("decrypt", "-o", "c")):
        assert run(*verb, *K, *PURPOSE, "a.swx") == 5
    assert keys.calls().count("Decrypt") == before + 2
    assert not (here / "c").exists()


def test_a_file_that_grows_while_it_is_read_is_read_as_a_stream(here: Path) -> None:
    path = here / "log"
    path.write_bytes(b"x" * 10)
    with contents.Source(jobs.FileJob(str(path), None, None)) as source:
        path.write_bytes(b"y" * 70_000)
        assert source.whole() is None
        assert source.binary.read() == b"y" * 70_000
