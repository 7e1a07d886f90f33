"""Which AWS partition a Region is in."""

from __future__ import annotations

from typing import Final

# By prefix, to cover Regions that AWS opens later; all others are in "aws". A test compares this with botocore's data.
_PREFIXES: Final = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
    "eusc-": "aws-eusc",
}


def partition_of(region: str) -> str:
    """Return the partition of a Region: ``"aws"`` for ``"eu-west-1"``."""
    return next((name for prefix, name in _PREFIXES.items() if region.startswith(prefix)), "aws")
