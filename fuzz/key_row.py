"""The blobs of key rows, unwrapped by a KMS that opens everything: what somebody put there who may write the table."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from fuzz.header import with_checksums
from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.errors import KeyRowError
from sealwax.records import KeyKind, KeyRow, KeyState, _blob
from sealwax.records._keys import key_id

T = TypeVar("T")

SCOPE: Final = {"app": "fuzzing"}
_ARN: Final = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"


class FixedKeyring:
    """A keyring whose every data key is ``KEY``."""

    KEY: Final = bytes(range(32))

    def generate(
        self,
        context: Mapping[str, str],  # noqa: ARG002
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,  # noqa: ARG002
    ) -> T:
        with DataKey(bytearray(self.KEY)) as data_key:
            return use(data_key, (WrappedKey(_ARN, b"wrapped"),))

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:  # noqa: ARG002
        with DataKey(bytearray(self.KEY)) as data_key:
            return use(data_key)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        raise NotImplementedError


def made() -> KeyRow:
    """Return a row that unwraps, the same every time."""
    kms, envelope_id = ctx.encode(_blob.kms_context(SCOPE, KeyKind.DATA)), bytes(range(16))
    header = hdr.lay_out(
        envelope_id=envelope_id,
        kms_context=kms,
        local_pairs=0,
        wrapped_keys=(WrappedKey(_ARN, b"wrapped"),),
        slot_count=1,
    )
    info = payload.info(header.preamble.suite, envelope_id, kms, ctx.EMPTY)
    with DataKey(bytearray(FixedKeyring.KEY)) as data_key:
        body = payload.encrypt(payload.Encryptor(data_key, info, bytes(payload.SALT_BYTES)), b"", b"")
        ours = key_id(data_key, KeyKind.DATA, 1, ctx.encode(SCOPE))
    return KeyRow(SCOPE, KeyKind.DATA, 1, ours, KeyState.LIVE, 0, "", header.to_bytes() + body, 1)


_ROW: Final = made()


def check(data: bytes) -> None:
    _unwrap(data)
    _unwrap(with_checksums(data))
    _unwrap(_patched(data))


def _patched(data: bytes) -> bytes:
    """Return a row's own blob with some bytes of the input in one place, and true checksums."""
    blob = bytearray(_ROW.blob)
    if len(data) < 3:
        return bytes(blob[: len(data)])
    at = struct.unpack_from(">H", data)[0] % len(blob)
    blob[at : at + len(data) - 3] = data[3:]
    return with_checksums(bytes(blob)) if data[2] & 1 else bytes(blob)


def _unwrap(blob: bytes) -> None:
    row = KeyRow(_ROW.scope, KeyKind.DATA, 1, _ROW.key_id, KeyState.LIVE, 0, "", blob, 1)
    try:
        key = _blob.unwrap(FixedKeyring(), row)
    except KeyRowError:
        return
    with key:
        # Its wrapped keys and its slots are KMS's and the fleet's to change; the payload under the data key is not.
        assert bytes(key.buffer) == FixedKeyring.KEY
        assert len(blob) <= _blob.MAX_BLOB_BYTES
