"""What S3 and botocore answer has one table, and each row becomes one sentence."""

from __future__ import annotations

import inspect

import botocore.exceptions as foreign
import botocore.session
import pytest

import sealwax
from sealwax.cli import status_of
from sealwax.stores.s3 import _responses


def client_error(
    code: str, status: int = 400, message: str = "so it is said", operation: str = "GetObject"
) -> foreign.ClientError:
    return foreign.ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        operation,
    )


# Code, HTTP status, whether it retryable, why it is, and what to do.
TABLE = [
    ("NoSuchKey", 404, False, "there is no such object", "every character"),
    ("NoSuchBucket", 404, False, "there is no such bucket", "Check its name"),
    ("NoSuchVersion", 404, False, "replaced or removed", "Start again"),
    ("NoSuchUpload", 404, False, "the upload was aborted", "Start again"),
    ("NoSuchAccessPoint", 404, False, "no such access point", "Check its alias"),
    ("InvalidAccessPoint", 400, False, "no such access point", "Check its alias"),
    ("InvalidBucketName", 400, False, "bucket name is not valid", "Check its spelling"),
    ("KeyTooLongError", 400, False, "the key is too long", "1024 bytes"),
    ("AccessDenied", 403, False, "not allowed to", "Check the IAM and bucket policies"),
    ("AllAccessDisabled", 403, False, "account or bucket is disabled", "the account's status"),
    ("AccountProblem", 403, False, "account or bucket is disabled", "the account's status"),
    ("NotSignedUp", 403, False, "account or bucket is disabled", "the account's status"),
    ("MethodNotAllowed", 405, False, "a delete marker", "Name an existing object"),
    ("PreconditionFailed", 412, False, "replaced or removed", "Start again"),
    ("InvalidRange", 416, False, "replaced or removed", "Start again"),
    (
        "ConditionalRequestConflict",
        409,
        True,
        "another write of the same object is in progress",
        "Try again in a moment",
    ),
    ("OperationAborted", 409, True, "another write of the same object", "Try again in a moment"),
    ("NotImplemented", 501, False, "does not implement", "use another one"),
    ("InvalidPart", 400, False, "does not have the uploaded parts", "Start again"),
    ("InvalidPartOrder", 400, False, "does not have the uploaded parts", "Start again"),
    ("EntityTooLarge", 400, False, "too large", "up to 5 GiB"),
    ("EntityTooSmall", 400, False, "as small as S3 does", "It is not AWS S3"),
    ("MetadataTooLarge", 400, False, "metadata is too large", "up to 2 KB"),
    ("BadDigest", 400, True, "changed or lost on the way", "Try again"),
    ("InvalidDigest", 400, True, "changed or lost on the way", "Try again"),
    ("XAmzContentSHA256Mismatch", 400, True, "changed or lost on the way", "Try again"),
    ("XAmzContentChecksumMismatch", 400, True, "changed or lost on the way", "Try again"),
    ("IncompleteBody", 400, True, "changed or lost on the way", "Try again"),
    ("MissingContentLength", 411, False, "a header of the request was lost", "proxies"),
    ("MissingSecurityHeader", 400, False, "a header of the request was lost", "proxies"),
    ("SlowDown", 503, True, "slow down", "fewer workers"),
    ("ServiceUnavailable", 503, True, "slow down", "fewer workers"),
    ("TooManyRequests", 429, True, "slow down", "fewer workers"),
    ("BrandNewLimit", 429, True, "slow down", "fewer workers"),
    ("InternalError", 500, True, "internal error", "Try again"),
    ("BrandNewFailure", 503, True, "internal error", "Try again"),
    ("BrandNewFailure", 505, False, "refused the request", "Check the bucket"),
    ("RequestTimeout", 400, True, "waited too long", "check the network"),
    ("QuotaExceeded", 403, False, "the store is full", "Free some space"),
    ("InsufficientStorage", 507, False, "the store is full", "Free some space"),
    ("PermanentRedirect", 301, False, "in another Region", "(AWS_DEFAULT_REGION)"),
    ("IllegalLocationConstraintException", 400, False, "in another Region", "(AWS_DEFAULT_REGION)"),
    ("TemporaryRedirect", 307, True, "not all of S3 knows it yet", "Try again later"),
    ("InvalidObjectState", 403, False, "the object is archived", "restore-object"),
    ("ObjectNotInActiveTierError", 403, False, "the object is archived", "restore-object"),
    ("ExpiredToken", 400, False, "credentials have expired", "Sign in again"),
    ("TokenRefreshRequired", 400, False, "credentials have expired", "Sign in again"),
    ("InvalidAccessKeyId", 403, False, "does not accept the credentials", "Check the access key"),
    ("InvalidToken", 400, False, "does not accept the credentials", "Check the access key"),
    ("SignatureDoesNotMatch", 403, False, "does not accept the credentials", "Check the access key"),
    ("RequestTimeTooSkewed", 403, False, "clock is wrong", "up to 15 minutes"),
    ("InvalidRequest", 400, False, "refused the request", "SSE-C"),
    ("InvalidStorageClass", 400, False, "does not accept this storage class", "Use another one"),
    ("InvalidTag", 400, False, "does not accept the tags", "characters and lengths"),
    ("KMS.DisabledException", 400, False, "encrypts the object: the key is disabled", "the bucket's (SSE-KMS)"),
    ("KMS.NotFoundException", 400, False, "encrypts the object: there is no such key", "the bucket's (SSE-KMS)"),
    ("KMS.KMSInvalidStateException", 400, False, "the key's state does not allow it", "the bucket's (SSE-KMS)"),
    ("KMS.ThrottlingException", 400, True, "encrypts the object: KMS is throttling", "the bucket's (SSE-KMS)"),
    ("KMS.BrandNewException", 400, False, "S3 cannot use the KMS key", "the bucket's (SSE-KMS)"),
    ("BrandNew", 400, False, "S3 refused the request", "Check the bucket"),
]


