"""One sealer serves sixteen threads, and the children that a process forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

import sealwax
from sealwax.lab import Lab

REPOSITORY = Path(__file__).parents[2]
THREADS, ROUNDS = 16, 12


def test_sixteen_threads(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        session: boto3.Session = lab.session()
        calls: list[str] = []
        session.events.register("before-call.kms", lambda model, **_: calls.append(model.name))
        sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session), local_context=("round",))

        def work(thread: int) -> int:
            done = 0
            for n in range(ROUNDS):
                text = f"{thread}/{n}".encode() * 1000
                context = {"thread": str(thread), "round": str(n)}
                sealed = sealer.encrypt(text, context=context)
                assert sealer.decrypt(sealed, context=context) == text
                path = tmp_path / f"{thread}.swx"
                with sealer.open(path, "wb", context=context) as file:
                    file.write(text)
                with sealer.open(path, context=context) as reader:
                    assert reader.read() == text
                done += 1
            return done

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(work, range(THREADS))) == THREADS * ROUNDS
    assert Counter(calls) == {"GenerateDataKey": 2 * THREADS * ROUNDS, "Decrypt": 2 * THREADS * ROUNDS}


FORKING = """
import json, os, sys
import sealwax
from sealwax.lab import Lab
context = {"purpose": "forks"}
folder = sys.argv[1]
with Lab(folder) as lab:
    lab.create_key(alias="demo")
    session = lab.session()
    clients = []
    session.events.register("creating-client-class.kms", lambda **_: clients.append(os.getpid()))
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session))
    sealed = sealer.encrypt(b"from the parent", context=context)
    results = []
    for n in range(4):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                text = sealer.decrypt(sealed, context=context).decode()
                own = sealer.encrypt(f"from child {n}".encode(), context=context)
                made = clients.count(os.getpid())
                os.write(writing, json.dumps([text, own.hex(), made]).encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading) as pipe:
            text, own, made = json.loads(pipe.read())
        status = os.waitpid(pid, 0)[1]
        results.append([status, text, sealer.decrypt(bytes.fromhex(own), context=context).decode(), made])
print(json.dumps(results))
"""


def test_forked_children(tmp_path: Path) -> None:
    """A child makes its own client, for two processes on one connection would read each other's answers."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, tmp_path / "lab"],
        cwd=REPOSITORY,
        env=os.environ | {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[0, "from the parent", f"from child {n}", 1] for n in range(4)]
