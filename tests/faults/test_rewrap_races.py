"""Several programs at one file: re-wraps wait for each other, readers never see half a change, a swap is told."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax._core.rewrap import Rewrap, replace_file, rewrap_file, rewrap_stream, rewrap_value
from tests.fakes import ALPHA, BETA, FakeKeyring, wrap

REPOSITORY = Path(__file__).parents[2]
CONTEXT = {"purpose": "races"}
LARGE = b"0123456789abcdef" * 65536 + b"and more"
SMALL = b"small"

REWRAPPER = """
import sys
import sealwax
from tests.fakes import ALPHA, BETA, FakeKeyring
path, rounds = sys.argv[1], int(sys.argv[2])
sealer = sealwax.Sealer(FakeKeyring(ALPHA, allowed=[ALPHA, BETA]))
for n in range(rounds):
    sealer.rewrap(path, to=(BETA, ALPHA)[n % 2], context={"purpose": "races"})
"""


def _sealer() -> sealwax.Sealer:
    return sealwax.Sealer(FakeKeyring(ALPHA, allowed=[ALPHA, BETA]))


def _seal(path: Path, plaintext: bytes) -> None:
    with _sealer().open(path, "wb", context=CONTEXT) as file:
        file.write(plaintext)


@pytest.mark.parametrize(("plaintext", "rounds"), [(LARGE, 60), (SMALL, 60)], ids=["in place", "by replacement"])
def test_two_rewraps_at_once_and_a_reader_meanwhile(plaintext: bytes, rounds: int, tmp_path: Path) -> None:
    path = tmp_path / "file.swx"
    _seal(path, plaintext)
    sealer = _sealer()
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", REWRAPPER, path, str(rounds)], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    readings = 0
    while any(program.poll() is None for program in programs) or not readings:
        assert sealer.verify(path, context=CONTEXT) == len(plaintext)
        with sealer.open(path, context=CONTEXT) as file:
            file.seek(-4, io.SEEK_END)
            assert file.read() == plaintext[-4:]
        readings += 1
    for program in programs:
        _, stderr = program.communicate()
        assert program.returncode == 0, stderr
    found = inspect_envelope(path)
    assert found.header.finished
    if len(plaintext) >= hdr.TWO_SLOTS_FROM:
        # Not one of them was lost: each took the number after the one before.
        assert found.header.slot.sequence == 1 + 2 * rounds
    assert os.listdir(tmp_path) == ["file.swx"]


class Meddler(FakeKeyring):
    """A keyring that lets something happen while KMS is asked."""

    def __init__(self, meddle: str, path: Path) -> None:
        super().__init__(ALPHA)
        self._meddle, self._path = meddle, path

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        if self._meddle == "replaced":
            other = self._path.with_suffix(".other")
            shutil.copyfile(self._path, other)
            other.replace(self._path)
        elif self._meddle == "removed":
            self._path.unlink()
        return super().rewrap(wrapped_keys, context, to)


@pytest.mark.parametrize("plaintext", [LARGE, SMALL], ids=["in place", "by replacement"])
@pytest.mark.parametrize("meddle", ["replaced", "removed"])
def test_a_file_that_another_program_replaced(meddle: str, plaintext: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.swx"
    _seal(path, plaintext)
    before = path.read_bytes()
    with pytest.raises(sealwax.RewrapConflictError, match="replaced"):
        sealwax.Sealer(Meddler(meddle, path)).rewrap(path, to=BETA, context=CONTEXT)
    if meddle == "removed":
        assert os.listdir(tmp_path) == []
    else:
        assert os.listdir(tmp_path) == ["file.swx"]
        assert path.read_bytes() == before


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("plaintext", [LARGE, SMALL], ids=["two slots", "one slot"])
def test_a_file_system_without_locks(
    code: int, plaintext: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, two re-wraps in place could mix; so the file is replaced instead."""
    path = tmp_path / "file.swx"
    _seal(path, plaintext)
    inode = path.stat().st_ino

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    _sealer().rewrap(path, to=BETA, context=CONTEXT)
    assert path.stat().st_ino != inode
    found = inspect_envelope(path)
    assert [key.key_arn for key in found.wrapped_keys] == [BETA]
    assert (found.header.preamble.slot_count, found.header.slot.sequence) == (2 if plaintext is LARGE else 1, 1)
    assert _sealer().verify(path, context=CONTEXT) == len(plaintext)


