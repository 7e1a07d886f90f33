"""`policy explain`, the lab and a third evaluator agree: 10,000 questions about generated policies and grants.

The lab asks `sealwax.policy` too, so the first two share a mistake of its rules; the third knows AWS's documentation
only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax.policy
from sealwax.lab._apierror import ApiError
from sealwax.lab._database import Database
from sealwax.lab._engine import KmsEngine
from sealwax.lab._faults import Faults
from sealwax.lab._model import CallerIdentity, GrantRecord, KmsRequest, PrincipalRecord, root_of
from sealwax.lab._records import KeyRecords
from sealwax.lab._rootkey import RootKey
from sealwax.lab._schema import STATE, TRAIL
from sealwax.lab._trail import Trail
from sealwax.policy import _explain  # noqa: F401 - sealwax.policy._explain
from tests.policy.mutants import MUTANTS
from tests.policy.test_mutants import mutant
from tests.policy.third_judge import Asked, judge
from tests.policy.worlds import ALONG_ABROAD, HOME, TAGS, Json, Person, World, questions, world

WORLDS: Final = 400
ASKED_EACH: Final = 25
NOW: Final = 1_790_000_000.0
REGION: Final = "us-east-1"


_OWN: Final[dict[str, Json]] = {
    "Decrypt": {"DryRunModifiers": ["IGNORE_CIPHERTEXT"]},
    "Encrypt": {"Plaintext": "AA=="},
    "GenerateDataKey": {"KeySpec": "AES_256"},
}


class Engines:
    """The lab's engine with one key, whose policy and grants are put in place for each world."""

    def __init__(self, folder: Path) -> None:
        self.state = Database(folder / "state.db", STATE, durable=False)
        self.log = Database(folder / "trail.db", TRAIL, durable=False)
        root = RootKey(bytes(32))
        self.records = KeyRecords(self.state, root)
        trail, faults = Trail(self.log, NOW), Faults(self.state)
        self.engine = KmsEngine(self.records, trail, faults, blob_key=root.derive(b"blobs"), clock=lambda: NOW)
        tags = [{"TagKey": name, "TagValue": value} for name, value in TAGS.items()]
        self.metadata = self.serve(root_of(HOME), "CreateKey", {"Tags": tags})["KeyMetadata"]
        self.arn: str = self.metadata["Arn"]
        self.serve(root_of(HOME), "CreateAlias", {"AliasName": "alias/one", "TargetKeyId": self.arn})

    def serve(self, caller: CallerIdentity, operation: str, members: Json) -> dict[str, Any]:
        request = KmsRequest(operation, members, REGION, caller, "0" * 8, "127.0.0.1", "test", secure=True)
        return self.engine.serve(request)

    def put(self, world: World) -> None:
        key = self.records.key(HOME, REGION, self.metadata["KeyId"])
        assert key is not None
        with self.records.change():
            self.records.put_key(replace(key, policy=json.dumps(world.key_policy)))
            for old in self.records.grants(key):
                self.records.delete_grant(old)
            for entry in world.grants:
                self.records.put_grant(
                    GrantRecord(
                        *(entry["GrantId"], entry["GrantId"], HOME, REGION, key.key_id, None),
                        *(entry["GranteePrincipal"], None, None, None, entry["IssuingAccount"]),
                        *(tuple(entry["Operations"]), entry.get("Constraints", {}), NOW, NOW),
                    )
                )

    def allows(self, world: World, who: Person, action: str, context: Mapping[str, str]) -> bool:
        members: Json = {"KeyId": self.arn}
        if action in _OWN:
            members |= {"EncryptionContext": dict(context), "DryRun": True}
            members |= _OWN[action]
        try:
            self.serve(_caller(world, who), action, members)
        except ApiError as error:
            if error.code not in ("AccessDeniedException", "DryRunOperationException"):
                raise
            return error.code == "DryRunOperationException"
        return True

    def close(self) -> None:
        self.state.close()
        self.log.close()


def _caller(world: World, who: Person) -> CallerIdentity:
    if who.behind is None:
        return root_of(who.account)
    documents = {f"p{number}": json.dumps(one) for number, one in enumerate(world.identity[who])}
    behind = PrincipalRecord(who.behind, who.account, who.kind, who.name, "AIDA", documents, dict(who.tags))
    return CallerIdentity(who.arn, who.account, behind, "AIDA", "AKIA")


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    engines = Engines(tmp_path)
    yield engines
    engines.close()


