"""What programs test themselves with works here too, or docs/how-to/testing-tools.md says that it does not."""

from __future__ import annotations

import base64
import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import botocore.client
import freezegun
import pytest
import pytest_socket
import responses
import time_machine
import vcr
from botocore.stub import Stubber
from moto import mock_aws

import sealwax
from sealwax.kms import _hygiene
from sealwax.lab import Lab, Server
from tests.fakes import ALPHA, BETA

CONTEXT = {"purpose": "backup"}
DATA = b"the crown jewels"
KEY = bytes(range(100, 132))
ACCOUNT = "111122223333"


@pytest.fixture(autouse=True)
def _no_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        lab.create_key(alias="a")
        lab.create_key(alias="b")
        yield lab


@pytest.fixture
def url(lab: Lab) -> Iterator[str]:
    """The lab over HTTP: what another KMS at an endpoint is, such as LocalStack's."""
    server = Server(lab)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.url
    server.close()
    thread.join()


def there_and_back(sealer: sealwax.Sealer) -> bytes:
    sealed = sealer.encrypt(DATA, context=CONTEXT)
    assert sealer.decrypt(sealed, context=CONTEXT) == DATA
    return sealed


def both(**where: Any) -> sealwax.Sealer:
    return sealwax.Sealer(sealwax.KmsKeyring(["alias/a", "alias/b"], **where))


# --- moto, in process


def test_moto_with_several_keys() -> None:
    with mock_aws():
        kms = boto3.client("kms")
        keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(3)]
        sealed = there_and_back(sealwax.Sealer(sealwax.KmsKeyring(keys)))
        for key in keys:
            assert sealwax.Sealer(sealwax.KmsKeyring(key)).decrypt(sealed, context=CONTEXT) == DATA
        moved = sealwax.Sealer(sealwax.KmsKeyring(keys[1])).rewrap(sealed, to=keys[:2], context=CONTEXT)
        assert [key.key_arn for key in sealwax.inspect(moved).wrapped_keys] == keys[:2]


def test_moto_as_a_decorator_with_a_client_of_the_programs_own_and_a_cache() -> None:
    @freezegun.freeze_time("2031-01-01")
    @mock_aws
    def program() -> int:
        kms = boto3.client("kms")
        keys = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        with sealwax.CachingKeyring(sealwax.KmsKeyring(keys, client=kms), max_age=60) as keyring:
            for _ in range(3):
                there_and_back(sealwax.Sealer(keyring))
            return keyring.kms_stats().calls

    assert program() == 2 + 1


def test_moto_with_keys_in_two_regions() -> None:
    with mock_aws():
        keys = [boto3.client("kms", region).create_key()["KeyMetadata"]["Arn"] for region in ("eu-west-1", "us-east-1")]
        there_and_back(sealwax.Sealer(sealwax.MultiRegionKeyring(keys)))


# --- endpoints


def test_another_kms_at_an_endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there_and_back(both(client=boto3.client("kms", endpoint_url=url)))
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
    there_and_back(both())
    there_and_back(both(session=boto3.Session()))


# --- botocore's own double, and patches of botocore


def answers(**more: Any) -> dict[str, dict[str, Any]]:
    return {
        "GenerateDataKey": {"KeyId": ALPHA, "Plaintext": KEY, "CiphertextBlob": b"wrapped", **more},
        "Decrypt": {"KeyId": ALPHA, "Plaintext": KEY, **more},
        "ReEncrypt": {"KeyId": BETA, "SourceKeyId": ALPHA, "CiphertextBlob": b"moved", **more},
        "Encrypt": {"KeyId": BETA, "CiphertextBlob": b"wrapped too", **more},
    }


def stubbed(*operations: str) -> Any:
    client = boto3.client("kms")
    stubber = Stubber(client)
    for operation in operations:
        name = {"GenerateDataKey": "generate_data_key", "ReEncrypt": "re_encrypt"}.get(operation, operation.lower())
        stubber.add_response(name, answers()[operation])
    stubber.activate()
    return client


def test_a_stubber() -> None:
    client = stubbed("GenerateDataKey", "Decrypt", "ReEncrypt")
    sealer = sealwax.Sealer(sealwax.KmsKeyring(ALPHA, client=client))
    sealed = there_and_back(sealer)
    moved = sealer.rewrap(sealed, to=BETA, context=CONTEXT)
    assert sealwax.inspect(moved).wrapped_keys[0].ciphertext == b"moved"


