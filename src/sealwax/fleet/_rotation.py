"""plan, refresh, run, status, problems and verify: the functions of the package, over a plan file."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from sealwax._aws.session import Session
from sealwax._core import disk, validate
from sealwax._text import printable
from sealwax.errors import CredentialsError, EngineError, FileError
from sealwax.events import OnEvent
from sealwax.fleet import _proof, _reencrypt, _report
from sealwax.fleet._journal import TO_DO, Journal, Problem, by_use
from sealwax.fleet._kms_calls import RETRIES, Rewrapper
from sealwax.fleet._lookup import settings_of
from sealwax.fleet._mover import Comparer, FleetMover
from sealwax.fleet._moves import JournalMoves, keep_moves
from sealwax.fleet._moving import FAMILIES, Targets
from sealwax.fleet._planfile import BESIDE, put_in_place
from sealwax.fleet._report import FleetReport
from sealwax.fleet._scan import OnProgress, Scan
from sealwax.fleet._settings import Contexts, Move, Settings
from sealwax.fleet._shard import Item, RunResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import WORKERS, Engine, Health, Threads
from sealwax.kms import RateLimit, RetryPolicy
from sealwax.stores import Store, open_store
from sealwax.stores._store import NO_REENCRYPTION, is_key_store

OpenStore = Callable[[str], Store]
"""Opens the store at a location."""

RATE: Final = 1000.0  # a tenth of KMS's smallest quota for an account and Region
MAX_ERROR_RATE: Final = 0.1
_PASSES: Final = 3

_Parts = Iterable[tuple[int, list[Item]]]


def _ignore_progress(_done: int, _total: int) -> None:
    pass


# --- plan


def absolute(locations: Sequence[str]) -> list[str]:
    """Return locations by names that are valid in any working directory, as a plan stores them."""
    return [_absolute(name) for name in locations]


def _absolute(name: str) -> str:
    if is_key_store(name):
        from sealwax.stores import key_rows

        return key_rows.absolute(name)
    # An empty name is an unset variable, not the working directory.
    return name if "://" in name or not name else str(Path(name).absolute())


def plan(
    path: str | os.PathLike[str],
    locations: Sequence[str],
    *,
    sources: Sequence[str],
    to: Sequence[str],
    contexts: Contexts,
    open_location: OpenStore = open_store,
    older_than: float | None = None,
    add_regions: bool = False,
    reencrypt: bool = False,
    also: Sequence[str] = (),
    move: Move | None = None,
    session: Session | None = None,
    digests: int | None = 0,
    rate: float = RATE,
    workers: int = WORKERS,
    engine: Engine | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = _ignore_progress,
) -> FleetReport:
    """Read every header, and write a plan. No object is changed.

    Uses kms:DescribeKey and kms:ListKeyRotations on the keys ``to``, and kms:DescribeKey on those ``sources`` that are
    not key ARNs.

    Args:
        path: where to write the plan file.
        locations: folders, files, and what else ``open_location`` opens.
        sources: the keys that envelopes may be wrapped under now: an allow-list, to which no envelope adds. An alias
            stands for the key that it points to now.
        to: the keys to wrap them under: the complete new set.
        contexts: which envelopes to work on, by their stored context; the others are skipped.
        open_location: opens the store at a location.
        older_than: also re-wrap what was wrapped longer ago than this many seconds.
        add_regions: as in ``Settings``.
        reencrypt: re-encrypt all these envelopes under new data keys, instead of re-wrapping stale ones.
        also: other formats that the plan is about: ``"s3ec"``, objects of the S3 Encryption Client, ``"esdk"``,
            messages of the AWS Encryption SDK, and ``"envkms01"``. Objects of the S3 Encryption Client are re-wrapped;
            they do not name their KMS keys, so a run asks KMS for each. The others are counted.
        move: make envelopes of all of these, and leave them where they are.
        session: a boto3 Session for KMS; an ordinary one by default.
        digests: store the SHA-256 of the payloads of this many stale envelopes for ``verify``; None: of all. Those
            payloads are read.
        rate: KMS requests per second, for the estimated time.
        workers: how many threads read objects.
        engine: what reads the headers: a ``fleet.spark.Spark``, or ``workers`` threads by default.
        overwrite: whether to replace an existing plan. The new one remembers what the old one has moved.
        on_progress: called with how many objects are done, and 0.

    Returns:
        What was found, and what a run will do.

    Raises:
        FileError: the plan exists or cannot be written, or a location does not exist.
        CredentialsError: there are no credentials.
        KmsError: a key cannot be looked up.
        KeyStoreError: a key store cannot be read.
        ValueError: an argument is not valid, cannot be combined with ``reencrypt``, or is a URL with a password.

    Example:
        >>> fleet.plan("rotation.plan", ["backups"], sources=["alias/old"], to=["alias/new"],
        ...            contexts=fleet.Contexts({"purpose": "backup"}))
    """
    if reencrypt and (older_than is not None or add_regions or digests != 0 or also):
        raise ValueError("reencrypt cannot be combined with older_than, add_regions, digests or also")
    also = tuple(dict.fromkeys(validate.texts("also", also, "names of formats")))
    if unknown := [name for name in also if name not in FAMILIES]:
        raise ValueError(f"also takes {', '.join(map(repr, FAMILIES))}, not {unknown[0]!r}")
    move = _checked_move(move, also, contexts)
    _refuse_engine(also, engine)
    validate.number("rate", rate, "requests a second")
    validate.kind("contexts", contexts, Contexts)
    locations = absolute(validate.texts("locations", locations, "names"))
    if reencrypt and any(map(is_key_store, locations)):
        raise ValueError(f"reencrypt cannot be combined with a key store: {NO_REENCRYPTION}; use Records.roll()")
    # What was wrapped in this very second counts as earlier: nobody can know.
    since = int(time.time()) + 1 if reencrypt else None
    target = Path(path)
    if target.exists() and not overwrite:
        raise FileError(
            f"writing the plan '{printable(str(target))}' failed: it already exists; pass overwrite=True to replace it"
        ) from FileExistsError()
    settings, aliases, notes = settings_of(
        sources=sources,
        to=to,
        contexts=contexts,
        older_than=older_than,
        add_regions=add_regions,
        reencrypt_since=since,
        also=also,
        move=move,
        session=session,
    )
    temporary = target.with_name(f".sealwax-{os.urandom(8).hex()}.part")
    stores = [open_location(location) for location in locations]
    facts = {
        "where": locations,
        "settings": settings.as_dict(),
        "aliases": aliases,
        "older_than": older_than,
        "rate": rate,
        "digests": digests,
        "kms_calls": 0,
    }
    try:
        with Journal.create(temporary, target) as journal:
            for name, value in facts.items():
                journal.set_fact(name, value)
            keep_moves(target, journal)
            scan = Scan(journal, settings, stores, target, targets=_targets(settings, open_location), first=True)
            scan.run(engine or Threads(workers), on_progress)
            if scan.unbound:
                notes = (*notes, _unbound(scan.unbound))
            _proof.take_digests(journal, stores, digests, workers, on_progress)
            before = tuple(journal.usage())
            journal.set_fact("before", before)
            after = _expected_usage(before, settings, journal)
            report = _report.of_journal("plan", journal, kms_calls=journal.calls(), after=after, notes=notes)
        # Once closed it is a single file: SQLite has merged its log.
        put_in_place(temporary, target)
        return report
    except OSError as error:
        raise FileError(f"writing the plan '{printable(str(target))}' failed: {disk.reason(error)}") from error
    finally:
        for suffix in ("", *BESIDE):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _checked_move(move: Move | None, also: Sequence[str], contexts: Contexts) -> Move | None:
    """Return how to move, with a name of its place that is valid in any working directory.

    Raises:
        ValueError: it cannot be done.
    """
    if move is None:
        return None
    validate.kind("move", move, Move)
    validate.kind("contexts", contexts, Contexts)
    if not also:
        raise ValueError("move needs also: name the formats that become envelopes")
    if not contexts.suffix:
        raise ValueError("move needs a suffix of contexts: an envelope has the name of its source, and the suffix")
    return move if move.into is None else replace(move, into=_absolute(move.into))


def _targets(settings: Settings, open_location: OpenStore) -> Targets | None:
    return None if settings.move is None else Targets(settings, open_location)


def _refuse_engine(also: Sequence[str], engine: Engine | None) -> None:
    if also and not isinstance(engine, Threads | None):
        raise EngineError(
            "Spark does not re-wrap objects of the S3 Encryption Client or move other formats; use threads, on one "
            "machine, or leave them out"
        )


def _unbound(count: int) -> str:
    return (
        f"{count:,} object{' is' if count == 1 else 's are'} of the S3 Encryption Client and bound to no context of "
        "their own: whoever may change their metadata can give one the wrapped key of another, and the re-wrap would "
        "move it too"
    )


def _expected_usage(before: _report.Usage, settings: Settings, journal: Journal) -> _report.Usage:
    """Return how many objects will be under each key after a run in which nothing fails."""
    counts = Counter({(arn, material): objects for arn, material, objects in before})
    for arn, material, objects in journal.usage((State.STALE,), staying=False):
        counts[arn, material] -= objects
    moved = journal.states().get(State.STALE, (0, 0))[0]
    for key in settings.wanted.keys:
        counts[key.arn, key.material_id.hex()] += moved
    return tuple(by_use({key: objects for key, objects in counts.items() if objects}))


def refresh(
    path: str | os.PathLike[str],
    *,
    open_location: OpenStore = open_store,
    session: Session | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    on_progress: OnProgress = _ignore_progress,
) -> tuple[str, ...]:
    """Scan a plan's locations again, and look up the current key material of the wanted keys.

    For a scheduler that keeps one plan. Uses kms:DescribeKey and kms:ListKeyRotations on the wanted keys.

    Args:
        path: the plan file.
        open_location, session, workers, engine, on_progress: as for ``plan``.

    Returns:
        Notes on what KMS did not show about these keys.

    Raises:
        PlanError: it is not a plan, or another run is using it.
        CredentialsError, FileError, KmsError: as for ``plan``.
    """
    with Journal(path) as journal, journal.alone():
        old = journal.settings()
        age = journal.fact("older_than")
        settings, _, notes = settings_of(
            sources=old.sources,
            to=[key.arn for key in old.wanted.keys],
            contexts=old.contexts,
            older_than=None if age is None else float(age),
            add_regions=old.add_regions,
            reencrypt_since=old.wanted.wrapped_since if old.reencrypt else None,
            also=old.also,
            move=old.move,
            session=session,
        )
        _refuse_engine(settings.also, engine)
        stores = [open_location(location) for location in journal.locations()]
        with journal.writing():
            journal.set_fact("settings", settings.as_dict())
            # They are under the material that was current then.
            journal.forget_answers()
            scan = Scan(journal, settings, stores, journal.path, targets=_targets(settings, open_location))
            scan.run(engine or Threads(workers), on_progress)
            journal.set_fact("before", journal.usage())
        _proof.take_digests(journal, stores, journal.fact("digests"), workers, on_progress)
    return notes


# --- run


class _CountsCalls(Protocol):
    calls: int


def run(
    path: str | os.PathLike[str],
    *,
    open_location: OpenStore = open_store,
    session: Session | None = None,
    rate: float | None = None,
    retries: RetryPolicy = RETRIES,
    workers: int = WORKERS,
    engine: Engine | None = None,
    max_error_rate: float = MAX_ERROR_RATE,
    max_duration: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    on_progress: OnProgress = _ignore_progress,
    on_event: OnEvent | None = None,
) -> FleetReport:
    """Re-wrap or re-encrypt what a plan found stale. It can be stopped or killed at any moment, and resumed.

    Makes one kms:ReEncrypt for each distinct wrapped key, context and wanted key, and kms:Decrypt only to add a Region.
    Re-encrypting takes kms:Decrypt and kms:GenerateDataKey for each envelope, and kms:Encrypt for each further wanted
    key. What failed before is tried again.

    Args:
        path: the plan file.
        open_location: as for ``plan``.
        session: a boto3 Session for KMS; an ordinary one by default.
        rate: KMS requests per second; the plan's by default. It is halved when KMS throttles, and recovers.
        retries: how long and how often a KMS request is retried.
        workers: how many objects to work on at a time.
        engine: where to work: a ``fleet.spark.Spark``, or ``workers`` threads by default. Only threads re-encrypt.
        max_error_rate: stop when more than this fraction of the last hundred objects failed.
        max_duration: stop after this many seconds.
        stop: called before each object; returns whether to stop.
        on_progress: called with how many objects are done, and how many there are.
        on_event: called with a ``sealwax.events.KmsCall`` after every KMS request of a thread; it must be quick.

    Returns:
        What this run did, and what is left.

    Raises:
        PlanError: it is not a plan, or another run is using it.
        CredentialsError: there are no credentials, and nothing was done.
        EngineError: the engine cannot re-encrypt.
        ValueError: an argument is not valid.

    Example:
        >>> fleet.run("rotation.plan").stale
        0
    """
    validate.number("max_error_rate", max_error_rate, "of the last objects", least=0)
    validate.watcher(on_event)
    if max_duration is not None:
        validate.number("max_duration", max_duration, "seconds", least=0)
    until = None if max_duration is None else time.monotonic() + max_duration
    with Journal(path) as journal, journal.alone():
        settings = journal.settings()
        stores = [open_location(location) for location in journal.locations()]
        limit = RateLimit(journal.fact("rate") if rate is None else rate)
        health = Health(max_error_rate, until, stop)
        engine = engine or Threads(workers)
        kms: _CountsCalls
        if settings.reencrypt:
            if not isinstance(engine, Threads):
                raise EngineError("Spark does not re-encrypt; run this plan with threads, on one machine")
            kms = reencrypter = _reencrypt.Reencrypter(
                settings, journal, session=session, limit=limit, retries=retries, on_event=on_event
            )
            threads = engine

            def work(parts: _Parts) -> Iterator[list[RunResult]]:
                return threads.each(
                    parts, lambda place, items: reencrypter.work(items, stores[place], health.over), health
                )
        else:
            _refuse_engine(settings.also, engine)
            kms = rewrapper = Rewrapper(
                settings.sources,
                session=session,
                limit=limit,
                retries=retries,
                answers=journal,
                blobs=journal,
                on_event=on_event,
            )

            if (targets := _targets(settings, open_location)) is not None:
                journal.sync_each_commit()
                mover = FleetMover(settings, JournalMoves(journal), targets, rewrapper)

            def work(parts: _Parts) -> Iterator[list[RunResult]]:
                if targets is not None and isinstance(engine, Threads):
                    return engine.each(
                        parts, lambda place, items: mover.work(items, stores[place], health.over), health
                    )
                return engine._rewrap(parts, stores, settings, rewrapper, health)

        changed, no_credentials = _passes(journal, len(stores), work, kms, health, on_progress)
        rewrapped, reencrypted, moved = (changed[state] for state in (State.REWRAPPED, State.REENCRYPTED, State.MOVED))
        report = _report.of_journal(
            "run",
            journal,
            kms_calls=kms.calls,
            rewrapped=rewrapped,
            reencrypted=reencrypted,
            moved=moved,
            ended=health.ended,
        )
        if not report.stale:
            journal.forget_answers()
    if no_credentials and not (rewrapped or reencrypted or moved):
        raise CredentialsError(no_credentials)
    return report


def _passes(
    journal: Journal,
    places: int,
    work: Callable[[_Parts], Iterator[list[RunResult]]],
    kms: _CountsCalls,
    health: Health,
    on_progress: OnProgress,
) -> tuple[Counter[State], str]:
    """Work on everything to do, and again on what is left; return counts by state, and why credentials were missing."""
    counts = journal.states()
    total = sum(counts.get(state, (0, 0))[0] for state in TO_DO)
    done = recorded_calls = 0
    changed: Counter[State] = Counter()
    no_credentials = ""
    states: tuple[State, ...] = TO_DO
    for _ in range(_PASSES):
        left = 0
        for results in work(_parts(journal, states, places)):
            journal.record_results(results)
            for result in results:
                changed[result.state] += 1
                left += result.state == State.LEFT
                no_credentials = result.reason if result.no_credentials else no_credentials
            done += len(results)
            on_progress(min(done, total), total)
        journal.set_fact("kms_calls", journal.fact("kms_calls") + kms.calls - recorded_calls)
        recorded_calls = kms.calls
        # What another program was changing, or KMS refused for the moment, gets another chance.
        states = (State.LEFT,)
        if not left or health.over():
            break
    return changed, no_credentials


def _parts(journal: Journal, states: Sequence[State], places: int) -> Iterator[tuple[int, list[Item]]]:
    for place in range(places):
        for page in journal.items(states, place):
            yield place, page


# --- status and verify


def status(path: str | os.PathLike[str]) -> FleetReport:
    """Read the figures in a plan file, and nothing else.

    Args:
        path: the plan file.

    Returns:
        The plan's figures.

    Raises:
        PlanError: it is not a plan, or is damaged.
    """
    with Journal(path) as journal:
        return _report.of_journal("status", journal)


def problems(path: str | os.PathLike[str]) -> list[Problem]:
    """List every object of a plan that is neither done nor still to be done.

    Args:
        path: the plan file.

    Returns:
        Each object's name, state and reason: problems first, then what was skipped.

    Raises:
        PlanError: it is not a plan, or is damaged.
    """
    with Journal(path) as journal:
        return journal.listed(_report.PROBLEMS, -1)


def verify(
    path: str | os.PathLike[str],
    *,
    open_location: OpenStore = open_store,
    session: Session | None = None,
    digests: int | None = None,
    decrypt: int = 0,
    workers: int = WORKERS,
    on_progress: OnProgress = _ignore_progress,
) -> FleetReport:
    """Read every header again, compare payloads with the plan's digests, and decrypt a sample.

    Changes only the plan's own figures. Uses kms:Decrypt on the wanted keys for the sample and, since re-encrypted
    envelopes have digests of their plaintext, to compare those. If the plan moves, kms:Decrypt on the sources and on
    the wanted keys is used to compare what was moved with its envelopes. Otherwise it calls no KMS.

    Args:
        path: the plan file.
        open_location: as for ``plan``.
        session: a boto3 Session for KMS; an ordinary one by default.
        digests: compare this many of the plan's digests, and of what was moved, at random; None: all.
        decrypt: decrypt this many envelopes, at random.
        workers: how many objects to read at a time.
        on_progress: as for ``plan``.

    Returns:
        The plan's figures now, with ``checked``; ``done`` says whether all is right.

    Raises:
        PlanError: it is not a plan, or a run is using it.
        CredentialsError: there are no credentials.

    Example:
        >>> fleet.verify("rotation.plan", decrypt=10).done
        True
    """
    with Journal(path) as journal, journal.alone():
        settings = journal.settings()
        stores = [open_location(location) for location in journal.locations()]
        targets = _targets(settings, open_location)
        gone = Scan(journal, settings, stores, journal.path, targets=targets).run(Threads(workers), on_progress)
        opener = _proof.Opener(settings, session)
        checked = replace(
            _proof.compare(journal, settings, stores, digests, workers, opener),
            gone=gone,
            leftovers=_proof.leftovers(stores),
        )
        if targets is not None:
            sources = opener.keyring_of(settings.sources)
            comparer = Comparer(settings, JournalMoves(journal), targets, sources, opener.sealer)
            checked = _proof.compare_moved(journal, stores, digests, workers, comparer, checked)
        checked = _proof.decrypt_sample(journal, settings, stores, decrypt, checked, opener)
        return _report.of_journal("verify", journal, kms_calls=opener.calls, checked=checked)
