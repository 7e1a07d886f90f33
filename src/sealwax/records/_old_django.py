"""What the encrypted fields of Django's packages stored: Fernet tokens, or signed AES-CBC of pickles."""

from __future__ import annotations

import datetime
import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from sealwax.errors import OldFormError
from sealwax.records import _old_pickle
from sealwax.records._old_forms import Fernet, QuietForm, fernet_of, several
from sealwax.records._old_text import decoded, encoded, with_zone, without_zone

_HEAD: Final = struct.Struct(">cQ")
_VERSION: Final = b"\x80"
_BLOCK: Final = 16
_MAC: Final = 32
_CLOCK_SKEW_SECONDS: Final = 60


class DjangoFernetFields(Fernet):
    """What django-fernet-fields, django-fernet-fields-v2 and djfernet store: Fernet tokens under keys of the settings.

    Args:
        *keys: ``FERNET_KEYS`` of the settings, the newest first, or ``SECRET_KEY`` if there are none.
        hkdf: ``FERNET_USE_HKDF`` of the settings.
        prefix: ``DJFERNET_PREFIX`` of the settings, which djfernet alone has.
        zone: the time zone of datetimes that were stored without one: UTC with ``USE_TZ`` on SQLite and MySQL.

    Raises:
        ValueError: there is no key, or without HKDF one is not 32 bytes in base64url.

    Example:
        >>> moving = Moving(DjangoFernetFields(*settings.FERNET_KEYS), writes="old")
    """

    name = "django-fernet-fields"

    def __init__(
        self,
        *keys: str | bytes,
        hkdf: bool = True,
        prefix: bytes = b"django-fernet-fields",
        zone: datetime.tzinfo | None = None,
    ) -> None:
        if not hkdf:
            super().__init__(*keys, zone=zone)
            return
        self._fernet = several([fernet_of(_hkdf_key(_bytes(key), prefix)) for key in keys])
        self._zone = zone


class DjangoFernetEncryptedFields(Fernet):
    """What django-fernet-encrypted-fields stores: Fernet tokens as text, under keys of the settings.

    That package takes text that is not a token of its keys for plaintext, and so hides wrong keys and plaintext alike;
    name plaintext if there is any: ``AnyOf(DjangoFernetEncryptedFields(...), Plaintext())``. Its JSON field encrypts
    each leaf as text: numbers, booleans and null come back as text, as they always did.

    Args:
        *secret_keys: ``SECRET_KEY`` of the settings, then ``SECRET_KEY_FALLBACKS``.
        salts: ``SALT_KEY`` of the settings, as a list.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Raises:
        ValueError: there is no key or no salt.

    Example:
        >>> moving = Moving(DjangoFernetEncryptedFields(settings.SECRET_KEY, salts=settings.SALT_KEY), writes="old")
    """

    name = "django-fernet-encrypted-fields"

    def __init__(self, *secret_keys: str, salts: Sequence[str] | str, zone: datetime.tzinfo | None = None) -> None:
        salts = [salts] if isinstance(salts, str) else salts
        keys = [_pbkdf2_key(_bytes(key), _bytes(salt), 100_000) for key in secret_keys for salt in salts]
        self._fernet = several([fernet_of(key) for key in keys])
        self._zone = zone

    def recognizes(self, stored: object) -> bool:
        """Whether a value looks like a Fernet token, or JSON of such tokens.

        Args:
            stored: what a column holds.
        """
        if isinstance(stored, str) and stored.startswith(("{", "[")):
            return '"gAAAAA' in stored
        return isinstance(stored, dict | list) or super().recognizes(stored)

    def _read(self, stored: object, kind: type) -> object:
        if kind not in (dict, list):
            return super()._read(stored, kind)
        value: object = stored
        if isinstance(stored, bytes | bytearray | memoryview):
            stored = decoded(bytes(stored))
        if isinstance(stored, str):
            value = None
            with suppress(ValueError, RecursionError):
                value = json.loads(stored)
        opened: object = None
        with suppress(RecursionError):
            opened = _mapped(value, lambda token: super(DjangoFernetEncryptedFields, self)._read(token, str))
        if type(opened) is not kind:
            raise OldFormError(f"it does not hold a value of type {kind.__name__}")
        return opened

    def _write(self, value: object, *, text: bool) -> str | bytes:
        if not isinstance(value, dict | list):
            return super()._write(value, text=text)
        mapped: str | None = None
        with suppress(RecursionError, TypeError, ValueError):
            tokens = _mapped(value, lambda leaf: super(DjangoFernetEncryptedFields, self)._write(str(leaf), text=True))
            mapped = json.dumps(tokens)
        if mapped is None:
            raise OldFormError("it is not JSON")
        return mapped if text else encoded(mapped)


