"""What is refused about sealed fields."""

from __future__ import annotations

from typing import TypeVar

from django.core.exceptions import FieldError

from sealwax.errors import SealwaxError

_E = TypeVar("_E", bound=BaseException)


class SealedFieldError(SealwaxError, FieldError):
    """A query or an assignment that a sealed field cannot serve; the message says what can."""


def without_frames(error: _E) -> _E:
    """Return an error without what may have a value: the variables of the frames below, and errors it replaced."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        if each.__suppress_context__:
            each.__context__ = None
        each = each.__cause__ or each.__context__
    return error
