"""The engine of threads: plan, refresh, run, status and verify over a plan file. See the package's docstring."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sealwax._aws.session import Clients, Session
from sealwax._core import disk, validate
from sealwax._core.context import printable
from sealwax._core.staleness import Wanted, WantedKey
from sealwax.errors import CredentialsError, EngineError, FileError
from sealwax.fleet import _proof, _reencrypt, _report, _shard
from sealwax.fleet._journal import TO_DO, Journal
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._planfile import names_in, put_in_place
from sealwax.fleet._report import Report
from sealwax.fleet._settings import Contexts, Settings
from sealwax.fleet._shard import Found, Item, Result
from sealwax.fleet._threads import WORKERS, Engine, Health, Threads, batches
from sealwax.kms import RateLimit, _names
from sealwax.kms._describe import describe
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._files import FileStore

OpenStore = Callable[[str], Store]
Progress = Callable[[int, int], None]
"""Called with how many objects are done, and how many there are; 0 where that is not known yet."""

RATE: Final = 1000.0  # a tenth of KMS's smallest quota for an account and Region
MAX_ERROR_RATE: Final = 0.1
_SCAN_BATCH: Final = 64
_PASSES: Final = 3


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
    reencrypt_since: int | None = None,
    session: Session | None = None,
) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of a fleet, its keys looked up once; and notes on what could not be seen."""
    if not sources or not to or isinstance(sources, str) or isinstance(to, str):
        raise ValueError("sources and to are sequences of at least one key name")
    if older_than is not None:
        validate.number("older_than", older_than, "seconds")
    clients = Clients(session)
    wanted, notes = [], []
    for key in to:
        found = describe(key, clients)
        wanted.append(WantedKey(found.arn, found.material_id, found.rotated_at))
        notes += [f"old key material cannot be told for sure: {error}" for error in found.unseen]
    wanted = list({key.arn: key for key in wanted}.values())
    # Pinned: what an alias points to later is not what was planned.
    arns = dict.fromkeys(
        key if _names.parse_arn(key) else describe(key, clients, rotations=False).arn for key in sources
    )
    reencrypt = reencrypt_since is not None
    since = reencrypt_since or (0 if older_than is None else int(time.time() - older_than))
    return Settings(tuple(arns), Wanted(tuple(wanted), since), contexts, add_regions, reencrypt), tuple(notes)


# --- plan


