"""Copies, and the way to other processes: settings travel, keys, credentials and connections do not.

What is pickled or copied is how an object was made: ``__getstate__`` returns the arguments, and ``__setstate__`` makes
another object of them. What the caller handed in (a session, a client, a function) is :class:`Carried` among them: a
copy in the same process shares it, and a pickle takes of it what is safe, or is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

from sealwax.errors import NotPicklableError

# What ``__reduce__`` returns: what to call in the other process, and with what.
Packed = tuple[Callable[..., Any], tuple[Any, ...]]


class Carried:
    """Something of the caller's.

    Args:
        value: it.
        pack: returns what stands for it in a pickle.
    """

    def __init__(self, value: Any, pack: Callable[[Any], Packed]) -> None:
        self.value = value
        self._pack = pack

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> Packed:
        return self._pack(self.value)


def carried(value: Any, pack: Callable[[Any], Packed]) -> Carried | None:
    """Return ``value`` for a state, or None where there is none."""
    return None if value is None else Carried(value, pack)


def arrived(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in a state, whether it was copied or pickled."""
    return {name: value.value if isinstance(value, Carried) else value for name, value in state.items()}


def pack_watcher(function: Any) -> Packed:
    """Pack an ``on_event``.

    Raises:
        NotPicklableError: it cannot be found in another process.
    """
    try:
        pickle.dumps(function)
    except NotPicklableError:
        raise
    except Exception as error:
        raise NotPicklableError(
            f"the on_event function cannot be pickled ({type(error).__name__}): another process finds a function by "
            "its name in a module. Pass one that is defined there with 'def', or make the keyring in the other process"
        ) from None
    return _same, (function,)


def pack_picklable(value: Any, what: str) -> Packed:
    """Pack what can be pickled as it is.

    Args:
        what: the subject of a sentence.

    Raises:
        NotPicklableError: it cannot.
    """
    try:
        pickle.dumps(value)
    except Exception as error:
        raise NotPicklableError(
            f"{what} cannot be pickled ({type(error).__name__}): make the keyring in the other process"
        ) from None
    return _same, (value,)


def pack_client(_: Any) -> NoReturn:
    """Refuse to pack a client.

    Raises:
        NotPicklableError: always.
    """
    raise NotPicklableError(
        "a keyring with a KMS client of its own cannot be pickled, since a client has credentials and connections: "
        "make the keyring in the other process, or name profile and Region with session=boto3.Session(...)"
    )


def _same(value: Any) -> Any:
    return value
