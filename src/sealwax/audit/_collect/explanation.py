"""What one explanation needs of AWS: one key and one principal, read and never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from botocore.config import Config

from sealwax._aws import refusals
from sealwax._aws.session import Clients, Session
from sealwax.errors import ConfigurationError, KmsError
from sealwax.policy import parse_identity_policy, parse_key_policy, principal
from sealwax.policy._explain import KeyAsSeen, PrincipalAsSeen, grant_of

T = TypeVar("T")

_CONFIG: Final = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard"}, user_agent_extra="sealwax")


def read_key(session: Session, key: str) -> KeyAsSeen:
    """Read a key (kms:DescribeKey, GetKeyPolicy, ListGrants, ListAliases, ListResourceTags).

    Args:
        key: as KMS takes it.

    Raises:
        KmsError: one of these is denied, or there is no such key.
        PolicyError: its policy is not understood.
    """
    region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else Clients(session).region
    client = open_client(session, "kms", region)
    with_key = _Asking(key)
    metadata = with_key("describing the key", lambda: client.describe_key(KeyId=key)["KeyMetadata"])
    arn = metadata["Arn"]
    text = with_key("reading the key policy", lambda: client.get_key_policy(KeyId=arn)["Policy"])
    grants = with_key("listing the grants", lambda: pages(client, "list_grants", "Grants", KeyId=arn))
    tags = with_key("listing the tags", lambda: pages(client, "list_resource_tags", "Tags", KeyId=arn))
    aliases: list[Any] = []
    if region == arn.split(":")[3]:
        aliases = with_key("listing the aliases", lambda: pages(client, "list_aliases", "Aliases", KeyId=arn))
    return KeyAsSeen(
        arn,
        parse_key_policy(text),
        [grant_of(entry, arn) for entry in grants],
        metadata,
        [one["AliasName"] for one in aliases],
        {one["TagKey"]: one["TagValue"] for one in tags},
    )


def read_principal(session: Session, arn: str) -> PrincipalAsSeen:
    """Read the policies of a user with its groups, or of a role (iam:Get* and List* of these).

    Raises:
        KmsError: one of these is denied, or there is no such principal in the caller's account.
        PolicyError: a policy is not understood.
    """
    who = principal(arn)
    if who.kind == "root" or who.is_of_aws:
        return PrincipalAsSeen(who)
    if who.kind == "federated":
        raise ConfigurationError(f"what '{arn}' may is in its session: give its policies with --identity-policy")
    iam = open_client(session, "iam", None)
    of_user = who.kind == "user"
    name = (who.arn if of_user else who.role or who.arn).rpartition("/")[2]
    ask = _Asking(None)

    def described() -> Any:
        return iam.get_user(UserName=name)["User"] if of_user else iam.get_role(RoleName=name)["Role"]

    found = ask(f"looking for '{arn}' in IAM", described)
    # A role of the same name may be in the caller's account: its policies would be somebody else's.
    if found["Arn"].split(":")[4] != who.account or (who.kind != "session" and found["Arn"] != who.arn):
        raise ConfigurationError(
            f"the caller's account has '{found['Arn']}', not '{arn}': give its policies with --identity-policy"
        )
    tags = {one["Key"]: one["Value"] for one in found.get("Tags", ())}
    role = None if of_user else found["Arn"]
    user_id = found["UserId"] if of_user else None
    documents = ask(f"reading the policies of '{arn}' in IAM", lambda: list(_documents(iam, name, of_user)))
    return PrincipalAsSeen(
        principal(arn, role=role, user_id=user_id, tags=tags),
        tuple(parse_identity_policy(document, name=f"identity policy {title}") for title, document in documents),
        found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
    )


def open_client(session: Session, service: str, region: str | None) -> Any:
    """Return a client.

    Raises:
        KmsError: the session cannot make one.
    """
    return refusals.open_client(
        lambda: session.client(service, region_name=region, config=_CONFIG), f"opening a client for {service}"
    )


def _documents(iam: Any, name: str, of_user: bool) -> Iterator[tuple[str, Any]]:
    holders = [("user" if of_user else "role", name)]
    if of_user:
        holders += [("group", one["GroupName"]) for one in pages(iam, "list_groups_for_user", "Groups", UserName=name)]
    for kind, holder in holders:
        called = {f"{kind.capitalize()}Name": holder}
        for inline in pages(iam, f"list_{kind}_policies", "PolicyNames", **called):
            yield inline, getattr(iam, f"get_{kind}_policy")(**called, PolicyName=inline)["PolicyDocument"]
        for attached in pages(iam, f"list_attached_{kind}_policies", "AttachedPolicies", **called):
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            shown = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            yield attached["PolicyName"], shown["PolicyVersion"]["Document"]


def pages(client: Any, operation: str, member: str, **parameters: Any) -> list[Any]:
    """Return what all pages of an answer list."""
    return [one for page in client.get_paginator(operation).paginate(**parameters) for one in page[member]]


class _Asking:
    """Makes calls, and gives botocore's errors as ours."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, doing: str, ask: Callable[[], T]) -> T:
        try:
            return refusals.call_aws(ask, doing, self._key)
        except KmsError as error:
            if error.code == "NoSuchEntity":
                raise ConfigurationError(f"{doing} failed: the caller's account has no such principal") from None
            raise
