"""A lost library is no lost data: boto3, cryptography and a page of code open what sealwax sealed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

import sealwax
from sealwax.lab import Lab, Server
from tests.interop import open_without_sealwax as opener

PROGRAM = Path(opener.__file__)
CONTEXT = {"purpose": "backup", "name": "Käthe 🔒"}
TEXTS = [b"", b"x", b"y" * 16384, b"z" * 40_000, b"large" * 300_000]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="demo")
        lab.create_key(alias="demo2")
        yield lab


@pytest.mark.parametrize("plaintext", TEXTS, ids=[f"{len(text)} bytes" for text in TEXTS])
def test_it_opens(plaintext: bytes, lab: Lab, tmp_path: Path) -> None:
    session = lab.session()
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=session), local_context=("name",))
    path = tmp_path / "file.swx"
    with sealer.open(path, "wb", context=CONTEXT) as file:
        file.write(plaintext)
    assert opener.open_envelope(path.read_bytes(), CONTEXT, session) == plaintext
    sealer.rewrap(path, to="alias/demo2", context={"purpose": "backup"})
    assert opener.open_envelope(path.read_bytes(), CONTEXT, session) == plaintext
    with pytest.raises(ValueError, match="does not belong"):
        opener.open_envelope(path.read_bytes(), CONTEXT | {"name": "else"}, session)
    damaged = path.read_bytes()[:-1] + bytes((path.read_bytes()[-1] ^ 1,))
    with pytest.raises(InvalidTag):
        opener.open_envelope(damaged, CONTEXT, session)


def test_as_a_program_against_the_labs_server(lab: Lab, tmp_path: Path) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=lab.session()))
    path = tmp_path / "file.swx"
    path.write_bytes(sealer.encrypt(TEXTS[3], context=CONTEXT))
    server = Server(lab, host="127.0.0.1", port=0, tls=None)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        settings = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_ENDPOINT_URL_KMS": server.url}
        done = subprocess.run(
            [sys.executable, PROGRAM, path, *(f"{key}={value}" for key, value in CONTEXT.items())],
            env=os.environ | settings,
            capture_output=True,
            check=False,
        )
    finally:
        server.close()
        thread.join()
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == TEXTS[3]


def test_it_does_without_sealwax() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"boto3", "cryptography"}
