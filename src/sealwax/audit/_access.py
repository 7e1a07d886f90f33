"""Who can do one action on which key: the evaluator's answer for every pair that a statement or grant connects.

Identical policies are evaluated once, because thousands of keys share a few of them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sealwax.audit._facts import KeyFacts
from sealwax.audit._index import AccountIndex
from sealwax.audit._statements import Wishes, covers, grants_of, names_action, wishes_of
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
from sealwax.policy._documents import PrincipalElement

#: Stands before the name of an identity provider: anyone signed in there.
FEDERATED: Final = "federated:"

# A principal of another account may have any policies there; the audit cannot see them.
_ALLOWS_ALL: Final = parse_identity_policy(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
)
# Re-encrypting under the same key reveals nothing, so the question is about another key.
_OF_ACTION: Final[Mapping[str, Mapping[str, bool]]] = {
    "kms:ReEncryptFrom": {"kms:ReEncryptOnSameKey": False},
    "kms:ReEncryptTo": {"kms:ReEncryptOnSameKey": False},
}
# Condition keys whose values DescribeKey shows.
_OF_KEY: Final = (
    "kms:keyspec",
    "kms:keyusage",
    "kms:keyorigin",
    "kms:customermasterkey",
    "kms:multiregion",
)

_StatementsOf = dict[str, list[Statement]]
# The principal, the policies of the key, the statements that cover it, its ARN and its aliases.
_Question = tuple[str, int, tuple[int, ...], str | None, tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class Allowed:
    """A principal is allowed an action on a key.

    Attributes:
        principal: its ARN; the ARN of an account's root for the whole account; the name of a service; ``federated:``
            and an identity provider; ``*`` for a statement about everyone, or all but some, whatever its conditions.
        decision: the evaluator's decision, which names the statements or the grant.
    """

    key: KeyFacts
    principal: str
    action: str
    decision: Decision


def _asks_aliases(statement: Statement) -> bool:
    return any(clause.key.lower() == "kms:resourcealiases" for clause in statement.clauses)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A principal and what its identity policies say about one action.

    Attributes:
        selective: the statements that do not cover every key.
        names_keys, asks_aliases: whether an answer depends on more of a key than which statements cover it.
    """

    who: Principal
    identity: list[Policy]
    selective: list[Statement]
    names_keys: bool
    asks_aliases: bool


@dataclass(frozen=True, slots=True)
class _KeyTraits:
    """What answers depend on of a key. ``number`` is the same for keys that differ in nothing else."""

    number: int
    names_keys: bool
    asks_aliases: bool


