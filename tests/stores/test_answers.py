"""What S3 and botocore answer has one table, and each row becomes one sentence."""

from __future__ import annotations

import inspect

import botocore.exceptions as foreign
import botocore.session
import pytest

import sealwax
from sealwax.stores.s3 import answers


def client_error(code: str, status: int = 400, message: str = "S3's words") -> foreign.ClientError:
    return foreign.ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"RequestId": "r-1", "HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "GetObject",
    )


@pytest.mark.parametrize("code", sorted(answers.CODES))
def test_every_row(code: str) -> None:
    error = answers.translate(client_error(code), "reading", "s3://bucket/a")
    why, todo, heals = answers.CODES[code]
    assert type(error) is sealwax.StoreError
    assert (error.code, error.request_id, error.heals) == (code, "r-1", heals)
    assert str(error) == f"reading 's3://bucket/a' failed: {why} ({code}, request id r-1: S3's words). {todo}"


def test_what_the_service_model_lists_for_our_requests_has_its_row() -> None:
    model = botocore.session.Session().get_service_model("s3")
    used = ("GetObject", "HeadObject", "PutObject", "ListObjectsV2", "AbortMultipartUpload", "GetObjectTagging",
            "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")  # fmt: skip
    listed = {shape.name for name in used for shape in model.operation_model(name).error_shapes}
    assert {"NoSuchKey", "NoSuchBucket", "InvalidObjectState", "NoSuchUpload"} <= listed
    # Of uploads that append, and of encryption that the request itself asks for: neither is ours.
    assert listed - set(answers.CODES) <= {"EncryptionTypeMismatch", "InvalidWriteOffset", "TooManyParts", "NotFound"}


@pytest.mark.parametrize(
    ("error", "said", "heals"),
    [
        (foreign.NoCredentialsError(), "no AWS credentials", False),
        (foreign.EndpointConnectionError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.ReadTimeoutError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.ConnectionClosedError(endpoint_url="https://s3"), "could not be reached", True),
        (foreign.SSLError(endpoint_url="https://s3", error=OSError("bad")), "could not be trusted", False),
        (foreign.IncompleteReadError(actual_bytes=1, expected_bytes=2), "broke off", True),
        (foreign.UnauthorizedSSOTokenError(), "expired", False),
        (foreign.ParamValidationError(report="bad"), "refused the request", False),
        (client_error("BrandNew", 503), "failed inside", True),
        (client_error("BrandNew", 400), "refused the request", False),
        (ValueError("Invalid endpoint"), "refused the request", False),
    ],
)
def test_other_errors(error: Exception, said: str, heals: bool) -> None:
    translated = answers.translate(error, "reading", "s3://bucket/a")
    assert said in str(translated)
    assert translated.heals is heals


def test_every_botocore_error_becomes_one() -> None:
    kinds = [
        kind for kind in vars(foreign).values() if inspect.isclass(kind) and issubclass(kind, foreign.BotoCoreError)
    ]
    assert len(kinds) >= 80
    for kind in kinds:
        if issubclass(kind, foreign.ConnectionError | foreign.HTTPClientError):
            assert any(issubclass(kind, known) for known, _ in answers.EXCEPTIONS), kind


def test_foreign_text_cannot_paint_the_terminal() -> None:
    error = answers.translate(
        client_error("Some", message="\x1b[31m\u202eevil\n" + "x" * 9999), "reading", "s3://b/\x1b"
    )
    assert str(error).isprintable()
    assert len(str(error)) < 1000
