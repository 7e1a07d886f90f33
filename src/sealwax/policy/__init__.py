"""Key policies, identity policies and grants: what they say about a request to KMS.

::

    key_policy = parse_key_policy(text)
    request = Request("kms:Decrypt", principal("arn:aws:iam::111122223333:user/alice"), key_arn, now,
                      encryption_context={"purpose": "backup"})
    decision = evaluate(request, key_policy=key_policy, identity_policies=[parse_identity_policy(text)], grants=[])
    decision.allowed, decision.reason

One evaluation is one action on one resource; :func:`permissions` says which ones an operation needs. What is not
understood, an unknown condition key above all, is a :class:`sealwax.errors.PolicyError` and never an allow. Nothing
here knows the network or the clock. Permissions boundaries, session policies, the policies of organizations and of VPC
endpoints are not looked at: they can only take away.
"""

from sealwax.policy._documents import Policy, Statement, parse_identity_policy, parse_key_policy
from sealwax.policy._evaluate import evaluate
from sealwax.policy._model import Decision, Grant, Principal, Request, principal
from sealwax.policy._operations import CROSS_ACCOUNT, GRANTABLE, On, Permission, permissions

__all__ = [
    "CROSS_ACCOUNT",
    "GRANTABLE",
    "Decision",
    "Grant",
    "On",
    "Permission",
    "Policy",
    "Principal",
    "Request",
    "Statement",
    "evaluate",
    "parse_identity_policy",
    "parse_key_policy",
    "permissions",
    "principal",
]
