"""Processes for the memory tests: a KMS that writes its data keys down, and programs that use sealwax and wait."""

from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax._core import envelope
from sealwax._core.context import encode
from sealwax._core.format import payload, witness
from tests.memory import scan

ROOT = Path(__file__).parents[2]


def certificate(folder: Path) -> list[str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return [str(folder / "cert.pem"), str(folder / "key.pem")]


@dataclass
class Kms:
    folder: Path
    url: str

    def environment(self) -> dict[str, str]:
        trusted = {"AWS_CA_BUNDLE": str(self.folder / "cert.pem")} if self.url.startswith("https") else {}
        return {
            **os.environ,
            **trusted,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "AWS_ENDPOINT_URL_KMS": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKID",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def data_keys(self) -> list[bytes]:
        lines = (self.folder / "keys").read_text().splitlines()
        return list({bytes.fromhex(line.split()[1]): None for line in lines})

    @contextmanager
    def program(self, scenario: str, count: int, folder: Path, *broken: str) -> Iterator[int]:
        """Run a program that uses sealwax; yield the id of the process that waits: its own, or a child's."""
        command = [sys.executable, "-m", "tests.memory.program", scenario, str(count), str(folder), *broken]
        with subprocess.Popen(
            command, env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            done, _, pid = process.stdout.readline().partition(b" ")
            assert done == b"done"
            yield int(pid)
            process.stdin.write(b"\n")
        assert process.returncode == 0

    def hits(self, scenario: str, count: int, folder: Path, *broken: str) -> Counter[str]:
        """Run a program, and count the secrets of all its envelopes in its memory."""
        from tests.memory.program import CONTEXT, KEEPS_A_KEY, NEEDS_FILES

        known = set(self.data_keys()) if (self.folder / "keys").exists() else set()
        if scenario in NEEDS_FILES:
            with self.program("encrypt", count, folder):
                pass
        with self.program(scenario, count, folder, *broken) as pid:
            data_keys = [key for key in self.data_keys() if key not in known]
            derived = [derive(file.read_bytes(), data_keys, CONTEXT) for file in sorted(folder.glob("*.swx"))]
            if scenario in KEEPS_A_KEY:
                data_keys = [data_key for data_key, _, _, _ in derived]
            assert len(data_keys) >= (1 if scenario.startswith("cache_") else count)
            secrets = {
                "data key": data_keys,
                "payload key": [key for _, key, _, _ in derived],
                "base nonce": [nonce for _, _, nonce, _ in derived],
                "key of the witness": [key for _, _, _, key in derived],
            }
            return scan.process(pid, secrets)


def derive(sealed: bytes, data_keys: list[bytes], context: dict[str, str]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return an envelope's data key, whose commitment fits, its payload key, its base nonce and its witness's key."""
    header = envelope.header_of_value(sealed)
    preamble = header.preamble
    head = sealed[preamble.payload_offset :][: payload.HEAD_BYTES]
    info = payload.info(preamble.suite, preamble.envelope_id, encode(context), encode({}))
    for data_key in data_keys:
        derived = HKDFExpand(hashes.SHA512(), 76, payload.LABEL + head[: payload.SALT_BYTES] + info).derive(data_key)
        if derived[44:] == head[payload.SALT_BYTES :]:
            key = HKDFExpand(hashes.SHA512(), 32, witness.LABEL + info).derive(data_key)
            return data_key, derived[:32], derived[32:44], key
    raise AssertionError("no data key fits the envelope")


@pytest.fixture(scope="session", params=["http", "https"])
def kms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    folder = tmp_path_factory.mktemp("kms")
    tls = certificate(folder) if request.param == "https" else []
    command = [sys.executable, str(Path(__file__).with_name("kms_server.py")), str(folder / "keys"), *tls]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield Kms(folder, f"{request.param}://127.0.0.1:{port}")
        server.terminate()
