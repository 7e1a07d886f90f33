"""The published messages through all that a user reads with: values, files, pipes, ranges, the command line, S3.

KMS is a server that answers with the published data key, whatever key the message names.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax import errors
from sealwax._core.foreign.esdk.header import header_of
from sealwax.cli import run
from sealwax.stores.s3 import ObjectReader, Service
from tests.foreign import samples
from tests.foreign.answering import Answering
from tests.foreign.test_reading_messages import pipe
from tests.s3 import S3Session, StrictS3


@pytest.fixture(scope="module")
def s3() -> Iterator[StrictS3]:
    with StrictS3() as server:
        server.bucket()
        yield server


@pytest.fixture(scope="module")
def kms() -> Iterator[Answering]:
    with pytest.MonkeyPatch.context() as patch, Answering() as server:
        patch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        patch.setenv("AWS_DEFAULT_REGION", "us-west-2")
        yield server


def in_library(
    sealer: sealwax.Sealer, message: bytes, context: Any, s3: StrictS3, service: Service
) -> dict[str, Callable[[], bytes]]:
    Path("x").write_bytes(message)
    s3.client().put_object(Bucket="bucket", Key="x", Body=message)

    def opened(source: Any) -> bytes:
        with sealer.open(source, context=context) as reader:
            return reader.read()

    def streamed(source: Any) -> bytes:
        with sealer.open_stream(source, context=context) as reader:
            out = io.BytesIO()
            reader.write_to(out)
            return out.getvalue()

    def backwards(source: Any) -> bytes:
        with sealer.open(source, context=context) as reader:
            if not reader.seekable():
                return reader.read()
            parts = []
            for at in reversed(range(0, reader.seek(0, os.SEEK_END), 7)):
                reader.seek(at)
                parts.append(reader.read(7))
            return b"".join(reversed(parts))

    def from_s3(read: Callable[[Any], bytes]) -> bytes:
        with ObjectReader("s3://bucket/x", service=service) as source:
            return read(source)

    return {
        "value": lambda: sealer.decrypt(message, context=context),
        "file": lambda: opened("x"),
        "file, streamed": lambda: streamed("x"),
        "pipe": lambda: opened(pipe(message)),
        "pipe, streamed": lambda: streamed(pipe(message)),
        "any position": lambda: backwards("x"),
        "any position in memory": lambda: backwards(io.BytesIO(message)),
        "s3": lambda: from_s3(opened),
        "s3, streamed": lambda: from_s3(streamed),
        "s3, any position": lambda: from_s3(backwards),
    }


def on_command_line(
    arns: list[str], context: dict[str, str], message: bytes, s3: StrictS3
) -> Iterator[tuple[int, bytes]]:
    """The exit status and the output of each way."""
    Path("x.esdk").write_bytes(message)
    keys = [word for arn in arns for word in ("-k", arn)]
    pairs = [word for name, value in context.items() for word in ("-c", f"{name}={value}")] or ["--no-context"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            if "KMS" not in name:
                patch.setenv(name, value)
        for number, source in enumerate((["x.esdk"], ["s3://bucket/x"], ["-"])):
            with open("x.esdk", "rb") as file:
                read, write = os.pipe()
                os.write(write, file.read(60_000))
                os.close(write)
            with os.fdopen(read) as piped:
                patch.setattr(sys, "stdin", piped)
                status = run(["decrypt", *keys, *pairs, *source, "-o", f"out{number}"])
            out = Path(f"out{number}")
            yield status, out.read_bytes() if out.exists() else b""
            out.unlink(missing_ok=True)


def test_every_published_message(kms: Answering, s3: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session, service = kms.session(), Service(S3Session(s3.url))
    sealers: dict[tuple[str, ...], sealwax.Sealer] = {}
    seen = {"opened": 0, "refused": 0, "of no KMS key": 0}
    for vector in samples.vectors():
        message = base64.b64decode(vector["ciphertext"])
        header = header_of(message)
        arns = [key.key_arn for key in header.wrapped_keys] or [samples.ARN.replace("us-east-1", "us-west-2")]
        kms.data_key = base64.b64decode(vector["data_key"])
        context = header.caller_context or sealwax.NO_CONTEXT
        inspected = sealwax.inspect(message)
        assert not vector["opens"] or inspected.plaintext_bytes == len(vector["plaintext"].encode())
        sealer = sealers.setdefault(tuple(arns), sealwax.Sealer(sealwax.KmsKeyring(arns, session=session)))
        for way, read in in_library(sealer, message, context, s3, service).items():
            if header.wrapped_keys and vector["opens"]:
                assert read() == vector["plaintext"].encode(), (vector["comment"], way)
                continue
            kind: Any = (errors.CommitmentError, errors.AllKeysFailedError)
            with pytest.raises(kind if header.wrapped_keys else errors.KeyNotAllowedError):
                read()
        ends = list(on_command_line(arns, header.caller_context, message, s3))
        assert len(ends) == 3
        if not header.wrapped_keys:
            assert ends == [(7, b"")] * 3
            seen["of no KMS key"] += 1
        elif vector["opens"]:
            assert ends == [(0, vector["plaintext"].encode())] * 3
            seen["opened"] += 1
        else:
            assert {status for status, _ in ends} <= {5, 7}
            assert {out for _, out in ends} == {b""}
            seen["refused"] += 1
    assert seen == {"opened": 40, "refused": 4, "of no KMS key": 2}
