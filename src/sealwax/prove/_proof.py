"""What checks have in common: how they are declared, what they share, and how they ask KMS and keep the evidence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sealwax import errors, events
from sealwax._aws.session import Clients, Session
from sealwax._core.cache import CachingKeyring
from sealwax._core.context import NO_CONTEXT, NoContext
from sealwax._core.keyring import DataKey, Keyring, WrappedKey
from sealwax._core.sealer import Sealer
from sealwax.errors import SealwaxError
from sealwax.kms import KmsKeyring, RetryPolicy, _hygiene, _names
from sealwax.kms._calls import Caller
from sealwax.prove._results import Evidence

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

# No secret, and long enough for three chunks.
SAMPLE: Final = b"This sample of sealwax prove is no secret. " * 1000


# They say that the question could not be put, and nothing of the answer.
NOT_ASKED: Final = (
    errors.AccessDeniedError,
    errors.CredentialsError,
    errors.ConfigurationError,
    errors.KeyStateError,
    errors.KeyNotFoundError,
    errors.ThrottledError,
    errors.UnavailableError,
)


class Failed(Exception):  # noqa: N818  an outcome
    """The check ran, and what it promises is not so."""


class NotShown(Exception):  # noqa: N818  an outcome
    """The check could not be run.

    Args:
        interrupted: whether the same run may show it, once something is mended that has nothing to do with the key.
    """

    def __init__(self, why: str, *, interrupted: bool = False) -> None:
        super().__init__(why)
        self.interrupted = interrupted


@dataclass(frozen=True, slots=True)
class Parts:
    """What of the library is put to the proof; a test puts a broken one in its place.

    Args:
        keyring, sealer, cache: called as the classes are that they stand for.
    """

    keyring: Callable[..., Keyring] = KmsKeyring
    sealer: Callable[..., Sealer] = Sealer
    cache: Callable[..., CachingKeyring] = CachingKeyring


@dataclass(frozen=True, slots=True, repr=False)
class Helper:
    """The process whose memory and logs are searched.

    Args:
        environment: what is added to this process's environment so that boto3 finds the same KMS there; None takes
            away.
        command: the program.
    """

    environment: Mapping[str, str | None]
    command: Sequence[str] = (sys.executable, "-P", "-m", "sealwax.prove._helper")


@dataclass(frozen=True, slots=True, repr=False)
class Options:
    """What some checks need, and are not shown without.

    Args:
        to: another KMS key of the same Region, to re-encrypt to.
        denied: opens a session of a principal that must not be able to decrypt; where it raises a SealwaxError, that
            check is not shown.
        helper: see :class:`Helper`.
        allow_changes: whether the key may be rotated, which cannot be undone.
        patience: how many seconds a rotation may take.
        parts: see :class:`Parts`.
    """

    to: str | None = None
    denied: Callable[[], Session] | None = None
    helper: Helper | None = None
    allow_changes: bool = False
    patience: float = 300.0
    parts: Parts = field(default_factory=Parts)


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One check.

    Attributes:
        name: as the report has it.
        shows: what it shows when it passes.
        needs: the checks that must have passed before.
        run: does it, and returns what was seen; raises :class:`Failed` or :class:`NotShown` otherwise.
        requests: how many requests to KMS it makes, replicas and retries aside.
    """

    name: str
    shows: str
    needs: tuple[Check, ...]
    run: Callable[[Proof], str]
    requests: Callable[[Proof], int]

    def depends_on(self, other: Check) -> bool:
        """Whether it is not shown where ``other`` did not pass."""
        return any(need is other or need.depends_on(other) for need in self.needs)


def check(
    name: str, shows: str, *, needs: Sequence[Check] = (), requests: int | Callable[[Proof], int] = 0
) -> Callable[[Callable[[Proof], str]], Check]:
    """Declare a function to be a check."""

    def declare(run: Callable[[Proof], str]) -> Check:
        count = requests if callable(requests) else lambda _: requests
        return Check(name, shows, tuple(needs), run, count)

    return declare


