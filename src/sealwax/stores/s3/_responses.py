"""The one table that turns S3's errors, and botocore's about S3, into a ``StoreError``.

Errors about credentials become a ``CredentialsError``, as with KMS. Each row says why the request failed, what to do,
and whether a retry may succeed with nothing changed.
"""

from __future__ import annotations

from typing import Final

import botocore.exceptions as foreign
import urllib3.exceptions

from sealwax import errors
from sealwax._aws import meanings, refusals
from sealwax._text import printable

_Meaning = tuple[str, str, bool]

_CHANGED: Final = "the object was replaced or removed meanwhile", "Start again with the current object.", False
_CONFLICT: Final = "another write of the same object is in progress", "Try again in a moment.", True
_MISSING: Final = "there is no such object", "Check every character of the bucket and key.", False
_DENIED: Final = (
    "the caller is not allowed to",
    "Check the IAM and bucket policies, and the KMS key's. Without s3:ListBucket, S3 also denies missing objects.",
    False,
)
_DISABLED: Final = "the account or bucket is disabled", "Check the account's status with AWS.", False
_SLOW: Final = "S3 asks to slow down", "Try again later, or with fewer workers.", True
_FAILED: Final = "S3 had an internal error", "Try again in a moment.", True
_REGION: Final = "the bucket is in another Region", "Use the bucket's Region (AWS_DEFAULT_REGION).", False
_MOVING: Final = "the bucket is so new that not all of S3 knows it yet", "Try again later.", True
_ARCHIVED: Final = "the object is archived", "Restore it first ('aws s3api restore-object').", False
_DELETED: Final = (
    "S3 does not allow this here: it is a delete marker, or the endpoint does not accept writes",
    "Name an existing object, and check AWS_ENDPOINT_URL_S3.",
    False,
)
_LOGIN: Final = (
    "the AWS credentials have expired",
    "Sign in again; for single sign-on use 'aws sso login'.",
    False,
)
_CREDENTIALS: Final = (
    "AWS does not accept the credentials",
    "Check the access key, the profile and the clock.",
    False,
)
_CLOCK: Final = "this machine's clock is wrong", "Set it: S3 accepts a difference of up to 15 minutes.", False
_REQUEST: Final = "S3 refused the request", "Check the bucket, the key and the endpoint.", False
_CUSTOMER_KEY: Final = (
    "S3 refused the request",
    "Objects under a customer-provided key (SSE-C) cannot be used. Otherwise check the bucket and key.",
    False,
)
_NO_REASON: Final = (
    "S3 refused the request and gives no reason",
    "Check that the credentials have not expired, and the Region, bucket and key. Objects under SSE-C cannot be used.",
    False,
)
_GARBLED: Final = (
    "bytes were changed or lost on the way",
    "Try again; if it happens again, a proxy or the network changes the data.",
    True,
)
_STRIPPED: Final = (
    "a header of the request was lost on the way",
    "Check AWS_ENDPOINT_URL_S3 and any proxies.",
    False,
)
_PARTS: Final = "S3 does not have the uploaded parts", "Start again.", False
_FULL: Final = "the store is full", "Free some space, or request a larger quota.", False
_ACCESS_POINT: Final = "there is no such access point", "Check its alias or ARN.", False
_TOO_MUCH_METADATA: Final = "the object's metadata is too large", "S3 accepts up to 2 KB.", False
_NOT_IMPLEMENTED: Final = (
    "the store does not implement this request",
    "It is not AWS S3, or an old server; use another one.",
    False,
)
_UNCONDITIONAL: Final = (
    "the store does not support conditional writes (If-Match, If-None-Match)",
    "Without them, another program's object could be overwritten. Use AWS S3, or a newer server.",
    False,
)
_BROKEN: Final = "the connection to S3 broke off", "Try again.", True
_UNREACHABLE: Final = "S3 could not be reached", "Check the network, the Region and AWS_ENDPOINT_URL_S3.", True

