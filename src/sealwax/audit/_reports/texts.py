"""What the formats share: names from an account are somebody else's text, and findings need ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sealwax._core.context import printable
from sealwax.audit._findings import Finding


def plain(text: str) -> str:
    """Return a text with its lines kept, and characters that control a terminal or the direction as escapes."""
    return "\n".join(map(printable, text.split("\n")))


def statement_text(statement: Mapping[str, Any] | None, indent: int | None = None) -> str:
    """Return a statement as JSON; empty for none."""
    return "" if statement is None else json.dumps(dict(statement), indent=indent, ensure_ascii=True, default=str)


def identity(finding: Finding) -> str:
    """Return an id that is the same in the next audit as long as nothing changes."""
    parts = (finding.rule, finding.resource, statement_text(finding.statement))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def region_of(resource: str) -> str:
    """Return the Region of an ARN; empty where it has none."""
    parts = resource.split(":", 5)
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else ""
