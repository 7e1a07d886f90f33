"""The data keys of one scope, held for a while: where they come from, how long they are used, and how they are wiped.

A ring has one newest key, which seals, and any number of older ones, which open. Sealing and opening hold record keys
of their own and come here once in a while; only then does anything wait for the key store and KMS.

- A ring never goes back to a lower generation, and never seals under a key that is not durable in the store.
- A key is used for ``max_age`` at most, by both clocks; while KMS or the store is away, for ``serve_stale_for`` longer.
- A key that the store has lost goes on opening for ``max_age``, and seals no more; its row is kept for ``repair``.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from sealwax._core.cache import wiping
from sealwax._core.cache.entries import is_outage
from sealwax._core.keyring import DataKey, Keyring, asked_at, now
from sealwax.errors import (
    ConfigurationError,
    KeyStoreError,
    KmsError,
    SealwaxError,
    ShreddedError,
    UnavailableError,
    UnknownKeyError,
)
from sealwax.records import _blob, _keys
from sealwax.records._held import RETRY_SECONDS, Held, HeldSettings, ScopeKeys
from sealwax.records._store import MAX_GENERATION, Changes, KeyKind, KeyRow, KeyState, KeyStore

# How long it is remembered that the store has no such key.
_MISSING_SECONDS: Final = 30.0
# Another thread's call to the store and KMS; it has time limits of its own, which are shorter.
_LONGEST_WAIT_SECONDS: Final = 120.0
# What happens beside the callers leaves a ring alone whose keys are just being loaded.
_BESIDE_WAIT_SECONDS: Final = 1.0
_CREATIONS: Final = 5


class RingSettings(HeldSettings, Protocol):
    """What the rings of one ``Records`` share."""

    keyring: Keyring
    store: KeyStore
    outage_at: float | None
    """When KMS or the store was found to be away; None once it has answered again."""
    store_is_away: bool
    """Whether it was the store."""

    def note_store_answer(self) -> None: ...

    def _note_keys(self, ring: Ring) -> None: ...


class Ring(ScopeKeys):
    """The held data keys of one scope and kind; see the module."""

    def __init__(self, settings: RingSettings, scope: Mapping[str, str], kind: KeyKind) -> None:
        super().__init__(settings, scope, kind)
        self._settings: RingSettings = settings

    # --- for sealing and opening

    def with_newest(self, use: Callable[[Held, float], None], *, wait: bool) -> bool:
        """Call ``use`` with the key that seals, and until when it may be used, by the monotonic clock.

        Args:
            wait: False returns False instead of waiting for the store or KMS.
        """
        return self._with(lambda: self._newest, self.load_newest, use, wait=wait)

    def with_key(self, key_id: bytes, use: Callable[[Held, float], None], *, wait: bool) -> bool:
        """Call ``use`` with the key that opens a record; as ``with_newest``."""
        return self._with(lambda: self._held.get(key_id), lambda: self._load(key_id), use, wait=wait)

    def _with(
        self,
        find: Callable[[], Held | None],
        load: Callable[[], Held],
        use: Callable[[Held, float], None],
        *,
        wait: bool,
    ) -> bool:
        if self._settings.closed:
            raise ValueError("this Records is closed")
        if self._used(find(), use) or self._used_stale(find(), use, wait=wait):
            return True
        if not wait:
            return False
        asked = asked_at.get() or now()
        with self._alone():
            # Another thread may have loaded it meanwhile. What was loaded may be stale: then KMS or the store is away.
            while not (self._used(find(), use) or self._used_stale(find(), use, wait=wait)):
                self._raise_shared_failure(asked)
                if self._used(load(), use, stale=True):
                    break
        if wiping.over:
            self.clear()  # the program is ending, and nobody will wipe it later
        return True

    def _used_stale(self, held: Held | None, use: Callable[[Held, float], None], *, wait: bool) -> bool:
        """Use a key beyond its age without a call, if the last one found KMS or the store away."""
        since = self._settings.outage_at
        if since is None or (wait and self._settings.clocks()[0] - since > RETRY_SECONDS):
            return False
        return self._is_usable(held) and self._used(held, use, stale=True)

    def _raise_shared_failure(self, asked: float) -> None:
        """Raise the error of another thread's call that ended after this one was asked for."""
        if self._failure is not None and self._failure[0] >= asked:
            raise copy.copy(self._failure[1])

    @contextlib.contextmanager
    def _alone(self, seconds: float = _LONGEST_WAIT_SECONDS) -> Iterator[None]:
        if not self._loading.acquire(timeout=seconds):
            raise UnavailableError(
                f"another thread's call for a data key did not finish within {seconds:g} s: the key store or KMS "
                "hangs. Try again.",
                retryable=True,
            )
        try:
            yield
        finally:
            self._loading.release()

    # --- loading, one thread at a time

    def _take(self, row: KeyRow, key: DataKey) -> Held:
        held = self._keep(row, key)
        self._settings.outage_at = None
        self._settings._note_keys(self)
        return held

    def load_newest(self) -> Held:
        """Fetch the newest key, or make the first one.

        Raises:
            ShreddedError: the scope was shredded.
            KeyStoreError: the store is away, or has lost the newest key.
            KmsError, KeyRowError: the key cannot be unwrapped.
        """
        try:
            row = self._settings.store.newest(self.scope, self.kind)
            self._settings.note_store_answer()
            if row is None:
                self._refuse_lost(None)
                return self._make(1)
            if row.state is KeyState.SHREDDED and self._was_reopened():
                self._drop_before(row.generation)
                return self._make_next(row.generation)
            return self._take_newest(row)
        except (KmsError, KeyStoreError) as error:
            return self._or_stale(self._newest, error)

    def _was_reopened(self) -> bool:
        """Whether the scope of a shredded index key has a new data key; if it is shredded again, the claim is lost."""
        if self.kind is not KeyKind.INDEX:
            return False
        row = self._settings.store.newest(self.scope, KeyKind.DATA)
        return row is not None and row.state is KeyState.LIVE

    def _or_stale(self, held: Held | None, error: SealwaxError) -> Held:
        """Return a key that may be used while KMS or the store is away, or raise the error."""
        if _is_away(error):
            self._settings.outage_at = self._settings.clocks()[0]
            self._settings.store_is_away = isinstance(error, KeyStoreError)
            self._failure = now(), copy.copy(error)
            if held is not None and self._is_usable(held):
                return held
        raise error

    def _take_newest(self, row: KeyRow) -> Held:
        _blob.check_claim(row)
        self._refuse_lost(row)
        if row.state is not KeyState.LIVE:
            self._seal_no_more()
            raise self._gone(row)
        held = self._held.get(row.key_id)
        if held is None or not self._is_good(held):
            held = self._take(row, _blob.unwrap(self._settings.keyring, row))
        self._promote(held)
        return held

    def _refuse_lost(self, row: KeyRow | None) -> None:
        """Refuse to go back: a store that was restored from an old copy, or lost rows, has an older key or none."""
        generation, key_id = self.highest
        if row is not None and (row.generation, row.key_id) == (generation, key_id):
            return
        if generation and (row is None or row.generation <= generation):
            self._seal_no_more()
            self._note_lost([key_id])
            raise KeyStoreError(
                f"the key store has lost generation {generation} of the scope {self.named()} (key id {key_id.hex()}): "
                "it was restored from an older copy, or rows were deleted. Nothing is sealed until repair() puts the "
                "key back, or accept() says that the older state is right; keys that are held still open."
            )

    def _seal_no_more(self) -> None:
        """Have the next call that seals ask the store; what is held still opens."""
        with self._lock:
            self._newest = None
            self._tell(None)

    def _promote(self, held: Held) -> None:
        with self._lock:
            if self._newest is not held:
                self._newest = held
                self._settings.highest[self._mark] = held.row.generation, held.row.key_id
                self._tell(None)

    def _make(self, generation: int) -> Held:
        """Make a key and add it to the store; whoever is first wins."""
        row, key = _blob.make(self._settings.keyring, self.scope, self.kind, generation)
        try:
            self._refuse_shared(key)
            winner = self._create(row)
            if winner.key_id == row.key_id:
                held = self._take(winner, key.duplicate())
                self._promote(held)
                return held
        finally:
            key.close()
        return self._take_newest(winner)

    def _refuse_shared(self, key: DataKey) -> None:
        """Refuse a data key that another row of the scope holds: a keyring that is no CachingKeyring may cache too."""
        for row in self._settings.store.get_many(self.scope):
            if _keys.key_id(key, row.kind, row.generation, self.scope_bytes) == row.key_id:
                raise ConfigurationError(
                    f"the keyring returned the data key of generation {row.generation} of the scope {self.named()} "
                    "again, so rolling or shredding would change nothing. Give Records a keyring that does not cache, "
                    "such as KmsKeyring"
                )

    def _create(self, row: KeyRow) -> KeyRow:
        """Add a row; a call that failed may have taken effect, so it is made again until the answer is known."""
        for attempt in range(1, _CREATIONS + 1):
            try:
                return self._settings.store.create(row)
            except KeyStoreError as error:
                if attempt == _CREATIONS or not error.retryable:
                    raise
        raise AssertionError

    def _load(self, key_id: bytes) -> Held:
        time = self._settings.clocks()[0]
        if self._missing.get(key_id, 0.0) > time:
            raise self._unknown(key_id)
        held = self._held.get(key_id)
        try:
            rows = self._settings.store.get_many(self.scope, [key_id])
            self._settings.note_store_answer()
            row = next((row for row in rows if row.key_id == key_id and row.kind is self.kind), None)
            if row is None:
                self._note_lost([key_id])
                if held is not None and self._is_good(held):
                    return held
                self._missing[key_id] = time + _MISSING_SECONDS
                raise self._unknown(key_id)
            if row.state is KeyState.SHREDDED:
                self.drop([key_id])
                raise self._gone(row)
            return self._take(row, _blob.unwrap(self._settings.keyring, row))
        except (KmsError, KeyStoreError) as error:
            return self._or_stale(held, error)

    def is_loaded(self) -> bool:
        """Whether every key that the last ``load_all`` found is held, and the newest one seals."""
        with self._lock:
            held = [self._newest, *map(self._held.get, self._loaded)]
            if not all(each is not None and self._is_good(each) for each in held):
                return False
            self.used_at = self._settings.clocks()[0]
            return True

    def load_all(self) -> None:
        """Fetch every key of the scope that is not shredded; a bad one is reported when the others are loaded."""
        failure: SealwaxError | None = None
        with self._alone():
            try:
                self.load_newest()
            except SealwaxError as error:
                if _is_away(error):
                    raise
                failure = error
            for row in self._settings.store.get_many(self.scope):
                held = self._held.get(row.key_id)
                if row.kind is not self.kind or row.state is KeyState.SHREDDED or (held and self._is_good(held)):
                    continue
                try:
                    self._take(row, _blob.unwrap(self._settings.keyring, row))
                except SealwaxError as error:
                    try:
                        self._or_stale(held, error)
                    except SealwaxError:
                        failure = failure or error
            self._loaded = frozenset(self._held)
        if failure is not None:
            raise failure

    def load_many(self, key_ids: Iterable[bytes]) -> None:
        """Fetch these keys, unless they are held; what fails is reported when the others are loaded."""
        failure: SealwaxError | None = None
        for key_id in key_ids:
            try:
                self.with_key(key_id, lambda _held, _until: None, wait=True)
            except SealwaxError as error:
                if _is_away(error):
                    raise
                failure = failure or error
        if failure is not None:
            raise failure

    # --- generations

    def roll(self) -> KeyRow:
        """Make the next generation, and seal under it from now on."""
        with self._alone():
            newest = self._settings.store.newest(self.scope, self.kind)
            if newest is not None and newest.state is KeyState.SHREDDED:
                raise self._gone(newest)
            self._refuse_lost(newest)
            return self._make_next(0 if newest is None else newest.generation).row

    def reopen(self) -> KeyRow:
        """Make the first key after a scope was shredded."""
        with self._alone():
            newest = self._settings.store.newest(self.scope, self.kind)
            if newest is None or newest.state is not KeyState.SHREDDED:
                raise KeyStoreError(f"the scope {self.named()} is not shredded, so there is nothing to reopen")
            self._drop_before(newest.generation)
            return self._make_next(newest.generation).row

    def _make_next(self, generation: int) -> Held:
        if generation >= MAX_GENERATION:
            raise KeyStoreError(f"generation {generation} is the last one that there can be")
        return self._make(generation + 1)

    # --- after a restore

    def repair(self) -> list[KeyRow]:
        """Put the rows back that the store has lost, but for shredded ones, and take its state as the right one."""
        store = self._settings.store
        with self._alone():
            there = [row for row in store.get_many(self.scope) if row.kind is self.kind]
            self._drop_before(max((row.generation for row in there if row.state is KeyState.SHREDDED), default=0))
            put_back = [row for row in self.rows() if store.put_back(row)]
            for row in put_back:
                self._settings.lost.pop(row.key_id, None)
            generation, key_id = self.highest
            newest = store.newest(self.scope, self.kind)
            reached = newest is not None and newest.generation >= generation
            shredded = newest is not None and newest.state is KeyState.SHREDDED
            if generation and not (reached and (shredded or key_id in {row.key_id for row in (*there, *put_back)})):
                raise KeyStoreError(
                    f"generation {generation} of the scope {self.named()} (key id {key_id.hex()}) cannot be put back: "
                    "its row was altered in the key store, or is not held here any more. Restore the row from a newer "
                    "copy of the store, or call accept() if the older state is right."
                )
            self._reset()
        return put_back

    def accept(self) -> None:
        """Take the state of the store as the right one, though it is older than what was seen."""
        with self._alone():
            self._reset()

    def _reset(self) -> None:
        self._settings.highest.pop(self._mark, None)
        self._missing.clear()
        self._seal_no_more()

    def forget_shredded(self) -> None:
        """Wipe every key after the scope was shredded, and keep no row for ``repair``."""
        self._wipe_shredded()
        # A thread may have read its key from the store before, and unwrap it just now.
        with self._alone():
            self._wipe_shredded()

    def _wipe_shredded(self) -> None:
        with self._lock:
            for row in self.rows():
                self._settings.lost.pop(row.key_id, None)
            self.clear()

    def start_over(self) -> None:
        """Wipe every key and forget what was seen, before another keyring and store."""
        with self._alone(), self._lock:
            self.clear()
            self._reset()

    # --- beside the caller

    def recheck(self, changes: Changes, *, changed: bool) -> None:
        """Take what the store says of the held keys: seal no more under what is gone, and find a newer key.

        Raises:
            SealwaxError: it has to be done again.
        """
        states = changes.states
        with self._alone(_BESIDE_WAIT_SECONDS):
            for key_id in [key_id for key_id in self._settings.lost if states.get(key_id) is not None]:
                self._settings.lost.pop(key_id, None)
            absent = [key_id for key_id in self._held if key_id in states and states[key_id] is None]
            newest = self._newest
            if newest is not None and states.get(newest.row.key_id, KeyState.LIVE) is not KeyState.LIVE:
                self._seal_no_more()
            if absent:
                self._note_lost(absent)
                there = self._settings.store.get_many(self.scope)
                marks = [row for row in there if row.kind is self.kind and row.state is KeyState.SHREDDED]
                self._drop_before(max((row.generation for row in marks), default=0))
            if changed and newest is not None and (*self._mark, newest.row.key_id) not in changes.newest:
                failure = self._failure
                with contextlib.suppress(SealwaxError):  # sealing reports what is wrong with the key
                    self.load_newest()
                if self._failure is not None and self._failure is not failure:
                    raise copy.copy(self._failure[1])  # KMS or the store is away

    def refresh(self) -> None:
        """Fetch again what is near its end, if the ring was used since it was fetched."""
        times = self._settings.clocks()
        due = [held for held in list(self._held.values()) if self._is_due(held, times)]
        if due:
            with contextlib.suppress(SealwaxError), self._alone(0):  # used to its end; then the caller sees the error
                for held in due:
                    self._load(held.row.key_id)

    # --- messages

    def _gone(self, row: KeyRow) -> SealwaxError:
        if row.state is KeyState.SHREDDED:
            return ShreddedError(
                f"the data keys of the scope {self.named()} were shredded: what was sealed under them is gone. "
                "reopen() makes a new key for new data."
            )
        return KeyStoreError(
            f"the newest data key of the scope {self.named()} (generation {row.generation}) is {row.state}, so nothing "
            "can be sealed; make a new one with roll()"
        )

    def _unknown(self, key_id: bytes) -> UnknownKeyError:
        if key_id in self._settings.lost:
            return UnknownKeyError(
                f"the key store has lost the data key {key_id.hex()} of the scope {self.named()}: it was restored from "
                "an older copy, or the row was deleted. This process still has the row: repair() puts it back",
                key_id,
            )
        return UnknownKeyError(
            f"no data key of the scope {self.named()} has the id {key_id.hex()}: the record is of another scope "
            "(another tenant or environment) or of another key store, or its key was lost",
            key_id,
        )


def _is_away(error: SealwaxError) -> bool:
    """Whether KMS or the store is out of reach, and not that it refuses."""
    return error.retryable if isinstance(error, KeyStoreError) else is_outage(error)
