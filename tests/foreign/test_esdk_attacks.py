"""Altered messages end in typed errors, and nothing of a message is released before it is authentic."""

from __future__ import annotations

import copy
import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealwax._core.foreign import passes
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.foreign.esdk.header import EsdkHeader, header_of, read_header
from sealwax._core.foreign.esdk.writing import MessageEncryptor
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.errors import (
    CommitmentError,
    ContextError,
    DamagedHeaderError,
    DataKeyError,
    HeaderError,
    NotAnEnvelopeError,
    PayloadError,
    SealwaxError,
    TamperedError,
    UnsupportedEnvelopeError,
)
from tests.foreign import esdk
from tests.foreign.test_esdk_peers import theirs

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"
)
CONTEXT: Final = {"purpose": "backup"}
PLAINTEXT: Final = bytes(range(256)) * 3
FRAME: Final = 256
STEP: Final = FRAME + 32


def _messages() -> Iterator[tuple[bytes, bytearray]]:
    for suite in AlgorithmSuite:
        for frame_length in (FRAME, 0):
            message = theirs(PLAINTEXT, suite, frame_length, CONTEXT)
            yield message, esdk.unwrapped(header_of(message))
    yield esdk.written(PLAINTEXT, CONTEXT, FRAME), bytearray(esdk.DEK)
    yield esdk.written(PLAINTEXT[:-1], CONTEXT, FRAME), bytearray(esdk.DEK)


@pytest.fixture(scope="module")
def messages() -> list[tuple[bytes, bytearray]]:
    made = list(_messages())
    assert len(made) == 24
    return made


def of(messages: list[tuple[bytes, bytearray]], suite: int, *, framed: bool) -> tuple[bytes, EsdkHeader, bytearray]:
    for message, dek in messages:
        header = header_of(message)
        if header.suite.id == suite and bool(header.frame_length) == framed:
            return message, header, dek
    raise AssertionError(suite)


def released(message: bytes, header: EsdkHeader, dek: bytearray, read: esdk.Reader) -> bytes | None:
    """All of the plaintext, or None after an error of the payload."""
    try:
        return read(message, header, dek, {})
    except PayloadError:
        return None


def in_steps(message: bytes, header: EsdkHeader, dek: bytearray) -> bytes:
    """What a reader releases before an error."""
    out = bytearray()
    try:
        with passes.reader(io.BytesIO(message), header.size, esdk.opened(header, dek, {})) as reader:
            while part := reader.read(100):
                out += part
    except PayloadError:
        pass
    return bytes(out)


CHANGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=3)


