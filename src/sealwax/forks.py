"""Locks after a fork: another thread of the parent may hold one, and that thread does not live on in the child."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol


class Locked(Protocol):
    _lock: threading.Lock


_owners: Final[weakref.WeakSet[Locked]] = weakref.WeakSet()


def renew_lock_in_children(owner: Locked) -> None:
    """Give ``owner`` a free ``_lock`` in every child that is forked from now on. It is not kept alive by this."""
    _owners.add(owner)


def _renew() -> None:
    for owner in list(_owners):
        owner._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)
