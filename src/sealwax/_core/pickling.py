"""Copies and pickles contain settings, but no keys, credentials or connections.

They hold how an object was made: ``__getstate__`` returns the arguments, and ``__setstate__`` makes another object from
them. An object that the caller passed (a session, a client, a function) is ``Carried`` among them: a copy in the same
process shares it, and a pickle takes only what is safe, or fails.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, Self, TypeVar

from sealwax.errors import NotPicklableError

V = TypeVar("V")

# What ``__reduce__`` returns: a function to call in the other process, and its arguments.
Packed = tuple[Callable[..., Any], tuple[object, ...]]


class Carried(Generic[V]):
    """An object that the caller passed.

    Args:
        value: the object.
        pack: returns what a pickle holds in its place.
    """

    def __init__(self, value: V, pack: Callable[[V], Packed]) -> None:
        self.value = value
        self._pack = pack

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> Packed:
        return self._pack(self.value)


def carried(value: V | None, pack: Callable[[V], Packed]) -> Carried[V] | None:
    """Return ``value`` for a state, or None if it is None."""
    return None if value is None else Carried(value, pack)


def arrived(state: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments in a state, whether it was copied or pickled."""
    return {name: value.value if isinstance(value, Carried) else value for name, value in state.items()}


def pack_watcher(function: object) -> Packed:
    """Pack an ``on_event`` function.

    Raises:
        NotPicklableError: another process cannot find it.
    """
    try:
        pickle.dumps(function)
    except NotPicklableError:
        raise
    except Exception as error:
        raise NotPicklableError(
            f"the on_event function cannot be pickled ({type(error).__name__}): another process finds a function by "
            "its name in a module. Pass one that a module defines with 'def', or make the keyring in the other process"
        ) from None
    return _same, (function,)


def pack_picklable(value: object, what: str) -> Packed:
    """Pack an object that should be picklable.

    Args:
        what: the subject of a sentence.

    Raises:
        NotPicklableError: it is not.
    """
    try:
        pickle.dumps(value)
    except Exception as error:
        raise NotPicklableError(
            f"{what} cannot be pickled ({type(error).__name__}): make the keyring in the other process"
        ) from None
    return _same, (value,)


def pack_client(_: object) -> NoReturn:
    """Refuse to pack a client.

    Raises:
        NotPicklableError: always.
    """
    raise NotPicklableError(
        "a keyring with its own KMS client cannot be pickled, since a client holds credentials and connections: make "
        "the keyring in the other process, or pass profile and Region with session=boto3.Session(...)"
    )


def _same(value: object) -> object:
    return value
