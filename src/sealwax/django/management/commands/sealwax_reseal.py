"""``manage.py sealwax_reseal``: `sealwax records reseal` for the sealed fields of models, and for their indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db import models

from sealwax._text import printable
from sealwax.cli import FINDINGS, PARTLY_DONE, console
from sealwax.cli.console import counted
from sealwax.django.management._command import SealedCommand, rows_per_second, seconds

if TYPE_CHECKING:
    from sealwax.records.tables import IndexCounts, ResealReport


class Command(SealedCommand):
    help = (
        "Seal the values of sealed fields again under the newest data keys, make records of values that are still in "
        "the form that their field moves from, and fill index columns, while the application runs."
    )

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only count what there is to do.")
        parser.add_argument("--journal", metavar="FILE", help="Remember the position in this file, to resume.")
        parser.add_argument("--rate", type=rows_per_second, metavar="ROWS", help="Rows per second, at most.")
        parser.add_argument(
            "--settle",
            type=seconds,
            default=120.0,
            metavar="TIME",
            help="The time between the two last counts: more than running programs take to notice a new key, and than "
            "their longest transaction. Default: 2m.",
        )

    def work(self, given: Sequence[type[models.Model]], using: str, **options: Any) -> int:
        if options["dry_run"]:
            return _count(given, using, as_json=options["json"])
        return _reseal(given, using, **options)


def _count(given: Sequence[type[models.Model]], using: str, *, as_json: bool) -> int:
    from sealwax.cli import record_reports
    from sealwax.django import get_records, sealed_columns
    from sealwax.django._engines import data_engine
    from sealwax.django._index_fill import index_fields, missing
    from sealwax.records import tables

    records = get_records()
    with data_engine(using) as engine:
        report = tables.stale(records.store, engine, sealed_columns(*given))
    lacking = {f"{each.model._meta.db_table}.{each.column}": missing(each, using) for each in index_fields(*given)}
    if as_json:
        console.print_json({**record_reports.stale_as_dict(report), "without_index": lacking})
    else:
        record_reports.print_stale(report)
        for name, count in lacking.items():
            console.print(f"{name}: {counted(count, 'row')} without an index")
    return FINDINGS if report.stale or report.old or report.not_records or any(lacking.values()) else 0


def _reseal(given: Sequence[type[models.Model]], using: str, **options: Any) -> int:
    from sealwax.cli import record_reports
    from sealwax.django import get_records
    from sealwax.django._engines import data_engine
    from sealwax.django._index_fill import fill, index_fields
    from sealwax.django._maps import column_of, fields_of
    from sealwax.records._walk import Pace

    fields = fields_of(given)
    waiting = [field for _, field in fields if field.mover is not None and field.mover.writes_old]
    columns = [column_of(model, field, moves=field not in waiting) for model, field in fields]
    _ensure_first_key(fields, using)
    with console.counting("indexing") as advance:
        pace = Pace(options["rate"], None)
        indexes = [fill(each, using, pace, lambda done: advance(done, 0)) for each in index_fields(*given)]
    with data_engine(using) as engine:
        report = record_reports.reseal_tables(
            get_records(),
            engine,
            columns,
            journal=options["journal"],
            rate=options["rate"],
            settle=options["settle"],
        )
    names = {column.named: field for column, (_, field) in zip(columns, fields, strict=True)}
    _tell(report, indexes, names, as_json=options["json"])
    for field in waiting:
        console.warn(
            f"{field.model._meta.db_table}.{field.column}: the old form is still written, so older versions may read "
            'it, and its values were not moved; deploy Moving(..., writes="records") first'
        )
    told = {name for name, field in names.items() if field in waiting}
    status = record_reports.reseal_status(report, out=False, told=told)
    return status or (PARTLY_DONE if waiting or any(each.left for each in indexes) else 0)


def _tell(report: ResealReport, indexes: Sequence[IndexCounts], fields: Mapping[str, Any], *, as_json: bool) -> None:
    from sealwax.cli import record_reports

    record_reports.warn_of_rows(report.failures, sum(each.unopened + each.unmoved for each in report.columns))
    record_reports.warn_of_indexes(indexes)
    if as_json:
        console.print_json(record_reports.reseal_as_dict(replace(report, indexes=tuple(indexes))))
        return
    record_reports.print_indexes(indexes)
    movers = [field.mover for field in fields.values()]
    forms = [None if each is None or each.writes_old else each.moving.old.name for each in movers]
    record_reports.print_reseal(replace(report, next_steps={}), forms, out=False)
    _print_next_steps(report.next_steps, fields)


def _ensure_first_key(fields: Sequence[tuple[type[models.Model], Any]], using: str) -> None:
    """Make the first data key of each sort of scopes that values move into: models and settings name the pairs."""
    from sealwax.django import get_records
    from sealwax.django._binding import pairs_of_instance
    from sealwax.records import KeyKind

    records = get_records()
    for model, field in fields:
        if field.mover is None or field.mover.writes_old:
            continue
        names = records._kms_scope(dict.fromkeys(field.sealing.scope, "")).keys()
        rows = records.store.list(records._kms_scope({}))
        if any(row.kind is KeyKind.DATA and row.scope.keys() == names for row in rows):
            continue
        first: Any = models.QuerySet(model, using=using).first()
        if first is not None:
            records.ensure(**dict(pairs_of_instance(first, field.sealing.scope)))


def _print_next_steps(steps: Mapping[str, str], fields: Mapping[str, Any]) -> None:
    for name, step in steps.items():
        field = fields[name]
        if old := field.sealing.moved_from:
            todo = f"once no program uses '{old}', take moving= and moved_from= out of the model, and delete '{old}'"
            console.report(f"{name}: every value is a record; {todo}")
            continue
        keep = (
            "a migrations.RunSQL, with atomic = False, of:"
            if step.startswith("ALTER")
            else "this, where the table is made; SQLite cannot add it to a table that exists:"
        )
        console.report(
            f"{name}: every value is a record; once no program writes the old form, take moving= out of the model, "
            f"and keep it so with {keep}"
        )
        for line in step.splitlines():
            console.report(f"  {printable(line)}")
