"""The one table that turns what AWS and botocore refuse into sealwax's errors, for KMS and what is asked beside it.

What fails while credentials are looked for is a :class:`~sealwax.CredentialsError` that names where they were to come
from: KMS was not asked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import botocore.exceptions as foreign

from sealwax import errors
from sealwax._aws import origins
from sealwax._core.context import printable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What an error means. In ``why``, ``{service}`` stands for whom was asked."""

    error: type[errors.KmsError]
    why: str
    todo: str
    retryable: bool = False


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
    "{service} does not give the credentials of the role",
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
    "Check AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS or AWS_ENDPOINT_URL_S3, and the profile's endpoint_url.",
)
_ADDRESS: Final = _Meaning(
    errors.ConfigurationError,
    "the address of a proxy, or of the endpoint, cannot be read",
    "Check HTTP_PROXY, HTTPS_PROXY and AWS_ENDPOINT_URL.",
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
    "{service} throttles the account's requests",
    "Try again more slowly, cache data keys, or ask for a higher request quota.",
    retryable=True,
)
_UNAVAILABLE: Final = _Meaning(
    errors.UnavailableError, "{service} failed inside", "Try again in a moment.", retryable=True
)
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
    "{service} could not be reached",
    "Check the network, the Region's name, VPC endpoints and proxies.",
    retryable=True,
)
_UNREADABLE: Final = _Meaning(
    errors.RequestRefusedError,
    "the answer cannot be read",
    "The endpoint is not AWS, or something on the way changes what it says: check the endpoint and proxies.",
)
_REQUEST: Final = _Meaning(
    errors.RequestRefusedError, "{service} refused the request", "Check the key and the parameters."
)

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
        errors.AccessDeniedError,
        "a grant token is not valid",
        "Leave it out (grant_tokens), or take a new one from CreateGrant.",
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

# What those say who give credentials, whether botocore asks them by itself or sealwax does.
_GIVES_CREDENTIALS: Final = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials", "CreateOAuth2Token"}
)
_SIGN_IN: Final = _Meaning(
    errors.CredentialsError,
    "the session that was signed in has expired, or there is none",
    "Sign in again ('aws sso login' for single sign-on, 'aws login' for its sessions) and repeat the command.",
)
_EXPIRED: Final = _Meaning(
    errors.CredentialsError,
    "{service} says that what it was asked with has expired",
    "Renew the token or the credentials that the role is asked for with.",
)
_IDENTITY: Final = _Meaning(
    errors.CredentialsError,
    "{service} does not accept the web identity token",
    "Check the token, its audience, and the identity provider that the role trusts.",
)
_ASSIGNED: Final = _Meaning(
    errors.CredentialsError,
    "{service} does not give this role of this account",
    "Check sso_account_id and sso_role_name of the profile, and what is assigned to whoever signed in.",
)
_GIVER_REQUEST: Final = _Meaning(
    errors.CredentialsError,
    "{service} refused the request",
    "Check the profile: the role's ARN, its session name, duration and external ID.",
)
_GIVER_BUSY: Final = _Meaning(
    errors.CredentialsError, "{service} throttles requests", "Try again more slowly.", retryable=True
)
_GIVER_FAILED: Final = _Meaning(
    errors.CredentialsError, "{service} failed inside", "Try again in a moment.", retryable=True
)
_GIVER_SILENT: Final = _Meaning(
    errors.CredentialsError,
    "{service} could not be reached",
    "Check the network, the Region's name, VPC endpoints and proxies.",
    retryable=True,
)
GIVERS: Final[dict[str, _Meaning]] = {
    "AccessDenied": _ROLE,
    "AccessDeniedException": _ROLE,
    "UnauthorizedOperation": _ROLE,
    "ForbiddenException": _ASSIGNED,
    "ResourceNotFoundException": _ASSIGNED,
    "UnauthorizedException": _SIGN_IN,
    "InvalidGrantException": _SIGN_IN,
    "InvalidClientException": _SIGN_IN,
    "UnauthorizedClientException": _SIGN_IN,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "InvalidIdentityToken": _IDENTITY,
    "InvalidIdentityTokenException": _IDENTITY,
    "IDPRejectedClaim": _IDENTITY,
    "IDPCommunicationError": _Meaning(
        errors.CredentialsError,
        "{service} could not reach the identity provider",
        "Try again in a moment; check that the provider's keys can be fetched from the internet.",
        retryable=True,
    ),
    "PackedPolicyTooLarge": _Meaning(
        errors.CredentialsError,
        "the session's policies and tags are too large for {service}",
        "Pass fewer or shorter ones.",
    ),
    "MalformedPolicyDocument": _GIVER_REQUEST,
    "RegionDisabledException": _Meaning(
        errors.CredentialsError,
        "{service} is not activated in that Region for the account",
        "Activate it in the account settings of IAM, or name another Region.",
    ),
    "ValidationError": _GIVER_REQUEST,
    "InvalidRequestException": _GIVER_REQUEST,
    "Throttling": _GIVER_BUSY,
    "ThrottlingException": _GIVER_BUSY,
    "RequestLimitExceeded": _GIVER_BUSY,
    "TooManyRequestsException": _GIVER_BUSY,
    "SlowDownException": _GIVER_BUSY,
    "InternalFailure": _GIVER_FAILED,
    "InternalServerException": _GIVER_FAILED,
    "ServiceUnavailable": _GIVER_FAILED,
} | {
    code: _Meaning(
        errors.CredentialsError,
        "{service} does not accept the credentials that it was asked with",
        "Check the access key that the role is asked for with, and the clock.",
    )
    for code, meaning in CODES.items()
    if meaning is _CREDENTIALS
}
# Refusals of a signature, whose words repeat the request, with the session token in it, behind one of these.
_QUOTES: Final = re.compile("[\n'\":=]")
_REPEAT_THE_REQUEST: Final = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
    }
)
# But these say what is wrong with the clock, and nothing else.
_OF_THE_CLOCK: Final = ("Signature expired: ", "Signature not yet current: ")

