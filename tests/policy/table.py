"""All rows, and the way to decide one with any copy of the evaluator."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from sealwax.errors import PolicyError
from tests.policy.rows import Case, Expect
from tests.policy.rows_conditions import CONDITION_ROWS
from tests.policy.rows_contexts import CONTEXTS
from tests.policy.rows_denials import DENIALS
from tests.policy.rows_grant_admin import GRANT_ADMIN
from tests.policy.rows_grants import GRANT_ROWS
from tests.policy.rows_operators import OPERATOR_ROWS
from tests.policy.rows_policies import POLICY_ROWS
from tests.policy.rows_refused import REFUSED

ROWS = [*POLICY_ROWS, *DENIALS, *GRANT_ROWS, *GRANT_ADMIN, *CONTEXTS, *CONDITION_ROWS, *OPERATOR_ROWS, *REFUSED]


def answer(row: Case, policy: ModuleType) -> Any:
    """Return the Decision of a row; ``policy`` is the evaluator's package."""
    request = policy.Request(
        row.action,
        policy.principal(row.who, **row.principal),
        row.resource,
        row.time,
        context=row.context,
        encryption_context=row.pairs,
        grant_tokens=row.tokens,
        grant_id=row.grant_id,
        secure_transport=row.tls,
    )
    return policy.evaluate(
        request,
        key_policy=None if row.key is None else policy.parse_key_policy(row.document(row.key)),
        identity_policies=[policy.parse_identity_policy(row.document(row.identity))] if row.identity else [],
        grants=[policy.Grant(**one) for one in row.grants],
    )


def decide(row: Case, policy: ModuleType) -> Expect:
    """Return the verdict on a row."""
    try:
        decision = answer(row, policy)
    except PolicyError:
        return "refused"
    if decision.allowed:
        return "allow"
    return "explicit deny" if decision.explicit_deny else "deny"
