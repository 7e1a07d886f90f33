"""Decides whether a caller may do something: the lab's policies and grants, evaluated by ``sealwax.policy``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from sealwax import policy
from sealwax._aws.partitions import partition_of
from sealwax._core.lru import LruMap
from sealwax.errors import PolicyError
from sealwax.lab._apierror import ApiError
from sealwax.lab._model import (
    ORGANIZATION,
    CallerIdentity,
    Conditions,
    GrantRecord,
    KeyRecord,
    KmsRequest,
    NewConditions,
    Question,
)
from sealwax.lab._names import ALIAS
from sealwax.lab._records import KeyRecords

_MAX_DECISIONS = 4096
# The request, the documents that decide, and their text.
_Name: TypeAlias = tuple[str | tuple[str, str], ...]

_parse_key_policy = lru_cache(maxsize=256)(policy.parse_key_policy)


@lru_cache(maxsize=256)
def _parse_identity_policy(text: str, name: str) -> policy.Policy:
    return policy.parse_identity_policy(text, name=name)


def default_policy(account: str, region: str) -> str:
    """KMS's default key policy, which lets the account's identity policies decide."""
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
    """Raises MalformedPolicyDocumentException with the evaluator's message."""
    try:
        _parse_key_policy(text)
    except PolicyError as error:
        raise ApiError("MalformedPolicyDocumentException", str(error)) from error


class Authorizer:
    """Evaluates policies and grants, and words a denial as KMS does."""

    def __init__(self, records: KeyRecords) -> None:
        self._records = records
        self._unconditional: LruMap[_Name, policy.Decision] = LruMap(_MAX_DECISIONS)

    def require(self, request: KmsRequest, question: Question, now: float) -> str:
        """The reason why the request is allowed.

        Raises:
            ApiError: AccessDeniedException; its ``reason`` is for the trail.
        """
        decision, key_policy = self._decide(request, question, now)
        if decision.allowed:
            return decision.reason
        raise _denial(request.caller, question, decision, key_policy)

    def allows(self, request: KmsRequest, question: Question, now: float, key_policy: str) -> bool:
        """Whether another key policy would allow it (the lockout safety check)."""
        return self._decide(request, question, now, key_policy)[0].allowed

    def _decide(
        self, request: KmsRequest, question: Question, now: float, key_policy: str | None = None
    ) -> tuple[policy.Decision, policy.Policy | None]:
        caller = request.caller
        key = question.on if isinstance(question.on, KeyRecord) else None
        resource = question.on.arn if isinstance(question.on, KeyRecord) else question.on
        documents = caller.principal.policies if caller.principal is not None else {}
        identity = [_parse_identity_policy(text, f"identity policy '{name}'") for name, text in documents.items()]
        parsed: policy.Policy | None = None
        grants: list[policy.Grant] = []
        text = ""
        if key is not None:
            text = key_policy or _policy_in_force(key, now)
            parsed = _parse_key_policy(text)
            grants = [_grant(grant, key, now) for grant in self._records.grants(key)]
        name: _Name | None = None
        if not grants and all(document.unconditional for document in (*identity, *([parsed] if parsed else []))):
            # Most policies in a lab have no conditions, and evaluating them costs more than the cryptography.
            name = (caller.arn, question.action, resource, text, *documents.items())
            known = self._unconditional.get(name)
            if known is not None:
                return known, parsed
        evaluated = self._request(request, question, resource, now)
        decision = policy.evaluate(evaluated, key_policy=parsed, identity_policies=identity, grants=grants)
        if name is not None:
            self._unconditional[name] = decision
        return decision, parsed

    def _request(self, request: KmsRequest, question: Question, resource: str, now: float) -> policy.Request:
        return policy.Request(
            action=f"kms:{question.action}",
            principal=_principal(request.caller),
            resource=resource,
            time=datetime.fromtimestamp(now, UTC),
            context=self._conditions(request, question),
            encryption_context=question.context,
            grant_tokens=question.grant_tokens,
            grant_id=question.grant_id,
            secure_transport=request.secure,
        )

    def _conditions(self, request: KmsRequest, question: Question) -> Conditions:
        values: NewConditions = {
            "aws:SourceIp": request.source_ip,
            "aws:UserAgent": request.user_agent,
            **question.facts,
        }
        key = question.on
        if isinstance(key, KeyRecord):
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
            aliases = self._records.aliases(key.account, key.region, key.key_id)
            values["kms:ResourceAliases"] = [alias.name for alias in aliases]
            values |= {f"aws:ResourceTag/{tag}": value for tag, value in self._records.tags(key).items()}
            if question.named is not None and ALIAS in question.named:
                values["kms:RequestAlias"] = question.named[question.named.index(ALIAS) :]
        return {name: value for name, value in values.items() if value != ""}


def _policy_in_force(key: KeyRecord, now: float) -> str:
    if key.policy_before is not None and key.policy_effective is not None and now < key.policy_effective:
        return key.policy_before
    return key.policy


def _principal(caller: CallerIdentity) -> policy.Principal:
    principal = caller.principal
    return policy.principal(
        caller.arn,
        role=principal.arn if principal is not None and principal.kind == "role" else None,
        user_id=caller.user_id,
        tags=principal.tags if principal is not None else None,
        org_id=ORGANIZATION,
    )


def _grant(grant: GrantRecord, key: KeyRecord, now: float) -> policy.Grant:
    constraints = grant.constraints
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


def _denial(
    caller: CallerIdentity, question: Question, decision: policy.Decision, key_policy: policy.Policy | None
) -> ApiError:
    action = f"kms:{question.action}"
    on = question.on.arn if isinstance(question.on, KeyRecord) else question.on
    foreign = isinstance(question.on, KeyRecord) and question.on.account != caller.account
    if decision.explicit_deny:
        by_key = key_policy is not None and any(statement in key_policy.statements for statement in decision.statements)
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