# The response to HEAD has no body, so its code is a number.
CODES: Final[dict[str, _Meaning]] = {
    "NoSuchKey": _MISSING,
    "NoSuchVersion": _CHANGED,
    "404": _MISSING,
    "NoSuchBucket": ("there is no such bucket", "Check its name, and the endpoint.", False),
    "InvalidBucketName": ("the bucket name is not valid", "Check its spelling.", False),
    "KeyTooLongError": ("the key is too long", "S3 accepts up to 1024 bytes of UTF-8.", False),
    "NoSuchAccessPoint": _ACCESS_POINT,
    "InvalidAccessPoint": _ACCESS_POINT,
    "InvalidAccessPointAliasError": _ACCESS_POINT,
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "AllAccessDisabled": _DISABLED,
    "AccountProblem": _DISABLED,
    "NotSignedUp": _DISABLED,
    "MethodNotAllowed": _DELETED,
    "405": _DELETED,
    "PreconditionFailed": _CHANGED,
    "412": _CHANGED,
    "InvalidRange": _CHANGED,
    "416": _CHANGED,
    "ConditionalRequestConflict": _CONFLICT,
    "OperationAborted": _CONFLICT,
    "409": _CONFLICT,
    "NotImplemented": _NOT_IMPLEMENTED,
    "501": _NOT_IMPLEMENTED,
    "NoSuchUpload": ("the upload was aborted meanwhile", "Start again.", False),
    "InvalidPart": _PARTS,
    "InvalidPartOrder": _PARTS,
    "EntityTooLarge": ("the object is too large", "S3 accepts parts of up to 5 GiB.", False),
    "EntityTooSmall": (
        "the store does not accept parts as small as S3 does",
        "It is not AWS S3; use another one.",
        False,
    ),
    "InvalidStorageClass": ("the bucket does not accept this storage class", "Use another one.", False),
    "InvalidTag": ("S3 does not accept the tags", "Check their characters and lengths.", False),
    "MetadataTooLarge": _TOO_MUCH_METADATA,
    "RequestHeaderSectionTooLarge": _TOO_MUCH_METADATA,
    "BadDigest": _GARBLED,
    "InvalidDigest": _GARBLED,
    "XAmzContentSHA256Mismatch": _GARBLED,
    "XAmzContentChecksumMismatch": _GARBLED,
    "IncompleteBody": _GARBLED,
    "MissingContentLength": _STRIPPED,
    "MissingSecurityHeader": _STRIPPED,
    "SlowDown": _SLOW,
    "503": _SLOW,
    "429": _SLOW,
    "ServiceUnavailable": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "TooManyRequests": _SLOW,
    "TooManyRequestsException": _SLOW,
    "BandwidthLimitExceeded": _SLOW,
    "Throttling": _SLOW,
    "ThrottlingException": _SLOW,
    "InternalError": _FAILED,
    "500": _FAILED,
    "502": _FAILED,
    "504": _FAILED,
    "RequestTimeout": ("S3 waited too long for the rest of the request", "Try again; check the network.", True),
    "QuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "507": _FULL,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "308": _REGION,
    "TemporaryRedirect": _MOVING,
    "307": _MOVING,
    "InvalidObjectState": _ARCHIVED,
    "ObjectNotInActiveTierError": _ARCHIVED,
    "ExpiredToken": _LOGIN,
    "TokenRefreshRequired": _LOGIN,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidSecurity": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "401": _CREDENTIALS,
    "RequestTimeTooSkewed": _CLOCK,
    "InvalidRequest": _CUSTOMER_KEY,
    "400": _NO_REASON,
}
EXCEPTIONS: Final[tuple[tuple[type[Exception], _Meaning], ...]] = (
    (foreign.SSLError, ("the TLS connection to S3 could not be trusted", "Check proxies and AWS_CA_BUNDLE.", False)),
    (foreign.HTTPClientError, _UNREACHABLE),
    (foreign.ConnectionError, _UNREACHABLE),
    (foreign.IncompleteReadError, _BROKEN),
    (urllib3.exceptions.HTTPError, _BROKEN),
    (foreign.FlexibleChecksumError, _GARBLED),
    (
        foreign.MissingDependencyException,
        (
            "a Multi-Region Access Point needs the AWS CRT",
            "Install it with \"pip install 'botocore[crt]'\", or name one of its buckets.",
            False,
        ),
    ),
    (
        foreign.UnsupportedS3AccesspointConfigurationError,
        ("the access point does not fit the settings", "Check its ARN, the Region and AWS_ENDPOINT_URL_S3.", False),
    ),
    (
        foreign.ParamValidationError,
        ("the bucket or key name is not valid", "Check its spelling.", False),
    ),
)
_BUCKETS_KEY: Final = "Check that key and its policy. It is the bucket's (SSE-KMS), not a key that sealwax uses."
_BUCKET_DEMANDS: Final = "Check which encryption at rest (SSE), storage class or tags the bucket's policy requires."
# HTTP statuses that are temporary.
_TEMPORARY: Final = (429, 500, 502, 503, 504)
# Redirects that lead to login pages.
_NEVER_SENT: Final = (302, 303)
_NOT_S3: Final = "Check AWS_ENDPOINT_URL_S3, and whether a proxy or a login page answers instead."


