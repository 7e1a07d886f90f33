"""An account in AWS's place: a lab is its KMS and STS, and moto is everything else.

The two know the same roles: what moto's IAM makes, the lab gets too.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from sealwax._rehearse.plan import policy
from sealwax.lab import Lab
from sealwax.lab._gateway import Gateway
from sealwax.lab._wire import HttpRequest

REGIONS: Final = ("eu-west-1", "us-east-1")
ACCOUNT: Final = "123456789012"
_SCOPE: Final = re.compile(r"Credential=([^/]+)/\d+/([^/]*)/([^/]+)/")
_OF_LAB: Final = ("kms", "sts")

Change = Callable[[dict[str, Any], int], tuple[dict[str, Any], int]]


@dataclass(frozen=True)
class Call:
    """A request to the account."""

    service: str
    operation: str
    caller: str


@dataclass
class Account:
    """The account, served at one URL.

    Attributes:
        before: called with each request before it is answered; what it returns instead of None is the answer.
        changes: what changes the lab's answers to an operation: the decoded body and the status.
    """

    lab: Lab
    key: dict[str, str]
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    before: Callable[[Call], tuple[int, bytes] | None] = lambda _call: None
    changes: dict[str, Change] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.key["SecretAccessKey"],
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def actions(self) -> Counter[str]:
        """How often the caller did what."""
        caller = self.key["AccessKeyId"]
        return Counter(f"{call.service}:{call.operation}" for call in self.calls if call.caller == caller)

    def left(self) -> dict[str, list[str]]:
        """What there is in the account, but for keys that are pending deletion."""
        made: Any = boto3.Session("x", "x", region_name="us-east-1")

        def client(service: str) -> Any:
            return made.client(service, endpoint_url=self.url)

        keys = [key["Arn"] for key in self.lab.list_keys() if not key["KeyState"].startswith("Pending")]
        aliases = [alias for key in self.lab.list_keys() for alias in key["Aliases"]]
        return {
            "keys": keys,
            "aliases": aliases,
            "buckets": [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]],
            "roles": [role["RoleName"] for role in client("iam").list_roles()["Roles"]],
        }

    # --- the server

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        match = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        access_key, service = (match[1], match[3]) if match else ("", "")
        call = Call(service, _operation(service, environ, body), access_key)
        with self._lock:
            self.calls.append(call)
        instead = self.before(call)
        if instead is not None:
            start_response(f"{instead[0]} any", [("Content-Type", "application/x-amz-json-1.1")])
            return [instead[1]]
        if service in _OF_LAB:
            return self._of_lab(call, environ, body, start_response)
        if call.operation == "CreateRole":
            name = parse_qs(body.decode())["RoleName"][0]
            self.lab.add_principal(name, role=True, account=ACCOUNT)
        environ["wsgi.input"] = _Body(body)
        return self._moto(environ, start_response)

    def _of_lab(self, call: Call, environ: dict[str, Any], body: bytes, start_response: Any) -> Any:
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        headers["content-length"] = str(len(body))
        gateway: Gateway = self.lab._gateway
        request = HttpRequest("POST", environ["PATH_INFO"], headers, bytearray(body), "127.0.0.1", True)
        answer = gateway.handle(request)
        status, content = answer.status, bytes(answer.body)
        if (change := self.changes.get(call.operation)) is not None:
            document, status = change(json.loads(content or b"{}"), status)
            content = json.dumps(document).encode()
        names = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
        start_response(f"{status} any", [*names.items(), ("Content-Length", str(len(content)))])
        return [content]


class _Body:
    """A body that was read already."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part, self._at = self._data[self._at : end], min(end, len(self._data))
        return part

    def readline(self, size: int = -1) -> bytes:
        end = self._data.find(b"\n", self._at)
        return self.read((len(self._data) if end < 0 else end + 1) - self._at if size < 0 else size)


def _operation(service: str, environ: dict[str, Any], body: bytes) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return str(target.rpartition(".")[2])
    if service == "s3":
        return _s3_operation(environ)
    if body[:2] == b"\x1f\x8b":
        body = gzip.decompress(body)
    form = parse_qs(body.decode("latin-1"))
    if "Action" in form:
        return form["Action"][0]
    return str(environ["PATH_INFO"].rpartition("/")[2])


def _s3_operation(environ: dict[str, Any]) -> str:
    query, method = environ.get("QUERY_STRING", ""), environ["REQUEST_METHOD"]
    of_object = environ["PATH_INFO"].strip("/").count("/") > 0
    if not of_object:
        if method == "GET":
            if "uploads" in query:
                return "ListBucketMultipartUploads"
            if "versions" in query:
                return "ListBucketVersions"
            return "ListBucket" if environ["PATH_INFO"].strip("/") else "ListAllMyBuckets"
        return {"PUT": "CreateBucket", "DELETE": "DeleteBucket", "HEAD": "ListBucket"}[method]
    if "tagging" in query:
        return {"GET": "GetObjectTagging", "PUT": "PutObjectTagging"}[method]
    if method == "DELETE":
        if "uploadId" in query:
            return "AbortMultipartUpload"
        return "DeleteObjectVersion" if "versionId" in query else "DeleteObject"
    return {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "POST": "PutObject"}[method]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


def reset(url: str) -> None:
    """Remove what other tests left in moto."""
    request = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


@contextlib.contextmanager
def account(folder: Path) -> Iterator[Account]:
    """Serve an empty account, with one user who has the policy of a rehearsal and nothing else."""
    with Lab(folder / "aws") as lab:
        key = lab.add_principal("ann", account=ACCOUNT, policy=policy(REGIONS))
        it = Account(lab, key)
        server = make_server("127.0.0.1", 0, it, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        it.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield it
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
