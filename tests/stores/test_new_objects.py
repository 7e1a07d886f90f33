"""What new objects get beside their bytes, who pays for the requests, and access points, over moto's server."""

from __future__ import annotations

import os
from typing import Any, Final, cast

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config

import sealwax
from sealwax.stores import open_store
from sealwax.stores.s3 import ObjectReader, ObjectWriter, S3Store, Service, _settings
from tests.s3 import REGION, StrictS3
from tests.stores.test_s3_store import ALPHAS, BETAS, CONTEXT, to_beta

MIB: Final = 1 << 20
BIG: Final = 17 * MIB
KEY: Final = f"arn:aws:kms:{REGION}:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
MINE: Final = f"arn:aws:s3:{REGION}:111122223333:accesspoint/mine"


def seal(name: str, size: int, session: Any = None, service: Service | None = None, **settings: Any) -> bytes:
    data = os.urandom(size)
    with (
        ObjectWriter(name, session, service=service, **settings) as target,
        ALPHAS.open(cast("Any", target), "wb", context=CONTEXT) as file,
    ):
        file.write(data)
    return data


def opened(name: str, session: Any, sealer: sealwax.Sealer = ALPHAS) -> bytes:
    with ObjectReader(name, session) as source, sealer.open(cast("Any", source), context=CONTEXT) as file:
        return file.read()


@pytest.mark.parametrize("size", [100, BIG])
def test_a_new_object_has_the_settings_and_a_rewrap_keeps_them(s3: StrictS3, size: int) -> None:
    tags = {"team": "a b=c+d /@", "empty": ""}
    data = seal(
        "s3://bucket/a", size, s3.session(), sse_kms_key_id=KEY, storage_class="STANDARD_IA", tags=tags, overwrite=False
    )
    assert ("CreateMultipartUpload" in s3.operations) == (size == BIG)
    client = s3.client()

    def check() -> None:
        head = client.head_object(Bucket="bucket", Key="a")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY)
        assert head["StorageClass"] == "STANDARD_IA"
        found = client.get_object_tagging(Bucket="bucket", Key="a")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in found} == tags

    check()
    open_store("s3://bucket/", s3.session()).rewrap("s3://bucket/a", to_beta)
    check()
    assert opened("s3://bucket/a", s3.session(), BETAS) == data


