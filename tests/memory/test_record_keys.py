"""When records' data keys are over, neither they nor a key derived from them are in memory: counted from outside."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from tests.memory import scan
from tests.memory.conftest import ROOT, Kms
from tests.memory.midstate import sha256_state
from tests.memory.record_keys import BITS, FIELD, SCENARIOS, SCOPE
from tests.records import index_reader, reader

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/mem"),
    pytest.mark.parametrize("kms", ["http"], indirect=True),
]


def half(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def secrets_of(data_keys: list[bytes], sealed: list[bytes]) -> dict[str, list[bytes]]:
    """Return the keys of some records: those of the halves of a record key too, which are computed one by one."""
    key_ids = {record[1:17] for record in sealed}
    used = [key for key in data_keys if reader.key_id(key, 1, 1, SCOPE) in key_ids]
    assert len(used) == len(key_ids) == 1
    field_key = reader.field_key(used[0], SCOPE, {}, FIELD)
    prefixes = {record[17:29] for record in sealed}
    assert len(prefixes) == 3
    halves = [(half(field_key, b"\0\1X\0" + each), half(field_key, b"\0\2X\0" + each)) for each in prefixes]
    return {
        "data key": used,
        "field key": [field_key],
        "record key": [first + second for first, second in halves],
        "half of a record key": [part for pair in halves for part in pair],
    }


def index_secrets_of(data_keys: list[bytes], key_id: bytes) -> dict[str, list[bytes]]:
    """Return the keys of the indexes, also as HMAC keeps one: its two states after the first block."""
    (used,) = [key for key in data_keys if reader.key_id(key, 2, 1, SCOPE) == key_id]
    key = index_reader.index_key(used, SCOPE, {}, FIELD, "exact/1", BITS)
    states = [sha256_state(bytes(byte ^ pad for byte in key.ljust(64, b"\0"))) for pad in (0x36, 0x5C)]
    return {
        "index data key": [used],
        "index key": [key],
        "padded index key": [bytes(byte ^ pad for byte in key) for pad in (0x36, 0x5C)],
        "state of an index key": [struct.pack("=8I", *state) for state in states],
    }


def hits(kms: Kms, scenario: str, folder: Path, *broken: str) -> Counter[str]:
    command = [sys.executable, "-m", "tests.memory.record_keys", scenario, str(folder), *broken]
    with subprocess.Popen(
        command, env=kms.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        done, _, pid = process.stdout.readline().partition(b" ")
        assert done == b"done"
        sealed = [bytes.fromhex(line) for line in (folder / "records").read_text().split()]
        index_key_id = bytes.fromhex((folder / "index").read_text())
        secrets = secrets_of(kms.data_keys(), sealed) | index_secrets_of(kms.data_keys(), index_key_id)
        found = scan.process(int(pid), secrets)
        process.stdin.write(b"\n")
    assert process.returncode == 0
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_left_of_records(kms: Kms, scenario: str, tmp_path: Path) -> None:
    assert hits(kms, scenario, tmp_path) == {}


def test_wiping_records_is_needed(kms: Kms, tmp_path: Path) -> None:
    found = hits(kms, "closed", tmp_path, "wipe")
    assert found["data key raw"]
    assert found["record key raw"]
    assert found["index data key raw"]
    assert found["index key raw"]


def test_keys_in_use_are_found(kms: Kms, tmp_path: Path) -> None:
    found = hits(kms, "in_use", tmp_path)
    assert {"data key raw", "index data key raw", "state of an index key raw"} <= found.keys()
