"""``manage.py dumpdata`` that writes records of sealed fields, unless it is asked to open them."""

from __future__ import annotations

import contextlib
from typing import Any

from django.core.management.commands import dumpdata

from sealwax.django._binding import as_records


class Command(dumpdata.Command):
    help = f"{dumpdata.Command.help} Sealed fields are written as records, which open in the row they are from."

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--open-sealed", action="store_true", help="Write what sealed fields hold, in the clear.")

    def handle(self, *app_labels: str, **options: Any) -> Any:
        opened = options.pop("open_sealed")
        with contextlib.nullcontext() if opened else as_records():
            return super().handle(*app_labels, **options)
