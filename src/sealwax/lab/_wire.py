"""The AWS JSON 1.1 protocol: an HTTP request in, an HTTP response out. Both front doors go through here.

A plaintext is taken out of the request's body before the JSON parser sees it, and written into the answer's body byte
by byte, so that no ``str`` or ``bytes`` of it is made on the way.
"""

from __future__ import annotations

import base64
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sealwax.lab._apierror import ApiError
from sealwax.lab._secretbytes import base64_size, decode_base64, put_base64, wipe

JSON_TYPE = "application/x-amz-json-1.1"
_PLAINTEXT_IN = re.compile(rb'"Plaintext"\s*:\s*"([A-Za-z0-9+/=]*)"')
# What no request can hold by itself, since nobody outside knows it.
_STAND_IN = f"plaintext {os.urandom(16).hex()} taken out: "


@dataclass(frozen=True, slots=True, repr=False)
class HttpRequest:
    """A request as it came, with header names in lower case.

    Attributes:
        body: a buffer of the front door's own, or the caller's bytes, which are not changed.
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
    """An answer. ``body`` may hold a plaintext: whoever sends it wipes it."""

    status: int
    headers: Mapping[str, str]
    body: bytearray


def read_document(body: bytes | bytearray) -> Any:
    """The JSON document of a body; a member Plaintext at the top becomes a bytearray.

    Raises:
        ApiError: SerializationException.
    """
    taken: dict[str, bytearray] = {}
    if b'"Plaintext"' in body:
        body = _take_out(bytearray(body), taken)
    try:
        document = json.loads(body) if body else {}
        if taken and isinstance(document, dict):
            held = document.get("Plaintext")
            # Taken first: what is put back below becomes text.
            if isinstance(held, str) and held in taken:
                document["Plaintext"] = taken.pop(held)
            document = {name: _put_back(value, taken) for name, value in document.items()}
    except (ValueError, RecursionError) as error:
        raise ApiError("SerializationException", "The request's body is not a JSON document") from error
    return document


def _take_out(body: bytearray, taken: dict[str, bytearray]) -> bytearray:
    """Copy a body with every base64 text of a member Plaintext replaced, and wipe what the copy was made from."""
    rest = bytearray()
    end = 0
    with memoryview(body) as view:
        for match in _PLAINTEXT_IN.finditer(body):
            secret = decode_base64(view[match.start(1) : match.end(1)])
            if secret is None:
                continue
            rest += view[end : match.start(1)]
            stand_in = f"{_STAND_IN}{len(taken)}"
            rest += stand_in.encode()
            end = match.end(1)
            taken[stand_in] = secret
        rest += view[end:]
    wipe(body)
    return rest


def _put_back(value: Any, taken: Mapping[str, bytearray]) -> Any:
    """The value with the texts that are no plaintext: a pair of an encryption context can have that name too."""
    if isinstance(value, dict):
        return {name: _put_back(held, taken) for name, held in value.items()}
    if isinstance(value, list):
        return [_put_back(held, taken) for held in value]
    secret = taken.get(value) if isinstance(value, str) else None
    return value if secret is None else base64.b64encode(secret).decode()


def answer(members: Mapping[str, Any], request_id: str) -> HttpResponse:
    """The response for an operation's members; their plaintext, if any, is wiped."""
    plaintext = members.get("Plaintext")
    if plaintext is None:
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
    raise TypeError(f"{type(value).__name__} is no member of an answer")
