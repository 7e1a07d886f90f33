"""Where moto does as KMS does, the lab and moto give the same answers to the same random requests."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from sealwax.lab import Lab

contexts = st.dictionaries(st.sampled_from(["a", "A", "b"]), st.sampled_from(["x", "X", ""]), max_size=2)
keys = st.integers(0, 1)
steps = st.one_of(
    st.tuples(st.just("generate"), keys, contexts, st.sampled_from([{"KeySpec": "AES_128"}, {"NumberOfBytes": 7}])),
    st.tuples(st.just("encrypt"), keys, contexts, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("decrypt"), st.integers(0, 5), contexts),
    st.tuples(st.just("reencrypt"), st.integers(0, 5), keys, contexts, contexts),
    st.tuples(st.just("alias"), keys, st.sampled_from(["alias/a", "alias/b", "d"])),
    st.tuples(st.just("through alias"), st.sampled_from(["alias/a", "alias/b", "alias/missing"])),
)


class Run:
    """The steps on one client: what was said, with keys by number and blobs kept."""

    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        self.blobs: list[bytes] = []

    def step(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self, name.replace(" ", "_"))(*arguments)
        except ClientError as error:
            return error.response["Error"]["Code"]

    def number(self, arn: str) -> int:
        return self.keys.index(arn)

    def generate(self, key: int, context: dict[str, str], size: dict[str, Any]) -> Any:
        made = self.kms.generate_data_key(KeyId=self.keys[key], EncryptionContext=context, **size)
        self.blobs.append(made["CiphertextBlob"])
        opened = self.kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
        return len(made["Plaintext"]), self.number(made["KeyId"]), opened["Plaintext"] == made["Plaintext"]

    def encrypt(self, key: int, context: dict[str, str], plaintext: bytes) -> Any:
        made = self.kms.encrypt(KeyId=self.keys[key], EncryptionContext=context, Plaintext=plaintext)
        self.blobs.append(made["CiphertextBlob"])
        return self.number(made["KeyId"])

    def decrypt(self, blob: int, context: dict[str, str]) -> Any:
        if blob >= len(self.blobs):
            return None
        opened = self.kms.decrypt(CiphertextBlob=self.blobs[blob], EncryptionContext=context)
        return len(opened["Plaintext"]), self.number(opened["KeyId"])

    def reencrypt(self, blob: int, key: int, context: dict[str, str], target: dict[str, str]) -> Any:
        if blob >= len(self.blobs):
            return None
        moved = self.kms.re_encrypt(
            CiphertextBlob=self.blobs[blob],
            SourceEncryptionContext=context,
            DestinationKeyId=self.keys[key],
            DestinationEncryptionContext=target,
        )
        self.blobs[blob] = moved["CiphertextBlob"]
        return self.number(moved["SourceKeyId"]), self.number(moved["KeyId"])

    def alias(self, key: int, name: str) -> Any:
        self.kms.create_alias(AliasName=name, TargetKeyId=self.keys[key])
        return sorted(
            alias["AliasName"]
            for alias in self.kms.list_aliases()["Aliases"]
            if not alias["AliasName"].startswith("alias/aws/")
        )

    def through_alias(self, name: str) -> Any:
        return self.number(self.kms.encrypt(KeyId=name, Plaintext=b"x")["KeyId"])


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(steps, min_size=1, max_size=12))
def test_the_lab_and_moto_agree(tmp_path_factory: Any, said: list[Any]) -> None:
    with mock_aws(), Lab(tmp_path_factory.mktemp("moto") / "lab") as lab:
        moto = Run(boto3.client("kms", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"))
        ours = Run(lab.session(account="111122223333").client("kms"))
        for step in said:
            assert ours.step(*step) == moto.step(*step), step
