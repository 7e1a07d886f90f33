"""Rules about key policies: who they let in, and under which conditions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sealwax.audit.account import ADMINISTER, DECRYPT, ENCRYPT, REENCRYPT_FROM, REENCRYPT_TO, Account
from sealwax.audit.asking import says
from sealwax.audit.facts import KeyFacts
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.identities import keeps_the_key, says_which_key
from sealwax.audit.rules.narrowing import callers, is_of_organization, narrows
from sealwax.audit.rules.rule import Found, Rule, as_text, listed, trust
from sealwax.errors import PolicyError
from sealwax.policy import Statement, parse_key_policy
from sealwax.policy.conditions import Clause
from sealwax.policy.patterns import Wild, glob

_USE: Final = (DECRYPT, REENCRYPT_FROM, *ENCRYPT)
_WORLDS: Final = {
    "AWS": "everybody",
    "Federated": "everybody whom any identity provider knows",
    "Service": "every AWS service",
}
_CONTEXT: Final = "kms:encryptioncontext:"


def _statements(account: Account) -> Iterator[tuple[KeyFacts, Statement, Mapping[str, Any]]]:
    """Return the Allow statements of the account's own keys, as parsed and as written."""
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None:
            continue
        for statement in policy.statements:
            if statement.effect == "Allow" and statement.resources is not None:
                yield key, statement, account.raw(key.policy, statement)


def _restricted(raw: Mapping[str, Any], key: KeyFacts) -> str:
    """Return the statement with its Principal replaced, as the fix."""
    kept = {name: value for name, value in raw.items() if name not in ("Principal", "NotPrincipal")}
    return as_text({"Principal": {"AWS": f"arn:{key.partition}:iam::{key.account}:role/THE-ROLE-THAT-NEEDS-IT"}} | kept)


def _put(key: KeyFacts, what: str) -> str:
    return f"{what}\nPut it with: aws kms put-key-policy --region {key.region} --key-id {key.id} --policy file://policy.json"


def _public(account: Account) -> Iterator[Found]:
    for key, statement, raw in _statements(account):
        principals = statement.principals
        if principals is None or not principals.everyone or any(narrows(one) for one in statement.clauses):
            continue
        with_conditions = "its conditions do not say who asks" if statement.clauses else "without a condition"
        yield Found(
            key.arn,
            raw,
            _put(key, f"Name the principals:\n{_restricted(raw, key)}"),
            f"{statement} is for everybody, {with_conditions}",
        )
    yield from _wild(account)


def _wild(account: Account) -> Iterator[Found]:
    """Wildcards where no policy may have them. Whether KMS takes one is not for the audit to rely on."""
    for key, raw in account.not_understood():
        principal = raw.get("Principal")
        principal = {"AWS": principal} if isinstance(principal, str) else principal
        if raw.get("Effect") != "Allow" or not isinstance(principal, dict):
            continue
        wild = [kind for kind in _WORLDS if _is_wild(principal.get(kind), kind)]
        if not wild or _keeps_out(raw):
            continue
        yield Found(
            key.arn,
            raw,
            _put(key, f"Name the principals:\n{_restricted(raw, key)}"),
            f"a statement is for {_WORLDS[wild[0]]}",
            Severity.HIGH if wild == ["Service"] else None,
        )


def _is_wild(given: Any, kind: str) -> bool:
    texts = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str)]
    if kind == "AWS":
        # A wildcard within an account's ARNs is of that account.
        texts = ["".join(one.split(":")[4:5]) or one for one in texts]
    return any("*" in one for one in texts)


def _keeps_out(raw: Mapping[str, Any]) -> bool:
    """Whether a statement's conditions say who asks, whoever its principals are."""
    try:
        (statement,) = parse_key_policy({"Version": "2012-10-17", "Statement": [{**raw, "Principal": "*"}]}).statements
    except PolicyError:
        return False
    return any(narrows(one) for one in statement.clauses)


def _not_principal(account: Account) -> Iterator[Found]:
    for key, statement, raw in _statements(account):
        if statement.principals is not None and statement.principals.negated:
            yield Found(
                key.arn,
                raw,
                _put(key, f"Say whom to allow, not whom not:\n{_restricted(raw, key)}"),
                f"{statement} allows everybody but those it names",
            )


