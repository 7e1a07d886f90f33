"""Which files -r takes: --include and --exclude as rsync reads them, and links that are followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwax.cli.filters import Filters, PathRule
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import unprivileged
from tests.s3 import StrictS3

# A pattern, a path, whether that is a folder, and whether they match.
MATCHES = [
    ("*.log", "a.log", False, True),
    ("*.log", "x/y/a.log", False, True),
    ("*.log", "a.log.gz", False, False),
    ("/cache", "cache", False, True),
    ("/cache", "a/cache", False, False),
    ("/a*", "a/b", False, False),
    ("a/b", "x/a/b", False, True),
    ("a/b", "xa/b", False, False),
    ("a/*", "b/a/c", False, True),
    ("a/*", "b/a/c/d", False, False),
    ("a/**/b", "a/x/y/b", False, True),
    ("/**.txt", "a/b.txt", False, True),
    ("**", "a/b/c", False, True),
    ("build/", "build", False, False),
    ("build/", "q/build", True, True),
    ("*/", "a/d", True, True),
    ("build/***", "build", True, True),
    ("build/***", "build", False, False),
    ("build/***", "z/build/x/y", False, True),
    ("build/***", "buildx/y", False, False),
    ("?", "a", False, True),
    ("?", "ab", False, False),
    ("a?b", "a/b", False, False),
    ("[a-c]x", "bx", False, True),
    ("[!a-c]x", "bx", False, False),
    ("[^a-c]x", "dx", False, True),
    ("[]]", "]", False, True),
    ("[", "[", False, True),
    ("a[!x]b", "a/b", False, False),
    (r"\*", "*", False, True),
    (r"\*", "a", False, False),
    ("a.b", "axb", False, False),
    ("*", "line\nfeed", False, True),
    ("*a" * 20 + "b", "a" * 200, False, False),  # with a regular expression, this would not end
]


@pytest.mark.parametrize(("pattern", "path", "folder", "matches"), MATCHES)
def test_patterns(pattern: str, path: str, folder: bool, matches: bool) -> None:
    assert PathRule(False, pattern).matches(path, folder=folder) is matches


def test_the_first_rule_that_matches_decides() -> None:
    rules = Filters((PathRule(True, "keep.tmp"), PathRule(False, "*.tmp"), PathRule(True, "*"), PathRule(False, "a")))
    assert [path for path in ("a", "a.tmp", "keep.tmp", "x/keep.tmp", "x/b.tmp") if rules.exclude(path)] == [
        "a.tmp",
        "x/b.tmp",
    ]
    assert Filters((PathRule(False, "/x/"),)).exclude_below("x/y/z")
    assert not Filters((PathRule(False, "/x/"),)).exclude_below("y/x")


# --- folders and prefixes

TREE = ("a.txt", "b.tmp", "keep.tmp", "sub/c.tmp", "sub/d.txt", "cache/e.txt", "sub/cache/f.txt")


def tree(top: str = "in") -> None:
    for name in TREE:
        Path(top, name).parent.mkdir(parents=True, exist_ok=True)
        Path(top, name).write_bytes(name.encode())


def below(top: str) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in Path(top).rglob("*") if path.is_file())


CHOICES = [
    (("--exclude", "*.tmp"), {"a.txt", "sub/d.txt", "cache/e.txt", "sub/cache/f.txt"}),
    (("--include", "keep.*", "--exclude", "*.tmp", "--exclude", "cache/"), {"a.txt", "keep.tmp", "sub/d.txt"}),
    (("--exclude=/cache", "--exclude", "*.tmp"), {"a.txt", "sub/d.txt", "sub/cache/f.txt"}),
    (("--include", "*/", "--include", "*.txt", "--exclude", "*"), {name for name in TREE if name.endswith(".txt")}),
    (("--include", "*.txt", "--exclude", "*"), {"a.txt"}),
]


@pytest.mark.parametrize(("options", "taken"), CHOICES)
def test_what_a_folder_yields(run: Run, options: tuple[str, ...], taken: set[str]) -> None:
    tree()
    assert run("encrypt", *K, *PURPOSE, "-r", *options, "-o", "out", "in") == 0
    assert set(below("out")) == {f"{name}.swx" for name in taken}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.bucket()
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


def test_what_a_prefix_yields(run: Run, s3: StrictS3) -> None:
    for name in TREE:
        s3.client().put_object(Bucket="bucket", Key=f"in/{name}", Body=name.encode())
    options, taken = CHOICES[1]
    assert run("encrypt", *K, *PURPOSE, "-r", *options, "-o", "out", "s3://bucket/in/") == 0
    assert set(below("out")) == {f"{name}.swx" for name in taken}


def test_envelopes_are_chosen_by_their_own_names(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    tree()
    assert run("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in") == 0
    for verb in (("verify",), ("rewrap", "--to", "alias/demo2"), ("reencrypt", "--to", "alias/demo2")):
        capfd.readouterr()
        assert run(verb[0], *K, *PURPOSE, *verb[1:], "-r", "--exclude", "*.tmp.swx", "--dry-run", "out") == (
            2 if verb[0] == "verify" else 0
        )
        assert run(verb[0], *K, *PURPOSE, *verb[1:], "-r", "--exclude", "*.tmp.swx", "--exclude", "*", "out") == 1
        assert "--exclude leaves out " in capfd.readouterr().err
    assert run("decrypt", *K, *PURPOSE, "-r", "--exclude", "*.tmp.swx", "-o", "back", "out") == 0
    assert set(below("back")) == CHOICES[0][1]


def test_an_excluded_folder_is_not_entered(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    tree()
    os.chmod("in/sub", 0)
    try:
        with unprivileged():
            assert run("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in") == 8
            assert run("encrypt", *K, *PURPOSE, "-r", "--exclude", "/sub/", "-o", "out", "in") == 0
    finally:
        os.chmod("in/sub", 0o700)
    assert "1 skipped (1 excluded)" in capfd.readouterr().err


def test_nothing_left_to_encrypt_is_said(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    tree()
    assert run("encrypt", *K, *PURPOSE, "-r", "--exclude", "*", "in") == 0
    assert "nothing to do; 5 skipped (5 excluded)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-r", "--include", "*.pdf"), "--include '*.pdf' has no effect"),
        (("-r", "--exclude", "*", "--include", "*.pdf"), "--include '*.pdf' has no effect"),
        (("-r", "--exclude", ""), "--exclude needs a pattern"),
        (("-r", "--exclude", "/"), "--exclude needs a pattern"),
        (("-r", "--exclude", "x" * 5000), "longer than 4,096 characters"),
        (("--exclude", "*.pdf"), "--exclude needs -r"),
        (("--follow-links",), "--follow-links needs -r"),
    ],
)
def test_what_has_no_effect_is_refused(
    run: Run, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    tree()
    assert run("encrypt", *K, *PURPOSE, *options, "in") == 2
    assert says in capfd.readouterr().err
    assert below("in") == sorted(TREE)


# --- links


def linked() -> None:
    """A folder with links out of it, in circles, to one place twice, and to nothing."""
    tree()
    Path("elsewhere/deep").mkdir(parents=True)
    Path("elsewhere/deep/x").write_bytes(b"x")
    Path("elsewhere/y").write_bytes(b"y")
    os.symlink("../elsewhere", "in/folder")
    os.symlink("../elsewhere/deep", "in/again")
    os.symlink("../elsewhere/y", "in/file")
    os.symlink("..", "in/sub/up")
    os.symlink("../../in", "elsewhere/deep/back")


def test_links_are_followed_once_and_in_no_circle(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    linked()
    assert run("encrypt", *K, *PURPOSE, "-r", "--follow-links", "-o", "out", "in") == 0
    assert set(below("out")) == {f"{name}.swx" for name in (*TREE, "file", "folder/y", "again/x")}
    assert "10 encrypted; 3 skipped (3 links within the run)" in capfd.readouterr().err
    assert run("decrypt", *K, *PURPOSE, "-r", "-o", "back", "out") == 0
    assert Path("back/again/x").read_bytes() == b"x"


def test_without_the_option_no_link_is_followed(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    linked()
    assert run("encrypt", *K, *PURPOSE, "-r", "-o", "out", "in") == 8
    assert set(below("out")) == {f"{name}.swx" for name in TREE}
    err = capfd.readouterr().err
    advice = "it is a link to a folder, and -r does not follow links; name it on the command line, with -r, or use"
    assert f"sealwax: in/again: {advice} --follow-links\n" in err
    assert f"sealwax: 2 files: {advice} --follow-links\n  in/again\n  in/folder\n" in err


def test_links_to_envelopes_are_changed_where_they_are(run: Run, keys: Keys) -> None:
    Path("in").mkdir()
    Path("elsewhere").mkdir()
    for name in ("a", "b"):
        Path(f"elsewhere/{name}.swx").write_bytes(keys.sealer(keys.demo).encrypt(b"x", context={"purpose": "backup"}))
    os.symlink("../elsewhere", "in/folder")
    assert run("rewrap", *K, *PURPOSE, "--to", keys.demo2, "-r", "--follow-links", "in") == 0
    for name in ("a", "b"):
        keys.sealer(keys.demo2).decrypt(Path(f"elsewhere/{name}.swx").read_bytes(), context={"purpose": "backup"})
    assert os.path.islink("in/folder")


def test_links_that_cannot_be_followed_are_named(run: Run, keys: Keys, capfd: pytest.CaptureFixture[str]) -> None:
    tree()
    os.symlink("nowhere", "in/gone")
    os.symlink(str(keys.lab.path), "in/lab")
    os.symlink("../out", "in/result")
    os.mkfifo("pipe")
    os.symlink("../pipe", "in/pipe")
    Path("out").mkdir()
    assert run("encrypt", "-v", *K, *PURPOSE, "-r", "--follow-links", "-o", "out", "in") == 8
    err = capfd.readouterr().err
    for said in (
        "in/gone: it is a link that leads nowhere",
        "in/lab: skipped, it is the lab in use",
        "in/result: it is a link to a folder that holds the output of this run",
        "in/pipe: skipped, it is not a regular file",
    ):
        assert said in err
    assert set(below("out")) == {f"{name}.swx" for name in TREE}
