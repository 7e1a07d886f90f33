"""Objects in other formats, built from their published layouts around wrapped keys of the lab or of AWS KMS itself."""

from __future__ import annotations

import base64
import functools
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sealwax.lab import Lab

ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-3333-4444-555555555555"
OTHER: Final = "arn:aws:kms:us-east-1:111122223333:key/99999999-2222-3333-4444-555555555555"
MULTI: Final = "arn:aws:kms:us-east-1:111122223333:key/mrk-11111111222233334444555555555555"
VECTORS: Final = Path(__file__).parent.parent / "vectors"
NOISE: Final = bytes(range(7, 256)) * 3


def vectors() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / "esdk-v2-messages.json").read_text())["messages"]
    assert len(found) == 46
    return found


@functools.cache
def aws_blob() -> bytes:
    """A CiphertextBlob that AWS KMS has made: what one of the published messages has for its data key."""
    message = base64.b64decode(next(each for each in vectors() if each["provider"] == "aws-kms")["ciphertext"])
    at = message.index(b":key/") + 5 + 36
    size = int.from_bytes(message[at : at + 2], "big")
    return message[at + 2 : at + 2 + size]


def lab_blob(lab: Lab, key: str, context: Mapping[str, str] | None = None) -> bytes:
    made = lab.session().client("kms").generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context or {})
    blob: bytes = made["CiphertextBlob"]
    return blob


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def esdk(
    *edks: tuple[str, str], version: int = 2, suite: int | None = None, context: Mapping[str, str] | None = None
) -> bytes:
    """A message with these pairs of provider and information, as far as its header goes, and a body of noise."""
    suite = suite or (0x0478 if version == 2 else 0x0178)
    pairs = b"".join(_sized(name.encode()) + _sized(value.encode()) for name, value in (context or {}).items())
    stored = len(context).to_bytes(2, "big") + pairs if context else b""
    keys = b"".join(_sized(provider.encode()) + _sized(info.encode()) + _sized(aws_blob()) for provider, info in edks)
    body = _sized(stored) + len(edks).to_bytes(2, "big") + keys + b"\2"
    if version == 2:
        return b"\2" + suite.to_bytes(2, "big") + bytes(range(32)) + body + b"\0\0\x10\0" + NOISE
    start = b"\1\x80" + suite.to_bytes(2, "big") + bytes(range(16))
    return start + body + bytes(4) + b"\x0c" + b"\0\0\x10\0" + NOISE


def envkms(blob: bytes) -> bytes:
    context = b'{"purpose": "backup"}'
    return b"ENVKMS01" + len(blob).to_bytes(4, "big") + blob + len(context).to_bytes(4, "big") + context + NOISE


def guide(blob: bytes, order: Any = "big") -> bytes:
    """What the boto3 guide's example writes: its Fernet token is text."""
    token = base64.urlsafe_b64encode(b"\x80" + (1_700_000_000).to_bytes(8, "big") + NOISE)
    return len(blob).to_bytes(4, order) + blob + token


def tink(blob: bytes) -> bytes:
    return len(blob).to_bytes(4, "big") + blob + NOISE[:12] + NOISE


def tink_keyset(blob: bytes) -> bytes:
    info = {"primaryKeyId": 1, "keyInfo": [{"typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmKey"}]}
    return json.dumps({"encryptedKeyset": base64.b64encode(blob).decode(), "keysetInfo": info}).encode()


# --- the S3 Encryption Client


def s3ec(version: int, blob: bytes, wrap: str | None = None, key: str | None = None) -> dict[str, str]:
    """The metadata of an object."""
    text = base64.b64encode(blob).decode()
    description = {"aws:x-amz-cek-alg": "115" if version == 3 else "AES/GCM/NoPadding"} | (
        {"kms_cmk_id": key} if key else {}
    )
    if version == 1:
        return {"x-amz-key": text, "x-amz-iv": "AAAA", "x-amz-matdesc": "{}"}
    if version == 2:
        return {
            "x-amz-key-v2": text,
            "x-amz-iv": "AAAAAAAAAAAAAAAA",
            "x-amz-matdesc": json.dumps(description),
            "x-amz-wrap-alg": wrap or "kms+context",
            "x-amz-cek-alg": "AES/GCM/NoPadding",
            "x-amz-tag-len": "128",
        }
    commitment = base64.b64encode(bytes(28)).decode()
    own = {"x-amz-c": "115", "x-amz-d": commitment, "x-amz-i": commitment}
    return own | {"x-amz-3": text, "x-amz-w": wrap or "12", "x-amz-t": json.dumps(description)}


