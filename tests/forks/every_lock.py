"""``python -m tests.forks.every_lock``: fork while another thread holds every lock there is, then seal in the child.

Which locks there are is found out by asking the garbage collector for all objects, not by the walk that is tested. What
is printed: how many were held, and of how many kinds of owners; the locks still held in the child; what failed there.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from typing import Any, Final

from tests.forks.children import Kinds, seal
from tests.forks.forking import in_child

ROOMS: Final = ("boto3", "botocore", "opentelemetry", "queue", "sealwax", "urllib3")
# Made by import, and for calls that this program's objects do not make.
NOT_REACHED: Final = frozenset({"urllib3.http2.probe._HTTP2ProbeCache"})


def locks() -> list[tuple[str, Any]]:
    """Return every lock that is an attribute of an object of these packages, with a name for it."""
    found: dict[int, tuple[str, Any]] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        if str(kind.__module__).partition(".")[0] not in ROOMS or issubclass(kind, type):
            continue
        for name, value in list(getattr(thing, "__dict__", {}).items()):
            if type(value) in (type(threading.Lock()), type(threading.RLock())):
                found[id(value)] = f"{kind.__module__}.{kind.__name__}.{name}", value
    return list(found.values())


def main() -> None:
    kinds = Kinds()
    seal(kinds, "parent", lambda *_: None)
    before = [(name, lock) for name, lock in locks() if name.rpartition(".")[0] not in NOT_REACHED]
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        for _, lock in before:
            lock.acquire()
        held.set()
        go_on.wait()
        for _, lock in before:
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def work(told: dict[str, Any]) -> None:
        told["held"] = [name for name, lock in locks() if not lock.acquire(blocking=False) or lock.release()]
        errors: list[Any] = []
        seal(kinds, "child", lambda kind, *rest: errors.append(rest) if kind == "error" else None)
        told["errors"] = errors

    told = in_child(work)
    go_on.set()
    holder.join()
    # And the parent goes on.
    errors: list[Any] = []
    seal(kinds, "parent again", lambda kind, *rest: errors.append(rest) if kind == "error" else None)
    told |= {"parent": errors, "locks": len(before), "owners": sorted({name for name, _ in before})}
    print(json.dumps(told), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
