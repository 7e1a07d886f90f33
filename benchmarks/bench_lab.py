"""``python -m benchmarks.bench_lab``: the lab against moto, in process and over HTTP, and how soon it is there.

Aims: GenerateDataKey in process 2 times moto's rate, over HTTP 3 times; the server's first answer within 0.3 s of its
start; a fixture with a usable key within 50 ms.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
from moto import mock_aws
from moto.server import ThreadedMotoServer

from sealwax.lab import Lab
from sealwax.lab.server import Server

_CALLS: Final = 300
_ROUNDS: Final = 3


def rate(kms: Any, key: str) -> float:
    """GenerateDataKey calls a second: the best of a few rounds."""
    best = 0.0
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_CALLS):
            kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext={"purpose": "bench"})
        best = max(best, _CALLS / (time.perf_counter() - start))
    return best


def client(url: str | None = None) -> Any:
    return boto3.client(
        "kms", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@contextmanager
def served(lab: Lab) -> Iterator[str]:
    server = Server(lab.gateway)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.url
    server.close()
    thread.join()


def first_answer(folder: Path) -> float:
    """Seconds from starting the program to its first answer."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).parent / "sealwax"), "lab", "serve", "--lab", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/", b"{}")
    connection.getresponse().read()
    taken = time.perf_counter() - start
    connection.close()
    process.kill()
    process.communicate()
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
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mock_aws():
            kms = client()
            moto_inside = rate(kms, kms.create_key()["KeyMetadata"]["KeyId"])
        moto_server = ThreadedMotoServer(port=0, verbose=False)
        moto_server.start()
        kms = client("http://{}:{}".format(*moto_server.get_host_and_port()))
        moto_http = rate(kms, kms.create_key()["KeyMetadata"]["KeyId"])
        moto_server.stop()
        with Lab(folder / "lab") as lab:
            key = lab.create_key()["KeyId"]
            inside = rate(lab.session(account="111122223333").client("kms"), key)
            with served(lab) as url:
                http = rate(client(url), key)
        rows = (
            ("GenerateDataKey in process", f"{inside:,.0f}/s", f"{inside / moto_inside:.1f} x moto", "2 x"),
            ("GenerateDataKey over HTTP", f"{http:,.0f}/s", f"{http / moto_http:.1f} x moto", "3 x"),
            ("start to first answer", f"{least(first_answer, folder / 'a'):.3f} s", "", "0.3 s"),
            ("nothing to a usable key", f"{least(usable_key, folder / 'b') * 1000:.1f} ms", "", "50 ms"),
        )
    for what, measured, compared, aim in rows:
        print(f"{what:<28}{measured:>14}  {compared:<12} aim {aim}")


if __name__ == "__main__":
    main()
