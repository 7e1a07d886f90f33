"""Sessions and clients of boto3.

boto3 handles credentials, profiles, single sign-on, roles, proxies and endpoints; none of them is read here.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import boto3
import botocore.credentials
import botocore.session
from botocore.config import Config

from sealwax import errors
from sealwax._aws import origins, refusals, signin
from sealwax._core import fork_locks, pickling

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")


class Session(Protocol):
    """The part of ``boto3.Session`` that sealwax uses."""

    @property
    def region_name(self) -> str | None:
        """The Region that clients get by default, if any."""

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        """Make a client.

        Args:
            service_name: such as ``"kms"``.
            region_name: its Region; the default one if None.
            config: its settings.

        Returns:
            A boto3 client.
        """


# The most workers that a fleet may have. Connections are opened on demand; a connection beyond this is closed after one
# request.
MOST_CONNECTIONS: Final = 256
# KMS answers in milliseconds: after this long, a retry is the better choice. sealwax retries, not botocore, which also
# retries hopeless requests and has no deadline.
_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=MOST_CONNECTIONS,
    user_agent_extra="sealwax",
)


def merged(config: Config | None, deadline: float) -> Config:
    """Return the caller's settings for a KMS client, completed by sealwax's own.

    Two settings stay sealwax's: botocore never retries, and one request may not take longer than ``deadline`` seconds.

    Raises:
        ValueError: a proxy could read data keys.
    """
    if config is None:
        return _CONFIG
    settings: Any = _CONFIG.merge(config)
    if (settings.proxies_config or {}).get("proxy_use_forwarding_for_https"):
        raise ValueError(
            "config lets the proxy read data keys: remove proxy_use_forwarding_for_https from proxies_config"
        )

    def bounded(seconds: float | None) -> float:
        return min(seconds or deadline, deadline)

    agents = [_CONFIG.user_agent_extra, config.user_agent_extra]  # type: ignore[attr-defined]  # not in the stubs
    ours = Config(
        connect_timeout=bounded(settings.connect_timeout),
        read_timeout=bounded(settings.read_timeout),
        retries=_CONFIG.retries,  # type: ignore[attr-defined]
        user_agent_extra=" ".join(filter(None, agents)),
    )
    return cast("Config", settings.merge(ours))


def pack_config(config: Any) -> pickling.Packed:
    """Return how to rebuild a client's settings in another process.

    Raises:
        NotPicklableError: they hold a password, or cannot be pickled.
    """
    if any("@" in str(url) for url in (config.proxies or {}).values()):
        raise errors.NotPicklableError(
            "the config cannot be pickled because a proxy's URL has a user name or password in it: set HTTPS_PROXY in "
            "the other process, or create the keyring there"
        )
    return pickling.pack_picklable(config, "the config")


def refuse_async(client: object) -> None:
    """Raise TypeError for a client whose methods are coroutines, which would never be awaited."""
    names = ("generate_data_key", "decrypt", "encrypt", "re_encrypt", "_make_api_call")
    methods = [getattr(client, name, None) for name in names]
    is_async = any(
        inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(type(method).__call__) for method in methods
    )
    # A context manager that returns such a client when awaited.
    if is_async or (methods[0] is None and hasattr(client, "__aenter__")):
        name = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(
            f"the KMS client is asynchronous ({name}), but sealwax calls KMS in threads: pass a client or session of "
            "boto3, which works for encrypt_async and decrypt_async too"
        )


_ENDPOINT_ORIGIN: Final = "; it comes from AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS or the profile's endpoint_url"


def open_session(profile: str | None = None, region: str | None = None, endpoint_url: str | None = None) -> Session:
    """Return a boto3 Session.

    Args:
        endpoint_url: where its KMS clients connect; None for AWS.

    Raises:
        ConfigurationError: there is no such profile, or the endpoint is not a URL.
    """
    return at_endpoint(OwnSession(profile, region), endpoint_url)


class OwnSession(boto3.Session):
    """A boto3 session that sealwax opens itself; looking up its credentials never reads standard input.

    Args:
        like: a session whose credentials this one shares, so that nobody is prompted twice.

    Raises:
        ConfigurationError: there is no such profile.
    """

    def __init__(self, profile: str | None = None, region: str | None = None, like: OwnSession | None = None) -> None:
        self._core = botocore.session.get_session()

        def open_it() -> None:
            super(OwnSession, self).__init__(botocore_session=self._core, profile_name=profile, region_name=region)
            if like is None:
                signin.guard(self._core)
            else:
                self._core.register_component("credential_provider", signin.SharedCredentials(like._core))

        read_settings(open_it)

    def sign_in(self) -> dict[str, str] | None:
        """Prompt now for the MFA code, if the credentials need one.

        Returns:
            The credentials as environment variables; None if no code is needed.

        Raises:
            CredentialsError: there is no terminal to prompt on, or AWS rejects the code.
            KmsError: the AWS settings are invalid.
        """

        def frozen() -> ReadOnlyCredentials | None:
            credentials = self.get_credentials() if signin.wants_code(self._core) else None
            # Keys in the environment win over a profile named by the environment.
            if credentials is None or credentials.method != signin.ASSUME_ROLE:
                return None
            return credentials.get_frozen_credentials()

        credentials = refusals.call_aws(frozen, "signing in", None)
        if credentials is None:
            return None
        variables = {
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": credentials.token,
        }
        return {name: value for name, value in variables.items() if value}

    def may_prompt(self) -> bool:
        """Whether looking up the credentials may ask somebody for a code or a password.

        Raises:
            KmsError: the AWS settings are invalid.
        """
        return read_settings(lambda: signin.may_prompt(self._core))


def profile_names() -> list[str]:
    """Return the names of the AWS profiles.

    Raises:
        KmsError: the AWS settings are invalid.
    """
    return sorted(read_settings(lambda: botocore.session.get_session().available_profiles))


def regions_of_kms() -> list[str]:
    """Return the names of the Regions that have KMS, of every partition that botocore knows."""
    core = botocore.session.get_session()
    return [region for each in core.get_available_partitions() for region in core.get_available_regions("kms", each)]


def _check_endpoint(url: str, origin: str = "") -> None:
    # botocore notices some mistakes only when it sends, with other libraries' errors.
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise errors.ConfigurationError(
            f"'{origins.redacted(url[:200])}' is not an endpoint URL, such as http://127.0.0.1:4599 or "
            f"https://kms.example.com{origin}"
        )


def read_settings(read: Callable[[], T]) -> T:
    """Return what ``read``, which opens a session, returns.

    Raises:
        KmsError: the AWS settings are invalid; mostly a ConfigurationError.
    """
    return refusals.open_client(read, "opening an AWS session")


def pack_session(session: Any) -> pickling.Packed:
    """Return how to open the same session in another process: by profile, Region and endpoint.

    Raises:
        NotPicklableError: the session has more than these, such as credentials passed to it.
    """
    endpoint = None
    if isinstance(session, _AtEndpoint):
        session, endpoint = session._session, session._endpoint_url
    custom = _customization(session)
    if custom is not None:
        raise errors.NotPicklableError(
            f"the session cannot be pickled because it has {custom}, which another process would not have. Create the "
            "keyring or the store in the other process, or pass a session made with a profile and a Region only"
        )
    core = session._session
    return open_session, (core.get_config_variable("profile"), core.get_config_variable("region"), endpoint)


def _customization(session: object) -> str | None:
    """Return what a session has beyond its profile, Region and the AWS settings; None if nothing."""
    if type(session) is OwnSession:
        return None
    if type(session) is not boto3.Session or type(session._session) is not botocore.session.Session:
        return "a class of its own"
    core: Any = session._session
    plain: Any = botocore.session.get_session()
    try:
        profile = core.get_config_variable("profile")
        read_settings(lambda: boto3.Session(botocore_session=plain, profile_name=profile))
        if not _from_settings(core):
            return "credentials that were passed to it"
        if read_settings(lambda: _providers(core) != _providers(plain)):
            return "credential providers of its own"
        if not core._session_instance_vars.keys() <= {"profile", "region"}:
            return "settings that were passed to it"
        if core.get_default_client_config() is not None:
            return "a default client configuration"
        if _handlers(core) != _handlers(plain):
            return "event handlers of its own"
    except (AttributeError, LookupError, TypeError):
        return "an internal structure that this release does not know"
    return None


def _from_settings(core: Any) -> bool:
    """Whether a session's credentials follow from its profile and the environment."""
    credentials = core._credentials
    if credentials is None:
        return True
    if type(credentials) is botocore.credentials.Credentials:
        return credentials.method != "explicit"
    refresh = getattr(credentials, "_refresh_using", None)
    if not str(getattr(refresh, "__module__", "")).startswith("botocore."):
        return False  # the user's own function
    # Libraries that assume a role for a session use botocore for it too, but no profile names that role.
    return credentials.method != "assume-role" or "role_arn" in core.get_scoped_config()


