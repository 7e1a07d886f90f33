"""sealwax records reseal, stale and verify: the verbs that read the tables of an application."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from sealwax._text import printable
from sealwax.cli import FINDINGS, console, options, record_models, record_moves, record_reports
from sealwax.cli.console import counted
from sealwax.cli.kms import Keys
from sealwax.cli.options import Command
from sealwax.cli.record_store import kms, opened, parsed_url, scope, store
from sealwax.errors import TableError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sealwax.records import SqlKeys
    from sealwax.records.tables import SealedColumn

_UNOPENED: Final = 5


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
    their scope, values that are still of the form that their column moves from, or, with --models, rows without the
    index of their value.
    """
    from sealwax.records import tables

    return record_reports.tell_stale(tables.stale(store, data, columns, scope=scope), as_json=as_json)


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

    Values of the form that a column moves from ('moves_from' in the map of fields) become records too, and with
    --models, indexes that are newer than their rows are filled. A value is replaced only if its row still has it, so no
    update is lost. If the command is interrupted, run it again: what is
    done is skipped. At the end the records are counted twice; keys that neither count finds can be retired. -c names
    the pairs that all records share. The caller needs kms:Decrypt, and kms:GenerateDataKey where values move into
    scopes without a data key, or indexes are filled that have no index key.
    """
    from sealwax.records import tables

    form = record_moves.form_for(to, columns, apply=apply)
    if form is not None and not apply:
        return record_moves.preview(tables.stale(store, data, columns), form, as_json=as_json)

    with opened(store, keys, scope, local_scope) as records:
        report = record_reports.reseal_tables(
            records,
            data,
            columns,
            journal=journal,
            rate=rate,
            throttle_lag=throttle_lag,
            settle=settle,
            to=form,
        )
    record_reports.tell_reseal(report, record_moves.names(columns, form), out=form is not None, as_json=as_json)
    # While a program writes the old form, what is left of it is told as that.
    told = {column.named for column in columns if column.writes == "old"}
    return record_reports.reseal_status(report, out=form is not None, told=told)


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

    with opened(store, keys, scope, local_scope) as records, record_reports.progress("verifying") as progress:
        report = tables.verify(records, data, columns, rate=rate, on_progress=progress)
    unopened = sum(count.unopened + count.unmoved for count in report.columns)
    record_reports.warn_of_rows(report.failures, unopened)
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
                "failures": list(map(record_reports.failure_as_dict, report.failures)),
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
        console.warn(f"{counted(not_sealed, 'value')} {record_reports.are(not_sealed)} not sealed")
    if unopened:
        return record_reports.KMS if report.refused == unopened else _UNOPENED
    return FINDINGS if not_sealed else 0


# --- what they share


COMMANDS: Final[tuple[click.Command, ...]] = (reseal, stale, verify)
