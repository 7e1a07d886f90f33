"""Whether who opened something may: the evaluator, asked for each caller in the events of keys.

An event tells who called and for which key. It does not tell all that conditions ask about, such as the network or the
tags of a session; whatever it does not tell is taken to be as the policies want it. So that somebody may not is only
said where no such value would let it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sealwax.audit._access import grants_of, metadata_of
from sealwax.audit._facts import EventFacts, KeyFacts
from sealwax.audit._outsiders import Outsider, lets_in
from sealwax.audit._services import is_gone, is_service_role
from sealwax.policy import Principal, Request, evaluate, principal
from sealwax.policy._bounds import DERIVED, OF_KEY, THROUGH, most, most_of_grant
from sealwax.policy._explain import KeyAsSeen

if TYPE_CHECKING:
    from sealwax.audit._account import Account

# What opens data keys, and the action that it takes on the key that they are wrapped under.
OPENS: Final[Mapping[str, str]] = {"Decrypt": "kms:Decrypt", "ReEncrypt": "kms:ReEncryptFrom"}

# What is known of a caller, of a direct call, and of the key.
_KNOWN: Final = DERIVED | THROUGH | OF_KEY


@dataclass(frozen=True, slots=True)
class Opening:
    """Calls of one caller that opened something under a key.

    Attributes:
        events: the calls, as far as there is the same to say of all; oldest first.
        allowed: whether the caller may, now or when it called, as far as is known; None where that cannot be judged.
        why: why it cannot.
    """

    key: KeyFacts
    who: str
    name: str
    events: tuple[EventFacts, ...]
    allowed: bool | None
    why: str = ""


def opened(account: Account) -> Iterator[tuple[KeyFacts, EventFacts]]:
    """Return what was opened under own symmetric keys by somebody who called KMS directly.

    AWS services, and roles that only they assume, are nobody to be asked about.
    """
    for event in account.facts.events or ():
        if event.error or event.via or not event.principal.startswith("arn:") or event.name not in OPENS:
            continue
        if is_service_role(event.principal, account.service_roles):
            continue
        # An event of ReEncrypt names the key that it opens with first, then the one that it wraps with.
        for arn in event.keys[:1]:
            key = account.keys_by_arn.get(arn)
            if key is not None and key.manager == "CUSTOMER" and key.spec == "SYMMETRIC_DEFAULT":
                yield key, event


def openings(account: Account) -> Iterator[Opening]:
    """Return what was opened under keys whose policies can be judged, by whom, and whether they may."""
    alike: dict[tuple[str, str, str, str], list[EventFacts]] = {}
    for key, event in opened(account):
        if account.key_policy(key) is not None and key.grants is not None:
            alike.setdefault((key.arn, event.principal, event.session, event.name), []).append(event)
    for (arn, who, session, name), events in alike.items():
        key = account.keys_by_arn[arn]
        events.sort(key=lambda one: one.time)
        asked = _Asked(account, key, who, session, OPENS[name])
        allowed, why = asked.answer(account.facts.time)
        if allowed is False:
            # A statement that was for a while has let in who called then.
            events = [one for one in events if asked.answer(one.time)[0] is False]
            allowed = not events
        yield Opening(key, who, name, tuple(events), allowed, why)


@dataclass(frozen=True, slots=True)
class _Asked:
    account: Account
    key: KeyFacts
    who: str
    session: str
    action: str

    def answer(self, time: datetime) -> tuple[bool | None, str]:
        owner = self.who.split(":")[4] if self.who.count(":") >= 5 else ""
        if owner != self.account.facts.account:
            return self._foreign(owner), ""
        if self.account.facts.principals is None:
            return None, ""  # which is said already
        if self.who in self.account.unread_principals:
            return None, ""  # so is that
        try:
            caller = self._caller()
        except ValueError:
            return None, "its ARN is not understood"
        allowed = self._allows(caller, time)
        if not allowed and caller.kind == "federated":
            return None, "what it may is in its session"
        if not allowed and not self.session and self._names_a_session():
            return None, "the events do not tell the session, and one of this role is let in"
        return allowed, ""

    def _foreign(self, owner: str) -> bool:
        """Whether anybody of another account may: an event does not tell who of it called."""
        if self.account.is_trusted(owner):
            return True
        grantees = (one.grantee for one in self.key.grants or () if self.action.removeprefix("kms:") in one.operations)
        if any(is_gone(one) or f"::{owner}:" in one for one in grantees):
            return True
        policy = self.account.key_policy(self.key)
        return policy is not None and any(
            self.action in lets_in(self.account, self.key, policy, one, Outsider(owner)) for one in policy.statements
        )

    def _caller(self) -> Principal:
        known = self.account.principals.get(self.who)
        organization = self.account.facts.organization or None
        if self.session:
            return principal(self.session, role=self.who, tags=known.tags if known else None, org_id=organization)
        return known or principal(self.who, org_id=organization)

    def _allows(self, caller: Principal, time: datetime) -> bool:
        policy = self.account.key_policy(self.key)
        assert policy is not None
        aliases = self.account.aliases_of(self.key)
        seen = KeyAsSeen(self.key.arn, policy, (), metadata_of(self.key), aliases or (), self.key.tags or {})
        request = Request(
            self.action, caller, self.key.arn, time, context=seen.conditions() | {"aws:ViaAWSService": False}
        )
        ids = self.account.policies_of.get(self.who, ())
        return evaluate(
            request,
            key_policy=most(policy, lambda name: self._is_known(name, caller)),
            identity_policies=[
                most(self.account.identity_policies[id_], lambda name: self._is_known(name, caller)) for id_ in ids
            ],
            grants=[most_of_grant(one) for one in grants_of(self.key)],
        ).allowed

    def _is_known(self, name: str, caller: Principal) -> bool:
        if name in _KNOWN:
            return True
        if name.startswith("aws:principaltag/"):
            return caller.kind == "user"  # who takes a role may bring tags along
        if name == "aws:userid":
            return caller.user_id is not None
        if name == "aws:principalorgid":
            return caller.org_id is not None
        if name.startswith("aws:resourcetag/"):
            return self.key.tags is not None
        return name == "kms:resourcealiases" and self.account.facts.aliases is not None

    def _names_a_session(self) -> bool:
        """Whether a statement or a grant is for a session of the role, of which the events do not tell."""
        sessions = self.who.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        start = f"{sessions.partition(':assumed-role/')[0]}:assumed-role/{self.who.rpartition('/')[2]}/"
        policy = self.account.key_policy(self.key)
        named = {
            name for one in (policy.statements if policy else ()) if one.principals for name in one.principals.names
        }
        return any(one.startswith(start) for one in (*named, *(grant.grantee for grant in self.key.grants or ())))
