"""Re-wraps of objects of the S3 Encryption Client: what is kept, what is sent, and what meets another program."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sealwax
from sealwax._core.cache import CachingKeyring
from sealwax.cli import run
from sealwax.fleet import _asked
from sealwax.kms import _keyring
from sealwax.stores.s3 import S3Store
from tests.foreign.objects import CONTEXT, ROOT, C, World
from tests.s3 import Answer, Fault, Request, error

DATA = os.urandom(100_000)
OLD_TO_NEW = ("-k", "alias/old", "--to", "alias/new")
NEW_TO_OLD = ("-k", "alias/new", "--to", "alias/old")
LEGACY = ("--allow-legacy", "s3ec-v2", "--allow-legacy", "s3ec-kms")
X = "s3://bucket/x"
KINDS: dict[str, dict[str, Any]] = {
    "v2": {"version": 2},
    "kms": {"version": 2, "wrapping": "kms"},
    "v3": {"version": 3},
    "v2 with a file": {"version": 2, "instructions": True},
    "v3 with a file": {"version": 3, "instructions": True},
}


def opens(key: str, place: str = X) -> bool:
    status = run(["decrypt", "-k", key, *C, *LEGACY, "--force", "-o", "plain", place])
    assert status in (0, 7)
    return status == 0 and Path("plain").read_bytes() == DATA


def versions(world: World) -> list[str]:
    return [each["VersionId"] for each in world.s3.list_object_versions(Bucket="bucket").get("Versions", ())]


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_writes_no_second_version(world: World, kind: str, err: Callable[[], str]) -> None:
    world.put("x", DATA, **KINDS[kind])
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    assert "re-wrapped" in err()
    before = world.state()
    for target in ("alias/new", world.new):
        assert run(["rewrap", "-k", "alias/old", "--to", target, *C, X]) == 0
        assert f"already under {target}, according to KMS" in err()
    assert world.state() == before
    assert opens("alias/new")
    assert not opens("alias/old")


def test_a_third_key_is_no_success(world: World, err: Callable[[], str]) -> None:
    """What is under neither key is refused; that it is not under the new one was asked."""
    world.put("x", DATA)
    third = world.lab.create_key()["Arn"]
    before = world.state()
    assert run(["rewrap", "-k", third, "--to", "alias/new", *C, X]) == 7
    assert "IncorrectKeyException" in err()
    assert world.calls()[-2:] == ["ReEncrypt", "ReEncrypt"]
    assert world.state() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cached", [False, True])
def test_the_library(world: World, kind: str, cached: bool) -> None:
    world.put("x", DATA, **KINDS[kind])
    session = world.lab.session()
    store = S3Store("s3://bucket/", session=world.server.session())

    def sealer(key: str) -> sealwax.Sealer:
        keyring = sealwax.KmsKeyring(key, session=session)
        held = CachingKeyring(keyring, max_age=60) if cached else keyring
        return sealwax.Sealer(held, allow_legacy=["s3ec-v2", "s3ec-kms"])

    store.rewrap(X, sealer(world.old).rewrapper(to=[world.new], context=CONTEXT))
    with store.open(X) as source, sealer(world.new).open(source, context=CONTEXT) as file:
        assert file.read() == DATA
    store.rewrap(X, sealer(world.old).rewrapper(to=[world.new], context=CONTEXT))
    assert len(versions(world)) == (3 if "file" in kind else 2)


def test_material_that_kms_does_not_tell(world: World) -> None:
    """As of a key in a custom key store: what is under the key is under its only material."""
    world.put("x", DATA)
    session = world.lab.session()

    def forget(parsed: dict[str, Any], **_: object) -> None:
        del parsed["SourceKeyMaterialId"], parsed["DestinationKeyMaterialId"]

    session.events.register("after-call.kms.ReEncrypt", forget)
    rewrapper = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=session)).rewrapper
    store = S3Store("s3://bucket/", session=world.server.session())
    store.rewrap(X, rewrapper(to=[world.old], context=CONTEXT))
    assert (world.calls()[-1], len(versions(world))) == ("ReEncrypt", 1)


def test_related_keys_of_several_regions(world: World) -> None:
    """A keyring of keys in several Regions re-wraps in the Region of the new key."""
    world.put("x", DATA, version=2, wrapping="kms")
    session = world.lab.session()
    far = world.lab.create_key(region="eu-west-1")["Arn"]
    keyring = sealwax.MultiRegionKeyring([world.old, far], session=session)
    store = S3Store("s3://bucket/", session=world.server.session())
    for _ in range(2):
        store.rewrap(X, sealwax.Sealer(keyring).rewrapper(to=[world.new], context=CONTEXT))
        assert len(versions(world)) == 2
    assert opens("alias/new")


SETTINGS: dict[str, Any] = {
    "CacheControl": "max-age=60",
    "ContentDisposition": "attachment",
    "ContentEncoding": "aws-chunked",
    "ContentLanguage": "de",
    "ContentType": "message/rfc822",
    "WebsiteRedirectLocation": "/elsewhere",
    "StorageClass": "STANDARD_IA",
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "alias/bucket",
    "BucketKeyEnabled": True,
    "Tagging": "team=db&note=a%20b",
    "ChecksumAlgorithm": "SHA256",
    "ObjectLockMode": "GOVERNANCE",
    "ObjectLockRetainUntilDate": "2040-01-01T00:00:00Z",
    "ObjectLockLegalHoldStatus": "ON",
}


@pytest.mark.parametrize("instructions", [False, True])
def test_all_that_is_stored_with_it_is_kept(world: World, instructions: bool) -> None:
    world.begin(locked=True)
    made = world.make(DATA, instructions=instructions)
    made.metadata["note"] = "mine"
    made.put(world.s3, "x", **SETTINGS)

    def facts(key: str) -> dict[str, Any]:
        head = world.s3.head_object(Bucket="bucket", Key=key, ChecksumMode="ENABLED")
        tags = world.s3.get_object_tagging(Bucket="bucket", Key=key)["TagSet"]
        changing = ("ResponseMetadata", "LastModified", "VersionId", "Metadata")
        return {**{name: value for name, value in head.items() if name not in changing}, "tags": tags}

    before, body = facts("x"), world.body("x")
    assert before["ObjectLockLegalHoldStatus"] == "ON"
    old = world.s3.head_object(Bucket="bucket", Key="x")["Metadata"]
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    assert facts("x") == before
    assert world.body("x") == body
    new = world.s3.head_object(Bucket="bucket", Key="x")["Metadata"]
    assert {name for name in old if old[name] != new[name]} == (set() if instructions else {"x-amz-3"})
    assert old.keys() == new.keys()


def test_what_is_sent(world: World) -> None:
    """One look, KMS, a copy, and another look; nothing of the body beyond the first look moves."""
    # As buckets are by default: objects have no ACLs, and are not asked about theirs.
    controls = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    world.s3.put_bucket_ownership_controls(Bucket="bucket", OwnershipControls=controls)
    world.put("x", os.urandom(6 << 20))
    world.server.forget()
    before = len(world.calls())
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    sent = [(request.operation, request.path) for request in world.server.requests]
    assert sent == [
        ("GetBucketOwnershipControls", "/bucket"),
        ("GetObject", "/bucket/x"),
        ("GetObject", "/bucket/x.instruction"),
        ("PutObjectCopy", "/bucket/x"),
        ("HeadObject", "/bucket/x"),
        ("ListObjectVersions", "/bucket"),
    ]
    assert world.calls()[before:] == ["ReEncrypt"]
    assert world.server.received == 0
    assert world.server.sent < 20_000
    copy = next(request.headers for request in world.server.requests if request.operation == "PutObjectCopy")
    assert "if-match" in copy
    assert "x-amz-copy-source-if-unmodified-since" in copy
    assert "x-amz-copy-source-if-match" not in copy, "S3 would then not look at the time"
    assert "versionId=" in copy["x-amz-copy-source"]


@pytest.mark.parametrize("instructions", [False, True])
@pytest.mark.parametrize("fate", [error(403, "AccessDenied"), "cut"], ids=["before", "after"])
def test_stopped_at_every_request_and_repeated(world: World, instructions: bool, fate: Answer | str) -> None:
    """S3 is gone before it does what is asked, or after; a repetition always ends under the new key."""
    old, new = (sealwax.Sealer(sealwax.KmsKeyring(key, session=world.lab.session())) for key in (world.old, world.new))
    store = S3Store("s3://bucket/", session=world.server.session())

    def rewrap() -> bool:
        try:
            store.rewrap(X, old.rewrapper(to=[world.new], context=CONTEXT))
        except sealwax.SealwaxError:
            return False
        return True

    def opens(sealer: sealwax.Sealer) -> bool:
        with store.open(X) as source:
            try:
                return sealer.verify(source, context=CONTEXT) == len(DATA)
            except sealwax.WrongKeyError:
                return False

    for at in range(20):
        world.begin(versioned=True)
        world.put("x", DATA, instructions=instructions)
        with world.server.fault(_from(at, fate)):
            done = rewrap()
        assert opens(old) != opens(new), "always under exactly one of them"
        assert rewrap()
        assert opens(new)
        assert not opens(old)
        if done:
            break
    assert at >= 3


def _from(at: int, answer: Answer | str) -> Fault:
    """Return a fault for all requests but the first ones; "cut" breaks answers after S3 did what was asked."""
    count = [0]

    def fault(_: Request) -> Answer | str | None:
        count[0] += 1
        return answer if count[0] > at else None

    return fault


def test_two_at_once(world: World) -> None:
    """One wins; the other is told, and never replaces what the first has written without saying so."""
    world.put("x", DATA)
    third = world.lab.create_key(alias="third")["Arn"]
    arrived = threading.Barrier(2)

    def wait(request: Request) -> None:
        if request.operation == "PutObjectCopy":
            arrived.wait(10)

    world.server.faults.append(lambda request: wait(request))
    statuses: dict[str, int] = {}

    def rewrap(target: str) -> None:
        sealer = sealwax.Sealer(sealwax.KmsKeyring(world.old, session=world.lab.session()))
        try:
            S3Store("s3://bucket/", session=world.server.session()).rewrap(
                X, sealer.rewrapper(to=[target], context=CONTEXT)
            )
            statuses[target] = 0
        except sealwax.RewrapConflictError:
            statuses[target] = 1

    threads = [threading.Thread(target=rewrap, args=(target,)) for target in (world.new, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.server.faults.clear()
    winners = [target for target, status in statuses.items() if status == 0]
    assert len(winners) <= 1, "both can never believe that they were alone"
    assert any(opens(key) for key in (world.new, third))


def test_another_program_replaces_it_meanwhile(world: World, err: Callable[[], str]) -> None:
    world.put("x", DATA)
    other = world.make(b"other")

    def meanwhile(request: Request) -> None:
        if request.operation == "PutObjectCopy" and not done:
            done.append(1)
            other.put(world.s3, "x")

    done: list[int] = []
    world.server.faults.append(lambda request: meanwhile(request))
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 1
    assert "replaced or removed by another program meanwhile" in err()
    world.server.faults.clear()
    assert world.body("x") == other.body


def test_a_buried_version_is_told(world: World, err: Callable[[], str]) -> None:
    """What another program wrote within the second, and the copy has replaced, is in the bucket's versions."""
    made = world.put("x", DATA)

    def meanwhile(request: Request) -> None:
        if request.operation == "PutObjectCopy" and not done:
            done.append(1)
            made.put(world.s3, "x")  # the same bytes, so the same ETag

    done: list[int] = []
    world.server.faults.append(lambda request: meanwhile(request))
    status = run(["rewrap", *OLD_TO_NEW, *C, X])
    assert status == 1
    said = err()
    assert "look at the bucket's versions" in said or "replaced or removed by another program" in said


