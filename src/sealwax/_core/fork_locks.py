"""What a forked child must not share with its parent: locks that nobody would release, and connections.

At the moment of a fork, another thread of the parent may hold any lock, and that thread does not exist in the child. On
a shared connection, one process may receive the other's responses, including data keys. So objects that survive a fork
are registered here. In each child, before it runs anything else, they get new locks, and the objects of botocore,
urllib3 and OpenTelemetry below them get free locks and new connections.

Some libraries of C cannot be freed in the child: SQLite's locks, and what it knows of open files, live on as they were.
So no fork happens within ``no_forks()``.

A fork that Python does not know of (a server written in C may make one) is noticed by the process id, when something
that could be shared is used.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

# In objects of these packages, locks are freed and HTTP connections replaced.
_PACKAGES: Final = frozenset({"boto3", "botocore", "opentelemetry", "queue", "urllib3"})
# Descriptions of services: tens of thousands of objects without a single lock.
_DESCRIPTIONS: Final = (
    "botocore.docs",
    "botocore.endpoint_provider",
    "botocore.loaders",
    "botocore.model",
    "botocore.parsers",
    "botocore.regions",
    "botocore.serialize",
    "botocore.validate",
)
_ATOMS: Final = (str, bytes, bytearray, int, float, complex, type(None), type, types.ModuleType)
_FUNCTIONS: Final = (types.FunctionType, types.MethodType, functools.partial)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
SHARED: Final = (
    "the client was made before this process was forked and is not an ordinary boto3 client, so it may share "
    "connections with the parent. Make the client in the child, or pass a boto3 session instead"
)
# A user's function that renews credentials or handles events may hold a client: in its closure, or in the object whose
# method it is. The search goes no further into the user's objects, and into no large container of theirs.
_FOREIGN_STEPS: Final = 3
_FOREIGN_ITEMS: Final = 1000
# How long a fork and no_forks() wait for one another. Then they go on: whoever works may wait for a lock of the thread
# that forks, and a program may fork all the time.
_LONGEST_WAIT_SECONDS: Final = 15.0


class _Locked(Protocol):
    _lock: threading.Lock


class Inherited(Protocol):
    """An object that survives a fork."""

    def _after_fork(self) -> Iterable[object]:
        """Prepare it for use in the child; return the OpenTelemetry objects that it holds."""


_with_locks: Final[weakref.WeakSet[_Locked]] = weakref.WeakSet()
_inherited: Final[weakref.WeakSet[Inherited]] = weakref.WeakSet()
# Sessions and clients that were passed in or made, by id, since a proxy may define its own equality.
_adopted: Final[weakref.WeakValueDictionary[int, object]] = weakref.WeakValueDictionary()
_kept: Final[dict[int, object]] = {}  # those without weak references
# The ones that are older than this process, and the HTTP sessions below them that have this process's own connections.
_older: Final[weakref.WeakValueDictionary[int, object]] = weakref.WeakValueDictionary()
_own_sessions: Final[weakref.WeakSet[object]] = weakref.WeakSet()
_pid = os.getpid()
_is_child = False
_turns: Final[dict[int, threading.Lock]] = {}
_working: Final[set[int]] = set()  # threads within no_forks()
_forking: Final[set[int]] = set()  # threads that are about to fork
_settled = threading.Condition()  # guards both


def renew_lock_in_children(owner: _Locked) -> None:
    """Give ``owner`` a free ``_lock`` in every child that is forked from now on, without keeping it alive."""
    _with_locks.add(owner)


def renew_in_children(owner: Inherited) -> None:
    """Call ``owner._after_fork()`` in every child that is forked from now on, without keeping it alive."""
    _inherited.add(owner)


def adopt(thing: object) -> None:
    """Free the locks of a session or client, and renew its connections, in every child that is forked from now on.

    In a forked child, an object that is new here may be older than the process: its connections are renewed now, and
    its locks are freed if no other thread may hold one. The object is not kept alive.
    """
    notice()
    if thing is None or _noted(_adopted, thing):
        return
    try:
        _adopted[id(thing)] = thing
    except TypeError:
        _kept[id(thing)] = thing
    if _is_child:
        _renew_below(_held_by(thing), free=threading.active_count() == 1)


def notice() -> None:
    """Renew everything now if Python does not know that this process was forked."""
    if _pid != os.getpid():
        # The child may have threads by now: the first one renews, and the others wait.
        with _turns.setdefault(os.getpid(), threading.Lock()):
            if _pid != os.getpid():
                _renew()


@contextlib.contextmanager
def no_forks() -> Iterator[None]:
    """Let no thread fork within this block; a thread that is about to fork does so first."""
    thread = threading.get_ident()
    with _settled:
        inner = thread in _working  # such as in a signal handler
        if not inner:
            _settled.wait_for(lambda: not _forking, _LONGEST_WAIT_SECONDS)
            _working.add(thread)
    try:
        yield
    finally:
        if not inner:
            with _settled:
                _working.discard(thread)
                _settled.notify_all()


def _before_fork() -> None:
    thread = threading.get_ident()
    with _settled:
        _forking.add(thread)
        _settled.wait_for(lambda: _working <= {thread}, _LONGEST_WAIT_SECONDS)


def _after_fork_in_parent() -> None:
    with _settled:
        _forking.discard(threading.get_ident())
        _settled.notify_all()


def _after_fork_in_child() -> None:
    global _settled
    _settled = threading.Condition()
    _working.clear()
    _forking.clear()
    _renew()


def is_shared(client: Any) -> bool:
    """Whether a client is older than this process and may use its parent's connections."""
    if not (_is_child and _noted(_older, client)):
        return False
    try:
        return client._endpoint.http_session not in _own_sessions
    except Exception:  # a proxy may raise anything
        return True


