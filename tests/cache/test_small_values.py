"""Small values under a data key that is held take fewer steps, and nothing else differs: neither bytes nor errors."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fuzz.header import with_checksums
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sealwax
from sealwax._core import context as ctx
from sealwax._core import envelope
from sealwax._core.cache.entries import CacheEntry
from sealwax._core.format import header as hdr
from sealwax._core.format import payload
from sealwax._core.keyring import DataKey, Keyring, WrappedKey, wipe
from sealwax._core.small import SmallValues
from sealwax.errors import CommitmentError, TamperedError
from sealwax.events import CacheLookup
from tests.cache.test_bounds import Clock, in_threads
from tests.fakes import ALPHA, BETA, FakeKeyring, timed_cache
from tests.forks.forking import in_child
from tests.property.strategies import contexts, texts

T = TypeVar("T")
LOCAL: Final = ("id",)
CONTEXT: Final = {"table": "users", "tenant": "acme", "id": "7"}
KMS_PART: Final = {"table": "users", "tenant": "acme"}


class Passing:
    """A keyring that passes everything on and is no cache itself: what stands behind it goes the long way."""

    def __init__(self, keyring: Keyring) -> None:
        self.inner = keyring
        self.asked: list[str] = []

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None,
    ) -> T:
        self.asked.append("generate")
        return self.inner.generate(context, use, plaintext_bytes=plaintext_bytes)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        self.asked.append("unwrap")
        return self.inner.unwrap(wrapped_keys, context, use)

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        return self.inner.rewrap(wrapped_keys, context, to)


class Pair:
    """One cache, and two sealers over it: one takes few steps where it may, the other never does."""

    def __init__(self, local: Sequence[str] = LOCAL, **bounds: Any) -> None:
        self.cache = timed_cache(FakeKeyring(), **{"max_age": 3600} | bounds)
        self.local = local
        self.short = sealwax.Sealer(self.cache, local_context=local)
        self.long = sealwax.Sealer(Passing(self.cache), local_context=local)
        self.few_steps = SmallValues(self.cache._ready(), frozenset(local))

    def warm(self, context: Mapping[str, str]) -> bytes:
        """Have both data keys held: return an envelope."""
        sealed = self.long.encrypt(b"warm", context=context)
        assert self.long.decrypt(sealed, context=context) == b"warm"
        return sealed


def outcome(do: Callable[[], bytes]) -> object:
    """What was returned, or all that an error shows."""
    try:
        return do()
    except Exception as error:
        return type(error), str(error)


def ends(do: Callable[[sealwax.Sealer], bytes], pair: Pair) -> tuple[object, object]:
    """The outcomes of the long way and, where it is the same the second time, of the short one."""
    long, *short = [outcome(lambda: do(sealer)) for sealer in (pair.long, pair.short, pair.short)]  # noqa: B023
    if not all(isinstance(one, bytes) for one in short):
        assert short[0] == short[1]
    return long, short[1]


def but_for_randomness(sealed: bytes) -> tuple[object, int]:
    """A header with another id in the place of its own, once its bytes are known to be those of what it says."""
    header = envelope.header_of_value(sealed)
    offset = header.preamble.payload_offset
    assert header.to_bytes() == sealed[:offset]
    return replace(header, preamble=replace(header.preamble, envelope_id=bytes(16))), len(sealed) - offset


def steps(do: Callable[[], object]) -> int:
    """How many functions are called, those of C included."""
    count = 0

    def watch(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        do()
    finally:
        sys.setprofile(None)
    return count


# --- the same bytes


@settings(max_examples=60, deadline=None)
@given(
    context=contexts.filter(bool),
    names=st.sets(texts, max_size=4),
    value=st.one_of(st.binary(max_size=40), st.sampled_from([0, 1, 1024, 16383, 16384, 16385]).map(bytes)),
    shuffled=st.randoms(use_true_random=False),
)
@example(context={"a": "b"}, names={"a"}, value=b"", shuffled=None)
@example(context={"": "b", "id": "\ud800"}, names={"id", ""}, value=b"x", shuffled=None)
def test_both_ways_make_the_same_envelopes_and_open_each_other_s(
    context: dict[str, str], names: set[str], value: bytes, shuffled: Any
) -> None:
    local = sorted(names | set(list(context)[:1]) if shuffled is not None and shuffled.random() < 0.5 else names)
    pair = Pair(local)
    first = outcome(lambda: pair.long.encrypt(value, context=context))
    if not isinstance(first, bytes):
        assert outcome(lambda: pair.short.encrypt(value, context=context)) == first
        assert pair.few_steps.encrypt(value, context) is None
        return
    assert pair.long.decrypt(first, context=context) == value
    items = list(context.items())
    if shuffled is not None:
        shuffled.shuffle(items)
    short = pair.few_steps.encrypt(value, dict(items))
    assert (short is None) == (len(value) >= payload.CHUNK_BYTES)
    sealed = pair.short.encrypt(value, context=dict(items))
    for one in (sealed, short or sealed):
        assert but_for_randomness(one) == but_for_randomness(first)
        assert pair.long.decrypt(one, context=context) == value
    opened = pair.few_steps.decrypt(first, dict(items))
    small_header = envelope.header_of_value(first).preamble.payload_offset <= hdr.OUTLINED_BYTES
    assert opened == (value if small_header and len(value) < payload.CHUNK_BYTES else None)
    assert pair.short.decrypt(first, context=dict(items)) == value
    assert pair.cache.stats().calls == 2


@pytest.mark.parametrize("size", [0, 1, 1024, 16383])
def test_few_steps_seal_as_the_construction_does(size: int) -> None:
    secret, salt, envelope_id, value = os.urandom(32), os.urandom(24), os.urandom(16), os.urandom(size)
    kms, local = ctx.encode({"a": "b"}), ctx.encode({"id": "7"})
    info = payload.info(1, envelope_id, kms, local)
    with DataKey(bytearray(secret)) as key:
        bound = payload.framed(kms), local
        sealed = payload.seal_small(key, (b"head", b"er"), envelope_id, salt, *bound, value)
        assert sealed == b"header" + payload.encrypt(payload.Encryptor(key, info, salt), b"", value)
        assert payload.open_small(key, envelope_id, *bound, sealed, 6) == value


@pytest.mark.parametrize(
    ("kind", "slots", "local"),
    [(hdr.ATTACHED, 1, 0), (hdr.ATTACHED, 1, 64), (hdr.DETACHED, 1, 3), (hdr.ATTACHED, 2, 1)],
)
def test_a_template_fills_in_what_lay_out_does(kind: int, slots: int, local: int) -> None:
    keys = FakeKeyring(ALPHA, BETA).generate({"a": "b"}, lambda _, keys: keys)
    encoded = ctx.encode({"a": "b"})
    whole = hdr.lay_out(
        envelope_id=b"i" * 16, kms_context=encoded, local_pairs=local, wrapped_keys=keys, slot_count=slots, kind=kind
    ).to_bytes()
    assert b"".join(hdr.HeaderTemplate(encoded, keys, slots, kind).parts(b"i" * 16, local)) == whole
    assert hdr.new_header(b"i" * 16, encoded, local, keys, slots, kind) == whole


# --- fewer steps


@pytest.mark.parametrize("tenants", [1, 500])
def test_far_fewer_steps_are_taken_with_many_tenants_too(tenants: int) -> None:
    """With memories of 64 contexts and headers, 500 tenants took all the steps each time."""
    pair = Pair()
    each = [{"table": "users", "tenant": f"t{number}", "id": "7"} for number in range(tenants)]
    sealed = []
    for one in each:
        sealed.append(pair.warm(one))
        pair.short.encrypt(b"x", context=one)
        pair.short.decrypt(sealed[-1], context=one)
    encrypting, decrypting = set(), set()
    for one, envelope_ in zip(each, sealed, strict=True):
        encrypting.add(steps(functools.partial(pair.short.encrypt, b"x", context=one)))
        decrypting.add(steps(functools.partial(pair.short.decrypt, envelope_, context=one)))
    assert len(encrypting) == len(decrypting) == 1, "one tenant takes as many as another"
    assert encrypting.pop() < steps(lambda: pair.long.encrypt(b"x", context=each[0])) * 0.7
    assert decrypting.pop() < steps(lambda: pair.long.decrypt(sealed[0], context=each[0])) * 0.6
    assert pair.cache.stats().calls == 2 * tenants


def test_the_rest_of_the_library_takes_them_too() -> None:
    """encrypt_async, decrypt_async, encrypt_many and decrypt_many; each of their values is an ordinary hit."""
    pair = Pair()
    pair.warm(CONTEXT)
    each = [{**CONTEXT, "id": str(number)} for number in range(200)]
    pairs = [(one["id"].encode(), one) for one in each]

    async def both(value: bytes, context: dict[str, str]) -> bytes:
        return await pair.short.decrypt_async(await pair.short.encrypt_async(value, context=context), context=context)

    async def main() -> list[bytes]:
        return [await both(*one) for one in pairs]

    before = pair.cache.stats().hits
    assert asyncio.run(main()) == [value for value, _ in pairs]
    sealed = list(pair.short.encrypt_many(pairs))
    opened = list(pair.short.decrypt_many(list(zip(sealed, each, strict=True))))
    assert opened == [value for value, _ in pairs]
    stats = pair.cache.stats()
    assert (stats.calls, stats.hits - before) == (2, 4 * len(pairs))
    many = steps(lambda: list(pair.short.encrypt_many(pairs)))
    long = steps(lambda: [pair.long.encrypt(*one[:1], context=one[1]) for one in pairs])
    assert many < long


# --- the same errors


class Shouting(str):
    """Not what it says it is equal to."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("acme")


