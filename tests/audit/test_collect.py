"""Facts of a live account: KMS is the lab, everything else is moto's server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from sealwax.audit import _factsfile
from sealwax.audit import run as audit
from sealwax.audit._collect import cloudtrail
from sealwax.audit._collect.keys import gather
from sealwax.audit._collect.trails import MAX_EVENTS, _recorded
from sealwax.audit._facts import Facts
from sealwax.audit._report import to_json
from sealwax.errors import KeyNotFoundError, RequestRefusedError
from sealwax.lab import Lab
from sealwax.policy import _generate
from tests.audit.live import ACCOUNT, REGION, Session, account, put_filter, put_rule
from tests.audit.samples import ORDINARY

SCHEMA: Final = json.loads((Path(__file__).parents[2] / "docs/reference/audit.schema.json").read_text(encoding="utf-8"))


def _document(action: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    with account(tmp_path_factory.mktemp("lab")) as (lab, url):
        _build(Session(lab, url))
        yield lab, url


def _build(session: Session) -> None:
    kms, iam = session.client("kms"), session.client("iam")
    for alias in ("alias/one", "alias/two"):
        arn = kms.create_key(Tags=[{"TagKey": "team", "TagValue": "blue"}])["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName=alias, TargetKeyId=arn)
    kms.create_grant(KeyId=arn, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/app", Operations=["Decrypt"])
    iam.create_group(GroupName="readers")
    iam.put_group_policy(GroupName="readers", PolicyName="decrypt", PolicyDocument=_document("kms:Decrypt"))
    iam.create_user(UserName="alice", Tags=[{"Key": "team", "Value": "blue"}])
    iam.add_user_to_group(GroupName="readers", UserName="alice")
    iam.create_role(RoleName="app", AssumeRolePolicyDocument=_document("sts:AssumeRole"))
    managed = iam.create_policy(PolicyName="all", PolicyDocument=_document("kms:*"))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="app", PolicyArn=managed)
    session.client("s3").create_bucket(Bucket="trail-bucket")
    trails = session.client("cloudtrail")
    trails.create_trail(Name="all", S3BucketName="trail-bucket", IsMultiRegionTrail=True)
    trails.start_logging(Name="all")
    put_rule(session.client("events"), {"source": ["aws.kms"]})
    put_filter(session.client("logs"), "{ $.eventName = DisableKey }")


def test_what_is_there_is_seen_with_the_rights_that_are_written_for_it(servers: tuple[Lab, str]) -> None:
    session = Session(*servers)
    facts = gather(session, [REGION])
    # moto has no LookupEvents; that is said and not taken for an empty record.
    assert {one.what for one in facts.gaps} == {"cloudtrail:LookupEvents"}
    assert facts.events is None
    assert set(session.asked) - {"sts:GetCallerIdentity"} == {one for some in _generate.AUDIT.values() for one in some}
    assert facts.account == ACCOUNT
    assert len(facts.keys) == 2
    assert all(key.policy and key.rotation and key.tags == {"team": "blue"} for key in facts.keys)
    assert sum(len(key.grants or ()) for key in facts.keys) == 1
    assert [alias.name for alias in facts.aliases or ()] == ["alias/one", "alias/two"]
    policies = {one.arn.rpartition("/")[2]: one.policies for one in facts.principals or ()}
    assert policies == {
        "alice": (f"arn:aws:iam::{ACCOUNT}:group/readers#decrypt",),
        "app": (f"arn:aws:iam::{ACCOUNT}:policy/all",),
    }
    (trail,) = facts.trails or ()
    assert (trail.multi_region, trail.logging, trail.records, trail.excludes) == (True, True, "All", ())
    assert {(one.kind, one.targets) for one in facts.alarms or ()} == {("rule", 1), ("filter", 0)}


def test_saved_facts_give_the_same_audit_and_it_fits_the_schema(servers: tuple[Lab, str]) -> None:
    facts = gather(Session(*servers), [REGION])
    found = audit(facts)
    rules = {one.rule for one in found.findings}
    assert {"rotation-off", "trail-no-validation"} <= rules
    assert to_json(audit(_factsfile.load(_factsfile.dump(facts), "saved"))) == to_json(found)
    for one in (found, ORDINARY):
        jsonschema.validate(to_json(one), SCHEMA)
    broken = to_json(ORDINARY)
    broken["findings"][0]["severity"] = "awful"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


@pytest.mark.parametrize("action", sorted({one for some in _generate.AUDIT.values() for one in some}))
def test_a_denied_action_is_not_looked_at_and_never_fine(servers: tuple[Lab, str], action: str) -> None:
    facts = gather(Session(*servers, denied=frozenset({action})), [REGION])
    said = [one for one in facts.gaps if "on purpose" in one.why]
    assert said
    service, name = action.split(":")
    # Targets and alarms are said with the rules and filters that they are of.
    named = {"ListTargetsByRule": "ListRules", "DescribeAlarms": "DescribeMetricFilters"}
    whats = {"cloudwatch": "logs"}.get(service, service)
    assert {one.what for one in said} == {f"{whats}:{named.get(name, name)}"}
    assert all(one.region == ("" if service == "iam" else REGION) for one in said)


def test_where_keys_may_not_be_listed_those_with_aliases_are_looked_at(servers: tuple[Lab, str]) -> None:
    lab, url = servers
    kms = Session(lab, url).client("kms")
    nameless = next(one["TargetKeyId"] for one in kms.list_aliases()["Aliases"] if one["AliasName"] == "alias/two")
    kms.delete_alias(AliasName="alias/two")
    try:
        facts = gather(Session(lab, url, denied=frozenset({"kms:ListKeys"})), [REGION], events=False)
    finally:
        kms.create_alias(AliasName="alias/two", TargetKeyId=nameless)
    assert len(facts.keys) == 1
    assert facts.keys[0].id != nameless
    (missed,) = facts.gaps
    assert (missed.what, missed.resource, missed.refused) == ("kms:ListKeys", "*", True)
    assert missed.why.endswith("on purpose; only keys with an alias were checked")
    facts = gather(Session(lab, url, denied=frozenset({"kms:ListKeys", "kms:ListAliases"})), [REGION], events=False)
    assert facts.keys == ()
    assert all(one.why.endswith("on purpose") for one in facts.gaps)


def test_more_events_than_are_asked_for_are_not_looked_at(tmp_path: Path) -> None:
    absent = dict.fromkeys(("iam", "events", "logs", "cloudwatch", "cloudtrail:DescribeTrails"), "the lab has none")

    def limits(facts: Facts) -> list[tuple[bool, str]]:
        return [(one.refused, one.why) for one in facts.gaps if one.what == "cloudtrail:LookupEvents"]

    with Lab(tmp_path / "lab") as lab:
        session = lab.session(REGION)
        kms = session.client("kms")
        for _ in range(MAX_EVENTS // 2):
            kms.list_aliases()
        # Gathering is on the record too.
        assert limits(gather(session, [REGION], unavailable=absent)) == []
        for _ in range(MAX_EVENTS // 2):
            kms.list_aliases()
        facts = gather(session, [REGION], unavailable=absent)
        assert len(facts.events or ()) == MAX_EVENTS
        ((refused, why),) = limits(facts)
    assert not refused
    oldest = min(one.time for one in facts.events or ())
    assert (
        why == f"only the last 500 calls were looked up, since {oldest:%Y-%m-%d %H:%M} UTC; add older ones from a trail"
    )
    whole = cloudtrail.with_events(facts, ())
    assert limits(whole) == []
    assert all(not one.refused for one in whole.gaps)


def test_a_service_out_of_reach_is_not_looked_at(servers: tuple[Lab, str]) -> None:
    facts = gather(Session(servers[0], "http://127.0.0.1:9"), [REGION])
    assert len(facts.keys) == 2
    assert (facts.principals, facts.trails, facts.alarms, facts.events) == (None, None, None, None)
    assert {one.what.partition(":")[0] for one in facts.gaps} == {"cloudtrail", "events", "iam", "logs"}


class Misshaping(Session):
    """Every answer of one service has a number where a list, a text or a part should be."""

    def __init__(self, servers: tuple[Lab, str], service: str, operations: tuple[str, ...] = ()) -> None:
        super().__init__(*servers)
        self._service = service
        self._operations = operations

    def client(self, service_name: Any, **settings: Any) -> Any:
        made = super().client(service_name, **settings)
        if service_name == self._service:
            for name in self._operations or ("*",):
                made.meta.events.register(
                    f"after-call.{made.meta.service_model.service_id.hyphenize()}.{name}", _misshape
                )
        return made


def _misshape(parsed: dict[str, Any], **_: object) -> None:
    for name in parsed:
        if name not in ("ResponseMetadata", "Error"):
            parsed[name] = 7


@pytest.mark.parametrize("service", ["kms", "iam", "cloudtrail", "cloudwatch", "logs", "events"])
def test_an_answer_that_is_none_is_not_looked_at(servers: tuple[Lab, str], service: str) -> None:
    facts = gather(Misshaping(servers, service), [REGION])
    missed = [one for one in facts.gaps if "cannot be read" in one.why]
    # An alarm is looked for where a filter of logs leads to it, and is missed with that.
    assert {one.what.partition(":")[0] for one in missed} == {"logs" if service == "cloudwatch" else service}


def test_what_kms_says_of_one_key_may_be_nothing(servers: tuple[Lab, str]) -> None:
    for operation in ("GetKeyPolicy", "ListGrants", "DescribeKey", "ListResourceTags", "GetKeyRotationStatus"):
        facts = gather(Misshaping(servers, "kms", (operation,)), [REGION])
        missed = [one for one in facts.gaps if "the answer" in one.why]
        assert {one.what for one in missed} == {f"kms:{operation}"}


def test_an_sts_that_does_not_say_who_one_is(servers: tuple[Lab, str]) -> None:
    with pytest.raises(RequestRefusedError, match="asking STS for the caller's identity failed: the answer's Account"):
        gather(Misshaping(servers, "sts"), [REGION])


def test_a_key_that_is_not_there_is_an_error(servers: tuple[Lab, str]) -> None:
    with pytest.raises(KeyNotFoundError, match="alias/none"):
        gather(Session(*servers), [REGION], ["alias/none"])
    assert len(gather(Session(*servers), [REGION], ["alias/one", "alias/one"]).keys) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("All", ())),
        ({"readOnly": {"Equals": ["false"]}}, ("WriteOnly", ())),
        ({"eventSource": {"NotEquals": ["kms.amazonaws.com"]}}, ("All", ("kms.amazonaws.com",))),
        ({"eventSource": {"Equals": ["kms.amazonaws.com"]}}, ("All", ())),
        ({"eventSource": {"Equals": ["s3.amazonaws.com"]}}, ("None", ())),
        ({"eventSource": {"NotStartsWith": ["kms"]}}, ("None", ())),
        ({"eventName": {"Equals": ["CreateKey"]}}, ("None", ())),
    ],
)
def test_a_selector_that_takes_less_than_all_is_not_taken_for_all(
    fields: dict[str, Any], expected: tuple[str, tuple[str, ...]]
) -> None:
    chosen = {"eventCategory": {"Equals": ["Management"]}} | fields
    selectors = [{"FieldSelectors": [{"Field": name} | value for name, value in chosen.items()]}]
    assert _recorded({"AdvancedEventSelectors": selectors}) == expected