# botocore's own errors, most special first.
EXCEPTIONS: Final[tuple[tuple[type[Exception], _Meaning], ...]] = (
    (
        foreign.NoCredentialsError,
        _Meaning(
            errors.CredentialsError,
            "there are no AWS credentials",
            "Sign in ('aws sso login', 'aws configure') or set a profile; to try KMS out without AWS, use --lab, which "
            "is not for S3.",
        ),
    ),
    (
        foreign.PartialCredentialsError,
        _Meaning(errors.CredentialsError, "a part of the credentials is missing", "Set the access key and its secret."),
    ),
    (foreign.UnauthorizedSSOTokenError, _SIGN_IN),
    (foreign.SSOTokenLoadError, _SIGN_IN),
    (foreign.SSOError, _SIGN_IN),
    (foreign.TokenRetrievalError, _SIGN_IN),
    (foreign.NoAuthTokenError, _SIGN_IN),
    (foreign.LoginError, _SIGN_IN),
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
            "the TLS connection to {service} could not be trusted",
            "Check proxies, AWS_CA_BUNDLE and the clock.",
        ),
    ),
    (foreign.ProxyConnectionError, _NETWORK),
    (foreign.ConnectionError, _NETWORK),
    (foreign.HTTPClientError, _NETWORK),
    (foreign.BotoCoreError, _CONFIGURATION),
)


_FLAWED: Final = _Meaning(
    errors.CredentialsError, "they cannot be AWS's", "Set them again, without anything before or behind them."
)
_GIVER_UNREADABLE: Final = _Meaning(
    errors.CredentialsError,
    _UNREADABLE.why,
    _UNREADABLE.todo,
)
_GIVER_PROXY: Final = _Meaning(
    errors.CredentialsError,
    "the address of a proxy, or of the endpoint to ask, cannot be read",
    "Check HTTP_PROXY, HTTPS_PROXY, AWS_ENDPOINT_URL and AWS_CONTAINER_CREDENTIALS_FULL_URI.",
)
_UNSENT: Final = _Meaning(
    errors.CredentialsError,
    "the token to ask with has a line break or another character that cannot be sent",
    "Set the token again, or sign in again ('aws sso login' for single sign-on).",
)
_CACHE: Final = _Meaning(
    errors.CredentialsError,
    "the file with the token of the session that was signed in cannot be read",
    _SIGN_IN.todo,
)
_GIVER_TLS: Final = _Meaning(
    errors.CredentialsError,
    "the TLS connection to {service} could not be trusted",
    "Check proxies, AWS_CA_BUNDLE and the clock.",
)
_GIVER_ADDRESS: Final = _Meaning(
    errors.CredentialsError,
    "the endpoint to ask at is no URL",
    "Check AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL_SSO and the profile's endpoint_url.",
)
_UNUSABLE: Final = _Meaning(
    errors.CredentialsError,
    "what it gives cannot be used",
    "Check what the source gives: it must be as AWS documents it.",
)
_UNFIT: Final = _Meaning(
    errors.CredentialsError, "its settings do not fit", "Check the profile in ~/.aws/config and ~/.aws/credentials."
)
_GIVER_EXCEPTIONS: Final[tuple[tuple[type[Exception], _Meaning], ...]] = (
    (foreign.ParamValidationError, _GIVER_REQUEST),
    (
        foreign.NoRegionError,
        _Meaning(
            errors.CredentialsError,
            "it is asked for in a Region, and none is set",
            "Set AWS_DEFAULT_REGION, or the profile's region.",
        ),
    ),
    (foreign.ConfigParseError, _SETTINGS_FILE),
    (foreign.ConfigNotFound, _SETTINGS_FILE),
    (foreign.CredentialRetrievalError, _Meaning(errors.CredentialsError, "it gives none", _NOT_HAD.todo)),
    (foreign.MetadataRetrievalError, _Meaning(errors.CredentialsError, "it gives none", _NOT_HAD.todo)),
    *((kind, meaning) for kind, meaning in EXCEPTIONS if meaning.error is errors.CredentialsError),
    (foreign.BotoCoreError, _UNFIT),
    (
        OSError,
        _Meaning(errors.CredentialsError, "it cannot be read", "Check that it is there, and that you may read it."),
    ),
    (
        RuntimeError,
        _Meaning(
            errors.CredentialsError, "what it gives has expired already", "Renew what it gives, and check the clock."
        ),
    ),
)


