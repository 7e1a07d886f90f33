"""Writing policies: nobody gets more than is named, and nothing is used but for the named context.

What is written here passes ``sealwax audit``. No action and no principal holds a wildcard, nobody who administers a key
can use it, and every use asks for the encryption context. (``"Resource": "*"`` in a key policy is the key itself.)

Sources: "Creating a key policy", "Default key policy", "AWS KMS condition keys" and "Best practices for IAM policies"
in the KMS Developer Guide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import parse_identity_policy, parse_key_policy
from sealwax.policy._model import principal
from sealwax.policy._operations import GRANTABLE, WITH_CONTEXT
from sealwax.policy._patterns import shown

Document = dict[str, Any]

VERSION: Final = "2012-10-17"
MAX_PAIRS: Final = 8  # of a grant's constraint

_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")
_PERSON: Final = frozenset({"user", "role"})


def _actions(service: str, names: str) -> tuple[str, ...]:
    return tuple(f"{service}:{name}" for name in names.split())


#: What an administrator does with a key, but for giving out its use: neither a use nor kms:CreateGrant is among them.
ADMINISTER: Final = _actions(
    "kms",
    """
    CancelKeyDeletion CreateAlias DeleteAlias DescribeKey DisableKey DisableKeyRotation EnableKey EnableKeyRotation
    GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus ListGrants ListKeyPolicies ListKeyRotations ListResourceTags
    PutKeyPolicy RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion TagResource UntagResource UpdateAlias
    UpdateKeyDescription
    """,
)

#: What the root user keeps, so that a key whose administrators are gone is not lost.
RECOVER: Final = ("kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy")

#: What `sealwax audit` asks, by service; nothing of it changes anything.
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


@dataclass(frozen=True, slots=True)
class Bound:
    """The encryption context that a use is bound to.

    Attributes:
        pairs: what the context must hold.
        names: what it must hold too, with any value: for a value that differs for each record.
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def check_names(self) -> None:
        """Refuse names that differ in nothing but case: policies and grants compare them without it.

        Raises:
            PolicyError: two do.
        """
        folded = [name.lower() for name in (*self.pairs, *self.names)]
        if len(set(folded)) != len(folded):
            raise PolicyError("two names of the context differ in nothing but case, which no policy can tell apart")

    def condition(self) -> Document:
        """Return the Condition element; empty where nothing is asked for."""
        self.check_names()
        found: Document = {}
        if self.pairs:
            found["StringEquals"] = {_context_key(name): _literal(value) for name, value in self.pairs.items()}
        if self.names:
            found["Null"] = {_context_key(name): "false" for name in self.names}
        return found


def _context_key(name: str) -> str:
    return f"kms:EncryptionContext:{name}"


def _literal(value: str) -> str:
    """Return a value as StringEquals compares it to: ``${`` would begin a policy variable."""
    return value.replace("${", "${$}{")


@dataclass(frozen=True, slots=True)
class Users:
    """Who uses a key, by what for; each is the ARN of a user or role.

    Attributes:
        encrypt: may make data keys and wrap them.
        decrypt: may unwrap data keys.
        rotate_from: may move wrapped keys away from this key.
        rotate_to: may move wrapped keys to this key.
        grant: may give others, by a grant that is bound to the context as well, what the above may.
    """

    encrypt: Sequence[str] = ()
    decrypt: Sequence[str] = ()
    rotate_from: Sequence[str] = ()
    rotate_to: Sequence[str] = ()
    grant: Sequence[str] = ()

    def all(self) -> frozenset[str]:
        return frozenset((*self.encrypt, *self.decrypt, *self.rotate_from, *self.rotate_to, *self.grant))


# Not CreateGrant: who gets a grant does not pass it on.
_GIVEN_OUT: Final = ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")


def key_policy(administrators: Sequence[str], users: Users, bound: Bound) -> Document:
    """Write the policy of a key.

    It does not delegate to IAM: what it does not allow, no identity policy allows.

    Args:
        administrators: ARNs of users and roles of the key's own account.
        bound: the context that every use asks for.

    Raises:
        PolicyError: it cannot be said in a policy, or somebody would both administer the key and use it.
    """
    if not administrators:
        raise PolicyError("a key needs an administrator, or nobody could change its policy")
    who = {arn: _person(arn) for arn in (*administrators, *sorted(users.all()))}
    accounts = {who[arn][1] for arn in administrators}
    if len(accounts) != 1:
        raise PolicyError("the administrators are of several accounts; KMS lets only a key's own account administer it")
    both = sorted(users.all() & set(administrators))
    if both:
        raise PolicyError(f"'{shown(both[0])}' would both administer the key and use it: name two principals")
    partition, account = who[administrators[0]]
    root = f"arn:{partition}:iam::{account}:root"
    condition = bound.condition()
    given_out = {"ForAllValues:StringEquals": {"kms:GrantOperations": list(_GIVEN_OUT)}, **condition}
    statements = [
        {
            "Sid": "RootUserRecovers",
            "Effect": "Allow",
            "Principal": {"AWS": root},
            "Action": list(RECOVER),
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalType": "Account"}},
        },
        _to("Administer", administrators, ADMINISTER),
        _to("Encrypt", users.encrypt, ("kms:GenerateDataKey", "kms:Encrypt"), condition),
        _to("Decrypt", users.decrypt, ("kms:Decrypt",), condition),
        _to("RotateFrom", users.rotate_from, ("kms:ReEncryptFrom",), condition),
        _to("RotateTo", users.rotate_to, ("kms:ReEncryptTo",), condition),
        _to("Grant", users.grant, ("kms:CreateGrant",), given_out),
    ]
    document = {"Version": VERSION, "Statement": [one for one in statements if one is not None]}
    parse_key_policy(document, name="key policy that was to be written")
    return document


