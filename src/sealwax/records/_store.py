"""What a key store keeps, and its protocol."""

from __future__ import annotations

import enum
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sealwax._core import context as ctx
from sealwax.records._keys import KEY_ID_BYTES

MAX_GENERATION: Final = 2**31 - 1


class KeyKind(enum.IntEnum):
    """What a data key is for."""

    DATA = 1
    INDEX = 2

    @property
    def use(self) -> str:
        """The value of ``sealwax-use`` in the encryption context of such a key."""
        return "records-data" if self is KeyKind.DATA else "records-index"


class KeyState(enum.StrEnum):
    """The state of a data key of records."""

    LIVE = "live"
    RETIRED = "retired"
    SHREDDED = "shredded"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One row of a key store: a data key of a scope, wrapped. Nothing in it is secret.

    Args:
        scope: the pairs that KMS sees, without ``sealwax-use``.
        kind: what the key is for.
        generation: 1 for the first key of a scope and kind, then one more for each ``roll``.
        key_id: 16 bytes that stand in every record under the key; random for the mark of a shredded scope.
        state: whether it seals and opens, only opens, or is gone.
        created: when it was made, in Unix seconds.
        made_by: the request id of the KMS call that made it; "" if there was none.
        blob: an envelope of the empty value under the data key, 450 to 8192 bytes; empty once it is shredded.
        claim: the generation, if this row is the one that counts for it; None for the loser of a race, or a row that
            was put back.
    """

    scope: Mapping[str, str]
    kind: KeyKind
    generation: int
    key_id: bytes
    state: KeyState
    created: int
    made_by: str
    blob: bytes = field(repr=False)
    claim: int | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed in a key store.

    Args:
        epoch: 16 random bytes, drawn again with every change; empty before the first one.
        states: the state of each key that was asked for; None if the store does not have it, or has it in a state that
            this release does not know.
        newest: which of these keys are the newest of their scope and kind: the SHA-256 of the canonical scope, the
            kind, and the key id. A process asks ``newest`` for every other scope that it uses, once the epoch changed;
            so a store may leave this out.
    """

    epoch: bytes
    states: Mapping[bytes, KeyState | None]
    newest: frozenset[tuple[bytes, int, bytes]] = frozenset()


class KeyStore(Protocol):
    """Keeps the wrapped data keys of records. Any number of threads and processes use it at once.

    Each method is one transaction, or several if they are safe one by one; what it has done is durable when it returns.
    No method waits for a transaction of the caller. ``sealwax.records.testing`` has the tests that any store must pass.

    Every method raises ``KeyStoreError`` if the store cannot be reached or refuses; ``retryable`` says whether the same
    call may succeed a little later.
    """

    def newest(self, scope: Mapping[str, str], kind: KeyKind) -> KeyRow | None:
        """Return the row with the highest claim, whatever its state; consistent with every change that has returned.

        Args:
            scope: exactly this scope.
            kind: the kind of the key.
        """
        ...

    def get_many(self, scope: Mapping[str, str], key_ids: Sequence[bytes] | None = None) -> list[KeyRow]:
        """Return rows of a scope; never those of another scope.

        Args:
            scope: exactly this scope.
            key_ids: the ids of the rows, of either kind; None returns all rows of the scope.
        """
        ...

    def create(self, row: KeyRow) -> KeyRow:
        """Add a row; the first one of a scope, kind and generation wins.

        Args:
            row: the new row.

        Returns:
            The winner: ``row`` itself, or the row that was there before; the loser is not kept.
        """
        ...

    def put_back(self, row: KeyRow) -> bool:
        """Add a row that was lost, with no claim if another row has its generation.

        Args:
            row: the row as it was.

        Returns:
            False if a row with its id is there, or if the scope was shredded in this generation or a later one: what
            was shredded does not come back.
        """
        ...

    def replace(self, row: KeyRow, blob: bytes) -> bool:
        """Replace the blob of a row, for a re-wrap.

        Args:
            row: the row as it was read.
            blob: the new blob.

        Returns:
            False if the row is not as it was read or is shredded, and nothing was changed.
        """
        ...

    def retire(self, row: KeyRow) -> bool:
        """Retire a live row, unless it is the newest one; its blob does not matter.

        Args:
            row: the row as it was read.

        Returns:
            False if nothing was changed.
        """
        ...

    def remove(self, row: KeyRow) -> bool:
        """Delete a row, unless it is shredded: it remains so.

        Args:
            row: the row as it was read.

        Returns:
            False if there is none with its blob, or it is shredded.
        """
        ...

    def shred(self, scope: Mapping[str, str]) -> list[KeyRow]:
        """Delete the blobs of all rows of a scope, mark them shredded, and claim the next generation of both kinds.

        All of it is one transaction, after which no row of the scope is live. A scope without rows is shredded too: a
        process that is just making the first key then finds the claim.

        Args:
            scope: exactly this scope.

        Returns:
            The rows whose blobs it has deleted, as they were.
        """
        ...

    def list(self, scope: Mapping[str, str] | None = None) -> Iterator[KeyRow]:
        """Yield every row whose scope has these pairs, and maybe more, in an order that does not change.

        Args:
            scope: the pairs; None yields all rows.

        Raises:
            KeyStoreError: also for a row that is damaged and may be of such a scope, once all others were yielded.
        """
        ...

    def check(self, key_ids: Sequence[bytes]) -> Changes:
        """Return the epoch, read before the rows, and what has become of these keys: somebody may have deleted some.

        Args:
            key_ids: the ids of keys of any scopes.
        """
        ...


def scope_hash(scope: Mapping[str, str]) -> bytes:
    """Return the SHA-256 of the canonical scope."""
    return hashlib.sha256(ctx.encode(scope)).digest()


def tombstone(scope: Mapping[str, str], kind: KeyKind, generation: int) -> KeyRow:
    """Return the row that keeps a shredded scope from being used again by itself."""
    made = os.urandom(KEY_ID_BYTES)
    return KeyRow(dict(scope), kind, generation, made, KeyState.SHREDDED, int(time.time()), "", b"", generation)
