"""No wrapped key that the caller did not allow is ever planned to be sent to KMS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.errors import ConfigurationError
from sealwax.keyring import WrappedKey
from sealwax.kms import allow, names

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
named = st.one_of(arns, alias_arns, st.sampled_from(KEY_IDS), st.just("alias/payments")).map(names.parse)
scopes = st.builds(
    names.KeyScope, st.sampled_from(ACCOUNTS), st.sampled_from(REGIONS), partition=st.sampled_from(PARTITIONS)
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


def _covers(entry: names.KeyName | names.KeyScope, arn: names.KeyName, region: str) -> bool:
    """The rules of the format's text, written down a second time."""
    if isinstance(entry, names.KeyScope):
        return (entry.partition, entry.account, entry.region) == (arn.partition, arn.account, arn.region)
    if entry.account is not None and (entry.partition, entry.account) != (arn.partition, arn.account):
        return False
    if entry.alias is not None:
        return (entry.region or region) == arn.region
    if entry.key_id != arn.key_id:
        return False
    assert entry.key_id is not None
    return entry.key_id.startswith("mrk-") or (entry.region or region) == arn.region


@given(entries=st.lists(st.one_of(named, scopes), max_size=4), wrapped=claims, region=st.sampled_from(REGIONS))
def test_the_plan(entries: list[names.KeyName | names.KeyScope], wrapped: list[WrappedKey], region: str) -> None:
    plan = allow.attempts(entries, wrapped, lambda: region)
    by_claim = {key.key_arn: key for key in wrapped}

    tried = [attempt.wrapped_key.key_arn for attempt in plan]
    calls = [(attempt.key_id, attempt.wrapped_key.key_arn) for attempt in plan]
    assert len(calls) == len(set(calls))
    by_name = [attempt.wrapped_key.key_arn for attempt in plan if not attempt.by_alias]
    assert len(by_name) == len(set(by_name))
    assert not set(by_name) & {attempt.wrapped_key.key_arn for attempt in plan if attempt.by_alias}
    for attempt in plan:
        assert by_claim[attempt.wrapped_key.key_arn] is attempt.wrapped_key
        assert attempt.wrapped_key.provider == 1
        claim = names.parse_arn(attempt.wrapped_key.key_arn)
        assert claim is not None
        covering = [entry for entry in entries if _covers(entry, claim, region)]
        assert covering
        # The file's own ARN is sent as KeyId only under a scope, or where the caller wrote the same.
        allowed_ids = {entry.text for entry in covering if isinstance(entry, names.KeyName)}
        if any(isinstance(entry, names.KeyScope) for entry in covering):
            allowed_ids.add(claim.text)
        assert attempt.key_id in allowed_ids
        expected = names.parse_arn(attempt.expected_arn)
        assert expected is not None
        assert (expected.partition, expected.account, expected.key_id) == (claim.partition, claim.account, claim.key_id)
        assert expected.region == attempt.region
        assert attempt.region == claim.region or (claim.key_id or "").startswith("mrk-")
    # And everything that is covered is tried.
    covered = {
        key.key_arn
        for key in wrapped
        if key.provider == 1
        and (claim := names.parse_arn(key.key_arn)) is not None
        and any(_covers(entry, claim, region) for entry in entries)
    }
    assert set(tried) == covered


@given(entries=st.lists(named, min_size=1, max_size=4, unique=True), wrapped=claims)
def test_the_order_is_the_callers(entries: list[names.KeyName], wrapped: list[WrappedKey]) -> None:
    one_way = allow.attempts(entries, wrapped, lambda: "us-east-1")
    other_way = allow.attempts(entries, list(reversed(wrapped)), lambda: "us-east-1")
    order = [entry.text for entry in entries]
    for plan in (one_way, other_way):
        # Aliases are tried at the places where a keyring stores them, and their other pairings last.
        places = [order.index(attempt.key_id) for attempt in plan if not attempt.by_alias]
        assert places == sorted(places)
    assert {a.wrapped_key.key_arn for a in one_way} == {a.wrapped_key.key_arn for a in other_way}


HERE = f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:key/{KEY_IDS[0]}"
MULTI = f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:key/{KEY_IDS[2]}"
SCOPE = names.KeyScope(ACCOUNTS[0], "us-east-1")


@pytest.mark.parametrize(
    ("entries", "arn", "key_id"),
    [
        ([HERE, KEY_IDS[0]], HERE, HERE),
        ([KEY_IDS[0], HERE], HERE, KEY_IDS[0]),
        ([SCOPE, HERE], HERE, HERE),
        ([KEY_IDS[0], SCOPE], HERE, KEY_IDS[0]),
        ([MULTI.replace("us-east-1", "eu-west-1"), MULTI], MULTI, MULTI.replace("us-east-1", "eu-west-1")),
        ([MULTI, MULTI.replace("us-east-1", "eu-west-1"), SCOPE, KEY_IDS[2]], MULTI, MULTI),
        (["alias/a", HERE, "alias/b", KEY_IDS[0]], HERE, HERE),
        ([f"arn:aws:kms:us-east-1:{ACCOUNTS[0]}:alias/a", SCOPE], HERE, HERE),
    ],
)
def test_a_key_that_is_named_twice_costs_one_call(entries: list[str | names.KeyScope], arn: str, key_id: str) -> None:
    """By the first name that means the key itself; by an alias only where there is none."""
    allowed = [names.parse(entry) if isinstance(entry, str) else entry for entry in entries]
    for others in ([], [WrappedKey(HERE.replace(KEY_IDS[0], KEY_IDS[3]), b"y")]):
        plan = allow.attempts(allowed, [WrappedKey(arn, b"x"), *others], lambda: "us-east-1")
        mine = [attempt for attempt in plan if attempt.wrapped_key.key_arn == arn]
        assert [attempt.key_id for attempt in mine] == [key_id]


@given(st.text(max_size=80))
def test_a_key_name_is_one_of_four_forms_or_refused(text: str) -> None:
    try:
        name = names.parse(text)
    except ConfigurationError:
        return
    assert name.text == text
    assert (name.key_id is None) != (name.alias is None)
