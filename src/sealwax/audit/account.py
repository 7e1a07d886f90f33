"""The facts of an account, looked at by rules: policies parsed once, and who can do what with which key.

Whether a principal can do something is the answer of :func:`sealwax.policy.evaluate`, asked for that principal, with
the context that the conditions of a matching statement ask for. Principals and keys that no statement brings together
are not asked for, and what policies say in the same words is asked once: thousands of keys share a few policies.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sealwax.audit.facts import Facts, KeyFacts
from sealwax.audit.report import Access, NotLookedAt
from sealwax.errors import PolicyError
from sealwax.policy import (
    Decision,
    Grant,
    Policy,
    Principal,
    Request,
    Statement,
    evaluate,
    parse_identity_policy,
    parse_key_policy,
    principal,
)
from sealwax.policy.documents import Principals
from sealwax.policy.model import Value
from sealwax.policy.operations import GRANTABLE
from sealwax.policy.patterns import glob

DECRYPT: Final = "kms:Decrypt"
REENCRYPT_FROM: Final = "kms:ReEncryptFrom"
REENCRYPT_TO: Final = "kms:ReEncryptTo"
ENCRYPT: Final = ("kms:GenerateDataKey", "kms:Encrypt")
ADMINISTER: Final = ("kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:DisableKey")
CREATE_GRANT: Final = "kms:CreateGrant"
UPDATE_ALIAS: Final = "kms:UpdateAlias"
ASKED: Final = (DECRYPT, REENCRYPT_FROM, REENCRYPT_TO, *ENCRYPT, *ADMINISTER, CREATE_GRANT, UPDATE_ALIAS)

# What each action is called in a picture of the access.
_USES: Final = {
    "administer": ADMINISTER,
    "decrypt": (DECRYPT,),
    "encrypt": ENCRYPT,
    "grant": (CREATE_GRANT,),
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A principal may do an action on a key: the decision says by what."""

    key: KeyFacts
    principal: str
    action: str
    decision: Decision


