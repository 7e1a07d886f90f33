"""A run over many files: what it says while it lasts and at its end, what it counts, and what --dry-run tells."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from sealwax.cli.jobs import FileJob
from sealwax.cli.kms_watch import KmsWatch
from sealwax.cli.meter import Meter
from sealwax.cli.state import RunState
from sealwax.cli.tally import Kinds, Tally, size_text, time_text
from sealwax.cli.turns import JobQueue, Turn
from sealwax.cli.work import Work
from sealwax.errors import FileError
from sealwax.events import KmsCall
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import Shell, unprivileged
from tests.cli.test_workers import REGION, slow
from tests.s3 import StrictS3

UP = ("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in")


def fill(count: int, folder: str = "in") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Path(f"{folder}/{number:03}").write_bytes(b"x" * 10)


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """What was printed to standard error since the last call, without the line about the lab."""
    return lambda: [line for line in capfd.readouterr().err.splitlines() if "using the lab" not in line]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.bucket()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


# --- what is said


def test_a_run_ends_with_one_line(run: Run, said: Callable[[], list[str]]) -> None:
    fill(4)
    os.mkfifo("in/pipe")
    assert run(*UP) == 0
    (line,) = said()
    assert re.fullmatch(
        r"sealwax: done: 4 encrypted; 1 skipped \(1 not a regular file\); 40 bytes in [0-9.]+ s; "
        r"4 KMS calls, 0\.000012 USD on AWS",
        line,
    )
    assert run(*UP, "-v") == 0
    assert [line for line in said() if " KMS " not in line[:30]][:5] == [
        *(f"sealwax: in/{number:03}: already encrypted -> out/{number:03}.swx" for number in range(4)),
        "sealwax: in/pipe: skipped, it is not a regular file",
    ]
    assert run(*UP, "-q") == 0
    assert said() == []
    assert run("encrypt", *K, *PURPOSE, "in/000") == 0
    assert said() == ["sealwax: in/000: encrypted -> in/000.swx"]


def test_failures_of_a_kind_are_one_block(run: Run, said: Callable[[], list[str]]) -> None:
    fill(30)
    assert run(*UP) == 0
    Path("out/007.swx").write_bytes(b"no envelope")
    said()
    wrong = ("verify", *K, "-c", "purpose=other", "-r", "out")
    assert run(*wrong) == 6
    other = "the envelope is bound to a different value of 'purpose' than the one given; inspect shows the stored value"
    first, alone, *block, summary, following = said()
    assert first == f"sealwax: out/000.swx: {other}"
    assert alone.startswith("sealwax: out/007.swx: this is not a sealwax envelope")
    assert block == [
        f"sealwax: 29 files: {other}",
        *(f"  out/00{number}.swx" for number in range(3)),
        "  and 26 more; use -v or --json to list them",
    ]
    assert summary.startswith("sealwax: 30 of 30 failed; ")
    assert following == "sealwax: next: fix the causes, then verify again"
    # With -v each has its line, and -q keeps the errors.
    run(*wrong, "-v")
    assert sum(line.endswith(other) for line in said()) == 29
    run(*wrong, "-q")
    *errors, last = said()
    assert errors == [first, alone, *block]
    assert last.startswith("sealwax: 30 of 30 failed; ")


def test_every_file_that_was_found_is_counted(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    fill(8)
    os.mkfifo("in/pipe")
    os.symlink("nowhere", "in/link")
    Path("in/a.tmp").write_bytes(b"")
    Path("in/plain.swx").write_bytes(b"plain")
    os.chmod("in/003", 0)
    with unprivileged():
        assert run(*UP, "--exclude", "*.tmp", "--json") == 8
    *lines, last = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(lines) == len(list(Path("in").iterdir()))
    counts = last["summary"]
    assert counts["done"] == {"encrypted": 7}
    assert counts["skipped"] == {"excluded": 1, "not a regular file": 1}
    assert counts["left_alone"] == {"a link": 1, "with an existing output": 1}
    assert (counts["failed"], counts["not_tried"], counts["all_found"]) == (1, 0, True)
    assert (counts["bytes"], counts["kms_calls"], counts["status"]) == (70, 7, 8)


def test_what_a_run_that_ends_early_has_not_tried_is_counted(
    run: Run, keys: Keys, said: Callable[[], list[str]]
) -> None:
    fill(200)
    keys.lab.faults.add(REGION, "error", 1.0, operation="GenerateDataKey", code="ExpiredTokenException", seed=0)
    try:
        assert run(*UP) == 7
    finally:
        keys.lab.faults.clear(REGION, None)
    first, ends, summary, following = said()
    assert "the AWS credentials have expired" in first
    assert ends == "sealwax: the run ends here, because everything else would fail the same way"
    match = re.match(r"sealwax: (\d+) of at least (\d+) not done: (\d+) failed, at least (\d+) not tried; ", summary)
    assert match is not None
    not_done, found, failed, not_tried = map(int, match.groups())
    assert not_done == found == failed + not_tried
    assert not_tried >= 15
    assert following == "sealwax: next: fix the causes, then run the same command again to resume"


def test_an_envelope_that_is_encrypted_again_is_noted_once(run: Run, keys: Keys, said: Callable[[], list[str]]) -> None:
    Path("in").mkdir()
    for number in range(6):
        Path(f"in/{number}").write_bytes(keys.sealer(keys.demo).encrypt(b"x", context={"a": "b"}))
    assert run(*UP) == 0
    first, *block, _summary = said()
    assert first == "sealwax: in/0: this is already an envelope; encrypting it again"
    assert block[0] == "sealwax: 6 files: this is already an envelope; encrypting it again"
    assert block[-1] == "  and 3 more; use -v or --json to list them"


# --- kinds


def kinds_of(*messages: tuple[str, str]) -> list[str]:
    kinds = Kinds()
    for source, message in messages:
        kinds.add(FileJob(source, f"out/{source}.swx", None), (), message)
    return list(kinds.told(listed=True))


def test_a_kind_leaves_out_what_is_of_one_file() -> None:
    down = "KMS could not be reached in eu-west-1 (EndpointConnectionError, request id {})"
    assert kinds_of(*((f"{n}", down.format(f"{n}f-{n}")) for n in range(5)))[0].splitlines() == [
        "5 files: KMS could not be reached in eu-west-1 (EndpointConnectionError, request id ...)",
        *("  0", "  1", "  2", "  and 2 more"),
    ]
    sizes = "'out/{0}.swx' has {0} of its {1} bytes; move it with `sealwax rewrap -- out/{0}.swx`"
    (text,) = kinds_of(*((str(n), sizes.format(n, n + 7)) for n in range(2)))
    assert text.startswith("2 files: '...' has ... of its ... bytes; move it with `sealwax rewrap -- ...`\n")
    (text,) = kinds_of(("1", "reading the folder 'in/a' failed: gone"), ("2", "reading the folder 'in/b' failed: gone"))
    assert text.startswith("2 files: reading the folder '...' failed: gone\n")
    # Keys, Regions and reasons are different kinds.
    assert not kinds_of(("1", "no access to 'alias/a'"), ("2", "no access to 'alias/b'"))
    assert not kinds_of(("1", "not reached in us-east-1"), ("2", "not reached in us-east-2"))
    assert not kinds_of(("1", "under 'arn:aws:kms:a:1:key/x'"), ("2", "under 'arn:aws:kms:a:1:key/y'"))


def test_kinds_are_bounded() -> None:
    kinds = Kinds()
    told = [
        kinds.add(FileJob(f"{n}", None, None), ("KmsError",), f"reason {'abcdefghij'[n % 10] * (n + 1)}")
        for n in range(1000)
    ]
    assert sum(told) == 201
    (text,) = kinds.told(listed=False)
    assert text.startswith("800 files: there are too many kinds")


# --- how far it is


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def state() -> Iterator[RunState]:
    state = RunState()
    with click.Context(click.Command("x"), obj=state).scope():
        yield state


def work() -> Work:
    return Work(
        ("in",), None, recursive=True, suffix=".swx", armor=False, detached=None, force=False, as_json=False,
        writes=True, of_envelopes=False,
    )  # fmt: skip


def job(number: int) -> FileJob:
    return FileJob(str(number), None, None, size=1 << 20)


def test_a_line_a_minute_without_a_terminal(state: RunState, said: Callable[[], list[str]]) -> None:
    clock = Clock()
    queue = JobQueue(map(job, range(40)))
    tally = Tally(work(), queue, clock)
    meter = Meter(tally, queue, clock)
    with meter.running():
        for number in range(40):
            turn = Turn(queue.next(), None, size=1 << 20)
            clock.now += 7
            if number == 1:
                tally.add_failure(FileError("why"))
            else:
                tally.add_done(turn, "encrypted")
            meter.show()
    # The 40 files are found by the third.
    assert said() == [
        "sealwax: 9 of 40 files, 8.0 MiB, 130.0 KiB/s, 1 failed, 3 min 37 s left",
        "sealwax: 18 of 40 files, 17.0 MiB, 138.2 KiB/s, 1 failed, 2 min 34 s left",
        "sealwax: 27 of 40 files, 26.0 MiB, 140.9 KiB/s, 1 failed, 1 min 31 s left",
        "sealwax: 36 of 40 files, 35.0 MiB, 142.2 KiB/s, 1 failed, 28 s left",
    ]
    state.quiet = True
    clock.now += 1000
    meter.show()
    assert said() == []


def test_bytes_of_a_file_under_way_count(state: RunState, said: Callable[[], list[str]]) -> None:
    assert not state.quiet
    from sealwax.cli import console

    clock = Clock()
    queue = JobQueue(map(job, range(100_000)))
    queue.next()
    meter = Meter(Tally(work(), queue, clock), queue, clock)
    with meter.running(), console.progress("a", None) as more:
        clock.now += 61
        more(64 << 20)
    assert said() == ["sealwax: 0 of 16+ files, 64.0 MiB, 1.0 MiB/s"]
    assert meter.text(", ").startswith("0 of 16+ files, 0 bytes, ")  # the file counts once it is reported


def test_what_was_found_ahead_is_bounded() -> None:
    found = itertools.count()
    queue = JobQueue(FileJob(str(number), None, None) for number in found)
    most = 0
    for number in range(2000):
        assert queue.next() == FileJob(str(number), None, None)
        most = max(most, queue.files - number - 1)
    assert 9_900 < most <= 10_000
    assert not queue.ended


def test_a_failed_search_ends_after_what_it_had_found() -> None:
    def jobs() -> Iterator[FileJob]:
        yield job(1)
        yield job(2)
        raise FileError("gone")

    queue = JobQueue(jobs())
    assert [queue.next(), queue.next()] == [job(1), job(2)]
    with pytest.raises(FileError, match="gone"):
        queue.next()


def test_a_bar_on_a_terminal(shell: Shell, keys: Keys) -> None:
    for number in range(16):
        shell.write(f"in/{number:03}", b"x")
    (shell.folder / "in/008.link").symlink_to("nowhere")
    with slow(keys, 60):
        done, shown = shell.on_terminal(*UP, "--workers", "1", streams="stderr")
    assert done.status == 8
    assert re.search(r"1[0-6] of 17 files  [0-9]+ bytes  [0-9]+ bytes/s  1 left alone  [0-9.]+ s left", shown)
    assert ": encrypted" not in shown
    # Messages stand above it, and the last lines are whole.
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "\n").splitlines()
    assert "sealwax: in/008.link: it is a link that leads nowhere; remove it" in lines
    assert lines[-2].startswith("sealwax: 1 of 17 not done: 1 link; 16 encrypted; 16 bytes in ")
    done, shown = shell.on_terminal(*UP, "-q", streams="stderr", TERM="dumb")
    assert "files" not in shown


def test_sizes_and_times_as_people_read_them() -> None:
    assert [size_text(size) for size in (0, 1, 1023, 1024, 1536, 10 << 30, 3 << 60)] == [
        *("0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "1.5 KiB", "10.0 GiB", "3,072.0 PiB"),
    ]
    assert [time_text(seconds) for seconds in (0.04, 9.94, 9.96, 59.6, 200, 7300)] == [
        *("0.0 s", "9.9 s", "10 s", "1 min 0 s", "3 min 20 s", "2 h 1 min"),
    ]


# --- KMS


def call(error: str | None, region: str = REGION) -> KmsCall:
    return KmsCall("GenerateDataKey", region, "alias/x", 0.1, 1, error, None)


def test_throttling_and_a_lost_region_are_told_once(state: RunState, said: Callable[[], list[str]]) -> None:
    clock = Clock()
    watch = KmsWatch(clock)
    watch(call("ThrottlingException"))
    assert said() == []  # before the run
    watch.begin()

    def after(seconds: float, *errors: str | None) -> list[str]:
        for error in errors:
            clock.now += seconds
            watch(call(error))
        return said()

    assert after(0.02, *[None] * 100) == []
    assert after(0, *["ThrottlingException"] * 50) == [
        "sealwax: KMS is throttling requests in us-east-1; now 51 calls a second; throttled calls are retried"
    ]
    assert after(1, *[None, "ThrottlingException"] * 60) == []
    assert after(1, *[None] * 40) == ["sealwax: KMS no longer throttles requests in us-east-1; now 1 call a second"]
    gone = "sealwax: KMS cannot be reached in us-east-1 ({}); each call is retried a few times"
    assert after(1, *["EndpointConnectionError"] * 2, None) == []
    assert after(1, *["EndpointConnectionError"] * 400) == [gone.format("EndpointConnectionError")]
    assert after(1, *["AccessDeniedException"] * 3) == ["sealwax: KMS is reachable again in us-east-1"]
    assert after(1, *["ConnectTimeoutError"] * 9) == [gone.format("ConnectTimeoutError")]
    state.quiet = True
    watch.begin()
    assert after(1, None) == []


def test_a_run_that_is_throttled_says_so_once(run: Run, keys: Keys, said: Callable[[], list[str]]) -> None:
    fill(16)
    keys.lab.faults.add(REGION, "throttle", 0.3, operation="GenerateDataKey", code=None, seed=1)
    try:
        run(*UP)
    finally:
        keys.lab.faults.clear(REGION, None)
    assert sum("KMS is throttling requests in us-east-1" in line for line in said()) == 1


def test_a_run_slows_down_to_what_kms_allows(
    run: Run, keys: Keys, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALWAX_LAB", str(keys.lab.path))
    fill(200)
    keys.lab.faults.add(REGION, "quota", 50, operation="GenerateDataKey", code=None, seed=0)
    try:
        run(*UP, "--json", "-q", "--workers", "16")
    finally:
        keys.lab.faults.clear(REGION, None)
    summary = json.loads(capfdbinary.readouterr().out.splitlines()[-1])["summary"]
    # Threads that each retry by themselves have more than half of their calls refused.
    assert summary["kms_failures"] < 0.4 * summary["kms_calls"]
    assert summary["done"]["encrypted"] > 190


# --- one data key for all


SHARED = ("-c", "purpose=backup", "-c", "path={relpath}", "--local-context", "path")


def test_files_share_a_data_key_and_stay_bound_to_their_paths(run: Run, keys: Keys) -> None:
    fill(12)
    Path("in/large").write_bytes(os.urandom(100_000))
    before = keys.calls().count("GenerateDataKey")
    assert run("encrypt", *K, *SHARED, "--share-key", "-r", "-o", "out", "in") == 0
    assert keys.calls().count("GenerateDataKey") - before == 1
    before = keys.calls().count("Decrypt")
    assert run("verify", *K, *SHARED, "-r", "out") == 0
    assert keys.calls().count("Decrypt") - before == 1
    assert (
        run("decrypt", *K, *PURPOSE, "-c", "path=large", "--local-context", "path", "-o", "one", "out/large.swx") == 0
    )
    assert Path("one").read_bytes() == Path("in/large").read_bytes()
    for left, right in (("000", "001"), ("large", "002")):
        shutil.move(f"out/{left}.swx", "swap")
        shutil.move(f"out/{right}.swx", f"out/{left}.swx")
        shutil.move("swap", f"out/{right}.swx")
    for name in ("000", "001", "002", "large"):
        assert run("verify", *K, *PURPOSE, "-c", f"path={name}", "--local-context", "path", f"out/{name}.swx") == 5
    assert run("verify", *K, *SHARED, "-r", "out") == 8


def test_without_the_option_each_file_has_its_own(run: Run, keys: Keys) -> None:
    fill(3)
    before = keys.calls().count("GenerateDataKey")
    assert run("encrypt", *K, *SHARED, "-r", "-o", "out", "in") == 0
    assert keys.calls().count("GenerateDataKey") - before == 3


@pytest.mark.parametrize("pair", ["path={relpath}", "file=x-{name}"])
def test_pairs_of_one_file_must_be_local_to_share(run: Run, said: Callable[[], list[str]], pair: str) -> None:
    fill(1)
    assert run("encrypt", *K, *PURPOSE, "-c", pair, "--share-key", "-r", "-o", "out", "in") == 2
    assert f"add --local-context {pair.partition('=')[0]}, which keeps each file bound to it" in said()[-1]
    assert not Path("out").exists()
    assert run("encrypt", *K, *PURPOSE, "-c", "x={{name}}", "--share-key", "-r", "-o", "out", "in") == 0


def test_rules_that_cannot_share_fail_for_their_files_only(run: Run, said: Callable[[], list[str]]) -> None:
    fill(4)
    rule = "[[rule]]\npath = ['002', '003']\ncontext = { path = '{relpath}' }\n"
    Path("sealwax.toml").write_text(f"key = 'alias/demo'\ncontext = {{ purpose = 'backup' }}\n{rule}")
    assert run("encrypt", "--share-key", "-r", "-o", "out", "in") == 8
    *_, summary, following = said()
    assert summary.startswith("sealwax: 2 of 4 failed; 2 encrypted; ")
    assert following == "sealwax: next: fix the causes, then run the same command again to resume"
    assert sorted(os.listdir("out")) == ["000.swx", "001.swx"]
    assert run("encrypt", "--share-key", "--local-context", "path", "-r", "-o", "out", "in") == 0


# --- dry runs


def mixed(keys: Keys) -> None:
    """Files and envelopes of all kinds that a run can tell without KMS."""
    fill(3)
    os.symlink("nowhere", "in/link")
    Path("in/plain.swx").write_bytes(b"plain")
    seal = keys.sealer(keys.demo).encrypt
    for name, context in (("a", {"purpose": "backup"}), ("b", {"purpose": "other"})):
        Path(f"{name}.swx").write_bytes(seal(b"x", context=context))
    Path("cut.swx").write_bytes(seal(b"x", context={"purpose": "backup"})[:-10])
    Path("foreign.swx").write_bytes(keys.sealer(keys.foreign).encrypt(b"x", context={"purpose": "backup"}))
    Path("done.swx").write_bytes(keys.sealer(keys.demo2).encrypt(b"x", context={"purpose": "backup"}))
    Path("text").write_bytes(b"no envelope")


ENVELOPES = ("a.swx", "b.swx", "foreign.swx", "done.swx", "text", "missing.swx")
DRY: dict[str, Callable[[Keys], tuple[str, ...]]] = {
    "encrypt a folder": lambda _: ("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in"),
    "encrypt beside": lambda _: ("encrypt", *K, *PURPOSE, "-r", "in"),
    "encrypt a file": lambda _: ("encrypt", *K, *PURPOSE, "in/000"),
    "encrypt where a file is": lambda _: ("encrypt", *K, *PURPOSE, "-o", "text", "in/000"),
    "encrypt onto itself": lambda _: ("encrypt", *K, *PURPOSE, "--force", "-o", "in/000", "in/000"),
    "encrypt into nothing": lambda _: ("encrypt", *K, *PURPOSE, "-o", "nowhere/x", "in/000"),
    "encrypt what is missing": lambda _: ("encrypt", *K, *PURPOSE, "-o", "x", "missing"),
    "rewrap in place": lambda keys: ("rewrap", "-k", keys.demo, "--to", keys.demo2, *PURPOSE, *ENVELOPES),
    "rewrap elsewhere": lambda keys: ("rewrap", "-k", keys.demo, "--to", keys.demo2, *PURPOSE, "-o", "o/", *ENVELOPES),
    "rewrap one": lambda keys: ("rewrap", "-k", keys.demo, "--to", keys.demo2, *PURPOSE, "foreign.swx"),
    "reencrypt in place": lambda keys: ("reencrypt", "-k", keys.demo, "--to", keys.demo2, *PURPOSE, *ENVELOPES),
    "reencrypt one": lambda keys: ("reencrypt", "-k", keys.demo, "--to", keys.demo2, *PURPOSE, "cut.swx"),
}


@pytest.mark.parametrize("what", DRY)
def test_a_dry_run_ends_as_the_run_and_writes_nothing(
    run: Run, keys: Keys, said: Callable[[], list[str]], what: str
) -> None:
    mixed(keys)
    command = DRY[what](keys)

    def everything() -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in Path().rglob("*")}

    before, calls = everything(), len(keys.calls())
    status = run(*command, "--dry-run")
    assert everything() == before
    assert len(keys.calls()) == calls
    told = said()
    if status in (0, 8):
        assert any("dry run, nothing was written" in line for line in told)
        would = sum(": would be " in line for line in told)
        assert would >= 1
    assert run(*command, "-v") == status
    if status in (0, 8):
        assert sum(bool(re.search(r": (encrypted|re-wrapped|re-encrypted)\b(?!;)", line)) for line in said()) == would


def test_a_dry_run_tells_what_was_done_before(run: Run, said: Callable[[], list[str]]) -> None:
    fill(2)
    assert run(*UP) == 0
    Path("in/new").write_bytes(b"new")
    said()
    assert run(*UP, "--dry-run") == 0
    lines = said()
    assert lines[2] == "sealwax: in/new: would be encrypted -> out/new.swx"
    assert lines[-2].startswith("sealwax: dry run, nothing was written: 2 already encrypted, 1 would be encrypted; ")
    assert lines[-1] == "sealwax: next: run it without --dry-run"
    assert run(*UP) == 0
    said()
    assert run(*UP, "--dry-run") == 0
    assert said()[-1].startswith("sealwax: dry run, nothing was written: 3 already encrypted; ")
    assert run(*UP, "--dry-run", "nowhere") == 8
    assert said()[-1] == "sealwax: next: fix the causes, then run it again"


def test_a_dry_run_looks_at_what_is_in_s3(run: Run, s3: StrictS3, keys: Keys, said: Callable[[], list[str]]) -> None:
    fill(1)
    sealed = keys.sealer(keys.demo).encrypt(b"x", context={"purpose": "backup"})
    s3.client().put_object(Bucket="bucket", Key="there.swx", Body=sealed)
    s3.forget()
    for name, status in (("there", 1), ("new", 0)):
        assert run("encrypt", *K, *PURPOSE, "--dry-run", "-o", f"s3://bucket/{name}.swx", "in/000") == status
    assert run("rewrap", *K, *PURPOSE, "--to", keys.demo2, "--dry-run", "-r", "s3://bucket/") == 0
    asked = {"HeadObject", "GetObject", "ListObjectsV2", "GetBucketOwnershipControls", "GetObjectAcl"}
    assert {request.operation for request in s3.requests} <= asked
    assert "'s3://bucket/there.swx' already exists; use --force to overwrite it" in said()[0]


def test_a_dry_run_checks_a_detached_header_too(run: Run, said: Callable[[], list[str]]) -> None:
    fill(1)
    command = ("encrypt", *K, *PURPOSE, "--detached", "head", "-o", "body", "in/000", "--dry-run")
    assert run(*command) == 0
    Path("head").write_bytes(b"in the way")
    assert run(*command) == 1
    assert "'head' already exists" in said()[-1]


@pytest.mark.parametrize("place", [(), ("-",), ("-o", "-", "in/000")])
def test_streams_have_no_dry_run(run: Run, said: Callable[[], list[str]], place: tuple[str, ...]) -> None:
    fill(1)
    assert run("encrypt", *K, *PURPOSE, "--dry-run", *place) == 2
    assert "--dry-run needs files" in said()[-1]


@pytest.mark.parametrize("verb", ["encrypt", "rewrap", "reencrypt"])
def test_a_dry_run_knows_what_may_not_be_written(run: Run, keys: Keys, verb: str) -> None:
    Path("in").mkdir()
    Path("in/000").write_bytes(keys.sealer(keys.demo).encrypt(b"x", context={"purpose": "backup"}))
    command = (verb, *K, *(() if verb == "encrypt" else ("--to", "alias/demo2")), *PURPOSE, "in/000")
    locked = "in/000" if verb == "rewrap" else "in"
    os.chmod(locked, 0o444 if verb == "rewrap" else 0o555)
    try:
        with unprivileged():
            assert run(*command, "--dry-run") == 1
            assert run(*command) == 1
    finally:
        os.chmod("in", 0o755)


def test_a_fleet_that_is_throttled_says_so_once(run: Run, keys: Keys, said: Callable[[], list[str]]) -> None:
    Path("in").mkdir()
    for number in range(12):
        sealed = keys.sealer(keys.demo).encrypt(b"x", context={"purpose": str(number)})
        Path(f"in/{number}.swx").write_bytes(sealed)
    contexts = ("-c", "purpose={name}")
    assert run("fleet", "plan", "--from", keys.demo, "--to", keys.demo2, *contexts, "-o", "plan", "in") == 0
    keys.lab.faults.add(REGION, "throttle", 0.3, operation="ReEncrypt", code=None, seed=1)
    said()
    try:
        assert run("fleet", "run", "plan", "--apply", "--rate", "100") == 0
    finally:
        keys.lab.faults.clear(REGION, None)
    assert sum("KMS is throttling requests in us-east-1" in line for line in said()) == 1
