"""Rules about keys themselves: rotation, imported material, state and use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixes import commands, kms
from sealwax.audit._rules.registry import Violation, rule
from sealwax.audit._rules.templates import key_settings

MAX_PERIOD: Final = timedelta(days=365)
EXPIRES_SOON: Final = timedelta(days=30)
UNUSED_AFTER: Final = timedelta(days=90)
_DELETING: Final = ("PendingDeletion", "PendingReplicaDeletion")
# KMS cannot decrypt under keys in these states.
UNUSABLE: Final = ("Disabled", *_DELETING, "PendingImport", "Unavailable")


def _rotates(key: KeyFacts) -> bool:
    """Tell whether KMS can rotate a key automatically. Replicas follow their primary."""
    return (
        key.spec == "SYMMETRIC_DEFAULT"
        and key.origin == "AWS_KMS"
        and key.state == "Enabled"
        and key.multi_region != "replica"
    )


def _rotate_yearly(key: KeyFacts) -> Fix:
    return commands(
        "Let KMS rotate it every year.",
        kms(key, "enable-key-rotation", "--rotation-period-in-days", "365"),
        instead=key_settings(
            key,
            {"EnableKeyRotation": True, "RotationPeriodInDays": 365},
            {"enable_key_rotation": True, "rotation_period_in_days": 365},
        ),
    )


@rule(
    "rotation-off",
    Severity.MEDIUM,
    "automatic rotation is off",
    why="All data that the key ever protects depends on one piece of key material.",
    standards=(
        std.KMS_4,
        std.config("cmk-backing-key-rotation-enabled"),
        std.prowler("kms_cmk_rotation_enabled"),
        std.CIS_3_6,
        std.PCI_CRYPTOPERIOD,
        std.HIPAA_ENCRYPTION,
        std.CSF_AT_REST,
        std.NIST_CRYPTOPERIODS,
    ),
    fix="`aws kms enable-key-rotation`",
)
def rotation_off(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        if _rotates(key) and key.rotation is not None and not key.rotation.enabled:
            yield Violation(key.arn, {"KeyRotationEnabled": False}, _rotate_yearly(key))


@rule(
    "rotation-period-long",
    Severity.LOW,
    "the rotation period is longer than a year",
    why="More data depends on each piece of key material than with AWS's default of 365 days.",
    standards=(std.PCI_CRYPTOPERIOD, std.NIST_CRYPTOPERIODS),
    fix="`aws kms enable-key-rotation --rotation-period-in-days 365`",
)
def rotation_period_long(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        period = key.rotation.period_days if _rotates(key) and key.rotation is not None else None
        if period is not None and period > MAX_PERIOD.days:
            setting = {"KeyRotationEnabled": True, "RotationPeriodInDays": period}
            yield Violation(key.arn, setting, _rotate_yearly(key), f"{period} days")


@rule(
    "never-rotated",
    Severity.LOW,
    "the key is older than a year and was never rotated",
    why="Rotation was enabled late, or KMS cannot rotate the key automatically: the first material still protects all "
    "data.",
    standards=(std.PCI_CRYPTOPERIOD, std.NIST_CRYPTOPERIODS),
    fix="`aws kms rotate-key-on-demand`",
)
def never_rotated(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        imported = key.origin == "EXTERNAL" and key.state == "Enabled" and key.multi_region != "replica"
        automatic = _rotates(key) and key.rotation is not None and key.rotation.enabled
        old = account.facts.time - key.created > MAX_PERIOD
        if (imported or automatic) and key.rotations == () and old and key.spec == "SYMMETRIC_DEFAULT":
            first = "Rotate it now."
            if imported:
                first = "Import new material (get-parameters-for-import, import-key-material), and then rotate the key."
            fix = commands(f"{first} Existing data can still be decrypted.", kms(key, "rotate-key-on-demand"))
            yield Violation(key.arn, {"Rotations": []}, fix, f"its material dates from {key.created:%Y-%m-%d}")


@rule(
    "imported-material-expires",
    Severity.HIGH,
    "imported key material is about to expire",
    why="After that, nothing under the key can be decrypted until the same material is imported again.",
    standards=(std.CSF_AT_REST,),
    fix="import the same material with a later date",
)
def imported_material_expires(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        if key.origin != "EXTERNAL" or key.valid_to is None or key.state != "Enabled":
            continue
        if key.valid_to - account.facts.time <= EXPIRES_SOON:
            wrapping = ("--wrapping-algorithm", "RSAES_OAEP_SHA_256", "--wrapping-key-spec", "RSA_4096")
            yield Violation(
                key.arn,
                {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": key.valid_to.isoformat()},
                commands(
                    "Import the same material again with a later date (aws kms import-key-material). That needs an "
                    "import token and a wrapping key, which this command returns:",
                    kms(key, "get-parameters-for-import", *wrapping),
                ),
                f"on {key.valid_to:%Y-%m-%d %H:%M} UTC",
            )


@rule(
    "unusable-key-with-envelopes",
    Severity.CRITICAL,
    "live envelopes are under a key that cannot be used",
    why="They cannot be decrypted now, and never again once the key is deleted.",
    standards=(std.KMS_3, std.config("kms-cmk-not-scheduled-for-deletion"), std.PCI_RETIRED, std.CSF_AT_REST),
    fix="make the key usable again, then `sealwax rewrap`",
)
def unusable_key_with_envelopes(account: Account) -> Iterator[Violation]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.arn in under and key.state in UNUSABLE:
            deadline = f", will be deleted on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else ""
            yield Violation(key.arn, {"KeyState": key.state}, _make_usable(key), f"{key.state}{deadline}")


def _make_usable(key: KeyFacts) -> Fix:
    says = "Make the key usable again, and then move the envelopes to another key with sealwax rewrap."
    if key.state in _DELETING:
        # Without its imported material it waits for that, and cannot be enabled.
        enable = [kms(key, "enable-key")] if key.origin != "EXTERNAL" else []
        return commands(says, kms(key, "cancel-key-deletion"), *enable)
    if key.state == "Disabled":
        blocks = key_settings(
            key, {"Enabled": True}, {"is_enabled" if key.multi_region != "replica" else "enabled": True}
        )
        return commands(says, kms(key, "enable-key"), instead=blocks)
    if key.state == "PendingImport":
        return Fix(f"{says} It needs its key material (aws kms import-key-material).")
    return Fix(f"{says} It is usable once its custom key store is connected (aws kms connect-custom-key-store).")


@rule(
    "key-pending-deletion",
    Severity.MEDIUM,
    "the key is scheduled for deletion",
    why="All data that is still under it will be lost.",
    standards=(
        std.KMS_3,
        std.config("kms-cmk-not-scheduled-for-deletion"),
        std.prowler("kms_cmk_not_deleted_unintentionally"),
        std.CSF_AT_REST,
    ),
    fix="`aws kms cancel-key-deletion`, unless it is intended",
)
def key_pending_deletion(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        if key.state in _DELETING:
            yield Violation(
                key.arn,
                {"KeyState": key.state},
                commands(
                    "Check in CloudTrail whether it is used. If the deletion is not intended, cancel it; the key is "
                    "then disabled.",
                    kms(key, "cancel-key-deletion"),
                ),
                f"on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else "",
            )


@rule(
    "key-unused",
    Severity.LOW,
    "the key is not in use",
    why="It costs money, and access to it helps only an attacker.",
    standards=(std.prowler("kms_cmk_are_used"), std.PCI_RETIRED),
    fix="disable it; delete it when no envelope is under it",
)
def key_unused(account: Account) -> Iterator[Violation]:
    now = account.facts.time
    under = set(account.facts.envelopes_under or ())
    for key in account.own_keys:
        if key.state != "Enabled" or key.tracked_since is None or key.arn in under or key.multi_region == "replica":
            continue
        since = key.last_used or max(key.tracked_since, key.created)
        if now - since > UNUSED_AFTER:
            use = "last used on" if key.last_used is not None else "no use since"
            yield Violation(
                key.arn,
                {
                    "LastUsed": key.last_used and key.last_used.isoformat(),
                    "TrackingStartDate": key.tracked_since.isoformat(),
                },
                commands(
                    "Disable it and see whether anyone needs it; enable-key reverses that. Delete it only when no "
                    "envelope is under it.",
                    kms(key, "disable-key"),
                    instead=key_settings(key, {"Enabled": False}, {"is_enabled": False}),
                ),
                f"{use} {since:%Y-%m-%d}",
            )


@rule(
    "custom-key-store",
    Severity.INFO,
    "the key is in a custom key store",
    why="Every use depends on the store: if it is unreachable, nothing can be decrypted. KMS does not rotate such "
    "keys.",
    standards=(std.CSF_AT_REST,),
    fix="keep envelopes under a second key as well",
)
def custom_key_store(account: Account) -> Iterator[Violation]:
    for key in account.own_keys:
        if key.key_store is not None:
            yield Violation(
                key.arn,
                {"CustomKeyStoreId": key.key_store, "Origin": key.origin},
                Fix(
                    "Keep envelopes under a second key outside the store as well: sealwax encrypt -k KEY -k OTHER-KEY. "
                    "Rotate by hand: create a new key and sealwax rewrap to it."
                ),
                f"{key.key_store} ({key.origin})",
            )


@rule(
    "envelopes-under-aws-managed-key",
    Severity.HIGH,
    "envelopes are reported under an AWS managed key",
    why="Only AWS services can use it, no one can change its policy, and no other account can get access.",
    standards=(std.CSF_AT_REST,),
    fix="encrypt under a customer managed key",
)
def envelopes_under_aws_managed_key(account: Account) -> Iterator[Violation]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.manager == "AWS" and key.arn in under:
            yield Violation(
                key.arn,
                {"KeyManager": "AWS"},
                Fix(
                    "Create a customer managed key (aws kms create-key), read the data through the service that "
                    "encrypted it, and encrypt it under the new key."
                ),
            )
