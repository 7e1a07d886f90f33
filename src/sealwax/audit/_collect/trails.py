"""Facts of the record, and of who is told: CloudTrail, EventBridge and CloudWatch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Final

from sealwax.audit._collect import cloudtrail
from sealwax.audit._collect.client import Looking, UnreadableError
from sealwax.audit._collect.explanation import pages
from sealwax.audit._facts import AlarmFacts, EventFacts, TrailFacts

# CloudTrail gives 50 events a page and two pages a second.
MOST_EVENTS: Final = 500


@dataclass(frozen=True, slots=True)
class _Recorded:
    kind: str
    excludes: tuple[str, ...]
    selectors: str | None = None


def trails(look: Looking, regions: Sequence[str]) -> tuple[TrailFacts, ...] | None:
    found: dict[str, TrailFacts] = {}
    whole = True
    for region in regions:
        ask = partial(_described_trails, look, region)
        trails = look.at("cloudtrail:DescribeTrails", "*", region, tuple[TrailFacts, ...], ask)
        whole = whole and trails is not None
        for trail in trails or ():
            if trail.arn not in found:
                found[trail.arn] = _trail(look, trail)
    return tuple(found.values()) if whole else None


def _described_trails(look: Looking, region: str) -> tuple[TrailFacts, ...]:
    described = look.client("cloudtrail", region).describe_trails()["trailList"]
    return tuple(
        TrailFacts(
            one["TrailARN"],
            multi_region=one.get("IsMultiRegionTrail", False),
            validation=one.get("LogFileValidationEnabled", False),
        )
        for one in described
    )


def _trail(look: Looking, trail: TrailFacts) -> TrailFacts:
    arn, home = trail.arn, trail.arn.split(":")[3]

    def logging() -> bool:
        on: bool = look.client("cloudtrail", home).get_trail_status(Name=arn)["IsLogging"]
        return on

    def recorded() -> _Recorded:
        answer = look.client("cloudtrail", home).get_event_selectors(TrailName=arn)
        given = {name: answer[name] for name in ("EventSelectors", "AdvancedEventSelectors") if answer.get(name)}
        return _Recorded(*_recorded(answer), json.dumps(given))

    records = look.at("cloudtrail:GetEventSelectors", arn, home, _Recorded, recorded)
    return replace(
        trail,
        logging=look.at("cloudtrail:GetTrailStatus", arn, home, bool, logging),
        records=None if records is None else records.kind,
        excludes=() if records is None else records.excludes,
        selectors=None if records is None else records.selectors,
    )


def _recorded(selectors: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return which management events a trail records, and of which sources it does not.

    Source: "Logging management events" in the CloudTrail User Guide; a trail without selectors records all.
    """
    kinds: set[str] = set()
    excluded: list[set[str]] = []
    for one in selectors.get("EventSelectors") or ():
        if one.get("IncludeManagementEvents", True):
            kinds.add(one.get("ReadWriteType", "All"))
            excluded.append(set(one.get("ExcludeManagementEventSources", ())))
    for one in selectors.get("AdvancedEventSelectors") or ():
        fields = {each["Field"]: each for each in one["FieldSelectors"]}
        if "Management" in fields.get("eventCategory", {}).get("Equals", ()) and not _narrows(fields):
            only = fields.get("readOnly", {}).get("Equals")
            kinds.add("All" if not only else "ReadOnly" if only == ["true"] else "WriteOnly")
            excluded.append(set(fields.get("eventSource", {}).get("NotEquals", ())))
    if not kinds:
        nothing_said = not selectors.get("EventSelectors") and not selectors.get("AdvancedEventSelectors")
        return ("All" if nothing_said else "None"), ()
    kind = "All" if "All" in kinds or len(kinds) > 1 else kinds.pop()
    return kind, tuple(sorted(set.intersection(*excluded)))


def _narrows(fields: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a selector takes less of KMS than its reads, its writes or all: by names, callers or other services."""
    source = fields.get("eventSource", {})
    other = "kms.amazonaws.com" not in source.get("Equals", ("kms.amazonaws.com",))
    return other or bool(
        set(fields) - {"eventCategory", "readOnly", "eventSource"} or set(source) - {"Field", "Equals", "NotEquals"}
    )


def alarms(look: Looking, regions: Sequence[str]) -> tuple[AlarmFacts, ...] | None:
    found: list[AlarmFacts] = []
    whole = True
    for region in regions:
        for action, ask in (("events:ListRules", _rules), ("logs:DescribeMetricFilters", _filters)):
            seen = look.at(action, "*", region, tuple[AlarmFacts, ...], partial(ask, look, region))
            whole = whole and seen is not None
            found += seen or ()
    # Where one place was not seen, that there is no alarm cannot be said.
    return tuple(found) if whole else None


def _rules(look: Looking, region: str) -> tuple[AlarmFacts, ...]:
    client = look.client("events", region)
    found = []
    for rule in pages(client, "list_rules", "Rules"):
        if "EventPattern" in rule:
            targets = pages(client, "list_targets_by_rule", "Targets", Rule=rule["Name"])
            enabled = rule.get("State") != "DISABLED"
            found.append(AlarmFacts(rule["Arn"], region, "rule", rule["EventPattern"], enabled, len(targets)))
    return tuple(found)


def _filters(look: Looking, region: str) -> tuple[AlarmFacts, ...]:
    filters = pages(look.client("logs", region), "describe_metric_filters", "metricFilters")
    if not filters:
        return ()
    alarms: Counter[tuple[str, str]] = Counter()
    for alarm in pages(look.client("cloudwatch", region), "describe_alarms", "MetricAlarms"):
        if alarm.get("ActionsEnabled") and alarm.get("AlarmActions") and "MetricName" in alarm:
            alarms[(alarm["Namespace"], alarm["MetricName"])] += 1
    return tuple(
        AlarmFacts(
            f"{one['logGroupName']}/{one['filterName']}",
            region,
            "filter",
            one.get("filterPattern", ""),
            targets=sum(alarms[(to["metricNamespace"], to["metricName"])] for to in one["metricTransformations"]),
        )
        for one in filters
    )


def events(look: Looking, regions: Sequence[str]) -> tuple[EventFacts, ...] | None:
    """Return the last calls of KMS, at most :data:`MOST_EVENTS` a Region."""
    found: list[EventFacts] = []
    whole = True
    for region in regions:
        events = look.at(cloudtrail.LOOKUP, "*", region, tuple[EventFacts, ...], partial(_looked_up, look, region))
        whole = whole and events is not None
        found += events or ()
        if events is not None and len(events) == MOST_EVENTS:
            oldest = min(one.time for one in events)
            why = f"only the last {MOST_EVENTS} calls were asked for, those since {oldest:%Y-%m-%d %H:%M} UTC"
            look.miss(cloudtrail.LOOKUP, "*", region, f"{why}: give more with --events", refused=False)
    return tuple(sorted(found, key=lambda one: (one.time, one.id))) if whole else None


def _looked_up(look: Looking, region: str) -> tuple[EventFacts, ...]:
    source = [{"AttributeKey": "EventSource", "AttributeValue": "kms.amazonaws.com"}]
    looked = look.client("cloudtrail", region).get_paginator("lookup_events").paginate(LookupAttributes=source)
    records = islice((one for page in looked for one in page["Events"]), MOST_EVENTS)
    try:
        return tuple(event for event in map(cloudtrail.event_of, records) if event is not None)
    except ValueError as error:
        raise UnreadableError(f"an event cannot be read: {error}") from None
