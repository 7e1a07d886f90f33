"""The life of one KMS key: its rotations, and its end.

A key is looked at first, whatever it was named by, and every other call is about its ARN: an alias that is moved
meanwhile changes nothing here. What a kind of key cannot do is said before KMS is asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients, Session
from sealwax._core.context import printable
from sealwax.kms import _metadata, _names
from sealwax.kms._listing import LastUse, last_use_of

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# As in https://docs.aws.amazon.com/kms/latest/APIReference/: EnableKeyRotation, ScheduleKeyDeletion, RotateKeyOnDemand.
SHORTEST_PERIOD_DAYS: Final = 90
LONGEST_PERIOD_DAYS: Final = 2560
SHORTEST_WAIT_DAYS: Final = 7
LONGEST_WAIT_DAYS: Final = 30
MOST_ON_DEMAND: Final = 25


# How KMS refuses what the key's state does not permit.
_NOT_IN_THIS_STATE: Final = "KMSInvalidStateException"
_PENDING: Final = ("PendingDeletion", "PendingReplicaDeletion")


@dataclass(frozen=True, slots=True)
class Material:
    """One piece of key material that a key has, had, or waits to have.

    Attributes:
        material_id: 64 hex digits, which envelopes store too.
        state: KMS's word: ``"CURRENT"``, ``"NON_CURRENT"``, ``"PENDING_ROTATION"``, ...; None where KMS says nothing.
        since: when the key was rotated to it; None for the first, and for what waits.
        how: ``"AUTOMATIC"`` or ``"ON_DEMAND"``; None where ``since`` is.
        expires: when imported material does; None where it does not.
    """

    material_id: str | None
    state: str | None
    since: datetime | None
    how: str | None
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Rotations:
    """How a key rotates, and what it was rotated to so far.

    Attributes:
        arn: the key's ARN.
        enabled: whether KMS rotates it by itself.
        period_days: how often; None where it does not.
        next_rotation: when it will next; None where it will not.
        on_demand_since: since when a rotation on demand is being done; None where none is.
        materials: in the order of KMS, the oldest first.
    """

    arn: str
    enabled: bool
    period_days: int | None
    next_rotation: datetime | None
    on_demand_since: datetime | None
    materials: tuple[Material, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A key as somebody needs to know it who wants to be rid of it.

    Attributes:
        state: KMS's KeyState.
        origin: as of :class:`~sealwax.kms._listing.ListedKey`.
        multi_region: ``"primary"``, ``"replica"`` or ``"no"``.
        replicas: the ARNs of a primary key's replicas.
        deletion: when it will be deleted; None where it will not, or waits for its replicas.
        aliases: the alias names that point to it; None where they could not be seen.
        last_use: None where it could not be seen.
        unseen: why not.
    """

    arn: str
    state: str
    origin: str
    multi_region: str
    replicas: tuple[str, ...]
    deletion: datetime | None
    aliases: tuple[str, ...] | None
    last_use: LastUse | None
    unseen: tuple[errors.KmsError, ...]

    @property
    def pending(self) -> bool:
        """Whether its deletion is scheduled."""
        return self.state in _PENDING


