"""Kill runs at random moments while a reader loops over the fleet."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sealwax import fleet
from tests.fleet.fleets import Keys, envelope_ids, envelopes, fill, payloads, plan
from tests.fleet.worker import WORKERS


def read_all(keys: Keys, folder: Path, stop: threading.Event, unreadable: list[str]) -> int:
    """Decrypt random envelopes until told to stop; return how many were read."""
    sealer = keys.sealer(*keys.old, keys.new)
    paths = list(envelopes(folder))
    read = 0
    while not stop.is_set():
        one = random.choice(paths)
        expected = b"value %d" % int(one.stem)
        try:
            with sealer.open(one, context={"tenant": "acme", "set": str(int(one.stem) % 3)}) as file:
                if file.read() != expected:
                    unreadable.append(f"{one}: other bytes")
        except Exception as error:
            unreadable.append(f"{one}: {error}")
        read += 1
    return read


def kill_and_resume(keys: Keys, folder: Path, path: Path, *, files: int, kills: int, reencrypt: bool = False) -> None:
    """Hold what must hold of a fleet whose runs are killed ``kills`` times.

    Each run is killed after a random number of its results and a random moment more.
    """
    distinct = fill(folder, keys, files)
    before = payloads(folder)
    ids = envelope_ids(folder)
    operations = ("Decrypt", "GenerateDataKey") if reencrypt else ("ReEncrypt",)
    needed = files if reencrypt else distinct
    more: dict[str, Any] = {"reencrypt": True} if reencrypt else {"digests": None}
    assert plan(keys, folder, path, **more).kms_calls == needed * len(operations)
    stop = threading.Event()
    unreadable: list[str] = []
    read: list[int] = []
    reader = threading.Thread(target=lambda: read.append(read_all(keys, folder, stop, unreadable)))
    reader.start()
    made = keys.calls()
    killed = midway = 0
    try:
        while killed < kills:
            # Later rounds have less to do: they are killed sooner, and the last ones on their way.
            seen = random.randrange(3) if killed < kills // 2 else 0
            with subprocess.Popen(
                [sys.executable, "-m", "tests.fleet.worker", str(path), str(keys.lab.path)], stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                for _ in range(seen):
                    process.stdout.readline()
                time.sleep(random.uniform(0, 0.05) if seen else random.uniform(0, 1.5))
                process.kill()
                process.wait()
                killed += 1
                midway += bool(fleet.status(path).stale)
        calls = fleet.run(path, session=keys.lab.session()).kms_calls
        assert calls <= needed * len(operations)
    finally:
        stop.set()
        reader.join()
    assert midway >= kills // 2, f"{midway} of {kills} kills met a run with work left"
    assert not unreadable, unreadable[:5]
    assert read[0] > kills
    # Nothing is repeated but what a killed worker had asked for and not yet written. The reader decrypts as well.
    asked = keys.calls()[operations[-1]] - made[operations[-1]]
    assert needed <= asked <= needed + kills * WORKERS
    assert (payloads(folder) == before) is not reencrypt
    assert envelope_ids(folder).isdisjoint(ids) is reencrypt
    assert len(list(folder.rglob(".*.part"))) <= kills * WORKERS
    proven = fleet.verify(path, session=keys.lab.session(), decrypt=20)
    assert proven.done, proven.as_dict()
    assert proven.checked is not None
    assert (proven.checked.digests, proven.checked.decrypted) == (files, 20)
