"""Text that contains encrypted values: in base64, JSON or settings, or in the text form of sealwax."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sealwax._core.recognize import s3ec, sops
from sealwax._foreign import ENVELOPE, ForeignFormat, distinct

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-=\s]+")
# How the base64 of each format begins: an envelope, a KMS ciphertext, one of the lab, ENVKMS01. An AWS Encryption SDK
# message is known by four characters only, so they must begin a word.
_VALUE: Final = re.compile(
    rb"(swx1:)?((?:ilNXWA0KG|AQ[EI][BCDE]A[A-Za-z0-9]|AXN3eGxhYgE|RU5WS01TMDE"
    rb"|(?:(?<![A-Za-z0-9+/_\-])|(?<=\\[nrt]))(?:AgR4|AgV4|AYA[ABCD]))[A-Za-z0-9+/_\-]{40,})"
)
_MOST_VALUES: Final = 4096
# Of these, the bytes are read, but not their base64.
_READ: Final = ("esdk", "envkms01", "boto3-fernet")
_TITLES: Final = 3
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_LEAST: Final = 40
_ETCD: Final = re.compile(rb"k8s:enc:kms:v[12]:[^:\s]+:")

Inside = Callable[[bytes, bool], ForeignFormat | None]
"""Returns the format of bytes that a text contained; the second argument is whether they are complete."""


def recognize(head: bytes, tail: bytes, name: str, inside: Inside, *, whole: bool) -> ForeignFormat | None:
    """Return the format of a text, or None.

    Args:
        head: its beginning, or all of it, in UTF-8 or another superset of ASCII.
        tail: its end, if that is separate; b"" if not, or if it cannot be read.
        name: the object's name.
        whole: whether ``head`` is all of it.
    """
    if _ETCD.match(head):
        return ForeignFormat("kubernetes", "an etcd value that a KMS plugin of Kubernetes encrypted")
    return (
        sops.recognize(head, tail, whole=whole)
        or (_json(head, name) if whole else None)
        or _all_base64(head, inside, whole)
        or _values(head, tail, inside, whole)
    )


def _json(head: bytes, name: str) -> ForeignFormat | None:
    if not head.lstrip().startswith(b"{"):
        return None
    try:
        content = json.loads(head)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("encryptedKeyset"), str):
        return ForeignFormat("tink-keyset", "an encrypted keyset of Tink")
    return s3ec.instructions(content, name)


def _all_base64(head: bytes, inside: Inside, whole: bool) -> ForeignFormat | None:
    if not _BASE64.fullmatch(head):
        return None
    data = _decoded(b"".join(head.split()))
    foreign = inside(data, whole) if len(data) >= _LEAST else None
    return foreign and _in_text(foreign, " in base64")


def _values(head: bytes, tail: bytes, inside: Inside, whole: bool) -> ForeignFormat | None:
    """Return the format of the encrypted values in a text."""
    by_text: dict[bytes, ForeignFormat] = {}
    lone, match_end = False, 0
    for text in (head, tail):
        for match in itertools.islice(_VALUE.finditer(text), _MOST_VALUES):
            value = inside(_decoded(match[2]), whole or match.end() < len(text))
            if value is not None:
                by_text[match[0]] = _in_text(value, "" if match[1] else " in base64")
                match_end = match.end()
                lone = not text[: match.start()].strip() and not text[match.end() :].strip(b"=\r\n \t")
    values = tuple(by_text.values())
    if not values:
        return None
    if len(values) == 1 and lone:
        # The middle of a very long value is not read.
        goes_on = match_end == len(head) and _BASE64.fullmatch(tail)
        return replace(values[0], complete=values[0].complete and (whole or bool(goes_on)))
    titles = distinct(value.title for value in values)
    return ForeignFormat(
        values[0].format if len({value.format for value in values}) == 1 else "mixed",
        f"text that holds {' and '.join(titles[:_TITLES])}{' and more' * (len(titles) > _TITLES)}",
        distinct(key for value in values for key in value.keys),
        distinct(other for value in values for other in value.others),
        complete=whole and len(values) < _MOST_VALUES and all(value.complete for value in values),
        sure=all(value.sure for value in values),
        advice="extract each value, and open that",
        inside=True,
    )


def _in_text(foreign: ForeignFormat, how: str) -> ForeignFormat:
    if foreign.format != ENVELOPE:
        advice = "decode it first" if foreign.format.startswith(_READ) else foreign.advice
        return replace(foreign, title=f"{foreign.title}{how}", advice=advice, inside=True)
    advice = "decode it first" if how else "convert it to binary first"
    title = f"{foreign.title}{how or ' in its text form'}"
    return replace(foreign, format=f"{ENVELOPE}-text", title=title, advice=advice, inside=True)


def _decoded(text: bytes) -> bytes:
    """Decode base64 of either alphabet, as far as possible."""
    text = text.rstrip(b"=").translate(_TO_STANDARD).partition(b"=")[0]
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
