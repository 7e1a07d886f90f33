"""A KMS key's ARN, its current material and its last rotation, from DescribeKey and ListKeyRotations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients
from sealwax.kms import _metadata, _names

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DescribedKey:
    """A KMS key.

    Attributes:
        material_id: 32 bytes that identify its current material; empty if KMS does not say or denies access.
        rotated_at: when it was last rotated, in Unix seconds; 0 if never or if KMS denies access.
        unseen: the errors of calls that KMS denied.
    """

    arn: str
    material_id: bytes = b""
    rotated_at: int = 0
    unseen: tuple[errors.KmsError, ...] = ()


def describe(key: str, clients: Clients, *, rotations: bool = True) -> DescribedKey:
    """Describe one KMS key. Uses kms:DescribeKey and kms:ListKeyRotations; a key ARN works without either.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        rotations: whether to set ``rotated_at``.

    Raises:
        KmsError: the key does not exist, is of another kind, or its ARN is unknown.
    """
    name = _names.parse(key)
    region = name.region or clients.region
    client = clients.kms(region)
    unseen: list[errors.KmsError] = []

    def unless_denied(call: Callable[[], T]) -> T | None:
        try:
            return call()
        except errors.AccessDeniedError as error:
            if _names.parse_arn(key) is None:
                raise
            unseen.append(error)
            return None

    doing = "kms:DescribeKey"
    metadata = unless_denied(lambda: _metadata.fetch(client, name, region, doing))
    if metadata is None:
        return DescribedKey(key, unseen=tuple(unseen))
    rotated_at = unless_denied(lambda: _rotated_at(client, metadata.arn)) if rotations else None
    return DescribedKey(metadata.arn, metadata.material_id, rotated_at or 0, tuple(unseen))


def _rotated_at(client: KMSClient, arn: str) -> int:
    doing = "listing the key's rotations (kms:ListKeyRotations)"
    try:
        rotations = responses.ask_all(client, "list_key_rotations", "Rotations", doing, arn, KeyId=arn)
    except errors.KmsError as error:
        if error.code != "UnsupportedOperationException":
            raise
        return 0
    return int(max((rotation.need("RotationDate", datetime).timestamp() for rotation in rotations), default=0))
