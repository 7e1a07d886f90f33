"""After other formats were read or written, none of their keys is in the process's memory: counted from outside."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core.foreign.esdk.header import header_of
from tests.foreign.s3ec import make
from tests.foreign.scripts import sized
from tests.memory import scan
from tests.memory.conftest import ROOT, Kms
from tests.memory.kms_server import WRAPPING_KEY, arn
from tests.memory.program import CONTEXT, TEXT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem"),
    pytest.mark.parametrize("kms", ["http"], indirect=True),
]
FOREIGN = "sealwax._core.foreign."
KEYS = "sealwax._core.keyring"
# In which modules something of a format is wiped.
WIPES = {
    "s3ec": (KEYS, f"{FOREIGN}s3ec.opening"),
    "esdk": (KEYS, f"{FOREIGN}esdk.opening", f"{FOREIGN}esdk.writing"),
    "scripts": (KEYS, f"{FOREIGN}scripts"),
}


class Maker:
    """Wraps data keys as the server does, in this process: the one that is looked through has not seen them."""

    def __init__(self) -> None:
        self.data_keys: list[bytes] = []

    def generate_data_key(self, *, KeyId: str, KeySpec: str, EncryptionContext: Mapping[str, str]) -> dict[str, bytes]:  # noqa: N803
        assert KeySpec == "AES_256"
        data_key, nonce = os.urandom(32), os.urandom(12)
        self.data_keys.append(data_key)
        bound = json.dumps([arn(KeyId, "us-east-1"), sorted(EncryptionContext.items())]).encode()
        blob = nonce + WRAPPING_KEY.encrypt(nonce, data_key, bound) + bytes(8)  # as long as one is at least
        return {"Plaintext": data_key, "CiphertextBlob": blob}

    def key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        made = self.generate_data_key(KeyId="alias/one", KeySpec="AES_256", EncryptionContext=context)
        return made["Plaintext"], made["CiphertextBlob"]


def put_objects(folder: Path) -> list[bytes]:
    """Return the secrets of the objects: data keys, and what version 3 derives from them."""
    maker, secrets = Maker(), []
    for version in (2, 3):
        made = make(maker, "alias/one", TEXT, CONTEXT, version=version)
        (folder / str(version)).write_bytes(made.body)
        (folder / f"{version}.json").write_text(json.dumps(made.metadata))
        if version == 3:
            extracted = hmac.digest(base64.b64decode(made.metadata["x-amz-i"]), maker.data_keys[-1], "sha512")
            derived = hmac.digest(extracted, b"\0sDERIVEKEY\1", "sha512")[:32]
            AESGCM(derived).decrypt(b"\1" * 12, made.body, b"\0s")
            secrets += [extracted[:32], extracted[32:], derived]
    return [*maker.data_keys, *secrets]


def put_scripts(folder: Path) -> list[bytes]:
    """Return the secrets of the files: data keys, and the halves of the one that a Fernet token uses."""
    maker = Maker()
    data_key, blob = maker.key(CONTEXT)
    sealed = AESGCM(data_key).encrypt(bytes(12), TEXT, None)
    text = json.dumps(CONTEXT).encode()
    (folder / "envkms01").write_bytes(b"ENVKMS01" + sized(blob) + sized(text) + bytes(12) + sealed)
    halves, blob = maker.key({})
    token = Fernet(base64.urlsafe_b64encode(halves)).encrypt(TEXT)
    (folder / "boto3-fernet").write_bytes(sized(blob) + token)
    inner, outer = (bytes(byte ^ pad for byte in halves[:16]) + bytes((pad,)) * 16 for pad in (0x36, 0x5C))
    return [*maker.data_keys, halves[:16], halves[16:], inner, outer]


def of_messages(folder: Path, data_keys: list[bytes]) -> list[bytes]:
    """Return the secrets of the messages that were written: what is derived from their data keys."""
    secrets = []
    for path in sorted(folder.glob("*.esdk")):
        header = header_of(path.read_bytes())
        for data_key in data_keys:
            extracted = hmac.digest(header.message_id, data_key, hashlib.sha512)
            if hmac.digest(extracted, b"COMMITKEY\1", "sha512")[:32] == header.commitment:
                secrets += [extracted[:32], extracted[32:]]
                secrets += [hmac.digest(extracted, b"\4\x78DERIVEKEY\1", "sha512")[:32]]
    assert len(secrets) == 6
    return secrets


def hits(kms: Kms, scenario: str, folder: Path, *unwiped: str) -> Counter[str]:
    folder.mkdir()
    known = set(kms.data_keys()) if (kms.folder / "keys").exists() else set()
    secrets: list[bytes] = []
    if scenario != "esdk":
        secrets = (put_objects if scenario == "s3ec" else put_scripts)(folder)
    command = [sys.executable, "-m", "tests.memory.foreign", scenario, str(folder), *unwiped]
    with subprocess.Popen(
        command, env=kms.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        done, _, pid = process.stdout.readline().partition(b" ")
        assert done == b"done"
        data_keys = [key for key in kms.data_keys() if key not in known]
        assert len(data_keys) == 2
        if scenario == "esdk":
            secrets = [*data_keys, *of_messages(folder, data_keys)]
        else:
            assert set(data_keys) == set(secrets[:2])
        found = scan.process(int(pid), {"key": secrets})
        process.stdin.write(b"\n")
    assert process.returncode == 0
    return found


@pytest.mark.parametrize("scenario", WIPES)
def test_nothing_is_left(kms: Kms, scenario: str, tmp_path: Path) -> None:
    assert hits(kms, scenario, tmp_path / "here") == {}


@pytest.mark.parametrize(
    ("scenario", "module"),
    [
        pytest.param(scenario, module, marks=[] if module.endswith("s3ec.opening") else pytest.mark.soak)
        for scenario, modules in WIPES.items()
        for module in modules
    ],
)
def test_each_wipe_is_needed(kms: Kms, scenario: str, module: str, tmp_path: Path) -> None:
    assert hits(kms, scenario, tmp_path / "here", module)["key raw"]
