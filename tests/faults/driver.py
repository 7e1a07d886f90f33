"""Runs one scenario with a fault at every point there is, one forked process a fault, and prints what came of it.

``python -m tests.faults.driver SCENARIO FOLDER`` prints one JSON object. A program of its own, because only a process
without threads may fork and go on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from tests.fakes import ALPHA, BETA, FOREIGN, FakeKeyring, wrap
from tests.faults import faulty

CONTEXT = {"purpose": "faults"}
MIB = 1 << 20
LARGE = bytes(range(256)) * 4096 + b"and a little more"
SMALL = b"a small file" * 100
NEW = b"the new content" * 100_000

DONE, REPORTED, ESCAPED = 0, 10, 11

sealer = sealwax.Sealer(FakeKeyring(ALPHA, allowed=[ALPHA, BETA]))


def _write(path: Path, plaintext: bytes) -> None:
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(plaintext)


def _slots(path: Path, change: Callable[[hdr.Header], tuple[hdr.Slot, hdr.Slot]]) -> None:
    """Put other slots into a file of two."""
    header = inspect_envelope(path).header
    with path.open("r+b") as file:
        file.write(hdr.Header(header.preamble, change(header)).to_bytes())


def _unfinished(header: hdr.Header) -> tuple[hdr.Slot, hdr.Slot]:
    # The later slot is the first one, as when a re-wrap that began with it was stopped.
    secret = sealer._binding.keyring.unwrap(header.slot.wrapped_keys, CONTEXT, lambda key: bytes(key.buffer))
    return hdr.Slot(2, (wrap(ALPHA, secret, CONTEXT),)), header.slot


def _newer_is_not_allowed(header: hdr.Header) -> tuple[hdr.Slot, hdr.Slot]:
    secret = sealer._binding.keyring.unwrap(header.slot.wrapped_keys, CONTEXT, lambda key: bytes(key.buffer))
    return hdr.Slot(2, (wrap(FOREIGN, secret, CONTEXT),)), header.slot


def _last_sequence(header: hdr.Header) -> tuple[hdr.Slot, hdr.Slot]:
    last = hdr.Slot(hdr.MAX_SEQUENCE, header.slot.wrapped_keys)
    return last, last


def prepare_in_place(path: Path) -> None:
    _write(path, LARGE)


def prepare_unfinished(path: Path) -> None:
    _write(path, LARGE)
    _slots(path, _unfinished)


def prepare_newer_is_not_allowed(path: Path) -> None:
    _write(path, LARGE)
    _slots(path, _newer_is_not_allowed)


def prepare_last_sequence(path: Path) -> None:
    _write(path, LARGE)
    _slots(path, _last_sequence)


def prepare_small(path: Path) -> None:
    _write(path, SMALL)


def rewrap(path: Path) -> None:
    sealer.rewrap(path, to=BETA, context=CONTEXT)


def overwrite(path: Path) -> None:
    _write(path, NEW)


def create(path: Path) -> None:
    with sealer.open(path, "xb", context=CONTEXT) as file:
        file.write(NEW)


HEADER = "file.header"


def prepare_detached(path: Path) -> None:
    _detached(path, SMALL)


def detached(path: Path) -> None:
    _detached(path, NEW)


def _detached(path: Path, plaintext: bytes) -> None:
    with sealer.open(path, "wb", context=CONTEXT, header=path.with_name(HEADER)) as file:
        file.write(plaintext)


def pairs(folder: Path) -> dict[int, tuple[str, str]]:
    """Return the pairs of payload and header that fit, wherever they lie in a folder, by the size of the plaintext."""
    found = {}
    for body, header in itertools.permutations(sorted(folder.iterdir()), 2):
        try:
            size = sealer.verify(body, context=CONTEXT, header=header)
        except sealwax.SealwaxError:
            continue
        found[size] = (body.name, header.name)
    return found


SCENARIOS: dict[str, tuple[Callable[[Path], None] | None, Callable[[Path], None]]] = {
    "in place": (prepare_in_place, rewrap),
    "unfinished": (prepare_unfinished, rewrap),
    "only the older slot opens": (prepare_newer_is_not_allowed, rewrap),
    "last sequence": (prepare_last_sequence, rewrap),
    "small": (prepare_small, rewrap),
    "overwrite": (prepare_small, overwrite),
    "create": (None, create),
    "detached": (prepare_detached, detached),
    "detached, new": (None, detached),
}


def _opens(header: hdr.Header, body: bytes) -> int:
    """Return the size of the plaintext, having opened it by a slot that is there, and by that slot alone."""
    for slot in header.slots:
        if slot is not None:
            with contextlib.suppress(sealwax.KmsError):
                return sealer.verify(
                    hdr.Header(header.preamble, (slot,) * len(header.slots)).to_bytes() + body, context=CONTEXT
                )
    raise AssertionError("no slot opens")


def in_child(act: Callable[[], None], prepare: Callable[[], None]) -> int:
    """Run ``prepare`` and ``act`` in a forked process; return how it ended, minus the signal for a killed one."""
    pid = os.fork()
    if pid == 0:
        status = ESCAPED
        try:
            prepare()
            act()
            status = DONE
        except sealwax.SealwaxError:
            status = REPORTED
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Run:
    def __init__(self, scenario: str, folder: Path) -> None:
        self.prepare, self.act = SCENARIOS[scenario]
        self.original = folder / "original.swx"
        if self.prepare is not None:
            self.prepare(self.original)
        self.header = folder / HEADER
        self.room = folder / "room"
        self.path = self.room / "file.swx"

    def fresh(self) -> None:
        shutil.rmtree(self.room, ignore_errors=True)
        self.room.mkdir()
        if self.prepare is not None:
            shutil.copyfile(self.original, self.path)
        if self.header.exists():
            shutil.copyfile(self.header, self.room / HEADER)

    def count(self) -> faulty.Faults:
        """Count the points of an undisturbed run, in a process of its own."""
        self.fresh()
        reading, writing = os.pipe()

        def act() -> None:
            faults = faulty.Faults()
            faults.install()
            self.act(self.path)
            names, points = list(faults.names), faults.points
            os.write(writing, json.dumps([names, points]).encode())

        assert in_child(act, lambda: None) == DONE
        os.close(writing)
        counted = faulty.Faults()
        with open(reading, "rb") as pipe:
            counted.names, counted.points = json.loads(pipe.read())
        return counted

    def check(self) -> str:
        """Say what a file is after a fault, having seen that it is whole and that another re-wrap completes it."""
        if self.act is detached:
            return self._check_pair()
        strays = [name for name in os.listdir(self.room) if name != self.path.name]
        if not self.path.exists():
            assert self.prepare is None, "the file is gone"
            return self._with_strays("absent", strays)
        if self.act is not rewrap:
            size = sealer.verify(self.path, context=CONTEXT)
            assert size in (len(NEW), len(SMALL))
            return self._with_strays("new" if size == len(NEW) else "old", strays)

        before = inspect_envelope(self.original)
        found = inspect_envelope(self.path)
        body = self.original.read_bytes()[before.header.preamble.payload_offset :]
        assert self.path.read_bytes()[found.header.preamble.payload_offset :] == body, "a payload byte changed"
        assert _opens(found.header, body) == before.plaintext_bytes
        outcome = {ALPHA: "old", BETA: "new", FOREIGN: "not allowed"}[found.wrapped_keys[0].key_arn]
        if not found.header.finished:
            outcome += ", unfinished"

        rewrap(self.path)
        after = inspect_envelope(self.path)
        assert after.header.finished
        assert [key.key_arn for key in after.wrapped_keys] == [BETA]
        assert sealer.verify(self.path, context=CONTEXT) == before.plaintext_bytes
        data = self.path.read_bytes()
        assert data[after.header.preamble.payload_offset :] == body
        for slot in (*before.header.slots, *found.header.slots):
            assert slot is None or slot.wrapped_keys[0].ciphertext not in data, "an earlier wrapped key is left"
        return self._with_strays(outcome, strays)

    def _check_pair(self) -> str:
        names = {self.path.name, HEADER}
        there = pairs(self.room)
        strays = {path.name for path in self.room.iterdir()} - names
        assert all(name.startswith(".sealwax-") for name in strays)
        in_place = {size for size, pair in there.items() if set(pair) == names}
        outcome = {len(SMALL): "old", len(NEW): "new"}[in_place.pop()] if in_place else ""
        if not outcome and not names & {path.name for path in self.room.iterdir()}:
            assert self.prepare is None, "the old pair is gone"
            outcome = "absent"
        if not outcome:
            # Between the two: both pairs are still there, under other names.
            assert set(there) == ({len(NEW)} if self.prepare is None else {len(NEW), len(SMALL)}), "a pair is lost"
            outcome = "between"
        return outcome + (", temporary files left" if strays else "")

    @staticmethod
    def _with_strays(outcome: str, strays: list[str]) -> str:
        assert len(strays) <= 1
        assert all(name.startswith(".sealwax-") for name in strays)
        return outcome + (", temporary file left" if strays else "")

    def faults(self) -> dict[str, Any]:
        counted = self.count()
        result: dict[str, Any] = {"names": counted.names, "points": counted.points}
        modes: tuple[faulty.Mode, ...] = ("kill", "fail once", "fail from then on")
        for mode in modes:
            outcomes: Counter[str] = Counter()
            for point in range(counted.points):
                self.fresh()
                injected = faulty.Faults(mode, point)
                try:
                    status = in_child(lambda: self.act(self.path), injected.install)
                    outcome = self.check()
                    if status == DONE:
                        # There is a second way to some things; it must have led all the way.
                        assert mode != "kill"
                        assert outcome.startswith("new")
                        outcome = outcome.replace("new", "done another way")
                    else:
                        assert status == (-signal.SIGKILL if mode == "kill" else REPORTED), status
                    outcomes[outcome] += 1
                except Exception as error:
                    raise AssertionError(f"{mode} at point {point} of {counted.names}") from error
            result[mode] = dict(sorted(outcomes.items()))
        return result

    def torn(self) -> dict[str, Any]:
        """Tear each slot write at each sector, from the front and from the back, and die there."""
        writes = self.count().names.count("pwrite")
        sectors = 4096 // faulty.SECTOR_BYTES
        outcomes: Counter[str] = Counter()
        for write in range(writes):
            for cut in range(sectors + 1):
                for part in (slice(0, cut), slice(cut, sectors)):
                    self.fresh()
                    status = in_child(lambda: self.act(self.path), lambda: faulty.tear(write, part))  # noqa: B023
                    assert status == -signal.SIGKILL
                    outcomes[self.check()] += 1
        return {"writes": writes, "torn": dict(sorted(outcomes.items()))}

    def misread(self) -> dict[str, Any]:
        """Let each comparison after a write find another byte: nothing more may be written then."""
        reads = self.count().names.count("pread")
        outcomes: Counter[str] = Counter()
        for read in range(reads):
            self.fresh()
            assert in_child(lambda: self.act(self.path), lambda: faulty.misread(read)) == REPORTED  # noqa: B023
            outcomes[self.check()] += 1
        return {"reads": reads, "misread": dict(sorted(outcomes.items()))}

    def little(self) -> dict[str, Any]:
        self.fresh()
        assert in_child(lambda: self.act(self.path), lambda: faulty.write_little(100)) == DONE
        return {"little": self.check()}


if __name__ == "__main__":
    run = Run(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps({how: getattr(run, how)() for how in sys.argv[3:]}))
