"""Which AWS partition a Region is in."""

from __future__ import annotations

from typing import Final

# By how the names of their Regions begin, so that a Region that AWS opens tomorrow is known too. Every other one is in
# "aws". A test holds this against what botocore knows.
_BEGINNINGS: Final = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}


def partition_of(region: str) -> str:
    """Return the partition of a Region, such as ``"aws"`` of ``"eu-west-1"``."""
    return next((name for beginning, name in _BEGINNINGS.items() if region.startswith(beginning)), "aws")
