"""``python -m benchmarks.side_by_side [--write]``: ten tasks with sealwax and other tools, as their users type them.

It prints or writes the tables of docs/explanation/side-by-side.md: commands, characters typed and seconds of each task,
and what each tool says when something is wrong. Tools that are not installed are left out: ``age``, ``restic``, and
``aws-encryption-cli`` with the AWS CLI, both of which use the lab as their KMS.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import cpu_of_programs

_BIN: Final = Path(sys.executable).parent
_FILES, _FILE_BYTES, _LARGE_MIB, _ROUNDS = 100, 4096, 128, 2

PAGE: Final = Path(__file__).parents[1] / "docs/explanation/side-by-side.md"
_BEGIN, _END = "<!-- measured -->", "<!-- end of what is measured -->"
TASKS: Final = (
    "set up",
    f"encrypt a file of {_LARGE_MIB} MiB",
    "decrypt it",
    f"encrypt a folder of {_FILES} files",
    "again, after one file changed",
    "decrypt the folder",
    "one file of the folder",
    "check all of it",
    "archive through a pipe",
    "move the large file to another key",
)
FAILURES: Final = ("wrong key", "a changed byte", "a file that is not there", "an output that exists", "no key named")


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        program: what must be installed.
        exports: typed once, as a part of setting up; later commands rely on it.
        tasks: the commands of each task of ``TASKS``; the first lacks ``exports``.
        failures: the commands for each of ``FAILURES``; "" if the tool cannot fail like that.
    """

    program: str
    exports: tuple[str, ...]
    tasks: tuple[tuple[str, ...], ...]
    failures: tuple[str, ...]


def _change(file: str, at: int) -> str:
    return f"cp {file} bad; chmod u+w bad; printf X | dd of=bad bs=1 seek={at} conv=notrunc status=none"