def absolute(where: Sequence[str]) -> list[str]:
    """Return places by names that hold in any folder, as a plan keeps them."""
    # One without a name is none, and not the folder one is in: it is a variable that nobody has set.
    return [one if "://" in one or not one else str(Path(one).absolute()) for one in where]


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
    reencrypt: bool = False,
    session: Session | None = None,
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
        reencrypt: encrypt everything that is meant anew, under new data keys: :mod:`sealwax.fleet._reencrypt`.
        digests: take the SHA-256 of the payloads of so many stale envelopes; None: of all. They are read for it.
        rate: KMS requests a second, for the estimate of time.
        engine: where headers are looked at; by default ``workers`` threads.

    Raises:
        FileError: the plan is there already, or cannot be written.
        CredentialsError: nobody is signed in.
        KmsError: a key cannot be found.
        ValueError: no key, a number that cannot be, or something that does not go with ``reencrypt``.
    """
    if reencrypt and (older_than is not None or add_regions or digests != 0):
        raise ValueError("older_than, add_regions and digests do not go with reencrypt")
    validate.number("rate", rate, "requests a second")
    validate.kind("contexts", contexts, Contexts)
    where = validate.texts("where", where, "locations")
    # Of one second, nobody knows what was wrapped first: what was in it counts as earlier.
    since = int(time.time()) + 1 if reencrypt else None
    place = Path(path)
    if place.exists() and not overwrite:
        raise FileError(f"writing the plan '{printable(str(place))}' failed: it is there already (--force replaces it)")
    fleet, notes = _settings(
        sources=sources,
        to=to,
        contexts=contexts,
        older_than=older_than,
        add_regions=add_regions,
        reencrypt_since=since,
        session=session,
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
            _scan(journal, fleet, stores, engine or Threads(workers), on_progress, place, first=True)
            _proof.take_digests(journal, stores, digests, workers, on_progress)
            before = tuple(journal.usage())
            journal.set_fact("before", before)
            calls, after = journal.calls(), _expected(before, fleet, journal)
            found = _report.of_journal("plan", journal, kms_calls=calls, after=after, notes=notes)
        # Closed, it is one file: SQLite has put its log into it.
        put_in_place(temporary, place)
        return found
    except OSError as error:
        raise FileError(f"writing the plan '{printable(str(place))}' failed: {disk.reason(error)}") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _expected(before: _report.Usage, fleet: Settings, journal: Journal) -> _report.Usage:
    """Return the usage of keys that a run leaves, where all goes well."""
    wanted = {key.arn: key.material_id.hex() for key in fleet.wanted.keys}
    stale = journal.usage((_shard.STALE,))
    counts = {(arn, material): objects for arn, material, objects in before}
    for arn, material, objects in stale:
        counts[arn, material] -= objects
    moved = journal.states().get(_shard.STALE, (0, 0))[0]
    for arn, material in wanted.items():
        counts[arn, material] = counts.get((arn, material), 0) + moved
    return tuple(
        sorted(((arn, material, n) for (arn, material), n in counts.items() if n), key=lambda row: (-row[2], row))
    )


def _scan(
    journal: Journal,
    fleet: Settings,
    stores: Sequence[Store],
    engine: Engine,
    on_progress: Progress,
    plan: Path,
    *,
    first: bool = False,
) -> int:
    """Look at every header of every place; the plan then holds what is there, and nothing else.

    Return how many objects it held before that are no longer there.

    Args:
        plan: where the plan file is, or will be.
        first: whether what is met now is what a re-encryption calls old.
    """
    done = 0
    # In one transaction: a scan that is interrupted has not been.
    with journal.writing():
        number = journal.begin_scan()
        roots = [os.path.realpath(store.location) for store in stores if isinstance(store, FileStore)]
        empty: list[int] = []
        in_part: set[int] = set()

        def record(place: int, pairs: Iterable[tuple[Entry, Found]]) -> None:
            pairs = list(pairs)
            met = journal.met(number, place, (entry.name for entry, _ in pairs))
            journal.record(number, place, [pair for pair in pairs if pair[0].name not in met])

        for place, store in enumerate(stores):
            has_envelopes = False

            def unlisted(message: str, place: int = place) -> None:
                in_part.add(place)
                journal.record_unlisted(message)

            own = names_in(store.location, (plan, journal.path))
            for entries, found in engine.look(place, store, fleet, unlisted, own):
                if fleet.reencrypt:
                    found = _judged(journal, place, found, first)
                record(place, zip(entries, found, strict=True))
                # What cannot be read may be one.
                has_envelopes = has_envelopes or any(one.state != _shard.FOREIGN for one in found)
                done += len(entries)
                on_progress(done, 0)
            if isinstance(store, FileStore):
                for links in batches(store.links_out(roots), _SCAN_BATCH):
                    record(place, map(_link, links))
            if not has_envelopes and place not in in_part:
                empty.append(place)
        journal.set_fact("empty", empty)
        return journal.end_scan(number, in_part)


def _link(link: tuple[str, str]) -> tuple[Entry, Found]:
    """Return what a plan keeps of a link, and of where it leads."""
    name, there = link
    todo = "and no link is followed: name that place too" if Path(there).exists() else "where nothing is: remove it"
    why = f"it leads to '{printable(there)}', {todo}"
    return Entry(name, 0, "", 0.0), Found(0, name, _shard.LINK, why)


def _judged(journal: Journal, place: int, found: Sequence[Found], first: bool) -> list[Found]:
    if first:
        meant = (one for one in found if one.state in (_shard.STALE, _shard.REFUSED))
        journal.set_old(mark for one in meant for mark in _reencrypt.marks_of(one))
    return [_reencrypt.judged(one, journal, journal.number_of(place, one.name)) for one in found]


def refresh(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: Session | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    on_progress: Progress = _quiet,
) -> tuple[str, ...]:
    """Scan a plan's places again, against the key material that the wanted keys have now.

    Uses kms:DescribeKey and kms:ListKeyRotations on the wanted keys.

    Returns:
        Notes on what could not be seen of these keys.

    Raises:
        PlanError: it is no plan, or another run works on it.
    """
    with Journal(path) as journal, journal.alone():
        old = journal.settings()
        age = journal.fact("older_than")
        fleet, notes = _settings(
            sources=old.sources,
            to=[key.arn for key in old.wanted.keys],
            contexts=old.contexts,
            older_than=None if age is None else float(age),
            add_regions=old.add_regions,
            reencrypt_since=old.wanted.wrapped_since if old.reencrypt else None,
            session=session,
        )
        stores = [open_place(place) for place in journal.fact("where")]
        with journal.writing():
            journal.set_fact("settings", fleet.as_dict())
            # They are under the material that was current then.
            journal.forget_answers()
            _scan(journal, fleet, stores, engine or Threads(workers), on_progress, journal.path)
            journal.set_fact("before", journal.usage())
        _proof.take_digests(journal, stores, journal.fact("digests"), workers, on_progress)
    return notes


# --- run


def run(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: Session | None = None,
    rewrapper: Callable[[Settings, Journal], Rewrapper] | None = None,
    rate: float | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    max_error_rate: float = MAX_ERROR_RATE,
    max_duration: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Progress = _quiet,
) -> Report:
    """Re-wrap what a plan found stale, or re-encrypt it. It can be stopped or killed at any moment, and run again.

    One kms:ReEncrypt is made for each distinct wrapped key, context and wanted key. kms:Decrypt is called only where a
    Region is added. To re-encrypt, kms:Decrypt and kms:GenerateDataKey are called for each envelope, and kms:Encrypt
    for each wanted key but the first. What failed before is tried again.

    Args:
        path: the plan file.
        rewrapper: makes what calls KMS; by default one whose rate is limited to ``rate`` requests a second.
        rate: KMS requests a second; the plan's by default. It is halved when KMS throttles, and recovers.
        engine: where objects are re-wrapped; by default ``workers`` threads, which alone re-encrypt.
        max_error_rate: stop when more than this part of the last hundred objects has failed.
        max_duration: stop after so many seconds.
        stop: asked before each object: whether to stop.

    Raises:
        PlanError: it is no plan, or another run works on it.
        CredentialsError: nobody is signed in, and nothing was done.
        EngineError: the engine does not re-encrypt.
        ValueError: a number that cannot be.
    """
    validate.number("max_error_rate", max_error_rate, "of the last objects", least=0)
    if max_duration is not None:
        validate.number("max_duration", max_duration, "seconds", least=0)
    until = None if max_duration is None else time.monotonic() + max_duration
    with Journal(path) as journal, journal.alone():
        fleet = journal.settings()
        stores = [open_place(place) for place in journal.fact("where")]
        rate = journal.fact("rate") if rate is None else rate
        health = Health(max_error_rate, until, stop)
        engine = engine or Threads(workers)
        limit = RateLimit(rate)
        made: Rewrapper | _reencrypt.Reencrypter
        if fleet.reencrypt:
            made = maker = _reencrypt.Reencrypter(fleet, journal, session=session, limit=limit)
            if not isinstance(engine, Threads):
                raise EngineError("data is re-encrypted by threads, not by Spark: run the plan without --engine spark")
            threads = engine

            def work(parts: Iterable[tuple[int, list[Item]]]) -> Iterator[list[Result]]:
                return threads.each(parts, lambda place, items: maker.work(items, stores[place], health.over), health)
        else:
            made = wrapping = (
                Rewrapper(fleet.sources, session=session, limit=limit, answers=journal)
                if rewrapper is None
                else rewrapper(fleet, journal)
            )

            def work(parts: Iterable[tuple[int, list[Item]]]) -> Iterator[list[Result]]:
                return engine.rewrap(parts, stores, fleet, wrapping, health)

        counts = journal.states()
        total = sum(counts.get(state, (0, 0))[0] for state in TO_DO)
        done = 0
        changed: Counter[str] = Counter()
        last_refusal = ""
        states: tuple[str, ...] = TO_DO
        told = 0
        for _ in range(_PASSES):
            left = 0
            for results in work(_parts(journal, states, len(stores))):
                journal.settle(results)
                for result in results:
                    changed[result.state] += 1
                    left += result.state == _shard.LEFT
                    last_refusal = result.reason if result.no_credentials else last_refusal
                done += len(results)
                on_progress(min(done, total), total)
            journal.set_fact("kms_calls", journal.fact("kms_calls") + made.calls - told)
            told = made.calls
            # What somebody else was at, or KMS refused for the moment, has another turn.
            states = (_shard.LEFT,)
            if not left or health.over():
                break
        rewrapped, reencrypted = changed[_shard.REWRAPPED], changed[_shard.REENCRYPTED]
        found = _report.of_journal(
            "run", journal, kms_calls=made.calls, rewrapped=rewrapped, reencrypted=reencrypted, ended=health.ended
        )
        if not found.stale:
            journal.forget_answers()
    if last_refusal and not (rewrapped or reencrypted):
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
        return _report.of_journal("status", journal)


def problems(path: str | os.PathLike[str]) -> list[tuple[str, str, str]]:
    """Return every object of a plan that is neither done nor to do: name, state and reason."""
    with Journal(path) as journal:
        return journal.listed(_report.PROBLEMS, -1)


def verify(
    path: str | os.PathLike[str],
    *,
    open_place: OpenStore = open_store,
    session: Session | None = None,
    digests: int | None = None,
    decrypt: int = 0,
    workers: int = WORKERS,
    on_progress: Progress = _quiet,
) -> Report:
    """Look at every header again, compare payloads with the plan's digests, and decrypt a sample.

    Nothing is changed but the plan's own figures. Uses kms:Decrypt on the wanted keys for the sample, and for each
    digest of what was re-encrypted, which is one of the plaintext; else no KMS.

    Args:
        digests: compare so many of the digests that the plan has, drawn at random; None: all.
        decrypt: decrypt so many envelopes, drawn at random.

    Raises:
        PlanError: it is no plan, or a run works on it.
        CredentialsError: nobody is signed in.
    """
    with Journal(path) as journal, journal.alone():
        fleet = journal.settings()
        stores = [open_place(place) for place in journal.fact("where")]
        gone = _scan(journal, fleet, stores, Threads(workers), on_progress, journal.path)
        opener = _proof.Opener(fleet, session)
        checked = replace(
            _proof.compare(journal, fleet, stores, digests, workers, opener),
            gone=gone,
            leftovers=_proof.leftovers(stores),
        )
        checked = _proof.decrypt_sample(journal, fleet, stores, decrypt, checked, opener)
        return _report.of_journal("verify", journal, kms_calls=opener.calls, checked=checked)
