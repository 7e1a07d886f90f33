"""What a whole audit is, as JSON."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

from sealwax.audit._findings import Block, BlockKind, Finding, Fix, Severity, Standard
from sealwax.audit._report import Accepted, Access, Audit, Gap, to_json

KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
FINDING = Finding(
    "rotation-off",
    Severity.MEDIUM,
    KEY,
    "not rotated",
    "why",
    {"KeyRotationEnabled": False},
    Fix("Rotate it.", (Block("aws kms enable-key-rotation"), Block("{}", BlockKind.FILE, "policy.json"))),
    (Standard("CIS", "3.6", "https://example.com/"),),
)


def test_the_json_has_everything_and_the_worst_severity_is_told() -> None:
    audit = Audit(
        "111122223333",
        ("eu-west-1",),
        datetime(2026, 11, 24, tzinfo=UTC),
        {"keys": 1},
        (FINDING,),
        (Gap("kms:ListGrants", KEY, "eu-west-1", "denied"),),
        (Accepted(FINDING, "migrating", date(2027, 1, 1)),),
        (Accepted(FINDING, "was migrating", None),),
        (Access(KEY, "*", ("decrypt",), ("statement 1 of the key policy",)),),
        aliases={KEY: ("alias/a", "alias/b")},
        caller="arn:aws:iam::111122223333:user/auditor",
    )
    found = json.loads(json.dumps(to_json(audit)))
    assert set(found) == {name for name in Audit.__slots__ if name != "worst"} | {"format", "version", "verdict"}
    assert found["findings"][0]["severity"] == "medium"
    assert found["findings"][0]["fix"] == (
        "Rotate it.\n\nAWS CLI:\n```sh\naws kms enable-key-rotation\n```\n\npolicy.json:\n```json\n{}\n```"
    )
    assert found["findings"][0]["blocks"] == [
        {"kind": "command", "name": None, "text": "aws kms enable-key-rotation"},
        {"kind": "file", "name": "policy.json", "text": "{}"},
    ]
    assert found["findings"][0]["standards"] == [{"name": "CIS", "control": "3.6", "source": "https://example.com/"}]
    assert found["accepted"][0]["expires"] == "2027-01-01"
    assert found["expired"][0]["expires"] is None
    assert found["aliases"] == {KEY: ["alias/a", "alias/b"]}
    assert found["caller"] == "arn:aws:iam::111122223333:user/auditor"
    assert audit.worst is Severity.MEDIUM
    assert Audit("111122223333", (), audit.time, {}, ()).worst is None
