"""Accounts to judge: a clean one, and ways to make it another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sealwax.audit._facts import (
    AlarmFacts,
    AliasFacts,
    EventFacts,
    Facts,
    GrantFacts,
    KeyFacts,
    PolicyFacts,
    PrincipalFacts,
    RotationFacts,
    TrailFacts,
)
from sealwax.policy import KeyUsers, RequiredContext, write_key_policy

NOW: Final = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)
OWN: Final = "111122223333"
FOREIGN: Final = "999988887777"
REGION: Final = "eu-west-1"
OTHER_REGION: Final = "us-east-1"


def days(count: float) -> timedelta:
    return timedelta(days=count)


def role(name: str, account: str = OWN) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


def arn(number: int = 1, region: str = REGION, prefix: str = "") -> str:
    return f"arn:aws:kms:{region}:{OWN}:key/{prefix}{number:08x}-12ab-34cd-56ef-1234567890ab"


def root(account: str = OWN) -> str:
    return f"arn:aws:iam::{account}:root"


ADMIN: Final = role("Admin")
APP: Final = role("App")
WRITTEN: Final = write_key_policy(
    [ADMIN], KeyUsers(encrypt=[APP], decrypt=[APP]), RequiredContext({"purpose": "backup"})
)


def text(*statements: Mapping[str, Any], of_key: bool = True) -> str:
    """Return a policy of statements, each Allow and with Resource * unless it says otherwise."""
    given = {"Effect": "Allow"} | ({"Resource": "*"} if of_key else {})
    return json.dumps({"Version": "2012-10-17", "Statement": [given | dict(one) for one in statements]})


def plus(*statements: Mapping[str, Any]) -> str:
    """Return the clean policy with more statements."""
    given = {"Effect": "Allow", "Resource": "*"}
    return json.dumps(WRITTEN | {"Statement": [*WRITTEN["Statement"], *(given | dict(one) for one in statements)]})


def key(number: int = 1, **changes: Any) -> KeyFacts:
    """Return a key that nothing is wrong with."""
    clean = KeyFacts(
        arn(number),
        NOW - days(100),
        policy=json.dumps(WRITTEN),
        rotation=RotationFacts(True, 365),
        rotations=(),
        grants=(),
        tags={},
        last_used=NOW - days(1),
        tracked_since=NOW - days(100),
    )
    return replace(clean, **changes)


RULE: Final = AlarmFacts(
    f"arn:aws:events:{REGION}:{OWN}:rule/keys",
    REGION,
    "rule",
    json.dumps({"source": ["aws.kms"], "detail": {"eventName": ["DisableKey", "ScheduleKeyDeletion"]}}),
)
TRAIL: Final = TrailFacts(f"arn:aws:cloudtrail:{REGION}:{OWN}:trail/all", multi_region=True, validation=True)


def event(number: int = 1, **changes: Any) -> EventFacts:
    at = NOW - days(1) + timedelta(seconds=number)
    clean = EventFacts(f"event-{number}", at, "Decrypt", APP, OWN, REGION, (arn(),), {"purpose": "backup"})
    return replace(clean, **changes)


def clean(*keys: KeyFacts, **changes: Any) -> Facts:
    """Return an account that nothing is wrong with, but for what is given."""
    facts = Facts(
        OWN,
        NOW,
        (REGION,),
        keys=keys or (key(),),
        aliases=(AliasFacts(f"arn:aws:kms:{REGION}:{OWN}:alias/backup", arn().partition("/")[2]),),
        principals=(PrincipalFacts(ADMIN), PrincipalFacts(APP)),
        policies=(),
        trails=(TRAIL,),
        alarms=(RULE,),
        events=(event(),),
        expected_aliases={"alias/backup": arn()},
    )
    return replace(facts, **changes)


def with_policy(*statements: Mapping[str, Any]) -> Facts:
    return clean(key(policy=plus(*statements)))


def with_iam(
    *statements: Mapping[str, Any], kind: str = "customer", who: str = APP, policy: str | None = None
) -> Facts:
    """Return the clean account with an identity policy that applies to a role."""
    id_ = f"arn:aws:iam::{OWN}:policy/one"
    return clean(
        *(() if policy is None else (key(policy=policy),)),
        principals=tuple(PrincipalFacts(one, (id_,) if one == who else ()) for one in dict.fromkeys((ADMIN, APP, who))),
        policies=(PolicyFacts(id_, kind, text(*statements, of_key=False)),),
    )


def grant(**changes: Any) -> GrantFacts:
    one = GrantFacts(
        "a" * 64, APP, ("Decrypt",), created=NOW - days(1), issuing_account=root(), subset={"purpose": "backup"}
    )
    return replace(one, **changes)


def with_grant(**changes: Any) -> Facts:
    return clean(key(grants=(grant(**changes),)))


DELEGATES: Final = {"Sid": "Delegate", "Principal": {"AWS": root()}, "Action": "kms:*"}
BACKUP: Final = {"StringEquals": {"kms:EncryptionContext:purpose": "backup"}}


def use(**changes: Any) -> dict[str, Any]:
    """Return a statement that lets a role use the key under a context."""
    return {"Sid": "More", "Principal": {"AWS": role("More")}, "Action": "kms:Decrypt", "Condition": BACKUP} | changes


def family(replica: str | None = "same", state: str = "Enabled", others: tuple[KeyFacts, ...] = ()) -> Facts:
    """Return a multi-Region key with one replica: with the same policy, with another, or not there (None)."""
    both = (arn(region=REGION, prefix="mrk-"), arn(region=OTHER_REGION, prefix="mrk-"))
    primary = key(arn=both[0], multi_region="primary", related=both)
    policy = json.dumps(WRITTEN, indent=1) if replica == "same" else plus(use())
    second = key(arn=both[1], multi_region="replica", related=both, policy=policy, state=state)
    return clean(
        primary,
        *(() if replica is None else (second,)),
        *others,
        regions=(REGION, OTHER_REGION),
        aliases=(),
        expected_aliases={},
        events=(),
        alarms=(RULE, replace(RULE, region=OTHER_REGION)),
    )


def movers(count: int, alias: str = "*", effect: str = "Allow") -> Facts:
    """Return an account where so many roles may move the alias."""
    roles = [role(f"Mover{number}") for number in range(count)]
    id_ = f"arn:aws:iam::{OWN}:policy/move"
    both = [f"arn:aws:kms:{REGION}:{OWN}:alias/{alias}", arn()]
    allow = {"Effect": "Allow", "Action": "kms:UpdateAlias", "Resource": both}
    also = {"Effect": effect, "Action": "kms:UpdateAlias", "Resource": both[0]}
    return clean(
        key(policy=plus({"Sid": "Aliases", "Principal": {"AWS": root()}, "Action": "kms:UpdateAlias"})),
        principals=(PrincipalFacts(APP), *(PrincipalFacts(one, (id_,)) for one in roles)),
        policies=(PolicyFacts(id_, "customer", text(allow, also, of_key=False)),),
    )


def rotation(**changes: Any) -> Facts:
    return clean(key(**changes))


def trail(**changes: Any) -> Facts:
    return clean(trails=(replace(TRAIL, **changes),))


def alarm(pattern: Any = None, **changes: Any) -> Facts:
    shown = RULE.pattern if pattern is None else pattern if isinstance(pattern, str) else json.dumps(pattern)
    return clean(alarms=(replace(RULE, pattern=shown, **changes),))


def events(*given: EventFacts, **changes: Any) -> Facts:
    return clean(events=given, **changes)


def denials(count: int, seconds: float) -> Facts:
    """Return an account with so many denials, one each so many seconds."""
    made = tuple(
        event(number, error="AccessDenied", time=NOW - days(1) + timedelta(seconds=number * seconds))
        for number in range(count)
    )
    return clean(events=made)
