"""A program that derives keys from a data key, and then waits while its memory is read: ``derive.py FILE WHAT``.

FILE holds the data key, which never becomes ``bytes`` here. What the derivation gives back is held before anything else
takes its place: new ``bytes`` of the same size are taken, and not written to.
"""

from __future__ import annotations

import ctypes
import os
import sys

from sealwax._core.context import encode
from sealwax._core.format import payload, witness
from sealwax._core.keyring import DataKey
from sealwax.errors import SealwaxError

SALT = b"s" * payload.SALT_BYTES
ID = b"i" * 16
KMS, LOCAL = encode({"what": "it is bound to"}), encode({"id": "7"})
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
    elif what == "witness":
        witness.Witness(data_key, ID, INFO)
    else:
        held.append(bytes(data_key.buffer))


def main() -> None:
    file, what = sys.argv[1:]
    secret = bytearray(32)
    with open(file, "rb", buffering=0) as opened:
        opened.readinto(secret)
    os.unlink(file)
    with DataKey(secret) as data_key:
        for _ in range(_ROUNDS):
            derive(data_key, what)
            held.extend(_take(None, 64) for _ in range(4))
    print("done", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
