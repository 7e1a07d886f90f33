"""botocore's edge: sessions and clients.

Credentials, profiles, single sign-on, roles, proxies and endpoints are boto3's; nothing of them is read here.
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
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")


class Session(Protocol):
    """The part of ``boto3.Session`` that is used."""

    @property
    def region_name(self) -> str | None: ...

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any: ...


# As many as a fleet may have workers. Each is made when it is needed, and what the pool has no room for is closed again
# after one request.
MOST_CONNECTIONS: Final = 256
# KMS answers in milliseconds; who waits longer than this for a connection or an answer is better off with a retry,
# which is not botocore's: it repeats what cannot heal, and knows no deadline.
_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 1},
    max_pool_connections=MOST_CONNECTIONS,
    user_agent_extra="sealwax",
)


def merged(config: Config | None, deadline: float) -> Config:
    """Return the settings of a KMS client: the caller's before sealwax's own, but for what its rules stand on.

    Requests are repeated by sealwax alone, and no request takes longer than all its attempts may.

    Args:
        deadline: so many seconds.

    Raises:
        ValueError: a proxy would read data keys.
    """
    if config is None:
        return _CONFIG
    found: Any = _CONFIG.merge(config)
    if (found.proxies_config or {}).get("proxy_use_forwarding_for_https"):
        raise ValueError(
            "config lets the proxy read data keys: leave proxy_use_forwarding_for_https out of proxies_config"
        )

    def bounded(seconds: float | None) -> float:
        return min(seconds or deadline, deadline)

    agents = [_CONFIG.user_agent_extra, config.user_agent_extra]  # type: ignore[attr-defined]  # not in the stubs
    ours = Config(
        connect_timeout=bounded(found.connect_timeout),
        read_timeout=bounded(found.read_timeout),
        retries=_CONFIG.retries,  # type: ignore[attr-defined]
        user_agent_extra=" ".join(filter(None, agents)),
    )
    return cast("Config", found.merge(ours))


def pack_config(config: Any) -> pickling.Packed:
    """Return how another process gets the settings of a client.

    Raises:
        NotPicklableError: a password is in them, or they cannot be pickled.
    """
    if any("@" in str(url) for url in (config.proxies or {}).values()):
        raise errors.NotPicklableError(
            "the config cannot be pickled, since the address of a proxy has a user name or password in it: set "
            "HTTPS_PROXY in the other process, or make the keyring there"
        )
    return pickling.pack_picklable(config, "the config")


def refuse_async(client: object) -> None:
    """Refuse a client whose methods are coroutines: nobody would await them.

    Raises:
        TypeError: it is one.
    """
    names = ("generate_data_key", "decrypt", "encrypt", "re_encrypt", "_make_api_call")
    methods = [getattr(client, name, None) for name in names]
    waits = any(
        inspect.iscoroutinefunction(each) or inspect.iscoroutinefunction(type(each).__call__) for each in methods
    )
    # What gives such a client out, once it is awaited.
    if waits or (methods[0] is None and hasattr(client, "__aenter__")):
        name = f"{type(client).__module__}.{type(client).__qualname__}"
        raise TypeError(
            f"the KMS client is asynchronous ({name}), and sealwax calls KMS in threads: pass a client or a session of "
            "boto3, which serves encrypt_async and decrypt_async as well"
        )


_ENDPOINT_ORIGIN: Final = "; it is in AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS or the profile's endpoint_url"


def open_session(profile: str | None = None, region: str | None = None, endpoint_url: str | None = None) -> Session:
    """Return a boto3 Session, whose KMS clients go to ``endpoint_url`` where one is given.

    Raises:
        ConfigurationError: there is no such profile, or the endpoint is no URL.
    """
    return at_endpoint(OwnSession(profile, region), endpoint_url)


class OwnSession(boto3.Session):
    """A boto3 session that sealwax opens itself: finding its credentials takes nothing from standard input.

    Args:
        like: a session whose credentials this one takes over, so that nobody is asked for them twice.

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
                self._core.register_component("credential_provider", signin.Shared(like._core))

        read_settings(open_it)

    def sign_in(self) -> dict[str, str] | None:
        """Ask now for the MFA code that the credentials take, if they take one.

        Returns:
            The credentials, as variables of an environment; None where no code is needed.

        Raises:
            CredentialsError: there is nobody to ask, or AWS does not take the code.
            KmsError: the AWS settings cannot be used.
        """

        def ask() -> Any:
            credentials = self.get_credentials() if signin.wants_code(self._core) else None
            # Keys in the environment come before a profile that the environment names.
            if credentials is None or credentials.method != signin.ASSUME_ROLE:
                return None
            return credentials.get_frozen_credentials()

        found = refusals.asked(ask, "signing in", None)
        if found is None:
            return None
        given = {
            "AWS_ACCESS_KEY_ID": found.access_key,
            "AWS_SECRET_ACCESS_KEY": found.secret_key,
            "AWS_SESSION_TOKEN": found.token,
        }
        return {name: value for name, value in given.items() if value}


