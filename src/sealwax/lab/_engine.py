"""The engine: one checked request in, one answer or one error out, and one entry in the trail."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sealwax.lab import _operations  # noqa: F401 - the import registers the operations
from sealwax.lab._api_model import SURFACE, UNSUPPORTED
from sealwax.lab._apierror import ApiError, unsupported
from sealwax.lab._authorize import Authorizer
from sealwax.lab._call import OPERATIONS, Call, Request
from sealwax.lab._faults import Faults
from sealwax.lab._records import Records
from sealwax.lab._shapes import check
from sealwax.lab._trail import KMS_SOURCE, Entry, Trail


class Engine:
    """KMS itself, without a wire.

    Args:
        blob_key: the key of the seals on ciphertext blobs.
        clock: the time in Unix seconds.
    """

    def __init__(
        self, records: Records, trail: Trail, faults: Faults, *, blob_key: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._records = records
        self._trail = trail
        self._faults = faults
        self._authorizer = Authorizer()
        self._blob_key = blob_key
        self._clock = clock

    def serve(self, request: Request) -> dict[str, Any]:
        """Answer a request.

        Returns:
            The members of the answer: blobs as bytes, a plaintext as a bytearray that the caller wipes, times as Unix
            seconds.

        Raises:
            ApiError: what KMS answers instead.
            Dropped: nothing is to be answered; it leaves no trace in the trail, since KMS has not seen it.
        """
        call: Call | None = None
        answer: dict[str, Any] | None = None
        failure: ApiError | None = None
        now = self._clock()
        try:
            self._faults.meet(request.region, request.operation, request.caller.account)
            call = self._check(request, now)
            chosen = OPERATIONS[request.operation]
            if chosen.writes:
                with self._records.change():
                    answer = chosen.handler(call)
            else:
                answer = chosen.handler(call)
            return answer
        except ApiError as error:
            failure = error
            raise
        finally:
            if answer is not None or failure is not None:
                self._trail.append(self._entry(request, call, answer, failure, now))

    def _check(self, request: Request, now: float) -> Call:
        if request.operation in UNSUPPORTED:
            raise unsupported(f"The lab does not offer {request.operation}: it has symmetric encryption keys only")
        if request.operation not in OPERATIONS:
            raise ApiError("UnknownOperationException", "")
        members = check(SURFACE[request.operation], request.document)
        for token in members.get("GrantTokens", ()):
            if not self._records.find_grants("token=?", token):
                raise ApiError("InvalidGrantTokenException", "A grant token of the request is not valid.")
        return Call(request, members, self._records, self._authorizer, self._trail, self._faults, self._blob_key, now)

    @staticmethod
    def _entry(
        request: Request, call: Call | None, answer: dict[str, Any] | None, failure: ApiError | None, now: float
    ) -> Entry:
        chosen = OPERATIONS.get(request.operation)
        reasons = list(call.reasons) if call is not None else []
        if failure is not None and failure.reason is not None:
            reasons.append(failure.reason)
        return Entry(
            source=KMS_SOURCE,
            name=request.operation,
            caller=request.caller,
            region=request.region,
            source_ip=request.source_ip,
            user_agent=request.user_agent,
            request_id=request.request_id,
            time=now,
            read_only=chosen is not None and chosen.read_only,
            members=call.members if call is not None else {},
            answer=answer,
            error=failure,
            resources=call.resources if call is not None else (),
            reason="; ".join(reasons) or None,
            uses_key=chosen is not None and chosen.uses_key,
        )
