"""Refuses requests that a browser sends to the lab for a web page.

A page of any site can make a browser send requests to a server on this machine, and if it makes a name of its own mean
127.0.0.1 ("DNS rebinding"), it can even read the answers. AWS's clients are not browsers: they use the lab's configured
name, and send no origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping

from sealwax._text import printable
from sealwax.errors import LabError

_NAME = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+"
_HOST = re.compile(rf"({_NAME})(?::[0-9]{{1,5}})?")
_ORIGIN = re.compile(rf"https?://({_NAME})(?::[0-9]{{1,5}})?(?:/.*)?", re.DOTALL)
# A page can send these without a preflight request. So can it _QUERY, the protocol of STS.
_FORM_TYPES = ("text/plain", "multipart/form-data")
_QUERY = "application/x-www-form-urlencoded"
_FRIENDLY_SITES = frozenset({"same-origin", "same-site", "none"})


def checked_name(name: str) -> str:
    """Normalize a host name or address.

    Raises:
        LabError: it is invalid.
    """
    host = name.partition("%")[0]  # clients do not send the interface of a link-local address
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    if _HOST.fullmatch(host) is None or re.fullmatch(_NAME, host) is None:
        raise LabError(
            f"'{printable(name)[:200]}' is not a host name; use one such as lab or 192.0.2.7, without a port"
        )
    return _canonical(host)


def why_refused(headers: Mapping[str, str], own: Collection[str]) -> str | None:
    """Return why a request is refused, or None.

    Args:
        headers: the request's headers, with names in lower case.
        own: the lab's names besides localhost and the loopback addresses, from ``checked_name``.
    """
    host = headers.get("host", "")
    match = _HOST.fullmatch(host)
    if match is None or not _is_own(match[1], own):
        return (
            f"The request is for the host '{printable(host)[:200]}', which is not this lab. Use the address that the "
            "lab listens on, or add this name to those that the lab allows."
        )
    for header in ("origin", "referer"):
        if header in headers:
            match = _ORIGIN.fullmatch(headers[header])
            if match is None or not _is_own(match[1], own):
                return f"The request's {header} header names another site. The lab does not serve web pages."
    if headers.get("sec-fetch-site", "none").lower() not in _FRIENDLY_SITES:
        return "A browser sent this request for a page of another site. The lab does not serve web pages."
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _FORM_TYPES or (kind == _QUERY and "x-amz-target" in headers):
        return f"The content type {kind} is not one that AWS clients send."
    return None


def _is_own(name: str, own: Collection[str]) -> bool:
    name = _canonical(name)
    if name == "localhost" or name in own:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _canonical(name: str) -> str:
    """Return the canonical spelling of a name or address."""
    name = name.lower().strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
