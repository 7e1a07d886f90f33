"""The engine of threads: plan, refresh, run, status and verify over a plan file. See the package's docstring."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sealwax import aws
from sealwax import context as ctx
from sealwax.context import AcceptStoredContext, printable
from sealwax.envelope import read_full
from sealwax.errors import CredentialsError, FileError, RewrapConflictError, SealwaxError
from sealwax.fleet import report, shard
from sealwax.fleet.calls import Rewrapper
from sealwax.fleet.engines import WORKERS, Engine, Health, Threads, batches, parallel
from sealwax.fleet.journal import TO_DO, Journal, put_in_place
from sealwax.fleet.report import Checked, Report
from sealwax.fleet.settings import Contexts, Settings
from sealwax.fleet.shard import Item
from sealwax.format import header as hdr
from sealwax.kms import KmsKeyring, RateLimit, names
from sealwax.kms.describe import describe
from sealwax.sealer import Sealer
from sealwax.staleness import Wanted, WantedKey
from sealwax.stores import Store, open_store

OpenStore = Callable[[str], Store]
Progress = Callable[[int, int], None]
"""Called with how many objects are done, and how many there are; 0 where that is not known yet."""

RATE: Final = 1000.0  # a tenth of KMS's smallest quota for an account and Region
MAX_ERROR_RATE: Final = 0.1
_SCAN_BATCH: Final = 64
_PASSES: Final = 3
_READ_BYTES: Final = 1 << 20
_VERIFIABLE: Final = (shard.FRESH, shard.REWRAPPED)


def _quiet(_done: int, _total: int) -> None:
    pass


# --- settings


def _settings(
    *,
    sources: Sequence[str],
    to: Sequence[str],
    contexts: Contexts,
    older_than: float | None = None,
    add_regions: bool = False,
    session: aws.Session | None = None,
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of a fleet, its keys looked up once; and notes on what could not be seen."""
    if not sources or not to or isinstance(sources, str) or isinstance(to, str):
        raise ValueError("sources and to are sequences of at least one key name")
    if older_than is not None and not older_than > 0:
        raise ValueError("older_than is a positive number of seconds")
    clients = aws.Clients(session)
    wanted, notes = [], []
    for key in to:
        found = describe(key, clients)
        wanted.append(WantedKey(found.arn, found.material_id, found.rotated_at))
        notes += [f"old key material cannot be told for sure: {error}" for error in found.unseen]
    wanted = list({key.arn: key for key in wanted}.values())
    # Pinned: what an alias points to later is not what was planned.
    arns = dict.fromkeys(
        key if names.parse_arn(key) else describe(key, clients, rotations=False).arn for key in sources
    )
    since = 0 if older_than is None else int(time.time() - older_than)
    return Settings(tuple(arns), Wanted(tuple(wanted), since), contexts, add_regions), tuple(notes)


# --- plan


def absolute(where: Sequence[str]) -> list[str]:
    """Return places by names that hold in any folder, as a plan keeps them."""
    return [one if "://" in one else str(Path(one).absolute()) for one in where]


