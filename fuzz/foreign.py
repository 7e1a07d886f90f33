"""Recognizing other formats: any bytes end in a name or in none, with a bounded part of them read."""

from __future__ import annotations

import json

from sealwax._core import recognize

_MOST_BYTES = 5 << 20  # a header of 1 MiB, read in steps, and a text's beginning and end


def check(data: bytes) -> None:
    taken = 0

    def read(at: int, size: int) -> bytes:
        nonlocal taken
        assert at >= 0
        assert size >= 0
        part = data[at : at + size]
        taken += len(part)
        return part

    found = recognize.recognize(read, len(data), name="a.instruction")
    assert taken < _MOST_BYTES
    assert found is None or (str(found).isprintable() and found.format)
    recognize.recognize(read, None)
    # The same bytes as the metadata of an object.
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        metadata = None
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        recognize.recognize(read, len(data), metadata=metadata)
