"""What a rehearsal makes, what that costs, and the policy it needs. Nothing here calls AWS."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sealwax._aws.partitions import partition_of
from sealwax.events import USD_PER_10_000_CALLS
from sealwax.policy import Document, allow_audit

# The tag of every key and role, with the run's id as its value, and the beginning of every name.
TAG: Final = "sealwax-rehearsal"
PREFIX: Final = f"{TAG}-"
# A run's id is never digits alone: the id of an account has as many, and names may end with it.
RUN_ID: Final = re.compile("(?=[0-9]*[a-f])[0-9a-f]{12}")
WAITING_DAYS: Final = 7
# The encryption context that everything is bound to.
CONTEXT: Final = {"purpose": "rehearsal"}

PRICES_FROM: Final = "AWS's price pages for KMS and S3, us-east-1, 2026"
# More than a run sends; tests/rehearse measures it.
KMS_REQUESTS: Final = 1_000
S3_WRITES: Final = 150
S3_READS: Final = 300


@dataclass(frozen=True, slots=True)
class Names:
    """The names of what one run makes.

    Attributes:
        run: the run's id.
    """

    run: str

    @classmethod
    def new(cls) -> Names:
        while not RUN_ID.fullmatch(run := secrets.token_hex(6)):
            pass
        return cls(run)

    @property
    def bucket(self) -> str:
        return f"{PREFIX}{self.run}"

    def role(self, name: str) -> str:
        return f"{PREFIX}{self.run}-{name}"

    def alias(self, name: str) -> str:
        return f"alias/{PREFIX}{self.run}-{name}"


@dataclass(frozen=True, slots=True)
class Cost:
    """A part of the estimate.

    Attributes:
        what: what is paid for.
        count: how many.
        each: the price of one, in USD.
    """

    what: str
    count: int
    each: float

    @property
    def usd(self) -> float:
        return self.count * self.each


COSTS: Final = (
    Cost("keys for a month, the replica counted", 4, 1.0),
    Cost("rotation of a key for a month", 1, 1.0),
    Cost("KMS requests", KMS_REQUESTS, USD_PER_10_000_CALLS / 10_000),
    Cost("S3 writes and listings", S3_WRITES, 0.005 / 1000),
    Cost("S3 reads", S3_READS, 0.0004 / 1000),
)


def usd() -> float:
    """Return what a run costs at most."""
    return sum(cost.usd for cost in COSTS)


def makes(regions: Sequence[str]) -> list[str]:
    """Return what a run makes, each in a phrase."""
    near, far = regions
    return [
        f"3 KMS keys in {near}, one of them multi-Region with a replica in {far}",
        f"1 S3 bucket in {near}, with about 20 small objects and one of 12 MiB",
        "2 IAM roles without a policy, which only these credentials' account may assume",
        "1 table of data keys, in an SQLite file on this machine",
    ]


# Those that only read what is known about a key; a key that does not exist has no tag.
_LOOK: Final = "DescribeKey GetKeyPolicy GetKeyRotationStatus ListGrants ListKeyRotations ListResourceTags"
_USE: Final = """
    CancelKeyDeletion CreateAlias CreateGrant Decrypt DeleteAlias DisableKey DisableKeyRotation EnableKey
    EnableKeyRotation Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext PutKeyPolicy ReEncryptFrom ReEncryptTo
    ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource UpdateAlias
    UpdateKeyDescription
"""
_BUCKET: Final = """
    CreateBucket DeleteBucket ListBucket ListBucketMultipartUploads ListBucketVersions
"""
_OBJECTS: Final = """
    AbortMultipartUpload DeleteObjectVersion GetObject GetObjectTagging PutObject
"""
_ROLES: Final = "CreateRole DeleteRole TagRole"


def policy(regions: Sequence[str]) -> Document:
    """Return the identity policy that a run and its clean-up need.

    It allows to use and change only what carries the tag or the name of a rehearsal, and to read what an audit reads.
    Since KMS cannot allow tags at creation alone, it also allows to tag any key, and so to use it: it is a policy for
    the time of the rehearsal.
    """
    partition = partition_of(regions[0])
    keys = [f"arn:{partition}:kms:{region}:*:key/*" for region in regions]
    bucket = f"arn:{partition}:s3:::{PREFIX}*"
    roles = f"arn:{partition}:iam::*:role/{PREFIX}*"
    aliases = [f"arn:{partition}:kms:{region}:*:alias/{PREFIX}*" for region in regions]
    tagged = {"Null": {f"aws:ResourceTag/{TAG}": "false"}}
    named = {"Null": {f"aws:RequestTag/{TAG}": "false"}}
    multi_region = "mrk.kms.amazonaws.com"
    return {
        "Version": "2012-10-17",
        "Statement": [
            # Without a condition: AWS does not say that a replica, which CreateKey allows too, shows its tags there.
            _allow("MakeKeys", ["kms:CreateKey"], "*"),
            _allow("TagItsKeys", ["kms:TagResource"], "*", named),
            _allow("UseItsKeys", _named("kms", _USE), keys, tagged),
            _allow("LookAtKeys", _named("kms", _LOOK), keys),
            _allow("NameItsKeys", _named("kms", "CreateAlias DeleteAlias UpdateAlias"), aliases),
            _allow("ListKeys", _named("kms", "GenerateRandom ListAliases ListKeys"), "*"),
            _allow(
                "MakeTheFirstMultiRegionKey",
                ["iam:CreateServiceLinkedRole"],
                "*",
                {"StringEquals": {"iam:AWSServiceName": multi_region}},
            ),
            _allow("UseItsBucket", _named("s3", _BUCKET), bucket),
            _allow("UseItsObjects", _named("s3", _OBJECTS), f"{bucket}/*"),
            _allow("UseItsRoles", [*_named("iam", _ROLES), "sts:AssumeRole"], roles),
            _allow("FindWhatIsLeft", ["iam:ListRoles", "s3:ListAllMyBuckets"], "*"),
            *map(_without_events, allow_audit()),
        ],
    }


def _without_events(statement: Document) -> Document:
    """Return a statement of the audit's without what looks up events, which a rehearsal does not."""
    actions = statement["Action"]
    kept = (
        [action for action in actions if action != "cloudtrail:LookupEvents"] if isinstance(actions, list) else actions
    )
    return statement | {"Action": kept}


def _named(service: str, names: str) -> list[str]:
    return [f"{service}:{name}" for name in names.split()]


def _allow(
    sid: str, actions: list[str], resource: str | list[str], condition: dict[str, dict[str, str]] | None = None
) -> Document:
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
    return statement if condition is None else statement | {"Condition": condition}
