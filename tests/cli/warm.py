"""The program without its start: an interpreter that has read the modules forks for each command.

Half of what a command costs the processor is reading Python and botocore, the same each time. Everything else is as in
the real program: a process of its own, with its own streams, folder, environment and exit, which ends as an
interpreter ends. The program as it is installed still runs in pipes and redirections, on terminals, in the documents,
and wherever a test starts it to send it signals.

Run as a program, this file is that interpreter: it takes requests from the socket whose descriptor is its argument.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

_REQUEST_BYTES: Final = 1 << 17
# Python, the C library and the loader read these before any of our code runs.
_READ_AT_START: Final = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "OPENSSL_")


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


class Warm:
    """Runs commands in forks of one interpreter.

    Args:
        requests: the socket of the interpreter.
        environment: what it was started with.
    """

    def __init__(self, requests: socket.socket, environment: Mapping[str, str]) -> None:
        self._requests = requests
        self._settings = _settings(environment)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with this environment would find what it expects."""
        return _settings(environment) == self._settings

    def run(
        self, arguments: Sequence[str | bytes], folder: Path, environment: Mapping[str, str], stdin: bytes | None
    ) -> tuple[int, bytes, bytes]:
        """Run one command to its end.

        Returns:
            The status as of ``subprocess``, and what was written to standard output and standard error.
        """
        request = json.dumps(
            {
                "arguments": [os.fsdecode(each) for each in arguments],
                "folder": str(folder),
                "environment": dict(environment),
            }
        ).encode()
        assert len(request) < _REQUEST_BYTES
        with contextlib.ExitStack() as opened:

            def pipe() -> tuple[IO[bytes], IO[bytes]]:
                read, write = os.pipe()
                return opened.enter_context(open(read, "rb")), opened.enter_context(open(write, "wb", buffering=0))

            (out, to_out), (err, to_err), (status, to_status) = pipe(), pipe(), pipe()
            source, to_source = pipe() if stdin is not None else (opened.enter_context(open(os.devnull, "rb")), None)
            theirs = (source, to_out, to_err, to_status)
            socket.send_fds(self._requests, [request], [each.fileno() for each in theirs])
            for each in theirs:
                each.close()
            written: dict[str, bytes] = {}
            threads = [
                threading.Thread(target=lambda: written.update(out=out.read())),
                threading.Thread(target=lambda: written.update(err=err.read())),
            ]
            for thread in threads:
                thread.start()
            if to_source is not None:
                with contextlib.suppress(BrokenPipeError), to_source:
                    _write_all(to_source, stdin or b"")
            for thread in threads:
                thread.join()
            return int(status.read()), written["out"], written["err"]


def _write_all(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


@contextlib.contextmanager
def warm(environment: Mapping[str, str]) -> Iterator[Warm | None]:
    """Start the interpreter. Give None where a fork without exec is not safe: the libraries of macOS take it amiss."""
    if sys.platform != "linux":
        yield None
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        with process:
            yield Warm(ours, environment)
            ours.close()
    assert process.returncode == 0


# --- the interpreter


class _Request(NamedTuple):
    arguments: list[str]
    folder: str
    environment: dict[str, str]


def _serve(requests: socket.socket) -> _Request | None:
    """Fork for each request; return it in the child, and None in the parent when there will be no more."""
    with requests, selectors.DefaultSelector() as events:
        events.register(requests, selectors.EVENT_READ)
        running: dict[int, tuple[int, int]] = {}
        while True:
            for key, _ in events.select():
                if key.fileobj is requests:
                    message, streams, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 4)
                    if not message:
                        return None
                    child = os.fork()
                    if child == 0:
                        for number in range(3):
                            os.dup2(streams[number], number)
                        for number in (*streams, *(each for pair in running.items() for each in (pair[0], pair[1][1]))):
                            os.close(number)
                        return _Request(**json.loads(message))
                    for number in streams[:3]:
                        os.close(number)
                    ended = os.pidfd_open(child)
                    running[ended] = child, streams[3]
                    events.register(ended, selectors.EVENT_READ)
                else:
                    ended = key.fd
                    events.unregister(ended)
                    child, answer = running.pop(ended)
                    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    with contextlib.suppress(BrokenPipeError):
                        os.write(answer, str(status).encode())
                    os.close(ended)
                    os.close(answer)


def _stream(number: int, mode: str, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a standard stream as the interpreter makes it at its start."""
    binary = open(number, mode, closefd=False)  # noqa: SIM115  open as long as the program runs
    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(binary, like.encoding, like.errors, newline="\n", line_buffering=lines)


def _become(request: _Request) -> None:
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv[:] = ["sealwax", *request.arguments]
    for number, (name, mode) in enumerate((("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))):
        stream = _stream(number, mode, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _main() -> None:
    # What commands import and read late takes most of their start.
    import boto3

    from sealwax import KmsKeyring, cli  # noqa: F401

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests import models

    del sys.path[0]
    for module in pkgutil.walk_packages(cli.__path__, "sealwax.cli."):
        importlib.import_module(module.name)
    with models.open_stream():
        for service in ("kms", "s3", "sts"):
            boto3.Session("any", "any", region_name="us-east-1").client(service)
        gc.collect()
        gc.freeze()
        request = _serve(socket.socket(fileno=int(sys.argv[1])))
        if request is not None:
            _become(request)
            cli.main()


if __name__ == "__main__":
    _main()
