"""What a verification proves: payloads and plaintexts are unchanged, and envelopes open."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from sealwax._aws.session import Session
from sealwax._core import context as ctx
from sealwax._core.context import AcceptStoredContext
from sealwax._core.envelope import read_full
from sealwax._core.format import header as hdr
from sealwax._core.format.header import Header
from sealwax._core.sealer import Sealer
from sealwax._text import printable
from sealwax.errors import (
    CredentialsError,
    FileError,
    KmsError,
    NotAnEnvelopeError,
    RewrapConflictError,
    SealwaxError,
    is_of_credentials,
)
from sealwax.fleet import _client_objects, _decision, _reencrypt
from sealwax.fleet._journal import Journal
from sealwax.fleet._mover import Comparer
from sealwax.fleet._report import Checked
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Item
from sealwax.fleet._state import State
from sealwax.fleet._threads import batches, parallel
from sealwax.kms import KmsKeyring
from sealwax.stores._files import FileStore
from sealwax.stores._store import Store, is_gone, relative

_READ_BYTES: Final = 1 << 20
_QUIET_SECONDS: Final = 3600.0
_DIGESTS_AT_ONCE: Final = 64
# The plan names the format, and its metadata was read: this only opens what is to be compared.
_LEGACY: Final = ("s3ec-v2", "s3ec-kms")
_VERIFIABLE: Final = (State.FRESH, State.REWRAPPED, State.REENCRYPTED)


def _digest_of(store: Store, name: str) -> bytes:
    """Return an envelope's id followed by the SHA-256 of its payload; likewise of an object of another format."""
    try:
        header = store.inspect(name).header.preamble
    except NotAnEnvelopeError as error:
        return _digest_of_object(store, name, error)
    digest = hashlib.sha256()
    with store.open(name) as file:
        begins = read_full(file, hdr.FIXED_BYTES)
        if begins[: len(hdr.MAGIC)] != hdr.MAGIC or begins[16:32] != header.envelope_id:
            raise RewrapConflictError(f"'{printable(name)}' was replaced while it was being read")
        file.seek(header.payload_offset)
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return header.envelope_id + digest.digest()


def _digest_of_object(store: Store, name: str, error: NotAnEnvelopeError) -> bytes:
    fields = None
    if isinstance(store, _client_objects.HasObjects):
        fields = _client_objects.object_fields_of(store, name, error)
    if fields is None:
        raise error
    digest = hashlib.sha256()
    with store.open(name) as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return _client_objects.id_of(fields) + digest.digest()


def leftovers(stores: Iterable[Store]) -> tuple[str, ...]:
    """Return the temporary files of killed processes, without those written to within an hour: they may be growing."""
    folders = (store for store in stores if isinstance(store, FileStore))
    return tuple(entry.name for store in folders for entry in store.leftovers(_QUIET_SECONDS))


def take_digests(
    journal: Journal, stores: Sequence[Store], size: int | None, workers: int, on_progress: Callable[[int, int], None]
) -> None:
    """Record digests of the payloads of this many stale envelopes; None: of all."""
    if size == 0:
        return
    todo = (State.STALE,)

    moves = journal.settings().move is not None

    def take(located: tuple[int, Item]) -> tuple[int, bytes | SealwaxError | None]:
        place, item = located
        try:
            return item.number, _digest_of(stores[place], item.name)
        except NotAnEnvelopeError as error:
            # What is moved is compared with its envelope.
            return item.number, None if moves else error
        except CredentialsError:
            raise
        except SealwaxError as error:
            return item.number, error

    if size is None:
        wanted: Iterable[tuple[int, Item]] = (
            (place, item) for place in range(len(stores)) for page in journal.items(todo, place) for item in page
        )
    else:
        wanted = journal.sample(todo, size)
    total = journal.states().get(State.STALE, (0, 0))[0] if size is None else size
    done = 0
    for part in batches(parallel(wanted, take, workers), _DIGESTS_AT_ONCE):
        journal.set_digests((number, digest) for number, digest in part if isinstance(digest, bytes))
        for _, error in part:
            # A re-wrap reads no payload, so nothing else would report this. A run reports objects that are gone.
            if isinstance(error, SealwaxError) and not is_gone(error):
                journal.record_unlisted(f"the digest of a payload is missing: {error}")
        done += len(part)
        on_progress(done, total)


class Opener:
    """Opens envelopes under the wanted keys, and counts the KMS calls for it."""

    def __init__(self, settings: Settings, session: Session | None) -> None:
        self.calls = 0
        self._settings = settings
        self._session = session
        self._lock = threading.Lock()

    @functools.cached_property
    def sealer(self) -> Sealer:
        arns = [key.arn for key in self._settings.wanted.keys]
        return Sealer(
            KmsKeyring(arns[0], decrypt_with=arns, session=self._session, on_event=self._count),
            allow_legacy=_LEGACY if self._settings.also else (),
        )

    def keyring_of(self, sources: Sequence[str]) -> KmsKeyring:
        """Return a keyring that opens what is under other keys."""
        return KmsKeyring(sources[0], decrypt_with=sources, session=self._session, on_event=self._count)

    def _count(self, _: object) -> None:
        with self._lock:
            self.calls += 1


