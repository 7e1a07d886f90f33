"""KmsKeyring: data keys generated, decrypted and re-wrapped by AWS KMS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.config import Config

from sealwax import errors, events
from sealwax._aws.responses import Answer
from sealwax._aws.session import Clients, Session, merged, pack_config, pack_session, refuse_async
from sealwax._core import pickling, validate
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.keyring import DataKey, UnnamedKey, WrappedKey
from sealwax._text import printable
from sealwax.kms import _allowlist, _answers, _hygiene, _names
from sealwax.kms._calls import KmsCaller, RetryPolicy
from sealwax.kms._rate import RateLimit

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

T = TypeVar("T")
K = TypeVar("K", DataKey, ForeignDataKey)

# An envelope can hold 16 wrapped keys, but an attacker's must not cause 16 calls.
MAX_ATTEMPTS: Final = 3
MAX_KEYS: Final = 16
_MOST_GRANT_TOKENS: Final = 10
_LONGEST_GRANT_TOKEN: Final = 8192
_MOST_SHOWN: Final = 256
_MOST_ATTEMPTS: Final = 1000
_ENTRIES: Final = "key names and KeyScopes"
_RETRIES: Final = RetryPolicy()
# A tenth of KMS's smallest quota for an account and Region.
_ASKED_PER_SECOND: Final = 1000.0


class KmsKeyring:
    """Protects data keys with one or more AWS KMS keys. One object serves a whole program and all its threads.

    If there are several keys, each of them wraps every data key, in its own Region, and any one of them can decrypt it.

    A pickled keyring carries its settings to another process, but neither keys nor credentials: profile, Region and
    endpoint of ``session``, ``config`` and ``grant_tokens`` (a token is of no use to anyone but the grantee). Other
    custom objects raise NotPicklableError. A copy shares session, client and limit.

    IAM actions: ``generate`` needs kms:GenerateDataKey on the first key and kms:Encrypt on the others, ``unwrap`` needs
    kms:Decrypt on one of them, and ``rewrap`` needs kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new
    ones.

    Args:
        key: a key ID, key ARN, alias (``"alias/payments"``) or alias ARN of a symmetric encryption key, or a sequence
            of 1 to 16 of them. The first key generates new data keys, and all of them wrap them. An ARN's Region wins
            over the session's.
        decrypt_with: the keys allowed for decryption, tried in this order: key names as above, or ``KeyScope``. Each
            also allows, in its own Region, data keys wrapped by a related multi-Region key. Default: ``key``.
        session: a ``boto3.Session``, which sets the profile, role, Region and endpoint. Default: an ordinary one.
        client: a KMS client to use instead of a session, for its Region only. The client itself is not changed.
        config: a ``botocore.config.Config`` for the keyring's clients: proxies, FIPS endpoints, user agent, timeouts.
            Its Region wins over the session's, and an ARN's over both. Its ``retries`` are ignored in favor of
            ``retries`` below, and its timeouts are capped at ``retries.deadline``.
        grant_tokens: up to 10 grant tokens to send with every request, so that a new grant takes effect at once.
        max_wrapped_keys_tried: the most wrapped keys of one envelope to try. Default: 3, or the length of the
            allow-list if that is more.
        retries: how often and how long to try one request.
        limit: a rate limit that every request waits for.
        on_event: called with a ``sealwax.events.KmsCall`` after every request; it must be quick.

    Raises:
        ConfigurationError: a key's name has none of the four forms, or is listed twice.
        TypeError: an argument has the wrong type, or the client is asynchronous.
        ValueError: there is no key, or more than 16; there are more than 10 grant tokens; or a number is out of range.

    Example:
        >>> keyring = sealwax.KmsKeyring("alias/payments")
        >>> sealer = sealwax.Sealer(keyring)
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
        self._tokens: dict[str, list[str]] = {"GrantTokens": list(tokens)} if tokens else {}
        self._keys = _parse_all("key", key)
        self._allowed: tuple[_allowlist.Entry, ...] = self._keys
        if decrypt_with is not None:
            self._allowed = tuple(_allowed(entry) for entry in validate.many("decrypt_with", decrypt_with, _ENTRIES))
        validate.kind("retries", retries, RetryPolicy)
        settings = merged(config, retries.deadline)
        self._caller = KmsCaller(Clients(session, client, _hygiene.attach, settings), retries, limit, on_event)
        self._max_wrapped_keys_tried = max(MAX_ATTEMPTS, len(self._allowed))
        if max_wrapped_keys_tried is not None:
            self._max_wrapped_keys_tried = validate.whole(
                "max_wrapped_keys_tried", max_wrapped_keys_tried, 1, _MOST_ATTEMPTS
            )
        self._passed_in = session, client, retries, limit, on_event, config

    def __getstate__(self) -> dict[str, object]:
        session, client, retries, limit, on_event, config = self._passed_in
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

    def __setstate__(self, state: dict[str, object]) -> None:
        KmsKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        keys = [key.text for key in self._keys]
        return f"KmsKeyring({keys if len(keys) > 1 else keys[0]!r})"

    def kms_stats(self) -> events.KmsStats:
        """Return counts of the requests sent so far, and their cost. No IAM action."""
        return self._caller.kms_stats()

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,  # noqa: ARG002  there is no bound to count towards
    ) -> T:
        """Generate a data key with kms:GenerateDataKey and lend it to ``use``.

        Other keys of the keyring then wrap it with kms:Encrypt. (kms:ReEncrypt would not need the plaintext, but would
        give a caller who may only encrypt a way to decrypt.)

        Args:
            context: the KMS encryption context, bound to every wrapped key.
            use: called with the data key and its wrapped forms; the key is wiped when it returns.
            plaintext_bytes: not used; part of the ``Keyring`` protocol.

        Returns:
            What ``use`` returns.

        Raises:
            ConfigurationError: two of the names refer to the same key.
            KmsError: KMS did not generate or wrap a data key.
        """
        first = self._keys[0]
        region = self._region(first)
        with _hygiene.Exchange() as exchange:
            answer = self._caller.call(
                region,
                "generate_data_key",
                "generating a data key",
                first.text,
                KeyId=first.text,
                KeySpec="AES_256",
                **_context("EncryptionContext", context),
                **self._tokens,
            )
            data_key = _answers.data_key(exchange.plaintext(answer), answer, first.text)
        with data_key:
            wrapped = [_answers.wrapped_key(answer, first, region, "KeyMaterialId")]
            for key in self._keys[1:]:
                wrapped.append(self._wrap(data_key, key, context))
                _refuse_twice(self._keys, wrapped)
            return use(data_key, tuple(wrapped))

    def wrap(self, data_key: DataKey, context: Mapping[str, str]) -> WrappedKey:
        """Wrap an existing data key under the first key, with kms:Encrypt.

        Args:
            data_key: the key to wrap; not wiped.
            context: the KMS encryption context to bind it to.

        Returns:
            The wrapped key.

        Raises:
            KmsError: KMS did not wrap it.
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
        return _answers.wrapped_key(answer, key, region, None)

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Decrypt a data key with kms:Decrypt and lend it to ``use``.

        Args:
            wrapped_keys: the envelope's; those under an allowed key are tried.
            context: the KMS encryption context they are bound to.
            use: called with the data key, which is wiped when it returns.

        Returns:
            What ``use`` returns.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not called.
            AllKeysFailedError: several attempts were made, and each failed.
            DataKeyError: a wrapped key does not hold a data key.
            KmsError: the only attempt failed.
        """

        def decrypt(attempt: _allowlist.Attempt) -> T:
            with self._decrypt(attempt, context, _answers.data_key) as data_key:
                return use(data_key)

        return self._first(self._attempts(wrapped_keys), decrypt)

    def _unwrap_foreign(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
    ) -> T:
        def decrypt(attempt: _allowlist.Attempt) -> T:
            with self._decrypt(attempt, context, _answers.foreign_data_key) as data_key:
                return use(data_key)

        return self._first(self._attempts(wrapped_keys), decrypt)

    def _first(self, attempts: Sequence[_allowlist.Attempt], act: Callable[[_allowlist.Attempt], T]) -> T:
        """Return the result of the first attempt that succeeds, within the bound on attempts."""
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
                    raise  # other attempts have no credentials either
                failures.append((attempt.shown_key, error))
                # A Region that did not answer would not answer for another wrapped key, after another timeout.
                if isinstance(error, errors.UnavailableError) and error.request_id is None:
                    silent.add(attempt.region)
        raise _answers.all_failed(failures)

    def _decrypt(
        self, attempt: _allowlist.Attempt, context: Mapping[str, str], made: Callable[[bytearray, Answer, str], K]
    ) -> K:
        with _hygiene.Exchange() as exchange:
            try:
                answer = self._caller.call(
                    attempt.region,
                    "decrypt",
                    "decrypting the data key",
                    attempt.key_id,
                    KeyId=attempt.key_id,
                    CiphertextBlob=attempt.wrapped_key.ciphertext,
                    **_context("EncryptionContext", context),
                    **self._tokens,
                )
            except (errors.WrongKeyError, errors.KeyNotFoundError) as error:
                raise _answers.explained(error, attempt) from None
            data_key = made(exchange.plaintext(answer), answer, attempt.key_id)
        try:
            attempt.check(answer.need("KeyId", str))
        except errors.KmsError:
            data_key.close()
            raise
        return data_key

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap a data key with kms:ReEncrypt; it never leaves KMS.

        Args:
            wrapped_keys: those of the envelope.
            context: the KMS encryption context they are bound to.
            to: the complete new set of keys, 1 to 16.

        Returns:
            The new wrapped keys, in the order of ``to``.

        Raises:
            KeyNotAllowedError: no wrapped key is under an allowed key; KMS was not called.
            ConfigurationError: no allowed key wrapped this data key in a new key's Region, or two of the names mean the
                same key.
            KmsError: KMS did not re-wrap it.
            ValueError: there is no new key, or there are more than 16.
        """
        return self._rewrap_to(wrapped_keys, context, to, context)

    def _rewrap_to(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        to: Sequence[str],
        new_context: Mapping[str, str],
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap as ``rewrap`` does, and bind the new wrapped keys to another context."""
        targets = _parse_all("to", to)
        attempts = self._attempts(wrapped_keys)
        # Before the first call: half a new set is useless.
        for target in targets:
            self._attempts_near(target, attempts)
        rewrapped: list[WrappedKey] = []
        for target in targets:
            rewrap_to = functools.partial(self._re_encrypt, target=target, contexts=(context, new_context))
            rewrapped.append(self._first(self._attempts_near(target, attempts), rewrap_to))
            _refuse_twice(targets, rewrapped)
        return tuple(rewrapped)

    def _rewrapped_within(self, ciphertext: bytes, context: Mapping[str, str], key: str) -> bytes | None:
        """Return a data key by kms:ReEncrypt from a key to itself; None if another key wrapped it."""
        (name,) = _parse_all("key", key)
        (attempt,) = _allowlist.attempts((name,), (UnnamedKey("", ciphertext),), lambda: self._caller.region)
        try:
            return self._re_encrypt(attempt, target=name, contexts=(context, context)).ciphertext
        except errors.WrongKeyError:
            return None

    def _attempts_near(
        self, target: _names.KeyName, attempts: Sequence[_allowlist.Attempt]
    ) -> list[_allowlist.Attempt]:
        region = self._region(target)
        near = [attempt for attempt in attempts if attempt.region == region]
        if not near:
            others = ", ".join(sorted({attempt.region for attempt in attempts}))
            raise errors.ConfigurationError(
                f"'{printable(target.text)}' is in {region}, but the allowed keys decrypt the data key in {others}: "
                f"KMS re-wraps within one Region only. Also allow a key in {region} that decrypts it, or choose a new "
                "key in one of those Regions.",
                key=target.text,
            )
        return near

    def _re_encrypt(
        self,
        attempt: _allowlist.Attempt,
        *,
        target: _names.KeyName,
        contexts: tuple[Mapping[str, str], Mapping[str, str]],
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
                **_context("SourceEncryptionContext", contexts[0]),
                **_context("DestinationEncryptionContext", contexts[1]),
                **self._tokens,
            )
        except errors.WrongKeyError as error:
            raise _answers.explained(error, attempt) from None
        source = answer.need("SourceKeyId", str)
        attempt.check(source)
        wrapped = _answers.wrapped_key(answer, target, attempt.region, "DestinationKeyMaterialId")
        under = source, answer.get("SourceKeyMaterialId") or ""
        if (
            isinstance(attempt.wrapped_key, UnnamedKey)
            and contexts[0] == contexts[1]
            and under == (wrapped.key_arn, wrapped.key_material_id.hex())
        ):
            # Nobody could know before that it is under this key and material already: it stays as it is.
            return replace(wrapped, ciphertext=attempt.wrapped_key.ciphertext)
        return wrapped

    def _attempts(self, wrapped_keys: Sequence[WrappedKey]) -> list[_allowlist.Attempt]:
        attempts = _allowlist.attempts(self._allowed, wrapped_keys, lambda: self._caller.region)
        if not attempts and any(isinstance(key, UnnamedKey) for key in wrapped_keys):
            raise errors.KeyNotAllowedError(
                "the format does not say which KMS key wrapped the data key, so each key that may have must be allowed "
                "by its name: an account and a Region are not enough; KMS was not called"
            )
        if not attempts:
            # Other formats bound the length of a name only by 64 KiB.
            under = ", ".join(f"'{printable(key.key_arn[:_MOST_SHOWN])}'" for key in wrapped_keys)
            raise errors.KeyNotAllowedError(
                f"the data key is wrapped under {under}, which is not among the allowed keys"
                f"{self._regions(wrapped_keys)}; KMS was not called. If you trust that key, allow it by its ARN."
            )
        return attempts

    def _regions(self, wrapped_keys: Sequence[WrappedKey]) -> str:
        """Return the Regions in which aliases and scopes allow keys, as the end of a clause."""
        if not any(_names.parse_arn(key.key_arn) for key in wrapped_keys):
            return ""
        wide = [entry for entry in self._allowed if isinstance(entry, _names.KeyScope) or entry.alias is not None]
        regions = sorted({entry.region or self._caller.region for entry in wide})
        return f" (aliases and scopes allow keys in {', '.join(regions)} only)" if regions else ""

    def _region(self, name: _names.KeyName) -> str:
        return name.region or self._caller.region


