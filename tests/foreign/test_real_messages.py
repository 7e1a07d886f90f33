"""Messages that the real AWS Encryption SDK has written, under every suite, are recognized with their keys."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite, CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax.fleet._usage import find_users
from sealwax.lab import Lab, Server

# From Python 3.13 on, the errors of a file that nobody closed are told: the SDK leaves such files behind.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)


@contextlib.contextmanager
def serving(lab: Lab) -> Iterator[Server]:
    server = Server(lab)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def test_every_suite_framed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lab(tmp_path / "lab") as lab, serving(lab) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        session: Any = boto3.Session()._session
        keys = [lab.create_key()["Arn"] for _ in range(3)]
        provider = StrictAwsKmsMasterKeyProvider(key_ids=keys[:2], botocore_session=session)
        sdk = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT)
        committing = aws_encryption_sdk.EncryptionSDKClient()
        (tmp_path / "data").mkdir()
        made = 0
        for suite in AlgorithmSuite:
            is_committing = suite.algorithm_id >= 0x0400
            for frame_length in (0, 4096):
                message, _ = (committing if is_committing else sdk).encrypt(
                    source=b"data",
                    key_provider=provider,
                    algorithm=suite,
                    frame_length=frame_length,
                    encryption_context={"purpose": "backup"},
                )
                with pytest.raises(sealwax.NotAnEnvelopeError) as caught:
                    inspect_envelope(message)
                found = caught.value.foreign
                assert found is not None
                version = 2 if is_committing else 1
                assert (found.format, set(found.keys), found.complete) == (f"esdk-v{version}", set(keys[:2]), True)
                made += 1
        assert made == 22
        (tmp_path / "data" / "last").write_bytes(message)
        usages = [find_users([str(tmp_path / "data")], key) for key in keys]
    assert [(usage.under, usage.elsewhere, usage.unknown) for usage in usages] == [(1, 0, 0), (1, 0, 0), (0, 1, 0)]
