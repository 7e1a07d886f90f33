"""The facts of an account, parsed and indexed. The evaluator's answers about them are in ``_account``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final

from sealwax.audit._facts import Facts, KeyFacts
from sealwax.audit._report import Gap
from sealwax.audit._services import service_linked
from sealwax.audit._statements import covers, metadata_of, names_action
from sealwax.errors import PolicyError
from sealwax.policy import Policy, Principal, Statement, parse_identity_policy, parse_key_policy, principal
from sealwax.policy._documents import Document
from sealwax.policy._explain import key_conditions
from sealwax.policy._model import Value

# The actions whose gaps already explain why a part of the facts is missing.
_EXPLAINED_BY: Final = {
    "principals": ("iam:",),
    "aliases": ("kms:ListAliases",),
    "trails": ("cloudtrail:DescribeTrails",),
    "alarms": ("events:", "logs:", "cloudwatch:"),
    "events": ("cloudtrail:LookupEvents",),
}


class AccountIndex:
    """An account's facts with every policy parsed once.

    Attributes:
        facts: the facts.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._key_policies: dict[str, Policy | PolicyError] = {}
        self._raw: dict[str, Document] = {}
        self._unread: dict[str, Gap] = {}

    @cached_property
    def own_keys(self) -> tuple[KeyFacts, ...]:
        """The customer managed keys. Only AWS changes the policy or the rotation of the others."""
        return tuple(key for key in self.facts.keys if key.manager == "CUSTOMER")

    @property
    def region(self) -> str:
        """A Region of the audit, for whatever must be in one."""
        return next(iter(self.facts.regions), "us-east-1")

    @property
    def root_arn(self) -> str:
        """The ARN that stands for the whole account."""
        return f"arn:{self.facts.partition}:iam::{self.facts.account}:root"

    @cached_property
    def keys_by_arn(self) -> dict[str, KeyFacts]:
        return {key.arn: key for key in self.facts.keys}

    @cached_property
    def _aliases(self) -> dict[str, tuple[str, ...]]:
        names: dict[str, tuple[str, ...]] = defaultdict(tuple)
        for alias in self.facts.aliases or ():
            names[alias.key_arn] += (alias.name,)
        return names

    def aliases_of(self, key: KeyFacts) -> tuple[str, ...] | None:
        """Return the names of a key's aliases, or None if aliases were not listed."""
        return None if self.facts.aliases is None else self._aliases.get(key.arn, ())

    def conditions_of(self, key: KeyFacts) -> dict[str, Value | Sequence[Value]]:
        """Return the values of the condition keys that describe a key."""
        return key_conditions(metadata_of(key), self.aliases_of(key) or (), key.tags or {})

    @cached_property
    def service_roles(self) -> frozenset[str]:
        """The account's service-linked roles, as ``is_service_role`` takes them."""
        return frozenset(filter(None, (service_linked(facts.arn) for facts in self.facts.principals or ())))

    def is_trusted(self, account: str) -> bool:
        """Tell whether an account is this one or a trusted one."""
        return account == self.facts.account or account in self.facts.trusted_accounts

    def key_policy(self, key: KeyFacts) -> Policy | None:
        """Return the policy of a key, or None if it is missing or cannot be evaluated."""
        if key.policy is None:
            return None
        parsed = self._key_policies.get(key.policy)
        if parsed is None:
            try:
                parsed = parse_key_policy(key.policy)
            except PolicyError as error:
                parsed = error
            self._key_policies[key.policy] = parsed
        if isinstance(parsed, PolicyError):
            self._note_unread("the key policy", key.arn, key.region, parsed)
            return None
        return parsed

    def allow_statements(self) -> Iterator[tuple[KeyFacts, Policy, Statement, Document]]:
        """Return the Allow statements in the policies of the account's own keys, parsed and as written."""
        for key in self.own_keys:
            policy = self.key_policy(key)
            if policy is None or key.policy is None:
                continue
            for statement in policy.statements:
                if statement.effect == "Allow" and covers(statement, key.arn):
                    yield key, policy, statement, self.raw(key.policy, statement)

    def unparsed_key_policies(self) -> Iterator[tuple[KeyFacts, Document]]:
        """Return the key policies that are JSON objects but cannot be evaluated."""
        for key in self.own_keys:
            if key.policy is None or self.key_policy(key) is not None:
                continue
            try:
                document = json.loads(key.policy)
            except (ValueError, RecursionError):
                continue
            if isinstance(document, dict):
                yield key, document

    def _note_unread(self, what: str, resource: str, region: str, error: PolicyError) -> None:
        self._unread.setdefault(resource, Gap(what, resource, region, f"it cannot be evaluated: {error}"))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What the facts do not hold, and the policies in them that cannot be evaluated."""
        for key in self.own_keys:
            self.key_policy(key)
        _ = self.identity_policies, self.principals
        return (*self.facts.gaps, *self._unexplained(), *self._unread.values())

    def _unexplained(self) -> Iterator[Gap]:
        """Return the missing parts that no gap of the facts explains, such as what was cut out of the file."""
        why = "the facts do not include it"
        explained = [gap.what for gap in self.facts.gaps]
        for name, actions in _EXPLAINED_BY.items():
            if getattr(self.facts, name) is None and not any(action.startswith(actions) for action in explained):
                yield Gap(name, "*", "", why, refused=False)
        for key in self.own_keys:
            if key.policy is None and "kms:GetKeyPolicy" not in explained:
                yield Gap("the key policy", key.arn, key.region, why, refused=False)
        for arn in self.facts.envelopes_under or ():
            if arn not in self.keys_by_arn:
                why = "envelopes are reported under it, but the facts lack it; if it was deleted, they are lost"
                yield Gap("the key", arn, f"{arn}:::".split(":")[3], why)

    def raw(self, document: str, statement: Statement) -> Document:
        """Return a statement as it was written."""
        if document not in self._raw:
            self._raw[document] = json.loads(document)
        written = self._raw[document]["Statement"]
        raw: Document = written if isinstance(written, dict) else written[statement.index - 1]
        return raw

    def raw_of_key(self, key: KeyFacts, statements: Sequence[Statement]) -> Document | None:
        """Return the first of the statements as it was written, if it is one of the key policy."""
        if not statements or statements[0].principals is None or key.policy is None:
            return None
        return self.raw(key.policy, statements[0])

    @cached_property
    def identity_policies(self) -> dict[str, Policy]:
        """The identity policies that can be evaluated, by their ids."""
        policies: dict[str, Policy] = {}
        parsed: dict[str, Policy | PolicyError] = {}
        for facts in self.facts.policies or ():
            if facts.document not in parsed:
                try:
                    parsed[facts.document] = parse_identity_policy(facts.document, name=f"identity policy {facts.name}")
                except PolicyError as error:
                    parsed[facts.document] = error
            policy = parsed[facts.document]
            if isinstance(policy, PolicyError):
                self._note_unread("the identity policy", facts.id, "", policy)
            else:
                policies[facts.id] = policy
        return policies

    @cached_property
    def principals(self) -> dict[str, Principal]:
        """The users and roles of the account, by their ARNs."""
        principals = {}
        for facts in self.facts.principals or ():
            try:
                principals[facts.arn] = principal(
                    facts.arn, user_id=facts.user_id, tags=facts.tags, org_id=self.facts.organization or None
                )
            except ValueError:
                self._unread[facts.arn] = Gap("the principal", facts.arn, "", "its ARN cannot be parsed")
        return principals

    @cached_property
    def unread_principals(self) -> frozenset[str]:
        """The users and roles with a policy that is missing or cannot be evaluated."""
        incomplete = {gap.resource for gap in self.facts.gaps}
        return frozenset(
            facts.arn
            for facts in self.facts.principals or ()
            if facts.arn in incomplete or any(id_ not in self.identity_policies for id_ in facts.policies)
        )

    @cached_property
    def policies_of(self) -> dict[str, tuple[str, ...]]:
        """The policy ids of each user and role, by its ARN, including policies that cannot be evaluated."""
        return {facts.arn: facts.policies for facts in self.facts.principals or ()}

    def identity_policies_of(self, arn: str) -> list[Policy]:
        """Return the identity policies of a user or role that can be evaluated."""
        return [self.identity_policies[id_] for id_ in self.policies_of.get(arn, ()) if id_ in self.identity_policies]

    def statements_of(self, arn: str, action: str) -> tuple[Statement, ...]:
        """Return the statements about an action in the identity policies of a user or role."""
        return tuple(
            statement
            for policy in self.identity_policies_of(arn)
            for statement in policy.statements
            if names_action(statement, action)
        )
