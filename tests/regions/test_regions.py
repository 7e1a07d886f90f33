"""Several Regions: one lost is not the end, costs one time-out, and comes back; keys are wrapped in parallel."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

import sealwax
from sealwax.events import Event, KmsCall, RegionHealth
from sealwax.lab import Lab
from tests.fakes import timed_cache
from tests.regions.servers import FAR, NEAR, RegionServers

CONTEXT = {"purpose": "test"}
THIRD = "ap-southeast-2"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture
def replicated(lab: Lab) -> str:
    """The ARN of a multi-Region key with a replica in the other Region."""
    arn: str = lab.call("CreateKey", region=NEAR, MultiRegion=True)["KeyMetadata"]["Arn"]
    lab.call("ReplicateKey", region=NEAR, KeyId=arn, ReplicaRegion=FAR)
    return arn


@pytest.fixture
def independent(lab: Lab) -> list[str]:
    return [lab.create_key(region=region)["Arn"] for region in (NEAR, FAR, THIRD)]


@pytest.fixture
def servers(lab: Lab) -> Iterator[RegionServers]:
    servers = RegionServers(lab.path)
    yield servers
    servers.close()


class Watch:
    def __init__(self) -> None:
        self.calls: list[KmsCall] = []
        self.health: list[RegionHealth] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, KmsCall):
            self.calls.append(event)
        elif isinstance(event, RegionHealth):
            self.health.append(event)

    @property
    def made(self) -> list[tuple[str, str, str | None]]:
        return [(call.operation, call.region, call.error) for call in self.calls]


def down(lab: Lab, region: str) -> None:
    lab.faults.add(region, "down", 1.0, operation=None, code=None, seed=1)


def test_the_nearest_region_is_asked_and_the_next_when_it_is_gone(lab: Lab, replicated: str) -> None:
    watch = Watch()
    keyring = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), on_event=watch, retry_region_after=60
    )
    sealer = sealwax.Sealer(keyring)
    sealed = sealer.encrypt(b"x", context=CONTEXT)
    assert watch.made == [("GenerateDataKey", NEAR, None)]
    down(lab, NEAR)
    watch.calls.clear()
    for _ in range(10):
        assert sealer.decrypt(sealed, context=CONTEXT) == b"x"
        sealer.encrypt(b"y", context=CONTEXT)
    # Three failures that are told at once give the Region up; then it is left alone.
    assert sum(region == NEAR for _, region, _ in watch.made) == 3
    assert [(health.region, health.healthy) for health in watch.health] == [(NEAR, False)]
    assert [state.healthy for state in keyring.health()] == [False, True]
    assert NEAR in str(keyring.health()[0].error) or "reached" in str(keyring.health()[0].error)


def test_a_region_that_comes_back_is_used_again(lab: Lab, replicated: str) -> None:
    watch = Watch()
    keyring = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), on_event=watch, retry_region_after=0.2
    )
    sealer = sealwax.Sealer(keyring)
    down(lab, NEAR)
    for _ in range(5):
        sealer.encrypt(b"x", context=CONTEXT)
    lab.faults.clear(NEAR, None)
    time.sleep(0.3)
    watch.calls.clear()
    sealer.encrypt(b"x", context=CONTEXT)
    assert watch.made == [("GenerateDataKey", NEAR, None)]
    assert [(health.region, health.healthy) for health in watch.health] == [(NEAR, False), (NEAR, True)]


def test_a_probe_is_not_used_up_by_who_asks_another_region(lab: Lab, replicated: str) -> None:
    watch = Watch()
    keyring = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), on_event=watch, retry_region_after=60
    )
    sealer = sealwax.Sealer(keyring)
    far = keyring._members[1].breaker
    for _ in range(3):
        far.failed(sealwax.UnavailableError("away"))
    assert not far.healthy
    far._open_until = time.monotonic()  # its time is over
    sealer.encrypt(b"x", context=CONTEXT)  # the near one answers, and the far one is not asked
    down(lab, NEAR)
    watch.calls.clear()
    sealer.encrypt(b"x", context=CONTEXT)
    assert [region for _, region, _ in watch.made] == [NEAR, FAR]
    assert far.healthy


@pytest.mark.parametrize("error", [sealwax.CredentialsError("none"), sealwax.KeyNotAllowedError("no")])
def test_what_kms_did_not_say_says_nothing_of_a_region(replicated: str, error: sealwax.KmsError) -> None:
    keyring = sealwax.MultiRegionKeyring(replicated, regions=[NEAR, FAR], retry_region_after=60)
    breaker = keyring._members[0].breaker
    for _ in range(3):
        breaker.failed(sealwax.UnavailableError("away"))
    breaker._open_until = time.monotonic()
    assert breaker.may_call()
    assert not breaker.may_call()
    breaker.failed(error)
    assert not breaker.healthy
    assert breaker.may_call()  # the probe was given back


def test_every_region_gone_is_one_error_that_lists_each(lab: Lab, replicated: str) -> None:
    keyring = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), retries=sealwax.RetryPolicy(attempts=2, deadline=5)
    )
    down(lab, NEAR)
    down(lab, FAR)
    with pytest.raises(sealwax.AllKeysFailedError) as caught:
        sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)
    assert [NEAR in key for key, _ in caught.value.attempts] == [True, False]
    assert all(isinstance(error, sealwax.UnavailableError) for _, error in caught.value.attempts)


def test_throttling_in_both_regions_is_waited_out(lab: Lab, replicated: str) -> None:
    keyring = sealwax.MultiRegionKeyring(replicated, regions=[NEAR, FAR], session=lab.session())
    sealer = sealwax.Sealer(keyring)
    for region in (NEAR, FAR):
        lab.faults.add(region, "throttle", 0.3, operation=None, code=None, seed=7)
    for _ in range(60):
        assert sealer.decrypt(sealer.encrypt(b"x", context=CONTEXT), context=CONTEXT) == b"x"


class HangingRegion:
    """A lab's session, but for one Region that takes connections and never answers."""

    region_name = None

    def __init__(self, lab: Lab, port: int) -> None:
        self._lab = lab.session()
        self._port = port

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        if region_name != NEAR:
            return self._lab.client(service_name, region_name=region_name, config=config)
        assert config is not None
        config = config.merge(Config(read_timeout=0.3))  # so that nobody waits for the test
        session = boto3.Session("AKIDEXAMPLE", "secret", region_name=region_name)
        return session.client(service_name, endpoint_url=f"http://127.0.0.1:{self._port}", config=config)


