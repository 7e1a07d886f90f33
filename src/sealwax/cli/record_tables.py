"""sealwax records reseal, stale and verify: the verbs that read the tables of an application."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console, options, record_models, record_moves, record_rows
from sealwax.cli.console import counted
from sealwax.cli.kms import Keys
from sealwax.cli.options import Command
from sealwax.cli.record_store import kms, opened, parsed_url, scope, store
from sealwax.errors import TableError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sealwax.records import KeyRow, Records, SqlKeys
    from sealwax.records.tables import KeyUse, ResealCounts, ResealReport, RowFailure, SealedColumn, StaleReport
    from sealwax.records.tables import VerifyCounts as Verified

_UNOPENED: Final = 5
_KMS: Final = 7
# Keys that are shown one by one; --json has them all.
_SHOWN: Final = 20
# The same refusal by KMS has another one at each call.
_REQUEST_ID: Final = re.compile(r",? request id [\w-]+")
_HEAD: Final = ("COLUMN", "SCOPE", "GENERATION", "STATE", "KEY ID", "RECORDS")


class _RowRate(click.FloatRange):
    """A number of rows per second."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{printable(str(value))}' is not a finite number", param, ctx)
        return number


def _tables(command: Command) -> Command:
    """Add --fields, --models and --data; the command gets ``columns``, and ``data``, the URL of their database."""

    @click.option(
        "--fields",
        "fields",
        metavar="FILE.toml",
        type=click.Path(),
        help="The map of fields: which columns hold records, and what they are bound to.",
    )
    @click.option(
        "--models",
        "models",
        metavar="MODULE:NAME",
        help="Instead of --fields, the models of SQLAlchemy, such as shop.models:Base: the module is imported.",
    )
    @click.option(
        "--data",
        "data",
        metavar="URL",
        help="The database with these columns: a SQLAlchemy URL without a password. Default: that of the key store.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: object, store: SqlKeys, fields: str | None, models: str | None, data: str | None, **kwargs: object
    ) -> object:
        columns = _columns(fields, models)
        # Not ``store.url``, which has no options: they say whether TLS is used, or where the password is.
        at_store: URL = click.get_current_context().params["store"]
        url = at_store if data is None else _existing(parsed_url(data, "--data"))
        return command(*args, store=store, columns=columns, data=url, **kwargs)

    return wrapped


def _columns(fields: str | None, models: str | None) -> Sequence[SealedColumn]:
    if fields is not None and models is not None:
        raise click.UsageError("--fields and --models exclude each other: both say which columns hold records")
    if models is not None:
        return record_models.columns_of(models)
    if fields is None:
        raise click.UsageError("say which columns hold records, with --fields FILE.toml or --models MODULE:NAME")
    from sealwax.records.tables import read_fields

    try:
        return read_fields(fields)
    except TableError as error:
        raise click.UsageError(str(error)) from None


def _existing(url: URL) -> URL:
    """Keep SQLite from making an empty database of a mistyped name."""
    from sealwax.records._url import missing_file

    if path := missing_file(url):
        raise TableError(f"the database '{printable(path)}' of --data does not exist")
    return url


def _rate(command: Command) -> Command:
    return click.option("--rate", type=_RowRate(0, min_open=True), help="Rows per second, at most.")(command)


# --- stale


@click.command("stale")
@store
@scope(required=False)
@_tables
@options.as_json
@options.loudness
def stale(store: SqlKeys, scope: Mapping[str, str], columns: Sequence[SealedColumn], data: URL, as_json: bool) -> int:
    """Count records by the data key that they are under.

    The database does it, with one scan for each column. KMS is not called. With -c, records under keys of scopes
    without these pairs are left out. The exit status is 3 if there are records under another than the newest key of
    their scope, or values that are still of the form that their column moves from.
    """
    from sealwax.records import tables

    report = tables.stale(store, data, columns, scope=scope)
    if as_json:
        console.print_json(
            {
                "stale": report.stale,
                "old": report.old,
                "not_records": report.not_records,
                "null": report.null,
                "keys": [_use_as_dict(use) for use in report.uses],
            }
        )
    else:
        _print_stale(report)
    if report.stale:
        console.warn(
            f"{counted(report.stale, 'record')} {_is(report.stale)} not under the newest key; `sealwax records reseal` "
            "seals records again"
        )
    if report.old:
        console.warn(
            f"{counted(report.old, 'value')} {_is(report.old)} still of the form that the column moves from; `sealwax "
            "records reseal` makes records of them"
        )
    return FINDINGS if report.stale or report.old else 0


def _print_stale(report: StaleReport) -> None:
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


