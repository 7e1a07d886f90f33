"""``manage.py sealwax_reseal``: `sealwax records reseal` for the sealed fields of models, and for their indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.db import models

from sealwax.cli import FINDINGS, PARTLY_DONE, console
from sealwax.cli.console import counted
from sealwax.django.management._command import SealedCommand, seconds


class Command(SealedCommand):
    help = (
        "Seal the values of sealed fields again under the newest data keys, make records of values that are still in "
        "the form that their field moves from, and fill index columns, while the application runs."
    )

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="Only count what there is to do.")
        parser.add_argument("--journal", metavar="FILE", help="Remember the position in this file, to resume.")
        parser.add_argument("--rate", type=float, metavar="ROWS", help="Rows per second, at most.")
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
    return FINDINGS if report.stale or report.old or any(lacking.values()) else 0


def _reseal(given: Sequence[type[models.Model]], using: str, **options: Any) -> int:
    from sealwax.cli import record_reports
    from sealwax.django import get_records, sealed_columns
    from sealwax.django._engines import data_engine
    from sealwax.django._index_fill import fill, index_fields
    from sealwax.records._walk import Pace

    columns = sealed_columns(*given)
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
    failed = sum(each.failed for each in indexes)
    record_reports.warn_of_rows([failure for each in indexes for failure in each.failures], failed)
    if options["json"]:
        console.print_json({**record_reports.reseal_as_dict(report), "indexes": list(map(_as_dict, indexes))})
    else:
        for each in indexes:
            changed = f", {counted(each.changed, 'row')} changed meanwhile" if each.changed else ""
            left = f", {counted(each.left, 'row')} without one" if each.left else ""
            console.report(f"{each.column}: {counted(each.filled, 'index', 'indexes')} filled{changed}{left}")
        forms = [None if each.moves_from is None else each.moves_from.name for each in columns]
        record_reports.print_reseal(report, forms, out=False)
    record_reports.warn_of_rows(report.failures, sum(each.unopened + each.unmoved for each in report.columns))
    status = record_reports.reseal_status(report, out=False)
    return status or (PARTLY_DONE if any(each.left for each in indexes) else 0)


def _as_dict(counts: Any) -> dict[str, object]:
    return {name: value for name, value in asdict(counts).items() if name != "failures"}