# By the variables that name others.
_SETTINGS_FILES: Final = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
# What botocore reads an answer with, looks its error code up in, and judges by whether to repeat the request.
_READERS: Final = ("botocore.parsers", "botocore.model", "botocore.retr", "botocore.errorfactory")


def is_unreadable(error: Exception) -> bool:
    """Whether botocore failed to read an answer: what does that takes much for granted, and fails in any way."""
    # What repeats requests is passed by what could not be sent, too.
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        return False
    return origins.Origin(error).passed(*_READERS)


_HTTP_STATUS: Final = re.compile(r"Received non 200 response [0-9]+")
# Words of errors that are not botocore's own, and hold nothing else.
_PLAIN: Final = ("Unsupported host ", "Auth token value is not", "Credentials were refreshed, but")


def is_foreign(error: Exception) -> bool:
    """Whether :func:`translate` is for an error: one of botocore's, or one that came out of its work."""
    if isinstance(error, errors.SealwaxError):
        return False
    return (
        isinstance(error, foreign.ClientError | foreign.BotoCoreError)
        or is_unreadable(error)
        or (origin := origins.Origin(error)).of_credentials
        or bool(_flaw(error, origin))
    )


def asked(call: Callable[[], T], doing: str, key: str | None) -> T:
    """Return what ``call`` returns, which asks AWS through botocore.

    Args:
        doing, key: as for :func:`translate`.

    Raises:
        KmsError: AWS did not answer, or refused; its answer cannot be read; or there are no credentials to ask with.
    """
    try:
        return call()
    except Exception as error:
        if not is_foreign(error):
            raise
        failure = translate(error, doing, key)
    # Raised out here, so that it is not chained: botocore's error carries the whole answer along, and may hold secrets.
    raise failure


def made(make: Callable[[], T], doing: str) -> T:
    """Return what ``make`` does, a new session or client, of which botocore says with any error that it cannot be made.

    A client is returned with its credentials: who has none is told so before anything is asked, and can try again.

    Args:
        doing: as for :func:`translate`.

    Raises:
        KmsError: it cannot be made, or has no credentials.
    """

    def make_it() -> T:
        one = make()
        credentials = origins.credentials_of(one)
        if credentials is None:
            raise foreign.NoCredentialsError
        if credentials is not True:
            # Here, and not with the first request: where no other can fare better, none is begun.
            found = credentials.get_frozen_credentials()
            if flaw := origins.flaw(found):
                raise not_had(flaw, code="InvalidCredentials", source=origins.source_of(credentials), todo=_FLAWED.todo)
        return one

    try:
        return asked(make_it, doing, None)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        # What is in a settings file reaches botocore's code as it is, and fails there in any way.
        if not origins.Origin(error).passed("botocore."):
            raise
        failure = translate(error, doing, None)
    raise failure


