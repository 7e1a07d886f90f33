"""Rules about the record: CloudTrail trails, and alarms on what ends a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sealwax.audit._account import Account
from sealwax.audit._facts import AlarmFacts, TrailFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import POLICY, as_text, command, commands
from sealwax.audit._rules.rule import Found, Rule

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
        there = account.facts.trails
        yield Found(
            _account(account),
            None if not there else {"Trails": [_shown(one) for one in there]},
            commands("Switch them on.", *(_trail(one, "start-logging") for one in there)) if there else _new(account),
            "none is there" if not there else "all are switched off",
        )


def _trail(trail: TrailFacts, operation: str, *words: str) -> str:
    name = "--trail-name" if operation == "put-event-selectors" else "--name"
    return command("aws", "cloudtrail", operation, "--region", f"{trail.arn}:::".split(":")[3], name, trail.arn, *words)


def _new(account: Account) -> Fix:
    """Return how a trail is made, with the bucket that it writes to."""
    facts = account.facts
    region = account.region
    bucket = f"cloudtrail-{facts.account}-{region}"
    of_trail = {
        "StringEquals": {"aws:SourceArn": f"arn:{facts.partition}:cloudtrail:{region}:{facts.account}:trail/all"}
    }
    service = {"Principal": {"Service": "cloudtrail.amazonaws.com"}, "Effect": "Allow"}
    # "Amazon S3 bucket policy for CloudTrail" in the CloudTrail User Guide.
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            service
            | {"Action": "s3:GetBucketAcl", "Resource": f"arn:{facts.partition}:s3:::{bucket}", "Condition": of_trail},
            service
            | {
                "Action": "s3:PutObject",
                "Resource": f"arn:{facts.partition}:s3:::{bucket}/AWSLogs/{facts.account}/*",
                "Condition": {"StringEquals": of_trail["StringEquals"] | {"s3:x-amz-acl": "bucket-owner-full-control"}},
            },
        ],
    }
    # Only there no place is named.
    place = [] if region == "us-east-1" else ["--create-bucket-configuration", f"LocationConstraint={region}"]
    where = ("--region", region, "--bucket", bucket)
    named = ("--region", region, "--name", "all")
    new = ("--s3-bucket-name", bucket, "--is-multi-region-trail", "--enable-log-file-validation")
    lines = (
        command("aws", "s3api", "create-bucket", *where, *place),
        command("aws", "s3api", "put-bucket-policy", *where, "--policy", f"file://{POLICY}"),
        command("aws", "cloudtrail", "create-trail", *named, *new),
        command("aws", "cloudtrail", "start-logging", *named),
    )
    says = "Make a trail, and a bucket for it to write to; keep the bucket in an account of its own if you have one."
    return Fix(says, (Block(as_text(policy), POLICY), Block("\n".join(lines))))


def _single(account: Account) -> Iterator[Found]:
    active = _active(account)
    if active and not any(one.multi_region for one in active):
        for trail in active:
            fix = commands("Have it record every Region.", _trail(trail, "update-trail", "--is-multi-region-trail"))
            yield Found(trail.arn, _shown(trail), fix)


def _excluded(account: Account) -> Iterator[Found]:
    active = _active(account)
    whole = [one for one in active if _whole(one)]
    unrecorded = {key.region for key in account.own_keys if not any(_covers(one, key.region) for one in whole)}
    for trail in active:
        if _whole(trail) or (whole and not any(_covers(trail, region) for region in unrecorded)):
            continue
        why = "it leaves out kms.amazonaws.com" if KMS in trail.excludes else f"it records {trail.records} events"
        yield Found(trail.arn, _shown(trail), _selected(trail), why)


_ALL_EVENTS: Final = {
    "Name": "Management events",
    "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}],
}


def _selected(trail: TrailFacts) -> Fix:
    """Return how a trail records all calls of KMS, and whatever it records beside as before."""
    try:
        file, option, selectors = _selectors(json.loads(trail.selectors or ""))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return Fix(
            "Have it record all management events, those of kms.amazonaws.com among them: see with aws cloudtrail "
            "get-event-selectors what it records beside, and put that too, for put-event-selectors replaces all."
        )
    put = _trail(trail, "put-event-selectors", option, f"file://{file}")
    says = "Have it record all calls of KMS. These are all of its selectors; what else they record stays."
    return Fix(says, (Block(as_text(selectors), file), Block(put)))


def _selectors(given: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """Return the name of a file, the option that takes it, and selectors that leave out no call of KMS."""
    if given.get("AdvancedEventSelectors"):
        return "selectors.json", "--advanced-event-selectors", _advanced(given["AdvancedEventSelectors"])
    return "selectors.json", "--event-selectors", _basic(given.get("EventSelectors", []))


def _basic(given: Any) -> list[dict[str, Any]]:
    excluded = {source for one in given for source in one.get("ExcludeManagementEventSources", ())} - {KMS}
    # A selector's kind of events is that of its data events too, which stay as they are.
    kept = [dict(one) | {"IncludeManagementEvents": False} for one in given if one.get("DataResources")]
    for one in kept:
        one.pop("ExcludeManagementEventSources", None)
    every = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}
    return [*kept, every | ({"ExcludeManagementEventSources": sorted(excluded)} if excluded else {})]


def _advanced(given: Any) -> list[dict[str, Any]]:
    def is_management(one: Any) -> bool:
        return any(
            each["Field"] == "eventCategory" and "Management" in each.get("Equals", ())
            for each in one["FieldSelectors"]
        )

    excluded = {
        source
        for one in given
        if is_management(one)
        for each in one["FieldSelectors"]
        if each["Field"] == "eventSource"
        for source in each.get("NotEquals", ())
    } - {KMS}
    fields = [*_ALL_EVENTS["FieldSelectors"]]
    fields += [{"Field": "eventSource", "NotEquals": sorted(excluded)}] if excluded else []
    return [*(one for one in given if not is_management(one)), _ALL_EVENTS | {"FieldSelectors": fields}]


def _unvalidated(account: Account) -> Iterator[Found]:
    for trail in _active(account):
        if not trail.validation:
            fix = commands("Switch it on.", _trail(trail, "update-trail", "--enable-log-file-validation"))
            yield Found(trail.arn, _shown(trail), fix)


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
    closed = {one.region for one in facts.gaps if one.what.startswith(("events:", "cloudwatch:", "logs:"))}
    # The log of a multi-Region trail is in one Region, and has the calls of all.
    everywhere = any(one.multi_region and _whole(one) for one in _active(account))
    for region in sorted({key.region for key in account.own_keys} - closed):
        about = [one for one in facts.alarms if one.region == region or (one.kind == "filter" and everywhere)]
        unseen = [name for name in ALARMED if not any(_sees(one, name, facts.account) for one in about)]
        if unseen:
            yield Found(
                f"arn:{facts.partition}:kms:{region}:{facts.account}:*",
                None,
                _told(account, region),
                f"no alarm on {' and '.join(unseen)} in {region}",
            )


def _told(account: Account, region: str) -> Fix:
    """Return how people are told of the end of a key."""
    facts = account.facts
    topic = f"arn:{facts.partition}:sns:{region}:{facts.account}:kms-key-ends"
    rule = f"arn:{facts.partition}:events:{region}:{facts.account}:rule/kms-key-ends"
    publish = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": topic,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
            }
        ],
    }
    there = ("--region", region)
    attribute = ("--attribute-name", "Policy", "--attribute-value", json.dumps(publish))
    return commands(
        "Have EventBridge tell a topic, and subscribe people to that (aws sns subscribe).",
        command("aws", "sns", "create-topic", *there, "--name", "kms-key-ends"),
        command("aws", "sns", "set-topic-attributes", *there, "--topic-arn", topic, *attribute),
        command("aws", "events", "put-rule", *there, "--name", "kms-key-ends", "--event-pattern", json.dumps(_PATTERN)),
        command("aws", "events", "put-targets", *there, "--rule", "kms-key-ends", "--targets", f"Id=topic,Arn={topic}"),
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
