"""Where an error of botocore came from, and which part of its message may be repeated.

botocore looks up credentials when it makes a client or signs a request: it reads files, runs programs and calls
services, and any of these can fail in any way. Only the traceback's frames tell which source it was, not the error. The
same frames hold the secrets that some errors repeat.
"""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Final, Literal

import botocore.credentials as foreign
from botocore import UNSIGNED
from botocore.client import BaseClient

from sealwax._text import printable

_MODULES: Final = ("botocore.credentials", "botocore.tokens")
# Names that people know; other services go by botocore's name.
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
# Credential sources by botocore's class, with the attributes that identify them. Classes are named, not imported: not
# every release has all of them.
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
# ... and by botocore's name for the method, if no object says more.
_METHODS: Final = {
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
    "explicit": "the session that was passed in",
}
# Local variables of botocore that hold secrets while it makes credentials...
_SECRET_LOCALS: Final = frozenset(
    (
        *("stdout", "parsed", "creds", "creds_dict", "credentials", "metadata", "response_text", "headers", "output"),
        *("token", "auth_token", "token_dict", "initial_token_data", "identity_token", "token_code"),
    )
)
# ... and request parameters that hold them.
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
# Keys of these whose values an error may show.
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
# A query may be signed, or hold a token.
_QUERY: Final = re.compile(r"(https?://[^\s?\"'<>]*\?)[^\s\"'<>]+")
# A text and a secret that share fewer characters in a row give nothing away.
_GRAM: Final = 8
_DEPTH: Final = 4


class ErrorOrigin:
    """What the frames of an error's traceback tell about it.

    Attributes:
        of_credentials: whether credentials were being looked up.
        source: where, as the end of "could not get credentials from"; "" if unknown.
        service: the AWS service that was called, under the name people know; "" for none.
        client: the client in use; None for none.
        setting: botocore's name for the AWS setting that was being read; "" for none.
        caller_credentials: the credentials with which a role was requested; None for none.
        of_cache: whether a token cache of botocore or the AWS CLI was being read.
    """

    def __init__(self, error: BaseException) -> None:
        self._frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        self.of_credentials = False
        self.source = ""
        self.client: object = None
        self.setting = ""
        self.caller_credentials: object = None
        self.of_cache = False
        for frame in self._frames:
            here = frame.f_locals.get("self")
            if isinstance(here, BaseClient):
                self.client = here
            if _is_of(frame, _MODULES):
                self.of_credentials = True
            if _is_of(frame, ("botocore.configprovider",)):
                self.setting = str(frame.f_locals.get("logical_name", "")) or self.setting
            self.caller_credentials = getattr(here, "_source_credentials", self.caller_credentials)
            self.of_cache |= type(here).__name__ == "JSONFileCache"
            # The innermost source failed: requesting a role takes other credentials first.
            self.source = _source(here) or self.source
        service = self.client.meta.service_model.service_name if isinstance(self.client, BaseClient) else ""
        self.service = _SERVICES.get(service, service)

    def passed(self, *modules: str) -> bool:
        """Whether the error came through a module with one of these prefixes."""
        return any(_is_of(frame, modules) for frame in self._frames)

    def missing_bundle(self) -> str | None:
        """Return the configured CA bundle if it does not exist."""
        for frame in self._frames:
            if _is_of(frame, ("botocore.httpsession",)):
                path = getattr(frame.f_locals.get("self"), "_verify", None)
                if isinstance(path, str) and not Path(path).exists():
                    return path
        return None

    def redacted(self, text: str) -> str:
        """Return a foreign text without secrets, on one line and of bounded length."""
        return redacted(text, self._secrets())

    def _secrets(self) -> Iterator[str]:
        for frame in self._frames:
            here = dict(frame.f_locals)  # since Python 3.13 a proxy, whose keys() is a list
            for value in here.values():
                if isinstance(value, foreign.Credentials | foreign.ReadOnlyCredentials):
                    yield from _secrets_of(value)
                elif isinstance(value, BaseClient):
                    yield from _secrets_of(credentials_of(value))
                elif isinstance(value, Mapping):
                    yield from _strings({key: value[key] for key in _SECRET_PARAMETERS & value.keys()})
            if _is_of(frame, ("botocore.credentials", "botocore.tokens", "botocore.utils")):
                yield from _strings({name: here[name] for name in _SECRET_LOCALS & here.keys()})


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(modules)


