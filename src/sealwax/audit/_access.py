"""Who may do one action on which key: the evaluator, asked for every pair that a statement brings together.

What policies say in the same words is asked once: thousands of keys share a few policies.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sealwax.audit._facts import KeyFacts
from sealwax.policy import (
    Decision,
    Grant,
    Policy,
    Principal,
    Request,
    Statement,
    evaluate,
    parse_identity_policy,
    principal,
)
from sealwax.policy._bounds import most
from sealwax.policy._documents import Principals
from sealwax.policy._explain import KeyAsSeen
from sealwax.policy._model import Value
from sealwax.policy._operations import GRANTABLE
from sealwax.policy._patterns import glob

if TYPE_CHECKING:
    from sealwax.audit._account import Account


#: Before the name of an identity provider: whoever signed in there.
FEDERATED: Final = "federated:"

# Whoever is of another account may have any policies there: they are not ours to see.
_MAY_ALL: Final = parse_identity_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
# What somebody may re-encrypt under the same key gives nothing to anybody: it is asked for another one.
_OF_ACTION: Final[Mapping[str, Mapping[str, bool]]] = {
    "kms:ReEncryptFrom": {"kms:ReEncryptOnSameKey": False},
    "kms:ReEncryptTo": {"kms:ReEncryptOnSameKey": False},
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A principal may do an action on a key: the decision says by what.

    Attributes:
        principal: its ARN; that of the root of a whole account; the name of a service; ``federated:`` and an identity
            provider; ``*`` for a statement that is for everybody, or for all but some, whatever its conditions.
    """

    key: KeyFacts
    principal: str
    action: str
    decision: Decision


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


# What DescribeKey tells.
_OF_KEY: Final = (
    "kms:keyspec",
    "kms:keyusage",
    "kms:keyorigin",
    "kms:customermasterkey",
    "kms:multiregion",
)


def metadata_of(key: KeyFacts) -> dict[str, object]:
    """Return what policies can ask about a key, as DescribeKey tells it."""
    told: dict[str, object] = {
        "KeySpec": key.spec,
        "KeyUsage": key.usage,
        "Origin": key.origin,
        "MultiRegion": key.multi_region != "no",
    }
    if key.multi_region != "no":
        told["MultiRegionConfiguration"] = {"MultiRegionKeyType": key.multi_region.upper()}
    return told


def _asks_aliases(statement: Statement) -> bool:
    return any(clause.key.lower() == "kms:resourcealiases" for clause in statement.clauses)


@dataclass(frozen=True, slots=True)
class _Person:
    """A principal, and what its identity policies say of one action.

    Attributes:
        somewhere: the statements that are not about all keys.
        names_keys, asks_aliases: whether an answer depends on more of a key than which statements cover it.
    """

    who: Principal
    identity: list[Policy]
    somewhere: list[Statement]
    names_keys: bool
    asks_aliases: bool


@dataclass(frozen=True, slots=True)
class _About:
    """A key as answers see it; ``number`` is the same for keys that are alike but for what the others say."""

    number: int
    names_keys: bool
    asks_aliases: bool


