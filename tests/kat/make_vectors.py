"""Writes envelopes.json, our own known answers. It was run once, and the file is frozen since: format 1 never changes.

``python -m tests.kat.make_vectors`` from the project's folder. Both readers check the file: test_envelopes.py, and
second_reader.py, which does not know sealwax.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from tests.fakes import ALPHA, BETA, GAMMA, WRAPPED_AT, wrap
from tests.kat.second_reader import pattern

VECTORS_FILE = Path(__file__).with_name("envelopes.json")
CONTEXT = {"purpose": "backup", "table": "users"}
MIB = 1 << 20
# Up to here the bytes themselves are kept; beyond, the header, the salt and a hash, from which they follow.
KEPT = 1000

vectors: list[dict[str, Any]] = []


def add(
    name: str,
    size: int = 20,
    *,
    expect: str = "success",
    slots: int = 1,
    context: dict[str, str] | None = None,
    local_names: tuple[str, ...] = (),
    keys: tuple[str, ...] = (ALPHA,),
    more_keys: tuple[WrappedKey, ...] = (),
    kind: int = hdr.ATTACHED,
    edit_header: Callable[[hdr.Header], bytes] = hdr.Header.to_bytes,
    edit: Callable[[bytes], bytes] | None = None,
    apart: bool = False,
    given: dict[str, str] | None = None,
    reader_local_names: tuple[str, ...] | None = None,
) -> None:
    context = CONTEXT if context is None else context
    kms, local = ctx.split(context, local_names)
    dek, envelope_id, salt = os.urandom(32), os.urandom(16), os.urandom(24)
    header = hdr.lay_out(
        envelope_id=envelope_id,
        kms_context=ctx.encode(kms),
        local_pairs=len(local),
        wrapped_keys=(*(wrap(key, dek, kms) for key in keys), *more_keys),
        slot_count=slots,
        kind=kind,
    )
    head = edit_header(header)
    info = payload.info(1, envelope_id, ctx.encode(kms), ctx.encode(local))
    with DataKey(bytearray(dek)) as data_key:
        body = (
            payload.encrypt(payload.Encryptor(data_key, info, salt), b"", pattern(size))
            if kind == hdr.ATTACHED or apart
            else b""
        )
    data = head + body
    if edit is not None:
        data = edit(data)
    vector: dict[str, Any] = {
        "name": name,
        "expect": expect,
        "dek": dek.hex(),
        "context": context if given is None else given,
        "local_names": list(local_names if reader_local_names is None else reader_local_names),
        "plaintext_bytes": size,
        "apart": apart,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if len(body) <= KEPT or edit is not None:
        vector["bytes"] = base64.b64encode(zlib.compress(data, 9)).decode()
    else:
        vector |= {"bytes": base64.b64encode(zlib.compress(head, 9)).decode(), "salt": salt.hex()}
    if expect == "success":
        found = hdr.read_header(_reader(head))
        vector["header"] = {
            "sequence": found.slot.sequence,
            "finished": found.finished,
            "keys": [[key.provider, key.key_arn] for key in found.slot.wrapped_keys],
        }
    vectors.append(vector)


def _reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read


def put(at: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + new + data[at + len(new) :]


def flip(at: int) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return edit


def preamble(at: int, new: bytes) -> Callable[[hdr.Header], bytes]:
    """Change a field and set every checksum right again, so that nothing but the field's own rule can object."""

    def edit(header: hdr.Header) -> bytes:
        end = hdr.FIXED_BYTES + len(header.preamble.kms_context)
        data = put(at, new)(header.to_bytes())
        crc = struct.pack(">I", zlib.crc32(data[:end]))
        slot = hdr.slot_to_bytes(header.slot, header.preamble.slot_size, crc)
        return data[:end] + crc + data[end + 4 : header.preamble.slot_offset] + slot * header.preamble.slot_count

    return edit


