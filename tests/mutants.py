"""Break the library in 200 small ways, and count how many of them its tests notice: `make mutants`.

A mutant is one change of one function: a comparison flipped, a boundary moved by one, a condition negated, a statement
or an error dropped, a constant changed, two arguments swapped, a result lost. Which ones are tried is decided by a hash
of their names (package, function, kind of change, ordinal), so most stay the same when files move.

The tests run in copies of the repository, each with a Python environment whose sealwax is the copy, so the programs
that tests start are broken too. A first run, with a probe at each place that a mutant changes, finds which tests reach
which mutant. Then each mutant runs with those tests, in a fork of a process that has imported the dependencies: at most
``TESTS_EACH``, of as many functions as can be, those first that reach the fewest mutants.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import json
import mmap
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.mutations import Finder, Mutant, mutated, probed

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[1]
WORK: Final = ROOT / "build" / "mutants"
PACKAGES: Final = {"format": "_core/format", "cache": "_core/cache", "kms": "kms", "fleet": "fleet"}
NOT_MUTATED: Final = {"fleet/spark.py"}  # only tests that start Java reach it
MUTANTS_EACH: Final = 50
SEED: Final = "sealwax"
TESTS: Final = (
    *("unit", "property", "kat", "kept", "fuzz", "interop", "cache", "fleet", "regions", "stores"),
    *("cli/test_keys*.py", "cli/test_fleet*.py", "cli/test_ranges.py", "cli/test_hurry.py"),
)
TESTS_EACH: Final = 50
# A test that takes this much longer than it did is taken for one that never ends.
LIMIT_SECONDS: Final = 40
LIMIT_FACTOR: Final = 10
MEMORY_BYTES: Final = 8 << 30


def mutants() -> list[Mutant]:
    """Return the mutants to try: of each package, those whose names' hashes are the lowest."""
    chosen = []
    for package, folder in PACKAGES.items():
        ordinals: Counter[str] = Counter()
        candidates: list[Mutant] = []
        sources: dict[str, bytes] = {}
        for file in sorted((ROOT / "src" / "sealwax" / folder).rglob("*.py")):
            if file.relative_to(ROOT / "src" / "sealwax").as_posix() in NOT_MUTATED:
                continue
            path = file.relative_to(ROOT).as_posix()
            sources[path] = file.read_bytes()
            candidates += Finder(package, path, sources[path].decode(), ordinals).mutants
        candidates.sort(key=lambda mutant: hashlib.sha256(f"{SEED} {mutant.name}".encode()).digest())
        valid = (mutant for mutant in candidates if _compiles(mutated(sources[mutant.path], mutant)))
        chosen += [mutant for mutant, _ in zip(valid, range(MUTANTS_EACH), strict=False)]
    return chosen


def _compiles(source: bytes) -> bool:
    with contextlib.suppress(SyntaxError):
        compile(source, "mutant", "exec")
        return True
    return False


# --- a copy of the repository, and the process that runs tests in it

PROBE: Final = """
import mmap, os
with open({current!r}, "r+b") as _file:
    _current = mmap.mmap(_file.fileno(), 0)
_seen = set()

def hit(*numbers):
    test = int.from_bytes(_current[:4], "big")
    if (test, numbers) not in _seen:
        _seen.add((test, numbers))
        try:
            file = os.open({hits!r}, os.O_WRONLY | os.O_APPEND)
            os.write(file, b"".join(b"%d %d\\n" % (test, number) for number in numbers))
            os.close(file)
        except OSError:
            pass
"""


