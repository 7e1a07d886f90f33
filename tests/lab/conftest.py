"""A lab in a temporary folder, clients for it, and the check of every answer against the service model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from sealwax.lab import Lab, Server
from sealwax.lab._gateway import Gateway
from sealwax.lab._wire import HttpRequest, HttpResponse
from tests.lab import validator

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


class Clock:
    """The lab's time, moved by hand."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _every_answer_is_kms_shaped(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Gateway.handle

    def checked(self: Gateway, request: HttpRequest) -> HttpResponse:
        response = handle(self, request)
        validator.check(request, response)
        return response

    monkeypatch.setattr(Gateway, "handle", checked)


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


@pytest.fixture
def lab(tmp_path: Path, clock: Clock) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", clock=clock) as opened:
        yield opened


@pytest.fixture
def kms(lab: Lab) -> KMSClient:
    return client(lab.session())


def client(session: boto3.Session) -> KMSClient:
    return session.client("kms", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def server(lab: Lab) -> Iterator[Server]:
    serving = Server(lab)
    thread = threading.Thread(target=serving.serve)
    thread.start()
    yield serving
    serving.close()
    thread.join()
