"""The wrapped data key of records: an ordinary envelope of the empty value.

So ``inspect``, ``verify`` and ``rewrap`` work on it as they are, and its payload commits to the data key. Its
encryption context is the scope and the pair ``sealwax-use``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives import constant_time

from sealwax._core import context as ctx
from sealwax._core import envelope
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, Keyring, WrappedKey
from sealwax.errors import HeaderError, KeyRowError, PayloadError
from sealwax.records import _keys
from sealwax.records._store import KeyKind, KeyRow, KeyState

USE: Final = "sealwax-use"
MAX_BLOB_BYTES: Final = 8192


def kms_context(scope: Mapping[str, str], kind: KeyKind) -> dict[str, str]:
    """Return the encryption context of the data keys of a scope."""
    return {**scope, USE: kind.use}


def make(keyring: Keyring, scope: Mapping[str, str], kind: KeyKind, generation: int) -> tuple[KeyRow, DataKey]:
    """Make a data key; the caller wipes it. Nothing may be sealed under it before a store has the row.

    Raises:
        KmsError: there is no data key.
    """
    context = kms_context(scope, kind)
    kms_bytes = ctx.encode(context)
    envelope_id = os.urandom(hdr.ENVELOPE_ID_BYTES)
    info = payload.info(SUITE_COBBLESTONE_256, envelope_id, kms_bytes, ctx.EMPTY)

    def use(data_key: DataKey, wrapped_keys: tuple[WrappedKey, ...]) -> tuple[KeyRow, DataKey]:
        header = hdr.new_header(envelope_id, kms_bytes, 0, tuple(wrapped_keys), 1, hdr.ATTACHED)
        blob = payload.encrypt(payload.Encryptor(data_key, info), header, b"")
        if len(blob) > MAX_BLOB_BYTES:
            raise KeyRowError(
                f"the wrapped data key has {len(blob):,} bytes, and a key row holds {MAX_BLOB_BYTES:,}; use fewer KMS "
                "keys or a smaller scope"
            )
        key_id = _keys.key_id(data_key, kind, generation, ctx.encode(scope))
        now = int(time.time())
        row = KeyRow(dict(scope), kind, generation, key_id, KeyState.LIVE, now, "", blob, generation)
        return row, data_key.duplicate()

    return keyring.generate(context, use, plaintext_bytes=0)


def unwrap(keyring: Keyring, row: KeyRow) -> DataKey:
    """Return the data key of a row; the caller wipes it.

    Raises:
        KeyRowError: the row does not hold the data key that it claims to hold.
        KmsError: KMS did not unwrap it.
    """
    where = f"generation {row.generation} of the key store"
    if len(row.blob) > MAX_BLOB_BYTES:
        raise KeyRowError(
            f"{where} has a wrapped key of {len(row.blob):,} bytes; at most {MAX_BLOB_BYTES:,} are allowed"
        )
    try:
        header, offset = envelope.find_header(None, lambda: envelope.header_of_value(row.blob))
        context = ctx.decode(header.preamble.kms_context)
    except HeaderError as error:
        raise KeyRowError(f"{where} has no usable wrapped key: {error}") from error
    if context != kms_context(row.scope, row.kind) or header.preamble.local_pairs:
        raise KeyRowError(f"{where} has a wrapped key that was made for something else than its scope and kind")
    body = memoryview(row.blob)[offset:]
    info = payload.info(header.preamble.suite, header.preamble.envelope_id, header.preamble.kms_context, ctx.EMPTY)

    def use(data_key: DataKey) -> DataKey:
        decryptor = payload.Decryptor(data_key, info, bytes(body[: payload.HEAD_BYTES]))
        if payload.decrypt(decryptor, body[payload.HEAD_BYTES :]) != b"":
            raise KeyRowError(f"{where} has an envelope of data where a wrapped key belongs")
        key_id = _keys.key_id(data_key, row.kind, row.generation, ctx.encode(row.scope))
        if not constant_time.bytes_eq(key_id, row.key_id):
            raise KeyRowError(f"{where} has another key than its id says: its id, kind or generation was altered")
        return data_key.duplicate()

    try:
        return keyring.unwrap(header.slot.wrapped_keys, context, use)
    except PayloadError as error:
        raise KeyRowError(f"{where} has a damaged wrapped key: {error}") from error
