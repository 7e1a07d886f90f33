"""The rules that plans and runs follow: what is stale, what is to be done with it, which contexts are meant."""

from __future__ import annotations

import math
from typing import Any

import pytest

import sealwax
from sealwax import WrappedKey, fleet
from sealwax._core.format.header import Header, Preamble, Slot
from sealwax._core.staleness import Wanted, WantedKey, staleness_of
from sealwax.fleet import _decision, _shard
from sealwax.fleet._settings import Contexts, Settings
from sealwax.fleet._state import State, StepKind
from sealwax.stores._store import relative
from tests.fakes import ALPHA, BETA, GAMMA

FAR = ALPHA.replace("us-east-1", "eu-west-1")
# One multi-Region key, and its replica.
MULTI = "arn:aws:kms:us-east-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
REPLICA = MULTI.replace("us-east-1", "eu-west-1")
OLD, NEW = bytes(32), b"\1" * 32


def header(*keys: WrappedKey, unfinished: bool = False) -> Header:
    preamble = Preamble(1, 2, 4096, 4096, bytes(16), 0, sealwax._core.context.encode({"a": "b"}))
    slot = Slot(1, keys)
    return Header(preamble, (slot, Slot(2, keys) if unfinished else slot))


def key(arn: str, material: bytes = NEW, at: int = 100, blob: bytes = b"blob", provider: int = 1) -> WrappedKey:
    return WrappedKey(arn, blob, material, at, provider)


@pytest.mark.parametrize(
    ("found", "wanted", "reasons", "missing"),
    [
        (header(key(ALPHA)), Wanted((WantedKey(ALPHA, NEW),)), (), ()),
        (header(key(ALPHA)), Wanted((WantedKey(BETA),)), ("keys",), ()),
        (header(key(ALPHA), key(BETA)), Wanted((WantedKey(ALPHA),)), ("keys",), ()),
        (header(key(ALPHA)), Wanted((WantedKey(ALPHA), WantedKey(FAR))), ("keys",), ("eu-west-1",)),
        (header(key(ALPHA, OLD)), Wanted((WantedKey(ALPHA, NEW),)), ("material",), ()),
        (header(key(ALPHA, OLD)), Wanted((WantedKey(ALPHA),)), (), ()),
        # A wrapped key that names no material: old where it was wrapped before the last rotation.
        (header(key(ALPHA, b"")), Wanted((WantedKey(ALPHA, NEW),)), (), ()),
        (header(key(ALPHA, b"")), Wanted((WantedKey(ALPHA, NEW, 100),)), (), ()),
        (header(key(ALPHA, b"")), Wanted((WantedKey(ALPHA, NEW, 101),)), ("material",), ()),
        (header(key(ALPHA)), Wanted((WantedKey(ALPHA),), 100), (), ()),
        (header(key(ALPHA)), Wanted((WantedKey(ALPHA),), 101), ("age",), ()),
        (header(key(ALPHA, at=0)), Wanted((WantedKey(ALPHA),), 1), ("age",), ()),
        (header(key(ALPHA), unfinished=True), Wanted((WantedKey(ALPHA),)), ("unfinished",), ()),
        # Another provider's wrapped key is kept by a re-wrap, and makes nothing stale.
        (header(key(ALPHA), key("theirs", provider=9)), Wanted((WantedKey(ALPHA),)), (), ()),
        # A replica is another key: what is to be under it is not yet so under its related key.
        (header(key(MULTI)), Wanted((WantedKey(REPLICA, NEW),)), ("keys",), ("eu-west-1",)),
        (header(key(BETA, OLD, 1), unfinished=True), Wanted((WantedKey(ALPHA),), 50), ("keys", "unfinished"), ()),
    ],
)
def test_what_is_stale(found: Header, wanted: Wanted, reasons: tuple[str, ...], missing: tuple[str, ...]) -> None:
    verdict = staleness_of(found, wanted)
    assert (verdict.reasons, verdict.missing_regions, verdict.stale) == (reasons, missing, bool(reasons))
    assert str(verdict).startswith("yes: " if reasons else "no")


def settings(sources: list[str], to: list[str], **more: Any) -> Settings:
    keys = tuple(WantedKey(arn, NEW) for arn in to)
    return Settings(tuple(sources), Wanted(keys), Contexts(accept_stored=True), **more)