def test_a_lock_that_fails_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.swx"
    _seal(path, LARGE)
    before = path.read_bytes()

    def flock(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(sealwax.FileError):
        _sealer().rewrap(path, to=BETA, context=CONTEXT)
    assert path.read_bytes() == before


def _contradictory(path: Path) -> bytes:
    _seal(path, LARGE)
    header = inspect_envelope(path).header
    other = hdr.Slot(header.slot.sequence, (wrap(BETA, b"k" * 32, CONTEXT),))
    return (
        hdr.Header(header.preamble, (header.slot, other)).to_bytes()
        + path.read_bytes()[header.preamble.payload_offset :]
    )


def test_contradictory_slots_are_read_and_not_rewrapped(tmp_path: Path) -> None:
    path = tmp_path / "file.swx"
    data = _contradictory(path)
    path.write_bytes(data)
    keyring = FakeKeyring(ALPHA)
    sealer = sealwax.Sealer(keyring)
    assert sealer.verify(path, context=CONTEXT) == len(LARGE)
    assert not inspect_envelope(path).header.finished
    keyring.calls.clear()
    refused: list[Callable[[], object]] = [
        lambda: sealer.rewrap(path, to=BETA, context=CONTEXT),
        lambda: sealer.rewrap(data, to=BETA, context=CONTEXT),
        lambda: sealer.rewrap(path, to=BETA, context=CONTEXT, output=tmp_path / "other.swx"),
        lambda: sealer.rewrap(io.BytesIO(data), to=BETA, context=CONTEXT, output=io.BytesIO()),
    ]
    for act in refused:
        with pytest.raises(sealwax.RewrapConflictError, match="two slots"):
            act()
    assert keyring.calls == []
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["file.swx"]


@pytest.mark.parametrize("damaged", [0, 1])
def test_one_damaged_slot_opens_and_is_mended(damaged: int, tmp_path: Path) -> None:
    path = tmp_path / "file.swx"
    _seal(path, LARGE)
    preamble = inspect_envelope(path).header.preamble
    with path.open("r+b") as file:
        file.seek(preamble.slot_offset + damaged * preamble.slot_size + 20)
        file.write(b"\xff\xfe")
    assert _sealer().verify(path, context=CONTEXT) == len(LARGE)
    assert not inspect_envelope(path).header.finished
    _sealer().rewrap(path, to=BETA, context=CONTEXT)
    found = inspect_envelope(path)
    assert found.header.finished
    assert [key.key_arn for key in found.wrapped_keys] == [BETA]


def test_both_slots_damaged(tmp_path: Path) -> None:
    path = tmp_path / "file.swx"
    _seal(path, LARGE)
    preamble = inspect_envelope(path).header.preamble
    with path.open("r+b") as file:
        for index in range(2):
            file.seek(preamble.slot_offset + index * preamble.slot_size + 20)
            file.write(b"\xff\xfe")
    before = path.read_bytes()
    keyring = FakeKeyring(ALPHA)
    sealer = sealwax.Sealer(keyring)
    with pytest.raises(sealwax.DamagedHeaderError, match="both slots"):
        sealer.verify(path, context=CONTEXT)
    with pytest.raises(sealwax.DamagedHeaderError, match="both slots"):
        sealer.rewrap(path, to=BETA, context=CONTEXT)
    assert keyring.calls == []
    assert path.read_bytes() == before


def test_what_a_rewrapped_file_keeps(tmp_path: Path) -> None:
    """Mode and owner stay; the modification time does not, so that backups see the change."""
    for name, plaintext in (("large", LARGE), ("small", SMALL)):
        path = tmp_path / name
        _seal(path, plaintext)
        path.chmod(0o640)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        owner = path.stat().st_uid, path.stat().st_gid
        _sealer().rewrap(path, to=BETA, context=CONTEXT)
        status = path.stat()
        assert (status.st_mode & 0o7777, (status.st_uid, status.st_gid)) == (0o640, owner)
        assert status.st_mtime > 1_000_000_000


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    for name, plaintext in (("large", LARGE), ("small", SMALL)):
        target, link = tmp_path / name, tmp_path / f"{name}.link"
        _seal(target, plaintext)
        link.symlink_to(target.name)
        _sealer().rewrap(link, to=BETA, context=CONTEXT)
        assert link.is_symlink()
        assert [key.key_arn for key in inspect_envelope(target).wrapped_keys] == [BETA]


def test_an_error_of_kms_changes_nothing(tmp_path: Path) -> None:
    for name, plaintext in (("large", LARGE), ("small", SMALL)):
        path = tmp_path / name
        _seal(path, plaintext)
        before = path.read_bytes()
        sealer = sealwax.Sealer(FakeKeyring(BETA))
        with pytest.raises(sealwax.KeyNotAllowedError):
            sealer.rewrap(path, to=BETA, context=CONTEXT)
        with pytest.raises(sealwax.ContextError):
            _sealer().rewrap(path, to=BETA, context={"purpose": "another"})
        assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["large", "small"]


def test_the_slot_in_use_is_the_last_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.swx"
    _seal(path, LARGE)
    preamble = inspect_envelope(path).header.preamble
    written: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        written.append((offset - preamble.slot_offset) // preamble.slot_size)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    _sealer().rewrap(path, to=BETA, context=CONTEXT)
    assert written == [1, 0]
    # With the second slot newer than the first, the first one goes first.
    header = inspect_envelope(path).header
    later = hdr.Slot(header.slot.sequence + 1, header.slot.wrapped_keys)
    with path.open("r+b") as file:
        file.write(hdr.Header(header.preamble, (header.slot, later)).to_bytes())
    written.clear()
    _sealer().rewrap(path, to=ALPHA, context=CONTEXT)
    assert written == [0, 1]


@pytest.mark.parametrize(("slot_offset", "slot_size"), [(100, 4096), (4096, 4000), (4096, 4096)])
def test_two_slots_that_share_a_sector_are_not_rewritten_in_place(
    slot_offset: int, slot_size: int, tmp_path: Path
) -> None:
    """A sector that tears would take both with it."""
    header = hdr.lay_out(
        envelope_id=bytes(16),
        kms_context=sealwax._core.context.encode(CONTEXT),
        local_pairs=0,
        wrapped_keys=(wrap(ALPHA, bytes(32), CONTEXT),),
        slot_count=2,
    )
    aligned = (slot_offset % hdr.SECTOR_BYTES, slot_size % hdr.SECTOR_BYTES) == (0, 0)
    preamble = replace(header.preamble, slot_offset=slot_offset, slot_size=slot_size)
    path = tmp_path / "a.swx"
    path.write_bytes(replace(header, preamble=preamble).to_bytes() + b"payload")
    before = path.stat().st_ino
    rewrap_file(path, lambda *_: (wrap(BETA, bytes(32), CONTEXT),))
    assert (path.stat().st_ino == before) == aligned
    assert inspect_envelope(path).wrapped_keys[0].key_arn == BETA
    assert path.read_bytes().endswith(b"payload")


@pytest.mark.parametrize("change", [b"y", b"longer"])
def test_a_file_that_is_written_to_while_it_is_replaced_is_left_alone(change: bytes, tmp_path: Path) -> None:
    """Also where its size stays the same."""
    path = tmp_path / "a.swx"
    path.write_bytes(b"x")

    def rival(source: BinaryIO, sink: BinaryIO) -> None:
        sink.write(source.read() + b"!")
        path.write_bytes(change)
        os.utime(path, ns=(1, 1))

    with pytest.raises(sealwax.RewrapConflictError, match="left alone"):
        replace_file(path, rival)
    assert path.read_bytes() == change
    assert os.listdir(tmp_path) == ["a.swx"]


@pytest.mark.parametrize("how", ["rewrap", "replace"])
def test_a_file_that_is_replaced_keeps_its_owner_and_mode(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.swx"
    _seal(path, SMALL)
    # Root alone may give files away; for everybody else they are their own.
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), path.stat().st_gid)
    os.chown(path, *owner)
    path.chmod(0o640)
    before = path.stat()
    if how == "rewrap":
        _sealer().rewrap(path, to=BETA, context=CONTEXT)
    else:
        replace_file(path, lambda source, sink: sink.write(source.read()))
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (*owner, before.st_mode)


def test_wrapped_keys_that_no_longer_fit_into_the_slots_get_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "a.swx"
    _seal(path, LARGE)
    before = inspect_envelope(path).header.preamble
    assert before.slot_size == hdr.SECTOR_BYTES
    large = tuple(WrappedKey(f"{BETA}{number}", bytes(6000)) for number in range(2))
    rewrap_file(path, lambda *_: large)
    after = inspect_envelope(path).header
    assert after.slot.wrapped_keys == large
    assert (after.preamble.slot_size, after.preamble.slot_count) == (3 * hdr.SECTOR_BYTES, 2)


def _rewrapped(way: str, data: bytes, folder: Path, rewrap: Rewrap) -> bytes:
    """Return what a re-wrap makes of an envelope, in each of the three ways there are."""
    if way == "value":
        return rewrap_value(data, rewrap)
    if way == "stream":
        sink = io.BytesIO()
        rewrap_stream(io.BytesIO(data), sink, rewrap)
        return sink.getvalue()
    path = folder / "a.swx"
    path.write_bytes(data)
    rewrap_file(path, rewrap)
    return path.read_bytes()


@pytest.mark.parametrize("way", ["value", "stream", "file"])
def test_a_detached_header_stays_one_and_nothing_may_follow_it(way: str, tmp_path: Path) -> None:
    detached, _ = _sealer().encrypt_detached(SMALL, context=CONTEXT)
    asked: list[object] = []

    def to_beta(*_: object) -> tuple[WrappedKey, ...]:
        asked.append(to_beta)
        return (wrap(BETA, bytes(32), CONTEXT),)

    preamble = inspect_envelope(_rewrapped(way, detached, tmp_path, to_beta)).header.preamble
    assert preamble.kind == hdr.DETACHED
    assert preamble.envelope_id == inspect_envelope(detached).header.preamble.envelope_id
    asked.clear()
    with pytest.raises(sealwax.DamagedHeaderError, match="1 bytes follow the detached header"):
        _rewrapped(way, detached + b"!", tmp_path, to_beta)
    assert asked == []
    assert way != "file" or (tmp_path / "a.swx").read_bytes() == detached + b"!"
