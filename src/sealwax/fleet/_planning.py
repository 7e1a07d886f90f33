"""plan and refresh: the functions of the package that write a plan file."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sealwax._aws.session import Session
from sealwax._core import disk, validate
from sealwax._core.foreign.rules import FAMILIES
from sealwax._text import printable
from sealwax.errors import EngineError, FileError
from sealwax.fleet import _proof, _report
from sealwax.fleet._client_objects import WORDS
from sealwax.fleet._journal import Journal, by_use
from sealwax.fleet._lookup import settings_of
from sealwax.fleet._moves import keep_memory
from sealwax.fleet._moving import Targets
from sealwax.fleet._planfile import BESIDE, alone, put_in_place
from sealwax.fleet._report import FleetReport
from sealwax.fleet._scan import OnProgress, Scan
from sealwax.fleet._settings import Contexts, Move, Settings
from sealwax.fleet._state import State
from sealwax.fleet._threads import WORKERS, Engine, Threads
from sealwax.stores import Store, open_store
from sealwax.stores._store import NO_REENCRYPTION, S3_SCHEME, is_key_store

OpenStore = Callable[[str], Store]
"""Opens the store at a location."""

RATE: Final = 1000.0  # a tenth of KMS's smallest quota for an account and Region


def ignore_progress(_done: int, _total: int) -> None:
    pass


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
    on_progress: OnProgress = ignore_progress,
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
        overwrite: whether to replace an existing plan, but no other file. The new one remembers what the old one has
            moved, and the old wrapped keys.
        on_progress: called with how many objects are done, and 0.

    Returns:
        What was found, and what a run will do.

    Raises:
        FileError: the plan exists or cannot be written, or a location does not exist.
        PlanError: a run is using the plan to replace, or that cannot be read.
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
    also = _checked_formats(also)
    move = _checked_move(move, also, contexts)
    refuse_engine(also, engine)
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
    if move is not None and move.into is not None and move.into.startswith(S3_SCHEME):
        open_location(move.into)  # refuses what is no name in S3
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
        with contextlib.ExitStack() as held:
            with Journal.create(temporary, target) as journal:
                # What a run noted in a former plan meanwhile would be lost.
                held.enter_context(alone(target, printable(str(target))))
                for name, value in facts.items():
                    journal.set_fact(name, value)
                keep_memory(target, journal)
                scan = Scan(journal, settings, stores, target, targets=targets_of(settings, open_location), first=True)
                scan.run(engine or Threads(workers), on_progress)
                _proof.take_digests(journal, stores, digests, workers, on_progress)
                report = _reported(journal, settings, notes=notes, unbound=scan.unbound)
            # Once closed it is a single file: SQLite has merged its log.
            put_in_place(temporary, target)
        return report
    except OSError as error:
        raise FileError(f"writing the plan '{printable(str(target))}' failed: {disk.reason(error)}") from error
    finally:
        for suffix in ("", *BESIDE):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _checked_formats(also: Sequence[str]) -> tuple[str, ...]:
    """Return the other formats of a plan, each once.

    Raises:
        ValueError: one is unknown.
    """
    names = tuple(dict.fromkeys(validate.texts("also", also, "names of formats")))
    if unknown := [name for name in names if name not in FAMILIES]:
        raise ValueError(f"also takes {', '.join(map(repr, FAMILIES))}, not {unknown[0]!r}")
    return names


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


def targets_of(settings: Settings, open_location: OpenStore) -> Targets | None:
    return None if settings.move is None else Targets(settings, open_location)


def refuse_engine(also: Sequence[str], engine: Engine | None) -> None:
    if also and not isinstance(engine, Threads | None):
        raise EngineError(
            "Spark does not re-wrap objects of the S3 Encryption Client or move other formats; use threads, on one "
            "machine, or leave them out"
        )


def _reported(journal: Journal, settings: Settings, **more: Any) -> FleetReport:
    """Return the report of a plan that was scanned, with the keys' use before and after a run."""
    before = tuple(journal.usage())
    journal.set_fact("before", before)
    after = _expected_usage(before, settings, journal)
    return _report.of_journal("plan", journal, kms_calls=journal.calls(), after=after, **more)


def _expected_usage(before: _report.Usage, settings: Settings, journal: Journal) -> _report.Usage:
    """Return how many objects will be under each key after a run in which nothing fails."""
    counts = Counter({(arn, material): objects for arn, material, objects in before})
    for arn, material, objects in journal.usage((State.STALE,), staying=False):
        counts[arn, material] -= objects
    done = journal.states().get(State.STALE, (0, 0))[0]
    # Nothing says under which material an object of the S3 Encryption Client is; one that is moved is an envelope.
    formats = {} if settings.move else journal.to_move()
    objects = sum(count for name, (count, _) in formats.items() if name in WORDS)
    for key in settings.wanted.keys:
        counts[key.arn, key.material_id.hex()] += done - objects
        counts[key.arn, ""] += objects
    return tuple(by_use({key: objects for key, objects in counts.items() if objects}))


def refresh(
    path: str | os.PathLike[str],
    *,
    open_location: OpenStore = open_store,
    session: Session | None = None,
    workers: int = WORKERS,
    engine: Engine | None = None,
    on_progress: OnProgress = ignore_progress,
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
        refuse_engine(settings.also, engine)
        stores = [open_location(location) for location in journal.locations()]
        with journal.writing():
            journal.set_fact("settings", settings.as_dict())
            # They are under the material that was current then.
            journal.forget_answers()
            scan = Scan(journal, settings, stores, journal.path, targets=targets_of(settings, open_location))
            scan.run(engine or Threads(workers), on_progress)
            journal.set_fact("before", journal.usage())
        _proof.take_digests(journal, stores, journal.fact("digests"), workers, on_progress)
    return notes