@click.command("reseal")
@store
@scope(required=True, local=True)
@kms
@_tables
@click.option("--journal", metavar="FILE", type=click.Path(), help="Remember the position in this file, to resume.")
@_rate
@click.option(
    "--throttle-lag",
    type=options.Duration(),
    metavar="TIME",
    help="Wait while a replica is further behind than this, such as 10s. PostgreSQL only.",
)
@click.option(
    "--settle",
    type=options.Duration(),
    default="2m",
    show_default=True,
    metavar="TIME",
    help="The time between the two last counts: more than running programs take to notice a new key, and than their "
    "longest transaction.",
)
@click.option(
    "--to",
    metavar="FORM",
    help="The way out: make every record a value of this form, plaintext or one that the map of fields names with its "
    "keys. Nothing is changed without --apply.",
)
@click.option("--apply", is_flag=True, help="With --to: do it; without it, only count.")
@options.as_json
@options.loudness
def reseal(
    store: SqlKeys,
    scope: Mapping[str, str],
    local_scope: Sequence[str],
    keys: Keys,
    columns: Sequence[SealedColumn],
    data: URL,
    journal: str | None,
    rate: float | None,
    throttle_lag: float | None,
    settle: float,
    to: str | None,
    apply: bool,
    as_json: bool,
) -> int:
    """Seal records again under the newest data key of their scope, while the application runs.

    Values of the form that a column moves from ('moves_from' in the map of fields) become records too. A value is
    replaced only if its row still has it, so no update is lost. If the command is interrupted, run it again: what is
    done is skipped. At the end the records are counted twice; keys that neither count finds can be retired. -c names
    the pairs that all records share. The caller needs kms:Decrypt, and kms:GenerateDataKey where values move into
    scopes without a data key.
    """
    from sealwax.records import tables

    form = record_moves.form_for(to, columns, apply=apply)
    if form is not None and not apply:
        return record_moves.preview(tables.stale(store, data, columns), form, as_json=as_json)

    def wait(seconds: float) -> None:
        if seconds:
            console.info(f"counting again in {seconds:g} s, in case a running program still seals under an older key")

    with opened(store, keys, scope, local_scope) as records, _progress("resealing") as progress:
        _check_scopes(records, columns)
        report = tables.reseal(
            records,
            data,
            columns,
            journal=journal,
            rate=rate,
            throttle_lag=throttle_lag,
            settle=settle,
            to=form,
            on_progress=progress,
            on_wait=wait,
        )
    _warn(report.failures, sum(count.unopened + count.unmoved for count in report.columns))
    if as_json:
        console.print_json(_reseal_as_dict(report))
    else:
        _print_reseal(report, record_moves.names(columns, form), out=form is not None)
    return _reseal_status(report, out=form is not None)


def _reseal_status(report: ResealReport, *, out: bool) -> int:
    unopened = sum(count.unopened for count in report.columns)
    if report.stale:
        left = f"{counted(report.stale, 'record')} {_is(report.stale)} still not under the newest key"
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
    failed = unopened + unmoved
    if failed and report.refused == failed and not any(map(_done, report.columns)):
        return _KMS
    return PARTLY_DONE if report.stale or report.left or failed else 0


def _done(count: ResealCounts) -> int:
    return count.resealed + count.newest + count.moved


def _print_reseal(report: ResealReport, forms: Sequence[str | None], *, out: bool) -> None:
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


def _reseal_as_dict(report: ResealReport) -> dict[str, object]:
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
        "failures": list(map(_failure_as_dict, report.failures)),
    }


# --- verify


@click.command("verify")
@store
@scope(required=True, local=True)
@kms
@_tables
@_rate
@options.as_json
@options.loudness
def verify(
    store: SqlKeys,
    scope: Mapping[str, str],
    local_scope: Sequence[str],
    keys: Keys,
    columns: Sequence[SealedColumn],
    data: URL,
    rate: float | None,
    as_json: bool,
) -> int:
    """Open every record, without writing anything, and name the rows whose records do not open.

    Values of the form that a column moves from are read, too. -c names the pairs that all records share. The caller
    needs kms:Decrypt. The exit status is 5 if a record does not open or an old value cannot be read, 7 if that is only
    because KMS refused data keys, and 3 if a column has values that are not sealed.
    """
    from sealwax.records import tables

    with opened(store, keys, scope, local_scope) as records, _progress("verifying") as progress:
        report = tables.verify(records, data, columns, rate=rate, on_progress=progress)
    unopened = sum(count.unopened + count.unmoved for count in report.columns)
    _warn(report.failures, unopened)
    if as_json:
        console.print_json(
            {
                "columns": [
                    {
                        "column": count.column,
                        "opened": count.opened,
                        "null": count.null,
                        "not_records": count.not_records,
                        "unopened": count.unopened,
                        "old": count.old,
                        "unmoved": count.unmoved,
                    }
                    for count in report.columns
                ],
                "failures": list(map(_failure_as_dict, report.failures)),
            }
        )
    else:
        for count in report.columns:
            console.report(
                f"{printable(count.column)}: {counted(count.opened, 'record')} opened, {count.null:,} NULL, "
                f"{counted(count.not_records, 'value')} not sealed, {counted(count.unopened, 'record')} not opened"
                + (f", {counted(count.old, 'value')} of the old form" if count.old else "")
                + (f", {counted(count.unmoved, 'value')} of the old form not readable" if count.unmoved else "")
            )
    if not_sealed := sum(count.not_records + count.old for count in report.columns):
        console.warn(f"{counted(not_sealed, 'value')} {_is(not_sealed)} not sealed")
    if unopened:
        return _KMS if report.refused == unopened else _UNOPENED
    return FINDINGS if not_sealed else 0


# --- what they share


def _check_scopes(records: Records, columns: Sequence[SealedColumn]) -> None:
    from sealwax.records._walk import check_scopes

    try:
        check_scopes(records, columns)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


@contextmanager
def _progress(doing: str) -> Iterator[Callable[[Sequence[ResealCounts | Verified]], None]]:
    with console.counting(doing) as advance:
        yield lambda counts: advance(sum(count.rows for count in counts), 0)


def _warn(failures: Sequence[RowFailure], total: int) -> None:
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


def _failure_as_dict(failure: RowFailure) -> dict[str, object]:
    return {
        "column": failure.column,
        "key": list(map(_key_part, failure.key)),
        "reason": console.in_commands(failure.reason),
    }


def _key_part(part: object) -> int | str:
    return part.hex() if isinstance(part, bytes) else part if isinstance(part, int) else str(part)


COMMANDS: Final[tuple[click.Command, ...]] = (reseal, stale, verify)
