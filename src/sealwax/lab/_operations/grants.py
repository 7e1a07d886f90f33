"""Grants: permissions of one principal on one key, which can be revoked or retired one by one."""

from __future__ import annotations

import base64
import os
import secrets
from typing import TypeAlias

from sealwax.lab._apierror import ApiError, not_found, refused
from sealwax.lab._call import Call, operation
from sealwax.lab._key_specs import grantable
from sealwax.lab._model import Answer, Conditions, GrantRecord, KeyRecord, Members, NewConditions
from sealwax.lab._operations.crypto import dry_run
from sealwax.lab._paging import page

_MAX_GRANTS = 50000
_MAX_PAIRS = 8
# A principal and a service principal; one of them or both are None.
_Grantee: TypeAlias = tuple[str | None, str | None]


@operation("CreateGrant", writes=True)
def create_grant(call: Call) -> Answer:
    operations: list[str] = call.members["Operations"]
    constraints: Members = call.get("Constraints", {})
    name: str | None = call.get("Name")
    grantee, retiring = _principal(call, "Grantee"), _principal(call, "Retiring")
    if grantee == (None, None):
        raise refused("Either GranteePrincipal or GranteeServicePrincipal is required.")
    context = _checked_constraints(constraints)
    facts = _facts(operations, constraints, grantee, retiring)
    key = call.key("CreateGrant", context=context, facts=facts)
    call.need_enabled(key)
    if not operations or not grantable(key).issuperset(operations):
        raise refused(f"Grant operations {operations} are not valid for a key of spec {key.spec}.")
    existing = call.records.grants(key)
    if name is not None:
        # KMS returns the same grant with a new token; the lab, with the same token.
        for grant in existing:
            if _same(grant, name, grantee, retiring, operations, constraints):
                dry_run(call)
                return {"GrantToken": grant.token, "GrantId": grant.grant_id}
    if len(existing) >= _MAX_GRANTS:
        raise ApiError("LimitExceededException", f"A key can have at most {_MAX_GRANTS} grants.")
    dry_run(call)
    grant = GrantRecord(
        grant_id=secrets.token_hex(32),
        token=base64.b64encode(os.urandom(96)).decode(),
        account=key.account,
        region=key.region,
        key_id=key.key_id,
        name=name,
        grantee=grantee[0],
        retiring=retiring[0],
        grantee_service=grantee[1],
        retiring_service=retiring[1],
        issuer=f"{key.arn.split(':kms:')[0]}:iam::{call.account}:root",
        operations=tuple(operations),
        constraints=constraints,
        created=call.now,
        effective=call.now + call.faults._delay(call.region),
    )
    call.records.put_grant(grant)
    return {"GrantToken": grant.token, "GrantId": grant.grant_id}


def _facts(operations: list[str], constraints: Members, grantee: _Grantee, retiring: _Grantee) -> Conditions:
    """The values of CreateGrant's condition keys."""
    facts: NewConditions = {"kms:GrantOperations": operations, "kms:GrantIsForAWSResource": False}
    facts |= {
        condition: value
        for condition, value in {
            "kms:GranteePrincipal": grantee[0],
            "kms:GranteeServicePrincipal": grantee[1],
            "kms:RetiringPrincipal": retiring[0],
            "kms:RetiringServicePrincipal": retiring[1],
            "kms:GrantConstraintSourceArn": constraints.get("SourceArn"),
        }.items()
        if value is not None
    }
    for kind in ("EncryptionContextEquals", "EncryptionContextSubset"):
        if kind in constraints:
            facts["kms:GrantConstraintType"] = kind
    return facts


@operation("ListGrants")
def list_grants(call: Call) -> Answer:
    key = call.key("ListGrants")
    grant_id, grantee, service = call.get("GrantId"), call.get("GranteePrincipal"), call.get("GranteeServicePrincipal")
    grants = [
        grant
        for grant in call.records.grants(key)
        if grant_id in (None, grant.grant_id)
        and grantee in (None, grant.grantee)
        and service in (None, grant.grantee_service)
    ]
    if grant_id is not None and not grants:
        raise not_found(f"Grant {grant_id} does not exist")
    return _list(call, grants)