class Asker:
    """Answers who may do one action."""

    def __init__(self, account: Account, action: str) -> None:
        self._account = account
        self._facts = account.facts
        self._action = action
        self._answers: dict[Any, Decision | None] = {}
        self._people: dict[str, _Person | None] = {}
        self._numbers: dict[Any, int] = {}
        self._traits: dict[int, tuple[bool, bool]] = {}  # by the policies' ids, which live as long as the account
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
            about = self._about(key, policy)
            asked = [one for one in policy.statements if says(one, self._action)]
            # In order, and each once.
            found: dict[str, list[Statement]] = defaultdict(list)
            for statement in asked:
                if statement.effect == "Allow" and statement.principals is not None:
                    for name in self._named(statement.principals):
                        found[name].append(statement)
            for grant in grants:
                if self._action.removeprefix("kms:") in grant.operations:
                    found.setdefault(grant.grantee, [])
            delegates = any(
                one.effect == "Allow" and one.principals is not None and key.account in one.principals.accounts
                for one in asked
            )
            if delegates:
                for name, statements in identity(key):
                    found[name].extend(statements)
            for name, statements in found.items():
                decision = self._decide(name, key, about, policy, grants, statements)
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
        signed_in = (f"{FEDERATED}{one}" for one in sorted(principals.providers))
        return (*sorted(principals.names), *sorted(principals.services), *foreign, *signed_in)

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
        self,
        name: str,
        key: KeyFacts,
        about: _About,
        policy: Policy,
        grants: tuple[Grant, ...],
        statements: list[Statement],
    ) -> Decision | None:
        """Return the decision that allows, or None."""
        if name == "*" or name.startswith(FEDERATED):
            # Nobody who can be asked for.
            return _as_written(statements, self._action)
        person = self._person(name)
        if person is None:
            return None
        grants = tuple(one for one in grants if one.grantee in person.who.chain)
        question = None
        if not grants:
            covering = tuple(id(one) for one in person.somewhere if covers(one, key.arn))
            itself = key.arn if person.names_keys or about.names_keys else None
            aliases = self._account.aliases_of(key) if person.asks_aliases or about.asks_aliases else None
            question = (name, about.number, covering, itself, aliases)
            if question in self._answers:
                return self._answers[question]
        decision = self._try(person, key, policy, grants, statements)
        if decision is not None and decision.statements and person.who.account not in ("", key.account):
            decision = _as_written(decision.statements[:1], self._action)
        if question is not None:
            self._answers[question] = decision
        return decision

    def _person(self, name: str) -> _Person | None:
        if name not in self._people:
            self._people[name] = self._found(name)
        return self._people[name]

    def _found(self, name: str) -> _Person | None:
        who = self._account.principals.get(name)
        if who is None:
            try:
                who = principal(name, org_id=self._facts.organization or None)
            except ValueError:
                return None
        known = self._account.policies_of.get(name, ())
        identity = [self._account.identity_policies[id_] for id_ in known if id_ in self._account.identity_policies]
        if who.kind != "service" and who.account != self._facts.account:
            identity = [_MAY_ALL]
        deciding = [one for id_ in known for one in self._by_policy.get(id_, ())]
        return _Person(
            who,
            identity,
            [one for one in deciding if [each.text for each in one.resources or ()] != ["*"] or one.not_resource],
            any(one.has_variables for each in deciding for one in each.resources or ()),
            any(map(_asks_aliases, deciding)),
        )

    def _about(self, key: KeyFacts, policy: Policy) -> _About:
        """Return what answers depend on of a key: with the same of another, they are the same."""
        tags = None if key.tags is None else tuple(sorted(key.tags.items()))
        same = (key.policy, key.region, tags, key.spec, key.usage, key.origin, key.multi_region)
        if id(policy) not in self._traits:
            self._traits[id(policy)] = (
                any(each.text != "*" for one in policy.statements for each in one.resources or ()),
                any(map(_asks_aliases, policy.statements)),
            )
        return _About(self._numbers.setdefault(same, len(self._numbers)), *self._traits[id(policy)])

    def _try(
        self,
        person: _Person,
        key: KeyFacts,
        policy: Policy,
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
        tried += [(dict(grant.subset or grant.equals or {}), {}) for grant in grants if grant.grantee == person.who.arn]
        foreign = person.who.kind != "service" and person.who.account != key.account
        callers = [person.who]
        if foreign:
            # Whatever its tags and its id are; and the root of an account stands for everybody of it.
            policy = most(policy, _is_told)
            if person.who.kind == "root":
                callers += _people_of(person.who, policy)
        aliases = self._account.aliases_of(key)
        about = KeyAsSeen(key.arn, policy, (), metadata_of(key), aliases or (), key.tags or {}).conditions()
        # What is known of the key is as it is, and not as a condition would have it.
        known = [*_OF_KEY]
        if key.tags is not None:
            known.append("aws:resourcetag/")
        if aliases is not None:
            known.append("kms:resourcealiases")
        for (context, wished), caller in itertools.product(tried, callers):
            others = {name: value for name, value in wished.items() if not name.lower().startswith(tuple(known))}
            others |= _OF_ACTION.get(self._action, {})
            try:
                request = Request(
                    self._action,
                    caller,
                    key.arn,
                    self._facts.time,
                    context=about | others,
                    encryption_context=context,
                )
                decision = evaluate(request, key_policy=policy, identity_policies=person.identity, grants=grants)
            except ValueError:
                continue
            if decision.allowed:
                return decision
        return None


def _is_told(name: str) -> bool:
    """Whether what is known of a principal of another account tells the value of a condition key."""
    return name != "aws:userid" and not name.startswith("aws:principaltag/")


def _people_of(root: Principal, policy: Policy) -> Iterator[Principal]:
    """Yield users and roles of another account: any, and those whom conditions name."""
    start = root.arn.removesuffix("root")
    names = [f"{start}role/somebody", f"{start}user/somebody"]
    for statement in policy.statements:
        for clause in statement.clauses:
            if clause.key.lower() == "aws:principalarn":
                names += [one.text.replace(":*:", f":{root.account}:").replace("*", "x") for one in clause.values]
    for name in dict.fromkeys(names):
        try:
            if name.startswith(start):
                yield principal(name)
        except ValueError:
            continue


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
