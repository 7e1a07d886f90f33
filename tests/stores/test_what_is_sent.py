"""An intact object is never called damaged for what a store, a proxy or the network makes of the answers about it.

Each fault is one that stores, caches, proxies and broken connections have. Whoever reads either gets the object's bytes
or one sentence that says who is to blame: status 5 is for tampering, and status 4 for what is not an envelope.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3.exceptions
from botocore.response import StreamingBody
from hypothesis import given, settings
from hypothesis import strategies as st

import sealwax
from sealwax.cli import status_of
from sealwax.stores.s3 import ObjectReader, S3Store, Service
from tests.fakes import ALPHA, FakeKeyring
from tests.s3 import Answer, Fault, Request, StrictS3, error

CONTEXT = {"purpose": "backup"}
SEALER = sealwax.Sealer(FakeKeyring(ALPHA))
DATA = {"small": os.urandom(100), "large": os.urandom(100_000)}
SEALED = {size: SEALER.encrypt(data, context=CONTEXT) for size, data in DATA.items()}
ANOTHER = {size: SEALER.encrypt(bytes(len(data)), context=CONTEXT) for size, data in DATA.items()}
LONGER = {size: SEALER.encrypt(bytes(2 * len(data)), context=CONTEXT) for size, data in DATA.items()}
HTML = b"<html><body>Please log in</body></html>"

NOT_THE_PART = r"The object may be intact: the store, or a proxy in front of it, does not send parts of objects"
NOT_S3 = r"(not from S3|without a reason from S3)\b.* Check AWS_ENDPOINT_URL_S3"
CHANGED = r"replaced or removed meanwhile.*Start again"
BROKEN = r"broke off.*Try again"


@dataclass
class Asked:
    """What a request asks for of an object: the bytes from ``first`` up to and with ``last``."""

    size: str
    first: int
    last: int

    @property
    def object(self) -> bytes:
        return SEALED[self.size]

    def of(self, data: bytes) -> bytes:
        return data[self.first : self.last + 1]

    def sent(self, body: bytes | None = None, *, status: int = 206, lacking: str = "", **headers: str | int) -> Answer:
        """Return S3's answer, with another body, or other headers."""
        body = self.of(self.object) if body is None else body
        fields: dict[str, str | int] = {
            "Content_Range": f"bytes {self.first}-{self.last}/{len(self.object)}",
            "Content_Length": len(body),
            "ETag": '"e"',
            "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x_amz_request_id": "R1",
            **headers,
        }
        kept = {name.replace("_", "-"): str(value) for name, value in fields.items() if name not in lacking.split()}
        return status, list(kept.items()), body

    def whole(self, body: bytes | None = None, lacking: str = "", **headers: str) -> Answer:
        """Return the answer of a store that knows no ranges."""
        body = self.object if body is None else body
        return self.sent(body, status=200, lacking=f"Content_Range {lacking}", **headers)


Fate = Callable[[Asked], Answer]

