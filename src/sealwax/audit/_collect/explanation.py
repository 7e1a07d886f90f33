"""What one explanation needs of AWS: one key and one principal, read and never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from sealwax._aws import refusals
from sealwax._aws.session import Clients, Session
from sealwax.audit._collect.client import Client, Response, open_client, pages
from sealwax.errors import ConfigurationError, KmsError
from sealwax.policy import KeyDescription, PrincipalDescription, parse_identity_policy, parse_key_policy, principal
from sealwax.policy._explain import grant_of

T = TypeVar("T")


def read_key(session: Session, key: str) -> KeyDescription:
    """Read a key (kms:DescribeKey, GetKeyPolicy, ListGrants, ListAliases, ListResourceTags).

    Args:
        key: the id or ARN of the key, or the name or ARN of an alias.

    Raises:
        KmsError: a call is denied, or the key does not exist.
        PolicyError: its policy cannot be evaluated.
    """
    region = key.split(":")[3] if key.startswith("arn:") and key.count(":") >= 5 else Clients(session).region
    client = open_client(session, "kms", region)
    ask = _Asker(key)
    metadata = ask("kms:DescribeKey", lambda: client.describe_key(KeyId=key)["KeyMetadata"])
    arn = metadata["Arn"]
    text = ask("reading the key policy", lambda: client.get_key_policy(KeyId=arn)["Policy"])
    grants = ask("listing the grants", lambda: pages(client, "list_grants", "Grants", KeyId=arn))
    tags = ask("listing the tags", lambda: pages(client, "list_resource_tags", "Tags", KeyId=arn))
    aliases: list[Response] = []
    if region == arn.split(":")[3]:
        aliases = ask("listing the aliases", lambda: pages(client, "list_aliases", "Aliases", KeyId=arn))
    return KeyDescription(
        arn,
        parse_key_policy(text),
        [grant_of(grant, arn) for grant in grants],
        metadata,
        [alias["AliasName"] for alias in aliases],
        {tag["TagKey"]: tag["TagValue"] for tag in tags},
    )


def read_principal(session: Session, arn: str) -> PrincipalDescription:
    """Read the policies of a user with its groups, or of a role (iam:Get* and List* of these).

    Raises:
        KmsError: a call is denied.
        ConfigurationError: the caller's account has no such principal, or its permissions are in a session.
        PolicyError: a policy cannot be evaluated.
    """
    who = principal(arn)
    if who.kind == "root" or who.is_of_aws:
        return PrincipalDescription(who)
    if who.kind == "federated":
        raise ConfigurationError(f"the permissions of '{arn}' are in its session; give its identity policies")
    iam = open_client(session, "iam", None)
    is_user = who.kind == "user"
    name = (who.arn if is_user else who.role or who.arn).rpartition("/")[2]
    ask = _Asker(None)

    def describe() -> Response:
        return iam.get_user(UserName=name)["User"] if is_user else iam.get_role(RoleName=name)["Role"]

    described = ask(f"looking for '{arn}' in IAM", describe)
    # The caller's account may have a role of the same name, with other policies.
    if described["Arn"].split(":")[4] != who.account or (who.kind != "session" and described["Arn"] != who.arn):
        raise ConfigurationError(
            f"the caller's account has '{described['Arn']}', not '{arn}'; give its identity policies"
        )
    documents = ask(f"reading the policies of '{arn}' in IAM", lambda: list(_documents(iam, name, is_user=is_user)))
    return PrincipalDescription(
        principal(
            arn,
            role=None if is_user else described["Arn"],
            user_id=described["UserId"] if is_user else None,
            tags={tag["Key"]: tag["Value"] for tag in described.get("Tags", ())},
        ),
        tuple(parse_identity_policy(document, name=f"identity policy '{title}'") for title, document in documents),
        described.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
    )


def _documents(iam: Client, name: str, *, is_user: bool) -> Iterator[tuple[str, Response]]:
    holders = [("user" if is_user else "role", name)]
    if is_user:
        groups = pages(iam, "list_groups_for_user", "Groups", UserName=name)
        holders += [("group", group["GroupName"]) for group in groups]
    for kind, holder in holders:
        parameter = {f"{kind.capitalize()}Name": holder}
        for inline in pages(iam, f"list_{kind}_policies", "PolicyNames", **parameter):
            yield inline, getattr(iam, f"get_{kind}_policy")(**parameter, PolicyName=inline)["PolicyDocument"]
        for attached in pages(iam, f"list_attached_{kind}_policies", "AttachedPolicies", **parameter):
            arn = attached["PolicyArn"]
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            response = iam.get_policy_version(PolicyArn=arn, VersionId=version)
            yield attached["PolicyName"], response["PolicyVersion"]["Document"]


class _Asker:
    """Makes calls and translates the errors of botocore."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, doing: str, ask: Callable[[], T]) -> T:
        try:
            return refusals.call_aws(ask, doing, self._key)
        except KmsError as error:
            if error.code == "NoSuchEntity":
                raise ConfigurationError(f"{doing} failed: the caller's account has no such principal") from None
            raise