class Account:
    """The facts, parsed and indexed.

    Attributes:
        facts: the facts.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._key_policies: dict[str, Policy | PolicyError] = {}
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._unread: dict[str, NotLookedAt] = {}

    @cached_property
    def own_keys(self) -> tuple[KeyFacts, ...]:
        """The customer managed keys: nobody but AWS changes the policy or the rotation of the others."""
        return tuple(key for key in self.facts.keys if key.manager == "CUSTOMER")

    @cached_property
    def keys_by_arn(self) -> dict[str, KeyFacts]:
        return {key.arn: key for key in self.facts.keys}

    def is_trusted(self, account: str) -> bool:
        """Whether an account is this one, or one of those that may be let in."""
        return account == self.facts.account or account in self.facts.trusted_accounts

    def key_policy(self, key: KeyFacts) -> Policy | None:
        """Return the policy of a key, or None where there is none that can be judged."""
        if key.policy is None:
            return None
        found = self._key_policies.get(key.policy)
        if found is None:
            try:
                found = parse_key_policy(key.policy)
            except PolicyError as error:
                found = error
            self._key_policies[key.policy] = found
        if isinstance(found, PolicyError):
            self._not_read("the key policy", key.arn, key.region, found)
            return None
        return found

    def not_understood(self) -> Iterator[tuple[KeyFacts, Mapping[str, Any]]]:
        """Return the statements, as they were written, of those key policies that cannot be judged as a whole."""
        for key in self.own_keys:
            if key.policy is None or self.key_policy(key) is not None:
                continue
            try:
                document = json.loads(key.policy)
            except (ValueError, RecursionError):
                continue
            listed = document.get("Statement") if isinstance(document, dict) else None
            for one in listed if isinstance(listed, list) else [listed]:
                if isinstance(one, dict):
                    yield key, one

    def _not_read(self, what: str, resource: str, region: str, error: PolicyError) -> None:
        self._unread.setdefault(resource, NotLookedAt(what, resource, region, f"it cannot be judged: {error}"))

    @cached_property
    def not_looked_at(self) -> tuple[NotLookedAt, ...]:
        """What the facts do not hold, and the policies in them that cannot be judged."""
        for key in self.own_keys:
            self.key_policy(key)
        _ = self.identity_policies
        return (*self.facts.not_looked_at, *self._unread.values())

    def raw(self, document: str, statement: Statement) -> Mapping[str, Any]:
        """Return a statement as it was written."""
        if document not in self._raw:
            self._raw[document] = json.loads(document)
        listed = self._raw[document]["Statement"]
        found: Mapping[str, Any] = listed if isinstance(listed, dict) else listed[statement.index - 1]
        return found

    @cached_property
    def identity_policies(self) -> dict[str, Policy]:
        """The identity policies that were understood, by their ids."""
        found: dict[str, Policy] = {}
        parsed: dict[str, Policy | PolicyError] = {}
        for one in self.facts.policies or ():
            if one.document not in parsed:
                try:
                    parsed[one.document] = parse_identity_policy(one.document, name=f"policy {one.name}")
                except PolicyError as error:
                    parsed[one.document] = error
            read = parsed[one.document]
            if isinstance(read, PolicyError):
                self._not_read("the identity policy", one.id, "", read)
            else:
                found[one.id] = read
        return found

    @cached_property
    def principals(self) -> dict[str, Principal]:
        """The users and roles of the account, by their ARNs."""
        found = {}
        for one in self.facts.principals or ():
            try:
                found[one.arn] = principal(
                    one.arn, user_id=one.user_id, tags=one.tags, org_id=self.facts.organization or None
                )
            except ValueError:
                continue
        return found

    @cached_property
    def allowed(self) -> tuple[Allowed, ...]:
        """Who may do which of :data:`ASKED` on which of the account's own keys, as far as is known."""
        return tuple(one for action in ASKED for one in _Asker(self, action).ask())

    @cached_property
    def allowed_by_key(self) -> dict[str, list[Allowed]]:
        found: dict[str, list[Allowed]] = defaultdict(list)
        for one in self.allowed:
            found[one.key.arn].append(one)
        return found

    @cached_property
    def allowed_by_principal(self) -> dict[str, list[Allowed]]:
        found: dict[str, list[Allowed]] = defaultdict(list)
        for one in self.allowed:
            found[one.principal].append(one)
        return found

    @cached_property
    def policies_of(self) -> dict[str, tuple[str, ...]]:
        """The ids of the policies of each user and role, by its ARN; those that were not understood are among them."""
        return {one.arn: one.policies for one in self.facts.principals or ()}

    def statements_of(self, who: str, action: str) -> tuple[Statement, ...]:
        """Return what the identity policies of a user or role say of an action."""
        read = (self.identity_policies.get(id_) for id_ in self.policies_of.get(who, ()))
        return tuple(one for policy in read if policy is not None for one in policy.statements if says(one, action))

    def access(self) -> tuple[Access, ...]:
        """Return the picture of who can use which key."""
        uses: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        by: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for one in self.allowed:
            for use, actions in _USES.items():
                if one.action in actions:
                    uses[one.key.arn, one.principal][use] = None
                    reason = one.decision.reason.removesuffix(f" {one.action}").removesuffix(" allows")
                    by[one.key.arn, one.principal][reason.removesuffix(" allow")] = None
        return tuple(
            Access(key, who, tuple(use for use in _USES if use in uses[key, who]), tuple(by[key, who]))
            for key, who in sorted(uses)
        )


def says(statement: Statement, action: str) -> bool:
    """Whether a statement is about an action, whatever the resource and the conditions."""
    return any(glob(one.resolve(_nothing) or (), action.lower()) for one in statement.actions) != statement.not_action


def _nothing(_: str) -> None:
    return None


# A direct call never comes through a service.
_NEVER_DIRECT: Final = ("kms:viaservice", "aws:calledvia", "aws:calledviafirst", "aws:calledvialast")
_DERIVED: Final = (
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:principaltype",
    "aws:username",
    "aws:userid",
    "aws:currenttime",
    "aws:epochtime",
    "aws:securetransport",
    "aws:principalisawsservice",
    "aws:resourceaccount",
    "aws:requestedregion",
    "kms:calleraccount",
)


