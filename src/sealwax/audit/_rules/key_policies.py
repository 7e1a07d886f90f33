"""Rules about key policies: who they let in, and under which conditions."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sealwax.audit._access import covers, metadata_of, says, wanted
from sealwax.audit._account import ADMINISTER, DECRYPT, ENCRYPT, REENCRYPT_FROM, REENCRYPT_TO, Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._outsiders import ANYBODY, Outsider, callers, lets_in, names_its_holder, narrows, worldwide
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import (
    commands,
    denied,
    kms,
    put,
    replaced,
    split,
    with_condition,
    without_principals,
    without_values,
)
from sealwax.audit._rules.identities import says_which_key
from sealwax.audit._rules.rule import Found, Rule, listed, trust
from sealwax.audit._services import is_service_role
from sealwax.errors import PolicyError
from sealwax.policy import (
    CROSS_ACCOUNT,
    Policy,
    Principal,
    Request,
    Statement,
    evaluate,
    parse_identity_policy,
    parse_key_policy,
    principal,
)
from sealwax.policy._bounds import DERIVED, OF_KEY, THROUGH, Known, most
from sealwax.policy._conditions import Clause
from sealwax.policy._explain import KeyAsSeen
from sealwax.policy._patterns import Wild, glob

_USE: Final = (DECRYPT, *ENCRYPT)
_OPENS: Final = (DECRYPT, REENCRYPT_FROM)
_OF_CONTEXT: Final = "kms:encryptioncontext"
_CONTEXT: Final = f"{_OF_CONTEXT}:"
_CALLER: Final = "kms:CallerAccount"
_ALWAYS: Final = ("aws:principalarn", "aws:principalaccount", "kms:calleraccount")
# What a service may do with a key for anybody, without anything being sealed, opened or given away.
_HARMLESS: Final = frozenset(
    f"kms:{name}"
    for name in (
        "DescribeKey",
        "GetKeyRotationStatus",
        "GetPublicKey",
        "ListGrants",
        "RetireGrant",
        "RevokeGrant",
        "Verify",
        "VerifyMac",
    )
)
# This one is bound by the context that it writes, as its own documentation has it: "Encrypt log data in CloudWatch Logs
# using AWS Key Management Service" in the CloudWatch Logs User Guide.
_BY_CONTEXT: Final = {"logs": "aws:logs:arn"}
_EVERYTHING: Final = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
_MAY_ALL: Final = parse_identity_policy(_EVERYTHING)
_OPEN: Final = parse_key_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}
)


def _statements(account: Account) -> Iterator[tuple[KeyFacts, Policy, Statement, Mapping[str, Any]]]:
    """Return the Allow statements of the account's own keys, as parsed and as written."""
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None:
            continue
        for statement in policy.statements:
            if statement.effect == "Allow" and covers(statement, key.arn):
                yield key, policy, statement, account.raw(key.policy, statement)


def _own_callers_only(raw: Mapping[str, Any], key: KeyFacts) -> dict[str, Any]:
    return with_condition(raw, "StringEquals", _CALLER, key.account)


_CLOSES: Final = (
    f"Let in callers of this account only, by {_CALLER}. Who of this account may use the key stays as it is; name the "
    "roles that need it when you know them."
)


def _public(account: Account) -> Iterator[Found]:
    for key, policy, statement, raw in _statements(account):
        world = None if statement.principals is None else worldwide(statement.principals)
        if world is None or not lets_in(account, key, policy, statement, ANYBODY):
            continue
        with_conditions = "its conditions do not say who asks" if statement.clauses else "without a condition"
        document = replaced(key, statement.index, _own_callers_only(raw, key))
        yield Found(key.arn, raw, put(key, _CLOSES, document), f"{statement} is for {world}, {with_conditions}")
    for key, written in account.not_understood():
        yield from _public_in_part(account, key, written)


