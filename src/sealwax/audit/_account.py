"""The facts of an account, looked at by rules: policies parsed once, and who can do what with which key.

Whether a principal can do something is the answer of :func:`sealwax.policy._evaluate`, asked for that principal, with
the context that the conditions of a matching statement ask for. Principals and keys that no statement brings together
are not asked for, and what policies say in the same words is asked once: thousands of keys share a few policies.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

from sealwax.audit._access import Allowed, Asker, says
from sealwax.audit._facts import Facts, KeyFacts
from sealwax.audit._openings import Opening, openings
from sealwax.audit._report import Access, Gap
from sealwax.audit._services import service_linked
from sealwax.errors import PolicyError
from sealwax.policy import (
    Policy,
    Principal,
    Statement,
    parse_identity_policy,
    parse_key_policy,
    principal,
)

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

# The actions whose entries say why a part of the facts is not there.
_SAID_BY: Final = {
    "principals": ("iam:",),
    "aliases": ("kms:ListAliases",),
    "trails": ("cloudtrail:DescribeTrails",),
    "alarms": ("events:", "logs:", "cloudwatch:"),
    "events": ("cloudtrail:LookupEvents",),
}


class Account:
    """The facts, parsed and indexed.

    Attributes:
        facts: the facts.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._key_policies: dict[str, Policy | PolicyError] = {}
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._unread: dict[str, Gap] = {}

    @cached_property
    def own_keys(self) -> tuple[KeyFacts, ...]:
        """The customer managed keys: nobody but AWS changes the policy or the rotation of the others."""
        return tuple(key for key in self.facts.keys if key.manager == "CUSTOMER")

    @property
    def region(self) -> str:
        """A Region that was looked at, for what has to be in one."""
        return next(iter(self.facts.regions), "us-east-1")

    @cached_property
    def keys_by_arn(self) -> dict[str, KeyFacts]:
        return {key.arn: key for key in self.facts.keys}

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = defaultdict(tuple)
        for alias in self.facts.aliases or ():
            found[alias.key_arn] += (alias.name,)
        return found

    def aliases_of(self, key: KeyFacts) -> tuple[str, ...] | None:
        """Return the names of the aliases of a key; None where nobody looked."""
        return None if self.facts.aliases is None else self._aliases.get(key.arn, ())

    @cached_property
    def service_roles(self) -> frozenset[str]:
        """The service-linked roles that are known; see :func:`~sealwax.audit._services.is_service_role`."""
        return frozenset(filter(None, (service_linked(one.arn) for one in self.facts.principals or ())))

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
        """Return those key policies, as they were written, that cannot be judged as a whole."""
        for key in self.own_keys:
            if key.policy is None or self.key_policy(key) is not None:
                continue
            try:
                document = json.loads(key.policy)
            except (ValueError, RecursionError):
                continue
            if isinstance(document, dict):
                yield key, document

    def _not_read(self, what: str, resource: str, region: str, error: PolicyError) -> None:
        self._unread.setdefault(resource, Gap(what, resource, region, f"it cannot be judged: {error}"))

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """What the facts do not hold, and the policies in them that cannot be judged."""
        for key in self.own_keys:
            self.key_policy(key)
        _ = self.identity_policies, self.principals
        return (*self.facts.gaps, *self._unsaid(), *self._unread.values(), *self._unjudged())

    def _unjudged(self) -> Iterator[Gap]:
        """Return whose calls could not be judged."""
        why = {one.who: one.why for one in self.openings if one.why}
        for who, reason in why.items():
            yield Gap("what it opened", who, "", f"whether it may cannot be judged: {reason}", refused=False)

    @cached_property
    def openings(self) -> tuple[Opening, ...]:
        """What was opened under keys, by whom, and whether they may."""
        return tuple(openings(self))

    def _unsaid(self) -> Iterator[Gap]:
        """Return what the facts neither hold nor say why: what was cut out of a file is not fine either."""
        why = "the facts hold nothing of it"
        said = [one.what for one in self.facts.gaps]
        for name, actions in _SAID_BY.items():
            if getattr(self.facts, name) is None and not any(one.startswith(actions) for one in said):
                yield Gap(name, "*", "", why, refused=False)
        for key in self.own_keys:
            if key.policy is None and "kms:GetKeyPolicy" not in said:
                yield Gap("the key policy", key.arn, key.region, why, refused=False)
        for arn in self.facts.envelopes_under or ():
            if arn not in self.keys_by_arn:
                why = "envelopes are said to be under it, and no such key was seen: if it is deleted, they are lost"
                yield Gap("the key", arn, f"{arn}:::".split(":")[3], why)

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
                self._unread[one.arn] = Gap("the principal", one.arn, "", "its ARN is not understood")
        return found

    @cached_property
    def unread_principals(self) -> frozenset[str]:
        """The users and roles of whose policies not all were looked at and understood."""
        missed = {one.resource for one in self.facts.gaps}
        return frozenset(
            one.arn
            for one in self.facts.principals or ()
            if one.arn in missed or any(id_ not in self.identity_policies for id_ in one.policies)
        )

    @cached_property
    def allowed(self) -> tuple[Allowed, ...]:
        """Who may do which of :data:`ASKED` on which of the account's own keys, as far as is known."""
        return tuple(one for action in ASKED for one in Asker(self, action).ask())

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
