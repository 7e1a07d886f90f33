"""When a grant should be retired, kept in its name.

KMS grants do not expire. A name of this form tells ``sealwax audit`` when one is due, so that it can report overdue
grants::

    sealwax:due/2026-11-24T21:00:00Z/5f1c9a2e0b7d4c38

The last part makes names unique. For an identical request, name included, CreateGrant returns the existing grant, and
retiring it would end someone else's access.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final

# KMS accepts names of ^[a-zA-Z0-9:/_-]+$ up to 256 characters.
_NAME: Final = re.compile(r"sealwax:due/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?:/[a-zA-Z0-9:/_-]*)?", re.ASCII)
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


def due_name(due: datetime) -> str:
    """Return a new name for a grant that is due to be retired at a time with a time zone."""
    return f"sealwax:due/{due.astimezone(UTC).strftime(_FORM)}/{secrets.token_hex(8)}"


def due_of(name: str | None) -> datetime | None:
    """Return when a grant of that name is due to be retired, or None if the name does not tell."""
    match = _NAME.fullmatch(name or "")
    try:
        return None if match is None else datetime.strptime(match[1], _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
