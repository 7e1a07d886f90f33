"""What is written works in the lab for exactly the named actions, in the named context and for nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import botocore.exceptions
import pytest

from sealwax.errors import PolicyError
from sealwax.lab import Lab
from sealwax.policy import (
    Document,
    KeyUsers,
    RequiredContext,
    _generate,
    allow_audit,
    allow_decrypt,
    allow_encrypt,
    allow_rotate,
    grant_request,
    parse_identity_policy,
    parse_key_policy,
    principal,
    write_identity_policy,
    write_key_policy,
)
from sealwax.policy._expiry import due_name, due_of
from sealwax.policy._explain import KeyDescription, explain
from sealwax.policy._operations import ON_KEY

ACCOUNT: Final = "arn:aws:iam::111122223333"
CONTEXT: Final = {"purpose": "backup", "id": "7"}
BOUND: Final = RequiredContext({"purpose": "backup"}, ("id",))
OTHERS: Final[list[Mapping[str, str]]] = [
    {},
    {"purpose": "backup"},
    {"id": "7"},
    {"purpose": "Backup", "id": "7"},
    {"purpose": "backup2", "id": "7"},
]
ROLES: Final = ("admin", "encrypter", "decrypter", "mover", "receiver", "granter", "stranger")

ENCRYPT: Final = {"GenerateDataKey", "Encrypt"}


@dataclass
class Place:
    """A lab with two keys and a principal for each role; ``blob`` is under the first, in a context."""

    lab: Lab
    old: str
    new: str
    blobs: dict[str, bytes]
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, who: str) -> Any:
        if who not in self.clients:
            self.clients[who] = self.lab.session(principal=who).client("kms")
        return self.clients[who]

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        root = self.lab.session(account="111122223333").client("kms")
        root.put_key_policy(KeyId=key, Policy=json.dumps(document))


def _place(path: Path, policies: Mapping[str, Callable[[str, str], Mapping[str, Any]] | None]) -> Place:
    lab = Lab(path / "lab")
    old, new = (lab.create_key(alias=name)["Arn"] for name in ("old", "new"))
    root = lab.session(account="111122223333").client("kms")
    blobs = {
        json.dumps(context): root.encrypt(KeyId=old, Plaintext=b"k" * 32, EncryptionContext=context)["CiphertextBlob"]
        for context in (CONTEXT, *OTHERS)
    }
    for name, policy in policies.items():
        lab.add_principal(name, policy=None if policy is None else policy(old, new))
    return Place(lab, old, new, blobs)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """No principal has an identity policy."""
    place = _place(tmp_path, dict.fromkeys(ROLES))
    yield place
    place.lab.close()


def _calls(place: Place, context: Mapping[str, str]) -> dict[str, Callable[[Any], object]]:
    blob = place.blobs[json.dumps(context)]
    old, new, pairs = place.old, place.new, dict(context)

    def re_encrypt(source: str, target: str) -> Callable[[Any], object]:
        return lambda kms: kms.re_encrypt(
            CiphertextBlob=blob,
            SourceKeyId=source,
            DestinationKeyId=target,
            SourceEncryptionContext=pairs,
            DestinationEncryptionContext=pairs,
        )

    def create_grant(*operations: str) -> Callable[[Any], object]:
        constraint = {"Constraints": {"EncryptionContextSubset": pairs}} if pairs else {}
        return lambda kms: kms.create_grant(
            KeyId=old,
            GranteePrincipal=f"{ACCOUNT}:user/stranger",
            Operations=list(operations),
            **constraint,
            DryRun=True,
        )

    return {
        "GenerateDataKey": lambda kms: kms.generate_data_key(KeyId=old, EncryptionContext=pairs, KeySpec="AES_256"),
        "GenerateDataKey new": lambda kms: kms.generate_data_key(KeyId=new, EncryptionContext=pairs, KeySpec="AES_256"),
        "GenerateDataKeyWithoutPlaintext": lambda kms: kms.generate_data_key_without_plaintext(
            KeyId=old, EncryptionContext=pairs, KeySpec="AES_256"
        ),
        "Encrypt": lambda kms: kms.encrypt(KeyId=old, EncryptionContext=pairs, Plaintext=b"x"),
        "Encrypt new": lambda kms: kms.encrypt(KeyId=new, EncryptionContext=pairs, Plaintext=b"x"),
        "Decrypt": lambda kms: kms.decrypt(KeyId=old, EncryptionContext=pairs, CiphertextBlob=blob),
        "ReEncrypt": re_encrypt(old, new),
        "ReEncrypt to the same": re_encrypt(old, old),
        "CreateGrant Decrypt": create_grant("Decrypt"),
        "CreateGrant CreateGrant": create_grant("Decrypt", "CreateGrant"),
        "ListGrants": lambda kms: kms.list_grants(KeyId=old),
        "DescribeKey": lambda kms: kms.describe_key(KeyId=old),
        "GetKeyPolicy": lambda kms: kms.get_key_policy(KeyId=old),
        "GetKeyRotationStatus": lambda kms: kms.get_key_rotation_status(KeyId=old),
        "UpdateKeyDescription": lambda kms: kms.update_key_description(KeyId=old, Description="x"),
        "TagResource": lambda kms: kms.tag_resource(KeyId=old, Tags=[{"TagKey": "a", "TagValue": "b"}]),
        "DisableKey": lambda kms: kms.disable_key(KeyId=old),
        "EnableKey": lambda kms: kms.enable_key(KeyId=old),
        "ScheduleKeyDeletion": lambda kms: kms.schedule_key_deletion(KeyId=old),
        "CancelKeyDeletion": lambda kms: kms.cancel_key_deletion(KeyId=old),
        "ListKeys": lambda kms: kms.list_keys(),
        "ListAliases": lambda kms: kms.list_aliases(),
    }


def _allowed(place: Place, who: str, context: Mapping[str, str]) -> set[str]:
    """Return the calls that are not denied."""
    kms = place.client(who)
    codes = {name: _code(call, kms) for name, call in _calls(place, context).items()}
    assert set(codes.values()) <= {None, "AccessDeniedException", "DryRunOperationException"}, (who, codes)
    return {name for name, code in codes.items() if code != "AccessDeniedException"}


def _code(call: Callable[[Any], object], kms: Any) -> str | None:
    try:
        call(kms)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return None


SEE: Final = {"ListGrants", "DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus"}
CHANGE: Final = {
    *("UpdateKeyDescription", "TagResource", "DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion")
}


def test_a_key_policy_allows_each_its_own_and_no_more(place: Place) -> None:
    users = KeyUsers(
        encrypt=[f"{ACCOUNT}:user/encrypter"],
        decrypt=[f"{ACCOUNT}:user/decrypter"],
        rotate_from=[f"{ACCOUNT}:user/mover"],
        grant=[f"{ACCOUNT}:user/granter"],
    )
    place.put(place.old, write_key_policy([f"{ACCOUNT}:user/admin"], users, BOUND))
    receiving = KeyUsers(rotate_to=[f"{ACCOUNT}:user/mover", f"{ACCOUNT}:user/receiver"])
    place.put(place.new, write_key_policy([f"{ACCOUNT}:user/admin"], receiving, BOUND))
    expected = {
        "encrypter": ENCRYPT,
        "decrypter": {"Decrypt"},
        "mover": {"ReEncrypt"},
        "granter": {"CreateGrant Decrypt"},
        "receiver": set(),
        "stranger": set(),
    }
    for who, calls in expected.items():
        assert _allowed(place, who, CONTEXT) == calls, who
        for other in OTHERS:
            assert _allowed(place, who, other) == set(), (who, other)
    # Last, since it schedules the key's deletion; the key is disabled when that is cancelled.
    assert _allowed(place, "admin", CONTEXT) == SEE | CHANGE


def test_the_root_user_alone_recovers_a_key(place: Place) -> None:
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    place.lab.add_principal("almighty", policy=everything)
    place.put(place.old, write_key_policy([f"{ACCOUNT}:user/admin"], KeyUsers(), BOUND))
    assert _allowed(place, "almighty", CONTEXT) & {*ENCRYPT, "Decrypt", *SEE, *CHANGE} == set()
    root = place.lab.session(account="111122223333").client("kms")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        root.decrypt(KeyId=place.old, CiphertextBlob=place.blobs[json.dumps(CONTEXT)], EncryptionContext=CONTEXT)
    place.put(place.old, write_key_policy([f"{ACCOUNT}:user/receiver"], KeyUsers(), BOUND))
    assert place.client("receiver").describe_key(KeyId=place.old)


def test_an_administrator_is_allowed_the_named_actions_of_all_there_are() -> None:
    document = write_key_policy([f"{ACCOUNT}:role/admin"], KeyUsers(), BOUND)
    key = KeyDescription("arn:aws:kms:us-east-1:111122223333:key/1", parse_key_policy(document))
    allowed = {
        action
        for action in ON_KEY
        if explain(
            principal(f"{ACCOUNT}:role/admin"),
            action,
            key,
            identity_policies=[],
            time=datetime(2026, 11, 1, tzinfo=UTC),
            encryption_context=CONTEXT,
        ).allowed
    }
    assert allowed == set(_generate.ADMINISTER)
    assert len(ON_KEY) >= 45
    uses = {f"kms:{name}" for name in ("Decrypt", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")}
    assert not allowed & (uses | {"kms:CreateGrant"})


def _identity(statements: list[Document]) -> Mapping[str, Any]:
    return write_identity_policy(statements)


def test_an_identity_policy_allows_its_task_and_no_more(tmp_path: Path) -> None:
    place = _place(
        tmp_path,
        {
            "encrypter": lambda old, _: _identity(allow_encrypt([old], BOUND)),
            "both": lambda old, new: _identity(allow_encrypt([old, new], BOUND)),
            "decrypter": lambda old, _: _identity(allow_decrypt([old], BOUND)),
            "mover": lambda old, new: _identity(allow_rotate([old], [new], BOUND)),
            "auditor": lambda *_: _identity(allow_audit()),
        },
    )
    made = {"GenerateDataKey"}
    expected = {
        "encrypter": made,
        "both": made | {"Encrypt new"},
        "decrypter": {"Decrypt"},
        "mover": {"ReEncrypt"},
    }
    for who, calls in expected.items():
        assert _allowed(place, who, CONTEXT) == calls, who
        for other in OTHERS:
            assert _allowed(place, who, other) == set(), (who, other)
    for context in (CONTEXT, *OTHERS):
        assert _allowed(place, "auditor", context) == SEE | {"ListKeys", "ListAliases"}
    place.lab.close()


def test_what_audit_asks_changes_nothing_and_opens_nothing() -> None:
    named = [action for actions in _generate.AUDIT.values() for action in actions]
    assert len(named) >= 15
    for action in named:
        assert action.split(":")[1].startswith(("Describe", "Get", "List", "Lookup")), action
    assert not {"kms:GetParametersForImport", "kms:GetPublicKey"} & set(named)


def test_a_grant_allows_its_operations_in_its_context(place: Place) -> None:
    request = grant_request(
        place.old,
        f"{ACCOUNT}:user/stranger",
        ["Decrypt", "ReEncryptFrom"],
        RequiredContext(CONTEXT),
        name=due_name(NOW),
    )
    place.lab.session(account="111122223333").client("kms").create_grant(**request)
    assert _allowed(place, "stranger", CONTEXT) == {"Decrypt"}
    for other in OTHERS:
        assert _allowed(place, "stranger", other) == set()


@pytest.mark.parametrize(
    "value", ["${aws:username}", "*", "?", "${*}", "$", "${", "a${}b", "${aws:username, 'x'}", "{{x}}", "é"]
)
def test_a_value_means_itself_and_nothing_else(value: str) -> None:
    statements = allow_decrypt([KEY], RequiredContext({"purpose": value}))
    parsed = parse_identity_policy(write_identity_policy(statements))
    alice = principal(f"{ACCOUNT}:user/alice")
    delegating = parse_key_policy(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"{ACCOUNT}:root"}, "Action": "*", "Resource": "*"}],
        }
    )
    for given, expected in [(value, True), ("alice", False), ("anything", False), ("", False)]:
        decision = explain(
            alice,
            "kms:Decrypt",
            KeyDescription(KEY, delegating),
            identity_policies=[parsed],
            time=NOW,
            encryption_context={"purpose": given},
        )
        assert decision.allowed == expected, given


NOW: Final = datetime(2026, 11, 24, 21, 0, 5, 999, tzinfo=UTC)
KEY: Final = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ALICE: Final = f"{ACCOUNT}:user/alice"
ELSEWHERE: Final = "arn:aws:iam::444455556666:role/x"


@pytest.mark.parametrize(
    ("writing", "sentence"),
    [
        (lambda: write_key_policy([], KeyUsers(), BOUND), "a key needs an administrator"),
        (
            lambda: write_key_policy([ALICE], KeyUsers(decrypt=[ALICE]), BOUND),
            "would both administer the key",
        ),
        (
            lambda: write_key_policy([ALICE], KeyUsers(grant=[ALICE]), BOUND),
            "would both administer the key",
        ),
        (lambda: write_key_policy([ALICE, ELSEWHERE], KeyUsers(), BOUND), "of several accounts"),
        (lambda: write_key_policy(["*"], KeyUsers(), BOUND), "is not the ARN of a user or role"),
        (
            lambda: write_key_policy([f"{ACCOUNT}:root"], KeyUsers(), BOUND),
            "is not the ARN of a user or role",
        ),
        (
            lambda: write_key_policy([f"{ACCOUNT}:role/*"], KeyUsers(), BOUND),
            "is not the ARN of a user or role",
        ),
        (
            lambda: write_key_policy([ALICE], KeyUsers(encrypt=["x\u202ey"]), BOUND),
            r"'x\\u202ey' is not the ARN",
        ),
        (lambda: allow_decrypt(["alias/a"], BOUND), "'alias/a' is not the ARN of a key"),
        (lambda: allow_decrypt(["*"], BOUND), "is not the ARN of a key"),
        (lambda: allow_decrypt([KEY + "*"], BOUND), "is not the ARN of a key"),
        (lambda: allow_decrypt([], BOUND), "name at least one key"),
        (lambda: allow_rotate([KEY], [], BOUND), "name at least one key"),
        (
            lambda: allow_decrypt([KEY], RequiredContext({"a": "1"}, ("A",))),
            "differ only in case",
        ),
        (
            lambda: grant_request(KEY, ALICE, ["Decrypt"], RequiredContext({"a": "1", "A": "2"})),
            "differ only in case",
        ),
        (
            lambda: write_identity_policy(allow_decrypt([KEY], RequiredContext({"a": "漢"}))),
            "holds characters outside Latin-1",
        ),
        (lambda: grant_request(KEY, ALICE, ["CreateGrant"], BOUND), "it cannot permit 'CreateGrant'"),
        (lambda: grant_request(KEY, ALICE, [], BOUND), "name at least one of them"),
        (lambda: grant_request(KEY, ALICE, ["Decrypt"], BOUND), "each name of the context needs a value"),
        (
            lambda: grant_request(KEY, ALICE, ["Decrypt"], RequiredContext(dict.fromkeys("abcdefghi", "x"))),
            "at most 8 pairs",
        ),
        (
            lambda: grant_request(KEY, f"{ACCOUNT}:root", ["Decrypt"], RequiredContext()),
            "is not the ARN of a user or role",
        ),
    ],
)
def test_what_no_policy_can_say_or_should_say_is_refused(writing: Callable[[], object], sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence):
        writing()


def test_no_policy_holds_a_wildcard_but_for_the_key_itself() -> None:
    users = KeyUsers(*[[ALICE]] * 5)
    for document in (
        write_key_policy([f"{ACCOUNT}:role/admin"], users, BOUND),
        write_identity_policy(allow_encrypt([KEY, KEY], BOUND)),
        write_identity_policy(allow_rotate([KEY], [KEY], BOUND)),
    ):
        allowing = [each for each in document["Statement"] if each["Effect"] == "Allow"]
        text = json.dumps(allowing)
        assert text.count('"*"') == text.count('"Resource": "*"')
        assert text.count("*") == text.count('"*"')


def test_a_name_tells_when_a_grant_is_due() -> None:
    name = due_name(NOW)
    assert name.startswith("sealwax:due/2026-11-24T21:00:05Z/")
    assert due_of(name) == NOW.replace(microsecond=0)
    assert due_name(NOW) != name
    assert due_of("sealwax:due/2026-11-24T21:00:05Z") == NOW.replace(microsecond=0)
    for other in (None, "", "x", "sealwax:due/2026-13-24T21:00:05Z/x", "sealwax:due/2026-11-24", f"x{name}"):
        assert due_of(other) is None