# --- sops. The layouts are those that sops 3.9 writes.

SEALED: Final = "ENC[AES256_GCM,data:qL0=,iv:AAAA,tag:BBBB==,type:str]"


def _kms(arn: str, blob: bytes) -> dict[str, Any]:
    enc = base64.b64encode(blob).decode()
    return {"arn": arn, "created_at": "2026-01-01T00:00:00Z", "enc": enc, "aws_profile": ""}


def sops_section(*arns: str, blob: bytes = b"\1\2\2\0x") -> dict[str, Any]:
    return {
        "kms": [_kms(arn, blob) for arn in arns] or None,
        "gcp_kms": None,
        "azure_kv": None,
        "hc_vault": None,
        "age": None,
        "lastmodified": "2026-01-01T00:00:00Z",
        "mac": SEALED,
        "pgp": None,
        "unencrypted_suffix": "_unencrypted",
        "version": "3.9.4",
    }


def sops_json(*arns: str, more: Mapping[str, Any] | None = None) -> bytes:
    section = {**sops_section(*arns), **(more or {})}
    return json.dumps({"password": SEALED, "sops": section}, indent="\t").encode()


def sops_yaml(*arns: str, extra: str = "", between: str = "") -> bytes:
    """With what is inserted after each key's ARN (``between``), and as further fields of the section (``extra``)."""
    keys = "".join(
        f'        - arn: {arn}\n{between}          created_at: "2026-01-01T00:00:00Z"\n          enc: AQICAHhx\n'
        for arn in arns
    )
    return (
        f"password: {SEALED}\nsops:\n    kms:{'' if arns else ' []'}\n{keys}    gcp_kms: []\n    azure_kv: []\n"
        f'{extra}    lastmodified: "2026-01-01T00:00:00Z"\n    mac: {SEALED}\n    pgp: []\n'
        "    unencrypted_suffix: _unencrypted\n    version: 3.9.4\n"
    ).encode()


def _flat(prefix: str, arns: tuple[str, ...], equals: str) -> str:
    lines = []
    for number, arn in enumerate(arns):
        lines += [
            f"{prefix}kms__list_{number}__map_{name}{equals}{value}" for name, value in _kms(arn, b"\1\2").items()
        ]
    lines += [f"{prefix}lastmodified{equals}2026-01-01T00:00:00Z", f"{prefix}mac{equals}{SEALED}"]
    return "\n".join([*lines, f"{prefix}version{equals}3.9.4", ""])


def sops_dotenv(*arns: str) -> bytes:
    return f"PASSWORD={SEALED}\n{_flat('sops_', arns, '=')}".encode()


def sops_ini(*arns: str) -> bytes:
    return f"[main]\npassword = {SEALED}\n\n[sops]\n{_flat('', arns, ' = ')}".encode()


def everything(blob: bytes) -> dict[str, bytes]:
    """One file in each format that tells itself by its bytes, under :data:`ARN` where the format names keys."""
    return {
        "esdk-v1": esdk(("aws-kms", ARN), version=1),
        "esdk-v2": esdk(("aws-kms", ARN)),
        "s3ec-instruction-file": json.dumps(s3ec(2, blob)).encode(),
        "sops": sops_yaml(ARN),
        "envkms01": envkms(blob),
        "boto3-fernet": guide(blob),
        "tink": tink(blob),
        "tink-keyset": tink_keyset(blob),
        "kms-ciphertext": blob,
        "parquet": b"PARE" + NOISE + b"PARE",
        "kubernetes": b"k8s:enc:kms:v2:provider:" + NOISE,
    }


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)
