"""Envelopes whose re-wrap was stopped between its two slots."""

from __future__ import annotations

from collections.abc import Mapping

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey
from tests.fakes import FakeKeyring, wrap

CONTEXT = {"purpose": "unfinished"}
PLAINTEXT = b"what must not be lost" * 10
DATA_KEY = bytes(range(32))


def under(key_arn: str, data_key: bytes = DATA_KEY, context: Mapping[str, str] = CONTEXT) -> WrappedKey:
    return wrap(key_arn, data_key, context)


def envelope(first: hdr.Slot | None, second: hdr.Slot | None, context: Mapping[str, str] = CONTEXT) -> bytes:
    """Return an envelope of two aligned slots, as large files have them; a slot that is None is torn."""
    value = sealwax.Sealer(FakeKeyring(new_key=lambda _: DATA_KEY)).encrypt(PLAINTEXT, context=context)
    return with_slots(value, first, second)


def with_slots(value: bytes, first: hdr.Slot | None, second: hdr.Slot | None) -> bytes:
    """Return a value with these two slots instead of its own."""
    found = inspect_envelope(value).header
    slot = first or second
    assert slot is not None
    header = hdr.lay_out(
        envelope_id=found.preamble.envelope_id,
        kms_context=found.preamble.kms_context,
        local_pairs=found.preamble.local_pairs,
        wrapped_keys=slot.wrapped_keys,
        slot_count=2,
    )
    preamble = header.preamble
    data = bytearray(hdr.Header(preamble, (first or slot, second or slot)).to_bytes())
    for index, each in enumerate((first, second)):
        if each is None:
            data[preamble.slot_offset + index * preamble.slot_size + 7] ^= 0xFF
    return bytes(data) + value[found.preamble.payload_offset :]
