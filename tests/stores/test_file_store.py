"""A folder or a file as a store: what is listed, what is left alone, and what a change leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax._core import files
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet._settings import Contexts, Settings
from sealwax.fleet._threads import Threads
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._files import FileStore
from sealwax.stores._store import keeping_folder_open
from tests.cli.shell import without_privileges
from tests.fakes import ALPHA, BETA, FakeKeyring, unwrap, wrap

CONTEXT = {"purpose": "backup"}


def to_beta(header: Header, _: Any) -> tuple[WrappedKey, ...]:
    return (wrap(BETA, unwrap(header.slot.wrapped_keys[0], CONTEXT), CONTEXT),)


def names(where: str) -> list[str]:
    found = list(open_store(where).list())
    assert all(isinstance(entry, Entry) for entry in found), found
    return [os.path.relpath(entry.name, where) for entry in found if isinstance(entry, Entry)]


@pytest.fixture
def folder(tmp_path: Path, sealer: sealwax.Sealer) -> Path:
    for name in ("b/2", "b.c", "a", "b/1", "ü%?", ".hidden"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sealer.encrypt(name.encode(), context=CONTEXT))
    return tmp_path / "tree"


def test_a_listing_is_in_the_order_of_the_paths(folder: Path) -> None:
    assert names(str(folder)) == [".hidden", "a", "b.c", "b/1", "b/2", "ü%?"]
    assert names(str(folder) + "/") == names(str(folder))


def test_links_devices_and_what_is_being_written_are_not_listed(folder: Path, tmp_path: Path) -> None:
    before = names(str(folder))
    (tmp_path / "outside").write_bytes(b"x")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    for kind in ("", "-wal", "-shm"):
        (folder / f".sealwax-00ff.part{kind}").write_bytes(b"half")
    assert names(str(folder)) == before
    # Only ours: a name that looks alike is somebody's file.
    (folder / ".sealwax-notes.part").write_bytes(b"mine")
    assert len(names(str(folder))) == len(before) + 1


def test_what_a_killed_process_was_writing_is_found_when_asked_for(folder: Path) -> None:
    before = names(str(folder))
    deep = folder / "deep"
    deep.mkdir()
    with files.WholeFile(deep / "big", overwrite=False) as growing:
        growing.write(b"half")
        store = FileStore(folder)
        assert list(store.leftovers(quiet=3600)) == []
        (left,) = deep.iterdir()
        os.utime(left, (0, time.time() - 3601))
        (found,) = store.leftovers(quiet=3600)
        assert (found.name, found.size) == (str(left), 4)
        assert names(str(folder)) == before
        (deep / ".sealwax-ab.part").symlink_to(left)
        (deep / ".sealwax-notes.part").write_bytes(b"mine")
        os.utime(deep / ".sealwax-notes.part", (0, 0))
        assert [each.name for each in store.leftovers(quiet=3600)] == [str(left)]
        (deep / ".sealwax-cd.part-wal").touch()
        os.utime(deep / ".sealwax-cd.part-wal", (0, 0))
        assert len(list(store.leftovers(quiet=3600))) == 2
    (deep / ".sealwax-cd.part-wal").unlink()
    assert list(store.leftovers(quiet=0)) == []


def test_one_file(folder: Path) -> None:
    path = str(folder / "a")
    store = open_store(path)
    (entry,) = store.list()
    assert isinstance(entry, Entry)
    assert (entry.name, entry.size) == (path, os.path.getsize(path))
    with pytest.raises(sealwax.FileError, match="is not in"):
        store.inspect(str(folder / "b.c"))


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(sealwax.FileError, match="No such file"):
        open_store(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["../outside", "b/../../outside", "link", "/etc/hostname", "", "a\0", "b\0/1"])
def test_a_name_leads_nowhere_else(folder: Path, tmp_path: Path, sealer: sealwax.Sealer, name: str) -> None:
    (tmp_path / "outside").write_bytes(sealer.encrypt(b"x", context=CONTEXT))
    (folder / "link").symlink_to(tmp_path / "outside")
    store = open_store(str(folder))
    path = os.path.join(folder, name) if name else str(tmp_path / "tree-2")
    for use in (store.inspect, store.open, lambda path: store.rewrap(path, to_beta)):
        with pytest.raises(sealwax.FileError):
            use(path)


def test_an_unreadable_folder_is_told_and_the_rest_goes_on(folder: Path) -> None:
    (folder / "b").chmod(0)
    # Where root runs the tests, permission bits bind only a child without its privileges.
    done = subprocess.run(
        [sys.executable, "-c", _LIST, str(folder)], preexec_fn=without_privileges, capture_output=True, check=False
    )
    (folder / "b").chmod(0o700)
    assert (done.returncode, done.stderr) == (0, b"")


_LIST = """
import sys
from sealwax.errors import FileError
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._store import keeping_folder_open
found = list(open_store(sys.argv[1]).list())
(error,) = [each for each in found if not isinstance(each, Entry)]
assert isinstance(error, FileError) and "/b'" in str(error), error
assert len(found) == 5
"""


def test_the_version_changes_with_the_bytes(folder: Path) -> None:
    def version() -> str:
        (entry,) = open_store(str(folder / "a")).list()
        assert isinstance(entry, Entry)
        return entry.version

    first = version()
    assert version() == first
    open_store(str(folder)).rewrap(str(folder / "a"), to_beta)
    assert version() != first


def test_rewrap_and_read(folder: Path) -> None:
    store = open_store(str(folder))
    sealer = sealwax.Sealer(FakeKeyring(BETA))
    for entry in list(store.list()):
        assert isinstance(entry, Entry)
        store.rewrap(entry.name, to_beta)
        assert [key.key_arn for key in store.inspect(entry.name).wrapped_keys] == [BETA]
        with store.open(entry.name) as file, sealer.open(file, context=CONTEXT) as plain:
            assert plain.read().decode() == os.path.relpath(entry.name, folder)


def test_replace_is_whole_or_not_at_all(folder: Path) -> None:
    store, path = open_store(str(folder)), str(folder / "a")
    os.chmod(path, 0o640)
    before = Path(path).read_bytes()

    def half(source: BinaryIO, sink: BinaryIO) -> None:
        sink.write(source.read(10))
        raise sealwax.TamperedError("on purpose")

    with pytest.raises(sealwax.TamperedError):
        store.replace(path, half)
    assert Path(path).read_bytes() == before

    store.replace(path, lambda source, sink: sink.write(source.read() + b"!"))
    assert Path(path).read_bytes() == before + b"!"
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert len(names(str(folder))) == 6


@pytest.mark.parametrize("way", ["renamed over", "written into"])
def test_a_change_meanwhile_is_left_alone(folder: Path, way: str) -> None:
    store, path = open_store(str(folder)), folder / "a"

    def change(source: BinaryIO, sink: BinaryIO) -> None:
        sink.write(source.read())
        if way == "renamed over":
            (folder / "new").write_bytes(b"theirs")
            os.replace(folder / "new", path)
        else:
            with open(path, "ab") as file:
                file.write(b"theirs")

    with pytest.raises(sealwax.RewrapConflictError, match="left alone"):
        store.replace(str(path), change)
    assert path.read_bytes().endswith(b"theirs")


def test_what_a_file_is_wrapped_under(folder: Path) -> None:
    store = open_store(str(folder))
    assert [key.key_arn for key in store.inspect(str(folder / "a")).wrapped_keys] == [ALPHA]


def uses(store: Store) -> tuple[Callable[[str], Any], ...]:
    return store.inspect, store.open, lambda name: store.rewrap(name, to_beta)


def test_a_folder_that_has_become_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(folder))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"not yours")
    (folder / "later").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "deep").mkdir()
    (folder / "b" / "deep" / "later").symlink_to(tmp_path / "elsewhere")
    for name in ("later/file", "b/deep/later/file"):
        for use in uses(store):
            with pytest.raises(sealwax.FileError, match="is reached through a symbolic link; it was left alone"):
                use(str(folder / name))


def test_a_file_that_has_become_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    for store in (open_store(str(folder)), open_store(str(folder / "pipe"))):
        for use in uses(store):
            with pytest.raises(sealwax.FileError, match="a symbolic link or not a regular file"):
                use(str(folder / "pipe"))


def test_a_place_may_be_named_by_way_of_the_folder_above(folder: Path) -> None:
    place = str(folder / "b" / "..")
    store = open_store(place)
    for name in names(place):
        store.inspect(f"{place}/{name}")
    with pytest.raises(sealwax.FileError, match="is not in"):
        store.inspect(f"{place}/b/../a")


def test_a_place_may_itself_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(folder)
    store = open_store(str(tmp_path / "way"))
    assert "b/1" in names(str(tmp_path / "way"))
    store.open(str(tmp_path / "way" / "b" / "1")).close()


SWAP = """
import os, select, sys
folder, outside, aside = sys.argv[1:]
while not select.select([sys.stdin], [], [], 0)[0]:
    os.rename(folder, aside)
    os.symlink(outside, folder)
    os.unlink(folder)
    os.rename(aside, folder)
