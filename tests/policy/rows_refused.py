"""Rows about documents that are refused."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.policy.rows import (
    ACCOUNT,
    ACTION,
    ALICE,
    CONDITION,
    GRAMMAR,
    KEY,
    KEY_POLICY,
    MAY_DECRYPT,
    NOT_PRINCIPAL,
    OPERATORS,
    PRINCIPAL,
    QUOTAS,
    RESOURCE,
    VARIABLES,
    VERSION,
    Case,
    allow,
    case,
)


def _refused(name: str, rule: str, text: str | None = None, **elements: Any) -> Case:
    """A row about a key policy that is refused: its text, or one statement with these elements."""
    made = {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "kms:*", "Resource": "*"} | elements
    document = text or json.dumps(
        {"Version": "2012-10-17", "Statement": [{k: v for k, v in made.items() if v is not None}]}
    )
    return case(name, rule, "refused", document)


REFUSED: Final = [
    _refused("not JSON", GRAMMAR, "{"),
    _refused("not an object", GRAMMAR, "[]"),
    _refused("no statement", KEY_POLICY, '{"Version": "2012-10-17", "Statement": []}'),
    _refused(
        "unknown Version",
        VERSION,
        '{"Version": "2020-01-01", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}',
    ),
    _refused(
        "Effect twice",
        GRAMMAR,
        '{"Statement": [{"Effect": "Deny", "Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}',
    ),
    _refused("unknown Effect", GRAMMAR, Effect="allow"),
    _refused("no Effect", GRAMMAR, Effect=None),
    _refused("unknown element", GRAMMAR, Actions="kms:*"),
    _refused("no Principal in a key policy", PRINCIPAL, Principal=None),
    _refused("Federated that is no identity provider", PRINCIPAL, Principal={"Federated": "nobody"}),
    _refused(
        "a condition key of an identity provider that the statement does not name",
        PRINCIPAL,
        Principal={"Federated": "accounts.google.com"},
        Condition={"StringEquals": {"www.amazon.com:app_id": "app"}},
    ),
    _refused("Principal and NotPrincipal", GRAMMAR, NotPrincipal="*"),
    _refused("no Action", GRAMMAR, Action=None),
    _refused("Action and NotAction", GRAMMAR, NotAction="kms:Encrypt"),
    _refused("action without a service", ACTION, Action="Decrypt"),
    _refused("Resource and NotResource", GRAMMAR, NotResource=KEY),
    _refused("Resource that is no ARN", RESOURCE, Resource="key/1"),
    _refused(
        "variable before the fifth colon", VARIABLES, Resource="arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/*"
    ),
    _refused("part of a principal as a wildcard", PRINCIPAL, Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/*"}),
    _refused("group as a principal", PRINCIPAL, Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:group/staff"}),
    _refused("canonical user in a key policy", GRAMMAR, Principal={"CanonicalUser": "79a59d"}),
    _refused("short account id", PRINCIPAL, Principal={"AWS": "1111"}),
    _refused("unknown operator", OPERATORS, Condition={"StringMatches": {"kms:KeySpec": "x"}}),
    _refused("NullIfExists", OPERATORS, Condition={"NullIfExists": {"kms:KeySpec": "true"}}),
    _refused("unknown condition key", CONDITION, Condition={"StringEquals": {"kms:KeySpek": "x"}}),
    _refused("condition key of another service", CONDITION, Condition={"StringEquals": {"s3:prefix": "x"}}),
    _refused("operator of another type", OPERATORS, Condition={"NumericEquals": {"kms:KeySpec": "1"}}),
    _refused("number that is none", OPERATORS, Condition={"NumericEquals": {"kms:RotationPeriodInDays": "seven"}}),
    _refused("date that is none", OPERATORS, Condition={"DateLessThan": {"aws:CurrentTime": "tomorrow"}}),
    _refused("address that is none", OPERATORS, Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}),
    _refused("boolean that is none", OPERATORS, Condition={"Bool": {"aws:SecureTransport": "yes"}}),
    _refused("ARN that is none", OPERATORS, Condition={"ArnLike": {"aws:SourceArn": "bucket"}}),
    _refused(
        "policy variable without a closing brace",
        VARIABLES,
        Condition={"StringEquals": {"kms:EncryptionContext:user": "${aws:username"}},
    ),
    _refused("larger than 32 KiB", KEY_POLICY, Sid="x" * 32_768),
    case("Principal in an identity policy", PRINCIPAL, "refused", identity=[allow("kms:*", "*")]),
    case("NotPrincipal in an identity policy", NOT_PRINCIPAL, "refused", identity=[allow("kms:*", NotPrincipal="*")]),
    case("no Resource in an identity policy", GRAMMAR, "refused", identity=[{"Effect": "Allow", "Action": "kms:*"}]),
    case(
        "Id in an identity policy",
        GRAMMAR,
        "refused",
        identity='{"Id": "x", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}',
    ),
    case("spaces in the Sid of an identity policy", KEY_POLICY, "refused", identity=[allow("kms:*", Sid="a b")]),
    case(
        "Sid twice in an identity policy",
        GRAMMAR,
        "refused",
        identity=[allow("kms:*", Sid="a"), allow("kms:*", Sid="a")],
    ),
    case("identity policy that is too large", QUOTAS, "refused", identity=[allow(["kms:Decrypt"] * 1000)]),
    case(
        "statement of another service may use its own condition keys",
        CONDITION,
        "allow",
        identity=[*MAY_DECRYPT, allow("s3:*", Condition={"StringEquals": {"s3:prefix": "x"}})],
    ),
]
