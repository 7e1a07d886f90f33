"""A KMS key's metadata, from DescribeKey."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sealwax._aws import responses
from sealwax.kms import _names

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

_MATERIAL_ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Metadata:
    """A KMS key; other attributes are KMS's own words.

    Attributes:
        material_id: 32 bytes that identify its current material; empty if KMS does not say.
        multi_region: ``"primary"``, ``"replica"`` or ``"no"``.
        primary: the ARN of a replica's primary key; None for other keys.
        replicas: the ARNs of a primary key's replicas.
        deletion: when it will be deleted; None if it will not, or waits for its replicas first.
    """

    arn: str
    manager: str
    origin: str
    state: str
    spec: str
    material_id: bytes
    multi_region: str
    primary: str | None
    replicas: tuple[str, ...]
    deletion: datetime | None


def fetch(client: KMSClient, key: _names.KeyName, region: str, doing: str) -> Metadata:
    """Return a key's metadata (kms:DescribeKey).

    Args:
        region: the client's.
        doing: as for ``responses.ask``.

    Raises:
        KmsError: KMS did not answer, or refused.
    """
    answer = responses.ask(lambda: client.describe_key(KeyId=key.text), doing, key.text).part("KeyMetadata")
    kind, primary = "no", None
    replicas: tuple[str, ...] = ()
    if answer.optional("MultiRegion", bool):
        regions = answer.part("MultiRegionConfiguration")
        kind = regions.need("MultiRegionKeyType", str).lower()
        if kind == "replica":
            primary = regions.part("PrimaryKey").need("Arn", str)
        else:
            replicas = tuple(replica.need("Arn", str) for replica in regions.parts("ReplicaKeys"))
    return Metadata(
        arn=_names.check_answered(answer.need("Arn", str), key, region),
        manager=answer.need("KeyManager", str),
        origin=answer.need("Origin", str),
        state=answer.need("KeyState", str),
        spec=answer.need("KeySpec", str),
        material_id=_material_id(answer),
        multi_region=kind,
        primary=primary,
        replicas=replicas,
        deletion=answer.optional("DeletionDate", datetime),
    )


def _material_id(answer: responses.Answer) -> bytes:
    try:
        material_id = bytes.fromhex(answer.optional("CurrentKeyMaterialId", str) or "")
    except ValueError:
        material_id = None
    if material_id is None or len(material_id) not in (0, _MATERIAL_ID_BYTES):
        raise answer.unreadable("the answer's CurrentKeyMaterialId is not valid")
    return material_id