@pytest.mark.parametrize(("code", "status", "retryable", "why", "todo"), TABLE)
def test_a_code_and_its_sentence(code: str, status: int, retryable: bool, why: str, todo: str) -> None:
    error = _responses.translate(client_error(code, status), "reading", "s3://bucket/a")
    of_credentials = "Sign in" in todo or "Check the access key" in todo or "clock" in why
    assert type(error) is (sealwax.CredentialsError if of_credentials else sealwax.StoreError)
    assert (error.code, error.request_id, error.retryable) == (code, "r-1", retryable)
    message = str(error)
    assert message.startswith("reading 's3://bucket/a' failed: ")
    assert f"({code}, request id r-1: so it is said). " in message
    first, second = message.split(f" ({code}, ")
    assert why in first
    assert todo in second
    assert status_of(error) == (7 if of_credentials else 1)
    # To try again is advised where that may help, and nowhere else.
    assert retryable is ("Try again" in message) or code.startswith("KMS.")


def test_every_code_of_the_table_is_in_that_table() -> None:
    named = {code for code, *_ in TABLE}
    others = {"InvalidAccessPointAliasError", "RequestHeaderSectionTooLarge", "RequestLimitExceeded", "Throttling",
              "ThrottlingException", "TooManyRequestsException", "BandwidthLimitExceeded", "InvalidSecurity",
              "AuthorizationHeaderMalformed"}  # fmt: skip
    assert {code for code in _responses.CODES if not code.isdigit()} - named == others


# S3's answers to HEAD have no body: their code is the HTTP status.
BODILESS = [
    (301, False, "in another Region"),
    (307, True, "not all of S3 knows it yet"),
    (400, False, "Check that the credentials have not expired"),
    (401, False, "does not accept the credentials"),
    (403, False, "not allowed to"),
    (404, False, "there is no such object"),
    (405, False, "a delete marker"),
    (409, True, "another write"),
    (412, False, "replaced or removed"),
    (416, False, "replaced or removed"),
    (418, False, "refused the request"),
    (429, True, "slow down"),
    (500, True, "internal error"),
    (501, False, "does not implement"),
    (302, False, "without a reason from S3"),
    (303, False, "without a reason from S3"),
    (502, True, "internal error"),
    (503, True, "slow down"),
    (504, True, "internal error"),
    (507, False, "is full"),
]


@pytest.mark.parametrize(("status", "retryable", "said"), BODILESS)
def test_an_answer_to_head(status: int, retryable: bool, said: str) -> None:
    error = _responses.translate(client_error(str(status), status, operation="HeadObject"), "reading", "s3://bucket/a")
    assert said in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize("code", ["", "{status}"])
