"""Mutated messages and metadata end in typed errors, release nothing, and take no more memory than they have bytes.

``make test`` takes 20,000 of each, ``make soak`` 200,000 of other ones.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Final

import pytest
from fuzz.esdk import KEY, message
from fuzz.esdk import check as check_deeper

from sealwax._core.foreign.esdk.header import EsdkHeader, header_of
from sealwax._core.foreign.esdk.suites import SUITES
from sealwax._core.foreign.s3ec.fields import object_fields
from sealwax.errors import DataKeyError, HeaderError, PayloadError
from tests.foreign import esdk, samples

PLAINTEXT: Final = bytes(range(200))
MARKS: Final = (b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff", b"\0\0")
MESSAGES: Final = [message(suite, PLAINTEXT, frame) for suite in SUITES for frame in (64, 0)]


def mutated(choose: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change a byte, cut, repeat, insert, swap or splice, one to three times."""
    out = bytearray(data)
    for _ in range(choose.randint(1, 3)):
        at, size = choose.randrange(len(out) + 1), choose.randint(1, 40)
        match choose.randrange(8):
            case 0 | 1:
                out[at : at + 1] = bytes(byte ^ (1 << choose.randrange(8)) for byte in out[at : at + 1])
            case 2:
                del out[at:]
            case 3:
                del out[at : at + size]
            case 4:
                out[at:at] = choose.randbytes(size)
            case 5:
                mark = choose.choice(MARKS)
                out[at : at + len(mark)] = mark
            case 6:
                out[at:at] = out[at : at + size]
            case 7:
                out[at:] = choose.choice(others)[at:]
    return bytes(out)


def end_of(data: bytes, header: EsdkHeader) -> str:
    """Read a message with every reader; return how that ended."""
    key = bytearray(KEY[: header.suite.key_bytes])
    ends = set()
    for read in esdk.readers(header):
        try:
            plaintext = read(data, header, key, {})
        except (PayloadError, DataKeyError) as error:
            ends.add(type(error).__name__)
        else:
            assert plaintext == PLAINTEXT, "something else than was encrypted was released"
            ends.add("read")
    assert len(ends) == 1, ends
    return ends.pop()


def memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def messages(seed: int, count: int) -> Counter[str]:
    choose, ends = random.Random(seed), Counter[str]()
    for _ in range(count):
        original = choose.choice(MESSAGES)
        data = mutated(choose, original, MESSAGES)
        if data in MESSAGES:
            ends["as it was"] += 1
            continue
        try:
            header = header_of(data)
        except HeaderError as error:
            ends[type(error).__name__] += 1
            continue
        end = end_of(data, header)
        # The plaintext of the same message may still be in it, in front of other bytes; that is no excuse.
        assert end != "read", "an altered message was read"
        ends[end] += 1
        if choose.randrange(4) == 0:
            check_deeper(data)  # with the header's tag put right
    return ends


def metadata(seed: int, count: int) -> Counter[str]:
    choose, ends = random.Random(seed), Counter[str]()
    blob = samples.aws_blob()
    whole = [samples.s3ec(version, blob, wrap) for version in (1, 2, 3) for wrap in (None, "kms", "AES/GCM")]
    names = sorted({name for fields in whole for name in fields} | {"x-amz-crypto-instr-file", "x-amz-m", "mine"})
    for _ in range(count):
        fields = dict(choose.choice(whole))
        instructions: Mapping[str, str] | None = None
        if choose.randrange(3) == 0:
            moved = [name for name in fields if choose.randrange(2)]
            instructions = {name: fields.pop(name) for name in moved}
        for _ in range(choose.randint(0, 2)):
            name = choose.choice(names)
            match choose.randrange(5):
                case 0:
                    fields.pop(name, None)
                case 1:
                    fields[name] = choose.choice(whole).get(name, "")
                case 2:
                    fields[name.upper()] = fields.get(name, "x")
                case _:
                    text = fields.get(name, "").encode() or b"{}"
                    fields[name] = mutated(choose, text, [text]).decode("utf-8", "replace")
        content = None if instructions is None else json.dumps(instructions).encode()
        if content is not None and choose.randrange(4) == 0:
            content = mutated(choose, content, [content])
        try:
            found = object_fields(fields, content)
        except HeaderError as error:
            ends[type(error).__name__] += 1
        else:
            assert found.version in (2, 3)
            assert 1 <= len(found.wrapped_key) <= 6144
            assert all(isinstance(value, str) for value in found.context.values())
            ends["read"] += 1
    return ends


def test_messages() -> None:
    assert len(MESSAGES) == 22
    before = memory()
    ends = messages(21, 20_000)
    assert ends.total() == 20_000
    assert set(ends) >= {
        *("DamagedHeaderError", "UnsupportedEnvelopeError", "NotAnEnvelopeError"),
        *("CommitmentError", "TamperedError"),
    }
    assert min(ends["TamperedError"], ends["CommitmentError"], ends["DamagedHeaderError"]) > 1000
    assert memory() - before < 64 << 20, "memory was taken for a length that is only claimed"


def test_metadata() -> None:
    ends = metadata(21, 20_000)
    assert ends.total() == 20_000
    assert min(ends["DamagedHeaderError"], ends["UnsupportedEnvelopeError"], ends["read"]) > 500


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10))
def test_ten_times_as_many(seed: int) -> None:
    before = memory()
    assert messages(1000 + seed, 20_000).total() == 20_000
    assert metadata(1000 + seed, 20_000).total() == 20_000
    assert memory() - before < 64 << 20
