"""Rotation in an AWS Lambda function: re-wraps stale envelopes when AWS KMS has rotated a key, and on a schedule.

The function's handler is ``sealwax.fleet.aws_lambda.handler``; ``deploy/rotation.yaml`` is a template for it. Each
invocation makes a new plan in ``/tmp`` and keeps nothing. Fresh envelopes cost no KMS call, so an event that comes
twice or late does no harm, and the next run does what one had no time for. Its environment:

- ``SEALWAX_LOCATIONS``: locations such as ``s3://bucket/prefix/``, separated by spaces.
- ``SEALWAX_FROM``, ``SEALWAX_TO``: the keys that envelopes may be under, and the wanted ones, separated by spaces.
- ``SEALWAX_CONTEXT``: a JSON object of names and patterns for stored contexts, such as ``{"purpose": "backup"}``.
- ``SEALWAX_ACCEPT_STORED_CONTEXT``: ``1`` if envelopes may store other pairs too.
- ``SEALWAX_ALSO``: ``s3ec`` to also re-wrap objects of the S3 Encryption Client. They do not name their KMS keys, so
  each run asks KMS about all of them. If there is no time for all, a run takes those that were changed longest ago and
  random ones in turn.

A run writes one line of JSON with its report and four CloudWatch metrics. If it cannot run, the invocation fails.
"""

from __future__ import annotations

import itertools
import json
import operator
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from sealwax._aws.session import Session
from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX
from sealwax._text import printable
from sealwax.errors import ConfigurationError, EngineError
from sealwax.fleet import _planning, _rotation
from sealwax.fleet._journal import Journal, Problem
from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._planning import OpenStore
from sealwax.fleet._report import WRONG, FleetReport
from sealwax.fleet._settings import Contexts, Settings
from sealwax.fleet._shard import Item, RunResult, ScanResult
from sealwax.fleet._state import State
from sealwax.fleet._threads import Health, Threads
from sealwax.stores import Entry, Store, open_store
from sealwax.stores._store import is_key_store

# Schedules are rules of EventBridge, or of EventBridge Scheduler.
_EVENTS: Final = (
    ("aws.kms", "KMS CMK Rotation"),
    ("aws.events", "Scheduled Event"),
    ("aws.scheduler", "Scheduled Event"),
)
# Time to finish the objects in progress, and to write the report.
_MARGIN_SECONDS: Final = 60
_MAX_PROBLEMS: Final = 20
_NAMESPACE: Final = "sealwax"
_FOLDER: Final = "sealwax-rotation"
_TIME_IS_UP: Final = "the time is up"


__all__ = ["Invocation", "handler", "rotate"]


class Invocation(Protocol):
    """What Lambda passes as the context of an invocation."""

    @property
    def function_name(self) -> str:
        """The name of the function."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how many milliseconds the function may still run."""


def handler(event: object, invocation: Invocation) -> dict[str, Any]:
    """Handle an event from EventBridge, and write the report for CloudWatch. See ``rotate``.

    Args:
        event: the event.
        invocation: Lambda's context.

    Returns:
        The report.

    Raises:
        EngineError: the run stopped because too many objects failed, no object could be read, or a location could not
            be listed or has no envelope. Failures of single objects are in the metrics only.
        SealwaxError: as for ``rotate``.
    """
    answer = rotate(event, invocation, os.environ, folder=Path(tempfile.gettempdir(), _FOLDER))
    sys.stdout.write(json.dumps(_measured(answer, invocation.function_name)) + "\n")
    sys.stdout.flush()
    if answer["ended"] not in (None, _TIME_IS_UP):
        raise EngineError(f"the run stopped: {answer['ended']}; the log line before gives reasons")
    if answer["unreadable"] > 0 and answer["unreadable"] >= answer["objects"]:
        # An unreadable fleet would otherwise look fresh, just after KMS has rotated its key.
        raise EngineError(f"none of {answer['unreadable']:,} objects could be read; the log line before gives reasons")
    if answer["unlisted"]:
        why = next(row["reason"] for row in answer["problems"] if row["state"] == State.UNLISTED)
        raise EngineError(f"not all of SEALWAX_LOCATIONS could be listed: {why}")
    if answer["empty"]:
        raise EngineError(
            f"no envelope was found in '{printable(answer['empty'][0])}'; check that SEALWAX_LOCATIONS is right"
        )
    return answer


