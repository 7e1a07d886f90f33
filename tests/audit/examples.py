"""Policies made after the examples of AWS's documentation, and what an audit says of each.

The names, keys and accounts are ours. Each row names the page whose example it follows: of the KMS Developer Guide,
else of the guide of the service that is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.audit.accounts import ADMIN, APP, BACKUP, FOREIGN, OWN, REGION, arn, role, root

Row = tuple[str, str, list[Mapping[str, Any]], set[str]]


def on(who: Any, *actions: str, when: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a statement of a key policy."""
    principal = who if isinstance(who, dict) or who == "*" else {"AWS": who}
    found = {"Principal": principal, "Action": [f"kms:{one}" for one in actions], "Resource": "*"}
    return found | ({"Condition": when} if when else {}) | more


def may(*actions: str, at: Any = "*", when: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a statement of an identity policy."""
    return (
        {"Action": [one if ":" in one or one == "*" else f"kms:{one}" for one in actions], "Resource": at}
        | ({"Condition": when} if when else {})
        | more
    )


def equals(key: str, value: Any) -> dict[str, Any]:
    return {"StringEquals": {key: value}}


def service(name: str) -> dict[str, str]:
    return {"Service": f"{name}.amazonaws.com"}


ROOT: Final = on(root(), "*")
MANAGES: Final = ("Create*", "Describe*", "Enable*", "List*", "Put*", "Disable*", "ScheduleKeyDeletion")
USES: Final = ("Encrypt", "Decrypt", "ReEncrypt*", "GenerateDataKey*", "DescribeKey")
TRAILS: Final = f"arn:aws:cloudtrail:*:{OWN}:trail/*"
LOG: Final = f"arn:aws:logs:{REGION}:{OWN}:log-group:one"
EC2: Final = equals("kms:ViaService", f"ec2.{REGION}.amazonaws.com")

KEY_POLICIES: Final[list[Row]] = [
    ("the default", "Default key policy", [ROOT], set()),
    (
        "the console's default",
        "Default key policy",
        [
            ROOT,
            on(ADMIN, "Describe*", "Enable*", "List*", "Put*", "Disable*", "ScheduleKeyDeletion"),
            on(APP, *USES),
            on(APP, "CreateGrant", "ListGrants", when={"Bool": {"kms:GrantIsForAWSResource": "true"}}),
        ],
        set(),
    ),
    ("administrators alone", "Default key policy", [on(ADMIN, *MANAGES)], set()),
    ("users alone", "Default key policy", [on(ADMIN, *MANAGES), on(APP, *USES)], set()),
    (
        "one role manages and uses",
        "Default key policy",
        [on(ADMIN, *MANAGES), on(ADMIN, *USES)],
        {"key-policy-admin-can-use"},
    ),
    ("one role may do all", "Default key policy", [on(ADMIN, "*")], {"key-policy-admin-can-use"}),
    (
        "another account as a whole",
        "Allowing users in other accounts to use a KMS key",
        [ROOT, on(root(FOREIGN), *USES)],
        {"key-policy-foreign-account"},
    ),
    (
        "a role of another account",
        "Allowing users in other accounts to use a KMS key",
        [ROOT, on(role("External", FOREIGN), *USES)],
        {"key-policy-foreign-account"},
    ),
    (
        "another account by its number",
        "Allowing users in other accounts to use a KMS key",
        [ROOT, on(FOREIGN, "Decrypt")],
        {"key-policy-foreign-account"},
    ),
    ("everybody", "Key policies in AWS KMS", [ROOT, on("*", "Decrypt")], {"key-policy-public"}),
    ("everybody, all", "Key policies in AWS KMS", [on({"AWS": "*"}, "*")], {"key-policy-public"}),
    (
        "everybody in the account",
        "AWS KMS condition keys: kms:CallerAccount",
        [ROOT, on("*", *USES, when=equals("kms:CallerAccount", OWN))],
        set(),
    ),
    (
        "everybody in the account by a service",
        "AWS KMS condition keys: kms:CallerAccount",
        [
            on(
                "*",
                "Encrypt",
                "Decrypt",
                when=equals("kms:CallerAccount", OWN) | {"StringLike": {"kms:ViaService": "ec2.*.amazonaws.com"}},
            )
        ],
        {"key-policy-via-service"},
    ),
    (
        "everybody by a service",
        "AWS KMS condition keys: kms:ViaService",
        [ROOT, on("*", "Decrypt", when=EC2)],
        {"key-policy-public"},
    ),
    (
        "an organization",
        "AWS global condition keys: aws:PrincipalOrgID",
        [ROOT, on("*", "Decrypt", when=equals("aws:PrincipalOrgID", "o-a1b2c3d4e5"))],
        set(),
    ),
    (
        "a part of an organization",
        "AWS global condition keys: aws:PrincipalOrgPaths",
        [ROOT, on("*", "Decrypt", when={"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-a1b2c3d4e5/r-ab12/*"}})],
        set(),
    ),
    (
        "an organization, if there is one",
        "IAM JSON policy elements: condition operators",
        [ROOT, on("*", "Decrypt", when={"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}})],
        {"key-policy-public"},
    ),
    (
        "everybody but one",
        "AWS JSON policy elements: NotPrincipal",
        [{"NotPrincipal": {"AWS": role("Out")}, "Action": "kms:Decrypt"}],
        {"key-policy-not-principal"},
    ),
    (
        "a denial of everybody but one",
        "AWS JSON policy elements: NotPrincipal",
        [ROOT, {"NotPrincipal": {"AWS": [ADMIN, root()]}, "Action": "kms:Put*", "Effect": "Deny"}],
        set(),
    ),
    (
        "a context",
        "AWS KMS condition keys: kms:EncryptionContext",
        [ROOT, on(APP, "Encrypt", "Decrypt", when=BACKUP)],
        set(),
    ),
    (
        "a context with wildcards",
        "AWS KMS condition keys: kms:EncryptionContext",
        [ROOT, on(APP, "Decrypt", when={"StringLike": {"kms:EncryptionContext:purpose": "back*"}})],
        {"key-policy-wildcard-context"},
    ),
    (
        "a context for one, none for another",
        "AWS KMS condition keys: kms:EncryptionContext",
        [on(APP, "Decrypt", when=BACKUP), on(role("Other"), "Decrypt")],
        {"key-policy-no-context"},
    ),
    (
        "names of a context",
        "AWS KMS condition keys: kms:EncryptionContextKeys",
        [ROOT, on(APP, "Decrypt", when={"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "purpose"}})],
        set(),
    ),
    (
        "a context that must be there",
        "AWS KMS condition keys: kms:EncryptionContextKeys",
        [ROOT, on(APP, "Decrypt", when={"Null": {"kms:EncryptionContext:purpose": "false"}})],
        set(),
    ),
    (
        "a service on somebody's behalf",
        "AWS KMS condition keys: kms:ViaService",
        [on(ADMIN, *MANAGES), on(APP, *USES, when=EC2)],
        {"key-policy-via-service"},
    ),
    (
        "no service on anybody's behalf",
        "AWS KMS condition keys: kms:ViaService",
        [ROOT, on(APP, "Decrypt"), on("*", "Decrypt", when=EC2, Effect="Deny")],
        set(),
    ),
    (
        "a service or directly",
        "AWS KMS condition keys: kms:ViaService",
        [on(APP, "Decrypt", when=EC2), on(role("Other"), "Decrypt")],
        set(),
    ),
    (
        "grants for AWS resources",
        "AWS KMS condition keys: kms:GrantIsForAWSResource",
        [ROOT, on(APP, "CreateGrant", when={"Bool": {"kms:GrantIsForAWSResource": "true"}})],
        set(),
    ),
    (
        "grants of some operations",
        "AWS KMS condition keys: kms:GrantOperations",
        [
            ROOT,
            on(APP, "CreateGrant", when={"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt"]}}),
        ],
        set(),
    ),
    (
        "grants for one",
        "AWS KMS condition keys: kms:GranteePrincipal",
        [ROOT, on(APP, "CreateGrant", when=equals("kms:GranteePrincipal", role("Other")))],
        set(),
    ),
    (
        "replicas in some Regions",
        "Controlling access to multi-Region keys",
        [ROOT, on(ADMIN, "ReplicateKey", when=equals("kms:ReplicaRegion", ["us-east-1", "eu-west-3"]))],
        set(),
    ),
    (
        "CloudTrail",
        "CloudTrail: Configure AWS KMS key policies for CloudTrail",
        [
            ROOT,
            on(
                service("cloudtrail"),
                "GenerateDataKey*",
                when={"StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": TRAILS}},
            ),
        ],
        set(),
    ),
    (
        "CloudWatch Logs",
        "CloudWatch Logs: Encrypt log data using AWS KMS",
        [
            ROOT,
            on(
                service(f"logs.{REGION}"),
                *USES,
                when={"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": LOG}},
            ),
        ],
        set(),
    ),
    (
        "SNS for a bucket of the account",
        "SNS: Managing encryption keys and costs",
        [ROOT, on(service("s3"), "GenerateDataKey*", "Decrypt", when=equals("aws:SourceAccount", OWN))],
        set(),
    ),
    (
        "out of a network only",
        "AWS KMS: Controlling access to your VPC endpoint",
        [ROOT, on("*", "Decrypt", when={"StringNotEquals": {"aws:SourceVpce": "vpce-1234abcd"}}, Effect="Deny")],
        set(),
    ),
    (
        "everybody in a network",
        "AWS KMS: Controlling access to your VPC endpoint",
        [ROOT, on("*", "Decrypt", when=equals("aws:SourceVpce", "vpce-1234abcd"))],
        set(),
    ),
    (
        "deletion with MFA",
        "AWS global condition keys: aws:MultiFactorAuthPresent",
        [ROOT, on(ADMIN, "ScheduleKeyDeletion", when={"Bool": {"aws:MultiFactorAuthPresent": "true"}})],
        set(),
    ),
    (
        "one side of re-encryption",
        "AWS KMS permissions: ReEncrypt",
        [ROOT, on(APP, "ReEncryptFrom", "Decrypt")],
        {"reencrypt-asymmetry"},
    ),
    (
        "re-encryption under the same key",
        "AWS KMS condition keys: kms:ReEncryptOnSameKey",
        [ROOT, on(APP, "ReEncrypt*", when={"Bool": {"kms:ReEncryptOnSameKey": "true"}})],
        set(),
    ),
    ("signing", "Allows key users to use the KMS key", [ROOT, on(APP, "Sign", "Verify", "GetPublicKey")], set()),
]

ALL_KEYS: Final = f"arn:aws:kms:*:{OWN}:key/*"
DECRYPTS: Final = {"iam-decrypt-all-keys", "key-policy-root-delegation"}
LEAKS: Final = {"iam-decrypt-all-keys", "reencrypt-from-unbound"}

IAM_POLICIES: Final[list[Row]] = [
    ("decryption with one key", "IAM policy examples", [may("Decrypt", at=arn())], set()),
    ("use of two keys", "IAM policy examples", [may("Encrypt", "Decrypt", at=[arn(), arn(2)])], set()),
    (
        "use of a key of all Regions",
        "IAM policy examples",
        [may("Decrypt", at=arn().replace(REGION, "*"))],
        {"key-policy-root-delegation"},
    ),
    ("decryption with every key", "IAM policy examples", [may("Decrypt")], DECRYPTS),
    ("decryption with every key of the account", "IAM policy examples", [may("Decrypt", at=ALL_KEYS)], DECRYPTS),
    (
        "decryption with every key of a Region",
        "IAM policy examples",
        [may("Decrypt", at=f"arn:aws:kms:us-west-2:{OWN}:key/*")],
        {"iam-decrypt-all-keys"},
    ),
    (
        "every key of another account",
        "IAM policy examples",
        [may("Decrypt", at=f"arn:aws:kms:*:{FOREIGN}:key/*")],
        {"iam-decrypt-all-keys"},
    ),
    (
        "one key of another account",
        "Allowing users in other accounts to use a KMS key",
        [may("Decrypt", at=arn().replace(OWN, FOREIGN))],
        set(),
    ),
    ("all of KMS", "IAM policy examples", [may("*", at="*")], DECRYPTS),
    ("AWS's policy for administrators", "IAM: AdministratorAccess", [may("kms:*")], DECRYPTS),
    ("looking", "IAM policy examples", [may("DescribeKey", "List*", "Get*")], set()),
    ("making keys", "IAM policy examples", [may("CreateKey", "TagResource")], set()),
    (
        "making aliases",
        "Controlling access to aliases",
        [may("CreateAlias", at=[f"arn:aws:kms:*:{OWN}:alias/*", arn()])],
        set(),
    ),
    ("encryption with every key", "IAM policy examples", [may("Encrypt", "GenerateDataKey")], set()),
    ("re-encryption of one key", "AWS KMS permissions: ReEncrypt", [may("ReEncrypt*", at=arn())], set()),
    (
        "re-encryption of one key to any",
        "AWS KMS permissions: ReEncrypt",
        [
            may("ReEncryptFrom", at=arn()),
            may("ReEncryptTo"),
        ],
        {"reencrypt-from-unbound"},
    ),
    ("re-encryption of any key", "AWS KMS permissions: ReEncrypt", [may("ReEncrypt*")], LEAKS),
    (
        "re-encryption of any key by itself",
        "AWS KMS condition keys: kms:ReEncryptOnSameKey",
        [may("ReEncrypt*", when={"Bool": {"kms:ReEncryptOnSameKey": "true"}})],
        set(),
    ),
    (
        "keys by alias in the request",
        "AWS KMS condition keys: kms:RequestAlias",
        [may("Decrypt", when=equals("kms:RequestAlias", "alias/backup"))],
        set(),
    ),
    (
        "keys by their aliases",
        "AWS KMS condition keys: kms:ResourceAliases",
        [may("Decrypt", at=ALL_KEYS, when={"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/back*"}})],
        set(),
    ),
    (
        "keys by any alias",
        "AWS KMS condition keys: kms:ResourceAliases",
        [may("Decrypt", at=ALL_KEYS, when={"ForAnyValue:StringLike": {"kms:ResourceAliases": "*"}})],
        DECRYPTS,
    ),
    (
        "keys by tag",
        "Using tags to control access to KMS keys",
        [may("Decrypt", at=ALL_KEYS, when=equals("aws:ResourceTag/team", "backup"))],
        set(),
    ),
    (
        "keys without a tag",
        "Using tags to control access to KMS keys",
        [may("Decrypt", when={"StringNotEquals": {"aws:ResourceTag/team": "backup"}})],
        DECRYPTS,
    ),
    (
        "keys by tag, if they have it",
        "IAM JSON policy elements: condition operators",
        [may("Decrypt", when={"StringEqualsIfExists": {"aws:ResourceTag/team": "backup"}})],
        DECRYPTS,
    ),
    ("a context", "AWS KMS condition keys: kms:EncryptionContext", [may("Decrypt", when=BACKUP)], set()),
    (
        "any value of a context",
        "AWS KMS condition keys: kms:EncryptionContext",
        [may("Decrypt", when={"StringLike": {"kms:EncryptionContext:purpose": "*"}})],
        DECRYPTS,
    ),
    ("a service on one's behalf", "AWS KMS condition keys: kms:ViaService", [may("Decrypt", when=EC2)], set()),
    (
        "with MFA",
        "AWS global condition keys: aws:MultiFactorAuthPresent",
        [may("Decrypt", when={"Bool": {"aws:MultiFactorAuthPresent": "true"}})],
        DECRYPTS,
    ),
    (
        "from addresses",
        "AWS global condition keys: aws:SourceIp",
        [may("Decrypt", when={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})],
        DECRYPTS,
    ),
    ("a denial", "IAM policy examples", [may("Decrypt", Effect="Deny")], set()),
    ("all but what is denied", "Policy evaluation logic", [may("*"), may("Decrypt", Effect="Deny")], LEAKS),
    (
        "all but one action",
        "IAM JSON policy elements: NotAction",
        [{"NotAction": "kms:Decrypt", "Resource": "*"}],
        LEAKS,
    ),
    ("all but IAM", "IAM JSON policy elements: NotAction", [{"NotAction": "iam:*", "Resource": "*"}], DECRYPTS),
    (
        "all keys but one",
        "IAM JSON policy elements: NotResource",
        [{"Action": "kms:Decrypt", "NotResource": arn()}],
        {"iam-decrypt-all-keys"},
    ),
    ("a wildcard in the action", "IAM JSON policy elements: Action", [may("De*")], DECRYPTS),
    ("a question mark in the action", "IAM JSON policy elements: Action", [may("D?crypt")], DECRYPTS),
    (
        "keys whose ids begin so",
        "IAM JSON policy elements: Resource",
        [may("Decrypt", at=arn().rpartition("-")[0] + "-*")],
        {"key-policy-root-delegation"},
    ),
    (
        "aliases, which decrypt nothing",
        "Controlling access to aliases",
        [may("Decrypt", at=f"arn:aws:kms:*:{OWN}:alias/*")],
        set(),
    ),
    ("administration", "IAM policy examples", [may("PutKeyPolicy", "ScheduleKeyDeletion", "Enable*", at=arn())], set()),
    ("another service", "IAM policy examples", [may("s3:GetObject", at="arn:aws:s3:::backup/*")], set()),
]
