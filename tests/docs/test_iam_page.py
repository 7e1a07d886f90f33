"""docs/reference/iam.md says what each call really asks of KMS; the policies on the pages allow that and no more."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import sealwax
from sealwax import fleet
from sealwax._core.rewrap import replace_file, rewrap_value
from sealwax.cli import run
from sealwax.fleet import aws_lambda
from sealwax.lab import Lab
from sealwax.policy import Request, evaluate, parse_identity_policy, parse_key_policy, principal
from sealwax.records import MemoryKeys, Records
from tests.docs.blocks import ROOT, blocks_of
from tests.foreign import objects, scripts
from tests.foreign.objects import C, World
from tests.s3 import Request as S3Request

# One operation may need two permissions.
ACTIONS: Final = {
    "GenerateDataKey": ["kms:GenerateDataKey"],
    "Encrypt": ["kms:Encrypt"],
    "Decrypt": ["kms:Decrypt"],
    "ReEncrypt": ["kms:ReEncryptFrom", "kms:ReEncryptTo"],
    "DescribeKey": ["kms:DescribeKey"],
    "ListKeyRotations": ["kms:ListKeyRotations"],
}
CONTEXT: Final = {"purpose": "backup"}


class Recording:
    """A session whose KMS clients write down the operations that are asked of them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._session = lab.session()
        self.operations: list[str] = []

    @property
    def region_name(self) -> str | None:
        return self._session.region_name

    def client(self, service_name: Any, **options: Any) -> Any:
        client = self._session.client(service_name, **options)
        client.meta.events.register("before-call.kms", self._record)
        return client

    def _record(self, model: Any, **_: Any) -> None:
        self.operations.append(model.name)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Recording]:
    with Lab(tmp_path / "lab") as lab:
        for alias in ("one", "two", "three"):
            lab.create_key(alias=alias)
        yield Recording(lab)