FAULTS: dict[str, tuple[Fate, str]] = {
    "the range ignored": (lambda asked: asked.whole(), NOT_THE_PART),
    "the range ignored by what is not S3": (lambda asked: asked.whole(lacking="x_amz_request_id"), NOT_S3),
    "all of it, as a part": (
        lambda asked: asked.sent(asked.object, Content_Range=f"bytes 0-{len(asked.object) - 1}/{len(asked.object)}"),
        NOT_THE_PART,
    ),
    "all of it, as the part": (lambda asked: asked.sent(asked.object + b"+"), NOT_THE_PART),
    "a part without its place": (lambda asked: asked.sent(lacking="Content_Range"), NOT_THE_PART),
    "a part in another unit": (lambda asked: asked.sent(Content_Range="items 0-1/2"), NOT_THE_PART),
    "a part of an unknown whole": (
        lambda asked: asked.sent(Content_Range=f"bytes {asked.first}-{asked.last}/*"),
        NOT_THE_PART,
    ),
    "another part": (
        lambda asked: asked.sent(Content_Range=f"bytes {asked.first + 1}-{asked.last + 1}/{len(asked.object) + 1}"),
        NOT_THE_PART,
    ),
    "less than was asked for": (
        lambda asked: asked.sent(
            asked.of(asked.object)[:9], Content_Range=f"bytes {asked.first}-{asked.first + 8}/{len(asked.object)}"
        ),
        NOT_THE_PART,
    ),
    "several parts in one body": (
        lambda asked: asked.sent(lacking="Content_Range", Content_Type="multipart/byteranges; boundary=x"),
        NOT_THE_PART,
    ),
    "a part that was compressed on the way": (
        lambda asked: asked.sent(gzip.compress(asked.of(asked.object)), Content_Encoding="gzip"),
        NOT_THE_PART,
    ),
    "a whole that was compressed on the way": (
        lambda asked: asked.whole(gzip.compress(asked.object), Content_Encoding="gzip", ETag='W/"e"'),
        f"changed its bytes.*{NOT_THE_PART}|{CHANGED}",
    ),
    "a part that was compressed, without its length": (
        lambda asked: asked.sent(gzip.compress(asked.object), lacking="Content_Length", Content_Encoding="gzip"),
        NOT_S3,
    ),
    "a page that wants a login": (
        lambda asked: asked.whole(HTML, lacking="x_amz_request_id", Content_Type="text/html"),
        NOT_S3,
    ),
    "a page of another ETag": (
        lambda asked: asked.whole(HTML, lacking="x_amz_request_id", Content_Type="text/html", ETag='"page"'),
        f"{NOT_S3}|{CHANGED}",
    ),
    "a page, as the part": (lambda asked: asked.sent(HTML), NOT_THE_PART),
    "no ETag": (lambda asked: asked.sent(lacking="ETag"), NOT_S3),
    "no date": (lambda asked: asked.sent(lacking="Last_Modified"), NOT_S3),
    "a page without all of these": (lambda _: (200, [("Content-Type", "text/html")], HTML), NOT_S3),
    "nothing changed": (lambda _: (304, [("ETag", '"e"')], b""), NOT_S3),
    "elsewhere": (lambda _: (302, [("Location", "http://127.0.0.1:1/")], b""), NOT_S3),
    "elsewhere, nobody says where": (lambda _: (307, [], b""), NOT_S3),
    "a proxy's refusal": (lambda _: (403, [("Content-Type", "text/html")], HTML), NOT_S3),
    "a proxy's password": (lambda _: (407, [], b""), NOT_S3),
    "a proxy's failure": (lambda _: (502, [("Content-Type", "text/html")], HTML), NOT_S3),
    "a page in place of an error": (lambda _: (400, [("Content-Type", "text/html")], b"<p>no"), NOT_S3),
    "a connection that breaks": (
        lambda asked: asked.sent(
            asked.of(asked.object)[: (asked.last - asked.first) // 2],
            Content_Length=asked.last - asked.first + 1,
            Connection="close",
        ),
        BROKEN,
    ),
    "fewer bytes than announced": (
        lambda asked: asked.sent(b"", Content_Length=asked.last - asked.first + 1, Connection="close"),
        BROKEN,
    ),
    "a range that is not there": (lambda _: error(416, "InvalidRange"), f"{NOT_THE_PART}|{CHANGED}"),
    "what is not implemented": (lambda _: error(501, "NotImplemented"), "It is not AWS S3, or an old server"),
}
# Only of an object that is open already: it is another one now, and the store does not know conditions.
CHANGES: dict[str, Fate] = {
    "another ETag": lambda asked: asked.sent(asked.of(ANOTHER[asked.size]), ETag='"f"'),
    "another size": lambda asked: asked.sent(
        asked.of(LONGER[asked.size]), Content_Range=f"bytes {asked.first}-{asked.last}/{len(LONGER[asked.size])}"
    ),
    "another that is shorter": lambda _: error(416, "InvalidRange"),
    "a condition that does not hold": lambda _: error(412, "PreconditionFailed"),
    "a condition that does not hold, without a reason": lambda _: (412, [], b""),
    "no object any more": lambda _: error(404, "NoSuchKey"),
}


def serving(size: str, fate: Fate, *, after: int = 0) -> Fault:
    """Return a fault: a store that has one object, and about it sends ``fate`` from the request ``after`` on."""
    seen: list[str] = []

    def fault(request: Request) -> Answer | None:
        if request.operation == "HeadObject":
            return Asked(size, 0, 0).whole()
        if request.operation != "GetObject":
            return None
        found = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", request.headers["range"])
        assert found
        asked = Asked(size, int(found[1]), min(int(found[2]), len(SEALED[size]) - 1))
        seen.append(request.operation)
        if len(seen) <= after:
            return asked.sent()
        return fate(asked)

    return fault


def whole(service: Service) -> bytes:
    with ObjectReader("s3://bucket/a", service=service) as source, SEALER.open(source, context=CONTEXT) as file:
        return file.read()


def end(service: Service) -> bytes:
    with ObjectReader("s3://bucket/a", service=service) as source, SEALER.open(source, context=CONTEXT) as file:
        file.seek(-50, os.SEEK_END)
        return file.read()


def verified(service: Service) -> None:
    with ObjectReader("s3://bucket/a", service=service) as source:
        SEALER.verify(source, context=CONTEXT)


def inspected(service: Service) -> None:
    S3Store("s3://bucket/", service=service).inspect("s3://bucket/a")


@pytest.fixture(scope="module")
def service(server: StrictS3) -> Service:
    """One client for all: to make one costs more than all that is asked here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        made = Service(server.session())
        made.client()
    return made


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("size", DATA)
@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_read_or_the_sender_is_blamed(
    fault: str, size: str, after: int, server: StrictS3, service: Service
) -> None:
    fate, said = FAULTS[fault]
    acts: Mapping[Callable[[Service], bytes | None], bytes | None] = {
        whole: DATA[size],
        end: DATA[size][-50:],
        verified: None,
        inspected: None,
    }
    for act, right in list(acts.items())[: 1 if said == BROKEN else 4]:  # it pauses, and tries again
        with server.fault(serving(size, fate, after=after)):
            try:
                assert act(service) == right
            except sealwax.StoreError as failure:
                assert re.search(said, str(failure)), failure  # noqa: PT017
                assert status_of(failure) == 1  # noqa: PT017


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_the_store_does_not_notice(change: str, server: StrictS3, service: Service) -> None:
    for act in (whole, end, verified):
        with server.fault(serving("large", CHANGES[change], after=1)), pytest.raises(sealwax.StoreError, match=CHANGED):
            act(service)


def test_a_small_object_is_read_from_a_store_that_knows_no_ranges(server: StrictS3, service: Service) -> None:
    with server.fault(serving("small", lambda asked: asked.whole())):
        assert whole(service) == DATA["small"]


def test_what_is_altered_is_still_told_as_such(server: StrictS3, service: Service) -> None:
    """A part that is what was asked for in every way, but for a bit."""

    def flipped(asked: Asked) -> Answer:
        body = bytearray(asked.of(asked.object))
        body[-1] ^= 1
        return asked.sent(bytes(body))

    with server.fault(serving("large", flipped, after=1)), pytest.raises(sealwax.TamperedError) as caught:
        whole(service)
    assert status_of(caught.value) == 5


@settings(max_examples=60)
@given(
    size=st.sampled_from(sorted(DATA)),
    after=st.integers(0, 2),
    status=st.sampled_from([200, 206]),
    shift=st.integers(-3, 3),
    cut=st.integers(-3, 3),
    more=st.integers(-3, 3),
    ranged=st.booleans(),
)
def test_no_mixture_of_wrong_numbers_is_taken_for_tampering(
    server: StrictS3,
    service: Service,
    size: str,
    after: int,
    status: int,
    shift: int,
    cut: int,
    more: int,
    ranged: bool,
) -> None:
    def fate(asked: Asked) -> Answer:
        first, last = max(0, asked.first + shift), asked.last + shift + cut
        body = asked.object[first : last + 1] if status == 206 else asked.object
        # The first answer alone says how long the object is; one that is shorter, and fits, is another object.
        total = len(asked.object) + (more if after else abs(more))
        place = {"Content_Range": f"bytes {first}-{last}/{total}"} if ranged else {}
        return asked.sent(body, status=status, lacking="" if ranged else "Content_Range", **place)

    with server.fault(serving(size, fate, after=after)), contextlib.suppress(sealwax.StoreError):
        assert whole(service) == DATA[size]


def test_a_broken_record_of_tls_is_a_broken_connection() -> None:
    """botocore lets urllib3's own error through here."""

    class Broken:
        def read(self, _: int) -> bytes:
            raise urllib3.exceptions.SSLError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] decryption failed")

        def close(self) -> None:
            pass

    class Client:
        def get_object(self, **_: Any) -> dict[str, Any]:
            return {
                "ETag": '"e"',
                "LastModified": datetime.now(UTC),
                "ContentLength": 9,
                "ContentRange": "bytes 0-8/9",
                "ResponseMetadata": {"HTTPStatusCode": 206},
                "Body": StreamingBody(Broken(), 9),  # type: ignore[arg-type]
            }

    class Session:
        region_name = "us-east-1"

        def client(self, *_: Any, **__: Any) -> Client:
            return Client()

    with pytest.raises(sealwax.StoreError, match=BROKEN) as caught:
        ObjectReader("s3://bucket/a", Session())
    assert caught.value.retryable
