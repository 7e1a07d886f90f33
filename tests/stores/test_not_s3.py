"""Something on the way answers instead of S3, with a 200: it is one sentence, and nothing counts as done."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import sealwax
from sealwax.stores import open_store
from sealwax.stores.s3 import ObjectReader, ObjectWriter
from tests.fakes import ALPHA, BETA, FakeKeyring
from tests.s3 import Answer, Fault, Request, StrictS3

CONTEXT = {"purpose": "backup"}
SEALER = sealwax.Sealer(FakeKeyring(ALPHA, BETA))
HTML = b"<html><body>Please log in</body></html>"
BODIES = {
    "html": HTML,
    "not xml": b"<!doctype html><p>Please log in",
    "empty": b"",
    "of other fields": b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Size>1</Size></Contents>"
    b"</ListBucketResult>",
}
LARGE = 9 << 20


def answering(operation: str, body: bytes) -> Fault:
    def fault(request: Request) -> Answer | None:
        return (200, [("Content-Type", "text/html")], body) if request.operation == operation else None

    return fault


def put(s3: StrictS3, key: str, size: int) -> None:
    with (
        ObjectWriter(f"s3://bucket/{key}", s3.session(), settings={"Tagging": "a=b"}) as target,
        SEALER.open(target, "wb", context=CONTEXT) as file,
    ):
        file.write(os.urandom(size))


def read(s3: StrictS3) -> None:
    with ObjectReader("s3://bucket/large", s3.session()) as file:
        file.read()


def listing(s3: StrictS3) -> None:
    list(open_store("s3://bucket/", s3.session()).list())


def rewrap(s3: StrictS3) -> None:
    rewrapper = SEALER.rewrapper(to=[BETA], context=CONTEXT)
    open_store("s3://bucket/", s3.session()).rewrap("s3://bucket/large", rewrapper)


ACTS: dict[str, Callable[[StrictS3], None]] = {
    "GetObject": read,
    "ListObjectsV2": listing,
    "PutObject": lambda s3: put(s3, "new", 5),
    "CreateMultipartUpload": lambda s3: put(s3, "new", LARGE),
    "UploadPart": lambda s3: put(s3, "new", LARGE),
    "CompleteMultipartUpload": lambda s3: put(s3, "new", LARGE),
    "UploadPartCopy": rewrap,
    "HeadObject": rewrap,
    "GetObjectTagging": rewrap,
}


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.mark.parametrize("operation", ACTS)
def test_one_sentence_and_nothing_done(operation: str, s3: StrictS3) -> None:
    put(s3, "large", LARGE)
    client = s3.client()
    before = client.head_object(Bucket="bucket", Key="large")["ETag"]
    s3.forget()
    with (
        s3.fault(answering(operation, HTML)),
        pytest.raises(sealwax.StoreError, match=r"the response is not from S3\. Check AWS_ENDPOINT_URL_S3"),
    ):
        ACTS[operation](s3)
    assert operation in s3.operations
    found = {each["Key"]: each["ETag"] for each in client.list_objects_v2(Bucket="bucket")["Contents"]}
    assert found == {"large": before}


@pytest.mark.parametrize("body", BODIES)
def test_a_listing_that_is_none_is_not_an_empty_one(body: str, s3: StrictS3) -> None:
    with (
        s3.fault(answering("ListObjectsV2", BODIES[body])),
        pytest.raises(
            sealwax.StoreError, match=r"^listing 's3://bucket/' failed: the response is (not from S3|HTTP status 500)"
        ),
    ):
        listing(s3)


@pytest.mark.parametrize("token", ["", "<NextContinuationToken></NextContinuationToken>"])
def test_a_listing_that_ends_in_the_middle_is_not_a_whole_one(token: str, s3: StrictS3) -> None:
    """It says that there is more, and not how to ask for it."""
    body = (
        "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a</Key><Size>1</Size><ETag>e</ETag>"
        f"<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>{token}</ListBucketResult>"
    )
    with (
        s3.fault(answering("ListObjectsV2", body.encode())),
        pytest.raises(sealwax.StoreError, match="the response is not from S3"),
    ):
        listing(s3)


def test_a_listing_that_goes_in_a_circle(s3: StrictS3) -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"</ListBucketResult>"
    )
    with (
        s3.fault(answering("ListObjectsV2", body)),
        pytest.raises(sealwax.StoreError, match="the response is not from S3"),
    ):
        listing(s3)
