"""Rotation in an AWS Lambda function: re-wraps what is stale when AWS KMS has rotated a key, and at set times.

The function's handler is ``sealwax.fleet.aws_lambda.handler``. It makes its plan anew in ``/tmp`` at each invocation:
what is fresh costs no call of ReEncrypt, so that an event that comes twice, or late, does no harm. Its environment:

- ``SEALWAX_WHERE``: places, as ``s3://bucket/prefix/``, divided by white space.
- ``SEALWAX_FROM``, ``SEALWAX_TO``: the keys that envelopes may be under, and the wanted ones, divided by white space.
- ``SEALWAX_CONTEXT``: a JSON object of names and patterns that stored contexts must meet, as ``{"purpose": "backup"}``.
- ``SEALWAX_ACCEPT_STORED_CONTEXT``: ``1`` where further pairs may be stored.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from sealwax.aws import Session
from sealwax.context import printable
from sealwax.errors import ConfigurationError
from sealwax.fleet import engine
from sealwax.fleet.engine import OpenStore
from sealwax.fleet.settings import Contexts
from sealwax.stores import open_store

_EVENTS: Final = (("aws.kms", "KMS CMK Rotation"), ("aws.events", "Scheduled Event"))
# What is under way at the end of the time is finished, and the counts are written.
_MARGIN_SECONDS: Final = 20.0


class Invocation(Protocol):
    """What Lambda tells a function of its invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the function may still run."""


def handler(event: object, invocation: Invocation) -> dict[str, Any]:
    """Answer an event of EventBridge: see :func:`rotate`."""
    return rotate(event, invocation, os.environ)


def rotate(
    event: object,
    invocation: Invocation,
    environment: Mapping[str, str],
    *,
    session: Session | None = None,
    open_place: OpenStore = open_store,
) -> dict[str, Any]:
    """Plan, and run for as long as the invocation may last.

    Returns:
        What ``sealwax fleet run --json`` prints, and ``more``: whether there is more to do, for the next invocation.

    Raises:
        ConfigurationError: the event is none of a rotation or a schedule, the environment does not say what is to be
            done, or the time is too short.
        SealwaxError: as :func:`sealwax.fleet.plan` and :func:`sealwax.fleet.run` do.
    """
    end = time.monotonic() + invocation.get_remaining_time_in_millis() / 1000 - _MARGIN_SECONDS
    kind = (event.get("source"), event.get("detail-type")) if isinstance(event, dict) else None
    if kind not in _EVENTS:
        raise ConfigurationError(
            "the event is neither 'KMS CMK Rotation' nor 'Scheduled Event'; mend the rule that sent it"
        )
    where, sources, to = (_words(environment, name) for name in ("SEALWAX_WHERE", "SEALWAX_FROM", "SEALWAX_TO"))
    contexts = _contexts(environment)
    if end <= time.monotonic():
        raise ConfigurationError(
            f"{_MARGIN_SECONDS:.0f} seconds are kept to end in; give the function a longer timeout"
        )
    with tempfile.TemporaryDirectory(prefix="sealwax-") as folder:
        plan = Path(folder, "rotation.plan")
        engine.plan(plan, where, sources=sources, to=to, contexts=contexts, session=session, open_place=open_place)
        report = engine.run(plan, session=session, open_place=open_place, max_duration=max(0.0, end - time.monotonic()))
    return report.as_dict() | {"more": report.stale > 0}


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