class AccessSolver:
    """Finds out who is allowed one action."""

    def __init__(self, account: AccountIndex, action: str) -> None:
        self._account = account
        self._facts = account.facts
        self._action = action
        self._answers: dict[_Question, Decision | None] = {}
        self._candidates: dict[str, _Candidate | None] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._traits: dict[int, tuple[bool, bool]] = {}  # by the policies' ids, which live as long as the account
        self._by_policy = {
            id_: [statement for statement in policy.statements if names_action(statement, action)]
            for id_, policy in account.identity_policies.items()
        }

    def solve(self) -> Iterator[Allowed]:
        """Yield every principal that is allowed the action, key by key."""
        identity = self._allowing_identities()
        for key in self._account.own_keys:
            policy = self._account.key_policy(key)
            if policy is None:
                continue
            grants = tuple(grants_of(key))
            traits = self._traits_of(key, policy)
            about = [statement for statement in policy.statements if names_action(statement, self._action)]
            # A dict keeps the order and each name once.
            statements_of: _StatementsOf = defaultdict(list)
            for statement in about:
                if statement.effect == "Allow" and statement.principals is not None:
                    for name in self._names_in(statement.principals):
                        statements_of[name].append(statement)
            for grant in grants:
                if self._action.removeprefix("kms:") in grant.operations:
                    statements_of.setdefault(grant.grantee, [])
            if any(_delegates(statement, key) for statement in about):
                for name, statements in identity(key).items():
                    statements_of[name].extend(statements)
            for name, statements in statements_of.items():
                decision = self._decide(name, key, traits, policy, grants, statements)
                if decision is not None:
                    yield Allowed(key, name, self._action, decision)

    def _names_in(self, element: PrincipalElement) -> Iterable[str]:
        if element.negated or element.everyone:
            return ("*",)
        foreign = (
            f"arn:{self._facts.partition}:iam::{account}:root"
            for account in sorted(element.accounts)
            if account != self._facts.account
        )
        signed_in = (f"{FEDERATED}{provider}" for provider in sorted(element.providers))
        return (*sorted(element.names), *sorted(element.services), *foreign, *signed_in)

    def _allowing_identities(self) -> Callable[[KeyFacts], _StatementsOf]:
        """Return a function from a key to the identity statements that may allow the action on it, by principal."""
        everywhere: list[tuple[str, Statement]] = []
        exact: dict[str, list[tuple[str, Statement]]] = defaultdict(list)
        patterns: list[tuple[str, Statement]] = []
        for holder in self._facts.principals or ():
            for id_ in holder.policies:
                for statement in self._by_policy.get(id_, ()):
                    if statement.effect != "Allow" or statement.resources is None:
                        continue
                    for resource in statement.resources:
                        if statement.not_resource or resource.has_variables:
                            patterns.append((holder.arn, statement))
                        elif resource.text == "*":
                            everywhere.append((holder.arn, statement))
                        elif "*" in resource.text or "?" in resource.text:
                            patterns.append((holder.arn, statement))
                        else:
                            exact[resource.text].append((holder.arn, statement))

        def on(key: KeyFacts) -> _StatementsOf:
            statements_of: _StatementsOf = defaultdict(list)
            for arn, statement in (*everywhere, *exact.get(key.arn, ())):
                statements_of[arn].append(statement)
            for arn, statement in patterns:
                if covers(statement, key.arn):
                    statements_of[arn].append(statement)
            return statements_of

        return on

    def _decide(
        self,
        name: str,
        key: KeyFacts,
        traits: _KeyTraits,
        policy: Policy,
        grants: tuple[Grant, ...],
        statements: list[Statement],
    ) -> Decision | None:
        """Return the decision that allows, or None."""
        if name == "*" or name.startswith(FEDERATED):
            # These are no principals that the evaluator could be asked about.
            return _as_written(statements, self._action)
        candidate = self._candidate(name)
        if candidate is None:
            return None
        grants = tuple(grant for grant in grants if grant.grantee in candidate.who.chain)
        question: _Question | None = None
        if not grants:
            covering = tuple(id(statement) for statement in candidate.selective if covers(statement, key.arn))
            arn = key.arn if candidate.names_keys or traits.names_keys else None
            aliases = self._account.aliases_of(key) if candidate.asks_aliases or traits.asks_aliases else None
            question = (name, traits.number, covering, arn, aliases)
            if question in self._answers:
                return self._answers[question]
        decision = self._try(candidate, key, policy, grants, statements)
        if decision is not None and decision.statements and candidate.who.account not in ("", key.account):
            decision = _as_written(decision.statements[:1], self._action)
        if question is not None:
            self._answers[question] = decision
        return decision

    def _candidate(self, name: str) -> _Candidate | None:
        if name not in self._candidates:
            self._candidates[name] = self._make_candidate(name)
        return self._candidates[name]

    def _make_candidate(self, name: str) -> _Candidate | None:
        who = self._account.principals.get(name)
        if who is None:
            try:
                who = principal(name, org_id=self._facts.organization or None)
            except ValueError:
                return None
        identity = self._account.identity_policies_of(name)
        if who.kind != "service" and who.account != self._facts.account:
            identity = [_ALLOWS_ALL]
        deciding = [
            statement for id_ in self._account.policies_of.get(name, ()) for statement in self._by_policy.get(id_, ())
        ]
        return _Candidate(
            who,
            identity,
            [
                statement
                for statement in deciding
                if statement.not_resource or [pattern.text for pattern in statement.resources or ()] != ["*"]
            ],
            any(pattern.has_variables for statement in deciding for pattern in statement.resources or ()),
            any(map(_asks_aliases, deciding)),
        )

    def _traits_of(self, key: KeyFacts, policy: Policy) -> _KeyTraits:
        tags = None if key.tags is None else tuple(sorted(key.tags.items()))
        same = (key.policy, key.region, tags, key.spec, key.usage, key.origin, key.multi_region)
        if id(policy) not in self._traits:
            self._traits[id(policy)] = (
                any(pattern.text != "*" for statement in policy.statements for pattern in statement.resources or ()),
                any(map(_asks_aliases, policy.statements)),
            )
        return _KeyTraits(self._numbers.setdefault(same, len(self._numbers)), *self._traits[id(policy)])

    def _try(
        self,
        candidate: _Candidate,
        key: KeyFacts,
        policy: Policy,
        grants: tuple[Grant, ...],
        statements: list[Statement],
    ) -> Decision | None:
        """Ask the evaluator for every context that a condition or a grant asks for, until one is allowed."""
        who = candidate.who
        wishes = self._wishes(who, key, policy, grants, statements)
        callers = [who]
        if who.kind != "service" and who.account != key.account:
            # Its tags and id are unknown, and the root of an account stands for everyone in it.
            policy = most(policy, _is_known_of_foreigner)
            if who.kind == "root":
                callers += _members_of(who, policy)
        conditions = self._account.conditions_of(key)
        # Known values of the key stay as they are, whatever a condition asks for.
        known = [*_OF_KEY]
        if key.tags is not None:
            known.append("aws:resourcetag/")
        if self._account.aliases_of(key) is not None:
            known.append("kms:resourcealiases")
        for (context, wished), caller in itertools.product(wishes, callers):
            others = {name: value for name, value in wished.items() if not name.lower().startswith(tuple(known))}
            others |= _OF_ACTION.get(self._action, {})
            try:
                request = Request(
                    self._action,
                    caller,
                    key.arn,
                    self._facts.time,
                    context=conditions | others,
                    encryption_context=context,
                )
                decision = evaluate(request, key_policy=policy, identity_policies=candidate.identity, grants=grants)
            except ValueError:
                continue
            if decision.allowed:
                return decision
        return None

    def _wishes(
        self, who: Principal, key: KeyFacts, policy: Policy, grants: Iterable[Grant], statements: list[Statement]
    ) -> list[Wishes]:
        delegating = [
            statement
            for statement in policy.statements
            if _delegates(statement, key) and names_action(statement, self._action)
        ]
        wishes: list[Wishes] = [({}, {}), *map(wishes_of, statements)]
        for statement, other in itertools.product(statements, delegating):
            if statement.clauses or other.clauses:
                (context, values), (other_context, other_values) = wishes_of(statement), wishes_of(other)
                wishes.append((other_context | context, other_values | values))
        wishes += [(dict(grant.subset or grant.equals or {}), {}) for grant in grants if grant.grantee == who.arn]
        return wishes


