"""The lab's one entrance behind both front doors: who signed the request, which service it is for, what comes back."""

from __future__ import annotations

from sealwax.lab import wire
from sealwax.lab.apierror import ApiError
from sealwax.lab.call import Request
from sealwax.lab.engine import Engine
from sealwax.lab.model import DEFAULT_ACCOUNT, root_of
from sealwax.lab.signature import read_credential

_KMS_TARGET = "TrentService."


class Gateway:
    """Answers HTTP requests."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def handle(self, request: wire.HttpRequest) -> wire.HttpResponse:
        """Answer one request; an error of the API is an answer too."""
        request_id = wire.new_request_id()
        try:
            credential = read_credential(request)
            target = request.headers.get("x-amz-target", "")
            if request.method != "POST" or not target.startswith(_KMS_TARGET):
                raise ApiError("UnknownOperationException", "")
            members = self._engine.serve(
                Request(
                    operation=target.removeprefix(_KMS_TARGET),
                    document=wire.read_document(request.body),
                    region=credential.region,
                    caller=root_of(DEFAULT_ACCOUNT, credential.access_key_id),
                    request_id=request_id,
                    source_ip=request.peer,
                    user_agent=request.headers.get("user-agent", ""),
                    secure=request.secure,
                )
            )
            return wire.answer(members, request_id)
        except ApiError as error:
            return wire.failure(error, request_id)
