"""Two Regions of one lab as two server processes, which can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

NEAR, FAR = "eu-west-1", "us-east-1"


class RegionServers:
    """A boto3-like session whose KMS clients go to the server of their Region."""

    def __init__(self, folder: Path, regions: tuple[str, ...] = (NEAR, FAR)) -> None:
        self.folder = folder
        self.ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        for region in regions:
            self.start(region)

    @property
    def region_name(self) -> str | None:
        return None

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        assert region_name is not None
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name=region_name)
        return session.client(service_name, endpoint_url=f"http://127.0.0.1:{self.ports[region_name]}", config=config)

    def start(self, region: str) -> None:
        """Start a Region's server, on the port that it had before."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from sealwax.cli import main; main()",
                *("lab", "serve", "--lab", str(self.folder), "--port", str(self.ports.get(region, 0))),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)):
            line = process.stdout.readline()
        assert line, "the server did not start"
        self.ports[region] = int(found[1])  # type: ignore[index]  # the loop ended by it
        self._processes[region] = process

    def kill(self, region: str) -> None:
        process = self._processes.pop(region)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def suspend(self, region: str) -> None:
        """Leave the sockets half open: connections are taken, and nothing is ever answered.

        The servers share one folder, as no two Regions of KMS do: one that is stopped inside a transaction stops the
        other as well, and is let go on a little.
        """
        while True:
            self._processes[region].send_signal(signal.SIGSTOP)
            if all(self._can_be_written(name) for name in ("state.db", "trail.db")):
                return
            self.resume(region)
            time.sleep(0.01)

    def _can_be_written(self, name: str) -> bool:
        with contextlib.closing(sqlite3.connect(self.folder / name, timeout=0.5, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            database.execute("ROLLBACK")
            return True

    def resume(self, region: str) -> None:
        self._processes[region].send_signal(signal.SIGCONT)

    def close(self) -> None:
        for region in list(self._processes):
            os.kill(self._processes[region].pid, signal.SIGCONT)
            self.kill(region)
