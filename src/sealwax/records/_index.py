"""Blind indexes: a keyed hash of a value, cut short, by which a database finds sealed values that are equal.

::

    index = HMAC-SHA-256(index key, enc(normalized value)), its first bits

The index key is derived from a data key of its own kind, so that whoever searches need not be able to open. An index is
not authenticated and may be that of other values too: what it finds is opened, and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from sealwax._core import fork_locks, validate
from sealwax._core.aio import in_thread
from sealwax._core.format import payload
from sealwax._core.format.io import refuse_copies
from sealwax.errors import KeyNotLoadedError
from sealwax.records import _field
from sealwax.records._held import Held
from sealwax.records._keys import IndexKey
from sealwax.records._normalize import normalizer
from sealwax.records._ring import Ring

# From here on, two values never have one index by chance.
UNIQUE_BITS: Final = 128
MAX_BITS: Final = 256
# The key, and until when it may be used by the monotonic clock and by the time of day.
_Keyed = tuple[IndexKey, float, float]


class IndexSettings(Protocol):
    """What the indexes of one ``Records`` share."""

    @property
    def monotonic(self) -> Callable[[], float]: ...

    @property
    def wall(self) -> Callable[[], float]: ...


class Index:
    """Makes the blind indexes of one field, of one scope; ``Records.index`` makes it.

    Any number of threads use it at once. It holds a key, so it cannot be copied or pickled.

    Example:
        >>> email = records.index("users.email", normalize="email/1", bits=32, tenant="acme")
        >>> email.of("Anna@Example.com") == email.of("anna@example.com")
        True
    """

    __slots__ = (
        "__weakref__",
        "_bound",
        "_keyed",
        "_last",
        "_normalize",
        "_ring",
        "_settings",
        "bits",
        "named",
        "size",
    )
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = refuse_copies

    def __init__(self, settings: IndexSettings, ring: Ring, local: bytes, name: str, normalize: str, bits: int) -> None:
        self._settings = settings
        self._ring = ring
        self._normalize = normalizer(normalize)
        self.bits = validate.whole("bits", bits, 1, MAX_BITS)
        self.size = (self.bits + 7) // 8
        self._last = 0xFF << (-self.bits % 8) & 0xFF
        self._bound = local, name, normalize, self.bits
        self.named = f"{name} ({normalize}, {self.bits} bits)"
        self._keyed: _Keyed | None = None
        ring.listen(self)

    def __repr__(self) -> str:
        return f"<Index {self.named} of {self._ring.named()}>"

    def of(self, value: object, /) -> bytes:
        """Return the index of a value.

        The first call for a scope waits for the key store and KMS. In a running event loop it raises
        ``KeyNotLoadedError`` instead: await ``ensure_async`` first.

        Args:
            value: of a type that the normalizer takes.

        Returns:
            As many bytes as the bits take; the bits beyond are 0.

        Raises:
            TypeError, ValueError: the value is of another type, or has a character that Unicode does not define.
            ShreddedError: the scope was shredded; set its indexes to NULL.
            KeyNotLoadedError: see above.
            KeyStoreError, KmsError, KeyRowError: there is no index key.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        return self._cut(self._key().digest(self._normalize(value)))

    def of_many(self, values: Iterable[object], /) -> list[bytes]:
        """Return the index of each value; as ``of``.

        Args:
            values: as for ``of``.
        """
        normalized = [self._normalize(value) for value in values]
        key = self._key()
        return [self._cut(key.digest(value)) for value in normalized]

    def same(self, value: object, other: object, /) -> bool:
        """Whether two values are the same to the normalizer: what an index finds must be compared so.

        Args:
            value, other: as for ``of``. A value that has no index, such as None, is the same as none.
        """
        try:
            return self._normalize(value) == self._normalize(other)
        except (TypeError, ValueError):
            return False

    def ensure(self) -> None:
        """Load the index key of the scope, and make it if there is none; this waits for the store and KMS.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError, KmsError, KeyRowError: the key cannot be used.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        if not self._ring.with_newest(self._take, wait=True):
            raise AssertionError

    async def ensure_async(self) -> None:
        """Load the index key as ``ensure`` does, without blocking the event loop."""
        await in_thread(self.ensure)

    def _cut(self, digest: bytes) -> bytes:
        return digest[: self.size - 1] + bytes((digest[self.size - 1] & self._last,))

    def _key(self) -> IndexKey:
        keyed = self._keyed
        if keyed is not None and self._settings.monotonic() <= keyed[1] and self._settings.wall() <= keyed[2]:
            return keyed[0]
        fork_locks.notice()
        taken: list[IndexKey] = []

        def take(held: Held, until: float) -> None:
            self._take(held, until)
            if self._keyed is not None:
                taken.append(self._keyed[0])

        if not self._ring.with_newest(take, wait=_field._may_wait()):
            raise KeyNotLoadedError(
                f"the index key of the scope {self._ring.named()} is not loaded, and loading it would block the event "
                "loop; await ensure_async() of the index first",
                self._ring.scope,
                (),
            )
        return taken[0]

    def _take(self, held: Held, until: float) -> None:
        """Keep the key of this index under a data key; the ring's lock is held."""
        until_wall = until - held.monotonic + held.wall
        key = IndexKey(held.key, self._ring.scope_bytes, *self._bound)
        self._keyed = key, min(until, self._settings.monotonic() + _field._ASK_SECONDS), until_wall

    def forget(self, key_ids: frozenset[bytes] | None) -> None:
        """Drop the key; the ring calls this, under its lock.

        Args:
            key_ids: the data keys that go; None if there is a newer one.
        """
        if key_ids != frozenset():
            self._keyed = None
            payload.leave_no_registers()
