"""An audit of a large account, from its facts file: the whole process, and the page of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Row, seconds
from sealwax.audit import (
    AliasFacts,
    Facts,
    GrantFacts,
    KeyFacts,
    PolicyFacts,
    PrincipalFacts,
    RotationFacts,
    TrailFacts,
    write_facts,
)

KEYS: Final = 2_000
ROLES: Final = 500
_TEAMS: Final = 40
_ACCOUNT: Final = "111122223333"
_NOW: Final = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)
_AIM_SECONDS: Final = 10.0


def rows(folder: Path) -> Iterator[Row]:
    saved = folder / "facts.json"
    write_facts(_account(), str(saved), overwrite=True)
    command = [str(Path(sys.executable).parent / "sealwax"), "audit", "--facts", str(saved), "--fail-on", "never"]
    for form in ("json", "html"):
        report = folder / f"audit.{form}"
        took = seconds(
            {"ours": lambda report=report: _run([*command, "--report", str(report), "--force"])},
            rounds=3,
        )["ours"]
        assert report.stat().st_size > 1 << 20
        what = f"audit, {KEYS:,} keys and {ROLES} roles, facts file to {form}"
        yield Row(what, took, aim=f"< {_AIM_SECONDS:g} s", met=took < _AIM_SECONDS)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _policy(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]})


def _key(number: int) -> str:
    return f"arn:aws:kms:eu-west-1:{_ACCOUNT}:key/{number:08x}-12ab-34cd-56ef-1234567890ab"


def _role(number: int) -> str:
    return f"arn:aws:iam::{_ACCOUNT}:role/role-{number}"


def _key_policy(team: int) -> str:
    context = {"StringEquals": {"kms:EncryptionContext:team": f"team-{team}"}}
    return _policy(
        {"Principal": {"AWS": f"arn:aws:iam::{_ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"},
        {"Principal": {"AWS": _role(team)}, "Action": ["kms:Put*", "kms:Disable*"], "Resource": "*"},
        {"Principal": {"AWS": _role(team + 1)}, "Action": "kms:Decrypt", "Resource": "*", "Condition": context},
    )


def _account() -> Facts:
    """Return an account whose key policies delegate to IAM, where some roles name keys, some tags, and some all."""
    managed = f"arn:aws:iam::{_ACCOUNT}:policy/by-tag"
    tag = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    policies = [PolicyFacts(managed, "customer", _policy({"Action": "kms:*", "Resource": "*", "Condition": tag}))]
    principals = []
    for number in range(ROLES):
        named = [_key((number * 7 + at) % KEYS) for at in range(4)]
        reach = "*" if number % 100 == 0 else named
        own = PolicyFacts(
            f"{_role(number)}#own", "inline", _policy({"Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": reach})
        )
        policies.append(own)
        held = (own.id, managed) if number % 20 == 0 else (own.id,)
        principals.append(PrincipalFacts(_role(number), held, {"team": f"team-{number % _TEAMS}"}))
    return Facts(
        _ACCOUNT,
        _NOW,
        ("eu-west-1",),
        keys=tuple(
            KeyFacts(
                _key(number),
                _NOW - timedelta(days=number),
                policy=_key_policy(number % _TEAMS),
                rotation=RotationFacts(number % 3 > 0, 365),
                rotations=(),
                grants=(GrantFacts(f"{number:064x}", _role(number % ROLES), ("Decrypt",), created=_NOW),),
                tags={"team": f"team-{number % _TEAMS}"},
                last_used=_NOW - timedelta(days=number % 400),
                tracked_since=_NOW - timedelta(days=number),
            )
            for number in range(KEYS)
        ),
        aliases=tuple(
            AliasFacts(f"arn:aws:kms:eu-west-1:{_ACCOUNT}:alias/key-{number}", _key(number).partition("/")[2])
            for number in range(KEYS)
        ),
        principals=tuple(principals),
        policies=tuple(policies),
        trails=(TrailFacts(f"arn:aws:cloudtrail:eu-west-1:{_ACCOUNT}:trail/all", multi_region=True, validation=True),),
        alarms=(),
        events=(),
    )
