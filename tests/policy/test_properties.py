"""What holds for all policies: a Deny takes away, an Allow gives, and every text is understood or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwax.errors import PolicyError
from sealwax.policy import (
    Grant,
    Policy,
    Request,
    _patterns,
    evaluate,
    parse_identity_policy,
    parse_key_policy,
    principal,
)
from tests.policy.rows import ALICE, BOB, CAROL, KEY, NOON, OTHER_KEY, OTHER_ROOT, ROLE, ROOT, SERVICE, SESSION, Json

PARSERS: list[Callable[[Any], Policy]] = [parse_key_policy, parse_identity_policy]

names = st.sampled_from([ALICE, BOB, CAROL, ROLE, SESSION, ROOT, OTHER_ROOT, "*"])
principals = st.one_of(
    st.just("*"),
    st.fixed_dictionaries({"AWS": st.lists(names, min_size=1, max_size=3)}),
    st.just({"Service": SERVICE}),
)
excepted = st.fixed_dictionaries({"AWS": st.lists(names.filter(lambda name: name != "*"), min_size=1, max_size=3)})
actions = st.lists(st.sampled_from(["kms:*", "kms:Decrypt", "kms:Enc*", "*", "s3:*"]), min_size=1, max_size=2)
resources = st.lists(st.sampled_from(["*", KEY, OTHER_KEY, KEY[:-3] + "*"]), min_size=1, max_size=2)
texts = st.lists(st.sampled_from(["a", "b", "${aws:PrincipalTag/team}", "*"]), min_size=1, max_size=2)
plain_tests = st.dictionaries(
    st.sampled_from(["kms:EncryptionContext:x", "aws:ResourceTag/t", "kms:ViaService"]), texts, min_size=1, max_size=2
)
conditions = st.dictionaries(
    st.sampled_from(["StringEquals", "StringNotEquals", "StringLike", "StringEqualsIfExists", "StringNotLikeIfExists"]),
    plain_tests,
    max_size=2,
)


def _statement(effect: str, of_key: bool) -> st.SearchStrategy[Json]:
    who = (
        st.one_of(st.fixed_dictionaries({"Principal": principals}), st.fixed_dictionaries({"NotPrincipal": excepted}))
        if of_key
        else st.just({})
    )
    what = st.one_of(st.fixed_dictionaries({"Action": actions}), st.fixed_dictionaries({"NotAction": actions}))
    where = st.one_of(st.fixed_dictionaries({"Resource": resources}), st.fixed_dictionaries({"NotResource": resources}))
    return st.tuples(who, what, where, st.fixed_dictionaries({"Condition": conditions})).map(
        lambda parts: {"Effect": effect} | parts[0] | parts[1] | parts[2] | parts[3]
    )


def _statements(of_key: bool) -> st.SearchStrategy[list[Json]]:
    return st.lists(st.one_of(_statement("Allow", of_key), _statement("Deny", of_key)), min_size=1, max_size=4)


requests = st.builds(
    lambda who, action, pairs, tags: Request(
        action, principal(who, **tags), KEY, NOON, encryption_context=pairs, context={"aws:ResourceTag/t": "a"}
    ),
    st.sampled_from([ALICE, BOB, CAROL, SESSION, ROOT, OTHER_ROOT, SERVICE]),
    st.sampled_from(["kms:Decrypt", "kms:Encrypt", "kms:DisableKey"]),
    st.dictionaries(st.sampled_from(["x", "X", "y"]), st.sampled_from(["a", "b"]), max_size=2),
    st.sampled_from([{}, {"tags": {"team": "a"}}]),
)
grants = st.lists(
    st.builds(
        Grant,
        id=st.just("g"),
        key=st.sampled_from([KEY, OTHER_KEY]),
        grantee=st.sampled_from([ALICE, ROLE, CAROL, ROOT, SERVICE]),
        operations=st.frozensets(st.sampled_from(["Decrypt", "Encrypt"]), min_size=1),
        subset=st.none() | st.just({"x": "a"}),
    ),
    max_size=2,
)


def _allowed(request: Request, on_key: list[Json], identity: list[Json], given_grants: list[Grant]) -> bool:
    policies = [parse_identity_policy({"Version": "2012-10-17", "Statement": identity})] if identity else []
    key_policy = parse_key_policy({"Version": "2012-10-17", "Statement": on_key})
    return evaluate(request, key_policy=key_policy, identity_policies=policies, grants=given_grants).allowed


@given(requests, _statements(True), _statements(False), grants, st.data())
def test_one_more_deny_never_allows_more(
    request: Request, on_key: list[Json], identity: list[Json], given_grants: list[Grant], data: st.DataObject
) -> None:
    of_key = data.draw(st.booleans())
    more = [data.draw(_statement("Deny", of_key))]
    with_more = (on_key + more, identity) if of_key else (on_key, identity + more)
    if _allowed(request, *with_more, given_grants):
        assert _allowed(request, on_key, identity, given_grants)


@given(requests, _statements(True), _statements(False), grants, st.data())
def test_one_allow_less_never_allows_more(
    request: Request, on_key: list[Json], identity: list[Json], given_grants: list[Grant], data: st.DataObject
) -> None:
    documents = [on_key, identity]
    which = data.draw(st.integers(0, 1))
    allows = [one for one in documents[which] if one["Effect"] == "Allow"]
    if not allows:
        return
    gone = data.draw(st.sampled_from(allows))
    less = list(documents)
    less[which] = [one for one in documents[which] if one is not gone]
    if not less[0]:
        return  # a key policy has at least one statement
    if _allowed(request, less[0], less[1], given_grants):
        assert _allowed(request, on_key, identity, given_grants)


@given(requests, _statements(True), _statements(False), grants)
def test_one_grant_less_never_allows_more(
    request: Request, on_key: list[Json], identity: list[Json], given_grants: list[Grant]
) -> None:
    if _allowed(request, on_key, identity, given_grants[1:]):
        assert _allowed(request, on_key, identity, given_grants)


words = st.sampled_from(
    [
        "Version",
        "Statement",
        "Id",
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
        "AWS",
        "Service",
        "Allow",
        "Deny",
        "2012-10-17",
        "kms:Decrypt",
        "*",
        "StringEquals",
        "ForAllValues:StringLike",
        "NumericLessThan",
        "Null",
        "Bool",
        "IpAddress",
        "kms:EncryptionContext:x",
        "aws:TagKeys",
        "kms:ViaService",
        "${aws:username}",
        "${",
        "111122223333",
        "true",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)


def _understood_or_refused(parse: Callable[[Any], Policy], document: str | bytes | dict[str, Any]) -> None:
    message = ""
    try:
        parse(document)
    except PolicyError as error:
        message = str(error)
    assert message.isprintable()


@pytest.mark.parametrize("parse", PARSERS)
@given(document=json_values)
def test_any_json_is_understood_or_refused(parse: Callable[[Any], Policy], document: Any) -> None:
    _understood_or_refused(parse, json.dumps(document))
    if isinstance(document, dict):
        _understood_or_refused(parse, document)


@pytest.mark.parametrize("parse", PARSERS)
@given(document=st.text() | st.binary())
def test_any_text_is_understood_or_refused(parse: Callable[[Any], Policy], document: str | bytes) -> None:
    _understood_or_refused(parse, document)


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.data())
def test_a_good_policy_with_one_part_replaced_is_understood_or_refused(
    parse: Callable[[Any], Policy], data: st.DataObject
) -> None:
    statement = data.draw(_statement("Allow", parse is parse_key_policy))
    place = data.draw(st.sampled_from(sorted(statement)))
    document = {"Version": "2012-10-17", "Statement": [statement | {place: data.draw(json_values)}]}
    _understood_or_refused(parse, json.dumps(document))


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_are_what_they_say(pattern: str, text: str) -> None:
    as_regex = pattern.replace("*", ".*").replace("?", ".")
    tokens = _patterns.parse(pattern, wildcards=True, variables=False).resolve(lambda _: None)
    assert tokens is not None
    assert _patterns.glob(tokens, text) == bool(re.fullmatch(as_regex, text))
