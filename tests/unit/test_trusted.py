"""Files that decide something are refused where somebody else can have written them."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax._core import trusted
from sealwax.errors import FactsError
from tests.planting import PLANTED, give_away

KIND = trusted.Kind("the thing", FactsError)


def status(mode: int, uid: int = 1000, gid: int = 1000, kind: int = stat.S_IFREG) -> os.stat_result:
    return os.stat_result((kind | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    path = folder / "file"
    path.write_bytes(b"content")
    return path


# --- who else may write


@given(
    mode=st.integers(0, 0o7777), uid=st.sampled_from([0, 7, 1000]), kind=st.sampled_from([stat.S_IFREG, stat.S_IFDIR])
)
def test_only_the_owner_or_root_may_be_able_to_write(mode: int, uid: int, kind: int) -> None:
    believed = uid in (0, 7) and not mode & 0o022
    # Of root's group nobody is alone, whatever it has for members.
    assert (trusted.others(status(mode, uid, 0, kind), 7) == "") == believed


def test_a_group_of_ones_own_is_nobody_else() -> None:
    alone = [
        (user.pw_uid, user.pw_gid)
        for user in pwd.getpwall()
        for group in grp.getgrall()
        if user.pw_uid and user.pw_gid == group.gr_gid and group.gr_name == user.pw_name and not group.gr_mem
    ]
    assert alone
    uid, gid = alone[0]
    assert trusted.others(status(0o664, uid, gid), uid) == ""
    assert trusted.others(status(0o664, 0, gid), uid) == ""
    assert "may write to it (mode 0666)" in trusted.others(status(0o666, uid, gid), uid)
    # Behind the group's right an ACL may stand; and a group of somebody else's, or of nobody's, is another.
    assert "or users in its ACL, may write to it" in trusted.others(status(0o664, uid, gid), uid, acl=True)
    assert "its group" in trusted.others(status(0o664, uid, 0), uid)
    assert "its group 4000000000 may" in trusted.others(status(0o664, uid, 4_000_000_000), uid)
    assert "its group" in trusted.others(status(0o664, 4_000_000_000, gid), 4_000_000_000)
    assert "its group" in trusted.others(status(0o664, 0, 0), 0)


def test_it_is_said_whose_it_is() -> None:
    assert trusted.others(status(0o600, 4_000_000_000), 7) == "it belongs to user id 4000000000"
    user = pwd.getpwall()[-1]
    if user.pw_uid:
        assert trusted.others(status(0o600, user.pw_uid), 0) == f"it belongs to {user.pw_name} (user id {user.pw_uid})"


# --- files


@pytest.mark.parametrize("how", PLANTED)
def test_what_others_can_have_written_is_refused(path: Path, how: str) -> None:
    PLANTED[how](path)
    with pytest.raises(FactsError, match=f"the thing '{path}' is refused: .+; ."):
        trusted.open_file(path, KIND).close()


@pytest.mark.parametrize("how", [how for how in PLANTED if "link of" not in how])
def test_so_is_a_lock_that_others_can_have_made(path: Path, how: str) -> None:
    PLANTED[how](path)
    with pytest.raises(FactsError, match=r"the thing '.+' is refused: .+; ."):
        os.close(trusted.open_own(path, KIND))


def test_there_were_that_many_cases() -> None:
    assert len(PLANTED) == 9


def test_a_lock_is_no_link(path: Path) -> None:
    link = path.with_name("lock")
    link.symlink_to("nowhere")
    with pytest.raises(OSError, match="symbolic links"):
        os.close(trusted.open_own(link, KIND))
    assert sorted(os.listdir(path.parent)) == ["file", "lock"]


def test_devices_are_refused(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")
    for name in (path, "/dev/zero", "/dev/null"):
        with pytest.raises(FactsError, match="it is not a regular file; name a regular file"):
            trusted.open_file(name, KIND).close()


def test_what_is_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    link = path.with_name("link")
    link.symlink_to(path)
    path.with_name("further").symlink_to("link")
    folder = path.parent.with_name("folder")
    folder.symlink_to("mine")
    read = []
    for mode in (0o600, 0o644, 0o400, 0o4755):
        path.chmod(mode)
        for name in (path, str(path), "file", "./file", link, "further", folder / "file", folder / "further"):
            with trusted.open_file(name, KIND) as file:
                read.append(file.read())
    assert read == [b"content"] * 32
    # In a folder such as /tmp others can add files, and cannot touch this one.
    path.parent.chmod(0o1777)
    with trusted.open_file(path, KIND) as file:
        assert file.read() == b"content"
    # Root's are everybody's to believe.
    with trusted.open_file("/etc/passwd", KIND) as file:
        assert file.read(1)


@pytest.mark.parametrize("name", ["nothing", "no folder/file", "file/file", "loop"])
def test_what_is_not_there_is_no_question_of_trust(path: Path, name: str) -> None:
    path.with_name("loop").symlink_to("loop")
    with pytest.raises(OSError, match=name) as caught:
        trusted.open_file(path.parent / name, KIND).close()
    assert caught.value.filename == str(path.parent / name)


def test_a_pipe_that_was_handed_in_is_read() -> None:
    out, into = os.pipe()
    try:
        os.write(into, b"content")
        os.close(into)
        with trusted.open_file(f"/dev/fd/{out}", KIND) as file:
            assert file.read() == b"content"
    finally:
        os.close(out)
    with pytest.raises(OSError, match="descriptor"):
        trusted.open_file(f"/dev/fd/{out}", KIND).close()


def test_a_file_that_was_handed_in_is_looked_at(path: Path) -> None:
    with path.open("rb") as handed_in:
        name = f"/dev/fd/{handed_in.fileno()}"
        with trusted.open_file(name, KIND) as file:
            assert file.read() == b"content"
        give_away(path)
        with pytest.raises(FactsError, match="somebody else could have written it"):
            trusted.open_file(name, KIND).close()


# --- SQLite


@pytest.fixture
def database(path: Path) -> Path:
    path.unlink()
    trusted.make_database(path, KIND)
    connection = trusted.connect(path, KIND, started)
    connection.execute("PRAGMA user_version=6")
    connection.close()
    assert os.listdir(path.parent) == ["file"]
    return path


def started(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


@pytest.mark.parametrize("how", [how for how in PLANTED if "hard link" not in how])
def test_a_database_of_others_is_refused(database: Path, how: str) -> None:
    PLANTED[how](database)
    with pytest.raises(FactsError, match=r"is refused: .+; ."):
        trusted.connect(database, KIND, never)


def never(_connection: sqlite3.Connection) -> None:
    raise AssertionError


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("how", ["open to all", "of another", "a pipe", "a folder", "a link of another"])
def test_what_others_put_beside_a_database_is_not_read(database: Path, suffix: str, how: str) -> None:
    beside = Path(f"{database}{suffix}")
    beside.write_bytes(b"")
    PLANTED[how](beside)
    with pytest.raises(FactsError, match=f"'{beside}'.+; ."):
        trusted.connect(database, KIND, never)
    assert os.path.lexists(beside)


def test_a_database_is_kept_where_nobody_else_creates_files(path: Path) -> None:
    for mode in (0o1777, 0o777, 0o703):
        path.parent.chmod(mode)
        with pytest.raises(FactsError, match=f"its folder '{path.parent}' is open to others, who could"):
            trusted.make_database(path.with_name("new"), KIND)
        with pytest.raises(FactsError, match="move it to a folder that only you can write to"):
            trusted.connect(path, KIND, never)
    assert os.listdir(path.parent) == ["file"]


def test_a_folder_that_is_swapped_while_it_is_opened_is_noticed(database: Path) -> None:
    mine, away, theirs = (database.parent.with_name(name) for name in ("mine", "away", "theirs"))
    theirs.mkdir()
    (theirs / "file").write_bytes(database.read_bytes())

    def swap(_connection: sqlite3.Connection) -> None:
        mine.rename(away)
        theirs.rename(mine)  # the file is open since before, and its log is looked for after

    with pytest.raises(FactsError, match="it was replaced while it was being opened; try again"):
        trusted.connect(database, KIND, swap)


def test_a_log_that_is_swapped_in_does_not_get_into_the_file(database: Path) -> None:
    """As it would when SQLite closes the connection that was refused."""
    mine, away, theirs = (database.parent.with_name(name) for name in ("mine", "away", "theirs"))
    copy = mine.with_name("copy")
    theirs.mkdir()
    shutil.copytree(mine, copy)
    with contextlib.closing(sqlite3.connect(copy / "file", isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version=7")
        for name in ("file", "file-wal"):
            shutil.copy(copy / name, theirs)

    def swap_and_swap_back(connection: sqlite3.Connection) -> None:
        mine.rename(away)
        theirs.rename(mine)
        connection.execute("PRAGMA user_version").fetchone()
        mine.rename(theirs)
        away.rename(mine)

    with pytest.raises(FactsError, match="it was replaced while it was being opened"):
        trusted.connect(database, KIND, swap_and_swap_back, isolation_level=None)
    with contextlib.closing(trusted.connect(database, KIND, lambda _: None)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (6,)


def test_whoever_swaps_folders_all_the_time_is_never_believed(database: Path) -> None:
    mine, theirs, spare = (database.parent.with_name(name) for name in ("mine", "theirs", "spare"))
    theirs.mkdir()
    planted = theirs / "file"
    with sqlite3.connect(planted) as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    give_away(planted)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            mine.rename(spare)
            theirs.rename(mine)
            mine.rename(theirs)
            spare.rename(mine)

    found: list[Any] = []
    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(100):
            try:
                opened = trusted.connect(database, KIND, lambda _: None)
            except (FactsError, OSError, sqlite3.OperationalError) as error:
                found.append(error)
            else:
                found += opened.execute("PRAGMA user_version").fetchone()
                opened.close()
    finally:
        over.set()
        swapping.join()
    assert len(found) == 100
    assert 7 not in found


def test_threads_open_and_close_one_database_as_they_like(database: Path) -> None:
    """What one of them opens or closes is no sign that another's was replaced."""
    kept = trusted.connect(database, KIND, lambda _: None)

    def use() -> list[Any]:
        found: list[Any] = []
        for _ in range(40):
            with contextlib.closing(trusted.connect(database, KIND, lambda _: None)) as opened:
                found += opened.execute("PRAGMA user_version").fetchone()
        return found

    with ThreadPoolExecutor(4) as threads:
        found = [each for using in [threads.submit(use) for _ in range(4)] for each in using.result()]
    kept.close()
    assert found == [6] * 160


