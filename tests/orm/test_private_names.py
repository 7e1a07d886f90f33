"""The names of SQLAlchemy that begin with "_" and that sealwax uses: each is there, and no other is used.

A release of SQLAlchemy that drops one fails here first, and the test says what depends on it.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute
from sqlalchemy.sql import dml
from sqlalchemy.sql.selectable import CompoundSelect

import sealwax.sqlalchemy

HERE = Path(sealwax.sqlalchemy.__file__).parent
_TABLE = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True))
_SELECT, _INSERT, _UPDATE = sa.select(_TABLE), sqlite.insert(_TABLE).values(a=1), sa.update(_TABLE)

# For each name, where it has to be, and what depends on it.
NAMES: dict[str, tuple[tuple[Any, ...], str]] = {
    "_annotate": ((_TABLE.c.a,), "select(User.email) selects the row too"),
    "_annotations": ((_TABLE.c.a, _INSERT), "select(User.email); the table of a bulk INSERT"),
    "_memoized_method___clause_element__": ((ColumnProperty.Comparator,), "select(User.email)"),
    "_parententity": ((InstrumentedAttribute,), "which class an attribute belongs to"),
    "_set_parent": ((sa.TypeDecorator,), "a type knows its column"),
    "_static_cache_key": ((sa.TypeDecorator,), "statements of two columns are cached apart"),
    "_values": ((_INSERT, _UPDATE), "values(...) is sealed"),
    "_multi_values": ((_INSERT,), "values([...]) is sealed"),
    "_generate": ((_INSERT,), "values([...]) is sealed"),
    "_propagate_attrs": ((_INSERT,), "values(...) by names of attributes"),
    "_select_names": ((_INSERT,), "INSERT FROM SELECT is refused"),
    "_post_values_clause": ((_INSERT,), "upserts are checked"),
    "_order_by_clauses": ((_SELECT, CompoundSelect), "ORDER BY is refused"),
    "_group_by_clauses": ((_SELECT, CompoundSelect), "GROUP BY is refused"),
    "_having_criteria": ((_SELECT,), "HAVING in text is refused"),
    "_distinct": ((_SELECT,), "DISTINCT is refused"),
    "_distinct_on": ((_SELECT,), "DISTINCT ON is refused"),
    "_limit_clause": ((_SELECT,), "find() refuses a LIMIT"),
    "_offset_clause": ((_SELECT,), "find() refuses an OFFSET"),
    "_fetch_clause": ((_SELECT,), "find() refuses a FETCH"),
    "_variant_mapping": ((sa.Text(),), "storage= is checked in each database"),
    "_raw_columns": ((_SELECT,), "DISTINCT is refused, but not of a class"),
    "_echo": ((sa.create_engine("sqlite://").connect(),), "opened rows are not logged"),
    "_should_log_debug": ((sa.Engine,), "opened rows are not logged"),
    "_log_debug": ((Connection,), "opened rows are not logged"),
    "_get_running_loop": ((asyncio,), "whether a key can be awaited"),
}
# By getattr, where a release may lack them; the tests of updates in order and of bulk INSERTs depend on them.
OPTIONAL = {"_ordered_values", "_maintain_values_ordering", "_emit_insert_table", "_emit_update_table"}


def used() -> set[str]:
    """Return the private names that our files use and do not define."""
    attributes: set[str] = set()
    own: set[str] = set()
    for path in HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    own.add(node.attr)
                attributes.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                attributes.add(node.value)
    overridden = {"_set_parent", "_static_cache_key", "_memoized_method___clause_element__"}
    return {name for name in attributes | overridden if name[0] == "_" and name[:2] != "__"} - (own - overridden)


def test_only_these_are_used() -> None:
    assert used() - {"_", "_ci"} == NAMES.keys() | OPTIONAL


def test_each_is_there() -> None:
    missing = {
        f"{name} of {thing}: {why}"
        for name, (things, why) in NAMES.items()
        for thing in things
        if not hasattr(thing, name)
    }
    assert not missing
    assert hasattr(dml.Update, "_ordered_values") or hasattr(dml.Update, "_maintain_values_ordering")
