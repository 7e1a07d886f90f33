"""``manage.py dumpdata`` that writes records of sealed fields, unless it is asked to open them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.core.management.commands import dumpdata

from sealwax.django._binding import as_records, opening
from sealwax.django._fields import sealed_fields
from sealwax.errors import SealwaxError


class Command(dumpdata.Command):
    help = f"{dumpdata.Command.help} Sealed fields are written as records, which open in the row they are from."

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--open-sealed", action="store_true", help="Write what sealed fields hold, in the clear.")

    def handle(self, *app_labels: str, **options: Any) -> Any:
        opened = options.pop("open_sealed")
        if options["use_natural_primary_keys"] and not opened:
            _check_keys(app_labels, options["exclude"])
        try:
            with opening() if opened else as_records():
                return super().handle(*app_labels, **options)
        except SealwaxError as error:
            raise CommandError(str(error)) from None


def _check_keys(labels: Sequence[str], excluded: Sequence[str]) -> None:
    """Refuse to leave out keys that records are bound to."""
    for model in apps.get_models():
        opts = model._meta
        names = {opts.app_label, opts.label, opts.label_lower}
        if (labels and not names & set(labels)) or names & set(excluded) or not hasattr(model, "natural_key"):
            continue
        for field in sealed_fields(model):
            if any(each.primary_key for each in field.row_fields()):
                raise CommandError(
                    f"--natural-primary leaves out the key of {opts.label}, which its records of '{field.name}' are "
                    "bound to; leave that option out, or add --open-sealed"
                )
