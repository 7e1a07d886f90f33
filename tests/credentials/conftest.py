"""Nothing of the machine's own AWS settings, one endpoint for all tests, and a folder of 50 files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import botocore.credentials
import botocore.tokens
import pytest

from tests.credentials.endpoint import Answer, Endpoint

FILES = 50


@pytest.fixture(scope="session")
def _server() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(_server: Endpoint) -> Endpoint:
    _server.asked.clear()
    _server.answer = lambda _: Answer(500)
    return _server


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    for number in range(FILES):
        (made / f"{number:02}").write_bytes(b"data")
    return made


@pytest.fixture
def settings(tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for AWS settings: ``config`` and ``credentials``, and ``sso`` for single sign-on's tokens."""
    for name in os.environ:
        if name.startswith(("AWS_", "SEALWAX_", "BOTO_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_DEFAULT_REGION": "us-east-1",
        **{f"AWS_ENDPOINT_URL_{service}": endpoint.url for service in ("KMS", "STS", "SSO", "SSO_OIDC", "S3")},
    }.items():
        monkeypatch.setenv(name, value)
    # botocore looks for the home once, when it is imported.
    for provider in (botocore.credentials.SSOProvider, botocore.tokens.SSOTokenProvider):
        monkeypatch.setattr(provider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path / "sso"))
    return tmp_path
