"""How values were stored before they were records: plaintext, Fernet, and one of several."""

from __future__ import annotations

import base64
import datetime
import enum
import re
from collections.abc import Sequence
from typing import Final, Protocol, Self

from cryptography import fernet

from sealwax.errors import NotPicklableError, OldFormError
from sealwax.records._old_text import decoded, encoded, read_text, with_zone, write_text

# How every token begins until the year 2106, and at least its time. One that was cut off is not plaintext either.
_TOKEN: Final = re.compile(rb"\s*gAAAAA[A-Za-z0-9_-]{6,}={0,2}\s*")


class OldForm(Protocol):
    """How values were stored before they were records.

    Another form takes a class of your own with these members.

    Attributes:
        name: one word, such as ``"fernet"``: in counts, logs and errors.
    """

    name: str

    def recognizes(self, stored: object) -> bool:
        """Whether a stored value looks as if it were in this form; reading it may still fail.

        Args:
            stored: what a column holds.
        """

    def read(self, stored: object, kind: type) -> object:
        """Return a stored value.

        Args:
            stored: what a column holds: str or bytes; a value of a type of its own where a column has one.
            kind: the type of the value: one that records have, or an Enum, which is stored by name.

        Returns:
            The value, of that type.

        Raises:
            OldFormError: it is not in this form, was altered, or is of another key or type.
        """

    def write(self, value: object, *, text: bool) -> str | bytes:
        """Return what a column holds for a value.

        Args:
            value: anything but None.
            text: whether the column is one of text.

        Returns:
            A str if ``text``, else bytes.

        Raises:
            OldFormError: this form cannot hold it.
        """


class QuietForm:
    """A form whose errors, tracebacks, copies and pickles show neither values nor keys."""

    name: str
    _zone: datetime.tzinfo | None = None

    def read(self, stored: object, kind: type) -> object:
        """Return a stored value.

        Args:
            stored: what a column holds.
            kind: the type of the value.

        Returns:
            The value, of that type.

        Raises:
            OldFormError: it is not in this form, was altered, or is of another key or type.
        """
        try:
            return self._read(stored, kind)
        except OldFormError as error:
            why = str(error)
        # Raised here, and without what it was raised from: debuggers show the variables of every frame.
        del stored
        raise OldFormError(f"a stored value cannot be read as {self.name}: {why}")

    def write(self, value: object, *, text: bool) -> str | bytes:
        """Return what a column holds for a value.

        Args:
            value: anything but None.
            text: whether the column is one of text.

        Returns:
            A str if ``text``, else bytes.

        Raises:
            OldFormError: this form cannot hold it.
        """
        try:
            return self._write(value, text=text)
        except OldFormError as error:
            why = str(error)
        del value
        raise OldFormError(f"a value cannot be stored as {self.name}: {why}")

    def _read(self, stored: object, kind: type) -> object:
        raise NotImplementedError

    def _write(self, value: object, *, text: bool) -> str | bytes:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> str | tuple[object, ...]:
        raise NotPicklableError(f"{type(self).__name__} holds keys and cannot be pickled: make it in the other process")


class Plaintext(QuietForm):
    """Values as they are; those of other types than text and bytes as ISO 8601, JSON or what ``str`` makes of them.

    Nothing tells a value from any other: every value that does not begin as a record is read.

    Args:
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Example:
        >>> moving = Moving(Plaintext(), writes="old")
    """

    name = "plaintext"

    def __init__(self, *, zone: datetime.tzinfo | None = None) -> None:
        self._zone = zone

    def recognizes(self, stored: object) -> bool:
        """Whether there is a value.

        Args:
            stored: what a column holds.
        """
        return stored is not None

    def _read(self, stored: object, kind: type) -> object:
        if isinstance(stored, bytearray | memoryview):
            stored = bytes(stored)
        if type(stored) is kind:
            return with_zone(stored, self._zone)
        if isinstance(stored, bytes):
            return read_text(decoded(stored), kind, self._zone)
        if isinstance(stored, str) and kind is not bytes:
            return read_text(stored, kind, self._zone)
        if kind is bool and type(stored) is int and stored in (0, 1):
            return bool(stored)
        if isinstance(stored, enum.Enum) and type(stored) is kind:
            return stored
        raise OldFormError(f"the column holds {type(stored).__name__}, and the value is of type {kind.__name__}")

    def _write(self, value: object, *, text: bool) -> str | bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            if text:
                raise OldFormError("the column is one of text, and the value bytes")
            return bytes(value)
        written = write_text(value, self._zone, bools=lambda value: str(value).lower())
        # Drivers show text that is not valid Unicode in their errors.
        binary = encoded(written)
        return written if text else binary

    def __reduce__(self) -> tuple[object, ...]:
        return _plaintext, (self._zone,)


def _plaintext(zone: datetime.tzinfo | None) -> Plaintext:
    return Plaintext(zone=zone)