"""


@pytest.mark.parametrize("what", ["inspect", "open", "rewrap", "replace"])
def test_a_folder_that_becomes_a_link_at_any_moment_leads_nowhere(
    folder: Path, tmp_path: Path, sealer: sealwax.Sealer, what: str
) -> None:
    """Somebody swaps it for a link to a place outside and back, as fast as can be, all the while."""
    outside = tmp_path / "outside"
    outside.mkdir()
    there = outside / "1"
    there.write_bytes(sealer.encrypt(b"outside", context={"purpose": "theirs"}))
    before = there.read_bytes(), there.stat().st_ino
    store, name = open_store(str(folder)), str(folder / "b" / "1")

    def refuse_theirs(header: Header, _: Any = None) -> tuple[WrappedKey, ...]:
        assert sealwax._core.context.decode(header.preamble.kms_context) == CONTEXT
        return header.slot.wrapped_keys

    def copy(source: BinaryIO, sink: BinaryIO) -> None:
        data = source.read()
        refuse_theirs(inspect_envelope(data).header)
        sink.write(data)

    def use() -> None:
        if what == "inspect":
            refuse_theirs(store.inspect(name).header)
        elif what == "open":
            with store.open(name) as file:
                refuse_theirs(inspect_envelope(file.read()).header)
        elif what == "rewrap":
            store.rewrap(name, refuse_theirs)
        else:
            store.replace(name, copy)

    command = [sys.executable, "-c", SWAP, str(folder / "b"), str(outside), str(tmp_path / "aside")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as swapper:
        met = 0
        while met < 30000:
            try:
                use()
            except (sealwax.FileError, sealwax.RewrapConflictError):
                met += 1
        assert swapper.stdin is not None
        swapper.stdin.close()
    assert (there.read_bytes(), there.stat().st_ino) == before
    assert os.listdir(outside) == ["1"]
    use()


def test_what_is_held_says_the_same(folder: Path) -> None:
    store = open_store(str(folder))
    paths = [str(folder / name) for name in ("b/1", "b/2", "a", "b/1", ".hidden", "b.c")]
    with keeping_folder_open(store) as here:
        assert here.location == store.location
        assert [here.inspect(path) for path in paths] == [store.inspect(path) for path in paths]
    with keeping_folder_open(open_store(paths[0])) as here:
        assert here.inspect(paths[0]) == store.inspect(paths[0])
        with pytest.raises(sealwax.FileError, match="is not in"):
            here.inspect(paths[1])


@pytest.mark.parametrize(
    "name", ["../a", "..", ".", "", "b", "nothing", "b/../a", "b\0", "\0", "later/1", "link", "pipe"]
)
@pytest.mark.parametrize("before", ["a", "b/1"])
def test_what_is_held_leads_nowhere_else(
    folder: Path, tmp_path: Path, sealer: sealwax.Sealer, before: str, name: str
) -> None:
    """The same error as without, whatever came before."""
    (tmp_path / "outside").mkdir()
    for target in (tmp_path / "outside" / "1", tmp_path / "a"):
        target.write_bytes(sealer.encrypt(b"x", context=CONTEXT))
    (folder / "later").symlink_to(tmp_path / "outside")
    (folder / "link").symlink_to(tmp_path / "a")
    os.mkfifo(folder / "pipe")
    store = open_store(str(folder))
    for path in (f"{folder}/{name}", f"{folder}/b/{name}"):
        with pytest.raises(sealwax.FileError) as alone:
            store.inspect(path)
        with keeping_folder_open(store) as here:
            here.inspect(str(folder / before))
            with pytest.raises(sealwax.FileError) as then:
                here.inspect(path)
            assert str(then.value) == str(alone.value)
            assert here.inspect(str(folder / before)) == store.inspect(str(folder / before))


def test_a_held_folder_is_let_go_of(folder: Path, tmp_path: Path) -> None:
    """What was moved away meanwhile is seen to be by the next that is held, and no descriptor is left."""
    store, path = open_store(str(folder)), str(folder / "b" / "1")
    before = set(os.listdir("/dev/fd"))
    with keeping_folder_open(store) as here:
        here.inspect(path)
        (folder / "b").rename(tmp_path / "aside")
        (folder / "b").symlink_to(tmp_path / "aside")
        here.inspect(path)  # the folder that was looked at, and not where the link leads
    with keeping_folder_open(store) as here, pytest.raises(sealwax.FileError, match="through a symbolic link"):
        here.inspect(path)
    assert set(os.listdir("/dev/fd")) == before


def test_a_plan_notices_a_folder_that_was_swapped(folder: Path, tmp_path: Path) -> None:
    """A folder is held for one batch: what comes after that is looked up again."""
    sealed = (folder / "a").read_bytes()
    for at in range(200):
        (folder / "b" / f"many-{at:03}").write_bytes(sealed)
    wanted = Settings((ALPHA,), Wanted((WantedKey(BETA),)), Contexts((), accept_stored=True))
    states: list[str] = []
    for entries, found in Threads(1)._scan(0, open_store(str(folder)), wanted, pytest.fail, frozenset()):
        assert len(entries) == len(found) <= 64
        if not states:
            (folder / "b").rename(tmp_path / "aside")
            (folder / "b").symlink_to(tmp_path / "aside")
        states += [each.state for each in found]
    assert len(states) == 206
    assert states.count("unreadable") > 0
    assert states.count("stale") + states.count("unreadable") == 206
