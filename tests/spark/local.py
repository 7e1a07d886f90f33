"""What tests and the long run put around Spark: a session, a lab on executors, and tasks that fail on purpose."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from pyspark import TaskContext
from pyspark.sql import SparkSession

from sealwax._core.envelope import Inspection
from sealwax._core.rewrap import Rewrap
from sealwax.errors import SealwaxError
from sealwax.lab import Lab
from sealwax.stores import Change, Entry, open_store
from tests import system


def start(folder: Path, cores: int) -> SparkSession:
    """Return a session that keeps all it writes in ``folder``."""
    java = system.find("java")
    assert java is not None, "run: python tests/system.py java"
    os.environ["JAVA_HOME"] = str(java.resolve().parents[1])
    os.environ["PYSPARK_PYTHON"] = sys.executable
    return (
        SparkSession.builder.master(f"local[{cores}, 4]")
        .appName("sealwax tests")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(folder / "scratch"))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.driver.memory", "1g")
        .getOrCreate()
    )


@dataclass(frozen=True)
class LabSession:
    """Opens a lab's session where it is called."""

    path: str

    def __call__(self) -> boto3.Session:
        return Lab(self.path).session("us-east-1")


@dataclass(frozen=True)
class Watched:
    """Opens a store that writes down each object it has re-wrapped, and in some partitions fails once, half-way.

    Args:
        log: a file that all executors append to.
        failing: numbers of partitions whose first attempt dies after ``after`` re-wraps.
    """

    log: str
    failing: tuple[int, ...] = ()
    after: int = 5

    def __call__(self, where: str) -> WatchedStore:
        return WatchedStore(where, self)


class WatchedStore:
    def __init__(self, where: str, watched: Watched) -> None:
        self._store = open_store(where)
        self._watched = watched
        self._done = 0

    @property
    def location(self) -> str:
        return self._store.location

    def list(self) -> Iterator[Entry | SealwaxError]:
        return self._store.list()

    def inspect(self, name: str) -> Inspection:
        return self._store.inspect(name)

    def open(self, name: str) -> BinaryIO:
        return self._store.open(name)

    def replace(self, name: str, change: Change) -> None:
        self._store.replace(name, change)

    def rewrap(self, name: str, rewrap: Rewrap, *, size: int | None = None) -> None:
        self._store.rewrap(name, rewrap, size=size)
        self._done += 1
        self._note(f"wrote {name}")
        task: Any = TaskContext.get()
        dies = task.partitionId() in self._watched.failing and task.attemptNumber() == 0
        if dies and self._done == self._watched.after:
            self._note(f"died {task.partitionId()}")
            raise RuntimeError("this executor dies, on purpose")

    def _note(self, line: str) -> None:
        descriptor = os.open(self._watched.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, os.fsencode(f"{line}\n"))
        finally:
            os.close(descriptor)
