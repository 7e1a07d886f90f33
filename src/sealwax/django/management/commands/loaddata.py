"""``manage.py loaddata`` that takes the records that dumpdata has written, and seals what is in the clear."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import loaddata
from django.core.serializers.base import DeserializationError

from sealwax.django._binding import loading
from sealwax.errors import SealwaxError, UnknownKeyError


class Command(loaddata.Command):
    def handle(self, *fixture_labels: str, **options: Any) -> Any:
        try:
            with loading():
                return super().handle(*fixture_labels, **options)
        except UnknownKeyError as error:
            raise CommandError(
                f"{error}. Load records where their data keys are; dumpdata --open-sealed writes values, for another "
                "key store"
            ) from None
        except SealwaxError as error:
            raise CommandError(str(error)) from None
        except DeserializationError as error:
            if isinstance(error.__context__, SealwaxError):  # and the other would show the value
                raise CommandError(f"a fixture has a wrong value: {error.__context__}") from None
            raise