@operation("ListRetirableGrants")
def list_retirable_grants(call: Call) -> Answer:
    call.authorize("ListRetirableGrants")
    retiring, service = call.get("RetiringPrincipal"), call.get("RetiringServicePrincipal")
    if (retiring is None) == (service is None):
        raise refused("Either RetiringPrincipal or RetiringServicePrincipal is required, and not both.")
    column = "retiring" if service is None else "retiring_service"
    grants = call.records.find_grants(f"region=? AND {column}=?", call.region, retiring or service)
    account_root = f":iam::{call.account}:root"
    return _list(call, [grant for grant in grants if grant.issuer.endswith(account_root)])


@operation("RevokeGrant", writes=True)
def revoke_grant(call: Call) -> Answer:
    key = call.key("RevokeGrant")
    grant = _by_id(call, key, call.members["GrantId"])
    dry_run(call)
    call.records.delete_grant(grant)
    return {}


@operation("RetireGrant", writes=True)
def retire_grant(call: Call) -> Answer:
    token, key_id, grant_id = call.get("GrantToken"), call.get("KeyId"), call.get("GrantId")
    if (token is None) == (key_id is None or grant_id is None):
        raise refused("Either a grant token or both a key ID and a grant ID are required.")
    if token is not None:
        grants = call.records.find_grants("token=?", token)
        if not grants or grants[0].region != call.region:
            raise ApiError("InvalidGrantTokenException", "The grant token is not valid.")
        grant = grants[0]
        key = call.key_or_none(grant.account, grant.key_id)
        if key is None:
            raise not_found(f"Grant {grant.grant_id} does not exist")
    else:
        key = call.find(call.members["KeyId"], "RetireGrant")
        grant = _by_id(call, key, call.members["GrantId"])
    call.authorize("RetireGrant", key, grant_id=grant.grant_id)
    dry_run(call)
    call.records.delete_grant(grant)
    return {}


def _principal(call: Call, role: str) -> _Grantee:
    """The grantee or retiring principal that a request names."""
    principal, service = call.get(f"{role}Principal"), call.get(f"{role}ServicePrincipal")
    if principal is not None and service is not None:
        raise refused(f"{role}Principal and {role}ServicePrincipal cannot be used together.")
    if principal is not None and not principal.startswith("arn:"):
        # KMS also takes an account ID or a unique ID.
        raise ApiError("InvalidArnException", f"{principal} is not a valid principal ARN")
    return principal, service


def _checked_constraints(constraints: Members) -> dict[str, str]:
    """The pairs of the encryption context constraint, which policy conditions can test."""
    kinds = [kind for kind in ("EncryptionContextEquals", "EncryptionContextSubset") if kind in constraints]
    if len(kinds) > 1:
        raise refused("A grant can have at most one encryption context constraint.")
    pairs: dict[str, str] = constraints[kinds[0]] if kinds else {}
    if len(pairs) > _MAX_PAIRS:
        raise refused(f"An encryption context constraint can have at most {_MAX_PAIRS} pairs.")
    return pairs


def _same(
    grant: GrantRecord,
    name: str,
    grantee: _Grantee,
    retiring: _Grantee,
    operations: list[str],
    constraints: Members,
) -> bool:
    return (
        grant.name == name
        and (grant.grantee, grant.grantee_service) == grantee
        and (grant.retiring, grant.retiring_service) == retiring
        and set(grant.operations) == set(operations)
        and grant.constraints == constraints
    )


def _by_id(call: Call, key: KeyRecord, grant_id: str) -> GrantRecord:
    for grant in call.records.grants(key):
        if grant.grant_id == grant_id:
            return grant
    raise not_found(f"Grant {grant_id} does not exist")


def _list(call: Call, grants: list[GrantRecord]) -> Answer:
    shown, answer = page(grants, lambda grant: grant.grant_id, call.members, default=50)
    answer["Grants"] = [_entry(call, grant) for grant in shown]
    return answer


def _entry(call: Call, grant: GrantRecord) -> Answer:
    key = call.records.key(grant.account, grant.region, grant.key_id)
    entry: Answer = {
        "KeyId": key.arn if key is not None else grant.key_id,
        "GrantId": grant.grant_id,
        "CreationDate": grant.created,
        "IssuingAccount": grant.issuer,
        "Operations": list(grant.operations),
    }
    optional = {
        "Name": grant.name,
        "GranteePrincipal": grant.grantee,
        "RetiringPrincipal": grant.retiring,
        "GranteeServicePrincipal": grant.grantee_service,
        "RetiringServicePrincipal": grant.retiring_service,
        "Constraints": grant.constraints or None,
    }
    return entry | {name: value for name, value in optional.items() if value is not None}
