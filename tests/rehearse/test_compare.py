"""Every kind of difference between AWS and the lab is found; and what identifies anything is masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from sealwax import errors
from sealwax._rehearse.compare import Difference, Side, compare
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.mirror import mirror
from sealwax._rehearse.requests import REQUESTS
from sealwax._rehearse.world import make, take_away, told
from tests.rehearse.account import Account
from tests.rehearse.conftest import EMPTY, Reached, world

Answer = tuple[dict[str, Any], int]
_REFUSAL: Final = {"__type": "DisabledException", "message": "on purpose"}


def _in(path: str, change: Callable[[dict[str, Any], str], None]) -> Callable[[dict[str, Any], int], Answer]:
    """Return what changes a part of an answer."""

    def changed(document: dict[str, Any], status: int) -> Answer:
        *parents, name = path.split(".")
        part: Any = document
        for parent in parents:
            part = part[int(parent)] if parent.isdigit() else part[parent]
        change(part, name)
        return document, status

    return changed


def _put(path: str, value: object) -> Callable[[dict[str, Any], int], Answer]:
    return _in(path, lambda part, name: part.__setitem__(name, value))


def _drop(path: str) -> Callable[[dict[str, Any], int], Answer]:
    return _in(path, lambda part, name: part.pop(name) and None)


# What is done to AWS's answer to a request, and where the difference must be said to be, with what AWS says there.
SEEDED: Final[dict[str, tuple[str, Callable[[dict[str, Any], int], Answer], str, str]]] = {
    "a field is missing": (
        "DescribeKey: main by ARN",
        _drop("KeyMetadata.Description"),
        "KeyMetadata.Description",
        "absent",
    ),
    "a field is new": (
        "DescribeKey: main by alias",
        _put("KeyMetadata.CustomKeyStoreId", "cks-1"),
        "KeyMetadata.CustomKeyStoreId",
        "str cks-1",
    ),
    "another word": (
        "DescribeKey: next by ARN",
        _put("KeyMetadata.KeyState", "Updating"),
        "KeyMetadata.KeyState",
        "str Updating",
    ),
    "another truth": (
        "DescribeKey: next by alias",
        _put("KeyMetadata.Enabled", False),
        "KeyMetadata.Enabled",
        "bool False",
    ),
    "another type": (
        "DescribeKey: global by ARN",
        _put("KeyMetadata.MultiRegion", "true"),
        "KeyMetadata.MultiRegion",
        "str true",
    ),
    "a time is missing": (
        "DescribeKey: global by alias",
        _drop("KeyMetadata.CreationDate"),
        "KeyMetadata.CreationDate",
        "absent",
    ),
    "another key": (
        "DescribeKey: by id",
        _put("KeyMetadata.Arn", "arn:aws:kms:eu-west-1:1:key/x"),
        "KeyMetadata.Arn",
        "str <arn>",
    ),
    "fewer words in a list": (
        "DescribeKey: by the ARN of an alias",
        _put("KeyMetadata.EncryptionAlgorithms", []),
        "KeyMetadata.EncryptionAlgorithms",
        "0 items",
    ),
    "a part of a part": (
        "DescribeKey: the replica",
        _put("KeyMetadata.MultiRegionConfiguration.PrimaryKey.Region", "mars"),
        "KeyMetadata.MultiRegionConfiguration.PrimaryKey.Region",
        "str mars",
    ),
    "an item is missing": ("ListResourceTags: of main", _put("Tags", []), "Tags", "0 items"),
    "an item is new": (
        "ListResourceTags: of next",
        _in("Tags", lambda part, name: part[name].append({"TagKey": "a", "TagValue": "b"})),
        "Tags",
        "2 items",
    ),
    "an item differs": ("ListResourceTags: of global", _put("Tags.0.TagValue", "x"), "Tags[0].TagValue", "str x"),
    "the list goes on": (
        "ListAliases: of main",
        lambda document, status: (document | {"Truncated": True, "NextMarker": "x"}, status),
        "Truncated",
        "bool True",
    ),
    "another number": (
        "GetKeyRotationStatus: of a key that does not rotate",
        _put("RotationPeriodInDays", 7),
        "RotationPeriodInDays",
        "int 7",
    ),
    "another code": (
        "DescribeKey: a key that does not exist",
        _put("__type", "InvalidArnException"),
        "error",
        "InvalidArnException",
    ),
    "another message": ("DescribeKey: an alias that does not exist", _put("message", "no"), "message", "no"),
    "another status": ("Decrypt: with another context", lambda document, _: (document, 500), "status", "500"),
    "a refusal": ("Decrypt: with its context", lambda _document, _: (_REFUSAL, 400), "error", "DisabledException"),
    "no refusal": (
        "Encrypt: as the stranger",
        lambda _document, _: ({"KeyId": "x", "CiphertextBlob": "eA=="}, 200),
        "CiphertextBlob",
        "some bytes",
    ),
    "another plaintext": ("Decrypt: with its key named", _put("Plaintext", "eA=="), "Plaintext", "1 bytes 2d711642"),
    "a shorter key": ("GenerateDataKey: AES_256", _put("Plaintext", "eA=="), "Plaintext", "1 bytes"),
    "no ciphertext": ("GenerateDataKey: AES_128", _put("CiphertextBlob", ""), "CiphertextBlob", "no bytes"),
    "no answer": ("GenerateRandom: 32 bytes", lambda _document, _: ({"Plaintext": 7}, 200), "error", "TypeError"),
}


def busy_once(aws: Account) -> Callable[[dict[str, Any], int], Answer]:
    """Return what throttles a request; it is no difference if AWS answers it later."""

    def busy(_document: dict[str, Any], _status: int) -> Answer:
        del aws.changes["UpdateAlias"]
        return {"__type": "ThrottlingException", "message": "Rate exceeded"}, 400

    return busy


def test_every_kind_of_difference_is_found(aws: Account, tmp_path: Path) -> None:
    assert len(SEEDED) >= 20
    assert {name for name, *_ in SEEDED.values()} <= {request.name for request in REQUESTS}
    seeded = {name: change for name, change, _, _ in SEEDED.values()}
    with world(tmp_path, Reached()) as (it, folder):
        make(it, folder, lambda _: None)
        with mirror(it) as beside:
            asked: Counter[str] = Counter()

            def change(operation: str, document: dict[str, Any], status: int) -> Answer:
                asked[operation] += 1
                request = [each for each in REQUESTS if each.operation == operation][asked[operation] - 1]
                return seeded[request.name](document, status) if request.name in seeded else (document, status)

            here, there = Side(it), Side(beside)
            for operation in {name.partition(":")[0] for name in seeded}:
                aws.changes[operation] = lambda document, status, name=operation: change(name, document, status)  # type: ignore[misc]
            aws.changes["UpdateAlias"] = busy_once(aws)
            found = compare(here, there, lambda _done, _of: None)
        aws.changes.clear()
        assert take_away(it) == []
    for what, (name, _, where, said) in SEEDED.items():
        said_there = [each for each in found if each.request == name and each.where == where]
        assert [each.aws for each in said_there] == [said], what
        assert said_there[0].lab != said, what
    assert {each.request for each in found} == seeded.keys()
    assert aws.left() == EMPTY


def test_of_credentials_only_the_kind_of_the_error_is_said() -> None:
    """Their source may be a profile's name, or what another program printed."""
    error = errors.CredentialsError("of AWS profile 'ann-acme': vault of ann has ended", code="ExpiredToken")
    assert told(error, "asking") == "CredentialsError (ExpiredToken)"


