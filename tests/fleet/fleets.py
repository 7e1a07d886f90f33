"""Fleets to rotate: a lab with keys, and folders of envelopes under several keys, materials and data keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import sealwax
from sealwax import RetryPolicy, fleet
from sealwax._core.cache import CachingKeyring
from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap
from sealwax._report import Provenance, Verdict
from sealwax.fleet._page import as_html
from sealwax.lab import Lab
from sealwax.stores import Change, Entry, Store, open_store

CONTEXTS: Final = fleet.Contexts((("tenant", "acme"), ("set", "*")))
SHARING: Final = 25
ACME: Final = {"tenant": "acme", "set": "0"}
REGION: Final = "us-east-1"


@dataclass(frozen=True)
class Keys:
    """The ARNs of a lab's keys: two old ones, the second of which has been rotated; one wanted, one of strangers."""

    lab: Lab
    one: str
    two: str
    new: str
    foreign: str

    @property
    def old(self) -> tuple[str, str]:
        return self.one, self.two

    def calls(self) -> Counter[str]:
        """How often each operation was asked of the lab so far."""
        return Counter(event.record["eventName"] for event in self.lab.trail.events())

    def sealer(self, *arns: str) -> sealwax.Sealer:
        return sealwax.Sealer(sealwax.KmsKeyring(list(arns), session=self.lab.session()))


def make_keys(lab: Lab) -> Keys:
    arns = [lab.create_key(alias=alias)["Arn"] for alias in ("one", "two", "new", "foreign")]
    return Keys(lab, *arns)


def mixed(keys: Keys, count: int) -> Iterator[bytes]:
    """Seal ``count`` small values.

    A half is under data keys of its own, a half under data keys that are shared; a third under alias/one, a third under
    alias/two, of which a half is under old material, a third under both.
    """
    session = keys.lab.session()
    keyrings: list[Any] = [sealwax.KmsKeyring(key, session=session) for key in keys.old]
    keyrings.append(sealwax.KmsKeyring(list(keys.old), session=session))
    single = [sealwax.Sealer(keyring) for keyring in keyrings]
    caches = [CachingKeyring(keyring, max_age=3600, max_messages=SHARING) for keyring in keyrings]
    shared = [sealwax.Sealer(cache) for cache in caches]
    for at in range(count):
        if at == count // 2:
            keys.lab.call("RotateKeyOnDemand", KeyId=keys.two)
        sealer = (single if at % 2 else shared)[at % 3]
        yield sealer.encrypt(b"value %d" % at, context={"tenant": "acme", "set": str(at % 3)})


def fill(folder: Path, keys: Keys, count: int) -> int:
    """Write ``count`` files, mixed; return how many distinct wrapped keys they have."""
    for at, sealed in enumerate(mixed(keys, count)):
        path = folder / f"{at // 100:03}" / f"{at}.swx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sealed)
    return len({sealwax.inspect(path).wrapped_keys[0].ciphertext for path in envelopes(folder)})


def envelopes(folder: Path) -> Iterator[Path]:
    """Yield the files, but for what a killed process was writing."""
    return (path for path in sorted(folder.rglob("*.swx")) if path.is_file())


def payloads(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file's payload, found without the library's own digests."""
    found = {}
    for path in envelopes(folder):
        data = path.read_bytes()
        offset = int.from_bytes(data[12:14], "big") + data[11] * int.from_bytes(data[14:16], "big")
        found[os.fspath(path)] = hashlib.sha256(data[offset:]).hexdigest()
    return found


def envelope_ids(folder: Path) -> set[bytes]:
    return {path.read_bytes()[16:32] for path in envelopes(folder)}


def marks(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what changes when a file is written: its inode and modification time."""
    return {os.fspath(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in envelopes(folder)}


def plan(keys: Keys, folder: Path, path: Path, **more: Any) -> fleet.FleetReport:
    options: dict[str, Any] = {"sources": keys.old, "to": [keys.new], "contexts": CONTEXTS}
    return fleet.plan(path, [str(folder)], session=keys.lab.session(), **options | more)


def seal(keys: Keys, path: Path, value: bytes = b"value", *arns: str, context: dict[str, str] = ACME) -> Path:
    path.write_bytes(keys.sealer(*(arns or (keys.one,))).encrypt(value, context=context))
    return path


def seal_many(keys: Keys, folder: Path, count: int) -> None:
    sealer = keys.sealer(keys.one)
    for at in range(count):
        (folder / f"{at:03}.swx").write_bytes(sealer.encrypt(b"value %d" % at, context=ACME))


def run(keys: Keys, path: Path, **more: Any) -> fleet.FleetReport:
    return fleet.run(path, **{"session": keys.lab.session(), **more})


IMPATIENT: Final = RetryPolicy(attempts=1)


def arns(path: Path) -> list[str]:
    return [key.key_arn for key in sealwax.inspect(path).wrapped_keys]


class Wrapping:
    """A store around a store."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @classmethod
    def around(cls, where: str) -> Store:
        return cls(open_store(where))

    @property
    def location(self) -> str:
        return self.inner.location

    def list(self) -> Iterator[Entry | sealwax.SealwaxError]:
        return self.inner.list()

    def inspect(self, name: str) -> Inspection:
        return self.inner.inspect(name)

    def open(self, name: str) -> BinaryIO:
        return self.inner.open(name)

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        self.inner.rewrap(name, rewrap, size=size)

    def replace(self, name: str, change: Change) -> None:
        self.inner.replace(name, change)


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Have every file end at a size: it is met as a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def page_of(report: fleet.FleetReport) -> str:
    """Return a report's page below some verdict."""
    return as_html(report, Verdict("good", "It stands"), Provenance(datetime(2026, 1, 1, tzinfo=UTC)))