def make_copy(folder: Path) -> None:
    """Copy what git has, and make an environment in which sealwax is the copy and all else is installed as here."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / ".venv-awscli").symlink_to(ROOT / ".venv-awscli")
    (folder / ".venv-s3ec").symlink_to(ROOT / ".venv-s3ec")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    site = next((folder / ".venv").glob("lib/python*/site-packages"))
    (site / "copy.pth").write_text(f"{folder / 'src'}\n{sysconfig.get_path('purelib')}\n")
    current, hits = folder / "current", folder / "hits"
    current.write_bytes(bytes(mmap.PAGESIZE))
    hits.touch()
    (site / "_mutants_probe.py").write_text(PROBE.format(current=str(current), hits=str(hits)))
    program = folder / ".venv" / "bin" / "sealwax"
    program.write_text(
        f"#!{folder}/.venv/bin/python\nimport sys\nfrom sealwax.__main__ import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)


@dataclass(eq=False)
class Recorder:
    """Tells a process that waits which test runs, and how long it may; keeps what became of each."""

    current: mmap.mmap
    first: int
    limits: dict[str, float]
    """How long each test may take, and which tests run: all, if there are none."""
    tests: dict[str, tuple[int, float, bool]] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.limits:
            order = {name: number for number, name in enumerate(self.limits)}
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        number = self.first + len(self.tests)
        self.tests[item.nodeid] = (number, 0.0, True)
        limit = int(self.limits.get(item.nodeid, 600))
        self.current[:8] = number.to_bytes(4, "big") + limit.to_bytes(4, "big")
        started = time.monotonic()
        result = yield
        _, _, passed = self.tests[item.nodeid]
        self.tests[item.nodeid] = (number, time.monotonic() - started, passed)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests[report.nodeid] = (*self.tests[report.nodeid][:2], False)


# What most tests import, apart from pytest's plugins, which pytest itself has to import.
PRELOADED: Final = (
    *("asyncio", "http.server", "sqlite3", "boto3", "botocore.auth", "click", "rich.table"),
    *("cryptography.x509", "cryptography.hazmat.primitives.ciphers.aead"),
)

NO_PLUGINS: Final = ("cacheprovider", "cov", "pytest_fakefs", "xdist")


def serve() -> None:
    """Run tests as standard input asks, each time in a fork; answer on standard output."""
    for name in PRELOADED:
        importlib.import_module(name)
    for service in ("kms", "s3", "sts"):
        importlib.import_module("boto3").Session("any", "any", region_name="us-east-1").client(service)
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a killed test leaves behind is ours to end
    folder = Path.cwd()
    with open("current", "r+b") as file:
        current = mmap.mmap(file.fileno(), 0)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        current[:8] = bytes(4) + (600).to_bytes(4, "big")
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.close(answers.fileno())
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            recorder = Recorder(current, request["first"], request["limits"])
            options = ["-q", "--basetemp", "tmp", *(f"-pno:{plugin}" for plugin in NO_PLUGINS)]
            options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            status = 1
            try:
                status = int(pytest.main([*options, *request["arguments"]], plugins=[recorder]))
                (folder / "result").write_text(json.dumps(recorder.tests))
            finally:
                os._exit(status)
        status, timed_out = _wait(child, current)
        _end_children()
        print(json.dumps({"status": status, "timed_out": timed_out}), file=answers, flush=True)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _wait(child: int, current: mmap.mmap) -> tuple[int, bool]:
    last, since = b"", time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), False
        if current[:4] != last:
            last, since = current[:4], time.monotonic()
        if time.monotonic() - since > int.from_bytes(current[4:8], "big"):
            os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), True
        time.sleep(0.02)


def _end_children() -> None:
    """End what a test has left behind."""
    while children := _children(os.getpid()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Worker:
    def __init__(self, folder: Path) -> None:
        make_copy(folder)
        self.folder = folder
        self._next = 1
        self._stamp = 1_000_000_000
        self._process = subprocess.Popen(
            [folder / ".venv" / "bin" / "python", "-m", "tests.mutants", "--serve"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def write(self, path: str, source: bytes) -> None:
        """Replace a file, with a time that no compiled file knows."""
        self._stamp += 10
        (self.folder / path).write_bytes(source)
        os.utime(self.folder / path, (self._stamp, self._stamp))

    def run(
        self, arguments: Sequence[str], limits: dict[str, float]
    ) -> tuple[int, bool, dict[str, tuple[int, float, bool]]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        (self.folder / "result").unlink(missing_ok=True)
        request = {"arguments": arguments, "limits": limits, "first": self._next}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        tests = {}
        with contextlib.suppress(FileNotFoundError):
            tests = json.loads((self.folder / "result").read_text())
        self._next += len(tests) + 1
        return answer["status"], answer["timed_out"], tests

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# --- the run


@dataclass
class Run:
    tried: list[Mutant]
    workers: list[Worker]
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each test takes that passes."""
    reached: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The tests that reach a mutant."""
    failing: list[str] = field(default_factory=list)
    results: dict[int, str] = field(default_factory=dict)

    def _share(self, jobs: Sequence[T], act: Callable[[Worker, T], None]) -> None:
        """Do each job on the next free worker."""
        waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)

        def work(worker: Worker) -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    act(worker, waiting.get_nowait())

        with ThreadPoolExecutor(len(self.workers)) as threads:
            for done in [threads.submit(work, worker) for worker in self.workers]:
                done.result()

    def map(self) -> None:
        """Find which tests reach which mutant."""
        paths = sorted({mutant.path for mutant in self.tried})
        for path in paths:
            mutants = {number: mutant for number, mutant in enumerate(self.tried) if mutant.path == path}
            source = probed((ROOT / path).read_bytes(), mutants)
            for worker in self.workers:
                worker.write(path, source)
        files = [file for pattern in TESTS for file in sorted((ROOT / "tests").glob(pattern))]
        files = [each for file in files for each in ([file] if file.is_file() else sorted(file.glob("test_*.py")))]
        names: dict[tuple[Worker, int], str] = {}

        def act(worker: Worker, path: str) -> None:
            _, _, tests = worker.run([path], {})
            if not tests:
                print(f"no test ran in {path}:\n{(worker.folder / 'log').read_text()[-2000:]}", flush=True)
            for name, (number, seconds, passed) in tests.items():
                names[worker, number] = name
                if passed:
                    self.seconds[name] = seconds
                else:
                    self.failing.append(name)
            print(f"{path}: {len(tests)} tests", flush=True)

        self._share([file.relative_to(ROOT).as_posix() for file in files], act)
        for worker in self.workers:
            for line in (worker.folder / "hits").read_text().splitlines():
                test, number = map(int, line.split())
                name = names.get((worker, test))
                if name in self.seconds:
                    self.reached[number].add(name)
            for path in paths:
                worker.write(path, (ROOT / path).read_bytes())

    def save(self, file: Path) -> None:
        reached = {self.tried[number].name: sorted(tests) for number, tests in self.reached.items()}
        file.write_text(json.dumps({"seconds": self.seconds, "failing": self.failing, "reached": reached}))

    def load(self, file: Path) -> None:
        saved = json.loads(file.read_text())
        self.seconds, self.failing = saved["seconds"], saved["failing"]
        for number, mutant in enumerate(self.tried):
            self.reached[number] = set(saved["reached"].get(mutant.name, ()))

    def chosen(self, number: int) -> list[str]:
        """Return the tests for a mutant: a case of each function, then a second; special ones first."""
        counts = Counter(name for names in self.reached.values() for name in names)
        cases: Counter[str] = Counter()
        tests = []
        for name in sorted(self.reached[number], key=lambda name: (counts[name], name)):
            function = name.partition("[")[0]
            cases[function] += 1
            tests.append((cases[function], counts[name], name))
        return sorted((name for _, _, name in sorted(tests)[:TESTS_EACH]), key=lambda name: self.seconds[name])

    def test(self) -> None:
        """Run each mutant with its tests."""

        def act(worker: Worker, job: tuple[int, list[str]]) -> None:
            number, tests = job
            mutant = self.tried[number]
            source = (ROOT / mutant.path).read_bytes()
            worker.write(mutant.path, mutated(source, mutant))
            limits = {name: LIMIT_SECONDS + LIMIT_FACTOR * self.seconds[name] for name in tests}
            status, timed_out, ran = worker.run(["-x", *sorted({name.partition("::")[0] for name in tests})], limits)
            worker.write(mutant.path, source)
            if status in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED):
                raise RuntimeError(f"pytest ended with {status}:\n{(worker.folder / 'log').read_text()[-2000:]}")
            self.results[number] = "timeout" if timed_out else "survived" if status == 0 else "killed"
            by = next((f" by {name}" for name, (_, _, passed) in ran.items() if not passed), "")
            print(f"{len(self.results)} {mutant.name}: {self.results[number]}{by} ({len(tests)} tests)", flush=True)

        jobs: list[tuple[int, list[str]]] = []
        for number in range(len(self.tried)):
            if tests := self.chosen(number):
                jobs.append((number, tests))
            else:
                self.results[number] = "reached by no test"
        self._share(jobs, act)

    def report(self) -> str:
        counts = Counter(self.results.values())
        killed = counts["killed"] + counts["timeout"]
        lines = [f"{killed} of {len(self.tried)} mutants killed; {counts['timeout']} of them made a test run forever"]
        for package in PACKAGES:
            numbers = [number for number, mutant in enumerate(self.tried) if mutant.name.startswith(f"{package}:")]
            count = sum(self.results[number] in ("killed", "timeout") for number in numbers)
            lines.append(f"  {package}: {count} of {len(numbers)}")
        if self.failing:
            lines += ["", f"{len(self.failing)} tests fail without a mutant, and are left out:", *sorted(self.failing)]
        for result in ("survived", "reached by no test"):
            lines += ["", f"{counts[result]} {result}:"]
            lines += [str(mutant) for number, mutant in enumerate(self.tried) if self.results[number] == result]
        return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the mutants, and run nothing")
    parser.add_argument(
        "--again", action="store_true", help="do not look which tests reach which mutant: use what the last run found"
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    tried = mutants()
    if given.list:
        print(*tried, sep="\n")
        return
    workers = [Worker(WORK / str(number)) for number in range(given.workers)]
    run = Run(tried, workers)
    if given.again:
        run.load(WORK / "reached.json")
    else:
        run.map()
        run.save(WORK / "reached.json")
    run.test()
    for worker in workers:
        worker.end()
    print(run.report())


if __name__ == "__main__":
    main()