def _public_in_part(account: Account, key: KeyFacts, document: Mapping[str, Any]) -> Iterator[Found]:
    """Return what is for everybody for certain, in a policy that is not understood as a whole.

    Wildcards count where no policy may have them: whether KMS takes one is not for the audit to rely on. A condition
    that is not understood may keep everybody out, and so may a denial: then nothing is said here.
    """
    given = document.get("Statement")
    raws: list[Any] = given if isinstance(given, list) else [given]
    understood: list[Statement] = []
    for index, raw in enumerate(raws, 1):
        try:
            (one,) = parse_key_policy({**document, "Id": "x", "Statement": [_for_everybody(raw)]}).statements
        except PolicyError:
            if not isinstance(raw, dict) or raw.get("Effect") != "Allow":
                return
            continue
        understood.append(replace(one, index=index))
    policy = Policy("key policy", None, "", tuple(understood))
    for one in understood:
        raw = raws[one.index - 1]
        world = None if one.principals is None else worldwide(one.principals)
        if world is None or not lets_in(account, key, policy, one, ANYBODY):
            continue
        services = _is_wild(raw.get("Principal"), "Service") and not _is_wild(raw.get("Principal"), "AWS", "Federated")
        closed = replaced(key, one.index, _own_callers_only(_for_everybody(raw), key))
        yield Found(
            key.arn,
            raw,
            Fix("Name the services that need the key.") if services else put(key, _CLOSES, closed),
            f"a statement is for {'every AWS service' if services else world}",
            Severity.HIGH if services else None,
        )


def _for_everybody(raw: Any) -> Any:
    """Return a statement with * for a Principal that has a wildcard where no policy may have one."""
    if isinstance(raw, dict) and _is_wild(raw.get("Principal"), "AWS", "Service"):
        return raw | {"Principal": "*"}
    return raw


def _is_wild(given: Any, *kinds: str) -> bool:
    if not isinstance(given, dict):
        return given == "*" and "AWS" in kinds
    texts = [
        # A wildcard within an account's ARNs is of that account.
        ("".join(one.split(":")[4:5]) or one) if kind == "AWS" else one
        for kind in kinds
        for one in _listed(given.get(kind))
        if isinstance(one, str)
    ]
    return any("*" in one for one in texts)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _not_principal(account: Account) -> Iterator[Found]:
    for key, policy, statement, raw in _statements(account):
        if statement.principals is None or not statement.principals.negated:
            continue
        world = bool(lets_in(account, key, policy, statement, ANYBODY))
        kept_out = "" if world else "; its conditions or a denial keep other accounts out"
        yield Found(
            key.arn,
            raw,
            put(
                key,
                "Say whom to allow: callers of this account but those who were excepted. Name the roles that need the "
                "key when you know them.",
                replaced(key, statement.index, *_said_positively(raw, key)),
            ),
            f"{statement} allows everybody but those it names{kept_out}",
            None if world else Severity.LOW,
        )


def _said_positively(raw: Mapping[str, Any], key: KeyFacts) -> Sequence[Mapping[str, Any]]:
    """Return an Allow statement with NotPrincipal as one with Principal, for callers of the key's account."""
    given = raw["NotPrincipal"]
    names = given.get("AWS", []) if isinstance(given, dict) else given
    excepted = names if isinstance(names, list) else [names]
    if any(one in (key.account, f"arn:{key.partition}:iam::{key.account}:root") for one in excepted):
        return ()  # that is all of the account
    people = [one for one in excepted if f"::{key.account}:" in one]
    made = {name: value for name, value in raw.items() if name != "NotPrincipal"}
    if people:
        operator = "StringNotEquals" if "ArnNotEquals" in made.get("Condition", {}) else "ArnNotEquals"
        made = with_condition(made, operator, "aws:PrincipalArn", [_role_of(one) for one in people])
    return (_own_callers_only(made | {"Principal": {"AWS": "*"}}, key),)


def _role_of(arn: str) -> str:
    # Of a session, aws:PrincipalArn is the role; all of its sessions are excepted with it.
    who = principal(arn)
    return who.role or who.arn


