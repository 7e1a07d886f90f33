"""Where outputs go: never through a link that nobody asked for, never to somebody else, and as private as the umask."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwax
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.swapping import at_every_moment

CONTEXT = {"purpose": "backup"}


@pytest.fixture(scope="module")
def sealer(keys: Keys) -> sealwax.Sealer:
    """Opens what is under either key."""
    return sealwax.Sealer(
        sealwax.KmsKeyring(keys.demo, decrypt_with=[keys.demo, keys.demo2], session=keys.lab.session())
    )


@pytest.fixture(scope="module")
def value(sealer: sealwax.Sealer) -> bytes:
    return sealer.encrypt(b"plaintext", context=CONTEXT)


@pytest.fixture
def sealed(here: Path, value: bytes) -> bytes:
    """The content of a.swx."""
    (here / "a.swx").write_bytes(value)
    (here / "a").write_bytes(b"data")
    return value


@pytest.fixture(params=[0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def _state(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[os.fspath(path.relative_to(folder))] = (status.st_mode, status.st_ino, content)
    return found


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _belongs_to_another(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a pipe another user's, seen from here."""
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    else:
        mine = os.geteuid()
        patch.setattr(os, "geteuid", lambda: mine + 1)


TO = ("--to", "alias/demo2")
WRITING: dict[str, tuple[str, ...]] = {
    "encrypt": ("encrypt", *K, *PURPOSE, "-o", "out", "a"),
    "decrypt": ("decrypt", *K, *PURPOSE, "-o", "out", "a.swx"),
    "decrypt a range": ("decrypt", *K, *PURPOSE, "--range", "0:3", "-o", "out", "a.swx"),
    "a detached header": ("encrypt", *K, *PURPOSE, "-o", "body", "--detached", "out", "a"),
    "armor": ("encrypt", *K, *PURPOSE, "--armor", "-o", "out", "a"),
    "rewrap": ("rewrap", *K, *TO, *PURPOSE, "-o", "out", "a.swx"),
    "reencrypt": ("reencrypt", *K, *TO, *PURPOSE, "-o", "out", "a.swx"),
}


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("verb", WRITING)
@pytest.mark.parametrize("target", ["nowhere", "../victim", "pipe", "/dev/null"])
def test_a_link_is_in_the_way_as_a_file_is(verb: str, target: str, here: Path, run: Run) -> None:
    (here.parent / "victim").write_bytes(b"of the victim")
    os.mkfifo(here / "pipe")
    reading = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (here / "out").symlink_to(target)
    before = _state(here.parent)
    assert run(*WRITING[verb]) == 1
    assert _state(here.parent) == before
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.usefixtures("sealed")
def test_a_link_beside_the_source_and_in_an_output_folder(here: Path, run: Run) -> None:
    (here / "in").mkdir()
    (here / "in" / "x").write_bytes(b"data")
    (here / "out").mkdir()
    for link in (here / "a.swx.swx", here / "in" / "x.swx", here / "out" / "x.swx", here / "out" / "a.swx"):
        link.symlink_to(here.parent / "nowhere")
    before = _state(here.parent)
    encrypt = ("encrypt", *K, *PURPOSE)
    for arguments in (("a.swx",), ("-r", "in"), ("-r", "-o", "out", "in"), ("-o", "out", "a"), ("-o", "out/", "a")):
        assert run(*encrypt, *arguments) == 1
    # Nor is it followed where files may be replaced: nobody has named these.
    for arguments in (("-r", "in"), ("-r", "-o", "out", "in"), ("-o", "out", "a"), ("-o", "out/", "a")):
        assert run(*encrypt, "--force", *arguments) == (8 if "-r" in arguments else 1)
    assert _state(here.parent) == before


@pytest.mark.usefixtures("sealed")
def test_with_force_a_link_that_was_named_leads_to_a_file_only(here: Path, run: Run) -> None:
    (here / "target").write_bytes(b"old")
    os.mkfifo(here / "pipe")
    for name, target in (("link", "target"), ("to-pipe", "pipe"), ("to-null", "/dev/null")):
        (here / name).symlink_to(target)
    decrypt = ("decrypt", *K, *PURPOSE, "--force", "a.swx", "-o")
    assert run(*decrypt, "link") == 0
    assert (here / "link").is_symlink()
    assert (here / "target").read_bytes() == b"plaintext"
    for name in ("to-pipe", "to-null"):
        assert run(*decrypt, name) == 1


