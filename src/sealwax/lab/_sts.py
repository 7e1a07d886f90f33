"""The Security Token Service: GetCallerIdentity and AssumeRole."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from sealwax.lab._apierror import ApiError
from sealwax.lab._model import Answer, CallerIdentity
from sealwax.lab._principals import PrincipalStore
from sealwax.lab._trail import STS_SOURCE, Trail, TrailEntry
from sealwax.lab._wire import HttpRequest, HttpResponse

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_SHORTEST, _LONGEST, _DEFAULT = 900, 43200, 3600
# STS has its own names for some errors.
_CODES = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "ExpiredTokenException": "ExpiredToken",
    "IncompleteSignatureException": "IncompleteSignature",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "AccessDeniedException": "AccessDenied",
    "UnknownOperationException": "InvalidAction",
}
_FORBIDDEN = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "AccessDenied"})


class Sts:
    """Answers STS requests."""

    def __init__(self, principals: PrincipalStore, trail: Trail, clock: Callable[[], float]) -> None:
        self._principals = principals
        self._trail = trail
        self._clock = clock

    def serve(self, request: HttpRequest, caller: CallerIdentity, region: str, request_id: str) -> HttpResponse:
        """Answer a request.

        Raises:
            ApiError: STS's error.
        """
        form = dict(parse_qsl(bytes(request.body).decode("utf-8", "replace"), keep_blank_values=True))
        name = form.pop("Action", "")
        form.pop("Version", None)
        answer: Answer | None = None
        failure: ApiError | None = None
        now = self._clock()
        try:
            if name == "GetCallerIdentity":
                answer = {"UserId": caller.user_id, "Account": caller.account, "Arn": caller.arn}
            elif name == "AssumeRole":
                answer = self._assume_role(form, caller, now)
            else:
                raise ApiError("UnknownOperationException", f"The lab's STS does not offer {name}.")
            return _respond(200, _result(name, answer, request_id), request_id)
        except ApiError as error:
            failure = error
            raise
        finally:
            self._trail._append(
                TrailEntry(
                    source=STS_SOURCE,
                    name=name,
                    caller=caller,
                    region=region,
                    source_ip=request.peer,
                    user_agent=request.headers.get("user-agent", ""),
                    request_id=request_id,
                    time=now,
                    read_only=True,
                    members=form,
                    answer=answer,
                    error=failure,
                    resources=(),
                    reason=failure.reason if failure is not None else None,
                    uses_key=False,
                )
            )

    def _assume_role(self, form: Mapping[str, str], caller: CallerIdentity, now: float) -> Answer:
        unknown = form.keys() - {"RoleArn", "RoleSessionName", "DurationSeconds"}
        if unknown:
            raise ApiError("ValidationError", f"The lab's AssumeRole does not offer {', '.join(sorted(unknown))}.")
        session_name = form.get("RoleSessionName", "")
        duration = form.get("DurationSeconds", str(_DEFAULT))
        if _SESSION_NAME.fullmatch(session_name) is None:
            raise ApiError("ValidationError", "1 validation error detected: roleSessionName has 2 to 64 of [\\w+=,.@-]")
        if re.fullmatch(r"[0-9]{1,5}", duration) is None or not _SHORTEST <= int(duration) <= _LONGEST:
            raise ApiError(
                "ValidationError", f"1 validation error detected: durationSeconds is {_SHORTEST} to {_LONGEST}"
            )
        role = self._principals.principal(form.get("RoleArn", ""))
        # A role trusts its own account. A role that does not exist is denied with the same message.
        if role is None or role.kind != "role" or role.account != caller.account:
            raise ApiError(
                "AccessDeniedException",
                f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {form.get('RoleArn')}",
                reason="there is no such role in the caller's account",
            )
        expires = now + int(duration)
        key = self._principals.new_session(role, session_name, expires, now)
        return {
            "Credentials": {
                "AccessKeyId": key.access_key_id,
                "SecretAccessKey": key.secret,
                "SessionToken": key.token,
                "Expiration": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{role.unique_id}:{session_name}",
                "Arn": f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{session_name}",
            },
        }


def failure(error: ApiError, request_id: str) -> HttpResponse:
    """The response for an error, with STS's names."""
    code = _CODES.get(error.code, error.code)
    status = 403 if code in _FORBIDDEN else error.status
    text = (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{html.escape(error.message, quote=False)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return _respond(status, text, request_id)


def _result(name: str, members: Mapping[str, object], request_id: str) -> str:
    return (
        f'<{name}Response xmlns="{_NAMESPACE}"><{name}Result>{_xml(members)}</{name}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    )


def _xml(members: Mapping[str, object]) -> str:
    return "".join(
        f"<{name}>{_xml(value) if isinstance(value, dict) else html.escape(str(value), quote=False)}</{name}>"
        for name, value in members.items()
    )


def _respond(status: int, text: str, request_id: str) -> HttpResponse:
    body = bytearray(text.encode())
    headers = {"x-amzn-RequestId": request_id, "Content-Type": "text/xml", "Content-Length": str(len(body))}
    return HttpResponse(status, headers, body)
