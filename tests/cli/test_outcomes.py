"""What -r and a list of files meet: done is what the run would write and nothing else, and every advice helps."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import sealwax
from sealwax.cli import run
from sealwax.lab import Lab
from tests.cli.conftest import PURPOSE, K, Keys
from tests.cli.shell import ROOT, Done

K2 = ("-k", "alias/demo2")
UP = ("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in")
DOWN = ("decrypt", *K, *PURPOSE, "-r", "-o", "back", "out")
CONTEXT = {"purpose": "backup"}

Commands = Callable[..., Done]


@pytest.fixture
def sealwax_(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Commands:
    """Run the command line in an empty folder, in this process: there are many runs. It tells of each file."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("SEALWAX_LAB", str(keys.lab.path))
    monkeypatch.delenv("SEALWAX_KEY", raising=False)

    def command(*arguments: str) -> Done:
        capfd.readouterr()
        loud = () if "-q" in arguments else ("-v",)
        status = run((arguments[0], *loud, *arguments[1:]))
        out, err = capfd.readouterr()
        # Each request has a time and an ID of its own.
        err = re.sub(r"^sealwax: (KMS|S3|STS) .*\n", "", err, flags=re.MULTILINE)
        return Done(status, out.encode(), err)

    return command


def write(name: str, data: bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def later(name: str, data: bytes | None = None) -> None:
    """Change a file, at a time that differs."""
    if data is not None:
        write(name, data)
    os.utime(name, ns=(time.time_ns(), time.time_ns() + 10**9))


def snapshot(folder: str) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def tree() -> None:
    write("in/a", b"the first")
    write("in/b", b"the second, which is longer")


# --- the table of docs/reference/limits.md: what is met, said and counted, and the status

Case = Callable[[Commands], tuple[tuple[str, ...], str]]
CASES: dict[str, tuple[Case, str, int]] = {}


def met(what: str, counted: str, status: int) -> Callable[[Case], Case]:
    """Add a line of the table. The case prepares, and returns the command and a fragment of what is said."""

    def add(case: Case) -> Case:
        CASES[what] = case, counted, status
        return case

    return add


@met("no output", "done", 0)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    return UP, "in/a: encrypted -> out/a.swx"


@met("an output that is what this run would write", "done", 0)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    return UP, "in/a: already encrypted -> out/a.swx"


@met("an envelope newer than its source, as after a re-wrap, that holds the same data", "done", 0)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    sealwax_("rewrap", *K, "--to", "alias/demo2", *PURPOSE, "-r", "out").succeeded()
    return ("encrypt", *K2, *UP[3:]), "in/a: already encrypted -> out/a.swx"


@met("an envelope under other keys than those of `-k`", "under another key", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    sealwax_("rewrap", *K, "--to", "alias/demo2", *PURPOSE, "out/b.swx").succeeded()
    return ("encrypt", *K2, *UP[3:]), "in/a: 'out/a.swx' is under 'arn:"


@met("an envelope bound to another context, or to other local pairs", "bound to another context", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_("encrypt", *K, "-c", "purpose=other", "-o", "out/", "in/a").failed(0)
    return UP, "in/a: 'out/a.swx' is bound to a different context"


@met("a source that has changed since its output was made", "with a changed source", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    later("in/a", b"the other")
    return UP, "in/a: it has changed since 'out/a.swx' was made; use --update"


@met("an output that is cut off, or a part (`--range`)", "incomplete", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    sealwax_("decrypt", *K, *PURPOSE, "--range", "0:3", "-o", "back/", "out/a.swx").succeeded()
    return DOWN, "out/a.swx: 'back/a' has 3 of its 9 bytes"


@met("something else at the output's place: a plaintext, a file that is newer, a folder", "with an existing output", 8)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    write("out/a.swx", b"the first")
    shutil.copystat("in/a", "out/a.swx")
    return UP, "in/a: 'out/a.swx' already exists, but cannot be compared: this is not a sealwax envelope"


@met("an output that is a link", "a link", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    os.rename("out/a.swx", "moved.swx")
    os.symlink("../moved.swx", "out/a.swx")
    return UP, "in/a: the output 'out/a.swx' is a link, and links are not followed"


@met("an envelope whose local pairs, or whose data, could only be determined by opening it, which failed", "unknown", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    with Lab(os.environ["SEALWAX_LAB"]) as lab:
        arn = lab.create_key()["Arn"]
        once = ("encrypt", "-k", arn, *PURPOSE, "-r", "-o", "out", "in")
        sealwax_(*once).succeeded()
        later("out/a.swx")
        lab.session().client("kms").disable_key(KeyId=arn)
    return (
        "encrypt",
        "-k",
        arn,
        *once[3:],
    ), "in/a: whether 'out/a.swx' holds this data is unknown without decrypting it"


@met("a link below the folder, to something that this run takes by its own name", "passed over", 0)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    os.symlink("a", "in/link")
    os.symlink(".", "in/itself")
    return UP, "in/link: skipped, it is a link, and its target is part of this run"


@met("a link below the folder, to a file or a folder elsewhere, or to nothing", "a link", 8)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    write("elsewhere/c", b"c")
    os.symlink("../elsewhere", "in/folder")
    os.symlink("../elsewhere/c", "in/file")
    os.symlink("nowhere", "in/nothing")
    return UP, "in/folder: it is a link to a folder, and -r does not follow links"


@met("a folder of links", "a link", 1)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    write("elsewhere/c", b"c")
    Path("in").mkdir()
    os.symlink("../elsewhere", "in/folder")
    os.symlink("../elsewhere/c", "in/file")
    return UP, "2 of 2 not done: 2 links"


@met("a plaintext that is called an envelope", "with an existing output", 8)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    write("in/c.swx", b"plaintext")
    return UP, "in/c.swx: its name ends with '.swx', but it is not an envelope, so it was not encrypted"


@met("two sources with one output", "with an existing output", 8)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    write("in/a", b"1")
    write("also/a", b"2")
    return (
        "encrypt",
        *K,
        *PURPOSE,
        "-o",
        "out/",
        "in/a",
        "also/a",
    ), "also/a: 'out/a.swx' is already the output of another file"


@met("a pipe, a socket or a device", "passed over", 0)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    os.mkfifo("in/pipe")
    return UP, "in/pipe: skipped, it is not a regular file"


@met("a source that cannot be read, or is damaged", "failed", 8)
def _(sealwax_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    sealwax_(*UP).succeeded()
    os.truncate("out/a.swx", Path("out/a.swx").stat().st_size - 1)
    return DOWN, "next: restore what is damaged from a good copy, then run the same command again to resume"


@met("a folder without a file, for `encrypt`", "nothing to do", 0)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    Path("in/empty").mkdir(parents=True)
    return UP, "nothing to do"


@met("a place without an envelope, for every other verb", "failed", 1)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    tree()
    return ("verify", *K, *PURPOSE, "-r", "in"), "in: no envelopes found"


@met("a place that does not exist", "failed", 1)
def _(_: Commands) -> tuple[tuple[str, ...], str]:
    return UP, "No such file or directory"


@pytest.mark.parametrize("what", CASES)
def test_each_line_of_the_table(sealwax_: Commands, what: str) -> None:
    case, counted, status = CASES[what]
    command, fragment = case(sealwax_)
    before = snapshot("out") | snapshot("back")
    done = sealwax_(*command)
    done.failed(status, fragment)
    if counted not in ("done", "passed over", "failed", "nothing to do"):
        several = {"a link": "links?"}.get(counted, counted)
        assert re.search(rf"[0-9] of [0-9] not done: .*[0-9] {several}", done.err), done
    assert {name: state for name, state in (snapshot("out") | snapshot("back")).items() if name in before} == before
    if command[0] != "verify":
        as_json = [json.loads(line) for line in sealwax_(*command, "--json", "-q").out.splitlines()]
        named = {one["outcome"] for one in as_json if "summary" not in one}
        assert (counted in named) == (counted not in ("done", "passed over", "nothing to do"))


def test_the_table_of_the_limits_is_this_one() -> None:
    page = (ROOT / "docs/reference/limits.md").read_text()
    lines = page[page.index("| What is met |") :].split("\n\n", 1)[0].splitlines()[2:]
    table = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert table == [(what, counted, str(status)) for what, (_, counted, status) in CASES.items()]
    assert len(table) == 20


# --- neighbors of each


def test_a_time_alone_is_not_done(sealwax_: Commands, keys: Keys) -> None:
    """All that has the time and the name of what is done, and is not."""
    tree()
    sealwax_(*UP).succeeded()
    good = Path("out/a.swx").read_bytes()
    other = {
        "a larger file's": sealed(keys, b"the first and more"),
        "a smaller file's": sealed(keys, b"the fir"),
        "cut": good[:-1],
        "cut inside its header": good[:100],
        "longer": good + b"x",
        "nothing": b"",
        "plaintext": b"the first",
        "text": sealwax.armor(good).encode(),
        "under two keys": sealwax.Sealer(
            sealwax.KmsKeyring([keys.demo, keys.demo2], session=keys.lab.session())
        ).encrypt(b"the first", context=CONTEXT),
        "with a local pair": sealwax.Sealer(
            sealwax.KmsKeyring(keys.demo, session=keys.lab.session()), local_context=["id"]
        ).encrypt(b"the first", context={**CONTEXT, "id": "7"}),
        "without a context": keys.sealer(keys.demo).encrypt(b"the first", context=sealwax.NO_CONTEXT),
        "a header apart": keys.sealer(keys.demo).encrypt_detached(b"the first", context=CONTEXT)[0],
    }
    assert len(other) == 12
    for what, data in other.items():
        write("out/a.swx", data)
        shutil.copystat("in/a", "out/a.swx")
        done = sealwax_(*UP, "--update")
        assert (what, done.status) == (what, 8), done
        assert Path("out/a.swx").read_bytes() == data
    sealwax_(*UP, "--force").succeeded()
    assert "already encrypted" in sealwax_(*UP).succeeded().err


def sealed(keys: Keys, data: bytes) -> bytes:
    return keys.sealer(keys.demo).encrypt(data, context=CONTEXT)


def test_what_is_in_the_way_of_a_plaintext(sealwax_: Commands) -> None:
    tree()
    sealwax_(*UP).succeeded()
    for what in ("three bytes", "one more", "edited", "folder", "link", "pipe", "empty"):
        shutil.rmtree("back", ignore_errors=True)
        Path("back").mkdir()
        if what in ("folder", "link", "pipe"):
            {"folder": os.mkdir, "link": lambda name: os.symlink("nowhere", name), "pipe": os.mkfifo}[what]("back/a")
        else:
            write(
                "back/a", {"three bytes": b"the", "one more": b"the firsts", "edited": b"THE FIRST", "empty": b""}[what]
            )
            if what != "edited":
                shutil.copystat("out/a.swx", "back/a")
        done = sealwax_(*DOWN, "--update")
        assert (what, done.status) == (what, 8), done
        assert not Path("back/nowhere").exists()
        assert sealwax_(*DOWN, "--json", "-q").out.count(b'"outcome": "already decrypted"') == 1
    sealwax_("decrypt", *K, "-c", "purpose=other", *DOWN[5:]).failed(6)


def test_a_part_never_looks_whole(sealwax_: Commands) -> None:
    """Not even where it is as long as the whole, and never by its time."""
    tree()
    sealwax_(*UP).succeeded()
    part = ("decrypt", *K, *PURPOSE, "--range", "0:3", "-r", "-o", "back", "out")
    sealwax_(*part).succeeded()
    for name in "ab":
        assert Path(f"back/{name}").stat().st_mtime_ns != Path(f"out/{name}.swx").stat().st_mtime_ns
    sealwax_(*DOWN).failed(1, "2 of 2 not done: 2 incomplete")
    sealwax_("decrypt", *K, *PURPOSE, "--range", "1:4", *part[7:]).failed(1, "may be another range; use --force")
    assert Path("back/a").read_bytes() == b"the"
    sealwax_("decrypt", *K, *PURPOSE, "--range", "1:4", *part[7:], "--force").succeeded()
    assert Path("back/a").read_bytes() == b"he "
    sealwax_(*part, "--update").failed(2, "not both")


def test_an_alias_is_asked_for_once_a_run_and_only_where_it_matters(sealwax_: Commands, keys: Keys) -> None:
    for number in range(5):
        write(f"in/{number}", b"%d" % number)
    sealwax_(*UP).succeeded()

    def calls(*command: str) -> list[str]:
        before = len(keys.calls())
        sealwax_(*command).succeeded()
        return keys.calls()[before:]

    assert calls(*UP) == ["GenerateDataKey"]
    assert calls("encrypt", "-k", keys.demo, *UP[3:]) == []
    key_id = keys.demo.rpartition("/")[2]
    assert calls("encrypt", "-k", key_id, *UP[3:]) == ["GenerateDataKey"]
    assert calls(*DOWN) == ["Decrypt"] * 5
    assert calls(*DOWN) == []
    later("in/0")
    assert calls(*UP, "--update") == ["GenerateDataKey"] * 2
    # An alias that has been moved names another key.
    keys.lab.session().client("kms").create_alias(AliasName="alias/moving", TargetKeyId=keys.demo)
    moving = ("encrypt", "-k", "alias/moving", *UP[3:])
    assert calls(*moving) == ["GenerateDataKey"]
    keys.lab.session().client("kms").update_alias(AliasName="alias/moving", TargetKeyId=keys.demo2)
    sealwax_(*moving).failed(1, "5 of 5 not done: 5 under another key", keys.demo)
    keys.lab.session().client("kms").delete_alias(AliasName="alias/moving")


def test_local_pairs_are_told_by_opening(sealwax_: Commands, keys: Keys) -> None:
    tree()

    def up(value: str, *more: str) -> Done:
        return sealwax_("encrypt", *K, "-c", f"id={value}", *PURPOSE, "--local-context", "id", *UP[5:], *more)

    up("7").succeeded()
    before = len(keys.calls())
    assert up("7").succeeded().err.count(": already encrypted -> ") == 2
    assert sorted(keys.calls()[before:]) == ["Decrypt", "Decrypt", "GenerateDataKey"]
    up("8").failed(1, "2 of 2 not done: 2 bound to another context")
    up("8", "--update").failed(1, "2 of 2 not done: 2 bound to another context")
    up("8", "--force").succeeded()
    up("8").succeeded()


def test_update_replaces_what_changed_and_nothing_else(sealwax_: Commands, keys: Keys) -> None:
    names = ("same", "newer", "older", "absent", "foreign", "stream", "edited")
    for name in names:
        write(f"in/{name}", f"the content of {name}".encode())
    sealwax_(*UP).succeeded()
    later("in/newer", b"longer than before, and later")
    write("in/older", b"the content of OLDER")  # the very same size, and a time long ago
    os.utime("in/older", ns=(0, 10**18))
    os.unlink("out/absent.swx")
    write("out/foreign.swx", b"no envelope")
    write("out/stream.swx", sealed(keys, b"THE CONTENT OF STREAM"))  # of something else of that size, made later
    before = snapshot("out")
    done = sealwax_(*UP, "--update")
    done.failed(8, "2 of 7 not done: 2 with an existing output", "in/stream: 'out/stream.swx' is newer than its source")
    after = snapshot("out")
    assert {name for name in after if after[name] != before.get(name)} == {
        f"out/{name}.swx" for name in ("newer", "older", "absent")
    }
    for name in ("newer", "older", "absent"):
        assert (
            keys.sealer(keys.demo).decrypt(after[f"out/{name}.swx"][0], context=CONTEXT)
            == Path(f"in/{name}").read_bytes()
        )
    # And back: what the envelopes hold now is brought, what was edited here since is not replaced.
    os.unlink("out/foreign.swx")
    os.unlink("in/foreign")
    sealwax_(*DOWN).succeeded()
    later("back/edited", b"edited here since ...")
    later("in/newer", b"once more")
    sealwax_(*UP, "--update").failed(8)
    sealwax_(*DOWN).failed(8, "1 with a changed source, 1 with an existing output")
    sealwax_(*DOWN, "--update").failed(8, "1 of 6 not done: 1 with an existing output", "back/edited")
    assert Path("back/newer").read_bytes() == b"once more"
    assert Path("back/edited").read_bytes() == b"edited here since ..."


@pytest.mark.parametrize(
    "arguments",
    [
        ("not both", "encrypt", "--update", "--force", "in/a"),
        ("a stream has no modification time", "encrypt", "--update", "-o", "-", "in/a"),
        ("a stream has no modification time", "encrypt", "--update", "-"),
        ("not both", "decrypt", "--update", "--force", "a.swx"),
        ("cannot be combined with -r", "encrypt", "--detached", "h", "-r", "in/a"),
        (
            "cannot be combined with -r",
            "encrypt",
            "--detached",
            "h",
            "--force",
            "-r",
            "-o",
            "out/",
            "s3://bucket/many/",
        ),
    ],
)
def test_options_that_exclude_each_other(sealwax_: Commands, arguments: tuple[str, ...]) -> None:
    tree()
    fragment, *command = arguments
    sealwax_(*command, *K, *PURPOSE).failed(2, fragment)
    assert not Path("h").exists()


def test_one_file_with_update(sealwax_: Commands) -> None:
    tree()
    one = ("encrypt", *K, *PURPOSE, "--detached", "a.head", "-o", "a.body", "in/a")
    sealwax_(*one, "--update").succeeded()
    assert "already encrypted" in sealwax_(*one, "--update").succeeded().err
    sealwax_(*one).failed(1, "already exists")
    later("in/a", b"something else")
    assert ": encrypted -> a.body" in sealwax_(*one, "--update").succeeded().err
    back = ("decrypt", *K, *PURPOSE, "--detached", "a.head", "-o", "again", "a.body", "--update")
    sealwax_(*back).succeeded()
    assert "already decrypted" in sealwax_(*back).succeeded().err
    assert Path("again").read_bytes() == b"something else"
    os.unlink("a.body")
    sealwax_(*one, "--update").failed(1, "only one of 'a.body' and 'a.head' exists")


def test_a_header_and_a_payload_that_do_not_fit_are_not_done(sealwax_: Commands) -> None:
    """As after a crash between the two with --force: sizes, times and context are right, and nothing opens."""
    tree()
    one = ("encrypt", *K, *PURPOSE, "--detached", "a.head", "-o", "a.body", "in/a")
    for file in ("a.head", "a.body"):
        sealwax_(*one, "--force").succeeded()
        kept = Path(file).read_bytes()
        sealwax_(*one, "--force").succeeded()
        times = Path(file).stat()
        Path(file).write_bytes(kept)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        sealwax_(*one, "--update").failed(1, "do not belong together")
        sealwax_(*one, "--force").succeeded()
        assert "already encrypted" in sealwax_(*one, "--update").succeeded().err
    # A payload that is damaged further on is a finding of verify, as it is where all is in one file.


def test_text_form_is_judged_too(sealwax_: Commands) -> None:
    tree()
    up = (*UP, "--armor")
    sealwax_(*up).succeeded()
    assert sealwax_(*up).succeeded().err.count(": already encrypted -> ") == 2
    text = Path("out/a.swx").read_bytes()
    write("out/a.swx", text[:-3] + b"\n")
    shutil.copystat("in/a", "out/a.swx")
    sealwax_(*up).failed(8)
    write("out/a.swx", b"\xff")
    sealwax_(*up).failed(8, "1 with an existing output")
    sealwax_(*up, "--force").succeeded()
    sealwax_("rewrap", *K, "--to", "alias/demo2", *PURPOSE, "--armor", "out/a.swx").succeeded()
    sealwax_("encrypt", *K2, *up[3:]).failed(8, "1 under another key")


# --- advice, followed to the letter


def advised(done: Done, pattern: str) -> list[str]:
    found = re.search(pattern, done.err)
    assert found is not None, done
    return shlex.split(found[1])


def test_a_command_that_is_printed_helps(sealwax_: Commands) -> None:
    tree()
    write("in/a b'c", b"odd")
    sealwax_(*UP).succeeded()
    up = ("encrypt", *K2, *UP[3:])
    told = sealwax_(*up).failed(1, "3 under another key", "if you trust the keys it is under").err
    commands = re.findall(r"move it with `(sealwax rewrap [^`]*)`", told)
    assert len(commands) == 3
    for command in commands:
        sealwax_(*shlex.split(command)[1:]).succeeded()
    sealwax_(*up).succeeded()


ADVICE: Final = {
    "use --force to encrypt it again": "--force",
    "use --force to overwrite it": "--force",
    "use --update to overwrite": "--update",
    "write elsewhere with -o": "-o",
    "remove it": "unlink",
    "move it away": "rename",
    "rename it": "rename",
    "name it on the command line": "name",
    "run the same command again to resume": "again",
}


@pytest.mark.parametrize("what", [what for what, (_, _, status) in CASES.items() if status])
def test_every_advice_helps(sealwax_: Commands, what: str) -> None:
    """Of each line of the table whatever is advised is done, and the end is 0."""
    case, counted, _ = CASES[what]
    prepared, _ = case(sealwax_)
    told = sealwax_(*prepared).err
    given_ = {how for words, how in ADVICE.items() if words in told}
    if "check the place" in told or (counted == "failed" and "again" not in given_):
        return
    if counted == "unknown":
        given_.discard("--force")  # its key is disabled
        given_.discard("-o")
        with Lab(os.environ["SEALWAX_LAB"]) as lab:
            lab.session().client("kms").enable_key(KeyId=prepared[2])
            given_.add("again")
    assert given_, told
    for how in sorted(given_):
        subprocess.run(["cp", "-a", ".", f"../{how}"], check=True)
    for how in sorted(given_):
        os.chdir(f"../{how}")
        command = prepared
        if how in ("--force", "--update"):
            command = (*prepared, how)
        elif how == "-o":
            command = tuple(
                "elsewhere-yet" if one in ("out", "back", "out/") and prepared[prepared.index(one) - 1] == "-o" else one
                for one in prepared
            )
            if counted == "with an existing output" and "also/a" in prepared:
                command = tuple(one for one in command if one != "in/a")
        elif how == "again" and counted == "unknown":
            pass
        elif how == "again":
            for name in "ab":
                if Path(f"out/{name}.swx").exists():
                    sealwax_("encrypt", *K, *PURPOSE, "--force", "-o", "out/", f"in/{name}")
        else:
            for line in told.splitlines():
                if line.startswith("sealwax: next: "):
                    continue
                place = line.removeprefix("sealwax: ").partition(": ")
                output = re.search(r"the output '([^']*)'", place[2])
                name = output[1] if output else place[0]
                if "name it on the command line" in line:
                    one = ("-r", name) if "with -r" in line else (name,)
                    sealwax_("encrypt", *K, *PURPOSE, "-o", "named/", *one).succeeded()
                    os.unlink(name)
                elif "remove" in line:
                    os.unlink(name)
                elif "rename it" in line or "move it away" in line:
                    os.rename(name, f"{name}.txt")
        sealwax_(*command).succeeded()


def test_the_same_command_again_does_the_rest_of_a_list(sealwax_: Commands, keys: Keys) -> None:
    tree()
    sealwax_(*UP).succeeded()
    good = Path("out/b.swx").read_bytes()
    commands = {
        ("encrypt", *K, *PURPOSE, "-o", "new", "in/a", "in/b"): "in/b",
        ("decrypt", *K, *PURPOSE, "-o", "new", "out/a.swx", "out/b.swx"): "out/b.swx",
        ("rewrap", *K, "--to", "alias/demo2", *PURPOSE, "-o", "new", "out/a.swx", "out/b.swx"): "out/b.swx",
        ("reencrypt", *K, "--to", "alias/demo2", *PURPOSE, "-o", "new", "out/a.swx", "out/b.swx"): "out/b.swx",
        ("rewrap", *K, "--to", keys.demo2, *PURPOSE, "out/a.swx", "out/b.swx"): "out/b.swx",
        ("rewrap", *K2, "--to", keys.demo, *PURPOSE, "-r", "out"): "out/b.swx",
        ("reencrypt", *K, "--to", "alias/demo2", *PURPOSE, "-r", "out"): "out/b.swx",
    }
    for command, broken in commands.items():
        shutil.rmtree("new", ignore_errors=True)
        Path("new").mkdir()
        kept = Path(broken).read_bytes()
        os.unlink(broken)
        write(broken, b"broken") if broken.endswith(".swx") else Path(broken).mkdir()
        done = sealwax_(*command)
        done.failed(8 if "-r" in command or broken != "in/b" else 2)
        if done.status == 8:
            assert "run the same command again to resume" in done.err, command
        Path(broken).rmdir() if Path(broken).is_dir() else None
        write(broken, kept)
        assert "already " in sealwax_(*command).succeeded().err or broken == "in/b", command
    assert good
    # By an alias, nothing says which key is meant before KMS has wrapped under it: the advice is another.
    write("out/b.swx", b"broken")
    by_alias = ("rewrap", *K2, "--to", "alias/demo", *PURPOSE, "-r", "out")
    sealwax_(*by_alias).failed(8, "name the keys of --to by their ARNs and run it again to resume")
    write("out/b.swx", kept)
    done = sealwax_("rewrap", *K2, "--to", keys.demo, *PURPOSE, "-r", "out").succeeded()
    assert "already re-wrapped" in done.err


# --- what every verb has in common

VERBS: Final = {
    "decrypt": ("decrypt", *K, *PURPOSE, "-o", "back"),
    "verify": ("verify", *K, *PURPOSE),
    "inspect": ("inspect",),
    "rewrap": ("rewrap", *K, "--to", "alias/demo", *PURPOSE),
    "reencrypt": ("reencrypt", *K, "--to", "alias/demo", *PURPOSE),
}


@pytest.mark.parametrize("verb", VERBS)
def test_links_and_places_where_nothing_is(sealwax_: Commands, verb: str) -> None:
    command = (*VERBS[verb], "-r", "-q")
    tree()
    sealwax_(*UP).succeeded()
    Path("empty/nothing").mkdir(parents=True)
    sealwax_(*command, "empty").failed(1, "empty: no envelopes found")
    sealwax_(*command, "--suffix", ".seal", "out").failed(1, "ends with '.seal'")
    sealwax_(*command, "out", "empty").failed(8, "1 of 3 failed")
    sealwax_(*command, "nowhere").failed(1, "No such file")
    os.symlink("b.swx", "out/latest.swx")
    sealwax_(*command, "out").succeeded()
    os.symlink("../elsewhere", "out/link.swx")
    Path("elsewhere").mkdir()
    shutil.copy2("out/a.swx", "elsewhere/a.swx")
    sealwax_(*command, "out").failed(8, "out/link.swx: it is a link to a folder", "1 of 3 not done: 1 link")
    os.unlink("out/link.swx")
    os.symlink("../elsewhere/a.swx", "out/link.swx")
    sealwax_(*command, "out").failed(
        8, "out/link.swx: it is a link, and -r does not follow links; name it on the command line"
    )
    sealwax_(*command, "out", "elsewhere").failed(0 if verb != "decrypt" else 8)


def test_several_keys_and_replicas(sealwax_: Commands, keys: Keys) -> None:
    """Exactly the keys that are named, in any order, and no other Region's key of the same id."""
    tree()
    both = ("encrypt", *K, *K2, *UP[3:])
    sealwax_(*both).succeeded()
    assert sealwax_(*both).succeeded().err.count(": already encrypted -> ") == 2
    assert sealwax_("encrypt", *K2, "-k", keys.demo, *UP[3:]).succeeded().err.count(": already encrypted -> ") == 2
    sealwax_(*UP).failed(1, "2 under another key")
    sealwax_(*both, "-k", keys.foreign).failed(1, "2 under another key")
    kms = keys.lab.session().client("kms")
    arn = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    kms.replicate_key(KeyId=arn, ReplicaRegion="eu-west-1")
    replica = arn.replace("us-east-1", "eu-west-1")
    sealwax_("encrypt", "-k", replica, *UP[3:], "--force").succeeded()
    assert sealwax_("encrypt", "-k", replica, *UP[3:]).succeeded().err.count(": already encrypted -> ") == 2
    sealwax_("encrypt", "-k", arn, *UP[3:]).failed(1, "2 under another key", replica)
