"""Principals that AWS services act as: nobody else can, and no customer can change what they may.

Sources: "Using service-linked roles" in the IAM User Guide, "ListGrants" in the KMS API Reference, "Amazon EC2 example
two" and "Examining grants" in the KMS Developer Guide.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

# Of a user or role that was deleted, AWS shows the unique id. A new one of the same name has another.
_UNIQUE_ID: Final = re.compile("A[A-Z]{3}[A-Z0-9]{12,124}")
# IAM lets no customer make a role with this path, nor one with a colon in its name.
_SERVICE_LINKED: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/aws-service-role/[^/]+/(AWSServiceRoleFor\S+)")
_INTERNAL: Final = re.compile(r"arn:aws[a-z-]*:(?:iam::[0-9]{12}:role|sts::[0-9]{12}:assumed-role)/aws:")
_SESSION: Final = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/")


def is_gone(name: str) -> bool:
    """Whether a name is the unique id of a user or role, which AWS shows in place of the ARN of a deleted one."""
    return _UNIQUE_ID.fullmatch(name) is not None


def is_service(name: str) -> bool:
    """Whether a grant's principal is a service: its name, or what AWS shows in place of one (``AWS Internal``)."""
    return not name.startswith("arn:") and not is_gone(name)


def is_service_role(arn: str, roles: Container[str]) -> bool:
    """Whether an ARN is of a role, or of a session of one, that only AWS services assume.

    Args:
        roles: the service-linked roles that are known, by their account and name: the ARN of a session shows no path,
            and anybody may give a role a name that begins like theirs.
    """
    if _INTERNAL.match(arn) or _SERVICE_LINKED.fullmatch(arn):
        return True
    session = _SESSION.match(arn)
    return session is not None and f"{session[2]}:{session[3]}" in roles


def service_linked(arn: str) -> str | None:
    """Return the account and the name of a service-linked role, as sessions show them; None for any other ARN."""
    role = _SERVICE_LINKED.fullmatch(arn)
    return None if role is None else f"{arn.split(':')[4]}:{role[1]}"
