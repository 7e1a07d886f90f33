"""The AWS JSON 1.1 protocol, for requests over HTTP and in process.

A plaintext is removed from the request's body before the JSON parser reads it, and written into the answer's body byte
by byte, so no ``str`` or ``bytes`` of it is created.
"""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sealwax.lab._apierror import ApiError
from sealwax.lab._model import Answer
from sealwax.lab._secretbytes import base64_size, decode_base64, put_base64, wipe

JSON_TYPE = "application/x-amz-json-1.1"
_PLAINTEXT_IN = re.compile(rb'"Plaintext"\s*:\s*"([A-Za-z0-9+/=]*)"')
# Random, so no request can contain it.
_PLACEHOLDER = f"plaintext {os.urandom(16).hex()} removed: "


@dataclass(frozen=True, slots=True, repr=False)
class HttpRequest:
    """A request as it was received, with header names in lower case.

    Attributes:
        body: a buffer that can be wiped, or the caller's bytes.
        peer: the address of the caller.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | bytearray
    peer: str
    secure: bool


@dataclass(frozen=True, slots=True, repr=False)
class HttpResponse:
    """An answer. ``body`` may hold a plaintext; its sender wipes it."""

    status: int
    headers: Mapping[str, str]
    body: bytearray


def read_document(body: bytes | bytearray) -> object:
    """Parse the JSON document of a body. A top-level member Plaintext becomes a bytearray.

    Raises:
        ApiError: SerializationException.
    """
    plaintexts: dict[str, bytearray] = {}
    if b'"Plaintext"' in body:
        body = _remove_plaintexts(bytearray(body), plaintexts)
    try:
        document: object = json.loads(body) if body else {}
        if plaintexts and isinstance(document, dict):
            placeholder = document.get("Plaintext")
            # First, since _put_back() turns plaintexts into text.
            if isinstance(placeholder, str) and placeholder in plaintexts:
                document["Plaintext"] = plaintexts.pop(placeholder)
            document = {name: _put_back(value, plaintexts) for name, value in document.items()}
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", "The request's body is not a JSON document.") from error
    return document


def _remove_plaintexts(body: bytearray, plaintexts: dict[str, bytearray]) -> bytearray:
    """Copy a body with a placeholder for each member Plaintext, and wipe the original."""
    rest = bytearray()
    end = 0
    with memoryview(body) as view:
        for match in _PLAINTEXT_IN.finditer(body):
            secret = decode_base64(view[match.start(1) : match.end(1)])
            if secret is None:
                continue
            rest += view[end : match.start(1)]
            placeholder = f"{_PLACEHOLDER}{len(plaintexts)}"
            rest += placeholder.encode()
            end = match.end(1)
            plaintexts[placeholder] = secret
        rest += view[end:]
    wipe(body)
    return rest


def _put_back(value: object, plaintexts: Mapping[str, bytearray]) -> object:
    """Restore the other members called Plaintext, which are not secrets: an encryption context can have that name."""
    if isinstance(value, dict):
        return {name: _put_back(member, plaintexts) for name, member in value.items()}
    if isinstance(value, list):
        return [_put_back(item, plaintexts) for item in value]
    secret = plaintexts.get(value) if isinstance(value, str) else None
    return value if secret is None else base64.b64encode(secret).decode()


def answer(members: Answer, request_id: str) -> HttpResponse:
    """The response with these members. Their plaintext is wiped."""
    plaintext = members.get("Plaintext")
    if not isinstance(plaintext, bytearray):
        return _respond(200, bytearray(json.dumps(members, default=_blob, separators=(",", ":")), "ascii"), request_id)
    rest = {name: value for name, value in members.items() if name != "Plaintext"}
    head = json.dumps(rest, default=_blob, separators=(",", ":"))[:-1].encode()
    head += b',"Plaintext":"' if rest else b'"Plaintext":"'
    body = bytearray(len(head) + base64_size(plaintext) + 2)
    body[: len(head)] = head
    put_base64(body, len(head), plaintext)
    body[-2:] = b'"}'
    wipe(plaintext)
    return _respond(200, body, request_id)


def failure(error: ApiError, request_id: str) -> HttpResponse:
    """The response for an error."""
    document: dict[str, str] = {"__type": error.code}
    if error.message:
        document["message"] = error.message
    return _respond(error.status, bytearray(json.dumps(document), "ascii"), request_id)


def new_request_id() -> str:
    return str(uuid.uuid4())


def _respond(status: int, body: bytearray, request_id: str) -> HttpResponse:
    headers = {
        "x-amzn-RequestId": request_id,
        "Cache-Control": "no-cache, no-store, must-revalidate, private",
        "Content-Type": JSON_TYPE,
        "Content-Length": str(len(body)),
    }
    return HttpResponse(status, headers, body)


def _blob(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} cannot be a member of an answer")
