"""Rules about what stands for a key: its replicas in other Regions, and the aliases that point at it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from sealwax.audit._access import wanted
from sealwax.audit._account import UPDATE_ALIAS, Account
from sealwax.audit._facts import AliasFacts, KeyFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules.fixing import POLICY, as_text, command, commands, kms, put
from sealwax.audit._rules.rule import Found, Rule, listed
from sealwax.policy import Request, evaluate

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
                    put(
                        replica,
                        f"Give it the policy of its primary in {primary.region}. If the replica's is the right one, "
                        "put that on the primary instead.",
                        _policy_for(primary, replica.region),
                    ),
                    f"that of {primary.region} is another",
                )


def _policy_for(primary: KeyFacts, region: str) -> Any:
    """Return the policy of a primary as it is in another Region."""
    return json.loads((primary.policy or "").replace(primary.region, region))


def _missing(account: Account) -> Iterator[Found]:
    unseen = {one.resource for one in account.facts.gaps}
    closed = {one.region for one in account.facts.gaps if one.resource == "*"}
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
        unusable = [one for one in replicas if one.state != "Enabled"]
        broken = sorted((*gone, *(one.arn for one in unusable)))
        if broken or not set(primary.related) - {primary.arn}:
            yield Found(
                primary.arn,
                {"MultiRegionKeyType": "PRIMARY", "ReplicaKeys": sorted(set(primary.related) - {primary.arn})},
                _replicas(account, primary, gone, unusable),
                f"not usable: {listed(broken)}" if broken else "it has none",
            )


def _replicas(account: Account, primary: KeyFacts, gone: list[str], unusable: list[KeyFacts]) -> Fix:
    others = [one for one in account.facts.regions if one != primary.region]
    new = [arn.split(":")[3] for arn in gone] or ([] if unusable else others[:1])
    says, blocks = [], []
    for region in new:
        # Without a policy, KMS would give the replica one that leaves everything to IAM.
        policy = _policy_for(primary, region) if account.key_policy(primary) is not None else None
        given = [] if policy is None else ["--policy", f"file://{POLICY}"]
        blocks += [] if policy is None else [Block(as_text(policy), POLICY)]
        blocks.append(Block(kms(primary, "replicate-key", "--replica-region", region, *given)))
        says.append(f"Make a replica in {region}, with the policy of the primary.")
    for replica in unusable:
        lines = [kms(replica, "cancel-key-deletion")] if replica.state == "PendingDeletion" else []
        if replica.state in ("Disabled", "PendingDeletion"):
            blocks.append(Block("\n".join((*lines, kms(replica, "enable-key")))))
            says.append(f"Bring the replica in {replica.region} back.")
        elif replica.state == "PendingImport":
            says.append(f"Import the key material in {replica.region}, too.")
        else:
            says.append(f"The replica in {replica.region} is {replica.state}: wait, and audit again.")
    return Fix(" ".join(says) or "Make a replica in another Region (aws kms replicate-key).", tuple(blocks))


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
                    commands(
                        "See in CloudTrail who moved it (UpdateAlias). Point it where it ought to point, and rewrap "
                        "what was sealed meanwhile.",
                        _alias("update-alias", alias.region, alias.name, wanted),
                    ),
                    f"{alias.name} points at {alias.key}, not at {wanted}",
                )


def _alias(operation: str, region: str, name: str, key: str) -> str:
    where = ("--region", region, "--alias-name", name, "--target-key-id", key)
    return command("aws", "kms", operation, *where)


def _absent(account: Account, name: str, wanted: str, region: str) -> Found:
    return Found(
        f"arn:{account.facts.partition}:kms:{region}:{account.facts.account}:alias/{name}",
        None,
        commands(
            "See in CloudTrail who deleted it (DeleteAlias), and make it again.",
            _alias("create-alias", region, f"alias/{name}", wanted),
        ),
        f"alias/{name} is not there, and ought to point at {wanted}",
        Severity.MEDIUM,
    )


def _moves(account: Account, who: str, alias: AliasFacts) -> bool:
    """Whether identity policies allow to move an alias; UpdateAlias needs that, and the key's policy as well."""
    mover = account.principals.get(who)
    if mover is None:
        return False
    read = (account.identity_policies.get(id_) for id_ in account.policies_of[who])
    identity = [one for one in read if one is not None]
    about = account.statements_of(who, UPDATE_ALIAS)
    for context, others in ({}, {}), *(wanted(one) for one in about if one.effect == "Allow"):
        try:
            request = Request(
                UPDATE_ALIAS, mover, alias.arn, account.facts.time, context=others, encryption_context=context
            )
        except ValueError:
            continue  # what a condition asks for, no request can have
        if evaluate(request, key_policy=None, identity_policies=identity).allowed:
            return True
    return False


def _movable(account: Account) -> Iterator[Found]:
    for alias in account.facts.aliases or ():
        names = {one.principal for one in account.allowed_by_key.get(alias.key_arn, ()) if one.action == UPDATE_ALIAS}
        if len(names) <= MAX_MOVERS:
            continue
        movers = sorted(who for who in names if _moves(account, who, alias))
        if len(movers) > MAX_MOVERS:
            yield Found(
                alias.arn,
                {"AliasName": alias.name, "TargetKeyId": alias.key},
                Fix(
                    f"Allow kms:UpdateAlias on {alias.arn} and on the keys to at most {MAX_MOVERS} principals, and "
                    "take it from the rest."
                ),
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