def _providers(core: Any) -> list[type]:
    return [type(provider) for provider in core.get_component("credential_provider").providers]


def _handlers(core: Any) -> list[tuple[str, list[str]]]:
    """Return the names of the handlers of each event."""
    named: list[tuple[str, list[str]]] = []
    nodes = [("", core._events._emitter._handlers._root)]
    while nodes:
        path, node = nodes.pop()
        handlers = [handler for part in node["values"] or () for handler in part]
        named.append((path, [getattr(handler, "__qualname__", type(handler).__qualname__) for handler in handlers]))
        nodes += [(f"{path}.{name}", below) for name, below in node["children"].items()]
    return sorted(named)


def at_endpoint(session: boto3.Session, endpoint_url: str | None) -> Session:
    """Return the session with its KMS clients connecting to ``endpoint_url``; unchanged for None.

    Raises:
        ConfigurationError: the endpoint is not a URL.
    """
    if endpoint_url is None:
        return session
    _check_endpoint(endpoint_url)
    return _AtEndpoint(session, endpoint_url)


class _AtEndpoint:
    """A session whose KMS clients connect to another endpoint."""

    def __init__(self, session: boto3.Session, endpoint_url: str) -> None:
        self._session = session
        self._endpoint_url = endpoint_url

    @property
    def region_name(self) -> str | None:
        return self._session.region_name

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        return self._session.client(
            service_name, region_name=region_name, config=config, endpoint_url=self._endpoint_url
        )


