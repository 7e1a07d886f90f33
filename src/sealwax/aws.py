"""botocore's edge: sessions and clients, and the one table that turns foreign errors into sealwax's.

Credentials, profiles, single sign-on, roles, proxies and endpoints are boto3's; nothing of them is read here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import boto3
import botocore.credentials
import botocore.exceptions as foreign
import botocore.session
from botocore.config import Config

from sealwax import errors, forks, signin, travel
from sealwax.context import printable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


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
        with settings_read():
            super().__init__(botocore_session=self._core, profile_name=profile, region_name=region)
            if like is None:
                signin.guard(self._core)
            else:
                self._core.register_component("credential_provider", signin.Shared(like._core))

    def sign_in(self) -> dict[str, str] | None:
        """Ask now for the MFA code that the credentials take, if they take one.

        Returns:
            The credentials, as variables of an environment; None where no code is needed.

        Raises:
            CredentialsError: there is nobody to ask, or AWS does not take the code.
            KmsError: the AWS settings cannot be used, or STS cannot be reached.
        """
        try:
            credentials = self.get_credentials() if signin.wants_code(self._core) else None
            # Keys in the environment come before a profile that the environment names.
            if credentials is None or credentials.method != signin.ASSUME_ROLE:
                return None
            found = credentials.get_frozen_credentials()
        except (foreign.ClientError, foreign.BotoCoreError) as error:
            raise translate(error, "signing in", None) from None
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
            f"'{printable(url[:200])}' is no endpoint URL: one looks like http://127.0.0.1:4599 or https://kms.example.com"
            f"{origin}"
        )


@contextlib.contextmanager
def settings_read() -> Iterator[None]:
    """Turn what botocore says of the user's AWS settings into :class:`~sealwax.ConfigurationError`."""
    try:
        yield
    except foreign.BotoCoreError as error:
        raise translate(error, "opening an AWS session", None) from None


def pack_session(session: Any) -> travel.Packed:
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
        with settings_read():
            boto3.Session(botocore_session=plain, profile_name=core.get_config_variable("profile"))
            if not _from_settings(core):
                return "credentials that it was given"
            if _providers(core) != _providers(plain):
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


class Clients:
    """One KMS client a Region, made when first needed. A forked child makes its own, and leaves its parent's alone.

    Args:
        session: where credentials, the default Region and endpoints come from; None makes an ordinary boto3 Session.
        client: a client to use instead; its Region is the only one then. A forked child gives it new connections.
        prepare: called once with each client before it is used.
    """

    def __init__(
        self,
        session: Session | None = None,
        client: KMSClient | None = None,
        prepare: Callable[[KMSClient], None] = lambda _: None,
    ) -> None:
        self._session = session
        self._prepare = prepare
        if client is not None:
            prepare(client)
        self._given = client
        self._clients: dict[str, KMSClient] = {}
        self._lock = threading.Lock()
        forks.adopt(session)
        forks.adopt(client)
        forks.renew_in_children(self)

    def _after_fork(self) -> tuple[()]:
        self._lock = threading.Lock()
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
        forks.notice()
        with self._lock:
            region = self._open_session().region_name
        if not region:
            # Other SDKs read this one, so people set it and wonder.
            unread = " (AWS_REGION is set, which boto3 does not read)" if os.environ.get("AWS_REGION") else ""
            raise errors.ConfigurationError(
                f"no AWS Region is set: name one with --region or AWS_DEFAULT_REGION, or give the key's ARN{unread}"
            )
        return region

    def _open_session(self) -> Session:
        if self._session is None:
            self._session = open_session()
            forks.adopt(self._session)
        return self._session

    def kms(self, region: str) -> KMSClient:
        """Return the client for ``region``.

        Raises:
            ConfigurationError: the client that was passed in is for another Region, or may share its connections with
                the parent of this forked child.
            KmsError: the session cannot make one.
        """
        forks.notice()
        if self._given is not None:
            if region != self._given.meta.region_name:
                raise errors.ConfigurationError(
                    f"the KMS client that was passed in is for {self._given.meta.region_name}; the key is in {region}"
                )
            self._refuse_shared(self._given)
            return self._given
        with self._lock:
            client = self._clients.get(region)
            if client is None:
                try:
                    client = self._open_session().client("kms", region_name=region, config=_CONFIG)
                except (foreign.BotoCoreError, ValueError) as error:
                    raise translate(error, f"opening a KMS client for {region}", None) from None
                self._refuse_shared(client)
                forks.adopt(client)
                # It may come from AWS_ENDPOINT_URL or a profile, of which botocore checks next to nothing.
                _check_endpoint(client.meta.endpoint_url, _ENDPOINT_ORIGIN)
                self._prepare(client)
                self._clients[region] = client
            return client

    def _refuse_shared(self, client: KMSClient) -> None:
        if forks.is_shared(client):
            raise errors.ConfigurationError(f"KMS was not asked: {forks.SHARED}")


