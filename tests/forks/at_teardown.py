"""``python -m tests.forks.at_teardown``: a program that seals when its modules are taken apart."""

from __future__ import annotations

import sys

import sealwax
from tests.fakes import FakeKeyring

CONTEXT = {"purpose": "teardown"}
sys.setswitchinterval(10)  # a thread that wants to go on has to wait until another one waits


class Log:
    """Seals its last line when it goes, and closes its cache."""

    def __init__(self) -> None:
        self.cache = sealwax.CachingKeyring(FakeKeyring(), max_age=60)
        self.sealer = sealwax.Sealer(self.cache)
        self.sealer.encrypt(b"first line", context=CONTEXT)

    def __del__(self) -> None:
        self.sealer.encrypt(b"last line", context=CONTEXT)
        self.cache.close()


log = Log()
