"""What an object's metadata, and its instruction file if it has one, say: strict, bounded, total.

Any texts end in ``ObjectFields`` or a ``HeaderError``. Fields of two versions, or an instruction file beside a wrapped
key in the metadata, are a contradiction: no side is preferred.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from sealwax._core.foreign.json_text import object_in, texts_of
from sealwax._core.foreign.rules import LONGEST_BLOB
from sealwax._text import printable
from sealwax.errors import DamagedHeaderError, NotAnEnvelopeError, UnsupportedEnvelopeError

CEK_ALGORITHM: Final = "aws:x-amz-cek-alg"
KMS_KEY_ID: Final = "kms_cmk_id"
RESERVED: Final = frozenset((CEK_ALGORITHM, KMS_KEY_ID))
"""The pairs of a context that are the format's own."""

INSTRUCTION_SUFFIX: Final = ".instruction"
INSTRUCTION_MARK: Final = "x-amz-crypto-instr-file"
MESSAGE_ID_BYTES: Final = 28
COMMITMENT_BYTES: Final = 28
_GCM_IV_BYTES: Final = 12
_CBC_IV_BYTES: Final = 16
MAX_INSTRUCTION_BYTES: Final = 1 << 16

GCM: Final = "AES/GCM/NoPadding"
CBC: Final = "AES/CBC/PKCS5Padding"
COMMITTING: Final = "115"
_WITH_CONTEXT: Final = "kms+context"
_OLD_WRAPPING: Final = "kms"
_V3_WITH_CONTEXT: Final = "12"

_V2: Final = frozenset(
    ("x-amz-key-v2", "x-amz-iv", "x-amz-matdesc", "x-amz-wrap-alg", "x-amz-cek-alg", "x-amz-tag-len")
)
_V3_OF_OBJECT: Final = frozenset(("x-amz-c", "x-amz-d", "x-amz-i"))
_MATERIALS: Final = "x-amz-m"  # of data keys that KMS did not wrap
_V3_OF_KEY: Final = frozenset(("x-amz-3", "x-amz-w", "x-amz-t", _MATERIALS))
_V3: Final = _V3_OF_OBJECT | _V3_OF_KEY
_V1: Final = "x-amz-key"
# What these clients note beside the fields.
_BESIDE: Final = frozenset(("x-amz-unencrypted-content-length", "x-amz-unencrypted-content-md5", INSTRUCTION_MARK))
_ALL: Final = _V2 | _V3 | {_V1}


class _KeyFields(NamedTuple):
    """The fields about a wrapped key, and how KMS may have wrapped it."""

    blob: str
    wrapping: str
    context: str
    wrappings: tuple[str, ...]


_KEY_FIELDS: Final = {
    2: _KeyFields("x-amz-key-v2", "x-amz-wrap-alg", "x-amz-matdesc", (_WITH_CONTEXT, _OLD_WRAPPING)),
    3: _KeyFields("x-amz-3", "x-amz-w", "x-amz-t", (_V3_WITH_CONTEXT,)),
}


@dataclass(frozen=True, slots=True)
class ObjectFields:
    """How an object was encrypted. None of it is authenticated.

    Attributes:
        version: 2 or 3.
        cipher: ``GCM``, ``CBC`` or ``COMMITTING``.
        wrapping: ``"kms+context"`` or, in old objects, ``"kms"``.
        wrapped_key: the data key as KMS wrapped it; which key wrapped it is not said.
        context: all pairs that KMS sees.
        nonce: of the cipher; empty in version 3.
        message_id, commitment: of version 3; empty in version 2.
        key_field, context_field: the names of the fields that hold the wrapped key and the context.
        in_instructions: whether they are in an instruction file.
    """

    version: int
    cipher: str
    wrapping: str
    wrapped_key: bytes
    context: Mapping[str, str]
    nonce: bytes
    message_id: bytes
    commitment: bytes
    key_field: str
    context_field: str
    in_instructions: bool

    @property
    def caller_context(self) -> dict[str, str]:
        """The pairs that the caller gave."""
        return {name: value for name, value in self.context.items() if name not in RESERVED}

    def context_under(self, key: str) -> dict[str, str]:
        """Return the context for another KMS key: the old wrapping binds a data key to its name."""
        return {**self.context, KMS_KEY_ID: key} if KMS_KEY_ID in self.context else dict(self.context)

    def changed(self, wrapped_key: bytes, context: Mapping[str, str]) -> dict[str, str]:
        """Return the fields that change with the wrapped key."""
        new = {self.key_field: base64.b64encode(wrapped_key).decode()}
        return new if context == self.context else {**new, self.context_field: json.dumps(dict(context))}

    def blob_of(self, changed: Mapping[str, str]) -> bytes:
        """Return the new wrapped key in fields that ``changed`` returned."""
        return base64.b64decode(changed[self.key_field])

    @property
    def legacy_name(self) -> str | None:
        """What the caller names to allow reading it; None if it commits to its data key, and needs no name."""
        if self.version == 3:
            return None
        return "s3ec-v2" if self.wrapping == _WITH_CONTEXT else "s3ec-kms"


