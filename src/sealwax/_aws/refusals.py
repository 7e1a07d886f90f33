"""Turns errors of AWS and botocore into sealwax's errors, by the tables in ``meanings``.

An error while credentials are looked up becomes a CredentialsError that names their source: KMS was not called.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import botocore.exceptions as foreign

from sealwax import errors
from sealwax._aws import meanings, origins
from sealwax._aws.meanings import Meaning
from sealwax._text import printable

T = TypeVar("T")

# AWS's words for a rejected signature repeat the request, and the session token in it, after one of these characters.
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
# These are about the clock only, and repeat nothing.
_OF_THE_CLOCK: Final = ("Signature expired: ", "Signature not yet current: ")
# Usual paths, by the variables that replace them.
_SETTINGS_FILES: Final = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
# The modules that parse an answer, look up its error code, and decide on a retry.
_READERS: Final = ("botocore.parsers", "botocore.model", "botocore.retr", "botocore.errorfactory")
_HTTP_STATUS: Final = re.compile(r"Received non 200 response [0-9]+")
# How messages begin that are not botocore's own but hold no secret.
_HARMLESS: Final = ("Unsupported host ", "Auth token value is not", "Credentials were refreshed, but")


def is_unreadable(error: Exception) -> bool:
    """Whether botocore failed to read an answer. Its parsers trust what they get, and can raise anything."""
    # The retry modules also see requests that were never sent.
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        return False
    return origins.ErrorOrigin(error).passed(*_READERS)


def is_foreign(error: Exception) -> bool:
    """Whether ``translate`` applies: the error is botocore's, or came out of botocore's work."""
    if isinstance(error, errors.SealwaxError):
        return False
    return (
        isinstance(error, foreign.ClientError | foreign.BotoCoreError)
        or is_unreadable(error)
        or (origin := origins.ErrorOrigin(error)).of_credentials
        or bool(_flaw(error, origin))
    )


def call_aws(call: Callable[[], T], doing: str, key: str | None) -> T:
    """Return what ``call`` returns, with errors of AWS and botocore translated.

    Args:
        call: calls AWS through botocore.
        doing, key: as for ``translate``.

    Raises:
        KmsError: AWS did not answer or refused, its answer cannot be read, or there are no credentials.
    """
    try:
        return call()
    except Exception as error:
        if not is_foreign(error):
            raise
        failure = translate(error, doing, key)
    # Raised outside the handler, so it is not chained: botocore's error holds the whole answer, and maybe secrets.
    raise failure


def open_client(make: Callable[[], T], doing: str) -> T:
    """Return the session or client that ``make`` returns, once its credentials are known to be usable.

    Missing credentials are reported now and not with the first request, so that the caller can try again.

    Args:
        doing: as for ``translate``.

    Raises:
        KmsError: it cannot be made, or has no credentials.
    """

    def make_it() -> T:
        client = make()
        credentials = origins.credentials_of(client)
        if credentials is None:
            raise foreign.NoCredentialsError
        if credentials is not True and (flaw := origins.flaw(credentials.get_frozen_credentials())):
            source, todo = origins.source_of(credentials), meanings.MALFORMED.todo
            raise credentials_error(flaw, code="InvalidCredentials", source=source, todo=todo)
        return client

    try:
        return call_aws(make_it, doing, None)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        # botocore does not check its settings files: whatever is in them can make its code fail in any way.
        if not origins.ErrorOrigin(error).passed("botocore."):
            raise
        failure = translate(error, doing, None)
    raise failure


def translate(error: Exception, doing: str, key: str | None) -> errors.KmsError:
    """Return sealwax's error for one of botocore's.

    Args:
        error: a ClientError, a BotoCoreError, the ValueError that botocore raises for a malformed endpoint, or anything
            else for which ``is_foreign`` is true.
        doing: the operation, as the subject of a sentence: ``"decrypting the data key"``.
        key: the KMS key as named in the request.
    """
    origin = origins.ErrorOrigin(error)
    words = origin.redacted(_words(error, origin)).rstrip(". ")
    code, request_id, status = type(error).__name__, None, 0
    if isinstance(error, foreign.ClientError):
        metadata = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code") or "unknown")
        request_id, status = metadata.get("RequestId"), metadata.get("HTTPStatusCode", 0)
    trace = printable(", ".join(part for part in (code, request_id and f"request id {request_id}") if part)[:500])
    aside = f"{trace}{': ' if words else ''}{words}"
    service = origin.service or ("the service" if origin.of_credentials else "KMS")
    flaw = _flaw(error, origin)
    if flaw or origin.of_credentials or isinstance(error, foreign.NoCredentialsError):
        meaning = meanings.MALFORMED if flaw else _of_issuer(error, code, status, origin)
        why = flaw or meaning.why.format(service=service)
        if isinstance(error, foreign.NoCredentialsError):
            if os.environ.get("AWS_SECRET_ACCESS_KEY"):
                why += " (AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not)"
            why += _unreadable_files()
        return credentials_error(
            why,
            code=code,
            source=_source(origin, flaw),
            aside="" if flaw else aside,
            todo=meaning.todo,
            retryable=meaning.retryable,
        )
    meaning = _of_answer(error, code, status, origin)
    why, todo = meaning.why.format(service=service), meaning.todo
    if meaning.error is errors.CredentialsError and (source := _source(origin, "any")):
        why = f"{why}: those from {source}"
    if meaning is meanings.NO_PROFILE:
        why += _unreadable_files()
    if key is not None and "alias/aws/" in key:
        why = f"{why}: keys under 'alias/aws/' are AWS managed, and only AWS services may use them"
        todo = "Create a customer managed key."
    # botocore's settings belong to no key.
    of_settings = meaning.error is errors.ConfigurationError and not isinstance(error, foreign.ClientError)
    return meaning.error(
        f"{_failed(doing, key)}: {why} ({aside}). {todo}",
        code=code,
        request_id=request_id,
        key=None if of_settings else key,
        retryable=meaning.retryable,
    )


def credentials_error(
    why: str, *, code: str, source: str, aside: str = "", todo: str = "", retryable: bool = False
) -> errors.CredentialsError:
    """Return the error for missing or unusable credentials.

    Args:
        why: as a clause.
        source: where they should have come from; "" if unknown.
        aside: the words of the AWS service or of botocore.
    """
    prefix = f"could not get AWS credentials from {source}: " if source else ""
    message = f"signing in to AWS failed: {prefix}{why}{f' ({aside})' if aside else ''}. {todo}"
    return errors.CredentialsError(message, code=code, retryable=retryable)


def unreadable(doing: str, key: str | None, why: str) -> errors.RequestRefusedError:
    """Return the error for an answer that botocore could read, but that AWS would not give.

    Args:
        doing, key: as for ``translate``.
        why: what is wrong with it.
    """
    return errors.RequestRefusedError(f"{_failed(doing, key)}: {why}. {meanings.UNREADABLE.todo}", key=key)


def words_of(error: Exception) -> str:
    """Return the message of botocore or of the AWS service, without secrets."""
    origin = origins.ErrorOrigin(error)
    return origin.redacted(_words(error, origin))


def _failed(doing: str, key: str | None) -> str:
    with_key = "" if key is None else f" with KMS key '{printable(key)}'"
    return f"{doing}{with_key} failed"


def _unreadable_files() -> str:
    """Return which settings files cannot be read, as the end of a clause. botocore ignores them silently."""
    clause = ""
    for name, usual in _SETTINGS_FILES.items():
        named = os.environ.get(name, "")
        path = os.path.expanduser(named or usual)  # noqa: PTH111  Path's fails if there is no such user
        try:
            why = "" if path == os.devnull else _why_unreadable(Path(path))
        except OSError as error:
            # The usual files are optional.
            why = "" if not named and isinstance(error, FileNotFoundError) else str(error.strerror)
        if why:
            origin = f" (from {name})" if named else ""
            clause += f"; '{origins.redacted(path)}'{origin} cannot be read: {why}"
    return clause


def _why_unreadable(path: Path) -> str:
    if not stat.S_ISREG(path.stat().st_mode):
        return "it is not a regular file"  # opening a pipe would block
    with path.open("rb") as file:
        file.read(1)
    return ""


def _of_answer(error: Exception, code: str, status: int, origin: origins.ErrorOrigin) -> Meaning:
    """Return the meaning of an error about the request itself."""
    if isinstance(error, foreign.ClientError):
        if error.operation_name in meanings.ISSUING_OPERATIONS and (meaning := meanings.ISSUER_CODES.get(code)):
            return meaning
        default = meanings.BY_STATUS.get(status // 100, meanings.REQUEST)
        return meanings.CODES.get(code, default)
    if is_unreadable(error):
        return meanings.UNREADABLE
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        if (path := origin.missing_bundle()) is not None:
            return meanings.missing_bundle(errors.ConfigurationError, printable(path))
        if isinstance(error.kwargs.get("error"), ValueError):
            return meanings.ADDRESS
    if not isinstance(error, foreign.BotoCoreError) and not _is_of_a_url(error, origin):
        return meanings.bad_setting(errors.ConfigurationError, origin.setting)
    return next((meaning for kind, meaning in meanings.EXCEPTIONS if isinstance(error, kind)), meanings.ENDPOINT)


def _of_issuer(error: Exception, code: str, status: int, origin: origins.ErrorOrigin) -> Meaning:
    """Return the meaning of an error that ended the search for credentials."""
    if isinstance(error, foreign.ClientError):
        default = meanings.ISSUER_BY_STATUS.get(status // 100, meanings.ISSUER_REQUEST)
        return meanings.ISSUER_CODES.get(code, default)
    if isinstance(error, foreign.HTTPClientError | foreign.ConnectionError):
        if (path := origin.missing_bundle()) is not None:
            return meanings.missing_bundle(errors.CredentialsError, printable(path))
        if isinstance(error, foreign.SSLError):
            return meanings.ISSUER_TLS
        if _is_unsent(error):
            return meanings.NOT_SENDABLE
        bad_address = isinstance(error.kwargs.get("error"), ValueError)
        return meanings.ISSUER_ADDRESS if bad_address else meanings.ISSUER_UNREACHABLE
    if is_unreadable(error):
        return meanings.ISSUER_UNREADABLE
    if _is_of_a_url(error, origin):
        return meanings.ISSUER_ENDPOINT
    if isinstance(error, KeyError) and origin.of_cache:
        return meanings.TOKEN_CACHE
    if isinstance(error, foreign.PartialCredentialsError) and "source_profile" in str(error.kwargs.get("cred_var")):
        return meanings.NO_SOURCE
    if origin.setting and not isinstance(error, foreign.BotoCoreError):
        return meanings.bad_setting(errors.CredentialsError, origin.setting)
    return next(
        (meaning for kind, meaning in meanings.CREDENTIAL_EXCEPTIONS if isinstance(error, kind)), meanings.UNUSABLE
    )


def _is_unsent(error: Exception) -> bool:
    """Whether a request was not sent because one of its headers cannot be."""
    cause = error.kwargs.get("error") if isinstance(error, foreign.HTTPClientError) else None
    return isinstance(cause, UnicodeEncodeError) or str(cause).startswith("Invalid header value")


def _is_of_a_url(error: Exception, origin: origins.ErrorOrigin) -> bool:
    return isinstance(error, ValueError) and (
        str(error).startswith("Invalid endpoint") or origin.passed("urllib.", "botocore.endpoint")
    )


def _flaw(error: Exception, origin: origins.ErrorOrigin) -> str:
    """Return what is wrong with the request's credentials if that may be why it failed."""
    if isinstance(error, foreign.ClientError):
        code = str(error.response.get("Error", {}).get("Code"))
        if meanings.CODES.get(code) is not meanings.REJECTED:
            return ""
    return origins.flaw(origins.credentials_of(origin.client))


