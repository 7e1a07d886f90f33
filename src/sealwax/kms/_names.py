"""How KMS keys are named: key ID, key ARN, alias name, alias ARN. Text only; nothing is looked up."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Final

from sealwax._aws.partitions import partition_of
from sealwax._core import validate
from sealwax._core.context import printable
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
    """A KMS key as the caller wrote it. ``partition``, ``region`` and ``account`` are None where the name has none.

    One of ``key_id`` and ``alias`` is set.
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
        """Return the ARN of the key in ``region`` that opens what this one wrapped, or None where there can be none.

        That is the key itself, or the multi-Region key of the same partition, account and id. Only key ARNs have one.
        """
        if self.region == region:
            return self.text
        if not self.multi_region:
            return None
        return f"arn:{self.partition}:kms:{region}:{self.account}:key/{self.key_id}"


def parse(text: str) -> KeyName:
    """Return the parts of a key's name.

    Raises:
        ConfigurationError: it is none of the four forms.
        TypeError: it is no str.
    """
    if not isinstance(text, str):
        raise TypeError(f"the name of a KMS key is a str, not {type(text).__name__}")
    match = _ARN.fullmatch(text)
    if match and (match[5] or _ALIAS.fullmatch(match[6])):
        return KeyName(text, match[1], match[2], match[3], match[5], match[6])
    if _KEY_ID.fullmatch(text):
        return KeyName(text, None, None, None, text, None)
    if _ALIAS.fullmatch(text):
        return KeyName(text, None, None, None, None, text)
    hint = f" (did you mean 'alias/{text}'?)" if _ALIAS.fullmatch(f"alias/{text}") else ""
    raise ConfigurationError(
        f"'{printable(text[:200])}' is no KMS key ID, key ARN, alias or alias ARN{hint}", key=text[:200]
    )


# Many envelopes are under one key.
@functools.lru_cache(maxsize=256)
def parse_arn(text: str) -> KeyName | None:
    """Return the parts of a key ARN, or None for anything else: what an envelope claims is never an error."""
    match = _ARN.fullmatch(text)
    return KeyName(text, match[1], match[2], match[3], match[5], None) if match and match[5] else None


def check_answered(arn: str, asked: KeyName, region: str) -> str:
    """Return the key ARN that KMS answered with, once it is known to fit what was asked for.

    Raises:
        WrongKeyError: it is none, or another key's.
    """
    name = parse_arn(arn)
    fits = (
        name is not None
        and name.region == region
        and (asked.account is None or (asked.partition, asked.account) == (name.partition, name.account))
        and (asked.key_id is None or asked.key_id == name.key_id)
    )
    if not fits:
        raise WrongKeyError(
            f"KMS answered for key '{printable(arn[:200])}' where '{printable(asked.text)}' in {region} was asked for",
            key=asked.text,
        )
    return arn


@dataclass(frozen=True, slots=True)
class KeyScope:
    """Every KMS key of one account in one Region, allowed by name for unwrapping.

    A replica there also opens, there, what its related multi-Region keys wrapped in other Regions.

    Args:
        account: 12 digits.
        region: such as ``"eu-west-1"``.
        partition: such as ``"aws"``, ``"aws-cn"`` or ``"aws-us-gov"``. Default: that of the Region.
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
            raise ValueError("a KeyScope is an account of 12 digits, a Region such as 'eu-west-1', and a partition")
