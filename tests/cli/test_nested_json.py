"""JSON with lists and objects in one another, far more than Python can read, wherever JSON is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sealwax import policy
from sealwax.audit._factsfile import dump
from sealwax.cli import run
from sealwax.errors import PolicyError
from sealwax.lab import Lab
from tests.audit import accounts

KEY = "arn:aws:kms:us-east-1:111122223333:key/0a0a0a0a-0000-4000-8000-00000000000a"
ALICE = "arn:aws:iam::111122223333:user/alice"
STATEMENT = {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "kms:*", "Resource": "*"}
HERE = "@@"
EXPLAIN = ("policy", "explain", ALICE, "kms:Decrypt", KEY)


def _policies() -> Iterator[Any]:
    yield HERE
    yield {"Version": "2012-10-17", "Statement": HERE}
    yield {"Version": "2012-10-17", "Statement": [STATEMENT], "Id": HERE}
    for name in ("Principal", "Action", "Resource", "Condition", "Sid", "Other"):
        yield {"Version": "2012-10-17", "Statement": [STATEMENT | {name: HERE}]}
    yield {"Version": "2012-10-17", "Statement": [STATEMENT | {"Condition": {"StringEquals": {"aws:a": HERE}}}]}


def _events() -> Iterator[Any]:
    event = {"eventSource": "kms.amazonaws.com", "eventID": "1", "eventName": "Decrypt", "awsRegion": "us-east-1"}
    event["eventTime"] = "2026-01-01T00:00:00Z"
    yield HERE
    yield {"Records": HERE}
    yield {"Records": [HERE]}
    yield {"Records": [event | {"userIdentity": HERE}]}
    yield {"Records": [event | {"requestParameters": {"encryptionContext": HERE}}]}


CASES: list[tuple[tuple[str, ...], Any]] = [
    *((("encrypt", "-k", "alias/a", "--lab", "lab", "a", "--context-file"), one) for one in (HERE, {"a": HERE})),
    *((("inspect",), one) for one in (HERE, {"sops": HERE}, {"sops": {"kms": HERE}}, {"EncryptedDataKey": HERE})),
    *(((*EXPLAIN, "--key-policy"), one) for one in _policies()),
    *(((*EXPLAIN, "--key-policy", "good.json", "--identity-policy"), one) for one in _policies()),
    *((("lab", "principal", "add", "ann", "--lab", "lab", "--policy"), one) for one in _policies()),
    *(((*EXPLAIN, "--key-policy", "good.json", "--grants"), one) for one in (HERE, {"Grants": HERE})),
    *((("audit", "--facts"), one) for one in (HERE, {"format": "sealwax-facts-1", "keys": HERE})),
    (("audit", "--facts", "facts.json", "--baseline"), {"format": "sealwax-baseline-1", "accepted": HERE}),
    *((("audit", "--facts", "facts.json", "--fail-on", "never", "--events"), one) for one in _events()),
]


@pytest.fixture
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Lab("lab").close()
    Path("a").write_bytes(b"data")
    Path("good.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [STATEMENT]}))
    Path("facts.json").write_bytes(dump(accounts.clean()))


@pytest.mark.usefixtures("_work")
@pytest.mark.parametrize(("depth", "shape"), [(900, ("[", "]")), (100_000, ('{"a":', "}"))], ids=["lists", "objects"])
def test_what_is_nested_is_an_error_of_its_kind(
    depth: int, shape: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    # What is less deep, a reader takes that calls itself less often than what comes after it.
    nested = shape[0] * depth + "1" + shape[1] * depth
    for command, document in CASES:
        Path("nested.json").write_text(json.dumps(document).replace(f'"{HERE}"', nested))
        status = run([*command, "nested.json"])
        said = capsys.readouterr().err
        assert status in (0, 1, 2, 4, 8), (command, status, said)
        assert "bug in sealwax" not in said, (command, document, said)
    assert len(CASES) == 46
    # Policies are texts in the facts, and are read one by one.
    for document in _policies():
        text = json.dumps(document).replace(f'"{HERE}"', nested)
        if len(text) <= 32_768:
            facts = accounts.with_iam(policy=text)
            facts = replace(facts, policies=tuple(replace(one, document=text) for one in facts.policies or ()))
            Path("nested.json").write_bytes(dump(facts))
            assert run(["audit", "--facts", "nested.json", "--json"]) in (3, 8)
            assert "bug in sealwax" not in capsys.readouterr().err


def test_what_is_nested_in_memory() -> None:
    nested: Any = "x"
    for _ in range(100_000):
        nested = [nested]
    readers: list[Callable[[Any], object]] = [policy.parse_key_policy, policy.parse_identity_policy]
    for read in readers:
        with pytest.raises(PolicyError, match="holds values that JSON cannot represent"):
            read({"Version": "2012-10-17", "Statement": [STATEMENT | {"Condition": nested}]})
