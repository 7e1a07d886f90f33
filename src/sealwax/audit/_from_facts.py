"""What one explanation needs, out of facts that were gathered before. No network is used."""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Never

from sealwax._core.context import printable
from sealwax.audit._access import grants_of, metadata_of
from sealwax.audit._facts import Facts, KeyFacts, PrincipalFacts
from sealwax.errors import FactsError
from sealwax.policy import Principal, parse_identity_policy, parse_key_policy, principal
from sealwax.policy._explain import KeyAsSeen, PrincipalAsSeen

_INSTEAD: Final = "give its policies with --identity-policy"


def recall_key(facts: Facts, key: str, region: str | None = None) -> KeyAsSeen:
    """Return a key as the facts show it.

    Args:
        key: as KMS takes it: key id, key ARN, alias or alias ARN.
        region: the Region of a key id or an alias that several Regions have.

    Raises:
        FactsError: the facts hold no such key, or several, or not all that an answer depends on.
        PolicyError: its policy is not understood.
    """
    found = _named(facts, key, region)
    if found.policy is None:
        _refuse(facts, "key policy", "kms:GetKeyPolicy", found)
    if found.grants is None:
        _refuse(facts, "grants", "kms:ListGrants", found)
    if found.tags is None and found.manager == "CUSTOMER":
        _refuse(facts, "tags", "kms:ListResourceTags", found)
    if facts.aliases is None:
        _refuse(facts, "aliases", "kms:ListAliases", found)
    return KeyAsSeen(
        found.arn,
        parse_key_policy(found.policy),
        tuple(grants_of(found)),
        metadata_of(found),
        [one.name for one in facts.aliases if one.key_arn == found.arn],
        found.tags or {},
    )


def _named(facts: Facts, key: str, region: str | None) -> KeyFacts:
    arns = {key}
    if key.startswith("alias/") or ":alias/" in key:
        arns = {one.key_arn for one in facts.aliases or () if key in (one.arn, one.name)}
    found = [one for one in facts.keys if (one.arn in arns or one.id in arns) and region in (None, one.region)]
    if not found:
        place = "" if region is None else f" in {printable(region)}"
        raise FactsError(f"the facts hold no key '{printable(key)}'{place}")
    if len(found) > 1:
        regions = ", ".join(sorted(one.region for one in found))
        raise FactsError(f"the facts hold '{printable(key)}' in {regions}: say which with --region, or give the ARN")
    return found[0]


def _refuse(facts: Facts, what: str, action: str, key: KeyFacts) -> Never:
    why = _why(facts, action, key.region, (key.arn, "*"))
    raise FactsError(f"the facts do not hold the {what} of '{key.arn}', so nothing can be said{why}")


def _why(facts: Facts, action: str, region: str, resources: Container[str]) -> str:
    about = (one for one in facts.gaps if (one.what, one.region) == (action, region))
    return next((f": {printable(one.why)}" for one in about if one.resource in resources), "")


def recall_principal(facts: Facts, arn: str) -> PrincipalAsSeen:
    """Return a principal and its identity policies as the facts show them.

    Raises:
        FactsError: the facts hold no such principal, or not all of its policies.
        PolicyError: a policy is not understood.
    """
    who = principal(arn, org_id=facts.organization or None)
    if who.kind == "root" or who.is_of_aws:
        return PrincipalAsSeen(who)
    shown = printable(arn)
    if who.kind == "federated":
        raise FactsError(f"what '{shown}' may is in its session: {_INSTEAD}")
    if facts.principals is None:
        why = _why(facts, "iam:GetAccountAuthorizationDetails", "", "*")
        raise FactsError(f"the facts hold no users and roles, {_INSTEAD}{why}")
    found = next((one for one in facts.principals if _is(one, who)), None)
    if found is None:
        raise FactsError(f"the facts, of account {facts.account}, hold no '{shown}': {_INSTEAD}")
    for one in facts.gaps:
        if one.resource == found.arn:
            raise FactsError(f"the facts do not hold all policies of '{shown}', {_INSTEAD}: {printable(one.why)}")
    documents = {one.id: one for one in facts.policies or ()}
    return PrincipalAsSeen(
        principal(
            arn,
            role=None if who.kind == "user" else found.arn,
            user_id=found.user_id if who.kind == "user" else None,
            tags=found.tags,
            org_id=facts.organization or None,
        ),
        tuple(
            parse_identity_policy(documents[id_].document, name=f"identity policy {documents[id_].name}")
            for id_ in found.policies
        ),
        found.boundary,
    )


def _is(one: PrincipalFacts, who: Principal) -> bool:
    if who.kind != "session":
        return one.arn == who.arn
    # The ARN of a session does not show the path of its role; the name alone is unique in an account.
    parts = one.arn.split(":", 5)
    return parts[4] == who.account and parts[5].startswith("role/") and _name(one.arn) == _name(who.role or "")


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]
