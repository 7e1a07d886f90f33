"""Policies that grant only what is named, for the named encryption context.

These policies pass ``sealwax audit``: actions and principals have no wildcards, administrators of a key cannot use it,
and every use requires the encryption context. (``"Resource": "*"`` in a key policy is the key itself.)

Sources: "Creating a key policy", "Default key policy", "AWS KMS condition keys" and "Best practices for IAM policies"
in the KMS Developer Guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sealwax.errors import PolicyError
from sealwax.policy import _records
from sealwax.policy._documents import Document, parse_identity_policy, parse_key_policy
from sealwax.policy._model import principal
from sealwax.policy._operations import GRANTABLE, WITH_CONTEXT
from sealwax.policy._parts import KeyUsers, RequiredContext, checked_keys, statement, to, unwrap
from sealwax.policy._patterns import shown

VERSION: Final = "2012-10-17"
MAX_PAIRS: Final = 8  # in the constraint of a grant

_USER_OR_ROLE: Final = frozenset({"user", "role"})


def _actions(service: str, names: str) -> tuple[str, ...]:
    return tuple(f"{service}:{name}" for name in names.split())


#: What an administrator can do with a key. Neither a use of the key nor kms:CreateGrant is included.
ADMINISTER: Final = _actions(
    "kms",
    """
    CancelKeyDeletion CreateAlias DeleteAlias DescribeKey DisableKey DisableKeyRotation EnableKey EnableKeyRotation
    GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus ListGrants ListKeyPolicies ListKeyRotations ListResourceTags
    PutKeyPolicy RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource UpdateAlias
    UpdateKeyDescription
    """,
)

#: What the root user keeps, so that a key whose administrators were deleted is not lost.
RECOVER: Final = ("kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy")

#: The read-only actions that `sealwax audit` needs, by the Sid of their statement.
AUDIT: Final[Mapping[str, tuple[str, ...]]] = {
    "Keys": _actions(
        "kms",
        """
        DescribeKey GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus ListAliases ListGrants ListKeyRotations ListKeys
        ListResourceTags
        """,
    ),
    "Principals": _actions("iam", "GetAccountAuthorizationDetails"),
    "Trails": _actions("cloudtrail", "DescribeTrails GetEventSelectors GetTrailStatus LookupEvents"),
    "Rules": _actions("events", "ListRules ListTargetsByRule"),
    "Alarms": _actions("cloudwatch", "DescribeAlarms"),
    "Filters": _actions("logs", "DescribeMetricFilters"),
}


# Without CreateGrant: a grantee must not pass the grant on.
_GRANTABLE: Final = ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")


def write_key_policy(administrators: Sequence[str], users: KeyUsers, context: RequiredContext) -> Document:
    """Write a key policy that does not delegate to IAM: identity policies cannot allow anything beyond it.

    Args:
        administrators: ARNs of users and roles of the key's own account.
        users: the principals that use the key.
        context: the encryption context that every use requires.

    Returns:
        The policy document.

    Raises:
        PolicyError: a policy cannot express this, or a principal would both administer the key and use it.

    Example:
        ``write_key_policy([admin], KeyUsers(decrypt=[app]), RequiredContext({"purpose": "backup"}))``
    """
    root = _root_of_administrators(administrators, users)
    _records.refuse_both_rotations(users)
    condition = (context.without_records() if users.of_records else context).condition()
    rotated = _records.pinned(context).condition() if users.rotate_from or users.rotate_to else {}
    delegated = {"ForAllValues:StringEquals": {"kms:GrantOperations": list(_GRANTABLE)}, **condition}
    statements = [
        {
            "Sid": "RootUserRecovers",
            "Effect": "Allow",
            "Principal": {"AWS": root},
            "Action": list(RECOVER),
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalType": "Account"}},
        },
        to("Administer", administrators, ADMINISTER),
        to("Encrypt", users.encrypt, ("kms:GenerateDataKey", "kms:Encrypt"), condition),
        to("Decrypt", users.decrypt, ("kms:Decrypt",), condition),
        to("RotateFrom", users.rotate_from, ("kms:ReEncryptFrom",), rotated),
        to("RotateTo", users.rotate_to, ("kms:ReEncryptTo",), rotated),
        to("Grant", users.grant, ("kms:CreateGrant",), delegated),
        *_records.in_key_policy(users, context),
    ]
    document: Document = {"Version": VERSION, "Statement": [each for each in statements if each]}
    parse_key_policy(document, name="requested key policy")
    return document


def _root_of_administrators(administrators: Sequence[str], users: KeyUsers) -> str:
    """Return the root user of the administrators' account. Nobody may both administer the key and use it."""
    if not administrators:
        raise PolicyError("a key needs an administrator, or no one could change its policy")
    owners = {arn: _owner(arn) for arn in (*administrators, *sorted(users.all()))}
    accounts = {owners[arn][1] for arn in administrators}
    if len(accounts) != 1:
        raise PolicyError("the administrators are of several accounts, but only a key's own account can administer it")
    both = sorted(users.all() & set(administrators))
    if both:
        raise PolicyError(f"'{shown(both[0])}' would both administer the key and use it; name two different principals")
    partition, account = owners[administrators[0]]
    return f"arn:{partition}:iam::{account}:root"


