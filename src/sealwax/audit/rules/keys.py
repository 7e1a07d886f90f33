"""Rules about keys themselves: rotation, imported material, state, use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sealwax.audit.account import Account
from sealwax.audit.facts import KeyFacts
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.rule import Found, Rule

MAX_PERIOD: Final = timedelta(days=365)
EXPIRES_SOON: Final = timedelta(days=30)
UNUSED_AFTER: Final = timedelta(days=90)
# KMS tells of keys in these that they cannot decrypt.
UNUSABLE: Final = ("Disabled", "PendingDeletion", "PendingReplicaDeletion", "PendingImport", "Unavailable")


def _rotates(key: KeyFacts) -> bool:
    """Whether KMS can rotate a key by itself; a replica follows its primary."""
    return (
        key.spec == "SYMMETRIC_DEFAULT"
        and key.origin == "AWS_KMS"
        and key.state == "Enabled"
        and key.multi_region != "replica"
    )


def _on(key: KeyFacts) -> str:
    return f"--region {key.region} --key-id {key.id}"


def _off(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if _rotates(key) and key.rotation is not None and not key.rotation.enabled:
            yield Found(
                key.arn,
                {"KeyRotationEnabled": False},
                f"aws kms enable-key-rotation {_on(key)} --rotation-period-in-days 365",
            )


def _long(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        period = key.rotation.period_days if _rotates(key) and key.rotation is not None else None
        if period is not None and period > MAX_PERIOD.days:
            yield Found(
                key.arn,
                {"KeyRotationEnabled": True, "RotationPeriodInDays": period},
                f"aws kms enable-key-rotation {_on(key)} --rotation-period-in-days 365",
                f"{period} days",
            )


def _never(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        imported = key.origin == "EXTERNAL" and key.state == "Enabled" and key.multi_region != "replica"
        on = _rotates(key) and key.rotation is not None and key.rotation.enabled
        old = account.facts.time - key.created > MAX_PERIOD
        if (imported or on) and key.rotations == () and old and key.spec == "SYMMETRIC_DEFAULT":
            fix = (
                f"Import new material, then: aws kms rotate-key-on-demand {_on(key)}"
                if imported
                else f"aws kms rotate-key-on-demand {_on(key)}"
            )
            yield Found(key.arn, {"Rotations": []}, fix, f"its material is of {key.created:%Y-%m-%d}")


def _expires(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.origin == "EXTERNAL" and key.valid_to is not None and key.state == "Enabled":
            left = key.valid_to - account.facts.time
            if left <= EXPIRES_SOON:
                yield Found(
                    key.arn,
                    {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": key.valid_to.isoformat()},
                    f"Import the same material again with a later date: aws kms get-parameters-for-import {_on(key)} "
                    "--wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_4096, "
                    "then aws kms import-key-material",
                    f"on {key.valid_to:%Y-%m-%d %H:%M} UTC",
                )


def _unusable(account: Account) -> Iterator[Found]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.arn in under and key.state in UNUSABLE:
            if key.state == "Disabled":
                fix = f"aws kms enable-key {_on(key)}"
            elif key.state.startswith("Pending") and key.state.endswith("Deletion"):
                fix = f"aws kms cancel-key-deletion {_on(key)}, then aws kms enable-key {_on(key)}"
            else:
                fix = f"Bring the key back into use, see aws kms describe-key {_on(key)}"
            deadline = f", deleted on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else ""
            yield Found(
                key.arn,
                {"KeyState": key.state},
                f"{fix}; then move the envelopes to another key with sealwax rewrap.",
                f"{key.state}{deadline}",
            )


def _pending(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.state in ("PendingDeletion", "PendingReplicaDeletion"):
            when = f" on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else ""
            yield Found(
                key.arn,
                {"KeyState": key.state},
                f"If it is not meant: aws kms cancel-key-deletion {_on(key)}; else see in CloudTrail if it is used.",
                f"it is deleted{when}" if when else "",
            )


def _unused(account: Account) -> Iterator[Found]:
    now = account.facts.time
    under = set(account.facts.envelopes_under or ())
    for key in account.own_keys:
        if key.state != "Enabled" or key.tracked_since is None or key.arn in under or key.multi_region == "replica":
            continue
        since = key.last_used or max(key.tracked_since, key.created)
        if now - since > UNUSED_AFTER:
            said = f"last used on {since:%Y-%m-%d}" if key.last_used is not None else f"no use since {since:%Y-%m-%d}"
            yield Found(
                key.arn,
                {
                    "LastUsed": key.last_used and key.last_used.isoformat(),
                    "TrackingStartDate": key.tracked_since.isoformat(),
                },
                f"Disable it and see who complains: aws kms disable-key {_on(key)}. "
                "Delete it only when no envelope is under it.",
                said,
            )


def _in_store(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.key_store is not None:
            yield Found(
                key.arn,
                {"CustomKeyStoreId": key.key_store, "Origin": key.origin},
                "Keep envelopes under a second key as well, outside of the store: sealwax encrypt -k KEY -k OTHER-KEY. "
                "Rotate by hand: make a new key and sealwax rewrap to it.",
                f"{key.key_store} ({key.origin})",
            )


def _aws_managed(account: Account) -> Iterator[Found]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.manager == "AWS" and key.arn in under:
            yield Found(
                key.arn,
                {"KeyManager": "AWS"},
                "Make a customer managed key (aws kms create-key), read the data through the service that sealed it, "
                "and seal it under the new key.",
            )


RULES: Final = (
    Rule(
        "rotation-off",
        Severity.MEDIUM,
        "automatic rotation is off",
        "All data for the life of the key hangs on one piece of key material.",
        (
            std.KMS_4,
            std.config("cmk-backing-key-rotation-enabled"),
            std.prowler("kms_cmk_rotation_enabled"),
            std.CIS_3_6,
            std.PCI_CRYPTOPERIOD,
            std.HIPAA_ENCRYPTION,
            std.CSF_AT_REST,
            std.NIST_CRYPTOPERIODS,
        ),
        _off,
    ),
    Rule(
        "rotation-period-long",
        Severity.LOW,
        "the rotation period is longer than a year",
        "More data hangs on each piece of key material than AWS's default of 365 days would have it.",
        (std.PCI_CRYPTOPERIOD, std.NIST_CRYPTOPERIODS),
        _long,
    ),
    Rule(
        "never-rotated",
        Severity.LOW,
        "the key was never rotated, and is older than a year",
        "Rotation was switched on late, or KMS cannot do it by itself: the first material still protects everything.",
        (std.PCI_CRYPTOPERIOD, std.NIST_CRYPTOPERIODS),
        _never,
    ),
    Rule(
        "imported-material-expires",
        Severity.HIGH,
        "imported key material is about to expire",
        "From then on nothing under the key can be opened, until the same material is imported again.",
        (std.CSF_AT_REST,),
        _expires,
    ),
    Rule(
        "unusable-key-with-envelopes",
        Severity.CRITICAL,
        "live envelopes are under a key that cannot be used",
        "They cannot be opened now; once the key is deleted, never again.",
        (std.KMS_3, std.config("kms-cmk-not-scheduled-for-deletion"), std.PCI_RETIRED, std.CSF_AT_REST),
        _unusable,
    ),
    Rule(
        "key-pending-deletion",
        Severity.MEDIUM,
        "the key is scheduled for deletion",
        "Whatever is still under it is lost with it.",
        (
            std.KMS_3,
            std.config("kms-cmk-not-scheduled-for-deletion"),
            std.prowler("kms_cmk_not_deleted_unintentionally"),
            std.CSF_AT_REST,
        ),
        _pending,
    ),
    Rule(
        "key-unused",
        Severity.LOW,
        "the key is not in use",
        "Access to it is of no use to anyone but an attacker, and it costs money.",
        (std.prowler("kms_cmk_are_used"), std.PCI_RETIRED),
        _unused,
    ),
    Rule(
        "custom-key-store",
        Severity.INFO,
        "the key is in a custom key store",
        "Every use waits for the store, nothing opens while it cannot be reached, and KMS does not rotate the key.",
        (std.CSF_AT_REST,),
        _in_store,
    ),
    Rule(
        "envelopes-under-aws-managed-key",
        Severity.HIGH,
        "envelopes are said to be under an AWS managed key",
        "Only AWS services can use it, nobody can change its policy, and no other account can be let in.",
        (std.CSF_AT_REST,),
        _aws_managed,
    ),
)
