"""Facts of a live account, read and never changed. What is denied, throttled or out of reach is noted, never guessed.

IAM actions: those of :data:`sealwax.policy._generate.AUDIT`; what is missing of them is not looked at.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from sealwax._aws.responses import Answer, ask
from sealwax._aws.session import Session
from sealwax.audit._collect import trails
from sealwax.audit._collect.checkpoint import Answers
from sealwax.audit._collect.client import Looking
from sealwax.audit._collect.explanation import open_client, pages
from sealwax.audit._facts import AliasFacts, Facts, GrantFacts, KeyFacts, PolicyFacts, PrincipalFacts, RotationFacts
from sealwax.errors import AccessDeniedError, ThrottledError, UnavailableError

T = TypeVar("T")

# Mostly waiting; few enough to leave an account's quotas to its programs.
_THREADS: Final = 8


def gather(
    session: Session,
    regions: Sequence[str],
    keys: Sequence[str] = (),
    absent: Mapping[str, str] | None = None,
    *,
    events: bool = True,
    answers: Answers | None = None,
) -> Facts:
    """Read the facts of the caller's account.

    Args:
        regions: where to look.
        keys: the KMS keys to look at, as KMS takes them; none: all.
        absent: services and actions that must not be asked, and why: a lab has not all of them.
        events: whether the last calls of KMS are asked for.
        answers: what former runs were answered, which is not asked again, and where this one keeps its answers.

    Raises:
        KmsError: nobody is signed in, or a named key is not there.
        FactsError: the answers are of another account, or damaged.
        FileError: an answer cannot be kept.
    """
    look = Looking(session, absent or {}, answers)
    sts = open_client(session, "sts", regions[0])
    caller = ask(lambda: sts.get_caller_identity(), "asking STS who the caller is", None)
    account, arn = caller.need("Account", str), caller.need("Arn", str)
    if arn.count(":") < 5:
        raise caller.unreadable("the answer's Arn is none")
    if answers is not None:
        answers.begin(account)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sealwax-audit") as pool:
        try:
            iam = pool.submit(_iam, look)
            trails_read = pool.submit(trails.trails, look, regions)
            alarms = pool.submit(trails.alarms, look, regions)
            calls = pool.submit(trails.events, look, regions) if events else None
            found_keys, aliases = _keys(look, pool, regions, keys)
            principals, policies = iam.result()
            return Facts(
                account=account,
                time=datetime.now(UTC).replace(microsecond=0),
                regions=tuple(regions),
                partition=arn.split(":")[1],
                keys=found_keys,
                aliases=aliases,
                principals=principals,
                policies=policies,
                trails=trails_read.result(),
                alarms=alarms.result(),
                events=None if calls is None else calls.result(),
                gaps=tuple(sorted(set(look.missed), key=lambda one: (one.what, one.region, one.resource))),
                since=None if answers is None else answers.used,
            )
        except BaseException:
            # Who stops it waits for what is asked now, and not for thousands of keys.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- KMS


def _keys(
    look: Looking, pool: ThreadPoolExecutor, regions: Sequence[str], named: Sequence[str]
) -> tuple[tuple[KeyFacts, ...], tuple[AliasFacts, ...] | None]:
    places: list[tuple[Any, str, str]] = []
    aliases: list[AliasFacts] | None = []
    for region in regions:
        client = look.client("kms", region)
        listed = look.at("kms:ListAliases", "*", region, tuple[AliasFacts, ...], partial(_aliases, client))
        if listed is None:
            aliases = None
        elif aliases is not None:
            aliases += listed
        if not named:
            pointed_at = tuple(dict.fromkeys(one.key_arn for one in listed or ()))
            instead = "; only keys that an alias points at were looked at" if pointed_at else ""
            found = look.at("kms:ListKeys", "*", region, tuple[str, ...], partial(_key_arns, client), instead)
            places += [(client, region, arn) for arn in (pointed_at if found is None else found)]
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


def _aliases(client: Any) -> tuple[AliasFacts, ...]:
    listed = pages(client, "list_aliases", "Aliases")
    return tuple(AliasFacts(one["AliasArn"], one["TargetKeyId"]) for one in listed if "TargetKeyId" in one)


def _key_arns(client: Any) -> tuple[str, ...]:
    return tuple(one["KeyArn"] for one in pages(client, "list_keys", "Keys"))


def _refuse_unknown(client: Any, key: str) -> None:
    """Refuse a key that is not there: a mistyped name must not look like a key without findings."""
    with contextlib.suppress(AccessDeniedError, ThrottledError, UnavailableError):
        ask(lambda: client.describe_key(KeyId=key), "looking for the key", key)


# "Key states of AWS KMS keys" in the KMS Developer Guide and GetKeyRotationStatus in the API Reference: a key that
# waits for its deletion does not rotate, and KMS has no status for it. The rest KMS tells in every state.
_DELETING: Final = ("PendingDeletion", "PendingReplicaDeletion")
# A state that came in between, or one that is not known here.
_OF_STATE: Final = {
    "KMSInvalidStateException": "KMS has no answer for a key in this state",
    "UnsupportedOperationException": "KMS has no answer for a key of this kind",
}
_GONE: Final = {"NotFoundException": "it was listed, and is deleted since"}


@dataclass(frozen=True, slots=True)
class _Used:
    last_used: datetime | None
    tracked_since: datetime | None


def _key(look: Looking, client: Any, region: str, key: str) -> KeyFacts | None:
    ask_kms = partial(_described_key, client, key)
    seen = look.at("kms:DescribeKey", key, region, KeyFacts, ask_kms, unanswerable=_GONE)
    if seen is None:
        return None
    arn = seen.arn

    def at(action: str, kind: Any, ask: Callable[[], T]) -> T | None:
        return look.at(f"kms:{action}", arn, region, kind, ask, unanswerable=_OF_STATE)

    def rotation() -> RotationFacts:
        status = Answer(client.get_key_rotation_status(KeyId=arn), "asking how the key rotates", arn)
        return RotationFacts(status.need("KeyRotationEnabled", bool), status.optional("RotationPeriodInDays", int))

    def rotations() -> tuple[datetime, ...]:
        listed = pages(client, "list_key_rotations", "Rotations", KeyId=arn)
        return tuple(sorted(one["RotationDate"] for one in listed if "RotationDate" in one))

    def tags() -> dict[str, str]:
        return {one["TagKey"]: one["TagValue"] for one in pages(client, "list_resource_tags", "Tags", KeyId=arn)}

    def grants() -> tuple[GrantFacts, ...]:
        return tuple(_grant(one) for one in pages(client, "list_grants", "Grants", KeyId=arn))

    def used() -> _Used:
        usage = client.get_key_last_usage(KeyId=arn)
        return _Used(usage.get("KeyLastUsage", {}).get("Timestamp"), usage.get("TrackingStartDate"))

    def policy() -> str:
        text: object = client.get_key_policy(KeyId=arn)["Policy"]
        if not isinstance(text, str):
            raise TypeError("a policy is text")
        return text

    customers = seen.manager == "CUSTOMER"
    symmetric = customers and seen.spec == "SYMMETRIC_DEFAULT" and seen.state not in _DELETING
    rotates = symmetric and seen.origin == "AWS_KMS"
    # Imported material is rotated too, by hand.
    changes = rotates or (symmetric and seen.origin == "EXTERNAL")
    usage = at("GetKeyLastUsage", _Used, used) or _Used(None, None)
    return replace(
        seen,
        policy=at("GetKeyPolicy", str, policy),
        rotation=at("GetKeyRotationStatus", RotationFacts, rotation) if rotates else None,
        rotations=at("ListKeyRotations", tuple[datetime, ...], rotations) if changes else None,
        grants=at("ListGrants", tuple[GrantFacts, ...], grants),
        tags=at("ListResourceTags", Mapping[str, str], tags) if customers else None,
        last_used=usage.last_used,
        tracked_since=usage.tracked_since,
    )


def _described_key(client: Any, key: str) -> KeyFacts:
    seen = client.describe_key(KeyId=key)["KeyMetadata"]
    family = seen.get("MultiRegionConfiguration")
    members = () if family is None else (family["PrimaryKey"], *family.get("ReplicaKeys", ()))
    return KeyFacts(
        arn=seen["Arn"],
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
    )


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


@dataclass(frozen=True, slots=True)
class _People:
    principals: tuple[PrincipalFacts, ...]
    policies: tuple[PolicyFacts, ...]
    absent: tuple[tuple[str, ...], ...]  # the ARNs of principals and the ids of policies that the answer does not hold


def _iam(look: Looking) -> tuple[tuple[PrincipalFacts, ...] | None, tuple[PolicyFacts, ...] | None]:
    found = look.at(_DETAILS, "*", "", _People, lambda: _people(look.client("iam", None)))
    if found is None:
        return None, None
    for arn, policy in found.absent:
        look.miss(_DETAILS, arn, "", f"the answer does not hold its policy {policy}")
    return found.principals, found.policies


def _people(iam: Any) -> _People:
    found: dict[str, list[Any]] = {}
    for page in iam.get_paginator("get_account_authorization_details").paginate():
        for member in ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"):
            found.setdefault(member, []).extend(page.get(member, ()))
    policies = {one.id: one for one in map(_managed, found["Policies"]) if one is not None}

    def of(owner: Mapping[str, Any], inline: str) -> tuple[str, ...]:
        own = [
            PolicyFacts(f"{owner['Arn']}#{one['PolicyName']}", "inline", _text(one["PolicyDocument"]))
            for one in owner.get(inline, ())
        ]
        policies.update((one.id, one) for one in own)
        attached = (one["PolicyArn"] for one in owner.get("AttachedManagedPolicies", ()))
        return (*(one.id for one in own), *attached)

    groups = {group["GroupName"]: of(group, "GroupPolicyList") for group in found["GroupDetailList"]}
    principals = []
    absent = []
    for owners, inline in ((found["UserDetailList"], "UserPolicyList"), (found["RoleDetailList"], "RolePolicyList")):
        for owner in owners:
            by_groups = [one for group in owner.get("GroupList", ()) for one in groups.get(group, ())]
            ids = dict.fromkeys((*of(owner, inline), *by_groups))
            absent += [(owner["Arn"], one) for one in ids if one not in policies]
            principals.append(
                PrincipalFacts(
                    owner["Arn"],
                    tuple(one for one in ids if one in policies),
                    {one["Key"]: one["Value"] for one in owner.get("Tags", ())},
                    owner.get("UserId"),
                    owner.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
                )
            )
    return _People(tuple(principals), tuple(policies.values()), tuple(absent))


def _managed(one: Mapping[str, Any]) -> PolicyFacts | None:
    for version in one.get("PolicyVersionList", ()):
        if version.get("IsDefaultVersion"):
            kind = "aws" if one["Arn"].split(":")[4] == "aws" else "customer"
            return PolicyFacts(one["Arn"], kind, _text(version["Document"]))
    return None


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)
