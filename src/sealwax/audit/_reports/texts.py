"""What the formats share: escaping of names, which come from the account, and ids of findings."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from sealwax.audit._findings import Finding
from sealwax.audit._report import Audit

_KEY: Final = re.compile("arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")


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


def with_aliases(audit: Audit, text: str) -> str:
    """Return a text in which the ARNs of keys have their aliases beside them."""
    return _KEY.sub(lambda arn: f"{arn[0]} ({names})" if (names := aliases_of(audit, arn[0])) else arn[0], text)


def named(audit: Audit, resource: str) -> str:
    """Return a resource with its aliases beside it."""
    aliases = aliases_of(audit, resource)
    return f"{resource} ({aliases})" if aliases else resource


def region_of(resource: str) -> str:
    """Return the Region of an ARN, or an empty string."""
    parts = resource.split(":", 5)
    return parts[3] if len(parts) == 6 and parts[0] == "arn" else ""
