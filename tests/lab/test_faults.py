"""Faults on purpose."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from sealwax.errors import LabError
from sealwax.lab import Lab, Server
from tests.lab.conftest import client
from tests.lab.refusal import refused

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


def add(lab: Lab, kind: str, amount: float = 1, *, operation: str | None = None, **more: Any) -> None:
    settings = {"code": None, "seed": 0} | more
    lab.faults.add("us-east-1", kind, amount, operation=operation, **settings)


def test_throttling_is_for_its_region_and_operation(lab: Lab, kms: KMSClient) -> None:
    add(lab, "throttle", operation="ListKeys")
    with refused("ThrottlingException"):
        kms.list_keys()
    kms.list_aliases()
    client(lab.session("eu-west-1")).list_keys()
    lab.faults.clear("us-east-1", None)
    kms.list_keys()


def test_any_error_can_be_asked_for(lab: Lab, kms: KMSClient) -> None:
    add(lab, "error", code="KMSInternalException")
    with refused("KMSInternalException") as refusal:
        kms.list_keys()
    assert refusal.status == 500


def test_botocore_retries_what_it_would_retry(lab: Lab) -> None:
    add(lab, "error", 0.5, code="KMSInternalException", seed=3)
    kms = lab.session().client("kms", config=Config(retries={"total_max_attempts": 10}))
    answers = [kms.list_keys()["ResponseMetadata"]["RetryAttempts"] for _ in range(5)]
    assert sum(answers) > 0


def outcomes(kms: KMSClient) -> str:
    said = ""
    for _ in range(20):
        try:
            kms.list_keys()
            said += "."
        except ClientError:
            said += "x"
    return said


def test_chances_are_repeatable_by_their_seed(lab: Lab, kms: KMSClient) -> None:
    runs = []
    for seed in (7, 7, 8):
        lab.faults.clear("us-east-1", None)
        lab.faults._chances.clear()
        add(lab, "throttle", 0.5, seed=seed)
        runs.append(outcomes(kms))
    assert runs[0] == runs[1] != runs[2]
    assert "." in runs[0]
    assert "x" in runs[0]


def test_latency(lab: Lab, kms: KMSClient) -> None:
    add(lab, "latency", 80)
    before = time.monotonic()
    kms.list_keys()
    assert time.monotonic() - before >= 0.08


def test_a_region_that_is_down(lab: Lab, kms: KMSClient, server: Server) -> None:
    add(lab, "down")
    with pytest.raises(EndpointConnectionError):
        kms.list_keys()
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        remote(server).list_keys()
    assert lab.trail.events() == []


def test_connections_that_are_cut(lab: Lab, kms: KMSClient, server: Server) -> None:
    add(lab, "reset")
    with pytest.raises(ConnectionClosedError):
        kms.list_keys()
    with pytest.raises(ConnectionClosedError):
        remote(server).list_keys()


def remote(server: Server) -> KMSClient:
    return boto3.client(
        "kms",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_quota_is_each_account_s_own(lab: Lab, kms: KMSClient) -> None:
    add(lab, "quota", 3)
    for _ in range(3):
        kms.list_keys()
    with refused("ThrottlingException") as refusal:
        kms.list_keys()
    assert refusal.message.startswith("You have exceeded the rate at which you may call KMS.")
    client(lab.session(account="444455556666")).list_keys()
    time.sleep(0.4)
    kms.list_keys()


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("throttle", 1.5), ("reset", -0.1), ("latency", -1), ("throttle", math.nan), ("latency", math.inf)],
)
def test_amounts_that_cannot_be(lab: Lab, kind: str, amount: float) -> None:
    with pytest.raises(LabError):
        add(lab, kind, amount)


def test_a_fault_is_for_what_there_is(lab: Lab) -> None:
    """A rehearsal whose operation is misspelled would rehearse nothing."""
    for operation, region in (("decrypt", "us-east-1"), ("Nope", "us-east-1"), ("Decrypt", "us east"), (None, "")):
        with pytest.raises(LabError, match=r"not a KMS operation|not a Region"):
            lab.faults.add(region, "throttle", 1, operation=operation, code=None, seed=0)
    assert lab.faults.all() == []


def test_clearing_says_how_many_faults_there_were(lab: Lab) -> None:
    add(lab, "throttle")
    assert lab.faults.clear("eu-west-1") == 0
    assert lab.faults.clear("us-east-1") == 1
    assert lab.faults.clear("us-east-1") == 0
    with pytest.raises(LabError, match="'nowhere' is not a Region"):
        lab.faults.clear("nowhere")


def test_faults_are_every_process_s(lab: Lab) -> None:
    add(lab, "throttle")
    with Lab(lab.path) as other, refused("ThrottlingException"):
        client(other.session()).list_keys()
