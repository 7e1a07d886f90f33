"""Settings travel to other processes, keys and credentials never do; a copy of a cache is another, empty cache."""

from __future__ import annotations

import copy
import io
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import boto3
import botocore.session
import pytest
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials, RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

import sealwax
from sealwax import otel
from sealwax._aws.session import open_session, pack_session
from sealwax.lab import Lab
from sealwax.stores import s3
from sealwax.stores._files import FileStore
from tests.fakes import ALPHA, FakeKeyring
from tests.forks import workers
from tests.forks.servers import FAR, NEAR, SECRET, run, serving

CONTEXT: Final = {"purpose": "pickles"}
KEY: Final = b"\x5a\xa5a-data-key-that-must-not-travel!"[:32]
ARN: Final = f"arn:aws:kms:{NEAR}:111122223333:key/mrk-{'0' * 32}"
PROTOCOLS: Final = range(pickle.HIGHEST_PROTOCOL + 1)


def the_key(_: int) -> bytes:
    return KEY


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials in the environment, as most programs have them."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", NEAR)
    config = tmp_path / "config"
    config.write_text("[profile work]\nregion = eu-west-3\n[profile other]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_worker_processes_open_and_seal(tmp_path: Path, method: str) -> None:
    with serving(tmp_path, s3=True) as environment:
        told = run(["-m", "tests.forks.workers", method], environment | {"FOLDER": str(tmp_path / "lab")})
    assert told.keys() == {"KMS", "plain", "Regions", "independent", "cache"}
    for name, found in told.items():
        assert (found["opened"], found["back"]) == (name, f"{name} in a worker")
        assert (found["elsewhere"], found["secret"], found["objects"]) == (True, False, 1)
        assert found["files"] >= 2


def used(session: boto3.Session) -> boto3.Session:
    """After clients were made, the session holds its credentials."""
    session.client("kms")
    session.client("s3")
    assert session.get_credentials() is not None
    return session


TRAVEL: Final[dict[str, Callable[[], Any]]] = {
    "session": lambda: sealwax.KmsKeyring("alias/demo", session=used(boto3.Session())),
    "profile": lambda: sealwax.KmsKeyring("alias/demo", session=boto3.Session(profile_name="work", region_name=FAR)),
    "endpoint": lambda: sealwax.KmsKeyring("alias/demo", session=open_session(None, FAR, "http://127.0.0.1:1")),
    "several keys": lambda: sealwax.KmsKeyring(["alias/a", "alias/b"], decrypt_with=[sealwax.KeyScope("1" * 12, FAR)]),
    "Regions": lambda: sealwax.MultiRegionKeyring(ARN, regions=[NEAR, FAR], session=used(boto3.Session())),
    "cache": lambda: sealwax.CachingKeyring(sealwax.KmsKeyring("alias/demo"), max_age=60, on_event=workers.watch),
    "sealer": lambda: sealwax.Sealer(FakeKeyring(), local_context=["id"]),
    "sealer over a cache": lambda: sealwax.Sealer(sealwax.CachingKeyring(FakeKeyring(), max_age=60)),
    "telemetry": lambda: sealwax.KmsKeyring("alias/demo", on_event=otel.Telemetry()),
    "limit": lambda: sealwax.KmsKeyring("alias/demo", limit=sealwax.RateLimit(5, burst=2)),
    "retries": lambda: sealwax.RetryPolicy(attempts=7, deadline=3),
    "scope": lambda: sealwax.KeyScope("1" * 12, FAR),
    "S3": lambda: s3.S3Store("s3://bucket/prefix", used(boto3.Session())),
    "S3 as it is": lambda: s3.S3Store("s3://bucket/prefix"),
    "files": lambda: FileStore(tempfile.gettempdir()),
}


def shown(thing: object) -> str:
    return re.sub(r"0x[0-9a-f]+", "", repr(thing))


@pytest.mark.parametrize("case", TRAVEL)
def test_settings_travel_and_credentials_do_not(case: str) -> None:
    made = TRAVEL[case]()
    for protocol in PROTOCOLS:
        pickled = pickle.dumps(made, protocol)
        assert SECRET.encode() not in pickled
        assert b"AKIDEXAMPLE" not in pickled
        arrived = pickle.loads(pickled)
        assert shown(arrived) == shown(made)
        # What it is made of is the same again, so it may travel on.
        assert len(pickle.dumps(arrived, protocol)) == len(pickled)


def test_a_session_opens_with_profile_region_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, arguments = pack_session(open_session("work", FAR, "http://127.0.0.1:9"))
    session = opened(*arguments)
    client = session.client("kms", region_name=None)
    assert (client.meta.endpoint_url, client.meta.region_name) == ("http://127.0.0.1:9", FAR)
    assert arguments == ("work", FAR, "http://127.0.0.1:9")
    # The profile's Region, where none was given.
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert pack_session(boto3.Session(profile_name="work"))[1] == ("work", "eu-west-3", None)


def with_credentials(credentials: Any) -> boto3.Session:
    core = botocore.session.get_session()
    core._credentials = credentials  # type: ignore[attr-defined]
    return boto3.Session(botocore_session=core)


def with_handler() -> boto3.Session:
    session = boto3.Session()
    session.events.register("before-sign.kms", lambda **_: None)
    return session


def with_client_config() -> boto3.Session:
    core = botocore.session.get_session()
    core.set_default_client_config(botocore.config.Config(region_name=FAR))
    return boto3.Session(botocore_session=core)


def with_provider() -> boto3.Session:
    core = botocore.session.get_session()
    core.get_component("credential_provider").remove("env")
    return boto3.Session(botocore_session=core)


def with_setting() -> boto3.Session:
    core = botocore.session.get_session()
    core.set_config_variable("metadata_service_timeout", 7)
    return boto3.Session(botocore_session=core)


def renewed() -> dict[str, str]:
    return {"access_key": "AKID", "secret_key": SECRET, "token": "t", "expiry_time": "2999-01-01T00:00:00Z"}


def assumed() -> boto3.Session:
    """As libraries do it that assume a role for a session."""
    core = botocore.session.get_session()
    fetcher = AssumeRoleCredentialFetcher(
        core.create_client, core.get_credentials(), "arn:aws:iam::111122223333:role/other"
    )
    return with_credentials(DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role"))


class OwnSession(boto3.Session):
    pass


def keyring(**settings: Any) -> sealwax.KmsKeyring:
    return sealwax.KmsKeyring("alias/demo", **settings)


REFUSED: Final[dict[str, tuple[Callable[[], Any], str]]] = {
    "client": (lambda: keyring(client=boto3.client("kms")), "its own KMS client"),
    "explicit credentials": (
        lambda: keyring(session=boto3.Session("AKID", SECRET)),
        "credentials that were passed to it",
    ),
    "renewed by a function": (
        lambda: keyring(session=with_credentials(RefreshableCredentials.create_from_metadata(renewed(), renewed, "x"))),
        "credentials that were passed to it",
    ),
    "an assumed role": (lambda: keyring(session=assumed()), "credentials that were passed to it"),
    "event handlers": (lambda: keyring(session=with_handler()), "event handlers of its own"),
    "client configuration": (lambda: keyring(session=with_client_config()), "a default client configuration"),
    "a setting": (lambda: keyring(session=with_setting()), "settings that were passed to it"),
    "chain": (lambda: keyring(session=with_provider()), "credential providers of its own"),
    "class": (lambda: keyring(session=OwnSession()), "a class of its own"),
    "lambda": (lambda: keyring(on_event=lambda _: None), "the on_event function cannot be pickled"),
    "telemetry": (
        lambda: keyring(on_event=otel.Telemetry(tracer_provider=TracerProvider())),
        "telemetry with its own tracer_provider",
    ),
    "in a cache": (
        lambda: sealwax.CachingKeyring(keyring(client=boto3.client("kms")), max_age=1),
        "its own KMS client",
    ),
    "a cache's lambda": (
        lambda: sealwax.CachingKeyring(FakeKeyring(), max_age=1, on_event=lambda _: None),
        "the on_event function cannot be pickled",
    ),
    "in a sealer": (lambda: sealwax.Sealer(keyring(session=with_handler())), "event handlers of its own"),
    "Regions": (
        lambda: sealwax.MultiRegionKeyring(ARN, regions=[NEAR], session=boto3.Session("AKID", SECRET)),
        "credentials that were passed to it",
    ),
    "S3": (lambda: s3.S3Store("s3://bucket/", boto3.Session("AKID", SECRET)), "credentials that were passed to it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_travel_is_refused_and_copied_all_the_same(case: str) -> None:
    make, why = REFUSED[case]
    made = make()
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        with pytest.raises(sealwax.NotPicklableError, match=why) as refusal:
            pickle.dumps(made, protocol)
        assert SECRET not in str(refusal.value)
        assert "other process" in str(refusal.value)
    # In the same process, nothing has to travel.
    assert shown(copy.copy(made)) == shown(copy.deepcopy(made)) == shown(made)


def test_the_labs_session_is_refused() -> None:
    """Elsewhere its calls would go to AWS."""
    with tempfile.TemporaryDirectory() as folder, Lab(folder) as lab, pytest.raises(sealwax.NotPicklableError):
        pickle.dumps(keyring(session=lab.session()))


def copies(cache: sealwax.CachingKeyring) -> dict[str, sealwax.CachingKeyring]:
    return {
        "copy": copy.copy(cache),
        "deep copy": copy.deepcopy(cache),
        "pickle": pickle.loads(pickle.dumps(cache)),
        "copy of a copy": copy.copy(copy.copy(cache)),
    }


def test_a_copied_or_pickled_cache_is_empty_and_wiped_by_itself() -> None:
    lent: list[sealwax.DataKey] = []
    with sealwax.CachingKeyring(FakeKeyring(new_key=the_key), max_age=60, max_messages=3) as cache:
        cache.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
        assert KEY not in pickle.dumps(cache)
        assert KEY not in pickle.dumps(sealwax.Sealer(cache))
        made = copies(cache)
        assert len(made) == 4
        for other in made.values():
            assert other.stats().entries == ()
            other.generate(CONTEXT, lambda key, _: lent.append(key), plaintext_bytes=1)
            # The bounds are the same, each cache's own.
            assert other.stats().entries == ((1, 1),)
            other.close()
            with pytest.raises(ValueError, match="closed"):
                other.generate(CONTEXT, lambda *_: None, plaintext_bytes=1)
        assert cache.stats().entries == ((1, 1),)
    assert len(lent) == 5
    for key in lent:
        with pytest.raises(ValueError, match="wiped"):
            key.buffer  # noqa: B018


def test_a_copied_sealer_and_keyring_share_what_they_were_made_with() -> None:
    limit = sealwax.RateLimit(5)
    assert copy.copy(limit) is copy.deepcopy(limit) is limit
    fake = FakeKeyring(ALPHA)
    sealer = sealwax.Sealer(fake, local_context=["id"])
    context = {"id": "1", "purpose": "x"}
    assert copy.copy(sealer).decrypt(sealer.encrypt(b"x", context=context), context=context) == b"x"
    assert fake.calls == ["GenerateDataKey", "Decrypt"]


def test_what_is_open_is_not_copied() -> None:
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            refused(sealwax.Sealer(FakeKeyring()).open_async("file", context=CONTEXT))
    writer = s3.ObjectWriter("s3://bucket/one", boto3.Session())
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            refused(writer)
    assert isinstance(writer, io.RawIOBase)
    writer.discard()


NUMBERS: Final = st.floats(min_value=0.01, max_value=1e6)


@given(NUMBERS, st.floats(min_value=1, max_value=1e6), st.integers(1, 1000), NUMBERS, st.integers(1, 2**32))
def test_numbers_arrive_as_they_are(rate: float, burst: float, attempts: int, seconds: float, messages: int) -> None:
    limit = pickle.loads(pickle.dumps(sealwax.RateLimit(rate, burst=burst)))
    assert (limit.rate, limit.__getstate__()["burst"]) == (rate, burst)
    retries = sealwax.RetryPolicy(attempts, seconds)
    assert pickle.loads(pickle.dumps(retries)) == retries
    cache = sealwax.CachingKeyring(FakeKeyring(), max_age=seconds, max_messages=messages, serve_stale_for=seconds)
    state = pickle.loads(pickle.dumps(cache)).__getstate__()
    assert (state["max_age"], state["max_messages"], state["serve_stale_for"]) == (seconds, messages, seconds)
