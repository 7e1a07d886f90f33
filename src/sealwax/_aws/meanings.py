"""What AWS's error codes and botocore's exceptions mean, and what to do about each.

There is a table for the codes of KMS (``CODES``), for those of the services that issue credentials (``ISSUER_CODES``),
and for botocore's exceptions (``EXCEPTIONS``, ``CREDENTIAL_EXCEPTIONS``). They cover every code in KMS's service model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import botocore.exceptions as foreign

from sealwax import errors


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error means. In ``why``, ``{service}`` stands for the AWS service that was called."""

    error: type[errors.KmsError]
    why: str
    todo: str
    retryable: bool = False


def _credentials(why: str, todo: str, *, retryable: bool = False) -> Meaning:
    return Meaning(errors.CredentialsError, why, todo, retryable)


_TRY_AGAIN: Final = "Try again in a moment."
_CHECK_NETWORK: Final = "Check the network, the Region's name, VPC endpoints and proxies."
_CHECK_TLS: Final = "Check proxies, AWS_CA_BUNDLE and the clock."
_NOT_REACHED: Final = "{service} could not be reached"
_NOT_TRUSTED: Final = "the TLS certificate of {service} is not trusted"

DISABLED: Final = Meaning(
    errors.KeyStateError, "the key is disabled", "Enable it with 'aws kms enable-key', or use another key."
)
STATE: Final = Meaning(
    errors.KeyStateError,
    "the key's state does not allow it",
    "Check it with 'aws kms describe-key': it may be pending deletion or import, or its key store disconnected.",
)
NOT_FOUND: Final = Meaning(
    errors.KeyNotFoundError, "there is no such key or alias", "Check the name, the account and the Region."
)
DENIED: Final = Meaning(
    errors.AccessDeniedError,
    "access denied",
    "Check the key policy, the caller's IAM policies and grants, and the encryption context they require.",
)
EXPIRED: Final = _credentials(
    "the AWS credentials have expired",
    "Sign in again ('aws sso login' for single sign-on) and try again.",
)
REJECTED: Final = _credentials(
    "AWS does not accept the credentials", "Check the access key, the profile and the clock."
)
NOT_OBTAINED: Final = _credentials(
    "could not get AWS credentials", "Check the profile, and the program or service that supplies its credentials."
)
SIGN_IN: Final = _credentials(
    "the sign-in session has expired, or there is none",
    "Sign in again ('aws sso login' for single sign-on, 'aws login' for its sessions) and try again.",
)
ROLE: Final = _credentials(
    "{service} denied access to the role",
    "Check that the role exists, and that its trust policy and the caller's policies allow sts:AssumeRole.",
)
CONFIGURATION: Final = Meaning(
    errors.ConfigurationError, "the AWS settings are invalid", "Check the profile, the Region and the endpoint."
)
NO_PROFILE: Final = Meaning(
    errors.ConfigurationError,
    "there is no such AWS profile",
    "Check its name: 'aws configure list-profiles' lists the profiles.",
)
SETTINGS_FILE: Final = Meaning(
    errors.ConfigurationError,
    "an AWS settings file cannot be read",
    "Check ~/.aws/config and ~/.aws/credentials, or the files named by AWS_CONFIG_FILE and "
    "AWS_SHARED_CREDENTIALS_FILE.",
)
ENDPOINT: Final = Meaning(
    errors.ConfigurationError,
    "the endpoint is not a valid URL",
    "Check AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_KMS or AWS_ENDPOINT_URL_S3, and the profile's endpoint_url.",
)
ADDRESS: Final = Meaning(
    errors.ConfigurationError,
    "the URL of a proxy or of the endpoint is not valid",
    "Check HTTP_PROXY, HTTPS_PROXY and AWS_ENDPOINT_URL.",
)
BLOB: Final = Meaning(
    errors.WrappedKeyRefusedError,
    "KMS cannot decrypt the wrapped key",
    "It is damaged or not from KMS, or the encryption context differs from the one used to encrypt.",
)
WRONG_KEY: Final = Meaning(
    errors.WrongKeyError, "another KMS key wrapped this data key", "Name the key that wrapped it."
)
USAGE: Final = Meaning(
    errors.ConfigurationError,
    "the key cannot be used for this",
    "sealwax needs a symmetric encryption key (KeySpec SYMMETRIC_DEFAULT, KeyUsage ENCRYPT_DECRYPT).",
)
THROTTLED: Final = Meaning(
    errors.ThrottledError,
    "{service} is throttling this account's requests",
    "Slow down, cache data keys, or request a higher quota.",
    retryable=True,
)
UNAVAILABLE: Final = Meaning(errors.UnavailableError, "{service} had an internal error", _TRY_AGAIN, retryable=True)
STORE: Final = Meaning(
    errors.UnavailableError,
    "the key's custom key store cannot be reached, or its answer is invalid",
    "Check the CloudHSM cluster or the external key store proxy, and its connection state.",
)
STORE_STATE: Final = Meaning(
    errors.KeyStateError,
    "the key's custom key store is not set up correctly",
    "Check the key store with 'aws kms describe-custom-key-stores'.",
)
NETWORK: Final = Meaning(errors.UnavailableError, _NOT_REACHED, _CHECK_NETWORK, retryable=True)
UNREADABLE: Final = Meaning(
    errors.RequestRefusedError,
    "the answer cannot be read",
    "The endpoint is not AWS, or something in between changes its answers: check the endpoint and proxies.",
)
REQUEST: Final = Meaning(
    errors.RequestRefusedError, "{service} rejected the request", "Check the key and the parameters."
)
# Of codes that are not in the table, by the first digit of the HTTP status; the others are refused requests.
BY_STATUS: Final = {
    3: Meaning(errors.RequestRefusedError, "the answer is a redirect, which {service} does not send", UNREADABLE.todo),
    5: UNAVAILABLE,
}

