"""A gathering that was broken off, throttled or killed goes on: what was answered is not asked again."""

from __future__ import annotations

import json
import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.audit._collect.keys import gather
from sealwax.audit._facts import Facts
from sealwax.errors import FactsError, FileError
from sealwax.lab import Lab
from tests.audit.live import ACCOUNT, REGION, Killed, Session, account, put_filter, put_rule

DAY: Final = timedelta(days=1)
#: Steps of two calls: when one is answered and the other is not, both are asked again.
PAIRS: Final = {"events:ListRules", "logs:DescribeMetricFilters"}
WHO: Final = "sts:GetCallerIdentity"


def _document(action: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    with account(tmp_path_factory.mktemp("lab")) as (lab, url):
        session = Session(lab, url)
        kms, iam = session.client("kms"), session.client("iam")
        for alias in ("alias/one", "alias/two"):
            arn = kms.create_key(Tags=[{"TagKey": "$time", "TagValue": "2026-11-24T00:00:00Z"}])["KeyMetadata"]["Arn"]
            kms.create_alias(AliasName=alias, TargetKeyId=arn)
        kms.create_grant(
            KeyId=arn,
            GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/app",
            Operations=["Decrypt"],
            Constraints={"EncryptionContextSubset": {"purpose": "backup"}},
        )
        kms.rotate_key_on_demand(KeyId=arn)
        iam.create_role(RoleName="app", AssumeRolePolicyDocument=_document("sts:AssumeRole"))
        iam.put_role_policy(RoleName="app", PolicyName="all", PolicyDocument=_document("kms:*"))
        session.client("s3").create_bucket(Bucket="trail-bucket")
        session.client("cloudtrail").create_trail(Name="all", S3BucketName="trail-bucket", IsMultiRegionTrail=True)
        put_rule(session.client("events"), {"source": ["aws.kms"]})
        put_filter(session.client("logs"), "{ $.eventName = DisableKey }")
        yield lab, url


@contextmanager
def kept(folder: Path, max_age: timedelta = DAY, place: str = "AWS") -> Iterator[Checkpoint]:
    with Checkpoint(str(folder / "facts.json"), place, max_age) as answers:
        yield answers


def gathered(session: Session, folder: Path, max_age: timedelta = DAY) -> Facts:
    with kept(folder, max_age) as answers:
        # moto has no LookupEvents, and takes long to say so.
        return gather(session, [REGION], events=False, checkpoint=answers)


def same(facts: Facts) -> Facts:
    """Return facts without what differs from run to run."""
    return replace(facts, time=datetime(2026, 1, 1, tzinfo=UTC), since=None)


@pytest.fixture(scope="module")
def whole(servers: tuple[Lab, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, Counter[str]]:
    session = Session(*servers)
    facts = gathered(session, tmp_path_factory.mktemp("whole"))
    assert facts.gaps == ()
    assert facts.since is None
    assert sum(session.asked.values()) == 25
    return same(facts), session.asked


@pytest.mark.parametrize("step", range(25))
def test_a_gathering_that_is_killed_at_any_step_goes_on(
    servers: tuple[Lab, str], whole: tuple[Facts, Counter[str]], tmp_path: Path, step: int
) -> None:
    facts, asked = whole
    first, second = Session(*servers, left=step), Session(*servers)
    with pytest.raises(Killed):
        gathered(first, tmp_path)
    assert sum(first.asked.values()) == step
    found = gathered(second, tmp_path)
    assert same(found) == facts
    assert (found.since is None) == (step < 2)
    again = first.asked + second.asked - asked
    assert again.pop(WHO, 0) == (1 if step else 0)
    assert set(again) <= PAIRS
    third = Session(*servers)
    assert same(gathered(third, tmp_path)) == facts
    assert third.asked == {WHO: 1}


@pytest.mark.parametrize("action", ["kms:ListGrants", "kms:ListKeys", "iam:GetAccountAuthorizationDetails"])
def test_what_was_throttled_is_asked_again_and_nothing_else(
    servers: tuple[Lab, str], whole: tuple[Facts, Counter[str]], tmp_path: Path, action: str
) -> None:
    facts, asked = whole
    throttled = Session(*servers, denied=frozenset({action}), code="ThrottlingException")
    with kept(tmp_path) as answers:
        before = gather(throttled, [REGION], events=False, checkpoint=answers)
        assert answers.incomplete
    assert {one.what for one in before.gaps} == {action}
    second = Session(*servers)
    with kept(tmp_path) as answers:
        assert same(gather(second, [REGION], events=False, checkpoint=answers)) == facts
        assert not answers.incomplete
    assert second.asked == {WHO: 1, action: asked[action]}


def test_what_was_denied_is_not_worth_to_be_kept(servers: tuple[Lab, str], tmp_path: Path) -> None:
    with kept(tmp_path) as answers:
        session = Session(*servers, denied=frozenset({"kms:ListGrants"}))
        assert gather(session, [REGION], events=False, checkpoint=answers).gaps
        assert not answers.incomplete


def test_what_is_too_old_is_asked_again(
    servers: tuple[Lab, str], whole: tuple[Facts, Counter[str]], tmp_path: Path
) -> None:
    gathered(Session(*servers), tmp_path)
    path = tmp_path / "facts.json.part"
    head, *lines = path.read_bytes().splitlines()
    old = datetime.now(UTC) - timedelta(hours=3)
    entries = [json.loads(line) for line in lines]
    for entry in entries:
        if entry["question"][0] == "kms:ListGrants":
            entry["at"] = (old - DAY).isoformat()
        if entry["question"][0] == "kms:ListKeys":
            entry["at"] = old.isoformat()
    path.write_bytes(b"\n".join([head, *(json.dumps(entry).encode() for entry in entries), b""]))
    with kept(tmp_path) as answers:
        assert (answers.kept, answers.oldest) == (len(entries) - 2, old)
    session = Session(*servers)
    facts = gathered(session, tmp_path)
    assert (same(facts), facts.since) == (whole[0], old)
    assert session.asked == {WHO: 1, "kms:ListGrants": 2}
    # The newer answer counts.
    session = Session(*servers)
    assert gathered(session, tmp_path).since == old
    assert session.asked == {WHO: 1}


def test_half_a_line_is_half_an_answer(
    servers: tuple[Lab, str], whole: tuple[Facts, Counter[str]], tmp_path: Path
) -> None:
    gathered(Session(*servers), tmp_path)
    path = tmp_path / "facts.json.part"
    data = path.read_bytes()
    cuts = [0, 1, data.index(b"\n"), data.index(b"\n") + 1, len(data) // 2, len(data) - 2, len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        assert same(gathered(Session(*servers), tmp_path)) == whole[0]
        session = Session(*servers)
        assert same(gathered(session, tmp_path)) == whole[0]
        assert session.asked == {WHO: 1}


def test_answers_are_for_their_owner(servers: tuple[Lab, str], tmp_path: Path) -> None:
    gathered(Session(*servers), tmp_path)
    assert (tmp_path / "facts.json.part").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[]",
        b"no JSON",
        b"[" * 100_000,
        b'{"question": ["a", "b"], "at": "2026-11-24T00:00:00Z", "answer": 1}',
        b'{"question": ["a", "b", []], "at": "2026-11-24T00:00:00Z", "answer": 1}',
        b'{"question": ["a", "b", "c"], "at": "2026-11-24", "answer": 1}',
        b"\xff",
    ],
)
@pytest.mark.parametrize("place", ["head", "middle"])
def test_what_is_no_answer_is_an_error(tmp_path: Path, line: bytes, place: str) -> None:
    with kept(tmp_path) as answers:
        answers.begin(ACCOUNT)
        answers.add(("a", "b", "c"), 1)
    path = tmp_path / "facts.json.part"
    head, first = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([line, first, b""] if place == "head" else [head, line, first, b""]))
    with pytest.raises(FactsError, match=r"facts.json.part' is not a valid file of answers; remove it"):
        Checkpoint(str(tmp_path / "facts.json"), "AWS", DAY)