@dataclass(frozen=True, slots=True)
class _Meaning:
    error: type[errors.KmsError]
    why: str
    todo: str
    heals: bool = False


_DISABLED: Final = _Meaning(
    errors.KeyStateError, "the key is disabled", "Enable it with 'aws kms enable-key', or use another key."
)
_STATE: Final = _Meaning(
    errors.KeyStateError,
    "the key's state does not permit it",
    "Look with 'aws kms describe-key': it may be pending deletion or import, or its key store disconnected.",
)
_NOT_FOUND: Final = _Meaning(
    errors.KeyNotFoundError,
    "there is no such key or alias",
    "Check the name, the account and the Region.",
)
_DENIED: Final = _Meaning(
    errors.AccessDeniedError,
    "the caller is not allowed to",
    "Check the key policy, the caller's IAM policies and grants, and the encryption context they ask for.",
)
_LOGIN: Final = _Meaning(
    errors.CredentialsError,
    "the AWS credentials are expired",
    "Sign in again ('aws sso login' for single sign-on) and repeat the command.",
)
_CREDENTIALS: Final = _Meaning(
    errors.CredentialsError, "AWS does not accept the credentials", "Check the access key, the profile and the clock."
)
_NOT_HAD: Final = _Meaning(
    errors.CredentialsError,
    "no AWS credentials could be had",
    "Check the profile, and the program or the service that its credentials come from.",
)
_NEW_CODE: Final = _Meaning(
    errors.CredentialsError,
    "the credentials that an MFA code was for have expired, or were not given",
    "Run it again with a new code.",
)
_ROLE: Final = _Meaning(
    errors.CredentialsError,
    "AWS does not give the credentials of the role",
    "Check that the role exists, and that its trust policy and the caller's policies allow sts:AssumeRole.",
)
_CONFIGURATION: Final = _Meaning(
    errors.ConfigurationError, "the AWS settings do not fit", "Check the profile, the Region and the endpoint."
)
_NO_PROFILE: Final = _Meaning(
    errors.ConfigurationError,
    "there is no such AWS profile",
    "'aws configure list-profiles' shows those there are; --profile or AWS_PROFILE names one.",
)
_SETTINGS_FILE: Final = _Meaning(
    errors.ConfigurationError,
    "an AWS settings file cannot be read",
    "Look at ~/.aws/config and ~/.aws/credentials, or the files that AWS_CONFIG_FILE and "
    "AWS_SHARED_CREDENTIALS_FILE name.",
)
_ENDPOINT: Final = _Meaning(
    errors.ConfigurationError,
    "the endpoint is no URL",
    "Check AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS and the profile's endpoint_url.",
)
_BLOB: Final = _Meaning(
    errors.WrappedKeyRefusedError,
    "KMS cannot open the wrapped key",
    "It is damaged or foreign, or the encryption context is not the one it was made with.",
)
_WRONG_KEY: Final = _Meaning(
    errors.WrongKeyError,
    "the wrapped key was made by another KMS key",
    "Name the key that the envelope is wrapped under.",
)
_USAGE: Final = _Meaning(
    errors.ConfigurationError,
    "the key is not for this use",
    "sealwax needs a symmetric encryption key (KeySpec SYMMETRIC_DEFAULT, KeyUsage ENCRYPT_DECRYPT).",
)
_THROTTLED: Final = _Meaning(
    errors.ThrottledError,
    "KMS throttles the account's requests",
    "Try again more slowly, cache data keys, or ask for a higher KMS request quota.",
    heals=True,
)
_UNAVAILABLE: Final = _Meaning(errors.UnavailableError, "KMS failed inside", "Try again in a moment.", heals=True)
_STORE: Final = _Meaning(
    errors.UnavailableError,
    "the custom key store behind the key cannot be reached or answers wrongly",
    "Check the CloudHSM cluster or the external key store proxy, and its connection state.",
)
_STORE_STATE: Final = _Meaning(
    errors.KeyStateError,
    "the custom key store behind the key is not set up for it",
    "Check the key store with 'aws kms describe-custom-key-stores'.",
)
_NETWORK: Final = _Meaning(
    errors.UnavailableError,
    "KMS could not be reached",
    "Check the network, the Region's name, VPC endpoints and proxies.",
    heals=True,
)
_UNREADABLE: Final = _Meaning(
    errors.RequestRefusedError,
    "the answer cannot be read",
    "The endpoint is not AWS KMS, or something on the way changes what it says: check the endpoint and proxies.",
)
_REQUEST: Final = _Meaning(errors.RequestRefusedError, "KMS refused the request", "Check the key and the parameters.")

