"""Text that holds sealed values: in base64, in JSON, in settings, or as sealwax's own text form."""

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
from sealwax._core.recognize.model import ENVELOPE, Foreign, distinct

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_\-=\s]+")
# How the base64 of each begins: an envelope, a KMS ciphertext, one of the lab, ENVKMS01. Those of an AWS Encryption
# SDK message are four characters, and so have to begin a word.
_VALUE: Final = re.compile(
    rb"(swx1:)?((?:ilNXWA0KG|AQ[EI][BCDE]A[A-Za-z0-9]|AXN3eGxhYgE|RU5WS01TMDE"
    rb"|(?:(?<![A-Za-z0-9+/_\-])|(?<=\\[nrt]))(?:AgR4|AgV4|AYA[ABCD]))[A-Za-z0-9+/_\-]{40,})"
)
_MOST_VALUES: Final = 4096
_TITLES: Final = 3
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_LEAST: Final = 40
_ETCD: Final = re.compile(rb"k8s:enc:kms:v[12]:[^:\s]+:")

Inside = Callable[[bytes, bool], Foreign | None]
"""Returns what bytes are that stood in text; the second argument is whether they are all there."""


def recognize(head: bytes, tail: bytes, name: str, inside: Inside, *, whole: bool) -> Foreign | None:
    """Return what a text is, or None.

    Args:
        head: its beginning, or all of it, as UTF-8 or another superset of ASCII.
        tail: its end, where that is apart; b"" where there is none, or where it cannot be read.
        name: the object's name.
        whole: whether ``head`` is all of it.
    """
    if _ETCD.match(head):
        return Foreign("kubernetes", "a value of etcd that a KMS plugin of Kubernetes has encrypted")
    return (
        sops.recognize(head, tail, whole=whole)
        or (_json(head, name) if whole else None)
        or _all_base64(head, inside, whole)
        or _values(head, tail, inside, whole)
    )


def _json(head: bytes, name: str) -> Foreign | None:
    if not head.lstrip().startswith(b"{"):
        return None
    try:
        content = json.loads(head)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("encryptedKeyset"), str):
        return Foreign("tink-keyset", "an encrypted keyset of Tink")
    return s3ec.instructions(content, name)


def _all_base64(head: bytes, inside: Inside, whole: bool) -> Foreign | None:
    if not _BASE64.fullmatch(head):
        return None
    data = _decoded(b"".join(head.split()))
    found = inside(data, whole) if len(data) >= _LEAST else None
    return found and _in_text(found, " in base64")


def _values(head: bytes, tail: bytes, inside: Inside, whole: bool) -> Foreign | None:
    """Return what the sealed values in a text are."""
    found: dict[bytes, Foreign] = {}
    lone, match_end = False, 0
    for text in (head, tail):
        for match in itertools.islice(_VALUE.finditer(text), _MOST_VALUES):
            value = inside(_decoded(match[2]), whole or match.end() < len(text))
            if value is not None:
                found[match[0]] = _in_text(value, "" if match[1] else " in base64")
                match_end = match.end()
                lone = not text[: match.start()].strip() and not text[match.end() :].strip(b"=\r\n \t")
    values = tuple(found.values())
    if not values:
        return None
    if len(values) == 1 and lone:
        # Of one that goes on and on, the middle is not looked at.
        goes_on = match_end == len(head) and _BASE64.fullmatch(tail)
        return replace(values[0], told=values[0].told and (whole or bool(goes_on)))
    titles = distinct(value.title for value in values)
    return Foreign(
        values[0].format if len({value.format for value in values}) == 1 else "mixed",
        f"text that holds {' and '.join(titles[:_TITLES])}{' and more' * (len(titles) > _TITLES)}",
        distinct(key for value in values for key in value.keys),
        distinct(other for value in values for other in value.others),
        told=whole and len(values) < _MOST_VALUES and all(value.told for value in values),
        sure=all(value.sure for value in values),
        advice="take each value out of it, and open that",
    )


def _in_text(found: Foreign, how: str) -> Foreign:
    if found.format != ENVELOPE:
        return replace(found, title=f"{found.title}{how}")
    advice = "decode it first" if how else "read it with dearmor, or give --armor"
    return replace(found, format=f"{ENVELOPE}-text", title=f"{found.title}{how or ' in its text form'}", advice=advice)


def _decoded(text: bytes) -> bytes:
    """Return what base64 of either alphabet stands for, as far as it goes."""
    text = text.rstrip(b"=").translate(_TO_STANDARD).partition(b"=")[0]
    text = text[: len(text) - (len(text) % 4 == 1)]
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