def test_an_answer_of_a_time_to_come_does_not_stay_young_for_ever(tmp_path: Path) -> None:
    """A clock that was put back must not make an answer outlive what --max-age says."""
    with kept(tmp_path) as answers:
        answers.begin(ACCOUNT)
        answers.add(("a", "b", "c"), 1)
        answers.add(("a", "b", "d"), 1)
    path = tmp_path / "facts.json.part"
    head, first, second = path.read_bytes().splitlines()
    later = json.loads(second) | {"at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    path.write_bytes(b"\n".join([head, first, json.dumps(later).encode(), b""]))
    with kept(tmp_path) as answers:
        assert answers.kept == 1
        assert answers.find(("a", "b", "d"), int) is None


@pytest.mark.parametrize("data", [b"mine", b"mine\nand more", b"\n", b'{"format":"other"}\n{"half'])
def test_a_file_of_somebody_else_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "facts.json.part"
    path.write_bytes(data)
    with pytest.raises(FactsError, match="is not a valid file of answers"):
        Checkpoint(str(tmp_path / "facts.json"), "AWS", DAY)
    assert path.read_bytes() == data


def test_an_answer_of_another_kind_is_an_error(tmp_path: Path) -> None:
    with kept(tmp_path) as answers:
        answers.begin(ACCOUNT)
        answers.add(("a", "b", "c"), {"no": "text"})
    with kept(tmp_path) as answers:
        assert answers.find(("a", "b", "d"), str) is None
        with pytest.raises(FactsError, match="remove it"):
            answers.find(("a", "b", "c"), str)


def test_answers_of_another_account_or_place_are_not_taken(servers: tuple[Lab, str], tmp_path: Path) -> None:
    with kept(tmp_path) as answers:
        answers.begin("111122223333")
    with pytest.raises(FactsError, match=f"about account 111122223333, not {ACCOUNT}; remove it"):
        gathered(Session(*servers), tmp_path)
    with pytest.raises(FactsError, match="has answers from AWS, not from the lab"), kept(tmp_path, place="the lab"):
        pass


def test_two_at_once_are_refused_and_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    with kept(tmp_path), pytest.raises(FactsError, match="another audit that collects the same facts"), kept(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "other").write_bytes(b"")
    os.symlink("other", tmp_path / "facts.json.part")
    with pytest.raises(FileError, match="opening"), kept(tmp_path):
        pass


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path) -> None:
    with kept(tmp_path) as answers:
        answers.begin(ACCOUNT)
        answers.add(("a", "b", "c"), "x" * 100)
        size = answers.path.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
        try:
            with pytest.raises(FileError, match="writing"):
                answers.add(("a", "b", "d"), "x" * 100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert answers.path.stat().st_size == size
        answers.add(("a", "b", "e"), "y")
    with kept(tmp_path) as answers:
        assert [answers.find(("a", "b", one), str) for one in "cde"] == [("x" * 100,), None, ("y",)]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    with kept(tmp_path) as answers:
        answers.begin(ACCOUNT)

        def add(number: int) -> None:
            for each in range(50):
                answers.add(("a", str(number), str(each)), "x" * 1000)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with kept(tmp_path) as answers:
        assert answers.kept == 400
