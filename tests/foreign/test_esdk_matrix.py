"""Messages of the real AWS Encryption SDK under KMS keys: every suite, one and two keys, framed and not, at each edge.

``make test`` takes messages enough that each two values of different dimensions meet; ``make soak`` takes all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aws_encryption_sdk
import boto3
import pytest
from aws_encryption_sdk.identifiers import AlgorithmSuite, CommitmentPolicy
from aws_encryption_sdk.key_providers.kms import StrictAwsKmsMasterKeyProvider

import sealwax
from sealwax._core.foreign.rules import LEGACY
from sealwax.lab import Lab
from tests.foreign.test_reading_messages import WAYS, every_way
from tests.foreign.test_real_messages import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Exception ignored in.*streaming_client:pytest.PytestUnraisableExceptionWarning"),
]
CONTEXT: Final = {"purpose": "backup", "id": "7"}
SUITES: Final = tuple(suite.algorithm_id for suite in AlgorithmSuite)
FRAMES: Final = (0, 128, 4096, 65_536)
# As multiples of the frame, and what is added. A message that is not framed has the sizes of 4096.
EDGES: Final = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1), (2, -1), (2, 0), (2, 1), (16, -1), (16, 0), (16, 1))
DATA: Final = os.urandom((1 << 20) + 1)
Case = tuple[int, int, int, tuple[int, int]]
ALL: Final[list[Case]] = list(itertools.product(SUITES, (1, 2), FRAMES, EDGES))


def covering(cases: list[Case]) -> list[Case]:
    """Few of the cases, in which each two values that meet in any of them do meet."""

    def pairs(case: Case) -> set[tuple[int, Any, int, Any]]:
        return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}

    left = set().union(*map(pairs, cases))
    found = []
    while left:
        best = max(cases, key=lambda case: len(pairs(case) & left))
        found.append(best)
        left -= pairs(best)
    return found


SOME: Final = covering(ALL)


class World:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.keys = [lab.create_key()["Arn"] for _ in range(2)]
        session: Any = boto3.Session()._session
        self._providers = {
            count: StrictAwsKmsMasterKeyProvider(key_ids=self.keys[:count], botocore_session=session)
            for count in (1, 2)
        }
        self._clients = {
            policy: aws_encryption_sdk.EncryptionSDKClient(commitment_policy=policy)
            for policy in (
                CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT,
                CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
            )
        }
        self._sealers = [
            sealwax.Sealer(sealwax.KmsKeyring(key, session=lab.session()), allow_legacy=LEGACY) for key in self.keys
        ]

    def check(self, case: Case, path: Path) -> None:
        suite, count, frame, (times, more) = case
        plaintext = DATA[: times * (frame or 4096) + more]
        policy = CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
        if suite >= 0x0400:
            policy = CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        message, _ = self._clients[policy].encrypt(
            source=plaintext,
            key_provider=self._providers[count],
            algorithm=AlgorithmSuite.get_by_id(suite),
            frame_length=frame,
            encryption_context=CONTEXT,
        )
        inspected = sealwax.inspect(message)
        assert (inspected.plaintext_bytes, inspected.context) == (len(plaintext), CONTEXT)
        assert {key.key_arn for key in inspected.wrapped_keys} == set(self.keys[:count])
        # The last of them: with two keys, one that did not make the data key.
        reads = list(every_way(self._sealers[count - 1], message, path, CONTEXT, plaintext))
        assert reads == [plaintext] * WAYS, case


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, Lab(tmp_path_factory.mktemp("lab")) as lab, serving(lab) as server:
        patch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "thing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield World(lab)


def test_each_two_values_meet(world: World, tmp_path: Path) -> None:
    assert len(ALL) == 11 * 2 * 4 * 11
    assert 11 * 11 <= len(SOME) < 160
    for case in SOME:
        world.check(case, tmp_path / "x")


@pytest.mark.soak
@pytest.mark.parametrize("suite", SUITES)
def test_all_of_them(world: World, tmp_path: Path, suite: int) -> None:
    cases = [case for case in ALL if case[0] == suite]
    assert len(cases) == 2 * 4 * 11
    for case in cases:
        world.check(case, tmp_path / "x")
