"""Objects of the Amazon S3 Encryption Client, recognized by their metadata or instruction files.

The bytes of such an object look random. The KMS key is named only in ``kms_cmk_id``, with the old wrapping ``kms``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from sealwax._foreign import ForeignFormat

INSTRUCTIONS: Final = "s3ec-instruction-file"
SUFFIX: Final = ".instruction"
_MARK: Final = "x-amz-crypto-instr-file"
# Fields that only objects of each version have.
_OWN: Final = {
    1: ("x-amz-key",),
    2: ("x-amz-key-v2", "x-amz-wrap-alg", "x-amz-cek-alg", "x-amz-tag-len"),
    3: ("x-amz-c", "x-amz-3", "x-amz-w", "x-amz-d"),
}
_WRAPPED: Final = ("x-amz-key", "x-amz-key-v2", "x-amz-3")
# Versions 1 and 2 leave these in the metadata if the wrapped key is elsewhere.
_SHARED: Final = ("x-amz-iv", "x-amz-matdesc", "x-amz-unencrypted-content-length")
CONTRADICTION: Final = "contradiction"
NO_SIDE: Final = "no side of it is believed"
_REWRAP: Final = "to change its KMS key, re-wrap it in place"
_OF_FILE: Final = "it goes with its object: name that one"
_NO_KMS: Final = frozenset(
    ("aes", "aes/gcm", "aesgcm", "aeswrap", "rsa", "rsa-oaep-sha1", "rsa/ecb/oaepwithsha-256andmgf1padding", "02", "22")
)
_KEY: Final = "kms_cmk_id"
_MOST_TEXT: Final = 1 << 16


def by_metadata(metadata: Mapping[str, str]) -> ForeignFormat | None:
    """Return the format that an object's metadata claims, or None."""
    fields = _fields(metadata)
    if _MARK in fields:
        return ForeignFormat(INSTRUCTIONS, "an instruction file of the S3 Encryption Client", advice=_OF_FILE)
    versions = _versions(fields)
    if len(versions) > 1:
        names = " and ".join(f"V{version}" for version in versions)
        return ForeignFormat(
            CONTRADICTION,
            f"an object with the metadata of {names} of the S3 Encryption Client, a contradiction",
            advice=NO_SIDE,
        )
    if versions:
        return _described(fields, versions[0])
    if any(name in fields for name in _SHARED):
        return ForeignFormat(
            "s3ec", "an object of the S3 Encryption Client, with its wrapped key in an instruction file", advice=_REWRAP
        )
    return None


def instructions(content: Mapping[str, object], name: str) -> ForeignFormat | None:
    """Return the format of a JSON object if it is an instruction file.

    Args:
        name: the object's name; "" if unknown.
    """
    fields = _fields(content)
    versions = _versions(fields)
    if not any(field in fields for field in _WRAPPED):
        return None
    described = _described(fields, versions[0])
    own = f" with a name that does not end with {SUFFIX}" if name and not name.endswith(SUFFIX) else ""
    which = " and ".join(f"V{version}" for version in versions)
    title = f"an instruction file of the S3 Encryption Client, {which}{own}"
    if len(versions) > 1:
        return ForeignFormat(INSTRUCTIONS, title, advice=_OF_FILE)
    return ForeignFormat(INSTRUCTIONS, title, described.keys, described.others, described.complete, advice=_OF_FILE)


def _fields(content: Mapping[str, object]) -> dict[str, str]:
    return {name.lower(): value for name, value in content.items() if isinstance(value, str)}


def _versions(fields: Mapping[str, str]) -> list[int]:
    return [version for version, names in _OWN.items() if any(name in fields for name in names)]


def _described(fields: Mapping[str, str], version: int) -> ForeignFormat:
    title = f"an object of the S3 Encryption Client, V{version}"
    if not any(name in fields for name in _WRAPPED):
        return ForeignFormat(
            f"s3ec-v{version}", f"{title}, with its wrapped key in an instruction file", advice=_REWRAP
        )
    how = fields.get("x-amz-w" if version == 3 else "x-amz-wrap-alg", "")
    named = _named_key(fields.get("x-amz-matdesc", ""))
    if how.lower() in _NO_KMS:
        return ForeignFormat(f"s3ec-v{version}", title, named, (how,), complete=True)
    # With that wrapping, the named key is the one that wraps the data key.
    complete = how == "kms" and bool(named)
    if version == 1:
        return ForeignFormat(f"s3ec-v{version}", title, named, complete=complete)
    return ForeignFormat(f"s3ec-v{version}", title, named, complete=complete, advice=_REWRAP)


def _named_key(text: str) -> tuple[str, ...]:
    if len(text) > _MOST_TEXT:
        return ()
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    key = description.get(_KEY) if isinstance(description, dict) else None
    return (key,) if isinstance(key, str) and key else ()
