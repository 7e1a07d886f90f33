"""Whether a caller may do what a call asks for: the lab's records, put before :mod:`sealwax.policy`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sealwax import policy
from sealwax._aws.partitions import partition_of
from sealwax.errors import PolicyError
from sealwax.lab._apierror import ApiError
from sealwax.lab._model import ORGANIZATION, Caller, Grant, Key
from sealwax.lab._names import ALIAS

if TYPE_CHECKING:
    from sealwax.lab._call import Call, Question

_MOST_REMEMBERED = 4096

_parse_key_policy = lru_cache(maxsize=256)(policy.parse_key_policy)


@lru_cache(maxsize=256)
def _parse_identity_policy(text: str, name: str) -> policy.Policy:
    return policy.parse_identity_policy(text, name=name)


def default_policy(account: str, region: str) -> str:
    """The key policy that KMS attaches when the creator gives none: the account decides by its identity policies."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Id": "key-default-1",
            "Statement": [
                {
                    "Sid": "Enable IAM User Permissions",
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:{partition_of(region)}:iam::{account}:root"},
                    "Action": "kms:*",
                    "Resource": "*",
                }
            ],
        },
        indent=2,
        separators=(",", " : "),
    )


def check_key_policy(text: str) -> None:
    """Raises MalformedPolicyDocumentException with the evaluator's own words."""
    try:
        _parse_key_policy(text)
    except PolicyError as error:
        raise ApiError("MalformedPolicyDocumentException", str(error)) from error


class Authorizer:
    """Asks the evaluator, and words a denial as KMS does."""

    def __init__(self) -> None:
        self._constant: dict[tuple[Any, ...], policy.Decision] = {}

    def require(self, call: Call, question: Question) -> str:
        """The reason why the answer is yes.

        Raises:
            ApiError: AccessDeniedException; its ``reason`` is for the trail.
        """
        decision, key_policy = self._decide(call, question)
        if decision.allowed:
            return decision.reason
        raise _denial(call.request.caller, question, decision, key_policy)

    def allows(self, call: Call, question: Question, key_policy: str) -> bool:
        """Whether the answer would be yes under another key policy (the lockout safety check)."""
        return self._decide(call, question, key_policy)[0].allowed

    def _decide(
        self, call: Call, question: Question, key_policy: str | None = None
    ) -> tuple[policy.Decision, policy.Policy | None]:
        caller = call.request.caller
        on = question.on
        documents = caller.principal.policies if caller.principal is not None else {}
        identity = [_parse_identity_policy(text, f"identity policy {name}") for name, text in documents.items()]
        parsed: policy.Policy | None = None
        grants: list[policy.Grant] = []
        constant = all(one.unconditional for one in identity)
        text = ""
        if isinstance(on, Key):
            text = key_policy or _policy_in_force(on, call.now)
            parsed = _parse_key_policy(text)
            constant = constant and parsed.unconditional
            grants = [_grant(grant, on, call.now) for grant in call.records.grants(on)]
        name = None
        if constant and not grants:
            # Most policies of a lab are of this kind, and the evaluator costs more than the cryptography.
            name = (caller.arn, question.action, on.arn if isinstance(on, Key) else on, text, *documents.items())
            known = self._constant.get(name)
            if known is not None:
                return known, parsed
        request = policy.Request(
            action=f"kms:{question.action}",
            principal=_principal(caller),
            resource=on.arn if isinstance(on, Key) else on,
            time=datetime.fromtimestamp(call.now, UTC),
            context=_conditions(call, question),
            encryption_context=question.context,
            grant_tokens=call.get("GrantTokens", ()),
            grant_id=question.grant_id,
            secure_transport=call.request.secure,
        )
        decision = policy.evaluate(request, key_policy=parsed, identity_policies=identity, grants=grants)
        if name is not None:
            if len(self._constant) >= _MOST_REMEMBERED:
                self._constant.clear()
            self._constant[name] = decision
        return decision, parsed


def _policy_in_force(key: Key, now: float) -> str:
    if key.policy_before is not None and key.policy_effective is not None and now < key.policy_effective:
        return key.policy_before
    return key.policy


def _principal(caller: Caller) -> policy.Principal:
    behind = caller.principal
    return policy.principal(
        caller.arn,
        role=behind.arn if behind is not None and behind.kind == "role" else None,
        user_id=caller.user_id,
        tags=behind.tags if behind is not None else None,
        org_id=ORGANIZATION,
    )


def _grant(grant: Grant, key: Key, now: float) -> policy.Grant:
    constraints: Any = grant.constraints
    return policy.Grant(
        id=grant.grant_id,
        key=key.arn,
        grantee=grant.grantee or grant.grantee_service or "",
        operations=frozenset(grant.operations),
        subset=constraints.get("EncryptionContextSubset"),
        equals=constraints.get("EncryptionContextEquals"),
        source_arn=constraints.get("SourceArn"),
        retiring=grant.retiring or grant.retiring_service,
        issuing_account=grant.issuer,
        tokens=frozenset({grant.token}),
        effective=grant.effective <= now,
    )


def _conditions(call: Call, question: Question) -> dict[str, Any]:
    values: dict[str, Any] = {
        "aws:SourceIp": call.request.source_ip,
        "aws:UserAgent": call.request.user_agent,
        **question.facts,
    }
    key = question.on
    if isinstance(key, Key):
        values |= {
            "kms:KeySpec": key.spec,
            "kms:CustomerMasterKeySpec": key.spec,
            "kms:KeyUsage": key.usage,
            "kms:CustomerMasterKeyUsage": key.usage,
            "kms:KeyOrigin": key.origin,
            "kms:MultiRegion": key.multi_region is not None,
        }
        if key.multi_region is not None:
            values["kms:MultiRegionKeyType"] = key.multi_region
        values["kms:ResourceAliases"] = [
            alias.name for alias in call.records.aliases(key.account, key.region, key.key_id)
        ]
        for tag, value in call.records.tags(key).items():
            values[f"aws:ResourceTag/{tag}"] = value
        if question.named is not None and ALIAS in question.named:
            values["kms:RequestAlias"] = question.named[question.named.index(ALIAS) :]
    return {name: value for name, value in values.items() if value != ""}


def _denial(
    caller: Caller, question: Question, decision: policy.Decision, key_policy: policy.Policy | None
) -> ApiError:
    action = f"kms:{question.action}"
    on = question.on.arn if isinstance(question.on, Key) else question.on
    foreign = isinstance(question.on, Key) and question.on.account != caller.account
    if decision.explicit_deny:
        by_key = key_policy is not None and any(one in key_policy.statements for one in decision.statements)
        because = f"with an explicit deny in {'a resource' if by_key else 'an identity'}-based policy"
    elif foreign:
        because = (
            "because the resource does not exist in this Region, no resource-based policies allow access, "
            "or a resource-based policy explicitly denies access"
        )
    else:
        because = f"because no identity-based policy allows the {action} action"
        if caller.principal is None:
            because = f"because no resource-based policy allows the {action} action"
    return ApiError(
        "AccessDeniedException",
        f"User: {caller.arn} is not authorized to perform: {action} on resource: {on} {because}",
        reason=decision.reason,
    )
