"""Rules about the data keys of records, which have ``sealwax-use`` in their encryption context.

A principal is *of records* for an action if a statement or a grant that requires ``sealwax-use`` allows it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sealwax.audit._account import DECRYPT, ENCRYPT, REENCRYPT_FROM, REENCRYPT_TO, Account
from sealwax.audit._facts import EventFacts, KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.context_policies import context_clauses, required_names
from sealwax.audit._rules.events import shown_event, times
from sealwax.audit._rules.fixes import add_denial, put_key_policy
from sealwax.audit._rules.registry import Violation, join_names, rule
from sealwax.audit._services import is_service_role
from sealwax.audit._statements import Wishes, covers, grants_of, names_action, wishes_of
from sealwax.policy import Decision, Grant, Policy, Principal, Request, Statement, evaluate, principal
from sealwax.policy._parts import DATA, INDEX, USE, context_key

_ACTIONS: Final = (DECRYPT, REENCRYPT_FROM, REENCRYPT_TO, *ENCRYPT)
#: The application needs these, and may have them by a wider statement as well.
_OF_THE_APPLICATION: Final = (DECRYPT, "kms:GenerateDataKey")
_MAKES: Final = {"Encrypt": "kms:Encrypt", "GenerateDataKey": "kms:GenerateDataKey"}


def _is_use(name: str) -> bool:
    return name.casefold() == USE


def _requires(statement: Statement) -> bool:
    """Tell whether a statement is about data keys of records only."""
    return any(_is_use(name) for clause in context_clauses(statement) for name in required_names(clause))


def _grant_requires(grant: Grant) -> bool:
    return any(_is_use(name) for name in {**(grant.subset or {}), **(grant.equals or {})})


def _has_use(event: EventFacts) -> bool:
    return any(_is_use(name) for name in event.context or {})


def _delegates(statement: Statement) -> bool:
    """Tell whether a statement of a key policy allows nothing by itself, but lets identity policies do so."""
    element = statement.principals
    return element is not None and bool(element.accounts) and not (element.names or element.everyone or element.negated)


class _Uses:
    """Tells which keys records are under, as far as policies, grants and events show."""

    def __init__(self, account: Account) -> None:
        self._identity = [
            each for policy in account.identity_policies.values() for each in policy.statements if _allows(each)
        ]
        self._keys = {arn for event in account.facts.events or () if _has_use(event) for arn in event.keys}

    def has(self, key: KeyFacts, policy: Policy) -> bool:
        return (
            key.arn in self._keys
            or any(_allows(each) and covers(each, key.arn) for each in policy.statements)
            or any(covers(each, key.arn) for each in self._identity)
            or any(_grant_requires(grant) for grant in grants_of(key))
        )


def _allows(statement: Statement) -> bool:
    return statement.effect == "Allow" and _requires(statement)


def _decide(
    account: Account, key: KeyFacts, policy: Policy, who: Principal, action: str, *, of_records: bool
) -> dict[str, Decision]:
    """Return why a principal may use data keys of records, by their use: by what is about them only, or by the rest."""

    def part(whole: Policy) -> Policy:
        kept = (
            each
            for each in whole.statements
            if each.effect == "Deny" or _delegates(each) or _requires(each) is of_records
        )
        return replace(whole, statements=tuple(kept))

    grants = [grant for grant in grants_of(key) if _grant_requires(grant) is of_records]
    identity = [part(each) for each in account.identity_policies_of(who.role or who.arn)]
    key_policy = part(policy)
    found: dict[str, Decision] = {}
    for context, others in _wishes(key, action, [key_policy, *identity], grants):
        for value in {DATA, INDEX} - found.keys():
            pairs = {name: text for name, text in context.items() if not _is_use(name)} | {USE: value}
            try:
                request = Request(
                    action,
                    who,
                    key.arn,
                    account.facts.time,
                    context={**others, **account.conditions_of(key)},
                    encryption_context=pairs,
                )
                decision = evaluate(request, key_policy=key_policy, identity_policies=identity, grants=grants)
            except ValueError:
                continue
            if decision.allowed:
                found[value] = decision
    return found


def _wishes(key: KeyFacts, action: str, policies: Sequence[Policy], grants: Sequence[Grant]) -> Iterator[Wishes]:
    """Yield contexts and conditions that may satisfy a statement or a grant."""
    yield {}, {}
    allowing = [
        each
        for policy in policies
        for each in policy.statements
        if each.effect == "Allow" and names_action(each, action) and covers(each, key.arn)
    ]
    wishes = [wishes_of(each) for each in allowing]
    yield from wishes
    # A key policy that delegates and an identity policy are both to be satisfied.
    for (context, others), (more, further) in itertools.permutations(wishes, 2):
        yield context | more, others | further
    for grant in grants:
        yield dict(grant.subset or grant.equals or {}), {}


def _principal(account: Account, arn: str) -> Principal | None:
    """Return a user or role that the audit can decide about."""
    if arn in account.unread_principals:
        return None
    try:
        who = account.principals.get(arn) or principal(arn)
    except ValueError:
        return None
    return who if who.kind in ("user", "role", "session") and not is_service_role(arn, account.service_roles) else None


@rule(
    "records-open-to-others",
    Severity.HIGH,
    "a principal that is not of records may use their data keys",
    why="A principal that may decrypt a data key of records, or re-encrypt it into a context that it can open, can "
    "read what is sealed under it. One that may wrap a data key and add a row to the key store can plant a known key.",
    standards=std.ACCESS,
    fix="deny it what has `sealwax-use` in its context (`sealwax policy key --records`)",
)
def records_open_to_others(account: Account) -> Iterator[Violation]:
    uses = _Uses(account)
    for key in account.own_keys:
        policy = account.key_policy(key)
        if policy is None or not uses.has(key, policy):
            continue
        found: dict[str, dict[str, Decision]] = defaultdict(dict)
        for allowed in account.allowed_by_key.get(key.arn, ()):
            who = _principal(account, allowed.principal) if allowed.action in _ACTIONS else None
            if who is None:
                continue
            decisions = _decide(account, key, policy, who, allowed.action, of_records=False)
            if decisions and allowed.action in _OF_THE_APPLICATION:
                own = _decide(account, key, policy, who, allowed.action, of_records=True)
                decisions = {use: decision for use, decision in decisions.items() if use not in own}
            if decisions:
                found[allowed.principal][allowed.action] = decisions[min(decisions)]
        for name, by_action in found.items():
            actions = [action for action in _ACTIONS if action in by_action]
            yield Violation(
                key.arn,
                account.raw_of_key(key, by_action[actions[0]].statements),
                put_key_policy(
                    key,
                    f"Deny {name} the data keys of records. If it seals, searches or rotates records, write its policy "
                    "with sealwax policy key --records, --search-records, --rotate-records or --rotate-indexes "
                    "instead.",
                    add_denial(key, name, actions, {"Null": {context_key(USE): "false"}}),
                ),
                f"{name} has {', '.join(actions)} for any value of {USE}",
            )


@rule(
    "records-unexpected-maker",
    Severity.HIGH,
    "a data key was made for records by a principal that is not of records",
    why="It may be known to whoever made it. If its row is in the key store, what is sealed under it can be read.",
    standards=(*std.ACCESS, std.SOC_MONITORING),
    fix="find the key row that it made (`sealwax records list`), and remove or roll it",
)
def records_unexpected_maker(account: Account) -> Iterator[Violation]:
    made: dict[tuple[str, str, str], list[EventFacts]] = defaultdict(list)
    for event in account.facts.events or ():
        if event.error or event.via or event.name not in _MAKES or not _has_use(event):
            continue
        for arn in event.keys[:1]:
            made[arn, event.principal, event.name].append(event)
    for (arn, caller, name), events in made.items():
        key = account.keys_by_arn.get(arn)
        policy = account.key_policy(key) if key is not None and key.manager == "CUSTOMER" else None
        who = _principal(account, caller)
        if key is None or policy is None or who is None or account.facts.principals is None:
            continue
        makers = _makers(account, key, policy)
        if not makers or _decide(account, key, policy, who, _MAKES[name], of_records=True):
            continue
        events.sort(key=lambda event: event.time)
        yield Violation(
            arn,
            shown_event(events[0]),
            Fix(
                f"Find out who {caller} is and why it made a data key. Look the event up in CloudTrail by its eventID; "
                "sealwax records list shows its requestID under MADE BY. Remove or roll that key, and reseal what is "
                "under it. If it should make data keys, name it in the key policy (sealwax policy key --records)."
            ),
            f"{caller} called {name} {times(events)}; policies name {join_names(makers)}",
        )


def _makers(account: Account, key: KeyFacts, policy: Policy) -> list[str]:
    """Return who is of records by a statement, if anyone is: until then, nobody is unexpected."""
    names = {
        name
        for each in policy.statements
        if _allows(each) and each.principals and names_action(each, _MAKES["GenerateDataKey"])
        for name in each.principals.names
    }
    for facts in account.facts.principals or ():
        if any(
            _allows(each) and names_action(each, _MAKES["GenerateDataKey"]) and covers(each, key.arn)
            for identity in account.identity_policies_of(facts.arn)
            for each in identity.statements
        ):
            names.add(facts.arn)
    return sorted(names)