# Every error that KMS's service model lists, and the ones common to all AWS services.
CODES: Final[dict[str, _Meaning]] = {
    "DisabledException": _DISABLED,
    "KMSInvalidStateException": _STATE,
    "NotFoundException": _NOT_FOUND,
    "InvalidArnException": _Meaning(errors.ConfigurationError, "that is no key ARN", "Check how the key is written."),
    "InvalidAliasNameException": _Meaning(
        errors.ConfigurationError, "that is no alias name", "An alias begins with 'alias/'."
    ),
    "InvalidKeyUsageException": _USAGE,
    "UnsupportedOperationException": _USAGE,
    "InvalidCiphertextException": _BLOB,
    "IncorrectKeyException": _WRONG_KEY,
    "InvalidGrantTokenException": _Meaning(
        errors.AccessDeniedError, "the grant token is not valid", "Leave it out, or take a new one from CreateGrant."
    ),
    "InvalidGrantIdException": _REQUEST,
    "KeyUnavailableException": _UNAVAILABLE,
    "DependencyTimeoutException": _UNAVAILABLE,
    "KMSInternalException": _UNAVAILABLE,
    "DryRunOperationException": _Meaning(
        errors.RequestRefusedError, "it was a dry run, and the caller is allowed to", "Repeat it without DryRun."
    ),
    "LimitExceededException": _Meaning(
        errors.RequestRefusedError,
        "a KMS resource quota is reached",
        "Delete what is unused or ask for a higher quota.",
    ),
    "AlreadyExistsException": _Meaning(errors.RequestRefusedError, "that name is taken", "Choose another name."),
    "ConflictException": _Meaning(
        errors.RequestRefusedError, "another change of the key is under way", "Try again when it is done."
    ),
    "InvalidMarkerException": _REQUEST,
    "MalformedPolicyDocumentException": _REQUEST,
    "TagException": _REQUEST,
    "ExpiredImportTokenException": _REQUEST,
    "InvalidImportTokenException": _REQUEST,
    "IncorrectKeyMaterialException": _REQUEST,
    "IncorrectTrustAnchorException": _STORE_STATE,
    "KMSInvalidMacException": _REQUEST,
    "KMSInvalidSignatureException": _REQUEST,
    "CloudHsmClusterInUseException": _STORE_STATE,
    "CloudHsmClusterInvalidConfigurationException": _STORE_STATE,
    "CloudHsmClusterNotActiveException": _STORE,
    "CloudHsmClusterNotFoundException": _STORE_STATE,
    "CloudHsmClusterNotRelatedException": _STORE_STATE,
    "CustomKeyStoreHasCMKsException": _STORE_STATE,
    "CustomKeyStoreInvalidStateException": _STORE_STATE,
    "CustomKeyStoreNameInUseException": _STORE_STATE,
    "CustomKeyStoreNotFoundException": _STORE_STATE,
    "XksKeyAlreadyInUseException": _STORE_STATE,
    "XksKeyInvalidConfigurationException": _STORE_STATE,
    "XksKeyNotFoundException": _STORE_STATE,
    "XksProxyIncorrectAuthenticationCredentialException": _STORE_STATE,
    "XksProxyInvalidConfigurationException": _STORE_STATE,
    "XksProxyInvalidResponseException": _STORE,
    "XksProxyUriEndpointInUseException": _STORE_STATE,
    "XksProxyUriInUseException": _STORE_STATE,
    "XksProxyUriUnreachableException": _STORE,
    "XksProxyVpcEndpointServiceInUseException": _STORE_STATE,
    "XksProxyVpcEndpointServiceInvalidConfigurationException": _STORE_STATE,
    "XksProxyVpcEndpointServiceNotFoundException": _STORE_STATE,
    # Common to AWS services: https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "NotAuthorized": _DENIED,
    "OptInRequired": _Meaning(
        errors.AccessDeniedError, "the account has not opted in to this Region", "Enable the Region for the account."
    ),
    "ExpiredToken": _LOGIN,
    "ExpiredTokenException": _LOGIN,
    "IncompleteSignature": _CREDENTIALS,
    "IncompleteSignatureException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidSignatureException": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "MissingAuthenticationTokenException": _CREDENTIALS,
    "RequestExpired": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "InternalFailure": _UNAVAILABLE,
    "InternalServerError": _UNAVAILABLE,
    "ServiceUnavailable": _UNAVAILABLE,
    "ServiceUnavailableException": _UNAVAILABLE,
    "ValidationError": _REQUEST,
    "ValidationException": _REQUEST,
}

# Those of STS and of single sign-on that botocore calls by itself.
_GIVES_CREDENTIALS: Final = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials"}
)

