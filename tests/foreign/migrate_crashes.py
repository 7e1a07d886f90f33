"""Kills `sealwax migrate`, or a run of a fleet that moves, at every point there is, one forked process a point.

``python -m tests.foreign.migrate_crashes FOLDER [--remove|--fleet]`` looks at what is left, and prints how many points
there were, and what was left how often. A program of its own, because only a process without threads may fork and go
on. It runs the command once itself, so that the forked processes need not import it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import sealwax
from sealwax.cli import run
from sealwax.lab import Lab
from tests.faults import faulty
from tests.foreign import scripts

CONTEXT = {"purpose": "backup"}
PLAINTEXT = b"a secret that can be looked for " * 3000
MIGRATE = (
    *("migrate", "-q", "-k", "alias/old", "--to", "alias/new", "-c", "purpose=backup"),
    *("--allow-legacy", "envkms01", "--workers", "1", "-r", "in"),
)


def in_child(act: Callable[[], int]) -> int:
    """Run something in a forked process; return how it ended, minus the signal for a killed one."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = act()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def migrate(*more: str) -> int:
    words = ("fleet", "run", "-q", "--apply", "--workers", "1", "plan") if "--fleet" in more else (*MIGRATE, *more)
    with contextlib.redirect_stderr(io.StringIO()):
        return run([*words])


class Room:
    """A folder with an original, and what a run leaves in it."""

    def __init__(self, folder: Path, *, remove: bool, by_fleet: bool) -> None:
        self.remove = ("--remove",) if remove else ()
        self.more = ("--fleet",) if by_fleet else self.remove
        self.plan = b""
        self.lab = folder / "lab"
        self.room = folder / "room"
        self.ready = folder / "ready"
        os.environ["SEALWAX_LAB"] = str(self.lab)
        self.ready.mkdir()
        os.chdir(self.ready)
        Path("in").mkdir()
        assert in_child(self._prepare) == 0
        self.original = Path("in/x").read_bytes()
        if by_fleet:
            self.fresh()
            assert in_child(self._make_plan) == 0
            self.plan = Path("plan").read_bytes()

    def _prepare(self) -> int:
        with Lab(self.lab) as lab:
            for alias in ("old", "new"):
                lab.create_key(alias=alias)
            Path("in/x").write_bytes(scripts.envkms(lab, "alias/old", PLAINTEXT, CONTEXT))
        return migrate() if self.remove else 0

    @staticmethod
    def _make_plan() -> int:
        keys = ("--from", "alias/old", "--to", "alias/new", "-c", "purpose=backup")
        return run(
            [
                *("fleet", "plan", "-q", "--also", "envkms01", "--move", "--allow-legacy", "envkms01"),
                *keys,
                *("-o", "plan", "in"),
            ]
        )

    def fresh(self) -> None:
        os.chdir("/")
        shutil.rmtree(self.room, ignore_errors=True)
        # Moved, so that the original keeps its inode, by which the journal knows it.
        (self.room / "in").mkdir(parents=True)
        os.chdir(self.room)
        for path in sorted(self.ready.rglob("*")):
            if path.is_file():
                os.link(path, self.room / path.relative_to(self.ready))
        if self.plan:
            Path("plan").write_bytes(self.plan)
            Path("plan").chmod(0o600)
        journal = Path("sealwax-migrate.journal")
        if journal.exists():
            data = journal.read_bytes().replace(str(self.ready).encode(), str(self.room).encode())
            journal.unlink()
            journal.write_bytes(data)

    def look(self) -> int:
        """Check in a process of its own that nothing is lost, and that the same command completes it."""
        secret = PLAINTEXT[:32]
        assert all(secret not in path.read_bytes() for path in Path().rglob("*") if path.is_file()), "plaintext"
        original, target = Path("in/x"), Path("in/x.swx")
        assert original.exists() or self.remove, "the original is gone"
        assert not original.exists() or original.read_bytes() == self.original, "the original changed"
        state = (original.exists(), target.exists())
        for _ in range(1 if self.plan else 2):
            assert migrate(*self.more) == 0
        if self.plan:
            assert run(["fleet", "verify", "-q", "plan"]) == 0
        assert original.exists() != bool(self.remove)
        with Lab(self.lab) as lab:
            sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/new", session=lab.session()))
            assert sealer.decrypt(target.read_bytes(), context=CONTEXT) == PLAINTEXT
        return 10 + 2 * state[0] + state[1]

    def warm_up(self) -> None:
        self.fresh()
        assert migrate(*self.more) == 0
        for thread in {*threading.enumerate()} - {threading.main_thread()}:
            thread.join(30)
        assert threading.active_count() == 1

    def points(self) -> int:
        """Count the points of a run that nothing disturbs."""
        self.fresh()
        reading, writing = os.pipe()

        def act() -> int:
            faults = faulty.Faults()
            faults.install()
            status = migrate(*self.more)
            os.write(writing, json.dumps(faults.points).encode())
            return status

        assert in_child(act) == 0
        os.close(writing)
        with open(reading, "rb") as pipe:
            return int(json.loads(pipe.read()))

    def kill_at(self, point: int, most: int) -> str:
        self.fresh()

        def act() -> int:
            faulty.Faults("kill", point).install()
            return migrate(*self.more)

        ended = in_child(act)
        # What the lab does at its end differs by some calls.
        assert ended == -signal.SIGKILL or (ended == 0 and point > most * 3 // 4), (point, ended)
        left = in_child(self.look)
        assert left in range(10, 14), (point, left)
        return {2: "original", 3: "both", 1: "envelope"}[left - 10]


def main(folder: str, *options: str) -> None:
    room = Room(Path(folder), remove="--remove" in options, by_fleet="--fleet" in options)
    room.warm_up()
    points = room.points()
    step = 1 if "--all" in options else max(1, points // (3 if room.plan else 12))
    chosen = sorted({*range(0, points, step), points - 1})
    print(json.dumps({"points": points, "left": Counter(room.kill_at(point, points) for point in chosen)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