def test_a_region_that_never_answers_costs_one_time_out(lab: Lab, replicated: str) -> None:
    watch = Watch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        session = HangingRegion(lab, silent.getsockname()[1])
        keyring = sealwax.MultiRegionKeyring(
            replicated, regions=[NEAR, FAR], session=session, on_event=watch, retry_region_after=60
        )
        sealer = sealwax.Sealer(keyring)
        for _ in range(5):
            assert sealer.decrypt(sealer.encrypt(b"x", context=CONTEXT), context=CONTEXT) == b"x"
    assert [made[0] for made in watch.made if made[1] == NEAR] == ["GenerateDataKey"]
    assert [(health.region, health.healthy) for health in watch.health] == [(NEAR, False)]
    assert [made[1:] for made in watch.made if made[1] == FAR] == [(FAR, None)] * 10


def test_a_hedged_decrypt_does_not_wait_for_a_slow_region(lab: Lab, replicated: str) -> None:
    watch = Watch()
    keyring = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), hedge_after=0.05, on_event=watch
    )
    sealer = sealwax.Sealer(keyring)
    sealed = sealer.encrypt(b"x", context=CONTEXT)
    lab.faults.add(NEAR, "latency", 1500, operation=None, code=None, seed=1)
    watch.calls.clear()
    assert sealer.decrypt(sealed, context=CONTEXT) == b"x"
    # The slow one has not even answered yet.
    assert watch.made == [("Decrypt", FAR, None)]


def test_independent_keys_each_open_alone(lab: Lab, independent: list[str]) -> None:
    keyring = sealwax.MultiRegionKeyring(independent, session=lab.session())
    sealed = sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)
    assert {key.key_arn for key in sealwax.inspect(sealed).wrapped_keys} == set(independent)
    for arn in independent:
        alone = sealwax.Sealer(sealwax.KmsKeyring(arn, session=lab.session()))
        assert alone.decrypt(sealed, context=CONTEXT) == b"x"
    down(lab, NEAR)
    assert sealwax.Sealer(keyring).decrypt(sealed, context=CONTEXT) == b"x"