def asking(key: str, session: Session) -> Callable[[bytes, Mapping[str, str]], bool]:
    """Return what asks KMS whether a key wrapped a data key, by kms:ReEncrypt from the key to itself."""
    keyring = KmsKeyring(key, session=session, limit=RateLimit(_ASKED_PER_SECOND))
    return lambda ciphertext, context: keyring._rewrapped_within(ciphertext, context, key) is not None


def check_allowed(keyring: KmsKeyring, wrapped_keys: Sequence[WrappedKey]) -> None:
    """Refuse wrapped keys of which the allow-list covers none; KMS is not called.

    Raises:
        KeyNotAllowedError: as for ``KmsKeyring.unwrap``.
    """
    keyring._attempts(wrapped_keys)


def _context(name: str, context: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {name: dict(context)} if context else {}


def _grant_tokens(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return grant tokens, checked; error messages never repeat them."""
    tokens = validate.texts("grant_tokens", tokens, "grant tokens")
    if len(tokens) > _MOST_GRANT_TOKENS:
        raise ValueError(f"grant_tokens can hold up to {_MOST_GRANT_TOKENS} grant tokens, not {len(tokens)}")
    for number, token in enumerate(tokens, 1):
        if not 1 <= len(token) <= _LONGEST_GRANT_TOKEN:
            raise ValueError(
                f"grant token {number} of {len(tokens)} has {len(token)} characters, not 1 to {_LONGEST_GRANT_TOKEN}"
            )
    return tokens


def _allowed(entry: str | _names.KeyScope) -> _allowlist.Entry:
    return entry if isinstance(entry, _names.KeyScope) else _names.parse(entry)


def _parse_all(name: str, keys: str | Sequence[str]) -> tuple[_names.KeyName, ...]:
    parsed = tuple(_names.parse(key) for key in validate.one_or_more(name, keys, "a key name", "key names"))
    if not 1 <= len(parsed) <= MAX_KEYS:
        raise ValueError(f"{name} takes 1 to {MAX_KEYS} keys, not {len(parsed)}")
    for index, key in enumerate(parsed):
        if key in parsed[:index]:
            raise errors.ConfigurationError(f"'{printable(key.text)}' is listed twice", key=key.text)
    return parsed


def _refuse_twice(keys: Sequence[_names.KeyName], wrapped: Sequence[WrappedKey]) -> None:
    """Refuse the last of ``wrapped``, which is in the order of ``keys``, if the same KMS key made an earlier one."""
    *before, last = [key.key_arn for key in wrapped]
    if last in before:
        name, other = keys[before.index(last)].text, keys[len(before)].text
        raise errors.ConfigurationError(
            f"'{printable(name)}' and '{printable(other)}' are the same key, '{printable(last)}': list it once",
            key=other,
        )
