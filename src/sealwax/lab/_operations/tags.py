"""Tags of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sealwax.lab._apierror import ApiError
from sealwax.lab._call import Call, operation
from sealwax.lab._model import Answer, Conditions, NewConditions
from sealwax.lab._paging import page

_MAX_TAGS = 50


def checked_tags(tags: Sequence[dict[str, str]]) -> dict[str, str]:
    """The tags of a request by name.

    Raises:
        ApiError: a duplicate name, a name that AWS reserves, or too many tags.
    """
    values: dict[str, str] = {}
    for tag in tags:
        name = tag["TagKey"]
        if name in values:
            raise ApiError("TagException", f"Duplicate tag key {name}")
        if name.lower().startswith("aws:"):
            raise ApiError("TagException", "aws: prefixed tag key names are not allowed for external use.")
        values[name] = tag["TagValue"]
    if len(values) > _MAX_TAGS:
        raise ApiError("TagException", f"Too many tags: a key can have at most {_MAX_TAGS}.")
    return values


def tag_conditions(tags: Mapping[str, str]) -> NewConditions:
    """The values of the condition keys about a request's tags."""
    if not tags:
        return {}
    return {"aws:TagKeys": list(tags), **{f"aws:RequestTag/{name}": value for name, value in tags.items()}}


def authorize_creation(call: Call, facts: Conditions, tags: Mapping[str, str]) -> None:
    """Raises AccessDeniedException unless the caller may create a key with these tags."""
    about_tags = tag_conditions(tags)
    call.authorize("CreateKey", facts={**facts, **about_tags})
    if tags:
        call.authorize("TagResource", facts=about_tags)


@operation("TagResource", writes=True)
def tag_resource(call: Call) -> Answer:
    tags = checked_tags(call.members["Tags"])
    key = call.key("TagResource", facts=tag_conditions(tags))
    call.need_alive(key)
    if len(call.records.tags(key).keys() | tags.keys()) > _MAX_TAGS:
        raise ApiError("LimitExceededException", f"A key can have at most {_MAX_TAGS} tags.")
    call.records.put_tags(key, tags.items())
    return {}


@operation("UntagResource", writes=True)
def untag_resource(call: Call) -> Answer:
    names: list[str] = call.members["TagKeys"]
    key = call.key("UntagResource", facts={"aws:TagKeys": names})
    call.need_alive(key)
    call.records.delete_tags(key, names)
    return {}


@operation("ListResourceTags")
def list_resource_tags(call: Call) -> Answer:
    key = call.key("ListResourceTags")
    tags, answer = page(list(call.records.tags(key).items()), lambda tag: tag[0], call.members, default=50)
    answer["Tags"] = [{"TagKey": name, "TagValue": value} for name, value in tags]
    return answer
