"""Findings and their fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Severity(IntEnum):
    """How bad a finding is."""

    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@dataclass(frozen=True, slots=True)
class Standard:
    """A control of a published standard.

    Attributes:
        name: the name of the standard, such as ``"AWS Security Hub"``.
        control: the id of the control in it.
        source: the URL of its text.
    """

    name: str
    control: str
    source: str


class BlockKind(StrEnum):
    """What a block of a fix is for."""

    COMMAND = "command"
    FILE = "file"
    CLOUDFORMATION = "cloudformation"
    TERRAFORM = "terraform"


_LABELS = {
    BlockKind.COMMAND: "AWS CLI",
    BlockKind.CLOUDFORMATION: "Or in CloudFormation",
    BlockKind.TERRAFORM: "Or in Terraform",
}
_LANGUAGES = {BlockKind.COMMAND: "sh", BlockKind.TERRAFORM: "hcl"}


@dataclass(frozen=True, slots=True)
class Block:
    """Text to paste as it is.

    Attributes:
        text: a shell command per line, the content of a file, a CloudFormation template or Terraform configuration.
        kind: which of these it is.
        name: the name of the file, which the commands of the same fix read; empty for other kinds.
    """

    text: str
    kind: BlockKind = BlockKind.COMMAND
    name: str = ""

    @property
    def label(self) -> str:
        """What a report writes above it."""
        return _LABELS.get(self.kind, self.name)

    @property
    def language(self) -> str:
        """The language of its text: ``"sh"``, ``"json"`` or ``"hcl"``."""
        return _LANGUAGES.get(self.kind, "json")


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do about a finding.

    Attributes:
        says: what the fix does, in sentences.
        blocks: what to paste, in this order. CloudFormation and Terraform take the place of the commands.
    """

    says: str
    blocks: tuple[Block, ...] = ()

    def __str__(self) -> str:
        """Return it as text with each block between fences."""
        fenced = (f"{block.label}:\n```{block.language}\n{block.text}\n```" for block in self.blocks)
        return "\n\n".join((self.says, *fenced))


@dataclass(frozen=True, slots=True)
class Finding:
    """One misconfiguration.

    Attributes:
        rule: the id of its rule, such as ``"key-policy-public"``.
        severity: how bad it is.
        resource: the ARN of the misconfigured resource.
        title: one line.
        why: why it matters.
        statement: the exact policy statement, grant or setting; None if something is missing.
        fix: what to do.
        standards: the controls that ask for it.
        detail: the end of the title, which is about this resource; the rest is the same for all findings of the rule.
    """

    rule: str
    severity: Severity
    resource: str
    title: str
    why: str
    statement: Mapping[str, object] | None
    fix: Fix
    standards: tuple[Standard, ...]
    detail: str = ""
