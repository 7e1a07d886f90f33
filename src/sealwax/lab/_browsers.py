"""What a browser sends to a lab on behalf of a page that is none of its business.

A page of any site can have a browser speak to a server on this machine, and by a name of its own that it lets mean
127.0.0.1 ("DNS rebinding") it may even read the answers. AWS's clients are no browsers: they name the lab as they were
told to, and say nothing of an origin.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping

from sealwax._core.context import printable
from sealwax.errors import LabError

_NAME = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+"
_HOST = re.compile(rf"({_NAME})(?::[0-9]{{1,5}})?")
_ORIGIN = re.compile(rf"https?://({_NAME})(?::[0-9]{{1,5}})?(?:/.*)?", re.DOTALL)
# What a page can send without asking first, but for AWS's own protocol of queries, which STS speaks.
_OF_FORMS = ("text/plain", "multipart/form-data")
_QUERY = "application/x-www-form-urlencoded"
_FRIENDLY_SITES = frozenset({"same-origin", "same-site", "none"})


def checked_name(name: str) -> str:
    """Return a host's name or address as requests are compared with it.

    Raises:
        LabError: it cannot be one.
    """
    found = name.partition("%")[0]  # the interface of a link-local address is not sent
    if ":" in found and not found.startswith("["):
        found = f"[{found}]"
    if _HOST.fullmatch(found) is None or re.fullmatch(_NAME, found) is None:
        raise LabError(
            f"'{printable(name)[:200]}' is no name of a host: one looks like lab or 192.0.2.7, without a port"
        )
    return _canonical(found)


def why_refused(headers: Mapping[str, str], own: Collection[str]) -> str | None:
    """Return why a request does not count, as a sentence; None where it does.

    Args:
        headers: the request's, with names in lower case.
        own: what the lab is called besides localhost and the loopback addresses, of :func:`checked_name`.
    """
    host = headers.get("host", "")
    found = _HOST.fullmatch(host)
    if found is None or not _is_own(found[1], own):
        return (
            f"The request is for the host '{printable(host)[:200]}', which is not this lab. Use the address that the "
            "lab listens on, or start it with --allow-host NAME."
        )
    for header in ("origin", "referer"):
        if header in headers:
            found = _ORIGIN.fullmatch(headers[header])
            if found is None or not _is_own(found[1], own):
                return f"The lab answers no page of another site: the request's {header} is foreign."
    if headers.get("sec-fetch-site", "none").lower() not in _FRIENDLY_SITES:
        return "The lab answers no page of another site, and a browser says that this request is one's."
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _OF_FORMS or (kind == _QUERY and "x-amz-target" in headers):
        return f"No client of AWS sends the content type {kind} here."
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
    """Return one spelling for a name: of an address, that of the address itself."""
    name = name.lower().strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
