"""Keys: create, describe, list, enable, disable, and delete after the waiting period."""

from __future__ import annotations

import uuid
from dataclasses import replace

from sealwax.lab._apierror import ApiError, bad_state, refused, unsupported
from sealwax.lab._authorize import default_policy
from sealwax.lab._call import Call, operation
from sealwax.lab._describe import metadata
from sealwax.lab._key_specs import SYMMETRIC, usage_for
from sealwax.lab._materials import new_material
from sealwax.lab._model import (
    DISABLED,
    ENABLED,
    PENDING_DELETION,
    PENDING_IMPORT,
    PENDING_REPLICA_DELETION,
    Answer,
    KeyRecord,
    NewConditions,
)
from sealwax.lab._operations.policies import check_given_policy
from sealwax.lab._operations.tags import authorize_creation, checked_tags
from sealwax.lab._paging import page

_DAY = 86400
_EXTERNAL_STORE = "EXTERNAL_KEY_STORE"
_STORE_ORIGINS = ("AWS_CLOUDHSM", _EXTERNAL_STORE)
_SHORTEST_WINDOW, _LONGEST_WINDOW = 7, 30


@operation("CreateKey", writes=True)
def create_key(call: Call) -> Answer:
    spec = call.get("KeySpec") or call.get("CustomerMasterKeySpec") or "SYMMETRIC_DEFAULT"
    usage = usage_for(spec, call.get("KeyUsage"))
    origin: str = call.get("Origin", "AWS_KMS")
    if spec != SYMMETRIC and origin != "AWS_KMS":
        raise unsupported(f"The lab offers {spec} keys with the origin AWS_KMS only.")
    multi_region: bool = call.get("MultiRegion", False)
    tags = checked_tags(call.get("Tags", []))
    facts: NewConditions = {
        "kms:KeySpec": spec,
        "kms:CustomerMasterKeySpec": spec,
        "kms:KeyUsage": usage,
        "kms:CustomerMasterKeyUsage": usage,
        "kms:KeyOrigin": origin,
        "kms:MultiRegion": multi_region,
        "kms:BypassPolicyLockoutSafetyCheck": call.get("BypassPolicyLockoutSafetyCheck", False),
    }
    if multi_region:
        facts["kms:MultiRegionKeyType"] = "PRIMARY"
    authorize_creation(call, facts, tags)
    _check_store(call, origin, multi_region=multi_region)
    identifier = uuid.uuid4()
    key = KeyRecord(
        account=call.account,
        region=call.region,
        key_id=f"mrk-{identifier.hex}" if multi_region else str(identifier),
        description=call.get("Description", ""),
        usage=usage,
        spec=spec,
        origin=origin,
        state=PENDING_IMPORT if origin == "EXTERNAL" else ENABLED,
        created=call.now,
        policy=call.get("Policy", default_policy(call.account, call.region)),
        multi_region="PRIMARY" if multi_region else None,
        primary_region=call.region if multi_region else None,
        key_store=call.get("CustomKeyStoreId"),
        xks_key=call.get("XksKeyId"),
    )
    check_given_policy(call, key)
    _store(call, key)
    call.records.put_tags(key, tags.items())
    call.resources.append(key)
    return {"KeyMetadata": metadata(call, call.records.key(key.account, key.region, key.key_id) or key)}


def _store(call: Call, key: KeyRecord) -> None:
    """Store a new key, with material unless that is imported or not offered."""
    if key.origin == "EXTERNAL" or key.spec != SYMMETRIC:
        call.records.put_key(key)
        return
    material = new_material(key, number=1, now=call.now)
    call.records.put_key(replace(key, current_material=material.material_id))
    call.records.put_material(key, material)


def _check_store(call: Call, origin: str, *, multi_region: bool) -> None:
    """Check what a new key says of its custom key store. The lab has no stores, and takes any ID."""
    if (origin in _STORE_ORIGINS) != ("CustomKeyStoreId" in call.members):
        raise refused("CustomKeyStoreId is required for keys in a custom key store, and not allowed for others.")
    if (origin == _EXTERNAL_STORE) != ("XksKeyId" in call.members):
        raise refused("XksKeyId is required for keys in an external key store, and not allowed for others.")
    if multi_region and origin in _STORE_ORIGINS:
        raise unsupported("Multi-Region keys cannot be created in a custom key store.")


