"""What the formats of other programs say about themselves, as values."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from sealwax._core.keyring import WrappedKey

_AWS_KMS: Final = "aws-kms"


@dataclass(frozen=True, slots=True, repr=False)
class MessageInspection:
    """What a message of the AWS Encryption SDK says about itself, read without KMS. None of it is authenticated.

    Attributes:
        format: ``"esdk-v1"`` or ``"esdk-v2"``.
        suite: the algorithm suite, such as ``"0478"``.
        message_id: 16 or 32 bytes.
        context: the stored pairs, without those of the format itself.
        wrapped_keys: the data keys that AWS KMS wrapped.
        others: who else wrapped the data key: the names of providers.
        signed: whether a signature ends the message.
        frame_bytes: how many bytes of plaintext a frame has; 0 if the message is not framed.
        allow_legacy: what ``Sealer(allow_legacy=)`` must name to read it; None if it is read without.
        payload_bytes: the size of all that follows the header, in bytes.
        plaintext_bytes: the plaintext's size in bytes; None if it cannot be told.
    """

    format: str
    suite: str
    message_id: bytes
    context: dict[str, str]
    wrapped_keys: tuple[WrappedKey, ...]
    others: tuple[str, ...]
    signed: bool
    frame_bytes: int
    allow_legacy: str | None
    payload_bytes: int
    plaintext_bytes: int | None
    _all: tuple[tuple[str, bytes, bytes], ...]

    def __repr__(self) -> str:
        return _shown(self, f"{self.format}, suite {self.suite}")

    def as_dict(self) -> dict[str, Any]:
        """Describe the message as plain data.

        Returns:
            A dict that ``json.dumps`` takes.
        """
        return {
            "format": self.format,
            "suite": self.suite,
            "message_id": self.message_id.hex(),
            "context": self.context,
            "signed": self.signed,
            "frame_bytes": self.frame_bytes or None,
            "allow_legacy": self.allow_legacy,
            "payload_bytes": self.payload_bytes,
            "plaintext_bytes": self.plaintext_bytes,
            "wrapped_keys": [_data_key_as_dict(*key) for key in self._all],
        }


@dataclass(frozen=True, slots=True, repr=False)
class ObjectInspection:
    """What an object of the S3 Encryption Client says about itself, read without KMS. None of it is authenticated.

    Attributes:
        format: ``"s3ec-v2"`` or ``"s3ec-v3"``.
        cipher: as the metadata names it: ``"AES/GCM/NoPadding"``, ``"AES/CBC/PKCS5Padding"``, or ``"115"`` (version 3).
        wrapping: ``"kms+context"`` or, in old objects, ``"kms"``.
        context: the pairs that the caller gave.
        wrapped_keys: the one wrapped data key. Only the old wrapping says which KMS key wrapped it; else the name is
            empty.
        instruction_file: whether the wrapped key is in an instruction file.
        allow_legacy: what ``Sealer(allow_legacy=)`` must name to read it; None if it is read without, or, in AES-CBC,
            never.
        payload_bytes: the object's size in bytes.
        plaintext_bytes: the plaintext's size in bytes; None if it cannot be told.
    """

    format: str
    cipher: str
    wrapping: str
    context: dict[str, str]
    wrapped_keys: tuple[WrappedKey, ...]
    instruction_file: bool
    allow_legacy: str | None
    payload_bytes: int
    plaintext_bytes: int | None

    def __repr__(self) -> str:
        return _shown(self, f"{self.format}, {self.cipher}")

    def as_dict(self) -> dict[str, Any]:
        """Describe the object as plain data.

        Returns:
            A dict that ``json.dumps`` takes.
        """
        return {
            "format": self.format,
            "cipher": self.cipher,
            "wrapping": self.wrapping,
            "context": self.context,
            "instruction_file": self.instruction_file,
            "allow_legacy": self.allow_legacy,
            "payload_bytes": self.payload_bytes,
            "plaintext_bytes": self.plaintext_bytes,
            "wrapped_keys": [
                {"provider": _AWS_KMS, "key_arn": key.key_arn or None, "ciphertext_blob": _base64(key.ciphertext)}
                for key in self.wrapped_keys
            ],
        }


def _shown(inspection: MessageInspection | ObjectInspection, what: str) -> str:
    keys = [key.key_arn for key in inspection.wrapped_keys]
    sizes = f"plaintext_bytes={inspection.plaintext_bytes}, payload_bytes={inspection.payload_bytes}"
    return f"<{type(inspection).__name__}: {what}, context={inspection.context!r}, {keys=!r}, {sizes}>"


def _data_key_as_dict(provider: str, info: bytes, ciphertext: bytes) -> dict[str, object]:
    # What a provider other than AWS KMS needs to find its key may be bytes of any kind.
    name = info.decode("utf-8", "backslashreplace")
    named = {"key_arn": name} if provider == _AWS_KMS else {"key_arn": None, "key_info": name}
    return {"provider": provider, **named, "ciphertext_blob": _base64(ciphertext)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