def test_settings_are_keywords_of_their_own(s3: StrictS3) -> None:
    seal("s3://bucket/a", 10, s3.session(), sse="AES256", settings={"ContentType": "text/plain"})
    head = s3.client().head_object(Bucket="bucket", Key="a")
    assert (head["ServerSideEncryption"], head["ContentType"]) == ("AES256", "text/plain")
    assert s3.requests[0].headers["x-amz-server-side-encryption"] == "AES256"
    assert "x-amz-tagging" not in s3.requests[0].headers


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"sse": "aes"}, "sse must be"),
        ({"sse": "AES256", "sse_kms_key_id": KEY}, "a key of its own"),
        ({"sse_kms_key_id": ""}, "must not be empty"),
        ({"storage_class": ""}, "must not be empty"),
        ({"tags": {str(number): "" for number in range(11)}}, "up to 10 tags, not 11"),
        ({"tags": {"": "x"}}, "needs a name"),
        ({"tags": {"AWS:x": "x"}}, "reserved"),
        ({"tags": {"n" * 129: "x"}}, "up to 128 characters, not 129"),
        ({"tags": {"\U0001d400" * 65: "x"}}, "up to 128 characters, not 130"),
        ({"tags": {"n": "v" * 257}}, "up to 256 characters, not 257"),
        ({"tags": {"n": "a\nb"}}, "can have letters"),
        ({"tags": {"n;": "a"}}, "can have letters"),
    ],
)
def test_what_s3_would_refuse_is_refused_before(s3: StrictS3, settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        ObjectWriter("s3://bucket/a", s3.session(), **settings)
    assert s3.operations == []


def test_the_longest_tags_are_accepted(s3: StrictS3) -> None:
    tags = {"n" * 128: "v" * 256, "ü日 _.:/=+-@": "ü日 _.:/=+-@1"} | {str(number): "" for number in range(8)}
    seal("s3://bucket/a", 10, s3.session(), tags=tags)
    found = s3.client().get_object_tagging(Bucket="bucket", Key="a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in found} == tags


def test_whoever_requests_pays_for_every_request(s3: StrictS3) -> None:
    service = Service(s3.session(), requester_pays=True)
    store = S3Store("s3://bucket/", service=service)
    for size in (100, BIG):
        seal("s3://bucket/a", size, service=service, overwrite=size == BIG)
        assert len(list(store.list())) == 1
        store.rewrap("s3://bucket/a", to_beta)
    with ObjectWriter("s3://bucket/b", service=service) as target:
        target.write(bytes(9 * MIB))
        target.discard()
    assert set(s3.operations) == {
        "HeadObject",
        "GetObject",
        "PutObject",
        "GetObjectTagging",
        "ListObjectsV2",
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
    }
    unpaid = [each.operation for each in s3.requests if each.headers.get("x-amz-request-payer") != "requester"]
    assert unpaid == []


def test_nobody_pays_unasked(s3: StrictS3) -> None:
    seal("s3://bucket/a", 100, s3.session())
    opened("s3://bucket/a", s3.session())
    assert not any("x-amz-request-payer" in request.headers for request in s3.requests)


class AccessPoints:
    """A session whose requests to the access point ``mine`` go to the server's bucket."""

    region_name = REGION

    def __init__(self, s3: StrictS3) -> None:
        self._s3 = s3
        self.urls: list[str] = []
        self.copied: list[str] = []

    def client(self, _service: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name=region_name or REGION)
        client = session.client("s3", config=config)
        client.meta.events.register("before-send.s3", self._redirect)
        return client

    def _redirect(self, request: AWSPreparedRequest, **_: Any) -> None:
        self.urls.append(request.url)
        host = f"https://mine-111122223333.s3-accesspoint.{REGION}.amazonaws.com"
        assert request.url.startswith(host), request.url
        request.url = f"{self._s3.url}/bucket{request.url.removeprefix(host)}"
        source: Any = request.headers.get("x-amz-copy-source")
        if source is not None:
            self.copied.append(source.decode())
            del request.headers["x-amz-copy-source"]
            request.headers["x-amz-copy-source"] = "bucket/" + source.decode().partition("/object/")[2]


@pytest.mark.parametrize("arn", [MINE, MINE.replace("accesspoint/", "accesspoint:")])
def test_an_access_point_is_used_by_its_arn(s3: StrictS3, arn: str) -> None:
    session = AccessPoints(s3)
    name = f"s3://{arn}/p//a b.swx"
    data = seal(name, BIG, session, overwrite=False)
    assert s3.client().head_object(Bucket="bucket", Key="p//a b.swx")["ContentLength"] > BIG
    store = open_store(f"s3://{arn}/p/", session)
    assert [cast("Any", entry).name for entry in store.list()] == [name]
    store.rewrap(name, to_beta)
    assert opened(name, session, BETAS) == data
    assert session.copied
    assert all(source.startswith("arn%3Aaws%3As3") for source in session.copied)
    with pytest.raises(sealwax.FileError, match="is not in"):
        store.open(f"s3://{arn}/other")


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3:::bucket",
        "arn:aws:s3:eu-west-1:1:accesspoint/mine",
        "arn:aws:s3:eu-west-1:111122223333:accesspoint/a_b",
        "arn:aws:s3-object-lambda:eu-west-1:111122223333:accesspoint/mine",
        "arn:aws:kms:eu-west-1:111122223333:key/1",
    ],
)
def test_no_other_arn_names_a_place(s3: StrictS3, arn: str) -> None:
    for use in (
        lambda: ObjectReader(f"s3://{arn}/key", s3.session()),
        lambda: open_store(f"s3://{arn}/", s3.session()),
    ):
        with pytest.raises(sealwax.StoreError, match="only an access point's"):
            use()
    with pytest.raises(sealwax.StoreError, match="such as s3://bucket/key"):
        ObjectReader(f"s3://{MINE}", s3.session())
    assert s3.operations == []


def test_a_multi_region_access_point_names_the_missing_package(s3: StrictS3) -> None:
    """The tests run without the AWS CRT; botocore itself notices."""
    with pytest.raises(sealwax.StoreError, match=r"needs the AWS CRT .*pip install 'botocore\[crt\]'"):
        ObjectReader("s3://arn:aws:s3::111122223333:accesspoint/abc.mrap/key", s3.session())
    with pytest.raises(sealwax.StoreError, match="does not fit the settings"):
        ObjectReader("s3://arn:aws-cn:s3:cn-north-1:111122223333:accesspoint/mine/key", s3.session())


def test_a_bucket_that_demands_something_says_so(s3: StrictS3) -> None:
    from tests.s3 import error

    said = "User: arn:aws:iam::1:user/u is not authorized ... with an explicit deny in a resource-based policy"
    with (
        s3.fault(lambda _: error(403, "AccessDenied", said)),
        pytest.raises(sealwax.StoreError, match="encryption at rest"),
    ):
        seal("s3://bucket/a", 10, s3.session())


def test_the_parameters_are_s3s() -> None:
    model: Any = boto3.client("s3", region_name=REGION).meta.service_model
    assert set(_settings.SSE) <= set(model.shape_for("ServerSideEncryption").enum)
    for operation in ("PutObject", "CreateMultipartUpload"):
        members = model.operation_model(operation).input_shape.members
        assert set(_settings.parameters("aws:kms", "k", "STANDARD", {"a": "b"})) <= set(members)
