"""What the formats share: escaping of names, which come from the account, and ids of findings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sealwax._text import printable
from sealwax.audit._findings import Finding
from sealwax.audit._report import Audit


def plain(text: str) -> str:
    """Return a text with its lines, and with control and direction characters escaped."""
    return "\n".join(map(printable, text.split("\n")))


def statement_text(statement: Mapping[str, object] | None, indent: int | None = None) -> str:
    """Return a statement as JSON, or an empty string."""
    return "" if statement is None else json.dumps(dict(statement), indent=indent, ensure_ascii=True, default=str)


def identity(finding: Finding) -> str:
    """Return an id that stays the same in later audits until the finding changes."""
    parts = (finding.rule, finding.resource, statement_text(finding.statement))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def aliases_of(audit: Audit, resource: str) -> str:
    """Return the aliases of a key, or an empty string."""
    return ", ".join(audit.aliases.get(resource, ()))


def region_of(resource: str) -> str:
    """Return the Region of an ARN, or an empty string."""
    parts = resource.split(":", 5)
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else ""
