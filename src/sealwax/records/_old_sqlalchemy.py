"""What the encrypted types of sqlalchemy-utils stored: base64 of AES-CBC or AES-GCM, or Fernet tokens.

All three take the SHA-256 of their key, and encrypt a value as text. Both ``EncryptedType`` (bytes) and
``StringEncryptedType`` (text) are read.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
from contextlib import suppress
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax.errors import OldFormError
from sealwax.records._old_forms import Fernet, QuietForm, bytes_of, fernet_of, several
from sealwax.records._old_text import decoded, encoded, read_text, write_text

_BLOCK: Final = 16
_NONCE: Final = 12
_TAG: Final = 16

PaddingName = Literal["pkcs5", "oneandzeroes", "zeroes", "naive"]


class _Engine(QuietForm):
    """Text that is encrypted, and then in base64."""

    _least: int
    _unit: int

    def recognizes(self, stored: object) -> bool:
        """Whether a value is base64 of a possible length; nothing else tells it from text.

        Args:
            stored: what a column holds.
        """
        return self._data_of(stored) is not None

    def _data_of(self, stored: object) -> bytes | None:
        digits = bytes_of(stored)
        if digits is None:
            return None
        data = b""
        with suppress(ValueError):
            data = base64.b64decode(digits, validate=True)
        return data if len(data) >= self._least and len(data) % self._unit == 0 else None

    def _read(self, stored: object, kind: type) -> object:
        data = self._data_of(stored)
        if data is None:
            raise OldFormError("it is not base64 of a possible length")
        if kind is bytes:
            raise OldFormError("sqlalchemy-utils encrypts text, never bytes")
        return read_text(decoded(self._decrypt(data)), kind, self._zone)

    def _write(self, value: object, *, text: bool) -> str | bytes:
        plain = encoded(write_text(value, self._zone, bools=lowercase))
        digits = base64.b64encode(self._encrypt(plain))
        return digits.decode("ascii") if text else digits

    def _decrypt(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _encrypt(self, plain: bytes) -> bytes:
        raise NotImplementedError


class AesEngine(_Engine):
    """What sqlalchemy-utils stores with ``AesEngine``, its default: AES-256-CBC under a fixed initialization vector.

    Nothing is authenticated: whoever can write to the column can put another row's value there, or change single
    characters of it, unseen. Equal values look equal. A wrong key is found by padding and UTF-8 alone, which one value
    of up to 15 bytes in 1.5 million passes, and one of up to 31 bytes in 10^13.

    Args:
        key: as it was given to the type.
        padding: as it was given to the type. ``"naive"`` strips asterisks at the end of a value, as it always did.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Raises:
        ValueError: there is no such padding.

    Example:
        >>> moving = Moving(AesEngine("secret key", "pkcs5"), writes="old")
    """

    name = "aes-engine"
    _least = _unit = _BLOCK

    def __init__(
        self, key: str | bytes, padding: PaddingName = "naive", *, zone: datetime.tzinfo | None = None
    ) -> None:
        if padding not in ("pkcs5", "oneandzeroes", "zeroes", "naive"):
            raise ValueError('padding is "pkcs5", "oneandzeroes", "zeroes" or "naive"')
        hashed = hashed_key(key)
        # The library fixed the initialization vector; it is not our choice.
        self._cipher = Cipher(algorithms.AES(hashed), modes.CBC(hashed[:_BLOCK]))
        self._padding: PaddingName = padding
        self._zone = zone

    def _decrypt(self, data: bytes) -> bytes:
        decryptor = self._cipher.decryptor()
        padded = decryptor.update(data) + decryptor.finalize()
        plain = _unpadded(padded, self._padding)
        if plain is None:
            raise OldFormError("its padding is wrong: it was altered, or is of another key or padding")
        return plain

    def _encrypt(self, plain: bytes) -> bytes:
        if self._padding == "naive" and plain.endswith(b"*"):
            raise OldFormError("the naive padding would strip the asterisk at its end")
        count = _BLOCK - len(plain) % _BLOCK
        padding = {
            "pkcs5": bytes([count]) * count,
            "oneandzeroes": b"\x80" + bytes(count - 1),
            "zeroes": bytes(count - 1) + bytes([count]),
            "naive": b"*" * count,
        }[self._padding]
        encryptor = self._cipher.encryptor()
        return encryptor.update(plain + padding) + encryptor.finalize()


class AesGcmEngine(_Engine):
    """What sqlalchemy-utils stores with ``AesGcmEngine``: AES-256-GCM, which authenticates the value, and nothing else.

    Args:
        key: as it was given to the type.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Example:
        >>> moving = Moving(AesGcmEngine("secret key"), writes="old")
    """

    name = "aes-gcm-engine"
    _least = _NONCE + _TAG
    _unit = 1

    def __init__(self, key: str | bytes, *, zone: datetime.tzinfo | None = None) -> None:
        self._gcm = AESGCM(hashed_key(key))
        self._zone = zone

    def _decrypt(self, data: bytes) -> bytes:
        nonce, tag, ciphertext = data[:_NONCE], data[_NONCE : _NONCE + _TAG], data[_NONCE + _TAG :]
        plain: bytes | None = None
        with suppress(InvalidTag):
            plain = self._gcm.decrypt(nonce, ciphertext + tag, None)
        if plain is None:
            raise OldFormError("it was altered, or is of another key")
        return plain

    def _encrypt(self, plain: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        sealed = self._gcm.encrypt(nonce, plain, None)
        return nonce + sealed[-_TAG:] + sealed[:-_TAG]


class FernetEngine(Fernet):
    """What sqlalchemy-utils stores with ``FernetEngine``: Fernet tokens under the SHA-256 of a key.

    Args:
        *keys: as they were given to the type, the newest first: it writes.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Raises:
        ValueError: there is no key.

    Example:
        >>> moving = Moving(FernetEngine("secret key"), writes="old")
    """

    name = "fernet-engine"

    def __init__(self, *keys: str | bytes, zone: datetime.tzinfo | None = None) -> None:
        self._fernet = several([fernet_of(hashed_key(key)) for key in keys])
        self._zone = zone

    def _spelled(self, value: bool) -> str:
        return lowercase(value)


def hashed_key(key: str | bytes) -> bytes:
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()


def lowercase(value: bool) -> str:
    return "true" if value else "false"


def _unpadded(padded: bytes, padding: PaddingName) -> bytes | None:
    """Return what was padded; None if nothing was padded so."""
    if padding == "naive":
        return padded.rstrip(b"*") if padded.endswith(b"*") else None
    if padding == "oneandzeroes":
        # The library strips each 80 at the end, and cannot read a value whose UTF-8 ends so.
        plain = padded.rstrip(b"\0")
        return plain[:-1] if plain.endswith(b"\x80") and len(padded) - len(plain) < _BLOCK else None
    count = padded[-1]
    fill = count if padding == "pkcs5" else 0
    right = 1 <= count <= _BLOCK and padded[-count:-1] == bytes([fill]) * (count - 1)
    return padded[:-count] if right else None
