"""Every error that sealwax raises, in one tree.

::

    SealwaxError
    ├── ContextError              the context is missing, different or unusable
    ├── HeaderError               not an envelope, or its preamble or slots are damaged
    │   ├── NotAnEnvelopeError      the bytes do not begin like an envelope
    │   ├── UnsupportedEnvelopeError  an envelope of a newer version or another suite
    │   └── DamagedHeaderError      an envelope whose preamble or slots are unusable
    ├── PayloadError              the payload does not authenticate
    │   ├── CommitmentError         the data key or the context does not belong to this payload
    │   ├── DataKeyError            a wrapped key does not hold a data key of 32 bytes
    │   └── TamperedError           a chunk is altered, missing, cut off or followed by other bytes
    ├── KmsError                  a KMS key could not be used
    │   ├── KeyNotAllowedError      the envelope is wrapped under no key of the caller's allow-list
    │   ├── AccessDeniedError       the caller lacks a permission
    │   ├── CredentialsError        no AWS credentials, or they are expired or refused
    │   ├── ConfigurationError      no Region, an unknown profile, an impossible key name
    │   │   └── NotPicklableError     a client, credentials or a local function cannot be sent to another process
    │   ├── KeyStateError           disabled, pending deletion, pending import or otherwise unusable
    │   ├── KeyNotFoundError        no such key or alias in that account and Region
    │   ├── WrongKeyError           another KMS key wrapped the data key, or KMS answered for another key
    │   ├── WrappedKeyRefusedError  KMS refused the wrapped key or its context
    │   ├── ThrottledError          KMS throttled the request and every retry
    │   ├── UnavailableError        KMS could not be reached or failed internally
    │   ├── RequestRefusedError     KMS refused the request for another reason
    │   └── AllKeysFailedError      several wrapped keys were tried; ``attempts`` holds their errors
    ├── FileError                 a file could not be read, written or replaced; no file was half written
    │   └── StoreError              S3 refused or failed an operation on a bucket or an object
    ├── RewrapConflictError       the envelope changed, or contradicts itself, during a re-wrap
    ├── RecordError               a record could not be sealed or opened
    │   ├── NotARecordError         the value does not have the form of a record
    │   ├── RecordTamperedError     it was altered, or belongs to another row, field or local scope
    │   ├── UnreadableValueError    it is authentic, and holds a value that this release cannot read
    │   ├── UnknownKeyError         no data key of this scope made it
    │   ├── ShreddedError           the data keys of its scope were destroyed on purpose
    │   ├── KeyNotLoadedError       its data key has to be loaded first, and an event loop is running
    │   └── KeyRowError             a row of the key store does not hold the data key that it claims to hold
    ├── OldFormError              a value cannot be read from the form it was stored in before records, or stored in it
    ├── KeyStoreError             a key store cannot be reached, refuses, or lost a key
    ├── TableError                a table with sealed columns cannot be used, or is not as the map of fields says
    ├── ModelError                a model or a statement uses a sealed column in a way that cannot work
    ├── EngineError               Spark did not start, or gave up on a job; finished work is kept
    ├── PlanError                 not a fleet's plan file, or damaged, or in use by another run
    ├── PolicyError               a key policy or an IAM policy breaks a rule of the policy language
    ├── FactsError                an audit cannot read a file of facts, events or accepted findings
    ├── SettingsError             the command line's settings file is not trusted, or cannot be used
    └── LabError                  the embedded KMS lab cannot do what was asked

The library raises nothing else, except ``TypeError`` and ``ValueError`` for wrong arguments, and whatever a caller's
own file object raises. Messages never contain key bytes, plaintext, or context values that the caller did not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealwax._foreign import ForeignFormat

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
    "KeyNotLoadedError",
    "KeyRowError",
    "KeyStateError",
    "KeyStoreError",
    "KmsError",
    "LabError",
    "ModelError",
    "NotARecordError",
    "NotAnEnvelopeError",
    "NotPicklableError",
    "OldFormError",
    "PayloadError",
    "PlanError",
    "PolicyError",
    "RecordError",
    "RecordTamperedError",
    "RequestRefusedError",
    "RewrapConflictError",
    "SealwaxError",
    "SettingsError",
    "ShreddedError",
    "StoreError",
    "TableError",
    "TamperedError",
    "ThrottledError",
    "UnavailableError",
    "UnknownKeyError",
    "UnreadableValueError",
    "UnsupportedEnvelopeError",
    "WrappedKeyRefusedError",
    "WrongKeyError",
]


class SealwaxError(Exception):
    """The root of every error that sealwax raises on purpose."""


class ContextError(SealwaxError):
    """The caller's encryption context is missing, different or unusable."""