def context_bytes(stored: bytes) -> Callable[[hdr.Header], bytes]:
    def edit(header: hdr.Header) -> bytes:
        old = header.preamble
        new = hdr.Preamble(
            old.kind, old.slot_count, 40 + len(stored), old.slot_size, old.envelope_id, old.local_pairs, stored
        )
        return hdr.Header(new, header.slots).to_bytes()

    return edit


def slot(content: bytes) -> Callable[[hdr.Header], bytes]:
    """Put other bytes into the slot, padded and with the right checksum."""

    def edit(header: hdr.Header) -> bytes:
        body = content.ljust(header.preamble.slot_size - 4, b"\0")
        crc = zlib.crc32(header.preamble.crc + body)
        return header.preamble.to_bytes() + (body + struct.pack(">I", crc)) * header.preamble.slot_count

    return edit


def wrapped(
    arn: bytes = ALPHA.encode(), ciphertext: bytes = b"c" * 60, material: bytes = b"", time: int = 1, provider: int = 1
) -> bytes:
    parts = (bytes((provider,)), struct.pack(">H", len(arn)), arn, struct.pack(">H", len(ciphertext)), ciphertext)
    return b"".join((*parts, bytes((len(material),)), material, struct.pack(">Q", time)))


def two_slots(first: hdr.Slot | None, second: hdr.Slot | None) -> Callable[[hdr.Header], bytes]:
    """Put these slots in, a damaged one for None."""

    def edit(header: hdr.Header) -> bytes:
        size, crc = header.preamble.slot_size, header.preamble.crc
        out = header.preamble.to_bytes()
        for one in (first, second):
            good = hdr.slot_to_bytes(one or header.slot, size, crc)
            out += good if one is not None else flip(3)(good)
        return out

    return edit


