"""Tags of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sealwax.lab._apierror import ApiError
from sealwax.lab._call import Call, operation
from sealwax.lab._paging import page

_MOST_TAGS = 50


def checked_tags(tags: Sequence[dict[str, str]]) -> dict[str, str]:
    """The tags of a request by name.

    Raises:
        ApiError: a name twice, one that AWS reserves, or too many.
    """
    found: dict[str, str] = {}
    for tag in tags:
        name = tag["TagKey"]
        if name in found:
            raise ApiError("TagException", f"Duplicate tag key {name}")
        if name.lower().startswith("aws:"):
            raise ApiError("TagException", "aws: prefixed tag key names are not allowed for external use.")
        found[name] = tag["TagValue"]
    if len(found) > _MOST_TAGS:
        raise ApiError("TagException", f"Too many tags: at most {_MOST_TAGS}")
    return found


@operation("TagResource", writes=True)
def tag_resource(call: Call) -> dict[str, Any]:
    tags = checked_tags(call.members["Tags"])
    facts: dict[str, Any] = {"aws:TagKeys": list(tags)}
    facts |= {f"aws:RequestTag/{name}": value for name, value in tags.items()}
    key = call.key("TagResource", facts=facts)
    call.need_alive(key)
    if len(call.records.tags(key).keys() | tags.keys()) > _MOST_TAGS:
        raise ApiError("LimitExceededException", f"A key has at most {_MOST_TAGS} tags")
    call.records.put_tags(key, tags.items())
    return {}


@operation("UntagResource", writes=True)
def untag_resource(call: Call) -> dict[str, Any]:
    names: list[str] = call.members["TagKeys"]
    key = call.key("UntagResource", facts={"aws:TagKeys": names})
    call.need_alive(key)
    call.records.delete_tags(key, names)
    return {}


@operation("ListResourceTags")
def list_resource_tags(call: Call) -> dict[str, Any]:
    key = call.key("ListResourceTags")
    tags, answer = page(list(call.records.tags(key).items()), lambda tag: tag[0], call.members, default=50)
    answer["Tags"] = [{"TagKey": name, "TagValue": value} for name, value in tags]
    return answer