def test_a_stubber_that_expects_parameters_and_one_that_refuses() -> None:
    client = boto3.client("kms")
    expected = {"KeyId": ALPHA, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
    with Stubber(client) as stubber:
        stubber.add_response("generate_data_key", answers()["GenerateDataKey"], expected)
        stubber.add_client_error("decrypt", "AccessDeniedException", "not for you", http_status_code=400)
        sealer = sealwax.Sealer(sealwax.KmsKeyring(ALPHA, client=client))
        sealed = sealer.encrypt(DATA, context=CONTEXT)
        with pytest.raises(sealwax.AccessDeniedError):
            sealer.decrypt(sealed, context=CONTEXT)
        stubber.assert_no_pending_responses()


def test_a_stubber_cannot_answer_kms_encrypt() -> None:
    """Whoever answers in the place of KMS before the request is made is given a stand-in for the data key."""
    client = stubbed("GenerateDataKey", "Encrypt")
    with pytest.raises(sealwax.RequestRefusedError, match="was never sent"):
        sealwax.Sealer(sealwax.KmsKeyring([ALPHA, BETA], client=client)).encrypt(DATA, context=CONTEXT)


def test_a_patch_of_make_api_call() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def make_api_call(_: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append((operation, parameters))
        return answers()[operation]

    with mock.patch("botocore.client.BaseClient._make_api_call", new=make_api_call):
        sealer = sealwax.Sealer(sealwax.KmsKeyring(ALPHA))
        sealer.rewrap(there_and_back(sealer), to=BETA, context=CONTEXT)
        assert [operation for operation, _ in asked] == ["GenerateDataKey", "Decrypt", "ReEncrypt"]
        with pytest.raises(sealwax.RequestRefusedError, match="was never sent"):
            sealwax.Sealer(sealwax.KmsKeyring([ALPHA, BETA])).encrypt(DATA, context=CONTEXT)
    assert KEY not in [parameters.get("Plaintext") for _, parameters in asked]


def test_a_patch_of_make_api_call_that_lets_calls_through(lab: Lab) -> None:
    make, asked = botocore.client.BaseClient._make_api_call, []  # type: ignore[attr-defined]

    def make_api_call(self: Any, operation: str, parameters: dict[str, Any]) -> Any:
        asked.append(operation)
        answer = make(self, operation, parameters)
        assert not answer.get("Plaintext")  # it has been taken out on the way
        return answer

    with mock.patch("botocore.client.BaseClient._make_api_call", new=make_api_call):
        there_and_back(both(session=lab.session()))
    assert asked == ["GenerateDataKey", "Encrypt", "Decrypt"]


def test_a_mock_in_place_of_a_client(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_hygiene, "_warned", [])  # it is once a process
    client = mock.MagicMock()
    client.meta.region_name = "us-east-1"
    client.generate_data_key.return_value = answers()["GenerateDataKey"]
    client.decrypt.return_value = answers()["Decrypt"]
    there_and_back(sealwax.Sealer(sealwax.KmsKeyring(ALPHA, client=client)))
    client.generate_data_key.assert_called_once_with(KeyId=ALPHA, KeySpec="AES_256", EncryptionContext=CONTEXT)
    assert "copies may remain in this process's memory" in caplog.text


# --- recorded connections


@pytest.mark.parametrize("before", [True, False])
def test_vcrpy(url: str, before: bool, tmp_path: Path) -> None:
    """Recorded and played back, whether the client was used before or not, and another time after that."""
    client = boto3.client("kms", endpoint_url=url)
    sealer = both(client=client)
    if before:
        there_and_back(sealer)
    for number in (1, 2):
        with vcr.use_cassette(str(tmp_path / f"{number}.yaml")) as cassette:
            sealed = there_and_back(sealer)
        assert (len(cassette), cassette.play_count) == (3, 0)
        with vcr.use_cassette(str(tmp_path / f"{number}.yaml"), record_mode="none") as cassette:
            again = there_and_back(sealer)
        assert cassette.play_count == 3
        assert again != sealed
        assert sealwax.inspect(again).wrapped_keys[0].ciphertext == sealwax.inspect(sealed).wrapped_keys[0].ciphertext
        # What follows is real again.
        other = there_and_back(sealer)
        assert sealwax.inspect(other).wrapped_keys[0].ciphertext != sealwax.inspect(sealed).wrapped_keys[0].ciphertext


def test_a_cassette_holds_data_keys_in_the_clear(url: str, tmp_path: Path) -> None:
    client = boto3.client("kms", endpoint_url=url)
    with vcr.use_cassette(str(tmp_path / "c.yaml")) as cassette:
        sealed = both(client=client).encrypt(DATA, context=CONTEXT)
    wrapped = sealwax.inspect(sealed).wrapped_keys[0]
    key = client.decrypt(CiphertextBlob=wrapped.ciphertext, EncryptionContext=CONTEXT)["Plaintext"]
    encoded = base64.b64encode(key).decode()
    assert encoded in cassette.responses[0]["body"]["string"]  # of GenerateDataKey
    assert encoded in cassette.requests[1].body_bytes.decode()  # of Encrypt
    assert encoded in (tmp_path / "c.yaml").read_text()


# --- what sees requests of another library only


def test_responses_does_not_see_boto3(url: str) -> None:
    with responses.RequestsMock() as patched:
        there_and_back(both(client=boto3.client("kms", endpoint_url=url)))
        assert len(patched.calls) == 0


# --- no network


def test_pytest_socket_lets_the_lab_and_moto_work(lab: Lab) -> None:
    session = lab.session()
    pytest_socket.disable_socket()
    try:
        there_and_back(both(session=session))
        with mock_aws():
            there_and_back(sealwax.Sealer(sealwax.KmsKeyring(boto3.client("kms").create_key()["KeyMetadata"]["Arn"])))
        away = sealwax.KmsKeyring(ALPHA, client=boto3.client("kms"), retries=sealwax.RetryPolicy(attempts=1))
        with pytest.raises(sealwax.UnavailableError, match=r"could not be reached.*socket"):
            sealwax.Sealer(away).encrypt(DATA, context=CONTEXT)
    finally:
        pytest_socket.enable_socket()


# --- other times


@pytest.mark.parametrize("when", ["1999-01-01", "2035-06-01"])
def test_a_frozen_clock_neither_stops_nor_frees_a_rate_limit(when: str, lab: Lab) -> None:
    session = lab.session()

    def limited(limit: sealwax.RateLimit) -> sealwax.Sealer:
        return both(session=session, limit=limit, retries=sealwax.RetryPolicy(attempts=1, deadline=1))

    before = sealwax.RateLimit(20, burst=1)
    there_and_back(limited(before))
    with freezegun.freeze_time(when):
        there_and_back(limited(before))
        for _ in range(8):  # more than what one second has room for, if the clock is never to move
            there_and_back(limited(before))
        inside = sealwax.RateLimit(20, burst=1)
        there_and_back(limited(inside))
    for limit in (before, inside):
        there_and_back(limited(limit))
        assert limit.current_rate == 20
        limit.throttled(time.monotonic())
        assert limit.current_rate < 20


def test_a_frozen_clock_does_not_hold_up_retries(lab: Lab) -> None:
    client = lab.session().client("kms")
    failures = iter([True, True, False])

    def fail(**_: Any) -> Any:
        if next(failures, False):
            raise botocore.exceptions.ConnectionClosedError(endpoint_url="https://kms")

    client.meta.events.register_first("before-send.kms.GenerateDataKey", fail)
    with freezegun.freeze_time("2030-01-01"):
        there_and_back(both(client=client))


@pytest.mark.parametrize("when", ["1999-01-01", "2035-06-01"])
def test_a_frozen_clock_neither_gives_a_region_up_for_good_nor_tries_it_too_early(when: str) -> None:
    def given_up(seconds: float) -> Any:
        keyring = sealwax.MultiRegionKeyring(
            [ALPHA, BETA.replace("us-east-1", "eu-west-1")], retry_region_after=seconds
        )
        found = keyring._members[0].breaker
        for _ in range(3):
            found.failed(sealwax.UnavailableError("away"))
        return found

    before = given_up(60)
    with freezegun.freeze_time(when):
        assert not before.may_call()
        inside = given_up(0.1)
        late = given_up(60)
    time.sleep(0.2)
    assert inside.may_call()
    assert not late.may_call()


def aging(lab: Lab) -> tuple[sealwax.CachingKeyring, sealwax.Sealer]:
    keyring = sealwax.CachingKeyring(sealwax.KmsKeyring("alias/a", session=lab.session()), max_age=60)
    return keyring, sealwax.Sealer(keyring)


NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(seconds=61)


def test_a_cache_ages_in_real_time_under_freezegun(lab: Lab) -> None:
    """It asks the whole stack what time to tell, and so tells one thread another time than the next."""
    keyring, sealer = aging(lab)
    with keyring:
        there_and_back(sealer)
        with freezegun.freeze_time(NOW) as frozen:
            there_and_back(sealer)
            frozen.move_to(LATER)
            assert keyring._held.wipe_old() is not None  # as the thread does that waits for the end of what is too old
            there_and_back(sealer)
        there_and_back(sealer)
        assert keyring.stats().calls == 2


def test_a_cache_gives_its_keys_up_when_time_machine_travels(lab: Lab) -> None:
    keyring, sealer = aging(lab)
    with keyring:
        with time_machine.travel(NOW, tick=False) as traveller:
            sealer.encrypt(DATA, context=CONTEXT)
            sealer.encrypt(DATA, context=CONTEXT)
            assert keyring.stats().calls == 1
            traveller.move_to(LATER)
            sealer.encrypt(DATA, context=CONTEXT)
            assert keyring.stats().calls == 2
        sealer.encrypt(DATA, context=CONTEXT)
        assert keyring.stats().calls == 3
