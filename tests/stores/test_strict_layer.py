"""The layer before moto refuses what it is there to refuse, lets the rest pass, and counts."""

from __future__ import annotations

import os
from typing import Any

import botocore.exceptions
import pytest

from tests.s3 import StrictS3, error

FIVE_MIB = 5 << 20


def refused(operation: Any, **parameters: Any) -> str:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        operation(Bucket="bucket", **parameters)
    return str(caught.value.response["Error"]["Code"])


def upload(client: Any, key: str, body: bytes) -> dict[str, Any]:
    upload_id = client.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
    part = client.upload_part(Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=1, Body=body)
    return {
        "Key": key,
        "UploadId": upload_id,
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]},
    }


@pytest.mark.parametrize("key", ["a", "a b/+%/ü?", "//x//"])
def test_completing_with_a_wrong_condition(s3: StrictS3, key: str) -> None:
    client = s3.client()
    assert refused(client.complete_multipart_upload, **upload(client, key, b"x"), IfMatch='"0"') == "NoSuchKey"
    etag = client.put_object(Bucket="bucket", Key=key, Body=b"x")["ETag"]
    ready = upload(client, key, b"y")
    assert refused(client.complete_multipart_upload, **ready, IfMatch='"0"') == "PreconditionFailed"
    assert refused(client.complete_multipart_upload, **ready, IfNoneMatch="*") == "PreconditionFailed"
    assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == b"x"
    client.complete_multipart_upload(Bucket="bucket", **ready, IfMatch=etag)
    assert client.get_object(Bucket="bucket", Key=key)["Body"].read() == b"y"


def test_putting_with_a_wrong_condition(s3: StrictS3) -> None:
    client = s3.client()
    assert refused(client.put_object, Key="a", Body=b"", IfMatch='"0"') == "NoSuchKey"
    etag = client.put_object(Bucket="bucket", Key="a", Body=b"x", IfNoneMatch="*")["ETag"]
    assert refused(client.put_object, Key="a", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
    assert refused(client.put_object, Key="a", Body=b"", IfMatch='"0"') == "PreconditionFailed"
    client.put_object(Bucket="bucket", Key="a", Body=b"y", IfMatch=etag)


@pytest.mark.parametrize(("size", "code"), [(FIVE_MIB, "InvalidRequest"), (FIVE_MIB + 1, None)])
def test_copying_a_range(s3: StrictS3, size: int, code: str | None) -> None:
    client = s3.client()
    etag = client.put_object(Bucket="bucket", Key="ü a", Body=os.urandom(size))["ETag"]
    upload_id = client.create_multipart_upload(Bucket="bucket", Key="b")["UploadId"]
    copy = {
        "Key": "b",
        "UploadId": upload_id,
        "PartNumber": 1,
        "CopySource": {"Bucket": "bucket", "Key": "ü a"},
        "CopySourceRange": "bytes=1-99",
    }
    if code:
        assert refused(client.upload_part_copy, **copy, CopySourceIfMatch=etag) == code
    else:
        client.upload_part_copy(Bucket="bucket", **copy, CopySourceIfMatch=etag)
    assert refused(client.upload_part_copy, **copy, CopySourceIfMatch='"0"') == "PreconditionFailed"
    if not code:
        copy["CopySourceRange"] = f"bytes=1-{size}"
        assert refused(client.upload_part_copy, **copy) == "InvalidArgument"


def test_it_counts(s3: StrictS3) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="a", Body=bytes(1000))
    client.get_object(Bucket="bucket", Key="a", Range="bytes=0-99")["Body"].read()
    client.head_object(Bucket="bucket", Key="a")
    assert s3.operations == ["PutObject", "GetObject", "HeadObject"]
    assert (s3.received, s3.sent) == (1000, 100)


def test_faults(s3: StrictS3) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="a", Body=bytes(100_000))
    with s3.fault(lambda request: error(503, "SlowDown") if request.operation == "GetObject" else None):
        assert refused(client.get_object, Key="a") == "SlowDown"
    with s3.fault(lambda _: "cut"), pytest.raises(botocore.exceptions.BotoCoreError):
        client.get_object(Bucket="bucket", Key="a")["Body"].read()
    assert len(client.get_object(Bucket="bucket", Key="a")["Body"].read()) == 100_000