@pytest.mark.parametrize(
    ("found", "sources", "to", "steps"),
    [
        ([key(ALPHA)], [ALPHA], [BETA], [("rewrap", BETA, ALPHA)]),
        ([key(ALPHA)], [ALPHA], [BETA, GAMMA], [("rewrap", BETA, ALPHA), ("rewrap", GAMMA, ALPHA)]),
        # Fresh already: kept, where KMS is asked for another one anyway.
        ([key(ALPHA), key(BETA)], [ALPHA], [BETA, GAMMA], [("keep", BETA, BETA), ("rewrap", GAMMA, ALPHA)]),
        # And not trusted, where it would be all that is left.
        ([key(ALPHA), key(BETA)], [ALPHA], [BETA], [("rewrap", BETA, ALPHA)]),
        ([key(ALPHA, OLD)], [ALPHA], [ALPHA], [("rewrap", ALPHA, ALPHA)]),
        # What another provider calls by a wanted key's name is not that key's.
        (
            [key(ALPHA), key(BETA, provider=9)],
            [ALPHA],
            [BETA, GAMMA],
            [("rewrap", BETA, ALPHA), ("rewrap", GAMMA, ALPHA)],
        ),
        # Each in its own Region.
        (
            [key(ALPHA, OLD), key(FAR, OLD)],
            [ALPHA, FAR],
            [ALPHA, FAR],
            [("rewrap", ALPHA, ALPHA), ("rewrap", FAR, FAR)],
        ),
        ([key(ALPHA), key(FAR)], [ALPHA], [BETA, FAR], [("rewrap", BETA, ALPHA), ("keep", FAR, FAR)]),
        # A replica re-wraps in its Region what its related key wrapped in another.
        ([key(MULTI)], [REPLICA], [FAR], [("rewrap", FAR, MULTI)]),
        ([key(MULTI)], [REPLICA], [REPLICA], [("rewrap", REPLICA, MULTI)]),
        ([key(MULTI)], [REPLICA, MULTI], [FAR, ALPHA], [("rewrap", FAR, MULTI), ("rewrap", ALPHA, MULTI)]),
    ],
)
def test_what_is_to_be_done(
    found: list[WrappedKey], sources: list[str], to: list[str], steps: list[tuple[str, str, str]]
) -> None:
    work = _decision.decide(header(*found), settings(sources, to), "a")
    assert work.state == "stale"
    assert [(step.kind, step.target, step.sources[0].key_arn) for step in work.steps] == steps


@pytest.mark.parametrize(
    ("found", "sources", "to", "why"),
    [
        ([key(ALPHA)], [BETA], [GAMMA], "not under a source key of the plan"),
        ([key(ALPHA), key(BETA)], [GAMMA], [BETA], "not under a source key of the plan"),
        ([key(ALPHA)], [ALPHA], [BETA, FAR], "it is not wrapped under a source key in eu-west-1"),
        ([key(MULTI)], [MULTI.replace("0123", "3210")], [ALPHA], "not under a source key of the plan"),
        ([key(MULTI)], [MULTI.replace("111122223333", "999999999999")], [ALPHA], "not under a source key of the plan"),
    ],
)
def test_what_is_refused(found: list[WrappedKey], sources: list[str], to: list[str], why: str) -> None:
    work = _decision.decide(header(*found), settings(sources, to), "a")
    assert work.state == "refused"
    assert why in work.reason


class OneEnvelope:
    """A store of one envelope, which keeps what it is re-wrapped to."""

    location = "s3://bucket/"

    def __init__(self, *keys: WrappedKey) -> None:
        self.header = header(*keys)

    def rewrap(self, _: str, new_keys: Any, *, size: int | None = None) -> None:  # noqa: ARG002  the protocol
        self.header = header(*new_keys(self.header, lambda: b""))


class Followed:
    """Wraps for each wanted key, whatever it is asked."""

    def wrapped_key_for(self, kind: StepKind, target: str, sources: Any, *_: Any) -> WrappedKey:
        return sources[0] if kind == StepKind.KEEP else key(target, blob=b"new")


@pytest.mark.parametrize(
    ("found", "sources", "to"),
    [
        ([key(ALPHA)], [ALPHA], [BETA]),
        ([key(ALPHA), key(BETA)], [ALPHA], [BETA, GAMMA]),
        ([key(ALPHA)], [ALPHA], [BETA, FAR]),
    ],
)
def test_what_another_provider_wrapped_is_kept(found: list[WrappedKey], sources: list[str], to: list[str]) -> None:
    """Nobody here can judge it, and it may be the last that opens the data."""
    theirs = [key("theirs", b"id", 7, b"their blob", provider=9), key(ALPHA, b"", 0, b"like ours", provider=200)]
    store: Any = OneEnvelope(theirs[0], *found, theirs[1])
    rewrapper: Any = Followed()
    (result,) = _shard.rewrap([_shard.Item(1, "a")], settings(sources, to, add_regions=True), store, rewrapper)
    assert result.state == State.REWRAPPED
    made = store.header.slot.wrapped_keys
    assert [each.key_arn for each in made] == [*to, "theirs", ALPHA]
    assert list(made[-2:]) == theirs
    assert result.keys == _shard.keys_of(made)
    # And once more there is nothing to do.
    (result,) = _shard.rewrap([_shard.Item(1, "a")], settings(sources, to, add_regions=True), store, rewrapper)
    assert result.state == State.FRESH


