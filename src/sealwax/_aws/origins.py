"""Where an error of botocore's came from, and what of its words may be repeated.

botocore looks for credentials wherever it makes a client or signs a request: it reads files, starts programs and asks
services, whatever session was handed in, and what fails there fails in any way. Which source that was stands in the
frames that the error came through, and in no error. In the same frames are the secrets: some errors repeat them.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import botocore.credentials as ways
from botocore import UNSIGNED
from botocore.client import BaseClient

from sealwax._core.context import printable

_MODULES: Final = ("botocore.credentials", "botocore.tokens")
# As people call them; any other one by its own name.
_SERVICES: Final = {
    "kms": "KMS",
    "sts": "STS",
    "s3": "S3",
    "sso": "IAM Identity Center (single sign-on)",
    "sso-oidc": "IAM Identity Center (single sign-on)",
    "signin": "AWS Sign-In",
    "iam": "IAM",
    "cloudtrail": "CloudTrail",
    "cloudwatch": "CloudWatch",
    "events": "EventBridge",
}
# What a source is by the class of botocore's that stands for it, with the attributes that tell it from others. By name:
# not every release has all of them.
_SOURCES: Final = {
    "EnvProvider": "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)",
    "ProcessProvider": "the credential_process of AWS profile '{_profile_name}'",
    "SharedCredentialProvider": "the shared credentials file '{_creds_filename}' (AWS profile '{_profile_name}')",
    "ConfigProvider": "the AWS settings file '{_config_filename}' (AWS profile '{_profile_name}')",
    "AssumeRoleProvider": "the role of AWS profile '{_profile_name}'",
    "AssumeRoleCredentialFetcher": "the role '{_role_arn}'",
    "AssumeRoleWithWebIdentityProvider": "the web identity of AWS profile '{_profile_name}'",
    "AssumeRoleWithWebIdentityCredentialFetcher": "a web identity token for the role '{_role_arn}'",
    "FileWebIdentityTokenLoader": "the web identity token file '{_web_identity_token_path}'",
    "SSOProvider": "single sign-on of AWS profile '{_profile_name}'",
    "SSOTokenProvider": "single sign-on of AWS profile '{_profile_name}'",
    "SSOCredentialFetcher": "single sign-on at '{_start_url}'",
    "LoginProvider": "the session of 'aws login' of AWS profile '{_profile_name}'",
    "LoginCredentialFetcher": "the session '{_session_name}' of 'aws login'",
    "ContainerProvider": "the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_FULL_URI or _RELATIVE_URI)",
    "InstanceMetadataProvider": "the instance metadata service",
    "InstanceMetadataFetcher": "the instance metadata service",
    "OriginalEC2Provider": "the file that AWS_CREDENTIAL_FILE names",
    "BotoProvider": "the settings file of boto 2",
}
_ATTRIBUTE: Final = re.compile(r"\{(\w+)\}")
# ... and by botocore's name of the way to credentials, where no object says more.
_WAYS: Final = {
    "env": "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the AWS settings file",
    "custom-process": "a credential_process",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "a web identity token",
    "sso": "single sign-on",
    "login": "the session of 'aws login'",
    "container-role": "the container's credentials endpoint",
    "iam-role": "the instance metadata service",
    "ec2-credentials-file": "the file that AWS_CREDENTIAL_FILE names",
    "boto-config": "the settings file of boto 2",
    "explicit": "the session that was handed in",
}
# Names under which botocore holds secrets while it makes credentials of them...
_SECRET_LOCALS: Final = frozenset(
    (
        *("stdout", "parsed", "creds", "creds_dict", "credentials", "metadata", "response_text", "headers", "output"),
        *("token", "auth_token", "token_dict", "initial_token_data", "identity_token", "token_code"),
    )
)
# ... and parameters of requests for them, and of others.
_SECRET_PARAMETERS: Final = frozenset(
    (
        *(
            "WebIdentityToken",
            "TokenCode",
            "SAMLAssertion",
            "accessToken",
            "refreshToken",
            "clientSecret",
            "tokenInput",
        ),
        *("GrantToken", "GrantTokens"),
    )
)
# Among them is what an error may well name.
_PUBLIC: Final = re.compile("account|expir|version|type|url|region|arn", re.IGNORECASE)
_FIELDS: Final = {"access_key": "access key ID", "secret_key": "secret access key", "token": "session token"}
_ENVIRONMENT: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
_URLS: Final = re.compile(r"AWS_ENDPOINT_URL.*|.*_PROXY|AWS_CONTAINER_CREDENTIALS_FULL_URI", re.IGNORECASE)
_USER_AND_PASSWORD: Final = re.compile(r"//[^\"']*@")
# A shorter run of characters that a text shares with a secret says nothing of it.
_GRAM: Final = 8
_DEPTH: Final = 4


class Origin:
    """What the frames of an error tell.

    Args:
        error: as it was caught.

    Attributes:
        of_credentials: whether credentials were being looked for.
        source: where from, as the end of "no credentials could be had from"; "" where that is not told.
        service: the AWS service that was asked, as people call it; "" for none.
        client: the client that was used; None for none.
        setting: the AWS setting that was being read, by botocore's name; "" for none.
        asked_with: the credentials that those of a role were asked for with; None for none.
        of_cache: whether a file was being read in which botocore or the AWS CLI keep a token.
    """

    def __init__(self, error: BaseException) -> None:
        self._frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        self.of_credentials = False
        self.source = ""
        self.client: Any = None
        self.setting = ""
        self.asked_with: Any = None
        self.of_cache = False
        for frame in self._frames:
            here = frame.f_locals.get("self")
            if isinstance(here, BaseClient):
                self.client = here
            if _is_of(frame, _MODULES):
                self.of_credentials = True
            if _is_of(frame, ("botocore.configprovider",)):
                self.setting = str(frame.f_locals.get("logical_name", "")) or self.setting
            self.asked_with = getattr(here, "_source_credentials", self.asked_with)
            self.of_cache |= type(here).__name__ == "JSONFileCache"
            # The innermost one has failed: what asks for a role asks others first.
            self.source = _source(here) or self.source
        service = "" if self.client is None else self.client.meta.service_model.service_name
        self.service = _SERVICES.get(service, service)

    def passed(self, *modules: str) -> bool:
        """Whether the error came through modules whose names begin so."""
        return any(_is_of(frame, modules) for frame in self._frames)

    def missing_bundle(self) -> str | None:
        """Return the CA bundle that connections are to be checked by, where there is no such file."""
        for frame in self._frames:
            path = (
                getattr(frame.f_locals.get("self"), "_verify", None)
                if _is_of(frame, ("botocore.httpsession",))
                else None
            )
            if isinstance(path, str) and not Path(path).exists():
                return path
        return None

    def spoken(self, text: str) -> str:
        """Return a foreign text as it may be shown: without secrets, on one line and of a bounded length."""
        return spoken(text, self._secrets())

    def _secrets(self) -> Iterator[str]:
        for frame in self._frames:
            here = frame.f_locals
            for value in list(here.values()):
                if isinstance(value, ways.Credentials | ways.ReadOnlyCredentials):
                    yield from secrets_of(value)
                elif isinstance(value, BaseClient):
                    yield from secrets_of(credentials_of(value))
                elif isinstance(value, Mapping):
                    yield from _strings({key: value[key] for key in _SECRET_PARAMETERS & value.keys()})
            if _is_of(frame, ("botocore.credentials", "botocore.tokens", "botocore.utils")):
                yield from _strings({name: here[name] for name in _SECRET_LOCALS & here.keys()})


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(modules)


def _source(one: Any) -> str:
    """Return what an object of botocore's takes credentials from; "" where it takes none."""
    for kind in type(one).__mro__ if type(one).__module__.startswith("botocore.") else ():
        if kind.__name__ in _SOURCES:
            return _ATTRIBUTE.sub(lambda found: spoken(str(getattr(one, found[1], "?"))), _SOURCES[kind.__name__])
    return source_of(one) if isinstance(one, ways.Credentials) else ""


