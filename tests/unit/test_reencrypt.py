"""Re-encrypting: a new data key and envelope id for the same plaintext and context, whole or not at all."""

from __future__ import annotations

import hmac
import io
import os
import stat
import tracemalloc
from pathlib import Path

import pytest

import sealwax
from sealwax._core.cache import CachingKeyring
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.witness import Witness
from sealwax._core.keyring import DataKey
from sealwax._core.rewrap import replace_file
from tests.cli.shell import flipped
from tests.fakes import ALPHA, BETA, FOREIGN, FakeKeyring

CONTEXT = {"purpose": "backup", "id": "7"}
OLD = sealwax.Sealer(FakeKeyring(ALPHA))
MIB = 1 << 20


def moving() -> sealwax.Sealer:
    """Return a sealer that opens ALPHA's and encrypts under BETA."""
    return sealwax.Sealer(FakeKeyring(BETA, allowed=[BETA, ALPHA]))


NEW = sealwax.Sealer(FakeKeyring(BETA))


def arns(source: bytes | Path) -> list[str]:
    return [key.key_arn for key in sealwax.inspect(source).wrapped_keys]


def envelope_id(source: bytes | Path) -> bytes:
    return inspect_envelope(source).header.preamble.envelope_id


@pytest.mark.parametrize("data", [b"", b"secret", os.urandom(40_000)])
def test_a_value(data: bytes) -> None:
    sealed = OLD.encrypt(data, context=CONTEXT)
    again = moving().reencrypt(sealed, context=CONTEXT)
    assert NEW.decrypt(again, context=CONTEXT) == data
    assert envelope_id(again) != envelope_id(sealed)
    assert sealwax.inspect(again).context == CONTEXT
    with pytest.raises(sealwax.KmsError):
        OLD.decrypt(again, context=CONTEXT)


def test_the_payload_is_under_another_data_key() -> None:
    """With the old wrapped key in its place, the new payload does not open: that is the point of it."""
    sealed = OLD.encrypt(b"secret", context=CONTEXT)
    both = sealwax.Sealer(FakeKeyring(ALPHA))
    again = both.reencrypt(sealed, context=CONTEXT)
    old_header, new_header = inspect_envelope(sealed).header, inspect_envelope(again).header
    forged = old_header.to_bytes() + again[new_header.preamble.payload_offset :]
    with pytest.raises(sealwax.CommitmentError):
        both.decrypt(forged, context=CONTEXT)


