"""Errors that SQLAlchemy passes on as they are: what it wraps it shows with the parameters of the statement."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from sqlalchemy.exc import DontWrapMixin

from sealwax.errors import SealwaxError


@functools.cache
def _passed_on(kind: type[Exception]) -> type[Exception]:
    if issubclass(kind, DontWrapMixin):
        return kind
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind, DontWrapMixin), names)


def passed_on(error: Exception) -> Exception:
    """Return an error as SQLAlchemy passes it on, of the same class for whoever catches it."""
    if isinstance(error, SealwaxError):
        error.__class__ = _passed_on(type(error))
        return error
    return _passed_on(type(error))(*error.args)


@contextlib.contextmanager
def passing_on() -> Iterator[None]:
    """Let errors of this block through SQLAlchemy."""
    try:
        yield
    except (SealwaxError, TypeError, ValueError) as error:
        raise passed_on(error) from None
