"""What checks share: their declaration, their state, and calls to KMS with the evidence of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from sealwax import errors, events
from sealwax._aws.responses import Answer
from sealwax._aws.session import Clients, Session
from sealwax._core.cache import CachingKeyring
from sealwax._core.context import NO_CONTEXT, NoContext
from sealwax._core.keyring import DataKey, Keyring, WrappedKey
from sealwax._core.sealer import Sealer
from sealwax.errors import SealwaxError
from sealwax.kms import KmsKeyring, RetryPolicy, _hygiene, _names
from sealwax.kms._calls import KmsCaller
from sealwax.prove._results import Evidence
from sealwax.records import KeyStore, Records

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

# Not a secret, and long enough for three chunks.
SAMPLE: Final = b"This sample of sealwax prove is not a secret. " * 1000

# With these errors, KMS did not answer the question of the check.
UNANSWERED: Final = (
    errors.AccessDeniedError,
    errors.CredentialsError,
    errors.ConfigurationError,
    errors.KeyStateError,
    errors.KeyNotFoundError,
    errors.KeyStoreError,
    errors.ThrottledError,
    errors.UnavailableError,
)


class Failed(Exception):  # noqa: N818  an outcome
    """The check ran, and its promise does not hold."""


class NotShown(Exception):  # noqa: N818  an outcome
    """The check could not run.

    Args:
        interrupted: whether a problem that has nothing to do with the key prevented it; once fixed, it can run.
        option: the field of ``Options`` that it needs and that was not given.
    """

    def __init__(self, why: str, *, interrupted: bool = False, option: str | None = None) -> None:
        super().__init__(why)
        self.interrupted = interrupted
        self.option = option


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the library to check. Tests of the checks replace one by a broken one.

    Args:
        keyring: creates a keyring, like ``KmsKeyring``.
        sealer: creates a sealer, like ``Sealer``.
        cache: creates a cache, like ``CachingKeyring``.
        records: creates a ``Records``.
    """

    keyring: Callable[..., Keyring] = KmsKeyring
    sealer: Callable[..., Sealer] = Sealer
    cache: Callable[..., CachingKeyring] = CachingKeyring
    records: Callable[..., Records] = Records


@dataclass(frozen=True, slots=True, repr=False)
class Helper:
    """A process whose memory and logs are searched for keys.

    Args:
        environment: environment variables to set in it, so boto3 finds the same KMS there; None removes one.
        command: the program and its arguments.
    """

    environment: Mapping[str, str | None]
    command: Sequence[str] = (sys.executable, "-P", "-m", "sealwax.prove._helper")