def test_one_envelope_costs_at_most_three_attempts() -> None:
    sources = [f"{ALPHA[:-2]}{at:02x}" for at in range(9)]
    work = _decision.decide(header(*(key(arn) for arn in sources)), settings(sources, [BETA]), "a")
    assert [len(step.sources) for step in work.steps] == [3]


def test_a_region_is_added_from_each_wrapped_key_once() -> None:
    third = "ap-southeast-2"
    chosen = settings([REPLICA, MULTI], [ALPHA.replace("us-east-1", third)], add_regions=True)
    (step,) = _decision.decide(header(key(MULTI), key(REPLICA)), chosen, "a").steps
    assert (step.kind, [source.key_arn for source in step.sources]) == ("add", [MULTI, REPLICA])


@pytest.mark.parametrize(
    ("pairs", "accept", "stored", "refusal"),
    [
        ({"a": "b"}, False, {"a": "b"}, None),
        ({"a": "b"}, False, {"a": "c"}, "a different value of 'a'"),
        ({"a": "b"}, False, {"a": "b", "x": "y"}, "extra name 'x'"),
        ({"a": "b"}, True, {"a": "b", "x": "y"}, None),
        ({"a": "b", "x": "*"}, False, {"a": "b"}, "lacks 'x'"),
        ({"a": "*"}, False, {"a": "line\nline"}, None),
        ({"a": "b*d"}, False, {"a": "bcd"}, None),
        ({"a": "b*d"}, False, {"a": "bcde"}, "a different"),
        ({"a": "*b*"}, False, {"a": "abc"}, None),
        ({"a": "a*bc*bcd"}, False, {"a": "abcbcbcd"}, None),
        ({"a": "a*bc*bcd"}, False, {"a": "abcd"}, "a different"),
        ({"a": "**"}, False, {"a": ""}, None),
        # Tried in every possible way, it would take hours.
        ({"a": "*/*/*/*/*x"}, False, {"a": "/" * 8000}, "a different"),
        ({"a": r"b\*"}, False, {"a": "b*"}, None),
        ({"a": r"b\*"}, False, {"a": "bc"}, "a different"),
        ({"a": "b.d"}, False, {"a": "bcd"}, "a different"),
        ({}, False, {}, None),
        ({}, False, {"a": "b"}, "extra name 'a'"),
        ({}, True, {"a": "b"}, None),
        ({"file": "{relpath}"}, False, {"file": "x/y*.txt"}, None),
        ({"file": "{name}"}, False, {"file": "y*.txt"}, None),
        ({"file": "data/{name}"}, False, {"file": "data/other"}, "a different"),
    ],
)
def test_which_contexts_are_meant(
    pairs: dict[str, str], accept: bool, stored: dict[str, str], refusal: str | None
) -> None:
    found = Contexts(tuple(pairs.items()), accept).refusal(stored, "x/y*.txt.swx")
    assert (found is None) == (refusal is None)
    assert refusal is None or (found is not None and refusal in found)


def test_settings_survive_the_plan_file() -> None:
    chosen = Settings(
        (ALPHA, FAR), Wanted((WantedKey(BETA, NEW, 7),), 9), Contexts((("a", "*"),), True, ".x"), add_regions=True
    )
    assert Settings.from_dict(chosen.as_dict()) == chosen
    damages: tuple[dict[str, Any], ...] = (
        {"wanted": []},
        {"sources": ["alias/x"]},
        {"wrapped_since": "x"},
        {"contexts": [1]},
    )
    for damage in damages:
        with pytest.raises((ValueError, TypeError)):
            Settings.from_dict(chosen.as_dict() | damage)


@pytest.mark.parametrize(
    ("name", "location", "below"),
    [
        ("/a/b/c.swx", "/a", "b/c.swx"),
        ("s3://bucket/p/x", "s3://bucket/p/", "x"),
        ("/a/c", "/a/c", "c"),
        ("s3://bucket/p/x", "s3://bucket/p", "x"),
        ("s3://bucket/p//x", "s3://bucket/p/", "/x"),
        ("s3://bucket/p//x", "s3://bucket/p", "/x"),
        ("s3://bucket/a/b/x", "s3://lists/daily/manifest.json", "a/b/x"),
    ],
)
def test_the_path_below_a_place(name: str, location: str, below: str) -> None:
    assert relative(name, location) == below


