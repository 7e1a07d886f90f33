"""One request on its way through the engine: who asks, for what, and the steps that every operation shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sealwax._aws.partitions import partition_of
from sealwax.lab import _names
from sealwax.lab._apierror import ApiError, bad_state, not_found
from sealwax.lab._model import (
    DISABLED,
    ENABLED,
    PENDING_DELETION,
    PENDING_IMPORT,
    PENDING_REPLICA_DELETION,
    Caller,
    Key,
)
from sealwax.lab._records import Records
from sealwax.lab._transitions import settle

if TYPE_CHECKING:
    from sealwax.lab._authorize import Authorizer
    from sealwax.lab._faults import Faults
    from sealwax.lab._trail import LastUsage, Trail

Handler = Callable[["Call"], "dict[str, Any]"]

_SPOKEN = {
    PENDING_DELETION: "pending deletion",
    PENDING_REPLICA_DELETION: "pending replica deletion",
    PENDING_IMPORT: "pending import",
    "Unavailable": "unavailable",
}
_DELETING = frozenset({PENDING_DELETION, PENDING_REPLICA_DELETION})


@dataclass(frozen=True, slots=True)
class Request:
    """What a front door hands to the engine.

    Attributes:
        operation: the operation's name, for instance ``GenerateDataKey``.
        document: the parsed JSON body.
        region: the Region of the signature's scope.
        secure: whether the request came over TLS (aws:SecureTransport); the in-process way counts as such.
    """

    operation: str
    document: Any
    region: str
    caller: Caller
    request_id: str
    source_ip: str
    user_agent: str
    secure: bool


@dataclass(frozen=True, slots=True)
class Question:
    """May the caller do this?

    Attributes:
        action: the IAM action without ``kms:``.
        on: a key, the ARN of an alias, or ``*``.
        named: how the request named the key (kms:RequestAlias).
        context: the encryption context that conditions and grant constraints look at.
        facts: values of condition keys that only this operation has.
        grant_id: the grant that RetireGrant is about.
    """

    action: str
    on: Key | str
    named: str | None
    context: Mapping[str, str]
    facts: Mapping[str, Any]
    grant_id: str | None


@dataclass(slots=True, repr=False)
class Call:
    """A request whose members were checked, with what the handlers need to answer it.

    Attributes:
        members: the request's members, decoded.
        blob_key: the key of the seals on the lab's ciphertext blobs.
        now: the time of the call in Unix seconds.
        resources: the keys that the call touched, for the trail.
        reasons: why it was allowed or denied, for the trail.
    """

    request: Request
    members: Mapping[str, Any]
    records: Records
    authorizer: Authorizer
    trail: Trail
    faults: Faults
    blob_key: bytes
    now: float
    resources: list[Key] = field(default_factory=list)
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

    def find(self, name: str, action: str, *, aliases: bool = False, arn_error: str = "InvalidArnException") -> Key:
        """The key that a name means, as it is now.

        Raises:
            ApiError: there is none; in a foreign account that is said as a denial, as KMS does.
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

    def key_or_none(self, account: str, key_id: str | None) -> Key | None:
        """A key of the request's Region by its id, brought up to date with the clock."""
        if key_id is None:
            return None
        key = self.records.key(account, self.region, key_id)
        return None if key is None else settle(self.records, key, self.now)

    def last_usage(self, key: Key) -> LastUsage | None:
        """The last successful use of a key for cryptography, or None."""
        return self.trail.last_usage(key)

    def denied_unknown(self, action: str, what: str) -> ApiError:
        """The denial that does not tell a caller whether the key exists."""
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
        facts: Mapping[str, Any] | None = None,
    ) -> Key:
        """The key that a member names, once the caller is known to be allowed the action on it.

        Args:
            action: the IAM action without ``kms:``.
            context: the encryption context of the request, where it has one.
            facts: values of condition keys that only this operation has.
        """
        name: str = self.members[member]
        key = self.find(name, action, aliases=aliases, arn_error=arn_error)
        self.authorize(action, key, named=name, context=context, facts=facts)
        return key

    def authorize(
        self,
        action: str,
        on: Key | str = "*",
        *,
        named: str | None = None,
        context: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
        grant_id: str | None = None,
    ) -> None:
        """Raises AccessDeniedException unless policies or grants allow the action on a key, an alias ARN or ``*``."""
        if isinstance(on, Key) and all(on.arn != key.arn for key in self.resources):
            self.resources.append(on)
        question = Question(action, on, named, context or {}, facts or {}, grant_id)
        self.reasons.append(self.authorizer.require(self, question))

    # states

    def need_enabled(self, key: Key) -> None:
        """The key can be used for cryptography now."""
        if key.state == DISABLED:
            raise ApiError("DisabledException", f"{key.arn} is disabled.")
        if key.state != ENABLED:
            raise bad_state(key.arn, _SPOKEN[key.state])

    def need_alive(self, key: Key, *, imported: bool = False) -> None:
        """The key is not on its way out; with ``imported``, it has its material too."""
        if key.state in _DELETING or (imported and key.state == PENDING_IMPORT):
            raise bad_state(key.arn, _SPOKEN[key.state])


@dataclass(frozen=True, slots=True)
class Operation:
    """How an operation is run.

    Attributes:
        writes: it changes the folder, so all of it is one transaction.
        read_only: CloudTrail's word for it.
        uses_key: a success counts as the key's last use.
    """

    handler: Handler
    writes: bool
    read_only: bool
    uses_key: bool


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, *, writes: bool = False, read_only: bool | None = None, uses_key: bool = False
) -> Callable[[Handler], Handler]:
    """Register the function that answers an operation."""

    def register(handler: Handler) -> Handler:
        answers_only = not writes if read_only is None else read_only
        OPERATIONS[name] = Operation(handler, writes, answers_only, uses_key)
        return handler

    return register
