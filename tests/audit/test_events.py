"""CloudTrail events, out of files of every kind, and out of damaged ones."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwax.audit._collect import cloudtrail
from sealwax.audit._facts import EventFacts
from sealwax.errors import FactsError

ACCOUNT = "111122223333"
KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/App"


def record(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a record as CloudTrail writes it."""
    session = {"sessionIssuer": {"type": "Role", "arn": ROLE, "accountId": ACCOUNT}}
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/App/one"
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "AssumedRole", "arn": arn, "accountId": ACCOUNT, "sessionContext": session},
        "eventTime": f"2026-11-24T20:00:{number:02}Z",
        "eventSource": "kms.amazonaws.com",
        "eventName": "Decrypt",
        "awsRegion": "eu-west-1",
        "requestParameters": {"encryptionContext": {"purpose": "backup"}, "keyId": KEY},
        "eventID": f"event-{number}",
        "resources": [{"ARN": KEY, "accountId": ACCOUNT, "type": "AWS::KMS::Key"}],
    } | changes


def expected(number: int = 1) -> EventFacts:
    at = datetime(2026, 11, 24, 20, 0, number, tzinfo=UTC)
    session = f"arn:aws:sts::{ACCOUNT}:assumed-role/App/one"
    context = {"purpose": "backup"}
    return EventFacts(f"event-{number}", at, "Decrypt", ROLE, ACCOUNT, "eu-west-1", (KEY,), context, session=session)


TWO = [record(2), record(1), record(3, eventSource="s3.amazonaws.com"), record(1)]
SHAPES = {
    "trail": json.dumps({"Records": TWO}).encode(),
    "pretty": json.dumps({"Records": TWO}, indent=2).encode(),
    "lines": "\n".join(json.dumps(one) for one in TWO).encode() + b"\n\n",
    "list": json.dumps(TWO).encode(),
    "lookup": json.dumps({"Events": [{"EventId": "x", "CloudTrailEvent": json.dumps(one)} for one in TWO]}).encode(),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_files_of_every_kind_are_read_in_order_and_each_event_once(shape: str, packed: bool, tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(SHAPES[shape]) if packed else SHAPES[shape])
    assert cloudtrail.read_events(str(file)) == (expected(1), expected(2))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pipe_is_read(shape: str, packed: bool) -> None:
    """It cannot be read from its beginning again."""
    out, into = os.pipe()
    try:
        os.write(into, gzip.compress(SHAPES[shape]) if packed else SHAPES[shape])
        os.close(into)
        assert cloudtrail.read_events(f"/dev/fd/{out}") == (expected(1), expected(2))
    finally:
        os.close(out)


def test_who_called_and_how() -> None:
    def one(**changes: Any) -> EventFacts:
        (found,) = cloudtrail.load(json.dumps(record(**changes)).encode(), "x")
        return found

    user = f"arn:aws:iam::{ACCOUNT}:user/alice"
    assert one(userIdentity={"type": "IAMUser", "arn": user, "accountId": ACCOUNT}).principal == user
    foreign = one(userIdentity={"type": "AWSAccount", "accountId": "999988887777", "principalId": "AROA:x"})
    assert (foreign.principal, foreign.account) == ("arn:aws:iam::999988887777:root", "999988887777")
    service = one(userIdentity={"type": "AWSService", "invokedBy": "rds.amazonaws.com"})
    assert (service.principal, service.via) == ("rds.amazonaws.com", "rds.amazonaws.com")
    moved = one(eventName="ReEncrypt", requestParameters={"sourceEncryptionContext": {"a": "b"}}, resources=None)
    assert (moved.context, moved.keys) == ({"a": "b"}, ())
    denied = one(errorCode="AccessDenied", requestParameters=None, resources=[])
    assert (denied.error, denied.context, denied.keys) == ("AccessDenied", None, ())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"hello", "it is not JSON"),
        (b'{"Records": [', "it is not JSON"),
        (json.dumps(record()).encode() + b"\nhello", "line 2 is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"7", "it has no eventSource"),
        (b'{"Records": [null]}', "event 1 of 'x' is not a CloudTrail event"),
        (b'[{"CloudTrailEvent": "{"}]', "its CloudTrailEvent is not JSON"),
        (json.dumps(record(eventID=None)).encode(), "it has no eventID"),
        (json.dumps(record(eventTime="yesterday")).encode(), "its eventTime is not an ISO 8601 time"),
        (json.dumps(record(eventTime="0001-01-01T00:00:00+14:00")).encode(), "its eventTime is not between the years"),
        (json.dumps(record(eventName="x" * 3000)).encode(), "its eventName is not a string"),
        (json.dumps(record(userIdentity=[1])).encode(), "its userIdentity is not an object"),
        (json.dumps(record(requestParameters={"encryptionContext": {"a": 1}})).encode(), "its encryption context"),
        (json.dumps(record(requestParameters={"encryptionContext": {"a": "\ud800"}})).encode(), "its encryption con"),
    ],
)
def test_what_holds_no_events_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(FactsError) as caught:
        cloudtrail.load(data, "x")
    assert why in str(caught.value)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "events.gz"
    good = gzip.compress(SHAPES["trail"])
    for data in (good[:-20], good[:2], good[:40] + b"\x00" * 8 + good[48:], good + b"x"):
        file.write_bytes(data)
        with pytest.raises(FactsError, match="damaged gzip"):
            cloudtrail.read_events(str(file))


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    assert len(cloudtrail.load(SHAPES["lines"], "x", max_events=4)) == 2
    with pytest.raises(FactsError, match="has more than 3 events"):
        cloudtrail.load(SHAPES["lines"], "x", max_events=3)
    file = tmp_path / "events.gz"
    size = len(SHAPES["trail"])
    for data in (SHAPES["trail"], gzip.compress(SHAPES["trail"])):
        file.write_bytes(data)
        assert len(cloudtrail.read_events(str(file), max_bytes=size)) == 2
        with pytest.raises(FactsError, match=f"is larger than {size - 1} bytes"):
            cloudtrail.read_events(str(file), max_bytes=size - 1)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(record())), inner, max_size=4),
    max_leaves=8,
)