def test_objects_over_5_gb(world: World) -> None:
    """S3 copies them in ranges, each under the conditions; what is told of their sizes is faked."""
    world.put("x", os.urandom(6 << 20))
    size = (5 << 30) + 7
    seen: list[str] = []

    def fake(request: Request) -> Answer | None:
        if request.path != "/bucket/x":
            return None
        if request.operation == "UploadPartCopy":
            seen.append(request.headers["x-amz-copy-source-range"])
            assert request.headers["x-amz-copy-source-if-match"]
            assert "versionId=" in request.headers["x-amz-copy-source"]
            body = b"<CopyPartResult><ETag>&quot;e&quot;</ETag></CopyPartResult>"
            return 200, [("Content-Type", "application/xml"), ("x-amz-request-id", "R1")], body
        if request.operation == "CompleteMultipartUpload":
            assert request.headers["if-match"]
            seen.append("complete")
            return error(412, "PreconditionFailed")
        return None

    world.server.sizes["/bucket/x"] = size
    with world.server.fault(fake):
        assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 1, "the faked upload is not completed"
    step = 512 << 20
    ranges = [f"bytes={at}-{min(at + step, size) - 1}" for at in range(0, size, step)]
    assert sorted(seen[:-1]) == sorted(ranges)
    assert seen[-1] == "complete"
    started = [request for request in world.server.requests if request.operation == "CreateMultipartUpload"]
    assert len(started) == 1
    assert "x-amz-meta-x-amz-3" in started[0].headers