def test_what_cannot_be_asked_for() -> None:
    impossible: tuple[dict[str, Any], ...] = (
        {"sources": []},
        {"to": []},
        {"to": "alias/x"},
        *({name: number} for name in ("older_than", "rate") for number in (0, math.nan, math.inf)),
    )
    for more in impossible:
        options: dict[str, Any] = {"sources": [ALPHA], "to": [BETA], "contexts": Contexts()}
        with pytest.raises(ValueError, match=r"^(sources and to|older_than|rate) must "):
            fleet.plan("never.plan", ["."], **options | more)
    for name in ("max_error_rate", "max_duration"):
        for number in (-1, math.nan, math.inf):
            given: dict[str, Any] = {name: number}
            with pytest.raises(ValueError, match=rf"^{name} must be at least 0"):
                fleet.run("never.plan", **given)


def test_a_region_that_is_added_costs_at_most_three_attempts() -> None:
    sources = [f"{ALPHA[:-2]}{at:02x}" for at in range(9)]
    found = header(*(key(arn) for arn in sources))
    work = _decision.decide(found, settings(sources, [FAR], add_regions=True), "a")
    assert [(step.kind, len(step.sources)) for step in work.steps] == [("add", 3)]


def test_calls_are_shared_only_where_everything_is_the_same() -> None:
    """What a call is named by has all that its answer depends on, and each part with its end."""
    one, two = key(ALPHA, blob=b"one"), key(GAMMA, blob=b"two")
    step = _decision.Step(BETA, StepKind.REWRAP, (one, two))
    others = [
        (step, b"d"),
        (_decision.Step(GAMMA, StepKind.REWRAP, (one, two)), b"c"),
        (_decision.Step(BETA, StepKind.ADD, (one, two)), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (one,)), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (two, one)), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (one, key(GAMMA, blob=b"three"))), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (one, key(FAR, blob=b"two"))), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (key(FAR, blob=b"one"), two)), b"c"),
        (_decision.Step(BETA, StepKind.REWRAP, (key(ALPHA + "o", blob=b"ne"), two)), b"c"),
        (_decision.Step(BETA + "c", StepKind.REWRAP, (one, two)), b""),
    ]
    units = {each.unit(context) for each, context in others}
    assert len(units) == len(others)
    assert step.unit(b"c") not in units
    # When it was wrapped, and under what material, is a claim, and changes no answer.
    assert _decision.Step(BETA, StepKind.REWRAP, (key(ALPHA, OLD, 7, b"one"), two)).unit(b"c") == step.unit(b"c")


@pytest.mark.parametrize(
    ("preamble", "why"),
    [
        (Preamble(2, 1, 64, 4096, bytes(16), 0, sealwax._core.context.encode({})), "stored elsewhere"),
        (Preamble(1, 1, 64, 4096, bytes(16), 1, sealwax._core.context.encode({})), "local context"),
    ],
)
def test_what_a_reencryption_refuses(preamble: Preamble, why: str) -> None:
    found = Header(preamble, (Slot(1, (key(ALPHA),)),))
    work = _decision.decide(found, settings([ALPHA], [BETA], reencrypt=True), "a")
    assert work.state == State.REFUSED
    assert why in work.reason


SIGNED_OUT, DENIED = sealwax.CredentialsError("signed out"), sealwax.AccessDeniedError("no")


@pytest.mark.parametrize(
    ("error", "state", "no_credentials"),
    [
        (SIGNED_OUT, State.LEFT, True),
        (DENIED, State.FAILED, False),
        (sealwax.UnavailableError("away", retryable=True), State.LEFT, False),
        (sealwax.AllKeysFailedError("all", ((ALPHA, SIGNED_OUT), (BETA, SIGNED_OUT))), State.LEFT, True),
        (sealwax.AllKeysFailedError("all", ((ALPHA, SIGNED_OUT), (BETA, DENIED))), State.FAILED, False),
        (sealwax.AllKeysFailedError("all", ((ALPHA, DENIED), (BETA, DENIED))), State.FAILED, False),
    ],
)
def test_what_a_failure_means_for_the_rest(error: sealwax.KmsError, state: str, no_credentials: bool) -> None:
    def work() -> _shard.RunResult:
        raise error

    result = _shard.outcome(_shard.Item(1, "a"), work)
    assert (result.state, result.kms_error, result.no_credentials) == (state, True, no_credentials)
