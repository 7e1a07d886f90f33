"""`sealwax-use` stands in the context of the data keys of records, and of no other that is made."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sealwax
from sealwax import CachingKeyring, ContextError
from sealwax._core import context as ctx
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax.policy._parts import USE as USE_OF_POLICIES
from sealwax.records import KeyKind, MemoryKeys, Records
from sealwax.records._blob import USE, kms_context
from tests.fakes import ALPHA, BETA, FakeKeyring

SCOPE = {"app": "shop"}
NAMES = ["sealwax-use", "Sealwax-Use", "SEALWAX-USE", "\u017fealwax-u\u017fe"]  # with a long s
SAYS = "'sealwax-use' is reserved for the data keys of records"
GUARDS = "the envelope is a data key of records"


def row(keyring: FakeKeyring) -> bytes:
    """Return the blob of a key row."""
    store = MemoryKeys()
    with Records(keyring, store, scope=SCOPE) as records:
        records.ensure()
    return next(store.list()).blob


def envelope_with(keyring: FakeKeyring, context: dict[str, str]) -> bytes:
    """Return an envelope whose context no sealer of ours would take."""
    begun: list[bytes] = []

    def use(data_key: object, wrapped_keys: object) -> None:
        kms = ctx.encode(context)
        info = payload.info(1, bytes(hdr.ENVELOPE_ID_BYTES), kms, ctx.EMPTY)
        header = hdr.new_header(bytes(hdr.ENVELOPE_ID_BYTES), kms, 0, tuple(wrapped_keys), 1, hdr.ATTACHED)  # type: ignore[arg-type]
        begun.append(payload.encrypt(payload.Encryptor(data_key, info), header, b"value"))  # type: ignore[arg-type]

    keyring.generate(context, use)
    return begun[0]


def ways(tmp_path: Path, sealer: sealwax.Sealer) -> Iterator[tuple[str, Callable[[dict[str, str]], object]]]:
    path = tmp_path / "file.swx"

    def written(context: dict[str, str]) -> None:
        with sealer.open(path, "wb", context=context) as file:
            file.write(b"value")

    async def written_async(context: dict[str, str]) -> None:
        async with sealer.open_async(path, "wb", context=context) as file:
            await file.write(b"value")

    yield "encrypt", lambda context: sealer.encrypt(b"value", context=context)
    yield "encrypt_detached", lambda context: sealer.encrypt_detached(b"value", context=context)
    yield "encrypt_async", lambda context: asyncio.run(sealer.encrypt_async(b"value", context=context))
    yield "encrypt_many", lambda context: list(sealer.encrypt_many([(b"value", context)]))
    yield "open", written
    yield "open_async", lambda context: asyncio.run(written_async(context))
    yield "open to a stream", lambda context: sealer.open(io.BytesIO(), "wb", context=context)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_no_data_key_is_made_with_it(tmp_path: Path, name: str, local: bool, cached: bool) -> None:
    keyring = FakeKeyring(ALPHA)
    used = CachingKeyring(keyring, max_age=60) if cached else keyring
    sealer = sealwax.Sealer(used, local_context=[name] if local else [])
    if cached:  # a data key for what is left of the context is held, and waits for nothing
        sealer.encrypt(b"value", context={"purpose": "x"})
        keyring.calls.clear()
    tried = 0
    for _, way in ways(tmp_path, sealer):
        for context in ({"purpose": "x", name: "records-data"}, {name: "anything"}):
            with pytest.raises(ContextError, match=SAYS):
                way(context)
            tried += 1
    assert tried == 14
    assert keyring.calls == []
    assert list(tmp_path.iterdir()) == []


def test_nor_with_a_data_key_that_a_cache_holds_for_it() -> None:
    context = {"purpose": "x", "sealwax-use": "records-data"}
    cache = CachingKeyring(FakeKeyring(ALPHA), max_age=60)
    cache.generate(context, lambda _key, _wrapped: None, plaintext_bytes=5)
    with pytest.raises(ContextError, match=SAYS):
        sealwax.Sealer(cache).encrypt(b"value", context=context)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_it_is_not_re_encrypted(tmp_path: Path, name: str) -> None:
    keyring = FakeKeyring(ALPHA)
    context = {"purpose": "x", name: "records-data"}
    sealed = envelope_with(keyring, context)
    path = tmp_path / "file.swx"
    path.write_bytes(sealed)
    keyring.calls.clear()
    sealer = sealwax.Sealer(keyring)
    for expected in (context, sealwax.AcceptStoredContext()):
        for source in (sealed, path):
            with pytest.raises(ContextError, match=GUARDS):
                sealer.reencrypt(source, context=expected)
        with pytest.raises(ContextError, match=GUARDS):
            sealer.reencryptor(lambda _, expected=expected: expected)(io.BytesIO(sealed), io.BytesIO())  # type: ignore[misc]
    assert keyring.calls == []
    assert path.read_bytes() == sealed


def test_a_key_row_is_read_and_re_wrapped_as_any_envelope() -> None:
    keyring = FakeKeyring(ALPHA, BETA)
    blob = row(keyring)
    context = kms_context(SCOPE, KeyKind.DATA)
    sealer = sealwax.Sealer(keyring)
    assert sealwax.inspect(blob).context == context
    assert sealer.decrypt(blob, context=context) == b""
    moved = sealer.rewrap(blob, to=BETA, context=context)
    assert sealer.decrypt(moved, context=context) == b""
    with pytest.raises(ContextError, match=GUARDS):
        sealer.reencrypt(blob, context=context)


@pytest.mark.parametrize("name", NAMES)
def test_no_scope_has_it(name: str) -> None:
    keyring = FakeKeyring(ALPHA)
    with Records(keyring, MemoryKeys(), scope=SCOPE) as records:
        for call in (records.ensure, records.roll, records.shred, records.reopen, records.rows):
            with pytest.raises(ContextError, match="is reserved: Records adds it to each scope itself"):
                call(**{name: "records-index"})
        with pytest.raises(ContextError, match="is reserved: Records adds it to each scope itself"):
            records.field("users.card", row=int, **{name: "x"})
    assert keyring.calls == []


def test_policies_mean_the_same_name() -> None:
    assert USE_OF_POLICIES == USE
