"""A column on its way from an old form to records: both are read, and one of them is written."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import KW_ONLY, dataclass
from typing import Final, Literal

from sealwax.errors import ModelError, OldFormError
from sealwax.records._form import MAGIC, TEXT_START
from sealwax.records._old_forms import OldForm
from sealwax.records._records import Records

_WARN_DAYS: Final = 30
_STARTS: Final = (MAGIC, TEXT_START.encode())


@dataclass(frozen=True)
class Moving:
    """The state of a column while its values move from an old form to records.

    There are three states, deployed one after another, each to all processes before the next one:
    ``Moving(old, writes="old")`` reads both and writes the old form; ``Moving(old, writes="records")`` reads both and
    writes records; then no ``Moving`` at all, once ``reseal`` has moved every value.

    A stored value that begins as a record does is one: if it does not open, that is an error, and never plaintext.
    So while the old form is written, a value that would begin so is refused.

    Attributes:
        old: how values were stored before.
        writes: what is written: ``"old"`` or ``"records"``.
        until: the last day on which old values may be left. Deployments warn from 30 days before it, and fail after
            it; processes that run go on reading.

    Raises:
        TypeError: ``old`` is not an old form, or ``until`` is not a date.
        ValueError: ``writes`` is neither.

    Example:
        >>> email: Mapped[str] = sealed(str, row="id", moving=Moving(Plaintext(), writes="old"))
    """

    old: OldForm
    _: KW_ONLY
    writes: Literal["old", "records"]
    until: datetime.date | None = None

    def __post_init__(self) -> None:
        if isinstance(self.old, type) or not all(hasattr(self.old, name) for name in ("name", "read", "write")):
            raise TypeError("Moving takes an old form, such as Plaintext() or Fernet(key)")
        if self.writes not in ("old", "records"):
            raise ValueError('writes is "old" or "records"')
        if self.until is not None and type(self.until) is not datetime.date:
            raise TypeError(f"until is a datetime.date, not {type(self.until).__name__}")

    def check(self, field: str) -> None:
        """Look at ``until``, when a model is defined or deployed.

        Args:
            field: the name of the field, for the message.

        Raises:
            ModelError: the day has passed. From 30 days before, it is a FutureWarning.
        """
        if self.until is None:
            return
        left = (self.until - datetime.datetime.now(datetime.UTC).date()).days
        todo = "reseal what is left, and leave out moving=, or set a later day"
        if left < 0:
            raise ModelError(f"'{field}' was to hold {self.old.name} until {self.until}, which has passed: {todo}")
        if left <= _WARN_DAYS:
            days = "today is the last day" if left == 0 else f"{left} day{'s' * (left != 1)} left"
            warnings.warn(
                f"'{field}' is to hold {self.old.name} until {self.until} ({days}), then models that say so fail: "
                f"{todo}",
                FutureWarning,
                stacklevel=2,
            )

    def is_old(self, stored: object) -> bool:
        """Whether a stored value is in the old form: it does not begin as a record does.

        Args:
            stored: what a column holds; None is NULL, and in neither form.
        """
        return stored is not None and not _begins_as_record(stored)

    def read(self, records: Records, field: str, stored: object, kind: type) -> object:
        """Return a value in the old form. It is counted in ``records.stats()``, and logged once for each field.

        Args:
            records: what counts it.
            field: the name of the field.
            stored: what the column holds; ``is_old`` is true of it.
            kind: the type of the value.

        Returns:
            The value, of that type.

        Raises:
            OldFormError: it cannot be read, or begins as a record does.
        """
        if _begins_as_record(stored):
            del stored
            raise OldFormError(f"a stored value of '{field}' begins as a record does, so it is never read in a form")
        why = ""
        try:
            value = self.old.read(stored, kind)
        except OldFormError as error:
            why = str(error)
        if why:
            del stored
            raise OldFormError(f"'{field}': {why}")
        records.note_old_value(field, self.old.name, read=True)
        return value

    def write(self, records: Records, field: str, value: object, *, text: bool) -> str | bytes:
        """Return what the column holds for a value while the old form is written; it is counted, too.

        Args:
            records: what counts it.
            field: the name of the field.
            value: anything but None.
            text: whether the column is one of text.

        Returns:
            A str if ``text``, else bytes.

        Raises:
            OldFormError: the old form cannot hold it, or it would begin as a record does.
            ValueError: this state writes records.
        """
        if self.writes != "old":
            raise ValueError(f"'{field}' writes records in this state")
        why = ""
        try:
            stored = self.old.write(value, text=text)
            if _begins_as_record(stored):
                why = f"a value that begins with '{TEXT_START}' or the byte C1 would be taken for a record"
        except OldFormError as error:
            why = str(error)
        if why:
            del value
            stored = b""
            raise OldFormError(f"'{field}': {why}")
        records.note_old_value(field, self.old.name, read=False)
        return stored


def _begins_as_record(stored: object) -> bool:
    # More than is_record() asks for: what was cut off is not plaintext either.
    if isinstance(stored, str):
        return stored.startswith(TEXT_START)
    if isinstance(stored, bytes | bytearray | memoryview):
        return bytes(stored[: len(TEXT_START)]).startswith(_STARTS)
    return False
