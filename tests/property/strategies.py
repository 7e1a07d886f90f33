"""What envelopes are made of, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from sealwax._core.format import header as hdr
from sealwax._core.keyring import WrappedKey

# Everything UTF-8 can hold, with a good share of the characters that need care in names and on screens.
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("aA\0\u202e\u0301é√\U0001f512")))
contexts = st.dictionaries(texts.filter(bool), texts, max_size=64)

arns = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=120)
wrapped_keys = st.builds(
    WrappedKey,
    key_arn=arns,
    ciphertext=st.binary(min_size=1, max_size=300),
    key_material_id=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
    wrapped_at=st.integers(0, hdr.MAX_TIME),
)
unknown_wrapped_keys = st.builds(
    WrappedKey,
    key_arn=st.text(st.characters(max_codepoint=0xFF), max_size=40),
    ciphertext=st.binary(max_size=300),
    key_material_id=st.binary(max_size=255),
    wrapped_at=st.integers(0, 2**64 - 1),
    provider=st.integers(2, 255),
)
wrapped_key_sets = st.lists(
    st.one_of(wrapped_keys, unknown_wrapped_keys), min_size=1, max_size=16, unique_by=lambda key: key.key_arn
)
