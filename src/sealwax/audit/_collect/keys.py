"""Facts of a live account, read and never changed: keys, aliases, users, roles and policies.

Whatever is denied, throttled or unreachable becomes a gap. The IAM permissions are those of ``policy.allow_audit``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

from sealwax._aws.responses import Answer, ask
from sealwax._aws.session import Session
from sealwax.audit._collect import trails
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.audit._collect.client import Client, Collector, Response, open_client, pages
from sealwax.audit._facts import AliasFacts, Facts, GrantFacts, KeyFacts, PolicyFacts, PrincipalFacts, RotationFacts
from sealwax.errors import AccessDeniedError, ThrottledError, UnavailableError

T = TypeVar("T")

# The threads mostly wait. More of them would use up quotas that the account's programs need.
_THREADS: Final = 8


def gather(
    session: Session,
    regions: Sequence[str],
    keys: Sequence[str] = (),
    *,
    unavailable: Mapping[str, str] | None = None,
    events: bool = True,
    checkpoint: Checkpoint | None = None,
) -> Facts:
    """Collect the facts of the caller's account. Nothing is changed.

    Args:
        session: a ``boto3.Session``.
        regions: the Regions to look in.
        keys: the KMS keys to look at, by id, ARN or alias; none for all keys.
        unavailable: services (``"iam"``) and actions (``"kms:ListGrants"``) that must not be called, and why.
        events: whether to look up the last KMS calls in CloudTrail.
        checkpoint: answers of earlier runs, and where this run keeps its own.

    Returns:
        The facts. Whatever could not be collected is in their ``gaps``.

    Raises:
        KmsError: there are no valid credentials, or a named key does not exist.
        FactsError: the checkpoint is about another account, or damaged.
        FileError: the checkpoint cannot be written.

    Example:
        ``gather(boto3.Session(), ["eu-west-1"])``
    """
    account, caller = _caller(session, regions[0])
    if checkpoint is not None:
        checkpoint.begin(account)
    collector = Collector(session, unavailable or {}, checkpoint)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sealwax-audit") as pool:
        try:
            return _collect(collector, pool, account, caller, regions, keys, events=events)
        except BaseException:
            # An interrupted run waits for the calls in flight, but not for thousands of keys.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _caller(session: Session, region: str) -> tuple[str, str]:
    """Return the account and the ARN of the caller."""
    sts = open_client(session, "sts", region)
    caller = ask(lambda: sts.get_caller_identity(), "asking STS for the caller's identity", None)
    account, arn = caller.need("Account", str), caller.need("Arn", str)
    if arn.count(":") < 5:
        raise caller.unreadable("the answer's Arn is not an ARN")
    return account, arn


def _collect(
    collector: Collector,
    pool: ThreadPoolExecutor,
    account: str,
    caller: str,
    regions: Sequence[str],
    named: Sequence[str],
    *,
    events: bool,
) -> Facts:
    reading_iam = pool.submit(_iam, collector)
    reading_trails = pool.submit(trails.trails, collector, regions)
    reading_alarms = pool.submit(trails.alarms, collector, regions)
    reading_events = pool.submit(trails.events, collector, regions) if events else None
    keys, aliases = _keys(collector, pool, regions, named)
    principals, policies = reading_iam.result()
    return Facts(
        account=account,
        time=datetime.now(UTC).replace(microsecond=0),
        regions=tuple(regions),
        partition=caller.split(":")[1],
        keys=keys,
        aliases=aliases,
        principals=principals,
        policies=policies,
        trails=reading_trails.result(),
        alarms=reading_alarms.result(),
        events=None if reading_events is None else reading_events.result(),
        gaps=tuple(sorted(set(collector.gaps), key=lambda gap: (gap.what, gap.region, gap.resource))),
        since=None if collector.checkpoint is None else collector.checkpoint.used,
        caller=caller,
    )


# --- KMS


def _keys(
    collector: Collector, pool: ThreadPoolExecutor, regions: Sequence[str], named: Sequence[str]
) -> tuple[tuple[KeyFacts, ...], tuple[AliasFacts, ...] | None]:
    places: list[tuple[Client, str, str]] = []
    aliases: list[AliasFacts] | None = []
    for region in regions:
        client = collector.client("kms", region)
        listed = collector.ask("kms:ListAliases", "*", region, tuple[AliasFacts, ...], partial(_aliases, client))
        if listed is None:
            aliases = None
        elif aliases is not None:
            aliases += listed
        if not named:
            pointed_at = tuple(dict.fromkeys(alias.key_arn for alias in listed or ()))
            instead = "; only keys with an alias were checked" if pointed_at else ""
            arns = collector.ask("kms:ListKeys", "*", region, tuple[str, ...], partial(_key_arns, client), instead)
            places += [(client, region, arn) for arn in (pointed_at if arns is None else arns)]
    for key in named:
        region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else regions[0]
        client = collector.client("kms", region)
        _check_exists(client, key)
        places.append((client, region, key))
    facts = pool.map(lambda place: _key(collector, *place), places)
    # Two names may mean the same key.
    unique = {key.arn: key for key in facts if key is not None}
    return tuple(unique.values()), None if aliases is None else tuple(aliases)


def _aliases(client: Client) -> tuple[AliasFacts, ...]:
    listed = pages(client, "list_aliases", "Aliases")
    return tuple(AliasFacts(alias["AliasArn"], alias["TargetKeyId"]) for alias in listed if "TargetKeyId" in alias)


def _key_arns(client: Client) -> tuple[str, ...]:
    return tuple(key["KeyArn"] for key in pages(client, "list_keys", "Keys"))


def _check_exists(client: Client, key: str) -> None:
    """Refuse a key that does not exist: a mistyped name must not look like a key without findings."""
    with contextlib.suppress(AccessDeniedError, ThrottledError, UnavailableError):
        ask(lambda: client.describe_key(KeyId=key), "kms:DescribeKey", key)


# "Key states of AWS KMS keys" in the KMS Developer Guide and GetKeyRotationStatus in the API Reference: a key that is
# pending deletion does not rotate and has no rotation status. KMS answers the other questions in every state.
_DELETING: Final = ("PendingDeletion", "PendingReplicaDeletion")
# For a state that changed meanwhile, or one that is not known here.
_OF_STATE: Final = {
    "KMSInvalidStateException": "KMS does not report this for a key in this state",
    "UnsupportedOperationException": "KMS does not report this for a key of this kind",
}
_GONE: Final = {"NotFoundException": "it was listed, but has been deleted since"}


@dataclass(frozen=True, slots=True)
class _Usage:
    last_used: datetime | None
    tracked_since: datetime | None


def _key(collector: Collector, client: Client, region: str, key: str) -> KeyFacts | None:
    describe = partial(_describe_key, client, key)
    described = collector.ask("kms:DescribeKey", key, region, KeyFacts, describe, unanswerable=_GONE)
    if described is None:
        return None
    arn = described.arn

    def answer(action: str, kind: type[T], ask: Callable[[Client, str], T]) -> T | None:
        return collector.ask(f"kms:{action}", arn, region, kind, lambda: ask(client, arn), unanswerable=_OF_STATE)

    is_customer = described.manager == "CUSTOMER"
    symmetric = is_customer and described.spec == "SYMMETRIC_DEFAULT" and described.state not in _DELETING
    rotates = symmetric and described.origin == "AWS_KMS"
    # Imported material is rotated too, by hand.
    changes = rotates or (symmetric and described.origin == "EXTERNAL")
    usage = answer("GetKeyLastUsage", _Usage, _usage) or _Usage(None, None)
    return replace(
        described,
        policy=answer("GetKeyPolicy", str, _policy),
        rotation=answer("GetKeyRotationStatus", RotationFacts, _rotation) if rotates else None,
        rotations=answer("ListKeyRotations", tuple[datetime, ...], _rotations) if changes else None,
        grants=answer("ListGrants", tuple[GrantFacts, ...], _grants),
        tags=answer("ListResourceTags", dict[str, str], _tags) if is_customer else None,
        last_used=usage.last_used,
        tracked_since=usage.tracked_since,
    )


def _describe_key(client: Client, key: str) -> KeyFacts:
    metadata = client.describe_key(KeyId=key)["KeyMetadata"]
    family = metadata.get("MultiRegionConfiguration")
    members = () if family is None else (family["PrimaryKey"], *family.get("ReplicaKeys", ()))
    return KeyFacts(
        arn=metadata["Arn"],
        created=metadata["CreationDate"],
        state=metadata.get("KeyState", "Enabled"),
        manager=metadata.get("KeyManager", "CUSTOMER"),
        spec=metadata.get("KeySpec", "SYMMETRIC_DEFAULT"),
        usage=metadata.get("KeyUsage", "ENCRYPT_DECRYPT"),
        origin=metadata.get("Origin", "AWS_KMS"),
        multi_region="no" if family is None else family["MultiRegionKeyType"].lower(),
        related=tuple(member["Arn"] for member in members),
        valid_to=metadata.get("ValidTo"),
        deletion_date=metadata.get("DeletionDate"),
        key_store=metadata.get("CustomKeyStoreId"),
    )


def _policy(client: Client, arn: str) -> str:
    text: object = client.get_key_policy(KeyId=arn)["Policy"]
    if not isinstance(text, str):
        raise TypeError("a policy must be a string")
    return text


def _rotation(client: Client, arn: str) -> RotationFacts:
    status = Answer(client.get_key_rotation_status(KeyId=arn), "asking how the key rotates", arn)
    return RotationFacts(status.need("KeyRotationEnabled", bool), status.optional("RotationPeriodInDays", int))


def _rotations(client: Client, arn: str) -> tuple[datetime, ...]:
    rotations = pages(client, "list_key_rotations", "Rotations", KeyId=arn)
    return tuple(sorted(rotation["RotationDate"] for rotation in rotations if "RotationDate" in rotation))


def _tags(client: Client, arn: str) -> dict[str, str]:
    return {tag["TagKey"]: tag["TagValue"] for tag in pages(client, "list_resource_tags", "Tags", KeyId=arn)}


def _usage(client: Client, arn: str) -> _Usage:
    usage = client.get_key_last_usage(KeyId=arn)
    return _Usage(usage.get("KeyLastUsage", {}).get("Timestamp"), usage.get("TrackingStartDate"))


def _grants(client: Client, arn: str) -> tuple[GrantFacts, ...]:
    return tuple(map(_grant, pages(client, "list_grants", "Grants", KeyId=arn)))


def _grant(entry: Response) -> GrantFacts:
    constraints = entry.get("Constraints") or {}
    return GrantFacts(
        id=entry["GrantId"],
        grantee=entry.get("GranteePrincipal") or entry.get("GranteeServicePrincipal") or "",
        operations=tuple(entry["Operations"]),
        name=entry.get("Name", ""),
        retiring=entry.get("RetiringPrincipal") or entry.get("RetiringServicePrincipal"),
        issuing_account=entry.get("IssuingAccount", ""),
        created=entry.get("CreationDate"),
        subset=constraints.get("EncryptionContextSubset"),
        equals=constraints.get("EncryptionContextEquals"),
        source_arn=constraints.get("SourceArn"),
    )


# --- IAM

_DETAILS: Final = "iam:GetAccountAuthorizationDetails"


@dataclass(frozen=True, slots=True)
class _Principals:
    principals: tuple[PrincipalFacts, ...]
    policies: tuple[PolicyFacts, ...]
    missing: tuple[tuple[str, ...], ...]  # the ARNs of principals and the ids of policies that the response lacks


def _iam(collector: Collector) -> tuple[tuple[PrincipalFacts, ...] | None, tuple[PolicyFacts, ...] | None]:
    answer = collector.ask(
        _DETAILS, "*", "", _Principals, lambda: _authorization_details(collector.client("iam", None))
    )
    if answer is None:
        return None, None
    for arn, policy in answer.missing:
        collector.note_gap(_DETAILS, arn, "", f"the answer lacks its policy {policy}")
    return answer.principals, answer.policies


def _authorization_details(iam: Client) -> _Principals:
    details: dict[str, list[Response]] = {}
    for page in iam.get_paginator("get_account_authorization_details").paginate():
        for member in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
            details.setdefault(member, []).extend(page.get(member, ()))
    policies = {policy.id: policy for policy in map(_managed, details["Policies"]) if policy is not None}

    def policies_of(owner: Response, inline: str) -> tuple[str, ...]:
        own = [
            PolicyFacts(f"{owner['Arn']}#{policy['PolicyName']}", "inline", _text(policy["PolicyDocument"]))
            for policy in owner.get(inline, ())
        ]
        policies.update((policy.id, policy) for policy in own)
        attached = (policy["PolicyArn"] for policy in owner.get("AttachedManagedPolicies", ()))
        return (*(policy.id for policy in own), *attached)

    groups = {group["GroupName"]: policies_of(group, "GroupPolicyList") for group in details["GroupDetailList"]}
    principals = []
    missing = []
    for kind in ("User", "Role"):
        for owner in details[f"{kind}DetailList"]:
            by_groups = [id_ for group in owner.get("GroupList", ()) for id_ in groups.get(group, ())]
            ids = dict.fromkeys((*policies_of(owner, f"{kind}PolicyList"), *by_groups))
            missing += [(owner["Arn"], id_) for id_ in ids if id_ not in policies]
            principals.append(
                PrincipalFacts(
                    owner["Arn"],
                    tuple(id_ for id_ in ids if id_ in policies),
                    {tag["Key"]: tag["Value"] for tag in owner.get("Tags", ())},
                    owner.get("UserId"),
                    owner.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
                )
            )
    return _Principals(tuple(principals), tuple(policies.values()), tuple(missing))


def _managed(policy: Response) -> PolicyFacts | None:
    for version in policy.get("PolicyVersionList", ()):
        if version.get("IsDefaultVersion"):
            kind = "aws" if policy["Arn"].split(":")[4] == "aws" else "customer"
            return PolicyFacts(policy["Arn"], kind, _text(version["Document"]))
    return None


def _text(document: object) -> str:
    return document if isinstance(document, str) else json.dumps(document)
