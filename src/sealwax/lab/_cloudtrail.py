"""CloudTrail's LookupEvents. Other calls are forwarded to an upstream, if there is one.

The upstream is an endpoint of the user's, such as an emulator. Requests are forwarded with their signature and another
host, so the upstream must not verify signatures.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from urllib.parse import urlsplit

from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab._apierror import ApiError, refused, unsupported
from sealwax.lab._model import Answer, CallerIdentity, Members
from sealwax.lab._shapes import Items, Moment, Number, Structure, Text, check
from sealwax.lab._trail import Event, Trail
from sealwax.lab._wire import HttpRequest, HttpResponse

TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101."
_SHORT_TARGET = "CloudTrail_20131101."
_UPSTREAM_SECONDS = 30
_ATTRIBUTES = ("EventId", "EventName", "ReadOnly", "Username", "ResourceType", "ResourceName", "EventSource")
_MAX_ANSWER = 16 << 20
# Headers that are not forwarded.
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
        upstream: the URL of an endpoint for the calls that the lab does not offer, or None.

    Raises:
        LabError: the upstream is not an HTTP URL.
    """

    def __init__(self, trail: Trail, upstream: str | None) -> None:
        self._trail = trail
        self._upstream = urlsplit(upstream) if upstream is not None else None
        if self._upstream and (self._upstream.scheme not in ("http", "https") or self._upstream.hostname is None):
            raise LabError(f"the upstream {printable(str(upstream))} is not an http or https URL")

    def lookup_events(self, document: object, caller: CallerIdentity, region: str) -> Answer:
        """The events of the caller's account in the Region, latest first.

        Raises:
            ApiError: CloudTrail's error.
        """
        members = check(LOOKUP_EVENTS, document)
        matches = _filter(members, region)
        token: str | None = members.get("NextToken")
        limit: int = members.get("MaxResults", 50)
        events = filter(matches, self._trail.latest(account=caller.account, region=region))
        # The token is the last event of the previous page; this reads past it.
        if token is not None and all(event.record["eventID"] != token for event in events):
            raise ApiError("InvalidNextTokenException", "The token is not valid for this lookup.")
        page = list(itertools.islice(events, limit + 1))
        answer: Answer = {"Events": [_entry(event) for event in page[:limit]]}
        if len(page) > limit:
            answer["NextToken"] = page[limit - 1].record["eventID"]
        return answer

    def forward(self, request: HttpRequest, name: str) -> HttpResponse:
        """Forward a request to the upstream.

        Raises:
            ApiError: there is no upstream, or it does not answer.
        """
        upstream = self._upstream
        if upstream is None or upstream.hostname is None:
            raise unsupported(f"The lab's CloudTrail does not offer {name} and has no upstream.")
        # They are slow to import, and only an upstream needs them.
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
            body = bytearray(answer.read(_MAX_ANSWER + 1))
        except (OSError, http.client.HTTPException) as error:
            raise ApiError("ServiceUnavailableException", f"The upstream {upstream.netloc} does not answer.") from error
        finally:
            connection.close()
        if len(body) > _MAX_ANSWER:
            raise ApiError(
                "ServiceUnavailableException",
                f"The upstream {upstream.netloc} sent more than {_MAX_ANSWER:,} bytes.",
            )
        kept = {header: value for header, value in answer.getheaders() if header.lower() not in _HOP}
        return HttpResponse(answer.status, kept | {"Content-Length": str(len(body))}, body)


def _filter(members: Members, region: str) -> Callable[[Event], bool]:
    attributes = members.get("LookupAttributes", [])
    if len(attributes) > 1:
        raise ApiError("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
    start, end = members.get("StartTime", float("-inf")), members.get("EndTime", float("inf"))
    if start > end:
        raise ApiError("InvalidTimeRangeException", "The start time is after the end time.")
    if "EventCategory" in members:
        raise refused(f"The lab's trail in {region} has management events only.")

    def matches(event: Event) -> bool:
        return start <= event.time <= end and all(
            attribute["AttributeValue"] in _values(event, attribute["AttributeKey"]) for attribute in attributes
        )

    return matches


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


def _entry(event: Event) -> Answer:
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
