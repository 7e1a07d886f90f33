"""In-process sessions: botocore signs and serializes, the lab answers, botocore parses.

This is the only file of the lab that imports botocore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.configprovider import ConstantProvider
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ProfileNotFound
from botocore.loaders import Loader, create_loader

from sealwax._aws import signin
from sealwax.lab._faults import Dropped
from sealwax.lab._gateway import Gateway
from sealwax.lab._model import DEFAULT_REGION, AccessKey
from sealwax.lab._secretbytes import wipe
from sealwax.lab._wire import HttpRequest

if TYPE_CHECKING:
    from botocore.session import Session as BotocoreSession

_SERVICES = ("kms", "sts", "cloudtrail")
# A lab needs none of these: a metadata service may not exist, single sign-on may have expired.
_NETWORK_PROVIDERS = ("container-role", "iam-role", "sso", "login")


def new_session(
    gateway: Gateway, region: str | None, key: AccessKey | None, default_key: Callable[[], AccessKey]
) -> boto3.Session:
    """A boto3 session whose KMS, STS and CloudTrail clients use the lab.

    Args:
        region: the Region; None for the user's AWS Region, or else us-east-1.
        key: the access key to sign with; None for the user's AWS credentials.
        default_key: returns the access key for a user who has no AWS credentials.
    """
    core = botocore.session.get_session()
    if _lacks_its_profile(core):
        core.get_component("config_store").set_config_provider("profile", ConstantProvider(None))
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    if key is None:
        resolver = core.get_component("credential_provider")
        for provider in _NETWORK_PROVIDERS:
            resolver.remove(provider)
        signin.guard(core)
        if signin.wants_code(core):
            resolver.remove(signin.ASSUME_ROLE)
        if core.get_credentials() is None:
            key = default_key()
    if key is not None:
        core.set_credentials(key.access_key_id, key.secret, key.token)
    _attach(core, gateway)
    return boto3.Session(
        botocore_session=core, region_name=region or core.get_config_variable("region") or DEFAULT_REGION
    )


def _lacks_its_profile(core: BotocoreSession) -> bool:
    """Whether the environment names a profile that does not exist. A lab does not need one."""
    try:
        core.get_scoped_config()
    except ProfileNotFound:
        return True
    return False


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Loader:
    # Most of the time to create a client goes into reading service models, which all sessions can share.
    return create_loader(data_path)


def _attach(core: BotocoreSession, gateway: Gateway) -> None:
    def answer(**event: Any) -> Any:
        return _answer(gateway, event["request"])

    for service in _SERVICES:
        core.register(f"before-send.{service}", answer)


def _answer(gateway: Gateway, prepared: AWSPreparedRequest) -> AWSResponse:
    body: object = prepared.body
    request = HttpRequest(
        method=prepared.method,
        target=_target(prepared.url),
        headers=_headers(prepared),
        body=body if isinstance(body, bytes | bytearray) else _read(body),
        peer="127.0.0.1",
        secure=True,
    )
    try:
        response = gateway.handle(request)
    except Dropped as event:
        if event.refused:
            raise EndpointConnectionError(endpoint_url=prepared.url) from event
        raise ConnectionClosedError(endpoint_url=prepared.url) from event
    raw = _Raw(bytes(response.body))
    wipe(response.body)
    # The stubs ask for urllib3's headers; botocore takes any mapping.
    headers: Any = dict(response.headers)
    return AWSResponse(prepared.url, response.status, headers, raw)


def _headers(prepared: AWSPreparedRequest) -> dict[str, str]:
    # The stubs say str; signers write some as bytes.
    items: Any = prepared.headers.items()
    headers = {name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value for name, value in items}
    # The HTTP client would add it, and it was signed.
    headers.setdefault("host", prepared.url.partition("://")[2].partition("/")[0])
    return headers


def _target(url: str) -> str:
    rest = url.partition("://")[2]
    return "/" + rest.partition("/")[2]


def _read(body: Any) -> bytes:
    if body is None:
        return b""
    content = body.encode() if isinstance(body, str) else body.read()
    assert isinstance(content, bytes)
    return content


class _Raw:
    """A response's body, which can be read once: the lab keeps no reference to a plaintext."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002 - urllib3's
        yield self.read()

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:  # noqa: ARG002 - urllib3's
        """The next ``amt`` bytes, or all remaining ones."""
        size = len(self._body) if amt is None else amt
        part, self._body = (self._body, b"") if size >= len(self._body) else (self._body[:size], self._body[size:])
        return part
