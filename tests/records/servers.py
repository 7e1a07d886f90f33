"""PostgreSQL and MariaDB, started for the tests as a user without rights, in a folder of their own, on a socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from tests import system

# A role of PostgreSQL that has to give one; a test makes it.
WITH_PASSWORD = "with_password"
_SECONDS = 60.0
# Crashes of the machine are not what is tested.
_POSTGRESQL = ("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=64MB")
_MARIADB = (
    "--no-defaults",
    "--skip-networking",
    "--skip-grant-tables",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--max-connections=300",
)


def _user() -> str | None:
    """The servers refuse to run as root."""
    return "nobody" if os.geteuid() == 0 else None


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not below pytest's folder, which others may not enter; and short, for a socket's path.
    folder = Path(tempfile.mkdtemp(prefix="swx-db-", dir="/tmp"))
    try:
        if _user() is not None:
            entry = pwd.getpwnam("nobody")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _env(folder: Path) -> dict[str, str]:
    # When it starts, a server of MariaDB deletes what others keep in the folder of temporary files.
    return {**os.environ, "TMPDIR": str(folder)}


@contextlib.contextmanager
def _running(
    command: Sequence[object], folder: Path, ready: Callable[[], bool], stop: signal.Signals
) -> Iterator[None]:
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        server = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=_env(folder),
            user=_user(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + _SECONDS
            while not ready():
                assert server.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.05)
            yield
        finally:
            server.send_signal(stop)
            server.wait(_SECONDS)
            os.unlink(log.name)


def _make(command: Sequence[object], folder: Path) -> None:
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=_env(folder), user=_user(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _server(name: str) -> Path:
    found = system.find(name)
    assert found is not None, f"{system.NEEDS[name].what} is missing; run: make system"
    return found


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a database of its own."""
    with _folder() as folder:
        data, server = folder / "data", _server("postgresql")
        _make([server.with_name("initdb"), "-D", data, "-A", "trust", "-U", "app", "-E", "UTF8", "--no-sync"], folder)
        rules = data / "pg_hba.conf"
        rules.write_text(f"local all {WITH_PASSWORD} scram-sha-256\n{rules.read_text()}")

        def ready() -> bool:
            return (folder / ".s.PGSQL.5432").exists() and _answers()

        def _answers() -> bool:
            asked = [server.with_name("pg_isready"), "-q", "-h", folder]
            return subprocess.run(list(map(str, asked)), check=False).returncode == 0

        with _running([server, "-D", data, "-k", folder, *_POSTGRESQL], folder, ready, signal.SIGINT):
            yield f"postgresql+psycopg://app@/postgres?host={folder}"


@contextlib.contextmanager
def standby(primary: str) -> Iterator[str]:
    """Yield the URL of a copy of a database of PostgreSQL as it is now; it stays in recovery."""
    server = _server("postgresql")
    with _folder() as folder:
        data, source = folder / "data", make_url(primary).query["host"]
        copy = ["-h", source, "-U", "app", "-D", data, "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]
        _make([server.with_name("pg_basebackup"), *copy], folder)

        def ready() -> bool:
            asked = [server.with_name("pg_isready"), "-q", "-h", folder]
            return subprocess.run(list(map(str, asked)), check=False).returncode == 0

        with _running([server, "-D", data, "-k", folder, *_POSTGRESQL], folder, ready, signal.SIGINT):
            yield f"postgresql+psycopg://app@/postgres?host={folder}"


@contextlib.contextmanager
def mariadb() -> Iterator[str]:
    """Yield the URL of a database of its own."""
    with _folder() as folder:
        data, socket = folder / "data", folder / "s"
        server = _server("mariadb")
        _make(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"],
            folder,
        )

        def ready() -> bool:
            made = [
                "mariadb",
                "--no-defaults",
                f"--socket={socket}",
                "-uroot",
                "-e",
                "CREATE DATABASE IF NOT EXISTS app",
            ]
            return socket.exists() and subprocess.run(made, check=False, capture_output=True).returncode == 0

        with _running([server, *_MARIADB, f"--datadir={data}", f"--socket={socket}"], folder, ready, signal.SIGTERM):
            # PyMySQL reads all certificates of the machine for each connection, which takes 25 ms.
            yield f"mysql+pymysql://root@localhost/app?unix_socket={socket}&ssl_disabled=true"
