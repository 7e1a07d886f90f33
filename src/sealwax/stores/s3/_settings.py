"""What a new S3 object gets beside its bytes: encryption at rest, storage class and tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import urlencode

Sse = Literal["aws:kms", "AES256"]
SSE: Final[tuple[Sse, ...]] = ("aws:kms", "AES256")
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
MAX_TAGS: Final = 10
_MAX_TAG_NAME: Final = 128
_MAX_TAG_VALUE: Final = 256
_TAG_MARKS: Final = frozenset("_.:/=+-@")


def parameters(
    sse: Sse | None, sse_kms_key_id: str | None, storage_class: str | None, tags: Mapping[str, str] | None
) -> dict[str, object]:
    """Return S3's parameters for a new object.

    Raises:
        ValueError: S3 accepts no such object.
    """
    if sse is not None and sse not in SSE:
        raise ValueError(f"sse must be 'aws:kms' or 'AES256', not {sse!r}")
    if sse_kms_key_id is not None and sse == "AES256":
        raise ValueError("sse_kms_key_id is for sse='aws:kms'; with 'AES256', S3 uses a key of its own")
    if sse_kms_key_id == "" or storage_class == "":
        raise ValueError("sse_kms_key_id and storage_class must not be empty")
    if tags and (defect := defect_of_tags(tags)):
        raise ValueError(f"tags: {defect}")
    settings = {
        "ServerSideEncryption": sse if sse_kms_key_id is None else "aws:kms",
        "SSEKMSKeyId": sse_kms_key_id,
        "StorageClass": storage_class,
        "Tagging": urlencode(tags) if tags else None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def defect_of_tags(tags: Mapping[str, str]) -> str:
    """Return why S3 would refuse tags; "" if it would not."""
    if len(tags) > MAX_TAGS:
        return f"an object can have up to {MAX_TAGS} tags, not {len(tags)}"
    for name, value in tags.items():
        if not name:
            return "a tag needs a name"
        if name.lower().startswith("aws:"):
            return "names that begin with 'aws:' are reserved for AWS"
        if _units(name) > _MAX_TAG_NAME:
            return f"a name can have up to {_MAX_TAG_NAME} characters, not {_units(name)}"
        if _units(value) > _MAX_TAG_VALUE:
            return f"a value can have up to {_MAX_TAG_VALUE} characters, not {_units(value)}"
        if not all(map(_is_tag_character, name + value)):
            return "names and values can have letters, digits, spaces and _ . : / = + - @"
    return ""


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2  # as S3 counts


def _is_tag_character(character: str) -> bool:
    return character in _TAG_MARKS or unicodedata.category(character)[0] in "LNZ"