class Proof:
    """One run over the checks, and what they hand on to each other.

    Attributes:
        context: the KMS context, empty for none.
        arn: the key's ARN, once KMS has told it.
        data_key, wrapped_key: a data key that KMS made, once it has.
        sealed: an envelope of :data:`SAMPLE`, once there is one.
        traces: what :mod:`sealwax.prove._traces` keeps between its checks.
        signed_out: the check after which there were no credentials that AWS accepts; "" while there are.
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
        self.signed_out = ""
        self._clients = Clients(session, None, self._prepare)
        self._caller = Caller(self._clients, RetryPolicy(), None, self.watch)
        self.region = self.name.region or self._clients.region

    def _prepare(self, client: KMSClient) -> None:
        _hygiene.attach(client)

        def look(response_dict: dict[str, Any], **_: object) -> None:
            self.revealed = self.revealed or b'"Plaintext"' in response_dict["body"]

        # The parser drops what the service model does not know, and so would hide it.
        client.meta.events.register("before-parse.kms.GenerateDataKeyWithoutPlaintext", look)

    def close(self) -> None:
        """Wipe the data key."""
        if self.data_key is not None:
            self.data_key.close()

    # --- evidence

    def watch(self, event: events.Event, *, simulated: bool = False) -> None:
        if isinstance(event, events.KmsCall):
            self.evidence.append(
                Evidence(event.operation, event.error, event.request_id, _now(), event.region, simulated)
            )

    def keep(self, operation: str, error: str | None, request_id: str | None, region: str) -> None:
        """Keep a request that another process made."""
        self.evidence.append(Evidence(operation, error, request_id, _now(), region))

    def seen(self, operation: str, error: Exception | None) -> None:
        """Keep what the library answered."""
        self.evidence.append(Evidence(operation, type(error).__name__ if error else None, None, _now()))

    def refused(self, what: str, call: Callable[[], object], *expected: type[SealwaxError]) -> SealwaxError:
        """Make a call that must fail, and return its error.

        Raises:
            Failed: it succeeded.
            SealwaxError: it failed in another way.
        """
        try:
            call()
        except expected as error:
            return error
        raise Failed(f"{what} was accepted")

    # --- asking KMS itself

    @property
    def client(self) -> KMSClient:
        return self._clients.kms(self.region)

    def ask(self, operation: str, doing: str, key: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Return KMS's answer about ``key``, by default the key in question."""
        key = self.key if key is None else key
        if operation != "re_encrypt":
            parameters["KeyId"] = key
        return self._caller.call(self.region, operation, doing, key, **parameters)

    def ask_for_key(self, operation: str, doing: str, **parameters: Any) -> tuple[dict[str, Any], bytearray]:
        """Return KMS's answer and the plaintext in it, apart; the caller wipes that."""
        with _hygiene.Exchange() as exchange:
            answer = self.ask(operation, doing, **parameters)
            return answer, exchange.plaintext(answer)

    def as_denied(self) -> Caller:
        """Return what asks KMS as the principal that must not be able to decrypt.

        Raises:
            NotShown: none was named, or who it is cannot be had.
        """
        if self.options.denied is None:
            raise NotShown("no such principal was named: give --denied-profile or --denied-role")
        try:
            session = self.options.denied()
        except SealwaxError as error:
            # Whatever it says, KMS was not asked: a denial here is none of the key's.
            raise NotShown(str(error), interrupted=True) from None
        return Caller(Clients(session, None, _hygiene.attach), RetryPolicy(), None, self.watch)

    # --- the library

    @property
    def to_bind(self) -> Mapping[str, str] | NoContext:
        return self.context or NO_CONTEXT

    def sealer(self, key: str | None = None, *, session: Session | None = None, **settings: Any) -> Sealer:
        """Return a sealer under ``key``, by default the key in question."""
        return self.options.parts.sealer(self.keyring(key, session=session, **settings))

    def keyring(self, key: str | None = None, *, session: Session | None = None, **settings: Any) -> Keyring:
        return self.options.parts.keyring(
            key or self.key, session=session or self.session, **{"on_event": self.watch} | settings
        )


def pairs(name: str, context: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Return a context as a request's member; KMS takes no empty one."""
    return {name: context} if context else {}


def _now() -> datetime:
    return datetime.now(UTC)
