"""What an audit says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad it is."""

    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@dataclass(frozen=True, slots=True)
class Standard:
    """A control of a published standard.

    Attributes:
        name: such as ``"AWS Security Hub"``.
        control: the control's id in it.
        source: the address of the text that says so.
    """

    name: str
    control: str
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: the rule's id, such as ``"key-policy-public"``.
        severity: how bad it is.
        resource: the ARN of what it is about.
        title: one line.
        why: why it matters.
        statement: the exact policy statement, grant or setting that it is about; None where something is missing.
        fix: what to do: a ready policy, a command, or a sentence.
        standards: the controls that ask for it.
    """

    rule: str
    severity: Severity
    resource: str
    title: str
    why: str
    statement: Mapping[str, Any] | None
    fix: str
    standards: tuple[Standard, ...]
