"""Key policies, and the check that keeps callers from locking themselves out of a key."""

from __future__ import annotations

from dataclasses import replace

from sealwax.lab._apierror import ApiError, not_found
from sealwax.lab._authorize import check_key_policy
from sealwax.lab._call import Call, operation
from sealwax.lab._model import Answer, KeyRecord, Question
from sealwax.lab._paging import page

_ONLY_POLICY = "default"
_MAX_BYTES = 32768


def _check_policy(call: Call, key: KeyRecord, text: str) -> None:
    """Check a policy that a caller sets on a key.

    Raises:
        ApiError: it is malformed or too large, or it locks the caller out and the request does not bypass that check.
    """
    if len(text.encode()) > _MAX_BYTES:
        raise ApiError("LimitExceededException", f"A key policy can have at most {_MAX_BYTES} bytes.")
    check_key_policy(text)
    if call.get("BypassPolicyLockoutSafetyCheck"):
        return
    if not call.authorizer.allows(call.request, Question("PutKeyPolicy", key), call.now, text):
        raise ApiError(
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )


def check_given_policy(call: Call, key: KeyRecord) -> None:
    """Check the policy of a new key, unless it is KMS's default policy.

    Raises:
        ApiError: as for ``_check_policy``.
    """
    if "Policy" in call.members:
        _check_policy(call, key, key.policy)


@operation("GetKeyPolicy")
def get_key_policy(call: Call) -> Answer:
    key = call.key("GetKeyPolicy")
    _named_default(call)
    return {"Policy": key.policy, "PolicyName": _ONLY_POLICY}


@operation("PutKeyPolicy", writes=True)
def put_key_policy(call: Call) -> Answer:
    facts = {"kms:BypassPolicyLockoutSafetyCheck": call.get("BypassPolicyLockoutSafetyCheck", False)}
    key = call.key("PutKeyPolicy", facts=facts)
    _named_default(call)
    text: str = call.members["Policy"]
    _check_policy(call, key, text)
    delay = call.faults._delay(call.region)
    before, effective = (key.policy, call.now + delay) if delay else (None, None)
    call.records.put_key(replace(key, policy=text, policy_before=before, policy_effective=effective))
    return {}


@operation("ListKeyPolicies")
def list_key_policies(call: Call) -> Answer:
    call.key("ListKeyPolicies")
    names, answer = page([_ONLY_POLICY], lambda name: name, call.members)
    answer["PolicyNames"] = names
    return answer


def _named_default(call: Call) -> None:
    if call.get("PolicyName", _ONLY_POLICY) != _ONLY_POLICY:
        raise not_found("No such policy exists")
