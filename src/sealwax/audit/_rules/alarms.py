"""Rules about alarms on the end of a key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from sealwax.audit._account import Account
from sealwax.audit._facts import AlarmFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules import templates
from sealwax.audit._rules.fixes import command, commands
from sealwax.audit._rules.registry import Violation, rule
from sealwax.audit._rules.trails import KMS, active_trails, records_kms
from sealwax.policy import Document
from sealwax.policy._render import Reference, resource

ALARMED: Final = ("DisableKey", "ScheduleKeyDeletion")

_MAX_FILTER: Final = 1024  # the limit of CloudWatch
_PATTERN: Final[Document] = {
    "source": ["aws.kms"],
    "detail-type": ["AWS API Call via CloudTrail"],
    "detail": {"eventSource": [KMS], "eventName": list(ALARMED)},
}


def _event(name: str, account: str, region: str) -> Document:
    """Return what EventBridge gets for a call."""
    return {
        "source": "aws.kms",
        "detail-type": "AWS API Call via CloudTrail",
        "account": account,
        "region": region,
        "detail": {"eventSource": KMS, "eventName": name, "awsRegion": region, "eventType": "AwsApiCall"},
    }


def matches(pattern: object, event: object) -> bool:
    """Tell whether an event pattern certainly matches an event. Unknown parts of a pattern do not match."""
    if not isinstance(pattern, dict) or not isinstance(event, dict):
        return False
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            if not matches(wanted, event.get(name)):
                return False
        elif not isinstance(wanted, list) or not any(_fits(value, event.get(name)) for value in wanted):
            return False
    return bool(pattern)


def _fits(wanted: object, value: object) -> bool:
    if not isinstance(value, str):
        return False
    if isinstance(wanted, str):
        return wanted == value
    if not isinstance(wanted, dict) or len(wanted) != 1:
        return False
    ((operator, operand),) = wanted.items()
    if operator in ("prefix", "suffix") and isinstance(operand, str):
        return value.startswith(operand) if operator == "prefix" else value.endswith(operand)
    if operator == "anything-but":
        excluded = [operand] if isinstance(operand, str) else operand
        are_texts = isinstance(excluded, list) and all(isinstance(text, str) for text in excluded)
        return are_texts and value not in excluded
    return operator == "exists" and operand is True


def _alarms_on(alarm: AlarmFacts, name: str, account: str) -> bool:
    if not alarm.enabled or alarm.targets < 1:
        return False
    if alarm.kind == "rule":
        try:
            pattern = json.loads(alarm.pattern)
        except (ValueError, RecursionError):
            return False
        return matches(pattern, _event(name, account, alarm.region))
    return _filter_matches(alarm.pattern, {"eventSource": KMS, "eventName": name, "eventType": "AwsApiCall"})


def _filter_matches(pattern: str, event: Mapping[str, str]) -> bool:
    """Tell whether a metric filter's pattern certainly matches an event. Unknown parts of a pattern do not match."""
    if len(pattern) > _MAX_FILTER:
        return False

    def term(match: re.Match[str]) -> str:
        field, operator, value = match.groups()
        actual = event.get(field)
        wanted = re.escape(value.strip('"')).replace(r"\*", ".*")
        return str(int(actual is not None and (re.fullmatch(wanted, actual) is not None) == (operator == "=")))

    # Successful calls have no error.
    text = re.sub(r"\$\.error(?:Code|Message)\s+NOT\s+EXISTS", "1", pattern.strip().removeprefix("{").removesuffix("}"))
    text = re.sub(r'\$\.([A-Za-z.]+)\s*(!?=)\s*("[^"]*"|[^\s"()&|]+)', term, text)
    text = re.sub(r"\s", "", text)
    before = ""
    while before != text:
        before = text
        text = re.sub(r"\(([01])\)", r"\1", text)
        text = re.sub(r"([01])&&([01])", lambda both: str(int(both[1] == both[2] == "1")), text)
        # && binds tighter than ||.
        text = re.sub(r"(?<![&01])([01])\|\|([01])(?![&01])", lambda both: str(int("1" in both.groups())), text)
    return text == "1"


