"""ACLs of S3 objects, which a change in place does not keep: who loses access is told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sealwax.cli import console, locations
from sealwax.cli.turns import Fields
from sealwax.errors import StoreError
from sealwax.stores import Store

_COMMAND: Final = "`aws s3api put-object-acl`"


def look(name: str) -> str:
    """Return what the ACL of an object allows to others than its owner, for a sentence; "" for a file.

    What S3 does not say is told once for each bucket.
    """
    if not locations.is_s3(name):
        return ""
    from sealwax.stores.s3._service import parse

    parsed = parse(name)
    try:
        return locations.acls().of_object(parsed)
    except StoreError as error:
        console.info_once(
            f"whether objects of '{console.shown(parsed.bucket)}' have ACLs is not known, and a change does not keep "
            f"them: {error}"
        )
        return ""


def note(allowed: str, *, done: bool = True) -> str | None:
    """Return what to say of an object whose ACL was not kept, or would not be; None if it has none.

    Args:
        allowed: what ``look`` returned before the change.
    """
    if not allowed:
        return None
    if done:
        return f"its ACL allowed {allowed}, and the changed object's does not; to set it again, use {_COMMAND}"
    return f"its ACL allows {allowed}, and the changed object's would not; to set it again afterwards, use {_COMMAND}"


def noted(outcome: str, allowed: str, *, done: bool = True) -> str | Fields:
    """Return the result of a job, with the note of an object whose ACL allows something."""
    text = note(allowed, done=done)
    return outcome if text is None else {"outcome": outcome, "note": text}


def warn_of_places(stores: Iterable[Store]) -> None:
    """Say which places may have objects with ACLs, in one request for each."""
    for store in stores:
        if not locations.is_s3(store.location):
            continue
        from sealwax.stores.s3._acls import may_have_acls

        may = may_have_acls(store)
        if may is not False:
            objects = f"objects of {console.shown(store.location)}"
            have = f"{objects} may have" if may else f"it is not known whether {objects} have"
            console.info_once(
                f"{have} ACLs of their own, which changed objects do not keep; `sealwax rewrap --dry-run` names those "
                "that have some"
            )
