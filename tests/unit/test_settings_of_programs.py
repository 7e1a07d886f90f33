"""What programs set for their KMS clients: a Config, grant tokens on every call; and no asynchronous client."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import AsyncMock

import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

import sealwax
from sealwax.errors import AccessDeniedError, KmsError, NotPicklableError
from sealwax.lab import Lab

NEAR, FAR = "us-east-1", "eu-west-1"
CONTEXT: Final = {"purpose": "settings"}
ALICE: Final = "arn:aws:iam::111122223333:user/alice"
OPERATIONS: Final = ["GenerateDataKey", "Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"]
TOKEN: Final = "a-grant-token-that-nobody-repeats"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.fixture
def keys(lab: Lab) -> tuple[str, str, str]:
    """Two keys of one Region, and one of another."""
    return lab.create_key()["Arn"], lab.create_key()["Arn"], lab.create_key(region=FAR)["Arn"]


def granted(lab: Lab, *keys: str) -> list[str]:
    """Grant alice the use of keys in half an hour, and return the tokens with which she has it now."""
    lab.add_principal("alice")
    tokens = []
    for key in keys:
        region = key.split(":")[3]
        lab.faults.add(region, "consistency", 1800, operation=None, code=None, seed=0)
        kms = lab.session(region).client("kms")
        made = kms.create_grant(KeyId=key, GranteePrincipal=ALICE, Operations=OPERATIONS)  # type: ignore[arg-type]
        tokens.append(made["GrantToken"])
    return tokens


def used(lab: Lab) -> list[tuple[str, str]]:
    """What alice asked for: the operation, and the lab's word on why it was allowed or denied."""
    return [
        (event.record["eventName"], str(event.reason))
        for event in lab.trail.events()
        if event.record["userIdentity"]["arn"] == ALICE
    ]


def work(keyring: Any, to: str) -> None:
    """Ask a keyring for everything that it can be asked for."""
    sealer = sealwax.Sealer(keyring)
    sealed = sealer.encrypt(b"data", context=CONTEXT)
    assert sealer.decrypt(sealed, context=CONTEXT) == b"data"
    assert sealer.rewrap(sealed, to=to, context=CONTEXT)
    assert sealer.reencrypt(sealed, context=CONTEXT)


CALLS: Final = {"GenerateDataKey", "Encrypt", "Decrypt", "ReEncrypt"}


@pytest.mark.parametrize("handed", ["session", "client", "pickled", "copied", "cached", "replicas", "independent"])
def test_a_grant_counts_at_once_on_every_call_of_every_keyring(
    lab: Lab, keys: tuple[str, str, str], handed: str
) -> None:
    one, other, far = keys
    if handed == "replicas":
        kms = lab.session(NEAR).client("kms")
        one = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
        kms.replicate_key(KeyId=one, ReplicaRegion=FAR)
        far = one.replace(NEAR, FAR)
    tokens = granted(lab, *((one, far) if handed in ("replicas", "independent") else (one, other)))
    session = lab.session(NEAR, principal="alice")

    def keyring(grant_tokens: list[str]) -> Any:
        if handed == "replicas":
            return sealwax.MultiRegionKeyring(one, regions=[NEAR, FAR], session=session, grant_tokens=grant_tokens)
        if handed == "independent":
            return sealwax.MultiRegionKeyring([one, far], session=session, grant_tokens=grant_tokens)
        if handed == "client":
            client = session.client("kms")
            return sealwax.KmsKeyring([one, other], client=client, grant_tokens=grant_tokens)
        made = sealwax.KmsKeyring([one, other], session=session, grant_tokens=grant_tokens)
        return sealwax.CachingKeyring(made, max_age=60) if handed == "cached" else made

    with pytest.raises(KmsError, match="access denied"):
        sealwax.Sealer(keyring([])).encrypt(b"data", context=CONTEXT)
    asked = len(used(lab))
    mine = keyring(tokens)
    if handed == "copied":
        mine = copy.deepcopy(copy.copy(mine))
    if handed == "pickled":
        state = pickle.dumps(sealwax.KmsKeyring([one, other], grant_tokens=tokens))
        mine = pickle.loads(state)
        mine.__setstate__({**mine.__getstate__(), "session": session})
    work(mine, one)
    calls = used(lab)[asked:]
    assert {name for name, _ in calls} == CALLS - ({"Encrypt"} if handed == "replicas" else set())
    assert all("grant" in reason for _, reason in calls), calls