class Explained:
    """A world to the library; ``policy`` is the evaluator's package, which may be a mutant."""

    def __init__(self, arn: str, metadata: Json, world: World, policy: Any = sealwax.policy) -> None:
        self._policy = policy
        grants = [policy._explain.grant_of(entry, arn) for entry in world.grants]
        key_policy = policy.parse_key_policy(world.key_policy)
        self._key = policy._explain.KeyDescription(arn, key_policy, grants, metadata, ["alias/one"], TAGS)
        self._identity = {
            person: [policy.parse_identity_policy(one) for one in documents]
            for person, documents in world.identity.items()
        }

    def __call__(self, who: Person, action: str, context: Mapping[str, str]) -> sealwax.policy.Decision:
        role = who.behind if who.kind == "role" else None
        decision: sealwax.policy.Decision = self._policy._explain.explain(
            self._policy.principal(who.arn, role=role, tags=dict(who.tags)),
            f"kms:{action}",
            self._key,
            identity_policies=self._identity.get(who, []),
            time=datetime.fromtimestamp(NOW, UTC),
            encryption_context=context,
        )
        return decision


def _asked(arn: str, who: Person, action: str, context: Mapping[str, str]) -> Asked:
    facts: dict[str, tuple[str, ...]] = {
        "aws:PrincipalArn": (who.behind or who.arn,),
        "kms:CallerAccount": (who.account,),
        "kms:KeySpec": ("SYMMETRIC_DEFAULT",),
        "kms:MultiRegion": ("false",),
        "aws:SecureTransport": ("true",),
        **{f"aws:PrincipalTag/{name}": (value,) for name, value in who.tags},
        **{f"aws:ResourceTag/{name}": (value,) for name, value in TAGS.items()},
    }
    return Asked(
        *(f"kms:{action}", arn, who.names, who.account, who.kind == "root", context, facts),
        abroad=action in ALONG_ABROAD,
    )


@pytest.mark.slow
def test_three_evaluators_agree(engines: Engines) -> None:
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        drawn = world(seed, engines.arn)
        engines.put(drawn)
        explained = Explained(engines.arn, engines.metadata, drawn)
        for who, action, context in questions(seed, ASKED_EACH):
            case = (seed, who.arn, action, context)
            decision = explained(who, action, context)
            assert engines.allows(drawn, who, action, context) == decision.allowed, case
            asked, own = _asked(engines.arn, who, action, context), drawn.identity.get(who, [])
            third = judge(asked, drawn.key_policy, own, drawn.grants)
            assert third in (None, decision.allowed), (case, decision.reason)
            seen["asked"] += 1
            seen["allowed"] += decision.allowed
            seen["explicitly denied"] += decision.explicit_deny
            seen["by a grant"] += decision.grant is not None
            seen["allowed abroad"] += decision.allowed and who.account != HOME
            seen["allowed by two"] += len(decision.statements) == 2
            seen["plain"] += third is not None
    assert seen["asked"] == 10_000
    # Cases that say nothing would agree as well.
    assert seen["plain"] >= 9_500, seen
    assert seen["allowed"] >= 2_000, seen
    assert seen["explicitly denied"] >= 800, seen
    assert min(seen["by a grant"], seen["allowed abroad"], seen["allowed by two"]) >= 150, seen


# Rules whose loss the third judge has to notice; the table's mutants are the same.
BROKEN: Final = [
    ("evaluate", "Deny is not looked for"),
    ("evaluate", "identity policies decide without delegation"),
    ("evaluate", "delegation alone allows"),
    ("evaluate", "another account needs no identity policy"),
    ("evaluate", "every operation works across accounts"),
    ("evaluate", "the root user is allowed everything on keys"),
    ("evaluate", "conditions are not looked at"),
    ("evaluate", "NotResource is Resource"),
    ("evaluate", "Deny of an account spares its users"),
    ("model", "a role's name does not reach its sessions"),
    ("model", "encryption context keys have a case"),
    ("grants", "constraints are not looked at"),
    ("grants", "equals is subset"),
    ("conditions", "a missing key fails a negated operator"),
    ("conditions", "ForAllValues is ForAnyValue"),
    ("conditions", "a lost variable fails a negated operator"),
    ("evaluate", "NotAction is Action"),
]


@pytest.mark.parametrize(("module", "broken"), BROKEN, ids=lambda text: text)
def test_the_third_judge_notices(module: str, broken: str) -> None:
    ((old, new),) = [(old, new) for name, old, new in MUTANTS[module] if name == broken]
    arn, metadata = f"arn:aws:kms:{REGION}:{HOME}:key/1", {"KeySpec": "SYMMETRIC_DEFAULT", "MultiRegion": False}
    with mutant(module, old, new) as policy:
        assert any(_differs(world(seed, arn), arn, metadata, policy, seed) for seed in range(WORLDS))


def _differs(drawn: World, arn: str, metadata: Json, policy: Any, seed: int) -> bool:
    explained = Explained(arn, metadata, drawn, policy)
    return any(
        judge(_asked(arn, who, action, context), drawn.key_policy, drawn.identity.get(who, []), drawn.grants)
        not in (None, explained(who, action, context).allowed)
        for who, action, context in questions(seed, ASKED_EACH)
    )
