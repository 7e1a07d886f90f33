"""Who the lab's server answers, and what those can make it hold: nobody's page, and no more than its bounds."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwax.errors import LabError
from sealwax.lab import Lab, Server, _browsers
from sealwax.lab._apierror import ApiError
from sealwax.lab._cloudtrail import CloudTrail
from sealwax.lab._database import Database
from sealwax.lab._model import root_of
from sealwax.lab._schema import TRAIL
from sealwax.lab._trail import KMS_SOURCE, Trail, TrailEntry
from tests.lab.conftest import Clock, client

SIGNED = (
    "AWS4-HMAC-SHA256 Credential={}/20270101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=" + "0a" * 32
)


def send(
    server: Server,
    operation: str = "ListKeys",
    body: bytes = b"{}",
    *,
    host: str | None = "localhost",
    key: str = "ANYBODY",
    authorization: str | None = None,
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    """The answer to a program that is not an AWS client."""
    given = {
        "Host": host,
        "Authorization": SIGNED.format(key) if authorization is None else authorization,
        "X-Amz-Target": f"TrentService.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = ["POST / HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None), "", ""]
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + body)
        with connection.makefile("rb") as answer:
            head, _, rest = answer.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)


OWN = [
    "localhost",
    "LOCALHOST:1234",
    "127.0.0.1",
    "127.8.9.10:4599",
    "[::1]:4599",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    None, "", "evil.example", "evil.example:4599", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil",
    "localhost,evil.example", "evil.example,localhost", "192.0.2.1", "[2001:db8::1]", "0.0.0.0", "127.1", "localhost:x",
    "localhost/", "127.0.0.1:4599:4599", "[::1", "lab",
]  # fmt: skip
BROWSERS = [
    *(("Origin", origin) for origin in (
        "http://evil.example", "null", "", "file://", "http://localhost.evil.example:4599",
        "http://localhost@evil.example", "chrome-extension://abc",
    )),
    ("Referer", "https://evil.example/page"),
    ("Sec_Fetch_Site", "cross-site"),
    ("Sec_Fetch_Site", "who knows"),
    *(("Content_Type", kind) for kind in (
        "text/plain;charset=UTF-8", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded",
    )),
]  # fmt: skip


def test_the_lab_s_own_names_are_served(server: Server) -> None:
    for host in OWN:
        assert send(server, host=host)[0] == 200
        origin = f"http://{host}"
        assert send(server, Origin=origin, Referer=f"{origin}/page", Sec_Fetch_Site="same-site")[0] == 200


def test_a_foreign_host_is_refused(lab: Lab, server: Server) -> None:
    key = lab.create_key()["KeyId"]
    for host in FOREIGN:
        status, answer = send(server, "ScheduleKeyDeletion", json.dumps({"KeyId": key}).encode(), host=host)
        assert (status, answer["__type"]) == (403, "ForeignRequestException"), host
        assert "add this name to those that the lab allows" in answer["message"]
    assert lab.call("DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"


def test_what_a_browser_sends_for_a_page_is_refused(lab: Lab, server: Server) -> None:
    key = lab.create_key()["KeyId"]
    for name, value in BROWSERS:
        status, answer = send(server, "DisableKey", json.dumps({"KeyId": key}).encode(), **{name: value})
        assert (status, answer["__type"]) == (403, "ForeignRequestException"), (name, value)
    assert lab.call("DescribeKey", KeyId=key)["KeyMetadata"]["Enabled"]


def test_a_page_cannot_do_without_the_header_that_it_cannot_send(server: Server) -> None:
    """Nobody can check a signature without principals; but the header that holds it takes the server's leave."""
    assert send(server, authorization="")[1]["__type"] == "IncompleteSignatureException"
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(
            b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\nContent-Length: 0\r\n"
            b"Access-Control-Request-Headers: authorization\r\nConnection: close\r\n\r\n"
        )
        with connection.makefile("rb") as answer:
            head = answer.read().partition(b"\r\n\r\n")[0].lower()
    assert b"access-control" not in head
    assert not head.startswith(b"http/1.1 2")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("labochst017.-:[]@", min_size=1, max_size=20))