# botocore's own errors, most special first.
EXCEPTIONS: Final[tuple[tuple[type[Exception], _Meaning], ...]] = (
    (
        foreign.NoCredentialsError,
        _Meaning(
            errors.CredentialsError,
            "there are no AWS credentials",
            "Sign in ('aws sso login', 'aws configure') or set a profile; to try things out without AWS, use --lab.",
        ),
    ),
    (foreign.PartialCredentialsError, _CREDENTIALS),
    (foreign.UnauthorizedSSOTokenError, _LOGIN),
    (foreign.SSOTokenLoadError, _LOGIN),
    (foreign.SSOError, _LOGIN),
    (foreign.TokenRetrievalError, _LOGIN),
    (foreign.NoAuthTokenError, _LOGIN),
    (foreign.LoginError, _LOGIN),
    (foreign.CredentialRetrievalError, _NOT_HAD),
    (foreign.MetadataRetrievalError, _NOT_HAD),
    (foreign.RefreshWithMFAUnsupportedError, _NEW_CODE),
    (foreign.ProfileNotFound, _NO_PROFILE),
    (foreign.ConfigParseError, _SETTINGS_FILE),
    (foreign.ConfigNotFound, _SETTINGS_FILE),
    (foreign.InvalidConfigError, _SETTINGS_FILE),
    (foreign.InvalidRegionError, _Meaning(errors.ConfigurationError, "that is no Region", "One looks like eu-west-1.")),
    (foreign.NoRegionError, _CONFIGURATION),
    (foreign.ParamValidationError, _REQUEST),
    (foreign.PaginationError, _UNREADABLE),
    (
        foreign.SSLError,
        _Meaning(
            errors.UnavailableError,
            "the TLS connection to KMS could not be trusted",
            "Check proxies, AWS_CA_BUNDLE and the clock.",
        ),
    ),
    (foreign.ProxyConnectionError, _NETWORK),
    (foreign.ConnectionError, _NETWORK),
    (foreign.HTTPClientError, _NETWORK),
    (foreign.BotoCoreError, _CONFIGURATION),
)


# What botocore reads an answer with, looks its error code up in, and judges by whether to repeat the request.
_READERS: Final = ("botocore.parsers", "botocore.model", "botocore.retr", "botocore.errorfactory")


def is_unreadable(error: Exception) -> bool:
    """Whether botocore failed to read an answer: what does that takes much for granted, and fails in any way."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(_READERS) for frame, _ in frames)


def translate(error: Exception, doing: str, key: str | None) -> errors.KmsError:
    """Return sealwax's error for one of botocore's.

    Args:
        error: a ClientError, a BotoCoreError, the ValueError that botocore raises for a malformed endpoint, or what
            :func:`is_unreadable` says yes to.
        doing: what was being done, as the subject of a sentence: ``"decrypting the data key"``.
        key: the KMS key as it was named in the request.
    """
    code, request_id, said = type(error).__name__, None, str(error)
    meaning = _ENDPOINT
    if isinstance(error, foreign.ClientError):
        answer = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        code, said = str(answer.get("Code") or "unknown"), str(answer.get("Message") or "")
        request_id = metadata.get("RequestId")
        fallback = _UNAVAILABLE if metadata.get("HTTPStatusCode", 0) >= 500 else _REQUEST
        meaning = CODES.get(code, fallback)
        if meaning is _DENIED and error.operation_name in _GIVES_CREDENTIALS:
            # botocore asks for them on the way to KMS, and a denial there says nothing of the key.
            meaning = _ROLE
    elif is_unreadable(error):
        meaning, said = _UNREADABLE, ""
    else:
        meaning = next((meaning for kind, meaning in EXCEPTIONS if isinstance(error, kind)), _ENDPOINT)
    if key is not None and "alias/aws/" in key:
        meaning = _Meaning(
            meaning.error,
            f"{meaning.why}: keys under 'alias/aws/' are AWS managed and only AWS services may use them",
            "Create a customer managed key.",
        )
    trace = printable(", ".join(part for part in (code, request_id and f"request id {request_id}") if part)[:500])
    aside = printable(said[:500]).rstrip(".")
    message = f"{_failed(doing, key)}: {meaning.why} ({trace}{': ' if aside else ''}{aside}). {meaning.todo}"
    return meaning.error(message, code=code, request_id=request_id, key=key, heals=meaning.heals)


def unreadable(doing: str, key: str | None, why: str) -> errors.RequestRefusedError:
    """Return the error for an answer that botocore could read, and that is none of AWS's.

    Args:
        doing, key: as for :func:`translate`.
        why: what is wrong with it.
    """
    return errors.RequestRefusedError(f"{_failed(doing, key)}: {why}. {_UNREADABLE.todo}", key=key)


def _failed(doing: str, key: str | None) -> str:
    with_key = "" if key is None else f" with KMS key '{printable(key)}'"
    return f"{doing}{with_key} failed"
