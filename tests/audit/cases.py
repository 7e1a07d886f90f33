"""For each rule accounts that break it, and near misses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sealwax.audit._facts import Facts, RotationFacts
from sealwax.policy import KeyUsers, RequiredContext, write_key_policy
from sealwax.policy._expiry import due_name
from tests.audit.accounts import (
    ADMIN,
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
    days,
    denials,
    event,
    events,
    family,
    grant,
    key,
    movers,
    plus,
    role,
    root,
    rotation,
    text,
    trail,
    use,
    with_grant,
    with_iam,
    with_policy,
)

Make = Callable[[], Facts]

USE: Final = "kms:EncryptionContext:sealwax-use"
SHOP: Final = {"StringEquals": {"kms:EncryptionContext:app": "shop"}}
RECORD: Final = {"app": "shop", "sealwax-use": "records-data"}
OWNED: Final = {"Sid": "Own", "Principal": {"AWS": ADMIN}, "Action": "kms:PutKeyPolicy"}
RECORDS: Final = {
    "Sid": "Records",
    "Principal": {"AWS": APP},
    "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
    "Condition": SHOP | {"Null": {USE: "false"}},
}
RECORDS_WRITTEN: Final = json.dumps(
    write_key_policy(
        [ADMIN],
        KeyUsers(decrypt=[role("More")], records=[APP], rotate_records=[role("Mover")]),
        RequiredContext({"app": "shop"}),
    )
)


def records_on(*statements: Mapping[str, Any], **changes: Any) -> Facts:
    """Return an account whose key has records of a role, and statements about others."""
    return clean(key(policy=text(OWNED, RECORDS, *statements), **changes))


def made_by(who: str, **changes: Any) -> Facts:
    """Return an account with such a key, and an event of a data key that was made for records."""
    given = {"name": "GenerateDataKey", "principal": who, "context": RECORD} | changes
    return replace(records_on(), events=(event(**given),))


FILTER: Final = (
    "{($.eventSource = kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName = ScheduleKeyDeletion))}"
)
_S3: Final = {"Service": "s3.amazonaws.com"}
_LOGS: Final = "kms:EncryptionContext:aws:logs:arn"
_EVERY_KEY: Final = {"Action": ["kms:Decrypt"], "Resource": "*"}

#: For each rule: accounts that break it, and near misses, which no finding of that rule is about.
CASES: Final[Mapping[str, tuple[tuple[Make, ...], tuple[Make, ...]]]] = {
    "key-policy-public": (
        (
            lambda: with_policy(use(Principal="*", Condition={})),
            lambda: with_policy(use(Principal={"AWS": ["*"]})),
            lambda: with_policy(use(Principal="*", Condition={"StringLike": {"aws:PrincipalArn": "*"}})),
            lambda: with_policy(use(Principal="*", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})),
            lambda: with_policy(use(Principal="*", Condition={"StringNotEquals": {"aws:PrincipalAccount": OWN}})),
            lambda: with_policy(use(Principal="*", Condition={"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}})),
        ),
        (
            lambda: with_policy(use(Principal="*", Condition=BACKUP | {"StringLike": {"aws:PrincipalArn": APP}})),
            lambda: with_policy(use(Principal="*", Condition={"StringEquals": {"kms:CallerAccount": OWN}})),
            lambda: with_policy(use(Principal="*", Effect="Deny", Condition={})),
        ),
    ),
    "key-policy-not-principal": (
        (lambda: with_policy({"NotPrincipal": {"AWS": role("Bad")}, "Action": "kms:Decrypt"}),),
        (lambda: with_policy({"NotPrincipal": {"AWS": APP}, "Action": "kms:Decrypt", "Effect": "Deny"}),),
    ),
    "key-policy-foreign-account": (
        (
            lambda: with_policy(use(Principal={"AWS": root(FOREIGN)})),
            lambda: with_policy(use(Principal={"AWS": role("X", FOREIGN)})),
        ),
        (
            lambda: replace(with_policy(use(Principal={"AWS": root(FOREIGN)})), trusted_accounts=(FOREIGN,)),
            lambda: with_policy(use(Principal={"AWS": role("X", FOREIGN)}, Effect="Deny")),
        ),
    ),
    "key-policy-service-any-account": (
        (
            lambda: with_policy(use(Principal=_S3, Condition={})),
            lambda: with_policy(use(Principal=_S3, Action="kms:GenerateDataKey*", Condition=BACKUP)),
            lambda: with_policy(use(Principal=_S3, Condition={"StringLike": {"aws:SourceAccount": "1*"}})),
            lambda: with_policy(use(Principal=_S3, Condition={"StringEqualsIfExists": {"aws:SourceAccount": OWN}})),
            lambda: with_policy(use(Principal=_S3, Condition={"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:*"}})),
            lambda: with_policy(use(Principal=_S3, Action="kms:CreateGrant", Condition={})),
        ),
        (
            lambda: with_policy(use(Principal=_S3, Condition={"StringEquals": {"aws:SourceAccount": OWN}})),
            lambda: with_policy(use(Principal=_S3, Condition={"ArnLike": {"aws:SourceArn": f"arn:aws:s3:*:{OWN}:*"}})),
            lambda: with_policy(use(Principal=_S3, Condition={"StringEquals": {"aws:SourceOrgID": "o-a1b2c3d4e5"}})),
            lambda: with_policy(use(Principal=_S3, Action="kms:DescribeKey", Condition={})),
            lambda: with_policy(use(Principal=_S3, Condition={"ArnLike": {_LOGS: f"arn:aws:logs:*:{OWN}:*"}})),
            lambda: with_policy(
                use(Principal=_S3, Condition={}),
                use(Principal="*", Effect="Deny", Condition={"StringNotEquals": {"aws:SourceAccount": OWN}}),
            ),
            lambda: with_policy(use(Principal=_S3, Effect="Deny", Condition={})),
        ),
    ),
    "key-policy-root-delegation": (
        (lambda: with_iam({"Action": "kms:*", "Resource": f"arn:aws:kms:*:{OWN}:key/*"}, policy=plus(DELEGATES)),),
        (
            lambda: with_iam({"Action": "kms:Decrypt", "Resource": arn()}, policy=plus(DELEGATES)),
            lambda: with_iam({"Action": "kms:Describe*", "Resource": "*"}, policy=plus(DELEGATES)),
        ),
    ),
    "key-policy-no-context": (
        (
            lambda: with_policy(use(Condition={})),
            lambda: clean(
                key(
                    policy=text(
                        use(Condition={"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "purpose"}}),
                        use(Condition={}),
                    )
                ),
                events=(),
            ),
            lambda: with_policy(use(Condition={"Bool": {"aws:SecureTransport": "true"}})),
        ),
        (
            lambda: with_policy(use()),
            lambda: with_policy(use(Condition={}, Action="kms:Encrypt")),
            lambda: clean(
                key(policy=text({"Principal": {"AWS": APP}, "Action": "kms:Decrypt"})), events=(event(context=None),)
            ),
        ),
    ),
    "key-policy-wildcard-context": (
        (
            lambda: with_policy(use(Condition={"StringLike": {"kms:EncryptionContext:purpose": "*"}})),
            lambda: with_policy(use(Condition={"StringLike": {"kms:EncryptionContext:purpose": "back*"}})),
        ),
        (
            lambda: with_policy(use(Condition={"StringLike": {"kms:EncryptionContext:purpose": "backup"}})),
            lambda: with_policy(use(Condition={"StringEquals": {"kms:EncryptionContext:purpose": "*"}})),
        ),
    ),
    "key-policy-admin-can-use": (
        (lambda: with_policy(use(Principal={"AWS": ADMIN})), lambda: with_policy(use(Action="kms:*"))),
        (
            lambda: with_policy(use(Principal={"AWS": ADMIN}, Action="kms:Encrypt")),
            lambda: with_policy(use(Action="kms:PutKeyPolicy", Condition={})),
        ),
    ),
    "iam-decrypt-all-keys": (
        (
            lambda: with_iam(_EVERY_KEY),
            lambda: with_iam({"Action": "kms:ReEncrypt*", "Resource": f"arn:aws:kms:*:{OWN}:key/*"}),
            lambda: with_iam({"NotAction": "iam:*", "Resource": "*"}),
            lambda: with_iam(_EVERY_KEY, kind="aws"),
        ),
        (
            lambda: with_iam({"Action": "kms:Decrypt", "Resource": arn()}),
            lambda: with_iam({"Action": "kms:Encrypt", "Resource": "*"}),
            lambda: with_iam(_EVERY_KEY | {"Effect": "Deny"}),
            lambda: with_iam(_EVERY_KEY | {"Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}}}),
        ),
    ),
    "reencrypt-from-unbound": (
        (
            lambda: with_policy(use(Action="kms:ReEncryptFrom")),
            lambda: with_iam(
                {"Action": "kms:ReEncrypt*", "Resource": f"arn:aws:kms:*:*:{arn().rpartition(':')[2]}"},
                policy=plus(DELEGATES),
                who=role("More"),
            ),
            lambda: clean(
                key(policy=plus(use(Action="kms:ReEncryptFrom", Principal={"AWS": ADMIN}))),
                key(2, policy=plus(use(Action=["kms:ReEncryptTo", "kms:Decrypt"], Principal={"AWS": ADMIN}))),
            ),
        ),
        (
            lambda: with_policy(use(Action=["kms:ReEncryptFrom", "kms:Decrypt"])),
            lambda: with_policy(
                use(Action="kms:ReEncrypt*", Condition=BACKUP | {"Bool": {"kms:ReEncryptOnSameKey": "true"}})
            ),
            lambda: clean(
                key(policy=plus(use(Action="kms:ReEncryptFrom", Principal={"AWS": ADMIN}))),
                key(2, policy=plus(use(Action="kms:ReEncryptTo", Principal={"AWS": ADMIN}))),
            ),
            lambda: with_iam({"Action": "kms:ReEncrypt*", "Resource": arn()}, policy=plus(DELEGATES), who=role("More")),
        ),
    ),
    "reencrypt-asymmetry": (
        (
            lambda: with_policy(use(Action="kms:ReEncryptTo", Principal={"AWS": APP})),
            lambda: with_policy(use(Action=["kms:ReEncryptFrom", "kms:Decrypt"], Principal={"AWS": APP})),
        ),
        (
            lambda: clean(
                key(policy=plus(use(Action=["kms:ReEncryptFrom", "kms:Decrypt"], Principal={"AWS": APP}))),
                key(2, policy=plus(use(Action="kms:ReEncryptTo", Principal={"AWS": APP}))),
            ),
        ),
    ),
    "key-policy-via-service": (
        (
            lambda: clean(
                key(
                    policy=text(
                        {
                            "Principal": {"AWS": APP},
                            "Action": "kms:Decrypt",
                            "Condition": {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}},
                        }
                    )
                ),
                events=(),
            ),
            lambda: with_policy(
                use(
                    Effect="Deny",
                    Principal="*",
                    Condition={"StringNotEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}},
                )
            ),
        ),
        (lambda: with_policy(use(Condition={"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}})),),
    ),
    "grant-unconstrained": (
        (lambda: with_grant(subset=None),),
        (
            lambda: with_grant(),
            lambda: with_grant(subset=None, operations=("DescribeKey",)),
            lambda: with_grant(subset=None, grantee="rds.amazonaws.com"),
        ),
    ),
    "grant-creates-grants": (
        (lambda: with_grant(operations=("Decrypt", "CreateGrant")),),
        (lambda: with_grant(operations=("CreateGrant",), retiring="rds.amazonaws.com"),),
    ),
    "grant-overdue": (
        (lambda: with_grant(name=due_name(NOW - timedelta(seconds=1))),),
        (lambda: with_grant(name=due_name(NOW + timedelta(seconds=1))),),
    ),
    "grant-stale": (
        (lambda: with_grant(grantee=role("Gone")), lambda: with_grant(created=NOW - days(366))),
        (
            lambda: with_grant(created=NOW - days(364)),
            lambda: replace(with_grant(grantee=role("Gone")), principals=None),
        ),
    ),
    "grant-foreign-account": (
        (lambda: with_grant(grantee=role("X", FOREIGN)),),
        (lambda: replace(with_grant(grantee=role("X", FOREIGN)), trusted_accounts=(FOREIGN,)),),
    ),
    "rotation-off": (
        (lambda: rotation(rotation=RotationFacts(False)),),
        (
            lambda: rotation(rotation=RotationFacts(False), origin="EXTERNAL"),
            lambda: rotation(rotation=RotationFacts(False), state="Disabled"),
            lambda: rotation(rotation=None),
        ),
    ),
    "rotation-period-long": (
        (lambda: rotation(rotation=RotationFacts(True, 366)),),
        (lambda: rotation(rotation=RotationFacts(True, 90)),),
    ),
    "never-rotated": (
        (lambda: rotation(created=NOW - days(366)), lambda: rotation(created=NOW - days(366), origin="EXTERNAL")),
        (
            lambda: rotation(created=NOW - days(364)),
            lambda: rotation(created=NOW - days(800), rotations=(NOW - days(5),)),
            lambda: rotation(created=NOW - days(800), rotations=None),
        ),
    ),
    "imported-material-expires": (
        (lambda: rotation(origin="EXTERNAL", valid_to=NOW + days(30)),),
        (lambda: rotation(origin="EXTERNAL", valid_to=NOW + days(31)), lambda: rotation(origin="EXTERNAL")),
    ),
    "unusable-key-with-envelopes": (
        (
            lambda: clean(key(state="Disabled"), envelopes_under=(arn(),)),
            lambda: clean(key(state="PendingDeletion", deletion_date=NOW + days(7)), envelopes_under=(arn(),)),
        ),
        (
            lambda: clean(key(state="Disabled"), key(2), envelopes_under=(arn(2),)),
            lambda: clean(key(), envelopes_under=(arn(),)),
        ),
    ),
    "key-pending-deletion": (
        (lambda: rotation(state="PendingDeletion", deletion_date=NOW + days(7)),),
        (lambda: rotation(state="Disabled"), lambda: rotation(state="PendingDeletion", manager="AWS")),
    ),
    "key-unused": (
        (lambda: rotation(last_used=NOW - days(91)), lambda: rotation(last_used=None)),
        (
            lambda: rotation(last_used=NOW - days(89)),
            lambda: rotation(last_used=None, tracked_since=NOW - days(89)),
            lambda: clean(key(last_used=NOW - days(91)), envelopes_under=(arn(),)),
        ),
    ),
    "custom-key-store": (
        (lambda: rotation(key_store="cks-1234567890abcdef0", origin="AWS_CLOUDHSM"),),
        (lambda: rotation(origin="EXTERNAL"),),
    ),
    "envelopes-under-aws-managed-key": (
        (lambda: clean(key(manager="AWS"), envelopes_under=(arn(),)),),
        (lambda: clean(key(), key(2, manager="AWS"), envelopes_under=(arn(),)),),
    ),
    "replica-policy-differs": ((lambda: family("other"),), (lambda: family(),)),
    "replica-missing": (
        (
            lambda: family(None),
            lambda: family(state="Disabled"),
            lambda: clean(key(multi_region="primary", related=(arn(),))),
        ),
        (lambda: family(), lambda: replace(family(None), regions=(REGION,))),
    ),
    "alias-unexpected-key": (
        (
            lambda: clean(expected_aliases={"alias/backup": arn(2)}),
            lambda: clean(expected_aliases={"backup": arn(2).partition("/")[2]}),
            lambda: clean(expected_aliases={"alias/other": arn(2)}),
        ),
        (
            lambda: clean(expected_aliases={"backup": arn().partition("/")[2]}),
            lambda: clean(expected_aliases={"alias/backup": arn(2, OTHER_REGION)}),
            lambda: clean(expected_aliases={"alias/other": arn(2)}, aliases=None),
        ),
    ),
    "alias-movable": (
        (lambda: movers(4), lambda: movers(4, alias="backup")),
        (lambda: movers(3), lambda: movers(4, alias="other"), lambda: movers(4, effect="Deny")),
    ),
    "trail-missing": (
        (lambda: clean(trails=()), lambda: trail(logging=False)),
        (lambda: trail(), lambda: trail(logging=None), lambda: clean(trails=None)),
    ),
    "trail-single-region": (
        (lambda: trail(multi_region=False),),
        (lambda: clean(trails=(TRAIL, replace(TRAIL, arn=f"{TRAIL.arn}2", multi_region=False))),),
    ),
    "trail-excludes-kms": (
        (
            lambda: trail(excludes=("kms.amazonaws.com",)),
            lambda: trail(records="WriteOnly"),
            lambda: trail(records="None"),
        ),
        (
            lambda: trail(excludes=("rdsdata.amazonaws.com",)),
            lambda: trail(records=None),
            lambda: clean(trails=(TRAIL, replace(TRAIL, arn=f"{TRAIL.arn}2", excludes=("kms.amazonaws.com",)))),
        ),
    ),
    "trail-no-validation": ((lambda: trail(validation=False),), (lambda: trail(validation=False, logging=False),)),
    "key-end-no-alarm": (
        (
            lambda: clean(alarms=()),
            lambda: alarm(enabled=False),
            lambda: alarm(targets=0),
            lambda: alarm(region=OTHER_REGION),
            lambda: alarm({"source": ["aws.kms"], "detail": {"eventName": ["DisableKey"]}}),
            lambda: alarm({"source": ["aws.s3"]}),
            lambda: alarm({"source": ["aws.kms"], "detail": {"eventName": [{"anything-but": ["DisableKey"]}]}}),
            lambda: alarm("no JSON"),
            lambda: alarm(FILTER.replace("DisableKey", "DisableKeyRotation"), kind="filter"),
        ),
        (
            lambda: alarm({"source": ["aws.kms"]}),
            lambda: alarm({"source": [{"prefix": "aws."}], "detail": {"eventName": [{"anything-but": "Decrypt"}]}}),
            lambda: alarm(FILTER, kind="filter", region=OTHER_REGION),
            lambda: clean(alarms=None),
        ),
    ),
    "decrypt-without-context": (
        (
            lambda: events(event(context=None)),
            lambda: events(event(context={})),
            lambda: events(event(context=None, name="ReEncrypt", keys=(arn(), arn(9)))),
        ),
        (
            lambda: events(event(context=None, name="ReEncrypt", keys=(arn(9), arn()))),
            lambda: events(event(context=None, error="AccessDenied")),
            lambda: events(event(context=None, via="s3.amazonaws.com")),
            lambda: events(event(context=None, name="DescribeKey")),
        ),
    ),
    "decrypt-unexpected-principal": (
        (
            lambda: events(event(principal=role("Gone"))),
            lambda: events(event(principal=ADMIN)),
            lambda: events(event(principal=role("X", FOREIGN))),
            lambda: events(event(principal=ADMIN, name="ReEncrypt", keys=(arn(), arn(9)))),
            lambda: events(
                event(name="ReEncrypt"), keys=(key(policy=plus(use(Action="kms:ReEncryptTo", Principal={"AWS": APP}))),)
            ),
        ),
        (
            lambda: events(event()),
            lambda: events(event(principal=ADMIN, name="ReEncrypt", keys=(arn(9), arn()))),
            lambda: events(
                event(name="ReEncrypt"),
                keys=(key(policy=plus(use(Action="kms:ReEncryptFrom", Principal={"AWS": APP}))),),
            ),
            lambda: events(event(principal=ADMIN, name="DescribeKey")),
            lambda: events(event(principal=role("Gone"), error="AccessDenied")),
            lambda: events(event(principal=role("Gone")), principals=None),
            lambda: events(event(principal=role("X", FOREIGN)), trusted_accounts=(FOREIGN,)),
        ),
    ),
    "denial-burst": (
        (lambda: denials(10, 30), lambda: denials(40, 33)),
        (lambda: denials(9, 1), lambda: denials(10, 34)),
    ),
    "context-telling": (
        (
            lambda: events(event(context={"purpose": "backup", "user": "a.b@example.com"})),
            lambda: events(event(context={"purpose": "backup", "apiKey": "x"})),
            lambda: events(event(context={"purpose": "backup", "n": "4111 1111 1111 1111"})),
            lambda: events(event(context={"purpose": "backup", "n": "DE89 3704 0044 0532 0130 00"})),
            lambda: events(event(context={"purpose": "backup", "n": "AKIAIOSFODNN7EXAMPLE"})),
            lambda: events(event(context={"purpose": "backup", "date_of": "x", "passwd": "y"}, error="AccessDenied")),
        ),
        (
            lambda: events(event(context={"purpose": "backup", "n": "4111 1111 1111 1112"})),
            lambda: events(event(context={"purpose": "backup", "tokenizer": "a", "row": "12345678901234567"})),
            lambda: events(
                event(context={"purpose": "backup", "SecretARN": "arn:aws:secretsmanager:eu-west-1:1:secret:a"})
            ),
        ),
    ),
    "records-open-to-others": (
        (
            lambda: records_on(use()),
            lambda: records_on(use(Condition={})),
            lambda: records_on(use(Action=["kms:ReEncryptFrom", "kms:ReEncryptTo"], Condition=SHOP)),
            lambda: records_on(use(Principal={"AWS": APP}, Action="kms:Encrypt", Condition=SHOP)),
            lambda: records_on(use(Principal={"AWS": APP}, Action="kms:ReEncryptFrom", Condition=SHOP)),
            lambda: records_on(grants=(grant(grantee=role("More")),)),
            lambda: records_on(
                use(Sid="Pinned", Action="kms:ReEncryptTo", Condition=SHOP | {"Null": {USE: "false"}}),
                use(Action="kms:ReEncryptTo", Condition=SHOP),
            ),
            lambda: records_on(
                use(Sid="Search", Condition={"StringEquals": {USE: "records-index"}}), use(Condition=SHOP)
            ),
            lambda: clean(key(policy=text(OWNED, use())), events=(event(context=RECORD),)),
        ),
        (
            lambda: records_on(),
            lambda: records_on(use(Condition=BACKUP | {"Null": {USE: "true"}})),
            lambda: records_on(use(Effect="Deny")),
            lambda: records_on(use(), use(Sid="No", Effect="Deny", Condition={"Null": {USE: "false"}})),
            lambda: records_on(use(Principal={"AWS": APP}, Condition={})),
            lambda: records_on(use(Condition=SHOP | {"Null": {USE: "false"}})),
            lambda: records_on(
                use(Sid="Search", Condition={"StringEquals": {USE: "records-index"}}),
                use(Condition=SHOP),
                use(Sid="No", Effect="Deny", Condition={"StringEquals": {USE: "records-data"}}),
            ),
            lambda: records_on(use(Action="kms:DescribeKey", Condition={})),
            lambda: records_on(grants=(grant(grantee=role("More"), subset={"sealwax-use": "records-index"}),)),
            lambda: clean(key(policy=text(OWNED, use()))),
            lambda: clean(key(policy=RECORDS_WRITTEN), events=(event(context=RECORD),)),
        ),
    ),
    "records-unexpected-maker": (
        (
            lambda: made_by(role("More")),
            lambda: made_by(role("More"), name="Encrypt"),
            lambda: made_by(ADMIN),
            lambda: made_by(role("More"), context={"Sealwax-Use": "records-data"}),
        ),
        (
            lambda: made_by(APP),
            lambda: made_by(role("More"), name="Decrypt"),
            lambda: made_by(role("More"), error="AccessDenied"),
            lambda: made_by(role("More"), via="rds.amazonaws.com"),
            lambda: made_by(role("More"), context={"app": "shop"}),
            lambda: clean(events=(event(name="GenerateDataKey", principal=role("More"), context=RECORD),)),
            lambda: replace(made_by(role("More")), principals=None, policies=None),
        ),
    ),
}
