"""A program that derives keys from a data key, and then waits while its memory is read: ``derive.py FILE WHAT``.

FILE holds the data key, which never becomes ``bytes`` here. What the derivation gives back is held before anything else
takes its place: new ``bytes`` of the same size are taken, and not written to.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealwax._core.context import encode
from sealwax._core.foreign import passes
from sealwax._core.foreign.esdk import whole, writing
from sealwax._core.foreign.esdk.header import header_of
from sealwax._core.foreign.esdk.opening import OpenMessage
from sealwax._core.foreign.esdk.random_access import FrameReader
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.format import payload, witness
from sealwax._core.keyring import DataKey, WrappedKey, wipe
from sealwax.errors import SealwaxError

SALT = b"s" * payload.SALT_BYTES
ID = b"i" * 16
KMS, LOCAL = encode({"what": "it is bound to"}), encode({"id": "7"})
MESSAGE_ID = b"m" * 32
ESDK_SUITES = (0x0078, 0x0178, 0x0478)
INFO = payload.info(1, ID, KMS, LOCAL)


_take = ctypes.pythonapi.PyBytes_FromStringAndSize
_take.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)
_take.restype = ctypes.py_object
_ROUNDS = 20
held: list[bytes] = []
errors: list[SealwaxError] = []  # kept, with their frames


def derive(data_key: DataKey, what: str) -> None:
    if what == "chunks":
        payload.Chunks(data_key, INFO, SALT).close()
    elif what == "small":
        envelope_id, kms, local = ID, payload.framed(KMS), LOCAL
        sealed = payload.seal_small(data_key, (), envelope_id, SALT, kms, local, b"text")
        assert payload.open_small(data_key, envelope_id, kms, local, sealed, 0) == b"text"
        for damaged in (sealed[:-1] + b"\0", sealed[:40] + b"\0" + sealed[41:]):
            try:
                payload.open_small(data_key, envelope_id, kms, local, damaged, 0)
            except SealwaxError as error:
                errors.append(error)
    elif what == "esdk":
        open_messages(data_key)
        write_message(data_key)
    elif what == "witness":
        witness.Witness(data_key, ID, INFO)
    else:
        held.append(bytes(data_key.buffer))


def whole_message(message: bytes, data_key: DataKey) -> bytes:
    header = header_of(message)
    opened = OpenMessage(header, data_key)
    try:
        return whole.decrypt_body(opened, memoryview(message)[header.size :])
    finally:
        opened.close()


def open_messages(data_key: DataKey) -> None:
    """Messages that are not framed, of suites that take 32 bytes: each opens, and then not, with another tag."""
    for number in ESDK_SUITES:
        suite = SUITES[number]
        message_id = MESSAGE_ID[: 32 if suite.committing else 16]
        commitment = suite.commit(data_key, message_id) if suite.committing else None
        start = bytes((2,)) if suite.committing else b"\1\x80"
        start += number.to_bytes(2, "big") + message_id + b"\0\0" + b"\0\1" + bytes(6) + b"\1"
        start += bytes(4) + (commitment or b"") if suite.committing else bytes(4) + b"\x0c" + bytes(4)
        key = suite.derive(data_key, message_id, commitment)
        tag = AESGCM(key).encrypt(bytes(12), b"", start)
        aad = message_id + b"AWSKMSEncryptionClient Single Block" + b"\0\0\0\1" + (4).to_bytes(8, "big")
        body = bytes(11) + b"\1" + (4).to_bytes(8, "big") + AESGCM(key).encrypt(bytes(11) + b"\1", b"text", aad)
        wipe(key)
        payload.leave_no_registers()
        header = start + (b"" if suite.committing else bytes(12)) + tag
        assert whole_message(header + body, data_key) == b"text"
        for damaged in (header + body[:-1] + b"\0", header[:-1] + b"\0" + body):
            try:
                whole_message(damaged, data_key)
            except SealwaxError as error:
                errors.append(error)


def write_message(data_key: DataKey) -> None:
    message = writing.encrypt(writing.MessageEncryptor(data_key, {}, (WrappedKey("a", b"w"),), 2), b"text")
    header = header_of(message)
    assert whole_message(message, data_key) == b"text"
    for data in (message, message[:-1] + b"\0", message[:-20]):
        try:
            with passes.reader(io.BytesIO(data), header.size, OpenMessage(header, data_key)) as reader:
                reader.drain()
            with FrameReader(io.BytesIO(data), header.size, len(data) - header.size, OpenMessage(header, data_key)):
                pass
        except SealwaxError as error:
            errors.append(error)


def main() -> None:
    file, what = sys.argv[1:]
    secret = bytearray(32)
    with open(file, "rb", buffering=0) as opened:
        opened.readinto(secret)
    os.unlink(file)
    with DataKey(secret) as data_key:
        # Readers of messages that failed are kept with their buffers, which are looked through.
        for _ in range(_ROUNDS if what != "esdk" else 4):
            derive(data_key, what)
            held.extend(_take(None, 64) for _ in range(4))
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
