"""The decision: explicit Deny first, then the key policy, identity policies and grants.

Sources: "Troubleshooting key access", "Default key policy" and "Allowing users in other accounts to use a KMS key" in
the KMS Developer Guide; "Policy evaluation logic", "Cross-account policy evaluation logic", "Principal" and
"NotPrincipal" in the IAM User Guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sealwax.policy import _grants as granting
from sealwax.policy import _patterns
from sealwax.policy._documents import Policy, PrincipalElement, Statement
from sealwax.policy._grants import Reach
from sealwax.policy._model import Decision, Grant, Request
from sealwax.policy._operations import CROSS_ACCOUNT


def evaluate(
    request: Request,
    *,
    key_policy: Policy | None,
    identity_policies: Iterable[Policy],
    grants: Iterable[Grant] = (),
) -> Decision:
    """Decide one request.

    Args:
        request: the caller, the action and the resource.
        key_policy: the policy of the KMS key; None if the resource is not a KMS key.
        identity_policies: the policies of the principal, its groups, or its role.
        grants: the grants on the KMS key.

    Returns:
        The decision, with its reason.

    Raises:
        ValueError: there is a key policy without a KMS key, or a KMS key without its policy.

    Example:
        ``evaluate(request, key_policy=parse_key_policy(text), identity_policies=[]).allowed``
    """
    if (key_policy is not None) != request.is_key:
        raise ValueError("a request on a KMS key needs its key policy, and other requests have none")
    statements = [statement for policy in identity_policies for statement in policy.statements]
    on_key = key_policy.statements if key_policy else ()
    for statement in (*on_key, *statements):
        if statement.effect == "Deny" and _denies(statement, request):
            return Decision(False, f"{statement} denies {request.action}", (statement,), explicit_deny=True)
    near: list[str] = []
    identity = _identity(request, statements, near)
    if not request.is_key:
        return _without_key(request, identity, near)
    if request.action == "kms:RetireGrant":
        return _retire(request, identity, grants)
    return _on_key(request, on_key, identity, grants, near)


@dataclass(frozen=True)
class _Identity:
    """What the principal's own account allows.

    Attributes:
        allows: whether it allows the action.
        statements: the statement that does; empty for the root user, which needs no policy.
    """

    allows: bool
    statements: tuple[Statement, ...] = field(default=())


def _identity(request: Request, statements: Sequence[Statement], near: list[str]) -> _Identity:
    if request.principal.kind == "root":
        return _Identity(True)
    for statement in statements:
        if statement.effect == "Allow" and _allows(statement, request, near):
            return _Identity(True, (statement,))
    return _Identity(False)


def _without_key(request: Request, identity: _Identity, near: list[str]) -> Decision:
    if request.resource_account != request.principal.account:
        return Decision(False, f"{request.action} cannot be used on a resource of another account")
    if identity.allows:
        return Decision(True, _because(request, identity.statements), identity.statements)
    return Decision(False, _missing([f"no identity policy allows {request.action}"], near))


def _on_key(
    request: Request,
    on_key: Sequence[Statement],
    identity: _Identity,
    grants: Iterable[Grant],
    near: list[str],
) -> Decision:
    foreign = request.principal.kind != "service" and request.principal.account != request.resource_account
    if foreign and request.action not in CROSS_ACCOUNT:
        return Decision(False, f"{request.action} cannot be used on a KMS key of another account")
    direct: Statement | None = None
    delegating: Statement | None = None
    for statement in on_key:
        reach = _reach(statement.principals, request) if statement.effect == "Allow" else Reach.NOT
        if reach is not Reach.NOT and _allows(statement, request, near):
            if reach is Reach.DIRECT:
                direct = direct or statement
            else:
                delegating = delegating or statement
    if direct and not foreign:
        return Decision(True, _because(request, (direct,)), (direct,))
    by_key = direct or delegating
    if by_key and identity.allows:
        together = (by_key, *identity.statements)
        return Decision(True, _because(request, together), together)
    for grant in grants:
        use = granting.use(grant, request)
        if use is Reach.DIRECT or (use is Reach.ACCOUNT and identity.allows):
            return Decision(True, f"grant {grant.id} allows {request.action}", grant=grant)
        if use is Reach.ACCOUNT:
            near.append(f"grant {grant.id} leaves the decision to the identity policies of the account")
        elif isinstance(use, str):
            near.append(f"grant {grant.id} would allow it, but {use}")
    lacking = []
    if not by_key:
        lacking.append(
            f"the key policy neither allows {request.action} to this principal nor delegates it to its account"
        )
    if not identity.allows and (foreign or by_key):
        lacking.append(f"no identity policy allows {request.action}")
    return Decision(False, _missing([*lacking, "no grant allows it"], near))


def _retire(request: Request, identity: _Identity, grants: Iterable[Grant]) -> Decision:
    on_key = (grant for grant in grants if grant.key == request.resource)
    grant = next((grant for grant in on_key if grant.id == request.grant_id), None)
    if grant is None:
        return Decision(False, "the KMS key has no such grant")
    use = granting.retire(grant, request)
    if use is Reach.DIRECT or (use is Reach.ACCOUNT and identity.allows):
        return Decision(True, f"grant {grant.id} allows this principal to retire it", grant=grant)
    if use is Reach.ACCOUNT:
        return Decision(False, "no identity policy allows kms:RetireGrant")
    return Decision(False, f"grant {grant.id} allows neither this principal nor its account to retire it")


def _because(request: Request, statements: Sequence[Statement]) -> str:
    if not statements:
        return f"the root user of the account needs no policy for {request.action}"
    return f"{' and '.join(map(str, statements))} {'allow' if len(statements) > 1 else 'allows'} {request.action}"


def _missing(lacking: Sequence[str], near: Sequence[str]) -> str:
    return "; ".join((*lacking, *near))


def _allows(statement: Statement, request: Request, near: list[str]) -> bool:
    """Tell whether an Allow statement about this principal allows the request; add it to ``near`` if it almost does."""
    if not _is_about(statement, request):
        return False
    failure = _failure(statement, request)
    if failure is None:
        return True
    near.append(f"{statement} would allow it, but {failure}")
    return False


def _denies(statement: Statement, request: Request) -> bool:
    if statement.principals is not None and not _is_denied(statement.principals, request):
        return False
    return _is_about(statement, request) and _failure(statement, request) is None


def _failure(statement: Statement, request: Request) -> str | None:
    deny = statement.effect == "Deny"
    for clause in statement.clauses:
        failure = clause.failure(request.values, request.lookup, deny=deny)
        if failure is not None:
            return failure
    return None


def _is_about(statement: Statement, request: Request) -> bool:
    action = request.action.lower()
    named = any(_patterns.glob(pattern.resolve(request.lookup) or (), action) for pattern in statement.actions)
    if named == statement.not_action or statement.resources is None:
        return False
    resolved = [pattern.resolve(request.lookup) for pattern in statement.resources]
    if statement.not_resource and statement.effect == "Allow" and None in resolved:
        # AWS may treat the statement as invalid. It must not allow everything else.
        return False
    covered = any(tokens is not None and _patterns.glob(tokens, request.resource) for tokens in resolved)
    return covered != statement.not_resource


def _reach(principals: PrincipalElement | None, request: Request) -> Reach:
    """Tell how an Allow statement of a key policy reaches the principal."""
    if principals is None:
        return Reach.NOT
    who = request.principal
    signed_in_at = request.values.get("aws:federatedprovider", ())
    named = (
        principals.everyone
        or not principals.providers.isdisjoint((*signed_in_at, *(("*",) if signed_in_at else ())))
        or who.arn in principals.services
        or not principals.names.isdisjoint(who.chain)
        or (who.kind == "root" and who.account in principals.accounts)
    )
    if principals.negated:
        return Reach.NOT if named or who.account in principals.accounts else Reach.DIRECT
    if named:
        return Reach.DIRECT
    return Reach.ACCOUNT if who.account in principals.accounts else Reach.NOT


def _is_denied(principals: PrincipalElement, request: Request) -> bool:
    """Tell whether a Deny statement of a key policy is about the principal."""
    who = request.principal
    if not principals.negated:
        return _reach(principals, request) is not Reach.NOT
    if who.kind == "service":
        return who.arn not in principals.services
    # AWS may check the account, the role and the session: all of them must be excepted.
    excepted = principals.names | ({who.account_arn} if who.account in principals.accounts else set())
    return not who.chain <= excepted
