"""What `sealwax records stale`, `reseal` and `verify` print, also for programs that find the columns otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, record_moves, record_rows
from sealwax.cli.console import counted

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

    from sealwax.records import KeyRow, Records
    from sealwax.records.moving import OldForm
    from sealwax.records.tables import (
        IndexCounts,
        KeyUse,
        ResealCounts,
        ResealReport,
        RowFailure,
        SealedColumn,
        StaleReport,
    )
    from sealwax.records.tables import VerifyCounts as Verified

KMS: Final = 7
# Keys that are shown one by one; --json has them all.
_SHOWN: Final = 20
# The same refusal by KMS has another one at each call.
_REQUEST_ID: Final = re.compile(r",? request id [\w-]+")


# --- stale


def tell_stale(report: StaleReport, *, as_json: bool) -> int:
    """Print how many records are under which keys, and what to do; return the exit status."""
    if as_json:
        console.print_json(stale_as_dict(report))
    else:
        print_stale(report)
    if report.stale:
        console.warn(
            f"{counted(report.stale, 'record')} {are(report.stale)} not under the newest key; `sealwax records reseal` "
            "seals records again"
        )
    if report.old:
        console.warn(
            f"{counted(report.old, 'value')} {are(report.old)} still of the form that the column moves from; `sealwax "
            "records reseal` makes records of them"
        )
    if report.not_records:
        _warn_of_foreign("", report.not_records)
    for name, count in report.without_index.items():
        if count:
            console.warn(
                f"{name}: {counted(count, 'row')} with a value and no index; `sealwax records reseal` fills "
                f"{'it' if count == 1 else 'them'}"
            )
    found = report.stale or report.old or report.not_records or any(report.without_index.values())
    return FINDINGS if found else 0


def _warn_of_foreign(column: str, count: int) -> None:
    console.warn(
        f"{column}{counted(count, 'value')} {are(count)} not sealed, and of no form that the column moves from: find "
        "out who wrote them; if the column had values before it was sealed, name their form with moves_from or moving="
    )


def stale_as_dict(report: StaleReport) -> dict[str, object]:
    return {
        "stale": report.stale,
        "old": report.old,
        "not_records": report.not_records,
        "null": report.null,
        "without_index": dict(report.without_index),
        "keys": [_use_as_dict(use) for use in report.uses],
    }


def print_stale(report: StaleReport) -> None:
    newest = sum(use.records for use in report.uses if use.newest)
    console.print(
        f"{counted(newest, 'record')} under the newest keys, {report.stale:,} under others, "
        f"{report.null:,} NULL, {counted(report.not_records, 'value')} not sealed"
        + (f", {report.old:,} of an old form" if report.old else "")
    )
    old = [use for use in report.uses if not use.newest]
    if old:
        shown = sorted(old, key=lambda use: (use.column, -use.records))[:_SHOWN]
        console.print_table(
            ("COLUMN", "SCOPE", "GENERATION", "STATE", "KEY ID", "RECORDS"), list(map(_use_cells, shown))
        )
        if len(old) > _SHOWN:
            console.print(f"and {counted(len(old) - _SHOWN, 'more key')}; --json lists them all")
    if any(use.row is None for use in old):
        console.info(
            "a key id without a scope is of no key in this key store: its records are of another store, or the key was "
            "lost"
        )


def _use_cells(use: KeyUse) -> tuple[str, ...]:
    row = use.row
    about = ("-", "-", "unknown") if row is None else (_scope(row), str(row.generation), str(row.state))
    return (use.column, *about, use.key_id.hex()[: record_rows.SHORT_ID], f"{use.records:,}")


def _use_as_dict(use: KeyUse) -> dict[str, object]:
    row = use.row
    return {
        "column": use.column,
        "key_id": use.key_id.hex(),
        "scope": None if row is None else dict(row.scope),
        "generation": None if row is None else row.generation,
        "state": "unknown" if row is None else str(row.state),
        "newest": use.newest,
        "records": use.records,
    }


def _scope(row: KeyRow) -> str:
    return record_rows.scope_text(row.scope)


# --- reseal


def reseal_tables(
    records: Records,
    data: Engine | URL,
    columns: Sequence[SealedColumn],
    *,
    journal: str | None,
    rate: float | None,
    settle: float,
    throttle_lag: float | None = None,
    to: OldForm | None = None,
) -> ResealReport:
    """Seal columns again, with a progress bar on a terminal.

    Raises:
        click.UsageError: they do not fit the scope of ``records``.
    """

    def wait(seconds: float) -> None:
        if seconds:
            console.info(f"counting again in {seconds:g} s, in case a running program still seals under an older key")

    from sealwax.records import tables

    _check_scopes(records, columns)
    with progress("resealing") as advance:
        return tables.reseal(
            records,
            data,
            columns,
            journal=journal,
            rate=rate,
            throttle_lag=throttle_lag,
            settle=settle,
            to=to,
            on_progress=advance,
            on_wait=wait,
        )


def tell_reseal(report: ResealReport, forms: Sequence[str | None], *, out: bool, as_json: bool) -> None:
    """Print what a reseal has done.

    Args:
        forms: the names of the forms that columns move from, or to.
        out: whether they move out.
        as_json: whether to print an object.
    """
    warn_of_rows(report.failures, sum(count.unopened + count.unmoved for count in report.columns))
    warn_of_indexes(report.indexes)
    if as_json:
        console.print_json(reseal_as_dict(report))
    else:
        print_indexes(report.indexes)
        print_reseal(report, forms, out=out)


def reseal_status(report: ResealReport, *, out: bool, told: Collection[str] = ()) -> int:
    """Warn of what is left; return the exit status.

    Args:
        out: whether the columns move out.
        told: the names of columns whose values are not sealed for a reason that was told.
    """
    unopened = sum(count.unopened for count in report.columns)
    if report.stale:
        left = f"{counted(report.stale, 'record')} {are(report.stale)} still not under the newest key"
        if report.stale > unopened:
            console.warn(f"{left}; run the command again, or see which with `sealwax records stale`")
        else:
            console.warn(
                f"{left}, because {'it does' if report.stale == 1 else 'they do'} not open: fix the causes above, then "
                "run the command again. `sealwax records repair` puts lost data keys back; values of a shredded scope "
                "never open again, and can be set to NULL"
            )
    unmoved = sum(count.unmoved for count in report.columns)
    record_moves.warn_of_left(report, out=out)
    foreign = [] if out else [each for each in report.columns if each.not_records and each.column not in told]
    for each in foreign:
        _warn_of_foreign(f"{printable(each.column)}: ", each.not_records)
    failed = unopened + unmoved
    if failed and report.refused == failed and not any(map(_done, report.columns)):
        return KMS
    left_over = report.stale or report.left or failed or foreign or any(index.left for index in report.indexes)
    return PARTLY_DONE if left_over else 0


def _done(count: ResealCounts) -> int:
    return count.resealed + count.newest + count.moved


def print_reseal(report: ResealReport, forms: Sequence[str | None], *, out: bool) -> None:
    for count, form in zip(report.columns, forms, strict=True):
        failed = f", {counted(count.unopened, 'record')} not opened" if count.unopened else ""
        failed += f", {counted(count.unmoved, 'value')} not moved" if count.unmoved else ""
        changed = f", {counted(count.changed, 'row')} changed meanwhile" if count.changed else ""
        if out:
            console.report(
                f"{printable(count.column)}: {counted(count.moved, 'record')} moved to {form}, {count.null:,} NULL, "
                f"{counted(count.not_records, 'value')} not sealed before{changed}{failed}"
            )
            continue
        moved = "" if form is None else f"{counted(count.moved, 'value')} moved from {printable(form)}, "
        more = f", {counted(count.not_records, 'value')} not sealed" if count.not_records else ""
        console.report(
            f"{printable(count.column)}: {moved}{counted(count.resealed, 'record')} resealed, {count.newest:,} under "
            f"the newest key already, {count.null:,} NULL{more}{changed}{failed}"
        )
    record_moves.print_next_steps(report.next_steps)
    if report.retirable:
        console.report(
            "two counts found no record under these keys; if no other column has any, retire them with `sealwax "
            "records retire`:"
        )
        for row in report.retirable[:_SHOWN]:
            console.report(f"  {record_rows.named(row)}")
        if len(report.retirable) > _SHOWN:
            console.report(f"  and {counted(len(report.retirable) - _SHOWN, 'more key')}; --json lists them all")


def reseal_as_dict(report: ResealReport) -> dict[str, object]:
    return {
        "columns": [
            {
                "column": count.column,
                "resealed": count.resealed,
                "newest": count.newest,
                "null": count.null,
                "changed": count.changed,
                "not_records": count.not_records,
                "unopened": count.unopened,
                "moved": count.moved,
                "unmoved": count.unmoved,
            }
            for count in report.columns
        ],
        "passes": report.passes,
        "stale": report.stale,
        "left": report.left,
        "next_steps": dict(report.next_steps),
        "retirable": [
            {"scope": dict(row.scope), "generation": row.generation, "key_id": row.key_id.hex()}
            for row in report.retirable
        ],
        "failures": list(map(failure_as_dict, report.failures)),
        "indexes": [
            {"column": each.column, "filled": each.filled, "changed": each.changed, "failed": each.failed}
            | {"left": each.left}
            for each in report.indexes
        ],
    }


# --- indexes


def warn_of_indexes(indexes: Sequence[IndexCounts]) -> None:
    warn_of_rows([failure for each in indexes for failure in each.failures], sum(each.failed for each in indexes))
    for each in indexes:
        if each.left > each.failed:
            console.warn(
                f"{each.column}: {counted(each.left, 'row')} with a value and no index, so that searches do not find "
                f"{'it' if each.left == 1 else 'them'}; once all values are records, and every program writes the "
                "index, run the command again"
            )


def print_indexes(indexes: Sequence[IndexCounts]) -> None:
    for each in indexes:
        changed = f", {counted(each.changed, 'row')} changed meanwhile" if each.changed else ""
        left = f", {counted(each.left, 'row')} without one" if each.left else ""
        console.report(f"{each.column}: {counted(each.filled, 'index', 'indexes')} filled{changed}{left}")


# --- what they share


def _check_scopes(records: Records, columns: Sequence[SealedColumn]) -> None:
    from sealwax.records._walk import check_scopes

    try:
        check_scopes(records, columns)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def are(count: int) -> str:
    return "is" if count == 1 else "are"


@contextmanager
def progress(doing: str) -> Iterator[Callable[[Sequence[ResealCounts | Verified]], None]]:
    with console.counting(doing) as advance:
        yield lambda counts: advance(sum(count.rows for count in counts), 0)


def warn_of_rows(failures: Sequence[RowFailure], total: int) -> None:
    causes: dict[tuple[str, str], list[RowFailure]] = {}
    for failure in failures:
        causes.setdefault((failure.column, _REQUEST_ID.sub("", failure.reason)), []).append(failure)
    told = 0
    for rows in list(causes.values())[:_SHOWN]:
        shown = ", ".join(map(_key, rows[:_SHOWN]))
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        row = "row" if len(rows) == 1 else "rows"
        console.warn(f"{printable(rows[0].column)}, {row} {shown}{more}: {console.in_commands(rows[0].reason)}")
        told += len(rows)
    if total > told:
        console.warn(f"and {counted(total - told, 'more row')}; --json lists up to 1,000")


def _key(failure: RowFailure) -> str:
    parts = [printable(str(_key_part(part))) for part in failure.key]
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


def failure_as_dict(failure: RowFailure) -> dict[str, object]:
    return {
        "column": failure.column,
        "key": list(map(_key_part, failure.key)),
        "reason": console.in_commands(failure.reason),
    }


def _key_part(part: object) -> int | str:
    return part.hex() if isinstance(part, bytes) else part if isinstance(part, int) else str(part)
