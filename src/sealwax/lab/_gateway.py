"""The entrance for requests over HTTP and in process: identifies the caller and routes to the service."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from sealwax.lab import _signature, _sts, _wire
from sealwax.lab._apierror import ApiError
from sealwax.lab._cloudtrail import CloudTrail, is_cloudtrail
from sealwax.lab._engine import KmsEngine
from sealwax.lab._model import CallerIdentity, KmsRequest
from sealwax.lab._principals import PrincipalStore

_KMS_TARGET = "TrentService."
_STS = "sts"


class Gateway:
    """Answers HTTP requests.

    Args:
        cloudtrail: can be replaced by one with an upstream.
        clock: the lab's time, at which temporary credentials expire. Signatures are checked against the machine's
            time, with which clients sign.
    """

    def __init__(
        self,
        engine: KmsEngine,
        security: _sts.Sts,
        cloudtrail: CloudTrail,
        principals: PrincipalStore,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self.cloudtrail = cloudtrail
        self._sts = security
        self._principals = principals
        self._clock = clock

    def handle(self, request: _wire.HttpRequest) -> _wire.HttpResponse:
        """Answer one request; errors of the API are answers too."""
        request_id = _wire.new_request_id()
        target = request.headers.get("x-amz-target", "")
        is_query = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        try:
            credential = _signature.read_credential(request)
            caller = self._identify(request, credential)
            if request.method != "POST" or request.target != "/":
                raise ApiError("UnknownOperationException", "")
            if is_query and credential.service == _STS:
                return self._sts.serve(request, caller, credential.region, request_id)
            if is_cloudtrail(target):
                _signature.need_service(credential, "cloudtrail")
                return self._cloudtrail(request, caller, credential.region, request_id)
            if not target.startswith(_KMS_TARGET):
                raise ApiError("UnknownOperationException", "")
            _signature.need_service(credential, "kms")
            members = self._engine.serve(
                KmsRequest(
                    operation=target.removeprefix(_KMS_TARGET),
                    document=_wire.read_document(request.body),
                    region=credential.region,
                    caller=caller,
                    request_id=request_id,
                    source_ip=request.peer,
                    user_agent=request.headers.get("user-agent", ""),
                    secure=request.secure,
                )
            )
            return _wire.answer(members, request_id)
        except ApiError as error:
            return _sts.failure(error, request_id) if is_query else _wire.failure(error, request_id)

    def _cloudtrail(
        self, request: _wire.HttpRequest, caller: CallerIdentity, region: str, request_id: str
    ) -> _wire.HttpResponse:
        name = request.headers["x-amz-target"].rpartition(".")[2]
        if name != "LookupEvents":
            return self.cloudtrail.forward(request, name)
        document = _wire.read_document(request.body)
        return _wire.answer(self.cloudtrail.lookup_events(document, caller, region), request_id)

    def _identify(self, request: _wire.HttpRequest, credential: _signature.Credential) -> CallerIdentity:
        key = self._principals.key(credential.access_key_id)
        if key is None:
            if self._principals.any():
                raise _unknown_client()
            return self._principals.anybody(credential.access_key_id)
        if key.token is not None and request.headers.get("x-amz-security-token") != key.token:
            raise _unknown_client()
        _signature.verify(request, credential, key.secret, datetime.fromtimestamp(time.time(), UTC))
        if key.expires is not None and key.expires <= self._clock():
            raise ApiError("ExpiredTokenException", "The security token included in the request is expired")
        caller = self._principals.caller(key)
        if caller is None:
            raise _unknown_client()
        return caller


def _unknown_client() -> ApiError:
    return ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
