"""One KMS key as DescribeKey and ListKeyRotations show it: its ARN, and which material it has since when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import botocore.exceptions as foreign

from sealwax import aws, errors
from sealwax.kms import names

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


def describe(key: str, clients: aws.Clients, *, rotations: bool = True) -> Described:
    """Look at one KMS key. Uses kms:DescribeKey and kms:ListKeyRotations; for a key ARN neither is indispensable.

    Args:
        key: a key ID, key ARN, alias or alias ARN.
        rotations: whether ``rotated_at`` is wanted.

    Raises:
        KmsError: the key's ARN could not be found out, the key is not there, or it is of another kind.
    """
    name = names.parse(key)
    client = clients.kms(name.region or clients.region)
    unseen: list[errors.KmsError] = []

    def ask(doing: str, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except (foreign.ClientError, foreign.BotoCoreError) as error:
            failure = aws.translate(error, doing, key)
            if names.parse_arn(key) is None or not isinstance(failure, errors.AccessDeniedError):
                raise failure from None
            unseen.append(failure)
            return None

    answer = ask("looking at the key (kms:DescribeKey)", lambda: client.describe_key(KeyId=key))
    if answer is None:
        return Described(key, unseen=tuple(unseen))
    metadata: Any = answer["KeyMetadata"]
    arn, material_id = metadata["Arn"], bytes.fromhex(metadata.get("CurrentKeyMaterialId", ""))
    key = arn
    if not rotations:
        return Described(arn, material_id)
    rotated_at = ask("listing the key's rotations (kms:ListKeyRotations)", lambda: _rotated_at(client, arn))
    return Described(arn, material_id, rotated_at or 0, tuple(unseen))


def _rotated_at(client: Any, arn: str) -> int:
    try:
        pages = client.get_paginator("list_key_rotations").paginate(KeyId=arn)
        times = [rotation["RotationDate"].timestamp() for page in pages for rotation in page["Rotations"]]
    except client.exceptions.UnsupportedOperationException:
        return 0
    return int(max(times, default=0))