@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
def test_a_file_is_replaced(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "a.swx", os.urandom(size)
    with OLD.open(path, "wb", context=CONTEXT) as file:
        file.write(data)
    path.chmod(0o640)
    before = envelope_id(path)
    moving().reencrypt(path, context=CONTEXT)
    assert arns(path) == [BETA]
    assert envelope_id(path) != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert inspect_envelope(path).header.preamble.slot_count == (2 if size > MIB else 1)
    with NEW.open(path, context=CONTEXT) as file:
        assert file.read() == data
    assert os.listdir(tmp_path) == ["a.swx"]


def test_from_one_place_to_another(tmp_path: Path) -> None:
    sealed = OLD.encrypt(b"secret", context=CONTEXT)
    path, output = tmp_path / "a", tmp_path / "b"
    path.write_bytes(sealed)
    sink = io.BytesIO()
    moving().reencrypt(path, context=CONTEXT, output=output)
    moving().reencrypt(io.BytesIO(sealed), context=CONTEXT, output=sink)
    for new in (output.read_bytes(), sink.getvalue()):
        assert NEW.decrypt(new, context=CONTEXT) == b"secret"
    assert path.read_bytes() == sealed


def test_a_detached_header(tmp_path: Path) -> None:
    header, body = OLD.encrypt_detached(b"secret", context=CONTEXT)
    assert NEW.decrypt(moving().reencrypt(body, context=CONTEXT, header=header), context=CONTEXT) == b"secret"
    path = tmp_path / "body"
    path.write_bytes(body)
    with pytest.raises(TypeError, match="output"):
        moving().reencrypt(path, context=CONTEXT, header=header)
    moving().reencrypt(path, context=CONTEXT, header=header, output=tmp_path / "whole")
    assert NEW.decrypt((tmp_path / "whole").read_bytes(), context=CONTEXT) == b"secret"
    with pytest.raises(TypeError, match="output"):
        moving().reencrypt(io.BytesIO(), context=CONTEXT)


@pytest.mark.parametrize("at", [0, 40, -1])
def test_what_is_damaged_leaves_everything_as_it_was(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a"
    sealed = flipped(OLD.encrypt(os.urandom(3 * MIB), context=CONTEXT), at)
    path.write_bytes(sealed)
    with pytest.raises((sealwax.HeaderError, sealwax.PayloadError)):
        moving().reencrypt(path, context=CONTEXT)
    with pytest.raises((sealwax.HeaderError, sealwax.PayloadError)):
        moving().reencrypt(path, context=CONTEXT, output=tmp_path / "b")
    assert path.read_bytes() == sealed
    assert os.listdir(tmp_path) == ["a"]


def test_a_sink_is_left_without_an_end() -> None:
    sealed = OLD.encrypt(os.urandom(3 * MIB), context=CONTEXT)
    sink = io.BytesIO()
    with pytest.raises(sealwax.TamperedError):
        moving().reencrypt(io.BytesIO(sealed[:-1]), context=CONTEXT, output=sink)
    assert len(sink.getvalue()) > MIB
    with pytest.raises(sealwax.PayloadError):
        NEW.decrypt(sink.getvalue(), context=CONTEXT)


def test_the_context_and_the_allow_list_are_the_callers() -> None:
    sealed = OLD.encrypt(b"secret", context=CONTEXT)
    keyring = FakeKeyring(BETA, allowed=[BETA, ALPHA])
    with pytest.raises(sealwax.ContextError):
        sealwax.Sealer(keyring).reencrypt(sealed, context={"purpose": "other"})
    assert keyring.calls == []
    keyring = FakeKeyring(BETA, allowed=[BETA, FOREIGN])
    with pytest.raises(sealwax.KeyNotAllowedError):
        sealwax.Sealer(keyring).reencrypt(sealed, context=CONTEXT)
    assert keyring.calls == []
    accepted = moving().reencrypt(sealed, context=sealwax.AcceptStoredContext({"purpose": "backup"}))
    assert NEW.decrypt(accepted, context=CONTEXT) == b"secret"


def test_which_pairs_are_stored_stays_as_it_is() -> None:
    local = sealwax.Sealer(FakeKeyring(ALPHA), local_context=["id"])
    mover = sealwax.Sealer(FakeKeyring(BETA, allowed=[ALPHA]), local_context=["id"])
    reader = sealwax.Sealer(FakeKeyring(BETA), local_context=["id"])
    again = mover.reencrypt(local.encrypt(b"x", context=CONTEXT), context=CONTEXT)
    assert sealwax.inspect(again).context == {"purpose": "backup"}
    assert reader.decrypt(again, context=CONTEXT) == b"x"
    unbound = OLD.encrypt(b"x", context=sealwax.NO_CONTEXT)
    assert NEW.decrypt(moving().reencrypt(unbound, context=sealwax.NO_CONTEXT), context=sealwax.NO_CONTEXT) == b"x"


def test_memory_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with OLD.open(path, "wb", context=CONTEXT) as file:
        for _ in range(40):
            file.write(bytes(MIB))
    tracemalloc.start()
    try:
        moving().reencrypt(path, context=CONTEXT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * MIB


def test_a_witness_is_what_the_page_says() -> None:
    """Made a second time with the standard library alone: HKDF-Expand-SHA512 of 32 bytes is one HMAC."""
    data_key, info, envelope_id = bytes(range(32)), b"info", bytes(16)
    witness = Witness(DataKey(bytearray(data_key)), envelope_id, info)
    witness.update(b"plain")
    witness.update(b"text")
    key = hmac.digest(data_key, b"sealwax/witness/v1\0" + info + b"\1", "sha512")[:32]
    assert witness.finish() == envelope_id + hmac.digest(key, b"plaintext", "sha256")


def test_envelopes_of_one_data_key_and_plaintext_have_nothing_in_common_in_their_witnesses(tmp_path: Path) -> None:
    sealer = sealwax.Sealer(CachingKeyring(FakeKeyring(ALPHA), max_age=60))
    sealed = [sealer.encrypt(b"yes", context=CONTEXT) for _ in range(2)]
    assert len({sealwax.inspect(one).wrapped_keys for one in sealed}) == 1
    found = [sealer.witness(io.BytesIO(one), lambda _: CONTEXT) for one in sealed]
    assert [one[:16] for one in found] == [envelope_id(one) for one in sealed]
    assert len({one[16:] for one in found}) == 2
    written: list[bytes] = []
    path = tmp_path / "a.swx"
    path.write_bytes(sealed[0])
    again = sealer.reencryptor(lambda _: CONTEXT, on_written=lambda witness, _: written.append(witness))
    replace_file(path, again)
    with path.open("rb") as file:
        assert [sealer.witness(file, lambda _: CONTEXT)] == written


@pytest.mark.parametrize("size", [0, 3 * MIB])
def test_a_witness_is_given_of_what_authenticates_alone(size: int) -> None:
    sealed = OLD.encrypt(bytes(size), context=CONTEXT)
    with pytest.raises(sealwax.PayloadError):
        OLD.witness(io.BytesIO(flipped(sealed, -1)), lambda _: CONTEXT)
    with pytest.raises(sealwax.ContextError):
        OLD.witness(io.BytesIO(sealed), lambda _: {"purpose": "other", "id": "7"})