def _foreign(account: Account) -> Iterator[Found]:
    for key, statement, raw in _statements(account):
        principals = statement.principals
        if principals is None or principals.negated or any(is_of_organization(one) for one in statement.clauses):
            continue
        bounds = [one for one in (callers(clause, key.account) for clause in statement.clauses) if one is not None]
        accounts = set(principals.accounts) | {
            fields[4] for fields in (name.split(":") for name in principals.names) if len(fields) > 5
        }
        if principals.everyone:
            accounts = set().union(*bounds)
        accounts = accounts.intersection(*bounds)
        strange = sorted(one for one in accounts if not account.is_trusted(one))
        if strange:
            named = any(one.key.lower() == "aws:principalarn" and narrows(one) for one in statement.clauses)
            whole = not named and (principals.everyone or bool(set(strange) & principals.accounts))
            yield Found(
                key.arn,
                raw,
                _put(key, "Take it out, or name one role of it.") + trust(strange),
                f"{statement} lets in {'all of ' if whole else ''}{', '.join(strange)}",
                Severity.HIGH if whole else Severity.MEDIUM,
            )


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
            and one.resources is not None
            and says(one, DECRYPT)
            and one.principals is not None
            and (one.principals.names or one.principals.everyone)
        ]
        names = {name for use in uses for one in _context_clauses(use) for name in _names_asked(one)}
        known = sorted(names | set(seen.get(key.arn) or {}))
        if not known:
            continue
        for statement in uses:
            if not _context_clauses(statement):
                raw = account.raw(key.policy, statement)
                condition = {"StringEquals": {f"kms:EncryptionContext:{known[0]}": "THE-VALUE"}}
                yield Found(
                    key.arn,
                    raw,
                    _put(key, f"Ask for the context:\n{as_text(dict(raw) | {'Condition': condition})}"),
                    f"{statement} allows kms:Decrypt with any context, while values are sealed under {listed(known)}",
                )


def _wildcard_context(account: Account) -> Iterator[Found]:
    for key, statement, raw in _statements(account):
        wild = [
            f"{one.key}={value.text}"
            for one in _context_clauses(statement)
            if "Like" in one.operator
            for value in one.values
            if any(isinstance(part, Wild) for part in value.parts)
        ]
        if wild:
            bare = any(not one.partition("=")[2].strip("*?") for one in wild)
            yield Found(
                key.arn,
                raw,
                _put(key, "Use StringEquals with the values that the principal works with; a list of them is fine."),
                f"{statement} takes {listed(wild)}",
                Severity.MEDIUM if bare else Severity.LOW,
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
                    _put(key, "Give administration and use to different principals, in two statements."),
                    f"{who} may {', '.join(administer)} and {DECRYPT}",
                )


def _root_delegation(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.policy is None:
            continue
        reached: list[str] = []
        wide: list[str] = []
        delegating: Statement | None = None
        for one in account.allowed_by_key.get(key.arn, ()):
            if one.action != DECRYPT or len(one.decision.statements) != 2:
                continue
            by_key, by_identity = one.decision.statements
            if by_key.principals is None or key.account not in by_key.principals.accounts:
                continue
            delegating = by_key
            reached.append(one.principal)
            if not _names(by_identity, key.arn) and not any(says_which_key(clause) for clause in by_identity.clauses):
                wide.append(one.principal)
        if delegating is not None and wide:
            raw = account.raw(key.policy, delegating)
            yield Found(
                key.arn,
                raw,
                _put(
                    key,
                    "Delegate administration only, and name in the key policy who may use the key:\n"
                    + as_text(dict(raw) | {"Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:PutKeyPolicy"]}),
                ),
                f"{delegating} leaves kms:Decrypt to IAM, which gives it to {listed(sorted(reached))}; "
                f"not by naming this key: {listed(sorted(wide))}",
            )


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
        if statement.effect == "Allow" and _reaches_out(account, statement):
            return f"to keys of other accounts: {statement} does not keep to this one"
    return None


