"""``python -m tests.soak_records MILLIONS``: no two records under one data key have the same nonce.

A third each is sealed by threads, by children that go on with their parent's field, and by processes whose memory is a
copy of one another, as after a snapshot was restored: libc's fork, which Python does not notice, copies the prefix in
use, its tickets and the state of every generator of random numbers, so that only what the kernel gives tells them
apart.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sealwax.records import MemoryKeys, Records
from tests.fakes import FakeKeyring

_NONCE_AT = slice(1, 41)  # key id, prefix and suffix
_NONCE_BYTES = 40
_THREADS, _CHILDREN, _COPIES = 8, 6, 6
_AT_ONCE = 100
# In how many passes the nonces are compared, to hold a part of them at a time.
_PASSES = 16


class Soak:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.records = Records(FakeKeyring(), MemoryKeys(), scope={"app": "soak"})
        self.field = self.records.field("f", row=int)

    def seal(self, name: str, count: int) -> None:
        """Seal as many records, one by one and many at once, and write their nonces down."""
        field, draw = self.field, random.Random(0)
        with (self._folder / name).open("wb") as file:
            left = count
            while left:
                size = min(left, draw.randrange(1, 2 * _AT_ONCE))
                if draw.random() < 0.5:
                    sealed = field.seal_many([b""] * size, rows=range(size))
                else:
                    sealed = [field.seal(b"", row=row) for row in range(size)]
                file.write(b"".join(record[_NONCE_AT] for record in sealed))
                left -= size

    def threads(self, count: int) -> None:
        work = [
            threading.Thread(target=self.seal, args=(f"thread-{number}", count // _THREADS))
            for number in range(_THREADS)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()

    def children(self, count: int) -> None:
        """Fork while other threads seal, and go on in parent and children."""
        each = count // (_CHILDREN + 2)
        beside = [threading.Thread(target=self.seal, args=(f"beside-{number}", each)) for number in range(2)]
        for thread in beside:
            thread.start()
        self._fork(os.fork, _CHILDREN, "child", each)
        for thread in beside:
            thread.join()

    def copies(self, count: int) -> None:
        self.field.seal(b"", row=1)  # a prefix, which all of them have
        libc = ctypes.PyDLL(None)
        self._fork(libc.fork, _COPIES, "copy", count // _COPIES)

    def _fork(self, fork: Callable[[], int], times: int, name: str, count: int) -> None:
        children = []
        for number in range(times):
            child = fork()
            if child == 0:
                status = 1
                try:
                    self.seal(f"{name}-{number}", count)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for child in children:
            if os.waitpid(child, 0)[1]:
                raise AssertionError(f"a {name} failed")

    def nonces(self, number: int) -> Iterator[bytes]:
        """Yield the nonces of one pass."""
        for path in sorted(self._folder.iterdir()):
            with path.open("rb") as file:
                while block := file.read(_NONCE_BYTES * 65_536):
                    for at in range(0, len(block), _NONCE_BYTES):
                        if block[at + _NONCE_BYTES - 1] % _PASSES == number:
                            yield block[at : at + _NONCE_BYTES]


def main(millions: float) -> None:
    began = time.monotonic()
    third = int(millions * 1e6 / 3)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        for part in (soak.threads, soak.children, soak.copies):
            part(third)
        total, prefixes = 0, dict[bytes, int]()
        for number in range(_PASSES):
            seen = set[bytes]()
            count = 0
            for nonce in soak.nonces(number):
                count += 1
                seen.add(nonce)
                prefixes[nonce[:28]] = prefixes.get(nonce[:28], 0) + 1
            if len(seen) != count:
                raise SystemExit(f"{count - len(seen)} nonces were used twice")
            total += count
        most = max(prefixes.values())
        soak.records.close()
    # Copies share the prefix that they had.
    print(f"{total:,} records, {len(prefixes):,} prefixes, no nonce twice; the fullest prefix has {most:,} records")
    print(f"{time.monotonic() - began:.0f} s")
    if total < 0.99 * millions * 1e6:
        raise SystemExit("some records are missing")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
