"""The cryptographic operations. They check their requests in KMS's order."""

from __future__ import annotations

from collections.abc import Mapping

from sealwax.lab import _blobs
from sealwax.lab._apierror import ApiError, bad_state, refused, unsupported
from sealwax.lab._call import Call, operation
from sealwax.lab._key_specs import SYMMETRIC, need_cipher, need_symmetric
from sealwax.lab._model import Answer, KeyRecord, MaterialRecord, NewConditions
from sealwax.lab._secretbytes import random_secret, wipe

_SIZES = {"AES_256": 32, "AES_128": 16}
_IGNORE_CIPHERTEXT = "IGNORE_CIPHERTEXT"


@operation("GenerateDataKey", uses_key=True)
def generate_data_key(call: Call) -> Answer:
    return _generate(call, "GenerateDataKey", reveal=True)


@operation("GenerateDataKeyWithoutPlaintext", uses_key=True)
def generate_data_key_without_plaintext(call: Call) -> Answer:
    return _generate(call, "GenerateDataKeyWithoutPlaintext", reveal=False)


def _generate(call: Call, action: str, *, reveal: bool) -> Answer:
    _no_recipient(call)
    spec, size = call.get("KeySpec"), call.get("NumberOfBytes")
    if (spec is None) == (size is None):
        raise refused("Please specify either number of bytes or key spec.")
    context = call.get("EncryptionContext", {})
    key = call.key(action, aliases=True, arn_error="NotFoundException", context=context)
    need_symmetric(key, action)
    material = _current(call, key)
    dry_run(call)
    secret = random_secret(size if spec is None else _SIZES[spec])
    answer: Answer = {
        "CiphertextBlob": _seal(call, key, material, secret, context),
        "KeyId": key.arn,
        "KeyMaterialId": material.material_id,
    }
    if reveal:
        answer["Plaintext"] = secret
    else:
        wipe(secret)
    return answer


@operation("GenerateRandom")
def generate_random(call: Call) -> Answer:
    _no_recipient(call)
    call.authorize("GenerateRandom")
    if "CustomKeyStoreId" in call.members:
        raise unsupported("The lab does not offer GenerateRandom in a custom key store.")
    if "NumberOfBytes" not in call.members:
        raise refused("NumberOfBytes is required.")
    return {"Plaintext": random_secret(call.members["NumberOfBytes"])}


@operation("Encrypt", uses_key=True)
def encrypt(call: Call) -> Answer:
    context = call.get("EncryptionContext", {})
    facts = {"kms:EncryptionAlgorithm": call.get("EncryptionAlgorithm", SYMMETRIC)}
    key = call.key("Encrypt", aliases=True, arn_error="NotFoundException", context=context, facts=facts)
    need_cipher(key, "Encrypt", call.get("EncryptionAlgorithm"))
    material = _current(call, key)
    dry_run(call)
    secret: bytearray = call.members["Plaintext"]
    return {
        "CiphertextBlob": _seal(call, key, material, secret, context),
        "KeyId": key.arn,
        "EncryptionAlgorithm": SYMMETRIC,
    }


@operation("Decrypt", uses_key=True)
def decrypt(call: Call) -> Answer:
    _no_recipient(call)
    context = call.get("EncryptionContext", {})
    algorithm = call.get("EncryptionAlgorithm")
    key, blob = _source(call, "Decrypt", "KeyId", context, algorithm)
    call.need_enabled(key)
    if blob is None:
        dry_run(call)
    secret, material = _open(key, blob, context)
    if call.get("DryRun"):
        wipe(secret)
    dry_run(call)
    return {
        "KeyId": key.arn,
        "Plaintext": secret,
        "EncryptionAlgorithm": SYMMETRIC,
        "KeyMaterialId": material.material_id,
    }


