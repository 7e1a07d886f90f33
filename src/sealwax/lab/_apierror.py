"""The errors that the lab answers with: KMS's own codes, sentences and HTTP statuses."""

from __future__ import annotations

_STATUS = {
    "KMSInternalException": 500,
    "InternalFailure": 500,
    "KeyUnavailableException": 500,
    "DependencyTimeoutException": 503,
    "ServiceUnavailableException": 503,
}


class ApiError(Exception):
    """An answer of the API that is an error.

    Attributes:
        code: the error code as AWS spells it, for instance ``NotFoundException``.
        message: AWS's sentence; empty where KMS gives none.
        status: the HTTP status.
        reason: why access was denied, for the lab's own trail; never sent to the caller.
    """

    def __init__(self, code: str, message: str = "", *, status: int | None = None, reason: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status if status is not None else _STATUS.get(code, 400)
        self.reason = reason


def not_found(message: str) -> ApiError:
    """A key, alias or grant that does not exist in the caller's account and Region."""
    return ApiError("NotFoundException", message)


def validation(*problems: str) -> ApiError:
    """A request whose parameters break the service model's bounds; AWS counts the problems and lists them all."""
    noun = "error" if len(problems) == 1 else "errors"
    return ApiError("ValidationException", f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")


def refused(message: str) -> ApiError:
    """A request that is well formed and still makes no sense (AWS uses ValidationException without a count)."""
    return ApiError("ValidationException", message)


def unsupported(message: str) -> ApiError:
    """An operation that does not apply to this kind of key, or that the lab does not offer."""
    return ApiError("UnsupportedOperationException", message)


def bad_state(arn: str, state: str) -> ApiError:
    """The key's state does not allow the operation."""
    return ApiError("KMSInvalidStateException", f"{arn} is {state}.")