class OpeningTurns:
    """Lets threads open clients one at a time. A thread whose predecessor got no credentials fails the same way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._last: errors.CredentialsError | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn.

        Raises:
            CredentialsError: another thread got no credentials during the wait.
        """
        before = self._failures
        with self._lock:
            if self._last is not None and self._failures != before:
                raise copy.copy(self._last)
            try:
                yield
            except errors.CredentialsError as error:
                self._failures, self._last = self._failures + 1, copy.copy(error)
                raise


class Clients:
    """One KMS client per Region, made when first needed. A forked child makes its own.

    Args:
        session: supplies credentials, the default Region and endpoints; None for an ordinary boto3 Session.
        client: used instead, for its Region only. A forked child gives it new connections.
        prepare: called once with each client before it is used.
        config: settings of the clients made here; their Region wins over the session's.
    """

    def __init__(
        self,
        session: Session | None = None,
        client: KMSClient | None = None,
        prepare: Callable[[KMSClient], None] = lambda _: None,
        config: Config = _CONFIG,
    ) -> None:
        self._session = session
        self._prepare = prepare
        self._config = config
        if client is not None:
            prepare(client)
        self._client = client
        self._clients: dict[str, KMSClient] = {}
        self._own: Session | None = None
        self._turns = OpeningTurns()
        fork_locks.adopt(session)
        fork_locks.adopt(client)
        fork_locks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self._turns = OpeningTurns()
        self._clients = {}
        return ()

    @property
    def region(self) -> str:
        """The default Region.

        Raises:
            ConfigurationError: none is set.
        """
        if self._client is not None:
            return self._client.meta.region_name
        if (configured := self._config.region_name) is not None:  # type: ignore[attr-defined]  # not in the stubs
            return str(configured)
        fork_locks.notice()
        with self._turns.turn():
            region = self._open_session().region_name
        if not region:
            # Other SDKs read AWS_REGION, so people expect it to work.
            unread = " (AWS_REGION is set, but boto3 does not read it)" if os.environ.get("AWS_REGION") else ""
            raise errors.ConfigurationError(
                "no AWS Region is set: set AWS_DEFAULT_REGION or the profile's region, or name the key by its ARN"
                f"{unread}"
            )
        return region

    def _open_session(self) -> Session:
        if self._session is not None:
            return self._session
        if self._own is None:
            self._own = open_session()
            fork_locks.adopt(self._own)
        return self._own

    def kms(self, region: str) -> KMSClient:
        """Return the client for ``region``.

        Raises:
            ConfigurationError: the client that was passed in is for another Region, or this is a forked child that may
                share the client's connections with its parent.
            CredentialsError: there are no credentials; the next call looks them up again.
            KmsError: the session cannot make a client.
        """
        fork_locks.notice()
        if self._client is not None:
            if region != self._client.meta.region_name:
                raise errors.ConfigurationError(
                    f"the KMS client that was passed in is for {self._client.meta.region_name}, but the key is in "
                    f"{region}: pass a session instead, which serves every Region"
                )
            _refuse_shared(self._client)
            return self._client
        # A client that is there is returned without waiting for one that is being opened.
        if (open_client := self._clients.get(region)) is not None:
            return open_client
        with self._turns.turn():
            client = self._clients.get(region)
            if client is None:
                client = self._clients[region] = self._open(region)
            return client

    def _open(self, region: str) -> KMSClient:
        session = self._open_session()

        def make() -> KMSClient:
            client: KMSClient = session.client("kms", region_name=region, config=self._config)
            refuse_async(client)
            # It may come from AWS_ENDPOINT_URL or a profile, which botocore hardly checks.
            _check_endpoint(client.meta.endpoint_url, _ENDPOINT_ORIGIN)
            return client

        try:
            client = refusals.open_client(make, f"opening a KMS client for {region}")
        except errors.CredentialsError:
            self._own = None  # a session reads the settings once, and the user may add what is missing
            raise
        _refuse_shared(client)
        fork_locks.adopt(client)
        self._prepare(client)
        return client


def _refuse_shared(client: KMSClient) -> None:
    if fork_locks.is_shared(client):
        raise errors.ConfigurationError(f"KMS was not called: {fork_locks.SHARED}")
