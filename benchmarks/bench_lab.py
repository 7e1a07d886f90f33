"""``python -m benchmarks.bench_lab``: the lab against moto, in process and over HTTP, and how soon it is there.

Aims: GenerateDataKey in process 2 times moto's rate (by CPU time), over HTTP 3 times (client and server in separate
processes); the server's first answer within 0.3 s of its start; a fixture with a usable key within 50 ms.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
from moto import mock_aws

from sealwax.lab import Lab

_CALLS: Final = 100
_ROUNDS: Final = 15
_MOTO: Final = """
import logging, threading
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


def rate(clock: Callable[[], float], kms: Any, key: str) -> float:
    """GenerateDataKey calls a second in one short round."""
    start = clock()
    for _ in range(_CALLS):
        kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext={"purpose": "bench"})
    return _CALLS / (clock() - start)


def with_key(kms: Any) -> tuple[Any, str]:
    return kms, kms.create_key()["KeyMetadata"]["KeyId"]


def client(url: str | None = None) -> Any:
    return boto3.client(
        "kms", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """A server in a process of its own; it says its port, or an URL that ends with it, as its first word."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline().rpartition(':')[2])}"
    finally:
        process.kill()
        process.communicate()


def lab_server(folder: Path) -> AbstractContextManager[str]:
    Lab(folder).close()  # the command makes none
    program = str(Path(sys.executable).parent / "sealwax")
    return serving(program, "lab", "serve", "--lab", str(folder), "--port", "0")


def moto_server() -> AbstractContextManager[str]:
    return serving(sys.executable, "-c", _MOTO)


def first_answer(folder: Path) -> float:
    """Seconds from starting the program to its first answer."""
    start = time.perf_counter()
    with lab_server(folder) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("POST", "/", b"{}")
        connection.getresponse().read()
        taken = time.perf_counter() - start
        connection.close()
    return taken


def usable_key(folder: Path) -> float:
    """Seconds from nothing to a lab with a key that has encrypted something."""
    start = time.perf_counter()
    with Lab(folder) as lab:
        lab.create_key(alias="bench")
        lab.call("GenerateDataKey", KeyId="alias/bench", KeySpec="AES_256")
        return time.perf_counter() - start


def least(measure: Callable[[Path], float], folder: Path) -> float:
    return min(measure(folder / str(number)) for number in range(_ROUNDS))


def main() -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Both take turns, so that what else the machine does meets both; the best round of each counts.
        inside = moto_inside = http_rate = moto_http = 0.0
        with Lab(folder / "inside") as lab:
            ours = with_key(lab.session(account="111122223333").client("kms"))
            for _ in range(_ROUNDS):
                inside = max(inside, rate(time.process_time, *ours))
                # Inside of it only moto is measured: it takes part in every client's calls.
                with mock_aws():
                    moto_inside = max(moto_inside, rate(time.process_time, *with_key(client())))
        with lab_server(folder / "served") as url, moto_server() as moto_url:
            ours, theirs = with_key(client(url)), with_key(client(moto_url))
            for _ in range(_ROUNDS):
                http_rate = max(http_rate, rate(time.perf_counter, *ours))
                moto_http = max(moto_http, rate(time.perf_counter, *theirs))
        rows = (
            ("GenerateDataKey in process", f"{inside:,.0f}/s", f"{inside / moto_inside:.1f} x moto", "2 x"),
            ("GenerateDataKey over HTTP", f"{http_rate:,.0f}/s", f"{http_rate / moto_http:.1f} x moto", "3 x"),
            ("start to first answer", f"{least(first_answer, folder / 'a'):.3f} s", "", "0.3 s"),
            ("nothing to a usable key", f"{least(usable_key, folder / 'b') * 1000:.1f} ms", "", "50 ms"),
        )
    for what, measured, compared, aim in rows:
        print(f"{what:<28}{measured:>14}  {compared:<12} aim {aim}")


if __name__ == "__main__":
    main()
