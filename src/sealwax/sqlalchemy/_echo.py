"""``echo="debug"``: SQLAlchemy logs the rows that come back, and not those with opened values."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from sealwax.sqlalchemy._types import Sealed

_QUIET = "sealwax_quiet"


def _after_cursor_execute(
    connection: Connection,
    cursor: Any,
    text: str,  # noqa: ARG001
    parameters: Any,  # noqa: ARG001
    context: Any,
    many: bool,  # noqa: ARG001
) -> None:
    # A result logs its rows if its connection logs when the result is made, which is after this.
    if (
        connection._echo
        and cursor.description is not None
        and connection.engine._should_log_debug()
        and _opens(context)
    ):
        connection._log_debug("Rows are not logged: sealed columns are opened in them")
        connection._echo = False
        connection.info[_QUIET] = True


def _opens(context: Any) -> bool:
    """Whether values of type ``Sealed`` are among the results of a statement."""
    compiled = getattr(context, "compiled", None)
    if compiled is None:
        return False
    # Of a bulk INSERT with RETURNING, only one of the two has the columns.
    inner = getattr(getattr(compiled, "compile_state", None), "statement", None)
    return any(_returns_sealed(statement) for statement in (inner, compiled.statement))


def _returns_sealed(statement: Any) -> bool:
    if not isinstance(statement, sa.ReturnsRows):
        return False
    try:
        return any(isinstance(column.type, Sealed) for column in statement.exported_columns)
    except NotImplementedError:
        return True  # SQL in text


def _restore(connection: Connection, *_: Any) -> None:
    if connection.info.pop(_QUIET, False):
        connection._echo = True


def listen() -> None:
    """Look at the results of all engines."""
    event.listen(Engine, "after_cursor_execute", _after_cursor_execute)
    event.listen(Engine, "after_execute", _restore)
    event.listen(Engine, "before_cursor_execute", _restore)
