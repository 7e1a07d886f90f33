"""A request on its way through the engine, the steps that all operations share, and the table of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sealwax._aws.partitions import partition_of
from sealwax.lab import _names
from sealwax.lab._apierror import ApiError, bad_state, not_found
from sealwax.lab._authorize import Authorizer
from sealwax.lab._faults import Faults
from sealwax.lab._model import (
    DISABLED,
    ENABLED,
    PENDING_DELETION,
    PENDING_IMPORT,
    PENDING_REPLICA_DELETION,
    Answer,
    Conditions,
    KeyRecord,
    KmsRequest,
    Members,
    Question,
)
from sealwax.lab._records import KeyRecords
from sealwax.lab._trail import LastUsage, Trail
from sealwax.lab._transitions import settle

# The states in the words of KMS's messages.
_STATES = {
    PENDING_DELETION: "pending deletion",
    PENDING_REPLICA_DELETION: "pending replica deletion",
    PENDING_IMPORT: "pending import",
}
_DELETING = frozenset({PENDING_DELETION, PENDING_REPLICA_DELETION})


@dataclass(slots=True, repr=False)
class Call:
    """A request with valid members, and what its handler needs to answer it.

    Attributes:
        members: the request's members, decoded.
        blob_key: authenticates the lab's ciphertext blobs.
        now: the time of the call in Unix seconds.
        resources: the keys that the call used, for the trail.
        reasons: why it was allowed or denied, for the trail.
    """

    request: KmsRequest
    members: Members
    records: KeyRecords
    authorizer: Authorizer
    trail: Trail
    faults: Faults
    blob_key: bytes
    now: float
    resources: list[KeyRecord] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def account(self) -> str:
        return self.request.caller.account

    @property
    def region(self) -> str:
        return self.request.region

    def get(self, name: str, default: Any = None) -> Any:
        return self.members.get(name, default)

    # keys

    def find(
        self, name: str, action: str, *, aliases: bool = False, arn_error: str = "InvalidArnException"
    ) -> KeyRecord:
        """The key with that name, in its present state.

        Raises:
            ApiError: it does not exist; in another account that is a denial, as in KMS.
        """
        parsed = _names.parse(name, account=self.account, region=self.region, aliases=aliases, arn_error=arn_error)
        key_id: str | None = parsed.value
        if parsed.is_alias:
            alias = self.records.alias(parsed.account, self.region, parsed.value)
            key_id = alias.key_id if alias is not None else None
        key = self.key_or_none(parsed.account, key_id)
        if key is None:
            arn = f"arn:{partition_of(self.region)}:kms:{self.region}:{parsed.account}:"
            if parsed.account != self.account:
                raise self.denied_unknown(action, "on this resource")
            if parsed.is_alias:
                raise not_found(f"Alias {arn}{parsed.value} is not found.")
            raise not_found(f"Key '{arn}key/{parsed.value}' does not exist")
        return key

    def key_or_none(self, account: str, key_id: str | None) -> KeyRecord | None:
        """A key of the request's Region, in its present state."""
        if key_id is None:
            return None
        key = self.records.key(account, self.region, key_id)
        return None if key is None else settle(self.records, key, self.now)

    def last_usage(self, key: KeyRecord) -> LastUsage | None:
        """The last successful cryptographic use of a key, or None."""
        return self.trail._last_usage(key)

    def denied_unknown(self, action: str, what: str) -> ApiError:
        """A denial that does not reveal whether the key exists."""
        return ApiError(
            "AccessDeniedException",
            f"User: {self.request.caller.arn} is not authorized to perform: kms:{action} {what} because the resource "
            "does not exist in this Region, no resource-based policies allow access, or a resource-based policy "
            "explicitly denies access",
            reason="no such key in this Region",
        )

    def key(
        self,
        action: str,
        *,
        member: str = "KeyId",
        aliases: bool = False,
        arn_error: str = "InvalidArnException",
        context: Mapping[str, str] | None = None,
        facts: Conditions | None = None,
    ) -> KeyRecord:
        """The key that a member names, if the caller may do the action on it.

        Args:
            action: the IAM action without ``kms:``.
            context: the request's encryption context.
            facts: the values of condition keys that only this operation has.
        """
        name: str = self.members[member]
        key = self.find(name, action, aliases=aliases, arn_error=arn_error)
        self.authorize(action, key, named=name, context=context, facts=facts)
        return key

    def authorize(
        self,
        action: str,
        on: KeyRecord | str = "*",
        *,
        named: str | None = None,
        context: Mapping[str, str] | None = None,
        facts: Conditions | None = None,
        grant_id: str | None = None,
    ) -> None:
        """Raises AccessDeniedException unless policies or grants allow the action on a key, an alias ARN or ``*``."""
        if isinstance(on, KeyRecord) and all(on.arn != key.arn for key in self.resources):
            self.resources.append(on)
        tokens = self.get("GrantTokens", ())
        question = Question(action, on, named, context or {}, facts or {}, grant_id, tokens)
        self.reasons.append(self.authorizer.require(self.request, question, self.now))

    # states

    def need_enabled(self, key: KeyRecord) -> None:
        """Raises ApiError unless the key can be used for cryptography now."""
        if key.state == DISABLED:
            raise ApiError("DisabledException", f"{key.arn} is disabled.")
        if key.state != ENABLED:
            raise bad_state(key.arn, _STATES[key.state])

    def need_alive(self, key: KeyRecord, *, imported: bool = False) -> None:
        """Raises ApiError for a key pending deletion; with ``imported``, also for one that waits for its material."""
        if key.state in _DELETING or (imported and key.state == PENDING_IMPORT):
            raise bad_state(key.arn, _STATES[key.state])


Handler: TypeAlias = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """How to run an operation.

    Attributes:
        writes: whether it changes the folder, and so runs in a transaction.
        read_only: as CloudTrail records it.
        uses_key: whether a success counts as the key's last use.
    """

    handler: Handler
    writes: bool
    read_only: bool
    uses_key: bool


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, *, writes: bool = False, read_only: bool | None = None, uses_key: bool = False
) -> Callable[[Handler], Handler]:
    """Register a function as the handler of an operation."""

    def register(handler: Handler) -> Handler:
        answers_only = not writes if read_only is None else read_only
        OPERATIONS[name] = Operation(handler, writes, answers_only, uses_key)
        return handler

    return register
