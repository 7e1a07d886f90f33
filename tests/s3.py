"""moto's S3 server behind a strict layer, which refuses what S3 refuses and moto lets pass, and counts the bytes.

moto ignores a wrong If-Match or If-None-Match at CompleteMultipartUpload and a wrong x-amz-copy-source-if-match, and it
copies ranges of small sources. :class:`StrictS3` enforces these; ``tests/stores/test_strict_layer.py`` tests it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, unquote

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REGION: Final = "us-east-1"
_SMALLEST_RANGE_SOURCE: Final = 5 << 20

Answer = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Request:
    """One request as it came in: ``operation`` is S3's name for it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    received: int = 0
    sent: int = 0
    status: int = 0

    @property
    def operation(self) -> str:
        upload = "uploadId" in self.query
        names = {
            "PUT": "UploadPart" if upload else "PutObjectTagging" if "tagging" in self.query else "PutObject",
            "GET": "GetObjectTagging"
            if "tagging" in self.query
            else "ListObjectsV2"
            if "list-type" in self.query
            else "ListObjectVersions"
            if "versions" in self.query
            else "GetBucketOwnershipControls"
            if "ownershipControls" in self.query
            else "GetObjectAcl"
            if "acl" in self.query
            else "GetObject",
            "POST": "CreateMultipartUpload"
            if "uploads" in self.query
            else "CompleteMultipartUpload"
            if upload
            else "DeleteObjects",
            "DELETE": "AbortMultipartUpload" if upload else "DeleteObject",
            "HEAD": "HeadObject",
        }
        name = names.get(self.method, self.method)
        return name + "Copy" if "x-amz-copy-source" in self.headers else name


Fault = Callable[[Request], Answer | str | None]
"""Returns the answer to give instead, "cut" to break the connection after half of the body, "lost" to break it before
the answer, or None."""


