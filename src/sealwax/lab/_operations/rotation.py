"""Rotation, automatic or on demand. Old material is kept, so everything that was encrypted still decrypts."""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._apierror import ApiError, unsupported
from sealwax.lab._call import Call, operation
from sealwax.lab._key_specs import need_rotatable
from sealwax.lab._model import PENDING_ROTATION, Answer, Conditions, KeyRecord, MaterialRecord
from sealwax.lab._paging import page
from sealwax.lab._rotate import DAY, family, make_current, rotate

_DEFAULT_PERIOD = 365
_MAX_ON_DEMAND = 25
_ON_DEMAND = "ON_DEMAND"


@operation("EnableKeyRotation", writes=True)
def enable_key_rotation(call: Call) -> Answer:
    period = call.get("RotationPeriodInDays", _DEFAULT_PERIOD)
    key = _rotatable(call, "EnableKeyRotation", {"kms:RotationPeriodInDays": period})
    for member in family(call.records, key):
        call.records.put_key(replace(member, rotation_period=period, rotation_next=call.now + period * DAY))
    return {}


@operation("DisableKeyRotation", writes=True)
def disable_key_rotation(call: Call) -> Answer:
    key = _rotatable(call, "DisableKeyRotation")
    for member in family(call.records, key):
        call.records.put_key(replace(member, rotation_period=None, rotation_next=None))
    return {}


def _rotatable(call: Call, action: str, facts: Conditions | None = None) -> KeyRecord:
    key = call.key(action, facts=facts)
    need_rotatable(key)
    if key.origin != "AWS_KMS":
        raise unsupported(f"{key.arn} origin is {key.origin} which is not valid for this operation.")
    if key.multi_region == "REPLICA":
        raise unsupported(f"{key.arn} is a replica key; change the rotation of its primary key.")
    call.need_enabled(key)
    return key


@operation("GetKeyRotationStatus")
def get_key_rotation_status(call: Call) -> Answer:
    key = call.key("GetKeyRotationStatus")
    need_rotatable(key)
    call.need_alive(key)
    enabled = key.rotation_period is not None
    answer: Answer = {"KeyRotationEnabled": enabled, "KeyId": key.arn}
    if enabled:
        answer |= {"RotationPeriodInDays": key.rotation_period, "NextRotationDate": key.rotation_next}
    return answer


@operation("RotateKeyOnDemand", writes=True)
def rotate_key_on_demand(call: Call) -> Answer:
    key = call.key("RotateKeyOnDemand")
    need_rotatable(key)
    if key.key_store is not None:
        raise unsupported(f"{key.arn} is in a custom key store, which is not valid for this operation.")
    if key.multi_region == "REPLICA":
        raise unsupported(f"{key.arn} is a replica key; rotate its primary key.")
    call.need_enabled(key)
    rotations = sum(material.rotation_type == _ON_DEMAND for material in key.materials)
    if rotations >= _MAX_ON_DEMAND:
        raise ApiError(
            "LimitExceededException", f"{key.arn} was rotated on demand {_MAX_ON_DEMAND} times, the maximum."
        )
    if key.origin == "EXTERNAL":
        make_current(call.records, key, replace(_waiting(key), rotation_type=_ON_DEMAND, created=call.now))
    else:
        rotate(call.records, key, call.now, _ON_DEMAND)
    return {"KeyId": key.arn}


def _waiting(key: KeyRecord) -> MaterialRecord:
    """The imported material that becomes current by a rotation on demand."""
    for material in key.materials:
        if material.state == PENDING_ROTATION and material.secret is not None:
            return material
    raise ApiError(
        "KMSInvalidStateException",
        f"{key.arn} has no key material pending rotation; import new key material first.",
    )


@operation("ListKeyRotations")
def list_key_rotations(call: Call) -> Answer:
    key = call.key("ListKeyRotations")
    need_rotatable(key)
    call.need_alive(key)
    everything = call.get("IncludeKeyMaterial") == "ALL_KEY_MATERIAL"
    shown = [material for material in key.materials if everything or material.rotation_type is not None]
    entries, answer = page(shown, lambda material: material.material_id, call.members)
    answer["Rotations"] = [_entry(key, material) for material in entries]
    return answer


def _entry(key: KeyRecord, material: MaterialRecord) -> Answer:
    entry: Answer = {
        "KeyId": key.key_id,
        "KeyMaterialId": material.material_id,
        "KeyMaterialState": material.state,
    }
    if material.rotation_type is not None:
        entry |= {"RotationDate": material.created, "RotationType": material.rotation_type}
    if key.origin == "EXTERNAL":
        entry["ImportState"] = "IMPORTED" if material.secret is not None else "PENDING_IMPORT"
        if material.description is not None:
            entry["KeyMaterialDescription"] = material.description
        if material.secret is not None:
            permanent = material.expires is None
            entry["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE" if permanent else "KEY_MATERIAL_EXPIRES"
            if not permanent:
                entry["ValidTo"] = material.expires
    return entry
