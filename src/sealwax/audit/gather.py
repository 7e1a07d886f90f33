"""Facts of a live account, read and never changed. What is denied, throttled or out of reach is noted, never guessed.

IAM actions: those of :data:`sealwax.policy.write.AUDIT`; what is missing of them is not looked at.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeVar

import botocore.exceptions as foreign

from sealwax import aws
from sealwax.audit import eventsfile
from sealwax.audit.facts import (
    AlarmFacts,
    AliasFacts,
    EventFacts,
    Facts,
    GrantFacts,
    KeyFacts,
    PolicyFacts,
    PrincipalFacts,
    RotationFacts,
    TrailFacts,
)
from sealwax.audit.reading import open_client, pages
from sealwax.audit.report import NotLookedAt
from sealwax.errors import AccessDeniedError, KmsError, ThrottledError, UnavailableError

T = TypeVar("T")

# Mostly waiting; few enough to leave an account's quotas to its programs.
_THREADS: Final = 8
# CloudTrail gives 50 events a page and two pages a second.
MOST_EVENTS: Final = 500


class _AbsentError(Exception):
    """There is no such service here."""


class _UnreadableError(Exception):
    """An answer cannot be read."""


@dataclass
class _Looking:
    """What answers, and what did not."""

    session: aws.Session
    absent: Mapping[str, str]
    missed: list[NotLookedAt] = field(default_factory=list)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, region: str | None) -> Any:
        if service in self.absent:
            raise _AbsentError(self.absent[service])
        with self._making:  # a session makes clients for one thread at a time
            return open_client(self.session, service, region)

    def at(self, action: str, resource: str, region: str, ask: Callable[[], T]) -> T | None:
        """Return what ``ask`` returns; None where it was refused, which is noted."""
        try:
            return ask()
        except (foreign.ClientError, foreign.BotoCoreError, KmsError, _AbsentError, _UnreadableError) as error:
            # The service's own words: the table of errors speaks of KMS keys.
            reason = str(error)
        self.missed.append(NotLookedAt(action, resource, region, reason))
        return None


def gather(
    session: aws.Session, regions: Sequence[str], keys: Sequence[str] = (), absent: Mapping[str, str] | None = None
) -> Facts:
    """Read the facts of the caller's account.

    Args:
        regions: where to look.
        keys: the KMS keys to look at, as KMS takes them; none: all.
        absent: services that must not be asked, and why: a lab has not all of them.

    Raises:
        KmsError: nobody is signed in, or a named key is not there.
    """
    look = _Looking(session, absent or {})
    sts = open_client(session, "sts", regions[0])
    try:
        caller = sts.get_caller_identity()
    except (foreign.ClientError, foreign.BotoCoreError) as error:
        raise aws.translate(error, "asking STS who the caller is", None) from None
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sealwax-audit") as pool:
        iam = pool.submit(_iam, look)
        trails = pool.submit(_trails, look, regions)
        alarms = pool.submit(_alarms, look, regions)
        events = pool.submit(_events, look, regions)
        found_keys, aliases = _keys(look, pool, regions, keys)
        principals, policies = iam.result()
        return Facts(
            account=caller["Account"],
            time=datetime.now(UTC).replace(microsecond=0),
            regions=tuple(regions),
            partition=caller["Arn"].split(":")[1],
            keys=found_keys,
            aliases=aliases,
            principals=principals,
            policies=policies,
            trails=trails.result(),
            alarms=alarms.result(),
            events=events.result(),
            not_looked_at=tuple(sorted(set(look.missed), key=lambda one: (one.what, one.region, one.resource))),
        )


# --- KMS


def _keys(
    look: _Looking, pool: ThreadPoolExecutor, regions: Sequence[str], named: Sequence[str]
) -> tuple[tuple[KeyFacts, ...], tuple[AliasFacts, ...] | None]:
    places: list[tuple[Any, str, str]] = []
    aliases: list[AliasFacts] | None = []
    for region in regions:
        client = look.client("kms", region)
        listed = look.at("kms:ListAliases", "*", region, lambda c=client: pages(c, "list_aliases", "Aliases"))  # type: ignore[misc]
        if listed is None:
            aliases = None
        elif aliases is not None:
            aliases += [AliasFacts(one["AliasArn"], one["TargetKeyId"]) for one in listed if "TargetKeyId" in one]
        if not named:
            found = look.at("kms:ListKeys", "*", region, lambda c=client: pages(c, "list_keys", "Keys"))  # type: ignore[misc]
            places += [(client, region, one["KeyArn"]) for one in found or ()]
    for key in named:
        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else regions[0]
        client = look.client("kms", region)
        _refuse_unknown(client, key)
        places.append((client, region, key))
    facts = list(pool.map(lambda place: _key(look, *place), places))
    # Two names of one key are one key.
    return tuple({one.arn: one for one in facts if one is not None}.values()), None if aliases is None else tuple(
        aliases
    )


def _refuse_unknown(client: Any, key: str) -> None:
    """Refuse a key that is not there: a mistyped name must not look like a key without findings."""
    try:
        client.describe_key(KeyId=key)
    except (foreign.ClientError, foreign.BotoCoreError) as error:
        told = aws.translate(error, "looking for the key", key)
        if not isinstance(told, AccessDeniedError | ThrottledError | UnavailableError):
            raise told from None


def _key(look: _Looking, client: Any, region: str, key: str) -> KeyFacts | None:
    seen = look.at("kms:DescribeKey", key, region, lambda: client.describe_key(KeyId=key)["KeyMetadata"])
    if seen is None:
        return None
    arn = seen["Arn"]

    def at(action: str, ask: Callable[[], T]) -> T | None:
        return look.at(f"kms:{action}", arn, region, ask)

    customers = seen.get("KeyManager") == "CUSTOMER"
    symmetric = customers and seen.get("KeySpec") == "SYMMETRIC_DEFAULT"
    rotates = symmetric and seen.get("Origin") == "AWS_KMS"
    # Imported material is rotated too, by hand.
    changes = rotates or (symmetric and seen.get("Origin") == "EXTERNAL")
    family = seen.get("MultiRegionConfiguration")
    members = () if family is None else (family["PrimaryKey"], *family.get("ReplicaKeys", ()))
    status = at("GetKeyRotationStatus", lambda: client.get_key_rotation_status(KeyId=arn)) if rotates else None
    rotations = (
        at("ListKeyRotations", lambda: pages(client, "list_key_rotations", "Rotations", KeyId=arn)) if changes else None
    )
    tags = at("ListResourceTags", lambda: pages(client, "list_resource_tags", "Tags", KeyId=arn)) if customers else None
    grants = at("ListGrants", lambda: pages(client, "list_grants", "Grants", KeyId=arn))
    usage = at("GetKeyLastUsage", lambda: client.get_key_last_usage(KeyId=arn)) or {}
    return KeyFacts(
        arn=arn,
        created=seen["CreationDate"],
        state=seen.get("KeyState", "Enabled"),
        manager=seen.get("KeyManager", "CUSTOMER"),
        spec=seen.get("KeySpec", "SYMMETRIC_DEFAULT"),
        usage=seen.get("KeyUsage", "ENCRYPT_DECRYPT"),
        origin=seen.get("Origin", "AWS_KMS"),
        multi_region="no" if family is None else family["MultiRegionKeyType"].lower(),
        related=tuple(member["Arn"] for member in members),
        valid_to=seen.get("ValidTo"),
        deletion_date=seen.get("DeletionDate"),
        key_store=seen.get("CustomKeyStoreId"),
        policy=at("GetKeyPolicy", lambda: client.get_key_policy(KeyId=arn)["Policy"]),
        rotation=None
        if status is None
        else RotationFacts(status["KeyRotationEnabled"], status.get("RotationPeriodInDays")),
        rotations=None if rotations is None else tuple(_rotated(rotations)),
        grants=None if grants is None else tuple(_grant(one) for one in grants),
        tags=None if tags is None else {one["TagKey"]: one["TagValue"] for one in tags},
        last_used=usage.get("KeyLastUsage", {}).get("Timestamp"),
        tracked_since=usage.get("TrackingStartDate"),
    )


def _rotated(rotations: Iterable[Mapping[str, Any]]) -> Iterator[datetime]:
    return iter(sorted(one["RotationDate"] for one in rotations if "RotationDate" in one))


def _grant(one: Mapping[str, Any]) -> GrantFacts:
    constraints = one.get("Constraints") or {}
    return GrantFacts(
        id=one["GrantId"],
        grantee=one.get("GranteePrincipal") or one.get("GranteeServicePrincipal") or "",
        operations=tuple(one["Operations"]),
        name=one.get("Name", ""),
        retiring=one.get("RetiringPrincipal") or one.get("RetiringServicePrincipal"),
        issuing_account=one.get("IssuingAccount", ""),
        created=one.get("CreationDate"),
        subset=constraints.get("EncryptionContextSubset"),
        equals=constraints.get("EncryptionContextEquals"),
        source_arn=constraints.get("SourceArn"),
    )


# --- IAM

_DETAILS: Final = "iam:GetAccountAuthorizationDetails"


def _iam(look: _Looking) -> tuple[tuple[PrincipalFacts, ...] | None, tuple[PolicyFacts, ...] | None]:
    def ask() -> dict[str, list[Any]]:
        iam = look.client("iam", None)
        found: dict[str, list[Any]] = {}
        for page in iam.get_paginator("get_account_authorization_details").paginate():
            for member in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
                found.setdefault(member, []).extend(page.get(member, ()))
        return found

    found = look.at(_DETAILS, "*", "", ask)
    if found is None:
        return None, None
    policies = {one.id: one for one in map(_managed, found["Policies"]) if one is not None}
    groups: dict[str, tuple[str, ...]] = {}

    def of(owner: Mapping[str, Any], inline: str) -> tuple[str, ...]:
        ids = []
        for one in owner.get(inline, ()):
            policy = PolicyFacts(f"{owner['Arn']}#{one['PolicyName']}", "inline", _text(one["PolicyDocument"]))
            policies[policy.id] = policy
            ids.append(policy.id)
        return (*ids, *(one["PolicyArn"] for one in owner.get("AttachedManagedPolicies", ())))

    for group in found["GroupDetailList"]:
        groups[group["GroupName"]] = of(group, "GroupPolicyList")
    principals = []
    for owners, inline in ((found["UserDetailList"], "UserPolicyList"), (found["RoleDetailList"], "RolePolicyList")):
        for owner in owners:
            arn = owner["Arn"]
            by_groups = [one for group in owner.get("GroupList", ()) for one in groups.get(group, ())]
            ids = dict.fromkeys((*of(owner, inline), *by_groups))
            for absent in [one for one in ids if one not in policies]:
                del ids[absent]
                look.missed.append(NotLookedAt(_DETAILS, arn, "", f"the answer does not hold its policy {absent}"))
            principals.append(
                PrincipalFacts(
                    arn,
                    tuple(ids),
                    {one["Key"]: one["Value"] for one in owner.get("Tags", ())},
                    owner.get("UserId"),
                    owner.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
                )
            )
    return tuple(principals), tuple(policies.values())


def _managed(one: Mapping[str, Any]) -> PolicyFacts | None:
    for version in one.get("PolicyVersionList", ()):
        if version.get("IsDefaultVersion"):
            kind = "aws" if one["Arn"].split(":")[4] == "aws" else "customer"
            return PolicyFacts(one["Arn"], kind, _text(version["Document"]))
    return None


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)


# --- CloudTrail, EventBridge and CloudWatch


def _trails(look: _Looking, regions: Sequence[str]) -> tuple[TrailFacts, ...] | None:
    found: dict[str, TrailFacts] = {}
    whole = True
    for region in regions:
        trails = look.at("cloudtrail:DescribeTrails", "*", region, lambda r=region: _described(look, r))  # type: ignore[misc]
        whole = whole and trails is not None
        for trail in trails or ():
            if trail["TrailARN"] not in found:
                found[trail["TrailARN"]] = _trail(look, trail)
    return tuple(found.values()) if whole else None


def _described(look: _Looking, region: str) -> list[Any]:
    trails: list[Any] = look.client("cloudtrail", region).describe_trails()["trailList"]
    return trails


def _trail(look: _Looking, trail: Mapping[str, Any]) -> TrailFacts:
    arn, region = trail["TrailARN"], trail["HomeRegion"]
    client = look.client("cloudtrail", region)
    status = look.at("cloudtrail:GetTrailStatus", arn, region, lambda: client.get_trail_status(Name=arn))
    selectors = look.at("cloudtrail:GetEventSelectors", arn, region, lambda: client.get_event_selectors(TrailName=arn))
    records, excludes = (None, ()) if selectors is None else _recorded(selectors)
    return TrailFacts(
        arn,
        multi_region=trail.get("IsMultiRegionTrail", False),
        validation=trail.get("LogFileValidationEnabled", False),
        logging=None if status is None else status["IsLogging"],
        records=records,
        excludes=excludes,
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


def _alarms(look: _Looking, regions: Sequence[str]) -> tuple[AlarmFacts, ...] | None:
    found: list[AlarmFacts] = []
    whole = True
    for region in regions:
        rules = look.at("events:ListRules", "*", region, lambda r=region: _rules(look, r))  # type: ignore[misc]
        filters = look.at("logs:DescribeMetricFilters", "*", region, lambda r=region: _filters(look, r))  # type: ignore[misc]
        whole = whole and rules is not None and filters is not None
        found += [*(rules or ()), *(filters or ())]
    # Where one place was not seen, that there is no alarm cannot be said.
    return tuple(found) if whole else None


def _rules(look: _Looking, region: str) -> list[AlarmFacts]:
    client = look.client("events", region)
    found = []
    for rule in pages(client, "list_rules", "Rules"):
        if "EventPattern" in rule:
            targets = pages(client, "list_targets_by_rule", "Targets", Rule=rule["Name"])
            enabled = rule.get("State") != "DISABLED"
            found.append(AlarmFacts(rule["Arn"], region, "rule", rule["EventPattern"], enabled, len(targets)))
    return found


def _filters(look: _Looking, region: str) -> list[AlarmFacts]:
    filters = pages(look.client("logs", region), "describe_metric_filters", "metricFilters")
    if not filters:
        return []
    alarms: Counter[tuple[str, str]] = Counter()
    for alarm in pages(look.client("cloudwatch", region), "describe_alarms", "MetricAlarms"):
        if alarm.get("ActionsEnabled") and alarm.get("AlarmActions") and "MetricName" in alarm:
            alarms[(alarm["Namespace"], alarm["MetricName"])] += 1
    return [
        AlarmFacts(
            f"{one['logGroupName']}/{one['filterName']}",
            region,
            "filter",
            one.get("filterPattern", ""),
            targets=sum(alarms[(to["metricNamespace"], to["metricName"])] for to in one["metricTransformations"]),
        )
        for one in filters
    ]


def _events(look: _Looking, regions: Sequence[str]) -> tuple[EventFacts, ...] | None:
    """Return the last calls of KMS, at most :data:`MOST_EVENTS` a Region."""
    found: list[EventFacts] = []
    whole = True
    source = [{"AttributeKey": "EventSource", "AttributeValue": "kms.amazonaws.com"}]
    for region in regions:

        def ask(region: str = region) -> list[EventFacts]:
            looked = look.client("cloudtrail", region).get_paginator("lookup_events").paginate(LookupAttributes=source)
            records = islice((one for page in looked for one in page["Events"]), MOST_EVENTS)
            try:
                return [event for event in map(eventsfile.event_of, records) if event is not None]
            except ValueError as error:
                raise _UnreadableError(f"an event cannot be read: {error}") from None

        events = look.at("cloudtrail:LookupEvents", "*", region, ask)
        whole = whole and events is not None
        found += events or ()
    return tuple(sorted(found, key=lambda one: (one.time, one.id))) if whole else None