class DjangoCryptography(QuietForm):
    """What ``encrypt(field)`` of django-cryptography 1.1 stores: pickles under AES-CBC, signed with HMAC-SHA-256.

    The signature is checked before anything is decrypted, and a pickle is read without loading anything of a program:
    None, text, bytes, numbers, dates and times, UUIDs, and dicts, lists and tuples of them.

    Args:
        secret_key: ``SECRET_KEY`` of the settings, which signs.
        cryptography_key: ``CRYPTOGRAPHY_KEY`` of the settings, which encrypts; None if there is none.
        salt: ``CRYPTOGRAPHY_SALT`` of the settings.
        field_key: ``key`` of ``encrypt(field, key=...)``, in place of both for encrypting.
        ttl: ``ttl`` of ``encrypt(field, ttl=...)``: older values are an error; without it, their time is not looked at.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Raises:
        ValueError: ``field_key`` does not have 16, 24 or 32 bytes.

    Example:
        >>> moving = Moving(DjangoCryptography(settings.SECRET_KEY), writes="old")
    """

    name = "django-cryptography"

    def __init__(
        self,
        secret_key: str | bytes,
        *,
        cryptography_key: str | bytes | None = None,
        salt: str | bytes = "django-cryptography",
        field_key: bytes | None = None,
        ttl: float | None = None,
        zone: datetime.tzinfo | None = None,
    ) -> None:
        if field_key is not None and len(field_key) not in (16, 24, 32):
            raise ValueError("field_key has 16, 24 or 32 bytes")
        key = field_key or _pbkdf2_key(_bytes(cryptography_key or secret_key), _bytes(salt), 30_000)
        self._cipher = algorithms.AES(key)
        self._signer = HMAC(_bytes(secret_key), hashes.SHA256())
        self._ttl = ttl
        self._zone = zone

    def recognizes(self, stored: object) -> bool:
        """Whether a value begins as one that django-cryptography signed, whole or cut off.

        Args:
            stored: what a column holds.
        """
        if not isinstance(stored, bytes | bytearray | memoryview):
            return False
        # Their time has 64 bits, and reached none of the upper ones.
        return bytes(stored[:5]) == _VERSION + bytes(4) and len(stored) >= _HEAD.size

    def _read(self, stored: object, kind: type) -> object:
        if not isinstance(stored, bytes | bytearray | memoryview) or len(stored) < _HEAD.size + _MAC:
            raise OldFormError("it is too short, or no bytes")
        value = _old_pickle.loads(self._decrypted(bytes(stored)))
        if kind in (dict, list):
            value = _lists(value)
        if type(value) is not kind:
            raise OldFormError(f"it holds a value of type {type(value).__name__}, not {kind.__name__}")
        return with_zone(value, self._zone)

    def _write(self, value: object, *, text: bool) -> str | bytes:
        if text:
            raise OldFormError("django-cryptography stores bytes, and the column is one of text")
        padder = padding.PKCS7(8 * _BLOCK).padder()
        plain = padder.update(_old_pickle.dumps(without_zone(value, self._zone))) + padder.finalize()
        vector = os.urandom(_BLOCK)
        encryptor = Cipher(self._cipher, modes.CBC(vector)).encryptor()
        signed = _HEAD.pack(_VERSION, int(time.time())) + vector + encryptor.update(plain) + encryptor.finalize()
        signer = self._signer.copy()
        signer.update(signed)
        return signed + signer.finalize()

    def _decrypted(self, stored: bytes) -> bytes:
        signed, signature = stored[:-_MAC], stored[-_MAC:]
        signer = self._signer.copy()
        signer.update(signed)
        plain: bytes | None = None
        with suppress(InvalidSignature, ValueError):
            signer.verify(signature)
            self._check_head(signed)
            decryptor = Cipher(self._cipher, modes.CBC(signed[_HEAD.size : _HEAD.size + _BLOCK])).decryptor()
            padded = decryptor.update(signed[_HEAD.size + _BLOCK :]) + decryptor.finalize()
            unpadder = padding.PKCS7(8 * _BLOCK).unpadder()
            plain = unpadder.update(padded) + unpadder.finalize()
        if plain is None:
            raise OldFormError("it was altered, or is of another key")
        return plain

    def _check_head(self, signed: bytes) -> None:
        version, at = _HEAD.unpack_from(signed)
        if version != _VERSION:
            raise ValueError
        if self._ttl is not None and abs(time.time() - at) > self._ttl + _CLOCK_SKEW_SECONDS:
            raise OldFormError("it has expired: it is older than ttl")


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def _hkdf_key(key: bytes, prefix: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=prefix + b"-hkdf-salt", info=prefix).derive(key)


def _pbkdf2_key(key: bytes, salt: bytes, iterations: int) -> bytes:
    return PBKDF2HMAC(hashes.SHA256(), 32, salt, iterations).derive(key)


def _mapped(value: object, change: Callable[[Any], object]) -> object:
    """Return JSON with each leaf changed."""
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return change(value)


def _lists(value: object) -> object:
    """Return JSON with lists in place of tuples."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