# Every error that KMS's service model lists, and those common to AWS services:
# https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html
_CODES_BY_MEANING: Final = (
    (DISABLED, "DisabledException"),
    (STATE, "KMSInvalidStateException"),
    (NOT_FOUND, "NotFoundException"),
    (USAGE, "InvalidKeyUsageException UnsupportedOperationException"),
    (BLOB, "InvalidCiphertextException"),
    (WRONG_KEY, "IncorrectKeyException"),
    (
        REQUEST,
        """InvalidGrantIdException InvalidMarkerException MalformedPolicyDocumentException TagException
        ExpiredImportTokenException InvalidImportTokenException IncorrectKeyMaterialException
        KMSInvalidMacException KMSInvalidSignatureException ValidationError ValidationException""",
    ),
    (
        UNAVAILABLE,
        """KeyUnavailableException DependencyTimeoutException KMSInternalException InternalFailure
        InternalServerError ServiceUnavailable ServiceUnavailableException""",
    ),
    (
        STORE_STATE,
        """IncorrectTrustAnchorException CloudHsmClusterInUseException CloudHsmClusterInvalidConfigurationException
        CloudHsmClusterNotFoundException CloudHsmClusterNotRelatedException CustomKeyStoreHasCMKsException
        CustomKeyStoreInvalidStateException CustomKeyStoreNameInUseException CustomKeyStoreNotFoundException
        XksKeyAlreadyInUseException XksKeyInvalidConfigurationException XksKeyNotFoundException
        XksProxyIncorrectAuthenticationCredentialException XksProxyInvalidConfigurationException
        XksProxyUriEndpointInUseException XksProxyUriInUseException XksProxyVpcEndpointServiceInUseException
        XksProxyVpcEndpointServiceInvalidConfigurationException XksProxyVpcEndpointServiceNotFoundException""",
    ),
    (STORE, "CloudHsmClusterNotActiveException XksProxyInvalidResponseException XksProxyUriUnreachableException"),
    (DENIED, "AccessDenied AccessDeniedException NotAuthorized"),
    (EXPIRED, "ExpiredToken ExpiredTokenException"),
    (
        REJECTED,
        """IncompleteSignature IncompleteSignatureException InvalidClientTokenId InvalidSignatureException
        MissingAuthenticationToken MissingAuthenticationTokenException RequestExpired SignatureDoesNotMatch
        UnrecognizedClientException""",
    ),
    (THROTTLED, "Throttling ThrottlingException RequestLimitExceeded TooManyRequestsException"),
)
CODES: Final[dict[str, Meaning]] = {code: meaning for meaning, codes in _CODES_BY_MEANING for code in codes.split()} | {
    "InvalidArnException": Meaning(errors.ConfigurationError, "this is not a key ARN", "Check how the key is written."),
    "InvalidAliasNameException": Meaning(
        errors.ConfigurationError, "this is not an alias name", "An alias begins with 'alias/'."
    ),
    "InvalidGrantTokenException": Meaning(
        errors.AccessDeniedError,
        "a grant token is not valid",
        "Remove it, or get a new one from CreateGrant.",
    ),
    "DryRunOperationException": Meaning(
        errors.RequestRefusedError,
        "it was a dry run, which would have succeeded",
        "Repeat the request without DryRun.",
    ),
    "LimitExceededException": Meaning(
        errors.RequestRefusedError, "a KMS resource quota is reached", "Delete what is unused, or request more."
    ),
    "AlreadyExistsException": Meaning(errors.RequestRefusedError, "that name is taken", "Choose another name."),
    "ConflictException": Meaning(
        errors.RequestRefusedError, "another change of the key is in progress", "Try again when it is done."
    ),
    "OptInRequired": Meaning(
        errors.AccessDeniedError, "the account has not opted in to this Region", "Enable the Region for the account."
    ),
}