def not_s3(doing: str, name: str) -> errors.StoreError:
    """Return the error for a response that is not from S3.

    Args:
        doing, name: as for ``translate``.
    """
    return errors.StoreError(f"{doing} '{printable(name)}' failed: the response is not from S3. {_NOT_S3}")


def changed(name: str, code: str = "PreconditionFailed") -> errors.StoreError:
    """Return the error for an object that has changed since it was opened.

    Args:
        name: as for ``translate``.
        code: S3's error code, or the one it should have sent.
    """
    why, todo, _ = _CHANGED
    return errors.StoreError(f"reading '{printable(name)}' failed: {why} ({code}). {todo}", code=code)


def not_the_part(name: str, why: str) -> errors.StoreError:
    """Return the error for bytes that are not the requested part of the object.

    Args:
        name: as for ``translate``.
        why: what arrived instead.
    """
    return errors.StoreError(
        f"reading '{printable(name)}' failed: {why}. The object may be intact: the store, or a proxy in front of it, "
        "does not send parts of objects as S3 does. Check AWS_ENDPOINT_URL_S3 and any proxies, or download the "
        "object another way and read the file."
    )


def translate(
    error: Exception, doing: str, name: str, *, conditional: bool = False
) -> errors.StoreError | errors.CredentialsError | errors.ConfigurationError:
    """Return sealwax's error for one of botocore's about S3.

    Args:
        doing: what was being done, as the subject of a sentence: ``"reading"``.
        name: the bucket or object, as ``s3://bucket/key``.
        conditional: whether it was a conditional write.
    """
    about = f"{doing} '{printable(name)}'"
    common = refusals.translate(error, about, None)
    if isinstance(common, errors.CredentialsError) and common.request_id is None:
        return common  # no request was sent
    if isinstance(common, errors.ConfigurationError) and isinstance(
        error, foreign.HTTPClientError | foreign.ConnectionError
    ):
        return common  # none can be sent, with that proxy or CA bundle
    code, request_id, said = type(error).__name__, None, str(error)
    if isinstance(error, foreign.ClientError):
        answer = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        code, said = str(answer.get("Code") or "unknown"), str(answer.get("Message") or "")
        request_id = metadata.get("RequestId")
        headless = error.operation_name.startswith("Head")
        why, todo, retryable = _meaning(code, said, metadata.get("HTTPStatusCode", 0), headless, conditional)
    else:
        why, todo, retryable = next(
            (meaning for kind, meaning in EXCEPTIONS if isinstance(error, kind)),
            next(
                (
                    (m.why.format(service="S3"), m.todo, m.retryable)
                    for kind, m in meanings.EXCEPTIONS
                    if isinstance(error, kind)
                ),
                _REQUEST,
            ),
        )
    if doing == "writing" and code == "AccessDenied" and "deny in a resource-based policy" in said:
        todo = _BUCKET_DEMANDS
    trace = ", ".join(part for part in (code, request_id and f"request id {request_id}") if part)
    aside = refusals.words_of(error).rstrip(".")
    message = f"{about} failed: {why} ({printable(trace[:500])}{': ' if aside else ''}{aside}). {todo}"
    if (why, todo, retryable) in (_LOGIN, _CREDENTIALS, _CLOCK):
        return errors.CredentialsError(message, code=code, request_id=request_id)
    return errors.StoreError(message, code=code, request_id=request_id, retryable=retryable)


def _meaning(code: str, said: str, status: int, bodiless: bool, conditional: bool) -> _Meaning:
    if conditional and (code == "NotImplemented" or status == 501):
        return _UNCONDITIONAL
    if (not bodiless or status in _NEVER_SENT) and code in ("unknown", str(status)) and status not in (412, 416, 501):
        # S3 gives its reason as XML, except for HEAD, whose responses have no body.
        return f"the response is HTTP status {status} without a reason from S3", _NOT_S3, status in _TEMPORARY
    if code.startswith("KMS."):
        known = meanings.CODES.get(code.removeprefix("KMS."))
        why, retryable = (f": {known.why.format(service='KMS')}", known.retryable) if known else ("", False)
        return f"S3 cannot use the KMS key that encrypts the object{why}", _BUCKETS_KEY, retryable
    if code == "AccessDenied" and "kms:" in said:
        return "access denied to the KMS key with which S3 encrypts the object", _BUCKETS_KEY, False
    if code == "AuthorizationHeaderMalformed" and "region" not in said.lower():
        return _CREDENTIALS
    return CODES.get(code, _SLOW if status == 429 else _FAILED if status in _TEMPORARY else _REQUEST)
