"""Multi-Region keys: one key ID and material in several Regions, each with its own policy, aliases and tags."""

from __future__ import annotations

from dataclasses import replace

from sealwax._aws.partitions import partition_of
from sealwax.lab._apierror import ApiError, not_found, refused, unsupported
from sealwax.lab._authorize import default_policy
from sealwax.lab._call import Call, operation
from sealwax.lab._describe import metadata
from sealwax.lab._model import ENABLED, PENDING_IMPORT, Answer
from sealwax.lab._operations.policies import check_given_policy
from sealwax.lab._operations.tags import authorize_creation, checked_tags
from sealwax.lab._rotate import family


@operation("ReplicateKey", writes=True)
def replicate_key(call: Call) -> Answer:
    region: str = call.members["ReplicaRegion"]
    tags = checked_tags(call.get("Tags", []))
    primary = call.key("ReplicateKey", facts={"kms:ReplicaRegion": region})
    authorize_creation(call, {"kms:MultiRegion": True, "kms:MultiRegionKeyType": "REPLICA"}, tags)
    if primary.multi_region != "PRIMARY":
        raise unsupported(f"{primary.arn} is not a multi-Region primary key.")
    call.need_enabled(primary)
    if partition_of(region) != partition_of(primary.region) or region == primary.region:
        raise refused(f"{region} is not a Region that {primary.arn} can be replicated to.")
    if region in call.records.regions_of(primary.account, primary.key_id):
        raise ApiError("AlreadyExistsException", f"{primary.key_id} already exists in {region}.")
    replica = replace(
        primary,
        region=region,
        multi_region="REPLICA",
        description=call.get("Description", ""),
        policy=call.get("Policy", default_policy(primary.account, region)),
        created=call.now,
        state=PENDING_IMPORT if primary.origin == "EXTERNAL" else ENABLED,
    )
    check_given_policy(call, replica)
    call.records.put_key(replica)
    for material in primary.materials:
        # The customer imports material into each Region.
        secret = None if primary.origin == "EXTERNAL" else material.secret
        call.records.put_material(replica, replace(material, secret=secret))
    call.records.put_tags(replica, tags.items())
    stored = call.records.key(replica.account, region, replica.key_id) or replica
    call.resources.append(stored)
    return {
        "ReplicaKeyMetadata": metadata(call, stored),
        "ReplicaPolicy": stored.policy,
        "ReplicaTags": [{"TagKey": tag, "TagValue": value} for tag, value in tags.items()],
    }


@operation("UpdatePrimaryRegion", writes=True)
def update_primary_region(call: Call) -> Answer:
    region: str = call.members["PrimaryRegion"]
    key = call.find(call.members["KeyId"], "UpdatePrimaryRegion")
    facts = {"kms:PrimaryRegion": region}
    call.authorize("UpdatePrimaryRegion", key, facts=facts)
    if key.multi_region != "PRIMARY":
        raise unsupported(f"{key.arn} is not a multi-Region primary key.")
    call.need_enabled(key)
    successor = call.records.key(key.account, region, key.key_id)
    if successor is None:
        raise not_found(f"{key.key_id} has no replica in {region}.")
    call.authorize("UpdatePrimaryRegion", successor, facts=facts)
    call.need_enabled(successor)
    for member in family(call.records, key):
        kind = "PRIMARY" if member.region == region else "REPLICA"
        call.records.put_key(replace(member, multi_region=kind, primary_region=region))
    return {}