_READ: Final = "RESTIC_PASSWORD_FILE=pw2 restic check --read-data"
_AWS: Final = "aws-encryption-cli"
_TO_OTHER: Final = f"{_AWS} -e -i - -o big2.enc -w key=$(cat arn2) -c p=big -S"
TOOLS: Final = {
    "sealwax": Tool(
        "sealwax",
        ("export SEALWAX_LAB=./lab SEALWAX_KEY=alias/demo",),
        (
            ("sealwax lab create-key --alias demo", "sealwax lab create-key --alias demo2"),
            ("sealwax encrypt -c p=big big",),
            ("sealwax decrypt -c p=big -o back big.swx",),
            ("sealwax encrypt -r -c p=docs -o docs.swx docs",),
            ("sealwax encrypt -r --update -c p=docs -o docs.swx docs",),
            ("sealwax decrypt -r -c p=docs -o docs.back docs.swx",),
            ("sealwax decrypt -c p=docs -o one docs.swx/007.swx",),
            ("sealwax verify -r -c p=docs docs.swx",),
            ("tar cf - docs | sealwax encrypt -c p=tar -o docs.tar.swx -",),
            ("sealwax rewrap --to alias/demo2 -c p=big big.swx",),
        ),
        (
            "sealwax decrypt -k alias/demo2 -c p=docs -o x docs.swx/008.swx",
            f"{_change('docs.swx/008.swx', 600)}; sealwax decrypt -c p=docs -o x bad",
            "sealwax encrypt -c p=docs nowhere",
            "sealwax decrypt -c p=docs -o one docs.swx/008.swx",
            "SEALWAX_KEY= sealwax encrypt -c p=docs docs/008",
        ),
    ),
    "age": Tool(
        "age",
        ("R=$(age-keygen -y key.txt)",),
        (
            ("age-keygen -o key.txt", "age-keygen -o key2.txt"),
            ("age -r $R -o big.age big",),
            ("age -d -i key.txt -o back big.age",),
            ("mkdir docs.age", "for f in docs/*; do age -r $R -o docs.age/${f#*/}.age $f; done"),
            ("for f in $(find docs -newer docs.age -type f); do age -r $R -o docs.age/${f#*/}.age $f; done",),
            ("mkdir docs.back", "for f in docs.age/*; do n=${f#*/}; age -d -i key.txt -o docs.back/${n%.age} $f; done"),
            ("age -d -i key.txt -o one docs.age/007.age",),
            ("for f in docs.age/*; do age -d -i key.txt $f > /dev/null || echo $f; done",),
            ("tar cf - docs | age -r $R -o docs.tar.age",),
            ("age -d -i key.txt big.age | age -r $(age-keygen -y key2.txt) -o big2.age && mv big2.age big.age",),
        ),
        (
            "age -d -i key2.txt -o x docs.age/008.age",
            f"{_change('docs.age/008.age', 600)}; age -d -i key.txt -o x bad",
            "age -r $R -o x nowhere",
            "age -d -i key.txt -o one docs.age/008.age",
            "age -o x docs/008",
        ),
    ),
    "restic": Tool(
        "restic",
        ("export RESTIC_REPOSITORY=repo RESTIC_PASSWORD_FILE=pw",),
        (
            ("head -c 24 /dev/urandom | base64 > pw", "head -c 24 /dev/urandom | base64 > pw2", "restic init"),
            ("restic backup big",),
            ("restic dump latest big > back",),
            ("restic backup docs",),
            ("restic backup docs",),
            ("restic restore latest -t docs.back",),
            ("restic dump latest docs/007 > one",),
            ("restic check --read-data",),
            ("tar cf - docs | restic backup --stdin --stdin-filename docs.tar",),
            ("restic key passwd --new-password-file pw2",),
        ),
        (
            "RESTIC_PASSWORD_FILE=pw restic snapshots",
            f"f=$(find repo/data -type f | sort | head -1); {_change('$f', 600)}; cp -f bad $f; {_READ}",
            "RESTIC_PASSWORD_FILE=pw2 restic backup nowhere",
            "",
            "RESTIC_PASSWORD_FILE= restic snapshots < /dev/null",
        ),
    ),
    "aws-encryption-cli": Tool(
        _AWS,
        ("K=$(cat arn)",),
        (
            (
                "aws kms create-key --query KeyMetadata.Arn --output text > arn",
                "aws kms create-key --query KeyMetadata.Arn --output text > arn2",
            ),
            (f"{_AWS} -e -i big -o big.enc -w key=$K -c p=big -S",),
            (f"{_AWS} -d -i big.enc -o back -w key=$K -c p=big -S",),
            ("mkdir docs.enc", f"{_AWS} -e -r -i docs -o docs.enc -w key=$K -c p=docs -S"),
            (f"{_AWS} -e -r -i docs -o docs.enc -w key=$K -c p=docs -S",),
            ("mkdir docs.back", f"{_AWS} -d -r -i docs.enc -o docs.back -w key=$K -c p=docs -S"),
            (f"{_AWS} -d -i docs.enc/007.encrypted -o one -w key=$K -c p=docs -S",),
            (f"T=$(mktemp -d) && {_AWS} -d -r -i docs.enc -o $T -w key=$K -c p=docs -S; rm -r $T",),
            (f"tar cf - docs | {_AWS} -e -i - -o docs.tar.enc -w key=$K -c p=tar -S",),
            (f"{_AWS} -d -i big.enc -o - -w key=$K -c p=big -S | {_TO_OTHER} && mv big2.enc big.enc",),
        ),
        (
            f"{_AWS} -d -i docs.enc/008.encrypted -o x -w key=$(cat arn2) -c p=docs -S",
            f"{_change('docs.enc/008.encrypted', 1000)}; {_AWS} -d -i bad -o x -w key=$K -c p=docs -S",
            f"{_AWS} -e -i nowhere -o x -w key=$K -c p=docs -S",
            f"{_AWS} -d -i docs.enc/008.encrypted -o one -w key=$K -c p=docs -S --no-overwrite",
            f"{_AWS} -e -i docs/008 -o x -c p=docs -S",
        ),
    ),
}


@dataclass
class Measured:
    """A task's commands, the characters typed (with Enter), and the fewest seconds by the clock and of processors."""

    commands: int
    characters: int
    seconds: float
    processor: float


