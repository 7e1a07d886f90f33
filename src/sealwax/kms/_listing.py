"""The KMS keys of an account, as far as the caller may see them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients, Session
from sealwax.kms import _metadata, _names
from sealwax.kms._metadata import Metadata

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# Up to three calls per key, mostly waiting; few enough to leave the account's request quota to its programs.
_THREADS: Final = 8
# Actions on a Region, not on a key.
_OF_REGION: Final = ("kms:ListKeys", "kms:ListAliases")


@dataclass(frozen=True, slots=True)
class Rotation:
    """Automatic rotation. ``period_days`` is None if it is off, or if KMS does not say (AWS managed keys)."""

    possible: bool
    enabled: bool
    period_days: int | None = None


@dataclass(frozen=True, slots=True)
class LastUse:
    """The last cryptographic operation with a key that KMS has recorded.

    Attributes:
        operation, time: None if there was none since ``tracked_since``.
        tracked_since: when KMS began to record this key's use.
        created: when the key was created. If that is later than ``tracked_since`` and no use is recorded, the key was
            never used.
    """

    operation: str | None
    time: datetime | None
    tracked_since: datetime | None
    created: datetime | None


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One KMS key. Attributes that the caller may not see are None, and named in ``not_seen``.

    Attributes:
        aliases: alias names, sorted.
        manager: ``"AWS"`` or ``"CUSTOMER"``.
        origin: ``"AWS_KMS"``, ``"EXTERNAL"``, ``"AWS_CLOUDHSM"`` or ``"EXTERNAL_KEY_STORE"``.
        state: KMS's KeyState: ``"Enabled"``, ``"Disabled"``, ``"PendingDeletion"``, ...
        multi_region: ``"primary"``, ``"replica"`` or ``"no"``.
    """

    region: str
    key_id: str
    arn: str | None
    aliases: tuple[str, ...] | None
    manager: str | None
    origin: str | None
    state: str | None
    multi_region: str | None
    rotation: Rotation | None
    last_use: LastUse | None
    not_seen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unseen:
    """A call that failed, for one or more keys.

    Attributes:
        action: the IAM action: ``"kms:GetKeyRotationStatus"``.
        keys: for how many keys; 0 if it concerns the whole Region.
        error: the first key's.
    """

    region: str
    action: str
    keys: int
    error: errors.KmsError


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys found, and the calls that failed.

    Attributes:
        unlisted: Regions whose keys could not be listed at all.
    """

    keys: tuple[ListedKey, ...]
    unseen: tuple[Unseen, ...]
    unlisted: tuple[str, ...]


def list_keys(session: Session, regions: Sequence[str] = ()) -> Listing:
    """Return the KMS keys of the session's account.

    Uses kms:ListKeys and kms:ListAliases, and on each key kms:DescribeKey, kms:GetKeyRotationStatus and
    kms:GetKeyLastUsage. Each of them is optional: without kms:ListKeys, only keys that have an alias are found.

    Args:
        regions: which Regions to list; the session's Region by default.

    Raises:
        CredentialsError: there are no valid credentials.
        KmsError: no Region could be listed; the error is the first Region's.
    """
    clients = Clients(session)
    regions = tuple(dict.fromkeys(regions)) or (clients.region,)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sealwax-keys")
    try:
        listings = list(pool.map(lambda region: _RegionListing(region, clients.kms(region)), regions))
        unlisted = tuple(listing.name for listing in listings if listing.keys is None)
        if len(unlisted) == len(listings):
            raise next(iter(listings[0].failures.values()))[0]
        keys = [
            key for listing in listings for key in sorted(pool.map(listing.inspect, listing.keys or {}), key=_order)
        ]
    finally:
        pool.shutdown(cancel_futures=True)
    unseen = tuple(
        Unseen(
            listing.name,
            action,
            0 if action in _OF_REGION else len(failures),
            min(failures, key=lambda error: error.key or ""),
        )
        for listing in listings
        for action, failures in listing.failures.items()
    )
    return Listing(tuple(keys), unseen, unlisted)


def _order(key: ListedKey) -> tuple[bool, tuple[str, ...], str]:
    # Keys with an alias first, by alias.
    return not key.aliases, key.aliases or (), key.key_id


class _RegionListing:
    """One Region's keys, and the calls that failed.

    Attributes:
        keys: ARNs by key ID; an ARN is None if the key is known by its alias only. None if neither keys nor aliases
            could be listed.
        aliases: alias names by key ID; None if they could not be listed.
        failures: errors by IAM action.
    """

    def __init__(self, name: str, client: KMSClient) -> None:
        self.name = name
        self._client = client
        self.failures: dict[str, list[errors.KmsError]] = {}
        keys = self._try("kms:ListKeys", self._list_keys)
        self.aliases = self._try("kms:ListAliases", self._list_aliases)
        self.keys: dict[str, str | None] | None = None
        if keys is not None:
            self.keys = dict(keys)
        elif self.aliases is not None:
            self.keys = dict.fromkeys(self.aliases)

    def _list_keys(self, doing: str) -> dict[str, str]:
        keys = responses.ask_all(self._client, "list_keys", "Keys", doing, None)
        return {key.need("KeyId", str): key.need("KeyArn", str) for key in keys}

    def _list_aliases(self, doing: str) -> dict[str, list[str]]:
        aliases = defaultdict(list)
        for alias in responses.ask_all(self._client, "list_aliases", "Aliases", doing, None):
            # Reserved alias names of AWS point to no key yet.
            target = alias.optional("TargetKeyId", str)
            if target is not None:
                aliases[target].append(alias.need("AliasName", str))
        return aliases

    def _try(self, action: str, call: Callable[[str], T]) -> T | None:
        """Return what ``call`` returns, or None if it fails; the error is kept."""
        try:
            return call(f"{action} in {self.name}")
        except errors.CredentialsError:
            raise
        except errors.KmsError as error:
            self.failures.setdefault(action, []).append(error)
            return None

    def inspect(self, key_id: str) -> ListedKey:
        metadata = self._try("kms:DescribeKey", lambda doing: self._metadata(key_id, doing))
        key = ListedKey(
            self.name,
            key_id,
            arn=metadata.arn if metadata else (self.keys or {}).get(key_id),
            aliases=None if self.aliases is None else tuple(sorted(self.aliases.get(key_id, ()))),
            manager=metadata.manager if metadata else None,
            origin=metadata.origin if metadata else None,
            state=metadata.state if metadata else None,
            multi_region=metadata.multi_region if metadata else None,
            rotation=self._try("kms:GetKeyRotationStatus", lambda doing: self._rotation(key_id, metadata, doing)),
            last_use=self._try("kms:GetKeyLastUsage", lambda doing: last_use_of(self._client, key_id, doing)),
            not_seen=(),
        )
        not_seen = tuple(
            field.name for field in fields(key) if field.name != "arn" and getattr(key, field.name) is None
        )
        return replace(key, not_seen=not_seen)

    def _metadata(self, key_id: str, doing: str) -> Metadata:
        name = _names.KeyName(key_id, None, self.name, None, key_id, None)
        return _metadata.fetch(self._client, name, self.name, doing)

    def _rotation(self, key_id: str, metadata: Metadata | None, doing: str) -> Rotation:
        # KMS rotates only symmetric encryption keys whose material it generated.
        if metadata and (metadata.spec, metadata.origin) != ("SYMMETRIC_DEFAULT", "AWS_KMS"):
            return Rotation(possible=False, enabled=False)
        try:
            answer = responses.ask(lambda: self._client.get_key_rotation_status(KeyId=key_id), doing, key_id)
        except errors.KmsError as error:
            # A key pending deletion does not rotate, and KMS has no status for it.
            if error.code not in ("UnsupportedOperationException", "KMSInvalidStateException"):
                raise
            return Rotation(possible=False, enabled=False)
        enabled = answer.need("KeyRotationEnabled", bool)
        return Rotation(True, enabled, answer.optional("RotationPeriodInDays", int) if enabled else None)


def last_use_of(client: KMSClient, key_id: str, doing: str) -> LastUse:
    """Return when a key was last used (kms:GetKeyLastUsage).

    Args:
        doing: as for ``responses.ask``.

    Raises:
        KmsError: KMS did not answer, or refused.
    """
    answer = responses.ask(lambda: client.get_key_last_usage(KeyId=key_id), doing, key_id)
    usage = answer.optional_part("KeyLastUsage")
    return LastUse(
        usage.optional("Operation", str),
        usage.optional("Timestamp", datetime),
        answer.optional("TrackingStartDate", datetime),
        answer.optional("KeyCreationDate", datetime),
    )
