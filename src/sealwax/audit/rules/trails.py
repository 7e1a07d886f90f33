"""Rules about the record: CloudTrail trails, and alarms on what ends a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sealwax.audit.account import Account
from sealwax.audit.facts import AlarmFacts, TrailFacts
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.rule import Found, Rule, as_text

KMS: Final = "kms.amazonaws.com"
ALARMED: Final = ("DisableKey", "ScheduleKeyDeletion")

_LONGEST_FILTER: Final = 1024  # as CloudWatch takes them
_PATTERN: Final[Mapping[str, Any]] = {
    "source": ["aws.kms"],
    "detail-type": ["AWS API Call via CloudTrail"],
    "detail": {"eventSource": [KMS], "eventName": list(ALARMED)},
}


def _shown(trail: TrailFacts) -> dict[str, Any]:
    return {
        "TrailARN": trail.arn,
        "IsMultiRegionTrail": trail.multi_region,
        "LogFileValidationEnabled": trail.validation,
        "IsLogging": trail.logging,
        "ReadWriteType": trail.records,
        "ExcludeManagementEventSources": list(trail.excludes),
    }


def _account(account: Account) -> str:
    return f"arn:{account.facts.partition}:iam::{account.facts.account}:root"


def _active(account: Account) -> list[TrailFacts]:
    """Return the trails that are on, or may be."""
    return [one for one in account.facts.trails or () if one.logging is not False]


def _whole(trail: TrailFacts) -> bool:
    """Whether a trail has every call of KMS, as far as is known. Decrypt is among the calls that only read."""
    return trail.records in (None, "All") and KMS not in trail.excludes


def _covers(trail: TrailFacts, region: str) -> bool:
    return trail.multi_region or trail.arn.split(":")[3:4] == [region]


def _none(account: Account) -> Iterator[Found]:
    if account.facts.trails is not None and not _active(account):
        yield Found(
            _account(account),
            None if not account.facts.trails else {"Trails": [_shown(one) for one in account.facts.trails]},
            "aws cloudtrail create-trail --name all --s3-bucket-name BUCKET --is-multi-region-trail "
            "--enable-log-file-validation, then aws cloudtrail start-logging --name all",
            "none is there" if not account.facts.trails else "all are switched off",
        )


def _single(account: Account) -> Iterator[Found]:
    active = _active(account)
    if active and not any(one.multi_region for one in active):
        for trail in active:
            yield Found(
                trail.arn, _shown(trail), f"aws cloudtrail update-trail --name {trail.arn} --is-multi-region-trail"
            )


def _excluded(account: Account) -> Iterator[Found]:
    active = _active(account)
    whole = [one for one in active if _whole(one)]
    unrecorded = {key.region for key in account.own_keys if not any(_covers(one, key.region) for one in whole)}
    for trail in active:
        if _whole(trail) or (whole and not any(_covers(trail, region) for region in unrecorded)):
            continue
        why = "it leaves out kms.amazonaws.com" if KMS in trail.excludes else f"it records {trail.records} events"
        selector = json.dumps([{"ReadWriteType": "All", "IncludeManagementEvents": True}])
        yield Found(
            trail.arn,
            _shown(trail),
            f"aws cloudtrail put-event-selectors --trail-name {trail.arn} --event-selectors '{selector}'",
            why,
        )


def _unvalidated(account: Account) -> Iterator[Found]:
    for trail in _active(account):
        if not trail.validation:
            yield Found(
                trail.arn, _shown(trail), f"aws cloudtrail update-trail --name {trail.arn} --enable-log-file-validation"
            )


def _event(name: str, account: str, region: str) -> dict[str, Any]:
    """Return what EventBridge is given of a call."""
    return {
        "source": "aws.kms",
        "detail-type": "AWS API Call via CloudTrail",
        "account": account,
        "region": region,
        "detail": {"eventSource": KMS, "eventName": name, "awsRegion": region, "eventType": "AwsApiCall"},
    }


def matches(pattern: Any, event: Any) -> bool:
    """Whether an event pattern fits an event for certain; what is not understood does not fit."""
    if not isinstance(pattern, dict) or not isinstance(event, dict):
        return False
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            if not matches(wanted, event.get(name)):
                return False
        elif not isinstance(wanted, list) or not any(_fits(one, event.get(name)) for one in wanted):
            return False
    return bool(pattern)


def _fits(wanted: Any, given: Any) -> bool:
    if not isinstance(given, str):
        return False
    if isinstance(wanted, str):
        return wanted == given
    if not isinstance(wanted, dict) or len(wanted) != 1:
        return False
    ((operator, value),) = wanted.items()
    if operator in ("prefix", "suffix") and isinstance(value, str):
        return given.startswith(value) if operator == "prefix" else given.endswith(value)
    if operator == "anything-but":
        but = [value] if isinstance(value, str) else value
        return isinstance(but, list) and all(isinstance(one, str) for one in but) and given not in but
    return operator == "exists" and value is True


def _sees(alarm: AlarmFacts, name: str, account: str) -> bool:
    if not alarm.enabled or alarm.targets < 1:
        return False
    if alarm.kind == "rule":
        try:
            pattern = json.loads(alarm.pattern)
        except (ValueError, RecursionError):
            return False
        return matches(pattern, _event(name, account, alarm.region))
    return _takes(alarm.pattern, {"eventSource": KMS, "eventName": name, "eventType": "AwsApiCall"})


def _takes(pattern: str, event: Mapping[str, str]) -> bool:
    """Whether a metric filter's pattern takes an event for certain; what is not understood does not."""
    if len(pattern) > _LONGEST_FILTER:
        return False

    def term(match: re.Match[str]) -> str:
        field, operator, value = match.groups()
        given = event.get(field)
        wanted = re.escape(value.strip('"')).replace(r"\*", ".*")
        return str(int(given is not None and (re.fullmatch(wanted, given) is not None) == (operator == "=")))

    # A call that was carried out has no error.
    text = re.sub(r"\$\.error(?:Code|Message)\s+NOT\s+EXISTS", "1", pattern.strip().removeprefix("{").removesuffix("}"))
    text = re.sub(r'\$\.([A-Za-z.]+)\s*(!?=)\s*("[^"]*"|[^\s"()&|]+)', term, text)
    text = re.sub(r"\s", "", text)
    before = ""
    while before != text:
        before = text
        text = re.sub(r"\(([01])\)", r"\1", text)
        text = re.sub(r"([01])&&([01])", lambda both: str(int(both[1] == both[2] == "1")), text)
        # And binds closer than or.
        text = re.sub(r"(?<![&01])([01])\|\|([01])(?![&01])", lambda both: str(int("1" in both.groups())), text)
    return text == "1"


