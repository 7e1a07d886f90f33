"""The KMS keys of an account: what each is and how it stands, as far as the caller may see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients, Session
from sealwax.kms import _metadata, _names
from sealwax.kms._metadata import Metadata

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# Up to three calls a key, each mostly waiting; few enough to leave an account's quotas to its programs.
_THREADS: Final = 8
# About a Region, not about a key.
_OF_REGION: Final = ("kms:ListKeys", "kms:ListAliases")


@dataclass(frozen=True, slots=True)
class Rotation:
    """Automatic rotation. ``period_days`` is None where it is off, or where KMS gives none (AWS managed keys)."""

    possible: bool
    enabled: bool
    period_days: int | None = None


@dataclass(frozen=True, slots=True)
class LastUse:
    """The last cryptographic operation with a key that KMS has recorded.

    Attributes:
        operation, time: None where there was none since ``tracked_since``.
        tracked_since: when KMS began to record, for this key.
        created: when the key was created; no recorded use of a key created later than ``tracked_since`` means that it
            was never used.
    """

    operation: str | None
    time: datetime | None
    tracked_since: datetime | None
    created: datetime | None


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One KMS key. What the caller may not see is None, and its name is in ``not_seen``.

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
    """Something that could not be asked, and why.

    Attributes:
        action: the IAM action: ``"kms:GetKeyRotationStatus"``.
        keys: for how many keys; 0 where it is about the whole Region.
        error: the first one's.
    """

    region: str
    action: str
    keys: int
    error: errors.KmsError


@dataclass(frozen=True, slots=True)
class Listing:
    """The keys that were found, and what was not seen of them.

    Attributes:
        unlisted: Regions of which nothing at all was seen.
    """

    keys: tuple[ListedKey, ...]
    unseen: tuple[Unseen, ...]
    unlisted: tuple[str, ...]


def list_keys(session: Session, regions: Sequence[str] = ()) -> Listing:
    """Return the KMS keys of the session's account.

    Uses kms:ListKeys and kms:ListAliases, and on each key kms:DescribeKey, kms:GetKeyRotationStatus and
    kms:GetKeyLastUsage. None of them is indispensable: without kms:ListKeys, the keys that have an alias are found.

    Args:
        regions: where to look; the session's Region by default.

    Raises:
        CredentialsError: nobody is signed in.
        KmsError: no Region could be listed; the error is the first one's.
    """
    clients = Clients(session)
    regions = tuple(dict.fromkeys(regions)) or (clients.region,)
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sealwax-keys")
    try:
        found = list(pool.map(lambda region: _Region(region, clients.kms(region)), regions))
        unlisted = tuple(region for region in found if region.keys is None)
        if len(unlisted) == len(found):
            raise next(iter(found[0].failures.values()))[0]
        keys = [key for region in found for key in sorted(pool.map(region.look, region.keys or {}), key=_place)]
    finally:
        pool.shutdown(cancel_futures=True)
    unseen = tuple(
        Unseen(
            region.name,
            action,
            0 if action in _OF_REGION else len(failures),
            min(failures, key=lambda error: error.key or ""),
        )
        for region in found
        for action, failures in region.failures.items()
    )
    return Listing(tuple(keys), unseen, tuple(region.name for region in unlisted))


def _place(key: ListedKey) -> tuple[bool, tuple[str, ...], str]:
    # Keys that have a name come first, by their names.
    return not key.aliases, key.aliases or (), key.key_id


class _Region:
    """One Region's keys, and what could not be asked.

    Attributes:
        keys: from key ids to ARNs, which are None for keys known from their aliases only; None where neither keys nor
            aliases could be listed.
        aliases: from key ids to alias names; None where they could not be listed.
        failures: from IAM actions to the errors they ended with.
    """

    def __init__(self, name: str, client: KMSClient) -> None:
        self.name = name
        self._client = client
        self.failures: dict[str, list[errors.KmsError]] = {}
        keys = self._see("kms:ListKeys", self._listed_keys)
        self.aliases = self._see("kms:ListAliases", self._listed_aliases)
        self.keys: dict[str, str | None] | None = None
        if keys is not None:
            self.keys = dict(keys)
        elif self.aliases is not None:
            self.keys = dict.fromkeys(self.aliases)

    def _listed_keys(self, doing: str) -> dict[str, str]:
        listed = responses.ask_all(self._client, "list_keys", "Keys", doing, None)
        return {key.need("KeyId", str): key.need("KeyArn", str) for key in listed}

    def _listed_aliases(self, doing: str) -> dict[str, list[str]]:
        found = defaultdict(list)
        for alias in responses.ask_all(self._client, "list_aliases", "Aliases", doing, None):
            # AWS reserves alias names for keys that do not exist yet.
            target = alias.may("TargetKeyId", str)
            if target is not None:
                found[target].append(alias.need("AliasName", str))
        return found

    def _see(self, action: str, look: Callable[[str], T]) -> T | None:
        """Return what ``look`` sees, or None where it sees nothing; why is kept then."""
        try:
            return look(f"{action} in {self.name}")
        except errors.CredentialsError:
            raise
        except errors.KmsError as error:
            self.failures.setdefault(action, []).append(error)
            return None

    def look(self, key_id: str) -> ListedKey:
        described = self._see("kms:DescribeKey", lambda doing: self._described(key_id, doing))
        facts: dict[str, Any] = {
            "aliases": None if self.aliases is None else tuple(sorted(self.aliases.get(key_id, ()))),
            "manager": described and described.manager,
            "origin": described and described.origin,
            "state": described and described.state,
            "multi_region": described and described.multi_region,
            "rotation": self._see("kms:GetKeyRotationStatus", lambda doing: self._rotation(key_id, described, doing)),
            "last_use": self._see("kms:GetKeyLastUsage", lambda doing: last_use_of(self._client, key_id, doing)),
        }
        arn = described.arn if described else (self.keys or {}).get(key_id)
        not_seen = tuple(name for name, value in facts.items() if value is None)
        return ListedKey(self.name, key_id, arn, **facts, not_seen=not_seen)

    def _described(self, key_id: str, doing: str) -> Metadata:
        asked = _names.KeyName(key_id, None, self.name, None, key_id, None)
        return _metadata.look(self._client, asked, self.name, doing)

    def _rotation(self, key_id: str, described: Metadata | None, doing: str) -> Rotation:
        # KMS rotates by itself the symmetric encryption keys whose material it made, and no others.
        if described and (described.spec, described.origin) != ("SYMMETRIC_DEFAULT", "AWS_KMS"):
            return Rotation(possible=False, enabled=False)
        try:
            answer = responses.ask(lambda: self._client.get_key_rotation_status(KeyId=key_id), doing, key_id)
        except errors.KmsError as error:
            # A key that waits for its deletion does not rotate, and KMS has no status for it.
            if error.code not in ("UnsupportedOperationException", "KMSInvalidStateException"):
                raise
            return Rotation(possible=False, enabled=False)
        enabled = answer.need("KeyRotationEnabled", bool)
        return Rotation(True, enabled, answer.may("RotationPeriodInDays", int) if enabled else None)


def last_use_of(client: KMSClient, key_id: str, doing: str) -> LastUse:
    """Ask KMS when a key was last used (kms:GetKeyLastUsage).

    Args:
        doing: as for :func:`~sealwax._aws.responses.ask`.

    Raises:
        KmsError: KMS did not say.
    """
    answer = responses.ask(lambda: client.get_key_last_usage(KeyId=key_id), doing, key_id)
    usage = answer.may_part("KeyLastUsage")
    return LastUse(
        usage.may("Operation", str),
        usage.may("Timestamp", datetime),
        answer.may("TrackingStartDate", datetime),
        answer.may("KeyCreationDate", datetime),
    )
