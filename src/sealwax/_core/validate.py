"""Checks of arguments, so that a mistake is reported where it is made and not by a thread much later.

Numbers exclude NaN and infinity, which would bound nothing, and True, which Python takes for 1.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeVar

T = TypeVar("T")

# In seconds about 31 years: no wait may be longer than the machine can count.
MOST: Final = 1e9


def whole(name: str, value: object, least: int, most: int) -> int:
    """Return an int from ``least`` to ``most``.

    Raises:
        TypeError: it is not an int.
        ValueError: it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {_kind(value)}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {_shown(value)}")
    return value


def number(name: str, value: object, what: str, *, least: float | None = None) -> float:
    """Return a number of at least ``least``, or else of more than 0, and at most ``MOST``.

    Args:
        what: its unit, for the message: ``"requests per second"``.

    Raises:
        TypeError: it is not a number.
        ValueError: it is too small, too large, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of {what}, not {_kind(value)}")
    fits = value > 0 if least is None else least <= value
    if not (fits and value <= MOST):  # NaN is neither
        bounds = "more than 0" if least is None else f"at least {least:g}"
        raise ValueError(f"{name} must be {bounds} and at most {MOST:g} {what}, not {_shown(value)}")
    return value


def many(name: str, value: Iterable[T], what: str) -> Iterable[T]:
    """Return an iterable that is not text or bytes.

    Args:
        what: its items, in the plural: ``"key names"``.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of {what}, not {_kind(value)}")
    return value


def texts(name: str, value: Iterable[str], what: str) -> tuple[str, ...]:
    """Return an iterable of str as a tuple.

    Raises:
        TypeError: it is something else, or contains something else.
    """
    texts = tuple(many(name, value, what))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a sequence of {what}, each a str, not {_kind(text)}")
    return texts


def one_or_more(name: str, value: str | Iterable[str], one: str, what: str) -> tuple[str, ...]:
    """Return a str, or an iterable of them, as a tuple.

    Args:
        one: what a str is: ``"a key name"``.
        what: as for ``many``.

    Raises:
        TypeError: it is something else, or contains something else.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, bytes | bytearray | memoryview) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {one} (str) or a sequence of {what}, not {_kind(value)}")
    return texts(name, value, what)


def value(taker: str, value: T) -> T:
    """Return a value to encrypt, or an encrypted one.

    Args:
        taker: the function that takes it.

    Raises:
        TypeError: it is not bytes-like, or its bytes are not one after another.
    """
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{taker} takes bytes, bytearray or memoryview, not {type(value).__name__}")
    if isinstance(value, memoryview) and not value.c_contiguous:
        raise TypeError(f"{taker} takes a memoryview only if it is contiguous: pass bytes(view)")
    return value


def path(name: str, value: T) -> T:
    """Return a path.

    Raises:
        TypeError: it is neither a str nor a PathLike.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path (str or PathLike), not {_kind(value)}")
    return value


def file(value: T, method: Literal["read", "write"]) -> T:
    """Return a file object to read from or write to.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"pass a path or a binary file object, not {_kind(value)}; encrypt and decrypt take values")
    if isinstance(value, io.TextIOBase):
        raise TypeError(f"the file must be a binary file object, not {_kind(value)}, which holds text")
    return able("the file", value, [method], f"a path, or a binary file object with {method}()")


def keyring(value: T) -> T:
    """Return a keyring.

    Raises:
        TypeError: it is something else.
    """
    return able("keyring", value, ["generate", "unwrap"], "a keyring, such as KmsKeyring(...)")


def kind(name: str, value: object, wanted: type[T]) -> T:
    """Return an instance of a class.

    Raises:
        TypeError: it is an instance of another class.
    """
    if not isinstance(value, wanted):
        raise TypeError(f"{name} must be a {wanted.__name__}, not {_kind(value)}")
    return value


def able(name: str, value: T, methods: Sequence[str], what: str) -> T:
    """Return an object that has certain methods.

    Args:
        what: such an object, with its article: ``"a keyring"``.

    Raises:
        TypeError: a method is missing, or it is a class.
    """
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"{name} must be {what}, not {_kind(value)}")
    return value


def watcher(value: object) -> None:
    """Refuse what cannot be called with an event.

    Raises:
        TypeError: it is neither None nor callable.
    """
    if value is not None and not callable(value):
        raise TypeError(f"on_event must be a function of one event, not {_kind(value)}")


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def _shown(value: float) -> str:
    # Python refuses to format an int of thousands of digits.
    return "something far larger" if isinstance(value, int) and value.bit_length() > 128 else str(value)
