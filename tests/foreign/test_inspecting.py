"""``inspect`` describes messages of the AWS Encryption SDK, and objects of the S3 Encryption Client."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from fuzz.esdk import message

import sealwax
from sealwax import MessageInspection, ObjectInspection
from sealwax._core.foreign.esdk.suites import SUITES
from tests.foreign import esdk, s3ec, samples
from tests.foreign.s3ec import CBC, GCM
from tests.foreign.test_esdk_peers import theirs

CONTEXT = {"purpose": "backup"}
SIZES = (0, 1, 255, 256, 257, 511, 512, 1000)


class Pipe(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with memoryview(buffer) as view:
            return self._file.readinto(view[:100])


class Object(io.BytesIO):
    """An object of a store, with its metadata and its instruction file."""

    name = "s3://mail/x"

    def __init__(self, data: bytes, metadata: dict[str, str], instructions: bytes | None = None) -> None:
        super().__init__(data)
        self.metadata = metadata
        self._instructions = instructions

    def instructions(self) -> bytes | None:
        return self._instructions


def inspected(source: Any) -> MessageInspection:
    found = sealwax.inspect(source)
    assert isinstance(found, MessageInspection)
    return found


def test_messages_of_every_suite_in_every_way(tmp_path: Path) -> None:
    seen = 0
    for suite in SUITES.values():
        for frame_length in (0, 256):
            for size in SIZES:
                data = message(suite.id, bytes(size), frame_length)
                path = tmp_path / "x"
                path.write_bytes(data)
                beside = io.BytesIO(b"before" + data)
                beside.seek(6)
                for source in (data, memoryview(data), path, beside):
                    found = inspected(source)
                    assert found.plaintext_bytes == size, (suite, frame_length, size)
                    assert found.frame_bytes == frame_length
                    assert found.suite == f"{suite.id:04x}"
                    assert found.signed == (suite.signature is not None)
                    assert (found.allow_legacy is None) == suite.committing
                    assert found.context == {}
                    assert found.as_dict() == json.loads(json.dumps(found.as_dict()))
                    seen += 1
                streamed = inspected(cast("BinaryIO", Pipe(data)))
                # Where a signature begins is told by the end of the message.
                told = not (frame_length and suite.signature)
                assert streamed.plaintext_bytes == (size if told else None)
                assert streamed.payload_bytes == found.payload_bytes
    assert seen == 11 * 2 * len(SIZES) * 4


def test_what_a_stream_began_with_is_not_taken_for_its_end() -> None:
    """Of a stream 64 bytes of the body are kept; here they end like a signature of one byte."""
    body = message(0x0578, b"", 256)
    start = len(body) - inspected(body).payload_bytes
    body = body[: start + 61] + b"\0\1" + body[start + 63 :]
    assert inspected(cast("BinaryIO", Pipe(body))).plaintext_bytes is None


@pytest.mark.filterwarnings("ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning")
def test_messages_of_the_real_sdk() -> None:
    from aws_encryption_sdk.identifiers import AlgorithmSuite

    for suite in (AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384, AlgorithmSuite.AES_256_GCM_IV12_TAG16):
        for frame_length in (0, 128):
            for size in (0, 128, 300):
                found = inspected(theirs(os.urandom(size), suite, frame_length, CONTEXT))
                assert (found.plaintext_bytes, found.context) == (size, CONTEXT)
                assert (found.wrapped_keys, found.others) == ((), (esdk.NAMESPACE,))


def test_what_is_cut_off_has_no_known_size() -> None:
    for suite in (0x0478, 0x0578):
        for frame_length in (0, 256):
            data = message(suite, bytes(1000), frame_length)
            assert inspected(data[:-240]).plaintext_bytes is None


def test_who_wrapped_it() -> None:
    found = inspected(samples.esdk(("aws-kms", samples.ARN), ("raw", "\u00e9"), context=CONTEXT))
    assert [key.key_arn for key in found.wrapped_keys] == [samples.ARN]
    assert found.others == ("raw",)
    keys = found.as_dict()["wrapped_keys"]
    assert [key["key_arn"] for key in keys] == [samples.ARN, None]
    assert keys[1]["key_info"] == "\u00e9"
    assert keys[0]["ciphertext_blob"] == base64.b64encode(samples.aws_blob()).decode()
    assert "esdk-v2, suite 0478" in repr(found)
    with pytest.raises(sealwax.NotAnEnvelopeError):
        sealwax.inspect(base64.b64encode(samples.esdk(("aws-kms", samples.ARN))))


def test_objects() -> None:
    blob = samples.aws_blob()
    fields = samples.s3ec(3, blob)
    found = sealwax.inspect(cast("BinaryIO", Object(bytes(116), fields)))
    assert isinstance(found, ObjectInspection)
    assert (found.format, found.plaintext_bytes, found.allow_legacy) == ("s3ec-v3", 100, None)
    assert [key.ciphertext for key in found.wrapped_keys] == [blob]
    assert found.as_dict() == json.loads(json.dumps(found.as_dict()))
    assert found.as_dict()["wrapped_keys"][0]["key_arn"] is None
    assert "s3ec-v3" in repr(found)
    fields = samples.s3ec(2, blob)
    for cipher, allow in ((GCM, "s3ec-v2"), (CBC, None)):
        iv = base64.b64encode(bytes(12 if cipher == GCM else 16)).decode()
        fields |= {"x-amz-cek-alg": cipher, "x-amz-iv": iv, "x-amz-matdesc": json.dumps({s3ec.CIPHER: cipher})}
        if cipher == CBC:
            del fields["x-amz-tag-len"]
        found = sealwax.inspect(cast("BinaryIO", Object(bytes(112), fields)))
        assert isinstance(found, ObjectInspection)
        assert (found.cipher, found.allow_legacy) == (cipher, allow), "nothing allows to read AES-CBC"


def test_contradictions_are_refused() -> None:
    fields = samples.s3ec(3, samples.aws_blob())
    for data in (samples.esdk(("aws-kms", samples.ARN)),):
        with pytest.raises(sealwax.NotAnEnvelopeError, match="contradiction"):
            sealwax.inspect(cast("BinaryIO", Object(data, fields)))
    with pytest.raises(sealwax.DamagedHeaderError, match="contradiction"):
        sealwax.inspect(cast("BinaryIO", Object(bytes(116), fields, json.dumps(fields).encode())))
