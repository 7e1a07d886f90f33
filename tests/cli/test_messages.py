"""``decrypt`` and ``verify`` read messages of the AWS Encryption SDK as they read envelopes."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite

from sealwax._core.foreign.esdk import writing
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.cli import run
from sealwax.lab import Lab
from tests.foreign.test_esdk_peers import theirs

CONTEXT = {"purpose": "backup"}
DATA = os.urandom(3 << 20)
GIVEN = ["-k", "alias/k", "-c", "purpose=backup"]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALWAX_LAB", str(tmp_path / "lab"))
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="k")
        lab.create_key(alias="other")
        yield lab


def message(lab: Lab, data: bytes) -> bytes:
    made = lab.session().client("kms").generate_data_key(KeyId="alias/k", KeySpec="AES_256", EncryptionContext=CONTEXT)
    with DataKey(bytearray(made["Plaintext"])) as data_key:
        wrapped = (WrappedKey(made["KeyId"], made["CiphertextBlob"]),)
        return writing.encrypt(writing.MessageEncryptor(data_key, CONTEXT, wrapped), data)


@pytest.mark.parametrize("size", [0, 20, len(DATA)])
def test_files(lab: Lab, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    Path("x.esdk").write_bytes(message(lab, DATA[:size]))
    assert run(["verify", *GIVEN, "x.esdk"]) == 0
    assert f"authentic, {size} bytes" in capfd.readouterr().err
    assert run(["decrypt", *GIVEN, "x.esdk", "-o", "x"]) == 0
    assert Path("x").read_bytes() == DATA[:size]


def test_a_range(lab: Lab) -> None:
    Path("x.esdk").write_bytes(message(lab, DATA))
    assert run(["decrypt", *GIVEN, "--range", "1000000:1000010", "x.esdk", "-o", "x"]) == 0
    assert Path("x").read_bytes() == DATA[1_000_000:1_000_010]


@pytest.mark.parametrize(("suite", "frame_length"), [(0x0578, 4096), (0x0478, 0), (0x0378, 128)])
def test_no_range_of_what_is_authentic_only_as_a_whole(
    lab: Lab, suite: int, frame_length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Told from the header: KMS is not asked, and a large message is not read to its end first."""
    algorithm = next(each for each in AlgorithmSuite if each.algorithm_id == suite)
    Path("x.esdk").write_bytes(theirs(DATA[:100], algorithm, frame_length, CONTEXT))
    raw = Path("x.esdk").read_bytes()
    assert b"tests" in raw
    Path("x.b64").write_bytes(base64.b64encode(raw))
    before = len(list(lab.trail.events()))
    for source in (["x.esdk"], ["--armor", "x.b64"]):
        assert run(["decrypt", *GIVEN, "--range", "0:10", *source, "-o", "x"]) == 4
        assert "nothing of this one is authentic before its end; decrypt all of it" in capfd.readouterr().err
    assert not Path("x").exists()
    assert len(list(lab.trail.events())) == before


def test_a_pipe(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    data = message(lab, DATA[:10_000])
    os.write(write, data)
    os.close(write)
    with os.fdopen(read) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run(["decrypt", *GIVEN, "-", "-o", "x"]) == 0
    assert Path("x").read_bytes() == DATA[:10_000]


@pytest.mark.parametrize(
    ("change", "options", "status"),
    [
        (lambda data: data[:-1], GIVEN, 5),
        (lambda data: data[: -10 * (4096 + 32)], GIVEN, 5),
        (lambda data: data + b"x", GIVEN, 5),
        (lambda data: data[:50], GIVEN, 4),
        (lambda data: data, ["-k", "alias/k", "-c", "purpose=other"], 6),
        (lambda data: data, ["-k", "alias/k", "--no-context"], 6),
        (lambda data: data, ["-k", "alias/other", "-c", "purpose=backup"], 7),
    ],
)
def test_what_is_refused_leaves_no_file(lab: Lab, change: object, options: list[str], status: int) -> None:
    assert callable(change)
    Path("x.esdk").write_bytes(change(message(lab, DATA)))
    before = sorted(path.name for path in Path().iterdir())
    assert run(["decrypt", *options, "x.esdk", "-o", "x"]) == status
    assert run(["verify", *options, "x.esdk"]) == status
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.mark.usefixtures("lab")
def test_old_suites_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    """One that no KMS key wrapped: it is not reached before it is allowed."""
    header = b"\1\x80\1\x78" + bytes(16) + b"\0\0\0\1\0\3raw\0\0\0\0\2" + bytes(4) + b"\x0c\0\0\x10\0" + bytes(28)
    Path("x.esdk").write_bytes(header + bytes(100))
    assert run(["verify", "-k", "alias/k", "--no-context", "x.esdk"]) == 4
    assert "esdk-0178" in capfd.readouterr().err
    assert run(["verify", "-k", "alias/k", "--no-context", "--allow-legacy", "esdk-0146", "x.esdk"]) == 4
    assert "esdk-0178" in capfd.readouterr().err
    assert run(["verify", "-k", "alias/k", "--no-context", "--allow-legacy", "esdk-0178", "x.esdk"]) == 7
    assert "'raw'" in capfd.readouterr().err
    assert run(["verify", "-k", "alias/k", "--no-context", "--allow-legacy", "all", "x.esdk"]) == 2
