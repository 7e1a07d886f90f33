"""``manage.py loaddata`` that takes the records that dumpdata has written, and seals what is in the clear."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import loaddata

from sealwax.django._binding import as_records


class Command(loaddata.Command):
    def handle(self, *fixture_labels: str, **options: Any) -> Any:
        with as_records():
            return super().handle(*fixture_labels, **options)
