"""Normalizers: which values have one blind index, although they are written differently.

A normalizer never changes: its name and version are bound into the key of each index, and another rule is another
version. A code point that the Unicode tables of this Python do not know may get a case or a composition with the next
ones, so text with one is refused: an index made now could not be found later.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Callable
from typing import Final
from uuid import UUID

from sealwax.records import _values

Normalize = Callable[[object], bytes]

_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
# Not str.strip(), whose white space depends on the Unicode tables.
_SPACE: Final = " \t\n\r\v\f"
# All but the three characters whose composed form is ASCII: the Kelvin sign, the Greek question mark, and varia.
_NOT_TO_ASCII: Final = re.compile("[^\u212a\u037e\u1fef]+")
# Values that are equal and are written in one way only.
_EXACT: Final = (str, bytes, bytearray, memoryview, int, UUID, datetime.date)


def normalizer(name: str) -> Normalize:
    """Return the function that turns a value into the bytes that are indexed.

    Raises:
        ValueError: no normalizer has this name.
        TypeError: the name is not a str.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a normalizer is a str, not {type(name).__name__}")
    try:
        return _NORMALIZERS[name]
    except KeyError:
        raise ValueError(f"there is no normalizer {name!r}; there are {', '.join(_NORMALIZERS)}") from None


def _exact(value: object) -> bytes:
    """The type and the value, as a record holds them."""
    if isinstance(value, bool | datetime.datetime) or not isinstance(value, _EXACT):
        raise TypeError(
            f"an index is of str, bytes, int, date or UUID, not {type(value).__name__}"
            + ("; store NULL for None" if value is None else ", of which equal values may be written differently")
        )
    return _values.encode(value)


def _casefold_nfc(value: object) -> bytes:
    text = _text(value)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold()).encode()


def _digits(value: object) -> bytes:
    """The decimal digits of any script, as 0 to 9."""
    digits = (unicodedata.decimal(character, None) for character in _text(value))
    return "".join(str(digit) for digit in digits if digit is not None).encode()


def _email(value: object) -> bytes:
    """Without white space around, and with a to z for A to Z; two mailboxes never become one."""
    # Of the composed form, what is not ASCII stays so: the Kelvin sign would become a K, and that is another mailbox.
    text = _text(value).strip(_SPACE)
    composed = _NOT_TO_ASCII.sub(lambda part: unicodedata.normalize("NFC", part[0]), text)
    return composed.translate(_LOWER).encode()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(
            f"this normalizer takes a str, not {type(value).__name__}" + ("; store NULL for None" * (value is None))
        )
    # A character is not quoted: it is a part of the value.
    for character in "" if value.isascii() else value:
        category = unicodedata.category(character)
        if category == "Cs":
            raise ValueError("the value holds text that is not valid Unicode (a lone surrogate)")
        if category == "Cn":
            raise ValueError(
                "the value has a character that Unicode "
                f"{unicodedata.unidata_version} does not define, and a later version may fold; use a newer Python, or "
                "the normalizer 'exact/1'"
            )
    return value


_NORMALIZERS: Final[dict[str, Normalize]] = {
    "exact/1": _exact,
    "casefold-nfc/1": _casefold_nfc,
    "digits/1": _digits,
    "email/1": _email,
}
