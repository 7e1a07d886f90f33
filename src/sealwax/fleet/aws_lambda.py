"""Rotation in an AWS Lambda function: re-wraps what is stale when AWS KMS has rotated a key, and at set times.

The function's handler is ``sealwax.fleet.aws_lambda.handler``; ``deploy/rotation.yaml`` is a template for it. It makes
its plan anew in ``/tmp`` at each invocation, and keeps nothing: what is fresh costs no call of ReEncrypt, so that an
event that comes twice, or late, does no harm, and what a run had no time for is found again by the next one. Its
environment:

- ``SEALWAX_WHERE``: places, as ``s3://bucket/prefix/``, divided by white space.
- ``SEALWAX_FROM``, ``SEALWAX_TO``: the keys that envelopes may be under, and the wanted ones, divided by white space.
- ``SEALWAX_CONTEXT``: a JSON object of names and patterns that stored contexts must meet, as ``{"purpose": "backup"}``.
- ``SEALWAX_ACCEPT_STORED_CONTEXT``: ``1`` where further pairs may be stored.

A run that comes to its end writes one line of JSON: what it did, as three metrics of CloudWatch and in full. One that
cannot be made fails the invocation.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from sealwax._aws.session import Session
from sealwax._core.context import printable
from sealwax.errors import ConfigurationError, EngineError
from sealwax.fleet import _rotation, _shard
from sealwax.fleet._journal import Journal
from sealwax.fleet._report import WRONG, Report
from sealwax.fleet._rotation import OpenStore
from sealwax.fleet._settings import Contexts
from sealwax.stores import open_store

__all__ = ["handler"]

# A schedule is a rule of EventBridge, or one of EventBridge Scheduler.
_EVENTS: Final = (
    ("aws.kms", "KMS CMK Rotation"),
    ("aws.events", "Scheduled Event"),
    ("aws.scheduler", "Scheduled Event"),
)
# What is under way at the end of the time is finished, and the counts are written.
_MARGIN_SECONDS: Final = 60
_MOST_TOLD: Final = 20
_NAMESPACE: Final = "sealwax"
_FOLDER: Final = "sealwax-rotation"
_TIME_WAS_UP: Final = "the time was up"


class Invocation(Protocol):
    """What Lambda tells a function of its invocation."""

    @property
    def function_name(self) -> str:
        """The name of the function."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the function may still run."""


def handler(event: object, invocation: Invocation) -> dict[str, Any]:
    """Answer an event of EventBridge, and write what became of it for CloudWatch: see :func:`rotate`.

    Raises:
        EngineError: too many objects failed, and the run was stopped; or none could be read; or a place could not be
            listed, or has no envelope in it. Whoever watches the function is to hear of that at once; of single
            objects, CloudWatch tells when they keep failing.
    """
    answer = rotate(event, invocation, os.environ, folder=Path(tempfile.gettempdir(), _FOLDER))
    sys.stdout.write(json.dumps(_measured(answer, invocation.function_name)) + "\n")
    sys.stdout.flush()
    if answer["ended"] not in (None, _TIME_WAS_UP):
        raise EngineError(f"the run was stopped: {answer['ended']}; the line before says of some of them why")
    if answer["unreadable"] > 0 and answer["unreadable"] >= answer["objects"]:
        # A fleet that cannot be seen has nothing stale in it, just when KMS has said that it is old.
        raise EngineError(f"none of {answer['unreadable']:,} objects could be read; the line before says why")
    if answer["unlisted"]:
        why = next(one["reason"] for one in answer["problems"] if one["state"] == "unlisted")
        raise EngineError(f"not all of SEALWAX_WHERE could be listed: {why}")
    if answer["empty"]:
        raise EngineError(
            f"no envelope was found in '{printable(answer['empty'][0])}'; see that it is the place that SEALWAX_WHERE "
            "is to name"
        )
    return answer


