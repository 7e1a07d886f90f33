"""sealwax edit: what becomes of the envelope, and that nothing of the plaintext is left, whatever the editor does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import resource
import signal
import stat
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import sealwax
from sealwax.cli import editor as editors
from sealwax.errors import FileError
from tests import system
from tests.cli.conftest import PURPOSE, K, Keys, Run
from tests.cli.shell import SEALWAX, Shell, unprivileged
from tests.s3 import StrictS3, error

pytestmark = pytest.mark.skipif(editors.memory_backed(("/dev/shm",)) is None, reason="there is no folder in memory")

CONTEXT: Final = {"purpose": "backup"}
# Of this worker: others look for what they left at the same time.
SECRET: Final = f"the crown jewels {os.getpid()}-7e52\n".encode()
CHANGED: Final = SECRET.replace(b"\n", b" and more\n")
# Changes the file as many editors do: a new file takes the place of the old one.
CHANGE: Final = 'sed -i "s/7e52/7e52 and more/" "$1"'
Edit = Callable[..., int]


def present(*places: Path) -> list[str]:
    """Return the files below shared memory and some folders that hold the plaintext."""
    left = []
    for place in (Path("/dev/shm"), *places):
        for parent, folders, names in os.walk(place):
            if parent == "/dev/shm":
                # Those of tests may be here too. A process that reads its own open lab drops SQLite's locks on it.
                folders[:] = [name for name in folders if not name.startswith("pytest-")]
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):  # that of another program, and gone
                    status = os.lstat(path)
                    small = stat.S_ISREG(status.st_mode) and status.st_size <= 1 << 20
                    if small and SECRET.strip() in Path(path).read_bytes():
                        left.append(path)
    return left


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with a folder for temporary files of its own; nothing may be left at the end."""
    (here.parent / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(here.parent / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("VISUAL", raising=False)
    yield here
    assert present(here.parent) == []
    log = here.parent / "log"
    if log.exists():
        assert not os.path.exists(os.path.dirname(os.path.dirname(log.read_text().rstrip("\n"))))


@pytest.fixture
def script(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a shell script the editor; it writes down the name that it was given."""

    def use(text: str) -> None:
        file = place.parent / "an editor.sh"
        file.write_text(f'printf "%s\\n" "$1" > {place.parent}/log\n{text}\n')
        monkeypatch.setenv("EDITOR", f"sh '{file}'")

    return use


@pytest.fixture
def sealed_file(place: Path, keys: Keys) -> Path:
    file = place / "a.txt.swx"
    file.write_bytes(keys.sealer(keys.demo).encrypt(SECRET, context=CONTEXT))
    return file


def was_edited(place: Path) -> bool:
    return (place.parent / "log").exists()


def test_a_change_is_sealed_under_the_same_key_and_context(
    script: Callable[[str], None],
    sealed_file: Path,
    place: Path,
    run: Run,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sealed_file.chmod(0o640)
    before = sealed_file.read_bytes()
    script(f'[ "$(stat -c %a "$(dirname "$(dirname "$1")")" "$1" | tr "\\n" " ")" = "700 600 " ] || exit 9\n{CHANGE}')
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 0
    assert "a.txt.swx: changed and encrypted again\n" in capsys.readouterr().err
    assert (place.parent / "log").read_text().endswith("/a.txt\n")
    assert os.listdir(place) == ["a.txt.swx"]
    assert stat.S_IMODE(sealed_file.stat().st_mode) == 0o640
    old, new = sealwax.inspect(before), sealwax.inspect(sealed_file)
    assert [key.key_arn for key in new.wrapped_keys] == [key.key_arn for key in old.wrapped_keys] == [keys.demo]
    assert new.context == CONTEXT
    assert new.wrapped_keys[0].ciphertext != old.wrapped_keys[0].ciphertext
    assert keys.sealer(keys.demo).decrypt(sealed_file.read_bytes(), context=CONTEXT) == CHANGED


@pytest.mark.parametrize("text", ["true", 'cat "$1" > copy; mv copy "$1"', 'touch "$1"'])
def test_without_a_change_nothing_is_written(
    script: Callable[[str], None], sealed_file: Path, run: Run, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    before = sealed_file.read_bytes(), sealed_file.stat()
    script(text)
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 0
    assert "a.txt.swx: unchanged\n" in capsys.readouterr().err
    assert (sealed_file.read_bytes(), sealed_file.stat().st_ino) == (before[0], before[1].st_ino)
    assert sealed_file.stat().st_mtime_ns == before[1].st_mtime_ns
    assert run("edit", "-q", *K, *PURPOSE, "a.txt.swx") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "the editor 'sh' exited with status 3; nothing was written"),
        (f"{CHANGE}; exit 1", "the editor 'sh' exited with status 1; nothing was written"),
        (f"{CHANGE}; kill -9 $$", "the editor 'sh' was killed (SIGKILL); nothing was written"),
        ('rm "$1"', "the editor deleted the file; nothing was written"),
        ('rm -r "$(dirname "$1")"', "the editor deleted the file; nothing was written"),
        ('rm "$1"; mkfifo "$1"', "left something that is not a regular file; nothing was written"),
        ('rm "$1"; mkdir "$1"', "left something that is not a regular file; nothing was written"),
        ('rm "$1"; ln -s /etc/hostname "$1"', "left something that is not a regular file; nothing was written"),
        ('truncate -s 67108865 "$1"', "the file is now larger than 64 MiB, which is too large; nothing was written"),
    ],
)
def test_an_editor_that_fails_changes_nothing(
    script: Callable[[str], None],
    sealed_file: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    text: str,
    said: str,
) -> None:
    before = sealed_file.read_bytes()
    script(text)
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("sealwax: a.txt.swx: ")
    assert said in message
    assert sealed_file.read_bytes() == before


def test_an_editor_that_is_interrupted_is_an_interruption(
    script: Callable[[str], None], sealed_file: Path, run: Run
) -> None:
    before = sealed_file.read_bytes()
    script(f"{CHANGE}; kill -INT $$")
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 130
    assert sealed_file.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"EDITOR": "no-such-editor"}, "EDITOR names the editor 'no-such-editor', which is not an installed program"),
        ({"EDITOR": "true", "VISUAL": "none-\x1b"}, "VISUAL names the editor 'none-\\x1b', which is not an installed"),
        ({"EDITOR": "/etc"}, "EDITOR names the editor '/etc'"),
        ({"EDITOR": "vi 'x"}, "EDITOR is not a command: it has an unclosed quote"),
        ({"EDITOR": " "}, "neither VISUAL nor EDITOR is set, and the default, 'vi', is not an installed program"),
    ],
)
def test_an_editor_that_cannot_be_started_is_named_before_kms_is_called(
    sealed_file: Path,
    run: Run,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    said: str,
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(sealed_file.parent))
    calls = len(keys.calls())
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 1
    assert said in capsys.readouterr().err
    assert len(keys.calls()) == calls


def test_the_editor_can_be_any_file_but_not_any_format(
    sealed_file: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = sealed_file.with_name("program")
    program.write_bytes(b"\x7fELF of nothing")
    program.chmod(0o700)
    monkeypatch.setenv("EDITOR", str(program))
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 1
    assert re.search("starting the editor '.*/program' failed: .*; set EDITOR", capsys.readouterr().err)


@pytest.mark.usefixtures("sealed_file")
def test_all_that_an_editor_leaves_is_removed(script: Callable[[str], None], place: Path, run: Run) -> None:
    (place / "outside").write_bytes(b"not the editor's\n")
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    script(
        'cd "$(dirname "$1")"; [ "$TMPDIR" = "$XDG_STATE_HOME" -a "$TMPDIR" = "$(realpath ../tmp)" ] || exit 8\n'
        ' cp a.txt a.txt~; cp a.txt .a.txt.swp; cp a.txt "$TMPDIR/x"; chmod 400 a.txt~\n'
        'mkdir -p "$XDG_STATE_HOME/nvim/swap" deep/er; cp a.txt "$XDG_STATE_HOME/nvim/swap/a"; cp a.txt deep/er/b\n'
        f"ln -s {place}/outside link; ln -s {place} folder; mkfifo pipe; chmod 000 deep/er deep\n"
        '[ "$(ulimit -c)" = 0 ] || exit 9\n' + CHANGE
    )
    with unprivileged():
        assert run("edit", *K, *PURPOSE, "a.txt.swx") == 0
    assert resource.getrlimit(resource.RLIMIT_CORE) == (hard, hard)
    assert (place / "outside").read_bytes() == b"not the editor's\n"
    assert sorted(os.listdir(place)) == ["a.txt.swx", "outside"]
    assert os.listdir(place.parent / "tmp") == []


@pytest.mark.parametrize(
    "meanwhile",
    [
        "printf x >> a.txt.swx",
        "cp other.swx a.txt.swx",
        "cp other.swx x; mv x a.txt.swx",
        "rm a.txt.swx",
        # One byte, with the size and the time as they were.
        "cp -p a.txt.swx x; printf X | dd of=a.txt.swx bs=1 seek=300 conv=notrunc 2>/dev/null; touch -r x a.txt.swx",
    ],
)
def test_an_envelope_that_was_changed_meanwhile_is_left_alone(
    script: Callable[[str], None],
    sealed_file: Path,
    place: Path,
    run: Run,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
    meanwhile: str,
) -> None:
    (place / "other.swx").write_bytes(keys.sealer(keys.demo).encrypt(SECRET, context=CONTEXT))
    script(f"{CHANGE}\n{meanwhile}\ncp a.txt.swx after || true")
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 1
    said = capsys.readouterr().err
    assert said.endswith("sealwax: a.txt.swx: the change was discarded\n")
    if sealed_file.exists():
        assert "it was changed by another program while you edited it; it was left alone" in said
        assert sealed_file.read_bytes() == (place / "after").read_bytes()
    else:
        assert "No such file or directory" in said


def test_every_key_of_the_envelope_stays_and_has_to_be_named(
    script: Callable[[str], None],
    sealed_file: Path,
    place: Path,
    run: Run,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever can write the file can add a wrapped key of their own to it; nothing would show that."""
    both = sealwax.Sealer(sealwax.KmsKeyring([keys.demo, keys.demo2], session=keys.lab.session()))
    sealed_file.write_bytes(both.encrypt(SECRET, context=CONTEXT))
    script(CHANGE)
    before = sealed_file.read_bytes()
    for names in ((keys.demo,), ("alias/demo",), ("alias/demo", "alias/foreign"), (keys.demo, keys.foreign)):
        assert run("edit", *(f"-k{name}" for name in names), *PURPOSE, "a.txt.swx") == 7
        assert f"it is also under '{keys.demo2}', and no key of -k is known" in capsys.readouterr().err
    assert not was_edited(place)
    assert sealed_file.read_bytes() == before
    for every in ((keys.demo, keys.demo2), ("alias/demo2", "alias/foreign", "alias/demo")):
        sealed_file.write_bytes(before)
        assert run("edit", *(f"-k{name}" for name in every), *PURPOSE, "a.txt.swx") == 0
        assert [key.key_arn for key in sealwax.inspect(sealed_file).wrapped_keys] == [keys.demo, keys.demo2]
        assert both.decrypt(sealed_file.read_bytes(), context=CONTEXT) == CHANGED


def test_settings_count_for_the_file(
    script: Callable[[str], None],
    place: Path,
    run: Run,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SEALWAX_CONTEXT", raising=False)
    (place / "prod").mkdir()
    settings = place / "sealwax.toml"
    settings.write_text(
        'key = "alias/demo"\ncontext = { purpose = "backup" }\nsuffix = ".sealed"\n[[rule]]\npath = "prod/*.txt"\n'
        'key = "alias/demo2"\ncontext = { row = "{name}" }\nlocal_context = ["row"]\n'
    )
    script(CHANGE)
    for name, rule, key in (("a.txt", "", keys.demo), ("prod/a.txt", ", rule 1 (prod/*.txt)", keys.demo2)):
        (place / name).write_bytes(SECRET)
        assert run("encrypt", name) == 0
        (place / name).unlink()
        capsys.readouterr()
        assert run("edit", f"{name}.sealed") == 0
        first = capsys.readouterr().err.splitlines()[0]
        alias = "alias/demo2" if rule else "alias/demo"
        assert first.startswith(f"sealwax: settings from {settings}{rule}: key {alias}; context purpose")
        assert [each.key_arn for each in sealwax.inspect(place / f"{name}.sealed").wrapped_keys] == [key]
        assert run("decrypt", f"{name}.sealed") == 0
        assert (place / name).read_bytes() == CHANGED
        (place / name).unlink()
    # What is typed counts over them, and without them nothing does.
    assert run("edit", *K, "prod/a.txt.sealed") == 7
    assert run("edit", "--no-settings", *K, "a.txt.sealed") == 6


@pytest.mark.parametrize(
    ("context", "local", "options"),
    [
        ({"purpose": "backup", "pair": "1"}, (), ("-c", "purpose=backup", "--accept-stored-context")),
        ({"name": "a.txt", "row": "7"}, ("row",), ("-c", "name={name}", "-c", "row=7", "--local-context", "row")),
        ({}, (), ("--no-context",)),
    ],
)
def test_the_context_stays(
    script: Callable[[str], None],
    place: Path,
    run: Run,
    keys: Keys,
    context: dict[str, str],
    local: tuple[str, ...],
    options: tuple[str, ...],
) -> None:
    keyring = sealwax.KmsKeyring(keys.demo, session=keys.lab.session())
    sealer = sealwax.Sealer(keyring, local_context=local)
    bound = context or sealwax.NO_CONTEXT
    (place / "a.txt.swx").write_bytes(sealer.encrypt(SECRET, context=bound))
    script(CHANGE)
    assert run("edit", *K, *options, "a.txt.swx") == 0
    assert sealer.decrypt((place / "a.txt.swx").read_bytes(), context=bound) == CHANGED
    stored = {name: value for name, value in context.items() if name not in local}
    assert sealwax.inspect(place / "a.txt.swx").context == stored


def test_what_does_not_open_has_its_own_status_and_no_editor_starts(
    script: Callable[[str], None],
    sealed_file: Path,
    place: Path,
    run: Run,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(CHANGE)
    good = sealed_file.read_bytes()
    (place / "cut.swx").write_bytes(good[:-1])
    (place / "plain.swx").write_bytes(b"no envelope")
    (place / "folder").mkdir()
    payload, header = keys.sealer(keys.demo).encrypt_detached(SECRET, context=CONTEXT)
    (place / "header.swx").write_bytes(header)
    cases: tuple[tuple[int, tuple[str, ...]], ...] = (
        (6, (*K, "-c", "purpose=other", "a.txt.swx")),
        (6, (*K, "a.txt.swx")),
        (7, ("-k", "alias/demo2", *PURPOSE, "a.txt.swx")),
        (5, (*K, *PURPOSE, "cut.swx")),
        (4, (*K, *PURPOSE, "plain.swx")),
        (4, (*K, *PURPOSE, "header.swx")),
        (1, (*K, *PURPOSE, "missing.swx")),
        (2, (*PURPOSE, "a.txt.swx")),
        (2, (*K, *PURPOSE, "-")),
        (2, (*K, *PURPOSE, "folder")),
        (2, (*K, *PURPOSE, "s3://bucket/")),
        (2, (*K, *PURPOSE)),
    )
    for status, arguments in cases:
        assert run("edit", *arguments) == status, arguments
    keys.lab.faults.add("us-east-1", "error", 1.0, operation="GenerateDataKey", code="AccessDeniedException", seed=0)
    try:
        capsys.readouterr()
        assert run("edit", *K, *PURPOSE, "a.txt.swx") == 7
        assert "a.txt.swx: " in capsys.readouterr().err
    finally:
        keys.lab.faults.clear("us-east-1", None)
    assert not was_edited(place)
    assert sealed_file.read_bytes() == good
    assert payload


def test_a_plaintext_of_more_than_64_mib_is_refused(
    script: Callable[[str], None], place: Path, run: Run, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    script("")
    with keys.sealer(keys.demo).open(str(place / "big.swx"), "wb", context=CONTEXT) as file:
        file.write(bytes((64 << 20) + 1))
    for grown in (False, True):
        if grown:
            os.truncate(place / "big.swx", 1 << 40)
        assert run("edit", *K, *PURPOSE, "big.swx") == 1
        assert "its plaintext is larger than 64 MiB, too large to edit" in capsys.readouterr().err


def test_text_stays_text(script: Callable[[str], None], place: Path, run: Run, keys: Keys) -> None:
    sealer = keys.sealer(keys.demo)
    (place / "a.txt.swx").write_text(sealwax.armor(sealer.encrypt(SECRET, context=CONTEXT)) + "\n")
    script(CHANGE)
    assert run("edit", *K, *PURPOSE, "a.txt.swx") == 0
    text = (place / "a.txt.swx").read_text()
    assert text.endswith("\n")
    assert sealer.decrypt(sealwax.dearmor(text.rstrip("\n")), context=CONTEXT) == CHANGED


def test_an_object_is_edited_like_a_file(
    script: Callable[[str], None],
    place: Path,
    run: Run,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sealer = keys.sealer(keys.demo)
    sealed = sealer.encrypt(SECRET, context=CONTEXT)
    with StrictS3() as s3:
        client = s3.bucket()
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        client.put_object(Bucket="bucket", Key="p/a.txt.swx", Body=sealed, StorageClass="STANDARD_IA")
        script(CHANGE)

        def stored() -> bytes:
            body: bytes = client.get_object(Bucket="bucket", Key="p/a.txt.swx")["Body"].read()
            return body

        with s3.fault(lambda request: error(403, "AccessDenied") if request.operation == "PutObject" else None):
            assert run("edit", *K, *PURPOSE, "s3://bucket/p/a.txt.swx") == 1
        assert capsys.readouterr().err.endswith("sealwax: s3://bucket/p/a.txt.swx: the change was discarded\n")
        assert stored() == sealed
        assert run("edit", *K, *PURPOSE, "s3://bucket/p/a.txt.swx") == 0
        assert sealer.decrypt(stored(), context=CONTEXT) == CHANGED
        assert client.head_object(Bucket="bucket", Key="p/a.txt.swx")["StorageClass"] == "STANDARD_IA"
    assert (place.parent / "log").read_text().endswith("/a.txt\n")


def test_without_a_folder_in_memory_the_disk_has_to_be_allowed(place: Path) -> None:
    disk = "/proc"  # the folder of tests may be in memory
    assert editors.memory_backed((disk,)) is None
    assert editors.memory_backed(("", "/no/such/folder", disk, "/dev/shm")) == "/dev/shm"
    with pytest.raises(FileError, match="use --allow-disk to keep it on disk while you edit"):
        editors.PrivateFile("a", SECRET, allow_disk=False, memory=(disk,))
    with editors.PrivateFile("a", SECRET, allow_disk=True, memory=(disk,)) as private:
        assert private.path.startswith(f"{place.parent}/tmp/sealwax-")
        assert private.read() == SECRET
    assert os.listdir(place.parent / "tmp") == []


def test_a_name_that_no_file_can_have_is_replaced(place: Path) -> None:
    assert place.is_dir()
    for name in ("", "a\0b", "n" * 300):
        with editors.PrivateFile(name, SECRET, allow_disk=False) as private:
            assert os.path.basename(private.path) == "plaintext"


def test_vim_keeps_no_copies_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its swap files, backups, undo files and registers may be configured to be anywhere."""
    for name in ("vim.basic", "nvim"):
        (place / name).write_text("#!/bin/sh\n")
        (place / name).chmod(0o700)
    (place / "vi").symlink_to("vim.basic")
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    no_copies = ["-n", "-i", "NONE", "-c", "silent! set nobackup nowritebackup noundofile"]
    for named, found in (("", ["vi"]), ("nvim -R", ["nvim", "-R"]), (f"{place}/vi", [f"{place}/vi"])):
        monkeypatch.setenv("EDITOR", named)
        assert editors.find_editor() == [found[0], *no_copies, *found[1:]]
    monkeypatch.setenv("EDITOR", "sed -i 's/a b/c/'")
    assert editors.find_editor() == ["sed", "-i", "s/a b/c/"]


# --- signals and terminals


@pytest.fixture
def edited(shell: Shell, keys: Keys) -> Iterator[Shell]:
    (shell.folder.parent / "tmp").mkdir()
    shell.environment["TMPDIR"] = str(shell.folder.parent / "tmp")
    shell.write("a.txt.swx", keys.sealer(keys.demo).encrypt(SECRET, context=CONTEXT))
    yield shell
    assert present(shell.folder.parent) == []
    assert os.listdir(shell.folder.parent / "tmp") == []


def use(shell: Shell, text: str) -> None:
    shell.write("editor.sh", text.encode())
    shell.environment["EDITOR"] = f"sh {shell.folder}/editor.sh"


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "trap"),
    [(signal.SIGTERM, ""), (signal.SIGHUP, ""), (signal.SIGINT, ""), (signal.SIGTERM, "trap '' TERM; ")],
    ids=["TERM", "HUP", "INT", "TERM to an editor that ignores it"],
)
def test_a_signal_ends_the_editor_and_leaves_nothing(edited: Shell, number: signal.Signals, trap: str) -> None:
    use(edited, f'{trap}printf more >> "$1"; echo $$ > pid; while :; do sleep 0.05; done')
    with edited.unchanged():
        with edited.start("edit", *K, *PURPOSE, "a.txt.swx") as process:
            wait_for(edited.folder / "pid")
            assert present() != []
            time.sleep(0.1)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        editor = int(edited.read("pid"))
        os.unlink(edited.folder / "pid")
    assert process.returncode == 128 + number
    assert b"Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(editor, 0)


class Terminal:
    """The program on a terminal that is its own, as a shell starts it."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self._controller, terminal = pty.openpty()
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        self.process = subprocess.Popen(
            [SEALWAX, *arguments],
            cwd=shell.folder,
            env=shell.environment | {"TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.shown = b""

    def expect(self, text: bytes) -> None:
        while text not in self.shown:
            data = os.read(self._controller, 1 << 12)
            assert data
            self.shown += data

    def type(self, text: bytes) -> None:
        os.write(self._controller, text)

    def end(self) -> int:
        status = self.process.wait(60)
        self.shown += os.read(self._controller, 1 << 12)
        self.after = termios.tcgetattr(self._terminal)
        os.close(self._terminal)
        os.close(self._controller)
        return status


def test_an_interrupt_from_the_keyboard_is_the_editors(edited: Shell, keys: Keys) -> None:
    use(edited, f"trap '{CHANGE}; exit 0' INT; stty -echo -icanon; echo ready; while :; do sleep 0.05; done")
    terminal = Terminal(edited, "edit", *K, *PURPOSE, "a.txt.swx")
    terminal.expect(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 0
    assert b"changed and encrypted again" in terminal.shown
    assert terminal.after == terminal.before
    assert keys.sealer(keys.demo).decrypt(edited.read("a.txt.swx"), context=CONTEXT) == CHANGED


def test_a_person_may_try_again_to_save(edited: Shell, keys: Keys) -> None:
    sealed = edited.read("a.txt.swx")
    use(edited, f"{CHANGE}; printf x >> a.txt.swx")
    for answer, status in ((b"n\n", 1), (b"\x04", 1), (b"\n", 0)):
        edited.write("a.txt.swx", sealed)
        terminal = Terminal(edited, "edit", *K, *PURPOSE, "a.txt.swx")
        terminal.expect(b"until you answer. Try again? [Y/n] ")
        shown = re.search(rb"the change is not saved; it is in (\S+) until", terminal.shown)
        assert shown is not None
        assert Path(os.fsdecode(shown[1])).read_bytes() == CHANGED
        edited.write("a.txt.swx", sealed)  # the cause is gone
        terminal.type(answer)
        assert terminal.end() == status
        if status:
            assert b"the change was discarded" in terminal.shown
            assert edited.read("a.txt.swx") == sealed
    assert keys.sealer(keys.demo).decrypt(edited.read("a.txt.swx"), context=CONTEXT) == CHANGED


@pytest.mark.slow  # as the others that need a program which is not there everywhere
def test_real_vim_leaves_nothing(edited: Shell, keys: Keys) -> None:
    assert system.find("vim"), "run: make system"
    home = Path(edited.environment["HOME"])
    (home / "kept").mkdir()
    (home / ".vimrc").write_text(
        f"set backup undofile backupdir={home}/kept undodir={home}/kept directory={home}/kept viminfo='9,<50\n"
    )
    edited.environment["EDITOR"] = "vim -es -c 'normal yy' -c 's/$/ and more/' -c wq"
    edited.sealwax("edit", *K, *PURPOSE, "a.txt.swx").succeeded()
    assert keys.sealer(keys.demo).decrypt(edited.read("a.txt.swx"), context=CONTEXT) == CHANGED
    assert os.listdir(home / "kept") == []
    assert sorted(os.listdir(home)) == [".vimrc", "kept"]
