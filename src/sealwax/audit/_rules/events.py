"""Rules about what was done with keys, out of CloudTrail events."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from sealwax.audit._account import Account
from sealwax.audit._facts import EventFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._openings import opened
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.rule import Found, Rule, listed

BURST: Final = 10
BURST_WITHIN: Final = timedelta(minutes=5)
_DENIED: Final = ("AccessDenied", "AccessDeniedException")

_SECRET_NAMES: Final = frozenset(
    (
        "apikey",
        "credential",
        "credentials",
        "iban",
        "passphrase",
        "passport",
        "password",
        "passwd",
        "pin",
        "pwd",
        "secret",
        "ssn",
        "token",
    )
)
_PERSONAL_NAMES: Final = frozenset(
    ("birthday", "birthdate", "dob", "email", "firstname", "lastname", "phone", "surname")
)
_VALUES: Final = (
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    ("a token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.")),
    ("a token", re.compile(r"\b(?:ghp_[A-Za-z0-9]{36}|xox[abp]-[A-Za-z0-9-]{10,}|sk_live_[A-Za-z0-9]{16,})")),
    (
        "a mail address",
        re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}"),
    ),
    ("a social security number", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")),
)
_CARD: Final = re.compile(r"(?<![\w-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}(?![\w-])")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _shown(event: EventFacts) -> dict[str, Any]:
    """Return an event, but for the values of its context: they may be what ought not to be seen."""
    return {
        "eventID": event.id,
        "eventTime": event.time.isoformat(),
        "eventName": event.name,
        "awsRegion": event.region,
        "principal": event.principal,
        "encryptionContext": None if event.context is None else _names(event.context),
    } | ({"errorCode": event.error} if event.error else {})


def _names(context: Mapping[str, str]) -> list[str]:
    return sorted("(not shown)" if suspicion("", name) else name for name in context)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _no_context(account: Account) -> Iterator[Found]:
    found: dict[str, list[EventFacts]] = defaultdict(list)
    for key, event in opened(account):
        if not event.context:
            found[key.arn].append(event)
    for arn, events in found.items():
        callers = sorted({one.principal for one in events})
        yield Found(
            arn,
            _shown(events[0]),
            Fix(
                "Seal under a context (sealwax encrypt -c NAME=VALUE), seal what is there again, and ask for it in the "
                "key policy (sealwax policy key)."
            ),
            f"{_times(len(events))}, by {listed(callers)}",
        )


def _unexpected(account: Account) -> Iterator[Found]:
    for one in account.openings:
        if one.allowed is False:
            yield Found(
                one.key.arn,
                _shown(one.events[0]),
                Fix(
                    f"Ask who {one.who} is and why. If it is right, allow it by name in the key policy; else take its "
                    "credentials away, and see in CloudTrail what it opened."
                ),
                f"{one.who}, by {one.name} {_times(len(one.events))}",
            )


def _denials(account: Account) -> Iterator[Found]:
    denied: dict[str, list[EventFacts]] = defaultdict(list)
    for event in account.facts.events or ():
        if event.error in _DENIED and event.principal:
            denied[event.principal].append(event)
    for who, events in denied.items():
        events.sort(key=lambda one: one.time)
        bursts = [
            index
            for index in range(len(events) - BURST + 1)
            if events[index + BURST - 1].time - events[index].time <= BURST_WITHIN
        ]
        if bursts:
            first = events[bursts[0]]
            keys = sorted({arn for one in events for arn in one.keys})
            yield Found(
                keys[0] if len(keys) == 1 else f"arn:{account.facts.partition}:iam::{account.facts.account}:root",
                _shown(first),
                Fix(
                    f"Look at what {who} tried: a broken deployment, or somebody who tries which keys a stolen "
                    "credential opens. If in doubt, take its credentials away."
                    if who.startswith("arn:")
                    else f"Look at what {who} works for: the service, or whoever has it work, lacks a permission."
                ),
                f"{len(events)} of {who}, from {first.time:%Y-%m-%d %H:%M} UTC on",
            )


def suspicion(name: str, value: str) -> str | None:
    """Say what a pair of an encryption context looks like, if it ought not to be in a log."""
    for kind, pattern in _VALUES:
        if pattern.search(value):
            return kind
    if any(_luhn(match[0]) for match in _CARD.finditer(value)):
        return "a card number"
    if any(_is_iban(match[0]) for match in _IBAN.finditer(value)):
        return "an account number"
    if value.startswith("arn:"):
        return None
    words = {one.lower() for one in _WORDS.findall(name)} | {re.sub("[^a-z]", "", name.lower())}
    if words & _SECRET_NAMES:
        return "a secret, by its name"
    return "personal data, by its name" if words & _PERSONAL_NAMES else None


def _luhn(text: str) -> bool:
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [one if place % 2 == 0 else sum(divmod(2 * one, 10)) for place, one in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


def _telling(account: Account) -> Iterator[Found]:
    found: dict[tuple[str, str], list[EventFacts]] = defaultdict(list)
    for event in account.facts.events or ():
        if event.via:
            continue
        for name, value in (event.context or {}).items():
            in_value, in_name = suspicion(name, value), suspicion("", name)
            kind = f"name looks like {in_name}" if in_name else f"value under '{name}' looks like {in_value}"
            if in_name or in_value:
                for arn in event.keys or (f"arn:{account.facts.partition}:iam::{account.facts.account}:root",):
                    found[arn, kind].append(event)
    for (arn, kind), events in found.items():
        yield Found(
            arn,
            _shown(events[0]),
            Fix(
                "Put an identifier that says nothing in its place (a row's number, a random id), and seal the data "
                "again. Who can read the trail has seen the value: replace a secret."
            ),
            f"a {kind}, {_times(len(events))}",
        )


RULES: Final = (
    Rule(
        "decrypt-without-context",
        Severity.MEDIUM,
        "data was decrypted or re-encrypted without an encryption context",
        "Nothing binds it to what it belongs to: no policy and no log can tell one tenant's data from another's.",
        (std.CSF_AT_REST, std.CSF_IN_USE),
        _no_context,
    ),
    Rule(
        "decrypt-unexpected-principal",
        Severity.HIGH,
        "somebody decrypted or re-encrypted who may not now, as far as the policies show",
        "Somebody had access that was taken away, or that no policy here explains.",
        (*std.ACCESS, std.SOC_MONITORING),
        _unexpected,
    ),
    Rule(
        "denial-burst",
        Severity.MEDIUM,
        "many calls of KMS were denied in a short time",
        "So it looks when a stolen credential is tried on keys, and when a deployment has lost its rights.",
        (std.SOC_MONITORING, std.CSF_LOGS),
        _denials,
    ),
    Rule(
        "context-telling",
        Severity.HIGH,
        "an encryption context holds what looks like a secret or personal data",
        "The context is in plain text in CloudTrail, where more people read than may open the data, and stays there.",
        (std.SOC_ACCESS, std.CSF_AT_REST, std.CSF_IN_USE),
        _telling,
    ),
)
