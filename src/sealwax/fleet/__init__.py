"""Rotation of a whole fleet of envelopes: planned, resumable, verified.

``plan`` reads every header and writes a plan file. ``run`` re-wraps what is stale, and can be stopped or killed at any
moment and run again. ``status`` reads the plan file. ``verify`` reads every header again, compares payloads with the
digests in the plan, and decrypts a sample. ``refresh`` scans a plan's locations again, for a scheduler that keeps one
plan.

A re-wrap never reads an envelope's payload or sees its data key: KMS re-wraps the key (kms:ReEncrypt).

Example:
    >>> fleet.plan("rotation.plan", ["backups"], sources=["alias/old"], to=["alias/new"],
    ...            contexts=fleet.Contexts({"purpose": "backup"}))
    >>> fleet.run("rotation.plan")
    >>> assert fleet.verify("rotation.plan", decrypt=10).done
"""

from sealwax._core.staleness import Wanted, WantedKey
from sealwax.fleet._journal import ProblemKind
from sealwax.fleet._planning import OpenStore, plan, refresh
from sealwax.fleet._report import Checked, FleetReport
from sealwax.fleet._rotation import problems, run, status, verify
from sealwax.fleet._scan import OnProgress
from sealwax.fleet._settings import Contexts, Move, Settings
from sealwax.fleet._state import State
from sealwax.fleet._threads import Engine

__all__ = [
    "Checked",
    "Contexts",
    "Engine",
    "FleetReport",
    "Move",
    "OnProgress",
    "OpenStore",
    "ProblemKind",
    "Settings",
    "State",
    "Wanted",
    "WantedKey",
    "plan",
    "problems",
    "refresh",
    "run",
    "status",
    "verify",
]
