"""Audits to make reports of: an ordinary one, a clean one, and one whose every text is somebody's attack."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from sealwax.audit._findings import Block, BlockKind, Finding, Fix, Severity, Standard
from sealwax.audit._report import Accepted, Access, Audit, Gap

TIME: Final = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)
HUB: Final = Standard(
    "AWS Security Hub", "KMS.5", "https://docs.aws.amazon.com/securityhub/latest/userguide/kms-controls.html#kms-5"
)
CSF: Final = Standard("NIST CSF 2.0", "PR.DS-01", "https://doi.org/10.6028/NIST.CSWP.29")
ACCOUNT: Final = "111122223333"


def key(number: int, region: str = "eu-west-1") -> str:
    """Return the ARN of a key."""
    return f"arn:aws:kms:{region}:{ACCOUNT}:key/{number:08x}-12ab-34cd-56ef-1234567890ab"


def role(name: str) -> str:
    """Return the ARN of a role."""
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


_PUBLIC: Final = Finding(
    "key-policy-public",
    Severity.CRITICAL,
    key(1),
    "the key policy lets everybody use the key",
    "Anybody with an AWS account can decrypt what is sealed under this key, once they have it.",
    {"Sid": "Open", "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"},
    Fix(
        "Remove the statement.",
        (
            Block('{\n  "Statement": []\n}', BlockKind.FILE, "policy.json"),
            Block("aws kms put-key-policy --key-id 1234 --policy file://policy.json"),
        ),
    ),
    (HUB, CSF),
)
_WIDE: Final = Finding(
    "iam-decrypt-all-keys",
    Severity.HIGH,
    role("batch"),
    "an IAM policy allows kms:Decrypt on all keys",
    "Whoever gets hold of the role decrypts under every key of the account that delegates to IAM.",
    {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": "*"},
    Fix("Name the keys.", (Block(f"sealwax policy iam decrypt -k {key(1)} -c purpose=backup"),)),
    (CSF,),
)
_ROTATION: Final = Finding(
    "rotation-off",
    Severity.MEDIUM,
    key(2),
    "the key is not rotated",
    "Its material stays the same for ever.",
    {"KeyRotationEnabled": False},
    Fix("", (Block(f"aws kms enable-key-rotation --key-id {key(2)}"),)),
    (HUB,),
)
_UNUSED: Final = Finding(
    "key-unused",
    Severity.LOW,
    key(3, "us-east-1"),
    "the key was not used for a year",
    "It costs.",
    None,
    Fix("Disable it."),
    (),
)

ORDINARY: Final = Audit(
    ACCOUNT,
    ("eu-west-1", "us-east-1"),
    TIME,
    {"keys": 3, "users": 4, "roles": 12},
    (_PUBLIC, _WIDE, _ROTATION, _UNUSED),
    (Gap("cloudtrail:LookupEvents", "*", "us-east-1", "the caller is not allowed to"),),
    (Accepted(_ROTATION, "moves to a new key in January", date(2027, 1, 31)),),
    (Accepted(_UNUSED, "was kept for the audit", date(2026, 10, 1)),),
    (
        Access(key(1), "*", ("administer", "decrypt", "encrypt", "grant"), ("statement 'Open' of the key policy",)),
        Access(key(1), role("batch"), ("decrypt",), ("identity policy batch",)),
        Access(key(2), role("admin"), ("administer",), ("statement 'Admin' of the key policy",)),
        Access(key(2), role("batch"), ("decrypt", "encrypt"), ("statement 'Use' of the key policy",)),
        Access(key(3, "us-east-1"), role("admin"), ("administer",), ("statement 1 of the key policy",)),
        Access(key(3, "us-east-1"), "logs.amazonaws.com", ("encrypt", "grant"), ("grant 7f",)),
    ),
    aliases={key(1): ("alias/payments",), key(2): ("alias/backup", "alias/backup-old")},
    caller=role("auditor"),
)
CLEAN: Final = Audit(ACCOUNT, ("eu-west-1",), TIME, {"keys": 3}, ())

# Script, an attribute's end, a formula, a terminal's escape, right-to-left, a wide formula, what XML forbids.
ATTACKS: Final = (
    "<script>document.title='owned'</script>",
    "\"'><img src=x onerror=document.title='owned'>",
    "=cmd|' /C calc'!A0",
    "\x1b[31m\x00\x07",
    "\u202egnp.exe\u2066",
    "＝1+1",  # noqa: RUF001
    "]]>&amp;</failure>\ufffe\ud800",
    "javascript:document.title='owned'",
    "-->\u2028`${alert(1)}`</style></svg>",
    "  @SUM(1)",
    "\t=1",
)


def _attack(text: str, severity: Severity) -> Finding:
    return Finding(
        "rule-of-ours",
        severity,
        f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{text}",
        text,
        text,
        {"Sid": text, text: [text]},
        Fix(text, (Block(text, BlockKind.FILE, text), Block(text), Block(text, BlockKind.TERRAFORM))),
        (Standard(text, text, text),),
    )


HOSTILE: Final = Audit(
    ACCOUNT,
    ("eu-west-1",),
    TIME,
    {"keys": len(ATTACKS)},
    tuple(_attack(text, Severity(1 + number % 5)) for number, text in enumerate(ATTACKS)),
    tuple(Gap(text, text, text, text) for text in ATTACKS),
    tuple(Accepted(_attack(text, Severity.LOW), text, None) for text in ATTACKS),
    tuple(Accepted(_attack(text, Severity.LOW), text, None) for text in ATTACKS),
    tuple(Access(f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{text}", text, ("decrypt",), (text,)) for text in ATTACKS),
    aliases={f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{text}": (f"alias/{text}",) for text in ATTACKS},
    caller=ATTACKS[0],
)
AUDITS: Final = {"ordinary": ORDINARY, "clean": CLEAN, "hostile": HOSTILE}
