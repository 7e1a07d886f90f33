"""Verifies AWS Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sealwax.lab._apierror import ApiError
from sealwax.lab._wire import HttpRequest

_ALGORITHM = "AWS4-HMAC-SHA256"
_CREDENTIAL = re.compile(r"([^/\s]{1,128})/(\d{8})/([a-z0-9-]{1,32})/([a-z0-9-]{1,32})/aws4_request")
_TIME_FORMAT = "%Y%m%dT%H%M%SZ"
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Credential:
    """The Authorization header, parsed but not verified."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def read_credential(request: HttpRequest) -> Credential:
    """Read the Authorization header.

    Raises:
        ApiError: it is missing or not a Signature Version 4.
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
    if algorithm != _ALGORITHM or match is None or not parts.get("SignedHeaders") or not parts.get("Signature"):
        raise ApiError("IncompleteSignatureException", "The Authorization header is not a Signature Version 4.")
    access_key_id, date, region, service = match.groups()
    signed_headers = tuple(parts["SignedHeaders"].split(";"))
    return Credential(access_key_id, date, region, service, signed_headers, parts["Signature"])


def need_service(credential: Credential, service: str) -> None:
    """Raises InvalidSignatureException unless the signature is for this service."""
    if credential.service != service:
        raise ApiError("InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'.")


def verify(request: HttpRequest, credential: Credential, secret: str, now: datetime) -> None:
    """Check that a request was signed with a secret, recently, and was not altered since.

    Raises:
        ApiError: InvalidSignatureException or IncompleteSignatureException.
    """
    stamp = request.headers.get("x-amz-date", "")
    _check_time(stamp, credential, now)
    signed = set(credential.signed_headers)
    for name in ("host", *(name for name in request.headers if name.startswith("x-amz-"))):
        if name not in signed:
            raise ApiError("InvalidSignatureException", f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    path, _, query = request.target.partition("?")
    canonical = "\n".join(
        (
            request.method,
            path,
            query,
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in credential.signed_headers),
            "",
            ";".join(credential.signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{credential.date}/{credential.region}/{credential.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
    key = _signing_key(secret, credential.date, credential.region, credential.service)
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), credential.signature.encode()):
        raise ApiError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )


def _check_time(stamp: str, credential: Credential, now: datetime) -> None:
    match = _STAMP.fullmatch(stamp)
    try:
        # strptime() would take as long as checking the signature.
        signed_at = datetime.fromisoformat(match[0]) if match is not None else None
    except ValueError:
        signed_at = None
    if signed_at is None:
        raise ApiError("IncompleteSignatureException", "The request has no valid X-Amz-Date header.")
    if not stamp.startswith(credential.date):
        raise ApiError("InvalidSignatureException", "Date in Credential scope does not match YYYYMMDD from X-Amz-Date")
    if signed_at < now - _SKEW:
        limit = (now - _SKEW).strftime(_TIME_FORMAT)
        raise ApiError("InvalidSignatureException", f"Signature expired: {stamp} is now earlier than {limit}")
    if signed_at > now + _SKEW:
        limit = (now + _SKEW).strftime(_TIME_FORMAT)
        raise ApiError("InvalidSignatureException", f"Signature not yet current: {stamp} is still later than {limit}")


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