def rotate(
    event: object,
    invocation: Invocation,
    environment: Mapping[str, str],
    *,
    folder: Path,
    session: Session | None = None,
    open_location: OpenStore = open_store,
) -> dict[str, Any]:
    """Plan, and run for as long as the invocation may last.

    Args:
        event: the event from EventBridge.
        invocation: Lambda's context.
        environment: the settings, as environment variables.
        folder: where to make the plan. Its contents are removed before and after: a killed invocation leaves its files
            to the next one.
        session: a boto3 Session for KMS; an ordinary one by default.
        open_location: opens the store at a location.

    Returns:
        What ``sealwax fleet run --json`` prints, without the counts by key; ``more``: whether the next invocation has
        more to do; ``overwritten``: how many objects another program wrote just before their re-wrap, which has
        replaced what it wrote; and ``notes`` on what KMS did not show, and on objects that share a context.

    Raises:
        ConfigurationError: the event is neither a rotation nor a schedule, the environment is incomplete or selects no
            envelope, there is no time to read every header, or the role may not describe a wanted key.
        SealwaxError: as for ``fleet.plan`` and ``fleet.run``.
    """
    kind = (event.get("source"), event.get("detail-type")) if isinstance(event, dict) else None
    if kind not in _EVENTS:
        raise ConfigurationError(
            "the event is neither 'KMS CMK Rotation' nor 'Scheduled Event'; fix the rule that sent it"
        )
    names = ("SEALWAX_LOCATIONS", "SEALWAX_FROM", "SEALWAX_TO")
    locations, sources, to = (_words(environment, name) for name in names)
    if any(map(is_key_store, locations)):
        raise ConfigurationError(
            "SEALWAX_LOCATIONS names a key store, which this function does not rotate; run 'sealwax fleet' on a "
            "machine that reaches its database"
        )
    contexts = _contexts(environment)
    also = environment.get("SEALWAX_ALSO", "").split()
    if also not in ([], ["s3ec"]):
        raise ConfigurationError(f"SEALWAX_ALSO takes s3ec, not '{printable(environment['SEALWAX_ALSO'][:80])}'")
    cut = False

    def over() -> bool:
        nonlocal cut
        cut = cut or invocation.get_remaining_time_in_millis() < _MARGIN_SECONDS * 1000
        return cut

    def check_time(done: int, _total: int) -> None:
        if over():
            raise ConfigurationError(
                f"only {done:,} headers could be read in time ({_MARGIN_SECONDS} seconds are reserved to finish), and "
                "nothing was re-wrapped; give the function a longer timeout or a smaller location, or run 'sealwax "
                "fleet' on a machine"
            )

    overwritten: list[Problem] = []
    engine = _InTurn(overwritten) if also else Threads()
    check_time(0, 0)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        plan = folder / "rotation.plan"
        planned = _planning.plan(
            plan,
            locations,
            sources=sources,
            to=to,
            contexts=contexts,
            also=also,
            session=session,
            open_location=open_location,
            engine=engine,
            on_progress=check_time,
        )
        _refuse_hidden_material(planned)
        _refuse_if_all_skipped(planned, plan)
        report = _rotation.run(plan, session=session, open_location=open_location, engine=engine, stop=over)
        # The next invocation makes a new plan, in which an overwritten object is done: nobody would hear of it again.
        problems = dict.fromkeys([*overwritten, *_first(plan, WRONG, _MAX_PROBLEMS)])
        report = replace(report, problems=tuple(problems)[:_MAX_PROBLEMS])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer = report.as_dict()
    answer |= {"more": report.stale > 0, "overwritten": len(overwritten), "notes": list(planned.remarks)}
    # Writers of objects decide how many keys these name, but Lambda limits the size of a response.
    del answer["keys_before"], answer["keys_after"]
    if cut and report.ended:
        answer["ended"] = _TIME_IS_UP
    return answer