@pytest.mark.parametrize(("status", "retryable"), [(302, False), (400, False), (403, False), (404, False), (502, True)])
def test_an_answer_to_anything_else_without_a_reason_is_not_s3s(code: str, status: int, retryable: bool) -> None:
    found = client_error(code.format(status=status), status, "", operation="ListObjectsV2")
    error = _responses.translate(found, "listing", "s3://bucket/")
    assert f"the response is HTTP status {status} without a reason from S3" in str(error)
    assert "AWS_ENDPOINT_URL_S3" in str(error)
    assert error.retryable is retryable


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("AccessDenied", "User: x is not authorized to perform: kms:Decrypt on resource: y", "the bucket's (SSE-KMS)"),
        ("AccessDenied", "User: x is not authorized to perform: s3:GetObject", "Check the IAM and bucket policies"),
        ("AuthorizationHeaderMalformed", "the region 'x' is wrong; expecting 'y'", "(AWS_DEFAULT_REGION)"),
        ("AuthorizationHeaderMalformed", "a non-empty Access Key (AKID) must be provided", "Check the access key"),
    ],
)
def test_one_code_with_two_meanings(code: str, message: str, said: str) -> None:
    assert said in str(_responses.translate(client_error(code, 403, message), "reading", "s3://bucket/a"))


def test_a_write_under_a_condition_that_the_store_does_not_know() -> None:
    for code in ("NotImplemented", "501"):
        error = _responses.translate(client_error(code, 501), "writing", "s3://bucket/a", conditional=True)
        assert "the store does not support conditional writes (If-Match, If-None-Match)" in str(error)
        assert not error.retryable
        assert "again" not in str(error)


def test_what_the_service_model_lists_for_our_requests_has_its_row() -> None:
    model = botocore.session.Session().get_service_model("s3")
    used = ("GetObject", "HeadObject", "PutObject", "ListObjectsV2", "AbortMultipartUpload", "GetObjectTagging",
            "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")  # fmt: skip
    listed = {shape.name for name in used for shape in model.operation_model(name).error_shapes}
    assert {"NoSuchKey", "NoSuchBucket", "InvalidObjectState", "NoSuchUpload"} <= listed
    # Of uploads that append, and of encryption that the request itself asks for: neither is ours.
    assert listed - set(_responses.CODES) <= {
        "EncryptionTypeMismatch",
        "InvalidWriteOffset",
        "TooManyParts",
        "NotFound",
    }


@pytest.mark.parametrize(
    ("error", "said", "retryable"),
    [
        (foreign.NoCredentialsError(), "no AWS credentials", False),
        (foreign.EndpointConnectionError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.ReadTimeoutError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.ConnectionClosedError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.SSLError(endpoint_url="https://s3", error=OSError("bad")), "could not be trusted", False),
        (foreign.IncompleteReadError(actual_bytes=1, expected_bytes=2), "broke off", True),
        (foreign.UnauthorizedSSOTokenError(), "expired", False),
        (foreign.ParamValidationError(report="bad"), "is not valid", False),
        (foreign.FlexibleChecksumError(error_msg="bad"), "changed or lost on the way", True),
        (foreign.ResponseStreamingError(error="bad"), "could not be reached", True),
        (client_error("BrandNew", 503), "internal error", True),
        (client_error("BrandNew", 400), "refused the request", False),
        (ValueError("Invalid endpoint"), "refused the request", False),
    ],
)
def test_other_errors(error: Exception, said: str, retryable: bool) -> None:
    translated = _responses.translate(error, "reading", "s3://bucket/a")
    assert said in str(translated)
    assert translated.retryable is retryable


def test_every_botocore_error_becomes_one() -> None:
    kinds = [
        kind for kind in vars(foreign).values() if inspect.isclass(kind) and issubclass(kind, foreign.BotoCoreError)
    ]
    assert len(kinds) >= 80
    for kind in kinds:
        if issubclass(kind, foreign.ConnectionError | foreign.HTTPClientError):
            assert any(issubclass(kind, known) for known, _ in _responses.EXCEPTIONS), kind


def test_foreign_text_cannot_paint_the_terminal() -> None:
    error = _responses.translate(
        client_error("Some", message="\x1b[31m\u202eevil\n" + "x" * 9999), "reading", "s3://b/\x1b"
    )
    assert str(error).isprintable()
    assert len(str(error)) < 1000
