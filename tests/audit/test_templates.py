"""Fixes as CloudFormation and Terraform: cfn-lint and a parser take every one, and they hold the same policy."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import cfnlint.api
import hcl2
import pytest

from sealwax.audit import BlockKind, Facts, Finding, PrincipalFacts, TrailFacts
from sealwax.audit._account import Account
from sealwax.audit._rules import RULES, run_rules
from sealwax.audit._rules.templates import POLICY
from tests.audit import accounts
from tests.audit.cases import CASES

#: The rules whose fixes nobody can write as a template: deletion, material, revocation, settings outside of AWS.
NONE: Final = {
    "alias-movable",
    "context-telling",
    "custom-key-store",
    "decrypt-unexpected-principal",
    "decrypt-without-context",
    "denial-burst",
    "envelopes-under-aws-managed-key",
    "grant-foreign-account",
    "grant-overdue",
    "grant-stale",
    "imported-material-expires",
    "key-pending-deletion",
    "key-policy-via-service",
    "key-policy-wildcard-context",
    "never-rotated",
    "records-unexpected-maker",
}


def _selected(**selectors: object) -> Facts:
    """Return an account with a trail that leaves out KMS, and its event selectors."""
    arn = f"arn:aws:cloudtrail:{accounts.REGION}:{accounts.OWN}:trail/one"
    excludes = ("kms.amazonaws.com",)
    trail = TrailFacts(arn, multi_region=True, validation=True, excludes=excludes, selectors=json.dumps(selectors))
    return accounts.clean(trails=(trail,))


def _inline() -> Facts:
    """Return an account with an inline policy that decrypts under every key, and a key that leaves that to IAM."""
    id_ = f"{accounts.APP}#one"
    facts = accounts.with_iam({"Action": "kms:Decrypt", "Resource": "*"}, policy=accounts.text(accounts.DELEGATES))
    return replace(
        facts,
        principals=(PrincipalFacts(accounts.APP, (id_,)),),
        policies=tuple(replace(policy, id=id_, kind="inline") for policy in facts.policies or ()),
        events=(),
    )


DATA: Final = {"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}
ADVANCED: Final = {
    "Name": "data",
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
    ],
}
MORE: Final[dict[str, list[Callable[[], Facts]]]] = {
    "iam-decrypt-all-keys": [_inline],
    "trail-excludes-kms": [
        lambda: _selected(
            EventSelectors=[
                {"ReadWriteType": "WriteOnly", "DataResources": [DATA]},
                {"ExcludeManagementEventSources": ["kms.amazonaws.com", "rdsdata.amazonaws.com"], "DataResources": []},
            ]
        ),
        lambda: _selected(AdvancedEventSelectors=[ADVANCED]),
    ],
}


@functools.cache
def findings() -> tuple[Finding, ...]:
    """Return the findings of each rule on the accounts that break it."""
    return tuple(
        finding
        for rule, (breaks, _) in CASES.items()
        for make in (*breaks, *MORE.get(rule, ()))
        for finding in run_rules(Account(make()))
        if finding.rule == rule
    )


def blocks(kind: BlockKind) -> list[tuple[str, str]]:
    """Return the rules and the texts of the blocks of a kind, each pair once."""
    return list({(one.rule, block.text): None for one in findings() for block in one.fix.blocks if block.kind is kind})


def linted(templates: Iterable[tuple[str, str]]) -> set[str]:
    return {
        f"{rule}: {match}" for rule, text in templates for match in cfnlint.api.lint(text, regions=[accounts.REGION])
    }


def test_a_cloudformation_block_of_each_rule_lints() -> None:
    templates = blocks(BlockKind.CLOUDFORMATION)
    assert len(templates) == 51
    first = dict(reversed(templates))
    assert len(first) == 23
    assert linted(first.items()) == set()


@pytest.mark.soak
def test_every_cloudformation_block_lints() -> None:
    assert linted(blocks(BlockKind.CLOUDFORMATION)) == set()


def test_every_terraform_block_parses() -> None:
    configurations = blocks(BlockKind.TERRAFORM)
    kinds: Counter[str] = Counter()
    for _, text in configurations:
        kinds.update(kind.strip('"') for resource in hcl2.loads(text)["resource"] for kind in resource)
    assert len(configurations) == 28
    assert len({rule for rule, _ in configurations}) == 25
    assert set(kinds) == {
        "aws_cloudtrail",
        "aws_cloudwatch_event_rule",
        "aws_cloudwatch_event_target",
        "aws_iam_policy",
        "aws_iam_role_policy",
        "aws_kms_alias",
        "aws_kms_grant",
        "aws_kms_key",
        "aws_kms_key_policy",
        "aws_kms_replica_key",
        "aws_s3_bucket",
        "aws_s3_bucket_policy",
        "aws_sns_topic",
        "aws_sns_topic_policy",
    }


def test_each_rule_has_templates_or_is_listed_here() -> None:
    with_templates = {rule for rule, _ in blocks(BlockKind.TERRAFORM)}
    assert {rule.id for rule in RULES} - with_templates == NONE


def test_the_templates_hold_the_policy_that_the_commands_put() -> None:
    count = 0
    for finding in findings():
        files = [block.text for block in finding.fix.blocks if block.name == POLICY]
        if len(files) != 1 or finding.rule == "trail-missing":
            continue
        policy = json.loads(files[0])
        for block in finding.fix.blocks:
            if block.kind is BlockKind.CLOUDFORMATION:
                (resource,) = json.loads(block.text)["Resources"].values()
                assert policy in resource["Properties"].values()
                count += 1
            elif f'file("${{path.module}}/{POLICY}")' in block.text:
                assert "jsonencode" not in block.text
                count += 1
            elif block.kind is BlockKind.TERRAFORM:
                (written,) = re.findall(r"jsonencode\((.*?)\n  }\)", block.text, re.DOTALL)
                assert json.loads((written + "\n}").replace("$${", "${").replace("%%{", "%{")) == policy
                count += 1
    assert count == 80


@pytest.mark.parametrize("text", ["{{resolve:ssm:x}}", "{{resolve:secretsmanager:y}}"])
def test_what_cloudformation_would_replace_gets_no_template(text: str) -> None:
    statement = accounts.use(Principal="*", Sid=text)
    found = [one for one in run_rules(Account(accounts.with_policy(statement))) if one.rule == "key-policy-public"]
    assert found
    for finding in found:
        kinds = [block.kind for block in finding.fix.blocks]
        assert kinds == [BlockKind.FILE, BlockKind.COMMAND, BlockKind.TERRAFORM]
