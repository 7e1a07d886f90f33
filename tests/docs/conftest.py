"""A KMS over HTTP for the documents' programs, with the aliases that they name."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import bare_environment

ALIASES: Final = ("demo", "demo2", "payments", "payments-2027")
SEALWAX: Final = str(Path(sysconfig.get_path("scripts")) / "sealwax")


@pytest.fixture(scope="session")
def kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a lab in which the aliases exist."""
    environment = bare_environment(SEALWAX_LAB=str(tmp_path_factory.mktemp("kms") / "lab"))
    for alias in ALIASES:
        subprocess.run(
            [SEALWAX, "lab", "create-key", "--alias", alias], env=environment, check=True, stdout=subprocess.DEVNULL
        )
    with subprocess.Popen(
        [SEALWAX, "lab", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("sealwax lab is ready at "), line
            yield line.split()[-1]
        finally:
            server.terminate()


@pytest.fixture
def environment(kms: str) -> dict[str, str]:
    """An environment in which boto3 meets that lab, and nothing else of AWS."""
    return bare_environment(
        AWS_ENDPOINT_URL_KMS=kms,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="any",
        AWS_SECRET_ACCESS_KEY="any",
    )