@rule(
    "key-end-no-alarm",
    Severity.MEDIUM,
    "no alarm is set for disabling or deleting a key",
    why="The deletion of a key can be canceled for 7 to 30 days, if someone notices; after that, all data under it is "
    "lost.",
    standards=(
        std.CLOUDWATCH_7,
        std.prowler("cloudwatch_log_metric_filter_disable_or_scheduled_deletion_of_kms_cmk"),
        std.SOC_MONITORING,
        std.CSF_LOGS,
    ),
    fix="an EventBridge rule on DisableKey and ScheduleKeyDeletion in each Region",
)
def key_end_no_alarm(account: Account) -> Iterator[Violation]:
    facts = account.facts
    if facts.alarms is None:
        return
    unlisted = {gap.region for gap in facts.gaps if gap.what.startswith(("events:", "cloudwatch:", "logs:"))}
    # The log of a multi-Region trail is in one Region, and has the calls of all Regions.
    everywhere = any(trail.multi_region and records_kms(trail) for trail in active_trails(account))
    for region in sorted({key.region for key in account.own_keys} - unlisted):
        alarms = [alarm for alarm in facts.alarms if alarm.region == region or (alarm.kind == "filter" and everywhere)]
        unseen = [name for name in ALARMED if not any(_alarms_on(alarm, name, facts.account) for alarm in alarms)]
        if unseen:
            yield Violation(
                f"arn:{facts.partition}:kms:{region}:{facts.account}:*",
                None,
                _create_alarm(account, region),
                f"{' and '.join(unseen)} in {region}",
            )


def _create_alarm(account: Account, region: str) -> Fix:
    facts = account.facts
    topic = f"arn:{facts.partition}:sns:{region}:{facts.account}:kms-key-ends"
    event_rule = f"arn:{facts.partition}:events:{region}:{facts.account}:rule/kms-key-ends"
    publish: Document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sns:Publish",
                "Resource": topic,
                "Condition": {"ArnEquals": {"aws:SourceArn": event_rule}},
            }
        ],
    }
    there = ("--region", region)
    attribute = ("--attribute-name", "Policy", "--attribute-value", json.dumps(publish))
    return commands(
        "Let EventBridge publish to a topic, and subscribe people to it (aws sns subscribe).",
        command("aws", "sns", "create-topic", *there, "--name", "kms-key-ends"),
        command("aws", "sns", "set-topic-attributes", *there, "--topic-arn", topic, *attribute),
        command("aws", "events", "put-rule", *there, "--name", "kms-key-ends", "--event-pattern", json.dumps(_PATTERN)),
        command("aws", "events", "put-targets", *there, "--rule", "kms-key-ends", "--targets", f"Id=topic,Arn={topic}"),
        instead=_alarm_templates(publish),
    )


def _alarm_templates(publish: Document) -> list[Block]:
    target = {"Id": "topic", "Arn": {"Ref": "Topic"}}
    topic_arn = Reference("aws_sns_topic.this.arn")
    return [
        *templates.cloudformation(
            {
                "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "kms-key-ends"}},
                "TopicPolicy": {
                    "Type": "AWS::SNS::TopicPolicy",
                    "Properties": {"Topics": [{"Ref": "Topic"}], "PolicyDocument": publish},
                },
                "Rule": {
                    "Type": "AWS::Events::Rule",
                    "Properties": {"Name": "kms-key-ends", "EventPattern": _PATTERN, "Targets": [target]},
                },
            }
        ),
        templates.terraform(
            resource("aws_sns_topic", {"name": "kms-key-ends"}),
            resource("aws_sns_topic_policy", {"arn": topic_arn}, policy=publish),
            resource("aws_cloudwatch_event_rule", {"name": "kms-key-ends", "event_pattern": json.dumps(_PATTERN)}),
            resource(
                "aws_cloudwatch_event_target",
                {"rule": Reference("aws_cloudwatch_event_rule.this.name"), "arn": topic_arn},
            ),
        ),
    ]
