"""The one table that turns S3's and botocore's errors about S3 into :class:`~sealwax.StoreError`.

Each row says why it failed, what to do, and whether a later try may succeed with nothing changed.
"""

from __future__ import annotations

from typing import Final

import botocore.exceptions as foreign

from sealwax import aws, errors
from sealwax.context import printable

_CHANGED: Final = "the object was replaced or removed meanwhile", "Begin again with what stands there now.", False
_MISSING: Final = "there is no such object", "Check the bucket and the key, every character of it.", False
_DENIED: Final = (
    "the caller is not allowed to",
    "Check the IAM and bucket policies, and the KMS key's. Without s3:ListBucket, what is not there is denied.",
    False,
)
_SLOW: Final = "S3 asks to slow down", "Try again more slowly, or with fewer workers.", True
_FAILED: Final = "S3 failed inside", "Try again in a moment.", True
_REGION: Final = "the bucket is in another Region", "Name its Region in AWS_REGION or with --region.", False
_ARCHIVED: Final = "the object is archived", "Restore it first ('aws s3api restore-object').", False
_LOGIN: Final = (
    "the AWS credentials are expired",
    "Sign in again, for single sign-on with 'aws sso login'.",
    False,
)
_CREDENTIALS: Final = (
    "AWS does not accept the credentials",
    "Check the access key, the profile and the clock.",
    False,
)
_REQUEST: Final = "S3 refused the request", "Check the bucket, the key and the endpoint.", False
_CUSTOMER_KEY: Final = (
    "S3 refused the request",
    "An object under a customer-provided key (SSE-C) cannot be used here; otherwise check the bucket and the key.",
    False,
)

# The answer to HEAD has no body, and so a number for a code.
CODES: Final[dict[str, tuple[str, str, bool]]] = {
    "NoSuchKey": _MISSING,
    "NoSuchVersion": _CHANGED,
    "404": _MISSING,
    "NoSuchBucket": ("there is no such bucket", "Check its name, and that the endpoint is the one meant.", False),
    "InvalidBucketName": ("that is no bucket's name", "Check how it is written.", False),
    "KeyTooLongError": ("the key is too long", "A key has at most 1024 bytes in UTF-8.", False),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "MethodNotAllowed": ("what stands there is a delete marker", "Name an object that is there.", False),
    "PreconditionFailed": _CHANGED,
    "412": _CHANGED,
    "ConditionalRequestConflict": _CHANGED,
    "NoSuchUpload": ("the upload has been aborted meanwhile", "Begin again.", False),
    "EntityTooLarge": ("the object is too large", "S3 takes parts of at most 5 GiB.", False),
    "SlowDown": _SLOW,
    "503": _SLOW,
    "ServiceUnavailable": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "Throttling": _SLOW,
    "InternalError": _FAILED,
    "OperationAborted": _FAILED,
    "RequestTimeout": _FAILED,
    "500": _FAILED,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "TemporaryRedirect": _REGION,
    "301": _REGION,
    "InvalidObjectState": _ARCHIVED,
    "ExpiredToken": _LOGIN,
    "TokenRefreshRequired": _LOGIN,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "RequestTimeTooSkewed": _CREDENTIALS,
    "InvalidRequest": _CUSTOMER_KEY,
    "400": _CUSTOMER_KEY,
}
EXCEPTIONS: Final[tuple[tuple[type[Exception], tuple[str, str, bool]], ...]] = (
    (
        foreign.NoCredentialsError,
        (
            "there are no AWS credentials",
            "Sign in ('aws sso login', 'aws configure') or set a profile; --lab is for KMS and not for S3.",
            False,
        ),
    ),
    (foreign.SSLError, ("the TLS connection to S3 could not be trusted", "Check proxies and AWS_CA_BUNDLE.", False)),
    (
        foreign.HTTPClientError,
        ("S3 could not be reached", "Check the network, the Region and AWS_ENDPOINT_URL_S3.", True),
    ),
    (
        foreign.ConnectionError,
        ("S3 could not be reached", "Check the network, the Region and AWS_ENDPOINT_URL_S3.", True),
    ),
    (foreign.IncompleteReadError, ("the connection to S3 broke off", "Try again.", True)),
    (foreign.ParamValidationError, _REQUEST),
)


def not_s3(doing: str, name: str) -> errors.StoreError:
    """Return the error for an answer that is none of S3's.

    Args:
        doing, name: as for :func:`translate`.
    """
    return errors.StoreError(
        f"{doing} '{printable(name)}' failed: the answer is none of S3's. Check AWS_ENDPOINT_URL_S3, and what stands "
        "between here and there: a proxy, or a page that wants a login."
    )


def translate(error: Exception, doing: str, name: str) -> errors.StoreError:
    """Return sealwax's error for one of botocore's about S3.

    Args:
        doing: as the subject of a sentence: ``"reading"``.
        name: the bucket or object, as ``s3://bucket/key``.
    """
    code, request_id, said = type(error).__name__, None, str(error)
    if isinstance(error, foreign.ClientError):
        answer = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        code, said = answer.get("Code") or "unknown", answer.get("Message") or ""
        request_id = metadata.get("RequestId")
        fallback = _FAILED if metadata.get("HTTPStatusCode", 0) >= 500 else _REQUEST
        why, todo, heals = CODES.get(code, fallback)
    else:
        why, todo, heals = next(
            (meaning for kind, meaning in EXCEPTIONS if isinstance(error, kind)),
            next(((m.why, m.todo, m.heals) for kind, m in aws.EXCEPTIONS if isinstance(error, kind)), _REQUEST),
        )
    trace = ", ".join(part for part in (code, request_id and f"request id {request_id}") if part)
    aside = printable(said[:500]).rstrip(".")
    message = f"{doing} '{printable(name)}' failed: {why} ({trace}{': ' if aside else ''}{aside}). {todo}"
    return errors.StoreError(message, code=code, request_id=request_id, heals=heals)
