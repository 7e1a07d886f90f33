"""From facts to an audit."""

from __future__ import annotations

from collections.abc import Iterable

from sealwax.audit._account import Account
from sealwax.audit._baseline import apply
from sealwax.audit._facts import Facts
from sealwax.audit._report import Acceptance, Audit
from sealwax.audit._rules import judge


def audit(facts: Facts, baseline: Iterable[Acceptance] = ()) -> Audit:
    """Judge an account by every rule of :data:`sealwax.audit._rules.RULES`. No network is used.

    Args:
        facts: what is known of it, gathered or read from a file.
        baseline: findings that are accepted; they are told apart, by the day of the facts.
    """
    account = Account(facts)
    findings, accepted, expired, unmatched = apply(judge(account), baseline, facts.time.date())
    principals = facts.principals or ()
    counts = {
        "keys": len(facts.keys),
        "users": sum(":user/" in one.arn for one in principals),
        "roles": sum(":role/" in one.arn for one in principals),
        "grants": sum(len(key.grants or ()) for key in facts.keys),
        "trails": len(facts.trails or ()),
        "events": len(facts.events or ()),
    }
    return Audit(
        account=facts.account,
        regions=facts.regions,
        time=facts.time,
        counts=counts,
        findings=findings,
        gaps=account.gaps,
        accepted=accepted,
        expired=expired,
        access=account.access(),
        unmatched=unmatched,
    )
