"""What only looks like a condition, a name or a constraint does not keep a rule from its finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sealwax.audit import _factsfile
from sealwax.audit import run as audit
from sealwax.audit._account import Account
from sealwax.audit._facts import Facts, KeyFacts, PrincipalFacts, TrailFacts
from sealwax.audit._rules import run_rules
from sealwax.cli import run
from sealwax.errors import FactsError
from tests.audit.accounts import (
    APP,
    BACKUP,
    DELEGATES,
    FOREIGN,
    NOW,
    OTHER_REGION,
    OWN,
    REGION,
    TRAIL,
    alarm,
    arn,
    clean,
    key,
    plus,
    role,
    text,
    use,
    with_grant,
    with_iam,
    with_policy,
)

VIA = "s3.eu-west-1.amazonaws.com"
UNIQUE = "AROAEXAMPLEEXAMPLE123"


def rules(facts: Facts) -> set[str]:
    return {one.rule for one in run_rules(Account(facts))}


def everybody(operator: str, name: str, *values: str) -> bool:
    condition = {operator: {name: list(values)}}
    return "key-policy-public" in rules(with_policy(use(Principal="*", Condition=condition)))


@pytest.mark.parametrize(
    ("operator", "name", "values"),
    [
        ("StringEquals", "aws:username", ["admin"]),  # any account has one of this name
        ("StringEquals", "aws:PrincipalAccount", ["${aws:PrincipalAccount}"]),
        ("StringEquals", "kms:CallerAccount", ["${aws:PrincipalAccount}"]),
        ("StringEquals", "aws:userid", ["${aws:userid}"]),
        ("StringEquals", "aws:PrincipalOrgID", ["${aws:PrincipalTag/org}"]),
        ("StringEquals", "aws:PrincipalAccount", ["${kms:EncryptionContext:account}"]),
        ("StringLike", "aws:PrincipalArn", ["arn:aws:iam::${aws:PrincipalAccount}:role/app"]),
        ("StringLike", "aws:userid", ["*:session"]),
        ("StringLike", "aws:SourceVpc", ["vpc-*"]),
        ("StringLike", "aws:SourceVpce", ["vpce-*"]),
        ("StringLike", "aws:SourceOrgID", ["o-*"]),
        ("ForAnyValue:StringLike", "aws:PrincipalOrgPaths", ["o-*/*"]),
        ("ArnLike", "aws:SourceArn", ["arn:aws:s3:::*"]),
        ("IpAddress", "aws:SourceIp", ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"]),
        ("IpAddress", "aws:SourceIp", ["1.2.3.4/0"]),
        ("IpAddress", "aws:SourceIp", ["2000::/3"]),
    ],
)
def test_a_condition_that_everybody_can_meet_does_not_narrow(operator: str, name: str, values: list[str]) -> None:
    assert everybody(operator, name, *values)


@pytest.mark.parametrize(
    ("operator", "name", "value"),
    [
        ("StringEquals", "aws:PrincipalAccount", "${aws:ResourceAccount}"),
        ("StringEquals", "aws:PrincipalOrgID", "${aws:ResourceOrgID}"),
        ("StringLike", "aws:PrincipalArn", f"arn:aws:iam::{OWN}:role/${{aws:PrincipalTag/team}}"),
        ("StringLike", "aws:userid", f"{UNIQUE}:*"),
        ("StringEquals", "aws:SourceVpce", "vpce-1a2b3c4d"),
        ("ForAnyValue:StringLike", "aws:PrincipalOrgPaths", "o-a1b2c3d4e5/*"),
        ("ArnLike", "aws:SourceArn", "arn:aws:s3:::a-bucket/*"),
        ("ArnLike", "aws:SourceArn", f"arn:aws:sns:*:{OWN}:*"),
        ("IpAddress", "aws:SourceIp", "203.0.113.0/24"),
        ("IpAddress", "aws:VpcSourceIp", "10.0.0.0/8"),
        ("IpAddress", "aws:SourceIp", "2001:db8::/32"),
    ],
)
def test_a_condition_that_names_somebody_narrows(operator: str, name: str, value: str) -> None:
    assert not everybody(operator, name, value)


def test_wildcards_beside_a_variable_are_wildcards() -> None:
    def found(value: str) -> bool:
        asked = {"StringLike": {"kms:EncryptionContext:purpose": value}}
        return "key-policy-wildcard-context" in rules(with_policy(use(Condition=asked)))

    assert found("${aws:PrincipalTag/tenant}*")
    assert not found("${aws:PrincipalTag/tenant}")


@pytest.mark.parametrize(
    "resource",
    [
        "arn:aws:kms:*:*:key*",
        "arn:aws:kms:*:*:k*",
        "arn:aws:kms:*:*:*/*",
        "arn:aws:kms:*:*:key/*-*",
        "arn:aws:k*:*:*:*",
    ],
)
def test_whatever_covers_two_keys_that_have_nothing_in_common_covers_all(resource: str) -> None:
    assert "iam-decrypt-all-keys" in rules(with_iam({"Action": "kms:Decrypt", "Resource": resource}))


@pytest.mark.parametrize("resource", ["arn:aws:kms:*:*:alias/*", "arn:aws:s3:::*", "arn:aws:kms:*:*:key/mrk-*"])
def test_what_does_not_cover_both_is_not_about_all_keys(resource: str) -> None:
    assert "iam-decrypt-all-keys" not in rules(with_iam({"Action": "kms:Decrypt", "Resource": resource}))


@pytest.mark.parametrize(
    ("operator", "name"), [("ForAnyValue:StringLike", "kms:ResourceAliases"), ("StringLike", "kms:RequestAlias")]
)
def test_every_alias_is_no_choice_of_keys(operator: str, name: str) -> None:
    def found(alias: str) -> bool:
        condition = {operator: {name: alias}}
        allowed = with_iam({"Action": "kms:Decrypt", "Resource": "*", "Condition": condition})
        return "iam-decrypt-all-keys" in rules(allowed)

    assert found("alias/*")
    assert not found("alias/team-*")


@pytest.mark.parametrize(
    ("condition", "bound"),
    [
        ({"Bool": {"kms:ReEncryptOnSameKey": ["true", "false"]}}, False),
        ({"StringNotEquals": {"kms:ReEncryptOnSameKey": "true"}}, False),
        ({"BoolIfExists": {"kms:ReEncryptOnSameKey": "TRUE"}}, True),
    ],
)
def test_only_what_asks_for_the_same_key_keeps_it(condition: Mapping[str, Any], bound: bool) -> None:
    found = rules(with_policy(use(Action="kms:ReEncrypt*", Condition=BACKUP | dict(condition))))
    assert ("reencrypt-from-unbound" in found) is not bound


@pytest.mark.parametrize(
    ("condition", "bound"),
    [
        ({"StringLike": {"aws:ResourceAccount": "*"}}, False),
        ({"Null": {"aws:ResourceAccount": "false"}}, False),
        ({"StringEquals": {"aws:ResourceAccount": [OWN, FOREIGN]}}, False),
        ({"StringEquals": {"aws:ResourceAccount": OWN}}, True),
        ({"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}, True),
    ],
)
def test_only_what_names_accounts_keeps_data_in_them(condition: Mapping[str, Any], bound: bool) -> None:
    allow = {"Action": "kms:ReEncrypt*", "Resource": "*", "Condition": condition}
    found = rules(with_iam(allow, policy=plus(DELEGATES), who=role("More")))
    assert ("reencrypt-from-unbound" in found) is not bound


@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:GenerateDataKey*"])
@pytest.mark.parametrize(
    ("operator", "value", "shut"),
    [
        ("StringNotEqualsIfExists", VIA, True),
        ("StringEqualsIfExists", VIA, True),
        ("Null", "true", True),
        ("Null", "false", False),
        ("StringEquals", VIA, False),
    ],
)
def test_a_denial_of_direct_calls_is_found_in_every_form(action: str, operator: str, value: str, shut: bool) -> None:
    denial = use(Effect="Deny", Principal="*", Action=action, Condition={operator: {"kms:ViaService": value}})
    assert ("key-policy-via-service" in rules(with_policy(denial))) is shut


@pytest.mark.parametrize(("wanted", "shut"), [("true", False), ("false", True)])
def test_a_policy_that_takes_direct_calls_only_does_not_shut_them_out(wanted: str, shut: bool) -> None:
    direct = {"Principal": {"AWS": APP}, "Action": "kms:Decrypt", "Condition": {"Null": {"kms:ViaService": wanted}}}
    assert ("key-policy-via-service" in rules(clean(key(policy=text(direct)), events=()))) is shut


def test_an_empty_constraint_is_none() -> None:
    assert "grant-unconstrained" in rules(with_grant(subset={}))
    assert "grant-unconstrained" in rules(with_grant(subset=None, equals={}))


def test_a_unique_id_is_that_of_a_principal_that_is_deleted_and_not_a_service() -> None:
    # Nobody can use such a grant, not even who is made again under the same name.
    found = rules(with_grant(subset=None, grantee=UNIQUE, operations=("Decrypt", "CreateGrant")))
    assert found == {"grant-stale"}
    found = rules(with_grant(subset=None, retiring=UNIQUE, operations=("Decrypt", "CreateGrant")))
    assert {"grant-unconstrained", "grant-creates-grants"} <= found


def test_naming_the_key_beside_all_keys_is_not_naming_it() -> None:
    found = rules(with_iam({"Action": "kms:Decrypt", "Resource": [arn(), "*"]}, policy=plus(DELEGATES)))
    assert "key-policy-root-delegation" in found


def _trail(region: str, **changes: Any) -> TrailFacts:
    return replace(TRAIL, arn=f"arn:aws:cloudtrail:{region}:{OWN}:trail/{region}", multi_region=False, **changes)


@pytest.mark.parametrize("lack", [{"excludes": ("kms.amazonaws.com",)}, {"records": "WriteOnly"}])
def test_a_trail_of_another_region_does_not_record_the_calls_of_this_one(lack: Mapping[str, Any]) -> None:
    everywhere = replace(TRAIL, **lack)
    assert "trail-excludes-kms" in rules(clean(trails=(everywhere, _trail(OTHER_REGION))))
    assert "trail-excludes-kms" not in rules(clean(trails=(everywhere, _trail(REGION))))


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("{($.eventName=DisableKey) && ($.eventName=ScheduleKeyDeletion)}", False),
        ("{($.userIdentity.type=Root) && (($.eventName=DisableKey)||($.eventName=ScheduleKeyDeletion))}", False),
        ("{($.eventSource=s3.amazonaws.com) && (($.eventName=DisableKey)||($.eventName=ScheduleKeyDeletion))}", False),
        ("{$.eventName != DisableKey && $.eventName != ScheduleKeyDeletion}", False),
        (
            "{" + "(" * 2000 + "$.eventSource = kms.amazonaws.com" + ")" * 2000 + "}",
            False,
        ),  # more than CloudWatch takes
        ('{$.eventSource = "kms.amazonaws.com"}', True),
        ("{($.errorCode NOT EXISTS) && ($.eventName = DisableKey || $.eventName = ScheduleKeyDeletion)}", True),
        ("{$.eventSource = kms* && ($.eventName=DisableKey||$.eventName=ScheduleKeyDeletion)}", True),
        ("{$.eventName = DisableKey || $.eventName = ScheduleKeyDeletion && $.eventSource = kms.amazonaws.com}", True),
    ],
)
def test_a_metric_filter_counts_where_it_takes_the_call_for_certain(pattern: str, seen: bool) -> None:
    assert ("key-end-no-alarm" in rules(alarm(pattern, kind="filter"))) is not seen


@pytest.mark.parametrize("everybody", ["*", {"AWS": "*"}, {"AWS": [APP, "*"]}, {"AWS": "arn:aws:iam::*:root"}])
def test_a_public_statement_is_found_beside_one_that_is_not_understood(everybody: Any) -> None:
    strange = use(Sid="New", Condition={"StringEquals": {"aws:NotYetKnown": "x"}})
    facts = with_policy(use(Principal=everybody, Condition={}), strange)
    assert [one.what for one in Account(facts).gaps] == ["the key policy"]
    assert "key-policy-public" in rules(facts)


@pytest.mark.parametrize("within", [{"AWS": f"arn:aws:iam::{OWN}:role/*"}, {"AWS": APP}])
def test_a_wildcard_within_an_account_is_not_everybody(within: Any) -> None:
    strange = use(Sid="New", Condition={"StringEquals": {"aws:NotYetKnown": "x"}})
    assert "key-policy-public" not in rules(with_policy(use(Principal=within, Condition={}), strange))


def unseen(facts: Facts) -> list[tuple[str, str]]:
    return [(one.what, one.resource) for one in Account(facts).gaps]


def test_facts_that_leave_out_a_part_are_not_those_of_a_clean_account() -> None:
    bare = Facts(OWN, NOW, (REGION,), keys=(KeyFacts(arn(), NOW),))
    parts = ("principals", "aliases", "trails", "alarms", "events")
    assert unseen(bare) == [*((part, "*") for part in parts), ("the key policy", arn())]


def test_a_principal_that_is_not_understood_is_said() -> None:
    assert unseen(clean(principals=(PrincipalFacts("arn:aws:iam::1:role/x"),))) == [
        ("the principal", "arn:aws:iam::1:role/x")
    ]


def test_envelopes_under_a_key_that_is_not_there_are_said() -> None:
    facts = clean(envelopes_under=(arn(), arn(2)))
    assert unseen(facts) == [("the key", arn(2))]
    assert audit(facts).refused


@pytest.mark.parametrize("changes", [{"expected_aliases": {"a": "arn:x"}}, {"envelopes_under": ["alias/backup"]}])
def test_names_that_can_be_of_no_key_are_refused(changes: Mapping[str, Any]) -> None:
    with pytest.raises(FactsError, match="ARN"):
        _factsfile.load(_factsfile.dump(clean(**changes)), "facts.json")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("alias/nope", "the facts have no 'alias/nope'; name the key by its ARN"),
        (arn().rpartition("/")[2], "is not a key ARN or an alias"),
        ("nonsense", "is not a key ARN or an alias"),
    ],
)
def test_a_key_with_envelopes_is_named_by_its_arn_or_an_alias(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    saved = tmp_path / "facts.json"
    saved.write_bytes(_factsfile.dump(clean()))
    assert run(["audit", "--facts", str(saved), "--envelopes-under", name]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert why in told.err


@pytest.mark.parametrize("name", ["alias/backup", f"arn:aws:kms:{REGION}:{OWN}:alias/backup"])
def test_a_key_with_envelopes_may_be_named_by_an_alias(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    saved = tmp_path / "facts.json"
    saved.write_bytes(_factsfile.dump(clean(key(state="Disabled"))))
    assert run(["audit", "--facts", str(saved), "--envelopes-under", name, "--json"]) == 3
    assert '"unusable-key-with-envelopes"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("who", "condition", "found"),
    [
        ({"AWS": f"arn:aws:iam::{FOREIGN}:root"}, {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ({"AWS": f"arn:aws:iam::{FOREIGN}:root"}, {"StringEquals": {"aws:PrincipalAccount": FOREIGN}}, True),
        ({"AWS": f"arn:aws:iam::{FOREIGN}:root"}, {"StringEquals": {"aws:PrincipalAccount": OWN}}, False),
        ({"AWS": f"arn:aws:iam::{FOREIGN}:root"}, {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, False),
        ("*", {"StringEquals": {"kms:CallerAccount": FOREIGN}}, True),
        ("*", {"StringEquals": {"kms:CallerAccount": [OWN, FOREIGN]}}, True),
        ("*", {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{FOREIGN}:role/*"}}, True),
        ("*", {"StringEquals": {"kms:CallerAccount": OWN}}, False),
        ("*", {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}}, False),
        ("*", {"StringLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/${{aws:PrincipalTag/team}}"}}, False),
        ("*", {"StringEquals": {"kms:CallerAccount": [OWN, FOREIGN], "aws:PrincipalAccount": OWN}}, False),
    ],
)
def test_another_account_is_found_by_whatever_lets_it_in(who: Any, condition: Mapping[str, Any], found: bool) -> None:
    facts = with_policy(use(Principal=who, Condition=condition))
    assert ("key-policy-foreign-account" in rules(facts)) is found
    assert "key-policy-public" not in rules(facts)
    assert "key-policy-foreign-account" not in rules(replace(facts, trusted_accounts=(FOREIGN,)))
