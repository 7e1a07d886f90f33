"""--sse, --sse-kms-key-id, --storage-class, --tag and --requester-pays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from sealwax.cli import objects
from tests.cli.conftest import PURPOSE, K, Run
from tests.s3 import REGION, Request, StrictS3, error

SSE = ("--sse", "aws:kms", "--sse-kms-key-id", "alias/bucket", "--storage-class", "STANDARD_IA")
TAGS = ("--tag", "team=db", "--tag", "note=a=b c")


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    with StrictS3() as server:
        yield server


@pytest.fixture
def s3(server: StrictS3, here: Path, monkeypatch: pytest.MonkeyPatch) -> StrictS3:
    server.bucket()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    (here / "a.txt").write_bytes(b"text\n")
    return server


def settings_of(s3: StrictS3, key: str) -> tuple[Any, ...]:
    head = s3.client().head_object(Bucket="bucket", Key=key)
    tags = s3.client().get_object_tagging(Bucket="bucket", Key=key)["TagSet"]
    fields = (head.get(name) for name in ("ServerSideEncryption", "SSEKMSKeyId", "StorageClass"))
    return (*fields, {tag["Key"]: tag["Value"] for tag in tags})


SET = ("aws:kms", "alias/bucket", "STANDARD_IA", {"team": "db", "note": "a=b c"})


def test_every_verb_that_writes_objects_gives_them_their_settings(s3: StrictS3, run: Run, here: Path) -> None:
    def refuse_bare(request: Request) -> Any:
        """The bucket demands an SSE header, as many do."""
        writes = request.operation in ("PutObject", "CreateMultipartUpload")
        return error(403, "AccessDenied") if writes and "x-amz-server-side-encryption" not in request.headers else None

    (here / "big.bin").write_bytes(bytes(9 << 20))
    with s3.fault(refuse_bare):
        assert run("encrypt", *K, *PURPOSE, "-o", "s3://bucket/no.swx", "a.txt") == 1
        for name in ("a.txt", "big.bin"):
            assert run("encrypt", *K, *PURPOSE, *SSE, *TAGS, "-o", f"s3://bucket/{name}.swx", name) == 0
        source = "s3://bucket/a.txt.swx"
        assert run("decrypt", *K, *PURPOSE, *SSE, *TAGS, "-o", "s3://bucket/a.txt", source) == 0
        both = ("--to", "alias/demo2", *K, *PURPOSE)
        assert run("rewrap", *both, *SSE, *TAGS, "-o", "s3://bucket/new.swx", source) == 0
        assert run("reencrypt", *both, *SSE, *TAGS, "-o", "s3://bucket/newer.swx", source) == 0
        assert run("rewrap", *both, source) == 0
        assert run("encrypt", *K, *PURPOSE, *SSE, *TAGS, "-o", "p.swx", "--detached", "s3://bucket/h.swx", "a.txt") == 0
        (here / "tree").mkdir()
        (here / "tree/one").write_bytes(b"1")
        assert run("encrypt", "-r", *K, *PURPOSE, *SSE, *TAGS, "-o", "s3://bucket/tree", "tree") == 0
    listed = [each["Key"] for each in s3.client().list_objects_v2(Bucket="bucket")["Contents"]]
    assert listed == [
        "a.txt",
        "a.txt.swx",
        "big.bin.swx",
        "h.swx",
        "new.swx",
        "newer.swx",
        "tree/one.swx",
    ]
    for key in listed:
        assert settings_of(s3, key) == SET, key
    assert "sealwax-source-time" in s3.client().head_object(Bucket="bucket", Key="a.txt.swx")["Metadata"]


def test_a_key_means_kms(s3: StrictS3, run: Run) -> None:
    arguments = ("--sse-kms-key-id", "alias/bucket", "-o", "s3://bucket/a.swx", "a.txt")
    assert run("encrypt", *K, *PURPOSE, *arguments) == 0
    assert settings_of(s3, "a.swx")[:2] == ("aws:kms", "alias/bucket")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("encrypt", *SSE, "a.txt"), "nothing is written to S3, so --sse, --sse-kms-key-id and --storage-class cannot"),
        (("encrypt", "--tag", "a=b", "-o", "-", "a.txt"), "so --tag cannot be used"),
        (("decrypt", "--tag", "a=b", "-o", "x", "s3://bucket/a.swx"), "nothing is written to S3"),
        (("rewrap", "--to", "alias/demo2", "--tag", "a=b", "a.swx"), "nothing is written to S3"),
        (("rewrap", "--to", "alias/demo2", "--tag", "a=b", "s3://bucket/a.swx"), "keeps its settings and tags"),
        (("reencrypt", "--to", "alias/demo2", "--tag", "a=b", "s3://bucket/a.swx"), "keeps its settings and tags"),
        (("verify", "--requester-pays", "a.swx"), "--requester-pays is for S3"),
        (("encrypt", "--sse", "none", "-o", "s3://bucket/a.swx", "a.txt"), "aws:kms"),
        (("encrypt", "--sse", "AES256", "--sse-kms-key-id", "k", "-o", "s3://bucket/a", "a.txt"), "a key of its own"),
        (("encrypt", "--sse-kms-key-id", "", "-o", "s3://bucket/a.swx", "a.txt"), "is empty"),
        (("encrypt", "--storage-class", "COLD", "-o", "s3://bucket/a.swx", "a.txt"), "STANDARD_IA"),
        (("encrypt", "--tag", "x", "-o", "s3://bucket/a.swx", "a.txt"), "--tag takes NAME=VALUE, not 'x'"),
        (("encrypt", "--tag", "=x", "-o", "s3://bucket/a.swx", "a.txt"), "--tag takes NAME=VALUE"),
        (("encrypt", "--tag", "a=\x1b[m", "-o", "s3://bucket/a.swx", "a.txt"), "--tag: names and values can have"),
        (("encrypt", "--tag", "a=1", "--tag", "a=2", "-o", "s3://bucket/a.swx", "a.txt"), "given twice"),
        (
            ("encrypt", *(f"--tag=t{number}=" for number in range(11)), "-o", "s3://bucket/a.swx", "a.txt"),
            "--tag: an object can have up to 10 tags, not 11",
        ),
    ],
)
def test_wrong_use_is_refused_before_anything_is_sent(
    s3: StrictS3, run: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], fragment: str
) -> None:
    assert run(arguments[0], *K, *PURPOSE, *arguments[1:]) == 2
    assert fragment in " ".join(capsys.readouterr().err.split())
    assert s3.operations == []


def test_whoever_requests_pays(s3: StrictS3, run: Run) -> None:
    place = "s3://bucket/p/a.swx"
    for verb, *arguments in (
        ("encrypt", "-o", place, "a.txt"),
        ("verify", place),
        ("verify", "-r", "s3://bucket/p/"),
        ("decrypt", "-o", "b.txt", place),
        ("rewrap", "--to", "alias/demo2", place),
        ("reencrypt", "-k", "alias/demo2", "--to", "alias/demo", place),
    ):
        assert run(verb, *K, *PURPOSE, "--requester-pays", *arguments) == 0, verb
    assert run("inspect", "--requester-pays", place) == 0
    assert "ListObjectsV2" in s3.operations
    assert [each for each in s3.requests if each.headers.get("x-amz-request-payer") != "requester"] == []


def test_access_points_are_places() -> None:
    from sealwax.cli import locations

    arn = "s3://arn:aws:s3:us-east-1:111122223333:accesspoint/mine"
    assert [locations.is_prefix(f"{arn}{rest}") for rest in ("", "/", "/a/", "/a")] == [True, True, True, False]


def test_the_storage_classes_are_s3s() -> None:
    model: Any = boto3.client("s3", region_name=REGION).meta.service_model
    assert set(objects.STORAGE_CLASSES) < set(model.shape_for("StorageClass").enum)
