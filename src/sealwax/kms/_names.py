"""Names of KMS keys: key ID, key ARN, alias name, alias ARN. They are parsed only; nothing is looked up."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from sealwax._aws.partitions import partition_of
from sealwax._core import validate
from sealwax._text import printable
from sealwax.errors import ConfigurationError, WrongKeyError

# https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id : a UUID, or mrk- and 32 hex digits.
_ARN: Final = re.compile(
    r"arn:(aws[a-z0-9-]{0,32}):kms:([a-z0-9-]{1,32}):([0-9]{12}):(key/([A-Za-z0-9-]{1,128})|(alias/.+))"
)
_KEY_ID: Final = re.compile(r"mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ALIAS: Final = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")
_PARTITION: Final = re.compile(r"aws[a-z0-9-]{0,32}")


@dataclass(frozen=True, slots=True)
class KeyName:
    """A KMS key as the caller wrote it. Parts that the name does not have are None.

    Either ``key_id`` or ``alias`` is set.
    """

    text: str
    partition: str | None
    region: str | None
    account: str | None
    key_id: str | None
    alias: str | None

    @property
    def multi_region(self) -> bool:
        return self.key_id is not None and self.key_id.startswith("mrk-")

    def related(self, region: str) -> str | None:
        """Return the ARN of the key in ``region`` that decrypts what this key wrapped; None if there cannot be one.

        It is this key, or the multi-Region key with the same partition, account and ID. This key must be an ARN.
        """
        if self.region == region:
            return self.text
        if not self.multi_region:
            return None
        return f"arn:{self.partition}:kms:{region}:{self.account}:key/{self.key_id}"


def parse(text: str) -> KeyName:
    """Return the parts of a key's name.

    Raises:
        ConfigurationError: the text has none of the four forms.
        TypeError: it is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"the name of a KMS key must be a str, not {type(text).__name__}")
    match = _ARN.fullmatch(text)
    if match and (match[5] or _ALIAS.fullmatch(match[6])):
        return KeyName(text, match[1], match[2], match[3], match[5], match[6])
    if _KEY_ID.fullmatch(text):
        return KeyName(text, None, None, None, text, None)
    if _ALIAS.fullmatch(text):
        return KeyName(text, None, None, None, None, text)
    hint = f" (did you mean 'alias/{text}'?)" if _ALIAS.fullmatch(f"alias/{text}") else ""
    raise ConfigurationError(
        f"'{printable(text[:200])}' is not a KMS key ID, key ARN, alias or alias ARN{hint}", key=text[:200]
    )


# Most envelopes are under a few keys. ARNs are public, so the cache holds nothing secret.
@functools.lru_cache(maxsize=256)
def parse_arn(text: str) -> KeyName | None:
    """Return the parts of a key ARN, or None for anything else: an envelope may claim anything."""
    match = _ARN.fullmatch(text)
    return KeyName(text, match[1], match[2], match[3], match[5], None) if match and match[5] else None


def check_answered(arn: str, requested: KeyName, region: str) -> str:
    """Return the key ARN in KMS's answer if it can be the requested key.

    Raises:
        WrongKeyError: it is not a key ARN, or belongs to another key.
    """
    name = parse_arn(arn)
    matches = (
        name is not None
        and name.region == region
        and (requested.account is None or (requested.partition, requested.account) == (name.partition, name.account))
        and (requested.key_id is None or requested.key_id == name.key_id)
    )
    if not matches:
        raise WrongKeyError(
            f"KMS answered for key '{printable(arn[:200])}', but the request was for '{printable(requested.text)}' in "
            f"{region}: the endpoint is not AWS, or something in between changes its answers",
            key=requested.text,
        )
    return arn


@dataclass(frozen=True, slots=True)
class KeyScope:
    """Allows every KMS key of one account and Region for decryption.

    A multi-Region key there also decrypts data keys that its related keys wrapped in other Regions.

    Args:
        account: 12 digits.
        region: ``"eu-west-1"``, for example.
        partition: ``"aws"``, ``"aws-cn"`` or ``"aws-us-gov"``, for example. Default: the Region's.

    Raises:
        TypeError: a part is not a str.
        ValueError: a part does not have its form.

    Example:
        >>> KmsKeyring("alias/backup", decrypt_with=[KeyScope("111122223333", "eu-west-1")])
    """

    account: str
    region: str
    partition: str | None = None

    def __post_init__(self) -> None:
        validate.texts("KeyScope", (self.account, self.region), "account and Region")
        partition = self.partition
        if partition is None:
            partition = partition_of(self.region)
            object.__setattr__(self, "partition", partition)
        validate.texts("KeyScope", (partition,), "account, Region and partition")
        if not (
            _ACCOUNT.fullmatch(self.account) and _REGION.fullmatch(self.region) and _PARTITION.fullmatch(partition)
        ):
            raise ValueError(
                "a KeyScope needs an account of 12 digits, a Region such as 'eu-west-1', and a partition such as 'aws'"
            )
