"""Pages of a list: Limit, Marker, NextMarker, Truncated."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from sealwax.lab._apierror import ApiError
from sealwax.lab._model import Answer, Members

_Item = TypeVar("_Item")


def page(
    items: Sequence[_Item], name: Callable[[_Item], str], members: Members, *, default: int = 100
) -> tuple[list[_Item], Answer]:
    """Return one page of items, and an answer with the members that lead to the next page.

    Args:
        items: all items, in a stable order.
        name: returns the unique name of an item; the marker is the name of the last item of the previous page.
        members: the request's members.
        default: the length of a page without a Limit.

    Raises:
        ApiError: InvalidMarkerException, also if the marker's item no longer exists.
    """
    start = 0
    if (marker := members.get("Marker")) is not None:
        names = [name(item) for item in items]
        last = _decode(marker)
        if last not in names:
            raise ApiError("InvalidMarkerException", "Could not parse marker")
        start = names.index(last) + 1
    limit: int = members.get("Limit", default)
    shown = list(items[start : start + limit])
    truncated = start + limit < len(items)
    answer: Answer = {"Truncated": truncated}
    if truncated:
        answer["NextMarker"] = base64.urlsafe_b64encode(name(shown[-1]).encode()).decode()
    return shown, answer


def _decode(marker: str) -> str:
    try:
        return base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise ApiError("InvalidMarkerException", "Could not parse marker") from error