def _source(origin: origins.ErrorOrigin, flaw: str) -> str:
    credentials = origin.caller_credentials or origins.credentials_of(origin.client)
    if flaw and credentials not in (None, True):
        return origins.source_of(credentials)
    return (origin.source or "the session's settings") if origin.of_credentials else ""


def _words(error: Exception, origin: origins.ErrorOrigin) -> str:
    """Return the part of an error's message that is worth repeating, without data that came along with it."""
    if isinstance(error, foreign.ClientError):
        answer = error.response.get("Error", {})
        words = str(answer.get("Message") or "")
        if str(answer.get("Code")) in _REPEAT_THE_REQUEST and not words.startswith(_OF_THE_CLOCK):
            return _QUOTES.split(words, maxsplit=1)[0]
        return words
    if isinstance(error, foreign.CredentialRetrievalError | foreign.MetadataRetrievalError):
        words = str(error.kwargs.get("error_msg", ""))
        status = _HTTP_STATUS.search(words)
        return words if status is None else status[0]
    if isinstance(error, foreign.BotoCoreError):
        return "" if _is_unsent(error) else str(error)
    if isinstance(error, OSError):
        name = "" if error.filename is None else f": '{os.fsdecode(error.filename)}'"
        return f"{error.strerror}{name}" if error.strerror else ""
    if isinstance(error, TypeError | AttributeError) or origin.of_cache:
        return ""  # about Python objects
    if isinstance(error, KeyError) and origin.of_credentials:
        return f"there is no {error.args[0]}" if str(error.args[0]).isidentifier() else ""
    if origin.of_credentials and not str(error).startswith(_HARMLESS):
        return ""
    return "" if is_unreadable(error) else str(error)
