"""What holds keys is not copied: a copy would close the original's file, or keep what the original gives up."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path

import pytest

import sealwax
from sealwax._core.format.payload import SALT_BYTES, Chunks, Decryptor, Encryptor
from sealwax._core.format.witness import Witness
from sealwax._core.keyring import DataKey

REFUSED = (copy.copy, copy.deepcopy, pickle.dumps)


def test_writers_and_readers_are_not_copied_or_pickled(sealer: sealwax.Sealer, tmp_path: Path) -> None:
    path, context = tmp_path / "a.swx", {"a": "b"}
    data = os.urandom(100_000)
    with sealer.open(path, "wb", context=context) as writer:
        for refused in REFUSED:
            with pytest.raises(TypeError):
                refused(writer)
        writer.write(data)
    anywhere = sealer.open(path, context=context)
    once = sealer.open_stream(io.BytesIO(path.read_bytes()), context=context)
    for reader in (anywhere.raw, once):
        for refused in REFUSED:
            with pytest.raises(TypeError):
                refused(reader)
    assert anywhere.read() == data
    assert once.readall() == data
    anywhere.close()
    once.close()


def test_derived_keys_are_not_copied_or_pickled() -> None:
    """A copy of an encryptor would go on from the same place: two texts under one nonce."""
    with DataKey(bytearray(32)) as data_key:
        encryptor = Encryptor(data_key, b"info")
        held = (
            encryptor,
            Chunks(data_key, b"info", bytes(SALT_BYTES)),
            Decryptor(data_key, b"info", encryptor.head),
            Witness(data_key, bytes(16), b"info"),
            data_key,
        )
        for each in held:
            for refused in REFUSED:
                with pytest.raises(TypeError):
                    refused(each)
    for closed in held[:3]:
        closed.close()
