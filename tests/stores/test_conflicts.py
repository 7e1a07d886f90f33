"""Another write under way is not an object that exists, and no lost cause: S3 asks to try again, and that is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

import sealwax
from sealwax._core.format.header import Header
from sealwax._core.keyring import WrappedKey
from sealwax.stores.s3 import ObjectReader, ObjectWriter, S3Store, Service
from tests.fakes import ALPHA, BETA, FakeKeyring, unwrap, wrap
from tests.s3 import Answer, Fault, Request, StrictS3, error

CONTEXT = {"purpose": "backup"}
SEALER = sealwax.Sealer(FakeKeyring(ALPHA, BETA))
SIZES = {"PutObject": 100, "CompleteMultipartUpload": 9 << 20}
ATTEMPTS = 4


@pytest.fixture(scope="module")
def service(server: StrictS3) -> Service:
    return Service(server.session())


@pytest.fixture(autouse=True)
def nothing_is_left(s3: StrictS3, service: Service) -> Iterator[None]:
    yield
    s3.faults.clear()
    assert service.client().list_multipart_uploads(Bucket="bucket").get("Uploads", []) == []


def place(service: Service, size: int, **options: Any) -> bytes:
    data = os.urandom(size)
    with (
        ObjectWriter("s3://bucket/a", service=service, **options) as target,
        SEALER.open(target, "wb", context=CONTEXT) as file,
    ):
        file.write(data)
    return data


def read(service: Service) -> bytes:
    with ObjectReader("s3://bucket/a", service=service) as source, SEALER.open(source, context=CONTEXT) as file:
        return file.read()


def rewrap(service: Service) -> None:
    def to_beta(header: Header, _: Any) -> tuple[WrappedKey, ...]:
        return (wrap(BETA, unwrap(header.slot.wrapped_keys[0], CONTEXT), CONTEXT),)

    S3Store("s3://bucket/", service=service).rewrap("s3://bucket/a", to_beta)


def copy(service: Service) -> None:
    def change(source: BinaryIO, sink: BinaryIO) -> None:
        sink.write(SEALER.encrypt(SEALER.decrypt(source.read(), context=CONTEXT), context=CONTEXT))

    S3Store("s3://bucket/", service=service).replace("s3://bucket/a", change)


def answering(operation: str, *answers: Answer | None) -> tuple[Fault, list[str]]:
    """Return a fault that gives these answers to the first requests of a kind and the last to all others; and a log."""
    log: list[str] = []

    def fault(request: Request) -> Answer | None:
        if request.operation != operation:
            return None
        log.append(operation)
        return answers[min(len(log), len(answers)) - 1]

    return fault, log


CONFLICTS = {code: error(409, code) for code in ("ConditionalRequestConflict", "OperationAborted")}


# An upload in parts takes far longer than one in a piece; where it goes the same way, one of its cases has to do.
@pytest.mark.parametrize(
    ("operation", "code", "acts"),
    [
        ("PutObject", "ConditionalRequestConflict", (rewrap, copy)),
        ("PutObject", "OperationAborted", ()),
        ("CompleteMultipartUpload", "ConditionalRequestConflict", (rewrap,)),
    ],
)
def test_a_conflict_passes(
    operation: str, code: str, acts: tuple[Callable[[Service], None], ...], s3: StrictS3, service: Service
) -> None:
    fault, log = answering(operation, CONFLICTS[code], CONFLICTS[code], None)
    with s3.fault(fault):
        data = place(service, SIZES[operation], overwrite=False)
    assert len(log) == 3
    assert read(service) == data
    for act in acts:
        fault, log = answering(operation, CONFLICTS[code], None)
        with s3.fault(fault):
            act(service)
        assert len(log) == 2
        assert read(service) == data


@pytest.mark.parametrize(
    ("operation", "overwrite"), [("PutObject", True), ("PutObject", False), ("CompleteMultipartUpload", False)]
)
def test_a_conflict_that_stays(operation: str, overwrite: bool, s3: StrictS3, service: Service) -> None:
    fault, log = answering(operation, CONFLICTS["ConditionalRequestConflict"])
    with (
        s3.fault(fault),
        pytest.raises(sealwax.StoreError, match="another write of the same object is in progress") as caught,
    ):
        place(service, SIZES[operation], overwrite=overwrite)
    assert len(log) == ATTEMPTS
    assert (caught.value.retryable, caught.value.code) == (True, "ConditionalRequestConflict")
    assert "already exists" not in str(caught.value)
    assert "Contents" not in service.client().list_objects_v2(Bucket="bucket")


@pytest.mark.parametrize("act", [rewrap, copy])
def test_a_conflict_that_stays_while_an_object_is_changed(
    act: Callable[[Service], None], s3: StrictS3, service: Service
) -> None:
    data = place(service, 100)
    fault, log = answering("PutObject", CONFLICTS["OperationAborted"])
    with s3.fault(fault), pytest.raises(sealwax.RewrapConflictError, match="being written by another program"):
        act(service)
    assert len(log) == ATTEMPTS
    assert read(service) == data


def test_an_upload_that_is_gone_after_a_conflict(s3: StrictS3, service: Service) -> None:
    """AWS says of an upload in parts that it has to be begun again; what was streamed is no longer there for that."""
    gone = error(404, "NoSuchUpload")
    fault, _ = answering("CompleteMultipartUpload", CONFLICTS["ConditionalRequestConflict"], gone)
    with (
        s3.fault(fault),
        pytest.raises(sealwax.StoreError, match="another write of the same object is in progress") as caught,
    ):
        place(service, 9 << 20)
    assert caught.value.retryable
    service.client().put_object(Bucket="bucket", Key="a", Body=SEALER.encrypt(bytes(6 << 20), context=CONTEXT))
    s3.forget()
    fault, _ = answering("CompleteMultipartUpload", CONFLICTS["ConditionalRequestConflict"], None)
    with s3.fault(fault):
        rewrap(service)
    assert s3.operations.count("CreateMultipartUpload") == 2
    assert read(service) == bytes(6 << 20)


def test_the_other_write_wins(s3: StrictS3, service: Service) -> None:
    fault, _ = answering("PutObject", CONFLICTS["ConditionalRequestConflict"], error(412, "PreconditionFailed"))
    with s3.fault(fault), pytest.raises(sealwax.FileError, match="already exists"):
        place(service, 100, overwrite=False)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(404, "NoSuchBucket"), "there is no such bucket"),
        (error(404, "NoSuchKey"), "there is no such object"),
        ((404, [], b""), "without a reason from S3"),
        (error(403, "AccessDenied"), "not allowed to"),
    ],
)
def test_nothing_but_an_object_that_is_there_exists_already(
    answer: Answer, said: str, s3: StrictS3, service: Service
) -> None:
    fault, _ = answering("PutObject", answer)
    with s3.fault(fault), pytest.raises(sealwax.StoreError, match=said):
        place(service, 100, overwrite=False)


def test_a_store_without_conditional_writes(s3: StrictS3, service: Service) -> None:
    fault, _ = answering("PutObject", error(501, "NotImplemented", "A header you provided implies functionality"))
    with (
        s3.fault(fault),
        pytest.raises(sealwax.StoreError, match="does not support conditional writes") as caught,
    ):
        place(service, 100, overwrite=False)
    assert not caught.value.retryable
    data = place(service, 100)
    for act in (rewrap, copy):
        with s3.fault(fault), pytest.raises(sealwax.StoreError, match="does not support conditional writes"):
            act(service)
    # Without a condition it lacks something else.
    with s3.fault(fault), pytest.raises(sealwax.StoreError, match="does not implement this request"):
        place(service, 100, overwrite=True)
    assert read(service) == data


def test_a_store_without_conditional_writes_of_parts(s3: StrictS3, service: Service) -> None:
    service.client().put_object(Bucket="bucket", Key="a", Body=SEALER.encrypt(bytes(6 << 20), context=CONTEXT))
    fault, _ = answering("CompleteMultipartUpload", error(501, "NotImplemented"))
    with s3.fault(fault), pytest.raises(sealwax.StoreError, match="does not support conditional writes"):
        rewrap(service)
