"""How rows of a key store are found by what was typed, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sealwax._text import printable
from sealwax.cli import console
from sealwax.cli.console import counted
from sealwax.errors import HeaderError, KeyStoreError

if TYPE_CHECKING:
    from sealwax.records import KeyRow, KeyStore

COLUMNS: Final = ("SCOPE", "KIND", "GENERATION", "STATE", "KEY ID", "CREATED", "MADE BY", "KMS KEY")
# Of 32: enough to tell a million keys apart, and short enough for a table.
SHORT_ID: Final = 12
_UNKNOWN: Final = "-"


def scope_text(scope: Mapping[str, str]) -> str:
    """Return a scope as it is shown, and as it is typed to confirm something."""
    return printable(",".join(f"{name}={value}" for name, value in sorted(scope.items())))


def rows_of(store: KeyStore, scope: Mapping[str, str]) -> list[KeyRow]:
    """Return all rows of a scope, by kind and generation.

    Raises:
        KeyStoreError: there is none, so that a mistyped scope is no success.
    """
    near = list(store.list(scope))
    rows = [row for row in near if row.scope == scope]
    if rows:
        return in_order(rows)
    hint = "`sealwax records list` shows the scopes"
    if near:
        scopes = len({scope_text(row.scope) for row in near})
        hint = f"{counted(scopes, 'scope')} {'has' if scopes == 1 else 'have'} these pairs and more; {hint}"
    raise KeyStoreError(f"the key store has no data key of the scope {scope_text(scope)}; {hint}")


def in_order(rows: Iterable[KeyRow]) -> list[KeyRow]:
    """Sort rows by scope, kind and generation."""
    return sorted(rows, key=lambda row: (sorted(row.scope.items()), row.kind, row.generation, row.key_id))


def kms_keys(row: KeyRow) -> list[str] | None:
    """Return the ARNs of the KMS keys that a row says it is wrapped under; None if it cannot be read."""
    from sealwax._core.envelope import inspect

    if not row.blob:
        return []
    try:
        return [key.key_arn for key in inspect(row.blob).wrapped_keys]
    except HeaderError:
        return None


def named(row: KeyRow) -> str:
    """Return how messages name a row."""
    kind = "" if row.kind == 1 else "index key, "
    return f"{scope_text(row.scope)}: {kind}generation {row.generation}, key id {row.key_id.hex()[:SHORT_ID]}"


def _kind(row: KeyRow) -> str:
    return row.kind.name.lower()


def _state(row: KeyRow) -> str:
    # Another row counts for its generation: it lost a race, or was put back later.
    return str(row.state) if row.claim is not None or row.state == "shredded" else f"{row.state}, opens only"


def _created(row: KeyRow) -> datetime | None:
    try:
        return datetime.fromtimestamp(row.created, UTC)
    except (ValueError, OverflowError, OSError):  # the database holds any number
        return None


def _shown_keys(row: KeyRow) -> str:
    keys = kms_keys(row)
    return "unreadable" if keys is None else ", ".join(keys) or _UNKNOWN


def cells(row: KeyRow) -> tuple[str, ...]:
    """Return a row of the table whose head is ``COLUMNS``."""
    created = _created(row)
    return (
        scope_text(row.scope),
        _kind(row),
        str(row.generation),
        _state(row),
        row.key_id.hex()[:SHORT_ID],
        f"{created:%Y-%m-%d %H:%M} UTC" if created else _UNKNOWN,
        row.made_by or _UNKNOWN,
        _shown_keys(row),
    )


def facts(row: KeyRow) -> list[tuple[str, str]]:
    """Return a row as named facts."""
    created = _created(row)
    return [
        ("scope", scope_text(row.scope)),
        ("key", f"{_kind(row)} key, generation {row.generation}, {_state(row)}"),
        ("created", f"{created:%Y-%m-%d %H:%M:%S} UTC" if created else _UNKNOWN),
        ("made by", printable(row.made_by) or _UNKNOWN),
        ("KMS key", printable(_shown_keys(row))),
    ]


def as_dict(row: KeyRow) -> dict[str, object]:
    """Return a row for JSON."""
    created = _created(row)
    return {
        "scope": dict(row.scope),
        "kind": _kind(row),
        "generation": row.generation,
        "state": str(row.state),
        "claim": row.claim,
        "key_id": row.key_id.hex(),
        "created": created.isoformat() if created else None,
        "made_by": row.made_by or None,
        "kms_keys": kms_keys(row),
    }


def report(row: KeyRow, outcome: str, *, as_json: bool) -> None:
    """Print what became of one data key."""
    if as_json:
        console.print_json({"outcome": outcome, "key": as_dict(row)})
    else:
        console.report(f"{named(row)}: {outcome}")
