"""KeyMetadata, as DescribeKey, CreateKey and ReplicateKey return it."""

from __future__ import annotations

from sealwax._aws.partitions import partition_of
from sealwax.lab._call import Call
from sealwax.lab._key_specs import algorithms, has_old_name
from sealwax.lab._model import ENABLED, PENDING_DELETION, PENDING_REPLICA_DELETION, Answer, KeyRecord


def metadata(call: Call, key: KeyRecord) -> Answer:
    """The KeyMetadata structure."""
    shown: Answer = {
        "AWSAccountId": key.account,
        "KeyId": key.key_id,
        "Arn": key.arn,
        "CreationDate": key.created,
        "Enabled": key.state == ENABLED,
        "Description": key.description,
        "KeyUsage": key.usage,
        "KeyState": key.state,
        "Origin": key.origin,
        "KeyManager": "CUSTOMER",
        "KeySpec": key.spec,
        **algorithms(key),
        "MultiRegion": key.multi_region is not None,
    }
    if has_old_name(key):
        shown["CustomerMasterKeySpec"] = key.spec
    if key.state == PENDING_DELETION:
        shown["DeletionDate"] = key.deletion_date
    if key.state == PENDING_REPLICA_DELETION:
        shown["PendingDeletionWindowInDays"] = key.pending_window
    current = key.material(key.current_material)
    if current is not None:
        shown["CurrentKeyMaterialId"] = current.material_id
    if key.origin == "EXTERNAL" and current is not None and current.secret is not None:
        expires = current.expires
        shown["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE" if expires is None else "KEY_MATERIAL_EXPIRES"
        if expires is not None:
            shown["ValidTo"] = expires
    if key.key_store is not None:
        shown["CustomKeyStoreId"] = key.key_store
    if key.xks_key is not None:
        shown["XksKeyConfiguration"] = {"Id": key.xks_key}
    if key.multi_region is not None:
        shown["MultiRegionConfiguration"] = _family(call, key)
    return shown


def _family(call: Call, key: KeyRecord) -> Answer:
    def member(region: str) -> dict[str, str]:
        return {"Arn": f"arn:{partition_of(region)}:kms:{region}:{key.account}:key/{key.key_id}", "Region": region}

    regions = call.records.regions_of(key.account, key.key_id)
    return {
        "MultiRegionKeyType": key.multi_region,
        "PrimaryKey": member(key.primary_region or key.region),
        "ReplicaKeys": [member(region) for region in regions if region != key.primary_region],
    }