def test_a_response_that_was_lost_after_the_end_of_an_upload(world: World) -> None:
    """S3 has made the object of its ranges, and a repetition finds no upload any more."""
    body = os.urandom(6 << 20)
    world.put("x", body)
    metadata: dict[str, str] = {}

    def fake(request: Request) -> Answer | None:
        prefix = "x-amz-meta-"
        if request.operation == "CreateMultipartUpload":
            given = request.headers.items()
            metadata.update({name[len(prefix) :]: value for name, value in given if name.startswith(prefix)})
        if request.operation == "UploadPartCopy":
            part = b"<CopyPartResult><ETag>&quot;e&quot;</ETag></CopyPartResult>"
            return 200, [("Content-Type", "application/xml"), ("x-amz-request-id", "R1")], part
        if request.operation == "CompleteMultipartUpload":
            world.server.sizes.clear()
            world.s3.put_object(Bucket="bucket", Key="x", Body=world.body("x"), Metadata=metadata)
            return error(404, "NoSuchUpload")
        return None

    world.server.sizes["/bucket/x"] = (5 << 30) + 7
    with world.server.fault(fake):
        assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    assert run(["verify", "-k", "alias/new", *C, X]) == 0


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("instructions", [False, True])
def test_a_response_that_was_lost(world: World, versioned: bool, instructions: bool, err: Callable[[], str]) -> None:
    """The repetition meets its own effect, which is not another program's."""
    world.begin(versioned=versioned)
    world.put("x", DATA, instructions=instructions)
    writes: list[str] = []

    def lost(request: Request) -> Answer | str | None:
        if request.method != "PUT":
            return None
        writes.append(request.operation)
        # A second later, the condition on the time does not hold any more; in versions, it is that of the source.
        is_late = len(writes) > 1 and not versioned and not instructions
        return error(412, "PreconditionFailed") if is_late else "lost" if len(writes) == 1 else None

    with world.server.fault(lost):
        assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0, err()
    assert len(writes) == 2
    assert opens("alias/new")
    assert not opens("alias/old")


