"""Imported key material: the customer's 32 bytes, encrypted under a wrapping key that KMS gave out with a token."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sealwax.lab._apierror import ApiError, refused, unsupported
from sealwax.lab._call import Call, operation
from sealwax.lab._materials import MATERIAL_BYTES, material_id
from sealwax.lab._model import (
    CURRENT,
    ENABLED,
    NON_CURRENT,
    PENDING_DELETION,
    PENDING_IMPORT,
    PENDING_REPLICAS,
    PENDING_ROTATION,
    Answer,
    Conditions,
    KeyRecord,
    MaterialRecord,
    NewConditions,
)
from sealwax.lab._rotate import family

_VALID_SECONDS = 24 * 3600
_LONGEST_VALIDITY = 365 * 86400
_EXPIRES = "KEY_MATERIAL_EXPIRES"
_SIZES = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}


@operation("GetParametersForImport", writes=True, read_only=True)
def get_parameters_for_import(call: Call) -> Answer:
    algorithm, spec = call.members["WrappingAlgorithm"], call.members["WrappingKeySpec"]
    facts = {"kms:WrappingAlgorithm": algorithm, "kms:WrappingKeySpec": spec}
    key = _external(call, "GetParametersForImport", facts)
    if spec not in _SIZES or algorithm == "SM2PKE":
        raise unsupported("The lab does not offer SM2 wrapping keys.")
    if algorithm == "RSAES_PKCS1_V1_5":
        raise unsupported("AWS KMS no longer accepts key material wrapped with RSAES_PKCS1_V1_5.")
    wrapping = rsa.generate_private_key(public_exponent=65537, key_size=_SIZES[spec])
    private = wrapping.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    token = os.urandom(256)
    valid_to = call.now + _VALID_SECONDS
    call.records.put_import(token, key, algorithm, private, valid_to, call.now)
    return {
        "KeyId": key.arn,
        "ImportToken": token,
        "PublicKey": wrapping.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "ParametersValidTo": valid_to,
    }


@operation("ImportKeyMaterial", writes=True)
def import_key_material(call: Call) -> Answer:
    model = call.get("ExpirationModel", _EXPIRES)
    expires: float | None = call.get("ValidTo")
    facts: NewConditions = {"kms:ExpirationModel": model}
    if expires is not None:
        facts["kms:ValidTo"] = datetime.fromtimestamp(expires, UTC)
    key = _external(call, "ImportKeyMaterial", facts)
    if (model == _EXPIRES) != (expires is not None):
        raise refused("ValidTo is required when the key material expires, and not allowed when it does not.")
    if expires is not None and not call.now < expires <= call.now + _LONGEST_VALIDITY:
        raise refused("ValidTo must be in the future, and at most 365 days away.")
    secret = _unwrap(call, key)
    identifier = material_id(key.account, key.key_id, secret)
    if call.get("KeyMaterialId", identifier) != identifier:
        raise ApiError("IncorrectKeyMaterialException", "The key material is not the one of the given key material ID.")
    known = key.material(identifier)
    material = replace(known, secret=secret, expires=expires) if known is not None else None
    if material is None:
        material = _new_material(call, key, identifier, secret, expires)
    elif call.get("ImportType") == "NEW_KEY_MATERIAL":
        raise refused("The key material was imported into this key before; use EXISTING_KEY_MATERIAL.")
    if "KeyMaterialDescription" in call.members:
        material = replace(material, description=call.members["KeyMaterialDescription"])
    call.records.put_material(key, material)
    _update_family(call, key, material)
    return {"KeyId": key.arn, "KeyMaterialId": identifier}


def _new_material(call: Call, key: KeyRecord, identifier: str, secret: bytes, expires: float | None) -> MaterialRecord:
    """Material that is new to this key: its first, or the next one, which waits for a rotation on demand."""
    state = CURRENT
    if key.materials:
        if call.get("ImportType") != "NEW_KEY_MATERIAL":
            raise ApiError(
                "IncorrectKeyMaterialException", "The key material is not one that was imported into this key before."
            )
        if key.multi_region == "REPLICA":
            raise unsupported("New key material is imported into the primary key first.")
        if any(material.state in (PENDING_ROTATION, PENDING_REPLICAS) for material in key.materials):
            raise ApiError("KMSInvalidStateException", f"{key.arn} already has key material pending rotation.")
        state = PENDING_ROTATION
    number = 1 + max((material.number for material in key.materials), default=0)
    return MaterialRecord(
        identifier, number, secret, state, call.now, None, call.get("KeyMaterialDescription"), expires
    )


def _update_family(call: Call, key: KeyRecord, material: MaterialRecord) -> None:
    """Update the states and current materials of a key and its replicas after an import into one of them."""
    members = [member for member in family(call.records, key) if member.region != key.region]
    for member in members:
        if member.material(material.material_id) is None:
            call.records.put_material(member, replace(material, secret=None, expires=None))
    everywhere = all(
        (copy := member.material(material.material_id)) is not None and copy.secret is not None
        for member in family(call.records, key)
    )
    for member in family(call.records, key):
        copy = member.material(material.material_id)
        if copy is not None and copy.state in (PENDING_ROTATION, PENDING_REPLICAS):
            state = PENDING_ROTATION if everywhere else PENDING_REPLICAS
            call.records.put_material(member, replace(copy, state=state))
            member = call.records.key(member.account, member.region, member.key_id) or member
        current = next((known.material_id for known in member.materials if known.state == CURRENT), None)
        complete = all(known.secret is not None for known in member.materials if known.state in (CURRENT, NON_CURRENT))
        state = ENABLED if member.state == PENDING_IMPORT and current is not None and complete else member.state
        call.records.put_key(replace(member, current_material=current, state=state))


@operation("DeleteImportedKeyMaterial", writes=True)
def delete_imported_key_material(call: Call) -> Answer:
    key = _external(call, "DeleteImportedKeyMaterial")
    identifier = call.get("KeyMaterialId", key.current_material)
    material = key.material(identifier)
    if material is None:
        if "KeyMaterialId" in call.members:
            raise ApiError("KMSInvalidStateException", f"{key.arn} has no such key material.")
        return {"KeyId": key.arn}
    call.records.put_material(key, replace(material, secret=None, expires=None))
    if material.state in (CURRENT, NON_CURRENT):
        call.records.put_key(replace(key, state=PENDING_IMPORT))
    return {"KeyId": key.arn, "KeyMaterialId": material.material_id}


def _external(call: Call, action: str, facts: Conditions | None = None) -> KeyRecord:
    key = call.key(action, facts=facts)
    if key.origin != "EXTERNAL":
        raise unsupported(f"{key.arn} origin is {key.origin} which is not valid for this operation.")
    if key.state == PENDING_DELETION:
        call.need_alive(key)
    return key


def _unwrap(call: Call, key: KeyRecord) -> bytes:
    """The key material of a request, decrypted.

    Raises:
        ApiError: the token is unknown, expired or for another key, or the material does not decrypt.
    """
    pending = call.records.pending_import(call.members["ImportToken"], key)
    if pending is None:
        raise ApiError("InvalidImportTokenException", "The import token is not for this key.")
    algorithm, private, valid_to = pending
    if valid_to <= call.now:
        raise ApiError("ExpiredImportTokenException", "The import token is expired.")
    wrapping = serialization.load_der_private_key(private, None)
    assert isinstance(wrapping, rsa.RSAPrivateKey)
    wrapped: bytes = call.members["EncryptedKeyMaterial"]
    digest: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()  # noqa: S303
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    try:
        if algorithm.startswith("RSA_AES"):
            size = wrapping.key_size // 8
            outer = wrapping.decrypt(wrapped[:size], oaep)
            secret = keywrap.aes_key_unwrap_with_padding(outer, wrapped[size:])
        else:
            secret = wrapping.decrypt(wrapped, oaep)
    except (ValueError, keywrap.InvalidUnwrap) as error:
        raise ApiError("InvalidCiphertextException", "The key material does not decrypt.") from error
    if len(secret) != MATERIAL_BYTES:
        raise ApiError("IncorrectKeyMaterialException", f"The key material is not {MATERIAL_BYTES} bytes long.")
    return secret
