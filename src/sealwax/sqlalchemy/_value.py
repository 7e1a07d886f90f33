"""What stands for the value of a sealed column inside SQLAlchemy: it has no plaintext in its repr or its pickle."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from sealwax.errors import ModelError


class _Unset:
    def __repr__(self) -> str:
        return "not set"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()


class SealedValue:
    """The value of a column that ``sealed`` declares, as statements and histories of SQLAlchemy show it.

    Attributes:
        record: the record; None if the value was not written to the database yet.
    """

    __slots__ = ("pairs", "record", "row", "value")

    def __init__(
        self, value: Any = UNSET, record: bytes | str | None = None, row: Any = UNSET, pairs: Any = ()
    ) -> None:
        self.value = value
        self.record = record
        self.row = row
        self.pairs = pairs

    @property
    def _unknown(self) -> bool:
        """Whether it is not known what the record is bound to."""
        return self.record is not None and self.row is UNSET

    def __repr__(self) -> str:
        return "<SealedValue>"

    def __copy__(self) -> SealedValue:
        return self

    def __deepcopy__(self, memo: object) -> SealedValue:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.record is None:
            _refuse_pickle()
        return SealedValue, (UNSET, self.record, self.row, self.pairs)


class HiddenValue:
    """A value on its way to be sealed: messages of SQLAlchemy that show parameters do not show it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<to be sealed>"

    def __reduce__(self) -> NoReturn:
        _refuse_pickle()


def _refuse_pickle() -> NoReturn:
    raise ModelError("a value that is not sealed yet is not pickled: flush the session first")