def changed(message: bytes, changes: list[tuple[int, int, int]], start: int) -> bytes:
    data = bytearray(message)
    for what, where, value in changes:
        at = start + where % (len(data) + 1 - start) if len(data) > start else len(data)
        match what:
            case 0:
                data[at : at + 1] = bytes(byte ^ (value or 1) for byte in data[at : at + 1])
            case 1:
                del data[at:]
            case 2:
                data[at:at] = bytes([value]) * (value % 40 + 1)
            case 3:
                del data[at : at + value + 1]
            case 4:  # a frame twice, or another frame in its place
                data[at : at + STEP] = data[start : start + STEP]
            case 5:
                data[at : at + 4] = (b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0\0\0\0", b"\x7f\xff\xff\xff")[value % 4]
    return bytes(data)


@settings(max_examples=400)
@given(number=st.integers(0, 23), changes=CHANGES, body_only=st.booleans())
@example(number=0, changes=[(1, 0, 0)], body_only=True)
def test_altered_messages_end_in_typed_errors(
    messages: list[tuple[bytes, bytearray]], number: int, changes: list[tuple[int, int, int]], body_only: bool
) -> None:
    message, dek = messages[number]
    data = changed(message, changes, header_of(message).size if body_only else 0)
    if data == message:
        return
    try:
        header = header_of(data)
    except HeaderError:
        return
    plaintext = PLAINTEXT[:-1] if number == 23 else PLAINTEXT
    if not body_only and header != header_of(message):
        with pytest.raises((CommitmentError, DataKeyError)):
            esdk.opened(header, dek, {})
        return
    # An ECDSA signature has a second form; whatever is read is what was written.
    results = {released(data, header, dek, read) for read in esdk.readers(header)}
    assert len(results) == 1, "the readers do not agree"
    assert results == {None} or (header.suite.signature and results == {plaintext})
    seen = in_steps(data, header, dek)
    assert plaintext.startswith(seen)
    assert not seen or header.suite.signature is None or results == {plaintext}


@settings(max_examples=400)
@given(st.binary(max_size=300), st.sampled_from(["", "v1", "v2"]))
def test_any_bytes_are_a_header_or_a_typed_error(data: bytes, begin: str) -> None:
    start = {"": b"", "v1": b"\1\x80\1\x78" + bytes(16), "v2": b"\2\4\x78" + bytes(32)}[begin]
    try:
        header = header_of(start + data)
    except HeaderError:
        return
    assert header.signed_bytes == (start + data)[: header.size]


@settings(max_examples=300)
@given(number=st.integers(0, 23), changes=CHANGES)
def test_headers_are_read_without_a_byte_more(
    messages: list[tuple[bytes, bytearray]], number: int, changes: list[tuple[int, int, int]]
) -> None:
    message = messages[number][0]
    data = changed(message[: header_of(message).size], changes, 0)
    source = io.BytesIO(data + b"the body")
    try:
        header = read_header(source.read)
    except HeaderError:
        return
    assert source.tell() == header.size
    assert header.signed_bytes == (data + b"the body")[: header.size]


# --- nothing before the end


def damages(message: bytes, header: EsdkHeader) -> dict[str, bytes]:
    """A message that was damaged in each way that only its end shows."""
    body = header.size
    frames = message[body : body + STEP], message[body + STEP : body + 2 * STEP]
    flipped = bytearray(message)
    flipped[-1] ^= 1
    result = {
        "the last byte": bytes(flipped),
        "a byte is missing": message[:-1],
        "a trailing byte": message + b"\0",
        "another message follows": message + message,
        "nothing but the header": message[:body],
        "no tag": message[:-16],
    }
    if header.frame_length:
        result["cut at a frame"] = message[: body + STEP]
        result["swapped frames"] = message[:body] + frames[1] + frames[0] + message[body + 2 * STEP :]
        result["a frame is missing"] = message[: body + STEP] + message[body + 2 * STEP :]
        result["a frame twice"] = message[: body + STEP] + frames[0] + message[body + STEP :]
    if header.suite.signature is not None:
        size = footer_bytes(message, header)
        result["no signature"] = message[:-size]
        for name, length in (("a longer signature is claimed", size - 1), ("a shorter one", size - 3)):
            result[name] = message[:-size] + length.to_bytes(2, "big") + message[2 - size :]
        result["an empty signature"] = message[:-size] + b"\0\0"
        result["half a signature"] = message[: -size // 2]
        result["a long signature"] = message[:-size] + b"\xff\xff" + bytes(0xFFFF)
    return result


def footer_bytes(message: bytes, header: EsdkHeader) -> int:
    """The size of the footer: the one at the end whose length fits, and that begins a sequence."""
    for size in range(60, 120):
        if message[-size - 2 : -size] == size.to_bytes(2, "big") and message[-size] == 0x30:
            return size + 2
    raise AssertionError(header.suite)


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("suite", [0x0014, 0x0178, 0x0214, 0x0378, 0x0478, 0x0578])
def test_nothing_appears_before_the_end_is_authentic(
    messages: list[tuple[bytes, bytearray]], suite: int, framed: bool
) -> None:
    message, header, dek = of(messages, suite, framed=framed)
    ways = damages(message, header)
    assert len(ways) == 6 + 4 * framed + 6 * (header.suite.signature is not None)
    for what, damaged in ways.items():
        for read in esdk.readers(header):
            with pytest.raises(TamperedError):
                read(damaged, header, dek, {})
        seen = in_steps(damaged, header, dek)
        assert seen == b"" or (framed and header.suite.signature is None and PLAINTEXT.startswith(seen)), what


def test_a_file_that_changes_between_the_passes(messages: list[tuple[bytes, bytearray]]) -> None:
    """Who has the data key can make frames that authenticate, but cannot sign them."""
    message, header, dek = of(messages, 0x0578, framed=True)
    flipped = bytearray(message)
    flipped[header.size + 20] ^= 1

    class Changing(io.BytesIO):
        reads = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            self.reads += 1
            if self.reads == 2:
                self.getbuffer()[:] = flipped
            return super().seek(offset, whence)

    source = Changing(message)
    with (
        passes.reader(source, header.size, esdk.opened(header, dek, {})) as reader,
        pytest.raises(TamperedError, match="changed while it was read"),
    ):
        reader.read()
    assert source.reads == 2


@pytest.mark.parametrize(("suite", "framed"), [(0x0178, True), (0x0178, False), (0x0478, True), (0x0478, False)])
def test_no_byte_can_be_changed(messages: list[tuple[bytes, bytearray]], suite: int, framed: bool) -> None:
    message, header, dek = of(messages, suite, framed=framed)
    quick = [read for read in esdk.readers(header) if read in (esdk.in_memory, esdk.at_any_place)]
    for at in range(len(message)):
        changed = bytearray(message)
        changed[at] ^= 1
        try:
            other = header_of(bytes(changed))
        except HeaderError:
            continue
        for read in quick:
            with pytest.raises((PayloadError, ValueError)) as caught:
                read(bytes(changed), other, dek, {})
            # An unframed body that is taken for a framed one, or the other way, is not read at any place.
            assert isinstance(caught.value, PayloadError) or not framed


def forged(header: EsdkHeader, dek: bytearray, number: int, plaintext: bytes) -> bytes:
    """A final frame by someone who has the data key."""
    key = header.suite.derive(ForeignDataKey(bytearray(dek)), header.message_id, header.commitment or None)
    nonce, size = number.to_bytes(12, "big"), len(plaintext)
    aad = header.message_id + b"AWSKMSEncryptionClient Final Frame" + number.to_bytes(4, "big")
    sealed = AESGCM(key).encrypt(nonce, plaintext, aad + size.to_bytes(8, "big"))
    return b"\xff\xff\xff\xff" + number.to_bytes(4, "big") + nonce + size.to_bytes(4, "big") + sealed


def test_a_final_frame_is_no_longer_than_a_frame_and_has_the_next_number() -> None:
    dek = bytearray(esdk.DEK)
    message = esdk.written(bytes(40), CONTEXT, 16)
    header = header_of(message)
    body = message[header.size :]
    frames = body[: 2 * 48]
    for number, size, opens in ((3, 16, True), (3, 0, True), (3, 17, False), (2, 16, False), (4, 16, False)):
        data = message[: header.size] + frames + forged(header, dek, number, bytes(size))
        for read in esdk.readers(header):
            if opens:
                assert read(data, header, dek, {}) == bytes(32 + size)
            else:
                with pytest.raises(TamperedError):
                    read(data, header, dek, {})


def test_no_memory_is_taken_for_a_body_that_is_only_claimed(messages: list[tuple[bytes, bytearray]]) -> None:
    for suite, framed in ((0x0478, True), (0x0478, False), (0x0178, False)):
        message, header, dek = of(messages, suite, framed=framed)
        claim = (
            b"\xff\xff\xff\xff\0\0\0\1" + bytes(12) + b"\x7f\xff\xff\xff" if framed else bytes(12) + b"\0\0\0\x0f" * 2
        )
        for read in esdk.readers(header):
            tracemalloc.start()
            try:
                with pytest.raises(TamperedError):
                    read(message[: header.size] + claim + bytes(100), header, dek, {})
                assert tracemalloc.get_traced_memory()[1] < 8 << 20
            finally:
                tracemalloc.stop()


# --- keys and headers


def test_a_wrong_data_key_is_no_key_of_the_message(messages: list[tuple[bytes, bytearray]]) -> None:
    for message, dek in messages:
        header = header_of(message)
        wrong = bytearray(byte ^ 1 for byte in dek)
        for read in esdk.readers(header):
            with pytest.raises(CommitmentError):
                read(message, header, wrong, {})
            for size in {16, 24, 32} - {len(dek)}:
                with pytest.raises(DataKeyError):
                    read(message, header, bytearray(size), {})


@pytest.mark.parametrize("size", [0, 1, 15, 17, 31, 33, 64])
def test_a_data_key_of_another_size_is_wiped(size: int) -> None:
    buffer = bytearray(b"\xaa" * size)
    with pytest.raises(DataKeyError) as caught:
        ForeignDataKey(buffer)
    assert buffer == bytes(size), caught


@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_data_key_is_wiped_and_shown_to_nobody(size: int) -> None:
    buffer = bytearray(b"\xaa" * size)
    with ForeignDataKey(buffer) as key:
        assert key.buffer is buffer
        assert repr(key) == "<ForeignDataKey>"
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps, hash, lambda key: key == key):
            with pytest.raises(TypeError):
                attempt(key)
    assert buffer == bytes(size)
    with pytest.raises(ValueError, match="wiped"):
        _ = key.buffer


def test_closing_drops_the_keys(messages: list[tuple[bytes, bytearray]]) -> None:
    for framed in (True, False):
        _, header, dek = of(messages, 0x0478, framed=framed)
        message = esdk.opened(header, dek, {})
        body = message.body()
        message.close()
        body.close()
        with pytest.raises(ValueError, match="dropped"):
            body.open_into(memoryview(bytes(1000)), memoryview(bytearray(1000)))


def header_with(
    *,
    start: bytes = b"\2\4\x78" + bytes(32),
    context: bytes = b"\0\0",
    keys: bytes | None = None,
    end: bytes = b"\2\0\0\x10\0" + bytes(32 + 16),
) -> bytes:
    one = b"\0\7aws-kms\0\3arn\0\4blob"
    return start + context + (b"\0\1" + one if keys is None else keys) + end


def pairs(*texts: bytes, count: int | None = None) -> bytes:
    body = (len(texts) // 2 if count is None else count).to_bytes(2, "big")
    body += b"".join(len(text).to_bytes(2, "big") + text for text in texts)
    return len(body).to_bytes(2, "big") + body


V1: Final = b"\1\x80\1\x78" + bytes(16)
END_1: Final = b"\2" + bytes(4) + b"\x0c" + b"\0\0\x10\0" + bytes(12 + 16)
PUBLIC: Final = b"aws-crypto-public-key"

REFUSED: dict[str, tuple[bytes, type[HeaderError], str]] = {
    "empty": (b"", NotAnEnvelopeError, "not a message"),
    "another format": (b"PK\3\4" * 20, NotAnEnvelopeError, "not a message"),
    "one byte": (b"\2", NotAnEnvelopeError, "not a message"),
    "another type": (b"\1\x81\1\x78" + bytes(50), NotAnEnvelopeError, "not a message"),
    "an unknown suite": (header_with(start=b"\2\4\x79" + bytes(32)), UnsupportedEnvelopeError, "0479"),
    "a suite of the other version": (header_with(start=b"\2\1\x78" + bytes(32)), UnsupportedEnvelopeError, "version 2"),
    "and the other way": (header_with(start=b"\1\x80\4\x78" + bytes(16), end=END_1), UnsupportedEnvelopeError, "0478"),
    "no data key": (header_with(keys=b"\0\0"), DamagedHeaderError, "no encrypted data key"),
    "17 data keys": (header_with(keys=b"\0\x11" + bytes(6 * 17)), UnsupportedEnvelopeError, "at most 16"),
    "a provider that is no text": (header_with(keys=b"\0\1\0\1\xff\0\0\0\0"), DamagedHeaderError, "UTF-8"),
    "two equal names": (header_with(context=pairs(b"a", b"1", b"a", b"2")), DamagedHeaderError, "two pairs named 'a'"),
    "a context cut off": (header_with(context=pairs(b"a", b"1", count=2)), DamagedHeaderError, "cut off"),
    "a context too long": (header_with(context=pairs(b"a", b"1", count=0)), DamagedHeaderError, "bytes follow"),
    "a context of one byte": (header_with(context=b"\0\1\0"), DamagedHeaderError, "cut off"),
    "a context that is no text": (header_with(context=pairs(b"a", b"\xff")), DamagedHeaderError, "UTF-8"),
    "a public key without a signature": (header_with(context=pairs(PUBLIC, b"x")), DamagedHeaderError, "not signed"),
    "no public key": (header_with(start=b"\2\5\x78" + bytes(32)), DamagedHeaderError, "lacks"),
    "no such public key": (
        header_with(start=b"\2\5\x78" + bytes(32), context=pairs(PUBLIC, b"AAAA")),
        DamagedHeaderError,
        "no public key",
    ),
    "content type 3": (header_with(end=b"\3\0\0\x10\0" + bytes(48)), DamagedHeaderError, "content type"),
    "frames of 0 bytes": (header_with(end=b"\2\0\0\0\0" + bytes(48)), DamagedHeaderError, "frame length"),
    "no frames of 4096": (header_with(end=b"\1\0\0\x10\0" + bytes(48)), DamagedHeaderError, "frame length"),
    "frames of 64 MiB and a byte": (header_with(end=b"\2\4\0\0\1" + bytes(48)), UnsupportedEnvelopeError, "67108864"),
    "reserved bytes": (header_with(start=V1, end=b"\2\0\0\0\1" + END_1[5:]), DamagedHeaderError, "reserved"),
    "nonces of 16": (header_with(start=V1, end=END_1[:5] + b"\x10" + END_1[6:]), DamagedHeaderError, "nonces"),
    "over 1 MiB": (
        header_with(keys=b"\0\x10" + (b"\0\0" + b"\xff\xff" + bytes(0xFFFF) + b"\xff\xff" + bytes(0xFFFF)) * 16),
        UnsupportedEnvelopeError,
        "1 MiB",
    ),
    "cut off": (header_with()[:-1], DamagedHeaderError, "cut off"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_headers_that_are_refused(what: str) -> None:
    data, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words) as caught:
        header_of(data)
    assert type(caught.value) is kind


def test_headers_that_are_close_are_read() -> None:
    for data in (
        header_with(),
        header_with(start=V1, end=END_1),
        header_with(context=pairs(b"b", b"1", b"a", b"2")),  # unsorted
        header_with(context=b"\0\2\0\0"),
        header_with(keys=b"\0\x10" + bytes(6 * 16)),
        header_with(end=b"\2\4\0\0\0" + bytes(48)),
        header_with(end=b"\1\0\0\0\0" + bytes(48)),
    ):
        assert header_of(data).size == len(data)


def test_no_memory_is_taken_for_lengths_that_are_only_claimed() -> None:
    claims = header_with(keys=b"\0\1\xff\xff") + bytes(100), header_with(context=b"\xff\xff"), header_with()[:60]
    tracemalloc.start()
    try:
        for data in claims:
            with pytest.raises(SealwaxError):
                header_of(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"aws-crypto-public-key": "x"}, "own"),
        ({"AWS-Crypto-more": "x"}, "own"),
        ({"a": "1", "A": "2"}, "case"),
    ],
)
def test_contexts_that_are_not_written(context: dict[str, str], words: str) -> None:
    with pytest.raises(ContextError, match=words):
        esdk.written(b"", context)


