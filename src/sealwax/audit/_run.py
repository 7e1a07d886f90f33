"""From facts to an audit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sealwax.audit._account import Account
from sealwax.audit._baseline import apply
from sealwax.audit._facts import Facts
from sealwax.audit._report import Acceptance, Audit
from sealwax.audit._rules import run_rules


def run(facts: Facts, baseline: Iterable[Acceptance] = ()) -> Audit:
    """Check an account against every rule, without using the network.

    Args:
        facts: the facts, collected or read from a file.
        baseline: accepted findings, which are listed separately until they expire, by the time of the facts.

    Returns:
        The findings, the gaps and who can use which key.

    Example:
        ``run(read_facts("facts.json"), read_baseline("baseline.json")).findings``
    """
    account = Account(facts)
    findings, accepted, expired, unmatched = apply(run_rules(account), baseline, facts.time.date())
    principals = facts.principals or ()
    counts = {
        "keys": len(facts.keys),
        "users": sum(":user/" in principal.arn for principal in principals),
        "roles": sum(":role/" in principal.arn for principal in principals),
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
        aliases=_aliases(facts),
        caller=facts.caller,
    )


def _aliases(facts: Facts) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = defaultdict(list)
    for alias in facts.aliases or ():
        names[alias.key_arn].append(alias.name)
    return {key: tuple(sorted(names[key])) for key in sorted(names)}