def test_a_difference_is_plain_data() -> None:
    assert Difference("a", "b", "c", "d") == Difference("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("raw", "masked"),
    [
        ("arn:aws:kms:eu-west-1:123456789012:key/x is gone", "<arn> is gone"),
        ("arn:aws-cn:iam::123456789012:role/a/b, or", "<arn>, or"),
        ("arn:aws:iam::123456789012:user/doe,john, or", "<arn>, or"),
        ("HTTPSConnectionPool(host='proxy.corp.example', port=3128)", "HTTPSConnectionPool(host='<host>', port=3128)"),
        ("(host='kms.eu-west-1.amazonaws.com', port=443)", "(host='kms.eu-west-1.amazonaws.com', port=443)"),
        ("arn:aws:kms:us-east-1:210987654321:key/y and key/y", "<arn> and key/y"),
        ("arn:aws:kms:us-east-1:210987654321:key/main is the key", "<main> is the key"),
        ("210987654321", "<own account>"),
        ("account 123456789012", "account <account>"),
        ("in 1234567890123 ns", "in 1234567890123 ns"),
        ("request id 3F2504E0-4F89-41D3-9A0C-0305E82C3301.", "request id <id>."),
        ("mrk-0123456789abcdef0123456789abcdef", "<key id>"),
        ("AROAEXAMPLEEXAMPLE12:me", "<id>:me"),
        ("material " + "0f" * 32, "material <id>"),
        ("request TX0123456789ABCD", "request <request id>"),
        ("ACCESS DENIED to REPLICA", "ACCESS DENIED to REPLICA"),
        ("the run 0a1b", "the <run>"),
        ("AKIAIOSFODNN7EXAMPLE, ASIAIOSFODNN7EXAMPLE", "<id>, <id>"),
        ("https://kms.eu-west-1.amazonaws.com/", "https://kms.eu-west-1.amazonaws.com/"),
        ("by http://ann:secret@proxy.corp.example:8080/", "by http://<host>/"),
        ("https://kms.amazonaws.com.corp.example/", "https://<host>/"),
        ("http://127.0.0.1:4000", "http://<host>"),
        ("from 10.1.2.3, with boto3 1.43.6", "from <ip>, with boto3 1.43.6"),
        ("from 2001:db8::1 at 12:34:56", "from <ip> at 12:34:56"),
        ("by ann.b@corp.example", "by <address>"),
        ("through vpce-0123456789abcdef0 of o-a1b2c3d4e5", "through <id> of <id>"),
        ("in /home/ann/x, not in /home/anna", "in <home>/x, not in /home/anna"),
        ("a message of profile 'a'", "<profile> message of profile '<profile>'"),
    ],
)
def test_masks(raw: str, masked: str) -> None:
    masks = Masks()
    masks.add("run 0a1b", "<run>")
    masks.add("210987654321", "<own account>")
    masks.add("arn:aws:kms:us-east-1:210987654321:key/main", "<main>")
    masks.add("/home/ann", "<home>")
    masks.add("a", "<profile>")
    masks.add("", "<nothing>")
    masks.add(None, "<nothing>")
    assert masks.text(raw) == masked