@operation("ReEncrypt", uses_key=True)
def re_encrypt(call: Call) -> Answer:
    context = call.get("SourceEncryptionContext", {})
    target_context = call.get("DestinationEncryptionContext", {})
    algorithm, target_algorithm = call.get("SourceEncryptionAlgorithm"), call.get("DestinationEncryptionAlgorithm")
    # Both permissions have the condition kms:ReEncryptOnSameKey, so the destination is needed first.
    target = call.find(call.members["DestinationKeyId"], "ReEncryptTo", aliases=True, arn_error="NotFoundException")
    source, blob = _source(call, "ReEncryptFrom", "SourceKeyId", context, algorithm, target=target)
    call.authorize(
        "ReEncryptTo",
        target,
        named=call.members["DestinationKeyId"],
        context=target_context,
        facts={
            "kms:EncryptionAlgorithm": target_algorithm or SYMMETRIC,
            "kms:ReEncryptOnSameKey": source.arn == target.arn,
        },
    )
    need_cipher(target, "ReEncrypt", target_algorithm)
    call.need_enabled(source)
    material = _current(call, target)
    if blob is None:
        dry_run(call)
    secret, source_material = _open(source, blob, context)
    try:
        dry_run(call)
        return {
            "CiphertextBlob": _seal(call, target, material, secret, target_context),
            "SourceKeyId": source.arn,
            "KeyId": target.arn,
            "SourceEncryptionAlgorithm": SYMMETRIC,
            "DestinationEncryptionAlgorithm": SYMMETRIC,
            "SourceKeyMaterialId": source_material.material_id,
            "DestinationKeyMaterialId": material.material_id,
        }
    finally:
        wipe(secret)


def _source(
    call: Call,
    action: str,
    member: str,
    context: Mapping[str, str],
    algorithm: str | None,
    *,
    target: KeyRecord | None = None,
) -> tuple[KeyRecord, _blobs.CiphertextBlob | None]:
    """The key that decrypts the request's blob, and the blob; None for a dry run that ignores the ciphertext."""
    named = call.get(member)
    modifiers = call.get("DryRunModifiers", ())
    if modifiers and not call.get("DryRun"):
        raise refused("DryRunModifiers can only be specified when DryRun is true.")
    ignore = _IGNORE_CIPHERTEXT in modifiers
    if ignore and named is None:
        raise refused(f"{member} is required when the ciphertext is ignored.")
    blob = None
    if not ignore:
        if "CiphertextBlob" not in call.members:
            raise refused("CiphertextBlob is required.")
        blob = _blobs.parse(call.members["CiphertextBlob"], call.blob_key)
        if blob is None:
            raise ApiError("InvalidCiphertextException")
    key = _key_of(call, action, named, blob)
    facts: NewConditions = {"kms:EncryptionAlgorithm": algorithm or SYMMETRIC}
    if target is not None:
        facts["kms:ReEncryptOnSameKey"] = target.arn == key.arn
    call.authorize(action, key, named=named, context=context, facts=facts)
    need_cipher(key, call.request.operation, algorithm)
    if blob is not None and (blob.account, blob.key_id) != (key.account, key.key_id):
        raise ApiError(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        )
    return key, blob


def _key_of(call: Call, action: str, named: str | None, blob: _blobs.CiphertextBlob | None) -> KeyRecord:
    if named is not None:
        return call.find(named, action, aliases=True, arn_error="NotFoundException")
    key = call.key_or_none(blob.account, blob.key_id) if blob is not None else None
    if key is None:
        raise call.denied_unknown(action, "on the resource associated with this ciphertext")
    return key


def _open(
    key: KeyRecord, blob: _blobs.CiphertextBlob | None, context: Mapping[str, str]
) -> tuple[bytearray, MaterialRecord]:
    material = key.material(blob.material_id) if blob is not None else None
    if blob is None or material is None:
        raise ApiError("InvalidCiphertextException")
    if material.secret is None:
        raise bad_state(key.arn, "pending import")
    secret = _blobs.decrypt(blob, context, material.secret)
    if secret is None:
        raise ApiError("InvalidCiphertextException")
    return secret, material


def _seal(call: Call, key: KeyRecord, material: MaterialRecord, secret: bytearray, context: Mapping[str, str]) -> bytes:
    if material.secret is None:
        raise bad_state(key.arn, "pending import")
    return _blobs.encrypt(
        secret,
        context,
        account=key.account,
        key_id=key.key_id,
        material_id=material.material_id,
        material=material.secret,
        seal_key=call.blob_key,
    )


def _current(call: Call, key: KeyRecord) -> MaterialRecord:
    call.need_enabled(key)
    material = key.material(key.current_material)
    if material is None:
        raise bad_state(key.arn, "pending import")
    return material


def _no_recipient(call: Call) -> None:
    if "Recipient" in call.members:
        raise unsupported("The lab does not verify attestation documents, so it does not offer Recipient.")


def dry_run(call: Call) -> None:
    """Raises DryRunOperationException for a dry run: it would have succeeded."""
    if call.get("DryRun"):
        raise ApiError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
