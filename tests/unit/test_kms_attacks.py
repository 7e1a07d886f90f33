"""What an attacker can do to the wrapped keys and their claims, against the KMS lab: who is asked, and what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

import sealwax
from sealwax._core.envelope import header_of_value
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from sealwax.lab import Lab

CONTEXT = {"purpose": "backup"}


@dataclass
class Kms:
    """The lab with two keys and an alias, and a record of what it is asked."""

    lab: Lab
    session: boto3.Session
    ours: str
    theirs: str
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def sealer(self, key: str, **options: Any) -> sealwax.Sealer:
        return sealwax.Sealer(sealwax.KmsKeyring(key, session=self.session, **options))

    def operations(self) -> list[str]:
        return [name for name, _ in self.calls]


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with Lab(tmp_path / "lab") as lab:
        session = lab.session()
        ours = lab.create_key(alias="ours")["Arn"]
        theirs = lab.create_key(alias="theirs")["Arn"]
        kms = Kms(lab, session, ours, theirs)
        session.events.register(
            "provide-client-params.kms", lambda params, model, **_: kms.calls.append((model.name, dict(params)))
        )
        yield kms


def _with_keys(sealed: bytes, change: Callable[[WrappedKey], WrappedKey]) -> bytes:
    header = header_of_value(sealed)
    old = header.preamble
    return (
        hdr.lay_out(
            envelope_id=old.envelope_id,
            kms_context=old.kms_context,
            local_pairs=old.local_pairs,
            wrapped_keys=[change(key) for key in header.slot.wrapped_keys],
            slot_count=1,
        ).to_bytes()
        + sealed[old.payload_offset :]
    )


def _id_of(arn: str) -> str:
    return arn.rpartition("/")[2]


def test_the_way_it_should_be(kms: Kms) -> None:
    for key in (kms.ours, _id_of(kms.ours), "alias/ours", kms.ours.rpartition("key/")[0] + "alias/ours"):
        kms.calls.clear()
        sealer = kms.sealer(key)
        sealed = sealer.encrypt(b"secret", context=CONTEXT)
        assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"
        rewrapped = sealer.rewrap(sealed, to="alias/theirs", context=CONTEXT)
        assert kms.sealer(kms.theirs).decrypt(rewrapped, context=CONTEXT) == b"secret"
        assert kms.operations() == ["GenerateDataKey", "Decrypt", "ReEncrypt", "Decrypt"]
        # The KeyId is always the caller's own word.
        assert [params.get("KeyId", params.get("SourceKeyId")) for _, params in kms.calls] == [
            key,
            key,
            key,
            kms.theirs,
        ]


@pytest.mark.parametrize("form", ["ARN", "id"])
def test_a_key_that_is_not_allowed_is_not_sent(kms: Kms, form: str) -> None:
    foreign = kms.sealer(kms.theirs).encrypt(b"forged", context=CONTEXT)
    kms.calls.clear()
    sealer = kms.sealer(kms.ours if form == "ARN" else _id_of(kms.ours))
    with pytest.raises(sealwax.KeyNotAllowedError, match=_id_of(kms.theirs)):
        sealer.decrypt(foreign, context=CONTEXT)
    with pytest.raises(sealwax.KeyNotAllowedError):
        sealer.rewrap(foreign, to=kms.ours, context=CONTEXT)
    assert kms.calls == []


@pytest.mark.parametrize("form", ["ARN", "id", "alias"])
def test_a_relabelled_arn(kms: Kms, form: str) -> None:
    """KMS compares the KeyId that the caller names with the key that made the wrapped key."""
    foreign = kms.sealer(kms.theirs).encrypt(b"forged", context=CONTEXT)
    forged = _with_keys(foreign, lambda key: replace(key, key_arn=kms.ours))
    sealer = kms.sealer({"ARN": kms.ours, "id": _id_of(kms.ours), "alias": "alias/ours"}[form])
    kms.calls.clear()
    with pytest.raises(sealwax.WrongKeyError):
        sealer.decrypt(forged, context=CONTEXT)
    with pytest.raises(sealwax.WrongKeyError):
        sealer.rewrap(forged, to=kms.ours, context=CONTEXT)
    assert kms.operations() == ["Decrypt", "ReEncrypt"]


@pytest.mark.parametrize("how", ["decrypt", "rewrap"])
def test_a_whole_forged_envelope_under_a_foreign_key(kms: Kms, how: str) -> None:
    """An alias allows what it points to; KMS refuses the rest, and re-wrapping launders nothing."""
    foreign = kms.sealer(kms.theirs).encrypt(b"forged", context=CONTEXT)
    sealer = kms.sealer("alias/ours")
    with pytest.raises(sealwax.WrongKeyError, match="the alias was moved, or the data is someone else's"):  # noqa: PT012
        if how == "decrypt":
            sealer.decrypt(foreign, context=CONTEXT)
        else:
            sealer.rewrap(foreign, to=kms.ours, context=CONTEXT)


def test_an_alias_that_was_moved(kms: Kms) -> None:
    sealed = kms.sealer("alias/ours").encrypt(b"secret", context=CONTEXT)
    kms.lab.call("UpdateAlias", AliasName="alias/ours", TargetKeyId=kms.theirs)
    with pytest.raises(sealwax.WrongKeyError, match="allow it") as caught:
        kms.sealer("alias/ours").decrypt(sealed, context=CONTEXT)
    assert kms.ours in str(caught.value)
    # What the error advises helps, in whatever order it is done.
    for entries in (["alias/ours", kms.ours], [kms.ours, "alias/ours"], ["alias/ours", _id_of(kms.ours)]):
        allowed = kms.sealer("alias/ours", decrypt_with=entries)
        assert allowed.decrypt(sealed, context=CONTEXT) == b"secret"


def test_another_region_or_account_is_not_sent_under_an_alias(kms: Kms) -> None:
    sealed = kms.sealer(kms.ours).encrypt(b"secret", context=CONTEXT)
    scope = sealwax.KeyScope("111122223333", "us-east-1")
    kms.calls.clear()
    for part, other in (("us-east-1", "eu-west-1"), ("111122223333", "999999999999"), ("arn:aws:", "arn:aws-cn:")):
        moved = _with_keys(sealed, lambda key, a=part, b=other: replace(key, key_arn=key.key_arn.replace(a, b)))  # type: ignore[misc]
        with pytest.raises(sealwax.KeyNotAllowedError):
            kms.sealer(kms.ours.rpartition("key/")[0] + "alias/ours").decrypt(moved, context=CONTEXT)
        with pytest.raises(sealwax.KeyNotAllowedError):
            kms.sealer(kms.ours, decrypt_with=[scope]).decrypt(moved, context=CONTEXT)
    assert kms.calls == []


def test_a_scope_allows_by_name(kms: Kms) -> None:
    sealed = kms.sealer(kms.theirs).encrypt(b"secret", context=CONTEXT)
    scope = sealwax.KeyScope("111122223333", "us-east-1")
    assert kms.sealer(kms.ours, decrypt_with=[scope]).decrypt(sealed, context=CONTEXT) == b"secret"


def test_wrapped_keys_of_one_envelope_in_another(kms: Kms) -> None:
    sealer = kms.sealer(kms.ours)
    one, two = (sealer.encrypt(b"secret", context=CONTEXT) for _ in range(2))
    theirs = header_of_value(two).slot.wrapped_keys[0]
    with pytest.raises(sealwax.CommitmentError):
        sealer.decrypt(_with_keys(one, lambda _: theirs), context=CONTEXT)


def test_a_wrapped_key_of_another_context(kms: Kms) -> None:
    sealer = kms.sealer(kms.ours)
    one = sealer.encrypt(b"secret", context=CONTEXT)
    two = sealer.encrypt(b"secret", context={"purpose": "else"})
    other = header_of_value(two).slot.wrapped_keys[0]
    with pytest.raises(sealwax.WrappedKeyRefusedError) as caught:
        sealer.decrypt(_with_keys(one, lambda _: other), context=CONTEXT)
    assert caught.value.code == "InvalidCiphertextException"
    assert caught.value.request_id


@pytest.mark.parametrize("change", [lambda blob: blob[:-1], lambda blob: blob + b"x", lambda blob: b"x" * len(blob)])
def test_a_damaged_wrapped_key(kms: Kms, change: Callable[[bytes], bytes]) -> None:
    sealer = kms.sealer(kms.ours)
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    forged = _with_keys(sealed, lambda key: replace(key, ciphertext=change(key.ciphertext)))
    with pytest.raises(sealwax.WrappedKeyRefusedError):
        sealer.decrypt(forged, context=CONTEXT)
    with pytest.raises(sealwax.WrappedKeyRefusedError):
        sealer.rewrap(forged, to=kms.theirs, context=CONTEXT)


@pytest.mark.parametrize("size", [1, 16, 31, 33, 64])
def test_a_wrapped_text_that_is_no_data_key(kms: Kms, size: int) -> None:
    sealer = kms.sealer(kms.ours)
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    answer = kms.session.client("kms").encrypt(KeyId=kms.ours, Plaintext=b"k" * size, EncryptionContext=CONTEXT)
    forged = _with_keys(sealed, lambda key: replace(key, ciphertext=answer["CiphertextBlob"]))
    with pytest.raises(sealwax.DataKeyError, match="32"):
        sealer.decrypt(forged, context=CONTEXT)


@pytest.mark.parametrize("operation", ["GenerateDataKey", "Decrypt", "ReEncrypt"])
def test_a_kms_that_answers_for_another_key(kms: Kms, operation: str) -> None:
    sealer = kms.sealer(kms.ours)
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    answered = "SourceKeyId" if operation == "ReEncrypt" else "KeyId"

    def lie(parsed: dict[str, Any], **_: object) -> None:
        parsed[answered] = kms.theirs

    kms.session.events.register(f"after-call.kms.{operation}", lie)
    sealer = kms.sealer(kms.ours)  # a new client takes the session's handlers over
    with pytest.raises(sealwax.WrongKeyError, match="answered"):  # noqa: PT012
        if operation == "GenerateDataKey":
            sealer.encrypt(b"secret", context=CONTEXT)
        elif operation == "Decrypt":
            sealer.decrypt(sealed, context=CONTEXT)
        else:
            sealer.rewrap(sealed, to=kms.theirs, context=CONTEXT)


def test_no_more_than_three_attempts(kms: Kms) -> None:
    sealed = kms.sealer(kms.ours).encrypt(b"secret", context=CONTEXT)
    header = header_of_value(sealed)
    arns = [kms.ours[:-2] + f"{n:02}" for n in range(16)]
    forged = hdr.lay_out(
        envelope_id=header.preamble.envelope_id,
        kms_context=header.preamble.kms_context,
        local_pairs=0,
        wrapped_keys=[WrappedKey(arn, b"rubbish") for arn in arns],
        slot_count=1,
    ).to_bytes() + bytes(100)
    scope = sealwax.KeyScope("111122223333", "us-east-1")
    for most, options in ((3, {}), (1, {"max_wrapped_keys_tried": 1}), (5, {"max_wrapped_keys_tried": 5})):
        kms.calls.clear()
        with pytest.raises(sealwax.KmsError) as caught:
            kms.sealer(kms.ours, decrypt_with=[scope], **options).decrypt(forged, context=CONTEXT)
        assert kms.operations() == ["Decrypt"] * most
        if most > 1:
            assert isinstance(caught.value, sealwax.AllKeysFailedError)
            assert [arn for arn, _ in caught.value.attempts] == arns[:most]
            assert all(arn in str(caught.value) for arn in arns[:most])
    # Each alias may mean each of them; a hostile header costs no more calls than the list is long, or three.
    for aliases in (1, 2, 5):
        kms.calls.clear()
        with pytest.raises(sealwax.KmsError):
            kms.sealer(kms.ours, decrypt_with=[f"alias/{n}" for n in range(aliases)]).decrypt(forged, context=CONTEXT)
        assert kms.operations() == ["Decrypt"] * max(3, aliases)


def test_a_commitment_that_fails_is_a_failed_attempt(kms: Kms) -> None:
    """A foreign wrapped key before the right one costs an attempt, and not the data."""
    sealer = kms.sealer(kms.ours, decrypt_with=[kms.theirs, kms.ours])
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    decoy = header_of_value(kms.sealer(kms.theirs).encrypt(b"", context=CONTEXT)).slot.wrapped_keys[0]
    header = header_of_value(sealed)
    both = hdr.lay_out(
        envelope_id=header.preamble.envelope_id,
        kms_context=header.preamble.kms_context,
        local_pairs=0,
        wrapped_keys=[decoy, *header.slot.wrapped_keys],
        slot_count=1,
    ).to_bytes()
    kms.calls.clear()
    assert sealer.decrypt(both + sealed[header.preamble.payload_offset :], context=CONTEXT) == b"secret"
    assert kms.operations() == ["Decrypt", "Decrypt"]


def test_states_of_a_key(kms: Kms) -> None:
    sealer = kms.sealer(kms.ours)
    sealed = sealer.encrypt(b"secret", context=CONTEXT)
    kms.lab.call("DisableKey", KeyId=kms.ours)
    refused: list[Callable[[], bytes]] = [
        lambda: sealer.encrypt(b"secret", context=CONTEXT),
        lambda: sealer.decrypt(sealed, context=CONTEXT),
        lambda: sealer.rewrap(sealed, to=kms.theirs, context=CONTEXT),
    ]
    for act in refused:
        with pytest.raises(sealwax.KeyStateError, match="disabled") as caught:
            act()
        assert caught.value.code == "DisabledException"
    kms.lab.call("EnableKey", KeyId=kms.ours)
    assert sealer.decrypt(sealed, context=CONTEXT) == b"secret"


def test_a_key_that_is_not_there(kms: Kms) -> None:
    for name in ("alias/missing", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(sealwax.KeyNotFoundError):
            kms.sealer(name).encrypt(b"secret", context=CONTEXT)


@pytest.mark.parametrize("name", ["", "payments", "alias/", "alias/a b", "arn:aws:s3:::bucket", "x" * 300])
def test_a_name_that_can_be_no_key(name: str) -> None:
    with pytest.raises(sealwax.ConfigurationError):
        sealwax.KmsKeyring(name)


def test_material_id_and_time_are_stored(kms: Kms) -> None:
    sealed = kms.sealer("alias/ours").encrypt(b"secret", context=CONTEXT)
    (key,) = header_of_value(sealed).slot.wrapped_keys
    told = kms.lab.call("DescribeKey", KeyId=kms.ours)["KeyMetadata"]["CurrentKeyMaterialId"]
    assert key.key_material_id.hex() == told
    assert key.key_arn == kms.ours
    assert key.wrapped_at > 1_700_000_000


def test_the_context_reaches_kms(kms: Kms) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring(kms.ours, session=kms.session), local_context=("id",))
    sealed = sealer.encrypt(b"secret", context={"purpose": "backup", "id": "7"})
    sealer.decrypt(sealed, context={"purpose": "backup", "id": "7"})
    sealer.rewrap(sealed, to=kms.theirs, context=CONTEXT)
    contexts = [
        {name: value for name, value in params.items() if name.endswith("EncryptionContext")} for _, params in kms.calls
    ]
    assert contexts == [
        {"EncryptionContext": CONTEXT},
        {"EncryptionContext": CONTEXT},
        {"SourceEncryptionContext": CONTEXT, "DestinationEncryptionContext": CONTEXT},
    ]
