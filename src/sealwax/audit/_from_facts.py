"""One key and one principal from collected facts, for an explanation without the network."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Never

from sealwax._text import printable
from sealwax.audit._facts import Facts, KeyFacts, PrincipalFacts
from sealwax.audit._statements import grants_of, metadata_of
from sealwax.errors import FactsError
from sealwax.policy import (
    KeyDescription,
    Principal,
    PrincipalDescription,
    parse_identity_policy,
    parse_key_policy,
    principal,
)

_INSTEAD: Final = "give its identity policies"


def describe_key(facts: Facts, key: str, region: str | None = None) -> KeyDescription:
    """Return a key as the facts show it.

    Args:
        key: the id or ARN of the key, or the name or ARN of an alias.
        region: the Region of a key id or an alias that exists in several Regions.

    Raises:
        FactsError: the facts do not include the key or a part that the answer depends on, or include several such keys.
        PolicyError: its policy cannot be evaluated.
    """
    known = _find_key(facts, key, region)
    if known.policy is None:
        _refuse(facts, "key policy", "kms:GetKeyPolicy", known)
    if known.grants is None:
        _refuse(facts, "grants", "kms:ListGrants", known)
    if known.tags is None and known.manager == "CUSTOMER":
        _refuse(facts, "tags", "kms:ListResourceTags", known)
    if facts.aliases is None:
        _refuse(facts, "aliases", "kms:ListAliases", known)
    return KeyDescription(
        known.arn,
        parse_key_policy(known.policy),
        tuple(grants_of(known)),
        metadata_of(known),
        [alias.name for alias in facts.aliases if alias.key_arn == known.arn],
        known.tags or {},
    )


def _find_key(facts: Facts, name: str, region: str | None) -> KeyFacts:
    arns = {name}
    if name.startswith("alias/") or ":alias/" in name:
        arns = {alias.key_arn for alias in facts.aliases or () if name in (alias.arn, alias.name)}
    matches = [key for key in facts.keys if (key.arn in arns or key.id in arns) and region in (None, key.region)]
    if not matches:
        place = "" if region is None else f" in {printable(region)}"
        raise FactsError(f"the facts do not include the key '{printable(name)}'{place}")
    if len(matches) > 1:
        regions = ", ".join(sorted(key.region for key in matches))
        raise FactsError(f"'{printable(name)}' exists in {regions}; name its Region, or give its ARN")
    return matches[0]


def _refuse(facts: Facts, part: str, action: str, key: KeyFacts) -> Never:
    why = _why(facts, action, key.region, (key.arn, "*"))
    raise FactsError(f"the facts do not include the {part} of '{key.arn}', so access is unknown{why}")


def _why(facts: Facts, action: str, region: str, resources: Container[str]) -> str:
    gaps = (gap for gap in facts.gaps if (gap.what, gap.region) == (action, region))
    return next((f": {printable(gap.why)}" for gap in gaps if gap.resource in resources), "")


def describe_principal(facts: Facts, arn: str) -> PrincipalDescription:
    """Return a principal and its identity policies as the facts show them.

    Raises:
        FactsError: the facts do not include the principal, or one of its policies.
        PolicyError: a policy cannot be evaluated.
    """
    who = principal(arn, org_id=facts.organization or None)
    if who.kind == "root" or who.is_of_aws:
        return PrincipalDescription(who)
    shown = printable(arn)
    if who.kind == "federated":
        raise FactsError(f"the permissions of '{shown}' are in its session; {_INSTEAD}")
    if facts.principals is None:
        why = _why(facts, "iam:GetAccountAuthorizationDetails", "", "*")
        raise FactsError(f"the facts do not include users and roles; {_INSTEAD}{why}")
    known = next((candidate for candidate in facts.principals if _is(candidate, who)), None)
    if known is None:
        raise FactsError(f"the facts of account {facts.account} do not include '{shown}'; {_INSTEAD}")
    for gap in facts.gaps:
        if gap.resource == known.arn:
            raise FactsError(f"the facts do not include all policies of '{shown}'; {_INSTEAD}: {printable(gap.why)}")
    documents = {policy.id: policy for policy in facts.policies or ()}
    return PrincipalDescription(
        principal(
            arn,
            role=None if who.kind == "user" else known.arn,
            user_id=known.user_id if who.kind == "user" else None,
            tags=known.tags,
            org_id=facts.organization or None,
        ),
        tuple(
            parse_identity_policy(documents[id_].document, name=f"identity policy '{documents[id_].name}'")
            for id_ in known.policies
        ),
        known.boundary,
    )


def _is(facts: PrincipalFacts, who: Principal) -> bool:
    if who.kind != "session":
        return facts.arn == who.arn
    # The ARN of a session lacks the path of its role, but the name alone is unique in an account.
    parts = facts.arn.split(":", 5)
    return (
        parts[4] == who.account
        and parts[5].startswith("role/")
        and facts.arn.rpartition("/")[2] == (who.role or "").rpartition("/")[2]
    )
