"""Rules about what stands for a key: its replicas in other Regions, and the aliases that point at it."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from sealwax.audit.account import UPDATE_ALIAS, Account
from sealwax.audit.asking import covers
from sealwax.audit.facts import AliasFacts, KeyFacts
from sealwax.audit.findings import Severity
from sealwax.audit.rules import standards as std
from sealwax.audit.rules.rule import Found, Rule, listed
from sealwax.policy import Statement

#: Who may move an alias is who decides what new data is sealed under: a deployer, an administrator, one in reserve.
MAX_MOVERS: Final = 3


def _families(account: Account) -> Iterator[tuple[KeyFacts, list[KeyFacts]]]:
    """Return each primary key with the replicas that are known."""
    for key in account.own_keys:
        if key.multi_region == "primary":
            family = [account.keys_by_arn[arn] for arn in key.related if arn in account.keys_by_arn]
            yield key, [one for one in family if one.arn != key.arn]


def _said(key: KeyFacts) -> Any:
    """Return a key policy without what differs between Regions by nature."""
    text = (key.policy or "").replace(key.region, "REGION")
    return _sorted(json.loads(text))


def _sorted(value: Any) -> Any:
    """Return JSON without an order, and with no difference between one and a list of one: IAM sees none."""
    if isinstance(value, dict):
        return {name: _sorted(one) for name, one in value.items()}
    if isinstance(value, list):
        parts = sorted((_sorted(one) for one in value), key=lambda one: json.dumps(one, sort_keys=True))
        return parts[0] if len(parts) == 1 else parts
    return value


def _differ(account: Account) -> Iterator[Found]:
    for primary, replicas in _families(account):
        if account.key_policy(primary) is None:
            continue
        for replica in replicas:
            if account.key_policy(replica) is not None and _said(replica) != _said(primary):
                yield Found(
                    replica.arn,
                    json.loads(replica.policy or ""),
                    f"Give both the same: aws kms get-key-policy --region {primary.region} --key-id {primary.id} "
                    "--query Policy --output text > policy.json; "
                    f"aws kms put-key-policy --region {replica.region} --key-id {replica.id} --policy file://policy.json",
                    f"that of {primary.region} is another",
                )


def _missing(account: Account) -> Iterator[Found]:
    unseen = {one.resource for one in account.facts.not_looked_at}
    closed = {one.region for one in account.facts.not_looked_at if one.resource == "*"}
    for primary, replicas in _families(account):
        if primary.state != "Enabled":
            continue
        known = {one.arn for one in replicas}
        gone = [
            arn
            for arn in primary.related
            if arn not in (primary.arn, *known)
            and arn not in unseen
            and (region := arn.split(":")[3]) in account.facts.regions
            and region not in closed
        ]
        unusable = [one.arn for one in replicas if one.state != "Enabled"]
        broken = sorted((*gone, *unusable))
        if broken or not set(primary.related) - {primary.arn}:
            yield Found(
                primary.arn,
                {"MultiRegionKeyType": "PRIMARY", "ReplicaKeys": sorted(set(primary.related) - {primary.arn})},
                f"aws kms replicate-key --region {primary.region} --key-id {primary.id} --replica-region OTHER-REGION",
                f"not usable: {listed(broken)}" if broken else "it has none",
            )


def _points_elsewhere(account: Account) -> Iterator[Found]:
    if account.facts.aliases is None:
        return
    by_name: dict[str, list[AliasFacts]] = defaultdict(list)
    for alias in account.facts.aliases:
        by_name[alias.name.removeprefix("alias/")].append(alias)
    for name, expected in account.facts.expected_aliases.items():
        wanted = expected.rpartition("/")[2]
        region = expected.split(":")[3] if expected.startswith("arn:") else None
        there = [one for one in by_name.get(name.removeprefix("alias/"), ()) if region in (None, one.region)]
        looked_at = [one for one in account.facts.regions if region in (None, one)]
        if not there and looked_at:
            yield _absent(account, name.removeprefix("alias/"), wanted, looked_at[0])
        for alias in there:
            if alias.key != wanted:
                yield Found(
                    alias.arn,
                    {"AliasName": alias.name, "TargetKeyId": alias.key},
                    f"aws kms update-alias --region {alias.region} --alias-name {alias.name} --target-key-id {wanted}; "
                    "see in CloudTrail who moved it (UpdateAlias), and rewrap what was sealed meanwhile.",
                    f"{alias.name} points at {alias.key}, not at {wanted}",
                )


def _absent(account: Account, name: str, wanted: str, region: str) -> Found:
    return Found(
        f"arn:{account.facts.partition}:kms:{region}:{account.facts.account}:alias/{name}",
        None,
        f"aws kms create-alias --region {region} --alias-name alias/{name} --target-key-id {wanted}; "
        "see in CloudTrail who deleted it (DeleteAlias).",
        f"alias/{name} is not there, and ought to point at {wanted}",
        Severity.MEDIUM,
    )


def _moves(about: tuple[Statement, ...], alias: AliasFacts) -> bool:
    """Whether identity policies allow to move an alias; UpdateAlias needs that, and the key's policy as well."""
    effects = {(one.effect, bool(one.clauses)) for one in about if covers(one, alias.arn)}
    return ("Deny", False) not in effects and any(effect == "Allow" for effect, _ in effects)


def _movable(account: Account) -> Iterator[Found]:
    about = functools.cache(lambda who: account.statements_of(who, UPDATE_ALIAS))
    for alias in account.facts.aliases or ():
        names = {one.principal for one in account.allowed_by_key.get(alias.key_arn, ()) if one.action == UPDATE_ALIAS}
        if len(names) <= MAX_MOVERS:
            continue
        movers = sorted(who for who in names if _moves(about(who), alias))
        if len(movers) > MAX_MOVERS:
            yield Found(
                alias.arn,
                {"AliasName": alias.name, "TargetKeyId": alias.key},
                f"Allow kms:UpdateAlias on {alias.arn} and on the keys to at most {MAX_MOVERS} principals, and take it "
                "from the rest.",
                f"{len(movers)} principals: {listed(movers)}",
            )


RULES: Final = (
    Rule(
        "replica-policy-differs",
        Severity.MEDIUM,
        "a replica has another key policy than its primary",
        "The same data can be opened by other principals in the other Region: KMS does not keep the policies alike.",
        std.ACCESS,
        _differ,
    ),
    Rule(
        "replica-missing",
        Severity.LOW,
        "a multi-Region key has no usable replica where it ought to have one",
        "When its Region cannot be reached, what is sealed under the key cannot be opened anywhere.",
        (std.CSF_AT_REST,),
        _missing,
    ),
    Rule(
        "alias-unexpected-key",
        Severity.HIGH,
        "an alias points at another key than expected",
        "Whoever seals by the alias seals under a key that somebody else may control, and old data may not open.",
        (std.PCI_CUSTODIANS, std.CSF_AT_REST),
        _points_elsewhere,
    ),
    Rule(
        "alias-movable",
        Severity.MEDIUM,
        "an alias can be moved by too many",
        "Each of them can point it at a key of their choice, and has what is sealed by the alias from then on.",
        (std.PCI_CUSTODIANS, *std.ACCESS),
        _movable,
    ),
)
