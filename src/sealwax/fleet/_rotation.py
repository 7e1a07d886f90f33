"""run, status, problems and verify: the functions of the package over a plan file that exists."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from sealwax._aws.session import Session
from sealwax._core import validate
from sealwax.errors import CredentialsError, EngineError
from sealwax.events import OnEvent
from sealwax.fleet import _client_objects, _proof, _reencrypt, _report
from sealwax.fleet._journal import TO_DO, Journal, Problem
from sealwax.fleet._kms_calls import RETRIES, Rewrapper
from sealwax.fleet._mover import Comparer, FleetMover
from sealwax.fleet._moves import JournalMoves
from sealwax.fleet._moving import Targets
from sealwax.fleet._planning import OpenStore, ignore_progress, refuse_engine, targets_of
from sealwax.fleet._report import FleetReport
from sealwax.fleet._scan import OnProgress, Scan
from sealwax.fleet._settings import Settings
from sealwax.fleet._shard import Item, RunResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import WORKERS, Engine, Health, Threads
from sealwax.kms import RateLimit, RetryPolicy
from sealwax.stores import Store, open_store

MAX_ERROR_RATE: Final = 0.1
_PASSES: Final = 3

_Parts = Iterable[tuple[int, list[Item]]]
_Work = Callable[[_Parts], Iterator[list[RunResult]]]


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
    on_progress: OnProgress = ignore_progress,
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
        job = _Job(journal, settings, stores, engine or Threads(workers), health)
        asks = _Asks(session, limit, retries, on_event)
        if settings.reencrypt:
            work, kms = _reencrypting(job, asks)
        else:
            work, kms = _rewrapping(job, asks, targets_of(settings, open_location))
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


class _Job(NamedTuple):
    """What a run works on, and what does the work."""

    journal: Journal
    settings: Settings
    stores: Sequence[Store]
    engine: Engine
    health: Health


class _Asks(NamedTuple):
    """How a run asks KMS."""

    session: Session | None
    limit: RateLimit
    retries: RetryPolicy
    on_event: OnEvent | None


def _reencrypting(job: _Job, asks: _Asks) -> tuple[_Work, _CountsCalls]:
    """Return what re-encrypts, and what counts its calls.

    Raises:
        EngineError: the engine cannot.
    """
    engine, health = job.engine, job.health
    if not isinstance(engine, Threads):
        raise EngineError("Spark does not re-encrypt; run this plan with threads, on one machine")
    reencrypter = _reencrypt.Reencrypter(job.settings, job.journal, **asks._asdict())

    def work(parts: _Parts) -> Iterator[list[RunResult]]:
        return engine.each(parts, lambda place, items: reencrypter.work(items, job.stores[place], health.over), health)

    return work, reencrypter


def _rewrapping(job: _Job, asks: _Asks, targets: Targets | None) -> tuple[_Work, _CountsCalls]:
    """Return what re-wraps, and moves if there are targets, and what counts its calls.

    Raises:
        EngineError: the engine cannot.
    """
    journal, settings, stores, engine, health = job
    refuse_engine(settings.also, engine)
    if targets is not None or _client_objects.NAME in settings.also:
        # What it notes of other formats is in the plan before it is done, and nowhere else.
        journal.sync_each_commit()
    rewrapper = Rewrapper(settings.sources, answers=journal, blobs=journal, **asks._asdict())
    if targets is None or not isinstance(engine, Threads):
        return lambda parts: engine._rewrap(parts, stores, settings, rewrapper, health), rewrapper
    mover = FleetMover(settings, JournalMoves(journal), targets, rewrapper)

    def work(parts: _Parts) -> Iterator[list[RunResult]]:
        return engine.each(parts, lambda place, items: mover.work(items, stores[place], health.over), health)

    return work, rewrapper


def _passes(
    journal: Journal,
    places: int,
    work: _Work,
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
    told: set[int] = set()
    for _ in range(_PASSES):
        left = 0
        for results in work(_parts(journal, states, places, told)):
            journal.record_results(results)
            for result in results:
                changed[result.state] += 1
                if result.buried:
                    told.add(result.number)
                else:
                    left += result.state == State.LEFT
                no_credentials = result.reason if result.no_credentials else no_credentials
            done += len(results)
            on_progress(min(done, total), total)
        journal.set_fact("kms_calls", journal.fact("kms_calls") + kms.calls - recorded_calls)
        recorded_calls = kms.calls
        # What another program was changing, or KMS refused for the moment, gets another chance. What the re-wrap has
        # buried does not: KMS would say that the object is done, and nobody would look at its versions.
        states = (State.LEFT,)
        if not left or health.over():
            break
    return changed, no_credentials


def _parts(
    journal: Journal, states: Sequence[State], places: int, without: Collection[int]
) -> Iterator[tuple[int, list[Item]]]:
    for place in range(places):
        for page in journal.items(states, place):
            yield place, [item for item in page if item.number not in without]


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
    on_progress: OnProgress = ignore_progress,
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
        targets = targets_of(settings, open_location)
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
