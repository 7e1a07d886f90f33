"""What KMS answers about data keys, as values; and its refusals, with what they mean for the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sealwax import errors
from sealwax._aws.responses import Answer
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, WrappedKey, wipe
from sealwax._text import printable
from sealwax.kms import _allowlist, _names

_LARGEST_CIPHERTEXT_BYTES: Final = 6144  # KMS's limit
_MATERIAL_ID_BYTES: Final = 32


def _material_id(answer: Answer, name: str) -> bytes:
    """Return the key material ID, 64 hex digits in KMS's answer; b"" if there is none."""
    try:
        material_id = bytes.fromhex(answer.get(name, ""))
    except (TypeError, ValueError):
        return b""
    return material_id if len(material_id) == _MATERIAL_ID_BYTES else b""


def wrapped_key(answer: Answer, requested: _names.KeyName, region: str, material_id_field: str | None) -> WrappedKey:
    ciphertext = answer.need("CiphertextBlob", bytes)
    if len(ciphertext) > _LARGEST_CIPHERTEXT_BYTES:
        raise answer.unreadable(f"the answer's CiphertextBlob has {len(ciphertext)} bytes, too many for a wrapped key")
    return WrappedKey(
        _names.check_answered(answer.need("KeyId", str), requested, region),
        ciphertext,
        _material_id(answer, material_id_field) if material_id_field else b"",
        int(time.time()),
    )


def data_key(plaintext: bytearray, answer: Answer, key: str) -> DataKey:
    if not plaintext:
        raise answer.unreadable("the answer has no Plaintext")
    if len(plaintext) != DATA_KEY_BYTES:
        size = len(plaintext)
        wipe(plaintext)
        raise errors.DataKeyError(
            f"KMS key '{printable(key)}' decrypted {size} bytes, but a data key has {DATA_KEY_BYTES}: the wrapped key "
            "holds something else"
        )
    return DataKey(plaintext)


def foreign_data_key(plaintext: bytearray, answer: Answer, key: str) -> ForeignDataKey:
    if not plaintext:
        raise answer.unreadable("the answer has no Plaintext")
    try:
        return ForeignDataKey(plaintext)
    except errors.DataKeyError as error:
        raise errors.DataKeyError(f"KMS key '{printable(key)}' did not decrypt a data key: {error}") from None


def explained(error: errors.KmsError, attempt: _allowlist.Attempt) -> errors.KmsError:
    """Return an error of KMS about an alias or a related key, with what it means for the data."""
    arn = f"'{printable(attempt.wrapped_key.key_arn)}'"
    if attempt.guess is not None:
        return error
    if isinstance(error, errors.KeyNotFoundError) and attempt.related:
        pointed_at = " and the alias points to it" if attempt.by_alias else ""
        message = (
            f"{error} The data key is wrapped under {arn}: {attempt.region} can decrypt it only if that key has a "
            f"replica there{pointed_at}. If you trust that key, allow it by its ARN."
        )
    elif isinstance(error, errors.WrongKeyError) and attempt.by_alias:
        related = f"'{printable(attempt.expected_arn)}', the multi-Region key related to " if attempt.related else ""
        message = (
            f"'{printable(attempt.key_id)}' does not point to {related}{arn}, the key that the data key is wrapped "
            "under: it was re-wrapped, the alias was moved, or the data is someone else's. If you trust that key, "
            f"allow it too, by its ARN. ({error.code}, request id {error.request_id})"
        )
    else:
        return error
    return type(error)(message, code=error.code, request_id=error.request_id, key=attempt.key_id)


def all_failed(failures: Sequence[tuple[str, errors.SealwaxError]]) -> errors.SealwaxError:
    """Return one error for all failed attempts; a single error, or a CommitmentError of all, stays as it is."""
    if len(failures) == 1 or all(isinstance(error, errors.CommitmentError) for _, error in failures):
        return failures[-1][1]
    lines = "".join(f"\n  {printable(arn)}: {error}" for arn, error in failures)
    return errors.AllKeysFailedError(
        f"all {len(failures)} wrapped keys that were tried failed:{lines}", tuple(failures)
    )