def claims(metadata: Mapping[str, str]) -> bool:
    """Return whether an object's metadata has a field of this format."""
    return any(name.lower() in _ALL | _BESIDE for name in metadata)


def promises_instructions(metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata is of this format, and leaves the wrapped key to an instruction file."""
    return claims(metadata) and needs_instructions(metadata)


def needs_instructions(metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata leaves the wrapped key to an instruction file, or does not mention it."""
    names = {name.lower() for name in metadata}
    return not names & {_V1, "x-amz-key-v2", "x-amz-3"}


def object_fields(metadata: Mapping[str, str], instructions: bytes | None = None) -> ObjectFields:
    """Return how an object was encrypted.

    Args:
        metadata: the object's user metadata, by names without ``x-amz-meta-``.
        instructions: the content of its instruction file, if it has one.

    Raises:
        DamagedHeaderError: a field is missing or not as it should be, or they contradict each other.
        NotAnEnvelopeError: the object is not of this format, or is an instruction file.
        UnsupportedEnvelopeError: version 1, or a data key that KMS did not wrap.
    """
    own = _fields(metadata)
    if INSTRUCTION_MARK in own:
        raise NotAnEnvelopeError(
            "this is an instruction file of the S3 Encryption Client; name the object it belongs to"
        )
    there = {} if instructions is None else instruction_fields(instructions)
    if instructions is not None:
        _check_places(own, there)
    fields = {**own, **there}
    version = _version(fields)
    if version is None:
        if own:
            _damaged("the object has no wrapped key, and no instruction file")
        raise NotAnEnvelopeError("the object has no metadata of the S3 Encryption Client")
    if instructions is None and needs_instructions(own):
        _damaged(f"the object lacks the field '{_KEY_FIELDS[version].blob}', and has no instruction file")
    return (_version_2 if version == 2 else _version_3)(fields, instructions is not None)


def merged(fields: Mapping[str, str], changed: Mapping[str, str]) -> dict[str, str]:
    """Return metadata, or the fields of an instruction file, of which some have changed, spelled as before.

    Args:
        fields: in any case of their names, as other programs and servers may have written them.
        changed: by their names in lower case.
    """
    spelled = {name.lower(): name for name in fields}
    return {**fields, **{spelled.get(name, name): value for name, value in changed.items()}}


def instruction_fields(content: bytes) -> dict[str, str]:
    """Return the fields of an instruction file.

    Raises:
        DamagedHeaderError: it is not a JSON object of this format's fields.
    """
    if len(content) > MAX_INSTRUCTION_BYTES:
        _damaged("the instruction file is longer than 64 KiB")
    pairs = object_in(content, "the instruction file", _damaged)
    for name in pairs:
        if name.lower() not in _ALL | _BESIDE:
            _damaged(f"the instruction file has the field '{printable(name[:100])}', which this format does not have")
    fields = _fields(pairs)
    if found := sorted(fields.keys() & _V3_OF_OBJECT):
        _contradiction(f"'{found[0]}' in its instruction file, where the format never puts it")
    return fields


def wrapped_in(instructions: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the wrapped key in an instruction file, and the context that KMS sees.

    Raises:
        HeaderError: it is not as it should be, or KMS did not wrap the key.
    """
    fields = instruction_fields(instructions)
    version = _version(fields)
    if version is None:
        _damaged("the instruction file has no wrapped key")
    _wrapping(fields, version)
    names = _KEY_FIELDS[version]
    return _blob(fields, names.blob), _context(fields, names.context)


def _version(fields: Mapping[str, str]) -> int | None:
    """Return which version's fields these are, 2 or 3, once they are of one version; None if they are of none."""
    if _V1 in fields:
        raise UnsupportedEnvelopeError(
            "the object is of version 1 of the S3 Encryption Client's format, which is not read; read it with that "
            "client, and encrypt it again"
        )
    is_2, is_3 = bool(fields.keys() & _V2), bool(fields.keys() & _V3)
    if is_2 and is_3:
        _contradiction("the fields of versions 2 and 3")
    return 2 if is_2 else 3 if is_3 else None


def _check_places(own: Mapping[str, str], there: Mapping[str, str]) -> None:
    """Refuse fields in the metadata that belong in the instruction file, or are there already."""
    wrong = own.keys() & (_V2 | _V3_OF_KEY | {_V1})
    if wrong:
        _contradiction(f"'{min(wrong)}' in its metadata beside an instruction file")
    if not own.keys() & _V3 and not there.keys() & (_V2 | {_V1}):
        _contradiction("an instruction file of version 3 beside metadata that is not")


def _fields(given: Mapping[str, object]) -> dict[str, str]:
    """Return the fields of this format, by their names in lower case; all others are the caller's own."""
    fields: dict[str, str] = {}
    for name, value in given.items():
        lower = name.lower()
        if lower not in _ALL | _BESIDE:
            continue
        if lower in fields:
            _contradiction(f"the field '{lower}' twice")
        if not isinstance(value, str) or len(value) > MAX_INSTRUCTION_BYTES:
            _damaged(f"the field '{lower}' is not text, or longer than it can be")
        if value.startswith("=?"):
            raise UnsupportedEnvelopeError(
                f"the field '{lower}' is not ASCII, and S3 returns it in another form than it was written, which is "
                "not read"
            )
        fields[lower] = value
    return fields


def _version_2(fields: Mapping[str, str], in_instructions: bool) -> ObjectFields:
    names, cipher = _KEY_FIELDS[2], _need(fields, "x-amz-cek-alg")
    if cipher not in (GCM, CBC):
        raise UnsupportedEnvelopeError(f"the object's cipher, '{printable(cipher[:100])}', is unknown")
    wrapping, context = _wrapping(fields, 2), _context(fields, names.context)
    if wrapping == _WITH_CONTEXT or CEK_ALGORITHM in context:
        _check_bound(context, cipher)
    if fields.get("x-amz-tag-len") != ("128" if cipher == GCM else None):
        _damaged("the field 'x-amz-tag-len' does not fit the object's cipher")
    return ObjectFields(
        version=2,
        cipher=cipher,
        wrapping=wrapping,
        wrapped_key=_blob(fields, names.blob),
        context=context,
        nonce=_bytes(fields, "x-amz-iv", _GCM_IV_BYTES if cipher == GCM else _CBC_IV_BYTES),
        message_id=b"",
        commitment=b"",
        key_field=names.blob,
        context_field=names.context,
        in_instructions=in_instructions,
    )


def _version_3(fields: Mapping[str, str], in_instructions: bool) -> ObjectFields:
    names, cipher = _KEY_FIELDS[3], _need(fields, "x-amz-c")
    if cipher != COMMITTING:
        raise UnsupportedEnvelopeError(f"the object's cipher, '{printable(cipher[:100])}', is unknown")
    _wrapping(fields, 3)
    context = _context(fields, names.context)
    _check_bound(context, cipher)
    return ObjectFields(
        version=3,
        cipher=cipher,
        wrapping=_WITH_CONTEXT,
        wrapped_key=_blob(fields, names.blob),
        context=context,
        nonce=b"",
        message_id=_bytes(fields, "x-amz-i", MESSAGE_ID_BYTES),
        commitment=_bytes(fields, "x-amz-d", COMMITMENT_BYTES),
        key_field=names.blob,
        context_field=names.context,
        in_instructions=in_instructions,
    )


def _wrapping(fields: Mapping[str, str], version: int) -> str:
    """Return how KMS wrapped the data key."""
    names = _KEY_FIELDS[version]
    wrapping = _need(fields, names.wrapping)
    if wrapping not in names.wrappings or _MATERIALS in fields:
        _other_wrapping(wrapping)
    return wrapping


def _check_bound(context: Mapping[str, str], cipher: str) -> None:
    """Compare the cipher that is bound to the data key: else whoever may write metadata chooses the cipher."""
    if context.get(CEK_ALGORITHM) != cipher:
        _contradiction(f"the cipher '{cipher}' in one field, and not in the context that is bound to the data key")


def _need(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        where = "" if name in _V3_OF_OBJECT else " in its metadata or its instruction file"
        _damaged(f"the object lacks the field '{name}'{where}")
    return fields[name]


def _bytes(fields: Mapping[str, str], name: str, size: int) -> bytes:
    data = _base64(fields, name)
    if len(data) != size:
        _damaged(f"the field '{name}' holds {len(data)} bytes instead of {size}")
    return data


def _blob(fields: Mapping[str, str], name: str) -> bytes:
    data = _base64(fields, name)
    if not 1 <= len(data) <= LONGEST_BLOB:
        _damaged(f"the field '{name}' holds {len(data)} bytes; a wrapped key has 1 to {LONGEST_BLOB}")
    return data


def _base64(fields: Mapping[str, str], name: str) -> bytes:
    try:
        return base64.b64decode(_need(fields, name), validate=True)
    except (binascii.Error, ValueError):
        _damaged(f"the field '{name}' is not base64")


def _context(fields: Mapping[str, str], name: str) -> dict[str, str]:
    what = f"the field '{name}'"
    return texts_of(object_in(_need(fields, name), what, _damaged), what, _damaged)


def _damaged(what: str) -> NoReturn:
    raise DamagedHeaderError(f"{what}; it was altered, or is not as the S3 Encryption Client writes it")


def _contradiction(what: str) -> NoReturn:
    raise DamagedHeaderError(f"the object has {what}: a contradiction, and no side of it is believed")


def _other_wrapping(wrapping: str) -> NoReturn:
    raise UnsupportedEnvelopeError(
        f"the object's data key was not wrapped by AWS KMS, but with '{printable(wrapping[:100])}', which is not read"
    )