# --- the services that issue credentials, whether botocore calls them or sealwax does

ISSUING_OPERATIONS: Final = frozenset(
    {"AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetRoleCredentials", "CreateOAuth2Token"}
)
_CALLER_EXPIRED: Final = _credentials(
    "the token or access key used to call {service} has expired",
    "Renew it: the role is requested with it.",
)
_IDENTITY: Final = _credentials(
    "{service} does not accept the web identity token",
    "Check the token, its audience, and the identity provider that the role trusts.",
)
_ASSIGNED: Final = _credentials(
    "{service} does not assign this role in this account to you",
    "Check sso_account_id and sso_role_name in the profile, and your assignments in IAM Identity Center.",
)
ISSUER_REQUEST: Final = _credentials(
    "{service} rejected the request", "Check the profile: the role's ARN, session name, duration and external ID."
)
_ISSUER_BUSY: Final = _credentials("{service} is throttling requests", "Slow down, and try again.", retryable=True)
ISSUER_FAILED: Final = _credentials(UNAVAILABLE.why, _TRY_AGAIN, retryable=True)
ISSUER_UNREACHABLE: Final = _credentials(_NOT_REACHED, _CHECK_NETWORK, retryable=True)
ISSUER_UNREADABLE: Final = _credentials(UNREADABLE.why, UNREADABLE.todo)
ISSUER_BY_STATUS: Final = {3: _credentials(BY_STATUS[3].why, BY_STATUS[3].todo), 5: ISSUER_FAILED}
ISSUER_ADDRESS: Final = _credentials(
    "the URL of a proxy or of the credentials endpoint is not valid",
    "Check HTTP_PROXY, HTTPS_PROXY, AWS_ENDPOINT_URL and AWS_CONTAINER_CREDENTIALS_FULL_URI.",
)
ISSUER_ENDPOINT: Final = _credentials(
    "its endpoint is not a valid URL",
    "Check AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS, AWS_ENDPOINT_URL_SSO and the profile's endpoint_url.",
)
ISSUER_TLS: Final = _credentials(_NOT_TRUSTED, _CHECK_TLS)
NOT_SENDABLE: Final = _credentials(
    "the token has a line break or another character that cannot be sent",
    "Set the token again, or sign in again ('aws sso login' for single sign-on).",
)
TOKEN_CACHE: Final = _credentials("the cached token of the sign-in session cannot be read", SIGN_IN.todo)
MALFORMED: Final = _credentials("they cannot be AWS credentials", "Set them again, without any extra characters.")
UNUSABLE: Final = _credentials(
    "its answer cannot be used", "Check that the source returns credentials in the form AWS documents."
)
_ISSUER_CODES_BY_MEANING: Final = (
    (ROLE, "AccessDenied AccessDeniedException UnauthorizedOperation"),
    (_ASSIGNED, "ForbiddenException ResourceNotFoundException"),
    (SIGN_IN, "UnauthorizedException InvalidGrantException InvalidClientException UnauthorizedClientException"),
    (_CALLER_EXPIRED, "ExpiredToken ExpiredTokenException"),
    (_IDENTITY, "InvalidIdentityToken InvalidIdentityTokenException IDPRejectedClaim"),
    (ISSUER_REQUEST, "MalformedPolicyDocument ValidationError InvalidRequestException"),
    (_ISSUER_BUSY, "Throttling ThrottlingException RequestLimitExceeded TooManyRequestsException SlowDownException"),
    (ISSUER_FAILED, "InternalFailure InternalServerException ServiceUnavailable"),
)
ISSUER_CODES: Final[dict[str, Meaning]] = (
    {code: meaning for meaning, codes in _ISSUER_CODES_BY_MEANING for code in codes.split()}
    | {
        "IDPCommunicationError": _credentials(
            "{service} could not reach the identity provider",
            "Try again in a moment; check that the provider's keys can be fetched from the internet.",
            retryable=True,
        ),
        "PackedPolicyTooLarge": _credentials(
            "the session's policies and tags are too large for {service}", "Pass fewer or shorter ones."
        ),
        "RegionDisabledException": _credentials(
            "{service} is not activated in that Region for the account",
            "Activate it in the account settings of IAM, or use another Region.",
        ),
        "ServiceUnavailable": ISSUER_FAILED,
    }
    | dict.fromkeys(
        (code for code, meaning in CODES.items() if meaning is REJECTED),
        _credentials(
            "{service} does not accept the credentials used to call it",
            "Check the access key that the role is requested with, and the clock.",
        ),
    )
)

