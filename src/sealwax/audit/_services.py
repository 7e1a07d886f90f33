"""Principals that only AWS services act as, with permissions that no customer can change.

Sources: "Using service-linked roles" in the IAM User Guide, "ListGrants" in the KMS API Reference, "Amazon EC2 example
two" and "Examining grants" in the KMS Developer Guide.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

# In place of a deleted user or role AWS shows its unique id. A new one of the same name has another id.
_UNIQUE_ID: Final = re.compile("A[A-Z]{3}[A-Z0-9]{12,124}")
# IAM lets no customer create a role with this path, or with a colon in its name.
_SERVICE_LINKED: Final = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/aws-service-role/[^/]+/(AWSServiceRoleFor\S+)")
_INTERNAL: Final = re.compile(r"arn:aws[a-z-]*:(?:iam::[0-9]{12}:role|sts::[0-9]{12}:assumed-role)/aws:")
_SESSION: Final = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/")


def is_deleted(name: str) -> bool:
    """Tell whether a name is a unique id, which AWS shows in place of the ARN of a deleted user or role."""
    return _UNIQUE_ID.fullmatch(name) is not None


def is_service(name: str) -> bool:
    """Tell whether a grant's principal is a service, by its name or as ``AWS Internal``."""
    return not name.startswith("arn:") and not is_deleted(name)


def is_service_role(arn: str, roles: Container[str]) -> bool:
    """Tell whether an ARN is a role that only AWS services assume, or a session of one.

    Args:
        roles: the known service-linked roles, by account and name. The ARN of a session shows no path, and anyone
            can create a role whose name begins like theirs.
    """
    if _INTERNAL.match(arn) or _SERVICE_LINKED.fullmatch(arn):
        return True
    session = _SESSION.match(arn)
    return session is not None and f"{session[2]}:{session[3]}" in roles


def service_linked(arn: str) -> str | None:
    """Return the account and name of a service-linked role, as sessions show them, or None for any other ARN."""
    role = _SERVICE_LINKED.fullmatch(arn)
    return None if role is None else f"{arn.split(':')[4]}:{role[1]}"
