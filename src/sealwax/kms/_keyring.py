"""KmsKeyring: data keys made, opened and re-wrapped by AWS KMS."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.config import Config

from sealwax import errors, events
from sealwax._aws.responses import Answer
from sealwax._aws.session import Clients, Session, merged, pack_config, pack_session, refuse_async
from sealwax._core import pickling, validate
from sealwax._core.context import printable
from sealwax._core.keyring import DATA_KEY_BYTES, DataKey, WrappedKey, wipe
from sealwax.kms import _allowlist, _hygiene, _names
from sealwax.kms._calls import Caller, RetryPolicy
from sealwax.kms._rate import RateLimit

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")

# An envelope may carry 16 wrapped keys; an attacker's must not turn one decryption into 16 calls.
MAX_ATTEMPTS: Final = 3
MAX_KEYS: Final = 16
_MOST_GRANT_TOKENS: Final = 10
_LONGEST_GRANT_TOKEN: Final = 8192
_LARGEST_CIPHERTEXT_BYTES: Final = 6144  # KMS's own bound
_MOST_ATTEMPTS: Final = 1000
_ENTRIES: Final = "key names and KeyScopes"
_RETRIES: Final = RetryPolicy()


class KmsKeyring:
    """Data keys under one KMS key or several. One object serves a whole program, from any number of threads.

    Several keys wrap each data key, each in its own Region, and any one of them opens it.

    Args:
        key: a key ID, key ARN, alias (``"alias/payments"``) or alias ARN of a symmetric encryption key, or a sequence
            of 1 to 16 of them. New data keys are made under the first and wrapped by all. An ARN's Region wins over
            the session's.
        decrypt_with: the allow-list for unwrapping, tried in this order: key names as above, or :class:`KeyScope`.
            Each also allows, in its own Region, what a related multi-Region key wrapped in another. Default: all of
            ``key``.
        session: a ``boto3.Session``, for profile, role, Region and endpoint. Default: an ordinary one.
        client: a KMS client to use instead of a session; its Region is the only one then. It keeps its behaviour for
            calls that others make with it.
        config: a ``botocore.config.Config`` for the clients that the keyring makes: proxies, FIPS endpoints, a user
            agent, timeouts. Its Region comes before the session's, and an ARN's before both. Its ``retries`` do not
            count, since ``retries`` below does; ``connect_timeout`` and ``read_timeout``, in seconds, count up to
            ``retries.deadline``.
        grant_tokens: up to 10 grant tokens that every request carries, so that a grant counts as soon as it is made.
        max_wrapped_keys_tried: how many wrapped keys of one envelope are tried at most. Default: 3, or the length of
            the allow-list if that is more.
        retries: how often and how long one request is tried; see :class:`RetryPolicy`.
        limit: a :class:`RateLimit` that every request waits for.
        on_event: called with a :class:`~sealwax.events.KmsCall` after every request; it must be quick.

    IAM actions: :meth:`generate` needs kms:GenerateDataKey on the first key and kms:Encrypt on each other one,
    :meth:`unwrap` kms:Decrypt on one, :meth:`rewrap` kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new
    ones.

    It can be pickled for another process, which gets the settings, and neither keys nor credentials: of ``session`` the
    profile, Region and endpoint travel, and so do ``config`` and ``grant_tokens``: a token lets nobody but the grant's
    grantee do anything. :class:`~sealwax.NotPicklableError` is raised where something else was handed in. A copy shares
    session, client and limit.

    Raises:
        ConfigurationError: a key's name is none of the four forms, or is there twice.
        TypeError: a parameter of another kind, or an asynchronous client.
        ValueError: no key, or more than 16; more than 10 grant tokens; a number or a setting that cannot be.
    """

    def __init__(
        self,
        key: str | Sequence[str],
        *,
        decrypt_with: Sequence[str | _names.KeyScope] | None = None,
        session: Session | None = None,
        client: KMSClient | None = None,
        max_wrapped_keys_tried: int | None = None,
        retries: RetryPolicy = _RETRIES,
        limit: RateLimit | None = None,
        on_event: events.OnEvent | None = None,
        config: Config | None = None,
        grant_tokens: Sequence[str] = (),
    ) -> None:
        if session is not None and client is not None:
            raise ValueError("pass a session or a client, not both")
        if session is not None:
            validate.able("session", session, ["client"], "a boto3 Session")
        if client is not None:
            refuse_async(client)
            validate.able("client", client, ["generate_data_key", "decrypt"], "a KMS client")
            if config is not None:
                raise ValueError("pass a client or a config, not both: a client has its own settings")
        if config is not None:
            validate.kind("config", config, Config)
        tokens = _grant_tokens(grant_tokens)
        # A part of every request.
        self._tokens: dict[str, Any] = {"GrantTokens": list(tokens)} if tokens else {}
        self._keys = _parse_all("key", key)
        self._allowed: tuple[_allowlist.Entry, ...] = self._keys
        if decrypt_with is not None:
            self._allowed = tuple(_allowed(entry) for entry in validate.many("decrypt_with", decrypt_with, _ENTRIES))
        validate.kind("retries", retries, RetryPolicy)
        settings = merged(config, retries.deadline)
        self._caller = Caller(Clients(session, client, _hygiene.attach, settings), retries, limit, on_event)
        self._max_wrapped_keys_tried = max(MAX_ATTEMPTS, len(self._allowed))
        if max_wrapped_keys_tried is not None:
            self._max_wrapped_keys_tried = validate.whole(
                "max_wrapped_keys_tried", max_wrapped_keys_tried, 1, _MOST_ATTEMPTS
            )
        self._handed_in = session, client, retries, limit, on_event, config

    def __getstate__(self) -> dict[str, Any]:
        session, client, retries, limit, on_event, config = self._handed_in
        return {
            "key": tuple(key.text for key in self._keys),
            "decrypt_with": tuple(
                entry if isinstance(entry, _names.KeyScope) else entry.text for entry in self._allowed
            ),
            "session": pickling.carried(session, pack_session),
            "client": pickling.carried(client, pickling.pack_client),
            "max_wrapped_keys_tried": self._max_wrapped_keys_tried,
            "retries": retries,
            "limit": limit,
            "on_event": pickling.carried(on_event, pickling.pack_watcher),
            "config": pickling.carried(config, pack_config),
            "grant_tokens": tuple(self._tokens.get("GrantTokens", ())),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        KmsKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        keys = [key.text for key in self._keys]
        return f"KmsKeyring({keys if len(keys) > 1 else keys[0]!r})"

    def kms_stats(self) -> events.KmsStats:
        """Return how many requests were sent so far. No IAM action."""
        return self._caller.kms_stats()

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,  # noqa: ARG002  a key of KMS is not counted
    ) -> T:
        """Make a data key with kms:GenerateDataKey and lend it. See :meth:`sealwax.Keyring.generate`.

        With several keys, the data key is then wrapped by the others with kms:Encrypt. ReEncrypt would spare the
        request its plaintext, but would hand a caller who may only encrypt a way to decrypt.

        Raises:
            ConfigurationError: two of the names are one key.
        """
        first = self._keys[0]
        region = self._region(first)
        with _hygiene.Exchange() as exchange:
            answer = self._caller.call(
                region,
                "generate_data_key",
                "making a data key",
                first.text,
                KeyId=first.text,
                KeySpec="AES_256",
                **_context("EncryptionContext", context),
                **self._tokens,
            )
            data_key = _data_key(exchange.plaintext(answer), answer, first.text)
        with data_key:
            wrapped = [_wrapped_key(answer, first, region, "KeyMaterialId")]
            for key in self._keys[1:]:
                wrapped.append(self._wrap(data_key, key, context))
                _refuse_twice(self._keys, wrapped)
            return use(data_key, tuple(wrapped))

    def wrap(self, data_key: DataKey, context: Mapping[str, str]) -> WrappedKey:
        """Wrap a data key that was made elsewhere, under the first key, with kms:Encrypt.

        Raises:
            KmsError: it could not be wrapped.
        """
        return self._wrap(data_key, self._keys[0], context)

    def _wrap(self, data_key: DataKey, key: _names.KeyName, context: Mapping[str, str]) -> WrappedKey:
        region = self._region(key)
        with _hygiene.Exchange(data_key.buffer) as exchange:
            answer = self._caller.call(
                region,
                "encrypt",
                "wrapping the data key",
                key.text,
                KeyId=key.text,
                Plaintext=exchange.stand_in(),
                **_context("EncryptionContext", context),
                **self._tokens,
            )
            exchange.check_sent()
        return _wrapped_key(answer, key, region, None)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Open a data key with kms:Decrypt and lend it. See :meth:`sealwax.Keyring.unwrap`.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not asked.
            AllKeysFailedError: more than one attempt was made, and each failed.
            DataKeyError: the wrapped key does not hold a data key.
        """

        def open_it(attempt: _allowlist.Attempt) -> T:
            with self._decrypt(attempt, context) as data_key:
                return use(data_key)

        return self._first(self._attempts(wrapped_keys), open_it)

    def _first(self, attempts: Sequence[_allowlist.Attempt], act: Callable[[_allowlist.Attempt], T]) -> T:
        """Return what ``act`` gives for the first attempt that succeeds, of as many as one envelope may cost."""
        failures: list[tuple[str, errors.SealwaxError]] = []
        silent: set[str] = set()
        for attempt in attempts:
            if len(failures) == self._max_wrapped_keys_tried:
                break
            if attempt.region in silent:
                continue
            try:
                return act(attempt)
            except (errors.KmsError, errors.CommitmentError, errors.DataKeyError) as error:
                if isinstance(error, errors.CredentialsError) and error.request_id is None:
                    raise  # no other attempt has any either
                failures.append((attempt.wrapped_key.key_arn, error))
                # A Region that gave no answer gives none for another wrapped key, and each may cost a time-out.
                if isinstance(error, errors.UnavailableError) and error.request_id is None:
                    silent.add(attempt.region)
        raise _all_failed(failures)

    def _decrypt(self, attempt: _allowlist.Attempt, context: Mapping[str, str]) -> DataKey:
        with _hygiene.Exchange() as exchange:
            try:
                answer = self._caller.call(
                    attempt.region,
                    "decrypt",
                    "opening the data key",
                    attempt.key_id,
                    KeyId=attempt.key_id,
                    CiphertextBlob=attempt.wrapped_key.ciphertext,
                    **_context("EncryptionContext", context),
                    **self._tokens,
                )
            except (errors.WrongKeyError, errors.KeyNotFoundError) as error:
                raise _explained(error, attempt) from None
            data_key = _data_key(exchange.plaintext(answer), answer, attempt.key_id)
        try:
            _check_arn(answer.need("KeyId", str), attempt.expected_arn)
        except errors.KmsError:
            data_key.close()
            raise
        return data_key

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap a data key with kms:ReEncrypt. See :meth:`sealwax.Keyring.rewrap`.

        Args:
            to: the complete new set, 1 to 16 keys.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not asked.
            ConfigurationError: a new key is in a Region where no allowed key has wrapped this data key, or two of the
                names are one key.
            ValueError: no new key, or more than 16.
        """
        targets = _parse_all("to", to)
        possible = self._attempts(wrapped_keys)
        # Before the first call: half of a new set is of no use.
        for target in targets:
            self._attempts_near(target, possible)
        rewrapped: list[WrappedKey] = []
        for target in targets:
            rewrap_to = functools.partial(self._re_encrypt, target=target, context=context)
            rewrapped.append(self._first(self._attempts_near(target, possible), rewrap_to))
            _refuse_twice(targets, rewrapped)
        return tuple(rewrapped)

    def _attempts_near(
        self, target: _names.KeyName, possible: Sequence[_allowlist.Attempt]
    ) -> list[_allowlist.Attempt]:
        region = self._region(target)
        near = [attempt for attempt in possible if attempt.region == region]
        if not near:
            others = ", ".join(sorted({attempt.region for attempt in possible}))
            raise errors.ConfigurationError(
                f"'{printable(target.text)}' is in {region}, and the keys allowed here open the data key in {others}: "
                f"KMS re-wraps inside one Region only. Allow a key in {region} that opens it as well "
                "(-k, or decrypt_with=), or choose a new key in one of those Regions.",
                key=target.text,
            )
        return near

    def _re_encrypt(
        self, attempt: _allowlist.Attempt, *, target: _names.KeyName, context: Mapping[str, str]
    ) -> WrappedKey:
        try:
            answer = self._caller.call(
                attempt.region,
                "re_encrypt",
                f"re-wrapping the data key from '{printable(attempt.key_id)}'",
                target.text,
                SourceKeyId=attempt.key_id,
                DestinationKeyId=target.text,
                CiphertextBlob=attempt.wrapped_key.ciphertext,
                **_context("SourceEncryptionContext", context),
                **_context("DestinationEncryptionContext", context),
                **self._tokens,
            )
        except errors.WrongKeyError as error:
            raise _explained(error, attempt) from None
        _check_arn(answer.need("SourceKeyId", str), attempt.expected_arn)
        return _wrapped_key(answer, target, attempt.region, "DestinationKeyMaterialId")

    def _attempts(self, wrapped_keys: Sequence[WrappedKey]) -> list[_allowlist.Attempt]:
        found = _allowlist.attempts(self._allowed, wrapped_keys, lambda: self._caller.region)
        if not found:
            under = ", ".join(f"'{printable(key.key_arn)}'" for key in wrapped_keys)
            raise errors.KeyNotAllowedError(
                f"the envelope is wrapped under {under}, which is none of the keys allowed here"
                f"{self._regions(wrapped_keys)}; KMS was not asked. If you trust that key, name it by its ARN "
                "(-k, or decrypt_with=)."
            )
        return found

    def _regions(self, wrapped_keys: Sequence[WrappedKey]) -> str:
        """Return in which Regions aliases and scopes look, as the end of a clause: no other Region's keys are meant."""
        if not any(_names.parse_arn(key.key_arn) for key in wrapped_keys):
            return ""
        wide = [entry for entry in self._allowed if isinstance(entry, _names.KeyScope) or entry.alias is not None]
        regions = sorted({entry.region or self._caller.region for entry in wide})
        return f" (aliases and scopes mean keys in {', '.join(regions)})" if regions else ""

    def _region(self, name: _names.KeyName) -> str:
        return name.region or self._caller.region


