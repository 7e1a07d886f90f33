"""The errors that the lab returns: KMS's codes, messages and HTTP statuses."""

from __future__ import annotations

_STATUS = {
    "KMSInternalException": 500,
    "InternalFailure": 500,
    "KeyUnavailableException": 500,
    "DependencyTimeoutException": 503,
    "ServiceUnavailableException": 503,
}


class ApiError(Exception):
    """An error response of the API.

    Attributes:
        code: AWS's error code, for instance ``NotFoundException``.
        message: AWS's message; empty if KMS has none.
        status: the HTTP status.
        reason: why access was denied, for the lab's trail only; the caller does not get it.
    """

    def __init__(self, code: str, message: str = "", *, status: int | None = None, reason: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status if status is not None else _STATUS.get(code, 400)
        self.reason = reason


def not_found(message: str) -> ApiError:
    """NotFoundException, for a key, alias or grant."""
    return ApiError("NotFoundException", message)


def validation(*problems: str) -> ApiError:
    """ValidationException for parameters out of the service model's bounds: AWS counts and lists the problems."""
    noun = "error" if len(problems) == 1 else "errors"
    return ApiError("ValidationException", f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")


def refused(message: str) -> ApiError:
    """ValidationException for parameters that do not fit together: without a count."""
    return ApiError("ValidationException", message)


def unsupported(message: str) -> ApiError:
    """UnsupportedOperationException, for an operation that the key or the lab does not support."""
    return ApiError("UnsupportedOperationException", message)


def bad_state(arn: str, state: str) -> ApiError:
    """KMSInvalidStateException, for a key whose state does not allow the operation."""
    return ApiError("KMSInvalidStateException", f"{arn} is {state}.")
