"""KMS itself, without a wire: answers one request with an answer or an error, and writes it to the trail."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from sealwax.lab import _api_model, _operations  # noqa: F401 - importing _operations registers the operations
from sealwax.lab._apierror import ApiError, unsupported
from sealwax.lab._authorize import Authorizer
from sealwax.lab._call import OPERATIONS, Call
from sealwax.lab._faults import Faults
from sealwax.lab._model import Answer, KmsRequest
from sealwax.lab._records import KeyRecords
from sealwax.lab._shapes import check
from sealwax.lab._trail import KMS_SOURCE, Trail, TrailEntry


class KmsEngine:
    """Runs operations.

    Args:
        blob_key: authenticates ciphertext blobs.
        clock: returns the time in Unix seconds.
    """

    def __init__(
        self,
        records: KeyRecords,
        trail: Trail,
        faults: Faults,
        *,
        blob_key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._trail = trail
        self._faults = faults
        self._authorizer = Authorizer(records)
        self._blob_key = blob_key
        self._clock = clock

    def serve(self, request: KmsRequest) -> Answer:
        """Answer a request.

        Returns:
            The members of the answer. The caller wipes a plaintext.

        Raises:
            ApiError: KMS's error.
            Dropped: the request gets no answer. It is not in the trail, since it did not reach KMS.
        """
        call: Call | None = None
        answer: Answer | None = None
        failure: ApiError | None = None
        now = self._clock()
        try:
            self._faults._apply(request.region, request.operation, request.caller.account)
            call = self._check(request, now)
            operation = OPERATIONS[request.operation]
            with self._records.change() if operation.writes else contextlib.nullcontext():
                answer = operation.handler(call)
            return answer
        except ApiError as error:
            failure = error
            raise
        finally:
            if answer is not None or failure is not None:
                self._trail._append(self._entry(request, call, answer, failure, now))

    def _check(self, request: KmsRequest, now: float) -> Call:
        if request.operation not in OPERATIONS:
            if request.operation in _api_model.operations():
                raise unsupported(f"The lab does not offer {request.operation}.")
            raise ApiError("UnknownOperationException", "")
        members = check(_api_model.parameters(request.operation), request.document)
        for token in members.get("GrantTokens", ()):
            if not self._records.find_grants("token=?", token):
                raise ApiError("InvalidGrantTokenException", "A grant token of the request is not valid.")
        return Call(request, members, self._records, self._authorizer, self._trail, self._faults, self._blob_key, now)

    @staticmethod
    def _entry(
        request: KmsRequest, call: Call | None, answer: Answer | None, failure: ApiError | None, now: float
    ) -> TrailEntry:
        operation = OPERATIONS.get(request.operation)
        reasons = [
            *(call.reasons if call is not None else ()),
            *([failure.reason] if failure and failure.reason else ()),
        ]
        return TrailEntry(
            source=KMS_SOURCE,
            name=request.operation,
            caller=request.caller,
            region=request.region,
            source_ip=request.source_ip,
            user_agent=request.user_agent,
            request_id=request.request_id,
            time=now,
            read_only=operation is not None and operation.read_only,
            members=call.members if call is not None else {},
            answer=answer,
            error=failure,
            resources=call.resources if call is not None else (),
            reason="; ".join(reasons) or None,
            uses_key=operation is not None and operation.uses_key,
        )
