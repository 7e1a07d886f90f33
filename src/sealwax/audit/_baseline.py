"""A baseline: findings that somebody has accepted, with a reason and, where it is not for ever, a last day.

::

    {"format": "sealwax-baseline-1",
     "accepted": [{"rule": "rotation-off", "resource": "arn:aws:kms:...", "reason": "...", "expires": "2027-03-31"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Any, Final

from sealwax._core import trusted
from sealwax._core.context import printable
from sealwax.audit._factsfile import unique
from sealwax.audit._findings import Finding
from sealwax.audit._report import Acceptance, Accepted
from sealwax.errors import FactsError

FORMAT: Final = "sealwax-baseline-1"
_KIND: Final = trusted.Kind("the baseline", FactsError)
MAX_BYTES: Final = 16 << 20


def read(path: str) -> tuple[Acceptance, ...]:
    """Read a baseline file.

    Raises:
        FactsError: it is none, or somebody else can have written it.
        OSError: it cannot be read.
    """
    with trusted.open_file(path, _KIND) as file:
        data = file.read(MAX_BYTES + 1)
    try:
        document = json.loads(data, object_pairs_hook=unique) if len(data) <= MAX_BYTES else None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"it has not the format {FORMAT}")
        return tuple(_acceptance(one) for one in document["accepted"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FactsError(f"'{printable(path)}' is no baseline: {printable(str(error))[:300]}") from None


def _acceptance(one: Any) -> Acceptance:
    if not isinstance(one, dict) or not set(one) <= {"rule", "resource", "reason", "expires"}:
        raise ValueError("an entry is an object of rule, resource, reason and expires")
    expires = one.get("expires")
    return Acceptance(
        _given(one, "rule"),
        _given(one, "resource"),
        _given(one, "reason"),
        None if expires is None else date.fromisoformat(expires),
    )


def _given(one: Any, name: str) -> str:
    text = one.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"an entry has no {name}")
    return text


def apply(
    findings: Iterable[Finding], baseline: Iterable[Acceptance], today: date
) -> tuple[tuple[Finding, ...], tuple[Accepted, ...], tuple[Accepted, ...], tuple[Acceptance, ...]]:
    """Return the findings that count, those that are accepted, those whose acceptance has ended, which count, and the
    entries that match no finding.
    """
    known = {(one.rule, one.resource): one for one in baseline}
    counting: list[Finding] = []
    accepted: list[Accepted] = []
    expired: list[Accepted] = []
    unmatched = dict(known)
    for finding in findings:
        one = known.get((finding.rule, finding.resource))
        unmatched.pop((finding.rule, finding.resource), None)
        if one is not None and (one.expires is None or today <= one.expires):
            accepted.append(Accepted(finding, one.reason, one.expires))
            continue
        counting.append(finding)
        if one is not None:
            expired.append(Accepted(finding, one.reason, one.expires))
    return tuple(counting), tuple(accepted), tuple(expired), tuple(unmatched.values())
