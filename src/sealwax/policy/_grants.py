"""What a grant permits, and to whom.

Sources in the KMS Developer Guide: "Grants in AWS KMS", "Creating grants", "Using a grant token" and "Retiring and
revoking grants"; GrantConstraints in the KMS API Reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from sealwax.policy._model import Grant, Principal, Request
from sealwax.policy._operations import WITH_CONTEXT


class Reach(Enum):
    """How a grant, or a statement of a key policy, reaches a principal."""

    NOT = auto()
    ACCOUNT = auto()  # it names the principal's account, whose identity policies decide
    DIRECT = auto()


def use(grant: Grant, request: Request) -> Reach | str:
    """Tell how a grant allows a request. A string is the only reason why it does not."""
    named = _names(grant.grantee, request.principal)
    operation = request.action.removeprefix("kms:")
    if grant.key != request.resource or operation not in grant.operations or named is Reach.NOT:
        return Reach.NOT
    if not grant.effective and grant.tokens.isdisjoint(request.grant_tokens):
        return "it is not effective yet and the request has no grant token of it"
    if request.action in WITH_CONTEXT and not _fits(grant, request.encryption_context):
        return "the encryption context does not satisfy its constraint"
    if grant.source_arn is not None and request.values.get("aws:sourcearn") != (grant.source_arn,):
        return "the request is not made on behalf of the resource of its SourceArn constraint"
    if operation == "CreateGrant" and not _gives_no_more(grant, request):
        return "the new grant would permit more than this one"
    return named


def retire(grant: Grant, request: Request) -> Reach:
    """Tell how a principal may retire a grant."""
    who = request.principal
    reaches = {_names(name, who) for name in (grant.retiring, grant.issuing_account) if name}
    if "RetireGrant" in grant.operations and _names(grant.grantee, who) is Reach.DIRECT:
        return Reach.DIRECT
    return next((reach for reach in (Reach.DIRECT, Reach.ACCOUNT) if reach in reaches), Reach.NOT)


def _names(name: str, who: Principal) -> Reach:
    if name in (who.arn, who.role):
        return Reach.DIRECT
    return Reach.ACCOUNT if who.kind != "service" and name == who.account_arn else Reach.NOT


def _pairs(context: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the pairs as constraints compare them: ignoring the case of keys, but not of values."""
    return sorted((key.lower(), value) for key, value in context.items())


def _fits(grant: Grant, context: Mapping[str, str]) -> bool:
    given = _pairs(context)
    if grant.equals is not None and _pairs(grant.equals) != given:
        return False
    return grant.subset is None or set(_pairs(grant.subset)) <= set(given)


def _gives_no_more(grant: Grant, request: Request) -> bool:
    """Tell whether a new grant permits no more than the grant that allows its creation."""
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