def refusal(data: bytes) -> str:
    """Read events; return why they are refused, or nothing."""
    try:
        cloudtrail.load(data, "x")
    except FactsError as error:
        return str(error)
    return ""


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted(record())), _JSON, max_size=4))
def test_any_record_is_read_or_refused(changes: dict[str, Any]) -> None:
    assert len(refusal(json.dumps(record(**changes)).encode()).splitlines()) <= 1


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert "'x'" in refusal(data) or data.strip() in (b"[]", b"{}")


def test_a_small_packed_file_takes_little_memory(tmp_path: Path) -> None:
    """However much it unpacks to, and whatever that is."""
    other = json.dumps(record(eventSource="s3.amazonaws.com")).encode()
    files = {
        "one long text": (b'{"Records": [{"eventSource": "' + b"x" * (32 << 20), "an entry with more than"),
        "lists in lists": (b"[" + b"[" * (4 << 20), "is not JSON"),
        "many small values": (b"[" + b"[]," * (4 << 20), "CloudTrail event"),
        "members of one object": (b'{"a":1' + b',"b":[[],[],[],[],[]]' * (1 << 20), "an entry with more than"),
        "white space": (b" " * (32 << 20), "is empty"),
        "events of other services": (b"[" + (other + b",") * 2000 + other + b"]", ""),
        "one event again and again": (b"\n".join([json.dumps(record()).encode()] * 1000), ""),
    }
    assert len(files) == 7
    for name, (data, why) in files.items():
        file = tmp_path / "events.gz"
        file.write_bytes(gzip.compress(data, 1))
        del data
        tracemalloc.start()
        try:
            said = refused_file(file)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert why in said, (name, said)
        assert bool(why) == bool(said), (name, said)
        assert peak < 12 << 20, (name, peak)


def refused_file(file: Path) -> str:
    try:
        cloudtrail.read_events(str(file))
    except FactsError as error:
        return str(error)
    return ""


@settings(max_examples=50)
@given(st.sampled_from(sorted(SHAPES)), st.integers(1, 70), st.sampled_from(["", "\n", " \t"]))
def test_where_reading_stops_does_not_matter(shape: str, more: int, space: str) -> None:
    """An event, a number or a name may be cut anywhere by the end of what was read at once."""
    padding = (space or " ") * (cloudtrail._READ_CHARACTERS - more * 20)
    assert cloudtrail.load(padding.encode() + SHAPES[shape], "x") == (expected(1), expected(2))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_other_encodings_of_json(encoding: str) -> None:
    assert cloudtrail.load(SHAPES["pretty"].decode().encode(encoding), "x") == (expected(1), expected(2))


@pytest.mark.parametrize(
    "data",
    [b'{"Records": [],}', b"[,]", b'[{} {}]', b'{"a" 1}', b'{"a":1 "b":2}', b"{,}", b'{1:2}', b"[1,]", b'["\xff"]',
     b"[" + b"9" * 5000 + b"]", b'{"Records": [] ', b'{"a"', b"{"],
)  # fmt: skip
def test_json_that_is_none_is_refused(data: bytes) -> None:
    assert "has no CloudTrail events: it is not JSON" in refusal(data) or "event 1" in refusal(data)
