"""Key policies, and the check that nobody locks himself out of a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sealwax.lab._apierror import ApiError, not_found
from sealwax.lab._authorize import check_key_policy
from sealwax.lab._call import Call, Question, operation
from sealwax.lab._model import Key
from sealwax.lab._paging import page

_ONLY_POLICY = "default"
_MOST_BYTES = 32768


def checked_policy(call: Call, key: Key, text: str) -> None:
    """Whether a policy may be put on a key.

    Raises:
        ApiError: it is malformed or too large, or the caller could not change it back and did not ask for that.
    """
    if len(text.encode()) > _MOST_BYTES:
        raise ApiError("LimitExceededException", f"A key policy has at most {_MOST_BYTES} bytes")
    check_key_policy(text)
    if call.get("BypassPolicyLockoutSafetyCheck"):
        return
    question = Question("PutKeyPolicy", key, None, {}, {}, None)
    if not call.authorizer.allows(call, question, text):
        raise ApiError(
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )


def check_given_policy(call: Call, key: Key) -> None:
    """Check the policy that a new key is given; the default one, which KMS writes itself, it does not check.

    Raises:
        ApiError: as for :func:`checked_policy`.
    """
    if "Policy" in call.members:
        checked_policy(call, key, key.policy)


@operation("GetKeyPolicy")
def get_key_policy(call: Call) -> dict[str, Any]:
    key = call.key("GetKeyPolicy")
    _named_default(call)
    return {"Policy": key.policy, "PolicyName": _ONLY_POLICY}


@operation("PutKeyPolicy", writes=True)
def put_key_policy(call: Call) -> dict[str, Any]:
    facts = {"kms:BypassPolicyLockoutSafetyCheck": call.get("BypassPolicyLockoutSafetyCheck", False)}
    key = call.key("PutKeyPolicy", facts=facts)
    _named_default(call)
    text: str = call.members["Policy"]
    checked_policy(call, key, text)
    delay = call.faults.delay(call.region)
    before, effective = (key.policy, call.now + delay) if delay else (None, None)
    call.records.put_key(replace(key, policy=text, policy_before=before, policy_effective=effective))
    return {}


@operation("ListKeyPolicies")
def list_key_policies(call: Call) -> dict[str, Any]:
    call.key("ListKeyPolicies")
    names, answer = page([_ONLY_POLICY], lambda name: name, call.members)
    answer["PolicyNames"] = names
    return answer


def _named_default(call: Call) -> None:
    if call.get("PolicyName", _ONLY_POLICY) != _ONLY_POLICY:
        raise not_found("No such policy exists")