def allow_encrypt(keys: Sequence[str], context: RequiredContext) -> list[Document]:
    """Write the identity policy statements that allow encryption.

    Args:
        keys: the ARNs of the keys: the first creates data keys, the others only wrap them.
        context: the encryption context that every use requires.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: there is no key, or one is not an ARN.
    """
    first, others = checked_keys(keys)[:1], keys[1:]
    statements = [statement("Encrypt", ("kms:GenerateDataKey",), first, context)]
    return statements + ([statement("EncryptToo", ("kms:Encrypt",), others, context)] if others else [])


def allow_decrypt(keys: Sequence[str], context: RequiredContext) -> list[Document]:
    """Write the identity policy statement that allows decryption.

    Args:
        keys: the ARNs of the keys.
        context: the encryption context that every use requires.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: there is no key, or one is not an ARN.
    """
    return [statement("Decrypt", ("kms:Decrypt",), checked_keys(keys), context)]


def allow_rotate(old: Sequence[str], new: Sequence[str], context: RequiredContext) -> list[Document]:
    """Write the identity policy statements that allow moving wrapped keys to other keys, but not decryption.

    The new keys must be named, because kms:ReEncryptFrom with kms:ReEncryptTo on any key is as good as kms:Decrypt.

    Args:
        old: the ARNs of the keys to move from.
        new: the ARNs of the keys to move to.
        context: the encryption context that every use requires.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: there is no old or no new key, or one is not an ARN.
    """
    pinned = _records.pinned(context)
    return [
        statement("RotateFrom", ("kms:ReEncryptFrom",), checked_keys(old), pinned),
        statement("RotateTo", ("kms:ReEncryptTo",), checked_keys(new), pinned),
    ]


def allow_audit() -> list[Document]:
    """Write the read-only identity policy statements that ``sealwax audit`` needs.

    Returns:
        Statements for ``write_identity_policy``.
    """
    return [
        {"Sid": f"See{sid}", "Effect": "Allow", "Action": unwrap(actions), "Resource": "*"}
        for sid, actions in AUDIT.items()
    ]


def write_identity_policy(statements: Sequence[Document]) -> Document:
    """Write an identity policy with these statements.

    Args:
        statements: what the ``allow_`` functions return.

    Returns:
        The policy document.

    Raises:
        PolicyError: a policy cannot express this.

    Example:
        ``write_identity_policy(allow_decrypt([key], RequiredContext({"purpose": "backup"})))``
    """
    document: Document = {"Version": VERSION, "Statement": list(statements)}
    parse_identity_policy(document, name="requested identity policy")
    return document


def grant_request(
    key: str,
    grantee: str,
    operations: Iterable[str],
    context: RequiredContext,
    *,
    retiring: str | None = None,
    name: str | None = None,
) -> Document:
    """Write a request for CreateGrant.

    Args:
        key: the ARN of the key.
        grantee: the ARN of the principal that gets the grant.
        operations: the operations it permits: those that take an encryption context, and DescribeKey.
        context: the encryption context that every use requires.
        retiring: the ARN of the principal that can retire it, besides those that can revoke it.
        name: the name of the grant.

    Returns:
        The parameters of CreateGrant.

    Raises:
        PolicyError: a grant cannot express this.

    Example:
        ``boto3.client("kms").create_grant(**grant_request(key, app, ["Decrypt"], RequiredContext({"purpose": "x"})))``
    """
    checked_keys([key])
    _owner(grantee, also=("session", "federated"))
    if retiring is not None:
        _owner(retiring, also=("session", "federated", "root"))
    wanted = list(dict.fromkeys(operations))
    possible = [*sorted(name for name in GRANTABLE if f"kms:{name}" in WITH_CONTEXT), "DescribeKey"]
    strange = [name for name in wanted if name not in possible]
    if strange or not wanted:
        problem = f"it cannot permit '{shown(strange[0])}'" if strange else "name at least one of them"
        raise PolicyError(f"a grant with a context can permit {', '.join(possible)}; {problem}")
    if context.names:
        raise PolicyError("a grant compares whole pairs, so each name of the context needs a value")
    context.check_names()
    if len(context.pairs) > MAX_PAIRS:
        raise PolicyError(f"the constraint of a grant has at most {MAX_PAIRS} pairs, not {len(context.pairs)}")
    request: Document = {"KeyId": key, "GranteePrincipal": grantee, "Operations": wanted}
    if context.pairs:
        request["Constraints"] = {"EncryptionContextSubset": dict(context.pairs)}
    optional = {"RetiringPrincipal": retiring, "Name": name}
    return request | {member: value for member, value in optional.items() if value is not None}


def _owner(arn: str, *, also: Sequence[str] = ()) -> tuple[str, str]:
    """Return the partition and the account of a user or role.

    Raises:
        PolicyError: it is neither.
    """
    try:
        parsed = principal(arn)
    except ValueError:
        parsed = None
    if parsed is None or (parsed.kind not in _USER_OR_ROLE and parsed.kind not in also):
        raise PolicyError(f"'{shown(arn)}' is not the ARN of a user or role; name each one, not an account or *")
    return arn.split(":")[1], parsed.account
