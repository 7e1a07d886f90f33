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
class Block:
    """Something to paste, whole and as it is.

    Attributes:
        text: a command for a shell on each line; or, where there is a name, JSON.
        name: the file that the commands of the fix take the JSON from; ``""`` for commands.
    """

    text: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do.

    Attributes:
        says: sentences: what it does, and what it does not.
        blocks: what to paste, in this order.
    """

    says: str
    blocks: tuple[Block, ...] = ()

    def __str__(self) -> str:
        """Return it as text, each block between fences."""
        parts = [self.says]
        for one in self.blocks:
            label = f"{one.name}:\n" if one.name else ""
            parts.append(f"{label}```{'json' if one.name else 'sh'}\n{one.text}\n```")
        return "\n\n".join(parts)


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
        fix: what to do.
        standards: the controls that ask for it.
    """

    rule: str
    severity: Severity
    resource: str
    title: str
    why: str
    statement: Mapping[str, Any] | None
    fix: Fix
    standards: tuple[Standard, ...]
