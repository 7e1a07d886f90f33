"""Every answer of KMS and STS that the library reads, with each of its fields missing or misshapen: one typed error."""

from __future__ import annotations

import base64
import copy
import json
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import boto3
import pytest
from botocore.config import Config

import sealwax
from sealwax._aws import responses, sts
from sealwax._aws.session import Clients, Session
from sealwax.kms._describe import describe
from sealwax.kms._lifecycle import KeyLife
from sealwax.kms._listing import list_keys
from sealwax.kms._temporary_grant import TemporaryGrant, TemporaryGrants
from sealwax.lab import Lab, Server
from sealwax.lab._gateway import Gateway
from sealwax.lab._wire import HttpRequest, HttpResponse

T = TypeVar("T")

CONTEXT = {"purpose": "backup"}
ROLE = "arn:aws:iam::111122223333:role/reader"
# Instead of a field: nothing at all, and values that cannot be what it should be or, if they can, are not true.
GONE = object()
MISSHAPEN: tuple[Any, ...] = (
    GONE,
    None,
    "",
    "x",
    "\x1b[31m\n",
    "x" * 20_000,
    7,
    -1e300,
    True,
    [],
    ["x"],
    {},
    {"x": "x"},
)


class BrokenProxy:
    """Stands between clients and the lab, and may change what the lab answers.

    Attributes:
        answered: the operations answered and what the lab said, in order.
        change: returns what to send instead of a body.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.answered: list[tuple[str, bytes]] = []
        self.change: Callable[[str, bytes], bytes] = lambda _, body: body
        self.status: int | None = None

    def handle(self, request: HttpRequest) -> HttpResponse:
        response = self._gateway.handle(request)
        action = re.search(rb"Action=(\w+)", bytes(request.body))
        operation = action[1].decode() if action else request.headers["x-amz-target"].rpartition(".")[2]
        body = bytes(response.body)
        self.answered.append((operation, body))
        sent = bytearray(self.change(operation, body))
        headers = {**response.headers, "Content-Length": str(len(sent))}
        return HttpResponse(self.status or response.status, headers, sent)


class OneClient:
    """A session whose clients are made once: making them is most of what these tests would cost."""

    def __init__(self, session: boto3.Session, url: str) -> None:
        self._session = session
        self._url = url
        self._clients: dict[tuple[str, str | None], Any] = {}

    @property
    def region_name(self) -> str | None:
        return self._session.region_name

    def client(self, service_name: Any, *, region_name: str | None = None, config: Config | None = None) -> Any:
        made = self._clients.get((service_name, region_name))
        if made is None:
            made = self._session.client(service_name, region_name=region_name, config=config, endpoint_url=self._url)
            self._clients[service_name, region_name] = made
        return made


@dataclass
class World:
    proxy: BrokenProxy
    session: Session
    key: str
    other: str
    acts: dict[str, Callable[[], object]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        key, other = (lab.create_key(alias=name)["Arn"] for name in ("one", "two"))
        multi = lab.call("CreateKey", MultiRegion=True)["KeyMetadata"]["Arn"]
        lab.call("ReplicateKey", KeyId=multi, ReplicaRegion="eu-west-1")
        replica = multi.replace("us-east-1", "eu-west-1")
        lab.call("CreateAlias", region="eu-west-1", AliasName="alias/copy", TargetKeyId=replica)
        doomed = lab.create_key()["Arn"]
        lab.call("EnableKeyRotation", KeyId=key)
        lab.call("RotateKeyOnDemand", KeyId=key)
        lab.add_principal("reader", role=True)
        user = lab.add_principal(
            "user",
            policy={
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": ["kms:*", "sts:*"], "Resource": "*"}],
            },
        )
        proxy = BrokenProxy(lab._gateway)
        lab._gateway = cast(Gateway, proxy)
        server = Server(lab)
        serving = threading.Thread(target=server.serve)
        serving.start()
        session = OneClient(
            boto3.Session(user["AccessKeyId"], user["SecretAccessKey"], region_name="us-east-1"), server.url
        )
        world = World(proxy, session, key, other)
        world.acts = _acts(world, multi, replica, doomed)
        yield world
        server.close()
        serving.join(10)


def _acts(world: World, multi: str, replica: str, doomed: str) -> dict[str, Callable[[], object]]:
    """Return everything that reads an answer, by what it is."""
    key, other, session = world.key, world.other, world.session
    # A throttled answer would be tried again; nothing here is to wait.
    once = sealwax.RetryPolicy(attempts=1)
    sealer = sealwax.Sealer(sealwax.KmsKeyring(key, session=session, retries=once))
    both = sealwax.Sealer(sealwax.KmsKeyring([key, other], session=session, retries=once))
    regions = sealwax.Sealer(
        sealwax.MultiRegionKeyring(multi, regions=["us-east-1", "eu-west-1"], session=session, retries=once)
    )
    sealed, everywhere = sealer.encrypt(b"value", context=CONTEXT), regions.encrypt(b"value", context=CONTEXT)
    lender = TemporaryGrants(session)
    life, primary, copied = KeyLife(key, session), KeyLife(multi, session), KeyLife(replica, session)
    grant = {"KeyId": key, "GranteePrincipal": ROLE, "Operations": ["Decrypt"]}

    def rotate_replica() -> object:
        with pytest.raises(sealwax.ConfigurationError, match=multi):
            copied.rotate_now()
        return None

    return {
        "encrypting": lambda: sealer.encrypt(b"value", context=CONTEXT),
        "encrypting under two": lambda: both.encrypt(b"value", context=CONTEXT),
        "encrypting in Regions": lambda: regions.encrypt(b"value", context=CONTEXT),
        "decrypting": lambda: sealer.decrypt(sealed, context=CONTEXT),
        "decrypting in Regions": lambda: regions.decrypt(everywhere, context=CONTEXT),
        "re-wrapping": lambda: sealer.rewrap(sealed, to=other, context=CONTEXT),
        "describing": lambda: describe(key, Clients(session)),
        "describing an alias": lambda: describe("alias/one", Clients(session), rotations=False),
        "listing": lambda: list_keys(session, ["eu-west-1"]),
        "opening a key's life": lambda: KeyLife(key, session),
        "opening a primary's life": lambda: KeyLife(multi, session),
        "opening a replica's life": lambda: KeyLife(replica, session),
        "rotations": life.rotations,
        "rotating a replica": rotate_replica,
        "standing": primary.status,
        "rotating every": lambda: life.rotate_every(365),
        "rotating now": lambda: KeyLife(key, session).rotate_now(),
        "disabling": KeyLife(doomed, session).disable,
        "scheduling": lambda: KeyLife(doomed, session).schedule_deletion(7),
        "who am I": lambda: lender.whoami(),
        "granting": lambda: lender.create(grant),
        "ending a grant": lambda: lender.end(TemporaryGrant(key, "0" * 64, "AQpA")),
        "assuming a role": lambda: sts.assume_role(ROLE, session, None),
    }


NAMES = (
    "encrypting",
    "encrypting under two",
    "encrypting in Regions",
    "decrypting",
    "decrypting in Regions",
    "re-wrapping",
    "describing",
    "describing an alias",
    "listing",
    "opening a key's life",
    "opening a primary's life",
    "opening a replica's life",
    "rotations",
    "rotating a replica",
    "standing",
    "rotating every",
    "rotating now",
    "disabling",
    "scheduling",
    "who am I",
    "granting",
    "ending a grant",
    "assuming a role",
)
STS = ("who am I", "assuming a role")
METADATA = ("Arn", "KeyManager", "Origin", "KeyState", "KeySpec")
DESCRIBING = ("describing", "opening a key's life", "opening a primary's life", "opening a replica's life")
# Each answer has at least so many fields that are changed, each in every way.
FEWEST = {"RetireGrant": 0, "EnableKeyRotation": 0, "DisableKey": 0, "GetCallerIdentity": 15, "AssumeRole": 30}


def _fields(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, value in answer.items() if isinstance(answer, dict) else enumerate(answer[:1]):
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from _fields(value, (*path, name))


def _changed(answer: Any, path: tuple[Any, ...], value: Any) -> bytes:
    changed = copy.deepcopy(answer)
    place = changed
    for name in path[:-1]:
        place = place[name]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(changed).encode()


def _xml_changes(body: bytes) -> Iterator[bytes]:
    text = body.decode()
    for name in re.findall(r"<(\w+)>[^<]+</\1>", text):
        whole = re.search(rf"<{name}>[^<]+</{name}>", text)
        assert whole
        for other in ("", f"<{name}/>", f"<{name}><a/></{name}>", f"<{name}>{'x' * 9999}</{name}>", whole[0] * 2):
            yield text.replace(whole[0], other).encode()
    for name in re.findall(r"<(Credentials|\w+Result)>", text):
        yield re.sub(rf"(?s)<{name}>.*</{name}>", "", text).encode()


def _changes(operation: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    if operation in ("GetCallerIdentity", "AssumeRole"):
        yield from ((f"{operation} #{number}", changed) for number, changed in enumerate(_xml_changes(body)))
        return
    answer = json.loads(body)
    for path in _fields(answer):
        for value in MISSHAPEN:
            shown = "gone" if value is GONE else repr(value)[:20]
            yield f"{operation} {path} {shown}", _changed(answer, path, value)


def _secrets(body: bytes) -> list[str]:
    """Return what is secret in an answer, in the forms in which it may show itself."""
    found = re.findall(rb'"Plaintext":\s*"([^"]+)"|<(?:SecretAccessKey|SessionToken)>([^<]+)<', body)
    plain = [one.decode() for pair in found for one in pair if one]
    return plain + [repr(base64.b64decode(one))[2:-1] for one in plain if len(one) == 44]


def _is_told(error: BaseException, secrets: list[str], what: str) -> None:
    assert isinstance(error, sealwax.KmsError | sealwax.DataKeyError), f"{what}: {error!r}"
    shown = str(error)
    assert 40 < len(shown) < 2000, what
    assert shown.isprintable() or isinstance(error, sealwax.AllKeysFailedError), what
    assert "Traceback" not in shown
    everything = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert not [one for one in secrets if one in everything], what


def _with_answer(world: World, operation: str, body: bytes, act: Callable[[], T]) -> T:
    """Do something while the first answer to ``operation`` is replaced."""
    left = [body]
    world.proxy.change = lambda name, real: left.pop() if name == operation and left else real
    world.proxy.answered.clear()
    try:
        return act()
    finally:
        world.proxy.change = lambda _, real: real


def _try(world: World, act: Callable[[], object], operation: str, body: bytes) -> BaseException | None:
    """Return the error of what is done with another answer, if there was one."""
    try:
        repr(_with_answer(world, operation, body, act))
    except Exception as error:
        return error
    return None


def test_the_table_is_whole(world: World) -> None:
    assert tuple(world.acts) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_field_missing_or_misshapen(world: World, name: str) -> None:
    act = world.acts[name]
    world.proxy.answered.clear()
    act()
    for operation, body in dict(reversed(world.proxy.answered)).items():
        if operation == "DescribeKey" and name not in DESCRIBING:
            continue  # all read it in one place, for which these rows stand
        tried = 0
        for what, changed in _changes(operation, body):
            tried += 1
            error = _try(world, act, operation, changed)
            if error is not None:
                _is_told(error, _secrets(body), what)
        assert tried >= FEWEST.get(operation, len(MISSHAPEN)), operation


# What is read of each answer and must be there.
NEEDED = [
    ("encrypting", "GenerateDataKey", ["KeyId", "Plaintext", "CiphertextBlob"]),
    ("encrypting under two", "Encrypt", ["KeyId", "CiphertextBlob"]),
    ("decrypting", "Decrypt", ["KeyId", "Plaintext"]),
    ("re-wrapping", "ReEncrypt", ["KeyId", "SourceKeyId", "CiphertextBlob"]),
    ("describing", "DescribeKey", ["KeyMetadata", "KeyMetadata.Arn"]),
    ("describing", "ListKeyRotations", ["Rotations"]),
    ("opening a key's life", "DescribeKey", ["KeyMetadata", *(f"KeyMetadata.{name}" for name in METADATA)]),
    (
        "opening a replica's life",
        "DescribeKey",
        [
            "KeyMetadata.MultiRegionConfiguration",
            "KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType",
            "KeyMetadata.MultiRegionConfiguration.PrimaryKey.Arn",
        ],
    ),
    ("opening a primary's life", "DescribeKey", ["KeyMetadata.MultiRegionConfiguration.ReplicaKeys"]),
    ("rotations", "ListKeyRotations", ["Rotations"]),
    ("granting", "CreateGrant", ["GrantId", "GrantToken"]),
]


@pytest.mark.parametrize(("name", "operation", "fields"), NEEDED)
def test_what_an_answer_must_have(world: World, name: str, operation: str, fields: list[str]) -> None:
    world.proxy.answered.clear()
    world.acts[name]()
    body = dict(reversed(world.proxy.answered))[operation]
    for dotted in fields:
        path = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
        for value in (GONE, None, 7, True, ["x"], "x" * 20_000):
            error = _try(world, world.acts[name], operation, _changed(json.loads(body), path, value))
            # Another key's ARN, or a data key of another size, is told as that.
            told = sealwax.RequestRefusedError | sealwax.WrongKeyError | sealwax.DataKeyError
            assert isinstance(error, told), f"{dotted}: {error!r}"


def test_rotations_must_say_whether_and_when(world: World) -> None:
    for name, operation, path in (
        ("rotations", "GetKeyRotationStatus", ("KeyRotationEnabled",)),
        ("describing", "ListKeyRotations", ("Rotations", 0, "RotationDate")),
    ):
        world.proxy.answered.clear()
        world.acts[name]()
        body = json.loads(dict(world.proxy.answered)[operation])
        for value in (GONE, None, "x", ["x"], {}):
            error = _try(world, world.acts[name], operation, _changed(body, path, value))
            assert isinstance(error, sealwax.RequestRefusedError), f"{operation} {value!r}: {error!r}"


def test_sts_must_say_what_it_was_asked_for(world: World) -> None:
    for name, operation, fields in (
        ("who am I", "GetCallerIdentity", ["Arn"]),
        ("assuming a role", "AssumeRole", ["Credentials", "AccessKeyId", "SecretAccessKey", "SessionToken"]),
    ):
        world.proxy.answered.clear()
        world.acts[name]()
        text = dict(world.proxy.answered)[operation].decode()
        for one in fields:
            lacking, count = re.subn(rf"(?s)<{one}>.*?</{one}>", "", text)
            assert count == 1
            error = _try(world, world.acts[name], operation, lacking.encode())
            assert isinstance(error, sealwax.RequestRefusedError), one
            assert f"the answer has no {one}" in str(error)


def test_a_list_that_misses_something_is_not_passed_over(world: World) -> None:
    """What cannot be seen of the keys is told with the keys that can."""
    world.proxy.answered.clear()
    assert not list_keys(world.session, ["eu-west-1"]).unseen
    answered = dict(world.proxy.answered)
    for operation, path in (
        ("ListKeys", ("Keys", 0, "KeyArn")),
        ("ListAliases", ("Aliases", 0, "AliasName")),
        ("DescribeKey", ("KeyMetadata", "KeyState")),
        ("GetKeyRotationStatus", ("KeyRotationEnabled",)),
        ("GetKeyLastUsage", ("KeyLastUsage",)),
    ):
        changed = _changed(json.loads(answered[operation]), path, 7)
        (unseen,) = _with_answer(world, operation, changed, lambda: list_keys(world.session, ["eu-west-1"])).unseen
        assert unseen.action == f"kms:{operation}"
        assert isinstance(unseen.error, sealwax.RequestRefusedError)


# What a proxy says in KMS's place, or makes of an answer.
BODIES = {
    "HTML": b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>",
    "nothing": b"",
    "truncated": None,
    "null": b"null",
    "a list": b"[]",
    "a number": b"1e400",
    "deep": b"[" * 50_000,
    "no text": b"\xff\xfe\x00",
    "zeros": bytes(300),
    "more than any answer": b'{"KeyId": "' + b"x" * 200_000 + b'"}',
    "an error without words": b'{"__type": []}',
    "an error of another kind": b'{"__type": {"x": 1}, "message": [1]}',
}


@pytest.mark.parametrize("status", [200, 400, 502])
@pytest.mark.parametrize("kind", BODIES)
def test_an_answer_that_is_none(world: World, kind: str, status: int) -> None:
    told = 0
    for name in ("encrypting", "decrypting", "re-wrapping", "describing", "rotations", "granting", *STS):
        world.proxy.answered.clear()
        world.acts[name]()
        operation, body = world.proxy.answered[0]
        given = BODIES[kind]
        world.proxy.status = status
        try:
            error = _try(world, world.acts[name], operation, body[: len(body) // 2] if given is None else given)
        finally:
            world.proxy.status = None
        assert error is not None, name
        _is_told(error, _secrets(body), name)
        told += 1
    assert told == 8


def test_pages_that_turn_in_a_circle(world: World) -> None:
    def again(operation: str, real: bytes) -> bytes:
        answer = json.loads(real) | {"Truncated": True, "NextMarker": "again"}
        return json.dumps(answer).encode() if operation == "ListKeyRotations" else real

    world.proxy.change = again
    try:
        with pytest.raises(sealwax.KmsError) as caught:
            world.acts["describing"]()
    finally:
        world.proxy.change = lambda _, real: real
    _is_told(caught.value, [], "pages")


def test_nothing_of_an_answer_hangs_on_the_error(world: World) -> None:
    """botocore's error carries the whole answer along, so it must not be what ours leads back to."""
    error = _try(world, world.acts["describing"], "DescribeKey", b'{"__type": "NotFoundException", "message": "no"}')
    world.proxy.status = 400
    try:
        error = _try(world, world.acts["describing"], "DescribeKey", b'{"__type": "NotFoundException"}')
    finally:
        world.proxy.status = None
    assert isinstance(error, sealwax.KeyNotFoundError)
    assert error.__context__ is None
    assert error.__cause__ is None


def test_the_kinds_of_an_answers_fields() -> None:
    answer = responses.Answer({"text": "x", "flag": True, "when": datetime.now(UTC)}, "asking", None)
    assert answer.need("text", str) == "x"
    assert answer.optional("none", str) is None
    assert repr(answer) == "<Answer to asking>"
    for name, kind in (("text", int), ("flag", int), ("flag", str), ("when", str)):
        with pytest.raises(sealwax.RequestRefusedError, match="asking failed"):
            answer.optional(name, kind)