class HeaderError(SealwaxError):
    """The bytes are not an envelope, or its preamble or slots are damaged."""


class NotAnEnvelopeError(HeaderError):
    """The bytes do not start like an envelope.

    Attributes:
        foreign: the format they are in instead; None if it was not recognized.
        at_rest: the KMS key that S3 encrypts the object with at rest (SSE-KMS); "" if there is none.
        metadata: the S3 object's user metadata, by names without ``x-amz-meta-``, if ``S3Store.inspect`` raised it.
    """

    foreign: ForeignFormat | None = None
    at_rest: str = ""
    metadata: Mapping[str, str] = MappingProxyType({})


class UnsupportedEnvelopeError(HeaderError):
    """An envelope of a version or suite that this release does not support."""


class DamagedHeaderError(HeaderError):
    """An envelope whose preamble or slots break a rule of the format."""


class PayloadError(SealwaxError):
    """The payload does not authenticate."""


class CommitmentError(PayloadError):
    """The data key, the context or the header does not belong to this payload; no byte was released."""


class DataKeyError(PayloadError):
    """A wrapped key does not hold a data key: KMS returned other than 32 bytes."""


class TamperedError(PayloadError):
    """A chunk of the payload is altered, missing or cut off, or bytes follow the end."""


class KmsError(SealwaxError):
    """A KMS key could not be used.

    Attributes:
        code: the error code of KMS or botocore, or None.
        request_id: the AWS request id, or None.
        key: the key that was used, as named in the request, or None.
        retryable: whether the same request may succeed a little later without any change.
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

    def __reduce__(self) -> tuple[Callable[..., SealwaxError], tuple[object, ...]]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


def _rebuild(cls: type[SealwaxError], message: str, state: dict[str, object]) -> SealwaxError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class KeyNotAllowedError(KmsError):
    """No wrapped key is under a key of the caller's allow-list; no request was sent to KMS."""


class AccessDeniedError(KmsError):
    """The caller lacks a permission, or a policy denies it."""


class CredentialsError(KmsError):
    """There are no AWS credentials, or they are expired or refused.

    If there are none, no request was sent, and ``request_id`` is None. The message names their source.
    """


class ConfigurationError(KmsError):
    """The Region, the profile, the endpoint or the key's name is missing or invalid."""


class NotPicklableError(ConfigurationError, TypeError):
    """A keyring or store holds something, such as a client or credentials, that cannot be sent to another process."""


class KeyStateError(KmsError):
    """The KMS key is disabled, pending deletion, pending import or otherwise unusable now."""


class KeyNotFoundError(KmsError):
    """There is no such key or alias in that account and Region."""


class WrongKeyError(KmsError):
    """Another KMS key wrapped the data key, or KMS answered for a key other than the one requested."""


class WrappedKeyRefusedError(KmsError):
    """KMS refused the wrapped key: it is damaged, or was made with a different context."""


class ThrottledError(KmsError):
    """KMS throttled the request and every retry."""


class UnavailableError(KmsError):
    """KMS, or the key store behind it, could not be reached or failed internally; a later attempt may succeed."""


class RequestRefusedError(KmsError):
    """KMS refused the request for a reason that no other class covers."""


class AllKeysFailedError(KmsError):
    """Every wrapped key that was tried failed.

    Attributes:
        attempts: pairs of a key ARN and its error, in the order tried.
    """

    def __init__(self, message: str, attempts: tuple[tuple[str, SealwaxError], ...]) -> None:
        super().__init__(
            message, retryable=any(isinstance(error, KmsError) and error.retryable for _, error in attempts)
        )
        self.attempts = attempts


