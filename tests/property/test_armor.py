"""There is one text for each envelope, and no other text is read."""

from __future__ import annotations

import base64
import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sealwax
from sealwax.errors import NotAnEnvelopeError

ALPHABET = string.ascii_letters + string.digits + "-_"


@given(st.binary(max_size=100))
def test_round_trip(data: bytes) -> None:
    text = sealwax.armor(data)
    assert text.isascii()
    assert set(text.removeprefix("swx1:")) <= set(ALPHABET)
    assert sealwax.dearmor(text) == data
    assert sealwax.armor(bytearray(data)) == sealwax.armor(memoryview(data)) == text


@given(st.one_of(st.text(ALPHABET, max_size=20), st.text(max_size=20)))
def test_whatever_is_read_is_the_one_text(body: str) -> None:
    text = "swx1:" + body
    try:
        data = sealwax.dearmor(text)
    except NotAnEnvelopeError:
        return
    assert sealwax.armor(data) == text


@given(st.binary(min_size=1, max_size=40), st.data())
def test_an_inserted_or_replaced_character(data: bytes, draw: st.DataObject) -> None:
    text = sealwax.armor(data)
    at = draw.draw(st.integers(0, len(text)))
    extra = draw.draw(st.sampled_from(["\n", " ", "=", "+", "/", "\0", "é", "\u2028", ".", "A"]))
    for other in (text[:at] + extra + text[at:], text[:at] + extra + text[at + 1 :]):
        if other == text:
            continue
        with contextlib.suppress(NotAnEnvelopeError):
            assert sealwax.dearmor(other) != data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "swx1",
        "SWX1:AAAA",
        " swx1:AAAA",
        "swx1:AAAA\n",
        "swx1:AA==",
        "swx1:A",
        "swx1:AB",  # loose bits
        "swx1:AA+/",
        "swx2:AAAA",
    ],
)
def test_refused_texts(text: str) -> None:
    with pytest.raises(NotAnEnvelopeError):
        sealwax.dearmor(text)


def test_an_armored_envelope_given_as_bytes_says_so() -> None:
    with pytest.raises(NotAnEnvelopeError, match="text form"):
        sealwax.inspect(sealwax.armor(b"x" * 100).encode())
    assert base64.urlsafe_b64decode("AA==") == sealwax.dearmor("swx1:AA")