def _foreign(account: Account) -> Iterator[Found]:
    for key, policy, statement, raw in _statements(account):
        principals = statement.principals
        if principals is None or principals.negated:
            continue
        bounds = [one for one in (callers(clause, key.account) for clause in statement.clauses) if one is not None]
        found = [Outsider(one) for one in principals.accounts]
        if principals.everyone and bounds:
            found += [Outsider(one) for one in frozenset.intersection(*bounds)]
        found += [Outsider(one.split(":")[4], one) for one in principals.names if one.count(":") >= 5]
        found += [Outsider(one.split(":")[4]) for one in principals.providers if one.startswith("arn:")]
        inside = [
            one
            for one in found
            if one.account and not account.is_trusted(one.account) and lets_in(account, key, policy, statement, one)
        ]
        strange = sorted({one.account for one in inside if one.account})
        if not strange:
            continue
        named = any(one.key.lower() == "aws:principalarn" and narrows(one) for one in statement.clauses)
        whole = not named and any(
            one.arn is None and (principals.everyone or one.account in principals.accounts) for one in inside
        )

        def is_strange(text: str, strange: Sequence[str] = strange) -> bool:
            return (text.split(":")[4] if text.count(":") >= 5 else text) in strange

        kept = without_principals(raw, is_strange)
        if kept is not None and principals.everyone:
            kept = without_values(kept, _ALWAYS, is_strange)
        out = ", ".join(strange)
        document = replaced(key, statement.index, *([] if kept is None else [kept]))
        fix = put(key, f"Take {out} out.", document)
        yield Found(
            key.arn,
            raw,
            replace(fix, says=fix.says + trust(strange)),
            f"{statement} lets in {'all of ' if whole else ''}{out}",
            Severity.HIGH if whole else Severity.MEDIUM,
        )


def _service_for_anybody(account: Account) -> Iterator[Found]:
    for key, policy, statement, raw in _statements(account):
        may: dict[str, list[str]] = {}
        for service in sorted(statement.principals.services if statement.principals else ()):
            found = lets_in(account, key, policy, statement, Outsider(service=service))
            actions = [one for one in found if one not in _HARMLESS]
            if actions:
                may[service] = actions
        if not may:
            continue
        # Each service of a statement may do the same, but for what is denied to one of them.
        actions = sorted({action for one in may.values() for action in one})
        accounts = [key.account, *(one for one in account.facts.trusted_accounts if one != key.account)]
        yield Found(
            key.arn,
            raw,
            put(
                key,
                f"Let {' and '.join(may)} use the key for {' and '.join(accounts)} only. A service that works for "
                "more accounts of yours: name them with --trust-account. See in the documentation of the service that "
                "it sends the condition key that is asked for.",
                replaced(key, statement.index, *_bound(raw, key, may, actions, accounts)),
            ),
            f"{statement} allows {' and '.join(may)} {', '.join(actions)} for resources of any account",
        )


