"""Every error that leaves sealwax, in one tree.

::

    SealwaxError
    ├── ContextError              the caller's context is missing, different or not usable
    ├── HeaderError               the bytes are no envelope, or its preamble or slots are damaged
    │   ├── NotAnEnvelopeError      nothing of ours was recognised
    │   ├── UnsupportedEnvelopeError  an envelope of a newer version or another suite
    │   └── DamagedHeaderError      an envelope whose preamble or slots cannot be used
    ├── PayloadError              something is wrong from the payload on
    │   ├── CommitmentError         the data key or the context does not belong to this payload
    │   ├── DataKeyError            what a wrapped key holds is no data key: it has not 32 bytes
    │   └── TamperedError           a chunk is altered, missing, cut off or followed by other bytes
    ├── KmsError                  a KMS key could not be used
    │   ├── KeyNotAllowedError      the caller's allow-list has no key that this envelope is wrapped under
    │   ├── AccessDeniedError       the caller lacks a permission
    │   ├── CredentialsError        no AWS credentials, or credentials that are expired or refused
    │   ├── ConfigurationError      no Region, an unknown profile, a key name that cannot be one
    │   │   └── NotPicklableError     a client, credentials or a local function cannot go to another process
    │   ├── KeyStateError           disabled, pending deletion, pending import or otherwise not usable
    │   ├── KeyNotFoundError        no such key or alias in that account and Region
    │   ├── WrongKeyError           the wrapped key was not made by that KMS key, or KMS answered for another
    │   ├── WrappedKeyRefusedError  KMS refused the wrapped key or its context
    │   ├── ThrottledError          KMS asked to slow down, and went on doing so
    │   ├── UnavailableError        KMS could not be reached or failed inside
    │   ├── RequestRefusedError     KMS refused the request for another reason
    │   └── AllKeysFailedError      several wrapped keys were tried; ``attempts`` holds each one's error
    ├── FileError                 a file could not be read, written or replaced; nothing was half-written
    │   └── StoreError              S3 did not do what was asked with a bucket or an object
    ├── RewrapConflictError       the envelope changed, or contradicts itself, while it was being re-wrapped
    ├── EngineError               Spark does not start, or gave a job up; what was done is done
    ├── PlanError                 a fleet's plan file is none, damaged, or in use by another run
    ├── PolicyError               a key policy or an IAM policy breaks a rule of the policy language
    ├── FactsError                a file of facts, events or accepted findings is not what an audit can read
    └── LabError                  the embedded KMS lab cannot do what was asked of it

Nothing else escapes the library but :class:`TypeError` and :class:`ValueError` for a caller's bug, and what a file
object passed in by the caller raises itself. Messages never hold key bytes, plaintext, or context values that the
caller did not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealwax._core.recognize import Foreign

__all__ = [
    "AccessDeniedError",
    "AllKeysFailedError",
    "CommitmentError",
    "ConfigurationError",
    "ContextError",
    "CredentialsError",
    "DamagedHeaderError",
    "DataKeyError",
    "EngineError",
    "FactsError",
    "FileError",
    "HeaderError",
    "KeyNotAllowedError",
    "KeyNotFoundError",
    "KeyStateError",
    "KmsError",
    "LabError",
    "NotAnEnvelopeError",
    "NotPicklableError",
    "PayloadError",
    "PlanError",
    "PolicyError",
    "RequestRefusedError",
    "RewrapConflictError",
    "SealwaxError",
    "StoreError",
    "TamperedError",
    "ThrottledError",
    "UnavailableError",
    "UnsupportedEnvelopeError",
    "WrappedKeyRefusedError",
    "WrongKeyError",
]


class SealwaxError(Exception):
    """The root of every error that sealwax raises on purpose."""


class ContextError(SealwaxError):
    """The encryption context given by the caller is missing, different or not usable."""


class HeaderError(SealwaxError):
    """The preamble or the slots are not an envelope's, or are damaged."""


class NotAnEnvelopeError(HeaderError):
    """The bytes do not begin as an envelope does.

    Attributes:
        foreign: what they are instead, a :class:`sealwax._core.recognize.Foreign`; None where that cannot be told.
        at_rest: the KMS key under which the store itself keeps the object (S3's SSE-KMS); "" for none.
    """

    foreign: Foreign | None = None
    at_rest: str = ""


class UnsupportedEnvelopeError(HeaderError):
    """An envelope of a version, kind or suite that this release does not know."""


class DamagedHeaderError(HeaderError):
    """An envelope whose preamble or slots break a rule of the format."""


class PayloadError(SealwaxError):
    """The payload does not authenticate."""


