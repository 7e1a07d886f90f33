"""The caller's identity, and assumed roles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config

from sealwax._aws import refusals, responses
from sealwax._aws.session import Session, at_endpoint, read_settings
from sealwax._text import printable

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

_CONFIG: Final = Config(connect_timeout=3, read_timeout=5, user_agent_extra="sealwax")


def whoami(session: Session, doing: str) -> str:
    """Return the caller's ARN (sts:GetCallerIdentity, which no policy can deny).

    Args:
        doing: the purpose, as the subject of a sentence: ``"asking STS who the caller is"``.

    Raises:
        KmsError: STS did not answer.
    """
    client = _client(session, doing)
    return responses.ask(lambda: client.get_caller_identity(), doing, None).need("Arn", str)


def assume_role(
    role_arn: str,
    session: Session,
    region: str | None,
    endpoint_url: str | None = None,
    prepare: Callable[[boto3.Session], object] = lambda _: None,
) -> Session:
    """Return a session of a role, valid for an hour.

    IAM actions: sts:AssumeRole on the role.

    Args:
        endpoint_url: where the session's KMS clients connect; None for AWS.
        prepare: called with the session before it is used.

    Raises:
        KmsError: STS denied the role.
    """
    doing = f"assuming the role '{printable(role_arn)}'"
    client = _client(session, doing)
    answer = responses.ask(lambda: client.assume_role(RoleArn=role_arn, RoleSessionName="sealwax"), doing, None)
    credentials = answer.part("Credentials")
    key_id, key, token = (credentials.need(name, str) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    assumed = read_settings(lambda: boto3.Session(key_id, key, token, region or session.region_name))
    prepare(assumed)
    return at_endpoint(assumed, endpoint_url)


def _client(session: Session, doing: str) -> STSClient:
    client: STSClient = refusals.open_client(lambda: session.client("sts", config=_CONFIG), doing)
    return client