def _reaches_out(account: Account, statement: Statement) -> bool:
    """Whether an identity policy's statement is about keys of other accounts too."""
    if any(_keeps_to(account, one) for one in statement.clauses):
        return False
    owners = [
        f"{one.text}:::::".split(":")[4] for one in statement.resources or () if one.text.partition(":alias/")[1] == ""
    ]
    return statement.not_resource or any(not account.is_trusted(owner) for owner in owners)


def _keeps_to(account: Account, clause: Clause) -> bool:
    """Whether a part of a condition keeps to keys of accounts that may be let in."""
    if clause.key.lower() != "aws:resourceaccount" or clause.operator == "Null" or "Not" in clause.operator:
        return False
    return all(account.is_trusted(one.text) or one.text.lower() == "${aws:principalaccount}" for one in clause.values)


def _reencrypt_unbound(account: Account) -> Iterator[Found]:
    leads_out = functools.cache(functools.partial(_leads_out, account))
    for key in account.own_keys:
        allowed = account.allowed_by_key.get(key.arn, ())
        decrypt = {one.principal for one in allowed if one.action == DECRYPT}
        for one in allowed:
            if one.action != REENCRYPT_FROM or one.principal in decrypt:
                continue
            way = None if any(keeps_the_key(each) for each in one.decision.statements) else leads_out(one.principal)
            if way is None:
                continue
            by = one.decision.statements[0] if one.decision.statements else None
            raw = account.raw(key.policy, by) if by is not None and by.principals is not None and key.policy else None
            yield Found(
                key.arn,
                raw,
                "Bind the destination: name the keys in kms:ReEncryptTo, and none that the principal may decrypt with "
                "(sealwax policy iam rotate), or ask for "
                '{"Bool": {"kms:ReEncryptOnSameKey": "true"}}; else give kms:Decrypt knowingly, and record it.',
                f"{one.principal} may not kms:Decrypt, but can re-encrypt, {way}",
            )


def _reencrypt_asymmetry(account: Account) -> Iterator[Found]:
    sides: dict[str, dict[str, tuple[KeyFacts, Any]]] = {}
    for one in account.allowed:
        if one.action in (REENCRYPT_FROM, REENCRYPT_TO):
            sides.setdefault(one.principal, {}).setdefault(one.action, (one.key, one.decision))
    for who, found in sides.items():
        # A principal of another account may have the other side there.
        if len(found) == 2 or who not in account.principals:
            continue
        ((action, (key, decision)),) = found.items()
        lacking = REENCRYPT_TO if action == REENCRYPT_FROM else REENCRYPT_FROM
        by = decision.statements[0] if decision.statements else None
        raw = account.raw(key.policy, by) if by is not None and by.principals is not None and key.policy else None
        yield Found(
            key.arn,
            raw,
            f"Give {who} {lacking} on the other key of the rotation, or take {action} away.",
            f"{who} has {action} and no {lacking} on any key, so it cannot re-wrap",
        )


def _via_service(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or key.policy is None or key.usage != "ENCRYPT_DECRYPT" or key.spec != "SYMMETRIC_DEFAULT":
            continue
        uses = [one for one in policy.statements if one.effect == "Allow" and any(says(one, each) for each in _USE)]
        shut = [one for one in uses if any(_asks_via(each) and not _takes_direct(each) for each in one.clauses)]
        denies = [
            one
            for one in policy.statements
            if one.effect == "Deny"
            and any(says(one, each) for each in (DECRYPT, *ENCRYPT))
            and any(_asks_via(each) and _takes_direct(each) for each in one.clauses)
        ]
        if (uses and len(shut) == len(uses)) or denies:
            statement = (denies or shut)[0]
            yield Found(
                key.arn,
                account.raw(key.policy, statement),
                "Use a key of its own for sealwax, whose policy allows direct calls; or, where only AWS services shall "
                "use the key, accept the finding in a baseline.",
                f"{statement} takes calls through AWS services only, and kms:ViaService matches no direct call",
            )


def _asks_via(clause: Clause) -> bool:
    return clause.key.lower() == "kms:viaservice"


def _takes_direct(clause: Clause) -> bool:
    """Whether a part of a condition holds for a call that comes through no service."""
    return clause.failure({}, _nothing, deny=True) is None


_Check = Callable[[Account], Iterator[Found]]

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