def error(status: int, code: str, message: str = "on purpose") -> Answer:
    """Return one of S3's errors."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>R1</RequestId></Error>"
    return status, [("Content-Type", "application/xml"), ("x-amz-request-id", "R1")], body.encode()


@dataclass
class StrictS3:
    """A server; use it with ``with``.

    Attributes:
        url: where it listens.
        requests: what came in since :meth:`forget`.
        faults: asked, in turn, about each request before it is answered.
        after: called with each request after it was answered.
        page_size: how many keys a page of a listing has, if not 1000.
        sizes: what is told of the size of objects, by their paths, instead of the truth.
        rewritten: changes of the headers of answers.
    """

    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    after: list[Callable[[Request], None]] = field(default_factory=list)
    page_size: int | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    rewritten: list[Callable[[list[tuple[str, str]]], list[tuple[str, str]]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_MAX_ATTEMPTS": "2",
        }

    def session(self) -> S3Session:
        return S3Session(self.url)

    @functools.cached_property
    def _client(self) -> Any:
        return self.session().client("s3")

    def client(self) -> Any:
        """Return a client of the tests' own, always the same one."""
        return self._client

    def bucket(self, name: str = "bucket", *, versioned: bool = False) -> Any:
        """Make an empty bucket; return a client."""
        client = self.client()
        self.reset()
        client.create_bucket(Bucket=name)
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        self.forget()
        return client

    def reset(self) -> None:
        """Remove everything."""
        self.faults.clear()
        self.after.clear()
        self.page_size = None
        self.sizes.clear()
        self.rewritten.clear()
        status, _, _ = self._ask({"REQUEST_METHOD": "POST", "PATH_INFO": "/moto-api/reset"})
        assert status == 200

    def forget(self) -> None:
        self.requests.clear()

    @property
    def operations(self) -> list[str]:
        return [request.operation for request in self.requests]

    @property
    def received(self) -> int:
        """Bytes of bodies that came in."""
        return sum(request.received for request in self.requests)

    @property
    def sent(self) -> int:
        """Bytes of bodies that went out."""
        return sum(request.sent for request in self.requests)

    @contextlib.contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    # --- the layer

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        headers = {
            name[5:].replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        path = unquote(environ.get("RAW_URI", environ["PATH_INFO"]).partition("?")[0])
        request = Request(
            environ["REQUEST_METHOD"],
            path,
            parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
            headers,
            received=int(environ.get("CONTENT_LENGTH") or 0),
        )
        with self._lock:
            self.requests.append(request)
        if self.page_size is not None and request.operation == "ListObjectsV2":
            environ["QUERY_STRING"] += f"&max-keys={self.page_size}"
        if request.operation == "PutObjectCopy":
            # With a lock, moto asks for a header of uploads, which a copy does not have.
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = headers.get("x-amz-checksum-algorithm", "")
        found = next((fate for fault in list(self.faults) if (fate := fault(request)) is not None), None)
        answer = self._refusal(request) if found is None or isinstance(found, str) else found
        if answer is None:
            # moto holds no lock between a condition and the write that depends on it.
            with self._lock if request.method in ("PUT", "POST") else contextlib.nullcontext():
                answer = self._refusal(request) or self._call(environ)
        elif request.received:
            environ["wsgi.input"].read(request.received)
        status, answer_headers, body = answer
        if status < 300 and (size := self.sizes.get(request.path)) is not None:
            answer_headers = _resized(answer_headers, size, request.method)
        for rewrite in self.rewritten:
            answer_headers = rewrite(answer_headers)
        request.status, request.sent = status, len(body) if request.method != "HEAD" else 0
        for then in list(self.after):
            then(request)
        if found == "lost":
            # The server would keep the connection open, and the client wait for its time-out.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("on purpose")
        start_response(f"{status} any", answer_headers)
        if found == "cut":
            request.sent = len(body) // 2
            return _Broken(body[: len(body) // 2])
        return [body]

    def _call(self, environ: dict[str, Any]) -> Answer:
        found: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            found[:] = [int(status.split()[0]), headers]

        parts = self._moto(environ, start_response)
        body = b"".join(parts)
        if hasattr(parts, "close"):
            parts.close()
        return found[0], found[1], body

    def _ask(self, changes: dict[str, str]) -> Answer:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "HEAD",
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self._server.port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": f"127.0.0.1:{self._server.port}",
            "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request",
            "CONTENT_LENGTH": "0",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.version": (1, 0),
            **changes,
        }
        return self._call(environ)

    def _now(self, path: str, version_id: str | None = None) -> tuple[str, int] | None:
        """Return the ETag and size of what stands at a path."""
        query = f"versionId={version_id}" if version_id else ""
        status, headers, _ = self._ask(
            {"PATH_INFO": path.encode().decode("latin-1"), "RAW_URI": _quoted(path), "QUERY_STRING": query}
        )
        if status != 200:
            return None
        fields = {name.lower(): value for name, value in headers}
        return fields["etag"].strip('"'), int(fields["content-length"])

    def _refusal(self, request: Request) -> Answer | None:
        """Return what S3 answers where moto would go on."""
        if request.operation in ("CompleteMultipartUpload", "PutObject"):
            wanted, forbidden = request.headers.get("if-match"), request.headers.get("if-none-match")
            now = self._now(request.path) if wanted or forbidden else None
            if wanted and now is None:
                return error(404, "NoSuchKey")
            if wanted and now is not None and wanted.strip('"') != now[0]:
                return error(412, "PreconditionFailed")
            if forbidden and now is not None:
                return error(412, "PreconditionFailed")
        if request.operation == "PutObjectCopy":
            return self._refused_copy(request)
        if request.operation == "UploadPartCopy":
            source, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
            now = self._now("/" + unquote(source).lstrip("/"), version or None)
            if now is None:
                return error(404, "NoSuchKey")
            wanted = request.headers.get("x-amz-copy-source-if-match")
            if wanted and wanted.strip('"') != now[0]:
                return error(412, "PreconditionFailed")
            range_ = request.headers.get("x-amz-copy-source-range")
            if range_:
                if now[1] <= _SMALLEST_RANGE_SOURCE:
                    return error(400, "InvalidRequest", "The specified copy source is not supported as a byte-range")
                found = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", range_)
                if not found or int(found[2]) >= now[1] or int(found[1]) > int(found[2]):
                    return error(400, "InvalidArgument", "the range is not within the source")
        return None

    def _refused_copy(self, request: Request) -> Answer | None:
        """Return what S3 answers to the conditions of CopyObject, which moto does not know."""
        now = self._now(request.path)
        wanted = request.headers.get("if-match")
        if wanted and now is None:
            return error(404, "NoSuchKey")
        if wanted and now is not None and wanted.strip('"') != now[0]:
            return error(412, "PreconditionFailed")
        source, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
        path, query = "/" + unquote(source).lstrip("/"), f"versionId={version}" if version else ""
        status, headers, _ = self._ask(
            {"PATH_INFO": path.encode().decode("latin-1"), "RAW_URI": _quoted(path), "QUERY_STRING": query}
        )
        if status != 200:
            return error(404, "NoSuchKey")
        unmodified = request.headers.get("x-amz-copy-source-if-unmodified-since")
        modified = {name.lower(): value for name, value in headers}["last-modified"]
        if (
            unmodified
            and "x-amz-copy-source-if-match" not in request.headers
            and parsedate_to_datetime(modified) > parsedate_to_datetime(unmodified)
        ):
            return error(412, "PreconditionFailed")
        return None


def _resized(headers: list[tuple[str, str]], size: int, method: str) -> list[tuple[str, str]]:
    def changed(name: str, value: str) -> str:
        if name.lower() == "content-range":
            return f"{value.partition('/')[0]}/{size}"
        return str(size) if method == "HEAD" and name.lower() == "content-length" else value

    return [(name, changed(name, value)) for name, value in headers]


def _quoted(path: str) -> str:
    return quote(path)


class _Broken:
    """Half a body, and then the connection breaks."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        raise ConnectionAbortedError("on purpose")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any, **__: Any) -> None:
        pass


class S3Session:
    """A boto3-like session whose S3 clients go to the server, and no other."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def region_name(self) -> str | None:
        return REGION

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        assert service_name == "s3"
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name=region_name or REGION)
        quick = Config(retries={"mode": "standard", "total_max_attempts": 2})
        config = quick if config is None else config.merge(quick)
        return session.client("s3", endpoint_url=self._url, config=config)
