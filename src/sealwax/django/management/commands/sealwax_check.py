"""``manage.py sealwax_check``: whether sealed fields are in order, from their definition to what stands in each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import models

from sealwax.cli import FINDINGS, PARTLY_DONE, console
from sealwax.cli.console import counted
from sealwax.django._checking import FieldCheck
from sealwax.django.management._command import SealedCommand

_KMS = 7
_SAMPLE = 100


class Command(SealedCommand):
    help = (
        "Check that sealed fields open, and that their definitions, columns, data keys and indexes are in order. The "
        "exit status is 3 if something is not, 7 if that is only because KMS refused data keys, and 8 if something "
        "could not be checked."
    )

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help=f"Open every row, and not only {_SAMPLE} of each model.")

    def work(self, given: Sequence[type[models.Model]], using: str, **options: Any) -> int:
        check = FieldCheck(using, None if options["all"] else _SAMPLE)
        check.definitions(checks.run_checks(databases=[using]), given)
        check.columns(given)
        for model in given:
            check.rows(model)
            check.indexes(model)
        if options["json"]:
            console.print_json(check.as_dict())
        else:
            _print(check)
        if check.gaps:
            return PARTLY_DONE
        return (_KMS if check.only_kms else FINDINGS) if check.findings else 0


def _print(check: FieldCheck) -> None:
    for gap in check.gaps:
        console.warn(gap)
    for finding in check.findings:
        console.warn(finding)
    fields = counted(len(check.opened), "sealed field")
    opened = counted(sum(check.opened.values()), "value")
    found = "nothing found" if not check.findings else counted(len(check.findings), "finding")
    gaps = f", {counted(len(check.gaps), 'gap')}" if check.gaps else ""
    console.report(f"{fields}: {opened} opened, {found}{gaps}")
