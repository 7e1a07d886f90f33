"""Errors that SQLAlchemy passes on as they are: what it wraps it shows with the parameters of the statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy.exc import DontWrapMixin

from sealwax.errors import SealwaxError

T = TypeVar("T")


_classes: Final[dict[type[Exception], type[Exception]]] = {}


def _passed_on(kind: type[Exception]) -> type[Exception]:
    """Return a class of errors that SQLAlchemy passes on, under the name of another."""
    if issubclass(kind, DontWrapMixin):
        return kind
    if kind not in _classes:
        names: dict[str, Any] = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
        }
        names["__reduce__"] = lambda self: (_plain, (kind, self.args, self.__dict__.copy()))
        _classes[kind] = type(kind.__name__, (kind, DontWrapMixin), names)
    return _classes[kind]


def _plain(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    """Return an error in another process, where SQLAlchemy does not see it."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def passed_on(error: Exception) -> Exception:
    """Return an error as SQLAlchemy passes it on, of the same class for whoever catches it."""
    if isinstance(error, SealwaxError):
        error.__class__ = _passed_on(type(error))  # type: ignore[assignment]  # a subclass of its own class
        return error
    return _passed_on(type(error))(*error.args)


def passing_on(call: Callable[[], T]) -> T:
    """Call a function whose errors SQLAlchemy is to pass on; what they were raised from may show the value."""
    try:
        return call()
    except (SealwaxError, TypeError, ValueError) as error:
        failure = passed_on(error)
    failure.__context__ = failure.__cause__ = None
    # The frames below have the value among their local variables, which reports of errors show.
    raise failure.with_traceback(None)
