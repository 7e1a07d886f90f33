"""What the state or the kind of a key makes unanswerable is no failed look-up; what is refused is one in any state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import pytest

from sealwax.audit import run as audit
from sealwax.audit._account import Account
from sealwax.audit._collect.keys import gather
from sealwax.audit._facts import Facts, KeyFacts
from sealwax.cli import run
from sealwax.lab import Lab
from tests.audit.accounts import NOW, OWN, REGION, arn, days

ABSENT: Final = dict.fromkeys(("iam", "events", "logs", "cloudwatch", "cloudtrail:DescribeTrails"), "the lab has none")
OTHER_REGION: Final = "eu-west-3"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as opened:
        yield opened


def look(session: Any, *regions: str) -> Facts:
    return gather(session, regions or (REGION,), unavailable=ABSENT, events=False)


def plain(kms: Any, **more: Any) -> str:
    arn: str = kms.create_key(**more)["KeyMetadata"]["Arn"]
    return arn


def ending(kms: Any, **more: Any) -> str:
    arn = plain(kms, **more)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    return arn


def ending_with_replica(kms: Any) -> str:
    arn = plain(kms, MultiRegion=True)
    kms.replicate_key(KeyId=arn, ReplicaRegion=OTHER_REGION)
    kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    return arn


def disabled(kms: Any) -> str:
    arn = plain(kms)
    kms.disable_key(KeyId=arn)
    return arn


MADE: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "enabled": ("Enabled", plain),
    "disabled": ("Disabled", disabled),
    "pending deletion": ("PendingDeletion", ending),
    "pending deletion, multi-Region": ("PendingDeletion", lambda kms: ending(kms, MultiRegion=True)),
    "pending replica deletion": ("PendingReplicaDeletion", ending_with_replica),
    "pending import": ("PendingImport", lambda kms: plain(kms, Origin="EXTERNAL")),
    "imported, pending deletion": ("PendingDeletion", lambda kms: ending(kms, Origin="EXTERNAL")),
    "asymmetric": ("Enabled", lambda kms: plain(kms, KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")),
    "asymmetric, pending deletion": (
        "PendingDeletion",
        lambda kms: ending(kms, KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"),
    ),
    "HMAC": ("Enabled", lambda kms: plain(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")),
    "HMAC, pending deletion": (
        "PendingDeletion",
        lambda kms: ending(kms, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_a_key_in_any_state_is_looked_at_whole(lab: Lab, name: str) -> None:
    state, make = MADE[name]
    arn = make(lab.session(REGION).client("kms"))
    facts = look(lab.session(REGION))
    (key,) = [one for one in facts.keys if one.arn == arn]
    assert key.state == state
    assert key.policy is not None
    assert (key.grants, key.tags) == ((), {})
    assert audit(facts).refused == ()
    rules = {one.rule for one in audit(facts).findings}
    assert ("key-pending-deletion" in rules) is ("Deletion" in state)


def test_a_replica_is_looked_at_whole(lab: Lab) -> None:
    ending_with_replica(lab.session(REGION).client("kms"))
    facts = look(lab.session(REGION), OTHER_REGION)
    assert [one.multi_region for one in facts.keys] == ["replica"]
    assert audit(facts).refused == ()


class Answering:
    """A session of the lab whose KMS answers some operations with an error."""

    region_name = REGION

    def __init__(self, lab: Lab, **errors: str) -> None:
        self._lab = lab
        self._errors = errors

    def client(self, service_name: Any, **options: Any) -> Any:
        client = self._lab.session(REGION).client(service_name, **options)
        client.meta.events.register("before-call.kms.*", self._before)
        return client

    def _before(self, model: Any, **_: Any) -> None:
        code = self._errors.get(model.name)
        if code:
            answer: Any = {"Error": {"Code": code, "Message": "on purpose"}}
            raise botocore.exceptions.ClientError(answer, model.name)


ASKED: Final = ("GetKeyPolicy", "GetKeyRotationStatus", "ListKeyRotations", "ListGrants", "ListResourceTags")


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("code", ["KMSInvalidStateException", "UnsupportedOperationException"])
def test_a_state_that_came_in_between_is_said_and_does_not_count(lab: Lab, operation: str, code: str) -> None:
    plain(lab.session(REGION).client("kms"))
    facts = look(Answering(lab, **{operation: code}))
    (missed,) = [one for one in facts.gaps if one.what == f"kms:{operation}"]
    assert (missed.refused, missed.why.startswith("KMS does not report this")) == (False, True)
    assert audit(facts).refused == ()


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("code", ["AccessDeniedException", "KMSInternalException", "NotFoundException"])
def test_what_is_refused_counts(lab: Lab, operation: str, code: str) -> None:
    plain(lab.session(REGION).client("kms"))
    facts = look(Answering(lab, **{operation: code}))
    assert [one.what for one in audit(facts).refused] == [f"kms:{operation}"]


def test_a_key_that_is_deleted_since_it_was_listed_is_said_and_does_not_count(lab: Lab) -> None:
    plain(lab.session(REGION).client("kms"))
    facts = look(Answering(lab, DescribeKey="NotFoundException"))
    assert facts.keys == ()
    assert [(one.what, one.refused) for one in facts.gaps if one.what.startswith("kms:")] == [
        ("kms:DescribeKey", False)
    ]
    assert len(audit(look(Answering(lab, DescribeKey="AccessDeniedException"))).refused) == 1


@pytest.mark.parametrize("state", ["Creating", "Updating", "Unavailable", "PendingImport", "Disabled"])
def test_a_key_that_cannot_be_used_is_not_blamed_for_its_rotation(state: str) -> None:
    key = KeyFacts(arn(), NOW - days(800), state=state, origin="AWS_KMS")
    facts = Facts(OWN, NOW, (REGION,), keys=(key,))
    assert not {one.rule for one in audit(facts).findings} & {"rotation-off", "rotation-period-long", "never-rotated"}
    assert Account(facts).own_keys == (key,)


def test_the_status_of_an_audit_with_a_key_on_its_way_out(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending(lab.session(REGION).client("kms"))
    monkeypatch.setenv("SEALWAX_LAB", str(tmp_path / "lab"))
    monkeypatch.setenv("AWS_REGION", REGION)
    report = tmp_path / "report.csv"
    assert run(["audit", "--all", "--region", REGION, "--report", str(report)]) == 0
    assert "key-pending-deletion" in report.read_text()