def main() -> None:
    for size in (0, 1, 16383, 16384, 16385, MIB - 1):
        add(f"{size} bytes", size)
    for size in (0, 20, MIB, MIB + 1):
        add(f"{size} bytes, two slots", size, slots=2)
    add("no context", context={})
    add(
        "a context in many scripts",
        context={"名前": "値", "emoji 🔒": "é", "empty": "", "\U00010000": "\uff5e", "e\u0301": "é"},
    )
    add("a context of 8192 bytes", context={"k": "v" * 8185})
    add("a context of 64 pairs", context={f"{n:02}": str(n) for n in range(64)})
    add("a local pair", context=CONTEXT | {"id": "7"}, local_names=("id",))
    add("local pairs only", context={"id": "7", "row": "8"}, local_names=("id", "row"))
    add("three wrapped keys", keys=(ALPHA, BETA, GAMMA))
    add("three wrapped keys, two slots", keys=(ALPHA, BETA, GAMMA), slots=2)
    add("sixteen wrapped keys", keys=tuple(f"{ALPHA[:-2]}{n:02}" for n in range(16)))
    add("an unknown provider", more_keys=(WrappedKey("any text\xff", b"any bytes" * 30, b"any id", 2**64 - 1, 200),))
    add("an unknown provider's empty fields", more_keys=(WrappedKey("", b"", b"", 0, 2),))
    late = hdr.Slot(hdr.MAX_SEQUENCE, (WrappedKey(BETA, b"new", b"", WRAPPED_AT),))
    early = hdr.Slot(hdr.MAX_SEQUENCE - 1, (WrappedKey(ALPHA, b"old", b"", WRAPPED_AT),))
    also = hdr.Slot(hdr.MAX_SEQUENCE, early.wrapped_keys)
    add("unfinished, the first slot is newer", slots=2, edit_header=two_slots(late, early))
    add("unfinished, the second slot is newer", slots=2, edit_header=two_slots(early, late))
    add("unfinished, the first slot is damaged", slots=2, edit_header=two_slots(None, late))
    add("unfinished, the second slot is damaged", slots=2, edit_header=two_slots(late, None))
    add("two slots of one number", slots=2, edit_header=two_slots(late, also))
    add("padding before the slot", edit_header=_padded)

    for size in (0, 20, 16384, MIB + 1):
        add(f"{size} bytes stored apart", size, kind=hdr.DETACHED, apart=True)
    add("two slots stored apart", kind=hdr.DETACHED, slots=2, apart=True)
    add("local pairs stored apart", context=CONTEXT | {"id": "7"}, local_names=("id",), kind=hdr.DETACHED, apart=True)

    bad: dict[str, Any] = {"expect": "DamagedHeaderError"}
    add("a detached header", kind=hdr.DETACHED, **bad)
    add("a detached header of two slots", kind=hdr.DETACHED, slots=2, **bad)
    add("a whole envelope for a detached header", apart=True, **bad)
    add("bytes after a detached header", kind=hdr.DETACHED, edit=lambda data: data + b"x", **bad)

    for name, edit in (
        ("nothing", lambda data: data[:0]),
        ("another magic", flip(0)),
        ("a changed line end", put(4, b"\n\x1a\n\1")),
        ("the text form", lambda data: b"swx1:" + base64.urlsafe_b64encode(data)),
    ):
        add(name, expect="NotAnEnvelopeError", edit=edit)
    add("version 2", expect="UnsupportedEnvelopeError", edit_header=preamble(8, b"\2"))
    add("suite 2", expect="UnsupportedEnvelopeError", edit_header=preamble(10, b"\2"))
    for size in (1, 8, 9, 35, 36, 60, 100, 200):
        add(f"cut off after {size} bytes", edit=lambda data, size=size: data[:size], **bad)  # type: ignore[misc]
    for name, at, new in (
        ("kind 0", 9, b"\0"),
        ("kind 3", 9, b"\3"),
        ("no slot", 11, b"\0"),
        ("three slots", 11, b"\3"),
        ("slots of 63 bytes", 14, b"\0\x3f"),
        ("the slot begins in the context", 12, b"\0\x30"),
        ("the reserved byte", 33, b"\1"),
        ("65 local pairs", 32, b"\x41"),
        ("a context of 1 byte", 34, b"\0\1"),
        ("a context of 8193 bytes", 34, b"\x20\1"),
    ):
        add(name, edit_header=preamble(at, new), **bad)
    add("a changed envelope id", edit=flip(20), **bad)
    add("a changed context byte", edit=flip(50), **bad)
    add("padding that is not zero", edit_header=lambda header: put(300, b"x")(_padded(header)), **bad)
    for name, stored in (
        ("a context out of order", b"\0\2\0\1b\0\1x\0\1a\0\1x"),
        ("a context with a key twice", b"\0\2\0\1a\0\1x\0\1a\0\1y"),
        ("a context with an empty key", b"\0\1\0\0\0\1x"),
        ("a context that is not UTF-8", b"\0\1\0\1a\0\1\xff"),
        ("a context with a surrogate", b"\0\1\0\1a\0\3\xed\xa0\x80"),
        ("a context with a byte more", b"\0\1\0\1a\0\1xx"),
        ("a context with a pair less", b"\0\2\0\1a\0\1x"),
        ("a context of 65 pairs", b"\0\x41" + b"".join(b"\0\2%02d\0\0" % n for n in range(65))),
    ):
        add(name, edit_header=context_bytes(stored), **bad)
    for name, content in (
        ("sequence 0", b"\0\0\0\0\1" + wrapped()),
        ("no wrapped key", b"\0\0\0\1\0"),
        ("17 wrapped keys", b"\0\0\0\1\x11" + b"".join(wrapped(b"k%d" % n, b"c") for n in range(17))),
        ("two wrapped keys of one ARN", b"\0\0\0\1\2" + wrapped(b"a", b"b") + wrapped(b"a", b"c")),
        ("provider 0", b"\0\0\0\1\1" + wrapped(provider=0)),
        ("an empty ARN", b"\0\0\0\1\1" + wrapped(arn=b"")),
        ("an ARN with a space", b"\0\0\0\1\1" + wrapped(arn=b"a b")),
        ("an ARN beyond ASCII", b"\0\0\0\1\1" + wrapped(arn=b"\x7f")),
        ("an empty ciphertext", b"\0\0\0\1\1" + wrapped(ciphertext=b"")),
        ("a material id of 31 bytes", b"\0\0\0\1\1" + wrapped(material=b"m" * 31)),
        ("a time in the year 10000", b"\0\0\0\1\1" + wrapped(time=253402300800)),
        ("a wrapped key over the slot's end", b"\0\0\0\1\1\1\0\1a\xff\xff"),
        ("bytes after the wrapped keys", b"\0\0\0\1\1" + wrapped(ciphertext=b"c") + b"\0\0x"),
    ):
        add(f"a slot with {name}", edit_header=slot(content), **bad)
    add(
        "a slot with a ciphertext of 6145 bytes",
        edit_header=slot(b"\0\0\0\1\1" + wrapped(ciphertext=b"c" * 6145)),
        more_keys=(WrappedKey(BETA, b"c" * 6144),),  # makes the slot large enough
        **bad,
    )
    add("a damaged slot", edit=flip(-90 - 92), **bad)
    add("both slots damaged", slots=2, edit_header=two_slots(None, None), **bad)

    for at, what in ((0, "salt"), (24, "commitment")):
        add(f"a flipped bit of the {what}", 0, edit=flip(-72 + at), expect="CommitmentError")
    add("another envelope id", edit_header=preamble(16, bytes(16)), expect="CommitmentError")
    add(
        "another local value",
        context=CONTEXT | {"id": "7"},
        local_names=("id",),
        given=CONTEXT | {"id": "8"},
        expect="CommitmentError",
    )
    for name, given in (
        ("a missing pair", {"purpose": "backup"}),
        ("another value", {"purpose": "restore", "table": "users"}),
        ("an extra pair", CONTEXT | {"id": "7"}),
    ):
        add(name, given=given, expect="ContextError")
    add("an extra local pair", given=CONTEXT | {"id": "7"}, reader_local_names=("id",), expect="ContextError")
    add("a stored pair the reader keeps local", reader_local_names=("table",), expect="ContextError")
    add(
        "a missing local pair",
        context=CONTEXT | {"id": "7"},
        local_names=("id",),
        given=CONTEXT,
        expect="ContextError",
    )
    add(
        "a local pair the reader does not list",
        context=CONTEXT | {"id": "7"},
        local_names=("id",),
        reader_local_names=(),
        expect="ContextError",
    )
    tampered: dict[str, Any] = {"expect": "TamperedError"}
    add("a flipped bit of the text", edit=flip(-17), **tampered)
    add("a flipped bit of the tag", edit=flip(-1), **tampered)
    add("a byte less", edit=lambda data: data[:-1], **tampered)
    add("a byte more", edit=lambda data: data + b"\0", **tampered)
    add("no chunk", 0, edit=lambda data: data[:-16], **tampered)
    add("half a head", 0, edit=lambda data: data[:-40], **tampered)
    add("no payload", 0, edit=lambda data: data[:-72], **tampered)
    add("the last chunk is missing", 16384, edit=lambda data: data[:-16], **tampered)
    add("a second last chunk", 0, edit=lambda data: data + data[-16:], **tampered)

    assert len({vector["name"] for vector in vectors}) == len(vectors)
    VECTORS_FILE.write_text(json.dumps({"vectors": vectors}, indent=1, ensure_ascii=True) + "\n", "utf-8")


def _padded(header: hdr.Header) -> bytes:
    old = header.preamble
    new = hdr.Preamble(old.kind, old.slot_count, 512, old.slot_size, old.envelope_id, old.local_pairs, old.kms_context)
    return hdr.Header(new, header.slots).to_bytes()


if __name__ == "__main__":
    main()
