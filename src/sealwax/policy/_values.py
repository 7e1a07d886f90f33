"""Parsers for the values of typed condition operators. Each returns None for any other text."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?\Z")
_DATE: Final = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?)?\Z"
)
_EPOCH: Final = re.compile(r"[0-9]{5,12}(?:\.[0-9]{1,9})?\Z")


def number(text: str) -> Decimal | None:
    """Parse an integer or a decimal number."""
    return Decimal(text) if _NUMBER.match(text) else None


def boolean(text: str) -> bool | None:
    """Parse true or false, in any case."""
    return {"true": True, "false": False}.get(text.lower())


def binary(text: str) -> bytes | None:
    """Parse base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def date(text: str) -> datetime | None:
    """Parse a date in one of the W3C forms of ISO 8601, or in seconds since 1970. Four digits are a year."""
    try:
        if _EPOCH.match(text):
            return datetime.fromtimestamp(float(text), UTC)
        match = _DATE.match(text)
        if match is None:
            return None
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        offset: tzinfo = UTC
        if zone and zone != "Z":
            sign = -1 if zone[0] == "-" else 1
            offset = timezone(sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])))
        return datetime(
            int(year),
            int(month or 1),
            int(day or 1),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or "0").ljust(9, "0")[:6]),
            offset,
        )
    except (ValueError, OverflowError):
        return None


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Parse an IP range. An address without a prefix is a range of one."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
