"""Re-wrapping changes the wrapped keys and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._core.envelope import header_of_value
from sealwax._core.keyring import WrappedKey
from tests.fakes import ALPHA, BETA, GAMMA, FakeKeyring

CONTEXT = {"purpose": "test", "id": "7"}


@given(
    plaintext=st.binary(max_size=500),
    hops=st.lists(st.lists(st.sampled_from([ALPHA, BETA, GAMMA]), min_size=1, max_size=3, unique=True), max_size=4),
    local=st.booleans(),
    foreign=st.lists(st.integers(2, 255), unique=True, max_size=3),
)
@settings(max_examples=60)
def test_the_payload_never_changes(plaintext: bytes, hops: list[list[str]], local: bool, foreign: list[int]) -> None:
    others = tuple(WrappedKey(f"other:{n}", b"opaque" * n, provider=n) for n in foreign)
    keyring = FakeKeyring(ALPHA, allowed=[ALPHA, BETA, GAMMA], also_store=others)
    sealer = sealwax.Sealer(keyring, local_context=("id",) if local else ())
    sealed = sealer.encrypt(plaintext, context=CONTEXT)
    first = header_of_value(sealed)
    body = sealed[first.preamble.payload_offset :]
    for to in hops:
        sealed = sealer.rewrap(sealed, to=to, context=CONTEXT)
        header = header_of_value(sealed)
        assert sealed[header.preamble.payload_offset :] == body
        assert tuple(key.key_arn for key in header.slot.wrapped_keys if key.provider == 1) == tuple(to)
        assert tuple(key for key in header.slot.wrapped_keys if key.provider != 1) == others
        assert header.slot.sequence == 1
        for field in ("kind", "suite", "envelope_id", "kms_context", "local_pairs"):
            assert getattr(header.preamble, field) == getattr(first.preamble, field)
    assert "Decrypt" not in keyring.calls
    assert sealer.decrypt(sealed, context=CONTEXT) == plaintext
