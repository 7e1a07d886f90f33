"""What was written, as CloudFormation and Terraform take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sealwax.errors import PolicyError
from sealwax.policy._patterns import shown

FORMATS: Final = ("json", "cloudformation", "terraform")


def as_json(document: Mapping[str, Any]) -> str:
    """Return a document as it is."""
    return json.dumps(document, indent=2)


def key_in_cloudformation(document: Mapping[str, Any], description: str) -> str:
    """Return a template with a key that has this key policy."""
    properties = {"Description": description, "EnableKeyRotation": True, "KeyPolicy": document}
    # Who deletes the stack keeps the key: without it, all that is sealed under it is lost.
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    return _template("AWS::KMS::Key", "Key", properties, kept)


def identity_in_cloudformation(document: Mapping[str, Any], description: str) -> str:
    """Return a template with a managed policy."""
    properties = {"Description": description, "PolicyDocument": document}
    return _template("AWS::IAM::ManagedPolicy", "Policy", properties, {})


def _template(kind: str, name: str, properties: Mapping[str, Any], more: Mapping[str, str]) -> str:
    _refuse_references(properties)
    return as_json(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {name: {"Type": kind, **more, "Properties": properties}},
        }
    )


def _refuse_references(value: Any) -> None:
    """Refuse text that CloudFormation would replace by what it finds elsewhere; it has no way to escape it."""
    if isinstance(value, str):
        if "{{resolve:" in value:
            raise PolicyError(f"CloudFormation would resolve '{shown(value)}' as a dynamic reference: use JSON instead")
    elif isinstance(value, Mapping):
        for name, one in value.items():
            _refuse_references(name)
            _refuse_references(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_references(one)


def key_in_terraform(document: Mapping[str, Any], description: str) -> str:
    """Return a resource with a key that has this key policy."""
    return _resource(
        "aws_kms_key",
        {"description": _text(description), "enable_key_rotation": "true", "policy": _encoded(document)},
        "\n  lifecycle {\n    prevent_destroy = true\n  }\n",
    )


def identity_in_terraform(document: Mapping[str, Any], description: str) -> str:
    """Return a resource with a managed policy."""
    return _resource("aws_iam_policy", {"description": _text(description), "policy": _encoded(document)})


def grant_in_terraform(request: Mapping[str, Any]) -> str:
    """Return a resource with a grant.

    Args:
        request: as CreateGrant takes it.
    """
    optional = {"name": "Name", "retiring_principal": "RetiringPrincipal"}
    arguments = {
        "key_id": _text(request["KeyId"]),
        "grantee_principal": _text(request["GranteePrincipal"]),
        "operations": _text(request["Operations"]),
    } | {argument: _text(request[member]) for argument, member in optional.items() if member in request}
    constraints = ""
    if "Constraints" in request:
        pairs = _indented(request["Constraints"]["EncryptionContextSubset"], "    ")
        constraints = f"\n  constraints {{\n    encryption_context_subset = {pairs}\n  }}\n"
    return _resource("aws_kms_grant", arguments, constraints)


def _resource(kind: str, arguments: Mapping[str, str], more: str = "") -> str:
    width = max(map(len, arguments))
    lines = "\n".join(f"  {name.ljust(width)} = {value}" for name, value in arguments.items())
    return f'resource "{kind}" "this" {{\n{lines}\n{more}}}'


def _encoded(document: Mapping[str, Any]) -> str:
    return f"jsonencode({_indented(document, '  ')})"


def _indented(value: Any, by: str) -> str:
    return _text(value, 2).replace("\n", f"\n{by}")


def _text(value: Any, indent: int | None = None) -> str:
    """Return a value as an expression: JSON is one, but that ``${`` and ``%{`` begin templates in strings."""
    return json.dumps(value, indent=indent).replace("${", "$${").replace("%{", "%%{")