def test_no_name_of_the_internet_is_the_lab_s(start: str) -> None:
    host = f"{start}.example"
    own = {_browsers.checked_name("lab"), _browsers.checked_name("10.0.0.5")}
    assert _browsers.why_refused({"host": host}, own) is not None
    assert _browsers.why_refused({"host": "lab:1"}, own) is _browsers.why_refused({"host": "10.0.0.5"}, own) is None


@contextmanager
def serving(lab: Lab, **settings: Any) -> Iterator[Server]:
    server = Server(lab, **settings)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def test_names_that_the_user_gave(lab: Lab) -> None:
    with serving(lab, names=["Lab", "192.0.2.7", "2001:db8::7"]) as server:
        for host in ("lab", "lab:4599", "LAB", "192.0.2.7:80", "[2001:DB8:0::7]"):
            assert send(server, host=host, Origin=f"http://{host}")[0] == 200
        assert send(server, host="lab.example")[0] == 403
    for name in ("", "lab:4599", "*", "http://lab", "a b"):
        with pytest.raises(LabError, match="is not a host name"):
            Server(lab, names=[name])


def test_the_address_that_was_connected_to_is_the_lab_s(lab: Lab) -> None:
    with serving(lab, host="0.0.0.0") as server:
        own = socket.gethostbyname(socket.gethostname())
        place = boto3.Session("a", "b").client(
            "kms", endpoint_url=f"http://{own}:{server.port}", region_name="us-east-1"
        )
        assert place.list_keys()["Keys"] == []


# --- bounds


def test_unknown_names_are_not_remembered_for_ever(lab: Lab) -> None:
    """Access keys, key ids, aliases, Regions: whatever a request may name at will."""
    for number in range(4200):
        assert lab._principals.key(f"AK{number}") is None
        assert lab._principals.principal(f"arn:aws:iam::111122223333:user/{number}") is None
        if number % 2:
            assert lab._records.key("111122223333", "us-east-1", f"0a0a0a0a-0000-4000-8000-{number:012x}") is None
        else:
            assert lab._records.aliases("111122223333", f"us-east-{number}") == ()
    for remembered in (lab._principals._keys, lab._principals._principals, lab._records._cache):
        assert len(remembered) < 4200


def entry(number: int, size: int = 0) -> TrailEntry:
    caller, members = root_of("111122223333"), {"number": number, "text": "x" * size}
    return TrailEntry(
        *(KMS_SOURCE, "ListKeys", caller, "us-east-1", "127.0.0.1", "", "id", NOW, True),
        *(members, None, None, (), None, False),
    )


NOW = 1_800_000_000.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "trail.db", TRAIL, durable=False)
    yield database
    database.close()


def test_the_trail_keeps_the_latest(log: Database) -> None:
    trail = Trail(log, NOW, max_events=100)
    with log.writing():
        for number in range(600):
            trail._append(entry(number))
    kept = [event.record["requestParameters"]["number"] for event in trail.events()]
    assert kept == list(range(600 - len(kept), 600))
    assert 100 <= len(kept) <= 400
    # CloudTrail has the same ones, page by page, the latest first.
    cloudtrail = CloudTrail(trail, None)
    asked: dict[str, str] = {}
    found: list[int] = []
    for pages in range(1, 100):  # noqa: B007  told below
        answer: Any = cloudtrail.lookup_events(asked, root_of("111122223333"), "us-east-1")
        found += [json.loads(event["CloudTrailEvent"])["requestParameters"]["number"] for event in answer["Events"]]
        if "NextToken" not in answer:
            break
        asked = {"NextToken": answer["NextToken"]}
    assert found == kept[::-1]
    assert pages == math.ceil(len(kept) / 50)
    with pytest.raises(ApiError, match="InvalidNextTokenException"):
        cloudtrail.lookup_events({"NextToken": "none of them"}, root_of("111122223333"), "us-east-1")