def test_independent_keys_are_wrapped_in_parallel(lab: Lab, independent: list[str]) -> None:
    for region in (FAR, THIRD):
        lab.faults.add(region, "latency", 400, operation="Encrypt", code=None, seed=1)
    spans: list[tuple[float, float]] = []

    def watch(event: Event) -> None:
        if isinstance(event, KmsCall) and event.operation == "Encrypt":
            now = time.monotonic()
            spans.append((now - event.seconds, now))

    keyring = sealwax.MultiRegionKeyring(independent, session=lab.session(), on_event=watch)
    sealwax.Sealer(keyring).encrypt(b"x", context=CONTEXT)
    (first_start, first_end), (second_start, second_end) = spans
    assert max(first_start, second_start) < min(first_end, second_end)  # one was under way while the other was
    # The time of the slowest, and not the sum; one after the other would be 1 or more.
    together = max(first_end, second_end) - min(first_start, second_start)
    ratio = together / ((first_end - first_start) + (second_end - second_start))
    print(f"two calls of at least 0.4 s took {together:.2f} s together: {ratio:.2f} of their sum")
    assert ratio < 0.9


def test_as_many_keys_as_required_are_enough(lab: Lab, independent: list[str]) -> None:
    down(lab, THIRD)
    every = sealwax.MultiRegionKeyring(independent, session=lab.session())
    with pytest.raises(sealwax.KmsError):
        sealwax.Sealer(every).encrypt(b"x", context=CONTEXT)
    two = sealwax.MultiRegionKeyring(independent, min_wrapped=2, session=lab.session())
    sealed = sealwax.Sealer(two).encrypt(b"x", context=CONTEXT)
    assert {key.key_arn for key in sealwax.inspect(sealed).wrapped_keys} == set(independent[:2])
    down(lab, NEAR)
    with pytest.raises(sealwax.KmsError):
        sealwax.Sealer(two).encrypt(b"x", context=CONTEXT)


def test_rewrap_in_each_region(lab: Lab, independent: list[str]) -> None:
    keyring = sealwax.MultiRegionKeyring(independent, session=lab.session())
    sealer = sealwax.Sealer(keyring)
    new = [lab.create_key(region=region)["Arn"] for region in (NEAR, FAR, THIRD)]
    rewrapped = sealer.rewrap(sealer.encrypt(b"x", context=CONTEXT), to=new, context=CONTEXT)
    assert [key.key_arn for key in sealwax.inspect(rewrapped).wrapped_keys] == new
    opener = sealwax.Sealer(sealwax.MultiRegionKeyring(new, session=lab.session()))
    assert opener.decrypt(rewrapped, context=CONTEXT) == b"x"


@pytest.mark.parametrize(
    ("key", "settings", "error"),
    [
        ("alias/demo", {"regions": [NEAR]}, sealwax.ConfigurationError),
        ("arn:aws:kms:eu-west-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a", {"regions": [NEAR]}, None),
        (f"arn:aws:kms:eu-west-1:111122223333:key/mrk-{'0' * 32}", {}, ValueError),
        (f"arn:aws:kms:eu-west-1:111122223333:key/mrk-{'0' * 32}", {"regions": [NEAR, NEAR]}, ValueError),
        (["alias/demo"], {}, sealwax.ConfigurationError),
        ([f"arn:aws:kms:eu-west-1:111122223333:alias/{name}" for name in "ab"], {}, sealwax.ConfigurationError),
        (["arn:aws:kms:eu-west-1:111122223333:alias/a"], {"min_wrapped": 2}, ValueError),
        (["arn:aws:kms:eu-west-1:111122223333:alias/a"], {"regions": [NEAR]}, ValueError),
    ],
)
def test_what_cannot_be_is_refused_at_once(key: Any, settings: dict[str, Any], error: type[Exception] | None) -> None:
    with pytest.raises(error or sealwax.ConfigurationError):
        sealwax.MultiRegionKeyring(key, **settings)


# --- the drill: two Regions as two processes


