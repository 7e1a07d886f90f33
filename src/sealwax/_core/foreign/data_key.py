"""The data key of another format: 16, 24 or 32 bytes. An envelope's ``DataKey`` always has 32."""

from __future__ import annotations

from typing import Final, NoReturn, Protocol, Self

from sealwax._core.keyring import wipe
from sealwax.errors import DataKeyError

SIZES: Final = (16, 24, 32)


class Secret(Protocol):
    """A key in a buffer of its own, lent by its owner: a ``DataKey`` or a ``ForeignDataKey``."""

    @property
    def buffer(self) -> bytearray: ...


class ForeignDataKey:
    """The plaintext data key of another format, in a buffer of its own.

    It is wiped by ``close()``, at the end of ``with`` and on deletion. It cannot be printed, compared, copied or
    pickled.

    Args:
        buffer: 16, 24 or 32 bytes. It is taken over without a copy, and wiped if this raises.

    Raises:
        DataKeyError: the buffer has another length.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer
        if len(buffer) not in SIZES:
            size = len(buffer)
            self.close()
            raise DataKeyError(f"a data key has 16, 24 or 32 bytes, not {size}")

    @property
    def buffer(self) -> bytearray:
        """The key itself, valid only during the loan."""
        if not self._buffer:
            raise ValueError("the data key has been wiped")
        return self._buffer

    def close(self) -> None:
        """Wipe the key. Closing twice is harmless."""
        wipe(self._buffer)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<ForeignDataKey>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a data key cannot be copied, pickled or compared")

    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of the key
