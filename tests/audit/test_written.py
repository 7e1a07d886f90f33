"""What `sealwax policy` writes has no finding; what is hostile or malformed is refused, or not looked at."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax.audit import _factsfile
from sealwax.audit._account import Account
from sealwax.audit._facts import Facts, GrantFacts, PolicyFacts, PrincipalFacts, TrailFacts
from sealwax.audit._rules import run_rules
from sealwax.errors import FactsError
from sealwax.policy import (
    Document,
    KeyUsers,
    RequiredContext,
    allow_audit,
    allow_decrypt,
    allow_encrypt,
    allow_records,
    allow_rotate,
    allow_rotate_records,
    allow_search_records,
    deny_records,
    grant_request,
    write_identity_policy,
    write_key_policy,
)
from sealwax.policy._expiry import due_name
from tests.audit import accounts

BOUND = RequiredContext({"purpose": "backup"}, ("row",))
SHOP = RequiredContext({"app": "shop"})
USES = ("encrypt", "decrypt", "rotate_from", "rotate_to", "grant")


def with_documents(*statements: list[Document], policy: Document) -> Facts:
    """Return the clean account with a role for each identity policy that is written of statements."""
    ids = [f"arn:aws:iam::{accounts.OWN}:policy/{number}" for number in range(len(statements))]
    documents = [json.dumps(write_identity_policy(one)) for one in statements]
    roles = [accounts.role(f"User{number}") for number in range(len(statements))]
    return accounts.clean(
        accounts.key(policy=json.dumps(policy)),
        accounts.key(2, policy=json.dumps(policy)),
        principals=(
            PrincipalFacts(accounts.ADMIN),
            PrincipalFacts(accounts.APP),
            *(PrincipalFacts(who, (id_,)) for who, id_ in zip(roles, ids, strict=True)),
        ),
        policies=tuple(PolicyFacts(id_, "customer", text) for id_, text in zip(ids, documents, strict=True)),
    )


def test_written_key_policies_have_no_finding() -> None:
    count = 0
    for size in range(len(USES) + 1):
        for chosen in itertools.combinations(USES, size):
            # One who rotates needs both sides, or no account would be whole.
            if ("rotate_from" in chosen) != ("rotate_to" in chosen):
                continue
            users = {use: [accounts.role("Rotate" if use.startswith("rotate") else use)] for use in chosen}
            policy = write_key_policy([accounts.ADMIN], KeyUsers(**users), BOUND)
            roles = tuple(PrincipalFacts(one) for one in {who for each in users.values() for who in each})
            facts = accounts.clean(
                accounts.key(policy=json.dumps(policy)), principals=(PrincipalFacts(accounts.ADMIN), *roles), events=()
            )
            account = Account(facts)
            assert run_rules(account) == ()
            assert account.gaps == ()
            count += 1
    assert count == 16


def test_written_key_policies_for_records_have_no_finding() -> None:
    uses = ("encrypt", "decrypt", "rotate", "grant", "records", "search_records", "rotate_records")
    count = 0
    for chosen in itertools.product((False, True), repeat=len(uses)):
        users: dict[str, list[str]] = {}
        for use in itertools.compress(uses, chosen):
            for name in ("rotate_from", "rotate_to") if use == "rotate" else (use,):
                users[name] = [accounts.role(use)]
        policy = write_key_policy([accounts.ADMIN], KeyUsers(**users), SHOP)
        roles = tuple(PrincipalFacts(one) for one in {who for each in users.values() for who in each})
        facts = accounts.clean(
            accounts.key(policy=json.dumps(policy)), principals=(PrincipalFacts(accounts.ADMIN), *roles), events=()
        )
        account = Account(facts)
        assert run_rules(account) == ()
        assert account.gaps == ()
        count += 1
    assert count == 128


def test_written_identity_policies_for_records_have_no_finding() -> None:
    both = [accounts.arn(), accounts.arn(2)]
    allowing = [each for each in accounts.WRITTEN["Statement"] if each["Effect"] == "Allow"]
    unwanted = deny_records(both)[0] | {"Resource": "*", "Principal": {"AWS": accounts.APP}}
    delegates = {"Effect": "Allow", "Resource": "*"} | accounts.DELEGATES
    policy = accounts.WRITTEN | {"Statement": [*allowing, unwanted, delegates]}
    facts = with_documents(
        allow_records(both[:1], SHOP),
        [*allow_search_records(both, SHOP), *allow_decrypt(both, SHOP)],
        allow_rotate_records(both[:1], both[1:], SHOP),
        [*allow_decrypt(both, SHOP), *allow_rotate(both, both, SHOP), *deny_records(both)],
        policy=policy,
    )
    assert run_rules(Account(facts)) == ()
    for name, expected in (("User0", []), ("User1", ["records-unexpected-maker"])):
        context = {"app": "shop", "sealwax-use": "records-data"}
        made = accounts.event(name="GenerateDataKey", principal=accounts.role(name), context=context)
        assert [found.rule for found in run_rules(Account(replace(facts, events=(made,))))] == expected
    without = with_documents(allow_records(both[:1], SHOP), allow_decrypt(both, SHOP), policy=policy)
    assert [found.rule for found in run_rules(Account(without))] == ["records-open-to-others"]


def test_written_identity_policies_have_no_finding() -> None:
    both = [accounts.arn(), accounts.arn(2)]
    policy = accounts.WRITTEN | {
        "Statement": [*accounts.WRITTEN["Statement"], {"Effect": "Allow", "Resource": "*"} | accounts.DELEGATES]
    }
    facts = with_documents(
        allow_encrypt(both, BOUND),
        allow_decrypt(both, BOUND),
        allow_rotate(both[:1], both[1:], BOUND),
        allow_audit(),
        policy=policy,
    )
    assert run_rules(Account(facts)) == ()
    # They do reach the keys, so that there was something to judge.
    can = {(one.principal, one.action, one.key.arn) for one in Account(facts).allowed}
    assert can >= {
        (accounts.role("User0"), "kms:GenerateDataKey", both[0]),
        (accounts.role("User0"), "kms:Encrypt", both[1]),
        (accounts.role("User1"), "kms:Decrypt", both[1]),
        (accounts.role("User2"), "kms:ReEncryptFrom", both[0]),
        (accounts.role("User2"), "kms:ReEncryptTo", both[1]),
    }
    assert not [one for one in can if one[0] == accounts.role("User3")]


@pytest.mark.parametrize("operation", ["Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"])
def test_written_grants_have_no_finding(operation: str) -> None:
    due = accounts.NOW + accounts.days(1)
    bound = RequiredContext({"purpose": "backup"})
    given = grant_request(accounts.arn(), accounts.APP, [operation], bound, retiring=accounts.APP, name=due_name(due))
    one = GrantFacts(
        "b" * 64,
        given["GranteePrincipal"],
        tuple(given["Operations"]),
        given["Name"],
        given["RetiringPrincipal"],
        accounts.root(),
        accounts.NOW,
        given["Constraints"]["EncryptionContextSubset"],
    )
    facts = accounts.clean(accounts.key(grants=(one,)))
    assert run_rules(Account(facts)) == ()
    later = run_rules(Account(replace(facts, time=due + accounts.days(0.001), events=())))
    assert [found.rule for found in later] == ["grant-overdue"]


def facts_json(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_factsfile.dump(accounts.clean()))
    return found | changes


def key_json(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = facts_json()["keys"][0]
    return facts_json(keys=[found | changes])


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ([], "is not a facts file of the format"),
        ({"format": "sealwax-facts-2"}, "is not a facts file of the format"),
        ({"format": _factsfile.FORMAT}, "facts has no account"),
        (facts_json(account="1"), "facts.account is not twelve digits"),
        (facts_json(time="now"), "facts.time is not an ISO 8601 time"),
        (facts_json(time="2026-11-24T21:00:00"), "facts.time has no time zone"),
        (facts_json(time="0001-01-01T00:00:00+14:00"), "facts.time is not between the years 1970 and 2999"),
        (facts_json(strange=1), "facts has 'strange', which this version of sealwax does not know"),
        (facts_json(keys={}), "facts.keys is not a list"),
        (facts_json(keys=[1]), "facts.keys[0] is not an object"),
        (facts_json(keys=facts_json()["keys"] * 2), "it has a key twice"),
        (facts_json(aliases=[{"arn": "alias/x", "key": "y"}]), "'alias/x' is not the ARN of an alias"),
        (
            facts_json(principals=[{"arn": accounts.APP, "policies": ["x"]}]),
            "has a policy that is not in facts.policies",
        ),
        (facts_json(gaps=None), "facts.gaps is not a list"),
        (key_json(arn="x"), "'x' is not the ARN of a key"),
        (key_json(policy="x" * 300_000), "facts.keys[0].policy is longer than"),
        (key_json(policy="\ud800"), "facts.keys[0].policy has half of a surrogate pair"),
        (key_json(tags={"a": 1}), "facts.keys[0].tags.a is not a string"),
        (key_json(rotation={"enabled": 1}), "facts.keys[0].rotation.enabled is not true or false"),
        (key_json(grants=[{"id": "a", "grantee": "arn:x", "operations": []}]), "'arn:x' is not an ARN"),
    ],
)
def test_a_malformed_facts_file_is_refused(facts: Any, why: str) -> None:
    with pytest.raises(FactsError) as caught:
        _factsfile.load(json.dumps(facts).encode(), "facts.json")
    assert why in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b'{"format": 7}', b"9" * 5000])
def test_what_is_no_facts_file_is_refused(data: bytes) -> None:
    with pytest.raises(FactsError, match=r"facts\.json"):
        _factsfile.load(data, "facts.json")


_TEXT = st.sampled_from(
    [
        "",
        "*",
        "arn:aws:iam::111122223333:root",
        "arn:a:b:c:d:e",
        "x.amazonaws.com",
        "kms:*",
        "a\n\x1b[31m",
        "{}",
        "é" * 40,
    ]
)
_STATEMENT = st.dictionaries(
    st.sampled_from(["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "Condition"]),
    st.one_of(
        _TEXT,
        st.sampled_from(["Allow", "Deny"]),
        st.lists(_TEXT, max_size=2),
        st.dictionaries(st.sampled_from(["AWS", "Service", "StringLike", "Null", "Bool"]), _TEXT, max_size=2),
    ),
    max_size=7,
)


@settings(max_examples=300)
@given(
    st.lists(_STATEMENT, min_size=1, max_size=3),
    _TEXT,
    st.lists(st.sampled_from(["Decrypt", "CreateGrant", "Nothing"]), max_size=3),
    st.dictionaries(_TEXT, _TEXT, max_size=3),
)
def test_hostile_facts_are_judged_or_said_to_be_not_looked_at(
    statements: list[dict[str, Any]], grantee: str, operations: list[str], pairs: dict[str, str]
) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    grant = accounts.grant(grantee=grantee, operations=tuple(operations), subset=pairs)
    facts = accounts.clean(
        accounts.key(policy=document, grants=(grant,), tags=pairs),
        accounts.key(2, policy=json.dumps(accounts.WRITTEN)),
        principals=(PrincipalFacts(accounts.APP, ("p",), pairs), PrincipalFacts(grantee)),
        policies=(PolicyFacts("p", "customer", document),),
        events=(accounts.event(context=pairs, principal=grantee),),
        expected_aliases=pairs,
        regions=(),
        trails=(TrailFacts(grantee, multi_region=False, validation=False, records="None", selectors=document),),
        alarms=(),
    )
    account = Account(facts)
    for finding in run_rules(account):
        assert finding.title
        assert finding.fix.says
    # A document with Principal is no identity policy and one without is no key policy: one of them is always unread.
    assert {one.resource for one in account.gaps} & {accounts.arn(), "p"}
    account.access()
