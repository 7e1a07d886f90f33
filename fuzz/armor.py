"""The text form."""

from __future__ import annotations

from sealwax._core.format.armor import PREFIX, armor, dearmor
from sealwax.errors import NotAnEnvelopeError


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    # With the prefix in its place too: it should not have to be found first.
    for candidate in (text, PREFIX + text):
        try:
            envelope = dearmor(candidate)
        except NotAnEnvelopeError:
            continue
        assert armor(envelope) == candidate, "an envelope has one text form"
    assert dearmor(armor(data)) == data
