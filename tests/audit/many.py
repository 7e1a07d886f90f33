"""An account with many keys, most of which break the same rules."""

from __future__ import annotations

import json
from typing import Any, Final

from sealwax.audit._facts import AliasFacts, Facts, RotationFacts
from sealwax.audit._report import Gap
from tests.audit import accounts

_STATEMENT: Final = {"Sid": "Open", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}
OPEN: Final = json.dumps({"Version": "2012-10-17", "Statement": [_STATEMENT]})
REFUSED: Final = "the caller may not call it"


def unrotated(count: int, **changes: Any) -> Facts:
    """Return an account with keys that are not rotated."""
    keys = tuple(accounts.key(number, rotation=RotationFacts(False)) for number in range(1, count + 1))
    return accounts.clean(*keys, aliases=_aliases(count), **changes)


def mixed(count: int) -> Facts:
    """Return an account whose keys break several rules, and that was not allowed to list every grant."""
    foreign = accounts.plus(accounts.use(Principal={"AWS": accounts.root(accounts.FOREIGN)}))
    policies = {0: foreign, 1: OPEN}
    keys = tuple(
        accounts.key(
            number,
            rotation=RotationFacts(number % 3 != 0, 365 if number % 3 else None),
            **({"policy": policies[number % 4]} if number % 4 in policies else {}),
        )
        for number in range(1, count + 1)
    )
    gaps = tuple(Gap("kms:ListGrants", key.arn, accounts.REGION, REFUSED) for key in keys[:50])
    return accounts.clean(*keys, aliases=_aliases(count), gaps=gaps, caller=accounts.role("auditor"))


def _aliases(count: int) -> tuple[AliasFacts, ...]:
    return tuple(
        AliasFacts(f"arn:aws:kms:{accounts.REGION}:{accounts.OWN}:alias/team{number}", accounts.key(number).id)
        for number in range(1, count + 1)
    )