class CommitmentError(PayloadError):
    """The data key, the context or the header does not belong to this payload; no byte was released."""


class DataKeyError(PayloadError):
    """What a wrapped key holds is no data key: it has not 32 bytes."""


class TamperedError(PayloadError):
    """A chunk of the payload is altered, missing or cut off, or bytes follow the end."""


class KmsError(SealwaxError):
    """A KMS key could not be used.

    Attributes:
        code: the error code KMS or botocore gave, or None.
        request_id: the AWS request id, or None.
        key: the key that it is about, as it was named in the request, or None.
        retryable: whether the same request may succeed a little later, with nothing changed.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        request_id: str | None = None,
        key: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.key = key
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


def _rebuild(cls: type[SealwaxError], message: str, state: dict[str, Any]) -> SealwaxError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class KeyNotAllowedError(KmsError):
    """No wrapped key is under a key of the caller's allow-list; KMS was not asked."""


class AccessDeniedError(KmsError):
    """The caller lacks a permission, or a policy denies it."""


class CredentialsError(KmsError):
    """There are no AWS credentials, or they are expired or refused.

    Where they could not be had, nothing else was asked: ``request_id`` is None then, and the message names where they
    were to come from.
    """


class ConfigurationError(KmsError):
    """The Region, the profile, the endpoint or the key's name is missing or cannot be right."""


class NotPicklableError(ConfigurationError, TypeError):
    """What was handed to a keyring or a store, such as a client or credentials, cannot go to another process."""


class KeyStateError(KmsError):
    """The KMS key is disabled, pending deletion, pending import or otherwise not usable now."""


class KeyNotFoundError(KmsError):
    """There is no such key or alias in that account and Region."""


class WrongKeyError(KmsError):
    """The wrapped key was made by another KMS key, or KMS answered for another key than it was asked for."""


class WrappedKeyRefusedError(KmsError):
    """KMS refused the wrapped key: it is damaged, or the context is not the one it was made with."""


class ThrottledError(KmsError):
    """KMS throttled the request, and every retry of it."""


class UnavailableError(KmsError):
    """KMS, or the key store behind it, could not be reached or failed inside; a later try may succeed."""


class RequestRefusedError(KmsError):
    """KMS refused the request for a reason that no other class names."""


class AllKeysFailedError(KmsError):
    """Every wrapped key that was tried failed.

    Attributes:
        attempts: pairs of a key ARN and the error that its attempt ended with, in the order tried.
    """

    def __init__(self, message: str, attempts: tuple[tuple[str, SealwaxError], ...]) -> None:
        super().__init__(
            message, retryable=any(isinstance(error, KmsError) and error.retryable for _, error in attempts)
        )
        self.attempts = attempts


def is_of_credentials(error: Exception) -> bool:
    """Whether an error is about the AWS credentials alone: whatever else is asked with them ends in the same way."""
    causes = [cause for _, cause in error.attempts] if isinstance(error, AllKeysFailedError) else [error]
    return all(isinstance(cause, CredentialsError) for cause in causes)


def is_of_one_region(error: CredentialsError) -> bool:
    """Whether another Region may well take the same credentials: one that is not enabled knows nobody's."""
    return error.code in ("UnrecognizedClientException", "InvalidClientTokenId") and error.request_id is not None


def is_of_all(error: Exception) -> bool:
    """Whether an error is about AWS credentials or settings, and no key: it is the same for whatever is asked next."""
    return is_of_credentials(error) or (isinstance(error, ConfigurationError) and error.key is None)


class FileError(SealwaxError):
    """A file could not be read, written or replaced."""


class StoreError(FileError):
    """S3 did not do what was asked with a bucket or an object.

    Attributes:
        code: the error code that S3 or botocore gave, "NoName" for a name that is none, or None.
        request_id: the AWS request id, or None.
        retryable: whether the same request may succeed a little later, with nothing changed.
    """

    def __init__(
        self, message: str, *, code: str | None = None, request_id: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


class RewrapConflictError(SealwaxError):
    """The envelope changed, or contradicts itself, while it was being re-wrapped; nothing was written."""


class EngineError(SealwaxError):
    """The engine that a fleet is to be worked on with does not start, or gave up; what was done is done."""


class PlanError(SealwaxError):
    """The file is no plan of a fleet, is damaged, or another run works on it."""


class PolicyError(SealwaxError):
    """A policy document breaks a rule of the policy language, so nobody can say what it allows."""


class FactsError(SealwaxError):
    """A file given to an audit (facts, CloudTrail events, a baseline, a fleet plan) cannot be read as one."""


class LabError(SealwaxError):
    """The embedded KMS lab cannot do what was asked of it."""
