"""The data key of another format: 16, 24 or 32 bytes. An envelope's ``DataKey`` always has 32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar, runtime_checkable

from sealwax._core.keyring import KeyInBuffer, Keyring, WrappedKey
from sealwax.errors import DataKeyError, UnsupportedEnvelopeError

T = TypeVar("T")

SIZES: Final = (16, 24, 32)


class ForeignDataKey(KeyInBuffer):
    """The plaintext data key of another format, in a buffer of its own; as safe as an envelope's ``DataKey``.

    Args:
        buffer: 16, 24 or 32 bytes. It is taken over without a copy, and wiped if this raises.

    Raises:
        DataKeyError: the buffer has another length.
    """

    __slots__ = ()

    def __init__(self, buffer: bytearray) -> None:
        super().__init__(buffer)
        if len(buffer) not in SIZES:
            size = len(buffer)
            self.close()
            raise DataKeyError(f"a data key has 16, 24 or 32 bytes, not {size}")


@runtime_checkable
class LendsForeignKeys(Protocol):
    """A keyring that also unwraps data keys of 16 and 24 bytes, which no envelope has."""

    def _unwrap_foreign(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
    ) -> T:
        """Lend the data key to ``use``, as ``unwrap`` does."""
        ...


def unwrap_foreign(
    keyring: Keyring, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
) -> T:
    """Lend a data key of 16 or 24 bytes to ``use``, as ``Keyring.unwrap`` does.

    Raises:
        KmsError: as for ``Keyring.unwrap``.
        UnsupportedEnvelopeError: the keyring unwraps only data keys of envelopes.
    """
    if not isinstance(keyring, LendsForeignKeys):
        raise UnsupportedEnvelopeError(
            f"the data key has less than 32 bytes, and {type(keyring).__name__} unwraps only those of 32"
        )
    return keyring._unwrap_foreign(wrapped_keys, context, use)


@runtime_checkable
class ChangesContexts(Protocol):
    """A keyring that also re-wraps data keys of formats that bind them to the name of their KMS key."""

    def _rewrap_to(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        to: Sequence[str],
        new_context: Mapping[str, str],
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap as ``rewrap`` does, and bind the new wrapped keys to another context."""
        ...


@runtime_checkable
class TellsKeys(Protocol):
    """A keyring that can ask whether a KMS key wrapped a data key that does not say so itself."""

    def _rewrapped_within(self, ciphertext: bytes, context: Mapping[str, str], key: str) -> bytes | None:
        """Return this data key as a key re-wraps it to itself; which keys are allowed does not count.

        It is the same under the key's current material; None if another key wrapped it.
        """
        ...


def rewrapped_within(keyring: Keyring, ciphertext: bytes, context: Mapping[str, str], key: str) -> bytes | None:
    """Return this data key as a KMS key re-wraps it to itself: the same if it is under the key's current material.

    Returns:
        None if another key wrapped it, or the keyring cannot ask.

    Raises:
        KmsError: KMS did not answer, or for another reason than that another key wrapped it.
    """
    return keyring._rewrapped_within(ciphertext, context, key) if isinstance(keyring, TellsKeys) else None


def rewrap_to(
    keyring: Keyring,
    wrapped_keys: Sequence[WrappedKey],
    context: Mapping[str, str],
    to: Sequence[str],
    new_context: Mapping[str, str],
) -> tuple[WrappedKey, ...]:
    """Re-wrap as ``Keyring.rewrap`` does, and bind the new wrapped keys to another context.

    Raises:
        KmsError: as for ``Keyring.rewrap``.
        UnsupportedEnvelopeError: the keyring cannot change the context.
    """
    if new_context == context:
        return keyring.rewrap(wrapped_keys, context, to)
    if not isinstance(keyring, ChangesContexts):
        raise UnsupportedEnvelopeError(
            f"the data key is bound to the name of its KMS key, and {type(keyring).__name__} does not change what a "
            "data key is bound to"
        )
    return keyring._rewrap_to(wrapped_keys, context, to, new_context)
