"""Questions to KMS about wrapped keys, each asked once: copies and versions of an object share theirs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Final

from sealwax._core.lru import LruMap
from sealwax._core.single_flight import Flights, wait_for

Ask = Callable[[bytes, Mapping[str, str]], bool]
"""Returns whether the key wrapped a data key, bound to a context; raises a ``SealwaxError`` if nobody can say."""

# Of each wrapped key a digest and the answer: at most about 100 MB. What is forgotten is asked again.
_REMEMBERED: Final = 1 << 19
_DIGEST_BYTES: Final = 16


def each_once(ask: Ask) -> Ask:
    """Return what asks once about each distinct wrapped key and context, from however many threads.

    An answer is kept. An error is not: the next object with this wrapped key asks again.
    """
    lock = threading.Lock()
    answers: LruMap[bytes, bool] = LruMap(_REMEMBERED)
    flights: Flights[bool] = Flights()

    def asked(blob: bytes, context: Mapping[str, str]) -> bool:
        text = json.dumps([blob.hex(), sorted(context.items())])
        digest = hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]
        with lock:
            if (known := answers.get(digest)) is not None:
                return known
            flight, is_new = flights.join(digest)
        if not is_new:
            return wait_for(flight)
        try:
            answer = ask(blob, context)
        except BaseException as error:
            with lock:
                flights.land(digest, flight)
            flight.set_exception(error)
            raise
        with lock:
            answers[digest] = answer
            flights.land(digest, flight)
        flight.set_result(answer)
        return answer

    return asked