def rows() -> dict[str, tuple[set[str], set[str]]]:
    """Return, for each row, the calls it is about and the actions it names."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    text = (ROOT / "docs/reference/iam.md").read_text(encoding="utf-8").partition("For [records]")[0]
    for calls, _, actions in re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE):
        found[calls] = (set(re.findall(r"`(.*?)`", calls)), set(re.findall(r"kms:\w+", actions)))
    return found


def named(call: str) -> set[str]:
    """Return the actions that the page names for a call. Opening is in two rows: for writing and for reading."""
    method, _, way = call.partition(" for ")
    found = [actions for calls, actions in rows().values() if method in calls]
    if way:
        assert len(found) == 2
        return found[way == "reading"]
    (actions,) = found
    return actions


def test_each_call_asks_for_what_the_page_says(session: Recording, tmp_path: Path) -> None:
    both = sealwax.Sealer(sealwax.KmsKeyring(["alias/one", "alias/two"], session=session))
    path = tmp_path / "a.swx"
    sealed = both.encrypt(b"data", context=CONTEXT)
    header, body = both.encrypt_detached(b"data", context=CONTEXT)

    def write() -> None:
        with both.open(path, "wb", context=CONTEXT) as file:
            file.write(b"data")

    def read() -> None:
        with both.open(path, context=CONTEXT) as file:
            file.read()

    def open_stream() -> None:
        with both.open_stream(path, context=CONTEXT) as file:
            file.read()

    async def write_async() -> None:
        async with both.open_async(path, "wb", context=CONTEXT) as file:
            await file.write(b"data")

    async def read_async() -> None:
        async with both.open_async(path, context=CONTEXT) as file:
            await file.read()

    write()
    calls: list[tuple[str, Callable[[], object]]] = [
        ("Sealer.encrypt", lambda: both.encrypt(b"data", context=CONTEXT)),
        ("Sealer.encrypt_detached", lambda: both.encrypt_detached(b"data", context=CONTEXT)),
        ("Sealer.encrypt_async", lambda: asyncio.run(both.encrypt_async(b"data", context=CONTEXT))),
        ("Sealer.encrypt_many", lambda: list(both.encrypt_many([(b"data", CONTEXT)]))),
        ("Sealer.open for writing", write),
        ("Sealer.open_async for writing", lambda: asyncio.run(write_async())),
        ("Sealer.open for reading", read),
        ("Sealer.open_async for reading", lambda: asyncio.run(read_async())),
        ("Sealer.decrypt", lambda: both.decrypt(sealed, context=CONTEXT)),
        ("Sealer.decrypt", lambda: both.decrypt(body, context=CONTEXT, header=header)),
        ("Sealer.decrypt_async", lambda: asyncio.run(both.decrypt_async(sealed, context=CONTEXT))),
        ("Sealer.decrypt_many", lambda: list(both.decrypt_many([(sealed, CONTEXT)]))),
        ("Sealer.open_stream", open_stream),
        ("Sealer.verify", lambda: both.verify(path, context=CONTEXT)),
        ("Sealer.rewrap", lambda: both.rewrap(sealed, to="alias/three", context=CONTEXT)),
        ("Sealer.rewrap(verify=True)", lambda: both.rewrap(sealed, to="alias/three", context=CONTEXT, verify=True)),
        (
            "Sealer.rewrapper",
            lambda: rewrap_value(sealed, both.rewrapper(to="alias/three", context=CONTEXT)),
        ),
        ("Sealer.reencrypt", lambda: both.reencrypt(sealed, context=CONTEXT)),
        (
            "Sealer.reencryptor",
            lambda: replace_file(path, both.reencryptor(lambda _: CONTEXT)),
        ),
        ("Sealer.witness", lambda: both.witness(io.BytesIO(sealed), lambda _: CONTEXT)),
        ("Sealer.stats", both.stats),
        ("sealwax.inspect", lambda: sealwax.inspect(path)),
        ("sealwax.armor", lambda: sealwax.armor(sealed)),
        ("sealwax.dearmor", lambda: sealwax.dearmor(sealwax.armor(sealed))),
    ]
    for name, call in calls:
        session.operations.clear()
        call()
        asked = {action for operation in session.operations for action in ACTIONS[operation]}
        if name == "Sealer.rewrap(verify=True)":
            # The row names what it adds to the one above it.
            assert asked == named(name) | named("Sealer.rewrap")
        else:
            assert asked == named(name), name
    run = {name.partition(" for ")[0] for name, _ in calls}
    assert run == {call for calls_of_row, _ in rows().values() for call in calls_of_row}


def test_each_call_of_records_asks_for_what_the_page_says(session: Recording) -> None:
    text = (ROOT / "docs/reference/iam.md").read_text(encoding="utf-8")
    table = text.partition("| Call of `Records` ")[2].partition("\n\n")[0]
    page = {
        name: set(re.findall(r"kms:\w+", actions))
        for calls, actions in re.findall(r"^\| (`.*?) \| (.*?) \|$", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", calls)
    }
    assert page.pop("seal") == page.pop("open") == set()  # of the last row; the first one names them too
    asked: dict[str, set[str]] = {name: set() for name in page}
    store = MemoryKeys()
    keyring = sealwax.KmsKeyring(["alias/one", "alias/two"], session=session)
    with Records(keyring, store, scope={"app": "shop"}) as records:
        card = records.field("users.card", row=int)

        def again(call: Callable[[], object]) -> Callable[[], object]:
            def forgotten() -> None:
                records.clear()
                call()

            return forgotten

        def remove() -> None:
            with pytest.raises(ValueError, match="works"):
                records.remove(next(store.list()))

        calls: list[tuple[str, Callable[[], object]]] = [
            ("ensure", records.ensure),
            ("ensure", again(records.ensure)),
            ("ensure_async", lambda: asyncio.run(records.ensure_async(tenant="a"))),
            ("ensure_async", again(lambda: asyncio.run(records.ensure_async(tenant="a")))),
            ("preload", again(lambda: asyncio.run(records.preload([card.seal(b"x", row=1)])))),
            ("roll", records.roll),
            ("remove", remove),
            ("retire", lambda: records.retire(1)),
            ("repair", records.repair),
            ("accept", records.accept),
            ("rows", records.rows),
            ("stats", records.stats),
            ("shred", records.shred),
            ("reopen", records.reopen),
        ]
        for name, call in calls:
            session.operations.clear()
            call()
            asked[name] |= {action for operation in session.operations for action in ACTIONS[operation]}
    # What it needs for a new scope was asked for by ensure.
    asked["preload"] |= page["preload"] & {"kms:GenerateDataKey", "kms:Encrypt"}
    assert asked == page


def rows_of_fleet() -> dict[str, set[str]]:
    """Return, for each call of a fleet, the actions that the page names."""
    text = (ROOT / "docs/reference/iam.md").read_text(encoding="utf-8")
    table = text.partition("| Call of `sealwax.fleet` ")[2].partition("\n\n")[0]
    found = re.findall(r"^\| ([a-z].*?) \| .*? \| (.*?) \|$", table, re.MULTILINE)
    return {name: set(re.findall(r"kms:\w+", actions)) for name, actions in found}


class Invocation:
    """An invocation of a Lambda function that has time."""

    function_name = "rotation"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def test_each_call_of_a_fleet_asks_for_what_the_page_says(session: Recording, tmp_path: Path) -> None:
    page = rows_of_fleet()
    one = sealwax.Sealer(sealwax.KmsKeyring("alias/one", session=session))
    place, plan = tmp_path / "a.swx", tmp_path / "plan"
    place.write_bytes(one.encrypt(b"data", context=CONTEXT))
    far = session.lab.create_key(region="eu-west-1")["Arn"]
    move = fleet.Move(allow_legacy=["envkms01"])

    def rotate() -> None:
        environment = {
            "SEALWAX_LOCATIONS": str(place),
            "SEALWAX_FROM": "alias/two",
            "SEALWAX_TO": "alias/one",
            "SEALWAX_CONTEXT": json.dumps(CONTEXT),
        }
        event = {"source": "aws.kms", "detail-type": "KMS CMK Rotation"}
        aws_lambda.rotate(event, Invocation(), environment, folder=tmp_path / "lambda", session=session)

    def make(*to: str, **more: Any) -> None:
        contexts = fleet.Contexts(tuple(CONTEXT.items()))
        options: dict[str, Any] = {"contexts": contexts, "session": session, "overwrite": True}
        fleet.plan(plan, [str(tmp_path)], sources=["alias/one", "alias/two", "alias/three"], to=to, **options | more)

    calls: list[tuple[str, Callable[[], object]]] = [
        ("plan", lambda: make("alias/two")),
        ("run", lambda: fleet.run(plan, session=session)),
        ("verify", lambda: fleet.verify(plan, session=session)),
        ("verify with decrypt", lambda: fleet.verify(plan, session=session, decrypt=1)),
        ("refresh", lambda: fleet.refresh(plan, session=session)),
        ("status", lambda: fleet.status(plan)),
        ("problems", lambda: fleet.problems(plan)),
        ("aws_lambda.handler", rotate),
        ("", lambda: make("alias/three", far, add_regions=True)),
        ("run, with Regions added", lambda: fleet.run(plan, session=session)),
        ("", lambda: make("alias/two", far, reencrypt=True)),
        ("run, re-encrypting", lambda: fleet.run(plan, session=session)),
        ("verify of what was re-encrypted", lambda: fleet.verify(plan, session=session)),
        ("", lambda: place.write_bytes(scripts.envkms(session.lab, "alias/one", b"data", CONTEXT))),
        ("", lambda: make("alias/two", "alias/three", also=["envkms01"], move=move)),
        ("run, moving", lambda: fleet.run(plan, session=session)),
        ("verify of what was moved", lambda: fleet.verify(plan, session=session)),
    ]
    for name, call in calls:
        session.operations.clear()
        call()
        asked = {action for operation in session.operations for action in ACTIONS[operation]}
        if name == "run, with Regions added":
            # The row names what it adds to the one above it.
            assert asked == page.pop(name) | {"kms:ReEncryptFrom", "kms:ReEncryptTo"}
        elif name in ("status", "problems"):
            assert asked == page["status, problems"]
        elif name:
            assert asked == page.pop(name), name
    # tests/spark looks at those of Spark.
    assert page.keys() == {"status, problems", "spark.scan", "spark.rewrap"}


KEYS_ON_THE_PAGE: Final = {
    "": "",
    "the key": "old",
    "the old key": "old",
    "the new key": "new",
    "a key of `-k`": "old",
    "the first key of `-k`": "old",
    "a key of `--to`": "new",
    "the first key of `--to`": "new",
    "each additional one": "further",
}
Pairs = set[tuple[str, str]]


def rows_of_commands() -> dict[str, tuple[Pairs, set[str]]]:
    """Return, for each command, the KMS actions that the page names, each with a key, and those of S3."""
    text = (ROOT / "docs/reference/iam.md").read_text(encoding="utf-8")
    table = text.partition("| Command | Actions of KMS ")[2].partition("\n\n")[0]
    found: dict[str, tuple[Pairs, set[str]]] = {}
    for command, kms, s3 in re.findall(r"^\| `(.*?)`.*? \| (.*?) \| (.*?) \|$", table, re.MULTILINE):
        # "the same" is what the command has without its last option.
        above = found.get(command.rpartition(" --")[0], (set(), set()))
        pairs = re.findall(r"(kms:\w+)(?: on ([^;]+))?", kms)
        of_kms = {(action, KEYS_ON_THE_PAGE[key]) for action, key in pairs}
        of_s3 = set(re.findall(r"s3:\w+", s3))
        found[command] = (
            of_kms | (above[0] if kms.startswith("the same") else set()),
            of_s3 | (above[1] if s3.startswith("the same") else set()),
        )
    return found


def kms_actions(record: dict[str, Any], keys: dict[str, str]) -> Pairs:
    """Return the actions that a call of KMS needs, each with the key that it is on."""
    given = record.get("requestParameters") or {}
    if record["eventName"] == "ReEncrypt":
        return {("kms:ReEncryptFrom", keys[given["sourceKeyId"]]), ("kms:ReEncryptTo", keys[given["destinationKeyId"]])}
    on = "" if record["eventName"] == "ListAliases" else keys[given["keyId"]]
    return {(f"kms:{record['eventName']}", on)}


def s3_actions(request: S3Request) -> set[str]:
    """Return the actions that a request to S3 needs."""
    read = "Version" if "versionId" in request.query else ""
    source = "Version" if "versionId=" in request.headers.get("x-amz-copy-source", "") else ""
    return {
        "ListObjectsV2": {"s3:ListBucket"},
        "ListObjectVersions": {"s3:ListBucketVersions"},
        "GetObject": {f"s3:GetObject{read}"},
        # Without s3:ListBucket, S3 answers "denied" for what is not there.
        "HeadObject": {"s3:ListBucket" if request.status == 404 else f"s3:GetObject{read}"},
        "PutObject": {"s3:PutObject"},
        "PutObjectCopy": {
            "s3:PutObject",
            "s3:PutObjectTagging",
            f"s3:GetObject{source}",
            f"s3:GetObject{source}Tagging",
        },
        "GetObjectTagging": {f"s3:GetObject{read}Tagging"},
        # With If-Match, S3 wants s3:GetObject as well.
        "DeleteObject": {"s3:DeleteObject", "s3:GetObject"},
        "GetBucketOwnershipControls": {"s3:GetBucketOwnershipControls"},
        "GetObjectAcl": {"s3:GetObjectAcl"},
    }[request.operation]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    with objects.opened(tmp_path) as world:
        for name, value in world.server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SEALWAX_LAB", str(world.lab.path))
        yield world


def test_each_command_asks_for_what_the_page_says(world: World) -> None:
    keys = {"alias/old": "old", world.old: "old", "alias/new": "new", world.new: "new"}
    keys["alias/further"] = keys[world.lab.create_key(alias="further")["Arn"]] = "further"
    to = ("-k", "alias/old", "--to", "alias/new", *C)
    migrate = ("migrate", *to, "--to", "alias/further", "s3://bucket/x")
    encrypt = ("encrypt", "--as", "esdk", "-k", "alias/old", "-k", "alias/further", *C, "-o", "s3://bucket/m", "file")
    rewrap = ("rewrap", *to, "s3://bucket/x")
    retire = ("keys", "retire", "alias/old", "--scan", "s3://bucket/")
    # Before which of them a new object is put there.
    commands: list[tuple[bool, str, tuple[str, ...]]] = [
        (False, "sealwax encrypt --as esdk", encrypt),
        (True, "sealwax migrate", migrate),
        (False, "sealwax migrate --remove", (*migrate, "--remove")),
        (True, "sealwax rewrap", rewrap),
        (False, "sealwax rewrap", rewrap),
        (True, "sealwax rewrap --verify", (*rewrap, "--verify")),
        (True, "sealwax keys retire", retire),
        (False, "sealwax keys retire --ask-kms", (*retire, "--ask-kms")),
        (False, "sealwax keys retire --versions", (*retire, "--versions")),
    ]
    Path("file").write_bytes(b"data")
    page = rows_of_commands()
    asked: dict[str, tuple[Pairs, set[str]]] = {name: (set(), set()) for _, name, _ in commands}
    for versioned in (False, True):
        world.begin(versioned=versioned)
        for is_new, name, command in commands:
            if is_new:
                world.put("x", b"data")
            world.server.forget()
            before = len(world.calls())
            assert run([*command]) == (3 if "retire" in name else 0), name
            for event in list(world.lab.trail.events())[before:]:
                asked[name][0].update(kms_actions(dict(event.record), keys))
            for request in world.server.requests:
                asked[name][1].update(s3_actions(request))
    assert asked == page


def test_the_page_has_a_row_for_every_method() -> None:
    methods = {f"Sealer.{name}" for name in vars(sealwax.Sealer) if not name.startswith("_")}
    assert {call for calls, _ in rows().values() for call in calls if call.startswith("Sealer.")} == methods | {
        "Sealer.rewrap(verify=True)"
    }


ACCOUNT: Final = "111122223333"
OLD: Final = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
NEW: Final = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/5678abcd-12ab-34cd-56ef-1234567890ab"
DEFAULT_KEY_POLICY: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ],
}


def allowed(policy: str, action: str, key: str, context: dict[str, str]) -> bool:
    page = ROOT / "docs/reference/iam.md"
    documents = [json.loads(block.text) for block in blocks_of(page) if block.language == "json"]
    document = dict(zip(("one purpose", "move"), documents, strict=True))[policy]
    request = Request(
        action,
        principal(f"arn:aws:iam::{ACCOUNT}:role/backup"),
        key,
        datetime(2027, 1, 1, tzinfo=UTC),
        encryption_context=context,
    )
    return evaluate(
        request,
        key_policy=parse_key_policy(json.dumps(DEFAULT_KEY_POLICY)),
        identity_policies=[parse_identity_policy(json.dumps(document))],
    ).allowed


@pytest.mark.parametrize(
    ("policy", "action", "key", "context", "expected"),
    [
        ("one purpose", "kms:GenerateDataKey", OLD, CONTEXT, True),
        ("one purpose", "kms:Decrypt", OLD, CONTEXT, True),
        ("one purpose", "kms:Decrypt", OLD, {**CONTEXT, "id": "7"}, True),
        ("one purpose", "kms:Decrypt", OLD, {"purpose": "other"}, False),
        ("one purpose", "kms:Decrypt", OLD, {}, False),
        ("one purpose", "kms:Decrypt", NEW, CONTEXT, False),
        ("one purpose", "kms:ReEncryptFrom", OLD, CONTEXT, False),
        ("one purpose", "kms:Encrypt", OLD, CONTEXT, False),
        ("move", "kms:ReEncryptFrom", OLD, CONTEXT, True),
        ("move", "kms:ReEncryptTo", NEW, CONTEXT, True),
        ("move", "kms:ReEncryptTo", OLD, CONTEXT, False),
        ("move", "kms:ReEncryptFrom", NEW, CONTEXT, False),
        ("move", "kms:Decrypt", OLD, CONTEXT, False),
    ],
)
def test_the_policies_on_the_page_allow_what_they_should(
    policy: str, action: str, key: str, context: dict[str, str], expected: bool
) -> None:
    assert allowed(policy, action, key, context) is expected