class Fernet(QuietForm):
    """Tokens of ``cryptography.fernet``, written by hand or through its MultiFernet.

    A token is authenticated under one of the keys. It is not bound to a row or a column, and its time is not looked at.

    Args:
        *keys: as ``cryptography.fernet.Fernet`` takes them, the newest first: it writes.
        zone: the time zone of datetimes that were stored without one; they are written so, too.

    Raises:
        ValueError: there is no key, or one is not 32 bytes in base64url; the message does not show it.

    Example:
        >>> moving = Moving(Fernet(os.environ["NEW_KEY"], os.environ["OLD_KEY"]), writes="old")
    """

    name = "fernet"

    def __init__(self, *keys: str | bytes, zone: datetime.tzinfo | None = None) -> None:
        self._fernet = several([_checked_key(key) for key in keys])
        self._zone = zone

    def recognizes(self, stored: object) -> bool:
        """Whether a value looks like a Fernet token, or one that was cut off.

        Args:
            stored: what a column holds.
        """
        token = bytes_of(stored)
        return token is not None and _TOKEN.fullmatch(token) is not None

    def _read(self, stored: object, kind: type) -> object:
        token = bytes_of(stored)
        data: bytes | None = None
        try:
            if token is not None:
                data = self._fernet.decrypt(token)
        except fernet.InvalidToken:
            pass
        if data is None:
            raise OldFormError("it is not a token, was altered, or is of another key")
        return data if kind is bytes else read_text(decoded(data), kind, self._zone)

    def _spelled(self, value: bool) -> str:
        return str(value)

    def _write(self, value: object, *, text: bool) -> str | bytes:
        plain = (
            bytes(value)
            if isinstance(value, bytes | bytearray | memoryview)
            else encoded(write_text(value, self._zone, bools=self._spelled))
        )
        token = self._fernet.encrypt(plain)
        return token.decode("ascii") if text else token


class AnyOf(QuietForm):
    """Several old forms in one column: a value is of the first form that recognizes it, and the first one writes.

    What a form recognizes and cannot read is an error; it is not tried as the next one. ``Plaintext``, which recognizes
    everything, comes last.

    Args:
        *forms: the forms, those with the clearest mark first.

    Raises:
        ValueError: there is no form, or one follows ``Plaintext``.

    Example:
        >>> moving = Moving(AnyOf(Fernet(key), Plaintext()), writes="old")
    """

    def __init__(self, *forms: OldForm) -> None:
        if not forms:
            raise ValueError("AnyOf takes at least one old form")
        if any(isinstance(form, Plaintext) for form in forms[:-1]):
            raise ValueError("Plaintext recognizes every value, so it comes last")
        self.forms: Sequence[OldForm] = forms
        self.name = " or ".join(form.name for form in forms)

    def recognizes(self, stored: object) -> bool:
        """Whether one of the forms recognizes a value.

        Args:
            stored: what a column holds.
        """
        return any(form.recognizes(stored) for form in self.forms)

    def read(self, stored: object, kind: type) -> object:
        """Return a stored value, by the first form that recognizes it.

        Args:
            stored: what a column holds.
            kind: the type of the value.

        Returns:
            The value, of that type.

        Raises:
            OldFormError: no form recognizes it, or that form cannot read it.
        """
        form = next((form for form in self.forms if form.recognizes(stored)), None)
        why = f"a stored value does not look like {self.name}"
        if form is not None:
            try:
                return form.read(stored, kind)
            except OldFormError as error:
                why = str(error)
        del stored
        raise OldFormError(why)

    def write(self, value: object, *, text: bool) -> str | bytes:
        """Return what a column holds for a value, in the first form.

        Args:
            value: anything but None.
            text: whether the column is one of text.

        Returns:
            A str if ``text``, else bytes.

        Raises:
            OldFormError: the form cannot hold it.
        """
        try:
            return self.forms[0].write(value, text=text)
        except OldFormError as error:
            why = str(error)
        del value
        raise OldFormError(why)


def several(keys: Sequence[fernet.Fernet]) -> fernet.MultiFernet:
    """Return what encrypts with the first key and decrypts with any.

    Raises:
        ValueError: there is none.
    """
    if not keys:
        raise ValueError("it takes at least one key")
    return fernet.MultiFernet(keys)


def fernet_of(key: bytes) -> fernet.Fernet:
    """Return a Fernet with a key of 32 bytes."""
    return fernet.Fernet(base64.urlsafe_b64encode(key))


def _checked_key(key: str | bytes) -> fernet.Fernet:
    try:
        return fernet.Fernet(key)
    except (ValueError, TypeError):
        pass
    del key
    raise ValueError("a Fernet key is 32 bytes in base64url, 44 characters in all")


def bytes_of(stored: object) -> bytes | None:
    """Return the bytes of a value of ASCII characters, or of bytes; None if it is neither."""
    if isinstance(stored, str):
        return stored.encode("ascii") if stored.isascii() else None
    return bytes(stored) if isinstance(stored, bytes | bytearray | memoryview) else None
