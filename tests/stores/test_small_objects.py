"""A small object in S3, of a size that a listing has shown, is re-wrapped by three requests: read, tags, write.

All that stands beside the bytes comes with them; what the listing said of the size is a hint and no more.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest

import sealwax
from sealwax import fleet
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax.lab import Lab
from sealwax.stores import Entry
from sealwax.stores.s3 import S3Store, _replace
from tests.fakes import ALPHA, BETA, FakeKeyring, unwrap, wrap
from tests.s3 import Answer, Fault, Request, StrictS3, error

MIB = 1 << 20
CONTEXT = {"purpose": "backup"}
ALPHAS = sealwax.Sealer(FakeKeyring(ALPHA))
BETAS = sealwax.Sealer(FakeKeyring(BETA))
HEADER = len(ALPHAS.encrypt(b"", context=CONTEXT)) - 72
AT_ONCE = ["GetObject", "GetObjectTagging", "PutObject"]
SEALED = ALPHAS.encrypt(b"data", context=CONTEXT)


def to_beta(header: Header, _: Any) -> tuple[WrappedKey, ...]:
    return (wrap(BETA, unwrap(header.slot.wrapped_keys[0], CONTEXT), CONTEXT),)


@dataclass
class Bucket:
    """A bucket with one object, behind one client for all tests: to make one costs more than all that is asked here."""

    server: StrictS3
    client: Any
    store: S3Store

    def put(self, sealed: bytes = SEALED, **settings: Any) -> None:
        self.client.put_object(Bucket="bucket", Key="a", Body=sealed, **settings)
        self.server.forget()

    def rewrap(self, size: int | None = len(SEALED)) -> None:
        self.store.rewrap("s3://bucket/a", to_beta, size=size)

    def stored(self) -> bytes:
        body: bytes = self.client.get_object(Bucket="bucket", Key="a")["Body"].read()
        return body

    @property
    def operations(self) -> list[str]:
        return self.server.operations

    @property
    def requests(self) -> list[Request]:
        return self.server.requests


@pytest.fixture(scope="module")
def made(server: StrictS3) -> Bucket:
    return Bucket(server, server.client(), S3Store("s3://bucket/", server.session()))


@pytest.fixture
def s3(made: Bucket) -> Bucket:
    made.server.reset()
    made.client.create_bucket(Bucket="bucket")
    made.server.forget()
    return made


def answer(body: bytes = SEALED, checksum: int | None = None, **more: str) -> Answer:
    """Return S3's answer to a GET of the whole object.

    Args:
        checksum: of which bytes, if not of these.
        more: further headers, with _ for -.
    """
    fields = {
        "ETag": '"e"',
        "Content-Length": str(len(body)),
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "x-amz-request-id": "R1",
        "x-amz-checksum-crc32": b64encode((zlib.crc32(body) if checksum is None else checksum).to_bytes(4)).decode(),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return 200, list(fields.items()), body


@contextmanager
def answering(s3: Bucket, *fates: Answer | str | None) -> Iterator[list[Request]]:
    """Let the first GETs of an object be answered so, and the object be one that may be replaced."""
    left = list(fates)

    def fault(request: Request) -> Answer | str | None:
        if request.operation == "GetObject" and left:
            return left.pop(0)
        if request.operation == "PutObject":
            return 200, [("ETag", '"f"'), ("x-amz-request-id", "R1"), ("Content-Length", "0")], b""
        return None

    with s3.server.fault(fault):
        yield s3.requests


@pytest.mark.parametrize(
    ("size", "at_once"), [(HEADER + 72, True), (16 * 1024 + 100, True), (5 * MIB, True), (5 * MIB + 1, False)]
)
def test_up_to_5_mib_there_is_one_reading(s3: Bucket, size: int, at_once: bool) -> None:
    data = bytes(sealwax._core.format.payload.plaintext_size(size - HEADER))
    s3.put(ALPHAS.encrypt(data, context=CONTEXT))
    (entry,) = s3.store.list()
    assert isinstance(entry, Entry)
    assert entry.size == size
    s3.server.forget()
    s3.store.rewrap(entry.name, to_beta, size=entry.size)
    if at_once:
        assert s3.operations == AT_ONCE
        assert "range" not in s3.requests[0].headers
        assert s3.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"
    else:
        assert {"HeadObject", "UploadPartCopy"} < set(s3.operations)
        assert "range" in s3.requests[0].headers
    assert BETAS.decrypt(s3.stored(), context=CONTEXT) == data


def test_where_the_size_is_not_known_a_beginning_is_read(s3: Bucket) -> None:
    s3.put()
    s3.rewrap(None)
    assert s3.operations == ["GetObject", "HeadObject", "GetObjectTagging", "PutObject"]
    assert "range" in s3.requests[0].headers


def test_get_tells_all_that_head_does() -> None:
    model = botocore.session.get_session().get_service_model("s3")
    shapes: list[Any] = [model.operation_model(name).output_shape for name in ("GetObject", "HeadObject")]
    get, head = (set(shape.members) for shape in shapes)
    assert {*_replace._KEPT, "MissingMeta", *(f"Checksum{each}" for each in _replace._CHECKSUMS)} <= get & head


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_what_stands_beside_the_bytes_is_kept(s3: Bucket, algorithm: str) -> None:
    given: dict[str, Any] = {
        "Metadata": {"owner": "ops", "note": "=?UTF-8?B?w7w=?="},
        "ContentType": "application/x-sealed",
        "ContentDisposition": "attachment",
        "ContentLanguage": "de",
        "CacheControl": "no-store",
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": ALPHA,
    }
    s3.put(**given, BucketKeyEnabled=True, Tagging="team=a%2Bb%3Dc+d&tier=1", ChecksumAlgorithm=algorithm)
    s3.rewrap()
    assert s3.operations == AT_ONCE
    found = s3.client.head_object(Bucket="bucket", Key="a")
    assert {name: found[name] for name in given} == given
    tags = s3.client.get_object_tagging(Bucket="bucket", Key="a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "a+b=c d", "tier": "1"}
    written = s3.requests[2].headers
    assert written["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert written["x-amz-sdk-checksum-algorithm"] == algorithm
    assert written["if-match"]


def test_checksums_are_asked_for_whatever_the_environment_says(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(ChecksumAlgorithm="SHA256")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    S3Store("s3://bucket/", s3.server.session()).rewrap("s3://bucket/a", to_beta, size=len(SEALED))
    assert s3.requests[2].headers["x-amz-sdk-checksum-algorithm"] == "SHA256"


@pytest.mark.parametrize("days", [-1, 1])
def test_a_lock_is_kept_while_it_lasts(s3: Bucket, days: int) -> None:
    s3.put()
    until = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lock: dict[str, Any] = {
        "x_amz_object_lock_mode": "GOVERNANCE",
        "x_amz_object_lock_retain_until_date": until,
        "x_amz_object_lock_legal_hold": "ON",
    }
    with answering(s3, answer(**lock)) as requests:
        s3.rewrap()
    written = requests[-1].headers
    assert written["if-match"] == '"e"'
    assert written["x-amz-object-lock-legal-hold"] == "ON"
    assert written.get("x-amz-object-lock-mode") == ("GOVERNANCE" if days > 0 else None)
    assert ("x-amz-object-lock-retain-until-date" in written) == (days > 0)


def test_metadata_that_s3_does_not_give_out_are_not_lost(s3: Bucket) -> None:
    s3.put()
    with answering(s3, answer(x_amz_missing_meta="1")), pytest.raises(sealwax.StoreError, match="left alone"):
        s3.rewrap()
    assert s3.stored() == SEALED


def test_tags_that_may_not_be_read_are_not_lost(s3: Bucket) -> None:
    s3.put(Tagging="a=b")
    with (
        s3.server.fault(
            lambda request: error(403, "AccessDenied") if request.operation == "GetObjectTagging" else None
        ),
        pytest.raises(sealwax.StoreError, match="tags"),
    ):
        s3.rewrap()
    assert s3.stored() == SEALED


@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_an_object_that_has_grown_since_is_not_read_whole(s3: Bucket, size: int) -> None:
    data = bytes(6 * MIB)
    s3.put(ALPHAS.encrypt(data, context=CONTEXT))
    s3.rewrap(size)
    assert "UploadPartCopy" in s3.operations
    assert "HeadObject" not in s3.operations
    readings = [request.headers.get("range") for request in s3.requests if request.operation == "GetObject"]
    assert [range_ and range_.partition("-")[0] for range_ in readings] == [None, "bytes=16384"]
    assert BETAS.decrypt(s3.stored(), context=CONTEXT) == data


@pytest.mark.parametrize(
    "now", [b"", b"something else", SEALED[:-1], SEALED[:100]], ids=["empty", "other", "cut off", "cut off early"]
)
@pytest.mark.parametrize("said", [len(SEALED), None, 10 * MIB])
def test_another_object_is_judged_as_it_is_now(s3: Bucket, now: bytes, said: int | None) -> None:
    """The same outcome, whatever a listing said."""
    s3.put(now)
    if now == SEALED[:-1]:  # the payload is not looked at
        s3.rewrap(said)
        assert len(s3.stored()) == len(now)
        return
    with pytest.raises(sealwax.HeaderError):
        s3.rewrap(said)
    assert s3.stored() == now


@pytest.mark.parametrize("way", ["replaced", "removed"])
@pytest.mark.parametrize("before", ["GetObjectTagging", "PutObject"])
def test_a_change_after_the_reading_is_never_overwritten(s3: Bucket, way: str, before: str) -> None:
    s3.put()
    done: list[bool] = []

    def change(request: Request) -> None:
        if request.operation == before and not done:
            done.append(True)
            if way == "replaced":
                s3.client.put_object(Bucket="bucket", Key="a", Body=b"theirs")
            else:
                s3.client.delete_object(Bucket="bucket", Key="a")

    with s3.server.fault(change), pytest.raises(sealwax.RewrapConflictError, match="left alone"):
        s3.rewrap()
    assert done
    if way == "replaced":
        assert s3.stored() == b"theirs"
    else:
        assert list(s3.store.list()) == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "InvalidObjectState", "the object is archived"),
        (403, "AccessDenied", "not allowed"),
        (404, "NoSuchKey", "there is no such object"),
        (503, "SlowDown", "slow down"),
    ],
)
def test_a_refused_reading_has_its_own_sentence(s3: Bucket, status: int, code: str, said: str) -> None:
    s3.put()
    told = []
    for size in (len(SEALED), None):
        with (
            s3.server.fault(lambda request: error(status, code) if request.operation == "GetObject" else None),
            pytest.raises(sealwax.SealwaxError, match=said) as caught,
        ):
            s3.rewrap(size)
        told.append((type(caught.value), str(caught.value)))
    assert told[0] == told[1]
    assert s3.stored() == SEALED


def test_bits_that_flip_on_the_way_are_noticed(s3: Bucket) -> None:
    s3.put()
    flipped = SEALED[:-1] + bytes([SEALED[-1] ^ 1])
    with answering(s3, answer(flipped, zlib.crc32(SEALED)), None) as requests:
        s3.rewrap()
    assert [request.operation for request in requests] == ["GetObject", *AT_ONCE]
    with (
        answering(s3, *[answer(flipped, zlib.crc32(SEALED))] * 4),
        pytest.raises(sealwax.StoreError, match="bytes were changed or lost on the way") as caught,
    ):
        s3.rewrap()
    assert caught.value.retryable


def test_a_connection_that_breaks_in_the_middle(s3: Bucket) -> None:
    s3.put()
    cuts: list[Fault] = [lambda request: "cut" if request.operation == "GetObject" else None]

    def once(request: Request) -> Any:
        return cuts.pop()(request) if cuts else None

    with s3.server.fault(once):
        s3.rewrap()
    assert s3.operations == ["GetObject", *AT_ONCE]
    assert BETAS.decrypt(s3.stored(), context=CONTEXT) == b"data"


def test_a_part_that_nobody_asked_for_is_completed(s3: Bucket) -> None:
    """A proxy may send what it has of the object; what is written is all of it."""
    s3.put(SEALED)
    _, headers, _ = answer(SEALED[:100], ETag=s3.client.head_object(Bucket="bucket", Key="a")["ETag"])
    s3.server.forget()
    part = (206, [*headers[:4], ("Content-Range", f"bytes 0-99/{len(SEALED)}")], SEALED[:100])

    def once(request: Request) -> Answer | None:
        return part if request.operation == "GetObject" and len(s3.requests) == 1 else None

    with s3.server.fault(once):
        s3.rewrap()
    assert s3.operations == ["GetObject", *AT_ONCE]
    assert BETAS.decrypt(s3.stored(), context=CONTEXT) == b"data"


def test_a_fleets_small_objects_are_read_once(s3: Bucket, tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        old, new = (lab.create_key()["Arn"] for _ in range(2))
        session = lab.session()
        sealer = sealwax.Sealer(sealwax.KmsKeyring(old, session=session))
        for at in range(3):
            s3.client.put_object(Bucket="bucket", Key=f"{at}", Body=sealer.encrypt(b"data", context=CONTEXT))
        here: dict[str, Any] = {"open_location": lambda _: s3.store, "session": session}
        contexts = fleet.Contexts(tuple(CONTEXT.items()))
        fleet.plan(tmp_path / "plan", ["s3://bucket/"], sources=[old], to=[new], contexts=contexts, **here)
        s3.server.forget()
        assert fleet.run(tmp_path / "plan", **here).rewrapped == 3
    assert sorted(s3.operations) == sorted(AT_ONCE * 3)
