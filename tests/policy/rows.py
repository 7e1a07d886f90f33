"""The rows of the authorization table, and the words they are written in.

Each row stands on a rule of the AWS documentation, which it names.

A row reads: this principal, with these identity policies, asks for this action on this key, whose policy and grants are
these; the answer is ``expect``. What a row does not say is the ordinary: Alice of account 111122223333 decrypts
with a key of her account.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

IAM: Final = "https://docs.aws.amazon.com/IAM/latest/UserGuide/"
KMS: Final = "https://docs.aws.amazon.com/kms/latest/developerguide/"
API: Final = "https://docs.aws.amazon.com/kms/latest/APIReference/"

EVALUATION: Final = IAM + "reference_policies_evaluation-logic.html"
DENY_ALLOW: Final = IAM + "reference_policies_evaluation-logic_policy-eval-denyallow.html"
CROSS: Final = IAM + "reference_policies_evaluation-logic-cross-account.html"
PRINCIPAL: Final = IAM + "reference_policies_elements_principal.html"
NOT_PRINCIPAL: Final = IAM + "reference_policies_elements_notprincipal.html"
ACTION: Final = IAM + "reference_policies_elements_action.html"
NOT_ACTION: Final = IAM + "reference_policies_elements_notaction.html"
RESOURCE: Final = IAM + "reference_policies_elements_resource.html"
NOT_RESOURCE: Final = IAM + "reference_policies_elements_notresource.html"
CONDITION: Final = IAM + "reference_policies_elements_condition.html"
OPERATORS: Final = IAM + "reference_policies_elements_condition_operators.html"
MANY_VALUES: Final = IAM + "reference_policies_condition-logic-multiple-context-keys-or-values.html"
SETS: Final = IAM + "reference_policies_condition-single-vs-multi-valued-context-keys.html"
VARIABLES: Final = IAM + "reference_policies_variables.html"
GLOBAL_KEYS: Final = IAM + "reference_policies_condition-keys.html"
GRAMMAR: Final = IAM + "reference_policies_grammar.html"
VERSION: Final = IAM + "reference_policies_elements_version.html"
QUOTAS: Final = IAM + "reference_iam-quotas.html"
KEY_ACCESS: Final = KMS + "policy-evaluation.html"
KEY_POLICY: Final = KMS + "key-policy-overview.html"
DEFAULT_POLICY: Final = KMS + "key-policy-default.html"
EXTERNAL: Final = KMS + "key-policy-modifying-external-accounts.html"
KMS_KEYS: Final = KMS + "conditions-kms.html"
AWS_KEYS: Final = KMS + "conditions-aws.html"
PERMISSIONS: Final = KMS + "kms-api-permissions-reference.html"
ALIAS_ACCESS: Final = KMS + "alias-access.html"
ALIAS_ABAC: Final = KMS + "alias-authorization.html"
TAG_ABAC: Final = KMS + "tag-authorization.html"
IN_IAM: Final = KMS + "cmks-in-iam-policies.html"
GRANTS: Final = KMS + "grants.html"
CREATE_GRANT: Final = KMS + "create-grant-overview.html"
GRANT_TOKEN: Final = KMS + "using-grant-token.html"
RETIRE: Final = KMS + "grant-delete.html"
CONSTRAINTS: Final = API + "API_GrantConstraints.html"
REENCRYPT: Final = API + "API_ReEncrypt.html"

ACCOUNT: Final = "111122223333"
OTHER: Final = "444455556666"
ROOT: Final = f"arn:aws:iam::{ACCOUNT}:root"
OTHER_ROOT: Final = f"arn:aws:iam::{OTHER}:root"
ALICE: Final = f"arn:aws:iam::{ACCOUNT}:user/staff/Alice"
BOB: Final = f"arn:aws:iam::{ACCOUNT}:user/Bob"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/App"
SESSION: Final = f"arn:aws:sts::{ACCOUNT}:assumed-role/App/run-1"
FEDERATED: Final = f"arn:aws:sts::{ACCOUNT}:federated-user/Fay"
CAROL: Final = f"arn:aws:iam::{OTHER}:user/Carol"
SERVICE: Final = "logs.us-east-1.amazonaws.com"
KEY: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/9999abcd-12ab-34cd-56ef-1234567890ab"
ALIAS: Final = f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/payments"
NOON: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

Expect = Literal["allow", "deny", "explicit deny", "refused"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    rule: str
    expect: Expect
    key: Sequence[Json] | str | None
    identity: Sequence[Json] | str
    action: str = "kms:Decrypt"
    who: str = ALICE
    principal: Mapping[str, Any] = field(default_factory=dict)
    resource: str = KEY
    grants: Sequence[Mapping[str, Any]] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    tokens: Sequence[str] = ()
    grant_id: str | None = None
    time: datetime = NOON
    tls: bool = True
    version: str | None = "2012-10-17"

    def document(self, statements: Sequence[Json] | str) -> str:
        """Return the text of a policy."""
        if isinstance(statements, str):
            return statements
        version = {} if self.version is None else {"Version": self.version}
        return json.dumps({**version, "Statement": list(statements)})


def statement(effect: str, action: str | list[str] | None, to: Any = None, **elements: Any) -> Json:
    """Make a statement: Allow or Deny, the Action, the Principal, and other elements by their names."""
    made: Json = {"Effect": effect, "Resource": "*"}
    if action is not None:
        made["Action"] = action
    if to is not None:
        made["Principal"] = to if isinstance(to, dict) or to == "*" else {"AWS": to}
    made |= elements
    if "NotResource" in elements:
        del made["Resource"]
    return made


def allow(action: str | list[str] | None, to: Any = None, **elements: Any) -> Json:
    return statement("Allow", action, to, **elements)


def deny(action: str | list[str] | None, to: Any = None, **elements: Any) -> Json:
    return statement("Deny", action, to, **elements)


def grant(**given: Any) -> Mapping[str, Any]:
    return {"id": "g1", "key": KEY, "grantee": ALICE, "operations": frozenset({"Decrypt"})} | given


DELEGATED: Final = [allow("kms:*", ROOT)]
TO_ALICE: Final = [allow("kms:Decrypt", ALICE)]
MAY_DECRYPT: Final = [allow("kms:Decrypt")]


def case(
    name: str,
    rule: str,
    expect: Expect,
    key: Sequence[Json] | str | None = DELEGATED,
    identity: Sequence[Json] | str = (),
    **given: Any,
) -> Case:
    return Case(name, rule, expect, key, identity, **given)


def when(name: str, rule: str, holds: bool | None, condition: Json, **given: Any) -> Case:
    """A row about a condition on a statement of the key policy that names the caller; None: the policy is refused."""
    who = given.get("who", ALICE)
    action = given.get("action", "kms:Decrypt")
    expect: Expect = "refused" if holds is None else "allow" if holds else "deny"
    return case(name, rule, expect, [allow(action, who, Condition=condition)], **given)


def compare(operator: str, ours: Any, theirs: Any, holds: bool, key: str = "aws:ResourceTag/v", note: str = "") -> Case:
    """A row about an operator: the policy's value, the request's value."""
    context = {} if theirs is None else {key: theirs}
    name = f"{operator} {ours} on {theirs} {note}".strip()
    rule = SETS if operator.startswith("ForA") else OPERATORS
    return when(name, rule, holds, {operator: {key: ours}}, context=context)