def compare(
    journal: Journal, settings: Settings, stores: Sequence[Store], size: int | None, workers: int, opener: Opener
) -> Checked:
    """Compare payloads or plaintexts with this many recorded digests; None: with all."""
    same = replaced = 0
    changed: list[str] = []
    closed: list[tuple[str, str]] = []
    unread: list[tuple[str, str]] = []

    def compare_one(recorded_item: tuple[int, Item, bytes]) -> tuple[str, str, str]:
        place, item, recorded = recorded_item
        try:
            if settings.reencrypt:
                is_same = _reencrypt.compare(opener.sealer, stores[place], item.name, recorded)
            else:
                now = _digest_of(stores[place], item.name)
                if now[: hdr.ENVELOPE_ID_BYTES] != recorded[: hdr.ENVELOPE_ID_BYTES]:
                    return "replaced", item.name, ""
                is_same = now == recorded
        except RewrapConflictError:
            return "replaced", item.name, ""
        except KmsError as error:
            if is_of_credentials(error):
                raise
            return "closed", item.name, str(error)
        except FileError as error:
            return "unread", item.name, str(error)
        except SealwaxError:
            is_same = False
        return "same" if is_same else "changed", item.name, ""

    for outcome, name, why in parallel(journal.digested(size), compare_one, workers):
        same += outcome == "same"
        replaced += outcome == "replaced"
        if outcome == "changed":
            changed.append(name)
        elif outcome == "closed":
            closed.append((name, why))
        elif outcome == "unread":
            unread.append((name, why))
    return Checked(
        digests=same, changed=tuple(changed), replaced=replaced, undecrypted=tuple(closed), unread=tuple(unread)
    )


def compare_moved(
    journal: Journal, stores: Sequence[Store], size: int | None, workers: int, comparer: Comparer, checked: Checked
) -> Checked:
    """Compare this many of the files that were moved with their envelopes; None: all."""
    if size is None:
        wanted: Iterable[tuple[int, Item]] = (
            (place, item)
            for place in range(len(stores))
            for page in journal.items((State.MOVED,), place)
            for item in page
        )
    else:
        wanted = journal.sample((State.MOVED,), size)
    compared = same = 0
    changed, closed, unread = list(checked.changed), list(checked.undecrypted), list(checked.unread)
    for outcome, name, why in parallel(wanted, lambda at: comparer.compare(stores[at[0]], at[1].name), workers):
        compared += 1
        same += outcome == "same"
        if outcome == "changed":
            changed.append(name)
        elif outcome == "closed":
            closed.append((name, why))
        elif outcome == "unread":
            unread.append((name, why))
    return replace(
        checked,
        moved=same,
        compared=compared,
        changed=tuple(changed),
        undecrypted=tuple(closed),
        unread=tuple(unread),
    )


def decrypt_sample(
    journal: Journal, settings: Settings, stores: Sequence[Store], size: int, checked: Checked, opener: Opener
) -> Checked:
    """Decrypt this many random envelopes."""
    decrypted = elsewhere = cbc = 0
    failed, unread = list(checked.undecrypted), list(checked.unread)

    class _Elsewhere(Exception):  # noqa: N818  not an error
        pass

    for place, item in journal.sample(_VERIFIABLE, size):
        store = stores[place]
        relpath = relative(item.name, store.location)

        def expect(header: Header, relpath: str = relpath) -> ctx.ExpectedContext:
            # Checked on the very bytes that are then read on.
            if header.preamble.local_pairs or header.preamble.kind == hdr.DETACHED:
                raise _Elsewhere
            _decision.refuse_context(header, settings, relpath)
            return AcceptStoredContext()

        try:
            with store.open(item.name) as file:
                if settings.also and (expected := _client_objects.expected(file, settings, relpath)):
                    opener.sealer.verify(file, context=expected)
                else:
                    opener.sealer.witness(file, expect)
            decrypted += 1
        except _client_objects.NotReadError:
            cbc += 1
        except _Elsewhere:
            elsewhere += 1
        except FileError as error:
            unread.append((item.name, str(error)))
        except SealwaxError as error:
            if is_of_credentials(error):
                raise
            failed.append((item.name, str(error)))
    return replace(
        checked,
        decrypted=decrypted,
        undecrypted=tuple(failed),
        unread=tuple(unread),
        elsewhere=elsewhere,
        cbc=cbc,
    )