@dataclass(frozen=True, slots=True, repr=False)
class Options:
    """What some checks need. Without it, they are not shown.

    Args:
        to: another KMS key in the same Region, to re-encrypt to.
        denied: opens a session of a principal that must not be able to decrypt. If it raises a ``SealwaxError``, that
            check is not shown.
        helper: the process whose memory and logs are searched.
        allow_changes: whether the key may be rotated, which cannot be undone.
        rotation_timeout: how many seconds a rotation may take.
        records: a key store for the checks of records, such as ``MemoryKeys()``. They use a scope of their own, and
            remove its keys again; what stays are rows without keys, which say that it was shredded.
        parts: the parts of the library to check.
    """

    to: str | None = None
    denied: Callable[[], Session] | None = None
    helper: Helper | None = None
    allow_changes: bool = False
    rotation_timeout: float = 300.0
    records: KeyStore | None = None
    parts: Parts = field(default_factory=Parts)


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One check.

    Attributes:
        name: the name in the report.
        shows: what it shows if it passes.
        needs: the checks that must pass first.
        run: runs the check and returns what happened.
        requests: returns how many requests it makes to KMS, without retries and replicas.
    """

    name: str
    shows: str
    needs: tuple[Check, ...]
    run: Callable[..., str]
    requests: Callable[..., int]

    def depends_on(self, other: Check) -> bool:
        """Tell whether this check needs another one to pass, directly or not.

        Args:
            other: the other check.

        Returns:
            Whether it does.
        """
        return any(need is other or need.depends_on(other) for need in self.needs)


def check(
    name: str, shows: str, *, needs: Sequence[Check] = (), requests: int | Callable[[Proof], int] = 0
) -> Callable[[Callable[[Proof], str]], Check]:
    """Declare a function as a check."""

    def declare(run: Callable[[Proof], str]) -> Check:
        count = requests if callable(requests) else lambda _: requests
        return Check(name, shows, tuple(needs), run, count)

    return declare


class SupportsClose(Protocol):
    """What has something to end."""

    def close(self) -> None: ...


class Proof:
    """One run of the checks, and what they pass on to each other.

    Attributes:
        context: the KMS context; empty for none.
        arn: the key's ARN, once KMS has returned it.
        data_key: a data key from KMS, once there is one.
        wrapped_key: the same data key, wrapped.
        sealed: an envelope of ``SAMPLE``, once there is one.
        revealed: whether GenerateDataKeyWithoutPlaintext returned a plaintext.
        traces: what ``sealwax.prove._traces`` keeps between its checks.
        trial: what ``sealwax.prove._records`` keeps between its checks.
        signed_out: the check that found no valid credentials; empty while they are valid.
    """

    def __init__(self, key: str, context: Mapping[str, str], session: Session, options: Options) -> None:
        self.key = key
        self.context = dict(context)
        self.session = session
        self.options = options
        self.name = _names.parse(key)
        self.arn: str | None = None
        self.data_key: DataKey | None = None
        self.wrapped_key: WrappedKey | None = None
        self.sealed = b""
        self.evidence: list[Evidence] = []
        self.revealed = False
        self.traces: object | None = None
        self.trial: SupportsClose | None = None
        self.signed_out = ""
        self._clients = Clients(session, None, self._prepare)
        self._caller = KmsCaller(self._clients, RetryPolicy(), None, self.watch)
        self.region = self.name.region or self._clients.region

    def _prepare(self, client: KMSClient) -> None:
        _hygiene.attach(client)

        def look(response_dict: dict[str, bytes], **_: object) -> None:
            self.revealed = self.revealed or b'"Plaintext"' in response_dict["body"]

        # The parser drops members that the service model does not have, so look at the bytes.
        client.meta.events.register("before-parse.kms.GenerateDataKeyWithoutPlaintext", look)

    def close(self) -> None:
        """Wipe the data keys, and remove what the checks of records have put into the key store."""
        if self.data_key is not None:
            self.data_key.close()
        if self.trial is not None:
            self.trial.close()

    # --- evidence

    def watch(self, event: events.Event, *, simulated: bool = False) -> None:
        if isinstance(event, events.KmsCall):
            self.evidence.append(
                Evidence(event.operation, event.error, event.request_id, _now(), event.region, simulated)
            )

    def record_request(self, operation: str, error: str | None, request_id: str | None, region: str) -> None:
        """Record a request of another process."""
        self.evidence.append(Evidence(operation, error, request_id, _now(), region))

    def record(self, operation: str, error: Exception | None = None) -> None:
        """Record a call of the library."""
        self.evidence.append(Evidence(operation, type(error).__name__ if error else None, None, _now()))

    def refused(self, what: str, call: Callable[[], object], *expected: type[SealwaxError]) -> SealwaxError:
        """Make a call that must fail, and return its error.

        Raises:
            Failed: the call succeeded.
            SealwaxError: the call failed with another error.
        """
        try:
            call()
        except expected as error:
            return error
        raise Failed(f"{what} was accepted")

    # --- KMS itself

    @property
    def client(self) -> KMSClient:
        return self._clients.kms(self.region)

    def ask(self, operation: str, doing: str, key: str | None = None, **parameters: Any) -> Answer:
        """Return KMS's response for ``key``, by default the key under test."""
        key = self.key if key is None else key
        if operation != "re_encrypt":
            parameters["KeyId"] = key
        return self._caller.call(self.region, operation, doing, key, **parameters)

    def ask_for_key(self, operation: str, doing: str, **parameters: Any) -> tuple[Answer, bytearray]:
        """Return KMS's response, and its plaintext separately, which the caller wipes."""
        with _hygiene.Exchange() as exchange:
            answer = self.ask(operation, doing, **parameters)
            return answer, exchange.plaintext(answer)

    def as_denied(self) -> KmsCaller:
        """Return a caller of KMS as the principal that must not be able to decrypt.

        Raises:
            NotShown: no such principal was given, or it cannot sign in.
        """
        if self.options.denied is None:
            raise NotShown("this needs a principal that must be denied", option="denied")
        try:
            session = self.options.denied()
        except SealwaxError as error:
            # KMS was not called: a denial here does not come from the key.
            raise NotShown(str(error), interrupted=True) from None
        return KmsCaller(Clients(session, None, _hygiene.attach), RetryPolicy(), None, self.watch)

    # --- the library

    @property
    def to_bind(self) -> Mapping[str, str] | NoContext:
        return self.context or NO_CONTEXT

    def sealer(self, key: str | None = None, *, session: Session | None = None, **settings: Any) -> Sealer:
        """Return a sealer with ``key``, by default the key under test."""
        return self.options.parts.sealer(self.keyring(key, session=session, **settings))

    def keyring(self, key: str | None = None, *, session: Session | None = None, **settings: Any) -> Keyring:
        return self.options.parts.keyring(
            key or self.key, session=session or self.session, **{"on_event": self.watch} | settings
        )


def pairs(name: str, context: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Return a context as a member of a request, without an empty one, which KMS refuses."""
    return {name: context} if context else {}


def _now() -> datetime:
    return datetime.now(UTC)