def test_the_trail_s_file_has_a_bound(log: Database) -> None:
    trail = Trail(log, NOW, max_bytes=2 << 20)
    with log.writing():
        for number in range(520):
            trail._append(entry(number, size=20_000))
    kept = [event.record["requestParameters"]["number"] for event in trail.events()]
    assert kept == list(range(520 - len(kept), 520))
    assert 100 < len(kept) < 400


def test_a_trail_that_is_there_already_is_cut_when_it_is_opened(log: Database) -> None:
    with log.writing() as connection:
        Trail(log, NOW)._append(entry(1))
        for _ in range(8):
            connection.execute(
                "INSERT INTO events (event_id, account, region, time, username, record, reason) "
                "SELECT event_id, account, region, time, username, record, reason FROM events"
            )
    assert len(Trail(log, NOW, max_events=100).events()) == 100
    assert Trail(log, NOW + 91 * 86400).events() == []


def test_what_a_caller_makes_large_is_cut_in_the_trail(lab: Lab, server: Server) -> None:
    key = lab.create_key()["KeyId"]
    context = {f"name {number}": "x" * 4000 for number in range(40)}
    body = {"KeyId": key, "Plaintext": "aGk=", "EncryptionContext": context}
    send(server, "Encrypt", json.dumps(body).encode(), User_Agent="a" * 9000)
    send(server, "No" * 9000)
    send(
        server,
        body=b"Action=" + b"n" * 300_000 + b"&More=" + b"m" * 300_000,
        Content_Type="application/x-www-form-urlencoded",
        authorization=SIGNED.format("ANYBODY").replace("/kms/", "/sts/"),
        X_Amz_Target="",
    )
    texts = [event.text for event in lab.trail.events()]
    assert len(texts) >= 3
    assert max(map(len, texts)) <= 64 << 10
    lab.create_key()
    assert lab.trail.events()[-1].record["eventName"] == "CreateKey"


def test_ended_sessions_and_imports_are_forgotten(lab: Lab, clock: Clock) -> None:
    role = lab.add_principal("worker", role=True)["Arn"]
    sts = lab.session().client("sts")
    key = client(lab.session()).create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]

    def counts() -> tuple[int, int]:
        with lab._state.reading() as connection:
            return tuple(
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("access_keys WHERE expires IS NOT NULL", "imports")
            )

    def ask() -> None:
        sts.assume_role(RoleArn=role, RoleSessionName="once")
        wrapping = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
        lab.call("GetParametersForImport", KeyId=key, **wrapping)

    ask()
    assert counts() == (1, 1)
    clock.now += 3 * 86400
    ask()
    assert counts() == (1, 1)


def test_more_connections_than_places_get_those_of_idle_ones(lab: Lab) -> None:
    with serving(lab, max_connections=3) as server:
        crowd = [socket.create_connection((server.host, server.port)) for _ in range(3)]
        assert send(server)[0] == 200
        for connection in crowd:
            connection.close()


@pytest.mark.parametrize(
    "sent", [b"POST / HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\nabc"]
)
def test_a_request_that_never_ends_is_ended(lab: Lab, sent: bytes) -> None:
    """However it trickles."""
    with serving(lab, timeout=0.2) as server, socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(sent)
        connection.settimeout(0.02)
        answer = b""
        for _ in range(500):
            try:
                answer = connection.recv(100)
                break
            except TimeoutError:
                connection.sendall(b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_request_of_many_lines_is_refused(server: Server) -> None:
    lines = b"".join(b"X-%d: 1\r\n" % number for number in range(200))
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n" + lines + b"\r\n")
        connection.settimeout(10)
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