def _to(sid: str, who: Sequence[str], actions: Sequence[str], condition: Document | None = None) -> Document | None:
    if not who:
        return None
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": _one_or_all(who)},
        "Action": _one_or_all(actions),
        "Resource": "*",
    }
    return statement | ({"Condition": condition} if condition else {})


def encrypt_only(keys: Sequence[str], bound: Bound) -> list[Document]:
    """Write the statements to encrypt under keys: data keys are made under the first, and wrapped for the others."""
    first, others = _checked_keys(keys)[:1], keys[1:]
    statements = [_statement("Encrypt", ("kms:GenerateDataKey",), first, bound)]
    return statements + ([_statement("EncryptToo", ("kms:Encrypt",), others, bound)] if others else [])


def decrypt_only(keys: Sequence[str], bound: Bound) -> list[Document]:
    """Write the statement to decrypt what is wrapped under keys."""
    return [_statement("Decrypt", ("kms:Decrypt",), _checked_keys(keys), bound)]


def rotate_only(old: Sequence[str], new: Sequence[str], bound: Bound) -> list[Document]:
    """Write the statements to move wrapped keys from old keys to new ones without being able to decrypt.

    The new keys are named: kms:ReEncryptFrom with kms:ReEncryptTo on any key is as good as kms:Decrypt.
    """
    return [
        _statement("RotateFrom", ("kms:ReEncryptFrom",), _checked_keys(old), bound),
        _statement("RotateTo", ("kms:ReEncryptTo",), _checked_keys(new), bound),
    ]


def audit_only() -> list[Document]:
    """Write the statements to look at an account as ``sealwax audit`` does, and to change and decrypt nothing."""
    return [
        {"Sid": f"See{sid}", "Effect": "Allow", "Action": _one_or_all(actions), "Resource": "*"}
        for sid, actions in AUDIT.items()
    ]


def identity_policy(statements: Sequence[Document]) -> Document:
    """Write an identity policy of statements.

    Raises:
        PolicyError: it cannot be said in a policy.
    """
    document = {"Version": VERSION, "Statement": list(statements)}
    parse_identity_policy(document, name="identity policy that was to be written")
    return document


def _statement(sid: str, actions: Sequence[str], keys: Sequence[str], bound: Bound) -> Document:
    condition = bound.condition()
    found = {"Sid": sid, "Effect": "Allow", "Action": _one_or_all(actions), "Resource": _one_or_all(keys)}
    return found | ({"Condition": condition} if condition else {})


def grant(
    key: str,
    grantee: str,
    operations: Iterable[str],
    bound: Bound,
    *,
    retiring: str | None = None,
    name: str | None = None,
) -> Document:
    """Write the request of a grant, as CreateGrant takes it.

    Args:
        key: the ARN of the key.
        grantee: the ARN of who gets it.
        operations: what it permits: those that take an encryption context, and DescribeKey.
        bound: the context that each use must hold.
        retiring: the ARN of who may end it, beside those who may revoke it.
        name: its name; see :func:`~sealwax.policy._expiry.due_name`.

    Raises:
        PolicyError: it cannot be said in a grant.
    """
    _checked_keys([key])
    _person(grantee, also=("session", "federated"))
    if retiring is not None:
        _person(retiring, also=("session", "federated", "root"))
    wanted = list(dict.fromkeys(operations))
    fitting = [*sorted(one for one in GRANTABLE if f"kms:{one}" in WITH_CONTEXT), "DescribeKey"]
    strange = [one for one in wanted if one not in fitting]
    if strange or not wanted:
        problem = f"'{shown(strange[0])}' is none of them" if strange else "none was named"
        raise PolicyError(f"a grant that is bound to a context permits {', '.join(fitting)}; {problem}")
    if bound.names:
        raise PolicyError("a grant compares whole pairs: give each name of the context its value")
    bound.check_names()
    if len(bound.pairs) > MAX_PAIRS:
        raise PolicyError(f"the constraint of a grant has at most {MAX_PAIRS} pairs, not {len(bound.pairs)}")
    request: Document = {"KeyId": key, "GranteePrincipal": grantee, "Operations": wanted}
    if bound.pairs:
        request["Constraints"] = {"EncryptionContextSubset": dict(bound.pairs)}
    optional = {"RetiringPrincipal": retiring, "Name": name}
    return request | {member: value for member, value in optional.items() if value is not None}


def _checked_keys(keys: Sequence[str]) -> Sequence[str]:
    for key in keys:
        if not _KEY.fullmatch(key):
            raise PolicyError(
                f"'{shown(key)}' is not the ARN of a key: a policy names keys by ARN, not by ID or alias "
                "('sealwax keys list --json' shows the ARNs)"
            )
    if not keys:
        raise PolicyError("no key was named")
    return keys


def _person(arn: str, *, also: Sequence[str] = ()) -> tuple[str, str]:
    """Return the partition and the account of a user or role.

    Raises:
        PolicyError: it is neither.
    """
    try:
        found = principal(arn)
    except ValueError:
        found = None
    if found is None or (found.kind not in _PERSON and found.kind not in also):
        raise PolicyError(f"'{shown(arn)}' is not the ARN of a user or role: name each one, and no account or *")
    return arn.split(":")[1], found.account


def _one_or_all(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)
