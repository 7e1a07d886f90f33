"""No wrapped key that the caller did not allow is ever planned to be sent to KMS."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax._core.keyring import WrappedKey
from sealwax.errors import ConfigurationError
from sealwax.kms import _allowlist, _names

ACCOUNTS = ["111122223333", "999999999999"]
REGIONS = ["eu-west-1", "us-east-1"]
PARTITIONS = ["aws", "aws-cn"]
KEY_IDS = [
    "0a0a0a0a-0000-4000-8000-00000000000a",
    "0b0b0b0b-0000-4000-8000-00000000000b",
    "mrk-0123456789abcdef0123456789abcdef",
    "mrk-ffffffffffffffffffffffffffffffff",
]

arns = st.builds(
    lambda partition, region, account, key_id: f"arn:{partition}:kms:{region}:{account}:key/{key_id}",
    st.sampled_from(PARTITIONS),
    st.sampled_from(REGIONS),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(KEY_IDS),
)
alias_arns = st.builds(
    lambda partition, region, account: f"arn:{partition}:kms:{region}:{account}:alias/payments",
    st.sampled_from(PARTITIONS),
    st.sampled_from(REGIONS),
    st.sampled_from(ACCOUNTS),
)
named = st.one_of(arns, alias_arns, st.sampled_from(KEY_IDS), st.just("alias/payments")).map(_names.parse)
scopes = st.builds(
    _names.KeyScope, st.sampled_from(ACCOUNTS), st.sampled_from(REGIONS), partition=st.sampled_from(PARTITIONS)
)
# What a file claims: proper ARNs, aliases and rubbish, of a known and an unknown provider.
claims = st.lists(
    st.builds(
        WrappedKey,
        key_arn=st.one_of(
            arns, alias_arns, st.sampled_from(["alias/payments", KEY_IDS[0], "x", f"arn:aws:kms:::key/{KEY_IDS[0]}"])
        ),
        ciphertext=st.just(b"x"),
        provider=st.sampled_from([1, 1, 1, 2]),
    ),
    max_size=8,
    unique_by=lambda key: key.key_arn,
)


def _asked_in(entry: _names.KeyName | _names.KeyScope, arn: _names.KeyName, region: str) -> str | None:
    """In which Region an entry lets a wrapped key be asked for, if in any: the rules, written down a second time."""
    if entry.account is not None and (entry.partition, entry.account) != (arn.partition, arn.account):
        return None
    if isinstance(entry, _names.KeyName) and entry.key_id is not None and entry.key_id != arn.key_id:
        return None
    assert arn.key_id is not None
    own = entry.region or region
    return own if own == arn.region or arn.key_id.startswith("mrk-") else None


def _elsewhere(attempt: _allowlist.Attempt) -> bool:
    return f":{attempt.region}:" not in attempt.wrapped_key.key_arn


allow_lists = st.lists(st.one_of(named, scopes), max_size=4)


@given(entries=allow_lists, wrapped=claims, region=st.sampled_from(REGIONS))
def test_the_plan(entries: list[_names.KeyName | _names.KeyScope], wrapped: list[WrappedKey], region: str) -> None:
    plan = _allowlist.attempts(entries, wrapped, lambda: region)
    by_claim = {key.key_arn: key for key in wrapped}

    # No call is made twice, and where an entry means the key itself, it is the only one in its Region.
    calls = [(attempt.wrapped_key.key_arn, attempt.region, attempt.key_id) for attempt in plan]
    assert len(calls) == len(set(calls))
    by_name = [call[:2] for call, attempt in zip(calls, plan, strict=True) if not attempt.by_alias]
    assert len(by_name) == len(set(by_name))
    assert not set(by_name) & {call[:2] for call, attempt in zip(calls, plan, strict=True) if attempt.by_alias}
    for attempt in plan:
        assert by_claim[attempt.wrapped_key.key_arn] is attempt.wrapped_key
        assert attempt.wrapped_key.provider == 1
        claim = _names.parse_arn(attempt.wrapped_key.key_arn)
        assert claim is not None
        covering = [entry for entry in entries if _asked_in(entry, claim, region) == attempt.region]
        assert covering
        expected = _names.parse_arn(attempt.expected_arn)
        assert expected is not None
        assert (expected.partition, expected.account, expected.key_id) == (claim.partition, claim.account, claim.key_id)
        assert expected.region == attempt.region
        assert attempt.region == claim.region or (claim.key_id or "").startswith("mrk-")
        # What the file says is sent as KeyId only under a scope, or where the caller wrote the same.
        allowed_ids = {entry.text for entry in covering if isinstance(entry, _names.KeyName)}
        if any(isinstance(entry, _names.KeyScope) for entry in covering):
            allowed_ids.add(expected.text)
        assert attempt.key_id in allowed_ids
    # And everything that is covered is tried, in every Region in which an entry covers it.
    covered = {
        (key.key_arn, asked)
        for key in wrapped
        if key.provider == 1 and (claim := _names.parse_arn(key.key_arn)) is not None
        for entry in entries
        if (asked := _asked_in(entry, claim, region)) is not None
    }
    assert {call[:2] for call in calls} == covered


@given(
    entries=st.lists(
        st.one_of(alias_arns.map(_names.parse), st.just(_names.parse("alias/payments")), scopes), max_size=4
    ),
    wrapped=claims,
    region=st.sampled_from(REGIONS),
)
def test_a_related_key_takes_no_turn_from_a_key_at_home(
    entries: list[_names.KeyName | _names.KeyScope], wrapped: list[WrappedKey], region: str
) -> None:
    unrelated = [replace(key, key_arn=key.key_arn.replace("key/mrk-", "key/one-")) for key in wrapped]
    without = [attempt.wrapped_key for attempt in _allowlist.attempts(entries, unrelated, lambda: region)]
    plan = [attempt.wrapped_key for attempt in _allowlist.attempts(entries, wrapped, lambda: region)]
    back = dict(zip((key.key_arn for key in unrelated), wrapped, strict=True))
    assert plan[: len(without)] == [back[key.key_arn] for key in without]


@given(
    entries=st.lists(alias_arns | st.just("alias/payments"), min_size=1, max_size=4, unique=True),
    wrapped=claims,
    region=st.sampled_from(REGIONS),
)
def test_an_alias_is_asked_in_its_own_region_alone(entries: list[str], wrapped: list[WrappedKey], region: str) -> None:
    parsed = [_names.parse(entry) for entry in entries]
    plan = _allowlist.attempts(parsed, wrapped, lambda: region)
    for attempt in plan:
        (entry,) = (entry for entry in parsed if entry.text == attempt.key_id)
        assert attempt.region == (entry.region or region)
    # A wrapped key's own Region goes first.
    assert [_elsewhere(attempt) for attempt in plan] == sorted(_elsewhere(attempt) for attempt in plan)


@given(entries=st.lists(named, min_size=1, max_size=4, unique=True), wrapped=claims)
def test_the_order_is_the_callers(entries: list[_names.KeyName], wrapped: list[WrappedKey]) -> None:
    one_way = _allowlist.attempts(entries, wrapped, lambda: "us-east-1")
    other_way = _allowlist.attempts(entries, list(reversed(wrapped)), lambda: "us-east-1")
    order = [entry.text for entry in entries]
    for plan in (one_way, other_way):
        # Aliases are tried at the places where a keyring stores them, and their other pairings last; so is a second
        # Region for one wrapped key.
        first = {attempt.wrapped_key.key_arn: attempt for attempt in reversed(plan) if not attempt.by_alias}
        places = [order.index(attempt.key_id) for attempt in plan if attempt in first.values()]
        assert places == sorted(places)
    assert {a.wrapped_key.key_arn for a in one_way} == {a.wrapped_key.key_arn for a in other_way}


HERE = f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:key/{KEY_IDS[0]}"
MULTI = f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:key/{KEY_IDS[2]}"
OF_REGIONS = {
    "us-east-1": "aws",
    "cn-north-1": "aws-cn",
    "us-gov-west-1": "aws-us-gov",
    "us-iso-east-1": "aws-iso",
    "us-isob-east-1": "aws-iso-b",
    "eu-isoe-west-1": "aws-iso-e",
    "us-isof-south-1": "aws-iso-f",
    "eusc-de-east-1": "aws-eusc",
}


@pytest.mark.parametrize("region", OF_REGIONS)
def test_a_scope_is_in_the_partition_of_its_region(region: str) -> None:
    assert len(OF_REGIONS) == 8
    arn = f"arn:{OF_REGIONS[region]}:kms:{region}:{ACCOUNTS[0]}:key/{KEY_IDS[0]}"
    scope = _names.KeyScope(ACCOUNTS[0], region)
    assert scope == _names.KeyScope(ACCOUNTS[0], region, OF_REGIONS[region])
    (attempt,) = _allowlist.attempts([scope], [WrappedKey(arn, b"x")], lambda: "")
    assert (attempt.region, attempt.key_id) == (region, arn)
    elsewhere = _names.KeyScope(ACCOUNTS[0], region, partition="aws-other")
    assert _allowlist.attempts([elsewhere], [WrappedKey(arn, b"x")], lambda: "") == []


SCOPE = _names.KeyScope(ACCOUNTS[0], "us-east-1")


@pytest.mark.parametrize(
    ("entries", "arn", "key_id"),
    [
        ([HERE, KEY_IDS[0]], HERE, HERE),
        ([KEY_IDS[0], HERE], HERE, KEY_IDS[0]),
        ([SCOPE, HERE], HERE, HERE),
        ([KEY_IDS[0], SCOPE], HERE, KEY_IDS[0]),
        ([MULTI, SCOPE, KEY_IDS[2]], MULTI, MULTI),
        (["alias/a", HERE, "alias/b", KEY_IDS[0]], HERE, HERE),
        ([f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:alias/a", SCOPE], HERE, HERE),
    ],
)
def test_a_key_that_is_named_twice_costs_one_call(entries: list[str | _names.KeyScope], arn: str, key_id: str) -> None:
    """By the first name that means the key itself; by an alias only where there is none."""
    allowed = [_names.parse(entry) if isinstance(entry, str) else entry for entry in entries]
    for others in ([], [WrappedKey(HERE.replace(KEY_IDS[0], KEY_IDS[3]), b"y")]):
        plan = _allowlist.attempts(allowed, [WrappedKey(arn, b"x"), *others], lambda: "us-east-1")
        mine = [attempt for attempt in plan if attempt.wrapped_key.key_arn == arn]
        assert [attempt.key_id for attempt in mine] == [key_id]


@given(st.text(max_size=80))
def test_a_key_name_is_one_of_four_forms_or_refused(text: str) -> None:
    try:
        name = _names.parse(text)
    except ConfigurationError:
        return
    assert name.text == text
    assert (name.key_id is None) != (name.alias is None)