@pytest.mark.parametrize("kind", ["v2", "v3", "v3 with a file"])
def test_names_are_kept_as_they_are_spelled(world: World, kind: str) -> None:
    """Not every server and not every program writes them in lower case."""
    made = world.make(DATA, **KINDS[kind])
    if made.instructions is not None:
        made.instructions = {name.title(): value for name, value in made.instructions.items()}
    made.put(world.s3, "x")

    def capital(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(name.title() if name.startswith("x-amz-meta-") else name, value) for name, value in headers]

    world.server.rewritten.append(capital)
    before = world.state()
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    assert opens("alias/new")
    assert not opens("alias/old")
    places = {name.split()[0] for name in world.state().keys() - before.keys()}
    assert places == ({"x.instruction"} if "file" in kind else {"x"})


def test_a_buried_version_from_before_the_bucket_kept_them(world: World, err: Callable[[], str]) -> None:
    """The version that was read has no id of its own; what another program wrote since is told all the same."""
    world.begin()
    made = world.put("x", DATA)
    world.s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})

    def within_the_second(request: Request) -> None:
        if request.operation == "PutObjectCopy":
            made.put(world.s3, "x")
            del request.headers["x-amz-copy-source-if-unmodified-since"]

    world.server.faults.append(within_the_second)
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 1
    assert "look at the bucket's versions" in err()
    world.server.faults.clear()
    world.begin()
    world.put("x", DATA)
    world.s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0


