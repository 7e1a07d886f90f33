"""What `policy explain` answers on the same facts, held against findings: who may do it, in what a finding says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sealwax.audit._account import Account
from sealwax.audit._facts import Facts
from sealwax.audit._findings import Finding, Severity
from sealwax.audit._from_facts import describe_key
from sealwax.audit._statements import wishes_of
from sealwax.errors import PolicyError
from sealwax.policy import Policy, Principal, Statement, parse_identity_policy, parse_key_policy, principal
from sealwax.policy._explain import KeyDescription, explain

STRANGER: Final = "198765432109"
# Whoever may tag a user or a session tags it as a policy wants it.
TAGS: Final = {"org": "o-theirs", "team": "a"}
MAY_ALL: Final = parse_identity_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
# A call that CloudTrail shows as a direct one came through no service, and what is known of the key is as it is.
_KNOWN: Final = ("kms:viaservice", "aws:calledvia", "aws:resourcetag/", "kms:resourcealiases", "kms:key")
# A stranger has these of its own: no condition gives it those of somebody else.
_THEIRS: Final = ("aws:source", "aws:vpcsource", "aws:principal", "aws:userid", "aws:vpce", "kms:calleraccount")


def _worlds(*policies: Policy, never: tuple[str, ...]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Yield encryption contexts with other values of a request, which statements of the policies ask for."""
    found: list[tuple[dict[str, str], dict[str, Any]]] = [({}, {}), ({"purpose": "of somebody else"}, {})]
    statements = [one for policy in policies for one in policy.statements]
    for one, two in itertools.product(statements, repeat=2):
        (context, others), (more, further) = wishes_of(one), wishes_of(two)
        found.append((context | more, others | further | _through_services(one, two)))
    spared = _spared([one for one in statements if one.effect == "Deny"])
    found += [(spared[0] | context, spared[1] | others) for context, others in found]
    other = {"aws:PrincipalOrgPaths": ["o-theirs/r-1/"], "aws:ViaAWSService": True}
    found += [(context, other | others) for context, others in found]
    met: list[Any] = []
    for world in found:
        if world in met:
            continue
        met.append(world)
        context, others = world
        kept = {name: value for name, value in others.items() if not name.lower().startswith(never)}
        yield context, kept