def _source(provider: object) -> str:
    """Return where an object of botocore gets credentials; "" if it gets none."""
    for kind in type(provider).__mro__ if type(provider).__module__.startswith("botocore.") else ():
        if kind.__name__ in _SOURCES:
            return _ATTRIBUTE.sub(lambda name: redacted(str(getattr(provider, name[1], "?"))), _SOURCES[kind.__name__])
    return source_of(provider) if isinstance(provider, foreign.Credentials) else ""


def source_of(credentials: object) -> str:
    """Return where credentials are from, as the end of "the secret key from"."""
    renewer = _source(getattr(getattr(credentials, "_refresh_using", None), "__self__", None))
    method = str(getattr(credentials, "method", ""))
    return renewer or _METHODS.get(method, printable(method))


def credentials_of(client: object) -> foreign.Credentials | Literal[True] | None:
    """Return the credentials that a boto3 client signs with, or None if it has none.

    For a client that does not sign, or is not boto3's, return True.
    """
    signer = getattr(client, "_request_signer", None)
    if signer is None or not hasattr(signer, "_credentials") or signer.signature_version is UNSIGNED:
        return True
    credentials: foreign.Credentials | None = signer._credentials
    return credentials


def flaw(credentials: object) -> str:
    """Return why credentials cannot be AWS's, as a clause; "" if they can.

    A token with a line break at its end, for example, would fail elsewhere: in a library whose error repeats it, or as
    a wrong signature.
    """
    parts = _parts(credentials)
    for name, label in _FIELDS.items():
        value = parts.get(name)
        if name not in parts or (value is None and name == "token"):
            continue
        if not isinstance(value, str) or not value:
            return f"the {label} is missing or not text"
        if not value.isascii() or not value.isprintable() or " " in value:
            return f"the {label} has a line break, a space or another character that AWS never uses"
    return ""


def _secrets_of(credentials: object) -> Iterator[str]:
    return _strings(_parts(credentials))


def _parts(credentials: object) -> dict[str, object]:
    """Return the parts of credentials without refreshing them."""
    held: dict[str, object]
    if isinstance(credentials, foreign.ReadOnlyCredentials):
        held = credentials._asdict()
    else:
        held = {name.lstrip("_"): value for name, value in getattr(credentials, "__dict__", {}).items()}
    return {name: held[name] for name in _FIELDS if name in held}


def _strings(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, bytes | bytearray):
        yield bytes(value).decode("utf-8", "surrogateescape")
    elif isinstance(value, str):
        yield value
    elif depth < _DEPTH:
        if isinstance(value, Mapping):
            value = [item for name, item in value.items() if not _PUBLIC.search(str(name))]
        if isinstance(value, list):
            for item in value:
                yield from _strings(item, depth + 1)


def _of_the_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if name in _ENVIRONMENT or name.startswith("AWS_BEARER_TOKEN"):
            yield value
        elif "@" in value and _URLS.fullmatch(name):
            yield value.rpartition("@")[0].partition("//")[2]


def redacted(text: str, secrets: Iterator[str] | tuple[str, ...] = ()) -> str:
    """Return a foreign text without these secrets, those of the environment, and the passwords and queries of URLs.

    Parts of a secret go too: whatever repeats a secret may truncate or quote it.
    """
    text = _QUERY.sub(r"\1***", _USER_AND_PASSWORD.sub("//***@", text[:10_000]))
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
