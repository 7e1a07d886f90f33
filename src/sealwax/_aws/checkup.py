"""Who the caller is to AWS, where the credentials are from, and whether AWS's clock agrees with this machine's."""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.loaders import create_loader
from botocore.regions import EndpointResolver

from sealwax import errors
from sealwax._aws import origins, refusals, responses
from sealwax._aws.session import OwnSession, Session

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient

# AWS refuses signatures that are older or newer than this.
MOST_SKEW_SECONDS: Final = 300.0
_CONFIG: Final = Config(
    connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}, user_agent_extra="sealwax"
)
_AWS_DOMAINS: Final = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws", ".ic.gov", ".sgov.gov")


class ServerClock:
    """Compares this machine's clock with the Date of each answer of the clients that it watches.

    Attributes:
        skew: how many seconds this machine is ahead; None until an answer has a Date.
    """

    def __init__(self) -> None:
        self.skew: float | None = None

    def watch(self, client: Any) -> None:
        """Compare the Date of this client's answers; refusals have one too."""
        client.meta.events.register("after-call", self._note)

    @property
    def is_wrong(self) -> bool:
        """Whether AWS refuses what is signed by this clock."""
        return self.skew is not None and abs(self.skew) > MOST_SKEW_SECONDS

    def _note(self, http_response: Any, **_: object) -> None:
        try:
            date = email.utils.parsedate_to_datetime(str(http_response.headers.get("date")))
            self.skew = time.time() - date.timestamp()
        except (ValueError, OverflowError, OSError):
            return  # none, or not a date


@dataclass(frozen=True, slots=True)
class SignInFacts:
    """What is known of credentials.

    Attributes:
        source: where they are from, as in error messages.
        method: botocore's name for that.
        temporary: whether they have a session token.
        expires: when they expire; None if they do not, or if botocore does not know.
    """

    source: str
    method: str
    temporary: bool
    expires: datetime | None


class Identification:
    """Asks STS who the caller is (sts:GetCallerIdentity, which no policy can deny).

    Args:
        clock: watches the answers.

    Raises:
        KmsError: there are no credentials, or they are unusable.
    """

    def __init__(self, session: Session, region: str | None, clock: ServerClock) -> None:
        self._client: STSClient = refusals.open_client(
            lambda: session.client("sts", region_name=region, config=_CONFIG), "signing in"
        )
        clock.watch(self._client)

    @property
    def endpoint(self) -> str:
        """The URL of STS."""
        return self._client.meta.endpoint_url

    def facts(self) -> SignInFacts:
        """Return what is known of the credentials."""
        credentials: Any = origins.credentials_of(self._client)
        expires = getattr(credentials, "_expiry_time", None)
        return SignInFacts(
            source=origins.source_of(credentials),
            method=str(getattr(credentials, "method", "")),
            temporary=bool(getattr(credentials, "token", None)),
            expires=expires if isinstance(expires, datetime) else None,
        )

    def arn(self) -> str:
        """Return the caller's ARN.

        Raises:
            KmsError: STS did not answer, or refused.
        """
        doing = "asking STS who the caller is"
        return responses.ask(lambda: self._client.get_caller_identity(), doing, None).need("Arn", str)


def is_of_aws(url: str) -> bool:
    """Whether an endpoint is AWS's, by its name."""
    return (urlsplit(url).hostname or "").endswith(_AWS_DOMAINS)


def has_endpoint_of_sts(session: OwnSession) -> bool:
    """Whether the AWS settings say where STS is."""

    def is_elsewhere() -> bool:
        return not is_of_aws(session.client("sts", region_name="us-east-1").meta.endpoint_url)

    try:
        return refusals.open_client(is_elsewhere, "reading the AWS settings")
    except errors.KmsError:
        return False  # signing in reports it


def known_regions() -> list[str]:
    """Return the Regions of KMS that boto3 knows, in all partitions."""
    # Not of a session: the environment may name a profile that does not exist.
    resolver = EndpointResolver(create_loader().load_data("endpoints"))
    partitions = resolver.get_available_partitions()
    return [name for each in partitions for name in resolver.get_available_endpoints("kms", each)]