@operation("DescribeKey")
def describe_key(call: Call) -> Answer:
    key = call.key("DescribeKey", aliases=True)
    return {"KeyMetadata": metadata(call, key)}


@operation("ListKeys")
def list_keys(call: Call) -> Answer:
    call.authorize("ListKeys")
    owners = call.get("ResourceOwners", ["SELF"])
    ids = call.records.key_ids(call.account, call.region) if "SELF" in owners else ()
    keys = [key for key_id in ids if (key := call.key_or_none(call.account, key_id)) is not None]
    shown, answer = page(keys, lambda key: key.key_id, call.members)
    answer["Keys"] = [{"KeyId": key.key_id, "KeyArn": key.arn} for key in shown]
    return answer


@operation("EnableKey", writes=True)
def enable_key(call: Call) -> Answer:
    return _switch(call, "EnableKey", ENABLED)


@operation("DisableKey", writes=True)
def disable_key(call: Call) -> Answer:
    return _switch(call, "DisableKey", DISABLED)


def _switch(call: Call, action: str, state: str) -> Answer:
    key = call.key(action)
    call.need_alive(key, imported=True)
    call.records.put_key(replace(key, state=state))
    return {}


@operation("UpdateKeyDescription", writes=True)
def update_key_description(call: Call) -> Answer:
    key = call.key("UpdateKeyDescription")
    call.need_alive(key)
    call.records.put_key(replace(key, description=call.members["Description"]))
    return {}


@operation("ScheduleKeyDeletion", writes=True)
def schedule_key_deletion(call: Call) -> Answer:
    window: int = call.get("PendingWindowInDays", _LONGEST_WINDOW)
    if not _SHORTEST_WINDOW <= window <= _LONGEST_WINDOW:
        raise refused(f"PendingWindowInDays must be between {_SHORTEST_WINDOW} and {_LONGEST_WINDOW}")
    key = call.key("ScheduleKeyDeletion", facts={"kms:ScheduleKeyDeletionPendingWindowInDays": window})
    call.need_alive(key)
    answer: Answer = {"KeyId": key.arn, "PendingWindowInDays": window}
    replicas = [region for region in call.records.regions_of(key.account, key.key_id) if region != key.region]
    if key.multi_region == "PRIMARY" and replicas:
        # The waiting period begins when the last replica is deleted.
        key = replace(key, state=PENDING_REPLICA_DELETION, pending_window=window, deletion_date=None)
    else:
        key = replace(key, state=PENDING_DELETION, pending_window=window, deletion_date=call.now + window * _DAY)
        answer["DeletionDate"] = key.deletion_date
    call.records.put_key(key)
    answer["KeyState"] = key.state
    return answer


@operation("CancelKeyDeletion", writes=True)
def cancel_key_deletion(call: Call) -> Answer:
    key = call.key("CancelKeyDeletion")
    if key.state not in (PENDING_DELETION, PENDING_REPLICA_DELETION):
        raise bad_state(key.arn, "not pending deletion")
    # KMS disables the key, whatever its state was; one that lacks imported material waits for that.
    lacks = key.origin == "EXTERNAL" and (
        not key.materials or any(material.secret is None for material in key.materials)
    )
    state = PENDING_IMPORT if lacks else DISABLED
    call.records.put_key(replace(key, state=state, pending_window=None, deletion_date=None))
    return {"KeyId": key.arn}


@operation("GetKeyLastUsage")
def get_key_last_usage(call: Call) -> Answer:
    key = call.key("GetKeyLastUsage")
    if key.account != call.account:
        raise ApiError("AccessDeniedException", "GetKeyLastUsage cannot be used on a key of another account")
    usage = call.last_usage(key)
    answer: Answer = {"KeyId": key.arn, "TrackingStartDate": key.created, "KeyCreationDate": key.created}
    if usage is not None:
        answer["KeyLastUsage"] = {
            "Operation": usage.operation,
            "Timestamp": usage.time,
            "CloudTrailEventId": usage.event_id,
            "KmsRequestId": usage.request_id,
        }
    return answer
