"""Key policies, identity policies and grants: what they allow, and how to write them.

Evaluate one action on one resource::

    request = Request(
        "kms:Decrypt",
        principal("arn:aws:iam::111122223333:user/alice"),
        key_arn,
        datetime.now(UTC),
        encryption_context={"purpose": "backup"},
    )
    decision = evaluate(
        request,
        key_policy=parse_key_policy(key_policy_json),
        identity_policies=[parse_identity_policy(identity_policy_json)],
    )
    decision.allowed, decision.reason

``permissions()`` returns the actions that an operation needs. Anything that cannot be evaluated, such as an unknown
condition key, is a ``PolicyError`` and never allowed. Nothing here uses the network or the clock. Permissions
boundaries, session policies and the policies of organizations and VPC endpoints are not evaluated; they can only take
access away.

Write policies that grant only what is named::

    write_key_policy([admin_arn], KeyUsers(decrypt=[app_arn]), RequiredContext({"purpose": "backup"}))
    write_identity_policy(allow_decrypt([key_arn], RequiredContext({"purpose": "backup"})))
"""

from sealwax.policy._conditions import Clause, Each
from sealwax.policy._documents import (
    Document,
    Policy,
    PrincipalElement,
    Statement,
    parse_identity_policy,
    parse_key_policy,
)
from sealwax.policy._evaluate import evaluate
from sealwax.policy._explain import KeyDescription, PrincipalDescription, explain
from sealwax.policy._generate import (
    allow_audit,
    allow_decrypt,
    allow_encrypt,
    allow_rotate,
    grant_request,
    write_identity_policy,
    write_key_policy,
)
from sealwax.policy._model import Decision, Grant, Principal, PrincipalKind, Request, Value, principal
from sealwax.policy._operations import CROSS_ACCOUNT, GRANTABLE, On, Permission, permissions
from sealwax.policy._parts import KeyUsers, RequiredContext
from sealwax.policy._patterns import Lookup, Pattern, Token, Variable, Wild
from sealwax.policy._records import (
    allow_records,
    allow_rotate_indexes,
    allow_rotate_records,
    allow_search_records,
    deny_records,
)

__all__ = [
    "CROSS_ACCOUNT",
    "GRANTABLE",
    "Clause",
    "Decision",
    "Document",
    "Each",
    "Grant",
    "KeyDescription",
    "KeyUsers",
    "Lookup",
    "On",
    "Pattern",
    "Permission",
    "Policy",
    "Principal",
    "PrincipalDescription",
    "PrincipalElement",
    "PrincipalKind",
    "Request",
    "RequiredContext",
    "Statement",
    "Token",
    "Value",
    "Variable",
    "Wild",
    "allow_audit",
    "allow_decrypt",
    "allow_encrypt",
    "allow_records",
    "allow_rotate",
    "allow_rotate_indexes",
    "allow_rotate_records",
    "allow_search_records",
    "deny_records",
    "evaluate",
    "explain",
    "grant_request",
    "parse_identity_policy",
    "parse_key_policy",
    "permissions",
    "principal",
    "write_identity_policy",
    "write_key_policy",
]