class _InTurn(Threads):
    """Threads that do not begin with the same objects in each invocation.

    Objects of the S3 Encryption Client look stale to each plan. In the order of a listing, those that are done could
    take the time of all others. A re-wrapped object is as new as its re-wrap, so the oldest ones are the likeliest to
    be left; but old ones may be done, and new ones may not, so every other object is a random one.

    Args:
        overwritten: where to note the objects whose re-wrap has replaced what another program wrote.
    """

    def __init__(self, overwritten: list[Problem]) -> None:
        super().__init__()
        self._overwritten = overwritten
        self._modified: dict[str, float] = {}

    def _scan(
        self, place: int, store: Store, settings: Settings, unlisted: Callable[[str], None], own: Collection[str]
    ) -> Iterator[tuple[list[Entry], list[ScanResult]]]:
        for entries, results in super()._scan(place, store, settings, unlisted, own):
            self._modified.update((entry.name, entry.modified) for entry in entries)
            yield entries, results

    def _rewrap(
        self,
        parts: Iterable[tuple[int, list[Item]]],
        stores: Sequence[Store],
        settings: Settings,
        rewrapper: Rewrapper,
        health: Health,
    ) -> Iterator[list[RunResult]]:
        for results in super()._rewrap(self._in_turn(parts), stores, settings, rewrapper, health):
            self._overwritten += [(each.name, each.state, each.reason) for each in results if each.buried]
            yield results

    def _in_turn(self, parts: Iterable[tuple[int, list[Item]]]) -> Iterator[tuple[int, list[Item]]]:
        left = [(place, item) for place, items in parts for item in items]
        oldest = sorted(left, key=lambda each: self._changed(each[1].name))
        pairs = zip(oldest, random.sample(left, len(left)), strict=True)
        order = dict.fromkeys(itertools.chain.from_iterable(pairs))
        for place, each in itertools.groupby(order, operator.itemgetter(0)):
            yield place, [item for _, item in each]

    def _changed(self, name: str) -> float:
        # The re-wrap of an object with an instruction file changes that file.
        return max(self._modified.get(each, 0.0) for each in (name, name + INSTRUCTION_SUFFIX))


def _refuse_hidden_material(planned: FleetReport) -> None:
    """Old key material would otherwise look fresh, just after KMS has rotated the key."""
    unseen = [key.arn for key in planned.settings.wanted.keys if not key.material_id]
    if unseen and planned.notes:
        raise ConfigurationError(f"KMS does not show the key material of {printable(unseen[0])}: {planned.notes[0]}")


def _refuse_if_all_skipped(planned: FleetReport, plan: Path) -> None:
    """With a mistyped context, a fleet would otherwise look fresh."""
    if planned.missed:
        ((_, _, reason),) = _first(plan, (State.SKIPPED,), 1)
        skipped = planned.count(State.SKIPPED)
        raise ConfigurationError(f"SEALWAX_CONTEXT matches none of {skipped:,} envelopes; of one, {reason}")


def _first(plan: Path, states: Sequence[State], limit: int) -> list[Problem]:
    with Journal(plan) as journal:
        return journal.listed(states, limit)


def _measured(answer: Mapping[str, Any], function: str) -> dict[str, Any]:
    """Return a report in CloudWatch's embedded metric format, which turns a log line into metrics."""
    metrics = {
        "Rewrapped": answer["rewrapped"],
        "Failing": answer["failed"] + answer["unreadable"] + answer["damaged"],
        "Unfinished": answer["stale"] - answer["failed"],
        "Overwritten": answer["overwritten"],
    }
    return {
        "_aws": {
            "Timestamp": time.time_ns() // 1_000_000,
            "CloudWatchMetrics": [
                {
                    "Namespace": _NAMESPACE,
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [{"Name": name, "Unit": "Count"} for name in metrics],
                }
            ],
        },
        "FunctionName": function,
        **metrics,
        **answer,
    }


def _words(environment: Mapping[str, str], name: str) -> list[str]:
    words = environment.get(name, "").split()
    if not words:
        raise ConfigurationError(f"the environment variable {name} is missing; set it in the function's configuration")
    return words


def _contexts(environment: Mapping[str, str]) -> Contexts:
    accept = environment.get("SEALWAX_ACCEPT_STORED_CONTEXT", "") == "1"
    text = environment.get("SEALWAX_CONTEXT", "")
    try:
        pairs = json.loads(text or "{}")
        if not (isinstance(pairs, dict) and all(isinstance(value, str) for value in pairs.values())):
            raise ValueError
    except (ValueError, RecursionError):
        raise ConfigurationError(f"SEALWAX_CONTEXT is not a JSON object of strings: '{printable(text[:80])}'") from None
    if not pairs and not accept:
        raise ConfigurationError("say which envelopes to re-wrap: SEALWAX_CONTEXT, or SEALWAX_ACCEPT_STORED_CONTEXT=1")
    return Contexts(tuple(pairs.items()), accept)
