"""What `manage.py sealwax_check` looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.core import checks
from django.db import models

from sealwax._text import printable
from sealwax.django import _index_fill
from sealwax.django._engines import data_engine
from sealwax.django._fields import sealed_fields
from sealwax.django._index import IndexOf
from sealwax.django._maps import own_sealed_fields, sealed_columns
from sealwax.django._moving import needed_length
from sealwax.django._settings import get_records
from sealwax.errors import KmsError, SealwaxError, TableError
from sealwax.records import tables
from sealwax.records._sealed_table import SealedTable
from sealwax.records._walk import is_passing

_SHOWN: Final = 5
# By the column, and what is alike about what is wrong with it: the reason, and the keys of the rows.
_Reasons = dict[tuple[str, str], tuple[str, list[str]]]
_RESEAL: Final = "`manage.py sealwax_reseal`"


class FieldCheck:
    """Looks at the sealed fields of models, and gathers what is found.

    Args:
        using: the alias of the database.
        sample: how many rows of each model to open; None opens all.

    Attributes:
        findings: what is not in order, each as a sentence.
        gaps: what could not be checked.
        opened: how many values of each field were opened.
        only_kms: whether all that was found is that KMS, or the keyring, refused data keys.
    """

    def __init__(self, using: str, sample: int | None) -> None:
        self.using = using
        self.sample = sample
        self.findings: list[str] = []
        self.gaps: list[str] = []
        self.opened: dict[str, int] = {}
        self._refused = 0

    @property
    def only_kms(self) -> bool:
        return len(self.findings) == self._refused

    def as_dict(self) -> dict[str, object]:
        return {"findings": self.findings, "gaps": self.gaps, "opened": self.opened}

    def definitions(self, messages: Sequence[checks.CheckMessage], given: Sequence[type[models.Model]]) -> None:
        """Take what Django's system checks say of sealed fields."""
        for each in messages:
            field: Any = each.obj
            if str(each.id).startswith("sealwax.") and getattr(field, "model", None) in given:
                self.findings.append(f"{field.model._meta.label}.{field.name}: {each.msg}")

    def columns(self, given: Sequence[type[models.Model]]) -> None:
        """Look at the columns in the database, and count the values that are not as they should be."""
        fields = {(each._meta.db_table, field.column): field for each in given for field in own_sealed_fields(each)}
        columns = sealed_columns(*given)
        with data_engine(self.using) as engine:
            for column in columns:
                try:
                    table = SealedTable(engine, column)
                except TableError as error:
                    self.gaps.append(str(error))
                    continue
                self._column(fields[column.table, column.column], table)
                report = tables.stale(get_records().store, engine, [column])
                for count, what, todo in (
                    (report.stale, "not under the newest data key", f"{_RESEAL} seals them again"),
                    (report.old, "still in the old form", f"{_RESEAL} makes records of them"),
                    (report.not_records, "not records", "find out who wrote them; or the field needs moving="),
                ):
                    if count:
                        self.findings.append(f"{column.named}: {count:,} of its values are {what}: {todo}")

    def _column(self, field: Any, table: SealedTable) -> None:
        named = table.column.named
        if table.text != field.text:
            self.findings.append(
                f"{named}: the column is one of {'text' if table.text else 'bytes'}, and the field says "
                f"{'text' if field.text else 'bytes'}: run `manage.py migrate`, or correct storage="
            )
            return
        room, needed = table.value.room, needed_length(field)
        if room is not None and needed is not None and room.most < needed:
            self.findings.append(
                f"{named}: the column has room for {room.most:,}, and a record of the longest value needs {needed:,}: "
                "run `manage.py migrate`"
            )

    def rows(self, model: type[models.Model]) -> None:
        """Open sealed fields, and compare their indexes."""
        fields = own_sealed_fields(model)
        reasons: _Reasons = {}
        for field in fields:
            self.opened.setdefault(f"{model._meta.db_table}.{field.column}", 0)
        objects: Any = models.QuerySet(model, using=self.using).order_by("pk")
        for each in objects[: self.sample] if self.sample else objects.iterator(2000):
            for field in sealed_fields(model):
                self._open(each, field, reasons)
        for (named, _), (reason, keys) in reasons.items():
            shown = ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else "")
            self.findings.append(f"{named}, row{'s' if len(keys) > 1 else ''} {shown}: {reason}")

    def _open(self, instance: models.Model, field: Any, reasons: _Reasons) -> None:
        named = f"{field.model._meta.db_table}.{field.column}"
        try:
            value = getattr(instance, field.attname)
            for index in instance._meta.concrete_fields:
                if isinstance(index, IndexOf) and index.index_of == field.name:
                    self._compare(instance, index, reasons)
        except (SealwaxError, ValueError) as error:
            if isinstance(error, SealwaxError) and is_passing(error):
                raise
            refused = isinstance(error, KmsError)  # each time with another request id
            key = named, type(error).__name__ if refused else str(error)
            self._refused += refused and key not in reasons
            reasons.setdefault(key, (str(error), []))[1].append(printable(str(instance.pk)))
            return
        self.opened[named] = self.opened.get(named, 0) + (value is not None)

    def _compare(self, instance: models.Model, index: IndexOf, reasons: _Reasons) -> None:
        held = instance.__dict__.get(index.attname)
        if held is not None and bytes(held) != index.of_instance(instance):
            why = "the index is not that of the value: save the object"
            key = f"{index.model._meta.db_table}.{index.column}", why
            reasons.setdefault(key, (why, []))[1].append(printable(str(instance.pk)))

    def indexes(self, model: type[models.Model]) -> None:
        """Count the rows that have a value and no index."""
        for index in _index_fill.index_fields(model):
            if count := _index_fill.missing(index, self.using):
                self.findings.append(
                    f"{model._meta.db_table}.{index.column}: {count:,} row{'s have' if count > 1 else ' has'} a value "
                    f"and no index: {_RESEAL} fills it"
                )
