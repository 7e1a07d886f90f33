"""Children that are killed where they hang."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any, Final

ALARM_SECONDS: Final = 60


def in_child(
    work: Callable[[dict[str, Any]], None],
    *,
    fork: Callable[[], int] = os.fork,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fork a child that does ``work``; return what it notes, and its exit status, which its alarm makes negative."""
    reading, writing = os.pipe()
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
