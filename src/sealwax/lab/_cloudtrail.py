"""CloudTrail, as far as the lab needs it: LookupEvents. Other calls go to an upstream, where there is one.

An upstream is an endpoint of the user's (an emulator, say). Requests are passed on as they came, signature and all, but
for their host; so it has to be one that does not verify the lab's signatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sealwax.errors import LabError
from sealwax.lab._apierror import ApiError, refused, unsupported
from sealwax.lab._model import Caller
from sealwax.lab._shapes import Items, Moment, Number, Structure, Text, check
from sealwax.lab._trail import Event, Trail
from sealwax.lab._wire import HttpRequest, HttpResponse

TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101."
_SHORT_TARGET = "CloudTrail_20131101."
_UPSTREAM_SECONDS = 30
_ATTRIBUTES = ("EventId", "EventName", "ReadOnly", "Username", "ResourceType", "ResourceName", "EventSource")
_MOST_ANSWER = 16 << 20
# And the host, which is the upstream's own.
_HOP = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length"})

LOOKUP_EVENTS = Structure(
    {
        "LookupAttributes": Items(
            Structure(
                {"AttributeKey": Text(enum=(*_ATTRIBUTES, "AccessKeyId")), "AttributeValue": Text(1, 2000)},
                frozenset({"AttributeKey", "AttributeValue"}),
            )
        ),
        "StartTime": Moment(),
        "EndTime": Moment(),
        "EventCategory": Text(enum=("insight",)),
        "MaxResults": Number(1, 50),
        "NextToken": Text(),
    }
)


def is_cloudtrail(target: str) -> bool:
    """Whether an X-Amz-Target is CloudTrail's."""
    return target.startswith((TARGET, _SHORT_TARGET))


class CloudTrail:
    """Answers CloudTrail requests.

    Args:
        upstream: the URL of an endpoint for what the lab does not do itself, or None.

    Raises:
        LabError: the upstream is no HTTP URL.
    """

    def __init__(self, trail: Trail, upstream: str | None) -> None:
        self._trail = trail
        self._upstream = urlsplit(upstream) if upstream is not None else None
        if self._upstream is not None and (
            self._upstream.scheme not in ("http", "https") or self._upstream.hostname is None
        ):
            raise LabError(f"the upstream {upstream} is no http or https URL")

    def lookup_events(self, document: Any, caller: Caller, region: str) -> dict[str, Any]:
        """The events of the caller's account in the Region, the latest first.

        Raises:
            ApiError: what CloudTrail answers instead.
        """
        members = check(LOOKUP_EVENTS, document)
        wanted = _filter(members, region)
        token: str | None = members.get("NextToken")
        limit: int = members.get("MaxResults", 50)
        found = filter(wanted, self._trail.latest(account=caller.account, region=region))
        # The token is the event that the page before ended with.
        if token is not None and all(event.record["eventID"] != token for event in found):
            raise ApiError("InvalidNextTokenException", "The token is not one of this listing")
        taken = list(itertools.islice(found, limit + 1))
        shown: dict[str, Any] = {"Events": [_entry(event) for event in taken[:limit]]}
        if len(taken) > limit:
            shown["NextToken"] = taken[limit - 1].record["eventID"]
        return shown

    def pass_on(self, request: HttpRequest, name: str) -> HttpResponse:
        """The upstream's answer to a request.

        Raises:
            ApiError: there is no upstream, or it does not answer.
        """
        upstream = self._upstream
        if upstream is None or upstream.hostname is None:
            raise unsupported(f"The lab's CloudTrail does not offer {name}, and has no upstream to ask")
        # Only an upstream needs them, and they take long to import.
        import http.client
        import ssl

        connect: Callable[..., http.client.HTTPConnection] = http.client.HTTPConnection
        if upstream.scheme == "https":
            connect = http.client.HTTPSConnection
        settings = {"context": ssl.create_default_context()} if upstream.scheme == "https" else {}
        connection = connect(upstream.hostname, upstream.port, timeout=_UPSTREAM_SECONDS, **settings)
        headers = {header: value for header, value in request.headers.items() if header not in _HOP}
        try:
            connection.request(request.method, upstream.path or "/", bytes(request.body), headers)
            answer = connection.getresponse()
            body = bytearray(answer.read(_MOST_ANSWER + 1))
        except (OSError, http.client.HTTPException) as error:
            raise ApiError("ServiceUnavailableException", f"The upstream {upstream.netloc} does not answer") from error
        finally:
            connection.close()
        if len(body) > _MOST_ANSWER:
            raise ApiError("ServiceUnavailableException", f"The upstream {upstream.netloc} answers too much")
        kept = {header: value for header, value in answer.getheaders() if header.lower() not in _HOP}
        return HttpResponse(answer.status, kept | {"Content-Length": str(len(body))}, body)


def _filter(members: Mapping[str, Any], region: str) -> Callable[[Event], bool]:
    attributes = members.get("LookupAttributes", [])
    if len(attributes) > 1:
        raise ApiError("InvalidLookupAttributesException", "At most one lookup attribute can be given")
    start, end = members.get("StartTime", float("-inf")), members.get("EndTime", float("inf"))
    if start > end:
        raise ApiError("InvalidTimeRangeException", "The start time is after the end time")
    if "EventCategory" in members:
        raise refused(f"The lab's trail in {region} has management events only")

    def wanted(event: Event) -> bool:
        if not start <= event.time <= end:
            return False
        return all(one["AttributeValue"] in _values(event, one["AttributeKey"]) for one in attributes)

    return wanted


def _values(event: Event, attribute: str) -> list[str]:
    record = event.record
    resources = record.get("resources", [])
    values: dict[str, list[str]] = {
        "EventId": [record["eventID"]],
        "EventName": [record["eventName"]],
        "ReadOnly": [str(record["readOnly"]).lower()],
        "Username": [event.username],
        "ResourceType": [resource["type"] for resource in resources],
        "ResourceName": [resource["ARN"] for resource in resources],
        "EventSource": [record["eventSource"]],
        "AccessKeyId": [record["userIdentity"]["accessKeyId"]],
    }
    return values[attribute]


def _entry(event: Event) -> dict[str, Any]:
    record = event.record
    return {
        "EventId": record["eventID"],
        "EventName": record["eventName"],
        "ReadOnly": str(record["readOnly"]).lower(),
        "AccessKeyId": record["userIdentity"]["accessKeyId"],
        "EventTime": event.time,
        "EventSource": record["eventSource"],
        "Username": event.username,
        "Resources": [
            {"ResourceType": resource["type"], "ResourceName": resource["ARN"]}
            for resource in record.get("resources", [])
        ],
        "CloudTrailEvent": event.text,
    }
