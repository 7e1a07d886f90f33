"""Who one is at AWS, and who one may become."""

from __future__ import annotations

from typing import Any, Final

import boto3
from botocore.config import Config

from sealwax._aws import refusals, responses
from sealwax._aws.session import Session, at_endpoint, read_settings
from sealwax._core.context import printable

_CONFIG: Final = Config(connect_timeout=3, read_timeout=5, user_agent_extra="sealwax")


def whoami(session: Session, doing: str) -> str:
    """Return the ARN of the caller (sts:GetCallerIdentity, which nobody can be denied).

    Args:
        doing: what for, as the subject of a sentence: ``"asking STS who the caller is"``.

    Raises:
        KmsError: STS does not say.
    """
    client = _client(session, doing)
    return responses.ask(lambda: client.get_caller_identity(), doing, None).need("Arn", str)


def assume_role(role_arn: str, session: Session, region: str | None, endpoint_url: str | None = None) -> Session:
    """Return a session of a role, for an hour, whose KMS clients go to ``endpoint_url`` where one is given.

    IAM actions: sts:AssumeRole on the role.

    Raises:
        KmsError: STS did not give the role.
    """
    doing = f"assuming the role '{printable(role_arn)}'"
    client = _client(session, doing)
    answer = responses.ask(lambda: client.assume_role(RoleArn=role_arn, RoleSessionName="sealwax"), doing, None)
    given = answer.part("Credentials")
    key_id, key, token = (given.need(name, str) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    assumed = read_settings(lambda: boto3.Session(key_id, key, token, region or session.region_name))
    return at_endpoint(assumed, endpoint_url)


def _client(session: Session, doing: str) -> Any:
    return refusals.made(lambda: session.client("sts", config=_CONFIG), doing)
