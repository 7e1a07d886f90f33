"""Keys that are alike are asked about once, and only what they are alike in decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from sealwax.audit._account import DECRYPT, Account
from sealwax.audit._facts import AliasFacts, KeyFacts, PolicyFacts, PrincipalFacts
from tests.audit.accounts import APP, DELEGATES, OWN, REGION, arn, clean, grant, key, role, text, use

POLICY: Final = text(DELEGATES)
TAGS: Final = {"team": "blue", "key": arn(2).rpartition("/")[2]}


def keys(*changes: dict[str, Any]) -> tuple[KeyFacts, ...]:
    """Return keys of one policy: five, but for what is given of the first ones."""
    every = (*changes, *({} for _ in range(5 - len(changes))))
    return tuple(key(number, **{"policy": POLICY, **one}) for number, one in enumerate(every, 1))


def decryptable(found: tuple[KeyFacts, ...], *statements: dict[str, Any]) -> list[int]:
    """Return the numbers of the keys that the role may decrypt with, by an identity policy of these statements."""
    id_ = f"arn:aws:iam::{OWN}:policy/one"
    given = [{"Action": "kms:Decrypt", "Resource": "*", **one} for one in statements]
    facts = clean(
        *found,
        principals=(PrincipalFacts(APP, (id_,) if given else (), TAGS),),
        policies=(PolicyFacts(id_, "customer", text(*given, of_key=False)),) if given else (),
        aliases=tuple(
            AliasFacts(f"arn:aws:kms:{REGION}:{OWN}:alias/key-{number}", one.id) for number, one in enumerate(found, 1)
        ),
        expected_aliases={},
    )
    allowed = [one.key for one in Account(facts).allowed if (one.principal, one.action) == (APP, DECRYPT)]
    return [number for number, one in enumerate(found, 1) if one in allowed]


def under(name: str, *values: str) -> dict[str, Any]:
    operator = "ForAnyValue:StringEquals" if name == "kms:ResourceAliases" else "StringEquals"
    return {"Condition": {operator: {name: list(values)}}}


@pytest.mark.parametrize("number", [1, 3])
def test_aliases_tell_keys_apart(number: int) -> None:
    assert decryptable(keys(), under("kms:ResourceAliases", f"alias/key-{number}")) == [number]


def test_variables_tell_keys_apart() -> None:
    resource = f"arn:aws:kms:{REGION}:{OWN}:key/${{aws:PrincipalTag/key}}"
    assert decryptable(keys(), {"Resource": resource}) == [2]


def test_a_key_policy_that_names_a_key_is_about_that_key() -> None:
    copied = {"policy": text({**DELEGATES, "Resource": arn(4)})}
    assert decryptable(keys(*[copied] * 5), {}) == [4]


def test_statements_that_name_keys_tell_them_apart() -> None:
    assert decryptable(keys(), {"Resource": [arn(1), arn(5)]}) == [1, 5]
    assert decryptable(keys(), {}, {"Effect": "Deny", "Resource": arn(3)}) == [1, 2, 4, 5]


@pytest.mark.parametrize("value", ["blue", "${aws:PrincipalTag/team}"])
def test_tags_are_as_they_are(value: str) -> None:
    some = keys({"tags": {"team": "blue"}}, {"tags": {"team": "red"}}, {"tags": {"other": "blue"}})
    assert decryptable(some, under("aws:ResourceTag/team", value)) == [1]
    # Where nobody looked they may be so.
    unseen = (replace(some[0], tags=None), *some[1:])
    assert decryptable(unseen, under("aws:ResourceTag/team", "blue")) == [1]


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("kms:KeySpec", "RSA_2048", {"spec": "RSA_2048"}),
        ("kms:KeyUsage", "SIGN_VERIFY", {"usage": "SIGN_VERIFY"}),
        ("kms:KeyOrigin", "EXTERNAL", {"origin": "EXTERNAL"}),
        ("kms:MultiRegion", "true", {"multi_region": "replica"}),
        ("kms:MultiRegionKeyType", "REPLICA", {"multi_region": "replica"}),
    ],
)
def test_what_a_key_is_tells_it_apart(name: str, value: str, changes: dict[str, Any]) -> None:
    operator = "Bool" if name == "kms:MultiRegion" else "StringEquals"
    assert decryptable(keys({}, changes), {"Condition": {operator: {name: value}}}) == [2]


def test_grants_are_for_those_whom_they_name() -> None:
    some = keys({"grants": (grant(grantee=role("Other")),)}, {"grants": (grant(),)}, {"grants": (grant(),)})
    assert decryptable(some) == [2, 3]
    assert decryptable(some, {"Resource": arn(1)}) == [1, 2, 3]


def test_what_the_request_brings_is_asked_for() -> None:
    asked = under("kms:EncryptionContext:purpose", "backup")
    assert decryptable(keys(), asked) == [1, 2, 3, 4, 5]
    assert decryptable(keys({"policy": text(use(Principal={"AWS": APP}))})) == [1]