def _check_endpoint(url: str, origin: str = "") -> None:
    # botocore finds some of these only when it sends, and says it with errors of other libraries.
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise errors.ConfigurationError(
            f"'{origins.spoken(url[:200])}' is no endpoint URL: one looks like http://127.0.0.1:4599 or https://kms.example.com"
            f"{origin}"
        )


def read_settings(read: Callable[[], T]) -> T:
    """Return what ``read`` returns, which opens a session.

    Raises:
        KmsError: the user's AWS settings cannot be used; mostly a :class:`~sealwax.ConfigurationError`.
    """
    return refusals.made(read, "opening an AWS session")


def pack_session(session: Any) -> pickling.Packed:
    """Return how another process opens the same session: by profile, Region and endpoint.

    Raises:
        NotPicklableError: the session has more than these, such as credentials that it was given.
    """
    endpoint = None
    if isinstance(session, _AtEndpoint):
        session, endpoint = session._session, session._endpoint_url
    own = _own_settings(session)
    if own is not None:
        raise errors.NotPicklableError(
            f"the session cannot be pickled, since it has {own}, which another process would not have. Make the "
            "keyring or the store in the other process, or hand in a session that was given a profile and a Region only"
        )
    core = session._session
    return open_session, (core.get_config_variable("profile"), core.get_config_variable("region"), endpoint)


def _own_settings(session: Any) -> str | None:
    """Return what a session has beyond profile, Region and what AWS's settings say; None where it has nothing."""
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
            return "credentials that it was given"
        if read_settings(lambda: _providers(core) != _providers(plain)):
            return "a chain of credentials of its own"
        if not core._session_instance_vars.keys() <= {"profile", "region"}:
            return "settings that it was given"
        if core.get_default_client_config() is not None:
            return "a default client configuration"
        if _handlers(core) != _handlers(plain):
            return "event handlers of its own"
    except (AttributeError, LookupError, TypeError):
        return "an inside that this release does not know"
    return None


def _from_settings(core: Any) -> bool:
    """Whether a session's credentials are those that its profile and the environment lead to."""
    found = core._credentials
    if found is None:
        return True
    if type(found) is botocore.credentials.Credentials:
        return found.method != "explicit"
    renew = getattr(found, "_refresh_using", None)
    if not str(getattr(renew, "__module__", "")).startswith("botocore."):
        return False  # a function of the user's
    # Libraries that assume a role for a session use botocore's means too; then no profile says so.
    return found.method != "assume-role" or "role_arn" in core.get_scoped_config()


def _providers(core: Any) -> list[type]:
    return [type(one) for one in core.get_component("credential_provider").providers]


