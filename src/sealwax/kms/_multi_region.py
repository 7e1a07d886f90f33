"""MultiRegionKeyring: data keys that survive the loss of a Region.

It uses one multi-Region key, whose replicas decrypt each other's wrapped keys, or independent keys in several Regions,
each of which wraps every data key. Regions are tried in the order given, nearest first. A Region that cannot be reached
is skipped for a while (see ``_breaker``).
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from sealwax import errors, events
from sealwax._aws.session import Session, pack_config, pack_session
from sealwax._core import pickling, validate
from sealwax._core.foreign.data_key import ForeignDataKey
from sealwax._core.keyring import DataKey, KeyInBuffer, WrappedKey, now
from sealwax._core.pool import Pool
from sealwax._core.watch import guarded
from sealwax._text import printable
from sealwax.kms import _names
from sealwax.kms._breaker import Breaker
from sealwax.kms._calls import RetryPolicy
from sealwax.kms._keyring import KmsKeyring
from sealwax.kms._rate import RateLimit

if TYPE_CHECKING:
    from botocore.config import Config

T = TypeVar("T")
K = TypeVar("K", bound=KeyInBuffer)

_PAUSE_BETWEEN_ROUNDS_SECONDS: Final = 0.2
_MOST_REGIONS: Final = 64


@dataclass(frozen=True, slots=True)
class RegionState:
    """The state of one Region of a ``MultiRegionKeyring``.

    Attributes:
        region: ``"eu-west-1"``, for example.
        key: the KMS key used there.
        healthy: whether it is in use; False while it is skipped.
        error: its last error, or None.
    """

    region: str
    key: str
    healthy: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class _Member:
    region: str
    key: _names.KeyName
    keyring: KmsKeyring
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class _Success(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Failure:
    key: str
    error: errors.SealwaxError


class MultiRegionKeyring:
    """Protects data keys with a multi-Region key, or with independent keys in several Regions.

    It can be pickled and copied like a ``KmsKeyring``. A copy does not know which Regions are skipped at the moment.

    IAM actions: ``generate`` needs kms:GenerateDataKey on every key, and kms:Encrypt on independent keys; ``unwrap``
    needs kms:Decrypt; ``rewrap`` needs kms:ReEncryptFrom and kms:ReEncryptTo.

    Args:
        key: the ARN of a multi-Region key, together with ``regions``; or the key ARNs or alias ARNs of independent
            keys, one per Region.
        regions: the Regions with a replica of the multi-Region key, nearest first.
        min_wrapped: how many of the independent keys must wrap a data key before it is used: ``"all"`` or a number.
        hedge_after: seconds after which a decryption also tries the next Region; None: never.
        retries: for a whole operation: ``attempts`` rounds over the Regions, within ``deadline`` seconds.
        retry_region_after: seconds for which a Region that could not be reached is skipped.
        session, limit, on_event, config, grant_tokens: as for ``KmsKeyring``. All tokens are sent to each Region.

    Raises:
        ConfigurationError: a name is not an ARN, two keys are in one Region, or the key is not a multi-Region key.
        TypeError: an argument has the wrong type.
        ValueError: a number is out of range.

    Example:
        >>> arn = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
        >>> keyring = MultiRegionKeyring(arn, regions=["eu-west-1", "us-east-1"])
    """

    def __init__(
        self,
        key: str | Sequence[str],
        *,
        regions: Sequence[str] | None = None,
        min_wrapped: Literal["all"] | int = "all",
        hedge_after: float | None = None,
        retries: RetryPolicy = RetryPolicy(attempts=5),  # noqa: B008  it is frozen
        retry_region_after: float = 10.0,
        session: Session | None = None,
        limit: RateLimit | None = None,
        on_event: events.OnEvent | None = None,
        config: Config | None = None,
        grant_tokens: Sequence[str] = (),
    ) -> None:
        keys = _replicas(key, regions) if isinstance(key, str) else _independent(key, regions)
        self._replicated = isinstance(key, str)
        self._min_wrapped = len(keys)
        if min_wrapped != "all":
            self._min_wrapped = validate.whole("min_wrapped", min_wrapped, 1, len(keys))
        self._hedge_after = hedge_after
        if hedge_after is not None:
            validate.number("hedge_after", hedge_after, "seconds", least=0)
        validate.number("retry_region_after", retry_region_after, "seconds", least=0)
        self._retries = validate.kind("retries", retries, RetryPolicy)
        watch = guarded(on_event)
        tokens = validate.texts("grant_tokens", grant_tokens, "grant tokens")
        # One attempt each: another Region is a better second choice than the same one.
        once = RetryPolicy(attempts=1, deadline=retries.deadline)
        self._members = tuple(
            _Member(
                str(name.region),
                name,
                KmsKeyring(
                    name.text,
                    session=session,
                    retries=once,
                    limit=limit,
                    on_event=on_event,
                    config=config,
                    grant_tokens=tokens,
                ),
                Breaker(str(name.region), retry_region_after, watch),
            )
            for name in keys
        )
        self._passed_in = {
            "key": key if self._replicated else tuple(name.text for name in keys),
            "regions": tuple(name.region for name in keys) if self._replicated else None,
            "min_wrapped": min_wrapped,
            "hedge_after": hedge_after,
            "retries": retries,
            "retry_region_after": retry_region_after,
            "session": session,
            "limit": limit,
            "on_event": on_event,
            "config": config,
            "grant_tokens": tokens,
        }

    def __getstate__(self) -> dict[str, object]:
        return {
            **self._passed_in,
            "session": pickling.carried(self._passed_in["session"], pack_session),
            "on_event": pickling.carried(self._passed_in["on_event"], pickling.pack_watcher),
            "config": pickling.carried(self._passed_in["config"], pack_config),
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        MultiRegionKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        return f"MultiRegionKeyring({[member.key.text for member in self._members]!r})"

    def health(self) -> tuple[RegionState, ...]:
        """Return the state of each Region, in the order in which they are tried."""
        return tuple(
            RegionState(member.region, member.key.text, member.breaker.healthy, member.breaker.error)
            for member in self._members
        )

    def kms_stats(self) -> events.KmsStats:
        """Return counts of the requests sent so far in all Regions, and their cost. No IAM action."""
        return sum((member.keyring.kms_stats() for member in self._members), events.KmsStats())

    # --- the keyring

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        """Generate a data key in the first Region that can, and lend it to ``use``.

        Independent keys of the other Regions wrap it as well, in parallel.

        Args:
            context: the KMS encryption context, bound to every wrapped key.
            use: called with the data key and its wrapped forms; the key is wiped when it returns.
            plaintext_bytes: not used; part of the ``Keyring`` protocol.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: no Region could do it, or fewer than ``min_wrapped`` keys wrapped it.
        """

        def keep(data_key: DataKey, wrapped: tuple[WrappedKey, ...]) -> tuple[DataKey, tuple[WrappedKey, ...]]:
            return data_key.duplicate(), wrapped

        def make(member: _Member) -> tuple[_Member, DataKey, tuple[WrappedKey, ...]]:
            return member, *member.keyring.generate(context, keep, plaintext_bytes=plaintext_bytes)

        with contextlib.closing(self._successes(make, None)) as data_keys:
            maker, data_key, wrapped = next(data_keys)
        with data_key:
            if not self._replicated and len(self._members) > 1:
                wrapped += self._wrap_in_others(maker, data_key, context)
            return use(data_key, wrapped)

    def _wrap_in_others(self, maker: _Member, data_key: DataKey, context: Mapping[str, str]) -> tuple[WrappedKey, ...]:
        others = [member for member in self._members if member is not maker]

        def wrap(member: _Member) -> WrappedKey | errors.KmsError:
            try:
                return self._persist(member, lambda: member.keyring.wrap(data_key, context))
            except errors.KmsError as error:
                return error

        with Pool(len(others), "sealwax-wrap") as pool:
            # In copies of the context, so that tracing can attribute the calls.
            futures = [pool.submit(contextvars.copy_context().run, wrap, member) for member in others]
            results = [future.result() for future in futures]
        wrapped = tuple(result for result in results if isinstance(result, WrappedKey))
        if 1 + len(wrapped) < self._min_wrapped:
            raise _failed(
                f"{1 + len(wrapped)} of {len(self._members)} keys wrapped the data key, "
                f"but {self._min_wrapped} are required",
                {
                    member.key.text: result
                    for member, result in zip(others, results, strict=True)
                    if isinstance(result, errors.KmsError)
                },
            )
        return wrapped

    def _persist(self, member: _Member, work: Callable[[], T]) -> T:
        """Do ``work`` in its one possible Region, with retries."""
        deadline = now() + self._retries.deadline
        for attempt in range(1, self._retries.attempts + 1):
            if not member.breaker.may_call():
                raise errors.UnavailableError(
                    f"{member.region} is skipped for now because it could not be reached: {member.breaker.error}"
                )
            try:
                result = work()
            except errors.KmsError as error:
                member.breaker.failed(error)
                pause = _PAUSE_BETWEEN_ROUNDS_SECONDS * attempt
                out_of_time = attempt == self._retries.attempts or now() + pause > deadline
                if out_of_time or not error.retryable or isinstance(error, errors.CredentialsError):
                    raise
                time.sleep(pause)
            else:
                member.breaker.succeeded()
                return result
        raise AssertionError("unreachable")

    def unwrap(self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[DataKey], T]) -> T:
        """Decrypt a data key in the first Region that can, and lend it to ``use``.

        Args:
            wrapped_keys: those of the envelope.
            context: the KMS encryption context they are bound to.
            use: called with the data key, which is wiped when it returns.

        Returns:
            What ``use`` returns.

        Raises:
            KmsError: no Region could do it.
        """

        def decrypt_in(member: _Member) -> DataKey:
            return member.keyring.unwrap(wrapped_keys, context, DataKey.duplicate)

        return self._first_that_fits(decrypt_in, use)

    def _unwrap_foreign(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], use: Callable[[ForeignDataKey], T]
    ) -> T:
        def decrypt_in(member: _Member) -> ForeignDataKey:
            return member.keyring._unwrap_foreign(wrapped_keys, context, ForeignDataKey.duplicate)

        return self._first_that_fits(decrypt_in, use)

    def _first_that_fits(self, decrypt_in: Callable[[_Member], K], use: Callable[[K], T]) -> T:
        """Lend the data key of one Region after the other, until one fits what it is used for."""
        with contextlib.closing(self._successes(decrypt_in, lambda data_key: data_key.close())) as data_keys:
            for data_key in data_keys:
                with data_key:
                    try:
                        return use(data_key)
                    except errors.CommitmentError as error:
                        refusal = error
        raise refusal

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap a data key, for each new key in that key's Region.

        Args:
            wrapped_keys: those of the envelope.
            context: the KMS encryption context they are bound to.
            to: the complete new set of keys, each in one of the keyring's Regions.

        Returns:
            The new wrapped keys, in the order of ``to``.

        Raises:
            ConfigurationError: a new key is in another Region.
            KmsError: KMS did not re-wrap it.
        """
        return self._rewrap_in_regions(to, lambda keyring, target: keyring.rewrap(wrapped_keys, context, [target]))

    def _rewrap_to(
        self,
        wrapped_keys: Sequence[WrappedKey],
        context: Mapping[str, str],
        to: Sequence[str],
        new_context: Mapping[str, str],
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap as ``rewrap`` does, and bind the new wrapped keys to another context."""
        return self._rewrap_in_regions(
            to, lambda keyring, target: keyring._rewrap_to(wrapped_keys, context, [target], new_context)
        )

    def _rewrapped_within(self, ciphertext: bytes, context: Mapping[str, str], key: str) -> bytes | None:
        member = self._member_of(_names.parse(key))
        return self._persist(member, lambda: member.keyring._rewrapped_within(ciphertext, context, key))

    def _rewrap_in_regions(
        self, to: Sequence[str], rewrap: Callable[[KmsKeyring, str], tuple[WrappedKey, ...]]
    ) -> tuple[WrappedKey, ...]:
        targets = [(target, self._member_of(target)) for target in map(_names.parse, to)]

        def in_its_region(target: _names.KeyName, member: _Member) -> WrappedKey:
            return self._persist(member, lambda: rewrap(member.keyring, target.text))[0]

        return tuple(in_its_region(target, member) for target, member in targets)

    def _member_of(self, target: _names.KeyName) -> _Member:
        for member in self._members:
            if member.region == target.region:
                return member
        raise errors.ConfigurationError(
            f"'{printable(target.text)}' is not in one of the keyring's Regions "
            f"({', '.join(member.region for member in self._members)}): name a key there by its ARN",
            key=target.text,
        )

    # --- over the Regions

    def _successes(self, work: Callable[[_Member], T], drop: Callable[[T], None] | None) -> Generator[T]:
        """Yield the result of ``work`` in each Region that can do it, as long as the caller asks for more.

        Args:
            drop: called with a result that comes too late to be yielded; None: call one Region at a time.

        Raises:
            KmsError: no Region could do it.
        """
        deadline = now() + self._retries.deadline
        failures: dict[str, errors.SealwaxError] = {}
        for round_ in range(1, self._retries.attempts + 1):
            called = succeeded = False
            # A breaker is checked when its Region's turn comes: a call that another Region answers must not use up the
            # probe. If no Region may be called, all are: a timeout is better than giving up.
            for members in (self._healthy_members(), iter(self._members)):
                if called:
                    break
                with contextlib.closing(self._round(members, work, drop)) as outcomes:
                    for outcome in outcomes:
                        called = True
                        if isinstance(outcome, _Failure):
                            if isinstance(outcome.error, errors.CredentialsError) and outcome.error.request_id is None:
                                raise outcome.error  # other Regions have no credentials either
                            failures[outcome.key] = outcome.error
                            if now() > deadline:
                                break
                        else:
                            succeeded = True
                            yield outcome.value
            if succeeded:
                return
            pause = _PAUSE_BETWEEN_ROUNDS_SECONDS * round_
            retryable = any(getattr(error, "retryable", False) for error in failures.values())
            if not retryable or round_ == self._retries.attempts or now() + pause > deadline:
                raise _failed("every Region failed", failures)
            time.sleep(pause)

    def _healthy_members(self) -> Iterator[_Member]:
        return (member for member in self._members if member.breaker.may_call())

    def _round(
        self, members: Iterator[_Member], work: Callable[[_Member], T], drop: Callable[[T], None] | None
    ) -> Generator[_Success[T] | _Failure]:
        if drop is None or self._hedge_after is None:
            return (self._try(member, work) for member in members)
        return _hedged(members, lambda member: self._try(member, work), self._hedge_after, drop)

    @staticmethod
    def _try(member: _Member, work: Callable[[_Member], T]) -> _Success[T] | _Failure:
        try:
            value = work(member)
        except (errors.KmsError, errors.DataKeyError) as error:
            member.breaker.failed(error)
            return _Failure(member.key.text, error)
        member.breaker.succeeded()
        return _Success(value)


def _hedged(
    members: Iterator[_Member],
    call: Callable[[_Member], _Success[T] | _Failure],
    hedge_after: float,
    drop: Callable[[T], None],
) -> Generator[_Success[T] | _Failure]:
    """Call one Region, and the next one whenever no answer came for a while, or a Region failed."""
    running: set[Future[_Success[T] | _Failure]] = set()
    pool = Pool(_MOST_REGIONS, "sealwax-hedge")

    def drop_late(future: Future[_Success[T] | _Failure]) -> None:
        if future.exception() is None and isinstance(outcome := future.result(), _Success):
            drop(outcome.value)

    try:
        member = next(members, None)
        while member is not None or running:
            if member is not None:
                # In a copy of the context, so that tracing can attribute the call.
                running.add(pool.submit(contextvars.copy_context().run, call, member))
                member = None
            done, _ = wait(running, hedge_after, FIRST_COMPLETED)
            for future in done:
                running.discard(future)
                yield future.result()
            member = next(members, None)
    finally:
        for future in running:
            future.add_done_callback(drop_late)
        pool.shutdown(wait=False)


def _failed(what: str, failures: Mapping[str, errors.SealwaxError]) -> errors.SealwaxError:
    # That an envelope is not wrapped under one of the keys matters only if that is true of all.
    telling = {key: error for key, error in failures.items() if not isinstance(error, errors.KeyNotAllowedError)}
    if len(failures) == 1 or not telling:
        return next(iter(failures.values()))
    lines = "".join(f"\n  {printable(key)}: {error}" for key, error in telling.items())
    return errors.AllKeysFailedError(f"{what}:{lines}", tuple(telling.items()))


def _replicas(key: str, regions: Sequence[str] | None) -> tuple[_names.KeyName, ...]:
    name = _names.parse(key)
    if not name.multi_region or name.region is None:
        raise errors.ConfigurationError(
            f"'{printable(key)}' is not the ARN of a multi-Region key: their IDs begin with 'mrk-'", key=key
        )
    listed = () if regions is None else validate.texts("regions", regions, "the Regions that have a replica")
    if not listed or len(set(listed)) != len(listed):
        raise ValueError("regions must list the Regions that have a replica, nearest first, each once")
    return tuple(_names.parse(str(name.related(region))) for region in listed)


def _independent(keys: Sequence[str], regions: Sequence[str] | None) -> tuple[_names.KeyName, ...]:
    if regions is not None:
        raise ValueError("regions is for a multi-Region key only: the ARNs of independent keys name their Regions")
    parsed = tuple(_names.parse(key) for key in validate.texts("key", keys, "the ARNs of keys"))
    for name in parsed:
        if name.region is None:
            raise errors.ConfigurationError(
                f"'{printable(name.text)}' names no Region: independent keys are named by ARN"
            )
    if not parsed or len({name.region for name in parsed}) != len(parsed):
        raise errors.ConfigurationError("independent keys must be in different Regions, one key per Region")
    return parsed