def test_a_fork_while_a_database_is_opened_leaves_the_child_free(database: Path) -> None:
    inside, over = threading.Event(), threading.Event()

    def slowly(_connection: sqlite3.Connection) -> None:
        inside.set()
        over.wait()

    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(trusted.connect, database, KIND, slowly, check_same_thread=False)
        inside.wait()
        child = os.fork()
        if not child:
            signal.alarm(30)
            status = 1
            try:
                trusted.connect(database, KIND, lambda _: None).close()
                status = 7
            finally:
                os._exit(status)
        try:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        finally:
            over.set()
        opening.result().close()


# --- others that use it


def test_a_shared_rate_limit_of_others_is_refused(path: Path) -> None:
    limit = sealwax.RateLimit(5, shared=path)
    give_away(path)
    before = path.read_bytes()
    for refused in (lambda: sealwax.RateLimit(5, shared=path), lambda: limit.acquire(0.0), lambda: limit.current_rate):
        with pytest.raises(sealwax.FileError, match=r"the shared rate limit '.+' is refused"):
            refused()
    assert path.read_bytes() == before


def test_a_shared_rate_limit_writes_through_no_link(path: Path) -> None:
    link = path.with_name("rate")
    link.symlink_to("file")
    with pytest.raises(sealwax.FileError, match="symbolic links"):
        sealwax.RateLimit(5, shared=link)
    assert path.read_bytes() == b"content"