def _bound(
    raw: Mapping[str, Any], key: KeyFacts, services: Iterable[str], actions: Sequence[str], accounts: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the statements that are in place of one, with the services bound to accounts."""
    named = raw["Principal"]["Service"]
    left = [one for one in (named if isinstance(named, list) else [named]) if one not in set(services)]
    others = {name: value for name, value in raw["Principal"].items() if name != "Service"}
    others |= {"Service": left} if left else {}
    if others:
        yield dict(raw) | {"Principal": others}
    rest, _ = split(raw, actions, of_key=True)
    if rest is not None:
        yield rest | {"Principal": {"Service": list(services)}}
    plain = {name: value for name, value in raw.items() if name not in ("Sid", "NotAction")}
    plain |= {"Action": list(actions)}
    by_source = [one for one in services if one.split(".")[0] not in _BY_CONTEXT]
    if by_source:
        yield with_condition(plain, "StringEquals", "aws:SourceAccount", list(accounts)) | {
            "Principal": {"Service": by_source}
        }
    for one in services:
        context = _BY_CONTEXT.get(one.split(".")[0])
        if context is not None:
            owners = [f"arn:{key.partition}:logs:{key.region}:{account}:*" for account in accounts]
            yield with_condition(plain, "ArnLike", f"kms:EncryptionContext:{context}", owners) | {
                "Principal": {"Service": one}
            }


# --- what somebody of a statement may, as far as is known


def _is_known(name: str) -> bool:
    """Of a call with a context that is asked about, whatever service it comes through."""
    return name in DERIVED or name in OF_KEY or name.startswith(_OF_CONTEXT)


def _is_known_directly(name: str) -> bool:
    """Of a call that comes through no service, with whatever context."""
    return name in DERIVED or name in OF_KEY or name in THROUGH


def _is_known_by_service(name: str) -> bool:
    """Of a call that comes through some service, with whatever context."""
    return name in DERIVED or name in OF_KEY


def _could(
    account: Account,
    key: KeyFacts,
    policy: Policy,
    who: Principal,
    action: str,
    known: Known,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Whether the evaluator can let a principal do something, whatever the rest of its request is."""
    ids = account.policies_of.get(who.role or who.arn)
    identity = [_MAY_ALL]
    if ids is not None:
        identity = [account.identity_policies[id_] for id_ in ids if id_ in account.identity_policies]

    seen = KeyAsSeen(key.arn, policy, (), metadata_of(key), account.aliases_of(key) or (), key.tags or {})
    request = Request(
        action,
        who,
        key.arn,
        account.facts.time,
        context=seen.conditions(),
        encryption_context=context or {},
    )
    return evaluate(
        request, key_policy=most(policy, known), identity_policies=[most(one, known) for one in identity]
    ).allowed


def _people(key: KeyFacts, policy: Policy, statement: Statement) -> Iterator[Principal]:
    """Yield those whom a statement is about: those it names, and for a whole account or everybody some of it."""
    principals = statement.principals
    if principals is None:
        return
    names = [*sorted(principals.names), *sorted(principals.services)]
    accounts = {key.account} if principals.everyone or principals.negated or principals.providers else set()
    for owner in sorted(accounts | principals.accounts):
        start = f"arn:{key.partition}:iam::{owner}:"
        names += [f"{start}role/somebody", f"{start}user/somebody"]
        names += [one for one in _named_in_conditions(policy, owner) if one.startswith(start)]
    for name in dict.fromkeys(names):
        try:
            yield principal(name)
        except ValueError:
            continue  # the unique id of one that is gone, or a pattern


def _named_in_conditions(policy: Policy, owner: str) -> Iterator[str]:
    for statement in policy.statements:
        for clause in statement.clauses:
            if clause.key.lower() == "aws:principalarn":
                yield from (one.text.replace(":*:", f":{owner}:").replace("*", "x") for one in clause.values)


def _with_denials(policy: Policy, statement: Statement) -> Policy:
    return replace(policy, statements=(statement, *(one for one in policy.statements if one.effect == "Deny")))


def _context_clauses(statement: Statement) -> list[Clause]:
    """Return the parts of the condition that ask for an encryption context."""
    return [
        one
        for one in statement.clauses
        if (one.key.lower().startswith(_CONTEXT) or one.key.lower() == "kms:encryptioncontextkeys")
        and "Not" not in one.operator
        and not one.operator.endswith("IfExists")
        and not one.operator.startswith("ForAllValues:")
        and not (one.operator == "Null" and any(value.text.lower() == "true" for value in one.values))
    ]


def _names_asked(clause: Clause) -> list[str]:
    if clause.key.lower().startswith(_CONTEXT):
        return [clause.key[len(_CONTEXT) :]]
    return [one.text for one in clause.values]


def _is_of_program(name: str) -> bool:
    """Whether a name of a context is a program's: AWS services begin theirs so."""
    return not name.lower().startswith("aws:")


def _no_context(account: Account) -> Iterator[Found]:
    seen = {arn: one.context for one in account.facts.events or () if one.context and not one.error for arn in one.keys}
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None:
            continue
        uses = [
            one
            for one in policy.statements
            if one.effect == "Allow"
            and covers(one, key.arn)
            and says(one, DECRYPT)
            and one.principals is not None
            and (one.principals.names or one.principals.everyone)
        ]
        names = {name for use in uses for one in _context_clauses(use) for name in _names_asked(one)}
        known = sorted(filter(_is_of_program, names | set(seen.get(key.arn) or {})))
        if not known:
            continue
        for statement in uses:
            if _context_clauses(statement) or not _opens_without(account, key, policy, statement, known[0]):
                continue
            raw = account.raw(key.policy, statement)
            yield Found(
                key.arn,
                raw,
                put(
                    key,
                    f"Ask for a context with one of the names that are in use: {listed(known)}. To bind each principal "
                    "to its own data, ask for values too, with StringEquals on kms:EncryptionContext:NAME.",
                    replaced(key, statement.index, *_with_context(raw, known)),
                ),
                f"{statement} allows kms:Decrypt with any context, while values are sealed under {listed(known)}",
            )


def _opens_without(account: Account, key: KeyFacts, policy: Policy, statement: Statement, name: str) -> bool:
    alone = _with_denials(policy, statement)
    return any(
        _could(account, key, alone, who, DECRYPT, _is_known, context)
        for who in _people(key, policy, statement)
        if who.kind != "service" and not is_service_role(who.arn, account.service_roles)
        for context in ({}, {name: "of somebody else"})
    )


def _with_context(raw: Mapping[str, Any], names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield a statement without kms:Decrypt, and one with it that asks for one of the names."""
    rest, _ = split(raw, [DECRYPT], of_key=True)
    if rest is not None:
        yield rest
    plain = {name: value for name, value in raw.items() if name not in ("Sid", "NotAction")} | {"Action": DECRYPT}
    yield with_condition(plain, "ForAnyValue:StringEquals", "kms:EncryptionContextKeys", list(names))


def _wildcard_context(account: Account) -> Iterator[Found]:
    for key, policy, statement, raw in _statements(account):
        clauses = [one for one in _context_clauses(statement) if "Like" in one.operator]
        wild = [
            f"{one.key}={value.text}"
            for one in clauses
            for value in one.values
            if any(isinstance(part, Wild) for part in value.parts)
            # A service writes the ARN of what it works for: of all Regions, say, but of one account.
            and not names_its_holder(one.key.lower().removeprefix(_CONTEXT), value)
        ]
        if wild and _takes_others(account, key, policy, statement):
            bare = any(not one.partition("=")[2].strip("*?") for one in wild)
            yield Found(
                key.arn,
                raw,
                commands(
                    "Use StringEquals with the values that the principal works with; a list of them is fine. Take the "
                    "policy out, change that condition in policy.json, and put it back:",
                    kms(key, "get-key-policy", "--policy-name", "default", "--query", "Policy", "--output", "text")
                    + " > policy.json",
                    kms(key, "put-key-policy", "--policy-name", "default", "--policy", "file://policy.json"),
                ),
                f"{statement} takes {listed(wild)}",
                Severity.MEDIUM if bare else Severity.LOW,
            )


def _takes_others(account: Account, key: KeyFacts, policy: Policy, statement: Statement) -> bool:
    """Whether a context that only fits the wildcards lets somebody in, in spite of all denials."""
    context, _ = wanted(statement)
    alone = _with_denials(policy, statement)
    actions = [one for one in sorted(CROSS_ACCOUNT) if says(statement, one)]
    return any(
        _could(account, key, alone, who, action, _is_known, context)
        for who in _people(key, policy, statement)
        for action in actions
    )


def _admin_can_use(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None:
            continue
        named = {
            name
            for one in policy.statements
            if one.principals and one.effect == "Allow"
            for name in one.principals.names
        }
        can: dict[str, dict[str, Any]] = {}
        for one in account.allowed_by_key.get(key.arn, ()):
            if one.principal in named:
                can.setdefault(one.principal, {})[one.action] = one.decision
        for who, actions in can.items():
            administer = [one for one in ADMINISTER if one in actions]
            if administer and DECRYPT in actions:
                by = actions[DECRYPT].statements
                raw = account.raw(key.policy, by[0]) if by and by[0].principals is not None else None
                yield Found(
                    key.arn,
                    raw,
                    put(
                        key,
                        f"Take {' and '.join(_OPENS)} from {who}, so that it administers the key and does not open "
                        "what is under it; whoever opens it is another principal. If this is the one that opens, take "
                        "the administration from it in the same way.",
                        denied(key, who, _OPENS),
                    ),
                    f"{who} may {', '.join(administer)} and {DECRYPT}",
                )


def _root_delegation(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.policy is None:
            continue
        reached: dict[str, list[str]] = {action: [] for action in _OPENS}
        wide: list[str] = []
        delegating: Statement | None = None
        for one in account.allowed_by_key.get(key.arn, ()):
            if one.action not in _OPENS or len(one.decision.statements) != 2:
                continue
            by_key, by_identity = one.decision.statements
            if by_key.principals is None or key.account not in by_key.principals.accounts:
                continue
            reached[one.action].append(one.principal)
            if one.action != DECRYPT or _names_people(by_key):
                continue
            if not _names(by_identity, key.arn) and not any(says_which_key(clause) for clause in by_identity.clauses):
                delegating = delegating or by_key
                wide.append(one.principal)
        if delegating is not None:
            raw = account.raw(key.policy, delegating)
            people = list(dict.fromkeys(sorted((*reached[DECRYPT], *reached[REENCRYPT_FROM]))))
            yield Found(
                key.arn,
                raw,
                put(
                    key,
                    f"Leave {' and '.join(_OPENS)} to IAM for those only who open something today, and strike out of "
                    "aws:PrincipalArn who should not. What their IAM policies say still counts, and the rest of the "
                    "statement stays.",
                    replaced(key, delegating.index, *_delegated_to(raw, delegating, key, people)),
                ),
                f"{delegating} leaves kms:Decrypt to IAM, which gives it to {listed(sorted(reached[DECRYPT]))}; "
                f"not by naming this key: {listed(sorted(wide))}",
            )


def _names_people(statement: Statement) -> bool:
    """Whether a statement for an account is for some of it only, each by its name."""
    return any(
        one.key.lower() == "aws:principalarn"
        and narrows(one)
        and not any(isinstance(part, Wild) for value in one.values for part in value.parts)
        for one in statement.clauses
    )


def _delegated_to(
    raw: Mapping[str, Any], statement: Statement, key: KeyFacts, people: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield a statement that does not delegate the opening of anything, and one that delegates it for some."""
    root = f"arn:{key.partition}:iam::{key.account}:root"
    rest, _ = split(raw, _OPENS, of_key=True)
    if rest is not None:
        yield rest
    named = without_principals(raw, lambda one: one in (root, key.account))
    if named is not None:
        # Whoever else the statement is for, it is for as it was.
        yield {name: value for name, value in named.items() if name not in ("Sid", "NotAction")} | {
            "Action": [one for one in _OPENS if says(statement, one)]
        }
    plain = {name: value for name, value in raw.items() if name not in ("Sid", "NotAction")}
    plain |= {"Principal": {"AWS": root}, "Action": [one for one in _OPENS if says(statement, one)]}
    # Its root user stays; who is that is up to the account.
    operator = "StringEquals" if "aws:principalarn" in _conditions_on(plain, "ArnEquals") else "ArnEquals"
    yield with_condition(plain, operator, "aws:PrincipalArn", [root, *people])


def _conditions_on(raw: Mapping[str, Any], operator: str) -> set[str]:
    return {name.lower() for name in raw.get("Condition", {}).get(operator, {})}


def _names(statement: Statement, arn: str) -> bool:
    """Whether a statement is about a key by its name alone, and not by a wildcard as well."""
    covering = [one for one in statement.resources or () if glob(one.resolve(_nothing) or (), arn)]
    return not statement.not_resource and bool(covering) and all(one.text == arn for one in covering)


def _nothing(_: str) -> None:
    return None


def _leads_out(account: Account, who: str) -> str | None:
    """Say by which way a principal that re-encrypts gets at the plaintext; None where there is none."""
    if who not in account.principals:
        return "whose own policies are not seen here"
    may = account.allowed_by_principal.get(who, ())
    destinations = {one.key.arn for one in may if one.action == REENCRYPT_TO}
    for one in may:
        if one.action == DECRYPT and one.key.arn in destinations:
            return f"to {one.key.arn}, which it may decrypt with"
    for statement in account.statements_of(who, REENCRYPT_TO):
        if statement.effect == "Allow" and any(
            _may_move_to(account, who, statement, destination) for destination in _beyond(account, statement)
        ):
            return f"to keys of other accounts: {statement} does not keep to this one"
    return None


_DIGITS: Final = re.compile("[0-9]{12}")
_STRANGER: Final = "000000000000"  # no account has this number; whoever has one can let anybody re-encrypt to its key


def _beyond(account: Account, statement: Statement) -> Iterator[str]:
    """Yield keys of accounts that may not be let in, of those that a statement can be about."""
    facts = account.facts
    named = [one.text.split(":", 5) for one in statement.resources or () if one.text.count(":") >= 5]
    owners = {fields[4] for fields in named}
    owners |= {
        one.text for clause in statement.clauses if clause.key.lower() == "aws:resourceaccount" for one in clause.values
    }
    strangers = (one for one in sorted(owners) if _DIGITS.fullmatch(one) and not account.is_trusted(one))
    regions = {fields[3] for fields in named if "*" not in fields[3] and "?" not in fields[3]}
    names = {fields[5].replace("*", "0").replace("?", "0") for fields in named if fields[5].startswith("key/")}
    for owner in (_STRANGER, *strangers):
        for region in (account.region, *sorted(regions)):
            for name in ("key/00000000-0000-4000-8000-000000000000", *sorted(names)):
                yield f"arn:{facts.partition}:kms:{region}:{owner}:{name}"


def _may_move_to(account: Account, who: str, statement: Statement, destination: str) -> bool:
    context, others = wanted(statement)
    try:
        request = Request(
            REENCRYPT_TO,
            account.principals[who],
            destination,
            account.facts.time,
            context={**others, "kms:ReEncryptOnSameKey": False},
            encryption_context=context,
        )
    except ValueError:
        return False
    identity = [account.identity_policies[id_] for id_ in account.policies_of[who] if id_ in account.identity_policies]
    return evaluate(request, key_policy=_OPEN, identity_policies=identity).allowed


def _reencrypt_unbound(account: Account) -> Iterator[Found]:
    leads_out = functools.cache(functools.partial(_leads_out, account))
    for key in account.own_keys:
        allowed = account.allowed_by_key.get(key.arn, ())
        decrypt = {one.principal for one in allowed if one.action == DECRYPT}
        for one in allowed:
            who = one.principal
            if one.action != REENCRYPT_FROM or who in decrypt or not who.startswith("arn:"):
                continue  # who is no principal with an ARN, is everybody, or a service
            way = None if is_service_role(who, account.service_roles) else leads_out(who)
            if way is None:
                continue
            by = one.decision.statements[0] if one.decision.statements else None
            raw = account.raw(key.policy, by) if by is not None and by.principals is not None and key.policy else None
            yield Found(
                key.arn,
                raw,
                put(
                    key,
                    f"Deny {who} to re-encrypt from this key to another one. If it rotates keys, name the destinations "
                    "in its kms:ReEncryptTo instead, and none that it may decrypt with (sealwax policy iam rotate); "
                    "else give kms:Decrypt knowingly, and record it.",
                    denied(key, who, [REENCRYPT_FROM], {"Bool": {"kms:ReEncryptOnSameKey": "false"}}),
                ),
                f"{who} may not kms:Decrypt, but can re-encrypt, {way}",
            )


def _reencrypt_asymmetry(account: Account) -> Iterator[Found]:
    if any(account.key_policy(key) is None for key in account.own_keys):
        return  # the other side may be in a policy that was not seen
    sides: dict[str, dict[str, tuple[KeyFacts, Any]]] = {}
    for one in account.allowed:
        if one.action in (REENCRYPT_FROM, REENCRYPT_TO):
            sides.setdefault(one.principal, {}).setdefault(one.action, (one.key, one.decision))
    for who, found in sides.items():
        # A principal of another account may have the other side there.
        if len(found) == 2 or who not in account.principals or who in account.unread_principals:
            continue
        ((action, (key, decision)),) = found.items()
        lacking = REENCRYPT_TO if action == REENCRYPT_FROM else REENCRYPT_FROM
        if is_service_role(who, account.service_roles) or _has_elsewhere(account, who, lacking):
            continue
        by = decision.statements[0] if decision.statements else None
        raw = account.raw(key.policy, by) if by is not None and by.principals is not None and key.policy else None
        yield Found(
            key.arn,
            raw,
            put(
                key,
                f"If it re-wraps, give {who} {lacking} on the other key of the rotation. If not, take {action} away, "
                "as here.",
                denied(key, who, [action]),
            ),
            f"{who} has {action} and no {lacking} on any key that was looked at, so it cannot re-wrap",
        )


def _has_elsewhere(account: Account, who: str, action: str) -> bool:
    """Whether identity policies may allow an action on keys that were not looked at."""
    return any(
        one.effect == "Allow"
        and (one.not_resource or any(each.text not in account.keys_by_arn for each in one.resources or ()))
        for one in account.statements_of(who, action)
    )


def _via_service(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None or key.usage != "ENCRYPT_DECRYPT" or key.spec != "SYMMETRIC_DEFAULT":
            continue
        about = [
            one
            for one in policy.statements
            if any(_asks_via(each) for each in one.clauses) and any(says(one, each) for each in _USE)
        ]
        if not about:
            continue
        people = [
            who
            for one in policy.statements
            if one.effect == "Allow"
            for who in _people(key, policy, one)
            if who.kind != "service"
        ]
        shut = [
            action
            for action in _USE
            if any(_could(account, key, policy, who, action, _is_known_by_service) for who in people)
            and not any(_could(account, key, policy, who, action, _is_known_directly) for who in people)
        ]
        if shut:
            statement = next((one for one in about if one.effect == "Deny"), about[0])
            accepted = {
                "format": "sealwax-baseline-1",
                "accepted": [
                    {
                        "rule": "key-policy-via-service",
                        "resource": key.arn,
                        "reason": "only AWS services use this key",
                    }
                ],
            }
            yield Found(
                key.arn,
                account.raw(key.policy, statement),
                Fix(
                    "Use a key of its own for sealwax, whose policy allows direct calls (sealwax policy key). Where "
                    "only AWS services shall use this one, accept the finding in a baseline, for --baseline:",
                    (Block(json.dumps(accepted, indent=2), "baseline.json"),),
                ),
                f"by {statement}, {', '.join(shut)} work through AWS services only, and kms:ViaService matches no "
                "direct call",
            )


def _asks_via(clause: Clause) -> bool:
    return clause.key.lower() == "kms:viaservice"


RULES: Final = (
    Rule(
        "key-policy-public",
        Severity.CRITICAL,
        "the key policy is open to everybody",
        "Anyone with an AWS account can use the key. A condition on what is sent, an encryption context or a service, "
        "does not say who sends it.",
        (
            std.KMS_5,
            std.config("kms-key-policy-no-public-access"),
            std.prowler("kms_key_not_publicly_accessible"),
            *std.ACCESS,
        ),
        _public,
    ),
    Rule(
        "key-policy-not-principal",
        Severity.CRITICAL,
        "the key policy allows by NotPrincipal",
        "Allow with NotPrincipal allows everybody else, users of other accounts and anonymous ones among them.",
        (std.KMS_5, *std.ACCESS),
        _not_principal,
    ),
    Rule(
        "key-policy-foreign-account",
        Severity.HIGH,
        "the key policy lets in another account",
        "Who may use the key there is decided by that account's administrators, and their policies are not seen here.",
        std.ACCESS,
        _foreign,
    ),
    Rule(
        "key-policy-service-any-account",
        Severity.MEDIUM,
        "the key policy lets an AWS service use the key for any account",
        "Whoever has an account can have the service use the key for a resource of theirs: the service is a confused "
        "deputy.",
        std.ACCESS,
        _service_for_anybody,
    ),
    Rule(
        "key-policy-root-delegation",
        Severity.MEDIUM,
        "the key policy leaves kms:Decrypt to IAM, and policies with wildcards reach it",
        "Whoever may write IAM policies decides who decrypts, and a policy written for another key reaches this one.",
        (std.PCI_CUSTODIANS, *std.ACCESS),
        _root_delegation,
    ),
    Rule(
        "key-policy-no-context",
        Severity.MEDIUM,
        "kms:Decrypt is allowed with any encryption context",
        "Values are sealed under a context, so that each principal can open its own only; a statement that does not "
        "ask for it opens all of them.",
        std.ACCESS,
        _no_context,
    ),
    Rule(
        "key-policy-wildcard-context",
        Severity.MEDIUM,
        "the condition on the encryption context has wildcards",
        "A * that stands for a tenant, table or purpose takes every other one too, those still to come among them.",
        std.ACCESS,
        _wildcard_context,
    ),
    Rule(
        "key-policy-admin-can-use",
        Severity.MEDIUM,
        "an administrator of the key can use it",
        "One stolen credential is enough to read the data and to destroy the key: duties are not separated.",
        (std.PCI_CUSTODIANS, std.SOC_DUTIES, *std.ACCESS),
        _admin_can_use,
    ),
    Rule(
        "reencrypt-from-unbound",
        Severity.HIGH,
        "kms:ReEncryptFrom without a bound destination is as good as kms:Decrypt",
        "The principal re-encrypts to a key that it may decrypt with, in another account if need be.",
        (std.KMS_1, *std.ACCESS),
        _reencrypt_unbound,
    ),
    Rule(
        "reencrypt-asymmetry",
        Severity.LOW,
        "a principal has one side of kms:ReEncrypt only",
        "Re-wrapping needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one; a rotation would stop.",
        (std.PCI_CRYPTOPERIOD,),
        _reencrypt_asymmetry,
    ),
    Rule(
        "key-policy-via-service",
        Severity.LOW,
        "the key can be used through AWS services only",
        "sealwax and every other program that calls KMS itself are refused.",
        (),
        _via_service,
    ),
)
