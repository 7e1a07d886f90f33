"""AWS services work with keys by grants, roles and calls of their own: none of these is somebody to be accused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from sealwax.audit import _factsfile
from sealwax.audit._account import Account
from sealwax.audit._collect import cloudtrail
from sealwax.audit._facts import EventFacts, Facts, GrantFacts, PolicyFacts, PrincipalFacts
from sealwax.audit._from_facts import describe_key, describe_principal
from sealwax.audit._rules import run_rules
from sealwax.policy._explain import explain
from tests.audit import accounts, documented
from tests.audit.accounts import (
    ADMIN,
    APP,
    DELEGATES,
    FOREIGN,
    NOW,
    OWN,
    REGION,
    arn,
    days,
    event,
    grant,
    role,
    root,
    use,
)

INSTANCE: Final = f"arn:aws:sts::{OWN}:assumed-role/aws:ec2-infrastructure/i-0123456789abcdef0"
AUTO_SCALING: Final = documented.AUTO_SCALING
SPOT_SESSION: Final = f"arn:aws:sts::{OWN}:assumed-role/AWSServiceRoleForEC2Spot/a"
COGNITO: Final = "cognito-identity.amazonaws.com"
SPOT: Final = f"arn:aws:iam::{OWN}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
VOLUME: Final = {"aws:ebs:id": "vol-0123456789abcdef0"}
OPENS: Final = ("Decrypt", "GenerateDataKeyWithoutPlaintext")
FOR_INSTANCES: Final = (
    *OPENS,
    "Encrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKey",
    "DescribeKey",
    "CreateGrant",
)


def of_service(number: int, grantee: str, **changes: Any) -> GrantFacts:
    return grant(**{"id": f"{number:064x}", "grantee": grantee, "created": NOW - days(700), "subset": None} | changes)


GRANTS: Final = (
    of_service(1, INSTANCE, operations=("Decrypt",), subset=VOLUME, retiring=root(FOREIGN)),
    of_service(2, f"{OWN}:aws:ec2-infrastructure:i-0123456789abcdef0", operations=("Decrypt",), subset=VOLUME),
    of_service(3, INSTANCE, operations=("Decrypt", "CreateGrant", "RetireGrant")),
    of_service(4, AUTO_SCALING, operations=FOR_INSTANCES),
    of_service(5, SPOT_SESSION),
    of_service(6, f"rds.{REGION}.amazonaws.com", operations=FOR_INSTANCES, retiring=f"rds.{REGION}.amazonaws.com"),
    of_service(7, "AWS Internal", operations=("CreateGrant", "RetireGrant", "Decrypt", "GenerateDataKey")),
    of_service(8, "config.amazonaws.com", operations=("Decrypt", "GenerateDataKey")),
)


def record(
    number: int, name: str, who: Mapping[str, Any], context: Mapping[str, str] | None, **more: Any
) -> dict[str, Any]:
    """Return a CloudTrail record of a call of KMS."""
    return {
        "eventSource": "kms.amazonaws.com",
        "eventID": f"event-{number}",
        "eventTime": (NOW - days(1)).isoformat(),
        "eventName": name,
        "awsRegion": REGION,
        "userIdentity": dict(who),
        "requestParameters": {"encryptionContext": context} if context else None,
        "resources": [{"ARN": arn(), "accountId": OWN}],
        "eventType": "AwsApiCall",
        "recipientAccountId": OWN,
        "sourceIPAddress": "192.0.2.1",
        "userAgent": "an agent",
    } | more


def session(of: str, name: str = "one", **more: Any) -> dict[str, Any]:
    """Return the identity of a session of a role."""
    shown = of.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
    start, _, rest = shown.partition(":assumed-role/")
    issuer = {"type": "Role", "arn": of, "accountId": of.split(":")[4]}
    return {
        "type": "AssumedRole",
        "arn": f"{start}:assumed-role/{rest.rpartition('/')[2]}/{name}",
        "accountId": of.split(":")[4],
        "sessionContext": {"sessionIssuer": issuer},
    } | more


RECORDS: Final = (
    # The volume of an instance is attached: "Amazon EC2 example two" in the KMS Developer Guide.
    record(1, "Decrypt", session(f"arn:aws:iam::{OWN}:role/aws:ec2-infrastructure", "i-0123456789abcdef0"), VOLUME),
    record(2, "Decrypt", session(AUTO_SCALING, "AutoScaling"), VOLUME),
    record(3, "Decrypt", session(AUTO_SCALING, "AutoScaling", invokedBy="autoscaling.amazonaws.com"), VOLUME),
    record(4, "Decrypt", {"type": "AWSService", "invokedBy": "rds.amazonaws.com"}, {"aws:rds:db-id": "db-1"}),
    record(5, "Decrypt", session(role("Gone"), invokedBy="AWS Internal"), VOLUME),
    record(6, "Decrypt", session(role("Gone")), VOLUME, sourceIPAddress="ec2.amazonaws.com"),
    record(7, "Decrypt", session(role("Gone")), None, sourceIPAddress="AWS Internal"),
    record(8, "RotateKey", {"accountId": OWN, "invokedBy": "AWS Internal"}, None, eventType="AwsServiceEvent"),
    record(9, "Decrypt", {"accountId": OWN}, None, eventType="AwsServiceEvent"),
    record(10, "GenerateDataKey", {"type": "AWSService", "invokedBy": "config.amazonaws.com"}, None),
    record(11, "GenerateDataKey", {"type": "AWSService", "invokedBy": "cloudtrail.amazonaws.com"}, None),
    record(12, "Decrypt", {"type": "AWSService"}, None),
    # Who of the account called is not told.
    record(13, "Decrypt", {"type": "Unknown", "accountId": OWN}, {"purpose": "backup"}),
)


def events(*records: Mapping[str, Any]) -> tuple[EventFacts, ...]:
    return cloudtrail.load(json.dumps(list(records)).encode(), "events.json")


def busy() -> Facts:
    """Return an account with what EBS, RDS, CloudTrail, Auto Scaling and Config make of a key."""
    config = accounts.use(
        Principal={"Service": "config.amazonaws.com"},
        Action=["kms:Decrypt", "kms:GenerateDataKey"],
        Condition={"StringEquals": {"AWS:SourceAccount": OWN}},
    )
    scaling = [
        accounts.use(
            Principal={"AWS": AUTO_SCALING}, Action=["kms:Decrypt", "kms:Encrypt", "kms:ReEncrypt*"], Condition={}
        ),
        accounts.use(Principal={"AWS": AUTO_SCALING}, Action="kms:CreateGrant", Condition=documented.FOR_AWS),
    ]
    trail = documented.CLOUDTRAIL_DEFAULT[1:]
    return accounts.clean(
        accounts.key(policy=accounts.plus(config, *scaling, *trail), grants=GRANTS),
        principals=(*(PrincipalFacts(one) for one in (ADMIN, APP, AUTO_SCALING, SPOT)),),
        events=(event(), *events(*RECORDS)),
    )


def test_an_account_that_uses_ebs_rds_cloudtrail_auto_scaling_and_config_has_no_finding() -> None:
    facts = busy()
    assert len(facts.keys[0].grants or ()) == 8
    assert len(facts.events or ()) == 14
    account = Account(_factsfile.load(_factsfile.dump(facts), "facts.json"))
    assert run_rules(account) == ()
    assert account.gaps == ()


@pytest.mark.parametrize(("context", "allowed"), [(VOLUME, True), ({"aws:ebs:id": "vol-another"}, False)])
def test_what_ebs_may_is_explained_by_its_grant(context: dict[str, str], allowed: bool) -> None:
    facts = busy()
    some = replace(facts, keys=(replace(facts.keys[0], grants=GRANTS[:1]),))
    seen = describe_principal(some, INSTANCE)
    decision = explain(
        seen.who,
        "kms:Decrypt",
        describe_key(some, arn()),
        identity_policies=seen.policies,
        time=NOW,
        encryption_context=context,
    )
    assert decision.allowed is allowed
    assert ("grant" in decision.reason) is True


def test_a_service_without_a_source_is_the_one_finding_about_services() -> None:
    facts = busy()
    policy = json.loads(facts.keys[0].policy or "")
    for one in policy["Statement"]:
        if one["Principal"] == {"Service": "config.amazonaws.com"}:
            del one["Condition"]
    (found,) = run_rules(Account(replace(facts, keys=(replace(facts.keys[0], policy=json.dumps(policy)),))))
    assert (found.rule, found.severity.name) == ("key-policy-service-any-account", "MEDIUM")


@pytest.mark.parametrize(
    ("grantee", "expected"),
    [
        (AUTO_SCALING, set()),
        (INSTANCE, set()),
        # Anybody may name a role so; a session does not show that it has the path of services.
        (f"arn:aws:sts::{OWN}:assumed-role/AWSServiceRoleForMe/x", {"grant-unconstrained", "grant-creates-grants"}),
        (role("AWSServiceRoleForMe"), {"grant-unconstrained", "grant-creates-grants", "grant-stale"}),
        (role("ec2-infrastructure"), {"grant-unconstrained", "grant-creates-grants", "grant-stale"}),
        # Its account is somebody else's, whoever assumes it.
        (AUTO_SCALING.replace(OWN, FOREIGN), {"grant-foreign-account"}),
        # A role of the service that is no longer there.
        (SPOT, {"grant-stale"}),
        ("AROAEXAMPLEEXAMPLE123", {"grant-stale"}),
        ("AIDAEXAMPLEEXAMPLE123", {"grant-stale"}),
    ],
)
def test_whose_grant_is_a_service_s(grantee: str, expected: set[str]) -> None:
    made = grant(grantee=grantee, subset=None, operations=("Decrypt", "CreateGrant"))
    people = tuple(PrincipalFacts(one) for one in (ADMIN, APP, AUTO_SCALING))
    found = run_rules(Account(accounts.clean(accounts.key(grants=(made,)), principals=people)))
    assert {one.rule for one in found} == expected


def unexpected(facts: Facts) -> list[str]:
    return [one.title for one in run_rules(Account(facts)) if one.rule == "decrypt-unexpected-principal"]


def lent(grantee: str, **more: Any) -> Facts:
    return accounts.clean(accounts.key(grants=(grant(grantee=grantee, **more),)), events=())


SESSION: Final = f"arn:aws:sts::{OWN}:assumed-role/Admin/run-1"


def test_a_session_that_a_grant_names_is_expected_and_another_is_not() -> None:
    facts = lent(SESSION)
    called = events(record(1, "Decrypt", session(ADMIN, "run-1"), {"purpose": "backup"}))
    assert called[0].session == SESSION
    assert unexpected(replace(facts, events=called)) == []
    seen = describe_principal(facts, SESSION)
    allowed = explain(
        seen.who,
        "kms:Decrypt",
        describe_key(facts, arn()),
        identity_policies=seen.policies,
        time=NOW,
        encryption_context={"purpose": "backup"},
    )
    assert allowed.allowed
    other = events(record(1, "Decrypt", session(ADMIN, "run-2"), {"purpose": "backup"}))
    assert len(unexpected(replace(facts, events=other))) == 1


def test_a_session_that_the_key_policy_names_is_expected() -> None:
    facts = accounts.with_policy(use(Principal={"AWS": SESSION}))
    called = events(record(1, "Decrypt", session(ADMIN, "run-1"), {"purpose": "backup"}))
    assert unexpected(replace(facts, events=called)) == []


def test_where_events_do_not_tell_the_session_that_is_said() -> None:
    facts = replace(lent(SESSION), events=(event(principal=ADMIN),))
    assert unexpected(facts) == []
    (one,) = Account(facts).gaps
    assert (one.what, one.resource, one.refused) == ("its decryption calls", ADMIN, False)
    assert "do not show the session" in one.why


def test_of_a_federated_user_nothing_is_said_but_that() -> None:
    who = f"arn:aws:sts::{OWN}:federated-user/fay"
    facts = accounts.events(event(principal=who))
    assert unexpected(facts) == []
    assert [(one.resource, one.refused) for one in Account(facts).gaps] == [(who, False)]
    assert unexpected(replace(accounts.with_policy(use(Principal={"AWS": who})), events=facts.events)) == []


def test_whose_policies_were_not_all_looked_at_is_not_accused() -> None:
    facts = accounts.with_iam({"Action": "s3:*", "Resource": "*"}, policy=accounts.plus(DELEGATES))
    facts = replace(facts, events=(event(principal=role("Reader")),))
    people = (*(facts.principals or ()), PrincipalFacts(role("Reader"), ("odd",)))
    assert len(unexpected(replace(facts, principals=people[:-1]))) == 1
    odd = PolicyFacts("odd", "customer", '{"Statement": [{"Effect": "Perhaps"}]}')
    unread = replace(facts, principals=people, policies=(*(facts.policies or ()), odd))
    assert unexpected(unread) == []
    assert [one.what for one in Account(unread).gaps] == ["the identity policy"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, False),
        ({"Null": {"aws:SourceVpce": "false"}}, False),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, False),
        ({"StringEquals": {"aws:PrincipalTag/team": "a"}}, False),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, False),
        ({"StringEquals": {"kms:RequestAlias": "alias/backup"}}, False),
        ({"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": APP}}, True),
        ({"StringEquals": {"kms:KeySpec": "RSA_2048"}}, True),
        ({"DateLessThan": {"aws:CurrentTime": "2026-11-24T00:00:00Z"}}, False),
        ({"DateLessThan": {"aws:CurrentTime": "2026-11-01T00:00:00Z"}}, True),
    ],
)
def test_what_an_event_does_not_tell_is_taken_as_the_policy_wants_it(condition: dict[str, Any], found: bool) -> None:
    facts = accounts.with_policy(use(Principal={"AWS": ADMIN}, Condition=condition))
    assert bool(unexpected(replace(facts, events=(event(principal=ADMIN),)))) is found


def test_a_denial_that_holds_for_certain_is_told_from_one_that_may_not() -> None:
    def facts(condition: dict[str, Any]) -> Facts:
        denial = use(Effect="Deny", Principal="*", Condition=condition)
        return replace(accounts.with_policy(denial), events=(event(),))

    assert len(unexpected(facts({}))) == 1
    assert unexpected(facts({"StringNotEquals": {"aws:SourceVpce": "vpce-1a2b3c4d"}})) == []


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (use(Principal={"AWS": role("X", FOREIGN)}), False),
        (use(Principal={"AWS": root(FOREIGN)}, Condition={}), False),
        (use(Principal={"AWS": root(FOREIGN)}, Action="kms:Encrypt"), True),
        (use(Principal="*", Condition={"StringEquals": {"kms:CallerAccount": FOREIGN}}), False),
        (use(Principal="*", Condition={"StringEquals": {"kms:CallerAccount": OWN}}), True),
    ],
)
def test_an_event_does_not_tell_who_of_another_account_called(statement: dict[str, Any], found: bool) -> None:
    called = events(record(1, "Decrypt", {"type": "AWSAccount", "accountId": FOREIGN, "principalId": "AROAX:y"}, None))
    facts = replace(accounts.with_policy(statement), events=called)
    assert bool(unexpected(facts)) is found


def test_a_grant_to_somebody_of_another_account_explains_its_calls() -> None:
    called = events(record(1, "Decrypt", {"type": "AWSAccount", "accountId": FOREIGN}, None))
    for grantee in (role("X", FOREIGN), "AROAEXAMPLEEXAMPLE123"):
        assert unexpected(replace(lent(grantee), events=called)) == []
    assert len(unexpected(replace(lent(role("X", "123412341234")), events=called))) == 1


def test_who_could_when_it_called_is_not_accused_of_what_it_does_later() -> None:
    until = {"DateLessThan": {"aws:CurrentTime": (NOW - days(2)).isoformat().replace("+00:00", "Z")}}
    facts = accounts.with_policy(use(Principal={"AWS": ADMIN}, Condition=until))
    before = event(1, principal=ADMIN, time=NOW - days(3))
    after = event(2, principal=ADMIN, time=NOW - days(1))
    assert unexpected(replace(facts, events=(before,))) == []
    (title,) = unexpected(replace(facts, events=(before, after)))
    assert title.endswith("called Decrypt once")
    assert before.time + timedelta(days=2) == after.time


# --- identity providers


@pytest.mark.parametrize(
    ("provider", "condition", "found"),
    [
        ("*", {}, {"key-policy-public"}),
        ("accounts.google.com", {}, {"key-policy-public"}),
        (["www.amazon.com", f"arn:aws:iam::{OWN}:saml-provider/Corp"], {}, {"key-policy-public"}),
        (COGNITO, {}, {"key-policy-public"}),
        (
            "cognito-identity.amazonaws.com",
            {"StringEquals": {f"{COGNITO}:aud": "eu-west-1:1"}},
            set(),
        ),
        (
            "cognito-identity.amazonaws.com",
            {"StringLike": {f"{COGNITO}:aud": "*"}},
            {"key-policy-public"},
        ),
        ("accounts.google.com", {"StringEquals": {"kms:CallerAccount": OWN}}, set()),
        ("accounts.google.com", {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, set()),
        (f"arn:aws:iam::{OWN}:saml-provider/Corp", {}, set()),
        (f"arn:aws:iam::{OWN}:oidc-provider/token.actions.githubusercontent.com", {}, set()),
        (f"arn:aws:iam::{FOREIGN}:saml-provider/Corp", {}, {"key-policy-foreign-account"}),
    ],
)
def test_an_identity_provider_is_judged(provider: Any, condition: dict[str, Any], found: set[str]) -> None:
    facts = accounts.with_policy(use(Principal={"Federated": provider}, Condition=condition, Action="kms:Encrypt"))
    account = Account(facts)
    assert {one.rule for one in run_rules(account)} == found
    assert account.gaps == ()
    reach = {one.principal for one in account.access()}
    assert any(one.startswith("federated:") for one in reach)


# --- everybody, with what keeps everybody out


@pytest.mark.parametrize(
    ("condition", "public"),
    [
        ({"StringNotEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, False),
        ({"StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, False),
        ({"StringNotEquals": {"kms:CallerAccount": OWN}}, False),
        ({"StringNotEquals": {"aws:PrincipalAccount": [OWN, FOREIGN]}}, False),
        ({"ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{OWN}:role/*"}}, False),
        ({"StringNotEquals": {"aws:SourceVpce": "vpce-1a2b3c4d"}}, False),
        ({"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, False),
        ({"ForAllValues:StringNotLike": {"aws:PrincipalOrgPaths": "o-a1b2c3d4e5/*"}}, False),
        (
            {
                "StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"},
                "BoolIfExists": {"aws:PrincipalIsAWSService": "false"},
            },
            False,
        ),
        # A request without an organization is none that this denies.
        ({"ForAnyValue:StringNotLike": {"aws:PrincipalOrgPaths": "o-a1b2c3d4e5/*"}}, True),
        ({"StringNotLike": {"aws:PrincipalOrgID": "o-*"}}, True),
        ({"StringNotEquals": {"aws:PrincipalTag/team": "a"}}, True),
        ({"StringNotEquals": {"kms:EncryptionContext:purpose": "backup"}}, True),
        ({"Null": {"aws:PrincipalOrgID": "true"}}, True),
        # Whoever comes through a service is spared by it.
        (
            {
                "StringNotEqualsIfExists": {"aws:SourceVpc": "vpc-1a2b3c4d"},
                "BoolIfExists": {"aws:ViaAWSService": "false"},
            },
            True,
        ),
    ],
)
def test_a_denial_keeps_everybody_out_where_it_holds_for_everybody(condition: dict[str, Any], public: bool) -> None:
    open_to_all = use(Principal="*", Condition={}, Action=["kms:Encrypt", "kms:GenerateDataKey"])
    denial = use(Sid="Deny", Effect="Deny", Principal="*", Action="kms:*", Condition=condition)
    rules = {one.rule for one in run_rules(Account(accounts.with_policy(open_to_all, denial)))}
    assert ("key-policy-public" in rules) is public


@pytest.mark.parametrize(
    ("denial", "public"),
    [
        ({"Action": "kms:Encrypt"}, True),  # the other action is left
        ({"NotAction": "kms:DescribeKey"}, False),
        ({"Action": "kms:*", "Principal": {"AWS": APP}}, True),
        ({"Action": "kms:*", "NotPrincipal": {"AWS": [APP, root()]}}, False),
        ({"Action": "kms:*", "Resource": arn(7)}, True),
    ],
)
def test_a_denial_is_of_what_it_is_about(denial: dict[str, Any], public: bool) -> None:
    open_to_all = use(Principal="*", Condition={}, Action=["kms:Encrypt", "kms:GenerateDataKey"])
    made = {"Sid": "Deny", "Effect": "Deny", **({} if "NotPrincipal" in denial else {"Principal": "*"}), **denial}
    rules = {one.rule for one in run_rules(Account(accounts.with_policy(open_to_all, made)))}
    assert ("key-policy-public" in rules) is public


@pytest.mark.parametrize(
    "condition",
    [
        {"Bool": {"aws:PrincipalIsAWSService": "true"}},
        {"StringEquals": {"aws:PrincipalServiceName": "s3.amazonaws.com"}},
        {"Null": {"aws:PrincipalArn": "true"}},
        {"StringEquals": {"aws:ResourceAccount": FOREIGN}},
        {"StringEquals": {"kms:KeySpec": "RSA_2048"}},
        {"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
        {"StringEquals": {"aws:ResourceTag/open": "yes"}},
        {"StringEquals": {"aws:PrincipalType": "Anybody"}},
        {"ArnLike": {"lambda:SourceFunctionArn": f"arn:aws:lambda:eu-west-1:{OWN}:function:*"}},
        {"StringEquals": {"aws:FederatedProvider": f"arn:aws:iam::{OWN}:saml-provider/Corp"}},
    ],
)
def test_a_condition_that_no_outsider_can_meet_is_none_that_everybody_meets(condition: dict[str, Any]) -> None:
    facts = accounts.with_policy(use(Principal="*", Condition=condition, Action="kms:Encrypt"))
    assert "key-policy-public" not in {one.rule for one in run_rules(Account(facts))}


def test_what_one_can_do_with_a_key_of_another_account_is_what_counts() -> None:
    for who in ("*", {"AWS": root(FOREIGN)}):
        facts = accounts.with_policy(use(Principal=who, Condition={}, Action=["kms:PutKeyPolicy", "kms:TagResource"]))
        assert {one.rule for one in run_rules(Account(facts))} == set()


@pytest.mark.parametrize("beside", [{"aws:PrincipalOrgID": "o-a1b2c3d4e5"}, {"kms:CallerAccount": OWN}, {}])
def test_a_condition_key_that_is_not_known_is_listed_and_not_judged(beside: dict[str, str]) -> None:
    condition = {"StringEquals": {"aws:NotYetKnown": "x"} | beside}
    account = Account(accounts.with_policy(use(Principal="*", Condition=condition)))
    assert "key-policy-public" not in {one.rule for one in run_rules(account)}
    (one,) = account.gaps
    assert (one.what, one.refused) == ("the key policy", True)
    assert "aws:NotYetKnown" in one.why


def test_a_denial_that_is_not_understood_may_keep_everybody_out() -> None:
    strange = use(Sid="No", Effect="Deny", Principal="*", Condition={"StringEquals": {"aws:NotYetKnown": "x"}})
    account = Account(accounts.with_policy(use(Principal="*", Condition={}), strange))
    assert "key-policy-public" not in {one.rule for one in run_rules(account)}
    assert len(account.gaps) == 1