def plan(
    path: str | os.PathLike[str],
    where: Sequence[str],
    *,
    sources: Sequence[str],
    to: Sequence[str],
    contexts: Contexts,
    open_place: OpenStore = open_store,
    older_than: float | None = None,
    add_regions: bool = False,
    session: aws.Session | None = None,
    digests: int | None = 0,
    rate: float = RATE,
    workers: int = WORKERS,
    engine: Engine | None = None,
    overwrite: bool = False,
    on_progress: Progress = _quiet,
) -> Report:
    """Look at every header, and write a plan. No object is changed.

    Uses kms:DescribeKey and kms:ListKeyRotations on the keys ``to``, and kms:DescribeKey on those ``sources`` that are
    not key ARNs.

    Args:
        path: where the plan file appears, whole.
        where: the places: folders, files, and what else ``open_place`` opens.
        sources: the keys that envelopes may be under now: the allow-list, which no envelope adds to. An alias
            stands for the key that it points to now.
        to: the keys that they are to be under: the complete new set.
        contexts: which envelopes are meant; the others are skipped.
        older_than: what was wrapped longer ago than so many seconds is stale as well.
        add_regions: see :class:`~sealwax.fleet.Settings`.
        digests: take the SHA-256 of the payloads of so many stale envelopes; None: of all. They are read for it.
        rate: KMS requests a second, for the estimate of time.
        engine: where headers are looked at; by default ``workers`` threads.

    Raises:
        FileError: the plan is there already, or cannot be written.
        KmsError: a key cannot be found.
        ValueError: no key, or a number that cannot be.
    """
    place = Path(path)
    if place.exists() and not overwrite:
        raise FileError(f"writing the plan '{printable(str(place))}' failed: it is there already (--force replaces it)")
    fleet, notes = _settings(
        sources=sources, to=to, contexts=contexts, older_than=older_than, add_regions=add_regions, session=session
    )
    temporary = place.with_name(f".sealwax-{os.urandom(8).hex()}.part")
    where = absolute(where)
    stores = [open_place(one) for one in where]
    try:
        with Journal.create(temporary, place) as journal:
            journal.set_fact("where", list(where))
            journal.set_fact("settings", fleet.as_dict())
            journal.set_fact("older_than", older_than)
            journal.set_fact("rate", rate)
            journal.set_fact("digests", digests)
            journal.set_fact("kms_calls", 0)
            _scan(journal, fleet, stores, engine or Threads(workers), on_progress)
            _take_digests(journal, stores, digests, workers, on_progress)
            before = tuple(journal.usage())
            journal.set_fact("before", before)
            calls, after = journal.calls(), _expected(before, fleet, journal)
            found = report.of_journal("plan", journal, kms_calls=calls, after=after, notes=notes)
        # Closed, it is one file: SQLite has put its log into it.
        put_in_place(temporary, place)
        return found
    except OSError as error:
        raise FileError(f"writing the plan '{printable(str(place))}' failed: {error.strerror}") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _expected(before: report.Usage, fleet: Settings, journal: Journal) -> report.Usage:
    """Return the usage of keys that a run leaves, where all goes well."""
    wanted = {key.arn: key.material_id.hex() for key in fleet.wanted.keys}
    stale = journal.usage((shard.STALE,))
    counts = {(arn, material): objects for arn, material, objects in before}
    for arn, material, objects in stale:
        counts[arn, material] -= objects
    moved = journal.states().get(shard.STALE, (0, 0))[0]
    for arn, material in wanted.items():
        counts[arn, material] = counts.get((arn, material), 0) + moved
    return tuple(
        sorted(((arn, material, n) for (arn, material), n in counts.items() if n), key=lambda row: (-row[2], row))
    )


def _scan(journal: Journal, fleet: Settings, stores: Sequence[Store], engine: Engine, on_progress: Progress) -> int:
    """Look at every header of every place; the plan then holds what is there, and nothing else.

    Return how many objects it held before that are no longer there.
    """
    done = 0
    # In one transaction: a scan that is interrupted has not been.
    with journal.writing():
        number = journal.begin_scan()
        for place, store in enumerate(stores):
            for entries, found in engine.look(place, store, fleet, journal.record_unlisted):
                journal.record(number, place, list(zip(entries, found, strict=True)))
                done += len(entries)
                on_progress(done, 0)
        return journal.end_scan(number)


def _digest(store: Store, name: str) -> bytes:
    """Return an envelope's id, and behind it the SHA-256 of its payload."""
    header = store.inspect(name).header.preamble
    digest = hashlib.sha256()
    with store.open(name) as file:
        begins = read_full(file, hdr.FIXED_BYTES)
        if begins[: len(hdr.MAGIC)] != hdr.MAGIC or begins[16:32] != header.envelope_id:
            raise RewrapConflictError(f"'{printable(name)}' was replaced while it was read")
        file.seek(header.payload_offset)
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return header.envelope_id + digest.digest()


def _take_digests(
    journal: Journal, stores: Sequence[Store], size: int | None, workers: int, on_progress: Progress
) -> None:
    if size == 0:
        return
    todo = (shard.STALE,)

    def take(found: tuple[int, Item]) -> tuple[int, bytes | None]:
        place, item = found
        try:
            return item.number, _digest(stores[place], item.name)
        except SealwaxError:
            return item.number, None  # it is gone or cannot be read, which the run will say

    if size is None:
        wanted: Iterable[tuple[int, Item]] = (
            (place, item) for place in range(len(stores)) for page in journal.items(todo, place) for item in page
        )
    else:
        wanted = journal.sample(todo, size)
    total = journal.states().get(shard.STALE, (0, 0))[0] if size is None else size
    done = 0
    for part in batches(parallel(wanted, take, workers), _SCAN_BATCH):
        journal.set_digests((number, digest) for number, digest in part if digest is not None)
        done += len(part)
        on_progress(done, total)


