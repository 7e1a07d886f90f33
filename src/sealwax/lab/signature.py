"""AWS Signature Version 4, the verifier's side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sealwax.lab.apierror import ApiError
from sealwax.lab.wire import HttpRequest

ALGORITHM = "AWS4-HMAC-SHA256"
_CREDENTIAL = re.compile(r"([^/\s]{1,128})/(\d{8})/([a-z0-9-]{1,32})/([a-z0-9-]{1,32})/aws4_request")


@dataclass(frozen=True, slots=True)
class Credential:
    """What the Authorization header says of the signer, before anything was verified."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def read_credential(request: HttpRequest) -> Credential:
    """Read the Authorization header.

    Raises:
        ApiError: there is none, or it is not of this scheme.
    """
    header = request.headers.get("authorization")
    if header is None:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    parts: dict[str, str] = {}
    for piece in rest.split(","):
        name, _, value = piece.strip().partition("=")
        parts[name] = value
    match = _CREDENTIAL.fullmatch(parts.get("Credential", ""))
    if algorithm != ALGORITHM or match is None or not parts.get("SignedHeaders") or not parts.get("Signature"):
        raise ApiError("IncompleteSignatureException", "The Authorization header is not a Signature Version 4")
    access_key_id, date, region, service = match.groups()
    signed_headers = tuple(parts["SignedHeaders"].split(";"))
    return Credential(access_key_id, date, region, service, signed_headers, parts["Signature"])
