"""A bucket of a strict S3 server and a lab with two keys, as the tests of the S3 Encryption Client use them."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sealwax
from sealwax.lab import Lab, Server
from tests.foreign import s3ec
from tests.s3 import StrictS3

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / ".venv-s3ec" / "bin" / "python"
CONTEXT: Final = {"tenant": "acme"}
C: Final = ("-c", "tenant=acme")


@dataclass
class World:
    """The server, the lab, and its keys alias/old and alias/new."""

    server: StrictS3
    lab: Lab
    old: str
    new: str
    s3: Any = field(init=False)
    kms: Any = field(init=False)

    def __post_init__(self) -> None:
        self.kms = self.lab.session().client("kms")

    @functools.cached_property
    def under_new(self) -> sealwax.Sealer:
        """What opens envelopes under alias/new."""
        return sealwax.Sealer(sealwax.KmsKeyring(self.new, session=self.lab.session()))

    def begin(self, *, versioned: bool = False, locked: bool = False) -> None:
        """Begin with an empty bucket, which may have an object lock."""
        if not locked:
            self.s3 = self.server.bucket(versioned=versioned)
            return
        self.server.reset()
        self.s3 = self.server.client()
        self.s3.create_bucket(Bucket="bucket", ObjectLockEnabledForBucket=True)

    def make(self, data: bytes, context: Mapping[str, str] = CONTEXT, **how: Any) -> s3ec.Made:
        return s3ec.make(self.kms, self.old, data, context, **how)

    def put(self, key: str, data: bytes, context: Mapping[str, str] = CONTEXT, **how: Any) -> s3ec.Made:
        made = self.make(data, context, **how)
        made.put(self.s3, key)
        return made

    def calls(self) -> list[str]:
        """The operations that KMS was asked for so far."""
        return [event.record["eventName"] for event in self.lab.trail.events()]

    def body(self, key: str) -> bytes:
        return bytes(self.s3.get_object(Bucket="bucket", Key=key)["Body"].read())

    def state(self) -> dict[str, tuple[str, bytes, Mapping[str, str]]]:
        """All of the bucket: versions, bytes and metadata."""
        found = {}
        for each in self.s3.list_object_versions(Bucket="bucket").get("Versions", ()):
            got = self.s3.get_object(Bucket="bucket", Key=each["Key"], VersionId=each["VersionId"])
            found[f"{each['Key']} {each['VersionId']}"] = got["ETag"], got["Body"].read(), got["Metadata"]
        return found


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[World]:
    with StrictS3() as server, Lab(folder / "lab") as lab:
        yield World(server, lab, *(lab.create_key(alias=alias)["Arn"] for alias in ("old", "new")))


class Peer:
    """The real client, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _ask(self, **job: Any) -> dict[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, str] = json.loads(self._process.stdout.readline())
        return answer

    def put(self, key: str, data: bytes, version: int, kms_key: str, context: Mapping[str, str] = CONTEXT) -> None:
        text = base64.b64encode(data).decode()
        assert self._ask(key=key, data=text, version=version, kms_key=kms_key, context=dict(context)) == {}

    def get(self, key: str, kms_key: str, context: Mapping[str, str] = CONTEXT) -> bytes | str:
        """Return what the client reads, or its error."""
        answer = self._ask(key=key, kms_key=kms_key, context=dict(context))
        return base64.b64decode(answer["data"]) if "data" in answer else answer["error"]


@contextlib.contextmanager
def peer(world: World) -> Iterator[Peer]:
    assert PYTHON.exists(), "make .venv-s3ec/stamp"
    server = Server(world.lab)
    thread = threading.Thread(target=server.serve)
    thread.start()
    program = [str(PYTHON), str(Path(__file__).with_name("s3ec_peer.py")), server.url, world.server.url]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Peer(process)
    finally:
        process.communicate()
        server.close()
        thread.join()