def refresh(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: aws.Session | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    on_progress: Progress = _quiet,
) -> None:
    """Scan a plan's places again, against the key material that the wanted keys have now.

    Uses kms:DescribeKey and kms:ListKeyRotations on the wanted keys.

    Raises:
        PlanError: it is no plan, or another run works on it.
    """
    with Journal(path) as journal, journal.alone():
        old = journal.settings()
        age = journal.fact("older_than")
        fleet, _notes = _settings(
            sources=old.sources,
            to=[key.arn for key in old.wanted.keys],
            contexts=old.contexts,
            older_than=None if age is None else float(age),
            add_regions=old.add_regions,
            session=session,
        )
        stores = [open_place(place) for place in journal.fact("where")]
        with journal.writing():
            journal.set_fact("settings", fleet.as_dict())
            # They are under the material that was current then.
            journal.forget_answers()
            _scan(journal, fleet, stores, engine or Threads(workers), on_progress)
            journal.set_fact("before", journal.usage())
        _take_digests(journal, stores, journal.fact("digests"), workers, on_progress)


# --- run


def run(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: aws.Session | None = None,
    rewrapper: Callable[[Settings, Journal], Rewrapper] | None = None,
    rate: float | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    max_error_rate: float = MAX_ERROR_RATE,
    max_duration: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Progress = _quiet,
) -> Report:
    """Re-wrap what a plan found stale. It can be stopped or killed at any moment, and run again.

    One kms:ReEncrypt is made for each distinct wrapped key, context and wanted key. kms:Decrypt is called only where a
    Region is added. What failed before is tried again.

    Args:
        path: the plan file.
        rewrapper: makes what calls KMS; by default one whose rate is limited to ``rate`` requests a second.
        rate: KMS requests a second; the plan's by default. It is halved when KMS throttles, and recovers.
        engine: where objects are re-wrapped; by default ``workers`` threads.
        max_error_rate: stop when more than this part of the last hundred objects has failed.
        max_duration: stop after so many seconds.
        stop: asked before each object: whether to stop.

    Raises:
        PlanError: it is no plan, or another run works on it.
        CredentialsError: nobody is signed in, and nothing was re-wrapped.
    """
    until = None if max_duration is None else time.monotonic() + max_duration
    with Journal(path) as journal, journal.alone():
        fleet = journal.settings()
        stores = [open_place(place) for place in journal.fact("where")]
        rate = journal.fact("rate") if rate is None else rate
        made = (
            Rewrapper(fleet.sources, session=session, limit=RateLimit(rate), answers=journal)
            if rewrapper is None
            else rewrapper(fleet, journal)
        )
        health = Health(max_error_rate, until, stop)
        engine = engine or Threads(workers)
        counts = journal.states()
        total = sum(counts.get(state, (0, 0))[0] for state in TO_DO)
        done = rewrapped = 0
        last_refusal = ""
        states: tuple[str, ...] = TO_DO
        told = 0
        for _ in range(_PASSES):
            left = 0
            for results in engine.rewrap(_parts(journal, states, len(stores)), stores, fleet, made, health):
                journal.settle(results)
                for result in results:
                    rewrapped += result.state == shard.REWRAPPED
                    left += result.state == shard.LEFT
                    last_refusal = result.reason if result.no_credentials else last_refusal
                done += len(results)
                on_progress(min(done, total), total)
            journal.set_fact("kms_calls", journal.fact("kms_calls") + made.calls - told)
            told = made.calls
            # What somebody else was at, or KMS refused for the moment, has another turn.
            states = (shard.LEFT,)
            if not left or health.over():
                break
        found = report.of_journal("run", journal, kms_calls=made.calls, rewrapped=rewrapped, ended=health.ended)
        if not found.stale:
            journal.forget_answers()
    if last_refusal and not rewrapped:
        raise CredentialsError(last_refusal)
    return found


