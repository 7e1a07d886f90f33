"""What the commands say of columns that move to records, or out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from sealwax._text import printable
from sealwax.cli import console
from sealwax.cli.console import counted

if TYPE_CHECKING:
    from sealwax.records.moving import OldForm
    from sealwax.records.tables import ResealReport, SealedColumn, StaleReport


def form_for(name: str | None, columns: Sequence[SealedColumn], *, apply: bool) -> OldForm | None:
    """Return the form that --to names, as the map of fields has it for these columns; None if it is not given.

    Raises:
        click.UsageError: the map does not have it, or has several; models write records there; or --apply stands alone.
    """
    from sealwax.records._preconditions import check_writes
    from sealwax.records.moving import Plaintext

    if name is None:
        if apply:
            raise click.UsageError("--apply goes with --to; without --to, reseal changes records at once")
        return None
    try:
        check_writes(columns)
    except ValueError as error:
        raise click.UsageError(f"{error}; or name the columns that move out with --fields") from None
    forms = [_named(name, column) for column in columns]
    given = [form for form in forms if form is not None]
    if not given and name == Plaintext.name:
        return Plaintext()
    if lacking := [column.named for column, form in zip(columns, forms, strict=True) if form is None]:
        raise click.UsageError(
            f"--to {printable(name)}: the map of fields does not have this form for {lacking[0]}; add it to its "
            "'moves_from', with the keys"
        )
    if any(form is not given[0] for form in given):
        raise click.UsageError(
            f"--to {printable(name)}: the columns have it with different keys or zones; use a map of fields for each"
        )
    return given[0]


def _named(name: str, column: SealedColumn) -> OldForm | None:
    from sealwax.records.moving import AnyOf

    form = column.moves_from
    forms = form.forms if isinstance(form, AnyOf) else [form]
    return next((form for form in forms if form is not None and form.name == name), None)


def names(columns: Sequence[SealedColumn], to: OldForm | None) -> list[str | None]:
    """Return the names of the forms that columns move from, or to."""
    forms = [to or column.moves_from for column in columns]
    return [None if form is None else form.name for form in forms]


def preview(report: StaleReport, to: OldForm, *, as_json: bool) -> int:
    """Say what --to would do."""
    if as_json:
        console.print_json({"to": to.name, "records": report.records, "dry_run": True})
        return 0
    console.print(f"{counted(report.records, 'record')} would become {printable(to.name)}; nothing was changed")
    console.info(
        "what the application writes must be of this form already, or it writes records again; backups and replicas "
        "get the values as they will be"
    )
    console.info(f"next: {console.next_command('--apply')}")
    return 0


def print_next_steps(steps: Mapping[str, str]) -> None:
    """Print what keeps columns as they are now that all of their values are records."""
    for column, step in steps.items():
        shown = printable(column)
        if step.startswith("CHECK "):
            console.report(
                f"{shown}: every value is a record. SQLite takes a CHECK only when a table is made; when you make it "
                "again, add:"
            )
        elif " DROP COLUMN " in step:
            console.report(f"{shown}: every value is a record. Once no program uses the old column:")
        else:
            console.report(f"{shown}: every value is a record. Once no program writes the old form, keep it so:")
        for line in step.splitlines():
            console.report(f"  {printable(line)}")
    if steps:
        console.report(
            "then take `moving=` and `moved_from=` out of the model, and 'moves_from', 'type' and 'moved_from' out of "
            "the map of fields"
        )


def warn_of_left(report: ResealReport, *, out: bool) -> None:
    """Say what is left to be moved, and why."""
    unmoved = sum(count.unmoved + (count.unopened if out else 0) for count in report.columns)
    if not report.left:
        return
    what = counted(report.left, "record" if out else "value")
    left = f"{what} {'is' if report.left == 1 else 'are'} still {'there' if out else 'of the old form'}"
    if report.left <= unmoved:
        console.warn(f"{left}, for the reasons above; fix them, then run the command again")
    elif out:
        console.warn(
            f"{left}: a program writes records; let all of them write the old form, then run the command again"
        )
    else:
        console.warn(f"{left}: a program writes it; let all of them write records, then run the command again")
