"""What policies say of the data keys of records, which have ``sealwax-use`` in their encryption context.

A principal that may wrap a key with that name can plant a known one. A principal that may unwrap one, or re-encrypt it
into a context that it can open, can read what is under it. A call of ReEncrypt has two sides, and a policy sees one at
a time: so a role that re-wraps is held to one value on both sides, or to its absence on both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sealwax.errors import PolicyError
from sealwax.policy._documents import Document
from sealwax.policy._parts import (
    DATA,
    INDEX,
    USE,
    KeyUsers,
    RequiredContext,
    checked_keys,
    context_key,
    statement,
    to,
    unwrap,
)
from sealwax.policy._patterns import shown

_CONDITION_KEY: Final = context_key(USE)
_PRESENT: Final[Document] = {"Null": {_CONDITION_KEY: "false"}}
_OF_RECORDS: Final = ("kms:GenerateDataKey", "kms:Decrypt")
_ROTATE: Final = ("kms:ReEncryptFrom", "kms:ReEncryptTo")

#: The actions that make, read or move a data key.
ACTIONS: Final = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo")


def in_key_policy(users: KeyUsers, context: RequiredContext) -> list[Document | None]:
    """Return the statements about the data keys of records: who may use them, and that nobody else may."""
    may: dict[str, list[str]] = {action: [] for action in ACTIONS}
    may["kms:Decrypt"] += [*users.records, *users.search_records]
    may["kms:GenerateDataKey"] += users.records
    may["kms:ReEncryptFrom"] += (*users.rotate_records, *users.rotate_indexes)
    may["kms:ReEncryptTo"] += (*users.rotate_records, *users.rotate_indexes)
    allowed: list[Document | None] = []
    held: list[Document | None] = []
    if users.of_records:
        allowed = [
            to("Records", users.records, _OF_RECORDS, _with_use(context).condition()),
            to("SearchRecords", users.search_records, ("kms:Decrypt",), _with_use(context, INDEX).condition()),
            to("RotateRecords", users.rotate_records, _ROTATE, _with_use(context, DATA).condition()),
            to("RotateIndexes", users.rotate_indexes, _ROTATE, _with_use(context, INDEX).condition()),
        ]
        searching = [arn for arn in users.search_records if arn not in users.records]
        held = [
            _hold("OpenIndexKeysOnly", searching, ("kms:Decrypt",), _others_than(INDEX, absent_too=False)),
            _hold("RotateRecordsOnly", users.rotate_records, _ROTATE, _others_than(DATA, absent_too=True)),
            _hold("RotateIndexesOnly", users.rotate_indexes, _ROTATE, _others_than(INDEX, absent_too=True)),
        ]
    elif context.is_of_records:
        may["kms:Decrypt"] += users.decrypt
        may["kms:Encrypt"] += users.encrypt
        may["kms:GenerateDataKey"] += users.encrypt
        may["kms:ReEncryptFrom"] += users.rotate_from
        may["kms:ReEncryptTo"] += users.rotate_to
        for name, value in context.pairs.items():
            if name.lower() == USE:
                rotating = list(dict.fromkeys((*users.rotate_from, *users.rotate_to)))
                held = [
                    _hold("OpenOneUse", users.decrypt, ("kms:Decrypt",), _others_than(value, absent_too=False)),
                    _hold("RotateOneUse", rotating, _ROTATE, _others_than(value, absent_too=True)),
                ]
    return [*allowed, *held, *_denials(may)]


def refuse_both_rotations(users: KeyUsers) -> None:
    records, indexes = set(users.rotate_records), set(users.rotate_indexes)
    both = sorted(({*users.rotate_from, *users.rotate_to} & (records | indexes)) | (records & indexes))
    if both:
        raise PolicyError(
            f"'{shown(both[0])}' would move data keys of two kinds (of records, of their indexes, others), and so "
            "could turn one into the other; name two different principals"
        )


def pinned(context: RequiredContext) -> RequiredContext:
    """Return a context for both sides of a re-wrap: with one value of ``sealwax-use``, or without it.

    Raises:
        PolicyError: it has the name with any value.
    """
    if any(name.lower() == USE for name in context.names):
        raise PolicyError(
            f"a role that rotates could turn a data key of one use into one of another; require one value of "
            f"{USE}, such as {DATA}"
        )
    return context if context.is_of_records else context.without_records()


def allow_records(keys: Sequence[str], scope: RequiredContext) -> list[Document]:
    """Write the identity policy statements of an application that seals and opens records.

    It makes and opens data keys, and wraps none that it has not made: nobody plants one in its place.

    Args:
        keys: the ARNs of the keys: the first creates data keys, the others only wrap them.
        scope: the pairs of the scopes that it may use.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: there is no key, one is not an ARN, or the scope names ``sealwax-use``.

    Example:
        ``write_identity_policy(allow_records([key], RequiredContext({"app": "shop"})))``
    """
    context = _with_use(scope)
    first, others = checked_keys(keys)[:1], keys[1:]
    statements = [
        statement("MakeRecordsKeys", ("kms:GenerateDataKey",), first, context),
        statement("OpenRecordsKeys", ("kms:Decrypt",), keys, context),
    ]
    if others:
        statements.append(statement("WrapRecordsKeys", ("kms:Encrypt",), others, context))
    return [*statements, _denial("PlantNoRecordsKeys", ("kms:Encrypt",), first)]


def allow_search_records(keys: Sequence[str], scope: RequiredContext) -> list[Document]:
    """Write the identity policy statements of a role that searches indexes of records and opens no record.

    Args:
        keys: the ARNs of the keys.
        scope: as for ``allow_records``.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: as for ``allow_records``.
    """
    context = _with_use(scope, INDEX)
    others = _others_than(INDEX, absent_too=False)
    return [
        statement("OpenIndexKeys", ("kms:Decrypt",), checked_keys(keys), context),
        _denial("OpenNoRecordsKeys", ("kms:Decrypt",), keys, others),
    ]


def allow_rotate_records(old: Sequence[str], new: Sequence[str], scope: RequiredContext) -> list[Document]:
    """Write the identity policy statements of a role that moves the data keys of records to other KMS keys.

    It can move no other data key, and turn none into another: it could then read or plant one.

    Args:
        old: the ARNs of the keys to move from.
        new: the ARNs of the keys to move to; the same for new key material alone.
        scope: as for ``allow_records``.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: as for ``allow_records``.
    """
    return _rotation("RotateRecords", DATA, old, new, scope)


def allow_rotate_indexes(old: Sequence[str], new: Sequence[str], scope: RequiredContext) -> list[Document]:
    """Write the identity policy statements of a role that moves the index keys of records to other KMS keys.

    It is another role than the one that moves the other data keys of records: one that moves both could turn one of
    these into an index key, which those who only search may open.

    Args:
        old, new, scope: as for ``allow_rotate_records``.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: as for ``allow_records``.
    """
    return _rotation("RotateIndexes", INDEX, old, new, scope)


def _rotation(sid: str, use: str, old: Sequence[str], new: Sequence[str], scope: RequiredContext) -> list[Document]:
    context = _with_use(scope, use)
    keys = tuple(dict.fromkeys((*checked_keys(old), *checked_keys(new))))
    return [
        statement(f"{sid}From", ("kms:ReEncryptFrom",), old, context),
        statement(f"{sid}To", ("kms:ReEncryptTo",), new, context),
        _denial("RotateNothingElse", _ROTATE, keys, _others_than(use, absent_too=True)),
    ]


def deny_records(keys: Sequence[str]) -> list[Document]:
    """Write the identity policy statement that keeps a role from the data keys of records, whatever else allows it.

    Args:
        keys: the ARNs of the keys.

    Returns:
        Statements for ``write_identity_policy``.

    Raises:
        PolicyError: there is no key, or one is not an ARN.
    """
    return [_denial("KeepRecords", ACTIONS, checked_keys(keys))]


def _with_use(context: RequiredContext, value: str | None = None) -> RequiredContext:
    """Return the context of the data keys of records, with one value of ``sealwax-use`` or any."""
    if context.is_of_records:
        raise PolicyError(f"what is for records sets {USE} itself; remove it from the context")
    if value is None:
        return replace(context, names=(*context.names, USE))
    return replace(context, pairs={**context.pairs, USE: value})


def _denials(users: Mapping[str, Collection[str]]) -> list[Document]:
    """Return the statements of a key policy that keep the data keys of records from everybody else.

    They hold against grants too.

    Args:
        users: the ARNs of those who may, by action.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    for action in ACTIONS:
        groups.setdefault(tuple(dict.fromkeys(users.get(action, ()))), []).append(action)
    statements: list[Document] = []
    for arns, actions in groups.items():
        condition = _PRESENT | ({"ArnNotEquals": {"aws:PrincipalArn": list(arns)}} if arns else {})
        sid = f"KeepRecords{len(statements) + 1}" if len(groups) > 1 else "KeepRecords"
        statements.append({"Sid": sid, "Effect": "Deny", "Principal": "*", **_of(actions, ["*"], condition)})
    return statements


def _hold(sid: str, arns: Sequence[str], actions: Sequence[str], condition: Document) -> Document | None:
    """Return the statement of a key policy that holds these principals to one use: a grant may allow them more."""
    if not arns:
        return None
    who = {"ArnEquals": {"aws:PrincipalArn": unwrap(arns)}}
    return {"Sid": sid, "Effect": "Deny", "Principal": "*", **_of(actions, ["*"], condition | who)}


def _denial(sid: str, actions: Sequence[str], keys: Sequence[str], condition: Document | None = None) -> Document:
    """Return the statement of an identity policy that denies actions, by default on every data key of records."""
    return {"Sid": sid, "Effect": "Deny", **_of(actions, keys, condition or _PRESENT)}


def _others_than(value: str, *, absent_too: bool) -> Document:
    """Return the condition that ``sealwax-use`` has another value, or is absent."""
    return {"StringNotEquals": {_CONDITION_KEY: value}} | ({} if absent_too else _PRESENT)


def _of(actions: Sequence[str], resources: Sequence[str], condition: Document) -> Document:
    return {"Action": unwrap(actions), "Resource": unwrap(resources), "Condition": condition}
