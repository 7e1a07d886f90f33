"""Both directions with the AWS Encryption SDK for JavaScript, a third implementation, through KMS keyrings."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax
from sealwax._core.foreign.esdk import writing
from sealwax._core.foreign.esdk.header import header_of
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.foreign.rules import LEGACY
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax._core.messages import MessageSealer
from sealwax.lab import Lab
from tests import system
from tests.foreign.test_reading_messages import WAYS, every_way
from tests.foreign.test_real_messages import serving

pytestmark = pytest.mark.slow  # a program of Node.js
HERE: Final = Path(__file__).parent / "npm"
CONTEXT: Final = {"purpose": "backup", "Größe": "\u00e9"}
FRAME: Final = 128
EDGES: Final = (0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 40 * FRAME)


class Node:
    """The peer, and the lab that is its KMS."""

    def __init__(self, lab: Lab, url: str) -> None:
        program = system.find("node")
        assert program is not None, "Node.js is missing: run make system"
        assert (HERE / "node_modules").is_dir(), "its packages are missing: run make npm"
        self.lab = lab
        self.keys = [lab.create_key()["Arn"] for _ in range(2)]
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL_KMS": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "thing",
            "AWS_REGION": "us-east-1",
        }
        self._process = subprocess.Popen(
            [program, "peer.js"],
            cwd=HERE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def encrypt(self, plaintext: bytes, suite: int, keys: Sequence[str], frame: int) -> bytes:
        data = base64.b64encode(plaintext).decode()
        said = self.ask(operation="encrypt", suite=suite, keys=keys, context=CONTEXT, frame=frame, data=data)
        return base64.b64decode(said["data"])

    def decrypt(self, message: bytes, key: str) -> tuple[bytes, Mapping[str, str]]:
        said = self.ask(operation="decrypt", keys=[key], data=base64.b64encode(message).decode())
        return base64.b64decode(said["data"]), said["context"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab, serving(lab) as server:
        peer = Node(lab, server.url)
        yield peer
        peer.close()


def test_every_way_reads_theirs(node: Node, tmp_path: Path) -> None:
    read = 0
    for number, suite in enumerate(SUITES):
        for frame, sizes in ((FRAME, EDGES), (4096, (4096, 100_000))):
            for size in sizes:
                keys = node.keys[: 1 + (number + size) % 2]
                plaintext = os.urandom(size)
                message = node.encrypt(plaintext, suite, keys, frame)
                assert (header_of(message).suite.id, header_of(message).frame_length) == (suite, frame)
                keyring = sealwax.KmsKeyring(keys[-1], session=node.lab.session())
                sealer = sealwax.Sealer(keyring, allow_legacy=LEGACY)
                found = sealwax.inspect(message)
                assert (found.plaintext_bytes, found.context, len(found.wrapped_keys)) == (size, CONTEXT, len(keys))
                assert sealer.decrypt(message, context=CONTEXT) == plaintext
                if size in (0, FRAME, 100_000):
                    reads = list(every_way(sealer, message, tmp_path / "x", CONTEXT, plaintext))
                    assert reads == [plaintext] * WAYS
                read += 1
    assert read == 11 * 9


def test_they_read_ours(node: Node) -> None:
    keyring = sealwax.KmsKeyring(node.keys, session=node.lab.session())
    kms = node.lab.session().client("kms")
    made = kms.generate_data_key(KeyId=node.keys[0], KeySpec="AES_256", EncryptionContext=CONTEXT)
    wrapped = (WrappedKey(node.keys[0], made["CiphertextBlob"]),)
    read = 0
    for size in (*EDGES, 4095, 4096, 4097, 1 << 20):
        plaintext = os.urandom(size)
        with DataKey(bytearray(made["Plaintext"])) as data_key:
            short = writing.encrypt(writing.MessageEncryptor(data_key, CONTEXT, wrapped, FRAME), plaintext)
        assert node.decrypt(short, node.keys[0]) == (plaintext, CONTEXT)
        message = MessageSealer(keyring).encrypt(plaintext, context=CONTEXT)
        for key in node.keys:
            assert node.decrypt(message, key) == (plaintext, CONTEXT)
        read += 1
    assert read == len(EDGES) + 4
    assert "error" in node.ask(
        operation="decrypt", keys=node.keys, data=base64.b64encode(message[:-1] + b"\0").decode()
    )