RECORD = (
    "<ListVersionsResult><IsTruncated>false</IsTruncated><Version><VersionId>v</VersionId></Version>"
    "</ListVersionsResult>"
)


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("HeadObject", error(403, "AccessDenied")),
        ("HeadObject", error(409, "OperationAborted")),
        ("ListObjectVersions", error(403, "AccessDenied")),
        ("ListObjectVersions", error(404, "NoSuchKey")),
        ("ListObjectVersions", (200, [("Content-Type", "application/xml")], RECORD.encode())),
    ],
)
def test_a_result_that_cannot_be_looked_at(
    world: World, operation: str, answer: Answer, err: Callable[[], str]
) -> None:
    """The object has its new key, and the error says so."""
    world.put("x", DATA)
    with world.server.fault(lambda each: answer if each.operation == operation else None):
        assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 1
    said = err()
    assert "was re-wrapped, but it is unknown whether another program wrote it at the same time" in said
    assert "left alone" not in said
    assert opens("alias/new")


@pytest.mark.parametrize("instructions", [False, True])
def test_a_response_that_was_lost_and_an_object_that_cannot_be_looked_at(
    world: World, instructions: bool, err: Callable[[], str]
) -> None:
    world.put("x", DATA, instructions=instructions)
    writes: list[str] = []

    def fault(request: Request) -> Answer | str | None:
        if request.method == "PUT":
            writes.append(request.operation)
            return "lost" if len(writes) == 1 else error(412, "PreconditionFailed")
        looked = request.path.endswith(".instruction") if instructions else request.method == "HEAD"
        return error(500, "InternalError") if writes and looked else None

    with world.server.fault(fault):
        assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 1
    said = err()
    assert "may or may not have been written" in said
    assert "left alone" not in said
    assert opens("alias/new")


def test_an_object_whose_instruction_file_could_have_no_name(world: World) -> None:
    """S3 refuses keys of more than 1,024 bytes."""
    key = "k" * 1020
    world.put(key, DATA)
    with world.server.fault(lambda each: error(400, "KeyTooLongError") if len(each.path) > 1032 else None):
        assert run(["rewrap", *OLD_TO_NEW, *C, f"s3://bucket/{key}"]) == 0
        assert run(["verify", "-k", "alias/new", *C, f"s3://bucket/{key}"]) == 0


PATTERN = ("-c", "aws:ses:message-id=*", "-c", "aws:ses:rule-name=inbound*")


def test_contexts_that_differ_by_object(world: World, err: Callable[[], str]) -> None:
    for number in range(3):
        context = {"aws:ses:message-id": f"id{number}", "aws:ses:rule-name": "inbound-1"}
        world.put(f"mail/{number}", DATA, context, version=2)
    world.put("mail/3", DATA, {"aws:ses:message-id": "id", "aws:ses:rule-name": "outbound"})
    world.put("mail/4", DATA, {"aws:ses:message-id": "id", "aws:ses:rule-name": "inbound", "more": "1"})
    calls = len(world.calls())
    for number in range(3):
        place = f"s3://bucket/mail/{number}"
        assert run(["decrypt", "-k", "alias/old", *PATTERN, *LEGACY, "--force", "-o", "plain", place]) == 0
        assert Path("plain").read_bytes() == DATA
        assert run(["rewrap", *OLD_TO_NEW, *PATTERN, place]) == 0
    assert len(world.calls()) == calls + 6
    for number, fragment in ((3, "different value of 'aws:ses:rule-name'"), (4, "extra name 'more'")):
        assert run(["rewrap", *OLD_TO_NEW, *PATTERN, f"s3://bucket/mail/{number}"]) == 6
        assert fragment in err()
    assert len(world.calls()) == calls + 6


