"""Facts of logging and alarms: CloudTrail, EventBridge and CloudWatch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

from sealwax.audit._collect import cloudtrail
from sealwax.audit._collect.client import Collector, Response, UnreadableError, pages
from sealwax.audit._facts import AlarmFacts, EventFacts, TrailFacts

# CloudTrail returns 50 events a page and two pages a second.
MAX_EVENTS: Final = 500


@dataclass(frozen=True, slots=True)
class _Recorded:
    kind: str
    excludes: tuple[str, ...]
    selectors: str | None = None


def trails(collector: Collector, regions: Sequence[str]) -> tuple[TrailFacts, ...] | None:
    """Return the trails of the account, or None if they could not be listed in some Region."""
    by_arn: dict[str, TrailFacts] = {}
    complete = True
    for region in regions:
        describe = partial(_describe_trails, collector, region)
        listed = collector.ask("cloudtrail:DescribeTrails", "*", region, tuple[TrailFacts, ...], describe)
        complete = complete and listed is not None
        for trail in listed or ():
            if trail.arn not in by_arn:
                by_arn[trail.arn] = _trail(collector, trail)
    return tuple(by_arn.values()) if complete else None


def _describe_trails(collector: Collector, region: str) -> tuple[TrailFacts, ...]:
    return tuple(
        TrailFacts(
            trail["TrailARN"],
            multi_region=trail.get("IsMultiRegionTrail", False),
            validation=trail.get("LogFileValidationEnabled", False),
        )
        for trail in collector.client("cloudtrail", region).describe_trails()["trailList"]
    )


def _trail(collector: Collector, trail: TrailFacts) -> TrailFacts:
    arn, home = trail.arn, trail.arn.split(":")[3]

    def logging() -> bool:
        on: bool = collector.client("cloudtrail", home).get_trail_status(Name=arn)["IsLogging"]
        return on

    def recorded() -> _Recorded:
        response = collector.client("cloudtrail", home).get_event_selectors(TrailName=arn)
        selectors = {
            name: response[name] for name in ("EventSelectors", "AdvancedEventSelectors") if response.get(name)
        }
        return _Recorded(*_recorded(response), json.dumps(selectors))

    records = collector.ask("cloudtrail:GetEventSelectors", arn, home, _Recorded, recorded)
    return replace(
        trail,
        logging=collector.ask("cloudtrail:GetTrailStatus", arn, home, bool, logging),
        records=None if records is None else records.kind,
        excludes=() if records is None else records.excludes,
        selectors=None if records is None else records.selectors,
    )


def _recorded(selectors: Response) -> tuple[str, tuple[str, ...]]:
    """Return the management events that a trail records, and the sources that it leaves out.

    Source: "Logging management events" in the CloudTrail User Guide. A trail without selectors records everything.
    """
    kinds: set[str] = set()
    excluded: list[set[str]] = []
    for selector in selectors.get("EventSelectors") or ():
        if selector.get("IncludeManagementEvents", True):
            kinds.add(selector.get("ReadWriteType", "All"))
            excluded.append(set(selector.get("ExcludeManagementEventSources", ())))
    for selector in selectors.get("AdvancedEventSelectors") or ():
        fields = {field["Field"]: field for field in selector["FieldSelectors"]}
        if "Management" in fields.get("eventCategory", {}).get("Equals", ()) and not _narrows(fields):
            only = fields.get("readOnly", {}).get("Equals")
            kinds.add("All" if not only else "ReadOnly" if only == ["true"] else "WriteOnly")
            excluded.append(set(fields.get("eventSource", {}).get("NotEquals", ())))
    if not kinds:
        unset = not selectors.get("EventSelectors") and not selectors.get("AdvancedEventSelectors")
        return ("All" if unset else "None"), ()
    kind = "All" if "All" in kinds or len(kinds) > 1 else kinds.pop()
    return kind, tuple(sorted(set.intersection(*excluded)))


def _narrows(fields: Mapping[str, Response]) -> bool:
    """Tell whether a selector limits KMS events by more than reads and writes: by name, caller or service."""
    source = fields.get("eventSource", {})
    other = "kms.amazonaws.com" not in source.get("Equals", ("kms.amazonaws.com",))
    return other or bool(
        set(fields) - {"eventCategory", "readOnly", "eventSource"} or set(source) - {"Field", "Equals", "NotEquals"}
    )


def alarms(collector: Collector, regions: Sequence[str]) -> tuple[AlarmFacts, ...] | None:
    """Return the event rules, and the metric filters with alarms, or None if they could not be listed somewhere."""
    all_alarms: list[AlarmFacts] = []
    complete = True
    for region in regions:
        for action, read in (("events:ListRules", _event_rules), ("logs:DescribeMetricFilters", _metric_filters)):
            listed = collector.ask(action, "*", region, tuple[AlarmFacts, ...], partial(read, collector, region))
            complete = complete and listed is not None
            all_alarms += listed or ()
    return tuple(all_alarms) if complete else None


def _event_rules(collector: Collector, region: str) -> tuple[AlarmFacts, ...]:
    client = collector.client("events", region)
    alarms = []
    for rule in pages(client, "list_rules", "Rules"):
        if "EventPattern" in rule:
            targets = pages(client, "list_targets_by_rule", "Targets", Rule=rule["Name"])
            enabled = rule.get("State") != "DISABLED"
            alarms.append(AlarmFacts(rule["Arn"], region, "rule", rule["EventPattern"], enabled, len(targets)))
    return tuple(alarms)


def _metric_filters(collector: Collector, region: str) -> tuple[AlarmFacts, ...]:
    filters = pages(collector.client("logs", region), "describe_metric_filters", "metricFilters")
    if not filters:
        return ()
    alarms: Counter[tuple[str, str]] = Counter()
    for alarm in pages(collector.client("cloudwatch", region), "describe_alarms", "MetricAlarms"):
        if alarm.get("ActionsEnabled") and alarm.get("AlarmActions") and "MetricName" in alarm:
            alarms[(alarm["Namespace"], alarm["MetricName"])] += 1
    return tuple(
        AlarmFacts(
            f"{filter_['logGroupName']}/{filter_['filterName']}",
            region,
            "filter",
            filter_.get("filterPattern", ""),
            targets=sum(
                alarms[(metric["metricNamespace"], metric["metricName"])] for metric in filter_["metricTransformations"]
            ),
        )
        for filter_ in filters
    )


def events(collector: Collector, regions: Sequence[str]) -> tuple[EventFacts, ...] | None:
    """Return the last KMS calls, at most ``MAX_EVENTS`` a Region, or None if the lookup failed in some Region."""
    all_events: list[EventFacts] = []
    complete = True
    for region in regions:
        look_up = partial(_look_up_events, collector, region)
        events = collector.ask(cloudtrail.LOOKUP, "*", region, tuple[EventFacts, ...], look_up)
        complete = complete and events is not None
        all_events += events or ()
        if events is not None and len(events) == MAX_EVENTS:
            oldest = min(event.time for event in events)
            why = f"only the last {MAX_EVENTS} calls were looked up, since {oldest:%Y-%m-%d %H:%M} UTC"
            collector.note_gap(cloudtrail.LOOKUP, "*", region, f"{why}; add older ones from a trail", refused=False)
    return tuple(sorted(all_events, key=lambda event: (event.time, event.id))) if complete else None


def _look_up_events(collector: Collector, region: str) -> tuple[EventFacts, ...]:
    source = [{"AttributeKey": "EventSource", "AttributeValue": "kms.amazonaws.com"}]
    client = collector.client("cloudtrail", region)
    answered = client.get_paginator("lookup_events").paginate(LookupAttributes=source)
    records = islice((record for page in answered for record in page["Events"]), MAX_EVENTS)
    try:
        return tuple(event for event in map(cloudtrail.event_of, records) if event is not None)
    except ValueError as error:
        raise UnreadableError(f"an event cannot be read: {error}") from None
