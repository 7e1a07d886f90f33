"""Files of every size and name, folders, contexts, text form and detached headers: what goes in comes out."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import PURPOSE, K
from tests.cli.shell import Shell

SIZES = (0, 1, 16383, 16384, 16385, (1 << 20) - 1, 1 << 20, (1 << 20) + 1)


def files_of(folder: Path) -> dict[str, bytes]:
    return {os.fsdecode(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_sizes_modes_and_times_survive(shell: Shell) -> None:
    for size in SIZES:
        shell.write(f"in/{size}", os.urandom(size)).chmod(0o640 if size else 0o400)
        os.utime(shell.folder / f"in/{size}", ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321 + size))
    with open(shell.folder / "in/sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    shell.sealwax("encrypt", *K, *PURPOSE, "-r", "-o", "sealed", "in").succeeded()
    shell.sealwax("verify", *K, *PURPOSE, "-r", "sealed").succeeded()
    shell.sealwax("decrypt", *K, *PURPOSE, "-r", "-o", "back", "sealed").succeeded()
    assert files_of(shell.folder / "back") == files_of(shell.folder / "in")
    for name in files_of(shell.folder / "in"):
        before = (shell.folder / "in" / name).stat()
        for after in (shell.folder / "back" / name, shell.folder / "sealed" / f"{name}.swx"):
            assert stat.S_IMODE(after.stat().st_mode) == stat.S_IMODE(before.st_mode)
            assert after.stat().st_mtime_ns == before.st_mtime_ns


def test_streams_of_every_size(shell: Shell) -> None:
    for size in (0, 1, 16384, 1 << 20):
        shell.write("x", os.urandom(size))
        shell.transcript("""
            $ cat x | sealwax encrypt -q -k alias/demo -c purpose=backup | \\
              sealwax decrypt -k alias/demo -c purpose=backup | cmp - x
        """)


def test_odd_names_and_nested_folders(shell: Shell) -> None:
    names = [
        b"deep/er/est/x",
        "sm\u00f8rrebr\u00f8d/\U0001f980".encode(),
        b"new\nline",
        b"not\xffutf8",
        b"-dash",
        b" ",
        b"{name}",
    ]
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(shell.folder), b"in", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"%d" % number)
    (shell.folder / "in/link").symlink_to("deep/er/est/x")
    (shell.folder / "in/linked-folder").symlink_to("deep")
    (shell.folder / "in/gone").symlink_to("nowhere")
    os.mkfifo(shell.folder / "in/pipe")
    done = shell.sealwax("encrypt", "-v", *K, *PURPOSE, "-r", "-o", "sealed", "in")
    done.failed(8, "in/pipe: skipped, it is not a regular file", "in/gone: it is a link that leads nowhere")
    assert done.err.count("skipped, it is a link, and its target is part of this run") == 2
    assert "1 of 8 not done: 1 link; 7 encrypted; 3 skipped (" in done.err
    assert done.last_line == "sealwax: next: follow the advice above for each"
    (shell.folder / "in/gone").unlink()
    assert "in/new\\nline: encrypted" in done.err
    assert "in/not\\udcffutf8: encrypted" in done.err
    shell.sealwax("decrypt", *K, *PURPOSE, "-r", "-o", "back", "sealed").succeeded()
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(shell.folder), b"back", name), "rb") as file:
            assert file.read() == b"%d" % number
    assert len(files_of(shell.folder / "back")) == len(names)
    # A name that is not text cannot be bound as text; the others of the run are done.
    done = shell.sealwax("encrypt", *K, "-c", "path={relpath}", "-c", "n={name}", "-r", "-o", "bound", "in")
    done.failed(8, "1 of 7 failed", "not\\udcffutf8: ")
    shell.sealwax("decrypt", *K, "-c", "path={relpath}", "-c", "n={name}", "-r", "-o", "b2", "bound").succeeded()
    facts = json.loads(shell.sealwax("inspect", "--json", "bound/deep/er/est/x.swx").succeeded().out)
    assert facts["context"] == {"path": "deep/er/est/x", "n": "x"}
    facts = json.loads(shell.sealwax("inspect", "--json", "bound/{name}.swx").succeeded().out)
    assert facts["context"] == {"path": "{name}", "n": "{name}"}


def test_a_run_is_resumed(shell: Shell) -> None:
    for name in "abc":
        shell.write(f"in/{name}", name.encode())
    shell.write("out/b.swx", b"in the way")
    command = ("encrypt", "-v", *K, *PURPOSE, "-r", "-o", "out", "in")
    shell.sealwax(*command).failed(
        8, "in/b: 'out/b.swx' already exists, but cannot be compared", "1 of 3 not done: 1 with an existing output"
    )
    (shell.folder / "out/b.swx").unlink()
    kept = (shell.folder / "out/a.swx").stat().st_ino
    done = shell.sealwax(*command).succeeded()
    assert (done.err.count(": already encrypted -> "), done.err.count(": encrypted -> ")) == (2, 1)
    assert (shell.folder / "out/a.swx").stat().st_ino == kept
    damaged = shell.read("out/c.swx")
    shell.write("out/c.swx", damaged[:-1])
    back = ("decrypt", *K, *PURPOSE, "-r", "-o", "back", "out")
    again = "next: restore what is damaged from a good copy, then run the same command again to resume"
    shell.sealwax(*back).failed(8, "out/c.swx: ", "1 of 3 failed; 2 decrypted", again)
    shell.write("out/c.swx", damaged)
    done = shell.sealwax(*back).succeeded()
    assert "done: 2 already decrypted, 1 decrypted; " in done.err
    assert files_of(shell.folder / "back") == {"a": b"a", "b": b"b", "c": b"c"}
    # A re-wrap is resumed by allowing the new key too.
    shell.write("out/c.swx", damaged[:40])
    rewrap = ("rewrap", *K, "-k", "alias/demo2", "--to", "alias/demo2", *PURPOSE, "-r", "out")
    shell.sealwax(*rewrap).failed(8, "out/c.swx: ")
    shell.write("out/c.swx", damaged)
    shell.sealwax(*rewrap).succeeded()
    shell.sealwax("verify", "-k", "alias/demo2", *PURPOSE, "-r", "out").succeeded()
    shell.sealwax("encrypt", *K, *PURPOSE, "-r", "-o", "none", "home").failed(1, "No such file")
    (shell.folder / "empty").mkdir()
    shell.sealwax("encrypt", *K, *PURPOSE, "-r", "-o", "none", "empty").failed(0, "nothing to do")


def test_the_lab_in_use_is_left_out(bare_shell: Shell) -> None:
    """Its keys sealed under themselves would open nothing, and reading its database would take its locks away."""
    shell = bare_shell
    shell.write("a", b"data")
    shell.write("lab.txt", b"not the lab")
    shell.write(".git/config", b"[core]")
    for alias in ("demo", "demo2"):
        shell.sealwax("lab", "create-key", "--lab", "lab", "--alias", alias).succeeded()
    lab = ("--lab", "lab")
    told = shell.sealwax("encrypt", "-v", *lab, *K, *PURPOSE, "-r", ".").succeeded().err
    assert "./lab: skipped, it is the lab in use" in told
    sealed = {name for name in files_of(shell.folder) if name.endswith(".swx")}
    assert sealed == {"a.swx", "lab.txt.swx", ".git/config.swx"}
    shell.sealwax("encrypt", *lab, *K, *PURPOSE, "-r", "-o", "all", "..").succeeded()
    assert not [name for name in files_of(shell.folder / "all") if "state.db" in name]
    # However it is named.
    os.symlink("lab", shell.folder / "link")
    for name in ("lab/state.db", "link/state.db"):
        for command in (("encrypt", *lab), ("encrypt", "--lab", "link")):
            with shell.unchanged():
                shell.sealwax(*command, *K, *PURPOSE, "-o", "x", name).failed(1, "it belongs to the lab in use")
    done = shell.sealwax("encrypt", *lab, *K, *PURPOSE, "-r", "lab").succeeded()
    assert "nothing to do" in done.err
    # Another lab is data like other data.
    shell.sealwax("lab", "create-key", "--lab", "other", "--alias", "demo").succeeded()
    shell.sealwax("encrypt", "--lab", "other", *K, *PURPOSE, "-o", "x", "lab/state.db").succeeded()


def test_empty_names(shell: Shell) -> None:
    """An unset variable in a script: nothing is guessed."""
    shell.write("a", b"data")
    shell.sealwax("encrypt", *K, *PURPOSE, "a").succeeded()
    to = ("--to", "alias/demo2")
    for command in (("encrypt",), ("decrypt",), ("rewrap", *to), ("reencrypt", *to)):
        with shell.unchanged():
            done = shell.sealwax(*command, *K, *PURPOSE, "-o", "", "a.swx")
            assert done.failed(2).last_line == "Error: -o is empty; name a file or a folder"
            if command[0] in ("encrypt", "reencrypt"):  # the others take every name then
                shell.sealwax(*command, *K, *PURPOSE, "-r", "--suffix", "", ".").failed(2, "is not a suffix")
            shell.sealwax(*command, *K, *PURPOSE, "--suffix", "/x", "a").failed(2, "'/x' is not a suffix")


def test_context_files(shell: Shell) -> None:
    shell.write("a", b"data")
    bad = {
        "no-json": (b"{", 2, "is not valid JSON"),
        "bytes": (b"\xff", 2, "is not UTF-8"),
        "deep": (b"[" * 100_000, 2, "is not valid JSON"),
        "number": (b'{"a": 1}', 2, "whose values are all strings"),
        "nested": (b'{"a": {"b": "c"}}', 2, "whose values are all strings"),
        "list": (b'[["a", "b"]]', 2, "whose values are all strings"),
        "empty-list": (b" []", 2, "is not a JSON object"),
        "twice": (b'{"a": "b", "a": "c"}', 2, "given twice"),
        "empty": (b"{}", 6, "no context was given"),
        "surrogate": (b'{"a": "\\ud800"}', 6, ""),
        "no-name": (b'{"": "b"}', 6, ""),
        "large": (json.dumps({"a": "b" * 9000}).encode(), 6, "larger than 8192 bytes"),
        "many": (json.dumps({str(number): "" for number in range(65)}).encode(), 6, ""),
        "case": (b'{"a": "1", "A": "2"}', 6, "upper and lower case"),
    }
    for name, (data, status, fragment) in bad.items():
        shell.write(name, data)
        with shell.unchanged():
            shell.sealwax("encrypt", *K, "--context-file", name, "a").failed(status, fragment)
    shell.write("good", '{"purpose": "backup", "k\u00f8": "\u00e6"}'.encode())
    shell.transcript("""
        $ sealwax encrypt -k alias/demo --context-file good a
        $ sealwax decrypt -k alias/demo -c purpose=backup -c k\u00f8=\u00e6 -o - a.swx | cmp - a
        $ sealwax decrypt -k alias/demo --context-file missing -o - a.swx
        [2] does not exist
        $ sealwax decrypt -k alias/demo --context-file /tmp -o - a.swx
        [2] is a directory
        $ sealwax decrypt -k alias/demo --context-file good -c purpose=other -o - a.swx
        [2] given twice
    """)


def test_stored_local_and_no_context(shell: Shell) -> None:
    shell.write("a", b"data")
    shell.transcript("""
        $ sealwax encrypt -k alias/demo --no-context -o none.swx a
        $ sealwax decrypt -k alias/demo --no-context -o - none.swx | cmp - a
        $ sealwax verify -k alias/demo -c a=b none.swx
        [6] does not store 'a'
        $ sealwax encrypt -k alias/demo -c table=users -c id=7 --local-context id -o row.swx a
        $ sealwax inspect row.swx
        [0] 1 local pair, not stored
        $ sealwax encrypt -k alias/demo -c table=users -c id=7 --local-context idd -o wrong.swx a
        [2] --local-context lists 'idd', and no pair has this name; give it with -c NAME=VALUE
        $ sealwax encrypt -k alias/demo --no-context --local-context id -o wrong.swx a
        [2] --local-context lists 'id', and no pair has this name
        $ sealwax decrypt -k alias/demo -c table=users -c id=7 --local-context idd -o - row.swx
        [2] --local-context lists 'idd', and no pair has this name
        $ test ! -e wrong.swx
        $ sealwax decrypt -k alias/demo -c table=users -c id=7 --local-context id -o - row.swx | cmp - a
        $ sealwax decrypt -k alias/demo --accept-stored-context -c id=7 --local-context id -o - row.swx | cmp - a
        $ sealwax verify -k alias/demo --accept-stored-context row.swx
        [6] 1 local context pair, 0 given
        $ sealwax rewrap -k alias/demo --to alias/demo2 --accept-stored-context row.swx
        $ sealwax verify -k alias/demo2 -c table=users -c id=7 --local-context id row.swx
        $ sealwax encrypt -k alias/demo --accept-stored-context a
        [2] no such option
    """)


def test_text_form(shell: Shell) -> None:
    shell.write("a", os.urandom(100))
    shell.transcript("""
        $ sealwax encrypt --armor -k alias/demo -c purpose=backup -o a.txt a
        $ grep -qx 'swx1:[A-Za-z0-9_-]*' a.txt && test $(wc -l < a.txt) = 1
        $ sealwax decrypt --armor -k alias/demo -c purpose=backup -o - a.txt | cmp - a
        $ printf %s "$(cat a.txt)" | sealwax decrypt --armor -k alias/demo -c purpose=backup - | cmp - a
        $ sealwax decrypt --armor -k alias/demo -c purpose=backup --range 10:20 -o - a.txt | \\
          cmp - <(head -c 20 a | tail -c 10)
        $ sealwax inspect --armor a.txt
        [0] 100 bytes
        $ sealwax verify --armor -k alias/demo -c purpose=backup a.txt
        $ cp -p a.txt old.txt; sealwax rewrap --armor -k alias/demo --to alias/demo2 -c purpose=backup a.txt
        $ sealwax decrypt --armor -k alias/demo2 -c purpose=backup -o - a.txt | cmp - a
        $ cmp -s a.txt old.txt
        [1]
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b a.txt
        [4]
        $ sealwax decrypt --armor -k alias/demo -c purpose=backup -o b a
        [4]
        $ (cat old.txt; echo) | sealwax verify --armor -k alias/demo -c purpose=backup -
        [4] it contains characters that do not belong there
        $ test ! -e b
    """)


def test_detached_headers(shell: Shell) -> None:
    shell.write("a", os.urandom(50_000))
    shell.transcript("""
        $ sealwax encrypt --detached a.head -k alias/demo -c purpose=backup -o a.body a
        $ test $(stat -c %s a.body) = 50120
        $ sealwax decrypt --detached a.head -k alias/demo -c purpose=backup -o - a.body | cmp - a
        $ cat a.body | sealwax decrypt --detached a.head -k alias/demo -c purpose=backup | cmp - a
        $ sealwax decrypt --detached a.head -k alias/demo -c purpose=backup --range 40000: -o - a.body | \\
          cmp - <(tail -c 10000 a)
        $ sealwax verify --detached a.head -k alias/demo -c purpose=backup a.body
        [0] authentic, 50000 bytes
        $ sealwax inspect --detached a.head a.body
        [0] 50000 bytes
        $ sealwax inspect --json a.head
        [0] "kind": "detached"
        $ sealwax decrypt -k alias/demo -c purpose=backup -o b a.head
        [4] this is a detached header
        $ sealwax decrypt -k alias/demo -c purpose=backup --detached a.body -o b a.body
        [4] a.body: the header 'a.body': this is not a sealwax envelope
        $ sealwax verify -k alias/demo -c purpose=backup --detached a.body a.head
        [4] a.head: the header 'a.body': this is not a sealwax envelope
        $ sealwax encrypt -k alias/demo -c purpose=backup a
        $ sealwax decrypt -k alias/demo -c purpose=backup --detached a.swx -o b a.body
        [4] a.body: the header 'a.swx': this is a whole envelope, not a detached header
        $ sealwax reencrypt -k alias/demo --to alias/demo2 -c purpose=backup --detached a.swx -o b a.body
        [4] a.body: the header 'a.swx': this is a whole envelope, not a detached header
        $ sealwax inspect --detached a.swx a.body
        [4] a.body: the header 'a.swx': this is a whole envelope, not a detached header
        $ sealwax decrypt -k alias/demo -c purpose=backup --detached a.head --force -o a.head a.body
        [1] the output would overwrite the header
        $ sealwax rewrap --detached a.head -k alias/demo --to alias/demo2 -c purpose=backup --force -o a.body a.body
        [1] the output would overwrite the payload
        $ sealwax encrypt --detached new -k alias/demo -c purpose=backup --force -o new a
        [1] the output would overwrite the header too
        $ sealwax rewrap --detached a.head --verify -k alias/demo --to alias/demo2 -c purpose=backup a.body
        $ sealwax decrypt --detached a.head -k alias/demo2 -c purpose=backup -o - a.body | cmp - a
        $ sealwax rewrap --detached a.head -k alias/demo2 --to alias/demo -c purpose=backup -o again.head
        $ sealwax verify --detached again.head -k alias/demo -c purpose=backup a.body
        $ test ! -e b && test ! -e new
    """)


def test_suffix_force_quiet_and_places(shell: Shell) -> None:
    shell.write("a", b"1")
    shell.transcript("""
        $ test -z "$(sealwax encrypt -q --suffix .sealed -k alias/demo -c purpose=backup a 2>&1)" && test -e a.sealed
        $ sealwax encrypt --suffix .sealed -k alias/demo -c purpose=backup a
        [1] 'a.sealed' already exists
        $ sealwax encrypt --force --suffix .sealed -k alias/demo -c purpose=backup a
        $ sealwax decrypt -k alias/demo -c purpose=backup a.sealed
        [2] does not end with '.swx'
        $ mkdir d && sealwax decrypt --suffix .sealed -k alias/demo -c purpose=backup -o d a.sealed && cmp a d/a
        $ sealwax encrypt -k alias/demo -c purpose=backup -o missing/a.swx a
        [1] No such file or directory
        $ test ! -e missing
        $ sealwax encrypt -k alias/demo -c purpose=backup a new.swx
        [8] No such file or directory; each name is an input: to write elsewhere, use -o
        $ sealwax decrypt -k alias/demo -c purpose=backup a.swx new
        [8] No such file or directory; each name is an input: to write elsewhere, use -o
        $ sealwax encrypt --force -k alias/demo -c purpose=backup -o d a none 2>&1 | grep -c 'is an input'
        [1] 0
        $ rm a.swx
        $ sealwax encrypt -v -k alias/demo -c purpose=backup a
        [0] a: encrypted -> a.swx
        $ sealwax inspect --json - < a.swx
        [0] "path": "-"
        $ cat a.swx | sealwax inspect --json
        [0] "plaintext_bytes": 1
        $ cat a.swx | sealwax verify --json -k alias/demo -c purpose=backup -
        [0] "plaintext_bytes": 1
    """)


@pytest.mark.parametrize(
    ("bounds", "start", "end"),
    [
        ("0:", 0, 40_000),
        (":1", 0, 1),
        ("39999:", 39_999, 40_000),
        ("16383:16385", 16_383, 16_385),
        ("40000:", 40_000, 40_000),
        ("7:7", 7, 7),
        ("39990:50000", 39_990, 40_000),
    ],
)
@pytest.mark.usefixtures("sealed")
def test_ranges(shell: Shell, plain: bytes, bounds: str, start: int, end: int) -> None:
    done = shell.sealwax("decrypt", *K, *PURPOSE, "--range", bounds, "-o", "-", "a.swx").succeeded()
    assert done.out == plain[start:end]


@pytest.mark.parametrize(
    "bounds", [":", "", "5", "2:1", "-1:5", "a:b", "1:2:3", "0x1:2", " 1:2", "1:1000000000000000000"]
)
@pytest.mark.usefixtures("sealed")
def test_ranges_that_are_none(shell: Shell, bounds: str) -> None:
    with shell.unchanged():
        shell.sealwax("decrypt", *K, *PURPOSE, f"--range={bounds}", "-o", "out", "a.swx").failed(2, "--range")


def test_an_interrupted_rewrap_is_repeated(shell: Shell) -> None:
    (shell.folder / "d").mkdir()
    for name in "ab":
        shell.write(f"d/{name}", name.encode())
    shell.transcript("""
        $ sealwax encrypt -r -k alias/demo -c purpose=backup d
        $ sealwax inspect --json d/a.swx | grep -o 'arn:aws:kms[^"]*' > old
        $ sealwax encrypt -k alias/demo2 -c purpose=backup -o x.swx d/a
        $ sealwax inspect --json x.swx | grep -o 'arn:aws:kms[^"]*' > new
        $ sealwax rewrap -k "$(cat old)" --to "$(cat new)" -c purpose=backup d/a.swx
        $ sealwax rewrap -v -r -k "$(cat old)" --to "$(cat new)" -c purpose=backup d
        [0] d/a.swx: already re-wrapped, according to its header
        $ sealwax rewrap -v -r -k alias/demo --to "$(cat new)" -c purpose=backup d
        [0] d/b.swx: already re-wrapped, according to its header
        $ sealwax rewrap -r -k alias/demo --verify --to "$(cat new)" -c purpose=backup d
        [7] does not point to
        $ sealwax rewrap -r -k alias/demo --to "$(cat new)" -c purpose=other d
        [6] a different value
        $ sealwax verify -r -k alias/demo2 -c purpose=backup d
    """)
