"""S3 as a store: re-wraps move next to nothing, keep what stands beside the bytes, and never overwrite a change."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax._core.envelope import inspect as inspect_envelope
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax._core.rewrap import rewrap_value
from sealwax.stores import Entry, Store, open_store
from sealwax.stores.s3 import ObjectReader, ObjectWriter
from tests.fakes import ALPHA, BETA, FakeKeyring, unwrap, wrap
from tests.s3 import Request, StrictS3, error

CONTEXT = {"purpose": "backup"}
MIB = 1 << 20
ALPHAS = sealwax.Sealer(FakeKeyring(ALPHA))
BETAS = sealwax.Sealer(FakeKeyring(BETA))
ODD_KEYS = [
    "a",
    "a b",
    "a+b",
    "100%",
    "a%20b",
    "q?x=1#y",
    "/lead",
    "two//three",
    "folder/",
    "ü/日本/🙂",
    "&<>'\"",
    "\x01~",
]


def to_beta(header: Header, _: Any) -> tuple[WrappedKey, ...]:
    return (wrap(BETA, unwrap(header.slot.wrapped_keys[0], CONTEXT), CONTEXT),)


def place(s3: StrictS3, key: str, size: int, **settings: Any) -> bytes:
    """Seal ``size`` bytes of noise under ALPHA at a key; return them."""
    data = os.urandom(size)
    with (
        ObjectWriter(f"s3://bucket/{key}", s3.session(), settings=settings) as target,
        ALPHAS.open(target, "wb", context=CONTEXT) as file,
    ):
        file.write(data)
    s3.forget()
    return data


def read(s3: StrictS3, key: str, sealer: sealwax.Sealer = BETAS) -> bytes:
    with ObjectReader(f"s3://bucket/{key}", s3.session()) as source, sealer.open(source, context=CONTEXT) as file:
        return file.read()


def store(s3: StrictS3, prefix: str = "") -> Store:
    return open_store(f"s3://bucket/{prefix}", s3.session())


def uploads(s3: StrictS3) -> list[Any]:
    found: list[Any] = s3.client().list_multipart_uploads(Bucket="bucket").get("Uploads", [])
    return found


# --- listing and names


def test_a_listing_goes_on_over_pages(s3: StrictS3) -> None:
    client = s3.client()
    s3.page_size = 3
    for number in range(8):
        client.put_object(Bucket="bucket", Key=f"p/{number:04}", Body=b"x")
    client.put_object(Bucket="bucket", Key="q", Body=b"")
    found = [entry for entry in store(s3, "p/").list() if isinstance(entry, Entry)]
    assert [entry.name for entry in found] == [f"s3://bucket/p/{number:04}" for number in range(8)]
    assert found[0].size == 1
    assert s3.operations.count("ListObjectsV2") == 3


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_names(s3: StrictS3, key: str) -> None:
    data = place(s3, key, 100)
    (entry,) = store(s3).list()
    assert isinstance(entry, Entry)
    assert entry.name == f"s3://bucket/{key}"
    store(s3).rewrap(entry.name, to_beta)
    assert read(s3, key) == data


@pytest.mark.parametrize(
    "name",
    [
        "s3://",
        "s3:///x",
        "s3://bucket",
        "s3://bucket/",
        "s3://bucket/a/../b",
        "s3://bucket/.",
        "s3://bucket/" + "x" * 1025,
        "s3://bucket/\udcff",
        "bucket/x",
        "",
    ],
)
def test_what_is_no_name(s3: StrictS3, name: str) -> None:
    with pytest.raises(sealwax.StoreError, match=r"not an S3 object name|cannot be requested"):
        ObjectReader(name, s3.session())
    assert s3.operations == []


def test_a_name_leads_nowhere_else(s3: StrictS3) -> None:
    for name in ("s3://bucket/other", "s3://else/p/x", "/etc/hostname"):
        for use in (store(s3, "p/").inspect, store(s3, "p/").open, lambda name: store(s3, "p/").rewrap(name, to_beta)):
            with pytest.raises(sealwax.StoreError):
                use(name)
    assert s3.operations == []


def test_what_is_no_envelope(s3: StrictS3) -> None:
    client = s3.client()
    client.put_object(Bucket="bucket", Key="empty", Body=b"")
    client.put_object(Bucket="bucket", Key="foreign", Body=os.urandom(MIB))
    client.put_object(Bucket="bucket", Key="cut", Body=ALPHAS.encrypt(b"x", context=CONTEXT)[:100])
    s3.forget()
    for key, kind in (
        ("empty", sealwax.NotAnEnvelopeError),
        ("foreign", sealwax.NotAnEnvelopeError),
        ("cut", sealwax.DamagedHeaderError),
    ):
        with pytest.raises(kind):
            store(s3).inspect(f"s3://bucket/{key}")
        with pytest.raises(kind):
            store(s3).rewrap(f"s3://bucket/{key}", to_beta)
    assert s3.sent < 3 * 2 * 20_000
    assert "PutObject" not in s3.operations


def test_a_header_is_read_by_one_request(s3: StrictS3) -> None:
    place(s3, "a", MIB)
    assert store(s3).inspect("s3://bucket/a").plaintext_bytes == MIB
    assert s3.operations == ["GetObject"]
    assert s3.sent <= 1 << 14
    # Sixteen keys in each of two slots are a large header: one more request.
    arns = [f"{ALPHA[:-2]}{number:02}" for number in range(16)]
    many = sealwax.Sealer(FakeKeyring(*arns, also_store=()))
    big = many.encrypt(b"x", context={f"name-{number}": "v" * 200 for number in range(30)})
    found = inspect_envelope(big)
    s3.client().put_object(Bucket="bucket", Key="large", Body=big.ljust(len(big) + 20_000))
    s3.forget()
    assert store(s3).inspect("s3://bucket/large").header == found.header
    assert s3.operations in (["GetObject"], ["GetObject", "GetObject"])


# --- re-wrapping

HEADER = len(ALPHAS.encrypt(b"", context=CONTEXT)) - 72


def plain_size(envelope_size: int) -> int:
    """Return the plaintext whose envelope of one slot has so many bytes."""
    from sealwax._core.format import payload

    return payload.plaintext_size(envelope_size - HEADER)


@pytest.mark.parametrize(
    ("size", "way"),
    [(HEADER + 72, "put"), (5 * MIB - 1, "put"), (5 * MIB, "put"), (5 * MIB + 1, "copy")],
)  # fmt: skip
def test_the_border_between_the_two_ways(s3: StrictS3, size: int, way: str) -> None:
    data = place(s3, "a", plain_size(size))
    (entry,) = store(s3).list()
    assert isinstance(entry, Entry)
    assert entry.size == size
    s3.forget()
    store(s3).rewrap(entry.name, to_beta)
    assert ("UploadPartCopy" in s3.operations) == (way == "copy")
    assert ("PutObject" in s3.operations) == (way == "put")
    assert read(s3, "a") == data
    assert uploads(s3) == []


@pytest.mark.parametrize("more", [0, 1])
def test_a_header_that_grows_over_the_border(s3: StrictS3, more: int) -> None:
    """The source may be too small to copy a range of, while the new object is large; and the other way round."""
    data = place(s3, "a", plain_size(5 * MIB + more))
    longer, shorter = ALPHA + "-longer" * 20, "arn:short"
    for arn in (longer, shorter):

        def change(header: Header, _: Any, arn: str = arn) -> tuple[WrappedKey, ...]:
            return (wrap(arn, unwrap(header.slot.wrapped_keys[0], CONTEXT), CONTEXT),)

        store(s3).rewrap("s3://bucket/a", change)
        assert read(s3, "a", sealwax.Sealer(FakeKeyring(arn))) == data


def test_100_mib_move_less_than_6_each_way(s3: StrictS3) -> None:
    data = place(s3, "a", 100 * MIB)
    store(s3).rewrap("s3://bucket/a", to_beta)
    assert 5 * MIB <= s3.received < 6 * MIB
    assert s3.sent < 6 * MIB
    assert read(s3, "a") == data


def test_two_slots_stay_two_slots_and_new_objects_have_one(s3: StrictS3, tmp_path: Any) -> None:
    place(s3, "new", 2 * MIB)
    assert store(s3).inspect("s3://bucket/new").header.preamble.slot_count == 1
    with ALPHAS.open(tmp_path / "a.swx", "wb", context=CONTEXT) as file:
        file.write(bytes(2 * MIB))
    s3.client().put_object(Bucket="bucket", Key="a", Body=(tmp_path / "a.swx").read_bytes())
    store(s3).rewrap("s3://bucket/a", to_beta)
    header = store(s3).inspect("s3://bucket/a").header
    assert header.preamble.slot_count == 2
    assert header.finished
    assert read(s3, "a") == bytes(2 * MIB)


def test_a_detached_header_is_an_object_of_its_own(s3: StrictS3) -> None:
    header, body = ALPHAS.encrypt_detached(b"data", context=CONTEXT)
    client = s3.client()
    client.put_object(Bucket="bucket", Key="body", Body=body)
    client.put_object(Bucket="bucket", Key="header", Body=header)
    store(s3).rewrap("s3://bucket/header", to_beta)
    new = client.get_object(Bucket="bucket", Key="header")["Body"].read()
    assert BETAS.decrypt(body, context=CONTEXT, header=new) == b"data"


@pytest.mark.parametrize(("size", "algorithm"), [(100, "CRC32"), (100, "SHA256"), (6 * MIB, "SHA256")])
def test_what_stands_beside_the_bytes_is_kept(s3: StrictS3, size: int, algorithm: str) -> None:
    given = {
        "Metadata": {"owner": "ops", "note": "=?UTF-8?B?w7w=?="},
        "ContentType": "application/x-sealed",
        "ContentDisposition": "attachment",
        "CacheControl": "no-store",
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": ALPHA,
    }
    place(s3, "a", size, **given, BucketKeyEnabled=True, Tagging="team=a%2Bb%3Dc+d&tier=1", ChecksumAlgorithm=algorithm)
    before = s3.client().head_object(Bucket="bucket", Key="a")
    s3.forget()
    store(s3).rewrap("s3://bucket/a", to_beta)
    answer = s3.client().head_object(Bucket="bucket", Key="a")
    for name, value in given.items():
        assert answer[name] == before[name] == value, name
    tags = s3.client().get_object_tagging(Bucket="bucket", Key="a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "a+b=c d", "tier": "1"}
    (made,) = [each for each in s3.requests if each.operation in ("PutObject", "CreateMultipartUpload")]
    assert made.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    if size == 100:  # moto tells the algorithm of what was put whole only
        assert made.headers["x-amz-sdk-checksum-algorithm"] == algorithm


def test_a_bucket_that_keeps_versions(s3: StrictS3) -> None:
    client = s3.bucket(versioned=True)
    data = place(s3, "a", 6 * MIB)
    with ObjectReader("s3://bucket/a", s3.session()) as opened:
        store(s3).rewrap("s3://bucket/a", to_beta)
        assert read(s3, "a") == data
        # The old version is there, and still opens with the old key; who has it open reads on in it.
        (old,) = [each for each in client.list_object_versions(Bucket="bucket")["Versions"] if not each["IsLatest"]]
        with ALPHAS.open(opened, context=CONTEXT) as file:
            assert file.read() == data
    body = client.get_object(Bucket="bucket", Key="a", VersionId=old["VersionId"])["Body"].read()
    assert ALPHAS.decrypt(body, context=CONTEXT) == data


# --- a change meanwhile


def replaced_at(s3: StrictS3, operation: str) -> Callable[[Request], None]:
    """Return a fault: somebody puts another object there just before the request is answered."""
    done: list[bool] = []

    def fault(request: Request) -> None:
        if request.operation == operation and not done:
            done.append(True)
            s3.client().put_object(Bucket="bucket", Key="a", Body=b"theirs")

    return fault


@pytest.mark.parametrize(
    ("size", "operation", "way"),
    [
        (100, "HeadObject", "replaced"),
        (100, "PutObject", "replaced"),
        (100, "PutObject", "removed"),
        (6 * MIB, "UploadPartCopy", "replaced"),
        (6 * MIB, "CompleteMultipartUpload", "replaced"),
        (6 * MIB, "CompleteMultipartUpload", "removed"),
    ],
)
def test_a_change_meanwhile_is_never_overwritten(s3: StrictS3, size: int, operation: str, way: str) -> None:
    place(s3, "a", size)
    done: list[bool] = []

    def fault(request: Request) -> None:
        if request.operation == operation and not done:
            done.append(True)
            if way == "replaced":
                s3.client().put_object(Bucket="bucket", Key="a", Body=b"theirs")
            else:
                s3.client().delete_object(Bucket="bucket", Key="a")

    with s3.fault(fault), pytest.raises(sealwax.RewrapConflictError, match="left alone"):
        store(s3).rewrap("s3://bucket/a", to_beta)
    assert done
    if way == "replaced":
        assert s3.client().get_object(Bucket="bucket", Key="a")["Body"].read() == b"theirs"
    else:
        assert list(store(s3).list()) == []
    assert uploads(s3) == []


@pytest.mark.parametrize("size", [100, 6 * MIB])
def test_a_conflict_that_s3_itself_sees(s3: StrictS3, size: int) -> None:
    place(s3, "a", size)
    last = "PutObject" if size == 100 else "CompleteMultipartUpload"
    with (
        s3.fault(lambda request: error(409, "ConditionalRequestConflict") if request.operation == last else None),
        pytest.raises(sealwax.RewrapConflictError),
    ):
        store(s3).rewrap("s3://bucket/a", to_beta)
    assert uploads(s3) == []


@pytest.mark.parametrize("size", [100, 6 * MIB])
def test_an_answer_that_got_lost_is_no_conflict(s3: StrictS3, size: int) -> None:
    """The request is repeated and meets its own effect: 412, and yet it is done."""
    data = place(s3, "a", size)
    last = "PutObject" if size == 100 else "CompleteMultipartUpload"
    seen: list[Request] = []

    def lose(request: Request) -> Any:
        if request.operation != last:
            return None
        seen.append(request)
        return "lost" if len(seen) == 1 else error(412, "PreconditionFailed")

    s3.faults.append(lose)
    store(s3).rewrap("s3://bucket/a", to_beta)
    s3.faults.clear()
    assert read(s3, "a") == data


def test_an_answer_that_got_lost_is_no_proof_that_another_program_wrote(s3: StrictS3) -> None:
    place(s3, "a", 100)
    writes: list[Request] = []

    def lose(request: Request) -> Any:
        if request.operation != "PutObject":
            return error(403, "AccessDenied") if writes else None
        writes.append(request)
        return "lost" if len(writes) == 1 else error(412, "PreconditionFailed")

    with s3.fault(lose), pytest.raises(sealwax.StoreError, match="may or may not have been written") as caught:
        store(s3).rewrap("s3://bucket/a", to_beta)
    assert caught.value.retryable
    assert caught.value.code is None


def test_a_rivals_rewrap_is_not_taken_for_ones_own(s3: StrictS3) -> None:
    """It has the same id, context and size, and where the context is long, the same first kilobytes."""
    context = {"purpose": "backup", "note": "x" * 6000}
    sealed = ALPHAS.encrypt(b"data", context=context)
    s3.client().put_object(Bucket="bucket", Key="a", Body=sealed)

    def wrapped_at(when: int) -> Callable[[Header, Any], tuple[WrappedKey, ...]]:
        def rewrap_to(header: Header, _: Any) -> tuple[WrappedKey, ...]:
            made = wrap(BETA, unwrap(header.slot.wrapped_keys[0], context), context)
            return (WrappedKey(made.key_arn, made.ciphertext, made.key_material_id, when),)

        return rewrap_to

    rivals = rewrap_value(sealed, wrapped_at(1))

    raced: list[bool] = []

    def race(request: Request) -> None:
        if request.operation == "PutObject" and not raced:
            raced.append(True)
            s3.client().put_object(Bucket="bucket", Key="a", Body=rivals)

    with s3.fault(race), pytest.raises(sealwax.RewrapConflictError):
        store(s3).rewrap("s3://bucket/a", wrapped_at(2))
    assert s3.client().get_object(Bucket="bucket", Key="a")["Body"].read() == rivals


def test_replace(s3: StrictS3) -> None:
    place(s3, "a", 100, Metadata={"x": "y"})

    def longer(source: BinaryIO, sink: BinaryIO) -> None:
        sink.write(source.read() + b"!")

    before = s3.client().get_object(Bucket="bucket", Key="a")["Body"].read()
    store(s3).replace("s3://bucket/a", longer)
    after = s3.client().get_object(Bucket="bucket", Key="a")
    assert after["Body"].read() == before + b"!"
    assert after["Metadata"] == {"x": "y"}
    with s3.fault(replaced_at(s3, "PutObject")), pytest.raises(sealwax.RewrapConflictError):
        store(s3).replace("s3://bucket/a", longer)
    assert s3.client().get_object(Bucket="bucket", Key="a")["Body"].read() == b"theirs"


# --- failures


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        ("UploadPart", 403, "AccessDenied"),
        ("UploadPartCopy", 503, "SlowDown"),
        ("CompleteMultipartUpload", 403, "AccessDenied"),
        ("CompleteMultipartUpload", 500, "InternalError"),
    ],
)
def test_a_failed_rewrap_leaves_nothing_behind(s3: StrictS3, operation: str, status: int, code: str) -> None:
    data = place(s3, "a", 6 * MIB)
    with (
        s3.fault(lambda request: error(status, code) if request.operation == operation else None),
        pytest.raises(sealwax.StoreError) as caught,
    ):
        store(s3).rewrap("s3://bucket/a", to_beta)
    assert (caught.value.code, caught.value.retryable) == (code, status >= 500)
    assert uploads(s3) == []
    assert read(s3, "a", ALPHAS) == data


def test_tags_that_may_not_be_read_are_not_lost(s3: StrictS3) -> None:
    place(s3, "a", 100, Tagging="a=b")
    with (
        s3.fault(lambda request: error(403, "AccessDenied") if request.operation == "GetObjectTagging" else None),
        pytest.raises(sealwax.StoreError, match="tags"),
    ):
        store(s3).rewrap("s3://bucket/a", to_beta)
    assert "PutObject" not in s3.operations


def test_a_refusal_of_the_keyring_leaves_the_object_alone(s3: StrictS3) -> None:
    place(s3, "a", 6 * MIB)

    def refuse(_: Header, head: Callable[[], bytes]) -> tuple[WrappedKey, ...]:
        assert len(head()) == 56
        raise sealwax.KeyNotAllowedError("on purpose")

    with pytest.raises(sealwax.KeyNotAllowedError):
        store(s3).rewrap("s3://bucket/a", refuse)
    assert set(s3.operations) == {"GetObject"}


def test_a_listing_that_is_denied(s3: StrictS3) -> None:
    with (
        s3.fault(lambda _: error(403, "AccessDenied")),
        pytest.raises(sealwax.StoreError, match="listing 's3://bucket/' failed: the caller is not allowed"),
    ):
        list(store(s3).list())
    with pytest.raises(sealwax.StoreError, match="no such bucket"):
        list(open_store("s3://nowhere/x", s3.session()).list())
