"""The in-process front door: botocore signs and serialises, the lab answers, botocore parses.

This is the only file of the lab that knows botocore.
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
# A lab asks nobody: neither a metadata service that is not there, nor a sign-on that may have expired, nor a person for
# a code.
_NETWORK_PROVIDERS = ("container-role", "iam-role", "sso", "login")


def new_session(
    gateway: Gateway, region: str | None, key: AccessKey | None, default_key: Callable[[], AccessKey]
) -> boto3.Session:
    """A boto3 session whose KMS, STS and CloudTrail clients are answered by the lab.

    Args:
        region: None takes the one that the user has set for AWS, else us-east-1.
        key: the lab's access key to act as; None takes what the user has set in the environment or in files.
        default_key: the lab's own key for a user who has set none.
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
    """Whether the environment names a profile that is not there; a lab, which needs none, goes on without."""
    try:
        core.get_scoped_config()
    except ProfileNotFound:
        return True
    return False


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Loader:
    # Reading botocore's service models is most of what making a client costs; they are the same for every session.
    return create_loader(data_path)


def _attach(core: BotocoreSession, gateway: Gateway) -> None:

    def answer(**event: Any) -> Any:
        return _answer(gateway, event["request"])

    for service in _SERVICES:
        core.register(f"before-send.{service}", answer)


def _answer(gateway: Gateway, prepared: AWSPreparedRequest) -> AWSResponse:
    body: Any = prepared.body
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
    # The stubs want urllib3's header class; botocore itself takes any mapping.
    headers: Any = dict(response.headers)
    return AWSResponse(prepared.url, response.status, headers, raw)


def _headers(prepared: AWSPreparedRequest) -> dict[str, str]:
    # The stubs say text; signers write some of them as bytes.
    items: Any = prepared.headers.items()
    headers = {name.lower(): value.decode("latin-1") if isinstance(value, bytes) else value for name, value in items}
    # On a wire the HTTP client adds it; it is part of what was signed.
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
    """A response's body in one piece, given away once: the lab keeps no reference to what may hold a plaintext."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, amt: int = 0, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002 - urllib3's
        yield self.read()

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:  # noqa: ARG002 - urllib3's
        """The next ``amt`` bytes, or all that is left."""
        size = len(self._body) if amt is None else amt
        taken, self._body = (self._body, b"") if size >= len(self._body) else (self._body[:size], self._body[size:])
        return taken