def translate(error: Exception, doing: str, key: str | None) -> errors.KmsError:
    """Return sealwax's error for one of botocore's.

    Args:
        error: a ClientError, a BotoCoreError, the ValueError that botocore raises for a malformed endpoint, or what
            :func:`is_foreign` says yes to.
        doing: what was being done, as the subject of a sentence: ``"decrypting the data key"``.
        key: the KMS key as it was named in the request.
    """
    origin = origins.Origin(error)
    said = origin.spoken(_words(error, origin)).rstrip(". ")
    code, request_id, status = type(error).__name__, None, 0
    if isinstance(error, foreign.ClientError):
        metadata = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code") or "unknown")
        request_id, status = metadata.get("RequestId"), metadata.get("HTTPStatusCode", 0)
    trace = printable(", ".join(part for part in (code, request_id and f"request id {request_id}") if part)[:500])
    aside = f"{trace}{': ' if said else ''}{said}"
    service = origin.service or ("the service" if origin.of_credentials else "KMS")
    flaw = _flaw(error, origin)
    if flaw or origin.of_credentials or isinstance(error, foreign.NoCredentialsError):
        # Whom these were to be for was not asked: what is known of it is nobody's answer.
        meaning = _FLAWED if flaw else _of_giver(error, code, status, origin)
        why = flaw or meaning.why.format(service=service)
        if isinstance(error, foreign.NoCredentialsError):
            if os.environ.get("AWS_SECRET_ACCESS_KEY"):
                why += " (AWS_SECRET_ACCESS_KEY is set, and of no use without AWS_ACCESS_KEY_ID)"
            why += _unread_files()
        return not_had(
            why,
            code=code,
            source=_source(origin, flaw),
            aside="" if flaw else aside,
            todo=meaning.todo,
            retryable=meaning.retryable,
        )
    meaning = _of_answer(error, code, status, origin)
    why = meaning.why.format(service=service)
    if meaning.error is errors.CredentialsError and (source := _source(origin, "any")):
        why = f"{why}: those from {source}"
    if meaning is _NO_PROFILE:
        why += _unread_files()
    if key is not None and "alias/aws/" in key:
        meaning = _Meaning(
            meaning.error,
            f"{why}: keys under 'alias/aws/' are AWS managed and only AWS services may use them",
            "Create a customer managed key.",
        )
        why = meaning.why
    message = f"{_failed(doing, key)}: {why} ({aside}). {meaning.todo}"
    if meaning.error is errors.ConfigurationError and not isinstance(error, foreign.ClientError):
        key = None  # botocore's settings are no key's
    return meaning.error(message, code=code, request_id=request_id, key=key, retryable=meaning.retryable)


def _unread_files() -> str:
    """Return which settings files cannot be read, as the end of a clause: botocore passes over them without a word."""
    found = ""
    for name, usual in _SETTINGS_FILES.items():
        named = os.environ.get(name, "")
        path = os.path.expanduser(named or usual)  # noqa: PTH111  Path's fails where there is no such user
        try:
            why = "" if path == os.devnull else _unread(Path(path))
        except OSError as error:
            # Nobody needs to have the usual ones.
            why = "" if not named and isinstance(error, FileNotFoundError) else str(error.strerror)
        if why:
            which = f"the file that {name} names, '{origins.spoken(path)}'," if named else f"'{origins.spoken(path)}'"
            found += f"; {which} cannot be read: {why}"
    return found


