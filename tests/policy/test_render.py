"""Templates: cfn-lint and a parser of Terraform's language take them, and find the policy that was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import cfnlint.api
import hcl2
import pytest

from sealwax.errors import PolicyError
from sealwax.policy import (
    KeyUsers,
    RequiredContext,
    _render,
    allow_audit,
    allow_decrypt,
    allow_rotate,
    grant_request,
    write_identity_policy,
    write_key_policy,
)

ADMIN: Final = "arn:aws:iam::111122223333:role/admin"
APP: Final = "arn:aws:iam::111122223333:role/app"
KEY: Final = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
# What ends, begins or escapes something in one of the languages.
HOSTILE: Final = {"a": 'q"\\', "b": "${aws:username}", "c": "%{ if true }", "d": "é\n\t", "e": "$${x}", "f": "EOT\n}"}

KEY_POLICY: Final = write_key_policy([ADMIN], KeyUsers(encrypt=[APP], grant=[APP]), RequiredContext(HOSTILE, ("g",)))
IDENTITY: Final = write_identity_policy([*allow_rotate([KEY], [KEY], RequiredContext(HOSTILE)), *allow_audit()])

CASES: Final[list[tuple[Any, Callable[[Any, str], str], Callable[[Any, str], str], str, str]]] = [
    (KEY_POLICY, _render.key_in_cloudformation, _render.key_in_terraform, "AWS::KMS::Key", "KeyPolicy"),
    (
        IDENTITY,
        _render.identity_in_cloudformation,
        _render.identity_in_terraform,
        "AWS::IAM::ManagedPolicy",
        "PolicyDocument",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[3])
def test_cloudformation_passes_cfn_lint(case: Any) -> None:
    document, cloudformation, _, kind, member = case
    text = cloudformation(document, "what for")
    assert cfnlint.api.lint(text, regions=["eu-west-1"]) == []
    (resource,) = json.loads(text)["Resources"].values()
    assert resource["Type"] == kind
    assert resource["Properties"][member] == document


def test_cfn_lint_would_have_noticed() -> None:
    text = _render.key_in_cloudformation(KEY_POLICY, "x").replace('"EnableKeyRotation"', '"EnableRotation"')
    assert [match.rule.id for match in cfnlint.api.lint(text, regions=["eu-west-1"])] == ["E3002"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[3])
def test_terraform_parses_to_the_same_policy(case: Any) -> None:
    document, _, terraform, _, _ = case
    text = terraform(document, "what for")
    assert len(hcl2.loads(text)["resource"]) == 1
    assert json.loads(_evaluated(text)) == document


def _evaluated(text: str) -> str:
    """Return the argument of jsonencode as Terraform evaluates it: the two escapes of templates undone."""
    match = re.search(r"jsonencode\((.*?)\n  }\)", text, re.DOTALL)
    assert match is not None
    inside = match[1] + "\n}"
    assert not re.search(r"(?<!\$)\$\{|(?<!%)%\{", inside.replace("$${", "").replace("%%{", ""))
    return inside.replace("$${", "${").replace("%%{", "%{")


def test_a_grant_in_terraform() -> None:
    request = grant_request(
        KEY,
        APP,
        ["Decrypt"],
        RequiredContext({"a": "${x}"}),
        retiring=ADMIN,
        name="sealwax:due/2026-11-24T21:00:00Z/1",
    )
    (resource,) = hcl2.loads(_render.grant_in_terraform(request))["resource"]
    (labels,) = resource.values()
    (grant,) = labels.values()
    plain = json.loads(json.dumps(grant).replace('\\"', ""))
    assert plain["key_id"] == KEY
    assert plain["grantee_principal"] == APP
    assert plain["operations"] == ["Decrypt"]
    assert plain["retiring_principal"] == ADMIN
    assert plain["name"] == "sealwax:due/2026-11-24T21:00:00Z/1"
    assert "$${x}" in json.dumps(plain["constraints"])


def test_a_dynamic_reference_is_refused() -> None:
    document = write_identity_policy(allow_decrypt([KEY], RequiredContext({"a": "{{resolve:ssm:x}}"})))
    with pytest.raises(PolicyError, match=r"would resolve '{{resolve:ssm:x}}'"):
        _render.identity_in_cloudformation(document, "x")
    assert "{{resolve:ssm:x}}" in _render.identity_in_terraform(document, "x")
