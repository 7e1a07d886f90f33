"""A keyring without a network: it keeps the public Keyring protocol, and counts what it is asked for.

Its KMS keys are derived from their names, so that two processes share them without sharing any state.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax import CachingKeyring, errors
from sealwax._core import context as ctx
from sealwax._core.keyring import DATA_KEY_BYTES, PROVIDER_AWS_KMS, DataKey, WrappedKey

T = TypeVar("T")

ALPHA: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
BETA: Final = "arn:aws:kms:us-east-1:111122223333:key/0b0b0b0b-0000-4000-8000-00000000000b"
GAMMA: Final = "arn:aws:kms:us-east-1:111122223333:key/0c0c0c0c-0000-4000-8000-00000000000c"
FOREIGN: Final = "arn:aws:kms:us-east-1:999999999999:key/0f0f0f0f-0000-4000-8000-00000000000f"

WRAPPED_AT: Final = 1_800_000_000


def wrap(key_arn: str, secret: bytes | bytearray, context: Mapping[str, str]) -> WrappedKey:
    """Return ``secret`` wrapped as a KMS key of that name would: bound to the key and the context."""
    nonce = os.urandom(12)
    sealed = AESGCM(_kek(key_arn)).encrypt(nonce, secret, _bound(key_arn, context))
    return WrappedKey(key_arn, nonce + sealed, hashlib.sha256(key_arn.encode()).digest(), WRAPPED_AT)


def unwrap(wrapped: WrappedKey, context: Mapping[str, str]) -> bytearray:
    try:
        return bytearray(
            AESGCM(_kek(wrapped.key_arn)).decrypt(
                wrapped.ciphertext[:12], wrapped.ciphertext[12:], _bound(wrapped.key_arn, context)
            )
        )
    except (InvalidTag, ValueError):
        raise errors.WrappedKeyRefusedError("refused", code="InvalidCiphertextException", key=wrapped.key_arn) from None


def _kek(key_arn: str) -> bytes:
    return hashlib.sha256(b"fake KMS key " + key_arn.encode()).digest()


def _bound(key_arn: str, context: Mapping[str, str]) -> bytes:
    return key_arn.encode() + b"\0" + ctx.encode(context)


class FakeKeyring:
    """Data keys under the keys ``keys`` (the first makes them); ``allowed`` may unwrap, all of ``keys`` by default.

    Attributes:
        calls: the operations asked for, as KMS would see them, in order.
    """

    def __init__(
        self,
        *keys: str,
        allowed: Sequence[str] | None = None,
        new_key: Callable[[int], bytes] = os.urandom,
        also_store: Sequence[WrappedKey] = (),
    ) -> None:
        self.keys = keys or (ALPHA,)
        self.allowed = tuple(self.keys if allowed is None else allowed)
        self.calls: list[str] = []
        self._new_key = new_key
        self._also_store = tuple(also_store)

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,  # noqa: ARG002
    ) -> T:
        self.calls.append("GenerateDataKey")
        with DataKey(bytearray(self._new_key(DATA_KEY_BYTES))) as data_key:
            wrapped = tuple(wrap(key, data_key.buffer, context) for key in self.keys)
            return use(data_key, wrapped + self._also_store)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        failures: list[tuple[str, errors.SealwaxError]] = []
        for wrapped in self._possible(wrapped_keys):
            self.calls.append("Decrypt")
            try:
                secret = unwrap(wrapped, context)
                if len(secret) != DATA_KEY_BYTES:
                    raise errors.DataKeyError("not a data key")
                with DataKey(secret) as data_key:
                    return use(data_key)
            except (errors.KmsError, errors.PayloadError) as error:
                failures.append((wrapped.key_arn, error))
        if len(failures) == 1:
            raise failures[0][1]
        raise errors.AllKeysFailedError("all failed", tuple(failures))

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        source = self._possible(wrapped_keys)[0]
        secret = unwrap(source, context)
        self.calls += ["ReEncrypt"] * len(to)
        return tuple(wrap(key, secret, context) for key in to)

    def _possible(self, wrapped_keys: Sequence[WrappedKey]) -> list[WrappedKey]:
        found = [
            wrapped
            for key in self.allowed
            for wrapped in wrapped_keys
            if wrapped.provider == PROVIDER_AWS_KMS and wrapped.key_arn == key
        ]
        if not found:
            raise errors.KeyNotAllowedError("none of the wrapped keys is allowed")
        return found


def timed_cache(
    keyring: Any, *, clocks: Callable[[], tuple[float, float]] | None = None, longest_wait: float = 120.0, **bounds: Any
) -> CachingKeyring:
    """Return a cache that reads the monotonic time and the time of day from ``clocks``."""

    class Timed(CachingKeyring):
        _clocks = staticmethod(clocks or CachingKeyring._clocks)
        _longest_wait = longest_wait

    return Timed(keyring, **bounds)
