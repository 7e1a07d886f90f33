"""Rules about keys themselves: rotation, imported material, state, use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import KeyFacts
from sealwax.audit._findings import Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import commands, kms
from sealwax.audit._rules.rule import Found, Rule

MAX_PERIOD: Final = timedelta(days=365)
EXPIRES_SOON: Final = timedelta(days=30)
UNUSED_AFTER: Final = timedelta(days=90)
_DELETING: Final = ("PendingDeletion", "PendingReplicaDeletion")
# KMS tells of keys in these that they cannot decrypt.
UNUSABLE: Final = ("Disabled", *_DELETING, "PendingImport", "Unavailable")


def _rotates(key: KeyFacts) -> bool:
    """Whether KMS can rotate a key by itself; a replica follows its primary."""
    return (
        key.spec == "SYMMETRIC_DEFAULT"
        and key.origin == "AWS_KMS"
        and key.state == "Enabled"
        and key.multi_region != "replica"
    )


_YEARLY: Final = ("enable-key-rotation", "--rotation-period-in-days", "365")


def _off(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if _rotates(key) and key.rotation is not None and not key.rotation.enabled:
            yield Found(
                key.arn,
                {"KeyRotationEnabled": False},
                commands("Have KMS rotate it each year.", kms(key, *_YEARLY)),
            )


def _long(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        period = key.rotation.period_days if _rotates(key) and key.rotation is not None else None
        if period is not None and period > MAX_PERIOD.days:
            yield Found(
                key.arn,
                {"KeyRotationEnabled": True, "RotationPeriodInDays": period},
                commands("Have KMS rotate it each year.", kms(key, *_YEARLY)),
                f"{period} days",
            )


def _never(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        imported = key.origin == "EXTERNAL" and key.state == "Enabled" and key.multi_region != "replica"
        on = _rotates(key) and key.rotation is not None and key.rotation.enabled
        old = account.facts.time - key.created > MAX_PERIOD
        if (imported or on) and key.rotations == () and old and key.spec == "SYMMETRIC_DEFAULT":
            first = (
                "Import new material (get-parameters-for-import, import-key-material), and then rotate"
                if imported
                else "Rotate"
            )
            fix = commands(f"{first} it now. What is sealed already stays readable.", kms(key, "rotate-key-on-demand"))
            yield Found(key.arn, {"Rotations": []}, fix, f"its material is of {key.created:%Y-%m-%d}")


def _expires(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.origin == "EXTERNAL" and key.valid_to is not None and key.state == "Enabled":
            left = key.valid_to - account.facts.time
            if left <= EXPIRES_SOON:
                yield Found(
                    key.arn,
                    {"ExpirationModel": "KEY_MATERIAL_EXPIRES", "ValidTo": key.valid_to.isoformat()},
                    commands(
                        "Import the same material again with a later date, by aws kms import-key-material. It takes an "
                        "import token and a wrapping key, which this gives:",
                        kms(
                            key,
                            "get-parameters-for-import",
                            "--wrapping-algorithm",
                            "RSAES_OAEP_SHA_256",
                            "--wrapping-key-spec",
                            "RSA_4096",
                        ),
                    ),
                    f"on {key.valid_to:%Y-%m-%d %H:%M} UTC",
                )


def _unusable(account: Account) -> Iterator[Found]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.arn in under and key.state in UNUSABLE:
            deadline = f", deleted on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else ""
            yield Found(
                key.arn,
                {"KeyState": key.state},
                _back(key, "Bring the key back, and then move the envelopes to another one with sealwax rewrap."),
                f"{key.state}{deadline}",
            )


def _back(key: KeyFacts, says: str) -> Fix:
    """Return how a key that cannot be used can be."""
    if key.state in _DELETING:
        # Without its imported material it waits for that, and cannot be enabled.
        enable = [kms(key, "enable-key")] if key.origin != "EXTERNAL" else []
        return commands(says, kms(key, "cancel-key-deletion"), *enable)
    if key.state == "Disabled":
        return commands(says, kms(key, "enable-key"))
    if key.state == "PendingImport":
        return Fix(f"{says} It waits for the import of its key material (aws kms import-key-material).")
    return Fix(
        f"{says} It can be used again when its custom key store is connected (aws kms connect-custom-key-store)."
    )


def _pending(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.state in _DELETING:
            when = f" on {key.deletion_date:%Y-%m-%d}" if key.deletion_date is not None else ""
            yield Found(
                key.arn,
                {"KeyState": key.state},
                commands(
                    "See in CloudTrail whether it is used. If its deletion is not meant, cancel it; the key is "
                    "disabled then.",
                    kms(key, "cancel-key-deletion"),
                ),
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
                commands(
                    "Disable it and see who complains; enable-key brings it back. Delete it only when no envelope is "
                    "under it.",
                    kms(key, "disable-key"),
                ),
                said,
            )


def _in_store(account: Account) -> Iterator[Found]:
    for key in account.own_keys:
        if key.key_store is not None:
            yield Found(
                key.arn,
                {"CustomKeyStoreId": key.key_store, "Origin": key.origin},
                Fix(
                    "Keep envelopes under a second key as well, outside of the store: sealwax encrypt -k KEY -k "
                    "OTHER-KEY. Rotate by hand: make a new key and sealwax rewrap to it."
                ),
                f"{key.key_store} ({key.origin})",
            )


def _aws_managed(account: Account) -> Iterator[Found]:
    under = set(account.facts.envelopes_under or ())
    for key in account.facts.keys:
        if key.manager == "AWS" and key.arn in under:
            yield Found(
                key.arn,
                {"KeyManager": "AWS"},
                Fix(
                    "Make a customer managed key (aws kms create-key), read the data through the service that sealed "
                    "it, and seal it under the new key."
                ),
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
