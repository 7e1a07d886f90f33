"""Access control lists: S3 gives a changed object the bucket's default one, so what an object's own allows is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sealwax._text import printable
from sealwax.errors import StoreError
from sealwax.stores._store import Store
from sealwax.stores.s3._service import ObjectName, Response, Service
from sealwax.stores.s3._store import S3Store

_ENFORCED: Final = "BucketOwnerEnforced"
_NOT_SET: Final = "OwnershipControlsNotFoundError"
# Services like S3, and kinds of buckets, that have none.
_WITHOUT: Final = frozenset(("NotImplemented", "MethodNotAllowed", "405", "501"))
_GONE: Final = frozenset(("NoSuchKey", "NoSuchBucket", "404"))
_GROUPS: Final = {
    "http://acs.amazonaws.com/groups/global/AllUsers": "everyone",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers": "every AWS account",
    "http://acs.amazonaws.com/groups/s3/LogDelivery": "S3's log delivery",
}


class Acls:
    """Tells what the ACLs of objects allow to others than their owners.

    A bucket that has no ACLs, as new ones have none, takes one request, and none for each object.

    IAM actions: s3:GetBucketOwnershipControls, or without it s3:GetObjectAcl for each object.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # Whether objects have ACLs, by bucket; None if S3 does not say. Two threads may ask.
        self._buckets: dict[str, bool | None] = {}

    def of_bucket(self, name: ObjectName) -> bool | None:
        """Return whether the objects of a bucket may have ACLs of their own; None if S3 does not say.

        Raises:
            CredentialsError: there are no credentials, or S3 does not accept them.
        """
        if name.bucket not in self._buckets:
            self._buckets[name.bucket] = self._ask(name)
        return self._buckets[name.bucket]

    def of_object(self, name: ObjectName) -> str:
        """Return what an object's ACL allows to others than its owner, for a sentence; "" if nothing.

        Raises:
            StoreError: S3 does not say. It is not asked about other objects of this bucket.
            CredentialsError: as for ``of_bucket``.
        """
        if self.of_bucket(name) is False:
            return ""
        try:
            answer = self._service.call("get_object_acl", "reading the ACL of", name)
        except StoreError as error:
            if error.code in _GONE:
                return ""
            self._buckets[name.bucket] = False
            if error.code in _WITHOUT:
                return ""
            raise
        return _others(answer)

    def _ask(self, name: ObjectName) -> bool | None:
        try:
            ownership = self._service.ownership(name)
            return None if ownership is None else ownership != _ENFORCED
        except StoreError as error:
            if error.code == _NOT_SET:
                return True
            return False if error.code in _WITHOUT else None


def may_have_acls(store: Store) -> bool | None:
    """Return whether the objects of a store are in a bucket that has ACLs; None if S3 does not say.

    Raises:
        CredentialsError: there are no credentials, or S3 does not accept them.
    """
    return Acls(store._service).of_bucket(store._prefix) if isinstance(store, S3Store) else False


def _others(answer: Response) -> str:
    owner = answer["Owner"].get("ID")
    allowed: dict[str, None] = {}
    for grant in answer["Grants"]:
        grantee = grant.get("Grantee", {})
        if grantee.get("ID") is None or grantee["ID"] != owner:
            allowed[f"{printable(str(grant.get('Permission')))} to {_name(grantee)}"] = None
    return ", ".join(allowed)


def _name(grantee: Mapping[str, str]) -> str:
    group = grantee.get("URI")
    if group is not None:
        return _GROUPS.get(group, printable(group))
    return printable(str(grantee.get("DisplayName") or grantee.get("ID") or grantee.get("EmailAddress")))
