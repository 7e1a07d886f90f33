"""Each rule on accounts that break it and on near misses; a clean account; what sealwax itself writes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sealwax.audit import _factsfile
from sealwax.audit._account import Account
from sealwax.audit._collect import cloudtrail
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Finding
from sealwax.audit._report import Gap, finding_to_json
from sealwax.audit._rules import RULES, run_rules
from tests.audit import accounts
from tests.audit.cases import CASES

BREAKS = [(rule, index) for rule, (breaks, _) in CASES.items() for index in range(len(breaks))]
NEAR = [(rule, index) for rule, (_, near) in CASES.items() for index in range(len(near))]


def audited(facts: Facts) -> tuple[Finding, ...]:
    """Judge facts, after a way through the facts file."""
    read = _factsfile.load(_factsfile.dump(facts), "facts.json")
    assert read == facts
    account = Account(read)
    absent = [name for name in ("principals", "aliases", "trails", "alarms", "events") if getattr(facts, name) is None]
    assert [one.what for one in account.gaps] == absent
    return run_rules(account)


def test_every_rule_has_accounts_on_both_sides() -> None:
    assert sorted(CASES) == sorted(rule.id for rule in RULES)
    assert len(RULES) == 41
    assert all(breaks and near for breaks, near in CASES.values())
    assert (len(BREAKS), len(NEAR)) == (106, 113)


def assert_says_it_once(finding: Finding) -> None:
    """The end of a title does not repeat four words of the rest, which is the same for all findings of a rule."""
    (title,) = (rule.title for rule in RULES if rule.id == finding.rule)
    assert finding.title == (f"{title}: {finding.detail}" if finding.detail else title)
    fours = [" ".join(words) for words in zip(*(title.split()[start:] for start in range(4)), strict=False)]
    assert [words for words in fours if words in finding.detail] == []


@pytest.mark.parametrize(("rule", "index"), BREAKS)
def test_an_account_that_breaks_a_rule_has_its_finding(rule: str, index: int) -> None:
    found = [one for one in audited(CASES[rule][0][index]()) if one.rule == rule]
    assert found
    for one in found:
        assert one.fix.says
        assert one.why
        assert one.resource.startswith("arn:aws:")
        assert len(one.title.splitlines()) == 1
        assert_says_it_once(one)
        json.dumps(finding_to_json(one))


@pytest.mark.parametrize(("rule", "index"), NEAR)
def test_a_near_miss_has_not(rule: str, index: int) -> None:
    assert [one for one in audited(CASES[rule][1][index]()) if one.rule == rule] == []


@pytest.mark.parametrize("actions", [["kms:ReEncryptTo"], ["kms:ReEncryptFrom", "kms:Decrypt"]])
@pytest.mark.parametrize("how", ["policy", "grant"])
def test_one_side_of_a_reencryption_of_another_account_says_nothing(how: str, actions: list[str]) -> None:
    """The other side may be on a key of that account, which is not seen here."""

    def account(who: str) -> Facts:
        if how == "policy":
            return accounts.with_policy(accounts.use(Action=actions, Principal={"AWS": who}))
        return accounts.with_grant(grantee=who, operations=tuple(one.removeprefix("kms:") for one in actions))

    def found(who: str) -> list[str]:
        return [one.rule for one in audited(account(who)) if one.rule == "reencrypt-asymmetry"]

    assert found(accounts.role("Partner", accounts.FOREIGN)) == []
    assert found(accounts.APP) == ["reencrypt-asymmetry"]


def test_a_clean_account_has_no_finding() -> None:
    assert audited(accounts.clean()) == ()
    assert audited(accounts.family()) == ()


@pytest.mark.parametrize("context", [{"user": "a.b@example.com"}, {"a.b@example.com": "user"}])
def test_a_finding_does_not_repeat_what_ought_not_to_be_in_a_log(context: dict[str, str]) -> None:
    found = [one for one in audited(accounts.events(accounts.event(context=context))) if one.rule == "context-telling"]
    assert len(found) == 1
    assert "mail address" in found[0].title
    assert "example.com" not in json.dumps(finding_to_json(found[0]))


def test_the_worst_comes_first() -> None:
    facts = accounts.with_policy(accounts.use(Principal="*", Condition={}))
    found = audited(replace(facts, trails=(), alarms=()))
    severities = [one.severity for one in found]
    assert len(found) >= 4
    assert severities == sorted(severities, reverse=True)
    assert found[0].rule == "key-policy-public"


def test_a_policy_that_cannot_be_judged_is_not_looked_at_and_not_fine() -> None:
    facts = accounts.with_iam({"Action": "kms:Decrypt", "Resource": "*"})
    policies = tuple(replace(one, document='{"Statement": [{"Effect": "Maybe"}]}') for one in facts.policies or ())
    account = Account(replace(facts, keys=(accounts.key(policy="{"),), policies=policies, events=()))
    assert run_rules(account) == ()
    assert [(one.what, one.resource) for one in account.gaps] == [
        ("the key policy", accounts.arn()),
        ("the identity policy", policies[0].id),
    ]
    assert all(one.why.startswith("it cannot be evaluated: ") for one in account.gaps)


_OURS = {"StringEquals": {"aws:SourceAccount": accounts.OWN}}


@pytest.mark.parametrize(
    ("statement", "severity"),
    [
        ({"Principal": {"Service": "*"}}, "HIGH"),
        ({"Principal": {"Service": ["logs.amazonaws.com", "*.amazonaws.com"]}}, "HIGH"),
        ({"Principal": {"AWS": accounts.APP, "Service": "*", "Federated": "*"}}, "CRITICAL"),
        ({"Principal": {"Service": "*"}, "Condition": {"StringLike": {"aws:SourceAccount": "*"}}}, "HIGH"),
        # What is not understood may keep everybody out.
        ({"Principal": {"Service": "*"}, "Condition": {"StringEquals": {"no:such": "key"}}}, None),
        ({"Principal": "*", "Condition": {"StringEquals": {"no:such": "key"}}}, None),
        ({"Principal": "*", "Condition": {"StringEquals": {"no:such": "key", "aws:PrincipalOrgID": "o-1"}}}, None),
        ({"Principal": {"Service": "*"}, "Condition": accounts.BACKUP}, "HIGH"),
        ({"Principal": {"Service": "*"}, "Condition": _OURS}, None),
        ({"Principal": {"Service": "*"}, "Effect": "Deny"}, None),
        ({"Principal": {"Service": 1}}, None),
    ],
)
def test_a_wildcard_among_providers_and_services_is_found_though_no_policy_may_have_one(
    statement: dict[str, Any], severity: str | None
) -> None:
    account = Account(accounts.with_policy({"Action": "kms:Decrypt", **statement}))
    found = [one for one in run_rules(account) if one.rule == "key-policy-public"]
    assert [one.severity.name for one in found] == ([severity] if severity else [])
    assert all(one.statement and one.statement["Principal"] == statement["Principal"] for one in found)
    # The rest of the policy was not evaluated, which is a gap.
    assert [one.what for one in account.gaps] == ["the key policy"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"Statement": 1}', '{"Statement": [1, null]}', "{"])
def test_what_is_no_policy_has_no_wildcards(text: str) -> None:
    account = Account(accounts.clean(accounts.key(policy=text)))
    assert run_rules(account) == ()
    assert [one.what for one in account.gaps] == ["the key policy"]


def test_a_finding_may_weigh_less_than_its_rule() -> None:
    def weighs(facts: Facts, rule: str) -> str:
        (found,) = [one for one in audited(facts) if one.rule == rule]
        return found.severity.name

    every = {"Action": "kms:Decrypt", "Resource": "*"}
    assert weighs(accounts.with_iam(every), "iam-decrypt-all-keys") == "HIGH"
    assert weighs(accounts.with_iam(every, kind="aws"), "iam-decrypt-all-keys") == "MEDIUM"
    for who, severity in ((accounts.root(accounts.FOREIGN), "HIGH"), (accounts.role("X", accounts.FOREIGN), "MEDIUM")):
        facts = accounts.with_policy(accounts.use(Principal={"AWS": who}))
        assert weighs(facts, "key-policy-foreign-account") == severity


def test_an_alias_that_is_not_there_weighs_less_than_one_that_was_moved() -> None:
    for name, severity in (("alias/backup", "HIGH"), ("alias/other", "MEDIUM")):
        (found,) = audited(accounts.clean(expected_aliases={name: accounts.arn(2)}))
        assert (found.rule, found.severity.name) == ("alias-unexpected-key", severity)
        assert found.resource == f"arn:aws:kms:{accounts.REGION}:{accounts.OWN}:{name}"


@pytest.mark.parametrize(("partition", "region"), [("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")])
@pytest.mark.parametrize(("rule", "index"), BREAKS)
def test_every_rule_speaks_of_its_own_partition(rule: str, index: int, partition: str, region: str) -> None:
    text = _factsfile.dump(CASES[rule][0][index]()).decode()
    text = text.replace("arn:aws:", f"arn:{partition}:").replace('"partition":"aws"', f'"partition":"{partition}"')
    text = text.replace(accounts.REGION, region)
    found = [one for one in run_rules(Account(_factsfile.load(text.encode(), "facts.json"))) if one.rule == rule]
    assert found
    assert all("arn:aws:" not in json.dumps(finding_to_json(one)) for one in found)


def test_a_caller_without_an_arn_is_of_the_partition_of_the_region() -> None:
    def caller(region: str) -> str:
        record = {
            "eventSource": "kms.amazonaws.com",
            "eventID": "1",
            "eventTime": "2026-11-24T00:00:00Z",
            "eventName": "Decrypt",
            "awsRegion": region,
            "userIdentity": {"type": "AWSAccount", "accountId": accounts.FOREIGN},
        }
        found = cloudtrail.event_of(record)
        assert found is not None
        return found.principal

    assert caller("eu-west-1") == f"arn:aws:iam::{accounts.FOREIGN}:root"
    assert caller("cn-northwest-1") == f"arn:aws-cn:iam::{accounts.FOREIGN}:root"
    assert caller("us-gov-east-1") == f"arn:aws-us-gov:iam::{accounts.FOREIGN}:root"


def test_the_fix_names_the_context_that_is_in_use() -> None:
    facts = accounts.with_policy(accounts.use(Condition={}))
    (found,) = [one for one in audited(facts) if one.rule == "key-policy-no-context"]
    assert '"kms:EncryptionContextKeys": [\n            "purpose"\n' in found.fix.blocks[0].text
    asked = {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "row"}}
    policy = accounts.text(accounts.use(Condition=asked), accounts.use(Condition={}))
    (found,) = [
        one
        for one in audited(accounts.clean(accounts.key(policy=policy), events=()))
        if one.rule == "key-policy-no-context"
    ]
    assert '"kms:EncryptionContextKeys": [\n            "row"\n' in found.fix.blocks[0].text


@pytest.mark.parametrize(("what", "region"), [("events:ListRules", accounts.REGION), ("kms:ListKeys", "")])
def test_what_was_denied_is_neither_blamed_nor_fine(what: str, region: str) -> None:
    denied = Gap(what, "*", region, "AccessDenied")
    account = Account(replace(accounts.clean(alarms=()), gaps=(denied,)))
    assert [one.rule for one in run_rules(account)] == ([] if what == "events:ListRules" else ["key-end-no-alarm"])
    assert account.gaps == (denied,)


def test_facts_that_nobody_could_gather_give_no_finding() -> None:
    key = accounts.key(policy=None, rotation=None, rotations=None, grants=None, tags=None, tracked_since=None)
    nothing = accounts.clean(
        key, aliases=None, principals=None, policies=None, trails=None, alarms=None, events=None, expected_aliases={}
    )
    assert run_rules(Account(nothing)) == ()
