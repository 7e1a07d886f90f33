"""One KMS key as DescribeKey and ListKeyRotations show it: its ARN, and which material it has since when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sealwax import errors
from sealwax._aws import responses
from sealwax._aws.session import Clients
from sealwax.kms import _metadata, _names

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described:
    """A KMS key.

    Attributes:
        material_id: the 32 bytes that name its current material; none where KMS gives none or the caller may not see.
        rotated_at: when it was last rotated, in Unix seconds; 0 where it never was or the caller may not see.
        unseen: the errors of what the caller may not see.
    """

    arn: str
    material_id: bytes = b""
    rotated_at: int = 0
    unseen: tuple[errors.KmsError, ...] = ()


def describe(key: str, clients: Clients, *, rotations: bool = True) -> Described:
    """Look at one KMS key. Uses kms:DescribeKey and kms:ListKeyRotations; for a key ARN neither is indispensable.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        rotations: whether ``rotated_at`` is wanted.

    Raises:
        KmsError: the key's ARN could not be found out, the key is not there, or it is of another kind.
    """
    name = _names.parse(key)
    region = name.region or clients.region
    client = clients.kms(region)
    unseen: list[errors.KmsError] = []

    def seen(look: Callable[[], T]) -> T | None:
        try:
            return look()
        except errors.AccessDeniedError as error:
            if _names.parse_arn(key) is None:
                raise
            unseen.append(error)
            return None

    doing = "looking at the key (kms:DescribeKey)"
    found = seen(lambda: _metadata.look(client, name, region, doing))
    if found is None or not rotations:
        return Described(found.arn if found else key, found.material_id if found else b"", unseen=tuple(unseen))
    key = found.arn
    rotated_at = seen(lambda: _rotated_at(client, key))
    return Described(key, found.material_id, rotated_at or 0, tuple(unseen))


def _rotated_at(client: Any, arn: str) -> int:
    doing = "listing the key's rotations (kms:ListKeyRotations)"
    try:
        rotations = responses.ask_all(client, "list_key_rotations", "Rotations", doing, arn, KeyId=arn)
    except errors.KmsError as error:
        if error.code != "UnsupportedOperationException":
            raise
        return 0
    return int(max((rotation.need("RotationDate", datetime).timestamp() for rotation in rotations), default=0))
