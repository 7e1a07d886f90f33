"""Data keys, wrapped keys, and the protocol of keyrings.

A keyring owns its data keys and *lends* them: the caller passes a function that uses the key, and gets what it returns.
The owner wipes the key afterwards, so no caller can forget to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, Self, TypeVar, runtime_checkable

T = TypeVar("T")

DATA_KEY_BYTES: Final = 32
_ZEROS: Final = {size: bytes(size) for size in (12, 32, 76, 1 << 16)}
_MANY_ZEROS: Final = _ZEROS[1 << 16]
PROVIDER_AWS_KMS: Final = 1
# The cipher suite: an envelope names it, and a cache keeps the data keys of each suite apart.
SUITE_COBBLESTONE_256: Final = 1


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a buffer with zeros in place; assigning the same number of bytes never moves it."""
    size = len(buffer)
    zeros = _ZEROS.get(size)
    if zeros is not None:
        buffer[:] = zeros
        return
    with memoryview(buffer) as view:
        for start in range(0, size, len(_MANY_ZEROS)):
            part = view[start : start + len(_MANY_ZEROS)]
            part[:] = _MANY_ZEROS[: len(part)]


class KeyInBuffer:
    """A plaintext key in a buffer of its own.

    It is wiped by ``close()``, at the end of ``with`` and on deletion. It cannot be printed, compared, copied or
    pickled.

    Args:
        buffer: taken over without a copy.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer

    @property
    def buffer(self) -> bytearray:
        """The key itself, valid only during the loan. Never copy it into ``bytes``, which cannot be wiped."""
        if not self._buffer:
            raise ValueError("the data key has been wiped")
        return self._buffer

    def close(self) -> None:
        """Wipe the key. Closing twice is harmless."""
        wipe(self._buffer)
        self._buffer = bytearray()

    def duplicate(self) -> Self:
        """Copy the key, for a keyring that keeps it.

        Returns:
            The same key in a buffer of its own.

        Raises:
            ValueError: the key has been wiped.
        """
        return type(self)(bytearray(self.buffer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a data key cannot be copied, pickled or compared")

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of the key


class DataKey(KeyInBuffer):
    """A plaintext data key (DEK) in a buffer of its own.

    It is wiped by ``close()``, at the end of ``with`` and on deletion. It cannot be printed, compared, copied or
    pickled.

    Args:
        buffer: exactly 32 bytes. The data key takes it over without copying it, and wipes it if this raises.

    Raises:
        ValueError: the buffer has another length.

    Example:
        >>> with DataKey(bytearray(os.urandom(32))) as data_key:
        ...     use(data_key, wrapped_keys)
    """

    __slots__ = ()

    def __init__(self, buffer: bytearray) -> None:
        super().__init__(buffer)
        if len(buffer) != DATA_KEY_BYTES:
            size = len(buffer)
            self.close()
            raise ValueError(f"a data key must have {DATA_KEY_BYTES} bytes, not {size}")


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as an envelope stores it: wrapped by one KMS key. None of it is secret, and none is authenticated.

    Args:
        key_arn: the ARN of the KMS key that wrapped it.
        ciphertext: the CiphertextBlob of KMS, 1 to 6144 bytes.
        key_material_id: the 32-byte id of the KMS key's material; empty if KMS gave none.
        wrapped_at: when it was wrapped, in Unix seconds; 0 if unknown.
        provider: 1 for AWS KMS; this release knows no other.
    """

    key_arn: str
    ciphertext: bytes
    key_material_id: bytes = b""
    wrapped_at: int = 0
    provider: int = PROVIDER_AWS_KMS


@dataclass(frozen=True, slots=True)
class UnnamedKey(WrappedKey):
    """A data key of another format that does not say which KMS key wrapped it. ``key_arn`` is empty.

    Any allowed key may have wrapped it. No envelope has one.
    """


# The clock of time.monotonic, even if a test has frozen that one: waiting takes real time.
CLOCK: Final[int] = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the seconds of ``time.monotonic``."""
    return time.clock_gettime(CLOCK)


# When the current operation was requested, in seconds of now(); unset if it began at once. A task may have queued for a
# thread since then, and counts as having waited for a call that failed meanwhile.
asked_at: Final[ContextVar[float | None]] = ContextVar("asked_at", default=None)


class NotReadyError(Exception):
    """A keyring that must not wait would have to. It never leaves the library."""


class Keyring(Protocol):
    """Makes, unwraps and re-wraps data keys, from any number of threads at once.

    Implement this protocol to take data keys from elsewhere than AWS KMS. Optional: ``sealwax.events.CountsKmsCalls``.
    """

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        """Lend a new data key and its wrapped forms to ``use``.

        Args:
            context: the KMS context, bound to every wrapped form.
            use: called once with the data key and its wrapped keys; it must not keep the data key.
            plaintext_bytes: how many bytes the key will encrypt; None if not known yet.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: there is no data key.
        """
        ...

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Lend the data key of an envelope to ``use``.

        The keyring chooses the order of attempts. If ``use`` raises ``CommitmentError``, the key does not fit the
        payload: that attempt has failed, and the next one follows.

        Args:
            wrapped_keys: the wrapped forms that the envelope stores.
            context: the KMS context of the envelope.
            use: called with the data key; it must not keep it.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: no attempt was possible, or all failed.
            CommitmentError: only one attempt was possible, and its key does not fit.
        """
        ...

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Wrap the same data key under other KMS keys. The data key never enters this process.

        Args:
            wrapped_keys: the wrapped forms that the envelope stores.
            context: the KMS context of the envelope.
            to: the new KMS keys.

        Returns:
            The new wrapped keys, one for each key of ``to``.

        Raises:
            KmsError: no wrapped key could be re-wrapped.
        """
        ...


def kept_by_rewrap(wrapped_keys: Sequence[WrappedKey]) -> tuple[WrappedKey, ...]:
    """Return the wrapped keys of other providers: a re-wrap keeps them, since dropping one could lose the data."""
    return tuple(key for key in wrapped_keys if key.provider != PROVIDER_AWS_KMS)


# --- optional protocols inside the library


class Loan(Protocol):
    """A data key that a keyring holds and may lend, with a note of what was computed for it."""

    key: DataKey
    wrapped_keys: tuple[WrappedKey, ...]
    note: Any


class Holder(Keyring, Protocol):
    """A keyring that holds data keys and lends them in few steps; see ``cache.nowait.Ready``."""

    def take(self, mark: Hashable, size: int | None) -> Loan | None: ...

    def give_back(self, loan: Any) -> None: ...

    def find(
        self, mark: Hashable, pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None
    ) -> Loan | None: ...

    def mark(self, loan: Any, mark: Hashable, note: object) -> None: ...


@runtime_checkable
class SupportsReady(Protocol):
    """A keyring with a part that never waits, as a cache has."""

    def _ready(self) -> Holder:
        """Return the part that lends what is held now, and raises ``NotReadyError`` instead of waiting."""
        ...
