"""Write the worked example of docs/explanation/format.md: a whole envelope, byte by byte, from fixed and fake keys.

``python docs/make_format_dump.py`` rewrites the part of docs/explanation/format.md between its two markers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from sealwax._core import context
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey

PAGE = Path(__file__).with_name("explanation") / "format.md"
BEGIN, END = "<!-- worked example: begin -->\n", "<!-- worked example: end -->\n"

DATA_KEY = bytes(range(32))
ENVELOPE_ID = bytes(range(0xE0, 0xF0))
SALT = bytes(range(0x50, 0x68))
KMS_CONTEXT = {"purpose": "backup"}
LOCAL_CONTEXT = {"id": "7"}
PLAINTEXT = b"hello\n"
WRAPPED = WrappedKey(
    key_arn="arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ciphertext=b"what KMS calls CiphertextBlob",
    key_material_id=bytes(range(0xA0, 0xC0)),
    wrapped_at=1_800_000_000,
)


def build() -> bytes:
    """Return the envelope of the example."""
    kms, local = context.encode(KMS_CONTEXT), context.encode(LOCAL_CONTEXT)
    header = hdr.lay_out(
        envelope_id=ENVELOPE_ID, kms_context=kms, local_pairs=len(LOCAL_CONTEXT), wrapped_keys=[WRAPPED], slot_count=1
    )
    info = payload.info(hdr.SUITE_COBBLESTONE_256, ENVELOPE_ID, kms, local)
    with DataKey(bytearray(DATA_KEY)) as data_key:
        return header.to_bytes() + payload.encrypt(payload.Encryptor(data_key, info, SALT), b"", PLAINTEXT)


def fields(envelope: bytes) -> Iterator[tuple[int, str]]:
    """Yield the length and the meaning of each field, in order."""
    yield 8, "magic"
    yield 1, "version 1"
    yield 1, "kind 1: attached"
    yield 1, "suite 1: Cobblestone-256"
    yield 1, "one slot"
    slot_offset, slot_size, _, _, _, size = struct.unpack_from(">HH16sBBH", envelope, 12)
    yield 2, f"first slot at {slot_offset}"
    yield 2, f"a slot has {slot_size} bytes"
    yield 16, "envelope id"
    yield 1, "one local context pair, neither stored nor sent"
    yield 1, "zero"
    yield 2, f"the KMS context has {size} bytes:"
    yield 2, "  one pair"
    for name, value in KMS_CONTEXT.items():
        for text in (name, value):
            yield 2, f"  {len(text)} bytes"
            yield len(text), f'  "{text}"'
    yield 4, "CRC-32 of everything above"
    yield 4, "slot: sequence 1"
    yield 1, "one wrapped key:"
    yield 1, "  provider 1: AWS KMS"
    yield 2, f"  ARN, {len(WRAPPED.key_arn)} bytes"
    yield len(WRAPPED.key_arn), f'  "{WRAPPED.key_arn[:15]}..."'
    yield 2, f"  wrapped data key, {len(WRAPPED.ciphertext)} bytes"
    yield len(WRAPPED.ciphertext), f'  "{WRAPPED.ciphertext.decode()}"'
    yield 1, f"  key material id, {len(WRAPPED.key_material_id)} bytes"
    yield len(WRAPPED.key_material_id), "  the id"
    yield 8, "  wrapped at 2027-01-15T08:00:00Z"
    yield 4, "CRC-32 of the preamble's CRC field and the slot up to here"
    yield 24, "payload: salt"
    yield 32, "commitment"
    yield len(PLAINTEXT), "chunk 0, the last: ciphertext"
    yield 16, "its tag"


def render() -> str:
    """Return the example as Markdown."""
    envelope = build()
    lines = []
    at = 0
    for size, meaning in fields(envelope):
        for start in range(at, at + size, 16):
            part = envelope[start : min(start + 16, at + size)]
            lines.append(f"{start:4d}  {part.hex(' '):<47}  {meaning if start == at else ''}".rstrip())
        at += size
    assert at == len(envelope)
    facts = [
        f"data key       {DATA_KEY.hex()}",
        f"KMS context    {context.encode(KMS_CONTEXT).hex()}",
        f"local context  {context.encode(LOCAL_CONTEXT).hex()}",
        f"salt           {SALT.hex()}",
        f"plaintext      {PLAINTEXT.hex()}",
    ]
    return f"```\n{chr(10).join(facts)}\n```\n\n```hexdump\n{chr(10).join(lines)}\n```\n"


def page() -> str:
    """Return docs/explanation/format.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{render()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
