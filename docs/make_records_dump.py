"""Write the worked example of docs/explanation/records-format.md: a record and a key row, from fixed and fake keys.

``python docs/make_records_dump.py`` rewrites the part of docs/explanation/records-format.md between its two markers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from sealwax._core import context
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.records import KeyKind
from sealwax.records._blob import kms_context
from sealwax.records._form import to_text
from sealwax.records._keys import FieldKey, key_id
from sealwax.records._rows import encoder
from sealwax.records._values import encode

PAGE = Path(__file__).with_name("explanation") / "records-format.md"
BEGIN, END = "<!-- worked example: begin -->\n", "<!-- worked example: end -->\n"

DATA_KEY = bytes(range(32))
SCOPE = {"app": "shop", "env": "prod"}
LOCAL_SCOPE = {"tenant": "acme"}
FIELD = "users.card"
ROW = 7
VALUE = b"4111 1111 1111 1111"
PREFIX = bytes(range(0x50, 0x5C))
SUFFIX = bytes(range(0x60, 0x6C))
GENERATION = 1
ENVELOPE_ID = bytes(range(0xE0, 0xF0))
SALT = bytes(range(0x70, 0x88))
WRAPPED = WrappedKey(
    key_arn="arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ciphertext=b"what KMS calls CiphertextBlob",
    key_material_id=bytes(range(0xA0, 0xC0)),
    wrapped_at=1_800_000_000,
)


def record() -> bytes:
    """Return the record of the example."""
    with DataKey(bytearray(DATA_KEY)) as data_key:
        ours = key_id(data_key, KeyKind.DATA, GENERATION, context.encode(SCOPE))
        field = FieldKey(data_key, context.encode(SCOPE), context.encode(LOCAL_SCOPE), FIELD)
        sealed = field.record_key(PREFIX).encrypt(SUFFIX, encode(VALUE), encoder(int)(ROW))
    return b"".join((b"\xc1", ours, PREFIX, SUFFIX, sealed))


def blob() -> bytes:
    """Return the blob of the example's key row."""
    kms = context.encode(kms_context(SCOPE, KeyKind.DATA))
    header = hdr.lay_out(envelope_id=ENVELOPE_ID, kms_context=kms, local_pairs=0, wrapped_keys=[WRAPPED], slot_count=1)
    info = payload.info(hdr.SUITE_COBBLESTONE_256, ENVELOPE_ID, kms, context.EMPTY)
    with DataKey(bytearray(DATA_KEY)) as data_key:
        return header.to_bytes() + payload.encrypt(payload.Encryptor(data_key, info, SALT), b"", b"")


def derived() -> tuple[bytes, bytes]:
    """Return the field key and the record key, which the library never shows."""
    bound = b"".join(
        payload.framed(part) for part in (context.encode(SCOPE), context.encode(LOCAL_SCOPE), FIELD.encode())
    )
    field_key = HKDFExpand(hashes.SHA512(), 80, b"sealwax/records/v1/field\0\1" + bound).derive(DATA_KEY)[:32]
    halves = []
    for counter in (1, 2):
        mac = CMAC(AES(field_key))
        mac.update(struct.pack(">H", counter) + b"X\0" + PREFIX)
        halves.append(mac.finalize())
    return field_key, b"".join(halves)


def record_fields() -> Iterator[tuple[int, str]]:
    """Yield the length and the meaning of each part of the record, in order."""
    yield 1, "C1"
    yield 16, "key id"
    yield len(PREFIX), "prefix"
    yield len(SUFFIX), "suffix"
    yield 1 + len(VALUE), "ciphertext of 01 and the value"
    yield 16, "tag"


def blob_fields(blob: bytes) -> Iterator[tuple[int, str]]:
    """Yield the length and the meaning of each part of the blob, in order."""
    size = int.from_bytes(blob[34:36], "big")
    yield 36, "an attached envelope with one slot"
    yield size, "KMS context: app=shop, env=prod, sealwax-use=records-data"
    yield 4, "CRC-32"
    yield int.from_bytes(blob[14:16], "big"), "slot: the wrapped data key"
    yield 24, "payload: salt"
    yield 32, "commitment to the data key"
    yield 16, "tag of the empty value"


def dump(data: bytes, fields: Iterable[tuple[int, str]]) -> str:
    """Return bytes in hex, with the meaning of each part."""
    lines, at = [], 0
    for size, meaning in fields:
        for start in range(at, at + size, 16):
            part = data[start : min(start + 16, at + size)]
            lines.append(f"{start:4d}  {part.hex(' '):<47}  {meaning if start == at else ''}".rstrip())
        at += size
    assert at == len(data)
    return "\n".join(lines)


def render() -> str:
    """Return the example as Markdown."""
    field_key, record_key = derived()
    sealed, wrapped = record(), blob()
    facts = [
        f"data key      {DATA_KEY.hex()}",
        f"scope         {context.encode(SCOPE).hex()}",
        f"local scope   {context.encode(LOCAL_SCOPE).hex()}",
        f"field         {FIELD.encode().hex()}",
        f"key id        {sealed[1:17].hex()}",
        f"field key     {field_key.hex()}",
        f"record key    {record_key.hex()}",
        f"row           {encoder(int)(ROW).hex()}",
        f"plaintext     {encode(VALUE).hex()}",
    ]
    return (
        f"```\n{chr(10).join(facts)}\n```\n\n```hexdump\n{dump(sealed, record_fields())}\n```\n\n"
        f"In text:\n\n```\n{to_text(sealed)}\n```\n\n"
        f"The blob of the key row:\n\n```hexdump\n{dump(wrapped, blob_fields(wrapped))}\n```\n"
    )


def page() -> str:
    """Return docs/explanation/records-format.md as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{render()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
