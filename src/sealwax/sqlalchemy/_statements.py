from __future__ import annotations


def listen() -> None: ...
