"""A second opinion: moto's KMS, where it does what AWS KMS does."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

import sealwax

CONTEXT = {"purpose": "backup"}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    with mock_aws():
        yield boto3.Session(region_name="eu-west-1")


def _key(session: boto3.Session, alias: str) -> str:
    client = session.client("kms")
    arn = client.create_key()["KeyMetadata"]["Arn"]
    client.create_alias(AliasName=alias, TargetKeyId=arn)
    return arn


def test_seal_open_and_rewrap(session: boto3.Session) -> None:
    old, new = _key(session, "alias/old"), _key(session, "alias/new")
    for name in ("alias/old", old, old.rpartition("/")[2]):
        sealer = sealwax.Sealer(sealwax.KmsKeyring(name, session=session))
        sealed = sealer.encrypt(b"secret", context=CONTEXT)
        assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"
        assert [key.key_arn for key in sealwax.inspect(sealed).wrapped_keys] == [old]
        rewrapped = sealer.rewrap(sealed, to="alias/new", context=CONTEXT)
        assert [key.key_arn for key in sealwax.inspect(rewrapped).wrapped_keys] == [new]
        with pytest.raises(sealwax.KmsError):
            sealer.decrypt(rewrapped, context=CONTEXT)
        assert sealwax.Sealer(sealwax.KmsKeyring(new, session=session)).decrypt(rewrapped, context=CONTEXT) == b"secret"


def test_a_wrapped_key_in_another_context(session: boto3.Session) -> None:
    key = _key(session, "alias/old")
    keyring = sealwax.KmsKeyring(key, session=session)
    wrapped = keyring.generate(CONTEXT, lambda _, wrapped_keys: wrapped_keys)
    with pytest.raises(sealwax.WrappedKeyRefusedError):
        keyring.unwrap(wrapped, {"purpose": "else"}, lambda _: None)


def test_a_key_that_is_not_there(session: boto3.Session) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/missing", session=session))
    with pytest.raises(sealwax.KeyNotFoundError):
        sealer.encrypt(b"secret", context=CONTEXT)


def test_a_client_instead_of_a_session(session: boto3.Session) -> None:
    key = _key(session, "alias/old")
    client = session.client("kms")
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/old", client=client))
    assert sealer.decrypt(sealer.encrypt(b"secret", context=CONTEXT), context=CONTEXT) == b"secret"
    # The client goes on to work as its owner knows it.
    answer = client.generate_data_key(KeyId=key, KeySpec="AES_256")
    assert isinstance(answer["Plaintext"], bytes)
    assert len(answer["Plaintext"]) == 32
    elsewhere = sealwax.KmsKeyring(key.replace("eu-west-1", "us-east-1"), client=client)
    with pytest.raises(sealwax.ConfigurationError, match="eu-west-1"):
        sealwax.Sealer(elsewhere).encrypt(b"secret", context=CONTEXT)