def _context(name: str, context: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {name: dict(context)} if context else {}


def _grant_tokens(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return grant tokens, none of which any message repeats."""
    found = validate.texts("grant_tokens", tokens, "grant tokens")
    if len(found) > _MOST_GRANT_TOKENS:
        raise ValueError(f"grant_tokens holds up to {_MOST_GRANT_TOKENS} grant tokens, not {len(found)}")
    for place, token in enumerate(found, 1):
        if not 1 <= len(token) <= _LONGEST_GRANT_TOKEN:
            raise ValueError(
                f"grant token {place} of {len(found)} has {len(token)} characters: one has 1 to {_LONGEST_GRANT_TOKEN}"
            )
    return found


def _material_id(answer: Answer, name: str) -> bytes:
    """Return the key material id, which KMS gives as 64 hex digits, or b"" where it gives none."""
    try:
        material_id = bytes.fromhex(answer.get(name, ""))
    except (TypeError, ValueError):
        return b""
    return material_id if len(material_id) == 32 else b""


def _wrapped_key(answer: Answer, asked: _names.KeyName, region: str, material_id_field: str | None) -> WrappedKey:
    ciphertext = answer.need("CiphertextBlob", bytes)
    if len(ciphertext) > _LARGEST_CIPHERTEXT_BYTES:
        raise answer.unreadable(f"the answer's CiphertextBlob has {len(ciphertext)} bytes")
    return WrappedKey(
        _names.check_answered(answer.need("KeyId", str), asked, region),
        ciphertext,
        _material_id(answer, material_id_field) if material_id_field else b"",
        int(time.time()),
    )


def _allowed(entry: str | _names.KeyScope) -> _allowlist.Entry:
    return entry if isinstance(entry, _names.KeyScope) else _names.parse(entry)


def _parse_all(name: str, keys: str | Sequence[str]) -> tuple[_names.KeyName, ...]:
    named = [keys] if isinstance(keys, str) else validate.texts(name, keys, "key names")
    parsed = tuple(_names.parse(key) for key in named)
    if not 1 <= len(parsed) <= MAX_KEYS:
        raise ValueError(f"name 1 to {MAX_KEYS} keys, not {len(parsed)}")
    for index, key in enumerate(parsed):
        if key in parsed[:index]:
            raise errors.ConfigurationError(f"'{printable(key.text)}' is named twice", key=key.text)
    return parsed


def _refuse_twice(keys: Sequence[_names.KeyName], wrapped: Sequence[WrappedKey]) -> None:
    """Refuse the last of ``wrapped``, made under the keys named in the same order, if its key had its turn before."""
    *before, last = [key.key_arn for key in wrapped]
    if last in before:
        one, other = keys[before.index(last)].text, keys[len(before)].text
        raise errors.ConfigurationError(
            f"'{printable(one)}' and '{printable(other)}' are one key, '{printable(last)}': name it once", key=other
        )


def _data_key(plaintext: bytearray, answer: Answer, key: str) -> DataKey:
    if not plaintext:
        raise answer.unreadable("the answer lacks Plaintext")
    if len(plaintext) != DATA_KEY_BYTES:
        size = len(plaintext)
        wipe(plaintext)
        raise errors.DataKeyError(
            f"what KMS key '{printable(key)}' opened has {size} bytes, and a data key has {DATA_KEY_BYTES}: "
            "the wrapped key is not one of an envelope"
        )
    return DataKey(plaintext)


def _check_arn(answered: str, expected: str) -> None:
    if answered != expected:
        raise errors.WrongKeyError(
            f"KMS answered for key '{printable(answered[:200])}' where '{printable(expected)}' was expected: "
            "the envelope names a key that did not wrap it",
            key=expected,
        )


def _explained(error: errors.KmsError, attempt: _allowlist.Attempt) -> errors.KmsError:
    """Return what KMS says of an alias, or of a related key, with what that has to do with the envelope."""
    arn = f"'{printable(attempt.wrapped_key.key_arn)}'"
    if isinstance(error, errors.KeyNotFoundError) and attempt.related:
        pointed_at = " and the alias points to it" if attempt.by_alias else ""
        message = (
            f"{error} The envelope is wrapped under {arn}; it opens in {attempt.region} only if that key has a replica "
            f"there{pointed_at}. If you trust that key, name it by its ARN (-k, or decrypt_with=)."
        )
    elif isinstance(error, errors.WrongKeyError) and attempt.by_alias:
        related = f"'{printable(attempt.expected_arn)}', the multi-Region key related to " if attempt.related else ""
        message = (
            f"'{printable(attempt.key_id)}' points to another key than {related}{arn}, which the envelope is wrapped "
            f"under: the alias has been moved, or the envelope is foreign. If you trust that key, name it as well "
            f"(-k, or decrypt_with=). ({error.code}, request id {error.request_id})"
        )
    else:
        return error
    return type(error)(message, code=error.code, request_id=error.request_id, key=attempt.key_id)


def _all_failed(failures: Sequence[tuple[str, errors.SealwaxError]]) -> errors.SealwaxError:
    """Return one error for all failed attempts; the one there was, or what they agree on, stays itself."""
    if len(failures) == 1 or all(isinstance(error, errors.CommitmentError) for _, error in failures):
        return failures[-1][1]
    lines = "".join(f"\n  {printable(arn)}: {error}" for arn, error in failures)
    return errors.AllKeysFailedError(f"none of {len(failures)} wrapped keys could be used:{lines}", tuple(failures))