def _delegates(statement: Statement, key: KeyFacts) -> bool:
    element = statement.principals
    return statement.effect == "Allow" and element is not None and key.account in element.accounts


def _is_known_of_foreigner(name: str) -> bool:
    """Tell whether the value of a condition key is known for a principal of another account."""
    return name != "aws:userid" and not name.startswith("aws:principaltag/")


def _members_of(root: Principal, policy: Policy) -> Iterator[Principal]:
    """Yield users and roles of another account: any, and those that conditions name."""
    start = root.arn.removesuffix("root")
    names = [f"{start}role/somebody", f"{start}user/somebody", *arns_in_conditions(policy, root.account)]
    for name in dict.fromkeys(names):
        try:
            if name.startswith(start):
                yield principal(name)
        except ValueError:
            continue


def arns_in_conditions(policy: Policy, account: str) -> Iterator[str]:
    """Yield ARNs that match the policy's conditions on aws:PrincipalArn, in an account if they name none."""
    for statement in policy.statements:
        for clause in statement.clauses:
            if clause.key.lower() == "aws:principalarn":
                yield from (pattern.text.replace(":*:", f":{account}:").replace("*", "x") for pattern in clause.values)


def _as_written(statements: Sequence[Statement], action: str) -> Decision | None:
    return Decision(True, f"{statements[0]} allows {action}", (statements[0],)) if statements else None
