"""The baseline: accepted findings, each with a reason and optionally a last day.

::

    {"format": "sealwax-baseline-1",
     "accepted": [{"rule": "rotation-off", "resource": "arn:aws:kms:...", "reason": "...", "expires": "2027-03-31"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from sealwax._core import trusted
from sealwax._core.files import reported
from sealwax._text import printable, why_not_read
from sealwax.audit._factsfile import unique_members
from sealwax.audit._findings import Finding
from sealwax.audit._report import Acceptance, Accepted
from sealwax.errors import FactsError

FORMAT: Final = "sealwax-baseline-1"
_KIND: Final = trusted.Kind("the baseline", FactsError)
MAX_BYTES: Final = 16 << 20


def read_baseline(path: str) -> tuple[Acceptance, ...]:
    """Read a baseline file.

    Args:
        path: the path of the file.

    Returns:
        Its entries, for ``run``.

    Raises:
        FactsError: it is not a valid baseline, or other users can write it.
        FileError: it cannot be read.
    """
    with reported(f"reading {_KIND.name}", path), trusted.open_file(path, _KIND) as file:
        data = file.read(MAX_BYTES + 1)
    try:
        document = json.loads(data, object_pairs_hook=unique_members) if len(data) <= MAX_BYTES else None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return tuple(map(_acceptance, document["accepted"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FactsError(f"'{printable(path)}' is not a baseline: {why_not_read(error)[:300]}") from None


def _acceptance(entry: object) -> Acceptance:
    if not isinstance(entry, dict) or not set(entry) <= {"rule", "resource", "reason", "expires"}:
        raise ValueError("an entry must be an object with rule, resource, reason and optionally expires")
    expires = entry.get("expires")
    return Acceptance(
        _text(entry, "rule"),
        _text(entry, "resource"),
        _text(entry, "reason"),
        None if expires is None else date.fromisoformat(expires),
    )


def _text(entry: Mapping[str, object], name: str) -> str:
    text = entry.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"an entry has no {name}")
    return text


def apply(
    findings: Iterable[Finding], baseline: Iterable[Acceptance], today: date
) -> tuple[tuple[Finding, ...], tuple[Accepted, ...], tuple[Accepted, ...], tuple[Acceptance, ...]]:
    """Split findings by a baseline.

    Returns:
        The findings that count, the accepted ones, those whose acceptance has expired (which count too), and the
        entries without a finding.
    """
    entries = {(entry.rule, entry.resource): entry for entry in baseline}
    counting: list[Finding] = []
    accepted: list[Accepted] = []
    expired: list[Accepted] = []
    unmatched = dict(entries)
    for finding in findings:
        entry = entries.get((finding.rule, finding.resource))
        unmatched.pop((finding.rule, finding.resource), None)
        if entry is not None and (entry.expires is None or today <= entry.expires):
            accepted.append(Accepted(finding, entry.reason, entry.expires))
            continue
        counting.append(finding)
        if entry is not None:
            expired.append(Accepted(finding, entry.reason, entry.expires))
    return tuple(counting), tuple(accepted), tuple(expired), tuple(unmatched.values())
