"""Key policies as AWS's own documentation gives them, in our structure, and what an audit says of each.

A row is the guide and page, the statements, and the rules of its findings. Accounts and names are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.audit.accounts import ADMIN, APP, FOREIGN, OWN, REGION, role, root
from tests.audit.examples import MANAGES, ROOT, USES, equals, on, service

Row = tuple[str, list[Mapping[str, Any]], set[str]]

AUTO_SCALING: Final = f"arn:aws:iam::{OWN}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
FOR_AWS: Final = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
TRAIL: Final = f"arn:aws:cloudtrail:{REGION}:{OWN}:trail/all"
TRAILS: Final = {"StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": f"arn:aws:cloudtrail:*:{OWN}:trail/*"}}
OURS: Final = equals("kms:CallerAccount", OWN)
OPEN: Final = {"key-policy-service-any-account"}


def via(*names: str, **more: Any) -> dict[str, Any]:
    """Return a condition on the services that a call comes through, beside others with StringEquals."""
    shown = [f"{one}.{REGION}.amazonaws.com" for one in names]
    return {"StringEquals": {"kms:ViaService": shown[0] if len(shown) == 1 else shown} | more}


def source(arn: str, operator: str = "ArnLike") -> dict[str, Any]:
    return {operator: {"aws:SourceArn": arn}}


def of(arn_service: str, rest: str) -> str:
    return f"arn:aws:{arn_service}:{REGION}:{OWN}:{rest}"


CLOUDTRAIL_DEFAULT: Final[list[Mapping[str, Any]]] = [
    ROOT,
    on(service("cloudtrail"), "GenerateDataKey*", when=TRAILS | equals("aws:SourceArn", TRAIL)),
    on(service("cloudtrail"), "DescribeKey", when=equals("aws:SourceArn", TRAIL)),
    on("*", "Decrypt", "ReEncryptFrom", when=TRAILS | OURS),
    on("*", "CreateAlias", when=via("ec2", **{"kms:CallerAccount": OWN})),
    on("*", "Decrypt", "ReEncryptFrom", when=TRAILS | OURS),
]

DOCUMENTED: Final[list[Row]] = [
    ("KMS: Default key policy", [ROOT], set()),
    (
        "KMS: Default key policy, of the console",
        [
            ROOT,
            on(ADMIN, *MANAGES, "CancelKeyDeletion", "RotateKeyOnDemand"),
            on(APP, *USES),
            on(APP, "CreateGrant", "ListGrants", "RevokeGrant", when=FOR_AWS),
        ],
        set(),
    ),
    ("CloudTrail: Default KMS key policy created in CloudTrail console", CLOUDTRAIL_DEFAULT, set()),
    (
        "CloudTrail: Default KMS key policy, as it was without the source",
        [
            ROOT,
            on(service("cloudtrail"), "GenerateDataKey*", when=TRAILS),
            on(service("cloudtrail"), "DescribeKey"),
            *CLOUDTRAIL_DEFAULT[3:],
        ],
        set(),
    ),
    (
        "CloudTrail: Default KMS key policy for CloudTrail Lake event data stores",
        [
            on(service("cloudtrail"), "GenerateDataKey", "Decrypt"),
            ROOT,
            on(APP, "Decrypt", "GenerateDataKey"),
        ],
        OPEN,
    ),
    (
        "CloudTrail: Granting decrypt permissions for trails",
        [ROOT, on(APP, "Decrypt", when={"Null": {"kms:EncryptionContext:aws:cloudtrail:arn": "false"}})],
        set(),
    ),
    (
        "CloudWatch Logs: Encrypt log data, one group",
        [
            ROOT,
            on(
                service(f"logs.{REGION}"),
                *USES[:4],
                "Describe*",
                when={"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": of("logs", "log-group:one")}},
            ),
        ],
        set(),
    ),
    (
        "CloudWatch Logs: Encrypt log data, all groups of the account",
        [
            ROOT,
            on(
                service(f"logs.{REGION}"),
                *USES[:4],
                "Describe*",
                when={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": of("logs", "*")}},
            ),
        ],
        set(),
    ),
    (
        "SNS: Key management, event sources, without a source",
        [ROOT, on(service("s3"), "GenerateDataKey*", "Decrypt")],
        OPEN,
    ),
    (
        "SNS: Key management, event sources, with one",
        [
            ROOT,
            on(
                service("s3"),
                "GenerateDataKey*",
                "Decrypt",
                when=source("arn:aws:s3:::a-bucket") | equals("aws:SourceAccount", OWN),
            ),
        ],
        set(),
    ),
    (
        "SQS: Key management, SNS to SQS",
        [ROOT, on(service("sns"), "GenerateDataKey", "Decrypt", when=source(of("sns", "topic")))],
        set(),
    ),
    (
        "EventBridge: Encrypted queues as targets",
        [ROOT, on(service("events"), "Decrypt", "GenerateDataKey", when=source(of("events", "rule/one"), "ArnEquals"))],
        set(),
    ),
    (
        "CloudWatch: Alarms to an encrypted topic",
        [ROOT, on(service("cloudwatch"), "Decrypt", "GenerateDataKey*")],
        OPEN,
    ),
    (
        "Cost Management: Budgets to an encrypted topic",
        [
            ROOT,
            on(
                service("budgets"),
                "GenerateDataKey*",
                "Decrypt",
                when=equals("aws:SourceAccount", OWN) | source(f"arn:aws:budgets::{OWN}:*"),
            ),
        ],
        set(),
    ),
    (
        "S3: Inventory to an encrypted bucket",
        [
            ROOT,
            on(
                service("s3"),
                "GenerateDataKey",
                when=equals("aws:SourceAccount", OWN) | source("arn:aws:s3:::a-bucket"),
            ),
        ],
        set(),
    ),
    (
        "Config: Permissions for the KMS key, service",
        [ROOT, on(service("config"), "Decrypt", "GenerateDataKey", when=equals("AWS:SourceAccount", OWN))],
        set(),
    ),
    (
        "Config: Permissions for the KMS key, accounts by their numbers",
        [ROOT, on([OWN, FOREIGN], "Decrypt", "GenerateDataKey")],
        {"key-policy-foreign-account"},
    ),
    (
        "EC2 Auto Scaling: Required key policy for encrypted volumes",
        [ROOT, on(AUTO_SCALING, *USES), on(AUTO_SCALING, "CreateGrant", when=FOR_AWS)],
        set(),
    ),
    (
        "EC2 Auto Scaling: Required key policy, across accounts",
        [ROOT, on(root(FOREIGN), *USES), on(root(FOREIGN), "CreateGrant")],
        {"key-policy-foreign-account"},
    ),
    (
        "EBS: Requirements for encryption",
        [ROOT, on(APP, *USES), on(APP, "CreateGrant", when=FOR_AWS)],
        set(),
    ),
    (
        "RDS: AWS KMS key management",
        [
            ROOT,
            on(
                "*",
                *USES,
                "CreateGrant",
                "ListGrants",
                when=via("rds", **{"kms:CallerAccount": OWN}),
            ),
        ],
        set(),
    ),
    (
        "Secrets Manager: Authorizing use of the KMS key",
        [
            on(
                "*",
                *USES,
                "CreateGrant",
                when=via("secretsmanager", **{"kms:CallerAccount": OWN}),
            ),
            on(root(), "Describe*", "Get*", "List*", "RevokeGrant"),
        ],
        {"key-policy-via-service"},
    ),
    (
        "Secrets Manager: Access from another account",
        [ROOT, on(role("Application", FOREIGN), "Decrypt", "DescribeKey")],
        {"key-policy-foreign-account"},
    ),
    (
        "DynamoDB: Usage notes, authorizing use",
        [
            ROOT,
            on(APP, *USES, "CreateGrant", when={"StringLike": {"kms:ViaService": "dynamodb.*.amazonaws.com"}}),
            on(ADMIN, "RevokeGrant", "ListGrants"),
        ],
        set(),
    ),
    (
        "EFS: Managing keys",
        [
            ROOT,
            on("*", *USES, "CreateGrant", when=via("elasticfilesystem", **{"kms:CallerAccount": OWN})),
        ],
        set(),
    ),
    (
        "WorkSpaces: Encrypted WorkSpaces",
        [ROOT, on(APP, *USES), on(APP, "CreateGrant", "ListGrants", "RevokeGrant", when=FOR_AWS)],
        set(),
    ),
    (
        "Systems Manager: Session Manager encryption",
        [ROOT, on(APP, "Decrypt"), on(role("Instance"), "Decrypt")],
        set(),
    ),
    (
        "Systems Manager: Parameter Store, by the parameter",
        [
            ROOT,
            on(APP, "Decrypt", when=equals("kms:EncryptionContext:PARAMETER_ARN", of("ssm", "parameter/one"))),
        ],
        set(),
    ),
    (
        "GuardDuty: Exporting findings",
        [
            ROOT,
            on(
                service("guardduty"),
                "GenerateDataKey",
                when=equals("aws:SourceAccount", OWN) | source(of("guardduty", "detector/1")),
            ),
        ],
        set(),
    ),
    (
        "Macie: Storing discovery results",
        [
            ROOT,
            on(
                service("macie"),
                "GenerateDataKey",
                "Encrypt",
                when=equals("aws:SourceAccount", OWN) | source(f"arn:aws:macie2:{REGION}:{OWN}:export-configuration:*"),
            ),
        ],
        set(),
    ),
    (
        "Inspector: Exporting reports",
        [
            ROOT,
            on(
                service("inspector2"),
                "Decrypt",
                "GenerateDataKey*",
                when=equals("aws:SourceAccount", OWN) | source(of("inspector2", "report/*")),
            ),
        ],
        set(),
    ),
    (
        "Route 53: KMS keys for DNSSEC signing",
        [
            ROOT,
            on(service("dnssec-route53"), "DescribeKey", "GetPublicKey", "Sign", when=equals("aws:SourceAccount", OWN)),
            on(service("dnssec-route53"), "CreateGrant", when=FOR_AWS | equals("aws:SourceAccount", OWN)),
        ],
        set(),
    ),
    (
        "SES: Encrypting received mail",
        [
            ROOT,
            on(
                service("ses"),
                "Encrypt",
                "GenerateDataKey*",
                when=equals("aws:SourceAccount", OWN)
                | source(of("ses", "receipt-rule-set/a:receipt-rule/b"), "StringEquals"),
            ),
        ],
        set(),
    ),
    (
        "CloudFront: Origins with SSE-KMS",
        [
            ROOT,
            on(
                service("cloudfront"),
                "Decrypt",
                "Encrypt",
                "GenerateDataKey*",
                when=source(f"arn:aws:cloudfront::{OWN}:distribution/E1", "StringEquals"),
            ),
        ],
        set(),
    ),
    (
        "VPC: Flow logs to a bucket with SSE-KMS",
        [
            ROOT,
            on(
                service("delivery.logs"),
                *USES,
                when=equals("aws:SourceAccount", OWN) | source(of("logs", "*")),
            ),
        ],
        set(),
    ),
    (
        "KMS: Condition keys for attested platforms",
        [
            on(ADMIN, *MANAGES),
            on(
                APP,
                "Decrypt",
                "GenerateDataKey",
                when={"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "ab" * 48}},
            ),
        ],
        set(),
    ),
    (
        "KMS: Controlling access through a VPC endpoint",
        [
            ROOT,
            on(
                "*",
                *USES,
                Effect="Deny",
                when={"StringNotEquals": {"aws:SourceVpce": "vpce-1234abcdf5678c90a"}},
            ),
        ],
        set(),
    ),
    (
        "IAM: Establish permissions guardrails using data perimeters",
        [
            ROOT,
            on("*", *USES),
            on(
                "*",
                "*",
                Effect="Deny",
                when={
                    "StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"},
                    "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
                },
            ),
        ],
        set(),
    ),
    (
        "IAM Identity Center: Key policies of customer managed keys",
        [
            ROOT,
            on(
                "*",
                "Decrypt",
                "ReEncryptTo",
                "ReEncryptFrom",
                "GenerateDataKeyWithoutPlaintext",
                when=equals("aws:PrincipalOrgID", "o-a1b2c3d4e5")
                | {"StringLike": {"kms:ViaService": "sso.*.amazonaws.com"}},
            ),
            on(
                service("sso"),
                "Decrypt",
                "GenerateDataKeyWithoutPlaintext",
                when={
                    "StringEquals": {"aws:SourceAccount": OWN},
                    "ArnLike": {"kms:EncryptionContext:aws:sso:instance-arn": "arn:aws:sso:::instance/ssoins-1"},
                },
            ),
        ],
        set(),
    ),
    (
        "CodePipeline: A pipeline with resources of another account",
        [ROOT, on([APP, root(FOREIGN)], *USES), on([APP, root(FOREIGN)], "CreateGrant", "ListGrants", when=FOR_AWS)],
        {"key-policy-foreign-account"},
    ),
]