def rotate(
    event: object,
    invocation: Invocation,
    environment: Mapping[str, str],
    *,
    folder: Path,
    session: Session | None = None,
    open_place: OpenStore = open_store,
) -> dict[str, Any]:
    """Plan, and run for as long as the invocation may last.

    Args:
        folder: where the plan is made. What is there is removed, before and after: a function that Lambda has killed
            leaves its files to the next one.

    Returns:
        What ``sealwax fleet run --json`` prints but for the use of keys; ``more``: whether there is more to do, for the
        next invocation; and ``notes`` on what could not be seen.

    Raises:
        ConfigurationError: the event is none of a rotation or a schedule, the environment does not say what is to be
            done or no envelope is meant by it, the time does not suffice to look at every header, or the role may not
            look at a wanted key.
        SealwaxError: as :func:`sealwax.fleet.plan` and :func:`sealwax.fleet.run` do.
    """
    kind = (event.get("source"), event.get("detail-type")) if isinstance(event, dict) else None
    if kind not in _EVENTS:
        raise ConfigurationError(
            "the event is neither 'KMS CMK Rotation' nor 'Scheduled Event'; mend the rule that sent it"
        )
    where, sources, to = (_words(environment, name) for name in ("SEALWAX_WHERE", "SEALWAX_FROM", "SEALWAX_TO"))
    contexts = _contexts(environment)
    cut = False

    def over() -> bool:
        nonlocal cut
        cut = cut or invocation.get_remaining_time_in_millis() < _MARGIN_SECONDS * 1000
        return cut

    def look(done: int, _total: int) -> None:
        if over():
            raise ConfigurationError(
                f"the time was up after {done:,} headers, {_MARGIN_SECONDS} seconds being kept to end in, and nothing "
                "was re-wrapped; give the function a longer timeout or a smaller place, or run the fleet on a machine"
            )

    look(0, 0)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
        plan = folder / "rotation.plan"
        planned = _rotation.plan(
            plan,
            where,
            sources=sources,
            to=to,
            contexts=contexts,
            session=session,
            open_place=open_place,
            on_progress=look,
        )
        _refuse_blindness(planned)
        _refuse_if_none_is_meant(planned, plan)
        report = _rotation.run(plan, session=session, open_place=open_place, stop=over)
        report = replace(report, problems=tuple(_first(plan, WRONG, _MOST_TOLD)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer = report.as_dict() | {"more": report.stale > 0, "notes": list(planned.notes)}
    # Whoever may write objects decides how many keys they name, and Lambda how long an answer may be.
    del answer["keys_before"], answer["keys_after"]
    if cut and report.ended:
        answer["ended"] = _TIME_WAS_UP
    return answer


def _refuse_blindness(planned: Report) -> None:
    """Old material would else look like a fleet that is always fresh, just when KMS has said that it is old."""
    unseen = [key.arn for key in planned.settings.wanted.keys if not key.material_id]
    if unseen and planned.notes:
        raise ConfigurationError(f"the key material of {printable(unseen[0])} is hidden, so: {planned.notes[0]}")


def _refuse_if_none_is_meant(planned: Report, plan: Path) -> None:
    """A mistyped context would else look like a fleet that is always fresh."""
    if planned.missed:
        ((_, _, reason),) = _first(plan, (_shard.SKIPPED,), 1)
        skipped = planned.count(_shard.SKIPPED)
        raise ConfigurationError(f"SEALWAX_CONTEXT fits none of {skipped:,} envelopes; of one, {reason}")


def _first(plan: Path, states: Sequence[str], limit: int) -> list[tuple[str, str, str]]:
    with Journal(plan) as journal:
        return journal.listed(states, limit)


def _measured(answer: Mapping[str, Any], function: str) -> dict[str, Any]:
    """Return a run's answer as CloudWatch takes metrics from a line of a log (its embedded metric format)."""
    metrics = {
        "Rewrapped": answer["rewrapped"],
        "Failing": answer["failed"] + answer["unreadable"] + answer["damaged"],
        "Unfinished": answer["stale"] - answer["failed"],
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
        raise ConfigurationError(f"the environment lacks {name}; set it in the function's configuration")
    return words


def _contexts(environment: Mapping[str, str]) -> Contexts:
    accept = environment.get("SEALWAX_ACCEPT_STORED_CONTEXT", "") == "1"
    text = environment.get("SEALWAX_CONTEXT", "")
    try:
        pairs = json.loads(text or "{}")
        if not (isinstance(pairs, dict) and all(isinstance(value, str) for value in pairs.values())):
            raise ValueError
    except (ValueError, RecursionError):
        raise ConfigurationError(f"SEALWAX_CONTEXT is no JSON object of texts: '{printable(text[:80])}'") from None
    if not pairs and not accept:
        raise ConfigurationError("say which envelopes are meant: SEALWAX_CONTEXT, or SEALWAX_ACCEPT_STORED_CONTEXT=1")
    return Contexts(tuple(pairs.items()), accept)
