"""Whether the callers that decrypted something are allowed to, according to the evaluator.

An event names the caller and the key. It lacks other values that conditions ask about, such as the network or a
session's tags; these are assumed to satisfy the policies. A caller is therefore only reported if no such value would
let it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sealwax.audit._facts import EventFacts, KeyFacts
from sealwax.audit._index import AccountIndex
from sealwax.audit._outsiders import Outsider, actions_open_to
from sealwax.audit._services import is_deleted, is_service_role
from sealwax.audit._statements import grants_of
from sealwax.policy import Policy, Principal, Request, evaluate, principal
from sealwax.policy._bounds import DERIVED, OF_KEY, THROUGH, most, most_of_grant

# The operations that unwrap data keys, and the action each needs on the wrapping key.
_UNWRAPS: Final[Mapping[str, str]] = {"Decrypt": "kms:Decrypt", "ReEncrypt": "kms:ReEncryptFrom"}

# The condition keys whose values are known for a caller, a direct call and the key.
_KNOWN: Final = DERIVED | THROUGH | OF_KEY


@dataclass(frozen=True, slots=True)
class DecryptionCalls:
    """Calls of one caller that decrypted something under one key.

    Attributes:
        caller: the ARN of the caller.
        operation: ``"Decrypt"`` or ``"ReEncrypt"``.
        events: the calls that ``allowed`` is about, oldest first.
        allowed: whether the caller is allowed to, now or at the time of the calls; None if that is unknown.
        why: why it is unknown.
    """

    key: KeyFacts
    caller: str
    operation: str
    events: tuple[EventFacts, ...]
    allowed: bool | None
    why: str = ""


def direct_decryptions(account: AccountIndex) -> Iterator[tuple[KeyFacts, EventFacts]]:
    """Return the successful direct calls that decrypted under the account's own symmetric keys.

    Calls by AWS services, and by roles that only AWS services assume, are left out.
    """
    for event in account.facts.events or ():
        if event.error or event.via or not event.principal.startswith("arn:") or event.name not in _UNWRAPS:
            continue
        if is_service_role(event.principal, account.service_roles):
            continue
        # An event of ReEncrypt lists the key that decrypts first, then the one that encrypts.
        for arn in event.keys[:1]:
            key = account.keys_by_arn.get(arn)
            if key is not None and key.manager == "CUSTOMER" and key.spec == "SYMMETRIC_DEFAULT":
                yield key, event


def decryption_calls(account: AccountIndex) -> Iterator[DecryptionCalls]:
    """Return the decryptions under keys whose policies can be evaluated, and whether their callers are allowed to."""
    groups: dict[tuple[str, str, str, str], list[EventFacts]] = {}
    for key, event in direct_decryptions(account):
        policy = account.key_policy(key)
        if policy is not None and key.grants is not None:
            groups.setdefault((key.arn, event.principal, event.session, event.name), []).append(event)
    for (arn, caller, session, operation), events in groups.items():
        key = account.keys_by_arn[arn]
        policy = account.key_policy(key)
        assert policy is not None
        events.sort(key=lambda event: event.time)
        check = _CallerCheck(account, key, policy, caller, session, _UNWRAPS[operation])
        allowed, why = check.answer(account.facts.time)
        if allowed is False:
            # A statement that has expired allowed earlier calls.
            events = [event for event in events if check.answer(event.time)[0] is False]
            allowed = not events
        yield DecryptionCalls(key, caller, operation, tuple(events), allowed, why)


@dataclass(frozen=True, slots=True)
class _CallerCheck:
    account: AccountIndex
    key: KeyFacts
    policy: Policy
    caller: str
    session: str
    action: str

    def answer(self, time: datetime) -> tuple[bool | None, str]:
        """Tell whether the caller is allowed to at that time; None, and why, if that is unknown."""
        owner = self.caller.split(":")[4] if self.caller.count(":") >= 5 else ""
        if owner != self.account.facts.account:
            return self._is_account_allowed(owner), ""
        if self.account.facts.principals is None or self.caller in self.account.unread_principals:
            return None, ""  # another gap already explains why
        try:
            caller = self._principal()
        except ValueError:
            return None, "its ARN cannot be parsed"
        allowed = self._allows(caller, time)
        if not allowed and caller.kind == "federated":
            return None, "its permissions are in its session"
        if not allowed and not self.session and self._names_a_session():
            return None, "the events do not show the session, and a session of this role is allowed"
        return allowed, ""

    def _is_account_allowed(self, owner: str) -> bool:
        """Tell whether any principal of another account is allowed: events do not show which one called."""
        if self.account.is_trusted(owner):
            return True
        operation = self.action.removeprefix("kms:")
        grantees = [grant.grantee for grant in self.key.grants or () if operation in grant.operations]
        if any(is_deleted(grantee) or f"::{owner}:" in grantee for grantee in grantees):
            return True
        return any(
            self.action in actions_open_to(self.account, self.key, self.policy, statement, Outsider(owner))
            for statement in self.policy.statements
        )

    def _principal(self) -> Principal:
        known = self.account.principals.get(self.caller)
        organization = self.account.facts.organization or None
        if self.session:
            tags = known.tags if known else None
            return principal(self.session, role=self.caller, tags=tags, org_id=organization)
        return known or principal(self.caller, org_id=organization)

    def _allows(self, caller: Principal, time: datetime) -> bool:
        def is_known(name: str) -> bool:
            return self._is_known(name, caller)

        conditions = self.account.conditions_of(self.key) | {"aws:ViaAWSService": False}
        request = Request(self.action, caller, self.key.arn, time, context=conditions)
        return evaluate(
            request,
            key_policy=most(self.policy, is_known),
            identity_policies=[
                most(self.account.identity_policies[id_], is_known)
                for id_ in self.account.policies_of.get(self.caller, ())
            ],
            grants=[most_of_grant(grant) for grant in grants_of(self.key)],
        ).allowed

    def _is_known(self, name: str, caller: Principal) -> bool:
        if name in _KNOWN:
            return True
        if name.startswith("aws:principaltag/"):
            return caller.kind == "user"  # a session can bring tags of its own
        if name == "aws:userid":
            return caller.user_id is not None
        if name == "aws:principalorgid":
            return caller.org_id is not None
        if name.startswith("aws:resourcetag/"):
            return self.key.tags is not None
        return name == "kms:resourcealiases" and self.account.facts.aliases is not None

    def _names_a_session(self) -> bool:
        """Tell whether a statement or a grant names a session of the role, which the events do not show."""
        sessions = self.caller.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        start = f"{sessions.partition(':assumed-role/')[0]}:assumed-role/{self.caller.rpartition('/')[2]}/"
        named = {
            name for statement in self.policy.statements if statement.principals for name in statement.principals.names
        }
        return any(name.startswith(start) for name in (*named, *(grant.grantee for grant in self.key.grants or ())))