def source_of(credentials: Any) -> str:
    """Return where credentials are from, as the end of "the secret key from"."""
    renewer = _source(getattr(getattr(credentials, "_refresh_using", None), "__self__", None))
    way = str(getattr(credentials, "method", ""))
    return renewer or _WAYS.get(way, printable(way))


def credentials_of(client: Any) -> Any:
    """Return what a client of boto3 signs with: credentials, or None where it has none to sign with.

    A client of another make, and one that does not sign, gets True.
    """
    signer: Any = getattr(client, "_request_signer", None)
    if not hasattr(signer, "_credentials") or signer.signature_version is UNSIGNED:
        return True
    return signer._credentials


def flaw(credentials: Any) -> str:
    """Return what is wrong with credentials that AWS cannot have given, as a clause; "" for nothing.

    What cannot be sent as it is, such as a line break at the end of a token, becomes an error of another library that
    repeats it, or a signature that does not fit.
    """
    held = _held(credentials)
    for name, called in _FIELDS.items():
        value = held.get(name)
        if name not in held or (value is None and name == "token"):
            continue
        if not isinstance(value, str) or not value:
            return f"the {called} is missing or no text"
        if not value.isascii() or not value.isprintable() or " " in value:
            return f"the {called} has a line break, a space or another character that none has"
    return ""


def secrets_of(credentials: Any) -> Iterator[str]:
    """Yield what is secret in credentials as they are now."""
    return _strings(_held(credentials))


def _held(credentials: Any) -> dict[str, Any]:
    """Return the parts of credentials, without renewing them."""
    if isinstance(credentials, ways.ReadOnlyCredentials):
        held = credentials._asdict()
    else:
        held = {name.lstrip("_"): value for name, value in getattr(credentials, "__dict__", {}).items()}
    return {name: held[name] for name in _FIELDS if name in held}


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, bytes | bytearray):
        yield bytes(value).decode("utf-8", "surrogateescape")
    elif isinstance(value, str):
        yield value
    elif depth < _DEPTH:
        if isinstance(value, Mapping):
            value = [one for name, one in value.items() if not _PUBLIC.search(str(name))]
        if isinstance(value, list):
            for one in value:
                yield from _strings(one, depth + 1)


def _of_the_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if name in _ENVIRONMENT or name.startswith("AWS_BEARER_TOKEN"):
            yield value
        elif "@" in value and _URLS.fullmatch(name):
            yield value.rpartition("@")[0].partition("//")[2]


def spoken(text: str, secrets: Iterator[str] | tuple[str, ...] = ()) -> str:
    """Return a foreign text as it may be shown: without these secrets, those of the environment, and those in URLs.

    Whatever of a secret stands there goes, also a part of it: what repeats a secret may cut it off or quote it.
    """
    text = _USER_AND_PASSWORD.sub("//***@", text[:10_000])
    grams = {
        secret[at : at + _GRAM]
        for secret in (*secrets, *_of_the_environment())
        for at in range(len(secret) - _GRAM + 1)
    }
    hidden = [False] * len(text)
    for at in range(len(text) - _GRAM + 1):
        if text[at : at + _GRAM] in grams:
            hidden[at : at + _GRAM] = [True] * _GRAM
    shown = "".join("\0" if hide else character for character, hide in zip(text, hidden, strict=True))
    return printable(re.sub("\0+", "***", shown)[:500])
