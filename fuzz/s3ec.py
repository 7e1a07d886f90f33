"""Objects of the S3 Encryption Client under a fixed data key: metadata, an instruction file, and a body.

An input is up to three parts with a zero byte between them: the metadata as JSON, the instruction file, the body.
Nobody guesses a commitment or a tag, so the metadata get the commitment that they need, and a body is also tried with
its tag.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealwax._core.foreign import passes
from sealwax._core.foreign.s3ec.fields import CBC, ObjectFields, merged, object_fields, wrapped_in
from sealwax._core.foreign.s3ec.opening import OpenObject
from sealwax._core.keyring import DataKey
from sealwax.errors import HeaderError, PayloadError, UnsupportedEnvelopeError

KEY: Final = bytes(range(32))
_NEW: Final = b"another wrapped key"
_OF_VERSIONS: Final = (
    {"x-amz-key", "x-amz-m"},
    {"x-amz-key-v2", "x-amz-iv", "x-amz-matdesc", "x-amz-wrap-alg", "x-amz-cek-alg", "x-amz-tag-len"},
    {"x-amz-3", "x-amz-w", "x-amz-t"},
)
_ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"


def check(data: bytes) -> None:
    head, *rest = data.split(b"\0", 2)
    instructions = rest[0] if rest and rest[0] else None
    body = rest[1] if len(rest) > 1 else b""
    if instructions is not None:
        _wrapped(instructions)
    metadata = _metadata(head)
    if metadata is None:
        return
    try:
        fields = object_fields(metadata, instructions)
    except HeaderError:
        return
    assert fields.in_instructions == (instructions is not None)
    assert fields == object_fields(metadata, instructions)
    _rewrapped(fields, metadata, instructions)
    _body(fields, body)


def _metadata(data: bytes) -> dict[str, str] | None:
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        return None
    return metadata


def _wrapped(instructions: bytes) -> None:
    try:
        blob, context = wrapped_in(instructions)
    except HeaderError:
        return
    assert blob
    names = {name.lower() for name in json.loads(instructions)}
    assert [bool(names & fields) for fields in _OF_VERSIONS].count(True) == 1, "the fields of more than one version"
    assert all(isinstance(value, str) for value in context.values())


def _rewrapped(fields: ObjectFields, metadata: dict[str, str], instructions: bytes | None) -> None:
    """With another wrapped key, everything else is what it was."""
    context = fields.context_under(_ARN)
    changed = fields.changed(_NEW, context)
    assert fields.blob_of(changed) == _NEW
    if instructions is None:
        again = object_fields(merged(metadata, changed))
    else:
        again = object_fields(metadata, json.dumps(merged(json.loads(instructions), changed)).encode())
    assert again == replace(fields, wrapped_key=_NEW, context=context)


def _body(fields: ObjectFields, body: bytes) -> None:
    if fields.cipher == CBC:
        try:
            OpenObject.check(fields, len(body))
        except UnsupportedEnvelopeError:
            return
        raise AssertionError("CBC is read")
    fields, key, nonce, aad = _authentic(fields)
    aead = AESGCM(key)
    for sealed in (body, aead.encrypt(nonce, body, aad)):
        try:
            expected: bytes | None = aead.decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError):
            expected = None
        assert _read(fields, sealed) == expected


def _authentic(fields: ObjectFields) -> tuple[ObjectFields, bytes, bytes, bytes | None]:
    """Return the fields with their commitment to the data key; the key, the nonce and what else is authentic."""
    if fields.version == 2:
        return fields, KEY, fields.nonce, None

    def derive(info: bytes, size: int) -> bytes:
        return HKDF(hashes.SHA512(), size, fields.message_id, b"\0s" + info).derive(KEY)

    fields = replace(fields, commitment=derive(b"COMMITKEY", 28))
    return fields, derive(b"DERIVEKEY", 32), b"\1" * 12, b"\0s"


def _read(fields: ObjectFields, sealed: bytes) -> bytes | None:
    try:
        with DataKey(bytearray(KEY)) as data_key:
            opened = OpenObject(fields, data_key, len(sealed))
        with passes.reader(io.BytesIO(sealed), 0, opened) as reader:
            return reader.read()
    except PayloadError:
        return None
