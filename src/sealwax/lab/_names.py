"""Key names as callers give them: key ID, key ARN, alias name, alias ARN."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sealwax._aws.partitions import partition_of
from sealwax._text import printable
from sealwax.errors import LabError
from sealwax.lab._apierror import ApiError, not_found, refused

_KEY_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32}")
_ARN = re.compile(r"arn:(aws[a-z-]*):kms:([a-z0-9-]+):([0-9]{12}):(key/|alias/)(.+)")
_REGION = re.compile(r"([a-z]+-){2,3}[0-9]+")
ALIAS = "alias/"


@dataclass(frozen=True, slots=True)
class ParsedKeyName:
    """A parsed key name; ``value`` is a key ID, or an alias name that begins with ``alias/``."""

    account: str
    value: str

    @property
    def is_alias(self) -> bool:
        return self.value.startswith(ALIAS)


def parse(name: str, *, account: str, region: str, aliases: bool, arn_error: str) -> ParsedKeyName:
    """Parse the key name of a request.

    Args:
        name: the value of a KeyId parameter.
        account: the caller's account, for names that are not ARNs.
        region: the request's Region.
        aliases: whether the operation takes alias names and alias ARNs.
        arn_error: the code for an invalid ARN; the cryptographic operations do not use InvalidArnException.

    Raises:
        ApiError: the name is invalid, or the ARN is of another Region.
    """
    if name.startswith("arn:"):
        match = _ARN.fullmatch(name)
        if match is None:
            raise ApiError(arn_error, f"Invalid arn {name}")
        arn_partition, arn_region, account, kind, value = match.groups()
        if arn_region != region:
            raise not_found(f"Invalid arn {arn_region}")
        if arn_partition != partition_of(region):
            raise ApiError(arn_error, f"Invalid arn {name}")
        if kind == ALIAS:
            value = kind + value
    else:
        value = name
    if value.startswith(ALIAS):
        if not aliases:
            raise ApiError("InvalidArnException", "Key Aliases are not supported for this operation")
    elif _KEY_ID.fullmatch(value) is None:
        raise not_found(f"Invalid keyId '{value}'")
    return ParsedKeyName(account, value)


def is_reserved(alias: str) -> bool:
    """Whether an alias is for keys of AWS services."""
    return f"{alias}/".startswith("alias/aws/")


def check_alias_name(name: str) -> None:
    """Check an alias name.

    Raises:
        ApiError: it lacks the prefix, is reserved for AWS, or has a character that only ARNs may have.
    """
    if not name.startswith(ALIAS):
        raise refused('Alias must start with the prefix "alias/". Please see the AWS KMS documentation of aliases.')
    if name == ALIAS:
        raise ApiError("InvalidAliasNameException", "An alias name needs at least one character after alias/.")
    if is_reserved(name):
        raise ApiError("NotAuthorizedException", "")
    if ":" in name:
        raise refused(f"{name} contains invalid characters for an alias")


def check_text(name: str, value: object) -> None:
    """Check an argument that is a text.

    Raises:
        TypeError: it is not a str.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")


def check_region(region: str) -> None:
    """Check the name of a Region.

    Raises:
        LabError: it is invalid.
        TypeError: it is not a str.
    """
    check_text("region", region)
    if _REGION.fullmatch(region) is None:
        raise LabError(f"'{printable(region)}' is not a Region; use a name such as eu-west-1")
