"""Expecting an error of KMS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from botocore.exceptions import ClientError


@dataclass
class Refusal:
    message: str = ""
    status: int = 0


@contextmanager
def refused(code: str) -> Iterator[Refusal]:
    """The block ends with this error code; what KMS said is filled in afterwards."""
    refusal = Refusal()
    with pytest.raises(ClientError) as caught:
        yield refusal
    assert caught.value.response["Error"]["Code"] == code
    refusal.message = caught.value.response["Error"]["Message"]
    refusal.status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
