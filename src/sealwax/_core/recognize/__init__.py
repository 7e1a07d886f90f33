"""What an object is that is no envelope, where its bytes tell: other formats whose data keys KMS may have wrapped.

:func:`recognize` names the format and the KMS keys that it names in clear. Nothing is decrypted, no key is asked for,
and nothing that an object says of itself is authentic. Whatever the bytes are, it ends in a :class:`Foreign` or in
None. At most so much is read: the first 16 KiB; of text up to 128 KiB all, of larger text the first and the last 64
KiB; of a message of the AWS Encryption SDK the first MiB, where its header is that large. What is compressed with gzip
is looked into for 64 KiB.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sealwax._core.format import header as hdr
from sealwax._core.keyring import PROVIDER_AWS_KMS
from sealwax._core.recognize import blobs, esdk, s3ec, text
from sealwax._core.recognize.model import ENVELOPE, Foreign, Read, distinct
from sealwax.errors import HeaderError

__all__ = ["ENVELOPE", "Foreign", "Read", "beside", "recognize"]

BEGINNING_BYTES: Final = 1 << 14
TEXT_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b\x08"
_GZIP_WINDOW: Final = 31
_PARQUET: Final = b"PARE"
# A plan of a fleet keeps wrapped keys, but what is sealed under them is elsewhere.
_PARQUET_FOUND: Final = Foreign("parquet", "a Parquet file with an encrypted footer")
_DATABASE: Final = b"SQLite format 3\0"
_PLAN: Final = slice(68, 72), b"SWXF"  # sealwax.fleet._planfile.APPLICATION
_DEEPEST: Final = 3


def recognize(
    read: Read, size: int | None, *, metadata: Mapping[str, str] | None = None, name: str = ""
) -> Foreign | None:
    """Return what an object is that is no envelope; None where that cannot be told.

    Args:
        read: reads the object's bytes at any place.
        size: how many there are; None where that is not known, and no more is to be read than the beginning.
        metadata: what S3 keeps beside the object, by names without ``x-amz-meta-``.
        name: the object's name, for what its ending tells.
    """
    said = s3ec.by_metadata(metadata or {})
    found = _by_bytes(read, size, name, 0)
    if said is None or found is None:
        return said or found
    if said.format == found.format:
        return found
    return Foreign(
        "contradiction",
        f"{said.title} by its metadata and {found.title} by its bytes, a contradiction",
        distinct((*said.keys, *found.keys)),
        distinct((*said.others, *found.others)),
        told=False,
    )


def beside(metadata: Mapping[str, str]) -> Foreign | None:
    """Return what the metadata of an object say that it is; for one whose bytes are an envelope's, a contradiction."""
    return s3ec.by_metadata(metadata)


def _by_bytes(read: Read, size: int | None, name: str, depth: int) -> Foreign | None:
    data = read(0, BEGINNING_BYTES if size is None else min(size, BEGINNING_BYTES))

    def inside(inner: bytes, whole: bool) -> Foreign | None:
        return _inside(inner, name, whole, depth)

    if data.startswith(_DATABASE) and data[_PLAN[0]] == _PLAN[1]:
        return None
    if data.startswith(_PARQUET) and size is not None and size > len(_PARQUET):
        return _PARQUET_FOUND if read(size - len(_PARQUET), len(_PARQUET)) == _PARQUET else None
    if data.startswith(_GZIP):
        return _compressed(data, size == len(data), name, depth)
    found = esdk.recognize(read, data) or blobs.recognize(data, size)
    codec = _codec(data)
    if found is not None or codec is None:
        return found
    head, tail, whole = data, b"", size == len(data)
    if size is not None and not whole:
        # All of it, where no more than two parts are wanted: a section may stand across their border.
        head += read(len(head), (size if size <= 2 * TEXT_BYTES else TEXT_BYTES) - len(head))
        whole = size == len(head)
        # Even, as the characters of UTF-16 are.
        start = (size - TEXT_BYTES) & ~1
        tail = b"" if whole else read(start, size - start)
    return text.recognize(_as_utf8(head, codec), _as_utf8(tail, codec), name, inside, whole=whole)


def _inside(data: bytes, name: str, whole: bool, depth: int) -> Foreign | None:
    """Return what bytes are that stood in others; an envelope too."""
    if data.startswith(hdr.MAGIC):
        return _envelope(data)
    if depth == _DEEPEST:
        return None
    return _by_bytes(lambda at, size: data[at : at + size], len(data) if whole else None, name, depth + 1)


def _envelope(data: bytes) -> Foreign:
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    try:
        # Of an envelope whose re-wrap was interrupted, both slots' keys: the older may be the only one that opens.
        wrapped_keys = hdr.read_header(read).all_wrapped_keys
    except HeaderError:
        return Foreign(ENVELOPE, "a sealwax envelope with a header that is damaged or cut off")
    keys = (key.key_arn for key in wrapped_keys if key.provider == PROVIDER_AWS_KMS)
    others = (f"provider {key.provider}" for key in wrapped_keys if key.provider != PROVIDER_AWS_KMS)
    return Foreign(ENVELOPE, "a sealwax envelope", distinct(keys), distinct(others), told=True)


def _compressed(data: bytes, complete: bool, name: str, depth: int) -> Foreign | None:
    inflating = zlib.decompressobj(_GZIP_WINDOW)
    try:
        inner = inflating.decompress(data, TEXT_BYTES)
    except zlib.error:
        return None
    whole = complete and inflating.eof and not inflating.unused_data
    found = _inside(inner, name.removesuffix(".gz"), whole, depth)
    return found and replace(
        found,
        format=f"{ENVELOPE}-gzip" if found.format == ENVELOPE else found.format,
        title=f"{found.title}, compressed with gzip",
        advice="decompress it first",
    )


def _codec(data: bytes) -> str | None:
    """Return in which of its encodings a text is, or None for what is not text."""
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