def test_every_message_has_an_id_of_its_own() -> None:
    ids = {header_of(esdk.written(b"", CONTEXT)).message_id for _ in range(100)}
    assert len(ids) == 100


def encryptor(frame_length: int = 16) -> MessageEncryptor:
    with DataKey(bytearray(esdk.DEK)) as key:
        return MessageEncryptor(key, CONTEXT, (WrappedKey(esdk.ARN, b"wrapped"),), frame_length)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_writes_a_message_has_no_second(duplicate: Callable[[object], object]) -> None:
    """A copy would write other frames under the nonces of the first, or another header for its id."""
    writing = encryptor()
    for each in (writing, esdk.opened(header_of(writing.head), bytearray(esdk.DEK), {})):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            duplicate(each)


def test_threads_never_share_a_frame_number() -> None:
    writing, size = encryptor(), 16 + 32
    parts: list[bytes] = []

    def write(_: int) -> None:
        into = bytearray(8 * size)
        with memoryview(into) as view:
            assert writing.seal_into(memoryview(bytes(8 * 16)), view) == len(into)
        parts.append(bytes(into))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(100)))
    finally:
        sys.setswitchinterval(before)
    final = bytearray(40)
    with memoryview(final) as view:
        assert writing.seal_into(memoryview(b""), view, last=True) == 40
    numbers = [part[at : at + 4] for part in parts for at in range(0, 8 * size, size)]
    assert sorted(numbers) == [number.to_bytes(4, "big") for number in range(1, 801)]
    # All of them are frames of the one header.
    parts.sort()
    message = writing.head + b"".join(parts) + final
    assert esdk.in_memory(message, header_of(message), bytearray(esdk.DEK), {}) == bytes(800 * 16)
    for last in (True, False):
        with pytest.raises(ValueError, match="complete"), memoryview(bytearray(200)) as view:
            writing.seal_into(memoryview(bytes(16)), view, last=last)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_writes_no_frame_of_its_parents_message() -> None:
    writing = encryptor()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(ValueError, match="only in the parent"):
                writing.seal_into(memoryview(bytes(16)), memoryview(bytearray(100)), last=True)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_frames_that_could_not_be_written_are_not_written_again() -> None:
    """After a failure within, the number counts as used: the same nonce must not encrypt other bytes."""
    writing = encryptor()
    with pytest.raises((struct.error, ValueError)), memoryview(bytearray(20)) as short:
        writing.seal_into(memoryview(bytes(16)), short)
    into = bytearray(100)
    with memoryview(into) as view:
        writing.seal_into(memoryview(bytes(16)), view)
    assert into[:4] == b"\0\0\0\2"


