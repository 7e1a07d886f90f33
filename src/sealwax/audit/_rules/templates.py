"""Fixes as CloudFormation templates and Terraform configuration.

They show the resource as it should be, to be merged into the stack or module that manages it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from sealwax.audit._facts import KeyFacts, PolicyFacts
from sealwax.audit._findings import Block, BlockKind
from sealwax.errors import PolicyError
from sealwax.policy import Document
from sealwax.policy._render import KEPT, PREVENT_DESTROY, Reference, grant_in_terraform, resource, template

#: The file that a fix puts its policy into. Terraform reads it too, rather than have every report show it twice.
POLICY: Final = "policy.json"
_FROM_FILE: Final = {"policy": Reference(f'file("${{path.module}}/{POLICY}")')}
_INLINE_NAMES: Final = {"user": "UserName", "role": "RoleName", "group": "GroupName"}


def cloudformation(resources: Mapping[str, object], parameters: Mapping[str, object] | None = None) -> list[Block]:
    """Return a template in a block; none if CloudFormation would replace a part of its text."""
    try:
        return [Block(_folded(template(resources, parameters), 4), BlockKind.CLOUDFORMATION)]
    except PolicyError:
        return []


def _folded(value: object, levels: int, margin: str = "\n") -> str:
    """Return JSON with a property per line. Policies are on one line: the same fix has them indented in a file."""
    if not levels or not isinstance(value, Mapping):
        return json.dumps(value)
    inner = f"{margin}  "
    members = (f"{json.dumps(name)}: {_folded(member, levels - 1, inner)}" for name, member in value.items())
    return f"{{{inner}{f',{inner}'.join(members)}{margin}}}"


def terraform(*resources: str) -> Block:
    """Return Terraform resources in a block."""
    return Block("\n\n".join(resources), BlockKind.TERRAFORM)


def key_policy(key: KeyFacts, document: Document) -> list[Block]:
    """Return the blocks that set the policy of a key."""
    arguments = {"key_id": key.arn, **_FROM_FILE}
    return [*_key(key, {"KeyPolicy": document}), terraform(resource("aws_kms_key_policy", arguments))]


def key_settings(key: KeyFacts, properties: Mapping[str, object], arguments: Mapping[str, object]) -> list[Block]:
    """Return the blocks that change settings of a key.

    Args:
        properties: those of CloudFormation.
        arguments: those of Terraform.
    """
    kind = "aws_kms_replica_key" if key.multi_region == "replica" else "aws_kms_key"
    primary = {"primary_key_arn": key.related[0]} if key.multi_region == "replica" and key.related else {}
    return [*_key(key, properties), terraform(resource(kind, {**primary, **arguments}, blocks=PREVENT_DESTROY))]


def _key(key: KeyFacts, properties: Mapping[str, object]) -> list[Block]:
    if key.multi_region != "replica":
        family = {"MultiRegion": True} if key.multi_region == "primary" else {}
        return cloudformation({"Key": {"Type": "AWS::KMS::Key", **KEPT, "Properties": {**family, **properties}}})
    if not key.related or "KeyPolicy" not in properties:
        return []  # the resource of a replica needs both
    return replica(key.related[0], properties)


def replica(primary: str, properties: Mapping[str, object]) -> list[Block]:
    """Return the template of a replica of a multi-Region key."""
    described = {"PrimaryKeyArn": primary, **properties}
    return cloudformation({"Replica": {"Type": "AWS::KMS::ReplicaKey", **KEPT, "Properties": described}})


def replica_in_terraform(primary: str, policy: Document) -> str:
    """Return the Terraform resource of a replica of a multi-Region key."""
    return resource("aws_kms_replica_key", {"primary_key_arn": primary}, policy=policy, blocks=PREVENT_DESTROY)


def alias(name: str, key: str) -> list[Block]:
    """Return the blocks that point an alias at a key."""
    properties = {"AliasName": name, "TargetKeyId": key}
    return [
        *cloudformation({"Alias": {"Type": "AWS::KMS::Alias", "Properties": properties}}),
        terraform(resource("aws_kms_alias", {"name": name, "target_key_id": key})),
    ]


def grant(request: Document) -> Block:
    """Return the block that creates a grant. CloudFormation has no grants."""
    return terraform(grant_in_terraform(request))


def identity_policy(policy: PolicyFacts, name: str, document: Document) -> list[Block]:
    """Return the blocks that write an identity policy.

    Args:
        name: its name, which is another one if it takes the place of a policy of AWS.
    """
    if policy.kind != "inline":
        properties = {"ManagedPolicyName": name, "PolicyDocument": document}
        return [
            *cloudformation({"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}}),
            terraform(resource("aws_iam_policy", {"name": name, **_FROM_FILE})),
        ]
    owner = policy.id.partition("#")[0]
    kind, owner_name = owner_of(owner)
    member = _INLINE_NAMES[kind]
    described = {"PolicyName": name, member: owner_name, "PolicyDocument": document}
    return [
        *cloudformation({"Policy": {"Type": f"AWS::IAM::{kind.capitalize()}Policy", "Properties": described}}),
        terraform(resource(f"aws_iam_{kind}_policy", {"name": name, kind: owner_name, **_FROM_FILE})),
    ]


def owner_of(arn: str) -> tuple[str, str]:
    """Return the kind (``user``, ``role`` or ``group``) and the name of the owner of an inline policy."""
    return f"{arn}:::::".split(":", 5)[5].partition("/")[0], arn.rpartition("/")[2]


#: The bucket of a trail, which the facts do not include.
_BUCKET: Final = {"Bucket": {"Type": "String", "Description": "The bucket that the trail writes to"}}
_BUCKET_VARIABLE: Final = (
    'variable "bucket" {\n  description = "The bucket that the trail writes to"\n  type        = string\n}'
)


def trail(
    name: str, properties: Mapping[str, object], arguments: Mapping[str, object], blocks: str = ""
) -> list[Block]:
    """Return the blocks that change settings of a trail.

    Args:
        properties: those of CloudFormation.
        arguments: those of Terraform.
        blocks: nested blocks of Terraform.
    """
    settings = {"TrailName": name, "IsLogging": True, "S3BucketName": {"Ref": "Bucket"}, **properties}
    return [
        *cloudformation({"Trail": {"Type": "AWS::CloudTrail::Trail", "Properties": settings}}, _BUCKET),
        terraform(
            _BUCKET_VARIABLE,
            resource(
                "aws_cloudtrail",
                {"name": name, "s3_bucket_name": Reference("var.bucket"), **arguments},
                blocks=blocks and f"\n{blocks}",
            ),
        ),
    ]