@pytest.mark.usefixtures("world")
def test_a_star_is_a_star_for_an_envelope() -> None:
    Path("a").write_bytes(DATA)
    assert run(["encrypt", "-k", "alias/old", "-c", "purpose=b*", "a", "-o", "s3://bucket/a.swx"]) == 0
    assert run(["verify", "-k", "alias/old", "-c", "purpose=b*", "s3://bucket/a.swx"]) == 0
    assert run(["encrypt", "-k", "alias/old", "-c", "purpose=backup", "a", "-o", "s3://bucket/b.swx"]) == 0
    assert run(["verify", "-k", "alias/old", "-c", "purpose=b*", "s3://bucket/b.swx"]) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_writes_nothing(world: World, kind: str, err: Callable[[], str]) -> None:
    world.put("x", DATA, **KINDS[kind])
    before, calls = world.state(), world.calls()
    assert run(["rewrap", "--dry-run", *OLD_TO_NEW, *C, X]) == 0
    assert "would be re-wrapped" in err()
    assert run(["rewrap", "--dry-run", *OLD_TO_NEW, "-c", "tenant=other", X]) == 6
    assert (world.state(), world.calls()) == (before, calls)


@pytest.mark.parametrize("kind", KINDS)
def test_verified_first(world: World, kind: str) -> None:
    """A planted wrapped key is found: the object does not open with it."""
    made = world.put("x", DATA, **KINDS[kind])
    planted = world.make(DATA, **KINDS[kind])
    field = "x-amz-3" if "v3" in kind else "x-amz-key-v2"
    if made.instructions is None or planted.instructions is None:
        made.metadata[field] = planted.metadata[field]
    else:
        made.instructions[field] = planted.instructions[field]
    made.put(world.s3, "x")
    before = world.state()
    assert run(["rewrap", "--verify", *OLD_TO_NEW, *C, X]) == 5
    assert world.state() == before
    world.put("x", DATA, **KINDS[kind])
    assert run(["rewrap", "--verify", *OLD_TO_NEW, *C, X]) == 0
    assert opens("alias/new")


def test_below_a_prefix(world: World, err: Callable[[], str]) -> None:
    """Instruction files go with their objects, and are not counted as failures."""
    for number, kind in enumerate(KINDS):
        world.put(f"p/{number}", DATA, **KINDS[kind])
    assert run(["rewrap", "-r", "--suffix", "", *OLD_TO_NEW, *C, "s3://bucket/p/"]) == 0
    assert "5 re-wrapped" in err()
    assert all(opens("alias/new", f"s3://bucket/p/{number}") for number in range(5))
    before = world.state()
    assert run(["rewrap", "-r", "--suffix", "", *OLD_TO_NEW, *C, "s3://bucket/p/"]) == 0
    assert world.state() == before


