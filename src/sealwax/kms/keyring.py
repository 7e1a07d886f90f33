"""KmsKeyring: data keys made, opened and re-wrapped by AWS KMS."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import botocore.exceptions as foreign

from sealwax import aws, errors
from sealwax.context import printable
from sealwax.keyring import DATA_KEY_BYTES, DataKey, WrappedKey
from sealwax.kms import allow, names

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# An envelope may carry 16 wrapped keys; an attacker's must not turn one decryption into 16 calls.
MAX_ATTEMPTS: Final = 3


class KmsKeyring:
    """Data keys under one KMS key. One object serves a whole program, from any number of threads.

    Args:
        key: a key ID, key ARN, alias (``"alias/payments"``) or alias ARN of a symmetric encryption key. New data keys
            are made under it. An ARN's Region wins over the session's.
        decrypt_with: the allow-list for unwrapping: key names as above, or :class:`KeyScope`. Default: ``key``.
        session: a ``boto3.Session``, for profile, role, Region and endpoint. Default: an ordinary one.
        client: a KMS client to use instead of a session; its Region is the only one then.
        max_attempts: how many wrapped keys of one envelope may be tried.

    IAM actions: :meth:`generate` needs kms:GenerateDataKey, :meth:`unwrap` kms:Decrypt, :meth:`rewrap`
    kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one.

    Raises:
        ConfigurationError: a key's name is none of the four forms.
    """

    def __init__(
        self,
        key: str,
        *,
        decrypt_with: Sequence[str | names.KeyScope] | None = None,
        session: aws.Session | None = None,
        client: KMSClient | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        if session is not None and client is not None:
            raise ValueError("pass a session or a client, not both")
        if isinstance(decrypt_with, str):
            raise TypeError("decrypt_with is a sequence of key names, not one str")
        self._key = names.parse(key)
        allowed = [key] if decrypt_with is None else decrypt_with
        self._allowed = tuple(names.parse(entry) if isinstance(entry, str) else entry for entry in allowed)
        self._clients = aws.Clients(session, client)
        self._max_attempts = max_attempts

    def __repr__(self) -> str:
        return f"KmsKeyring({self._key.text!r})"

    def generate(self, context: Mapping[str, str], use: Callable[[DataKey, tuple[WrappedKey, ...]], T]) -> T:
        """Make a data key with kms:GenerateDataKey and lend it. See :meth:`sealwax.Keyring.generate`."""
        region = self._region(self._key)
        answer = self._call(
            region,
            "generate_data_key",
            "making a data key",
            self._key.text,
            KeyId=self._key.text,
            KeySpec="AES_256",
            **_context("EncryptionContext", context),
        )
        with _data_key(answer, self._key.text) as data_key:
            arn = _answered_key(answer, "KeyId", self._key, region)
            wrapped = WrappedKey(
                arn, _field(answer, "CiphertextBlob"), _material_id(answer, "KeyMaterialId"), int(time.time())
            )
            return use(data_key, (wrapped,))

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Open a data key with kms:Decrypt and lend it. See :meth:`sealwax.Keyring.unwrap`.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not asked.
            AllKeysFailedError: more than one attempt was made, and each failed.
            DataKeyError: the wrapped key does not hold a data key.
        """
        failures: list[tuple[str, errors.SealwaxError]] = []
        for attempt in self._attempts(wrapped_keys):
            try:
                with self._decrypt(attempt, context) as data_key:
                    return use(data_key)
            except (errors.KmsError, errors.CommitmentError, errors.DataKeyError) as error:
                failures.append((attempt.wrapped_key.key_arn, error))
        raise _all_failed(failures)

    def _decrypt(self, attempt: allow.Attempt, context: Mapping[str, str]) -> DataKey:
        try:
            answer = self._call(
                attempt.region,
                "decrypt",
                "opening the data key",
                attempt.key_id,
                KeyId=attempt.key_id,
                CiphertextBlob=attempt.wrapped_key.ciphertext,
                **_context("EncryptionContext", context),
            )
        except errors.WrongKeyError as error:
            raise _moved(error, attempt) from None
        data_key = _data_key(answer, attempt.key_id)
        try:
            _check_arn(_field(answer, "KeyId"), attempt.expected_arn)
        except errors.KmsError:
            data_key.close()
            raise
        return data_key

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap a data key with kms:ReEncrypt. See :meth:`sealwax.Keyring.rewrap`.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not asked.
            ConfigurationError: a new key is in a Region where no allowed key has wrapped this data key.
        """
        targets = [names.parse(target) for target in to]
        if not targets:
            raise ValueError("name at least one new key")
        possible = self._attempts(wrapped_keys)
        return tuple(self._rewrap_to(target, possible, context) for target in targets)

    def _rewrap_to(
        self, target: names.KeyName, possible: Sequence[allow.Attempt], context: Mapping[str, str]
    ) -> WrappedKey:
        region = self._region(target)
        here = [attempt for attempt in possible if attempt.region == region]
        if not here:
            raise errors.ConfigurationError(
                f"'{printable(target.text)}' is in {region}, and the data key is wrapped in "
                f"{', '.join(sorted({attempt.region for attempt in possible}))}: KMS re-wraps inside one Region only",
                key=target.text,
            )
        failures: list[tuple[str, errors.SealwaxError]] = []
        for attempt in here:
            try:
                return self._re_encrypt(attempt, target, region, context)
            except errors.KmsError as error:
                failures.append((attempt.wrapped_key.key_arn, error))
        raise _all_failed(failures)

    def _re_encrypt(
        self, attempt: allow.Attempt, target: names.KeyName, region: str, context: Mapping[str, str]
    ) -> WrappedKey:
        try:
            answer = self._call(
                region,
                "re_encrypt",
                f"re-wrapping the data key from '{printable(attempt.key_id)}'",
                target.text,
                SourceKeyId=attempt.key_id,
                DestinationKeyId=target.text,
                CiphertextBlob=attempt.wrapped_key.ciphertext,
                **_context("SourceEncryptionContext", context),
                **_context("DestinationEncryptionContext", context),
            )
        except errors.WrongKeyError as error:
            raise _moved(error, attempt) from None
        _check_arn(_field(answer, "SourceKeyId"), attempt.expected_arn)
        return WrappedKey(
            _answered_key(answer, "KeyId", target, region),
            _field(answer, "CiphertextBlob"),
            _material_id(answer, "DestinationKeyMaterialId"),
            int(time.time()),
        )

    def _attempts(self, wrapped_keys: Sequence[WrappedKey]) -> list[allow.Attempt]:
        found = allow.attempts(self._allowed, wrapped_keys, lambda: self._clients.region)
        if not found:
            under = ", ".join(f"'{printable(key.key_arn)}'" for key in wrapped_keys)
            raise errors.KeyNotAllowedError(
                f"the envelope is wrapped under {under}, which is none of the keys allowed here; "
                "KMS was not asked. Name that key if you trust it."
            )
        return found[: self._max_attempts]

    def _region(self, name: names.KeyName) -> str:
        return name.region or self._clients.region

    def _call(self, region: str, operation: str, doing: str, key: str, **parameters: Any) -> dict[str, Any]:
        client = self._clients.kms(region)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except (foreign.ClientError, foreign.BotoCoreError) as error:
            # Not chained: botocore's error carries the whole answer along, and ours says what matters.
            raise aws.translate(error, doing, key) from None
        return answer


def _context(name: str, context: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    return {name: context} if context else {}


def _field(answer: Mapping[str, Any], name: str) -> Any:
    value = answer.get(name)
    if not value:
        raise errors.RequestRefusedError(f"KMS's answer lacks {name}: the endpoint is not AWS KMS, or not a true one")
    return value


def _material_id(answer: Mapping[str, Any], name: str) -> bytes:
    """Return the key material id, which KMS gives as 64 hex digits, or b"" where it gives none."""
    try:
        material_id = bytes.fromhex(answer.get(name, ""))
    except ValueError:
        return b""
    return material_id if len(material_id) == 32 else b""


def _data_key(answer: dict[str, Any], key: str) -> DataKey:
    plaintext = bytearray(_field(answer, "Plaintext"))
    answer["Plaintext"] = None
    if len(plaintext) != DATA_KEY_BYTES:
        size = len(plaintext)
        raise errors.DataKeyError(
            f"what KMS key '{printable(key)}' opened has {size} bytes, and a data key has {DATA_KEY_BYTES}: "
            "the wrapped key is not one of an envelope"
        )
    return DataKey(plaintext)


def _check_arn(answered: str, expected: str) -> None:
    if answered != expected:
        raise errors.WrongKeyError(
            f"KMS answered for key '{printable(answered)}' where '{printable(expected)}' was expected: "
            "the envelope names a key that did not wrap it",
            key=expected,
        )


def _answered_key(answer: Mapping[str, Any], field: str, asked: names.KeyName, region: str) -> str:
    """Return the ARN that KMS answered with, once it is known to fit what was asked for."""
    arn: str = _field(answer, field)
    name = names.parse_arn(arn)
    fits = (
        name is not None
        and name.region == region
        and (asked.account is None or (asked.partition, asked.account) == (name.partition, name.account))
        and (asked.key_id is None or asked.key_id == name.key_id)
    )
    if not fits:
        raise errors.WrongKeyError(
            f"KMS answered for key '{printable(arn)}' where '{printable(asked.text)}' in {region} was asked for",
            key=asked.text,
        )
    return arn


def _moved(error: errors.WrongKeyError, attempt: allow.Attempt) -> errors.WrongKeyError:
    if not attempt.by_alias:
        return error
    arn = printable(attempt.wrapped_key.key_arn)
    return errors.WrongKeyError(
        f"'{printable(attempt.key_id)}' points to another key than '{arn}', which the envelope is wrapped under: "
        f"the alias has been moved, or the envelope is foreign. If you trust that key, name it as well "
        f"(-k, or decrypt_with=). ({error.code}, request id {error.request_id})",
        code=error.code,
        request_id=error.request_id,
        key=attempt.key_id,
    )


def _all_failed(failures: Sequence[tuple[str, errors.SealwaxError]]) -> errors.SealwaxError:
    """Return one error for all failed attempts; the one there was, or what they agree on, stays itself."""
    if len(failures) == 1 or all(isinstance(error, errors.CommitmentError) for _, error in failures):
        return failures[-1][1]
    lines = "".join(f"\n  {printable(arn)}: {error}" for arn, error in failures)
    return errors.AllKeysFailedError(f"none of {len(failures)} wrapped keys could be used:{lines}", tuple(failures))
