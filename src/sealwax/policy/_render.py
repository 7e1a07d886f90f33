"""Policies and other resources as CloudFormation templates and Terraform configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import Document
from sealwax.policy._patterns import shown

FORMATS: Final = ("json", "cloudformation", "terraform")

#: Keeps a key if its stack is deleted or replaces it. Without the key, everything encrypted under it is lost.
KEPT: Final = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
#: The same in Terraform.
PREVENT_DESTROY: Final = "\n  lifecycle {\n    prevent_destroy = true\n  }\n"

_SURROGATES: Final = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


def as_json(document: Mapping[str, object]) -> str:
    """Return a document as indented JSON."""
    return json.dumps(document, indent=2)


def key_in_cloudformation(document: Document, description: str) -> str:
    """Return a template with a key that has this key policy."""
    properties = {"Description": description, "EnableKeyRotation": True, "KeyPolicy": document}
    return as_json(template({"Key": {"Type": "AWS::KMS::Key", **KEPT, "Properties": properties}}))


def identity_in_cloudformation(document: Document, description: str) -> str:
    """Return a template with a managed policy."""
    properties = {"Description": description, "PolicyDocument": document}
    return as_json(template({"Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}}))


def template(resources: Mapping[str, object], parameters: Mapping[str, object] | None = None) -> Document:
    """Return a CloudFormation template.

    Raises:
        PolicyError: a policy has text that CloudFormation would replace.
    """
    for resource in resources.values():
        _refuse_references(resource)
    named = {"Parameters": parameters} if parameters else {}
    return {"AWSTemplateFormatVersion": "2010-09-09", **named, "Resources": resources}


def _refuse_references(value: object) -> None:
    """Refuse text that CloudFormation would replace. It has no escape for dynamic references."""
    if isinstance(value, str):
        if "{{resolve:" in value:
            raise PolicyError(f"CloudFormation would resolve '{shown(value)}' as a dynamic reference; use JSON instead")
    elif isinstance(value, Mapping):
        for name, member in value.items():
            _refuse_references(name)
            _refuse_references(member)
    elif isinstance(value, list):
        for member in value:
            _refuse_references(member)


def key_in_terraform(document: Document, description: str) -> str:
    """Return a resource with a key that has this key policy."""
    arguments = {"description": description, "enable_key_rotation": True}
    return resource("aws_kms_key", arguments, policy=document, blocks=PREVENT_DESTROY)


def identity_in_terraform(document: Document, description: str) -> str:
    """Return a resource with a managed policy."""
    return resource("aws_iam_policy", {"description": description}, policy=document)


def grant_in_terraform(request: Document) -> str:
    """Return a resource with a grant.

    Args:
        request: the parameters of CreateGrant.
    """
    arguments = {
        "key_id": request["KeyId"],
        "grantee_principal": request["GranteePrincipal"],
        "operations": request["Operations"],
    }
    optional = {"name": "Name", "retiring_principal": "RetiringPrincipal"}
    arguments |= {argument: request[member] for argument, member in optional.items() if member in request}
    constraints = {
        argument: request["Constraints"][member]
        for argument, member in (
            ("encryption_context_equals", "EncryptionContextEquals"),
            ("encryption_context_subset", "EncryptionContextSubset"),
        )
        if member in request.get("Constraints", {})
    }
    blocks = f"\n{block('constraints', constraints)}" if constraints else ""
    return resource("aws_kms_grant", arguments, blocks=blocks)


def resource(
    kind: str,
    arguments: Mapping[str, object],
    *,
    name: str = "this",
    policy: Document | None = None,
    blocks: str = "",
) -> str:
    """Return a Terraform resource.

    Args:
        arguments: the values of its arguments. A ``Reference`` stands as it is.
        policy: the value of its argument ``policy``, as JSON.
        blocks: nested blocks, as ``block`` returns them.
    """
    values = {argument: expression(value) for argument, value in arguments.items()}
    if policy is not None:
        values["policy"] = f"jsonencode({_indented(policy, '  ')})"
    width = max(map(len, values))
    lines = "\n".join(f"  {argument.ljust(width)} = {value}" for argument, value in values.items())
    return f'resource "{kind}" "{name}" {{\n{lines}\n{blocks}}}'


def block(name: str, arguments: Mapping[str, object], blocks: str = "") -> str:
    """Return a block of a Terraform resource, with blocks in it."""
    width = max(map(len, arguments), default=0)
    values = {argument.ljust(width): _indented(value, "    ") for argument, value in arguments.items()}
    lines = "".join(f"    {argument} = {value}\n" for argument, value in values.items())
    return f"  {name} {{\n{lines}{blocks}  }}\n"


class Reference(str):
    """A reference to another Terraform resource or a variable, such as ``var.bucket``."""

    __slots__ = ()


def _indented(value: object, by: str) -> str:
    return expression(value, 2).replace("\n", f"\n{by}")


def expression(value: object, indent: int | None = None) -> str:
    """Return a value as a Terraform expression.

    JSON is one, except that ``${`` and ``%{`` start templates in strings, and that surrogate pairs have another escape.
    """
    if isinstance(value, Reference):
        return str(value)
    text = json.dumps(value, indent=indent).replace("${", "$${").replace("%{", "%%{")
    return _SURROGATES.sub(_astral, text)


def _astral(pair: re.Match[str]) -> str:
    high, low = int(pair[1], 16), int(pair[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"
