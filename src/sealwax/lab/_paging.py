"""Pages of a listing: Limit, Marker, NextMarker, Truncated."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sealwax.lab._apierror import ApiError

_Item = TypeVar("_Item")


def page(
    items: Sequence[_Item], name: Callable[[_Item], str], members: Mapping[str, Any], *, default: int = 100
) -> tuple[list[_Item], dict[str, Any]]:
    """One page of items, and the members of the answer that lead to the next one.

    Args:
        items: all of them, in a lasting order.
        name: what tells an item from the others; the marker carries the last one of the page before.
        members: the request's members.
        default: the length of a page when the caller sets no Limit.

    Raises:
        ApiError: InvalidMarkerException, also for a marker whose item is gone.
    """
    start = 0
    if (marker := members.get("Marker")) is not None:
        names = [name(item) for item in items]
        last = _decode(marker)
        if last not in names:
            raise ApiError("InvalidMarkerException", "Could not parse marker")
        start = names.index(last) + 1
    limit: int = members.get("Limit", default)
    taken = list(items[start : start + limit])
    truncated = start + limit < len(items)
    answer: dict[str, Any] = {"Truncated": truncated}
    if truncated:
        answer["NextMarker"] = base64.urlsafe_b64encode(name(taken[-1]).encode()).decode()
    return taken, answer


def _decode(marker: str) -> str:
    try:
        return base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ApiError("InvalidMarkerException", "Could not parse marker") from error
