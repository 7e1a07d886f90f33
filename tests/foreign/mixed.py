"""A mixed set of files and objects: what sealwax migrates, what it leaves alone, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite, CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

import sealwax
from tests.foreign import scripts
from tests.foreign.objects import CONTEXT, World
from tests.foreign.test_real_messages import serving

# Everything is allowed that has to be named.
ALLOWED: Final = (
    *("--format", "boto3-fernet", "--drop-signature"),
    *(
        word
        for name in (
            *("esdk-0014", "esdk-0046", "esdk-0078", "esdk-0114", "esdk-0146", "esdk-0178", "esdk-0214", "esdk-0346"),
            *("esdk-0378", "s3ec-v2", "s3ec-kms", "envkms01"),
        )
        for word in ("--allow-legacy", name)
    ),
)
SIZES: Final = (0, 1, 4096, 100_000)


@dataclass(frozen=True)
class Sample:
    """One file.

    Attributes:
        data: its bytes.
        plaintext: what it holds; None if it is not migrated.
        format: as JSON names it.
        refusal: the class of the error, or why it is skipped.
    """

    data: bytes
    plaintext: bytes | None = None
    format: str = ""
    refusal: str = ""


def messages(world: World) -> dict[str, Sample]:
    """Messages of the real SDK in each suite, framed and not."""
    samples = {}
    with serving(world.lab) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in {**world.server.environment, "AWS_ENDPOINT_URL_KMS": server.url}.items():
            patch.setenv(name, value)
        session: Any = boto3.Session()._session
        provider = StrictAwsKmsMasterKeyProvider(key_ids=[world.old], botocore_session=session)
        for number, suite in enumerate(AlgorithmSuite):
            commits = suite.algorithm_id >= 0x0400
            policy = "REQUIRE_ENCRYPT_REQUIRE_DECRYPT" if commits else "FORBID_ENCRYPT_ALLOW_DECRYPT"
            client = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=getattr(CommitmentPolicy, policy))
            for framed in (False, True):
                plaintext = os.urandom(SIZES[(number + framed) % len(SIZES)])
                message, _ = client.encrypt(
                    source=plaintext,
                    key_provider=provider,
                    algorithm=suite,
                    frame_length=1024 if framed else 0,
                    encryption_context=dict(CONTEXT),
                )
                name = f"esdk-{suite.algorithm_id:04x}"
                samples[f"{name}-{framed}"] = Sample(message, plaintext, name)
    return samples


def files(world: World, samples: Mapping[str, Sample]) -> dict[str, Sample]:
    """Everything that a folder can hold, the messages included."""
    assert len(samples) == 22
    signed, old = samples["esdk-0578-True"].data, samples["esdk-0178-True"].data
    envkms = scripts.envkms(world.lab, "alias/old", b"an old script", CONTEXT)
    guide = scripts.guide(world.lab, "alias/old", b"the guide")
    sealer = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session()))
    return {
        **samples,
        "envkms": Sample(envkms, b"an old script", "envkms01"),
        "guide": Sample(guide, b"the guide", "boto3-fernet"),
        "envelope": Sample(sealer.encrypt(b"x", context=CONTEXT), refusal="it is already an envelope"),
        "plain": Sample(b"plain text\n", refusal="it is of no encrypted format that is known"),
        "empty": Sample(b"", refusal="it is of no encrypted format that is known"),
        "wrong signature": Sample(signed[:-1] + bytes([signed[-1] ^ 1]), refusal="TamperedError"),
        "no signature": Sample(signed[:-103], refusal="TamperedError"),
        "trailing": Sample(old + b"x", refusal="TamperedError"),
        "cut": Sample(old[:-40], refusal="TamperedError"),
        "cut header": Sample(old[:60], refusal="DamagedHeaderError"),
        "cut script": Sample(envkms[:20], refusal="DamagedHeaderError"),
        "short script": Sample(envkms[:-1], refusal="TamperedError"),
        "changed token": Sample(guide[:-30] + b"AAAA" + guide[-26:], refusal="TamperedError"),
        "other context": Sample(
            scripts.envkms(world.lab, "alias/old", b"x", {"tenant": "other"}), refusal="ContextError"
        ),
        "other key": Sample(scripts.envkms(world.lab, "alias/new", b"x", CONTEXT), refusal="WrongKeyError"),
        "sops": Sample(
            b'{"a": "ENC[AES256_GCM,data:x]", "sops": {"mac": "ENC[AES256_GCM,y]"}}', refusal="NotAnEnvelopeError"
        ),
    }


def objects(world: World, messages: Mapping[str, Sample], prefix: str) -> dict[str, Sample]:
    """Put everything that a bucket can hold below a prefix."""
    samples = {}
    for name, how in OBJECTS.items():
        plaintext = os.urandom(70_000)
        made = world.put(f"{prefix}{name}", plaintext, **how)
        samples[name] = Sample(made.body, plaintext, FORMATS.get(name, "s3ec-v3"))
        if made.instructions is not None:
            samples[f"{name}.instruction"] = Sample(b"", refusal="it is the instruction file of another object")
    cbc = world.put(f"{prefix}cbc", b"data", version=2, cipher="AES/CBC/PKCS5Padding")
    samples["cbc"] = Sample(cbc.body, refusal="UnsupportedEnvelopeError")
    for name, change in DAMAGED.items():
        made = world.make(b"some data")
        metadata = {**made.metadata, **change}
        body = made.body[:-1] if name == "short" else made.body
        world.s3.put_object(Bucket="bucket", Key=f"{prefix}{name}", Body=body, Metadata=metadata)
        kinds = {"short": "TamperedError", "commitment": "CommitmentError", "two versions": "NotAnEnvelopeError"}
        kind = kinds.get(name, "DamagedHeaderError")
        samples[name] = Sample(body, refusal=kind)
    for name, sample in files(world, messages).items():
        world.s3.put_object(Bucket="bucket", Key=f"{prefix}{name}", Body=sample.data)
        samples[name] = sample
    script = scripts.envkms(world.lab, "alias/old", b"x", CONTEXT)
    world.s3.put_object(Bucket="bucket", Key=f"{prefix}both", Body=script, Metadata=world.make(b"x").metadata)
    return samples | {"both": Sample(script, refusal="NotAnEnvelopeError")}


OBJECTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "v2": {"version": 2},
    "v2 kms": {"version": 2, "wrapping": "kms"},
    "v3": {"version": 3},
    "v2 beside": {"version": 2, "instructions": True},
    "v3 beside": {"version": 3, "instructions": True},
}
FORMATS: Final = {"v2": "s3ec-v2", "v2 beside": "s3ec-v2", "v2 kms": "s3ec-kms"}
DAMAGED: Final[Mapping[str, Mapping[str, str]]] = {
    "short": {},
    "commitment": {
        "x-amz-d": "A" * 38 + "==",
    },
    "two versions": {"x-amz-key-v2": "AAAA"},
    "no json": {"x-amz-t": "x"},
}
