"""Reading documents: what is kept, what is refused, and that the refusal says which statement, what and why."""

from __future__ import annotations

import json
from typing import Any

import pytest

import sealwax.policy
from sealwax.errors import PolicyError
from sealwax.policy import parse_identity_policy, parse_key_policy
from tests.policy.rows import ALICE, ROOT, allow, case
from tests.policy.table import decide


def _text(*statements: Any, **elements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", **elements, "Statement": list(statements)})


def test_a_policy_keeps_what_a_decision_names() -> None:
    policy = parse_key_policy(
        _text(allow("kms:*", ROOT, Sid="Enable IAM policies"), allow("kms:Decrypt", ALICE), Id="k")
    )
    assert (policy.name, policy.id, policy.version) == ("key policy", "k", "2012-10-17")
    assert [str(statement) for statement in policy.statements] == [
        "statement 'Enable IAM policies' of the key policy",
        "statement 2 of the key policy",
    ]


def test_a_single_statement_needs_no_list_and_a_document_may_be_decoded_already() -> None:
    document = {"Statement": allow("kms:*")}
    for given in (document, json.dumps(document), json.dumps(document).encode()):
        assert len(parse_identity_policy(given, name="policy Readers").statements) == 1


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "the key policy is not JSON at line 1, column 2"),
        ('{"Statement": NaN}', "the key policy is not JSON: NaN is not a value"),
        ('{"Id": "a", "Id": "b"}', "the key policy has 'Id' twice in one object"),
        ("[" * 100_000, "the key policy is larger than 32768 bytes"),
        ("[" * 30_000, "the key policy is not JSON"),
        (b"\xff", "the key policy is not UTF-8"),
        ('{"Id": "\u4e2d"}', "the key policy holds characters outside Latin-1, which AWS refuses in policies"),
        ({"Id": {1, 2}}, "the key policy holds values that JSON cannot represent"),
        ('{"Statement": 1}', "the key policy has no Statement"),
        ('{"Statement": [1]}', "statement 1 of the key policy is not an object"),
        (
            _text(allow("*", ALICE), allow("*", ALICE, Sid="S", Condition={"StringEqual": {"kms:KeySpec": "x"}})),
            "statement 'S' of the key policy: 'StringEqual' is not a condition operator",
        ),
        (
            _text(allow("kms:*", ALICE, Sid="S", Condition={"StringEquals": {"kms:KeySpek": "x"}})),
            "statement 'S' of the key policy: 'kms:KeySpek' is not a condition key of KMS requests",
        ),
        (
            _text(allow("kms:*", ALICE, Condition={"Bool": {"kms:KeySpec": "true"}})),
            "statement 1 of the key policy: Bool cannot be used with kms:KeySpec, whose value is a string",
        ),
        (
            _text(allow("kms:*", ALICE, Condition={"StringEquals": {"kms:KeySpec": "a", "KMS:keyspec": "b"}})),
            "statement 1 of the key policy has a condition key twice in StringEquals",
        ),
        (
            _text(allow("kms:*", ALICE, Condition={"StringEquals": {"kms:KeySpec": []}})),
            "statement 1 of the key policy: StringEquals of kms:KeySpec is an empty list",
        ),
        (
            _text(allow("kms:*", ALICE, Resource="key/1")),
            "statement 1 of the key policy: 'key/1' is neither * nor an ARN",
        ),
        (_text(allow("Decrypt", ALICE)), "statement 1 of the key policy: 'Decrypt' is not an action"),
        (_text(allow([], ALICE)), "statement 1 of the key policy: an action is an empty list"),
        (_text(allow("kms:*", {"AWS": [1]})), "the Principal of statement 1 of the key policy is not a string"),
        (_text({"Effect": "Allow", "Action": "*", "Resource": "*"}), "statement 1 of the key policy needs Principal"),
        (_text(allow("kms:*", ALICE, Sid="a\u001b[31m", Effect="x")), "statement 'a\\x1b[31m' of the key policy"),
    ],
)
def test_a_refusal_says_which_statement_what_and_why(document: Any, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_key_policy(document)
    assert str(caught.value).startswith(words)


def test_numbers_and_booleans_are_values_of_conditions_and_of_nothing_else() -> None:
    parse_key_policy(_text(allow("kms:*", ALICE, Condition={"NumericEquals": {"kms:RotationPeriodInDays": 90}})))
    parse_key_policy(_text(allow("kms:*", ALICE, Condition={"Bool": {"kms:MultiRegion": True}})))
    for wrong in ({"Sid": 1}, {"Action": 1}, {"Resource": 1}, {"Condition": {"StringEquals": {"kms:KeySpec": None}}}):
        with pytest.raises(PolicyError):
            parse_key_policy(_text(allow("kms:*", ALICE) | wrong))


def test_white_space_does_not_count_for_the_size_of_an_identity_policy() -> None:
    parse_identity_policy(_text(allow("kms:*")) + " " * 50_000)
    with pytest.raises(PolicyError, match="larger than 10240 characters"):
        parse_identity_policy(_text(allow("kms:*", Sid="x" * 10_240)))


def test_a_hostile_pattern_is_compared_in_time() -> None:
    row = case("-", "-", "deny", identity=[allow("kms:*", Resource="arn:aws:kms:::" + "*a" * 2000 + "*b")])
    assert decide(row, sealwax.policy) == "deny"


@pytest.mark.parametrize(
    ("text", "unconditional"),
    [
        (_text(allow("kms:*")), True),
        (_text(allow("kms:*", Condition={"Bool": {"aws:SecureTransport": "true"}})), False),
        (_text(allow("kms:*", Resource="arn:aws:kms:*:*:alias/${aws:username}")), False),
        # JSON can spell a name in more than one way.
        (_text(allow("kms:*", Condition={"Null": {"kms:KeySpec": "true"}})).replace("Cond", "Con\\u0064"), False),
        (_text(allow("kms:*", Resource="arn:aws:kms:*:*:alias/${aws:username}")).replace("$", "\\u0024"), False),
    ],
)
def test_a_policy_knows_whether_it_depends_on_the_request(text: str, unconditional: bool) -> None:
    assert parse_identity_policy(text).unconditional == unconditional
