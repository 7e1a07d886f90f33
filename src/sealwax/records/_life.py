"""The life of the data keys of one ``Records``, scope by scope: made, rolled, retired, shredded, put back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Final

from sealwax._core import context as ctx
from sealwax._core.aio import in_thread
from sealwax._core.format import payload
from sealwax.errors import (
    ContextError,
    DataKeyError,
    KeyRowError,
    KeyStoreError,
    NotARecordError,
    WrappedKeyRefusedError,
)
from sealwax.records import _blob, _form
from sealwax.records._keeper import Keeper
from sealwax.records._store import KeyKind, KeyRow, KeyState

_RESERVED: Final = f"'{ctx.RESERVED}' is reserved: Records adds it to each scope itself; use another name in the scope"


class DataKeyLife(Keeper):
    """Makes and ends the data keys of scopes; ``Records`` is one."""

    # The pairs that all fields share, and the names of those that KMS never sees.
    _scope: dict[str, str]
    _local_names: frozenset[str]

    def _split(self, pairs: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        whole = self._whole(pairs)
        missing = self._local_names - whole.keys()
        if missing:
            raise ContextError(f"the scope lacks '{min(missing)}', which local_scope names")
        return ctx.split(whole, self._local_names)

    def _whole(self, pairs: Mapping[str, str]) -> dict[str, str]:
        whole = dict(self._scope)
        for name, value in pairs.items():
            if whole.setdefault(name, value) != value:
                raise ValueError(f"the scope has '{name}' already, with another value")
        if ctx.is_reserved(whole):
            raise ContextError(_RESERVED)
        return whole

    def _kms_scope(self, pairs: Mapping[str, str]) -> dict[str, str]:
        """Return the scope that KMS sees; pairs that it does not see need not be given."""
        return {name: value for name, value in self._whole(pairs).items() if name not in self._local_names}

    # --- data keys

    def ensure(self, /, **pairs: str) -> None:
        """Load the data keys of a scope, and make the first one if there is none; this waits for the store and KMS.

        If they are loaded already, it returns at once, so it may be called for each request.

        Args:
            **pairs: the scope, beside the pairs that all fields share.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError, KmsError, KeyRowError: a data key cannot be used; all others are loaded.

        IAM: kms:GenerateDataKey for a new scope, else kms:Decrypt.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        if not ring.is_loaded():
            ring.load_all()

    async def ensure_async(self, /, **pairs: str) -> None:
        """Load the data keys of a scope as ``ensure`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.
        """
        if not self._ring(self._kms_scope(pairs), KeyKind.DATA).is_loaded():
            await in_thread(functools.partial(self.ensure, **pairs))

    async def preload(self, values: Iterable[object], /, **pairs: str) -> None:
        """Load the data keys that some records need, without blocking the event loop.

        Args:
            values: what columns hold; values that are not records, such as None or what was cut off, are passed over.
            **pairs: as for ``ensure``.

        Raises:
            UnknownKeyError, ShreddedError, KeyStoreError, KmsError, KeyRowError: a key cannot be loaded; unless KMS or
                the store is away, all others are.
        """
        ring = self._ring(self._kms_scope(pairs), KeyKind.DATA)
        key_ids = set()
        for value in values:
            if _form.is_record(value):
                with contextlib.suppress(NotARecordError):  # opening it tells what is wrong
                    key_ids.add(_form.parse(value).key_id)  # type: ignore[arg-type]
        await in_thread(ring.load_many, key_ids)

    def roll(self, /, **pairs: str) -> KeyRow:
        """Make the next generation of a scope's data key; older ones still open.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.

        Raises:
            ShreddedError: the scope was shredded; ``reopen`` it.
            ConfigurationError: the keyring caches, and returned the same data key again.
            KeyStoreError, KmsError: there is no new key.

        IAM: kms:GenerateDataKey.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).roll()

    async def roll_async(self, /, **pairs: str) -> KeyRow:
        """Make the next generation as ``roll`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.
        """
        return await in_thread(functools.partial(self.roll, **pairs))

    def retire(self, generation: int, /, **pairs: str) -> KeyRow:
        """Mark a generation as retired, once nothing is sealed under it any more; it still opens.

        Args:
            generation: any but the newest one.
            **pairs: as for ``ensure``.

        Returns:
            The row as it is now.

        Raises:
            KeyStoreError: there is no such generation, it is not live, or it is the newest.
        """
        for row in self.store.get_many(self._kms_scope(pairs)):
            if row.kind is KeyKind.DATA and row.claim == generation and self.store.retire(row):
                return dataclasses.replace(row, state=KeyState.RETIRED)
        raise KeyStoreError(f"generation {generation} cannot be retired: it is missing, not live, or the newest one")

    async def retire_async(self, generation: int, /, **pairs: str) -> KeyRow:
        """Mark a generation as retired as ``retire`` does, without blocking the event loop.

        Args:
            generation, **pairs: as for ``retire``.

        Returns:
            The row as it is now.
        """
        return await in_thread(functools.partial(self.retire, generation, **pairs))

    def shred(self, /, **pairs: str) -> list[KeyRow]:
        """Destroy the data keys of a scope: nothing that was sealed for it can be opened any more.

        Other processes may still open for ``recheck`` seconds. A backup of the key store brings the keys back; a Deny
        of kms:Decrypt for the scope then stops them.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were destroyed.

        Raises:
            KeyStoreError: the store cannot do it; nothing was destroyed.
        """
        scope = self._kms_scope(pairs)
        rings = [self._ring(scope, kind) for kind in KeyKind]
        rows = self.store.shred(scope)
        for ring in rings:
            ring.forget_shredded()
        payload.leave_no_registers()
        return rows

    async def shred_async(self, /, **pairs: str) -> list[KeyRow]:
        """Destroy the data keys of a scope as ``shred`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were destroyed.
        """
        return await in_thread(functools.partial(self.shred, **pairs))

    def reopen(self, /, **pairs: str) -> KeyRow:
        """Make a new data key for a scope that was shredded; a new index key is made when an index needs it.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.

        Raises:
            KeyStoreError: the scope is not shredded.
            KmsError: there is no new key.

        IAM: kms:GenerateDataKey.
        """
        return self._ring(self._kms_scope(pairs), KeyKind.DATA).reopen()

    async def reopen_async(self, /, **pairs: str) -> KeyRow:
        """Make a new data key as ``reopen`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The row of the new key.
        """
        return await in_thread(functools.partial(self.reopen, **pairs))

    # --- after a restore

    def repair(self, /, **pairs: str) -> list[KeyRow]:
        """Put back the rows of data keys that this process has and the store has lost; then it seals again.

        What was shredded meanwhile is not put back.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were put back.

        Raises:
            KeyStoreError: the store refuses, or the newest key is neither in the store nor in this process any more.
        """
        scope = self._kms_scope(pairs)
        return [row for kind in KeyKind for row in self._ring(scope, kind).repair()]

    async def repair_async(self, /, **pairs: str) -> list[KeyRow]:
        """Put rows back as ``repair`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.

        Returns:
            The rows that were put back.
        """
        return await in_thread(functools.partial(self.repair, **pairs))

    def accept(self, /, **pairs: str) -> None:
        """Take the state of the store as the right one after a deliberate restore, though it is older.

        Args:
            **pairs: as for ``ensure``.
        """
        scope = self._kms_scope(pairs)
        for kind in KeyKind:
            self._ring(scope, kind).accept()

    async def accept_async(self, /, **pairs: str) -> None:
        """Take the state of the store as ``accept`` does, without blocking the event loop.

        Args:
            **pairs: as for ``ensure``.
        """
        await in_thread(functools.partial(self.accept, **pairs))

    def remove(self, row: KeyRow, /) -> None:
        """Delete a row that does not unwrap: it was altered or planted.

        Args:
            row: as ``rows`` returned it.

        Raises:
            ValueError: it does unwrap, or it marks a shredded scope; ``shred`` destroys keys that work.
            KmsError: KMS cannot tell, or its KMS key is not allowed here; ``store.remove`` does not ask.
            KeyStoreError: the store does not have the row.

        IAM: kms:Decrypt.
        """
        if row.state is KeyState.SHREDDED:
            raise ValueError("this row marks its scope as shredded; without it, new keys would be made unasked")
        try:
            _blob.unwrap(self.keyring, row).close()
        except (KeyRowError, WrappedKeyRefusedError, DataKeyError):
            if not self.store.remove(row):
                raise KeyStoreError("the key store does not have this row any more") from None
            return
        raise ValueError("this row holds a data key that works; shred() destroys the keys of a scope")

    async def remove_async(self, row: KeyRow, /) -> None:
        """Delete a row that does not unwrap as ``remove`` does, without blocking the event loop.

        Args:
            row: as for ``remove``.
        """
        await in_thread(self.remove, row)