class KeyLife:
    """One KMS key, looked at when it is opened.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        session: as for :class:`~sealwax.KmsKeyring`.

    IAM actions: kms:DescribeKey, and what each method names.

    Raises:
        KmsError: it could not be looked at.
        ConfigurationError: it is an AWS managed key, which nobody but AWS can change.
    """

    def __init__(self, key: str, session: Session | None = None) -> None:
        name = _names.parse(key)
        clients = Clients(session)
        region = name.region or clients.region
        self._client: KMSClient = clients.kms(region)
        self._region = region
        self._key = _metadata.look(self._client, name, region, "kms:DescribeKey")
        self.arn = self._key.arn
        if self._key.manager == "AWS":
            raise self._not_for(
                "is an AWS managed key: AWS rotates it every year, and nobody else can rotate, disable or delete it. "
                "Use a customer managed key for what is yours to rotate."
            )

    def _ask(self, operation: str, call: Callable[[], object]) -> responses.Answer:
        return responses.ask(call, f"kms:{operation}", self.arn)

    def _not_for(self, why: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(f"'{printable(self.arn)}' {why}", key=self.arn)

    # --- rotation

    def rotations(self) -> Rotations:
        """Return how the key rotates, and its material so far. Uses kms:GetKeyRotationStatus, kms:ListKeyRotations.

        Raises:
            ConfigurationError: it is of a kind that has no rotations.
            KmsError: KMS did not say.
        """
        self._need_rotatable()
        enabled, period, following, on_demand = False, None, None, None
        if self._key.origin != "EXTERNAL":
            status = self._ask("GetKeyRotationStatus", lambda: self._client.get_key_rotation_status(KeyId=self.arn))
            enabled = status.need("KeyRotationEnabled", bool)
            period = status.may("RotationPeriodInDays", int)
            following = status.may("NextRotationDate", datetime)
            on_demand = status.may("OnDemandRotationStartDate", datetime)
        entries = responses.ask_all(
            self._client,
            "list_key_rotations",
            "Rotations",
            "kms:ListKeyRotations",
            self.arn,
            KeyId=self.arn,
            IncludeKeyMaterial="ALL_KEY_MATERIAL",
        )
        materials = tuple(
            Material(
                entry.may("KeyMaterialId", str),
                entry.may("KeyMaterialState", str),
                entry.may("RotationDate", datetime),
                entry.may("RotationType", str),
                entry.may("ValidTo", datetime),
            )
            for entry in entries
        )
        return Rotations(self.arn, enabled, period, following, on_demand, materials)

    def rotate_every(self, days: int) -> None:
        """Have KMS rotate the key by itself. Uses kms:EnableKeyRotation.

        Args:
            days: 90 to 2560.

        Raises:
            ConfigurationError: it is of a kind that KMS does not rotate by itself.
            KmsError: KMS refused.
        """
        self._need_rotatable()
        self._need_primary()
        if self._key.origin == "EXTERNAL":
            raise self._not_for(
                "has imported key material, which KMS does not rotate by itself: import new key material "
                "(ImportType NEW_KEY_MATERIAL), then rotate to it with --now."
            )
        self._need_enabled()
        self._ask(
            "EnableKeyRotation",
            lambda: self._client.enable_key_rotation(KeyId=self.arn, RotationPeriodInDays=days),
        )

    def rotate_now(self) -> None:
        """Begin a rotation on demand, which KMS finishes a little later. Uses kms:RotateKeyOnDemand.

        Raises:
            ConfigurationError: it is of a kind that is not rotated.
            KeyStateError: it waits for imported material.
            KmsError: KMS refused.
        """
        self._need_rotatable()
        self._need_primary()
        self._need_enabled()
        try:
            self._ask("RotateKeyOnDemand", lambda: self._client.rotate_key_on_demand(KeyId=self.arn))
        except errors.KmsError as failure:
            if failure.code == _NOT_IN_THIS_STATE and self._key.origin == "EXTERNAL":
                raise errors.KeyStateError(
                    f"'{printable(self.arn)}' has no imported key material to rotate to: import new key material first "
                    f"(ImportType NEW_KEY_MATERIAL), in every Region of a multi-Region key. ({failure.code}, "
                    f"request id {failure.request_id})",
                    code=failure.code,
                    request_id=failure.request_id,
                    key=self.arn,
                ) from None
            if failure.code == "LimitExceededException":
                raise errors.RequestRefusedError(
                    f"'{printable(self.arn)}' was rotated on demand {MOST_ON_DEMAND} times, which is the most that KMS "
                    f"allows: let it rotate by itself (--every DAYS), or move to a new key. ({failure.code}, request "
                    f"id {failure.request_id})",
                    code=failure.code,
                    request_id=failure.request_id,
                    key=self.arn,
                ) from None
            raise

    def _need_rotatable(self) -> None:
        if self._key.spec != "SYMMETRIC_DEFAULT":
            raise self._not_for("is no symmetric encryption key, and KMS rotates no others.")
        if self._key.origin in ("AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"):
            raise self._not_for(
                "is in a custom key store, where KMS rotates no key: make a new key there, and re-wrap to it."
            )

    def _need_primary(self) -> None:
        if self._key.multi_region == "replica":
            raise self._not_for(
                f"is a replica, which is rotated with its primary key: name '{printable(str(self._key.primary))}'."
            )

    def _need_enabled(self) -> None:
        state = self._key.state
        if state != "Enabled":
            raise errors.KeyStateError(
                f"'{printable(self.arn)}' cannot be rotated in its state, which is {state[:50]}: only an enabled key "
                "can.",
                key=self.arn,
            )

    # --- the end

    def standing(self) -> Standing:
        """Return how the key stands. Uses kms:GetKeyLastUsage and kms:ListAliases; neither is indispensable."""
        unseen: list[errors.KmsError] = []

        def seen(look: Callable[[], T]) -> T | None:
            try:
                return look()
            except errors.CredentialsError:
                raise
            except errors.KmsError as error:
                unseen.append(error)
                return None

        aliases = seen(self._alias_names)
        last_use = seen(lambda: last_use_of(self._client, self.arn, "kms:GetKeyLastUsage"))
        key = self._key
        return Standing(
            key.arn,
            key.state,
            key.origin,
            key.multi_region,
            key.replicas,
            key.deletion,
            aliases,
            last_use,
            tuple(unseen),
        )

    def _alias_names(self) -> tuple[str, ...]:
        found = responses.ask_all(self._client, "list_aliases", "Aliases", "kms:ListAliases", self.arn, KeyId=self.arn)
        return tuple(sorted(one.need("AliasName", str) for one in found))

    def disable(self) -> None:
        """Disable the key, which can be undone at any time. Uses kms:DisableKey.

        Raises:
            KmsError: KMS refused.
        """
        self._ask("DisableKey", lambda: self._client.disable_key(KeyId=self.arn))

    def schedule_deletion(self, days: int) -> datetime | None:
        """Have the key deleted after a waiting time, in which that can be taken back. Uses kms:ScheduleKeyDeletion.

        Where it is to be deleted already, that stays as it is.

        Args:
            days: 7 to 30.

        Returns:
            When; None for a primary key that waits for its replicas first.

        Raises:
            KmsError: KMS refused.
        """
        try:
            answer = self._ask(
                "ScheduleKeyDeletion",
                lambda: self._client.schedule_key_deletion(KeyId=self.arn, PendingWindowInDays=days),
            )
        except errors.KmsError as failure:
            if failure.code != _NOT_IN_THIS_STATE:
                raise
            # boto3 repeats what was not answered: it may be done.
            now = _metadata.look(self._client, _names.parse(self.arn), self._region, "kms:DescribeKey")
            if now.state not in _PENDING:
                raise
            return now.deletion
        return answer.may("DeletionDate", datetime)