def wanted(statement: Statement) -> tuple[dict[str, str], dict[str, Value | Sequence[Value]]]:
    """Return an encryption context and other values that a statement's conditions ask for, where they can be met."""
    context: dict[str, str] = {}
    others: dict[str, Value | Sequence[Value]] = {}
    for clause in statement.clauses:
        name, base = clause.key.lower(), clause.operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
        if base == "Null" and name.startswith("kms:encryptioncontext:") and clause.values[0].text.lower() == "false":
            context.setdefault(clause.key[len("kms:encryptioncontext:") :], "any")
        if "Not" in base or base == "Null" or not clause.values:
            continue
        value = clause.values[0].text.replace("*", "any").replace("?", "x")
        if base.startswith("IpAddress"):
            value = value.partition("/")[0]
        if name.startswith("kms:encryptioncontext:"):
            context[clause.key[len("kms:encryptioncontext:") :]] = value
        elif name == "kms:encryptioncontextkeys":
            context.update({one.text: "any" for one in clause.values})
        elif name not in _DERIVED and name not in _NEVER_DIRECT and not name.startswith("aws:principaltag/"):
            others[clause.key] = [value] if clause.each is not None else value
    return context, others


class _Asker:
    """Answers who may do one action."""

    def __init__(self, account: Account, action: str) -> None:
        self._account = account
        self._facts = account.facts
        self._action = action
        self._answers: dict[Any, Decision | None] = {}
        self._by_policy = {
            id_: [one for one in policy.statements if says(one, action)]
            for id_, policy in account.identity_policies.items()
        }

    def ask(self) -> Iterator[Allowed]:
        identity = self._allowing_identities()
        for key in self._account.own_keys:
            policy = self._account.key_policy(key)
            if policy is None:
                continue
            grants = tuple(grants_of(key))
            about = [one for one in policy.statements if says(one, self._action)]
            # In order, and each once.
            found: dict[str, list[Statement]] = defaultdict(list)
            for statement in about:
                if statement.effect == "Allow" and statement.principals is not None:
                    for name in self._named(statement.principals):
                        found[name].append(statement)
            for grant in grants:
                if self._action.removeprefix("kms:") in grant.operations:
                    found.setdefault(grant.grantee, [])
            delegates = any(
                one.effect == "Allow" and one.principals is not None and key.account in one.principals.accounts
                for one in about
            )
            if delegates:
                for name, statements in identity(key):
                    found[name].extend(statements)
            for name, statements in found.items():
                decision = self._decide(name, key, policy, grants, statements)
                if decision is not None:
                    yield Allowed(key, name, self._action, decision)

    def _named(self, principals: Principals) -> Iterable[str]:
        if principals.negated or principals.everyone:
            return ("*",)
        foreign = (
            f"arn:{self._facts.partition}:iam::{account}:root"
            for account in sorted(principals.accounts)
            if account != self._facts.account
        )
        return (*sorted(principals.names), *sorted(principals.services), *foreign)

    def _allowing_identities(self) -> Any:
        """Return a function from a key to the principals whose policies have a statement that may allow, and those."""
        everywhere: list[tuple[str, Statement]] = []
        exact: dict[str, list[tuple[str, Statement]]] = defaultdict(list)
        patterns: list[tuple[str, Statement]] = []
        for one in self._facts.principals or ():
            for id_ in one.policies:
                for statement in self._by_policy.get(id_, ()):
                    if statement.effect != "Allow" or statement.resources is None:
                        continue
                    for resource in statement.resources:
                        if statement.not_resource or resource.has_variables:
                            patterns.append((one.arn, statement))
                        elif resource.text == "*":
                            everywhere.append((one.arn, statement))
                        elif "*" in resource.text or "?" in resource.text:
                            patterns.append((one.arn, statement))
                        else:
                            exact[resource.text].append((one.arn, statement))

        def at(key: KeyFacts) -> Iterator[tuple[str, list[Statement]]]:
            found: dict[str, list[Statement]] = defaultdict(list)
            for arn, statement in (*everywhere, *exact.get(key.arn, ())):
                found[arn].append(statement)
            for arn, statement in patterns:
                if covers(statement, key.arn):
                    found[arn].append(statement)
            yield from found.items()

        return at

    def _decide(
        self, name: str, key: KeyFacts, policy: Policy, grants: tuple[Grant, ...], statements: list[Statement]
    ) -> Decision | None:
        """Return the decision that allows, or None."""
        if name == "*" or (
            name.endswith(":root") and not name.startswith(f"arn:{self._facts.partition}:iam::{key.account}:")
        ):
            # Not a principal that can be asked for, but a whole account or everybody.
            return _as_written(statements, self._action)
        who = self._account.principals.get(name)
        known: tuple[str, ...] = self._account.policies_of.get(name, ())
        if who is None:
            try:
                who = principal(name, org_id=self._facts.organization or None)
            except ValueError:
                return None
            if who.kind != "service" and who.account != key.account:
                # Its own policies are not ours to see; what the key policy says is what can be said.
                return _as_written(statements, self._action)
        identity = [self._account.identity_policies[id_] for id_ in known if id_ in self._account.identity_policies]
        deciding = [one for id_ in known for one in self._by_policy.get(id_, ())]
        # Statements and their places tell apart all that the answer depends on, but for grants and variables.
        covering = tuple(id(one) for one in deciding if covers(one, key.arn))
        tags = None if key.tags is None else tuple(sorted(key.tags.items()))
        question = (name, key.policy, covering, key.region, tags) if not grants else None
        if question is not None and question in self._answers:
            return self._answers[question]
        decision = self._try(who, key, policy, identity, grants, statements)
        if question is not None:
            self._answers[question] = decision
        return decision

    def _try(
        self,
        who: Principal,
        key: KeyFacts,
        policy: Policy,
        identity: list[Policy],
        grants: tuple[Grant, ...],
        statements: list[Statement],
    ) -> Decision | None:
        delegating = [
            one
            for one in policy.statements
            if one.effect == "Allow"
            and one.principals is not None
            and key.account in one.principals.accounts
            and says(one, self._action)
        ]
        tried: list[tuple[Any, Any]] = [({}, {})]
        tried += [wanted(one) for one in statements]
        tried += [
            _both(wanted(one), wanted(two)) for one in statements for two in delegating if one.clauses or two.clauses
        ]
        tried += [(dict(grant.subset or grant.equals or {}), {}) for grant in grants if grant.grantee == who.arn]
        about: dict[str, Value | Sequence[Value]] = {
            f"aws:ResourceTag/{name}": value for name, value in (key.tags or {}).items()
        }
        if self._facts.aliases is not None:
            names = [one.name for one in self._account_aliases.get(key.arn, ())]
            if names:
                about["kms:ResourceAliases"] = names
        for context, others in tried:
            try:
                request = Request(
                    self._action, who, key.arn, self._facts.time, context=about | others, encryption_context=context
                )
                decision = evaluate(request, key_policy=policy, identity_policies=identity, grants=grants)
            except ValueError:
                continue
            if decision.allowed:
                return decision
        return None

    @cached_property
    def _account_aliases(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = defaultdict(list)
        for alias in self._facts.aliases or ():
            found[alias.key_arn].append(alias)
        return found


def _both(one: tuple[Any, Any], two: tuple[Any, Any]) -> tuple[Any, Any]:
    return two[0] | one[0], two[1] | one[1]


def _as_written(statements: Sequence[Statement], action: str) -> Decision | None:
    return Decision(True, f"{statements[0]} allows {action}", (statements[0],)) if statements else None


def covers(statement: Statement, arn: str) -> bool:
    """Whether a statement's resources cover an ARN; what a variable stands for is taken to fit."""
    if statement.resources is None:
        return False
    covered = any(one.has_variables or glob(one.resolve(_nothing) or (), arn) for one in statement.resources)
    return covered != statement.not_resource or any(one.has_variables for one in statement.resources)


def grants_of(key: KeyFacts) -> Iterator[Grant]:
    """Return the grants on a key, as the evaluator takes them."""
    for one in key.grants or ():
        yield Grant(
            one.id,
            key.arn,
            one.grantee,
            frozenset(one.operations) & GRANTABLE,
            one.subset,
            one.equals,
            one.source_arn,
            one.retiring,
            one.issuing_account,
        )
