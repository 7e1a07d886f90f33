"""What few programs meet: closed readers, files that shrink, a cache closed during a call, odd arguments."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import pytest

import sealwax
from sealwax import errors
from sealwax._core.format.header import check_wrapped_key
from sealwax._core.format.readahead import BackgroundTask
from sealwax._core.keyring import DataKey, WrappedKey
from sealwax.kms._breaker import Breaker
from tests.fakes import ALPHA, BETA, FakeKeyring

CONTEXT = {"purpose": "edges"}


def raw_reader(sealer: sealwax.Sealer, sealed: bytes) -> tuple[io.RawIOBase, io.BytesIO]:
    source = io.BytesIO(sealed)
    file = sealer.open(source, "rb", context=CONTEXT)
    return file.detach(), source


def test_a_closed_reader_reads_nothing(sealer: sealwax.Sealer) -> None:
    raw, _ = raw_reader(sealer, sealer.encrypt(b"data", context=CONTEXT))
    raw.close()
    with pytest.raises(ValueError, match="read from a closed file"):
        raw.readinto(bytearray(4))


def test_a_file_that_shrinks_under_its_reader_is_tampered_with(sealer: sealwax.Sealer) -> None:
    raw, source = raw_reader(sealer, sealer.encrypt(bytes(1 << 20), context=CONTEXT))
    source.truncate(1 << 19)
    raw.seek(1 << 19)
    with pytest.raises(errors.TamperedError):
        raw.readinto(bytearray(1 << 19))
    raw.close()


def test_nothing_is_waited_for_before_it_begins() -> None:
    task: BackgroundTask[int] = BackgroundTask()
    with pytest.raises(ValueError, match="no work has begun"):
        task.wait()
    assert task.start(int, "7")
    assert task.busy
    assert task.wait() == 7
    assert not task.busy
    task.close()


def test_a_cache_that_is_closed_during_a_call_wipes_what_comes() -> None:
    made: list[DataKey] = []

    class Closes(FakeKeyring):
        def generate(
            self, context: Mapping[str, str], use: Callable[..., Any], *, plaintext_bytes: int | None = None
        ) -> Any:
            def keep(key: DataKey, wrapped: tuple[WrappedKey, ...]) -> Any:
                made.append(key)
                cache.close()
                return use(key, wrapped)

            return super().generate(context, keep, plaintext_bytes=plaintext_bytes)

    cache = sealwax.CachingKeyring(Closes(), max_age=60)
    with pytest.raises(ValueError, match="closed"):
        sealwax.Sealer(cache).encrypt(b"data", context=CONTEXT)
    assert len(made) == 1


def test_a_session_and_a_client_are_not_both_taken() -> None:
    session = boto3.Session("AKIA", "secret", region_name="us-east-1")
    with pytest.raises(ValueError, match="not both"):
        sealwax.KmsKeyring(ALPHA, session=session, client=session.client("kms"))


def test_a_limit_is_shared_by_its_copies() -> None:
    limit = sealwax.RateLimit(100)
    assert copy.copy(limit) is limit
    assert copy.deepcopy(limit) is limit
    assert pickle.loads(pickle.dumps(limit)).rate == 100


def test_any_answer_shows_that_a_region_is_up() -> None:
    away = errors.UnavailableError("timed out", code="ConnectTimeoutError")
    denied = errors.AccessDeniedError("denied", request_id="1-2-3")
    breaker = Breaker("eu-west-1", 60.0, lambda _: None)
    breaker.failed(errors.AllKeysFailedError("both", ((ALPHA, away), (BETA, denied))))
    assert breaker.healthy
    breaker.failed(errors.AllKeysFailedError("both", ((ALPHA, away), (BETA, away))))
    assert not breaker.healthy


def test_a_wrapped_key_is_checked_by_its_own_parts() -> None:
    check_wrapped_key(WrappedKey(ALPHA, b"wrapped", bytes(32), 1))
    for key in (
        WrappedKey("not an ARN", b"wrapped"),
        WrappedKey(ALPHA, b""),
        WrappedKey(ALPHA, b"wrapped", b"short"),
        WrappedKey(ALPHA, b"wrapped", provider=0),
    ):
        with pytest.raises(errors.DamagedHeaderError):
            check_wrapped_key(key)