def _unalarmed(account: Account) -> Iterator[Found]:
    facts = account.facts
    if facts.alarms is None:
        return
    closed = {one.region for one in facts.not_looked_at if one.what.startswith(("events:", "cloudwatch:", "logs:"))}
    # The log of a multi-Region trail is in one Region, and has the calls of all.
    everywhere = any(one.multi_region and _whole(one) for one in _active(account))
    for region in sorted({key.region for key in account.own_keys} - closed):
        about = [one for one in facts.alarms if one.region == region or (one.kind == "filter" and everywhere)]
        unseen = [name for name in ALARMED if not any(_sees(one, name, facts.account) for one in about)]
        if unseen:
            yield Found(
                f"arn:{facts.partition}:kms:{region}:{facts.account}:*",
                None,
                f"aws events put-rule --region {region} --name kms-key-ends --event-pattern file://pattern.json, and "
                f"put-targets with an SNS topic; pattern.json:\n{as_text(_PATTERN)}",
                f"no alarm on {' and '.join(unseen)} in {region}",
            )


RULES: Final = (
    Rule(
        "trail-missing",
        Severity.HIGH,
        "no CloudTrail trail is on",
        "Calls are kept for 90 days in the event history only: later nobody can say who decrypted what.",
        (std.CLOUDTRAIL_1, std.CLOUDTRAIL_3, std.config("cloudtrail-enabled"), std.CIS_3_1, *std.LOGS),
        _none,
    ),
    Rule(
        "trail-single-region",
        Severity.MEDIUM,
        "the trail records one Region only",
        "What is done with a replica or a new key in another Region leaves no lasting record.",
        (
            std.CLOUDTRAIL_1,
            std.config("multi-region-cloudtrail-enabled"),
            std.prowler("cloudtrail_multi_region_enabled"),
            std.CIS_3_1,
            *std.LOGS,
        ),
        _single,
    ),
    Rule(
        "trail-excludes-kms",
        Severity.HIGH,
        "no trail records all calls of KMS",
        "Decrypt is an event that only reads: without these, nobody can say who decrypted what.",
        (std.CLOUDTRAIL_1, std.config("multi-region-cloudtrail-enabled"), std.CIS_3_1, *std.LOGS),
        _excluded,
    ),
    Rule(
        "trail-no-validation",
        Severity.MEDIUM,
        "log file validation is off",
        "Whoever can write to the bucket can change the record, and nobody sees it.",
        (
            std.CLOUDTRAIL_4,
            std.config("cloud-trail-log-file-validation-enabled"),
            std.prowler("cloudtrail_log_file_validation_enabled"),
            std.CIS_3_2,
            std.PCI_LOGS_KEPT,
            std.CSF_LOGS,
        ),
        _unvalidated,
    ),
    Rule(
        "key-end-no-alarm",
        Severity.MEDIUM,
        "nobody is told when a key is disabled or scheduled for deletion",
        "A key can be called back for 7 to 30 days, if somebody knows; afterwards all data under it is lost.",
        (
            std.CLOUDWATCH_7,
            std.prowler("cloudwatch_log_metric_filter_disable_or_scheduled_deletion_of_kms_cmk"),
            std.SOC_MONITORING,
            std.CSF_LOGS,
        ),
        _unalarmed,
    ),
)
