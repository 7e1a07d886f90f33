"""The columns of a row of a key store in a database, whatever library reaches it."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from sealwax._core import context as ctx
from sealwax._core.envelope import inspect
from sealwax.errors import ContextError, HeaderError, KeyStoreError
from sealwax.records._store import KeyKind, KeyRow, KeyState, scope_hash

EPOCH_ID: Final = 1
EPOCH_BYTES: Final = 16
MAX_BLOB_BYTES: Final = 8192


def values_of(row: KeyRow) -> dict[str, object]:
    """Return the columns of a row."""
    return {
        "scope_hash": scope_hash(row.scope),
        "kind": int(row.kind),
        "key_id": row.key_id,
        "generation": row.generation,
        "claim": row.claim,
        "state": str(row.state),
        "created": row.created,
        "made_by": row.made_by,
        # ASCII alone, which every character set and collation keeps as it is.
        "scope": json.dumps(dict(row.scope), sort_keys=True),
        "blob": row.blob,
    }


def known_state(state: str) -> KeyState | None:
    """Return the state of a row, or None for one that this release does not know."""
    try:
        return KeyState(state)
    except ValueError:
        return None


def proven_scope(row: Any) -> dict[str, str] | None:
    """Return the scope that the hash of a damaged row names; None if neither its column nor its wrapped key has it."""
    for read in (_scope_of, _wrapped_scope):
        try:
            scope = read(row)
            if scope_hash(scope) == bytes(row.scope_hash):
                return scope
        except (ValueError, RecursionError, HeaderError, ContextError):
            continue
    return None


def _scope_of(row: Any) -> dict[str, str]:
    scope = json.loads(row.scope)
    if not isinstance(scope, dict) or not all(isinstance(value, str) for value in scope.values()):
        raise ValueError("not an object of strings")
    return cast("dict[str, str]", scope)


def _wrapped_scope(row: Any) -> dict[str, str]:
    pairs = ctx.decode(inspect(bytes(row.blob)).header.preamble.kms_context)
    return {name: value for name, value in pairs.items() if name != ctx.RESERVED}


def key_row(row: Any) -> KeyRow:
    """Return a row of the table.

    Raises:
        KeyStoreError: it was altered.
    """
    try:
        scope, kind = _scope_of(row), KeyKind(row.kind)
    except (ValueError, RecursionError):
        raise _damaged(row, "whose scope or kind is damaged") from None
    if scope_hash(scope) != bytes(row.scope_hash):
        raise _damaged(row, "whose scope is not the one that its hash names")
    state = known_state(row.state)
    if state is None:
        raise _damaged(row, f"in the state {row.state[:20]!a}, which this release does not know", newer=True)
    return KeyRow(
        scope,
        kind,
        row.generation,
        bytes(row.key_id),
        state,
        row.created,
        row.made_by,
        bytes(row.blob),
        row.claim,
    )


def _damaged(row: Any, how: str, *, newer: bool = False) -> KeyStoreError:
    """Return the error, with what names the row in SQL: no method or command can."""
    restore = "Use a newer release, or restore" if newer else "Restore"
    return KeyStoreError(
        f"the key store has a row {how} (scope_hash {bytes(row.scope_hash).hex()}, key_id {bytes(row.key_id).hex()}). "
        f"{restore} the row from a backup, with SQL; if nobody has it undamaged, DELETE it by this key_id: what was "
        "sealed under it is lost"
    )