NO_SOURCE: Final = _credentials(
    "the profile has a role, but not the credentials to request it with",
    "Name them in the profile with source_profile or credential_source.",
)

# --- botocore's own exceptions, most specific first

EXCEPTIONS: Final[tuple[tuple[type[Exception], Meaning], ...]] = (
    (
        foreign.NoCredentialsError,
        _credentials(
            "there are no AWS credentials",
            "Sign in ('aws sso login', 'aws configure') or select a profile. To try KMS without AWS, use the lab, "
            "which has no S3.",
        ),
    ),
    (
        foreign.PartialCredentialsError,
        _credentials("the credentials are incomplete", "Set both the access key ID and the secret access key."),
    ),
    (foreign.UnauthorizedSSOTokenError, SIGN_IN),
    (foreign.SSOTokenLoadError, SIGN_IN),
    (foreign.SSOError, SIGN_IN),
    (foreign.TokenRetrievalError, SIGN_IN),
    (foreign.NoAuthTokenError, SIGN_IN),
    (foreign.LoginError, SIGN_IN),
    (foreign.CredentialRetrievalError, NOT_OBTAINED),
    (foreign.MetadataRetrievalError, NOT_OBTAINED),
    (
        foreign.RefreshWithMFAUnsupportedError,
        _credentials("the credentials obtained with an MFA code have expired", "Try again with a new code."),
    ),
    (foreign.ProfileNotFound, NO_PROFILE),
    (foreign.ConfigParseError, SETTINGS_FILE),
    (foreign.ConfigNotFound, SETTINGS_FILE),
    (foreign.InvalidConfigError, SETTINGS_FILE),
    (
        foreign.InvalidRegionError,
        Meaning(errors.ConfigurationError, "this is not a Region", "A Region looks like eu-west-1."),
    ),
    (foreign.NoRegionError, CONFIGURATION),
    (foreign.ParamValidationError, REQUEST),
    (foreign.PaginationError, UNREADABLE),
    (foreign.SSLError, Meaning(errors.UnavailableError, _NOT_TRUSTED, _CHECK_TLS)),
    (foreign.ProxyConnectionError, NETWORK),
    (foreign.ConnectionError, NETWORK),
    (foreign.HTTPClientError, NETWORK),
    (foreign.BotoCoreError, CONFIGURATION),
)
# ... and while credentials are looked up; OSError and RuntimeError come out of botocore's own work.
CREDENTIAL_EXCEPTIONS: Final[tuple[tuple[type[Exception], Meaning], ...]] = (
    (foreign.ParamValidationError, ISSUER_REQUEST),
    (
        foreign.NoRegionError,
        _credentials("it needs a Region, and none is set", "Set AWS_DEFAULT_REGION, or the profile's region."),
    ),
    (foreign.ConfigParseError, SETTINGS_FILE),
    (foreign.ConfigNotFound, SETTINGS_FILE),
    (foreign.CredentialRetrievalError, _credentials("it returned none", NOT_OBTAINED.todo)),
    (foreign.MetadataRetrievalError, _credentials("it returned none", NOT_OBTAINED.todo)),
    *((kind, meaning) for kind, meaning in EXCEPTIONS if meaning.error is errors.CredentialsError),
    (
        foreign.BotoCoreError,
        _credentials("its settings are invalid", "Check the profile in ~/.aws/config and ~/.aws/credentials."),
    ),
    (OSError, _credentials("it cannot be read", "Check that it exists, and that you may read it.")),
    (
        RuntimeError,
        _credentials("the credentials it returned have already expired", "Renew them, and check the clock."),
    ),
)


def missing_bundle(kind: type[errors.KmsError], path: str) -> Meaning:
    """Return what a missing CA bundle means; ``path`` is printable already."""
    shown = path.replace("{", "{{").replace("}", "}}")
    todo = "Check AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE and the profile's ca_bundle."
    return Meaning(kind, f"the CA bundle '{shown}' does not exist", todo)


def bad_setting(kind: type[errors.KmsError], setting: str) -> Meaning:
    """Return what an exception means that botocore raised because it does not check a setting; "" if unknown."""
    return Meaning(
        kind,
        f"the AWS setting '{setting}' is not valid" if setting else "an AWS setting is not valid",
        "Check the environment's AWS_ variables, and the profile and its sections in the AWS settings file.",
    )