def _spared(denials: Sequence[Statement]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what a request has that denials of everything else do not hold for."""
    positive = [
        replace(
            one,
            clauses=tuple(
                replace(clause, operator=clause.operator.replace("Not", "").removesuffix("IfExists"))
                for clause in one.clauses
                if "Not" in clause.operator
            ),
        )
        for one in denials
    ]
    context: dict[str, str] = {}
    others: dict[str, Any] = {}
    for one in positive:
        more, further = wishes_of(one)
        context |= more
        others |= further
    return context, others


def _through_services(*statements: Statement) -> dict[str, Any]:
    """Return the service that statements ask for a call to come through."""
    return {
        clause.key: clause.values[0].text.replace("*", "eu-west-1")
        for one in statements
        for clause in one.clauses
        if clause.key.lower() == "kms:viaservice" and "Not" not in clause.operator and clause.operator != "Null"
    }


def may(
    who: Principal,
    action: str,
    key: KeyDescription,
    identity: Sequence[Policy],
    facts: Facts,
    given: Mapping[str, Any] | None = None,
    *,
    never: tuple[str, ...] = ("-",),
) -> bool:
    """Whether the evaluator lets somebody do something in one of the worlds that the policies ask for.

    Args:
        never: how the names of condition keys begin that the caller cannot have as it likes.
    """
    for context, others in _worlds(key.policy, *identity, never=never):
        try:
            decision = explain(
                who,
                action,
                key,
                identity_policies=identity,
                time=facts.time,
                encryption_context=context,
                conditions=others | dict(given or {}),
            )
        except PolicyError:
            continue
        if decision.allowed:
            return True
    return False


def _strangers(facts: Facts, statement: Statement) -> Iterator[tuple[Principal, dict[str, Any]]]:
    """Yield people of an account that nobody named, with what they can choose: names, addresses, networks."""
    names = ["outsider"]
    for clause in statement.clauses:
        if clause.key.lower() == "aws:principalarn":
            names += [value.text.rpartition("/")[2].replace("*", "x") for value in clause.values]
    networks: list[dict[str, Any]] = [{}, {"aws:SourceIp": "198.51.100.7"}]
    for clause in statement.clauses:
        if clause.key.lower() in ("aws:sourcevpc", "aws:sourcevpce", "aws:sourcearn", "aws:sourceorgid"):
            networks += [
                {clause.key: value.text.replace("*", "theirs")} for value in clause.values if "*" in value.text
            ]
        if clause.key.lower() == "aws:principalorgpaths":
            networks.append({clause.key: ["o-theirs/r-1/"]})
        if clause.key.lower() == "aws:sourceip":
            networks += [{clause.key: value.text.partition("/")[0]} for value in clause.values]
    providers = statement.principals.providers if statement.principals else ()
    signed_in = [{"aws:FederatedProvider": "accounts.google.com" if one == "*" else one} for one in providers]
    networks += [network | one for network in networks for one in signed_in]
    for name, network in itertools.product(dict.fromkeys(names), networks):
        for organization in (None, "o-theirs"):
            yield (
                principal(
                    f"arn:{facts.partition}:iam::{STRANGER}:role/{name}",
                    org_id=organization,
                    user_id="AROATHEIRS:session",
                    tags=TAGS,
                ),
                network,
            )
        yield principal(f"arn:{facts.partition}:iam::{STRANGER}:user/admin", user_id="AIDATHEIRS"), network


def contradiction(account: Account, finding: Finding) -> str | None:
    """Say how the evaluator contradicts a finding; None where it does not, or the finding is not about access."""
    facts = account.facts
    if finding.rule in ("key-policy-public", "key-policy-not-principal") and finding.severity > Severity.LOW:
        return _unless(_public(account, finding), f"nobody of {STRANGER} may do anything")
    if finding.rule == "key-policy-foreign-account":
        strange = re.findall(r"\d{12}", finding.title.partition(" allows ")[2])
        return _unless(all(_foreign(account, finding, one) for one in strange), "nobody of that account may")
    if finding.rule == "key-policy-service-any-account":
        return _unless(_service(account, finding), "the service may not, for a stranger")
    if finding.rule in ("key-policy-no-context", "key-policy-wildcard-context"):
        return _unless(_own(account, finding), "nobody whom the statement names may decrypt")
    if finding.rule == "key-policy-admin-can-use":
        who, does = finding.title.partition(": ")[2].split(" has ")
        key = describe_key(facts, finding.resource)
        needed = does.replace(" and ", ", ").split(", ")
        return _unless(all(_one(account, who, action, key) for action in needed), f"{who} may not")
    if finding.rule == "key-policy-root-delegation":
        key = describe_key(facts, finding.resource)
        people = finding.title.partition("without naming this key: ")[2].split(", ")
        return _unless(all(_one(account, who, "kms:Decrypt", key) for who in people), "IAM lets one of them not")
    if finding.rule == "reencrypt-from-unbound":
        who = finding.title.partition(": ")[2].split(" ")[0]
        key = describe_key(facts, finding.resource)
        elsewhere = {"kms:ReEncryptOnSameKey": False}
        return _unless(_one(account, who, "kms:ReEncryptFrom", key, elsewhere), "it may not re-encrypt")
    if finding.rule.startswith("grant-") and finding.severity > Severity.LOW and finding.rule != "grant-overdue":
        statement = finding.statement or {}
        key = describe_key(facts, finding.resource)
        who, operations = str(statement["GranteePrincipal"]), statement["Operations"]
        assert isinstance(operations, list)
        asked = ["CreateGrant"] if finding.rule == "grant-creates-grants" else operations
        given = {"kms:GrantOperations": [operations[0]]} if asked == ["CreateGrant"] else {}
        return _unless(any(_one(account, who, f"kms:{one}", key, given) for one in asked), "the grantee may not")
    if finding.rule == "decrypt-unexpected-principal":
        event = finding.statement or {}
        key = describe_key(facts, finding.resource)
        action = "kms:Decrypt" if event["eventName"] == "Decrypt" else "kms:ReEncryptFrom"
        allowed = _one(account, str(event["principal"]), action, key, never=_KNOWN)
        return f"{event['principal']} may" if allowed else None
    return None


def _unless(holds: bool, why: str) -> str | None:
    return None if holds else why


def _alone(account: Account, finding: Finding) -> tuple[KeyDescription, Statement]:
    """Return the key with the denials of its policy and the statement of the finding, and that statement."""
    key = next(one for one in account.facts.keys if one.arn == finding.resource)
    written = {"Version": "2012-10-17", "Statement": [finding.statement]}
    (statement,) = parse_key_policy(written).statements
    whole = account.key_policy(key)
    denials = [one for one in whole.statements if one.effect == "Deny"] if whole else []
    policy = Policy("key policy", None, "2012-10-17", (statement, *denials))
    return KeyDescription(key.arn, policy), statement


def _public(account: Account, finding: Finding) -> bool:
    key, statement = _alone(account, finding)
    actions = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:DescribeKey", "kms:Sign")
    return any(
        may(who, action, key, [MAY_ALL], account.facts, network, never=_THEIRS)
        for who, network in _strangers(account.facts, statement)
        for action in actions
    )


def _foreign(account: Account, finding: Finding, owner: str) -> bool:
    key, statement = _alone(account, finding)
    names = statement.principals.names if statement.principals else ()
    people = [one for one in names if f"::{owner}:" in one]
    people += [one for one in _arns(key.policy, owner) if f"::{owner}:" in one]
    people += [f"arn:{account.facts.partition}:iam::{owner}:{kind}/somebody" for kind in ("role", "user")]
    return any(
        may(principal(one, tags=tags), action, key, [MAY_ALL], account.facts)
        for one in people
        for tags in (TAGS, {})
        for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:DescribeKey")
    )


def _service(account: Account, finding: Finding) -> bool:
    key, statement = _alone(account, finding)
    who = min(statement.principals.services if statement.principals else ())
    given = {"aws:SourceAccount": STRANGER, "aws:SourceArn": f"arn:aws:sns:eu-west-1:{STRANGER}:topic"}
    return any(
        may(principal(who), action, key, [], account.facts, source, never=_THEIRS)
        for source in (given, {})
        for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt", "kms:CreateGrant", "kms:Sign")
    )


def _own(account: Account, finding: Finding) -> bool:
    key, statement = _alone(account, finding)
    principals = statement.principals
    names = [*(principals.names if principals else ()), *(principals.services if principals else ())]
    owners = (account.facts.account, *(principals.accounts if principals else ()))
    start = f"arn:{account.facts.partition}:iam::"
    people = [f"{start}{owner}:{kind}/somebody" for owner in owners for kind in ("role", "user")]
    return any(
        may(principal(one, org_id=organization, tags=tags), action, key, [MAY_ALL], account.facts, paths)
        for one in (*names, *people, *_arns(key.policy, account.facts.account))
        for organization in (None, "o-a1b2c3d4e5", "o-ours")
        for tags in (TAGS, {})
        for paths in ({}, {"aws:PrincipalOrgPaths": ["o-ours/r-1/"]})
        for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt")
    )


def _arns(policy: Policy, own: str) -> Iterator[str]:
    """Yield those whom conditions name, of allowances and of denials."""
    for statement in policy.statements:
        for clause in statement.clauses:
            if clause.key.lower() == "aws:principalarn":
                yield from (one.text.replace("::*:", f"::{own}:").replace("*", "x") for one in clause.values)


def _alike(who: str, key: KeyDescription) -> list[str]:
    """Return whom a finding is about: the one it names, and for a whole account those of it whom a policy names."""
    owner = who.split(":")[4] if who.endswith(":root") else None
    return [who, *(one for one in _arns(key.policy, owner or "") if owner and f"::{owner}:" in one)]


def _one(
    account: Account,
    who: str,
    action: str,
    key: KeyDescription,
    given: Mapping[str, Any] | None = None,
    *,
    never: tuple[str, ...] = ("-",),
) -> bool:
    known = account.principals.get(who)
    try:
        callers = [known] if known else [principal(one, tags=tags) for one in _alike(who, key) for tags in (TAGS, {})]
    except ValueError:
        return False
    ids = account.policies_of.get(who, ())
    identity = [account.identity_policies[id_] for id_ in ids if id_ in account.identity_policies]
    if callers[0].kind != "service" and callers[0].account != account.facts.account:
        identity = [MAY_ALL]
    return any(may(caller, action, key, identity, account.facts, given, never=never) for caller in callers)
