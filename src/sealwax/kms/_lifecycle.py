"""Rotates, disables and deletes one KMS key.

The key is described first, and every later call uses its ARN, so moving its alias in the meantime changes nothing. If
its kind cannot do something, the error comes before the call to KMS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients, Session
from sealwax._text import printable
from sealwax.kms import _metadata, _names
from sealwax.kms._listing import LastUse, last_use_of

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# As in https://docs.aws.amazon.com/kms/latest/APIReference/API_RotateKeyOnDemand.html.
MOST_ON_DEMAND: Final = 25
# KMS's error code if the key's state does not allow a call.
_NOT_IN_THIS_STATE: Final = "KMSInvalidStateException"
_PENDING: Final = ("PendingDeletion", "PendingReplicaDeletion")


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """One version of a key's material: past, current, or waiting for a rotation.

    Attributes:
        material_id: 64 hex digits, which envelopes store too.
        state: KMS's word: ``"CURRENT"``, ``"NON_CURRENT"``, ``"PENDING_ROTATION"``, ...; None if KMS does not say.
        since: when the key was rotated to it; None for the first material, and for material that waits.
        how: ``"AUTOMATIC"`` or ``"ON_DEMAND"``; None if ``since`` is None.
        expires: when imported material expires; None if it does not.
    """

    material_id: str | None
    state: str | None
    since: datetime | None
    how: str | None
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Rotations:
    """How a key rotates, and its materials so far.

    Attributes:
        arn: the key's ARN.
        enabled: whether automatic rotation is on.
        period_days: days between automatic rotations; None if it is off.
        next_rotation: when the next automatic rotation is; None if it is off.
        on_demand_since: when the on-demand rotation in progress began; None if there is none.
        materials: oldest first.
    """

    arn: str
    enabled: bool
    period_days: int | None
    next_rotation: datetime | None
    on_demand_since: datetime | None
    materials: tuple[KeyMaterial, ...]


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What to know about a key before retiring it.

    Attributes:
        state: KMS's KeyState.
        origin: as in ``ListedKey``.
        multi_region: ``"primary"``, ``"replica"`` or ``"no"``.
        replicas: the ARNs of a primary key's replicas.
        deletion: when it will be deleted; None if it will not, or waits for its replicas first.
        aliases: the alias names that point to it; None if they could not be listed.
        last_use: None if unknown.
        unseen: the errors of calls that failed.
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
        """Whether deletion is scheduled."""
        return self.state in _PENDING


class KeyLife:
    """One KMS key, described when this object is created.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        session: as for ``KmsKeyring``.

    IAM actions: kms:DescribeKey, and those that each method names.

    Raises:
        KmsError: KMS did not describe the key.
        ConfigurationError: it is an AWS managed key, which only AWS can change.
    """

    def __init__(self, key: str, session: Session | None = None) -> None:
        name = _names.parse(key)
        clients = Clients(session)
        region = name.region or clients.region
        self._client: KMSClient = clients.kms(region)
        self._region = region
        self._key = _metadata.fetch(self._client, name, region, "kms:DescribeKey")
        self.arn = self._key.arn
        if self._key.manager == "AWS":
            raise self._not_for(
                "is an AWS managed key: AWS rotates it every year, and only AWS can rotate, disable or delete it. Use "
                "a customer managed key to control these yourself."
            )

    def _ask(self, operation: str, call: Callable[[], object]) -> responses.Answer:
        return responses.ask(call, f"kms:{operation}", self.arn)

    def _not_for(self, why: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(f"'{printable(self.arn)}' {why}", key=self.arn)

    # --- rotation

    def rotations(self) -> Rotations:
        """Return how the key rotates, and its materials. Uses kms:GetKeyRotationStatus and kms:ListKeyRotations.

        Raises:
            ConfigurationError: keys of its kind do not rotate.
            KmsError: KMS did not answer, or refused.
        """
        self._need_rotatable()
        enabled, period, following, on_demand = False, None, None, None
        if self._key.origin != "EXTERNAL":
            status = self._ask("GetKeyRotationStatus", lambda: self._client.get_key_rotation_status(KeyId=self.arn))
            enabled = status.need("KeyRotationEnabled", bool)
            period = status.optional("RotationPeriodInDays", int)
            following = status.optional("NextRotationDate", datetime)
            on_demand = status.optional("OnDemandRotationStartDate", datetime)
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
            KeyMaterial(
                entry.optional("KeyMaterialId", str),
                entry.optional("KeyMaterialState", str),
                entry.optional("RotationDate", datetime),
                entry.optional("RotationType", str),
                entry.optional("ValidTo", datetime),
            )
            for entry in entries
        )
        return Rotations(self.arn, enabled, period, following, on_demand, materials)

    def check_rotation(self, *, now: bool) -> None:
        """Make sure that the key's kind and state allow a rotation.

        Args:
            now: whether it is on demand.

        Raises:
            ConfigurationError: keys of its kind do not rotate, or not automatically.
            KeyStateError: it is not enabled.
        """
        self._need_rotatable()
        self._need_primary()
        if self._key.origin == "EXTERNAL" and not now:
            raise self._not_for(
                "has imported key material, which KMS does not rotate automatically: import new key material "
                "(ImportType NEW_KEY_MATERIAL), then rotate to it on demand."
            )
        self._need_enabled()

    def rotate_every(self, days: int) -> None:
        """Turn automatic rotation on. Uses kms:EnableKeyRotation.

        Args:
            days: 90 to 2560.

        Raises:
            ConfigurationError: keys of its kind do not rotate automatically.
            KmsError: KMS refused.
        """
        self.check_rotation(now=False)
        self._ask(
            "EnableKeyRotation",
            lambda: self._client.enable_key_rotation(KeyId=self.arn, RotationPeriodInDays=days),
        )

    def rotate_now(self) -> None:
        """Start an on-demand rotation, which KMS finishes a little later. Uses kms:RotateKeyOnDemand.

        Raises:
            ConfigurationError: keys of its kind do not rotate.
            KeyStateError: it needs new imported material first.
            KmsError: KMS refused.
        """
        self.check_rotation(now=True)
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
                    f"'{printable(self.arn)}' was rotated on demand {MOST_ON_DEMAND} times, the most that KMS allows: "
                    f"turn on automatic rotation, or move to a new key. ({failure.code}, request id "
                    f"{failure.request_id})",
                    code=failure.code,
                    request_id=failure.request_id,
                    key=self.arn,
                ) from None
            raise

    def _need_rotatable(self) -> None:
        if self._key.spec != "SYMMETRIC_DEFAULT":
            raise self._not_for("is not a symmetric encryption key, and KMS rotates no other keys.")
        if self._key.origin in ("AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"):
            raise self._not_for(
                "is in a custom key store, where KMS cannot rotate keys: create a new key there, and re-wrap to it."
            )

    def _need_primary(self) -> None:
        if self._key.multi_region == "replica":
            raise self._not_for(
                f"is a replica, which rotates with its primary key: rotate '{printable(str(self._key.primary))}'."
            )

    def _need_enabled(self) -> None:
        state = self._key.state
        if state != "Enabled":
            raise errors.KeyStateError(
                f"'{printable(self.arn)}' cannot be rotated in state {state[:50]}: only enabled keys can rotate.",
                key=self.arn,
            )

    # --- disabling and deletion

    def status(self) -> KeyStatus:
        """Return the key's status. Uses kms:GetKeyLastUsage and kms:ListAliases if allowed."""
        unseen: list[errors.KmsError] = []

        def attempt(call: Callable[[], T]) -> T | None:
            try:
                return call()
            except errors.CredentialsError:
                raise
            except errors.KmsError as error:
                unseen.append(error)
                return None

        aliases = attempt(self._alias_names)
        last_use = attempt(lambda: last_use_of(self._client, self.arn, "kms:GetKeyLastUsage"))
        key = self._key
        return KeyStatus(
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
        entries = responses.ask_all(
            self._client, "list_aliases", "Aliases", "kms:ListAliases", self.arn, KeyId=self.arn
        )
        return tuple(sorted(entry.need("AliasName", str) for entry in entries))

    def disable(self) -> None:
        """Disable the key; it can be enabled again at any time. Uses kms:DisableKey.

        Raises:
            KmsError: KMS refused.
        """
        self._ask("DisableKey", lambda: self._client.disable_key(KeyId=self.arn))

    def schedule_deletion(self, days: int) -> datetime | None:
        """Schedule the key's deletion, which can be canceled until then. Uses kms:ScheduleKeyDeletion.

        A deletion that is scheduled already stays unchanged.

        Args:
            days: the waiting period, 7 to 30.

        Returns:
            When it will be deleted; None for a primary key that waits for its replicas first.

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
            # boto3 retries unanswered requests: an earlier attempt may have succeeded.
            now = _metadata.fetch(self._client, _names.parse(self.arn), self._region, "kms:DescribeKey")
            if now.state not in _PENDING:
                raise
            return now.deletion
        return answer.optional("DeletionDate", datetime)