def is_of_credentials(error: Exception) -> bool:
    """Whether an error is only about the AWS credentials, so that every other request with them would fail too."""
    causes = [cause for _, cause in error.attempts] if isinstance(error, AllKeysFailedError) else [error]
    return all(isinstance(cause, CredentialsError) for cause in causes)


def is_of_one_region(error: CredentialsError) -> bool:
    """Whether another Region may accept the same credentials: a Region that is not enabled accepts none."""
    return error.code in ("UnrecognizedClientException", "InvalidClientTokenId") and error.request_id is not None


def is_of_all(error: Exception) -> bool:
    """Whether an error is about AWS credentials or settings and not about one key: all further requests would fail."""
    return is_of_credentials(error) or (isinstance(error, ConfigurationError) and error.key is None)


class FileError(SealwaxError):
    """A file could not be read, written or replaced."""


class StoreError(FileError):
    """S3 refused or failed an operation on a bucket or an object.

    Attributes:
        code: the error code of S3 or botocore, "NoName" for an invalid name, "NotKept" for an object that S3 could not
            change without a loss, or None.
        request_id: the AWS request id, or None.
        retryable: whether the same request may succeed a little later without any change.
    """

    def __init__(
        self, message: str, *, code: str | None = None, request_id: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.retryable = retryable

    def __reduce__(self) -> tuple[Callable[..., SealwaxError], tuple[object, ...]]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


class RewrapConflictError(SealwaxError):
    """The envelope changed, or contradicts itself, during a re-wrap; nothing was written, unless it says so.

    Attributes:
        buried: whether the re-wrapped object has replaced what another program wrote.
    """

    buried: bool = False


class RecordError(SealwaxError):
    """A record could not be sealed or opened."""


class NotARecordError(RecordError):
    """The value does not have the form of a record."""


class RecordTamperedError(RecordError):
    """The record was altered, or was sealed for another row, another field or another local scope."""


class UnreadableValueError(RecordError):
    """The record is authentic, and holds a value of a type, or in a form, that this release cannot read."""


class UnknownKeyError(RecordError):
    """No data key of this scope made the record: it is of another scope or store, or its key was lost.

    Attributes:
        key_id: the 16 bytes that name the data key.
    """

    def __init__(self, message: str, key_id: bytes = b"") -> None:
        super().__init__(message)
        self.key_id = key_id


class ShreddedError(RecordError):
    """The data keys of the scope were destroyed on purpose: nothing of it can be opened any more."""


class KeyNotLoadedError(RecordError):
    """The data key has to be loaded first, which waits for the key store and KMS, and an event loop is running.

    Attributes:
        scope: the pairs that KMS sees.
        key_ids: the data keys to load; empty for the newest one.
    """

    def __init__(self, message: str, scope: Mapping[str, str] | None = None, key_ids: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.scope = dict(scope or {})
        self.key_ids = key_ids


class KeyRowError(RecordError):
    """A row of the key store does not hold the data key that it claims to hold: it was altered or put together."""


class OldFormError(SealwaxError):
    """A value cannot be read from the form that it was stored in before records, or cannot be stored in that form."""


class KeyStoreError(SealwaxError):
    """A key store cannot be reached, refuses, or has lost a key that it had.

    Attributes:
        retryable: whether the same call may succeed a little later.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Callable[..., SealwaxError], tuple[object, ...]]:
        return _rebuild, (type(self), self.args[0], self.__dict__.copy())


class TableError(SealwaxError):
    """A table with sealed columns cannot be read or changed, or is not as the map of fields says."""


class ModelError(SealwaxError):
    """A model or a statement uses a sealed column in a way that cannot work."""


class EngineError(SealwaxError):
    """The engine of a fleet did not start, or gave up on a job; finished work is kept."""


class PlanError(SealwaxError):
    """The file is not a fleet's plan, is damaged, or is in use by another run."""


class PolicyError(SealwaxError):
    """A policy document breaks a rule of the policy language, so what it allows is undefined."""


class FactsError(SealwaxError):
    """An audit cannot read a file of facts, CloudTrail events or accepted findings, or a fleet plan."""


class SettingsError(SealwaxError):
    """The command line's settings file is not trusted, or cannot be used."""


class LabError(SealwaxError):
    """The embedded KMS lab cannot do what was asked."""