def test_arguments_that_are_refused() -> None:
    make: Callable[..., Any] = MessageEncryptor
    with DataKey(bytearray(esdk.DEK)) as key:
        wrapped = WrappedKey(esdk.ARN, b"wrapped")
        for keys in ((), (wrapped,) * 17, (WrappedKey(esdk.ARN, b"x", provider=9),)):
            with pytest.raises(ValueError, match="1 to 16"):
                make(key, CONTEXT, keys)
        for length in (0, -1, (64 << 20) + 1):
            with pytest.raises(ValueError, match="frame length"):
                make(key, CONTEXT, (wrapped,), length)
        with pytest.raises(ValueError, match="within a frame"):
            make(key, CONTEXT, (wrapped,), 16).seal_into(memoryview(b"x"), memoryview(bytearray(100)), last=False)


def test_random_access_is_for_frames_that_are_not_signed(messages: list[tuple[bytes, bytearray]]) -> None:
    for suite, framed in ((0x0578, True), (0x0478, False), (0x0378, True)):
        message, header, dek = of(messages, suite, framed=framed)
        with pytest.raises(ValueError, match="before its end"):
            esdk.at_any_place(message, header, dek, {})


@pytest.mark.parametrize(
    ("suite", "framed", "told"), [(0x0478, True, True), (0x0578, True, False), (0x0478, False, False)]
)
def test_a_position_is_told_only_if_all_before_it_is_authentic(
    messages: list[tuple[bytes, bytearray]], suite: int, *, framed: bool, told: bool
) -> None:
    message, header, dek = of(messages, suite, framed=framed)
    damaged = bytearray(message)
    damaged[header.size + STEP + 40] ^= 1
    with pytest.raises(TamperedError) as caught:
        passes.check(io.BytesIO(damaged[header.size :]), esdk.opened(header, dek, {}))
    assert ("after byte" in str(caught.value)) == told
    if told:
        # What follows the last frame is no part of it: opening sees that, and has read none of the others.
        with pytest.raises(TamperedError) as caught:
            esdk.at_any_place(bytes(damaged) + b"x", header, dek, {})
        assert "after byte" not in str(caught.value)


def test_the_size_is_authenticated_before_it_is_told(messages: list[tuple[bytes, bytearray]]) -> None:
    message, header, dek = of(messages, 0x0478, framed=True)
    # As long as a body with one frame less.
    for cut in (message[:-STEP], message[: header.size] + message[header.size + STEP :], message[: header.size]):
        with pytest.raises(TamperedError):
            esdk.at_any_place(cut, header, dek, {})
