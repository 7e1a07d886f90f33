"""The parts of written policies: the context that they require, and statements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import Document
from sealwax.policy._patterns import shown

#: The name that only the data keys of records have in their encryption context, and its values.
USE: Final = "sealwax-use"
DATA: Final = "records-data"
INDEX: Final = "records-index"

_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class RequiredContext:
    """The encryption context that a policy or a grant requires.

    Attributes:
        pairs: pairs that the context must have.
        names: names that the context must also have, with any value, such as the id of a record.
        absent: names that the context must not have.

    Example:
        ``RequiredContext({"purpose": "backup"}, ("id",))``
    """

    pairs: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def check_names(self) -> None:
        """Check that no two names differ only in case, because policies and grants ignore the case of names.

        Raises:
            PolicyError: two names do, or ``sealwax-use`` has a value that it never has.
        """
        folded = [name.lower() for name in (*self.pairs, *self.names, *self.absent)]
        if len(set(folded)) != len(folded):
            raise PolicyError("two names of the context differ only in case, which policies cannot tell apart")
        for name, value in self.pairs.items():
            if name.lower() == USE and value not in (DATA, INDEX):
                raise PolicyError(f"'{shown(value)}' is not a value of {USE}; use {' or '.join((DATA, INDEX))}")

    @property
    def is_of_records(self) -> bool:
        """Whether it names ``sealwax-use``, which only the data keys of records have."""
        return any(name.lower() == USE for name in (*self.pairs, *self.names))

    def without_records(self) -> RequiredContext:
        """Return the context of data keys that are not of records.

        Raises:
            PolicyError: it names ``sealwax-use``.
        """
        if self.is_of_records:
            raise PolicyError(f"what is for records sets {USE} itself; remove it from the context")
        return replace(self, absent=(*(name for name in self.absent if name != USE), USE))

    def condition(self) -> Document:
        """Return the Condition element, empty if nothing is required.

        Returns:
            A condition that a policy statement can hold.
        """
        self.check_names()
        condition: Document = {}
        if self.pairs:
            condition["StringEquals"] = {context_key(name): _literal(value) for name, value in self.pairs.items()}
        present = dict.fromkeys(self.names, "false") | dict.fromkeys(self.absent, "true")
        if present:
            condition["Null"] = {context_key(name): value for name, value in present.items()}
        return condition


def context_key(name: str) -> str:
    return f"kms:EncryptionContext:{name}"


def _literal(value: str) -> str:
    """Escape a value for StringEquals, where ``${`` starts a policy variable."""
    return value.replace("${", "${$}{")


@dataclass(frozen=True, slots=True)
class KeyUsers:
    """The principals that use a key, by purpose. Each is the ARN of a user or role.

    Attributes:
        encrypt: can create data keys and wrap them.
        decrypt: can unwrap data keys.
        rotate_from: can move wrapped keys away from this key.
        rotate_to: can move wrapped keys to this key.
        grant: can give others these permissions by a grant that requires the same context.
        records: can make and open the data keys of records.
        search_records: can open those that indexes are made with, and no records.
        rotate_records: can move the data keys of records from this key and to it.
        rotate_indexes: can move those that indexes are made with from this key and to it.
    """

    encrypt: Sequence[str] = ()
    decrypt: Sequence[str] = ()
    rotate_from: Sequence[str] = ()
    rotate_to: Sequence[str] = ()
    grant: Sequence[str] = ()
    records: Sequence[str] = ()
    search_records: Sequence[str] = ()
    rotate_records: Sequence[str] = ()
    rotate_indexes: Sequence[str] = ()

    @property
    def of_records(self) -> bool:
        """Whether somebody may use the data keys of records."""
        return bool(self.records or self.search_records or self.rotate_records or self.rotate_indexes)

    def all(self) -> frozenset[str]:
        """Return every principal once."""
        others = (*self.encrypt, *self.decrypt, *self.rotate_from, *self.rotate_to, *self.grant)
        rotating = (*self.rotate_records, *self.rotate_indexes)
        return frozenset((*others, *self.records, *self.search_records, *rotating))


def to(
    sid: str, principals: Sequence[str], actions: Sequence[str], condition: Document | None = None
) -> Document | None:
    if not principals:
        return None
    document = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": unwrap(principals)},
        "Action": unwrap(actions),
        "Resource": "*",
    }
    return document | ({"Condition": condition} if condition else {})


def statement(sid: str, actions: Sequence[str], keys: Sequence[str], context: RequiredContext) -> Document:
    condition = context.condition()
    document = {"Sid": sid, "Effect": "Allow", "Action": unwrap(actions), "Resource": unwrap(keys)}
    return document | ({"Condition": condition} if condition else {})


def checked_keys(keys: Sequence[str]) -> Sequence[str]:
    for key in keys:
        if not _KEY.fullmatch(key):
            raise PolicyError(f"'{shown(key)}' is not the ARN of a key; a policy names keys by ARN, not by ID or alias")
    if not keys:
        raise PolicyError("name at least one key")
    return keys


def unwrap(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)