def _unread(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        return "it is not a regular file"  # and to open a pipe would wait
    with path.open("rb") as file:
        file.read(1)
    return ""


def not_had(
    why: str, *, code: str, source: str, aside: str = "", todo: str = "", retryable: bool = False
) -> errors.CredentialsError:
    """Return the error for credentials that could not be had.

    Args:
        why: as a clause.
        source: where they were to come from; "" where there is none.
        aside: what an AWS service or botocore says of it.
    """
    had = f"no AWS credentials could be had from {source}: " if source else ""
    message = f"signing in to AWS failed: {had}{why}{f' ({aside})' if aside else ''}. {todo}"
    return errors.CredentialsError(message, code=code, retryable=retryable)


def _of_answer(error: Exception, code: str, status: int, origin: origins.Origin) -> _Meaning:
    """Return what an error means that is about what was asked for."""
    if isinstance(error, foreign.ClientError):
        if error.operation_name in _GIVES_CREDENTIALS and (meaning := GIVERS.get(code)):
            return meaning
        return CODES.get(code, _UNAVAILABLE if status >= 500 else _REQUEST)
    if is_unreadable(error):
        return _UNREADABLE
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        if (path := origin.missing_bundle()) is not None:
            return _no_bundle(errors.ConfigurationError, path)
        if isinstance(error.kwargs.get("error"), ValueError):
            return _ADDRESS
    if not isinstance(error, foreign.BotoCoreError) and not _is_of_a_url(error, origin):
        return _malformed(errors.ConfigurationError, origin)
    return next((meaning for kind, meaning in EXCEPTIONS if isinstance(error, kind)), _ENDPOINT)


def _of_giver(error: Exception, code: str, status: int, origin: origins.Origin) -> _Meaning:
    """Return what an error means that ended the search for credentials."""
    if isinstance(error, foreign.ClientError):
        return GIVERS.get(code, _GIVER_FAILED if status >= 500 else _GIVER_REQUEST)
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        if (path := origin.missing_bundle()) is not None:
            return _no_bundle(errors.CredentialsError, path)
        if isinstance(error, foreign.SSLError):
            return _GIVER_TLS
        if _is_unsent(error):
            return _UNSENT
        return _GIVER_PROXY if isinstance(error.kwargs.get("error"), ValueError) else _GIVER_SILENT
    if is_unreadable(error):
        return _GIVER_UNREADABLE
    if _is_of_a_url(error, origin):
        return _GIVER_ADDRESS
    if isinstance(error, KeyError) and origin.of_cache:
        return _CACHE
    if origin.setting and not isinstance(error, foreign.BotoCoreError):
        return _malformed(errors.CredentialsError, origin)
    return next((meaning for kind, meaning in _GIVER_EXCEPTIONS if isinstance(error, kind)), _UNUSABLE)


def _no_bundle(kind: type[errors.KmsError], path: str) -> _Meaning:
    shown = printable(path).replace("{", "{{").replace("}", "}}")
    return _Meaning(
        kind, f"there is no CA bundle '{shown}'", "Check AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE and the profile's ca_bundle."
    )


def _malformed(kind: type[errors.KmsError], origin: origins.Origin) -> _Meaning:
    """Return what an error of another library's means that a setting leads to which botocore does not check."""
    which = f"the AWS setting '{origin.setting}'" if origin.setting else "an AWS setting"
    return _Meaning(
        kind,
        f"{which} cannot be used",
        "Check the AWS_ variables of the environment, and the profile and its sections in the AWS settings file.",
    )


def _is_unsent(error: Exception) -> bool:
    """Whether a request was not sent because a header of it cannot be."""
    cause = error.kwargs.get("error") if isinstance(error, foreign.HTTPClientError) else None
    return isinstance(cause, UnicodeEncodeError) or str(cause).startswith("Invalid header value")


def _is_of_a_url(error: Exception, origin: origins.Origin) -> bool:
    return isinstance(error, ValueError) and (
        str(error).startswith("Invalid endpoint") or origin.passed("urllib.", "botocore.endpoint")
    )


def _flaw(error: Exception, origin: origins.Origin) -> str:
    """Return what is wrong with the credentials that a request was made with, where that may be why it failed."""
    if isinstance(error, foreign.ClientError):
        code = str(error.response.get("Error", {}).get("Code"))
        if CODES.get(code) is not _CREDENTIALS:
            return ""
    return origins.flaw(origins.credentials_of(origin.client))


def _source(origin: origins.Origin, flaw: str) -> str:
    credentials = origin.asked_with or origins.credentials_of(origin.client)
    if flaw and credentials not in (None, True):
        return origins.source_of(credentials)
    return (origin.source or "the session's settings") if origin.of_credentials else ""


def _words(error: Exception, origin: origins.Origin) -> str:
    """Return the part of an error's words that is worth repeating; what came with it is no part of them."""
    if isinstance(error, foreign.ClientError):
        answer = error.response.get("Error", {})
        said = str(answer.get("Message") or "")
        if str(answer.get("Code")) in _REPEAT_THE_REQUEST and not said.startswith(_OF_THE_CLOCK):
            return _QUOTES.split(said, maxsplit=1)[0]
        return said
    if isinstance(error, foreign.CredentialRetrievalError | foreign.MetadataRetrievalError):
        said = str(error.kwargs.get("error_msg", ""))
        status = _HTTP_STATUS.search(said)
        return said if status is None else status[0]
    if isinstance(error, foreign.BotoCoreError):
        return "" if _is_unsent(error) else str(error)
    if isinstance(error, OSError):
        name = "" if error.filename is None else f": '{os.fsdecode(error.filename)}'"
        return f"{error.strerror}{name}" if error.strerror else ""
    if isinstance(error, TypeError | AttributeError) or origin.of_cache:
        return ""  # words about Python's objects
    if isinstance(error, KeyError) and origin.of_credentials:
        return f"there is no {error.args[0]}" if str(error.args[0]).isidentifier() else ""
    if origin.of_credentials and not str(error).startswith(_PLAIN):
        return ""
    return "" if is_unreadable(error) else str(error)


def said(error: Exception) -> str:
    """Return the words of an error of botocore's, or of the service that was asked, as they may be shown."""
    origin = origins.Origin(error)
    return origin.spoken(_words(error, origin))


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
