"""Data keys, wrapped keys, and the one protocol through which they are had.

A keyring owns its data keys and *lends* them: the caller hands in what to do with the key, and gets back what that
returned. A key is wiped when its owner is done with it, so that no caller can forget to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol, Self, TypeVar

T = TypeVar("T")

DATA_KEY_BYTES: Final = 32
_ZEROS: Final = {size: bytes(size) for size in (12, 32, 76, 1 << 16)}
_MANY_ZEROS: Final = _ZEROS[1 << 16]
PROVIDER_AWS_KMS: Final = 1
# What a data key is used with; an envelope names it, and a cache keeps the keys of one apart from another's.
SUITE_COBBLESTONE_256: Final = 1


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a buffer with zeros, in place: assigning as many bytes as there are moves nothing."""
    size = len(buffer)
    zeros = _ZEROS.get(size)
    if zeros is not None:
        buffer[:] = zeros
        return
    with memoryview(buffer) as view:
        for start in range(0, size, len(_MANY_ZEROS)):
            part = view[start : start + len(_MANY_ZEROS)]
            part[:] = _MANY_ZEROS[: len(part)]


class DataKey:
    """A plaintext data key (DEK) in a buffer of its own.

    It is wiped on :meth:`close`, at the end of ``with`` and on deletion. It cannot be printed, compared, copied or
    pickled. The buffer that is passed in is taken over, not copied.

    Args:
        buffer: exactly 32 bytes; wiped before the error is raised if it is not.

    Raises:
        ValueError: another length.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: bytearray) -> None:
        if len(buffer) != DATA_KEY_BYTES:
            size = len(buffer)
            wipe(buffer)
            self._buffer = bytearray()
            raise ValueError(f"a data key has {DATA_KEY_BYTES} bytes, not {size}")
        self._buffer = buffer

    @property
    def buffer(self) -> bytearray:
        """The key itself, for the duration of the loan: never copy it into ``bytes``, which cannot be wiped."""
        if not self._buffer:
            raise ValueError("the data key has been wiped")
        return self._buffer

    def close(self) -> None:
        """Wipe the key. Closing twice is harmless."""
        wipe(self._buffer)
        self._buffer = bytearray()

    def duplicate(self) -> DataKey:
        """Return the same key in a buffer of its own, for a keyring that keeps it."""
        return DataKey(bytearray(self.buffer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<DataKey>"

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError("a data key cannot be copied, pickled or compared")

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of the key


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as an envelope stores it: wrapped by one KMS key. All of it is public, and all of it is a claim.

    Args:
        key_arn: the ARN of the KMS key that wrapped it.
        ciphertext: KMS's CiphertextBlob, 1 to 6144 bytes.
        key_material_id: 32 bytes that name the KMS key's material, or none where KMS gave none.
        wrapped_at: Unix seconds, 0 where unknown.
        provider: 1 is AWS KMS; what another one means is not known to this release.
    """

    key_arn: str
    ciphertext: bytes
    key_material_id: bytes = b""
    wrapped_at: int = 0
    provider: int = PROVIDER_AWS_KMS


def kept_by_rewrap(wrapped_keys: Iterable[WrappedKey]) -> tuple[WrappedKey, ...]:
    """Return the wrapped keys that every re-wrap keeps: those of other providers than AWS KMS.

    They cannot be judged here, and dropping one might lose the data.
    """
    return tuple(key for key in wrapped_keys if key.provider != PROVIDER_AWS_KMS)


# That of time.monotonic, past what a test puts in its place: to wait takes real time, whatever a frozen clock says; and
# what that says is not the same in every thread.
CLOCK: Final[int] = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the seconds of ``time.monotonic``."""
    return time.clock_gettime(CLOCK)


# When what is being done was asked for, in seconds of :func:`now`; unset where it began at once. A task may have
# queued for a thread since, and counts as having waited for a call that failed meanwhile.
asked_at: Final[ContextVar[float | None]] = ContextVar("asked_at", default=None)


class NotReadyError(Exception):
    """A keyring that must not wait would have to; it never leaves the library."""


class Loan(Protocol):
    """A data key that a keyring holds, and may lend."""

    key: DataKey
    wrapped_keys: tuple[WrappedKey, ...]
    note: Any


class Holder(Protocol):
    """A keyring that keeps data keys, and lends them in few steps: see :class:`sealwax._core.cache.nowait.Ready`."""

    def take(self, mark: Hashable, size: int | None) -> Loan | None: ...

    def give_back(self, loan: Any) -> None: ...

    def find(
        self, mark: Hashable, pairs: frozenset[tuple[str, str]], wrapped_keys: tuple[WrappedKey, ...] | None = None
    ) -> Loan | None: ...

    def mark(self, loan: Any, mark: Hashable, note: Any) -> None: ...


class Keyring(Protocol):
    """Makes, opens and re-wraps data keys. Safe to use from many threads."""

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        """Lend a new data key, with its wrapped forms, to ``use``; return what that returns.

        Args:
            context: the KMS context, bound to every wrapped form.
            plaintext_bytes: how many bytes the key is going to encrypt; None where that is not known yet.

        Raises:
            KmsError: no data key could be had.
        """

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Lend the data key of an envelope to ``use``; return what that returns.

        The order of attempts is the keyring's. ``use`` raises :class:`~sealwax.CommitmentError` where the key does
        not fit the payload; that attempt has failed then, and the next is made.

        Raises:
            KmsError: no attempt was possible, or each failed.
            CommitmentError: the one attempt that was possible gave a key that does not fit.
        """

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Return the same data key wrapped by the KMS keys ``to``; it never enters this process.

        Raises:
            KmsError: no wrapped key could be re-wrapped.
        """
