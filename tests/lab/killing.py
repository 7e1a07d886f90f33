"""Kill a program at random moments while it changes a lab, and look for what it was told is done."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import time
from pathlib import Path

from sealwax.lab import Lab
from tests.lab.worker import main


def kill_and_check(folder: Path, rounds: int, seed: int) -> int:
    """Kill the worker ``rounds`` times over one folder; the number of acknowledged changes that were checked.

    Raises:
        AssertionError: something acknowledged was lost.
    """
    chosen = random.Random(seed)
    policies: dict[str, str] = {}
    checked = 0
    for number in range(rounds):
        said = _run_and_kill(folder, seed + number, chosen.uniform(0, 0.06))
        with Lab(folder) as lab:
            for change in said:
                _check(lab, change, policies)
            checked += len(said)
            for key, text in policies.items():
                # It may be a later one, whose acknowledgement the worker did not live to pass on.
                found = lab.call("GetKeyPolicy", KeyId=key)["Policy"]
                assert _number(found) >= _number(text), f"the policy of {key} is lost"
            policies.clear()
    return checked


def _number(policy: str) -> int:
    return int(json.loads(policy)["Id"].removeprefix("policy-"))


def _run_and_kill(folder: Path, seed: int, seconds: float) -> list[list[str]]:
    """What a worker acknowledged until it was killed, so many seconds after its first word."""
    reading, writing = os.pipe()
    # A fork, because starting an interpreter takes longer than all that is to be seen here.
    worker = os.fork()
    if worker == 0:
        os.dup2(writing, 1)
        try:
            main(str(folder), seed)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        first = lines.readline()
        time.sleep(seconds)
        os.kill(worker, signal.SIGKILL)
        said = [json.loads(line) for line in [first, *lines] if line.endswith("\n")]
    _, status = os.waitpid(worker, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the worker ended by itself"
    return said


def _check(lab: Lab, change: list[str], policies: dict[str, str]) -> None:
    kind, *rest = change
    if kind == "key":
        assert lab.call("DescribeKey", KeyId=rest[0])["KeyMetadata"]["Enabled"]
    elif kind == "alias":
        assert lab.call("DescribeKey", KeyId=rest[0])["KeyMetadata"]["KeyId"] == rest[1]
    elif kind == "grant":
        assert lab.call("ListGrants", KeyId=rest[0], GrantId=rest[1])["Grants"]
    elif kind == "policy":
        policies[rest[0]] = rest[1]
    elif kind == "material":
        listed = lab.call("ListKeyRotations", KeyId=rest[0])["Rotations"]
        assert rest[1] in [one["KeyMaterialId"] for one in listed]
    else:
        opened = lab.call("Decrypt", CiphertextBlob=rest[0])
        assert bytes(opened["Plaintext"]) == rest[1].encode()
        assert base64.b64decode(rest[0])