class Cursive(str):
    """Its UTF-8 is not that of its characters."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"other"


def odd_contexts() -> dict[str, Any]:
    return {
        "none": None,
        "text": "table=users",
        "a list": [("table", "users")],
        "empty": {},
        "nothing bound": sealwax.NO_CONTEXT,
        "any stored one": sealwax.AcceptStoredContext({"id": "7"}),
        "a number as a value": {**CONTEXT, "tenant": 7},
        "a number as a name": {**CONTEXT, 7: "tenant"},
        "no hash": {**CONTEXT, "tenant": []},
        "a number as a local value": {**CONTEXT, "id": 7},
        "bytes as a local value": {**CONTEXT, "id": b"7"},
        "an empty name": {**CONTEXT, "": "x"},
        "a surrogate": {**CONTEXT, "tenant": "\ud800"},
        "a surrogate in a local value": {**CONTEXT, "id": "\ud800"},
        "a surrogate in a name": {**CONTEXT, "\udfff": "x"},
        "too large": {**CONTEXT, "tenant": "x" * 9000},
        "a local value that is too large": {**CONTEXT, "id": "x" * 8187},
        "the largest local value": {**CONTEXT, "id": "x" * 8184},
        "too many pairs": {f"name{number}": "x" for number in range(65)},
        "names that differ in case": {**CONTEXT, "Tenant": "acme"},
        "names that differ in folded case": {"stra\N{LATIN SMALL LETTER SHARP S}e": "1", "STRASSE": "2"},
        "a pair less": {"table": "users", "id": "7"},
        "no local pair": KMS_PART,
        "another value": {**CONTEXT, "tenant": "other"},
        "another local value": {**CONTEXT, "id": "8"},
        "a pair more": {**CONTEXT, "more": "x"},
        "a subclass": {**CONTEXT, "tenant": Shouting("other")},
        "a subclass as a local value": {**CONTEXT, "id": Cursive("7")},
        "a subclass as a value": {**CONTEXT, "tenant": Cursive("acme")},
        "a subclass as a name": {Cursive("table"): "users", "tenant": "acme", "id": "7"},
    }


@pytest.mark.parametrize("which", odd_contexts())
def test_whatever_the_context_is_both_ways_come_to_the_same_end(which: str) -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    context = odd_contexts()[which]
    long, short = ends(lambda sealer: sealer.encrypt(b"x", context=context), pair)
    if isinstance(long, bytes):
        assert isinstance(short, bytes)
        assert but_for_randomness(long) == but_for_randomness(short) or envelope.inspect(short).context != KMS_PART
        assert envelope.inspect(long).context == envelope.inspect(short).context
        long, short = (outcome(lambda: pair.long.decrypt(one, context=context)) for one in (long, short))  # noqa: B023
    assert long == short
    long, short = ends(lambda sealer: sealer.decrypt(sealed, context=context), pair)
    assert long == short


def test_contexts_whose_names_differ_in_case_alone_still_open() -> None:
    """No new envelope is bound to one; other programs may have made some, and these open, if in more steps."""
    pair = Pair()
    context = {"Table": "a", "table": "b"}
    # A data key may be held for it all the same, for whoever asks a keyring himself.
    pair.cache.generate(context, lambda _, keys: keys, plaintext_bytes=1)
    for _ in range(3):
        with pytest.raises(sealwax.ContextError, match="upper and lower case"):
            pair.short.encrypt(b"x", context=context)
    encoded, drawn = ctx.encode(context), os.urandom(16)
    info = payload.info(1, drawn, encoded, ctx.EMPTY)

    def seal(key: DataKey, keys: tuple[WrappedKey, ...]) -> bytes:
        return payload.encrypt(payload.Encryptor(key, info), hdr.new_header(drawn, encoded, 0, keys, 1, 1), b"x")

    sealed = FakeKeyring().generate(context, seal)
    for _ in range(3):
        assert pair.short.decrypt(sealed, context=context) == b"x"
    assert pair.cache.stats().calls == 2


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x"), memoryview(b"xyz")[::2], "x", None, 7])
def test_whatever_the_value_is_both_ways_come_to_the_same_end(value: Any) -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    long, short = (
        pair.long.decrypt(end, context=CONTEXT) if isinstance(end, bytes) else end
        for end in ends(lambda sealer: sealer.encrypt(value, context=CONTEXT), pair)
    )
    assert long == short
    for kind in (bytes, bytearray, memoryview):
        assert pair.short.decrypt(kind(sealed), context=CONTEXT) == b"warm"
    long, short = ends(lambda sealer: sealer.decrypt(value, context=CONTEXT), pair)
    assert long == short


def test_every_changed_byte_of_an_envelope_ends_as_the_long_way_does() -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    assert pair.short.decrypt(sealed, context=CONTEXT) == b"warm"
    errors: Counter[str] = Counter()
    for at in range(len(sealed)):
        altered = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        for one in (altered, with_checksums(altered), sealed[:at]):
            long, short = ends(lambda sealer: sealer.decrypt(one, context=CONTEXT), pair)  # noqa: B023
            assert long == short, at
            errors[long[0].__name__ if isinstance(long, tuple) else "opens"] += 1
    assert errors.total() == 3 * len(sealed)
    # What opens is altered where nothing depends on it, and has the right checksums.
    assert errors.pop("opens") < 0.2 * len(sealed)
    expected = {"TamperedError", "CommitmentError", "DamagedHeaderError", "NotAnEnvelopeError", "ContextError"}
    assert expected <= set(errors)


@settings(max_examples=100, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=3),
    more=st.binary(max_size=3),
)
def test_forged_headers_end_as_the_long_way_does(edits: list[tuple[int, int]], more: bytes) -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    pair.short.decrypt(sealed, context=CONTEXT)
    forged = bytearray(sealed + more)
    for at, byte in edits:
        forged[at % len(sealed)] = byte
    one = with_checksums(bytes(forged))
    long, short = ends(lambda sealer: sealer.decrypt(one, context=CONTEXT), pair)
    assert long == short


def test_both_checksums_are_checked_each_time() -> None:
    """Though the bytes between them were read before."""
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    assert pair.short.decrypt(sealed, context=CONTEXT) == b"warm"
    preamble = envelope.header_of_value(sealed).preamble
    checksums = (hdr.FIXED_BYTES + len(preamble.kms_context), preamble.payload_offset - 4)
    for at in checksums:
        altered = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        with pytest.raises(sealwax.DamagedHeaderError):
            pair.short.decrypt(altered, context=CONTEXT)
        assert pair.few_steps.decrypt(altered, CONTEXT) is None


def test_a_header_of_the_other_kind_is_refused_each_time() -> None:
    pair = Pair()
    head, body = pair.short.encrypt_detached(b"x", context=CONTEXT)
    for _ in range(3):
        assert pair.short.decrypt(body, context=CONTEXT, header=head) == b"x"
        with pytest.raises(sealwax.DamagedHeaderError, match="detached header"):
            pair.short.decrypt(head + body, context=CONTEXT)


def test_two_slots_are_both_looked_at_however_small_they_are() -> None:
    """The newer one counts, and not the one that a header of the same bytes but for it was opened with."""
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    assert pair.short.decrypt(sealed, context=CONTEXT) == b"warm"
    header = envelope.header_of_value(sealed)
    body = sealed[header.preamble.payload_offset :]
    two = replace(header.preamble, slot_count=2)
    newer = replace(header.slot, sequence=2)
    unknown = replace(newer, wrapped_keys=(replace(header.slot.wrapped_keys[0], provider=2),))
    for slots, opens in (
        ((header.slot, newer), True),
        ((header.slot, unknown), False),
        ((unknown, header.slot), False),
    ):
        one = hdr.Header(two, slots).to_bytes() + body
        long, short = ends(lambda sealer: sealer.decrypt(one, context=CONTEXT), pair)  # noqa: B023
        assert long == short
        assert (long == b"warm") == opens
        assert pair.few_steps.decrypt(one, CONTEXT) is None


# --- what the caller changes between calls


def test_a_map_that_changes_between_calls_is_bound_as_it_is_then() -> None:
    pair = Pair()
    pair.warm(CONTEXT)
    context = dict(CONTEXT)
    for tenant in ("acme", "other", "acme", "third"):
        for number in ("7", "8"):
            context["tenant"], context["id"] = tenant, number
            sealed = pair.short.encrypt(b"x", context=context)
            assert envelope.inspect(sealed).context == {"table": "users", "tenant": tenant}
            assert pair.long.decrypt(sealed, context={"table": "users", "tenant": tenant, "id": number}) == b"x"
            context["id"] = "9"
            with pytest.raises(CommitmentError):
                pair.short.decrypt(sealed, context=context)
            context["tenant"] = "fourth"
            with pytest.raises(sealwax.ContextError, match="a different value of 'tenant'"):
                pair.short.decrypt(sealed, context=context)


@pytest.mark.parametrize("odd", [Shouting("other"), Cursive("acme")])
def test_a_str_that_is_not_what_it_seems_is_bound_as_it_is_written(odd: str) -> None:
    pair = Pair()
    pair.warm(CONTEXT)
    written = odd.encode().decode()
    for _ in range(3):
        sealed = pair.short.encrypt(b"x", context={**CONTEXT, "tenant": odd})
        assert envelope.inspect(sealed).context["tenant"] == written


# --- the bounds


def forged_headers(sealed: bytes, count: int) -> list[bytes]:
    """Envelopes whose headers differ from one that opens in bytes that nothing authenticates, all with checksums."""
    header = envelope.header_of_value(sealed)
    offset = header.preamble.payload_offset
    made = []
    for number in range(count):
        slot = replace(header.slot, sequence=number + 2)
        if number % 2:
            keys = (*header.slot.wrapped_keys, WrappedKey(f"{ALPHA}{number}", os.urandom(200), provider=2))
            slot = replace(slot, wrapped_keys=keys)
        laid_out = hdr.lay_out(
            envelope_id=header.preamble.envelope_id,
            kms_context=header.preamble.kms_context,
            local_pairs=header.preamble.local_pairs,
            wrapped_keys=slot.wrapped_keys,
            slot_count=1,
            sequence=slot.sequence,
        )
        made.append(laid_out.to_bytes() + sealed[offset:])
    return made


def test_an_attackers_headers_fill_no_memory() -> None:
    def entries() -> int:
        gc.collect()
        return sum(type(one) is CacheEntry for one in gc.get_objects())

    capacity = 20
    before = entries()
    pair = Pair(capacity=capacity)
    sealed = pair.warm(CONTEXT)
    opened = 0
    for one in forged_headers(sealed, 400):
        assert pair.short.decrypt(one, context=CONTEXT) == b"warm"
        assert pair.short.decrypt(one, context=CONTEXT) == b"warm"
        opened += 1
    # And as many that no key opens, so that no data key of theirs is held.
    for _ in range(400):
        forged = FakeKeyring(BETA).generate(
            KMS_PART, lambda _, keys: hdr.new_header(os.urandom(16), ctx.encode(KMS_PART), 1, keys, 1, 1)
        )
        with pytest.raises(sealwax.KmsError):
            pair.short.decrypt(forged + sealed[-80:], context=CONTEXT)
    assert opened == 400
    assert len(pair.cache.stats().entries) == capacity
    marked = pair.cache._held.marked
    assert 0 < len(marked) <= capacity
    # Each of them has the mark that it is found by, and no other: nothing else is kept.
    assert all(entry.mark is mark for mark, entry in marked.items())
    assert all(len(mark[0]) <= hdr.OUTLINED_BYTES for mark in marked if isinstance(mark, tuple))
    assert entries() - before <= capacity


def test_a_large_header_is_never_remembered() -> None:
    pair = Pair()
    context = {"table": "x" * 2000}
    sealed = pair.warm(context)
    assert envelope.header_of_value(sealed).preamble.payload_offset > hdr.OUTLINED_BYTES
    marked = len(pair.cache._held.marked)
    for _ in range(3):
        assert pair.short.decrypt(sealed, context=context) == b"warm"
    assert pair.few_steps.decrypt(sealed, context) is None
    assert len(pair.cache._held.marked) == marked


def remembered(cache: sealwax.CachingKeyring) -> int:
    return len(cache._held.marked)


@pytest.mark.parametrize("end", ["close", "clear", "evict", "expire"])
def test_what_is_remembered_goes_with_its_data_key(end: str) -> None:
    clock = Clock()
    pair = Pair(max_age=60, capacity=2, clocks=clock)
    context = {"table": f"goes-with-{end}", "id": "a-local-value"}
    sealed = pair.warm(context)
    pair.short.encrypt(b"x", context=context)
    pair.short.decrypt(sealed, context=context)
    assert remembered(pair.cache) == 2
    if end == "close":
        pair.cache.close()
    elif end == "clear":
        pair.cache.clear()
    elif end == "evict":
        for other in ("one", "two"):
            pair.long.encrypt(b"x", context={"table": other, "id": "7"})
    else:
        clock.advance(61)
        pair.cache._held.wipe_old()
    assert remembered(pair.cache) == 0
    del sealed
    gc.collect()
    pairs = frozenset({("table", context["table"])})
    assert not [one for one in gc.get_objects() if type(one) is CacheEntry and one.identity[1] == pairs]  # type: ignore[index]


def test_a_local_context_is_not_remembered_at_all() -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    secret = "".join(("a local", " value of ", "its own"))
    context = {**CONTEXT, "id": secret}
    pair.short.decrypt(pair.short.encrypt(b"x", context=context), context=context)
    assert pair.short.decrypt(sealed, context=CONTEXT) == b"warm"

    def holds(thing: object) -> bool:
        if isinstance(thing, str | bytes):
            return secret in thing if isinstance(thing, str) else secret.encode() in thing
        if isinstance(thing, hdr.HeaderTemplate):
            return any(holds(getattr(thing, name)) for name in hdr.HeaderTemplate.__slots__)
        return isinstance(thing, tuple | frozenset) and any(map(holds, thing))

    entries = list(pair.cache._held.marked.values())
    assert len(entries) == 2
    assert not any(holds(part) for one in entries for part in (one.mark, one.note, one.identity))


@settings(max_examples=10, deadline=None)
@given(max_messages=st.integers(2, 9), max_bytes=st.integers(20, 90), size=st.integers(0, 9))
def test_the_bounds_hold_exactly_in_few_steps_too(max_messages: int, max_bytes: int, size: int) -> None:
    pair = Pair(max_messages=max_messages, max_bytes=max_bytes)
    sealed: list[bytes] = []

    def work(_: int) -> None:
        sealed.extend(pair.short.encrypt(bytes(size), context=CONTEXT) for _ in range(12))

    in_threads(8, work)
    served = Counter(envelope.inspect(one).wrapped_keys for one in sealed)
    most = min(max_messages, max_bytes // size if size else max_messages)
    assert len(sealed) == sum(served.values()) == 96
    assert max(served.values()) <= most
    assert len(served) == pair.cache.stats().calls == -(-96 // most)


def test_loans_are_counted_and_told_of_as_before() -> None:
    """Statistics and events are those of the long way."""
    told: dict[str, list[object]] = {"short": [], "long": []}
    pairs = {name: Pair(on_event=events.append) for name, events in told.items()}
    for name, pair in pairs.items():
        sealer = getattr(pair, name)
        sealed = [sealer.encrypt(bytes(number), context=CONTEXT) for number in range(20)]
        assert [len(sealer.decrypt(one, context=CONTEXT)) for one in sealed] == list(range(20))
        for refused in (sealed[0][:-1], sealed[0][:-1] + b"\0"):
            outcome(lambda: sealer.decrypt(refused, context=CONTEXT))  # noqa: B023
        outcome(lambda: sealer.decrypt(sealed[0], context={**CONTEXT, "id": "8"}))  # noqa: B023
        outcome(lambda: sealer.decrypt(sealed[0], context={**CONTEXT, "tenant": "other"}))  # noqa: B023
    assert pairs["short"].cache.stats() == pairs["long"].cache.stats()
    assert told["short"] == told["long"]
    assert told["short"].count(CacheLookup("hit", decrypting=False)) == 19


def test_a_data_key_is_lent_no_longer_than_its_age_and_replaced_before() -> None:
    clock = Clock()
    pair = Pair(max_age=100, clocks=clock)
    keys = set()
    for _ in range(400):
        clock.advance(1)
        sealed = pair.short.encrypt(b"x", context=CONTEXT)
        key = envelope.inspect(sealed).wrapped_keys
        born = pair.cache._held.entries[next(iter(pair.cache._held.entries))].monotonic
        assert clock.monotonic - born < 100
        keys.add(key)
        for thread in threading.enumerate():
            if thread.name == "sealwax-refresh":
                thread.join(30)
    assert pair.cache.stats().refreshes == pair.cache.stats().calls - 1 == len(keys) - 1 > 2


def test_a_machine_that_slept_asks_again() -> None:
    clock = Clock()
    pair = Pair(max_age=3600, clocks=clock)
    sealed = pair.warm(CONTEXT)
    for _ in range(2):
        pair.short.encrypt(b"x", context=CONTEXT)
        pair.short.decrypt(sealed, context=CONTEXT)
    assert pair.cache.stats().calls == 2
    clock.wall += 6
    pair.short.encrypt(b"x", context=CONTEXT)
    pair.short.decrypt(sealed, context=CONTEXT)
    assert pair.cache.stats().calls == 4


def test_a_cache_that_is_cleared_under_a_loan_wipes_the_key_after_it() -> None:
    """The note of what was lent is still read then."""
    clearing = False

    def watch(_: object) -> None:
        if clearing:
            pair.cache.clear()

    pair: Pair = Pair(on_event=watch)
    sealed = pair.warm(CONTEXT)
    pair.short.encrypt(b"x", context=CONTEXT)
    pair.short.decrypt(sealed, context=CONTEXT)
    held = [entry.key for entry in pair.cache._held.marked.values()]
    clearing = True
    again = pair.short.encrypt(b"x", context=CONTEXT)
    assert not pair.cache._held.marked
    clearing = False
    assert pair.long.decrypt(again, context=CONTEXT) == b"x"
    for key in held:
        with pytest.raises(ValueError, match="wiped"):
            key.buffer  # noqa: B018


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork], ids=["ordinary", "behind Python's back"])
def test_a_closed_cache_refuses_and_a_forked_child_asks_again(fork: Callable[[], int]) -> None:
    pair = Pair()
    sealed = pair.warm(CONTEXT)
    pair.short.encrypt(b"x", context=CONTEXT)
    pair.short.decrypt(sealed, context=CONTEXT)
    assert remembered(pair.cache) == 2

    def work(told: dict[str, Any]) -> None:
        again = pair.short.encrypt(b"child", context=CONTEXT)
        told["opened"] = pair.short.decrypt(again, context=CONTEXT).decode()
        told["calls"] = pair.cache.stats().calls
        told["other key"] = envelope.inspect(again).wrapped_keys != envelope.inspect(sealed).wrapped_keys

    assert in_child(work, fork=fork) == {"opened": "child", "calls": 4, "other key": True, "status": 0}
    pair.cache.close()
    with pytest.raises(ValueError, match="closed"):
        pair.short.encrypt(b"x", context=CONTEXT)
    with pytest.raises(ValueError, match="closed"):
        pair.short.decrypt(sealed, context=CONTEXT)


def test_a_data_key_that_was_given_up_meanwhile_is_not_marked() -> None:
    pair = Pair()
    pair.warm(CONTEXT)
    ready, pairs = pair.cache._ready(), frozenset(KMS_PART.items())
    entry = ready.find("mark", pairs)
    assert entry is not None
    pair.cache.clear()
    ready.mark(entry, "mark", None)
    assert (remembered(pair.cache), ready.take("mark", 1), ready.find("mark", pairs)) == (0, None, None)


def test_what_stands_before_a_cache_or_is_made_of_one_sees_each_loan() -> None:
    seen: list[str] = []

    class Watching(sealwax.CachingKeyring):
        def unwrap(self, *args: Any, **kwargs: Any) -> Any:
            seen.append("unwrap")
            return super().unwrap(*args, **kwargs)

    class Proxy(Passing):
        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    patched = sealwax.CachingKeyring(FakeKeyring(), max_age=60)
    patches = sealwax.Sealer(patched)
    original = patched.unwrap

    def note(*args: Any, **kwargs: Any) -> Any:
        seen.append("patch")
        return original(*args, **kwargs)

    patched.unwrap = note  # type: ignore[method-assign]
    watching = sealwax.Sealer(Watching(FakeKeyring(), max_age=60))
    proxy = Proxy(sealwax.CachingKeyring(FakeKeyring(), max_age=60))
    behind = sealwax.Sealer(proxy)
    for sealer in (watching, behind, patches):
        sealed = [sealer.encrypt(b"x", context=CONTEXT) for _ in range(5)]
        assert [sealer.decrypt(one, context=CONTEXT) for one in sealed] == [b"x"] * 5
        assert list(sealer.decrypt_many([(one, CONTEXT) for one in sealed])) == [b"x"] * 5
    assert seen == ["unwrap"] * 10 + ["patch"] * 10
    assert Counter(proxy.asked) == {"generate": 5, "unwrap": 10}


def test_threads_that_seal_for_many_tenants_bind_each_value_to_its_own() -> None:
    pair = Pair(capacity=12)  # fewer than are used, so that entries come and go meanwhile
    count = 0

    def work(index: int) -> None:
        nonlocal count
        for number in range(60):
            context = {"table": "users", "tenant": f"t{(index * 7 + number // 4) % 10}", "id": str(number)}
            sealed = pair.short.encrypt(str(number).encode(), context=context)
            assert envelope.inspect(sealed).context["tenant"] == context["tenant"]
            assert pair.short.decrypt(sealed, context=context) == str(number).encode()
            with pytest.raises(CommitmentError):
                pair.short.decrypt(sealed, context={**context, "id": "other"})
            count += 1

    in_threads(6, work)
    assert count == 360
    assert pair.cache.stats().evictions > 0
    assert remembered(pair.cache) <= 12


# --- nothing is left


def test_rooms_for_derived_keys_are_wiped_and_not_shown_by_an_error() -> None:
    secret = bytearray(os.urandom(32))
    kms, local = payload.framed(ctx.EMPTY), ctx.EMPTY
    with DataKey(secret) as key:
        sealed = payload.seal_small(key, (), bytes(16), bytes(24), kms, local, b"text")
        assert payload.open_small(key, bytes(16), kms, local, sealed, 0) == b"text"
        altered = sealed[:-1] + bytes((sealed[-1] ^ 1,))
        for one, error in ((altered, TamperedError), (altered[:30] + b"\0" + altered[31:], CommitmentError)):
            with pytest.raises(error) as caught:
                payload.open_small(key, bytes(16), kms, local, one, 0)
            frame = caught.tb.tb_next and caught.tb.tb_next.tb_frame
            assert frame is not None
            assert frame.f_code.co_name == "open_small"
            room = frame.f_locals["room"]
            assert not any(room.derived)
            assert all(room is not free for free in payload._rooms)
            assert not any(isinstance(value, AESGCM) for value in frame.f_locals.values())
        payload.seal_small(key, (), bytes(16), bytes(24), kms, local, b"text")
    assert payload._rooms
    assert not any(any(room.derived) for room in payload._rooms)
    wipe(secret)