def _handlers(core: Any) -> list[tuple[str, list[str]]]:
    """Return the names of the handlers for each event."""
    found: list[tuple[str, list[str]]] = []
    todo = [("", core._events._emitter._handlers._root)]
    while todo:
        path, node = todo.pop()
        handlers = [handler for part in node["values"] or () for handler in part]
        found.append((path, [getattr(handler, "__qualname__", type(handler).__qualname__) for handler in handlers]))
        todo += [(f"{path}.{name}", below) for name, below in node["children"].items()]
    return sorted(found)


def at_endpoint(session: boto3.Session, endpoint_url: str | None) -> Session:
    """Return the session, whose KMS clients go to ``endpoint_url`` where one is given.

    Raises:
        ConfigurationError: the endpoint is no URL.
    """
    if endpoint_url is None:
        return session
    _check_endpoint(endpoint_url)
    return _AtEndpoint(session, endpoint_url)


class _AtEndpoint:
    """A session whose KMS clients go to another endpoint."""

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


class Opening:
    """Opens clients, one at a time. Whoever waited while there were no credentials is told so, and asks nobody."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._last: errors.CredentialsError | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn.

        Raises:
            CredentialsError: meanwhile there were none.
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
    """One KMS client a Region, made when first needed. A forked child makes its own, and leaves its parent's alone.

    Args:
        session: where credentials, the default Region and endpoints come from; None makes an ordinary boto3 Session.
        client: a client to use instead; its Region is the only one then. A forked child gives it new connections.
        prepare: called once with each client before it is used.
        config: the settings of clients that are made here; their Region comes before the session's.
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
        self._given = client
        self._clients: dict[str, KMSClient] = {}
        self._own: Session | None = None
        self._opening = Opening()
        fork_locks.adopt(session)
        fork_locks.adopt(client)
        fork_locks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self._opening = Opening()
        self._clients = {}
        return ()

    @property
    def region(self) -> str:
        """The Region for keys that name none.

        Raises:
            ConfigurationError: neither the session nor the environment names a Region.
        """
        if self._given is not None:
            return self._given.meta.region_name
        if (named := self._config.region_name) is not None:  # type: ignore[attr-defined]  # not in the stubs
            return str(named)
        fork_locks.notice()
        with self._opening.turn():
            region = self._open_session().region_name
        if not region:
            # Other SDKs read this one, so people set it and wonder.
            unread = " (AWS_REGION is set, which boto3 does not read)" if os.environ.get("AWS_REGION") else ""
            raise errors.ConfigurationError(
                f"no AWS Region is set: name one with --region or AWS_DEFAULT_REGION, or give the key's ARN{unread}"
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
            ConfigurationError: the client that was passed in is for another Region, or may share its connections with
                the parent of this forked child.
            CredentialsError: there are no credentials; the next call looks for them again.
            KmsError: the session cannot make one.
        """
        fork_locks.notice()
        if self._given is not None:
            if region != self._given.meta.region_name:
                raise errors.ConfigurationError(
                    f"the KMS client that was passed in is for {self._given.meta.region_name}; the key is in {region}"
                )
            self._refuse_shared(self._given)
            return self._given
        # Of those that are there, nobody waits for one that is being opened.
        if (known := self._clients.get(region)) is not None:
            return known
        with self._opening.turn():
            client = self._clients.get(region)
            if client is None:
                session = self._open_session()

                def make() -> KMSClient:
                    made: KMSClient = session.client("kms", region_name=region, config=self._config)
                    refuse_async(made)
                    # It may come from AWS_ENDPOINT_URL or a profile, of which botocore checks next to nothing.
                    _check_endpoint(made.meta.endpoint_url, _ENDPOINT_ORIGIN)
                    return made

                try:
                    client = refusals.made(make, f"opening a KMS client for {region}")
                except errors.CredentialsError:
                    self._own = None  # a session reads the settings once, and what is missing may come
                    raise
                self._refuse_shared(client)
                fork_locks.adopt(client)
                self._prepare(client)
                self._clients[region] = client
            return client

    def _refuse_shared(self, client: KMSClient) -> None:
        if fork_locks.is_shared(client):
            raise errors.ConfigurationError(f"KMS was not asked: {fork_locks.SHARED}")