def work_in_threads(sealer: sealwax.Sealer, during: Callable[[], None]) -> tuple[list[float], list[str]]:
    """Encrypt and decrypt in 8 threads while ``during`` runs; return the seconds of each round and the failures."""
    stop = threading.Event()
    latencies: list[float] = []
    failures: list[str] = []

    def work(number: int) -> None:
        while not stop.is_set():
            started = time.monotonic()
            try:
                data = str(number).encode()
                assert sealer.decrypt(sealer.encrypt(data, context=CONTEXT), context=CONTEXT) == data
            except sealwax.SealwaxError as error:
                failures.append(f"{type(error).__name__}: {error}")
            latencies.append(time.monotonic() - started)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        during()
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    return latencies, failures


def tell(phase: str, latencies: list[float]) -> None:
    ordered = sorted(latencies)
    shown = {part: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)}
    print(f"{phase}: {len(ordered)} rounds, " + ", ".join(f"p{part:.0%} {s:.3f} s" for part, s in shown.items()))


def drill(servers: RegionServers, key: str, harm: Callable[[], object], heal: Callable[[], object]) -> None:
    watch = Watch()
    keyring = sealwax.MultiRegionKeyring(
        key,
        regions=[NEAR, FAR],
        session=servers,
        retry_region_after=0.5,
        hedge_after=1.0,
        on_event=watch,
    )
    sealer = sealwax.Sealer(keyring)
    before, failed_before = work_in_threads(sealer, lambda: time.sleep(1))

    def harmed() -> None:
        time.sleep(0.3)
        harm()
        time.sleep(2.5)

    during, failed_during = work_in_threads(sealer, harmed)
    heal()
    time.sleep(1)
    watch.calls.clear()
    after, failed_after = work_in_threads(sealer, lambda: time.sleep(1.5))
    for phase, latencies in (("before", before), ("during", during), ("after", after)):
        tell(phase, latencies)
        assert latencies
    assert failed_before + failed_during + failed_after == []
    assert any(region == NEAR and error is None for _, region, error in watch.made)


def test_a_region_is_killed_and_comes_back(servers: RegionServers, replicated: str) -> None:
    drill(servers, replicated, lambda: servers.kill(NEAR), lambda: servers.start(NEAR))


def test_a_region_takes_connections_and_never_answers(servers: RegionServers, replicated: str) -> None:
    drill(servers, replicated, lambda: servers.suspend(NEAR), lambda: servers.resume(NEAR))


@pytest.mark.parametrize(
    ("kind", "amount"),
    [("throttle", 0.3), ("latency", 2000), ("reset", 0.3)],
)
def test_a_region_has_a_bad_day(lab: Lab, servers: RegionServers, replicated: str, kind: str, amount: float) -> None:
    drill(
        servers,
        replicated,
        lambda: lab.faults.add(NEAR, kind, amount, operation=None, code=None, seed=3),
        lambda: lab.faults.clear(NEAR, None),
    )


def test_with_every_region_down_a_warm_cache_goes_on_until_its_bound(lab: Lab, replicated: str) -> None:
    now = [0.0, 0.0]
    inner = sealwax.MultiRegionKeyring(
        replicated, regions=[NEAR, FAR], session=lab.session(), retries=sealwax.RetryPolicy(attempts=1, deadline=5)
    )
    with timed_cache(inner, max_age=100, clocks=lambda: (now[0], now[1])) as cache:
        sealer = sealwax.Sealer(cache)
        sealed = sealer.encrypt(b"x", context=CONTEXT)
        sealer.decrypt(sealed, context=CONTEXT)
        down(lab, NEAR)
        down(lab, FAR)
        now[:] = [75.0, 75.0]
        assert sealer.decrypt(sealer.encrypt(b"y", context=CONTEXT), context=CONTEXT) == b"y"
        assert sealer.decrypt(sealed, context=CONTEXT) == b"x"
        now[:] = [100.0, 100.0]
        with pytest.raises(sealwax.AllKeysFailedError) as encrypting:
            sealer.encrypt(b"y", context=CONTEXT)
        with pytest.raises(sealwax.AllKeysFailedError) as decrypting:
            sealer.decrypt(sealed, context=CONTEXT)
        for caught in (encrypting, decrypting):
            assert {NEAR in key for key, _ in caught.value.attempts} == {True, False}