def _noted(among: Mapping[int, object], thing: object) -> bool:
    return among.get(id(thing)) is thing or _kept.get(id(thing)) is thing


def _held_by(thing: object) -> list[object]:
    """Return a session or client, and the parts of a client, which a proxy may hide."""
    parts = [thing]
    for name in ("_endpoint", "_request_signer", "meta"):
        # A proxy may raise anything. Then is_shared() says so again, and the client is not used.
        with contextlib.suppress(Exception):
            parts.append(getattr(thing, name))
    return parts


def _renew() -> None:
    global _pid, _is_child
    try:
        _is_child = True
        _own_sessions.clear()
        _older.update(_adopted)
        for locked in list(_with_locks):
            locked._lock = threading.Lock()
        # Keep them until their locks are free: an owner drops clients, and a pool takes its locks when it is deleted.
        roots = [root for thing in (*_adopted.values(), *_kept.values()) for root in _held_by(thing)]
        for owner in list(_inherited):
            roots += owner._after_fork()
        _renew_below(roots, free=True)
    finally:
        _pid = os.getpid()


def _renew_below(roots: Iterable[object], *, free: bool) -> None:
    # All locks first: deleting a pool of connections takes some.
    for session in list(_http_sessions(roots, free=free)):
        # A session that cannot be renewed is not added, and so not used.
        with contextlib.suppress(AttributeError, TypeError, LookupError):
            _renew_connections(session)
            _own_sessions.add(session)


def _renew_connections(session: Any) -> None:
    """Give an HTTP session of botocore new connections, and close the parent's without a message to the server."""
    managers = [session._manager, *session._proxy_managers.values()]
    session.close()  # closes only descriptors: neither side of the parent's connections notices
    for manager in managers:
        before, now = manager.connection_pool_kw["ssl_context"], session._get_ssl_context()
        # Each context of OpenSSL has its own locks. A context of another class, which somebody has set, stays.
        if type(now) is type(before):
            now.minimum_version, now.maximum_version = before.minimum_version, before.maximum_version
            now.options, now.verify_flags = before.options, before.verify_flags
            manager.connection_pool_kw["ssl_context"] = now


def _http_sessions(roots: Iterable[object], *, free: bool) -> Iterator[Any]:
    """Yield botocore's HTTP sessions below ``roots``, and free every lock of botocore, urllib3 and OpenTelemetry there.

    Args:
        free: False leaves the locks alone.
    """
    seen: dict[int, tuple[object, int]] = {}  # with the objects, so that no other one gets the id of one that was seen
    todo: list[tuple[object, int]] = [(root, _FOREIGN_STEPS) for root in roots]
    while todo:
        thing, steps = todo.pop()
        # By its type and not with isinstance, which would make a lazy proxy load its object.
        kind = type(thing)
        if issubclass(kind, _ATOMS) or seen.get(id(thing), (None, -1))[1] >= steps:
            continue
        new = id(thing) not in seen
        seen[id(thing)] = thing, steps
        if issubclass(kind, _CONTAINERS):
            items: Any = dict.values(thing) if isinstance(thing, dict) else thing
            if steps == _FOREIGN_STEPS or len(items) <= _FOREIGN_ITEMS:
                todo += [(item, steps) for item in items]
            continue
        function = issubclass(kind, _FUNCTIONS)
        module = str(getattr(thing, "__module__", None) if function else kind.__module__)
        known = module.partition(".")[0] in _PACKAGES
        steps = _FOREIGN_STEPS if known else steps - 1
        if steps < 0 or (known and not function and module.startswith(_DESCRIPTIONS)):
            continue
        if new and _is_http_session(kind):
            yield thing
        for item in _held_by_function(thing) if function else _attributes(thing):
            if known and hasattr(type(item), "_at_fork_reinit"):
                # As the standard library does with its own locks: in place, since several objects may share one.
                if free:
                    item._at_fork_reinit()
            else:
                todo.append((item, steps))


def _is_http_session(kind: type) -> bool:
    return any((base.__module__, base.__name__) == ("botocore.httpsession", "URLLib3Session") for base in kind.__mro__)


def _held_by_function(function: Any) -> Iterator[Any]:
    if isinstance(function, types.MethodType):
        yield function.__self__
        yield function.__func__
    elif isinstance(function, functools.partial):
        yield from (function.func, function.args, function.keywords)
    else:
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # it is empty
                continue


def _attributes(thing: object) -> list[Any]:
    # Of the object itself: nobody knows what a proxy does if asked for an attribute.
    try:
        return list(object.__getattribute__(thing, "__dict__").values())
    except AttributeError:
        return []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
