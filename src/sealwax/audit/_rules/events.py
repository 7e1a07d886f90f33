"""Rules about the use of keys, from CloudTrail events."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._decryptions import direct_decryptions
from sealwax.audit._facts import EventFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.registry import Violation, join_names, rule

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
        "an email address",
        re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}"),
    ),
    ("a social security number", re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")),
)
_CARD: Final = re.compile(r"(?<![\w-])\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}(?![\w-])")
_IBAN: Final = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def shown_event(event: EventFacts) -> dict[str, object]:
    """Return an event without the values of its context, which may be confidential."""
    context = None if event.context is None else sorted(map(_shown_name, event.context))
    shown: dict[str, object] = {
        "eventID": event.id,
        "eventTime": event.time.isoformat(),
        "eventName": event.name,
        "awsRegion": event.region,
        "principal": event.principal,
        "encryptionContext": context,
    }
    return shown | ({"errorCode": event.error} if event.error else {})


def _shown_name(name: str) -> str:
    return "(not shown)" if suspect("", name) else name


def times(events: list[EventFacts] | tuple[EventFacts, ...]) -> str:
    return "once" if len(events) == 1 else f"{len(events)} times"


@rule(
    "decrypt-without-context",
    Severity.MEDIUM,
    "data was decrypted or re-encrypted without an encryption context",
    why="Nothing ties it to what it belongs to: no policy and no log can tell one tenant's data from another's.",
    standards=(std.CSF_AT_REST, std.CSF_IN_USE),
    fix="encrypt with a context, and require it in the key policy",
)
def decrypt_without_context(account: Account) -> Iterator[Violation]:
    by_key: dict[str, list[EventFacts]] = defaultdict(list)
    for key, event in direct_decryptions(account):
        if not event.context:
            by_key[key.arn].append(event)
    for arn, events in by_key.items():
        callers = sorted({event.principal for event in events})
        yield Violation(
            arn,
            shown_event(events[0]),
            Fix(
                "Encrypt with a context (sealwax encrypt -c NAME=VALUE), encrypt existing data again, and require the "
                "context in the key policy (sealwax policy key)."
            ),
            f"{times(events)}, by {join_names(callers)}",
        )


@rule(
    "decrypt-unexpected-principal",
    Severity.HIGH,
    "a principal that is not allowed to decrypt has decrypted or re-encrypted",
    why="It had access that was removed since, or that no policy here explains.",
    standards=(*std.ACCESS, std.SOC_MONITORING),
    fix="find out who it is; allow it by name, or disable its credentials",
)
def decrypt_unexpected_principal(account: Account) -> Iterator[Violation]:
    for calls in account.decryptions:
        if calls.allowed is False:
            yield Violation(
                calls.key.arn,
                shown_event(calls.events[0]),
                Fix(
                    f"Find out who {calls.caller} is and why it decrypts. If it should, allow it by name in the key "
                    "policy. Otherwise disable its credentials, and check in CloudTrail what it decrypted."
                ),
                f"{calls.caller} called {calls.operation} {times(calls.events)}",
            )


@rule(
    "denial-burst",
    Severity.MEDIUM,
    "many KMS calls were denied in a short time",
    why="This happens if someone tries a stolen credential on keys, or if a deployment has lost its permissions.",
    standards=(std.SOC_MONITORING, std.CSF_LOGS),
    fix="check what was tried, and by whom",
)
def denial_burst(account: Account) -> Iterator[Violation]:
    denied: dict[str, list[EventFacts]] = defaultdict(list)
    for event in account.facts.events or ():
        if event.error in _DENIED and event.principal:
            denied[event.principal].append(event)
    for who, events in denied.items():
        events.sort(key=lambda event: event.time)
        first = _first_of_burst(events)
        if first is None:
            continue
        keys = sorted({arn for event in events for arn in event.keys})
        advice = f"Check what {who} works for: the service, or whoever uses it, lacks a permission."
        if who.startswith("arn:"):
            advice = (
                f"Check what {who} tried: a broken deployment, or someone who looks for keys that a stolen credential "
                "can use. If in doubt, disable its credentials."
            )
        yield Violation(
            keys[0] if len(keys) == 1 else account.root_arn,
            shown_event(first),
            Fix(advice),
            f"{len(events)} calls of {who}, from {first.time:%Y-%m-%d %H:%M} UTC on",
        )


def _first_of_burst(events: list[EventFacts]) -> EventFacts | None:
    for first, last in zip(events, events[BURST - 1 :], strict=False):
        if last.time - first.time <= BURST_WITHIN:
            return first
    return None


def suspect(name: str, value: str) -> str | None:
    """Return what a pair of an encryption context looks like, if it should not be in a log."""
    for kind, pattern in _VALUES:
        if pattern.search(value):
            return kind
    if any(_passes_luhn(match[0]) for match in _CARD.finditer(value)):
        return "a card number"
    if any(_is_iban(match[0]) for match in _IBAN.finditer(value)):
        return "an account number"
    if value.startswith("arn:"):
        return None
    words = {word.lower() for word in _WORDS.findall(name)} | {re.sub("[^a-z]", "", name.lower())}
    if words & _SECRET_NAMES:
        return "a secret, judging by its name"
    return "personal data, judging by its name" if words & _PERSONAL_NAMES else None


def _passes_luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


@rule(
    "context-telling",
    Severity.HIGH,
    "an encryption context seems to hold a secret or personal data",
    why="The context is in plain text in CloudTrail, where more people can read it than can decrypt the data, and it "
    "stays there.",
    standards=(std.SOC_ACCESS, std.CSF_AT_REST, std.CSF_IN_USE),
    fix="use a meaningless identifier instead; replace a secret",
)
def context_telling(account: Account) -> Iterator[Violation]:
    groups: dict[tuple[str, str], list[EventFacts]] = defaultdict(list)
    for event in account.facts.events or ():
        if event.via:
            continue
        for name, value in (event.context or {}).items():
            in_value, in_name = suspect(name, value), suspect("", name)
            if in_name or in_value:
                looks = f"name looks like {in_name}" if in_name else f"value of '{name}' looks like {in_value}"
                for arn in event.keys or (account.root_arn,):
                    groups[arn, looks].append(event)
    for (arn, looks), events in groups.items():
        yield Violation(
            arn,
            shown_event(events[0]),
            Fix(
                "Use a meaningless identifier instead (the number of a row, a random id), and encrypt the data again. "
                "Anyone who can read the trail has seen the value, so replace it if it is a secret."
            ),
            f"a {looks}, {times(events)}",
        )
