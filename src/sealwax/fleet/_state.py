"""The states of a fleet's objects, and the ways in which a wrapped key gets into an envelope. Plan files store them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The state of an object. As text it is the word that reports and plan files use."""

    STALE = "stale"
    """It is to be re-wrapped or re-encrypted."""
    FRESH = "fresh"
    """It is wrapped as wanted already."""
    REWRAPPED = "rewrapped"
    """A run has re-wrapped it."""
    REENCRYPTED = "reencrypted"
    """A run has re-encrypted it."""
    MOVED = "moved"
    """It is of another format, and a run has written an envelope of it."""
    REFUSED = "refused"
    """It is stale, but the settings allow no re-wrap and no move, or its store cannot change it without a loss. Or it
    is a row of a key store that was altered."""
    FAILED = "failed"
    """It is stale, and re-wrapping it failed."""
    LEFT = "left"
    """Another program was changing it, or KMS was unavailable: a later pass may succeed. Or the re-wrap has replaced
    what another program wrote."""
    SKIPPED = "skipped"
    """Its context is not one of those given."""
    FOREIGN = "foreign"
    """It is not an envelope."""
    DAMAGED = "damaged"
    """Its header is damaged."""
    UNREADABLE = "unreadable"
    """It could not be read."""
    LINK = "link"
    """It is a link to something outside all locations, which is not followed."""
    UNLISTED = "unlisted"
    """Part of a location could not be listed."""


class StepKind(StrEnum):
    """How one wanted key gets into an envelope."""

    KEEP = "keep"
    """It is there already."""
    REWRAP = "rewrap"
    """With kms:ReEncrypt."""
    ADD = "add"
    """With kms:Decrypt and kms:Encrypt."""


class ForeignDecision(NamedTuple):
    """What to do with an object of another format.

    Attributes:
        state: ``STALE``, ``SKIPPED`` or ``REFUSED``.
        reason: why, for the last two.
        context: its context without the format's own pairs, in canonical form.
    """

    state: State
    reason: str
    context: bytes = b""
