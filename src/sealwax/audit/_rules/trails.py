"""Rules about CloudTrail trails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import TrailFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules import templates
from sealwax.audit._rules.fixes import command, commands, json_file, without
from sealwax.audit._rules.registry import Violation, rule
from sealwax.audit._rules.templates import POLICY
from sealwax.policy import Document
from sealwax.policy._render import KEPT, Reference, block, resource

KMS: Final = "kms.amazonaws.com"


def _shown(trail: TrailFacts) -> Document:
    return {
        "TrailARN": trail.arn,
        "IsMultiRegionTrail": trail.multi_region,
        "LogFileValidationEnabled": trail.validation,
        "IsLogging": trail.logging,
        "ReadWriteType": trail.records,
        "ExcludeManagementEventSources": list(trail.excludes),
    }


def active_trails(account: Account) -> list[TrailFacts]:
    """Return the trails that are on, or may be."""
    return [trail for trail in account.facts.trails or () if trail.logging is not False]


def records_kms(trail: TrailFacts) -> bool:
    """Tell whether a trail records every KMS call, as far as is known. Decrypt is a read event."""
    return trail.records in (None, "All") and KMS not in trail.excludes


def _covers(trail: TrailFacts, region: str) -> bool:
    return trail.multi_region or trail.arn.split(":")[3:4] == [region]


def _name(trail: TrailFacts) -> str:
    return trail.arn.rpartition("/")[2]


def _trail_command(trail: TrailFacts, operation: str, *words: str) -> str:
    name = "--trail-name" if operation == "put-event-selectors" else "--name"
    return command("aws", "cloudtrail", operation, "--region", f"{trail.arn}:::".split(":")[3], name, trail.arn, *words)


@rule(
    "trail-missing",
    Severity.HIGH,
    "no CloudTrail trail is on",
    why="Calls are kept in the event history for 90 days only; after that, no one can tell who decrypted what.",
    standards=(std.CLOUDTRAIL_1, std.CLOUDTRAIL_3, std.config("cloudtrail-enabled"), std.CIS_3_1, *std.LOGS),
    fix="`aws cloudtrail create-trail` with a bucket, and `start-logging`",
)
def trail_missing(account: Account) -> Iterator[Violation]:
    trails = account.facts.trails
    if trails is None or active_trails(account):
        return
    if trails:
        fix = commands("Turn them on.", *(_trail_command(trail, "start-logging") for trail in trails))
        yield Violation(account.root_arn, {"Trails": list(map(_shown, trails))}, fix, "all are off")
    else:
        yield Violation(account.root_arn, None, _create_trail(account), "there is none")


def _create_trail(account: Account) -> Fix:
    facts = account.facts
    region = account.region
    bucket = f"cloudtrail-{facts.account}-{region}"
    policy = _bucket_policy(account, bucket)
    # This Region takes no location constraint.
    location = [] if region == "us-east-1" else ["--create-bucket-configuration", f"LocationConstraint={region}"]
    of_bucket = ("--region", region, "--bucket", bucket)
    of_trail = ("--region", region, "--name", "all")
    options = ("--s3-bucket-name", bucket, "--is-multi-region-trail", "--enable-log-file-validation")
    lines = (
        command("aws", "s3api", "create-bucket", *of_bucket, *location),
        command("aws", "s3api", "put-bucket-policy", *of_bucket, "--policy", f"file://{POLICY}"),
        command("aws", "cloudtrail", "create-trail", *of_trail, *options),
        command("aws", "cloudtrail", "start-logging", *of_trail),
    )
    says = "Create a trail, and a bucket that it writes to. If you can, keep the bucket in an account of its own."
    return Fix(says, (json_file(POLICY, policy), Block("\n".join(lines)), *_trail_templates(bucket, policy)))


def _bucket_policy(account: Account, bucket: str) -> Document:
    """Source: "Amazon S3 bucket policy for CloudTrail" in the CloudTrail User Guide."""
    partition, owner = account.facts.partition, account.facts.account
    source = {"aws:SourceArn": f"arn:{partition}:cloudtrail:{account.region}:{owner}:trail/all"}
    service = {"Principal": {"Service": "cloudtrail.amazonaws.com"}, "Effect": "Allow"}
    acl = {"s3:x-amz-acl": "bucket-owner-full-control"}
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                **service,
                "Action": "s3:GetBucketAcl",
                "Resource": f"arn:{partition}:s3:::{bucket}",
                "Condition": {"StringEquals": source},
            },
            {
                **service,
                "Action": "s3:PutObject",
                "Resource": f"arn:{partition}:s3:::{bucket}/AWSLogs/{owner}/*",
                "Condition": {"StringEquals": source | acl},
            },
        ],
    }


def _trail_templates(bucket: str, policy: Document) -> list[Block]:
    settings = {
        "TrailName": "all",
        "S3BucketName": {"Ref": "Bucket"},
        "IsLogging": True,
        "IsMultiRegionTrail": True,
        "IncludeGlobalServiceEvents": True,
        "EnableLogFileValidation": True,
    }
    arguments = {
        "name": "all",
        "s3_bucket_name": Reference("aws_s3_bucket.this.id"),
        "is_multi_region_trail": True,
        "enable_log_file_validation": True,
        "depends_on": Reference("[aws_s3_bucket_policy.this]"),
    }
    return [
        *templates.cloudformation(
            {
                "Bucket": {"Type": "AWS::S3::Bucket", **KEPT, "Properties": {"BucketName": bucket}},
                "BucketPolicy": {
                    "Type": "AWS::S3::BucketPolicy",
                    "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": policy},
                },
                "Trail": {"Type": "AWS::CloudTrail::Trail", "DependsOn": "BucketPolicy", "Properties": settings},
            }
        ),
        templates.terraform(
            resource("aws_s3_bucket", {"bucket": bucket}),
            resource("aws_s3_bucket_policy", {"bucket": Reference("aws_s3_bucket.this.id")}, policy=policy),
            resource("aws_cloudtrail", arguments),
        ),
    ]


@rule(
    "trail-single-region",
    Severity.MEDIUM,
    "the trail records only one Region",
    why="Calls to a replica or a new key in another Region leave no lasting record.",
    standards=(
        std.CLOUDTRAIL_1,
        std.config("multi-region-cloudtrail-enabled"),
        std.prowler("cloudtrail_multi_region_enabled"),
        std.CIS_3_1,
        *std.LOGS,
    ),
    fix="`aws cloudtrail update-trail --is-multi-region-trail`",
)
def trail_single_region(account: Account) -> Iterator[Violation]:
    active = active_trails(account)
    if active and not any(trail.multi_region for trail in active):
        for trail in active:
            fix = commands(
                "Let it record every Region.",
                _trail_command(trail, "update-trail", "--is-multi-region-trail"),
                instead=templates.trail(_name(trail), {"IsMultiRegionTrail": True}, {"is_multi_region_trail": True}),
            )
            yield Violation(trail.arn, _shown(trail), fix)


@rule(
    "trail-excludes-kms",
    Severity.HIGH,
    "no trail records all KMS calls",
    why="Decrypt is a read event; without these events, no one can tell who decrypted what.",
    standards=(std.CLOUDTRAIL_1, std.config("multi-region-cloudtrail-enabled"), std.CIS_3_1, *std.LOGS),
    fix="`aws cloudtrail put-event-selectors`",
)
def trail_excludes_kms(account: Account) -> Iterator[Violation]:
    active = active_trails(account)
    complete = [trail for trail in active if records_kms(trail)]
    unrecorded = {key.region for key in account.own_keys if not any(_covers(trail, key.region) for trail in complete)}
    for trail in active:
        if records_kms(trail) or (complete and not any(_covers(trail, region) for region in unrecorded)):
            continue
        detail = f"it records {'no' if trail.records == 'None' else trail.records} management events"
        if KMS in trail.excludes:
            detail = f"it leaves out {KMS}"
        yield Violation(trail.arn, _shown(trail), _select_kms(trail), detail)


def _select_kms(trail: TrailFacts) -> Fix:
    """Return the fix that makes a trail record all KMS calls and keeps what else it records."""
    try:
        selectors = json.loads(trail.selectors or "")
        advanced = bool(selectors.get("AdvancedEventSelectors"))
        if advanced:
            changed = _advanced_selectors(selectors["AdvancedEventSelectors"])
            instead = _advanced_templates(trail, changed)
        else:
            changed = _basic_selectors(selectors.get("EventSelectors", []))
            instead = _basic_templates(trail, changed)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return Fix(
            f"Let it record all management events, including those of {KMS}. put-event-selectors replaces all "
            "selectors, so include those that aws cloudtrail get-event-selectors shows."
        )
    option = "--advanced-event-selectors" if advanced else "--event-selectors"
    return Fix(
        "Let it record all KMS calls. These are all of its selectors; what else they record stays.",
        (
            json_file("selectors.json", changed),
            Block(_trail_command(trail, "put-event-selectors", option, "file://selectors.json")),
            *instead,
        ),
    )


def _basic_selectors(selectors: Sequence[Document]) -> list[Document]:
    excluded = {source for selector in selectors for source in selector.get("ExcludeManagementEventSources", ())} - {
        KMS
    }
    # The kind of events of a selector applies to its data events too, so those selectors stay.
    kept = [
        without(selector, "ExcludeManagementEventSources") | {"IncludeManagementEvents": False}
        for selector in selectors
        if selector.get("DataResources")
    ]
    every: Document = {"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}
    if excluded:
        every["ExcludeManagementEventSources"] = sorted(excluded)
    return [*kept, every]


def _basic_templates(trail: TrailFacts, selectors: Sequence[Document]) -> list[Block]:
    blocks = []
    for selector in selectors:
        data = "".join(
            "\n" + _indent(block("data_resource", {"type": entry["Type"], "values": list(entry["Values"])}))
            for entry in selector["DataResources"]
        )
        arguments = {
            "read_write_type": selector.get("ReadWriteType", "All"),
            "include_management_events": selector["IncludeManagementEvents"],
        }
        if "ExcludeManagementEventSources" in selector:
            arguments["exclude_management_event_sources"] = selector["ExcludeManagementEventSources"]
        blocks.append(block("event_selector", arguments, data))
    return templates.trail(_name(trail), {"EventSelectors": list(selectors)}, {}, "\n".join(blocks))


def _advanced_selectors(selectors: Sequence[Document]) -> list[Document]:
    def is_management(selector: Document) -> bool:
        return any(
            field["Field"] == "eventCategory" and "Management" in field.get("Equals", ())
            for field in selector["FieldSelectors"]
        )

    excluded = {
        source
        for selector in selectors
        if is_management(selector)
        for field in selector["FieldSelectors"]
        if field["Field"] == "eventSource"
        for source in field.get("NotEquals", ())
    } - {KMS}
    fields: list[Document] = [{"Field": "eventCategory", "Equals": ["Management"]}]
    if excluded:
        fields.append({"Field": "eventSource", "NotEquals": sorted(excluded)})
    management = {"Name": "Management events", "FieldSelectors": fields}
    return [*(selector for selector in selectors if not is_management(selector)), management]


_OPERATORS: Final[Mapping[str, str]] = {
    "Equals": "equals",
    "NotEquals": "not_equals",
    "StartsWith": "starts_with",
    "NotStartsWith": "not_starts_with",
    "EndsWith": "ends_with",
    "NotEndsWith": "not_ends_with",
}


def _advanced_templates(trail: TrailFacts, selectors: Sequence[Document]) -> list[Block]:
    blocks = []
    for selector in selectors:
        fields = "".join(
            "\n"
            + _indent(
                block(
                    "field_selector",
                    {"field": field["Field"]}
                    | {name: field[operator] for operator, name in _OPERATORS.items() if operator in field},
                )
            )
            for field in selector["FieldSelectors"]
        )
        arguments = {"name": selector["Name"]} if "Name" in selector else {}
        blocks.append(block("advanced_event_selector", arguments, fields))
    return templates.trail(_name(trail), {"AdvancedEventSelectors": list(selectors)}, {}, "\n".join(blocks))


def _indent(text: str) -> str:
    return "".join(f"  {line}" for line in text.splitlines(keepends=True))


@rule(
    "trail-no-validation",
    Severity.MEDIUM,
    "log file validation is off",
    why="Anyone who can write to the bucket can change the record unnoticed.",
    standards=(
        std.CLOUDTRAIL_4,
        std.config("cloud-trail-log-file-validation-enabled"),
        std.prowler("cloudtrail_log_file_validation_enabled"),
        std.CIS_3_2,
        std.PCI_LOGS_KEPT,
        std.CSF_LOGS,
    ),
    fix="`aws cloudtrail update-trail --enable-log-file-validation`",
)
def trail_no_validation(account: Account) -> Iterator[Violation]:
    for trail in active_trails(account):
        if not trail.validation:
            fix = commands(
                "Turn it on.",
                _trail_command(trail, "update-trail", "--enable-log-file-validation"),
                instead=templates.trail(
                    _name(trail), {"EnableLogFileValidation": True}, {"enable_log_file_validation": True}
                ),
            )
            yield Violation(trail.arn, _shown(trail), fix)
