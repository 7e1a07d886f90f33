"""A fix that is followed does what it says, and nothing more.

First policies alone, held against the evaluator: what principals could do before and can afterwards. Then commands, in
the lab and in moto.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from sealwax.audit._account import Account
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Finding
from sealwax.audit._rules import run_rules
from sealwax.audit._rules.templates import POLICY
from sealwax.policy import Principal, Request, _generate, evaluate, parse_identity_policy, parse_key_policy, principal
from sealwax.policy._expiry import due_name
from tests.audit import accounts, documented, examples
from tests.audit.accounts import ADMIN, APP, BACKUP, FOREIGN, OWN, role, root, use
from tests.audit.cases import CASES

STRANGER: Final = "198765432109"
ACTIONS: Final = (
    *("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:CreateGrant"),
    *("kms:DescribeKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:GetKeyPolicy"),
)
MAY_ALL: Final = parse_identity_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
MFA: Final = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
Asked = tuple[str, str, str, bool, str]


def people() -> Iterator[tuple[Principal, Mapping[str, Any]]]:
    """Yield who asks, with what else the request has."""
    own = (ADMIN, APP, role("More"), role("Other"), root(), f"arn:aws:iam::{OWN}:user/somebody")
    foreign = (root(FOREIGN), role("X", FOREIGN), role("app", STRANGER), f"arn:aws:iam::{STRANGER}:user/admin")
    for who in (*own, *foreign):
        yield principal(who), {}
        yield principal(who), {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}
    yield principal(role("app", STRANGER)), {"aws:FederatedProvider": "accounts.google.com"}
    for owner in (OWN, STRANGER):
        arn = f"arn:aws:s3:::bucket-of-{owner}"
        yield principal("s3.amazonaws.com"), {"aws:SourceAccount": owner, "aws:SourceArn": arn}


def can(facts: Facts) -> set[Asked]:
    """Return everything that somebody may do: who, through what, the action, whether to another key, the context."""
    account = Account(facts)
    key = facts.keys[0]
    policy = account.key_policy(key)
    assert policy is not None, account.gaps
    found = set()
    for (who, given), action, context in itertools.product(people(), ACTIONS, ({}, {"purpose": "backup"}, {"a": "b"})):
        ids = account.policies_of.get(who.arn, ())
        identity = [account.identity_policies[id_] for id_ in ids]
        for elsewhere in (False, True) if action.startswith("kms:ReEncrypt") else (False,):
            same = {"kms:ReEncryptOnSameKey": not elsewhere} if action.startswith("kms:ReEncrypt") else {}
            request = Request(action, who, key.arn, facts.time, context={**given, **same}, encryption_context=context)
            strange = who.kind != "service" and who.account != OWN
            if evaluate(request, key_policy=policy, identity_policies=[MAY_ALL] if strange else identity).allowed:
                shown = json.dumps([sorted(given.items()), context])
                found.add((who.arn, who.account, action, elsewhere, shown))
    return found


def _outside(one: Asked, _: Finding) -> bool:
    return one[1] != OWN


def _of_finding(one: Asked, finding: Finding) -> bool:
    return one[0] in finding.title


#: For each rule whose fix is a key policy: what is lost where the fix is followed, and nothing else.
LOST: Final[Mapping[str, Callable[[Asked, Finding], bool]]] = {
    "key-policy-public": _outside,
    "key-policy-not-principal": _outside,
    "key-policy-foreign-account": lambda one, _: one[1] == FOREIGN,
    "key-policy-service-any-account": lambda one, _: one[0] == "s3.amazonaws.com" and STRANGER in one[4],
    "key-policy-root-delegation": lambda _, __: False,
    "key-policy-no-context": lambda one, _: one[2] == "kms:Decrypt" and "purpose" not in one[4],
    "key-policy-admin-can-use": lambda one, finding: (
        _of_finding(one, finding) and one[2] in ("kms:Decrypt", "kms:ReEncryptFrom")
    ),
    "reencrypt-from-unbound": lambda one, finding: (
        _of_finding(one, finding) and one[2] == "kms:ReEncryptFrom" and one[3]
    ),
    "reencrypt-asymmetry": lambda one, finding: (
        _of_finding(one, finding) and one[2] in ("kms:ReEncryptFrom", "kms:ReEncryptTo")
    ),
    "records-open-to-others": lambda one, finding: _of_finding(one, finding) and "sealwax-use" in one[4],
}


def key_policy_of(finding: Finding) -> str | None:
    """Return the key policy that a fix puts."""
    texts = [one.text for one in finding.fix.blocks if one.name == POLICY]
    puts = any("put-key-policy" in one.text for one in finding.fix.blocks)
    return texts[0] if texts and puts else None


def follow(facts: Facts, finding: Finding) -> Facts:
    """Put the key policy that a fix prints."""
    text = key_policy_of(finding)
    assert text is not None
    parse_key_policy(text)
    keys = tuple(replace(one, policy=text) if one.arn == finding.resource else one for one in facts.keys)
    return replace(facts, keys=keys)


def check(facts: Facts, rule: str) -> int:
    """Follow the fixes of a rule, one after another, until there is no finding; return how many there were."""
    others = {one.rule for one in run_rules(Account(facts)) if one.severity > 2}
    for count in range(1, 9):
        found = [one for one in run_rules(Account(facts)) if one.rule == rule and key_policy_of(one) is not None]
        if not found:
            # What is left is what was there before, and nothing worse came with the fix.
            assert {one.rule for one in run_rules(Account(facts)) if one.severity > 2} <= others
            return count - 1
        after = follow(facts, found[0])
        had, has = can(facts), can(after)
        recovers = [one for one in has - had if "RootUserRecovers" in (key_policy_of(found[0]) or "")]
        assert {one[0] for one in recovers} <= {root()}
        assert {one[2] for one in recovers} <= set(_generate.RECOVER)
        assert has - had <= set(recovers), sorted(has - had)
        assert [one for one in had - has if not LOST[rule](one, found[0])] == []
        facts = after
    raise AssertionError(f"there is always another finding of {rule}")


MORE: Final[dict[str, list[Callable[[], Facts]]]] = {
    "key-policy-public": [
        lambda: accounts.clean(accounts.key(policy=accounts.text({"Principal": "*", "Action": "kms:*"}))),
        lambda: accounts.clean(
            accounts.key(policy=accounts.text({"Principal": {"AWS": ["*", APP]}, "Action": "kms:*"}, use()))
        ),
        lambda: accounts.with_policy(
            use(Principal="*", Condition={"StringLike": {"kms:CallerAccount": "*"}}),
            use(Principal={"Federated": "accounts.google.com"}, Condition={}),
        ),
    ],
    "key-policy-not-principal": [
        lambda: accounts.with_policy({"NotPrincipal": {"AWS": [ADMIN, role("Other")]}, "Action": "kms:*"}),
        lambda: accounts.with_policy({"NotPrincipal": {"AWS": [root(), APP]}, "Action": "kms:Encrypt"}),
        lambda: accounts.with_policy(
            {
                "NotPrincipal": {"AWS": role("Other")},
                "Action": "kms:*",
                "Condition": BACKUP | {"ArnNotEquals": {"aws:PrincipalArn": APP}},
            }
        ),
    ],
    "key-policy-foreign-account": [
        lambda: accounts.with_policy(use(Principal={"AWS": [root(FOREIGN), APP, role("X", FOREIGN)]}, Condition={})),
        lambda: accounts.with_policy(
            use(Principal="*", Condition={"StringEquals": {"kms:CallerAccount": [OWN, FOREIGN]}})
        ),
        lambda: accounts.clean(accounts.key(policy=accounts.text(use(Principal={"AWS": FOREIGN}))), events=()),
    ],
    "key-policy-service-any-account": [
        lambda: accounts.with_policy(
            use(Principal={"Service": ["s3.amazonaws.com", "logs.eu-west-1.amazonaws.com"], "AWS": APP}, Action="kms:*")
        ),
    ],
    "key-policy-root-delegation": [
        lambda: accounts.with_iam(
            {"Action": "*", "Resource": "*", "Condition": MFA},
            policy=accounts.text({"Principal": {"AWS": [root(), ADMIN]}, "Action": ["kms:*"]}),
        ),
        lambda: accounts.with_iam(
            {"Action": "kms:*", "Resource": "*"},
            policy=accounts.text({"Principal": {"AWS": root()}, "NotAction": "kms:PutKeyPolicy"}),
        ),
        lambda: accounts.with_iam(
            {"Action": "kms:De*", "Resource": "*"},
            policy=accounts.text({"Principal": {"AWS": OWN}, "Action": ["kms:De*", "kms:ReEncrypt*"]}),
        ),
    ],
    "key-policy-no-context": [
        lambda: accounts.with_policy(
            use(Action=["kms:*"], Condition={"Bool": {"aws:SecureTransport": "true"}}, Principal={"AWS": role("More")})
        ),
    ],
}


@pytest.mark.parametrize("rule", LOST)
def test_a_key_policy_that_is_put_does_what_it_says_and_nothing_more(rule: str) -> None:
    makes = [*CASES[rule][0], *MORE.get(rule, [])]
    followed = [check(make(), rule) for make in makes]
    assert all(followed), followed


def test_every_fix_that_puts_a_key_policy_is_followed_here() -> None:
    rules = {
        finding.rule
        for breaks, _ in CASES.values()
        for make in breaks
        for finding in run_rules(Account(make()))
        if key_policy_of(finding) is not None
    }
    assert rules - {"replica-policy-differs"} == set(LOST)


@pytest.mark.parametrize("row", [one for one in documented.DOCUMENTED if one[2]], ids=lambda row: row[0])
def test_the_fix_of_a_documented_policy_leaves_what_it_is_for(row: documented.Row) -> None:
    _, statements, rules = row
    facts = accounts.clean(accounts.key(policy=accounts.text(*statements)), events=())
    for rule in rules & set(LOST):
        assert check(facts, rule) >= 1


# --- identity policies


OTHER_SERVICES: Final = ("s3:GetObject", "ec2:RunInstances", "iam:PassRole", "kms:Encrypt", "kms:CreateKey", "kms:Sign")


def allows(document: Mapping[str, Any], action: str) -> bool:
    """Whether an identity policy allows an action on some resource, whatever the service."""

    def listed(given: Any) -> list[str]:
        return given if isinstance(given, list) else [given]

    def about(one: Mapping[str, Any]) -> bool:
        patterns = listed(one.get("Action", one.get("NotAction")))
        named = any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
        return named != ("NotAction" in one)

    statements = document["Statement"]
    effects = {one["Effect"] for one in (statements if isinstance(statements, list) else [statements]) if about(one)}
    return effects == {"Allow"}


@pytest.mark.parametrize(
    "statements",
    [
        [{"Action": ["*"], "Resource": "*"}],
        [{"Action": "*:*", "Resource": "*"}],
        [{"Action": ["kms:*", "s3:*", "ec2:Run*"], "Resource": "*"}],
        [{"Action": ["kms:De*", "s3:GetObject"], "Resource": "*"}],
        [{"Action": "kms:Decrypt", "Resource": "*"}],
        [{"Action": ["kms:D?crypt", "kms:ReEncrypt*", "iam:PassRole"], "Resource": [accounts.arn(), "*"]}],
        [{"NotAction": ["iam:*"], "Resource": "*"}],
        [{"Action": ["kms:Decrypt", "kms:Encrypt"], "NotResource": accounts.arn(9)}],
        [
            {
                "Sid": "All",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
            },
            {"Sid": "One", "Action": "s3:GetObject", "Resource": "*"},
        ],
    ],
)
@pytest.mark.parametrize("kind", ["customer", "aws"])
def test_naming_the_keys_takes_nothing_from_other_services(statements: list[dict[str, Any]], kind: str) -> None:
    facts = accounts.with_iam(*statements, kind=kind, policy=accounts.text(accounts.DELEGATES))
    facts = replace(facts, keys=(facts.keys[0], accounts.key(2, policy=accounts.text(accounts.DELEGATES))), events=())
    (finding,) = [one for one in run_rules(Account(facts)) if one.rule == "iam-decrypt-all-keys"]
    (text,) = [one.text for one in finding.fix.blocks if one.name == POLICY]
    parse_identity_policy(text)
    policies = facts.policies or ()
    before, after = json.loads(policies[0].document), json.loads(text)
    assert [allows(before, one) for one in OTHER_SERVICES] == [allows(after, one) for one in OTHER_SERVICES]
    changed = replace(facts, policies=(replace(policies[0], document=text),))
    assert [one for one in run_rules(Account(changed)) if one.rule == "iam-decrypt-all-keys"] == []
    # Whoever could open something under the keys that were looked at still can.
    assert can(changed) == can(facts)
    had, has = Account(facts).allowed, Account(changed).allowed
    assert {(one.key.arn, one.principal, one.action) for one in had} == {
        (one.key.arn, one.principal, one.action) for one in has
    }


def test_a_policy_that_nobody_needs_is_detached_and_not_printed() -> None:
    (finding,) = [
        one
        for one in run_rules(Account(accounts.with_iam({"Action": "kms:Decrypt", "Resource": "*"})))
        if one.rule == "iam-decrypt-all-keys"
    ]
    assert finding.fix.blocks == ()
    assert finding.fix.says.startswith("Detach it")


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({}, True),
        ({"name": due_name(accounts.NOW - accounts.days(1))}, False),
        ({"grantee": role("Gone")}, False),
        ({"grantee": role("X", FOREIGN)}, False),
        ({"operations": ("CreateGrant",)}, False),
    ],
)
def test_the_fixes_of_one_grant_do_not_bring_back_what_another_is_about(changes: dict[str, Any], made: bool) -> None:
    facts = accounts.with_grant(**{"subset": None, "operations": ("Decrypt", "CreateGrant")} | changes)
    found = [one for one in run_rules(Account(facts)) if one.rule in ("grant-unconstrained", "grant-creates-grants")]
    assert found
    assert len({one.fix.blocks for one in found}) == 1
    text = found[0].fix.blocks[0].text
    assert ("create-grant" in text) is made
    assert "CreateGrant" not in text
    assert ('"EncryptionContextSubset": {"purpose": "backup"}' in text) is made


@pytest.mark.parametrize("name", ["a\nrm -rf ~", "'; rm -rf ~; '", "$(rm -rf ~)", "\u202erm"])
def test_a_name_is_one_word_on_one_line(name: str) -> None:
    (finding,) = [
        one
        for one in run_rules(Account(accounts.with_grant(id=name, grantee=role("Gone"))))
        if one.rule == "grant-stale"
    ]
    (block,) = finding.fix.blocks
    (line,) = block.text.splitlines()
    key = accounts.arn().rpartition("/")[2]
    assert shlex.split(line)[:-1] == [
        *("aws", "kms", "revoke-grant", "--region", accounts.REGION, "--key-id", key, "--grant-id")
    ]
    assert line.isprintable()


def test_a_wildcard_over_services_is_not_guessed_at() -> None:
    (finding,) = [
        one
        for one in run_rules(Account(accounts.with_iam({"Action": "*:Decrypt", "Resource": "*"})))
        if one.rule == "iam-decrypt-all-keys"
    ]
    assert finding.fix.blocks == ()


def test_every_example_that_has_a_fix_to_put_survives_it() -> None:
    count = 0
    for _, _, statements, rules in examples.KEY_POLICIES:
        facts = accounts.clean(accounts.key(policy=accounts.text(*statements)), events=())
        for rule in rules & set(LOST):
            count += check(facts, rule)
    assert count >= 12