def test_at_most_ten_tokens_and_each_a_token(keys: tuple[str, str, str]) -> None:
    far = keys[2]
    cases: list[tuple[Any, type[Exception], str]] = [
        ([TOKEN] * 11, ValueError, "grant_tokens can hold up to 10 grant tokens, not 11"),
        ([TOKEN, ""], ValueError, "grant token 2 of 2 has 0 characters"),
        ([TOKEN * 400], ValueError, "characters, not 1 to 8192"),
        (TOKEN, TypeError, "grant_tokens must be a sequence of grant tokens, not str"),
        ([TOKEN.encode()], TypeError, "each a str, not bytes"),
        (None, TypeError, "not NoneType"),
    ]
    for tokens, kind, words in cases:
        for make in (
            lambda tokens=tokens: sealwax.KmsKeyring(far, grant_tokens=tokens),
            lambda tokens=tokens: sealwax.MultiRegionKeyring([far], grant_tokens=tokens),
        ):
            with pytest.raises(kind, match=words) as caught:
                make()
            assert TOKEN not in str(caught.value)
    assert len(cases) == 6
    sealwax.KmsKeyring(far, grant_tokens=[TOKEN] * 10)


def test_a_bad_token_is_told_without_it(lab: Lab, keys: tuple[str, str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Also where KMS, or what stands in its place, repeats it."""
    client = lab.session(NEAR).client("kms")
    with caplog.at_level(logging.DEBUG, logger="sealwax"):
        keyring = sealwax.KmsKeyring(keys[0], client=client, grant_tokens=[TOKEN])
        with pytest.raises(AccessDeniedError, match="a grant token is not valid") as caught:
            sealwax.Sealer(keyring).encrypt(b"data", context=CONTEXT)
        assert caught.value.code == "InvalidGrantTokenException"

        def refuse(request: Any, **_: object) -> AWSResponse:
            said = {"__type": "InvalidGrantTokenException", "message": f"no good: {json.loads(request.body)}"}

            class Raw:
                def stream(self, **_: object) -> Iterator[bytes]:
                    yield json.dumps(said).encode()

            return AWSResponse(request.url, 400, {}, Raw())  # type: ignore[arg-type]

        client.meta.events.register_first("before-send.kms", refuse)  # type: ignore[arg-type]
        with pytest.raises(AccessDeniedError, match="no good") as again:
            sealwax.Sealer(keyring).encrypt(b"data", context=CONTEXT)
    sealer = sealwax.Sealer(sealwax.CachingKeyring(keyring, max_age=60))
    seen = [str(caught.value), str(again.value), repr(again.value.__dict__), repr(keyring), repr(sealer), caplog.text]
    assert not [text for text in seen if TOKEN[:8] in text]


# --- a config


class Recording:
    """A session that notes what clients are asked of it."""

    def __init__(self, lab: Lab, region: str | None = None) -> None:
        self._session = lab.session(NEAR)
        self.region_name = region
        self.configs: list[Any] = []

    def client(self, service_name: Any, *, region_name: str | None = None, config: Any = None) -> Any:
        self.configs.append(config)
        return self._session.client(service_name, region_name=region_name, config=config)


@pytest.mark.parametrize(
    ("config", "deadline", "connect", "read"),
    [
        (None, 20, 3, 5),
        (Config(), 20, 3, 5),
        (Config(connect_timeout=1, read_timeout=0.5), 20, 1, 0.5),
        (Config(connect_timeout=60, read_timeout=600), 20, 20, 20),
        (Config(connect_timeout=None, read_timeout=None), 7, 7, 7),
        (Config(read_timeout=30), 60, 3, 30),
        (Config(retries={"mode": "adaptive", "max_attempts": 9}), 20, 3, 5),
    ],
)
def test_a_config_counts_within_the_rules_of_deadline_and_retries(
    lab: Lab, keys: tuple[str, str, str], config: Config | None, deadline: float, connect: float, read: float
) -> None:
    retries = sealwax.RetryPolicy(deadline=deadline)
    session = Recording(lab)
    work(sealwax.KmsKeyring(keys[0], session=session, config=config, retries=retries), keys[0])
    work(sealwax.MultiRegionKeyring([keys[0], keys[2]], session=session, config=config, retries=retries), keys[0])
    assert len(session.configs) == 3
    for found in session.configs:
        assert (found.connect_timeout, found.read_timeout) == (connect, read)
        assert found.retries == {"mode": "standard", "total_max_attempts": 1}


def test_what_else_a_config_says_counts(lab: Lab, keys: tuple[str, str, str]) -> None:
    config = Config(user_agent_extra="payments/7", max_pool_connections=3, proxies={"https": "http://proxy:3128"})
    session = Recording(lab)
    work(sealwax.KmsKeyring(keys[:2], session=session, config=config), keys[0])
    (found,) = session.configs
    assert (found.max_pool_connections, found.proxies) == (3, {"https": "http://proxy:3128"})
    agents = [event.record["userAgent"] for event in lab.trail.events()][-6:]
    assert len([agent for agent in agents if agent.endswith("sealwax payments/7")]) == 6
    assert config.user_agent_extra == "payments/7"  # type: ignore[attr-defined]  # the caller's own is left as it was


def test_the_region_of_a_config_comes_before_the_session_s_and_after_an_arn_s(
    lab: Lab, keys: tuple[str, str, str]
) -> None:
    lab.create_key(alias="payments")
    there = lab.create_key(alias="payments", region=FAR)["Arn"]
    for region in (None, NEAR):
        keyring = sealwax.KmsKeyring("alias/payments", session=Recording(lab, region), config=Config(region_name=FAR))
        sealed = sealwax.Sealer(keyring).encrypt(b"data", context=CONTEXT)
        assert sealwax.inspect(sealed).wrapped_keys[0].key_arn == there
    work(sealwax.KmsKeyring(keys[0], session=lab.session(FAR), config=Config(region_name=FAR)), keys[0])


def test_configs_that_are_refused(lab: Lab, keys: tuple[str, str, str]) -> None:
    key = keys[0]
    client = lab.session(NEAR).client("kms")
    with pytest.raises(ValueError, match="a client or a config, not both"):
        sealwax.KmsKeyring(key, client=client, config=Config())
    for config in ({"read_timeout": 5}, "config", Config):
        with pytest.raises(TypeError, match="config must be a Config, not"):
            sealwax.KmsKeyring(key, config=config)  # type: ignore[arg-type]
    forwarding = Config(proxies_config={"proxy_use_forwarding_for_https": True})
    for make in (sealwax.KmsKeyring, lambda key, config: sealwax.MultiRegionKeyring([key], config=config)):
        with pytest.raises(ValueError, match="lets the proxy read data keys"):
            make(key, config=forwarding)


def test_a_config_travels_but_no_password_in_it(keys: tuple[str, str, str]) -> None:
    for make in (
        lambda config: sealwax.KmsKeyring(keys[0], config=config, grant_tokens=[TOKEN]),
        lambda config: sealwax.MultiRegionKeyring([keys[0]], config=config, grant_tokens=[TOKEN]),
    ):
        there = pickle.loads(pickle.dumps(make(Config(read_timeout=2))))
        state = there.__getstate__()
        assert state["config"].value.read_timeout == 2
        assert list(state["grant_tokens"]) == [TOKEN]
        secret = make(Config(proxies={"https": "http://me:secret@proxy:3128"}))
        with pytest.raises(NotPicklableError, match="a proxy's URL") as caught:
            pickle.dumps(secret)
        assert "secret" not in str(caught.value)
        copy.deepcopy(secret)


# --- asynchronous clients


class Coroutines:
    """Its methods are coroutines."""

    async def generate_data_key(self, **_: object) -> dict[str, Any]:
        return {}

    async def decrypt(self, **_: object) -> dict[str, Any]:
        return {}


class LikeAiobotocore:
    """Its methods hand out what a coroutine returns, as those of aiobotocore and aioboto3 do."""

    def generate_data_key(self, **parameters: object) -> Any:
        return self._make_api_call("GenerateDataKey", parameters)

    decrypt = generate_data_key

    async def _make_api_call(self, name: str, parameters: object) -> dict[str, Any]:
        return {name: parameters}


class Around:
    """Hands calls on to an asynchronous client, and cannot be told from another one before it is asked."""

    class meta:  # noqa: N801  botocore's name
        region_name = NEAR

        class events:  # noqa: N801
            @staticmethod
            def register_first(*_: object, **__: object) -> None:
                pass

    def generate_data_key(self, **parameters: object) -> Any:
        return Coroutines().generate_data_key(**parameters)

    decrypt = generate_data_key


class NotEntered:
    """What ``session.client("kms")`` of aioboto3 returns, before ``async with``."""

    async def __aenter__(self) -> LikeAiobotocore:
        return LikeAiobotocore()

    async def __aexit__(self, *_: object) -> None:
        pass


class AsyncSession:
    region_name: str | None = NEAR

    def client(self, service_name: Any, *, region_name: str | None = None, config: Any = None) -> Any:  # noqa: ARG002
        return NotEntered()


def test_an_asynchronous_client_is_refused_by_name(keys: tuple[str, str, str]) -> None:
    clients = [Coroutines(), LikeAiobotocore(), NotEntered(), AsyncMock()]
    for client in clients:
        name = f"asynchronous \\(.*{type(client).__name__}\\).*boto3, which works for encrypt_async"
        with pytest.raises(TypeError, match=name):
            sealwax.KmsKeyring(keys[0], client=client)  # type: ignore[arg-type]
    assert len(clients) == 4
    for keyring in (
        sealwax.KmsKeyring(keys[0], session=AsyncSession()),
        sealwax.MultiRegionKeyring([keys[0]], session=AsyncSession()),
    ):
        with pytest.raises(TypeError, match=r"asynchronous \(.*NotEntered\)"):
            sealwax.Sealer(keyring).encrypt(b"data", context=CONTEXT)
    with pytest.raises(TypeError, match="generating a data key needs a boto3 client"):
        sealwax.Sealer(sealwax.KmsKeyring(keys[0], client=Around())).encrypt(b"data", context=CONTEXT)  # type: ignore[arg-type]
