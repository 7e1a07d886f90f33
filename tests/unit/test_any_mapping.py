"""A context may be any Mapping: what KMS is sent is a dict that was made of it when it was given."""

from __future__ import annotations

import asyncio
import io
import pickle
from collections import ChainMap, OrderedDict, UserDict, UserList
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

import sealwax
from sealwax import fleet, policy
from sealwax._core.keyring import DataKey
from sealwax.errors import PolicyError
from sealwax.lab import Lab

PAIRS: Final = {"purpose": "backup", "tenant": "acme"}


class Own(Mapping[str, str]):
    """The least that a Mapping has."""

    def __getitem__(self, name: str) -> str:
        return PAIRS[name]

    def __iter__(self) -> Iterator[str]:
        return iter(PAIRS)

    def __len__(self) -> int:
        return len(PAIRS)


KINDS: Final[dict[str, Callable[[], Mapping[str, str]]]] = {
    "proxy": lambda: MappingProxyType(PAIRS),
    "chain": lambda: ChainMap({"purpose": "backup"}, {"tenant": "acme", "purpose": "hidden"}),
    "user": lambda: UserDict(PAIRS),
    "own": Own,
    "ordered": lambda: OrderedDict(PAIRS),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("kms") / "lab") as lab:
        lab.create_key(alias="old")
        lab.create_key(alias="new")
        yield lab


@pytest.mark.parametrize("local", [(), ("tenant",)], ids=["stored", "local"])
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_of_a_sealer_takes_it(lab: Lab, tmp_path: Path, kind: str, cached: bool, local: list[str]) -> None:
    keyring: sealwax.KmsKeyring | sealwax.CachingKeyring
    keyring = sealwax.KmsKeyring("alias/old", session=lab.session())
    if cached:
        keyring = sealwax.CachingKeyring(keyring, max_age=60)
    sealer = sealwax.Sealer(keyring, local_context=local)
    new = sealwax.Sealer(sealwax.KmsKeyring("alias/new", session=lab.session()), local_context=local)
    context = KINDS[kind]()
    sealed = sealer.encrypt(b"value", context=context)
    assert sealer.decrypt(sealed, context=PAIRS) == b"value"
    assert sealer.decrypt(sealed, context=context) == b"value"
    accepted = sealwax.AcceptStoredContext({name: context[name] for name in local})
    assert sealer.decrypt(sealed, context=accepted) == b"value"
    assert sealer.decrypt(sealed, context=sealwax.AcceptStoredContext(context)) == b"value"
    head, body = sealer.encrypt_detached(b"value", context=context)
    assert sealer.decrypt(body, context=context, header=head) == b"value"
    path = tmp_path / "a.swx"
    with sealer.open(path, "xb", context=context) as writer:
        writer.write(b"file")
    with sealer.open(path, context=context) as reader:
        assert reader.read() == b"file"
    with sealer.open_stream(io.BytesIO(sealed), context=context) as stream:
        assert stream.read() == b"value"
    sealer.verify(path, context=context)
    envelopes = list(sealer.encrypt_many([(b"a", context), (b"b", context)]))
    again = [(one, context) for one in envelopes]
    assert list(sealer.decrypt_many(again)) == [b"a", b"b"]

    async def both() -> bytes:
        return await sealer.decrypt_async(await sealer.encrypt_async(b"value", context=context), context=context)

    assert asyncio.run(both()) == b"value"
    sealer.rewrap(path, to="alias/new", context=context)
    new.verify(path, context=context)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_every_call_of_a_keyring_takes_it(lab: Lab, kind: str, cached: bool) -> None:
    keyring: sealwax.KmsKeyring | sealwax.CachingKeyring
    plain = sealwax.KmsKeyring(["alias/old", "alias/new"], session=lab.session())
    keyring = sealwax.CachingKeyring(plain, max_age=60) if cached else plain
    context = KINDS[kind]()
    secret, keys = keyring.generate(context, lambda key, keys: (bytes(key.buffer), keys), plaintext_bytes=1)

    def same(key: DataKey) -> bool:
        return bytes(key.buffer) == secret

    assert keyring.unwrap(keys, context, same)
    assert keyring.unwrap(keyring.rewrap(keys, context, ["alias/old"]), PAIRS, same)
    wrapped = plain.generate(context, lambda key, _: plain.wrap(key, context), plaintext_bytes=1)
    assert plain.unwrap([wrapped], PAIRS, lambda _: True)


def test_what_is_wrong_is_still_refused(lab: Lab) -> None:
    sealer = sealwax.Sealer(sealwax.KmsKeyring("alias/old", session=lab.session()))
    nothing: dict[str, str] = {}
    for empty in (MappingProxyType(nothing), ChainMap(nothing), UserDict(nothing)):
        with pytest.raises(sealwax.ContextError, match="NO_CONTEXT"):
            sealer.encrypt(b"value", context=empty)
    wrong = ChainMap({"purpose": "another"}, dict(PAIRS))
    with pytest.raises(sealwax.ContextError, match="a different value of 'purpose'"):
        sealer.decrypt(sealer.encrypt(b"value", context=PAIRS), context=wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fleet_takes_contexts_as_any_mapping(kind: str) -> None:
    meant = fleet.Contexts(KINDS[kind]())
    assert meant == fleet.Contexts(tuple(KINDS[kind]().items()))
    assert meant == fleet.Contexts([list(pair) for pair in KINDS[kind]().items()])  # type: ignore[misc]
    assert meant == fleet.Contexts(pair for pair in KINDS[kind]().items())
    for _ in range(2):  # what is gone through once is kept
        assert meant.refusal(PAIRS, "a.swx") is None
    assert meant.refusal({"purpose": "other", "tenant": "acme"}, "a.swx") is not None
    assert pickle.loads(pickle.dumps(meant)) == meant


@pytest.mark.parametrize("wrong", ["ab", b"ab", 5, ["ab"], [("a", 5)], [("a",)], [("a", "b", "c")], {"a": 5}, {5: "a"}])
def test_a_fleet_refuses_what_are_no_contexts(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"pairs must be a"):
        fleet.Contexts(wrong)
    with pytest.raises(TypeError, match="contexts must be a Contexts"):
        fleet.plan(tmp_path / "plan", [str(tmp_path)], sources=["a"], to=["b"], contexts=wrong)
    with pytest.raises(TypeError, match="locations must be a sequence of names"):
        fleet.plan(tmp_path / "plan", str(tmp_path), sources=["a"], to=["b"], contexts=fleet.Contexts())
    with pytest.raises(ValueError, match="two patterns for 'a'"):
        fleet.Contexts((("a", "b"), ("a", "c")))


def test_a_policy_is_any_mapping_of_any_mappings(lab: Lab) -> None:
    statement = {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:Encrypt"], "Resource": "*"}
    plain = policy.parse_identity_policy({"Version": "2012-10-17", "Statement": [statement]})
    for mapping in (MappingProxyType, UserDict, ChainMap, OrderedDict):
        inner = mapping(statement | {"Action": UserList(statement["Action"])})
        whole = mapping({"Version": "2012-10-17", "Statement": UserList([inner])})
        assert policy.parse_identity_policy(whole) == plain
        assert lab.add_principal(mapping.__name__, policy=whole)["Arn"].endswith(mapping.__name__)
    for wrong in ({"Version": b"2012-10-17"}, {"Statement": {"a"}}, {"Statement": object()}):
        with pytest.raises(PolicyError, match="holds values that JSON cannot represent"):
            lab.add_principal("wrong", policy=wrong)
