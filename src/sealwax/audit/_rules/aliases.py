"""Rules about what stands for a key: its replicas in other Regions, and the aliases that point at it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from sealwax.audit._account import UPDATE_ALIAS, Account
from sealwax.audit._facts import AliasFacts, KeyFacts
from sealwax.audit._findings import Block, Fix, Severity
from sealwax.audit._rules import standards as std
from sealwax.audit._rules import templates
from sealwax.audit._rules.fixes import command, commands, json_file, kms, put_key_policy
from sealwax.audit._rules.registry import Violation, join_names, rule
from sealwax.audit._rules.templates import POLICY
from sealwax.audit._statements import wishes_of
from sealwax.policy import Document, Request, evaluate

#: Whoever can move an alias decides which key encrypts new data: a deployer, an administrator, and one in reserve.
MAX_MOVERS: Final = 3


# --- replicas


def _families(account: Account) -> Iterator[tuple[KeyFacts, list[KeyFacts]]]:
    """Return each primary key with its known replicas."""
    for key in account.own_keys:
        if key.multi_region == "primary":
            family = [account.keys_by_arn[arn] for arn in key.related if arn in account.keys_by_arn]
            yield key, [member for member in family if member.arn != key.arn]


def _normalized(key: KeyFacts) -> object:
    """Return a key policy without what must differ between Regions."""
    return _without_order(json.loads((key.policy or "").replace(key.region, "REGION")))


def _without_order(value: object) -> object:
    """Return JSON without an order, and with a list of one item as the item, because IAM treats them alike."""
    if isinstance(value, dict):
        return {name: _without_order(member) for name, member in value.items()}
    if isinstance(value, list):
        items = sorted(map(_without_order, value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return value


@rule(
    "replica-policy-differs",
    Severity.MEDIUM,
    "a replica's key policy differs from its primary's",
    why="Other principals can decrypt the same data in the other Region. KMS does not keep the policies in sync.",
    standards=std.ACCESS,
    fix="put the policy of the primary on the replica",
)
def replica_policy_differs(account: Account) -> Iterator[Violation]:
    for primary, replicas in _families(account):
        if account.key_policy(primary) is None:
            continue
        for replica in replicas:
            if account.key_policy(replica) is not None and _normalized(replica) != _normalized(primary):
                yield Violation(
                    replica.arn,
                    json.loads(replica.policy or ""),
                    put_key_policy(
                        replica,
                        f"Give it the policy of its primary in {primary.region}. If the policy of the replica is "
                        "right, put that on the primary instead.",
                        _policy_in(primary, replica.region),
                    ),
                    f"the primary is in {primary.region}",
                )


def _policy_in(primary: KeyFacts, region: str) -> Document:
    """Return the policy of a primary as it should be in another Region."""
    document: Document = json.loads((primary.policy or "").replace(primary.region, region))
    return document


@rule(
    "replica-missing",
    Severity.LOW,
    "a multi-Region key lacks a usable replica",
    why="If its Region is unreachable, nothing that is encrypted under the key can be decrypted anywhere.",
    standards=(std.CSF_AT_REST,),
    fix="`aws kms replicate-key` with the policy of the primary, or make the replica usable again",
)
def replica_missing(account: Account) -> Iterator[Violation]:
    unknown = {gap.resource for gap in account.facts.gaps}
    unlisted = {gap.region for gap in account.facts.gaps if gap.resource == "*"}
    for primary, replicas in _families(account):
        if primary.state != "Enabled":
            continue
        known = {replica.arn for replica in replicas}
        others = sorted(set(primary.related) - {primary.arn})
        missing = [
            arn
            for arn in primary.related
            if arn not in (primary.arn, *known)
            and arn not in unknown
            and (region := arn.split(":")[3]) in account.facts.regions
            and region not in unlisted
        ]
        unusable = [replica for replica in replicas if replica.state != "Enabled"]
        broken = sorted((*missing, *(replica.arn for replica in unusable)))
        if broken or not others:
            yield Violation(
                primary.arn,
                {"MultiRegionKeyType": "PRIMARY", "ReplicaKeys": others},
                _fix_replicas(account, primary, missing, unusable),
                f"not usable: {join_names(broken)}" if broken else "it has no replica",
            )


def _fix_replicas(account: Account, primary: KeyFacts, missing: list[str], unusable: list[KeyFacts]) -> Fix:
    elsewhere = [region for region in account.facts.regions if region != primary.region]
    new = [arn.split(":")[3] for arn in missing] or ([] if unusable else elsewhere[:1])
    says: list[str] = []
    blocks: list[Block] = []
    for region in new:
        says.append(f"Create a replica in {region}, with the policy of the primary.")
        blocks += _create_replica(account, primary, region)
    for replica in unusable:
        lines = [kms(replica, "cancel-key-deletion")] if replica.state == "PendingDeletion" else []
        if replica.state in ("Disabled", "PendingDeletion"):
            blocks.append(Block("\n".join((*lines, kms(replica, "enable-key")))))
            says.append(f"Make the replica in {replica.region} usable again.")
        elif replica.state == "PendingImport":
            says.append(f"Import the key material in {replica.region} too.")
        else:
            says.append(f"The replica in {replica.region} is {replica.state}: wait, and audit again.")
    return Fix(" ".join(says) or "Create a replica in another Region (aws kms replicate-key).", tuple(blocks))


def _create_replica(account: Account, primary: KeyFacts, region: str) -> list[Block]:
    replicate = ("replicate-key", "--replica-region", region)
    # Without a policy, KMS would give the replica one that delegates everything to IAM.
    if account.key_policy(primary) is None:
        return [Block(kms(primary, *replicate))]
    policy = _policy_in(primary, region)
    return [
        json_file(POLICY, policy),
        Block(kms(primary, *replicate, "--policy", f"file://{POLICY}")),
        *templates.replica(primary.arn, {"KeyPolicy": policy}),
        templates.terraform(templates.replica_in_terraform(primary.arn, policy)),
    ]


# --- aliases


@rule(
    "alias-unexpected-key",
    Severity.HIGH,
    "an alias does not point at the expected key",
    why="New data is encrypted under a key that someone else may control, and old data may not decrypt.",
    standards=(std.PCI_CUSTODIANS, std.CSF_AT_REST),
    fix="`aws kms update-alias`; check who moved it",
)
def alias_unexpected_key(account: Account) -> Iterator[Violation]:
    if account.facts.aliases is None:
        return
    by_name: dict[str, list[AliasFacts]] = defaultdict(list)
    for alias in account.facts.aliases:
        by_name[alias.name].append(alias)
    for expected_name, expected in account.facts.expected_aliases.items():
        name = f"alias/{expected_name.removeprefix('alias/')}"
        key_id = expected.rpartition("/")[2]
        region = expected.split(":")[3] if expected.startswith("arn:") else None
        existing = [alias for alias in by_name.get(name, ()) if region in (None, alias.region)]
        checked = [checked for checked in account.facts.regions if region in (None, checked)]
        if not existing and checked:
            yield _missing_alias(account, name, key_id, checked[0])
        for alias in existing:
            if alias.key != key_id:
                yield Violation(
                    alias.arn,
                    {"AliasName": alias.name, "TargetKeyId": alias.key},
                    commands(
                        "Check in CloudTrail who moved it (UpdateAlias). Point it at the expected key, and re-wrap "
                        "what was encrypted in the meantime.",
                        _alias_command("update-alias", alias.region, alias.name, key_id),
                        instead=templates.alias(alias.name, key_id),
                    ),
                    f"{alias.name} points at {alias.key} instead of {key_id}",
                )


def _alias_command(operation: str, region: str, name: str, key: str) -> str:
    return command("aws", "kms", operation, "--region", region, "--alias-name", name, "--target-key-id", key)


def _missing_alias(account: Account, name: str, key: str, region: str) -> Violation:
    return Violation(
        f"arn:{account.facts.partition}:kms:{region}:{account.facts.account}:{name}",
        None,
        commands(
            "Check in CloudTrail who deleted it (DeleteAlias), and create it again.",
            _alias_command("create-alias", region, name, key),
            instead=templates.alias(name, key),
        ),
        f"{name} does not exist, and should point at {key}",
        Severity.MEDIUM,
    )


@rule(
    "alias-movable",
    Severity.MEDIUM,
    "too many principals can move an alias",
    why="Each of them can point it at a key of their choice, and then read whatever is encrypted with the alias.",
    standards=(std.PCI_CUSTODIANS, *std.ACCESS),
    fix="allow kms:UpdateAlias to three principals at most",
)
def alias_movable(account: Account) -> Iterator[Violation]:
    for alias in account.facts.aliases or ():
        candidates = {
            allowed.principal
            for allowed in account.allowed_by_key.get(alias.key_arn, ())
            if allowed.action == UPDATE_ALIAS
        }
        if len(candidates) <= MAX_MOVERS:
            continue
        movers = sorted(who for who in candidates if _can_move(account, who, alias))
        if len(movers) > MAX_MOVERS:
            yield Violation(
                alias.arn,
                {"AliasName": alias.name, "TargetKeyId": alias.key},
                Fix(
                    f"Allow kms:UpdateAlias on {alias.arn} and on the keys to at most {MAX_MOVERS} principals, and "
                    "remove it from the rest."
                ),
                f"{len(movers)} principals: {join_names(movers)}",
            )


def _can_move(account: Account, who: str, alias: AliasFacts) -> bool:
    """Tell whether identity policies allow UpdateAlias on an alias, which it needs besides the key policy."""
    mover = account.principals.get(who)
    if mover is None:
        return False
    identity = account.identity_policies_of(who)
    allowing = (statement for statement in account.statements_of(who, UPDATE_ALIAS) if statement.effect == "Allow")
    for context, others in ({}, {}), *map(wishes_of, allowing):
        try:
            request = Request(
                UPDATE_ALIAS, mover, alias.arn, account.facts.time, context=others, encryption_context=context
            )
        except ValueError:
            continue  # no request can satisfy the conditions
        if evaluate(request, key_policy=None, identity_policies=identity).allowed:
            return True
    return False
