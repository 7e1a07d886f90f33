"""Rows about creating, retiring and revoking grants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.policy.rows import (
    ACCOUNT,
    ALICE,
    BOB,
    CAROL,
    CREATE_GRANT,
    OTHER_ROOT,
    RETIRE,
    ROOT,
    allow,
    case,
    deny,
    grant,
)

_IT: Final = {"Department": "IT"}
_LOGS: Final = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:payments"
_PARENT: Final = grant(operations=frozenset({"CreateGrant", "Decrypt", "GenerateDataKey"}))


def _child(operations: list[str], kind: str | None = None) -> Mapping[str, Any]:
    return {"kms:GrantOperations": operations} | ({"kms:GrantConstraintType": kind} if kind else {})


_EQUALS: Final = "EncryptionContextEquals"
_SUBSET: Final = "EncryptionContextSubset"
GRANT_ADMIN: Final = [
    case(
        "child grant of some operations",
        CREATE_GRANT,
        "allow",
        action="kms:CreateGrant",
        grants=[_PARENT],
        context=_child(["Decrypt"]),
    ),
    case(
        "child grant of another operation",
        CREATE_GRANT,
        "deny",
        action="kms:CreateGrant",
        grants=[_PARENT],
        context=_child(["Decrypt", "Encrypt"]),
    ),
    case(
        "child grant without constraint of a constrained one",
        CREATE_GRANT,
        "deny",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "subset": _IT}],
        context=_child(["Decrypt"]),
    ),
    case(
        "child grant with the same subset",
        CREATE_GRANT,
        "allow",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "subset": _IT}],
        context=_child(["Decrypt"], _SUBSET),
        pairs=_IT,
    ),
    case(
        "child grant with a larger subset",
        CREATE_GRANT,
        "allow",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "subset": _IT}],
        context=_child(["Decrypt"], _SUBSET),
        pairs={**_IT, "a": "b"},
    ),
    case(
        "child grant with another subset",
        CREATE_GRANT,
        "deny",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "subset": _IT}],
        context=_child(["Decrypt"], _SUBSET),
        pairs={"a": "b"},
    ),
    case(
        "child grant: subset becomes equals",
        CREATE_GRANT,
        "allow",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "subset": _IT}],
        context=_child(["Decrypt"], _EQUALS),
        pairs=_IT,
    ),
    case(
        "child grant with the same SourceArn",
        CREATE_GRANT,
        "allow",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "source_arn": _LOGS}],
        context={**_child(["Decrypt"]), "aws:SourceArn": _LOGS, "kms:GrantConstraintSourceArn": _LOGS},
    ),
    case(
        "child grant without the SourceArn",
        CREATE_GRANT,
        "deny",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "source_arn": _LOGS}],
        context={**_child(["Decrypt"]), "aws:SourceArn": _LOGS},
    ),
    case(
        "child grant: equals becomes subset",
        CREATE_GRANT,
        "deny",
        action="kms:CreateGrant",
        grants=[{**_PARENT, "equals": _IT}],
        context=_child(["Decrypt"], _SUBSET),
        pairs=_IT,
    ),
    case(
        "CreateGrant by policy has no such limits",
        CREATE_GRANT,
        "allow",
        [allow("kms:CreateGrant", ALICE)],
        action="kms:CreateGrant",
        context=_child(["Encrypt"]),
    ),
    case(
        "retire: the retiring principal",
        RETIRE,
        "allow",
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB, retiring=ALICE)],
    ),
    case(
        "retire: the grantee without RetireGrant",
        RETIRE,
        "deny",
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant()],
    ),
    case(
        "retire: the grantee with RetireGrant",
        RETIRE,
        "allow",
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(operations=frozenset({"Decrypt", "RetireGrant"}))],
    ),
    case(
        "retire: RetireGrant in another grant",
        RETIRE,
        "deny",
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB), grant(id="g2", operations=frozenset({"RetireGrant"}))],
    ),
    case(
        "retire: the permission alone",
        RETIRE,
        "deny",
        [allow("kms:*", ALICE)],
        [allow("kms:*")],
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB)],
    ),
    case(
        "retire: root user of the issuing account",
        RETIRE,
        "allow",
        action="kms:RetireGrant",
        who=ROOT,
        grant_id="g1",
        grants=[grant(grantee=BOB, issuing_account=ROOT)],
    ),
    case(
        "retire: delegated in the issuing account",
        RETIRE,
        "allow",
        identity=[allow("kms:RetireGrant")],
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB, issuing_account=ROOT)],
    ),
    case(
        "retire: not delegated in the issuing account",
        RETIRE,
        "deny",
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB, issuing_account=ROOT)],
    ),
    case(
        "retire: delegated in the retiring account",
        RETIRE,
        "allow",
        identity=[allow("kms:RetireGrant")],
        who=CAROL,
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(grantee=BOB, retiring=OTHER_ROOT)],
    ),
    case(
        "retire: denied in an identity policy",
        RETIRE,
        "explicit deny",
        identity=[deny("kms:RetireGrant")],
        action="kms:RetireGrant",
        grant_id="g1",
        grants=[grant(retiring=ALICE)],
    ),
    case(
        "retire: no such grant", RETIRE, "deny", action="kms:RetireGrant", grant_id="g9", grants=[grant(retiring=ALICE)]
    ),
    case("RevokeGrant by the key policy", RETIRE, "allow", [allow("kms:RevokeGrant", ALICE)], action="kms:RevokeGrant"),
]
