"""Our own frozen vectors, through every reader of the package, and through a second program that does not know it."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

import sealwax
from sealwax import errors
from sealwax._core import context as ctx
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from tests.kat.second_reader import pattern

T = TypeVar("T")
HERE = Path(__file__).parent
VECTORS: list[dict[str, Any]] = json.loads((HERE / "envelopes.json").read_text("utf-8"))["vectors"]
OUTCOMES = {
    "CommitmentError": 4,
    "ContextError": 7,
    "DamagedHeaderError": 49,
    "NotAnEnvelopeError": 4,
    "TamperedError": 9,
    "UnsupportedEnvelopeError": 2,
    "success": 33,
}
FROZEN = "be00af1f20d48edabd0a1be3682e2619cc62165639b4d7958246e9d9eff90b64"


class GivenKey:
    """A keyring whose every wrapped key, in any context, opens to one given data key."""

    def __init__(self, dek: str) -> None:
        self._dek = dek

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        raise NotImplementedError

    def unwrap(
        self,
        wrapped_keys: Sequence[WrappedKey],  # noqa: ARG002
        context: Mapping[str, str],  # noqa: ARG002
        use: Callable[[DataKey], T],
    ) -> T:
        with DataKey(bytearray.fromhex(self._dek)) as data_key:
            return use(data_key)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        raise NotImplementedError


def bytes_of(vector: dict[str, Any]) -> bytes:
    """Return a vector's envelope; a large one is written again under its salt, by our writer."""
    data = zlib.decompress(base64.b64decode(vector["bytes"]))
    if "salt" in vector:
        preamble = hdr.read_header(io.BytesIO(data).read).preamble
        local = {name: vector["context"][name] for name in vector["local_names"]}
        info = payload.info(preamble.suite, preamble.envelope_id, preamble.kms_context, ctx.encode(local))
        with DataKey(bytearray.fromhex(vector["dek"])) as data_key:
            encryptor = payload.Encryptor(data_key, info, bytes.fromhex(vector["salt"]))
            data += payload.encrypt(encryptor, b"", pattern(vector["plaintext_bytes"]))
    assert hashlib.sha256(data).hexdigest() == vector["sha256"]
    return data


class Pipe(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._data.readinto(memoryview(buffer)[:5000])


def decrypt(sealer: sealwax.Sealer, data: bytes, context: Any, header: bytes | None, _: Path) -> bytes:
    return sealer.decrypt(data, context=context, header=header)


def random_access(sealer: sealwax.Sealer, data: bytes, context: Any, header: bytes | None, folder: Path) -> bytes:
    path = folder / "vector.swx"
    path.write_bytes(data)
    with sealer.open(path, "rb", context=context, header=header) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(size // 2)
        end = file.read()
        file.seek(0)
        return file.read(size // 2) + end


def one_pass(sealer: sealwax.Sealer, data: bytes, context: Any, header: bytes | None, folder: Path) -> bytes:
    path = folder / "vector.swx"
    path.write_bytes(data)
    with sealer.open_stream(path, context=context, header=header) as reader:
        return reader.readall() or b""


def pipe(sealer: sealwax.Sealer, data: bytes, context: Any, header: bytes | None, _: Path) -> bytes:
    with sealer.open(Pipe(data), "rb", context=context, header=header) as file:  # type: ignore[call-overload]
        whole: bytes = file.read()
        return whole


def verify(sealer: sealwax.Sealer, data: bytes, context: Any, header: bytes | None, _: Path) -> bytes:
    return pattern(sealer.verify(data, context=context, header=header))


@pytest.mark.parametrize("read", [decrypt, random_access, one_pass, pipe, verify])
def test_every_reader(
    read: Callable[[sealwax.Sealer, bytes, Any, bytes | None, Path], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody re-wraps these files while they are read, so the pause before another look at damaged slots is no use.
    monkeypatch.setattr("time.sleep", lambda _: None)
    outcomes: Counter[str] = Counter()
    for vector in VECTORS:
        data = bytes_of(vector)
        sealer = sealwax.Sealer(GivenKey(vector["dek"]), local_context=vector["local_names"])
        context = vector["context"] or sealwax.NO_CONTEXT
        header = None
        if vector["apart"]:
            at = hdr.read_header(io.BytesIO(data).read).preamble.payload_offset
            header, data = data[:at], data[at:]
        if vector["expect"] == "success":
            assert read(sealer, data, context, header, tmp_path) == pattern(vector["plaintext_bytes"]), vector["name"]
        else:
            with pytest.raises(sealwax.SealwaxError) as caught:
                read(sealer, data, context, header, tmp_path)
            assert type(caught.value) is getattr(errors, vector["expect"]), vector["name"]
        outcomes[vector["expect"]] += 1
    assert outcomes == OUTCOMES


def test_what_the_headers_say() -> None:
    seen = 0
    for vector in VECTORS:
        if "header" not in vector:
            continue
        data = bytes_of(vector)
        preamble = hdr.read_header(io.BytesIO(data).read).preamble
        found = inspect_envelope(data[: preamble.payload_offset] if vector["apart"] else data)
        assert found.plaintext_bytes == (None if vector["apart"] else vector["plaintext_bytes"])
        assert vector["header"] == {
            "sequence": found.header.slot.sequence,
            "finished": found.header.finished,
            "keys": [[key.provider, key.key_arn] for key in found.wrapped_keys],
        }
        seen += 1
    assert seen == OUTCOMES["success"]


def test_the_second_reader_agrees() -> None:
    program = HERE / "second_reader.py"
    done = subprocess.run(
        [sys.executable, "-I", program, HERE / "envelopes.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == OUTCOMES


def test_the_second_reader_is_one() -> None:
    tree = ast.parse((HERE / "second_reader.py").read_text("utf-8"))
    imported = {
        (node.module or "").partition(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def test_the_vectors_are_frozen() -> None:
    assert hashlib.sha256((HERE / "envelopes.json").read_bytes()).hexdigest() == FROZEN
