"""Other formats whose data keys AWS KMS may have wrapped, recognized by their bytes.

``recognize`` returns the format and the KMS keys that it names in plain text. Nothing is decrypted, no request is sent,
and nothing that an object says about itself is authenticated. Any bytes end in a ``ForeignFormat`` or None.

It reads only the first 16 KiB; all of a text up to 128 KiB, and the first and last 64 KiB of a longer one; up to 1 MiB
of an AWS Encryption SDK message with a large header; and the first 64 KiB of what gzip has compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sealwax._core.format import header as hdr
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax._core.recognize import blobs, esdk, s3ec, text
from sealwax._foreign import ENVELOPE, ForeignFormat, Read, distinct
from sealwax.errors import HeaderError

__all__ = ["ENVELOPE", "recognize"]

BEGINNING_BYTES: Final = 1 << 14
TEXT_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 31
_PARQUET: Final = b"PARE"
# A fleet's plan keeps wrapped keys, but the data sealed under them is elsewhere.
_PARQUET_FOUND: Final = ForeignFormat("parquet", "a Parquet file with an encrypted footer")
_DATABASE: Final = b"SQLite format 3\0"
_PLAN: Final = slice(68, 72), b"SWXF"  # sealwax.fleet._planfile.APPLICATION
_DEEPEST: Final = 3


def recognize(
    read: Read, size: int | None, *, metadata: Mapping[str, str] | None = None, name: str = ""
) -> ForeignFormat | None:
    """Return the format of an object that is not an envelope; None if it is not recognized.

    Args:
        read: reads the object's bytes at any offset.
        size: the object's size; None if unknown, and then only its beginning is read.
        metadata: the object's S3 metadata, without the prefix ``x-amz-meta-``.
        name: the object's name, for its suffix.
    """
    claimed = s3ec.by_metadata(metadata or {})
    seen = _by_bytes(read, size, name, 0)
    if claimed is None or seen is None:
        return claimed or seen
    if claimed.format == seen.format:
        return seen
    return ForeignFormat(
        s3ec.CONTRADICTION,
        f"{claimed.title} by its metadata and {seen.title} by its bytes, a contradiction",
        distinct((*claimed.keys, *seen.keys)),
        distinct((*claimed.others, *seen.others)),
        complete=False,
        advice=s3ec.NO_SIDE,
    )


def _by_bytes(read: Read, size: int | None, name: str, depth: int) -> ForeignFormat | None:
    data = read(0, BEGINNING_BYTES if size is None else min(size, BEGINNING_BYTES))

    def inside(inner: bytes, whole: bool) -> ForeignFormat | None:
        return _inside(inner, name, whole, depth)

    if data.startswith(_DATABASE) and data[_PLAN[0]] == _PLAN[1]:
        return None
    if data.startswith(_PARQUET) and size is not None and size > len(_PARQUET):
        return _PARQUET_FOUND if read(size - len(_PARQUET), len(_PARQUET)) == _PARQUET else None
    if data.startswith(_GZIP):
        return _compressed(data, size == len(data), name, depth)
    foreign = esdk.recognize(read, data) or blobs.recognize(data, size)
    codec = _codec(data)
    if foreign is not None or codec is None:
        return foreign
    head, tail, whole = data, b"", size == len(data)
    if size is not None and not whole:
        # All of it if it is no longer than two parts, since a section may lie across their border.
        head += read(len(head), (size if size <= 2 * TEXT_BYTES else TEXT_BYTES) - len(head))
        whole = size == len(head)
        # Even, since UTF-16 has characters of 2 bytes.
        start = (size - TEXT_BYTES) & ~1
        tail = b"" if whole else read(start, size - start)
    return text.recognize(_as_utf8(head, codec), _as_utf8(tail, codec), name, inside, whole=whole)


def _inside(data: bytes, name: str, whole: bool, depth: int) -> ForeignFormat | None:
    """Return the format of bytes that were inside others; it may be an envelope."""
    if data.startswith(hdr.MAGIC):
        return _envelope(data)
    if depth == _DEEPEST:
        return None
    return _by_bytes(lambda at, size: data[at : at + size], len(data) if whole else None, name, depth + 1)


def _envelope(data: bytes) -> ForeignFormat:
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    try:
        # After an interrupted re-wrap, the keys of both slots: only the older one may work.
        wrapped_keys = hdr.read_header(read).all_wrapped_keys
    except HeaderError:
        return ForeignFormat(ENVELOPE, "a sealwax envelope with a header that is damaged or cut off")
    keys = (key.key_arn for key in wrapped_keys if key.provider == PROVIDER_AWS_KMS)
    others = (f"provider {key.provider}" for key in wrapped_keys if key.provider != PROVIDER_AWS_KMS)
    return ForeignFormat(ENVELOPE, "a sealwax envelope", distinct(keys), distinct(others), complete=True)


def _compressed(data: bytes, complete: bool, name: str, depth: int) -> ForeignFormat | None:
    inflating = zlib.decompressobj(_GZIP_WINDOW)
    try:
        inner = inflating.decompress(data, TEXT_BYTES)
    except zlib.error:
        return None
    whole = complete and inflating.eof and not inflating.unused_data
    foreign = _inside(inner, name.removesuffix(".gz"), whole, depth)
    return foreign and replace(
        foreign,
        format=f"{ENVELOPE}-gzip" if foreign.format == ENVELOPE else foreign.format,
        title=f"{foreign.title}, compressed with gzip",
        advice="decompress it first",
        inside=True,
    )


def _codec(data: bytes) -> str | None:
    """Return the encoding of a text, or None if it is not text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16-le" if data.startswith(b"\xff\xfe") else "utf-16-be"
    if b"\0" not in data:
        return "utf-8"
    even, odd = data[::2], data[1::2]
    if not odd.strip(b"\0") and b"\0" not in even:
        return "utf-16-le"
    return "utf-16-be" if not even.strip(b"\0") and b"\0" not in odd else None


def _as_utf8(data: bytes, codec: str) -> bytes:
    if codec != "utf-8":
        data = data.decode(codec, "replace").encode("utf-8", "replace")
    return data.removeprefix(b"\xef\xbb\xbf")
