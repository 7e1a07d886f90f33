"""Watches the requests that a session's clients send, by botocore's events. What it reports holds no secret.

Only what is named here is read from a request: never a body, a header, or the value of a context pair.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

# The parameters that name what a request is about; S3 names an object by two of them.
_NAMES: Final = ("KeyId", "SourceKeyId", "DestinationKeyId", "AliasName", "RoleArn", "UserName", "RoleName", "Name")
_CONTEXTS: Final = ("EncryptionContext", "SourceEncryptionContext")
# Where it is kept while a request is in progress, in botocore's own record of it.
_KEPT: Final = "sealwax"

_attempt: Final = contextvars.ContextVar("sealwax_attempt", default=1)


@dataclass(frozen=True, slots=True)
class AwsCall:
    """One request to AWS has ended.

    Attributes:
        service: for example ``"KMS"``.
        operation: for example ``"GenerateDataKey"``.
        region: the client's Region; None if it has none.
        names: the keys, objects or roles that it names.
        context_names: the names in its encryption context, without their values.
        seconds: how long it took.
        attempt: 1 for the first attempt, 2 for its first retry, and so on.
        error: the error code, or the kind of failure if there was no answer; None if it succeeded.
        request_id: the AWS request id, or None.
    """

    service: str
    operation: str
    region: str | None
    names: tuple[str, ...]
    context_names: tuple[str, ...]
    seconds: float
    attempt: int
    error: str | None
    request_id: str | None


class _HasEvents(Protocol):
    """The part of ``boto3.Session`` that is used."""

    @property
    def events(self) -> Any: ...


@contextlib.contextmanager
def attempt(number: int) -> Iterator[None]:
    """Say which attempt the requests inside are; sealwax retries KMS itself."""
    token = _attempt.set(number)
    try:
        yield
    finally:
        _attempt.reset(token)


def watch(session: _HasEvents, on_call: Callable[[AwsCall], None]) -> None:
    """Call ``on_call`` after each request of the clients that the session makes from now on.

    Args:
        session: a boto3 session.
        on_call: is called in the thread of the request.
    """

    def begin(params: Any, context: Any, **_: object) -> None:
        context[_KEPT] = (_names(params), _context_names(params))

    def ended(event_name: str, parsed_response: Any, exception: Any, context: Any, **_: object) -> None:
        on_call(_call(event_name, parsed_response, exception, context))

    session.events.register_first("before-parameter-build", begin, unique_id="sealwax-call-begins")
    session.events.register_first("request-created", _started, unique_id="sealwax-call-starts")
    session.events.register_first("response-received", ended, unique_id="sealwax-call-ends")


def _started(request: Any, **_: object) -> None:
    # At each attempt. Signing it, which may look for credentials, is part of it.
    request.context[f"{_KEPT}-started"] = time.monotonic()


def _call(event_name: str, parsed: Any, exception: Any, context: Any) -> AwsCall:
    _, service, operation = event_name.split(".", 2)
    names, context_names = context.get(_KEPT, ((), ()))
    answer = parsed if isinstance(parsed, Mapping) else {}
    metadata = answer.get("ResponseMetadata", {})
    error = None
    if exception is not None:
        error = type(exception).__name__
    elif metadata.get("HTTPStatusCode", 200) >= 300:
        error = str(answer.get("Error", {}).get("Code") or metadata["HTTPStatusCode"])
    return AwsCall(
        _SERVICES.get(service, service.upper()),
        operation,
        context.get("client_region"),
        names,
        context_names,
        time.monotonic() - context.get(f"{_KEPT}-started", time.monotonic()),
        max(_attempt.get(), context.get("retries", {}).get("attempt", 1)),
        error,
        metadata.get("RequestId"),
    )


_SERVICES: Final = {"cloudtrail": "CloudTrail", "cloudwatch": "CloudWatch", "eventbridge": "EventBridge"}


def _names(params: Mapping[str, Any]) -> tuple[str, ...]:
    if "Bucket" in params:
        key = params.get("Key", params.get("Prefix"))
        return (f"s3://{params['Bucket']}" + (f"/{key}" if key else ""),)
    return tuple(str(params[name]) for name in _NAMES if params.get(name))


def _context_names(params: Mapping[str, Any]) -> tuple[str, ...]:
    contexts = (params.get(name) for name in _CONTEXTS)
    return next((tuple(map(str, context)) for context in contexts if isinstance(context, Mapping)), ())
