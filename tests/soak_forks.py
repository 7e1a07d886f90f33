"""``python -m tests.soak_forks [ROUNDS]``: fork children of a busy program, and serve with gunicorn --preload.

What must hold: every value that anybody has sealed opens and is the one that was sealed, and nobody hangs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import boto3

import sealwax
from tests.forks.servers import LATENCY_MILLISECONDS, NEAR, REPOSITORY, SECRET, run, serving

CHILDREN: Final = 4
WORKERS, THREADS, REQUESTS = 4, 4, 600
_SECONDS: Final = 60


def children(rounds: int) -> None:
    for tls in (False, True):
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(Path(folder), tls=tls, s3=True, latency=LATENCY_MILLISECONDS) as environment,
        ):
            told = run(["-m", "tests.forks.children", str(rounds), str(CHILDREN)], environment, seconds=600)
        assert told["statuses"] == [0] * rounds * CHILDREN, told
        assert (told["errors"], told["lost"], told["threads"]) == ([], [], 0), told
        print(f"{'TLS' if tls else 'HTTP'}: {rounds * CHILDREN} children, {sum(told['counts'].values())} values")


def gunicorn() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), latency=LATENCY_MILLISECONDS) as environment,
    ):
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--preload", "--bind", "127.0.0.1:0", "--worker-class", "gthread"),
                *("--workers", str(WORKERS), "--threads", str(THREADS), "tests.forks.web:application"),
            ],
            cwd=REPOSITORY,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _serve(server, environment["AWS_ENDPOINT_URL_KMS"])
        finally:
            server.terminate()
            server.wait(_SECONDS)


def _serve(server: subprocess.Popen[str], endpoint: str) -> None:
    assert server.stderr is not None
    found = None
    for line in server.stderr:
        found = found or re.search(r"Listening at: (http://127\.0\.0\.1:\d+)", line)
        if found and "Booting worker" in line:
            break
    assert found, "gunicorn did not start"
    url = found[1]
    client = boto3.Session("AKIDEXAMPLE", SECRET, region_name=NEAR).client("kms", endpoint_url=endpoint)
    keyring = sealwax.KmsKeyring("alias/demo", client=client)
    plain, cached = sealwax.Sealer(keyring), sealwax.Sealer(keyring, local_context=("value",))
    workers: Counter[str] = Counter()

    def ask(number: int) -> bool:
        kind = ("client", "cache", "session")[number % 3]
        purpose, value = f"purpose-{number % 7}", f"value-{number}"
        with urllib.request.urlopen(f"{url}/{kind}/{purpose}/{value}", timeout=_SECONDS) as answer:
            worker, sealed = answer.read().decode().split()
        workers[worker] += 1
        sealer = cached if kind == "cache" else plain
        return sealer.decrypt(bytes.fromhex(sealed), context={"purpose": purpose, "value": value}) == value.encode()

    begun = time.monotonic()
    with ThreadPoolExecutor(WORKERS * THREADS) as pool:
        assert sum(pool.map(ask, range(REQUESTS))) == REQUESTS
    assert len(workers) == WORKERS, workers
    print(f"gunicorn --preload: {REQUESTS} values of {WORKERS} workers in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    children(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    gunicorn()
