"""MultiRegionKeyring: data keys that outlive the loss of a Region.

Either one multi-Region key, whose replicas open each other's wrapped keys; or independent keys in several Regions, each
of which wraps every data key. Regions are tried in the order given, nearest first. A Region that cannot be reached is
given up for a while (a circuit breaker), so that it costs one time-out and not one a call; then one call tries it.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

from sealwax import errors, events
from sealwax._aws.session import Session, pack_config, pack_session
from sealwax._core import fork_locks, pickling, validate
from sealwax._core.context import printable
from sealwax._core.keyring import DataKey, WrappedKey, now
from sealwax._core.pool import Pool
from sealwax._core.watch import guarded
from sealwax.kms import _names
from sealwax.kms._calls import RetryPolicy
from sealwax.kms._keyring import KmsKeyring
from sealwax.kms._rate import RateLimit

if TYPE_CHECKING:
    from botocore.config import Config

T = TypeVar("T")

_PAUSE_BETWEEN_ROUNDS_SECONDS: Final = 0.2
_FAILURES: Final = 3
_MOST_REGIONS: Final = 64
_TIME_OUTS: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})


@dataclass(frozen=True, slots=True)
class RegionState:
    """How a Region is doing.

    Attributes:
        region: such as ``"eu-west-1"``.
        key: the KMS key used there.
        healthy: whether it is used now; False while it is given up.
        error: its last error, or None.
    """

    region: str
    key: str
    healthy: bool
    error: str | None


class _Breaker:
    """Whether a Region may be asked. After failures to reach it, it may not for a while; then one call tries it.

    One time-out is enough, since each costs seconds; failures that are told at once must come three in a row.
    """

    def __init__(self, region: str, pause: float, on_event: events.OnEvent) -> None:
        self._region = region
        self._pause = pause
        self._on_event = on_event
        self._lock = threading.Lock()
        fork_locks.renew_lock_in_children(self)
        self._closed_until = 0.0
        self._failures = 0
        self.error: str | None = None

    @property
    def healthy(self) -> bool:
        return self._closed_until == 0.0

    def may_ask(self) -> bool:
        with self._lock:
            if self.healthy:
                return True
            when = now()
            if when < self._closed_until:
                return False
            # This call is the probe; others wait for what becomes of it.
            self._closed_until = when + self._pause
            return True

    def succeeded(self) -> None:
        with self._lock:
            was_healthy = self.healthy
            self._closed_until = 0.0
            self._failures = 0
            self.error = None
        if not was_healthy:
            self._on_event(events.RegionHealth(self._region, healthy=True, error=None))

    def failed(self, error: errors.SealwaxError) -> None:
        if isinstance(error, errors.AllKeysFailedError):
            # An answer for any of the wrapped keys says that the Region is there.
            causes = [cause for _, cause in error.attempts]
            error = next((cause for cause in causes if not isinstance(cause, errors.UnavailableError)), causes[-1])
        if not isinstance(error, errors.UnavailableError):
            if isinstance(error, errors.KmsError) and error.request_id is None:
                self._was_not_asked(error)
                return
            # An answer, if not the wished one: the Region is there.
            self.succeeded()
            self.error = str(error)
            return
        with self._lock:
            self.error = str(error)
            self._failures += 1
            was_healthy = self.healthy
            if was_healthy and self._failures < _FAILURES and error.code not in _TIME_OUTS:
                return
            self._closed_until = now() + self._pause
        if was_healthy:
            self._on_event(events.RegionHealth(self._region, healthy=False, error=str(error)))

    def _was_not_asked(self, error: errors.KmsError) -> None:
        """Leave things as they were: no credentials, no room under the limit, no allowed key say nothing of KMS."""
        with self._lock:
            if self._closed_until:
                self._closed_until = now()  # the next call may be the probe
            elif not isinstance(error, errors.KeyNotAllowedError):
                self.error = str(error)


@dataclass(frozen=True, slots=True)
class _Member:
    region: str
    key: _names.KeyName
    keyring: KmsKeyring
    breaker: _Breaker


@dataclass(frozen=True, slots=True)
class _Success(Generic[T]):
    value: T


@dataclass(frozen=True, slots=True)
class _Failure:
    key: str
    error: errors.SealwaxError


class MultiRegionKeyring:
    """Data keys under a multi-Region key, or under independent keys in several Regions.

    Args:
        key: the ARN of a multi-Region key, with ``regions``; or the key ARNs or alias ARNs of independent keys, one a
            Region.
        regions: where the multi-Region key has replicas, nearest first.
        min_wrapped: how many of the independent keys must have wrapped a data key before it is used: ``"all"`` or a
            number.
        hedge_after: ask the next Region as well when one has not opened a data key after so many seconds; None: never.
        retries: for the whole of an operation: ``attempts`` rounds over the Regions, within ``deadline`` seconds.
        retry_region_after: how many seconds a Region that could not be reached is left alone.
        session, limit, on_event, config, grant_tokens: as for :class:`~sealwax.KmsKeyring`. KMS is handed all tokens in
            each Region.

    It can be pickled and copied as a :class:`~sealwax.KmsKeyring` can; that a Region is given up for now stays behind.

    IAM actions: :meth:`generate` needs kms:GenerateDataKey on every key, and on independent keys kms:Encrypt;
    :meth:`unwrap` kms:Decrypt; :meth:`rewrap` kms:ReEncryptFrom and kms:ReEncryptTo.

    Raises:
        ConfigurationError: a name that is no ARN, two keys in one Region, or a key that is not multi-Region.
        TypeError: a parameter of another kind.
        ValueError: a number that cannot be.
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
        # One attempt each: another Region is a better second try than the same one.
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
                _Breaker(str(name.region), retry_region_after, watch),
            )
            for name in keys
        )
        self._handed_in = {
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

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self._handed_in,
            "session": pickling.carried(self._handed_in["session"], pack_session),
            "on_event": pickling.carried(self._handed_in["on_event"], pickling.pack_watcher),
            "config": pickling.carried(self._handed_in["config"], pack_config),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        MultiRegionKeyring.__init__(self, **pickling.arrived(state))

    def __repr__(self) -> str:
        return f"MultiRegionKeyring({[member.key.text for member in self._members]!r})"

    def health(self) -> tuple[RegionState, ...]:
        """Return how each Region is doing, in the order in which they are tried."""
        return tuple(
            RegionState(member.region, member.key.text, member.breaker.healthy, member.breaker.error)
            for member in self._members
        )

    def kms_stats(self) -> events.KmsStats:
        """Return how many requests were sent so far, in all Regions. No IAM action."""
        return sum((member.keyring.kms_stats() for member in self._members), events.KmsStats())

    # --- the keyring

    def generate(
        self,
        context: Mapping[str, str],
        use: Callable[[DataKey, tuple[WrappedKey, ...]], T],
        *,
        plaintext_bytes: int | None = None,
    ) -> T:
        """Make a data key in the first Region that can; wrap it in the others, in parallel, where keys are independent.

        See :meth:`sealwax.Keyring.generate`.
        """

        def keep(data_key: DataKey, wrapped: tuple[WrappedKey, ...]) -> tuple[DataKey, tuple[WrappedKey, ...]]:
            return data_key.duplicate(), wrapped

        def make(member: _Member) -> tuple[_Member, DataKey, tuple[WrappedKey, ...]]:
            return member, *member.keyring.generate(context, keep, plaintext_bytes=plaintext_bytes)

        with contextlib.closing(self._successes(make, None)) as made:
            maker, data_key, wrapped = next(made)
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
            # In copies of the context, so that who traces calls finds out whose they are.
            futures = [pool.submit(contextvars.copy_context().run, wrap, member) for member in others]
            results = [future.result() for future in futures]
        wrapped = tuple(result for result in results if isinstance(result, WrappedKey))
        if 1 + len(wrapped) < self._min_wrapped:
            raise _failed(
                f"{1 + len(wrapped)} of {len(self._members)} keys wrapped the data key, and {self._min_wrapped} must",
                {
                    member.key.text: result
                    for member, result in zip(others, results, strict=True)
                    if isinstance(result, errors.KmsError)
                },
            )
        return wrapped

    def _persist(self, member: _Member, work: Callable[[], T]) -> T:
        """Do ``work`` in one Region, again while that can help: there is no other Region for it."""
        deadline = now() + self._retries.deadline
        for attempt in range(1, self._retries.attempts + 1):
            if not member.breaker.may_ask():
                raise errors.UnavailableError(f"{member.region} is given up for now: {member.breaker.error}")
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
        """Open a data key in the first Region that can. See :meth:`sealwax.Keyring.unwrap`."""

        def open_in(member: _Member) -> DataKey:
            return member.keyring.unwrap(wrapped_keys, context, DataKey.duplicate)

        with contextlib.closing(self._successes(open_in, DataKey.close)) as opened:
            for data_key in opened:
                with data_key:
                    try:
                        return use(data_key)
                    except errors.CommitmentError as error:
                        refusal = error
        raise refusal

    def rewrap(
        self, wrapped_keys: Sequence[WrappedKey], context: Mapping[str, str], to: Sequence[str]
    ) -> tuple[WrappedKey, ...]:
        """Re-wrap, each new key in its own Region. See :meth:`sealwax.Keyring.rewrap`."""
        by_region = {member.region: member for member in self._members}
        targets = [_names.parse(target) for target in to]
        for target in targets:
            if target.region not in by_region:
                raise errors.ConfigurationError(
                    f"'{printable(target.text)}' is in none of the keyring's Regions; name it by its ARN",
                    key=target.text,
                )

        def in_its_region(target: _names.KeyName) -> WrappedKey:
            member = by_region[str(target.region)]
            return self._persist(member, lambda: member.keyring.rewrap(wrapped_keys, context, [target.text]))[0]

        return tuple(in_its_region(target) for target in targets)

    # --- over the Regions

    def _successes(self, work: Callable[[_Member], T], drop: Callable[[T], None] | None) -> Generator[T]:
        """Yield what ``work`` gives in each Region that can do it; ask no further than is taken.

        Args:
            drop: called with a result that comes too late to be yielded; None: one Region at a time.

        Raises:
            KmsError: no Region could do it.
        """
        deadline = now() + self._retries.deadline
        failures: dict[str, errors.SealwaxError] = {}
        for round_ in range(1, self._retries.attempts + 1):
            asked = succeeded = False
            # Whether a Region may be asked is looked at when its turn comes: a probe must not be used up by a call
            # that another Region answers. Where none may be asked, all are: a time-out is better than giving up.
            for members in (self._open_members(), iter(self._members)):
                if asked:
                    break
                with contextlib.closing(self._round(members, work, drop)) as outcomes:
                    for outcome in outcomes:
                        asked = True
                        if isinstance(outcome, _Failure):
                            if isinstance(outcome.error, errors.CredentialsError) and outcome.error.request_id is None:
                                raise outcome.error  # no other Region has any either
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
                raise _failed("no Region could do it", failures)
            time.sleep(pause)

    def _open_members(self) -> Iterator[_Member]:
        return (member for member in self._members if member.breaker.may_ask())

    def _round(
        self, members: Iterator[_Member], work: Callable[[_Member], T], drop: Callable[[T], None] | None
    ) -> Generator[_Success[T] | _Failure]:
        if drop is None or self._hedge_after is None:
            return (self._ask(member, work) for member in members)
        return _hedged(members, lambda member: self._ask(member, work), self._hedge_after, drop)

    @staticmethod
    def _ask(member: _Member, work: Callable[[_Member], T]) -> _Success[T] | _Failure:
        try:
            value = work(member)
        except (errors.KmsError, errors.DataKeyError) as error:
            member.breaker.failed(error)
            return _Failure(member.key.text, error)
        member.breaker.succeeded()
        return _Success(value)


def _hedged(
    members: Iterator[_Member],
    ask: Callable[[_Member], _Success[T] | _Failure],
    hedge_after: float,
    drop: Callable[[T], None],
) -> Generator[_Success[T] | _Failure]:
    """Ask one Region, and the next one whenever none has answered for a while, or one has failed."""
    running: set[Future[_Success[T] | _Failure]] = set()
    pool = Pool(_MOST_REGIONS, "sealwax-hedge")

    def drop_late(future: Future[_Success[T] | _Failure]) -> None:
        if future.exception() is None and isinstance(outcome := future.result(), _Success):
            drop(outcome.value)

    try:
        member = next(members, None)
        while member is not None or running:
            if member is not None:
                # In a copy of the context, so that who traces calls finds out whose they are.
                running.add(pool.submit(contextvars.copy_context().run, ask, member))
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
    # That an envelope is not wrapped under one of the keys says little where another key had its turn.
    telling = {key: error for key, error in failures.items() if not isinstance(error, errors.KeyNotAllowedError)}
    if len(failures) == 1 or not telling:
        return next(iter(failures.values()))
    lines = "".join(f"\n  {printable(key)}: {error}" for key, error in telling.items())
    return errors.AllKeysFailedError(f"{what}:{lines}", tuple(telling.items()))


def _replicas(key: str, regions: Sequence[str] | None) -> tuple[_names.KeyName, ...]:
    name = _names.parse(key)
    if not name.multi_region or name.region is None:
        raise errors.ConfigurationError(
            f"'{printable(key)}' is not the ARN of a multi-Region key, whose id begins with 'mrk-'", key=key
        )
    listed = () if regions is None else validate.texts("regions", regions, "the Regions that have a replica")
    if not listed or len(set(listed)) != len(listed):
        raise ValueError("regions is a sequence of the Regions that have a replica, nearest first, each once")
    return tuple(_names.parse(str(name.related(region))) for region in listed)


def _independent(keys: Sequence[str], regions: Sequence[str] | None) -> tuple[_names.KeyName, ...]:
    if regions is not None:
        raise ValueError("regions goes with one multi-Region key; independent keys name their own")
    parsed = tuple(_names.parse(key) for key in validate.texts("key", keys, "the ARNs of keys"))
    for name in parsed:
        if name.region is None:
            raise errors.ConfigurationError(f"'{printable(name.text)}' is not an ARN, and so names no Region")
    if not parsed or len({name.region for name in parsed}) != len(parsed):
        raise errors.ConfigurationError("independent keys are one for each Region")
    return parsed
