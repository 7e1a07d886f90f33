"""Imported key material: a wrapping key and a token are fetched, the customer's 32 bytes come back under them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

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
    Key,
    Material,
)
from sealwax.lab._rotate import family

_VALID_SECONDS = 24 * 3600
_LONGEST_VALIDITY = 365 * 86400
_EXPIRES = "KEY_MATERIAL_EXPIRES"
_SIZES = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}


@operation("GetParametersForImport", writes=True, read_only=True)
def get_parameters_for_import(call: Call) -> dict[str, Any]:
    algorithm, spec = call.members["WrappingAlgorithm"], call.members["WrappingKeySpec"]
    facts = {"kms:WrappingAlgorithm": algorithm, "kms:WrappingKeySpec": spec}
    key = _external(call, "GetParametersForImport", facts)
    if spec not in _SIZES or algorithm == "SM2PKE":
        raise unsupported("The lab has no SM2 wrapping keys")
    if algorithm == "RSAES_PKCS1_V1_5":
        raise unsupported("AWS KMS no longer takes key material that is wrapped with RSAES_PKCS1_V1_5")
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
def import_key_material(call: Call) -> dict[str, Any]:
    model = call.get("ExpirationModel", _EXPIRES)
    expires: float | None = call.get("ValidTo")
    facts: dict[str, Any] = {"kms:ExpirationModel": model}
    if expires is not None:
        facts["kms:ValidTo"] = _moment(expires)
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
    _settle_family(call, key, material)
    return {"KeyId": key.arn, "KeyMaterialId": identifier}


def _new_material(call: Call, key: Key, identifier: str, secret: bytes, expires: float | None) -> Material:
    """Material that this key has not had: its first, or the next one, which waits for a rotation on demand."""
    state = CURRENT
    if key.materials:
        if call.get("ImportType") != "NEW_KEY_MATERIAL":
            raise ApiError(
                "IncorrectKeyMaterialException", "The key material is not one that was imported into this key before."
            )
        if key.multi_region == "REPLICA":
            raise unsupported("New key material is imported into the primary key first.")
        if any(one.state in (PENDING_ROTATION, PENDING_REPLICAS) for one in key.materials):
            raise ApiError("KMSInvalidStateException", f"{key.arn} has key material pending rotation already.")
        state = PENDING_ROTATION
    number = 1 + max((one.number for one in key.materials), default=0)
    return Material(identifier, number, secret, state, call.now, None, call.get("KeyMaterialDescription"), expires)


def _settle_family(call: Call, key: Key, material: Material) -> None:
    """Let states and current material follow from what was imported where."""
    members = [member for member in family(call.records, key) if member.region != key.region]
    for member in members:
        if member.material(material.material_id) is None:
            call.records.put_material(member, replace(material, secret=None, expires=None))
    everywhere = all(
        (held := member.material(material.material_id)) is not None and held.secret is not None
        for member in family(call.records, key)
    )
    for member in family(call.records, key):
        held = member.material(material.material_id)
        if held is not None and held.state in (PENDING_ROTATION, PENDING_REPLICAS):
            state = PENDING_ROTATION if everywhere else PENDING_REPLICAS
            call.records.put_material(member, replace(held, state=state))
            member = call.records.key(member.account, member.region, member.key_id) or member
        current = next((one.material_id for one in member.materials if one.state == CURRENT), None)
        whole = all(one.secret is not None for one in member.materials if one.state in (CURRENT, NON_CURRENT))
        state = ENABLED if member.state == PENDING_IMPORT and current is not None and whole else member.state
        call.records.put_key(replace(member, current_material=current, state=state))


@operation("DeleteImportedKeyMaterial", writes=True)
def delete_imported_key_material(call: Call) -> dict[str, Any]:
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


def _external(call: Call, action: str, facts: dict[str, Any] | None = None) -> Key:
    key = call.key(action, facts=facts)
    if key.origin != "EXTERNAL":
        raise unsupported(f"{key.arn} origin is {key.origin} which is not valid for this operation.")
    if key.state == PENDING_DELETION:
        call.need_alive(key)
    return key


def _unwrap(call: Call, key: Key) -> bytes:
    """The material of a request, taken out of its wrapping.

    Raises:
        ApiError: the token is unknown, of another key or too old, or the wrapping is not right.
    """
    found = call.records.pending_import(call.members["ImportToken"], key)
    if found is None:
        raise ApiError("InvalidImportTokenException", "The import token is not one of this key's.")
    algorithm, private, valid_to = found
    if valid_to <= call.now:
        raise ApiError("ExpiredImportTokenException", "The import token is expired.")
    wrapping = serialization.load_der_private_key(private, None)
    assert isinstance(wrapping, rsa.RSAPrivateKey)
    wrapped: bytes = call.members["EncryptedKeyMaterial"]
    chosen: hashes.HashAlgorithm = hashes.SHA1() if algorithm.endswith("SHA_1") else hashes.SHA256()  # noqa: S303
    oaep = padding.OAEP(padding.MGF1(chosen), chosen, None)
    try:
        if algorithm.startswith("RSA_AES"):
            size = wrapping.key_size // 8
            outer = wrapping.decrypt(wrapped[:size], oaep)
            secret = keywrap.aes_key_unwrap_with_padding(outer, wrapped[size:])
        else:
            secret = wrapping.decrypt(wrapped, oaep)
    except (ValueError, keywrap.InvalidUnwrap) as error:
        raise ApiError("InvalidCiphertextException", "The key material does not unwrap.") from error
    if len(secret) != MATERIAL_BYTES:
        raise ApiError("IncorrectKeyMaterialException", f"The key material is not {MATERIAL_BYTES} bytes long.")
    return secret


def _moment(seconds: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC)
