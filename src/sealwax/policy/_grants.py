"""What a grant gives, and to whom.

Sources in the KMS Developer Guide: "Grants in AWS KMS", "Creating grants", "Using a grant token" and "Retiring and
revoking grants"; GrantConstraints in the KMS API Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from sealwax.policy._model import Grant, Principal, Request
from sealwax.policy._operations import WITH_CONTEXT


class Use(Enum):
    """How a grant is for a principal."""

    NOT = auto()
    ACCOUNT = auto()  # it is for the principal's account, whose identity policies decide
    DIRECT = auto()


def use(grant: Grant, request: Request) -> Use | str:
    """Tell how a grant allows a request; a text says what alone was in the way."""
    named = _names(grant.grantee, request.principal)
    operation = request.action.removeprefix("kms:")
    if grant.key != request.resource or operation not in grant.operations or named is Use.NOT:
        return Use.NOT
    if not grant.effective and grant.tokens.isdisjoint(request.grant_tokens):
        return "it is not effective yet and the request has none of its grant tokens"
    if request.action in WITH_CONTEXT and not _fits(grant, request.encryption_context):
        return "the encryption context does not satisfy its constraint"
    if grant.source_arn is not None and request.values.get("aws:sourcearn") != (grant.source_arn,):
        return "the request is not made on behalf of the resource of its SourceArn constraint"
    if operation == "CreateGrant" and not _gives_no_more(grant, request):
        return "the new grant would give more than it"
    return named


def retire(grant: Grant, request: Request) -> Use:
    """Tell how a principal may retire a grant."""
    who = request.principal
    uses = {_names(name, who) for name in (grant.retiring, grant.issuing_account) if name}
    if "RetireGrant" in grant.operations and _names(grant.grantee, who) is Use.DIRECT:
        return Use.DIRECT
    return next((one for one in (Use.DIRECT, Use.ACCOUNT) if one in uses), Use.NOT)


def _names(name: str, who: Principal) -> Use:
    if name in (who.arn, who.role):
        return Use.DIRECT
    return Use.ACCOUNT if who.kind != "service" and name == who.account_arn else Use.NOT


def _pairs(context: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the pairs as constraints compare them: keys without case, values with it."""
    return sorted((key.lower(), value) for key, value in context.items())


def _fits(grant: Grant, context: Mapping[str, str]) -> bool:
    given = _pairs(context)
    if grant.equals is not None and _pairs(grant.equals) != given:
        return False
    return grant.subset is None or set(_pairs(grant.subset)) <= set(given)


def _gives_no_more(grant: Grant, request: Request) -> bool:
    """Tell whether the grant to be created permits no more than the one that permits its creation."""
    operations = request.values.get("kms:grantoperations", ())
    if not operations or not grant.operations.issuperset(operations):
        return False
    kind = request.values.get("kms:grantconstrainttype", ("",))[0]
    if grant.equals is not None and kind != "EncryptionContextEquals":
        return False
    if grant.source_arn is not None and request.values.get("kms:grantconstraintsourcearn") != (grant.source_arn,):
        return False
    # The encryption context of a CreateGrant request is the constraint of the new grant, and empty without one.
    return _fits(grant, request.encryption_context)