def test_the_costs_on_the_page() -> None:
    """They follow from what is sent (above), and from the prices that the page names."""
    page = (ROOT / "docs/how-to/from-s3-encryption-client.md").read_text(encoding="utf-8")
    objects, copy_or_list, get_or_head, kms = 285_000_000, 0.005 / 1000, 0.0004 / 1000, 0.03 / 10_000
    for words, price in (
        ("| 2 GET |", 2 * get_or_head),
        ("| 2 GET, 1 COPY, 1 HEAD |", 3 * get_or_head + copy_or_list),
        ("| 1 ReEncrypt |", kms),
        ("| 1 LIST |", copy_or_list),
        ("| `fleet verify`, planned from an inventory (from a listing: 1 GET) | 2 GET |", 2 * get_or_head),
        ("| `keys retire --ask-kms`: S3 | 1 GET |", get_or_head),
        ("| 1 ReEncrypt for each distinct wrapped key |", kms),
        ("| 1 GET, 1 ReEncrypt |", get_or_head + kms),
    ):
        assert f"{words} {round(objects * price):,} |" in page, words
    prices = f"PUT, COPY and LIST {copy_or_list * 1000:g} USD and GET and HEAD {get_or_head * 1000:g} USD for 1,000"
    assert f"({prices}, KMS {kms * 10_000:g} USD for 10,000)" in page
    assert 1 < objects / 1000 * copy_or_list < 2
    assert f"last {_asked._REMEMBERED:,} answers" in page
    assert f"at most {_keyring._ASKED_PER_SECOND:,.0f} times" in page
    assert f"takes {objects / 1000 / 3600:.0f} hours" in page


@pytest.mark.parametrize("what", ["rewrap", "plan"])
def test_a_listing_tells_what_has_an_instruction_file(world: World, what: str) -> None:
    """Nobody asks for the file of each object; what has one, or has to have one, is asked for, and is not missed."""
    for at in range(4):
        world.put(f"o/{at}", DATA, version=2 + at % 2)
        world.s3.put_object(Bucket="bucket", Key=f"plain/{at}", Body=b"text")
    world.put("file", DATA, version=2, instructions=True)
    both = world.make(DATA)
    both.instructions = dict(both.metadata)
    both.put(world.s3, "both")
    lost = world.make(DATA, version=3, instructions=True)
    lost.instructions = None
    lost.put(world.s3, "lost")
    world.server.forget()
    if what == "rewrap":
        assert run(["rewrap", "-r", "--suffix", "", *OLD_TO_NEW, *C, "s3://bucket/"]) == 8
    else:
        plan = ["--from", "alias/old", "--to", "alias/new", *C, "-o", "plan", "s3://bucket/"]
        assert run(["fleet", "plan", "--also", "s3ec", *plan]) in (0, 8)
    asked = [request.path for request in world.server.requests if request.path.endswith(".instruction")]
    files = {"/bucket/file.instruction", "/bucket/both.instruction"}
    assert set(asked) == {*files, "/bucket/lost.instruction"}
    if what == "rewrap":
        assert all(opens("alias/new", f"s3://bucket/{name}") for name in ("file", "o/2", "o/3"))


@pytest.mark.parametrize("instructions", [False, True])
def test_names_of_fields_in_other_case(world: World, instructions: bool) -> None:
    """A field is replaced, however its name is written: twice, it would be a contradiction, and the object lost."""
    made = world.make(DATA, version=2, instructions=instructions)
    if made.instructions is None:
        made.metadata = {name.title(): value for name, value in made.metadata.items()}
    else:
        made.instructions = {name.title(): value for name, value in made.instructions.items()}
    made.put(world.s3, "x")
    assert run(["rewrap", *OLD_TO_NEW, *C, X]) == 0
    assert opens("alias/new")
    assert not opens("alias/old")


def test_instruction_files_below_a_prefix_go_with_their_objects(world: World, err: Callable[[], str]) -> None:
    world.put("in/a", DATA, instructions=True)
    world.put("in/b", DATA)
    options = ("-k", "alias/old", *C, "-r", "--suffix", "")
    assert run(["verify", *options, "s3://bucket/in/"]) == 0
    assert "2 authentic" in err()
    assert run(["decrypt", *options, "-o", "out", "s3://bucket/in/"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a", "b"]
    assert run(["inspect", "-r", "--suffix", "", "s3://bucket/in/"]) == 0
    err()
    assert run(["rewrap", "--to", "alias/new", *options, "s3://bucket/in/"]) == 0
    assert "2 re-wrapped" in err()
    # One that is named is no object of its own.
    assert run(["verify", "-k", "alias/old", *C, "s3://bucket/in/a.instruction"]) == 4
