"""The published messages of the AWS Encryption SDK, by every reader."""

from __future__ import annotations

import base64

import pytest

from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.foreign.esdk.header import header_of
from sealwax.errors import CommitmentError
from tests.foreign import esdk, samples


def test_every_published_message() -> None:
    messages = opened = refused = reads = 0
    for vector in samples.vectors():
        message = base64.b64decode(vector["ciphertext"])
        header = header_of(message)
        assert (header.size, header.context) == (vector["header_bytes"], vector["context"])
        dek = bytearray(base64.b64decode(vector["data_key"]))
        assert len(header.wrapped_keys) == (vector["provider"] == "aws-kms") * len(header.data_keys)
        for read in esdk.readers(header):
            if vector["opens"]:
                assert read(message, header, dek, {}) == vector["plaintext"].encode(), vector["comment"]
            else:
                with pytest.raises(CommitmentError):
                    read(message, header, dek, {})
            reads += 1
        messages += 1
        opened += vector["opens"]
        refused += not vector["opens"]
        assert (header.suite.commit(ForeignDataKey(bytearray(dek)), header.message_id) == header.commitment) is vector[
            "opens"
        ]
        assert header.commitment == base64.b64decode(vector["commitment"]) or not vector["opens"]
    assert (messages, opened, refused) == (46, 41, 5)
    assert reads > 3 * messages
