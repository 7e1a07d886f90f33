"""The wrapped data key of records: an ordinary envelope of the empty value.

So ``inspect``, ``verify`` and ``rewrap`` work on it as they are, and its payload commits to the data key. Its
encryption context is the scope and the pair ``sealwax-use``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives import constant_time

from sealwax._core import context as ctx
from sealwax._core import envelope, watch
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.format.header import Header
from sealwax._core.keyring import SUITE_COBBLESTONE_256, DataKey, Keyring, WrappedKey
from sealwax.errors import HeaderError, KeyRowError, PayloadError
from sealwax.events import KmsCall
from sealwax.records import _keys
from sealwax.records._store import KeyKind, KeyRow, KeyState

USE: Final = ctx.RESERVED
MAX_BLOB_BYTES: Final = 8192
_MADE_BY_CHARACTERS: Final = 128


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
        made_by = _made_by(calls)
        row = KeyRow(dict(scope), kind, generation, key_id, KeyState.LIVE, now, made_by, blob, generation)
        return row, data_key.duplicate()

    with watch.noting() as calls:
        return keyring.generate(context, use, plaintext_bytes=0)


def _made_by(calls: Sequence[KmsCall]) -> str:
    """Return the request id of the call that made the data key, or "" if the keyring or KMS tells none."""
    for call in reversed(calls):
        if call.operation == "GenerateDataKey" and call.error is None:
            made_by = str(call.request_id or "")
            return made_by if made_by.isprintable() and len(made_by) <= _MADE_BY_CHARACTERS else ""
    return ""


def _where(row: KeyRow) -> str:
    return f"generation {row.generation} ({row.kind.use}, key id {row.key_id.hex()}) of the key store"


def check_claim(row: KeyRow) -> None:
    """Refuse a row that claims another generation than its own.

    Raises:
        KeyRowError: it does.
    """
    if row.claim not in (None, row.generation):
        raise KeyRowError(f"{_where(row)} claims to be generation {row.claim}: its columns were altered")


def header_of(row: KeyRow) -> tuple[Header, int]:
    """Return the header of a row's envelope, which is of the row's scope and kind, and where its payload begins.

    Raises:
        KeyRowError: it is not.
    """
    where = _where(row)
    check_claim(row)
    if len(row.blob) > MAX_BLOB_BYTES:
        raise KeyRowError(
            f"{where} has a wrapped key of {len(row.blob):,} bytes; at most {MAX_BLOB_BYTES:,} are allowed"
        )
    if not row.blob:
        raise KeyRowError(f"{where} has no wrapped key, but is marked as {row.state}: its state was altered")
    try:
        header, offset = envelope.find_header(None, lambda: envelope.header_of_value(row.blob))
        context = ctx.decode(header.preamble.kms_context)
    except HeaderError as error:
        raise KeyRowError(f"{where} has no usable wrapped key: {error}") from error
    if context != kms_context(row.scope, row.kind) or header.preamble.local_pairs:
        raise KeyRowError(f"{where} has a wrapped key that was made for something else than its scope and kind")
    return header, offset


def unwrap(keyring: Keyring, row: KeyRow) -> DataKey:
    """Return the data key of a row; the caller wipes it. KMS is called only if the row fits its own columns.

    Raises:
        KeyRowError: the row does not hold the data key that it claims to hold.
        KmsError: KMS did not unwrap it.
    """
    where = _where(row)
    header, offset = header_of(row)
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
        return keyring.unwrap(header.slot.wrapped_keys, kms_context(row.scope, row.kind), use)
    except PayloadError as error:
        raise KeyRowError(f"{where} has a damaged wrapped key: {error}") from error