def _link_of_another(path: Path, target: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a link that another user has made, seen from here."""
    path.symlink_to(target)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    else:
        it, lstat = path.lstat().st_ino, os.lstat

        def seen(path: Path) -> os.stat_result:
            status = lstat(path)
            return os.stat_result((*status[:4], 65534, *status[5:])) if status.st_ino == it else status

        patch.setattr(os, "lstat", seen)


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("verb", WRITING)
@pytest.mark.parametrize("steps", [1, 2])
def test_with_force_no_link_of_another_user_is_followed(
    verb: str, steps: int, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever may make a link in a shared folder would decide which file is overwritten."""
    victim = here.parent / "victim"
    victim.write_bytes(b"of the victim")
    if steps == 1:
        _link_of_another(here / "out", victim, monkeypatch)
    else:
        _link_of_another(here / "further", victim, monkeypatch)
        (here / "out").symlink_to("further")
    before = _state(here.parent)
    assert run(*WRITING[verb], "--force") == 1
    assert "it is a symbolic link of another user" in capsys.readouterr().err
    assert _state(here.parent) == before


def test_in_place_and_in_the_library_no_link_of_another_user_is_followed(
    here: Path, sealed: bytes, sealer: sealwax.Sealer, keys: Keys, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = here.parent / "victim"
    victim.write_bytes(sealed)
    _link_of_another(here / "link.swx", victim, monkeypatch)
    before = _state(here.parent)
    for verb in ("rewrap", "reencrypt"):
        assert run(verb, *K, *TO, *PURPOSE, "link.swx") == 1
    with pytest.raises(sealwax.FileError, match="a symbolic link of another user"):
        sealer.open("link.swx", "wb", context=CONTEXT)
    with pytest.raises(sealwax.FileError, match="a symbolic link of another user"):
        sealer.rewrap("link.swx", to=keys.demo2, context=CONTEXT)
    with pytest.raises(sealwax.FileError, match="a symbolic link of another user"):
        sealer.rewrap("a.swx", to=keys.demo2, context=CONTEXT, output="link.swx")
    assert _state(here.parent) == before


def test_mode_xb_follows_no_link(here: Path, sealer: sealwax.Sealer) -> None:
    for target in ("nowhere", "pipe", "/dev/null"):
        (here / "link").unlink(missing_ok=True)
        (here / "link").symlink_to(target)
        with pytest.raises(sealwax.FileError, match="exists"):
            sealer.open("link", "xb", context=CONTEXT)
        with pytest.raises(sealwax.FileError, match="exists"):
            sealer.open("body", "xb", context=CONTEXT, header="link")
        assert os.listdir(here) == ["link"]


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize("verb", WRITING)
def test_a_pipe_of_another_user_gets_nothing(
    verb: str, force: tuple[str, ...], here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(here / "out")
    (here / "out").chmod(0o666)
    _belongs_to_another(here / "out", monkeypatch)
    reading = os.open(here / "out", os.O_RDONLY | os.O_NONBLOCK)
    assert run(*WRITING[verb], *force) == 1
    assert os.read(reading, 100) == b""
    os.close(reading)


@pytest.mark.usefixtures("sealed")
def test_pipes_and_devices_that_are_ones_own(here: Path, run: Run) -> None:
    decrypt = ("decrypt", *K, *PURPOSE, "a.swx", "-o")
    os.mkfifo(here / "pipe")
    reading = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert run(*decrypt, "pipe") == 0
    assert os.read(reading, 100) == b"plaintext"
    os.close(reading)
    assert run(*decrypt, "/dev/null") == 0
    # As >(program) is: the shell hands over a pipe, whoever made it.
    for name in ("/dev/fd/{}", "/proc/self/fd/{}"):
        reading, writing = os.pipe()
        if os.geteuid() == 0:
            os.fchown(writing, 65534, 65534)
        assert run(*decrypt, name.format(writing)) == 0
        assert os.read(reading, 100) == b"plaintext"
        os.close(reading)
        os.close(writing)


@pytest.mark.usefixtures("sealed")
def test_a_disk_is_written_over_with_force_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here /dev/null says that it is one."""
    null, real = os.stat("/dev/null").st_rdev, os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        return os.stat_result((stat.S_IFBLK | 0o666, *status[1:])) if status.st_rdev == null else status

    monkeypatch.setattr(os, "fstat", fstat)
    assert run("decrypt", *K, *PURPOSE, "a.swx", "-o", "/dev/null") == 1
    assert run("decrypt", *K, *PURPOSE, "--force", "a.swx", "-o", "/dev/null") == 0


def test_a_pipe_that_nobody_reads_is_not_waited_for_without_end(
    here: Path, sealer: sealwax.Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(here / "pipe")
    now = [0.0]
    monkeypatch.setattr("time.clock_gettime", lambda _: now[0])
    monkeypatch.setattr("time.sleep", lambda _: now.__setitem__(0, now[0] + 1))
    with pytest.raises(sealwax.FileError, match="no program opened this pipe for reading in 60 s"):
        sealer.open(here / "pipe", "wb", context=CONTEXT)


def test_a_pipe_that_held_no_envelope_is_not_opened_again(here: Path, run: Run) -> None:
    """Its next writer would be waited for."""
    os.mkfifo(here / "pipe")
    statuses: list[int] = []
    program = threading.Thread(target=lambda: statuses.append(run("inspect", "pipe")), daemon=True)
    program.start()
    (here / "pipe").write_bytes(b"no envelope")
    program.join(30)
    if not statuses:
        os.close(os.open(here / "pipe", os.O_RDWR | os.O_NONBLOCK))
        program.join()
        statuses.append(-1)
    assert statuses == [4]


# --- swapped in between


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "target"), [("pipe", "../victim"), ("pipe", "../nowhere"), ("nothing", "../nowhere")])
def test_a_link_that_appears_at_any_moment_is_not_followed(
    kind: str, target: str, here: Path, sealed: bytes, keys: Keys, run: Run
) -> None:
    victim, out = here.parent / "victim", here / "out"
    readers: list[int] = []

    def prepare() -> None:
        victim.write_bytes(b"of the victim")
        out.unlink(missing_ok=True)
        while readers:
            os.close(readers.pop())
        if kind == "pipe":
            os.mkfifo(out)
            readers.append(os.open(out, os.O_RDONLY | os.O_NONBLOCK))

    def swap() -> None:
        out.unlink(missing_ok=True)
        out.symlink_to(target)

    rounds = 0
    for _ in at_every_moment(
        out, keys.lab.path, prepare, swap, lambda: run("decrypt", *K, *PURPOSE, "-o", "out", "a.swx")
    ):
        assert victim.read_bytes() == b"of the victim"
        assert sorted(os.listdir(here.parent)) == ["home", "victim", "work"]
        rounds += 1
    assert rounds >= 3
    prepare()
    assert (here / "a.swx").read_bytes() == sealed


# The folder, or file, that becomes a link; the file in it; what is done.
FOLDERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "where encrypt reads": ("in/sub", "x", ("encrypt", *K, *PURPOSE, "--force", "-r", "-o", "out", "in")),
    "where encrypt writes": ("out/sub", "x", ("encrypt", *K, *PURPOSE, "--force", "-r", "-o", "out", "in")),
    "decrypt, beside": ("in/sub", "x.swx", ("decrypt", *K, *PURPOSE, "--force", "-r", "in")),
    "rewrap a file": ("in/sub/x.swx", "x.swx", ("rewrap", *K, *TO, *PURPOSE, "-r", "in")),
    "reencrypt": ("in/sub", "x.swx", ("reencrypt", *K, *TO, *PURPOSE, "-r", "in")),
    "encrypt a file": ("in/sub/x", "x", ("encrypt", *K, *PURPOSE, "--force", "-r", "-o", "out", "in")),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FOLDERS)
def test_what_becomes_a_link_at_any_moment_leads_nowhere(
    what: str, here: Path, value: bytes, sealer: sealwax.Sealer, keys: Keys, run: Run
) -> None:
    """Nothing outside is read, replaced or made."""
    which, name, arguments = FOLDERS[what]
    outside, folder, aside = here.parent / "outside", here / which, here / "aside"
    theirs = sealer.encrypt(b"theirs", context=CONTEXT) if name == "x.swx" else b"theirs"

    def prepare() -> None:
        for place in (folder, aside):
            if place.is_symlink() or place.is_file():
                place.unlink()
        for place in (outside, here / "in", here / "out", aside):
            shutil.rmtree(place, ignore_errors=True)
        for place, content in ((outside, theirs), (here / "in" / "sub", value if name == "x.swx" else b"ours")):
            place.mkdir(parents=True)
            (place / name).write_bytes(content)
        if not folder.exists():
            folder.mkdir(parents=True)

    def swap() -> None:
        folder.rename(aside)
        folder.symlink_to(outside / name if folder.name == name else outside)

    rounds = 0
    for _ in at_every_moment(here / which.split("/")[0], keys.lab.path, prepare, swap, lambda: run(*arguments)):
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {name: theirs}
        for path in (here / "in", here / "out", aside):
            for made in [path] if path.is_file() else path.rglob("x*"):
                if made.is_symlink():
                    continue
                content = made.read_bytes()
                if content.startswith(b"\x8aSWX"):
                    content = sealer.decrypt(content, context=CONTEXT)
                assert content in (b"ours", b"plaintext")
        rounds += 1
    assert rounds >= 5


# --- as private as the umask


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("verb", WRITING)
def test_an_output_is_as_private_as_the_umask(verb: str, umask: int, here: Path, run: Run) -> None:
    for name in ("a", "a.swx"):
        (here / name).chmod(0o4755)
    assert run(*WRITING[verb]) == 0
    for name in ("out", "body"):
        if (here / name).exists():
            assert _mode(here / name) == 0o755 & ~umask
    (here / "a").chmod(0o400)
    (here / "a.swx").chmod(0o400)
    assert run(*WRITING[verb], "--force") == 0
    assert _mode(here / "out") == 0o400


@pytest.mark.usefixtures("sealed")
def test_folders_and_standard_input_too(umask: int, here: Path, run: Run) -> None:
    (here / "in" / "deep").mkdir(parents=True)
    (here / "in" / "deep" / "x").write_bytes(b"data")
    (here / "in" / "deep" / "x").chmod(0o666)
    assert run("encrypt", *K, *PURPOSE, "-r", "-o", "new/out", "in") == 0
    assert run("decrypt", *K, *PURPOSE, "-r", "-o", "back", "new/out") == 0
    for folder in ("new", "new/out", "new/out/deep", "back", "back/deep"):
        assert _mode(here / folder) == 0o777 & ~umask
    for name in ("new/out/deep/x.swx", "back/deep/x"):
        assert _mode(here / name) == 0o666 & ~umask


@pytest.mark.usefixtures("sealed")
def test_what_takes_its_own_place_keeps_its_mode(umask: int, here: Path, run: Run) -> None:
    assert run("encrypt", *K, *PURPOSE, "--armor", "-o", "text", "a") == 0
    for name in ("a.swx", "text"):
        (here / name).chmod(0o664)
    assert run("rewrap", *K, *TO, *PURPOSE, "a.swx") == 0
    assert run("reencrypt", "-k", "alias/demo2", *TO, *PURPOSE, "a.swx") == 0
    assert run("rewrap", *K, *TO, *PURPOSE, "--armor", "text") == 0
    assert [_mode(here / name) for name in ("a.swx", "text")] == [0o664, 0o664]
    assert umask


@pytest.mark.usefixtures("sealed")
def test_plans_and_pages_are_private_too(umask: int, here: Path, run: Run) -> None:
    plan = ("fleet", "plan", "--from", "alias/demo", *TO, *PURPOSE, "-o", "plan", "--report", "page.html", "a.swx")
    assert run(*plan) == 0
    assert _mode(here / "plan") == 0o600
    assert _mode(here / "page.html") == 0o644 & ~umask
