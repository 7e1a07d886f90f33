"""Children that are killed where they hang."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

ALARM_SECONDS: Final = 60


@contextlib.contextmanager
def _nobody_waits_for_the_gil() -> Iterator[None]:
    """Let no other thread request the GIL, for a fork that Python does not know of.

    A request would be in the child too. Python would hand over the GIL there, and wait forever for a thread to take it.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    time.sleep(2 * interval)  # what was requested by the old interval is granted meanwhile
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def in_child(
    work: Callable[[dict[str, Any]], None],
    *,
    fork: Callable[[], int] = os.fork,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fork a child that does ``work``; return what it notes, and its exit status, which its alarm makes negative."""
    reading, writing = os.pipe()
    with contextlib.nullcontext() if fork is os.fork else _nobody_waits_for_the_gil():
        pid = fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ALARM_SECONDS)
            told: dict[str, Any] = {}
            try:
                work(told)
            except Exception as error:
                told["raised"] = f"{type(error).__name__}: {error}"
            os.write(writing, json.dumps(told).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    meanwhile()
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {**json.loads(answer or b"{}"), "status": status}