def _parts(journal: Journal, states: Sequence[str], places: int) -> Iterator[tuple[int, list[Item]]]:
    for place in range(places):
        for page in journal.items(states, place):
            yield place, page


# --- status and verify


def status(path: str | os.PathLike[str]) -> Report:
    """Return the figures that stand in a plan file. Nothing is looked at but that file.

    Raises:
        PlanError: it is no plan, or damaged.
    """
    with Journal(path) as journal:
        return report.of_journal("status", journal)


def problems(path: str | os.PathLike[str]) -> list[tuple[str, str, str]]:
    """Return every object of a plan that is neither done nor to do: name, state and reason."""
    with Journal(path) as journal:
        return journal.listed(report.PROBLEMS, -1)


def verify(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: aws.Session | None = None,
    digests: int | None = None,
    decrypt: int = 0,
    workers: int = WORKERS,
    on_progress: Progress = _quiet,
) -> Report:
    """Look at every header again, compare payloads with the plan's digests, and decrypt a sample.

    Nothing is changed but the plan's own figures. Uses kms:Decrypt on the wanted keys for the sample, else no KMS.

    Args:
        digests: compare so many of the digests that the plan has; None: all.
        decrypt: decrypt so many envelopes, drawn at random.

    Raises:
        PlanError: it is no plan, or a run works on it.
    """
    with Journal(path) as journal, journal.alone():
        fleet = journal.settings()
        stores = [open_place(place) for place in journal.fact("where")]
        gone = _scan(journal, fleet, stores, Threads(workers), on_progress)
        checked = replace(_compare(journal, stores, digests, workers), gone=gone)
        calls, checked = _decrypt(journal, fleet, stores, session, decrypt, checked)
        return report.of_journal("verify", journal, kms_calls=calls, checked=checked)


def _compare(journal: Journal, stores: Sequence[Store], size: int | None, workers: int) -> Checked:
    same = replaced = 0
    changed: list[str] = []

    def compare(found: tuple[int, Item, bytes]) -> tuple[str, str]:
        place, item, recorded = found
        try:
            now = _digest(stores[place], item.name)
        except RewrapConflictError:
            return "replaced", item.name
        except SealwaxError:
            return "changed", item.name
        if now[: hdr.ENVELOPE_ID_BYTES] != recorded[: hdr.ENVELOPE_ID_BYTES]:
            return "replaced", item.name
        return "same" if now == recorded else "changed", item.name

    found = (
        (place, item, recorded)
        for place in range(len(stores))
        for page in journal.digested(place)
        for item, recorded in page
    )
    for outcome, name in parallel(itertools.islice(found, size), compare, workers):
        same += outcome == "same"
        replaced += outcome == "replaced"
        if outcome == "changed":
            changed.append(name)
    return Checked(digests=same, changed=tuple(changed), replaced=replaced)


def _decrypt(
    journal: Journal,
    fleet: Settings,
    stores: Sequence[Store],
    session: aws.Session | None,
    size: int,
    checked: Checked,
) -> tuple[int, Checked]:
    if not size:
        return 0, checked
    calls = 0

    def count(_: object) -> None:
        nonlocal calls
        calls += 1

    arns = [key.arn for key in fleet.wanted.keys]
    sealer = Sealer(KmsKeyring(arns[0], decrypt_with=arns, session=session, on_event=count))
    decrypted = elsewhere = 0
    failed: list[tuple[str, str]] = []
    for place, item in journal.sample(_VERIFIABLE, size):
        store = stores[place]
        try:
            preamble = store.inspect(item.name).header.preamble
            if preamble.local_pairs or preamble.kind == hdr.DETACHED:
                elsewhere += 1
                continue
            relpath = shard.relative(item.name, store.location)
            refusal = fleet.contexts.refusal(ctx.decode(preamble.kms_context), relpath)
            if refusal is not None:
                failed.append((item.name, refusal))
                continue
            with (
                store.open(item.name) as file,
                contextlib.closing(sealer.open(file, context=AcceptStoredContext())) as plaintext,
            ):
                while plaintext.read(_READ_BYTES):
                    pass
            decrypted += 1
        except SealwaxError as error:
            failed.append((item.name, str(error)))
    return calls, replace(checked, decrypted=decrypted, undecrypted=tuple(failed), elsewhere=elsewhere)