def main() -> None:
    found = {name: tool for name, tool in TOOLS.items() if shutil.which(tool.program, path=_path())}
    measured: dict[str, list[Measured]] = {}
    said: dict[str, list[str]] = {}
    for name, tool in found.items():
        rounds: list[list[tuple[float, float]]] = []
        for _ in range(_ROUNDS):
            with _place() as (folder, environment):
                rounds.append(_tasks(tool, folder, environment))
                said[name] = [_says(tool, command, folder, environment) for command in tool.failures]
        measured[name] = [
            Measured(len(typed), sum(len(line) + 1 for line in typed), *map(min, zip(*times, strict=True)))
            for typed, times in zip(_typed(tool), zip(*rounds, strict=True), strict=True)
        ]
    text = "\n".join(_tables(measured, said))
    if sys.argv[1:] == ["--write"]:
        head, mark, rest = PAGE.read_text("utf-8").partition(_BEGIN)
        PAGE.write_text(f"{head}{mark}\n\n{text}\n\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
    else:
        print(text)


def _path() -> str:
    return f"{_BIN}{os.pathsep}{os.environ['PATH']}"


def _typed(tool: Tool) -> list[tuple[str, ...]]:
    first, *others = tool.tasks
    return [(*tool.exports, *first), *others]


@contextlib.contextmanager
def _place() -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a folder with the data, and an environment in which the lab is the KMS of AWS's tools."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with open(folder / "big", "wb") as big:
            # All of it is different: restic stores equal parts once.
            big.writelines(os.urandom(1 << 20) for _ in range(_LARGE_MIB))
        (folder / "docs").mkdir()
        for number in range(_FILES):
            (folder / f"docs/{number:03}").write_bytes(os.urandom(_FILE_BYTES))
        server = subprocess.Popen(
            [_BIN / "sealwax", "lab", "serve", "--lab", str(folder / "served"), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        try:
            yield (
                folder,
                {
                    "PATH": _path(),
                    "HOME": place,
                    "LANG": "C.UTF-8",
                    "AWS_ENDPOINT_URL_KMS": url,
                    "AWS_ACCESS_KEY_ID": "any",
                    "AWS_SECRET_ACCESS_KEY": "any",
                    "AWS_DEFAULT_REGION": "us-east-1",
                },
            )
        finally:
            server.terminate()
            server.wait()


def _tasks(tool: Tool, folder: Path, environment: dict[str, str]) -> list[tuple[float, float]]:
    times = []
    for number, commands in enumerate(tool.tasks):
        if TASKS[number].startswith("again"):
            time.sleep(1.1)  # find -newer and --update compare times
            (folder / "docs/003").write_bytes(os.urandom(_FILE_BYTES))
        # The others are set from what setting up makes.
        exports = tuple(line for line in tool.exports if number or line.startswith("export "))
        started, used = time.monotonic(), cpu_of_programs()
        done = _bash((*exports, *commands), folder, environment)
        times.append((time.monotonic() - started, cpu_of_programs() - used))
        if done.returncode != 0:
            sys.exit(f"{commands}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return times


def _bash(lines: tuple[str, ...], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = "\n".join(("set -o pipefail", *lines))
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def _says(tool: Tool, command: str, folder: Path, environment: dict[str, str]) -> str:
    """Return the status, and what is said at the end of it."""
    if not command:
        return "does not happen"
    (folder / "x").unlink(missing_ok=True)
    done = _bash((*tool.exports, command), folder, environment)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    text = re.sub(r"\s+", " ", " ".join(lines[-2:])) if lines else "nothing"
    text = text.replace(str(folder), "...").replace("sealwax: using the lab in ./lab, not AWS ", "")
    left = "; leaves an output" if (folder / "x").exists() else ""
    return f"[{done.returncode}{left}] `{text.replace('|', '/').replace('`', chr(39))[:400]}`"


def _version(name: str) -> str:
    """Return the first line of what a tool says of itself."""
    option = "version" if name == "restic" else "--version"
    done = _bash((f"{TOOLS[name].program} {option}",), Path.cwd(), {"PATH": _path()})
    line = (done.stdout + done.stderr).partition("\n")[0]
    return line if line.startswith(name) else f"{name} {line}"


def _sum(all_: list[Measured]) -> Measured:
    return Measured(
        sum(each.commands for each in all_),
        sum(each.characters for each in all_),
        sum(each.seconds for each in all_),
        sum(each.processor for each in all_),
    )


def _tables(measured: dict[str, list[Measured]], said: dict[str, list[str]]) -> Iterator[str]:
    """Yield the lines of the page."""
    names = list(measured)
    yield f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; the best of {_ROUNDS} rounds."
    yield f"Versions: {', '.join(_version(name) for name in names)}."
    cells: dict[str, Callable[[Measured], str]] = {
        "commands / characters": lambda task: f"{task.commands} / {task.characters}",
        "elapsed seconds / CPU seconds": lambda task: f"{task.seconds:.2f} / {task.processor:.2f}",
    }
    for what, cell in cells.items():
        yield ""
        yield f"| {what} | {' | '.join(names)} |"
        yield "|---|" + "---|" * len(names)
        for number, task in enumerate(TASKS):
            yield f"| {task} | {' | '.join(cell(measured[name][number]) for name in names)} |"
        yield f"| **all ten** | {' | '.join(cell(_sum(measured[name])) for name in names)} |"
    for number, failure in enumerate(FAILURES):
        yield f"\n**{failure[0].upper()}{failure[1:]}:**\n"
        yield from (f"- {name}: {said[name][number]}" for name in names)


if __name__ == "__main__":
    main()
